//! `authctl exec`: checks the session as `verify` does, then becomes the command, with the token in its environment.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde::Deserialize;

use super::verify::report_denied;
use crate::agent::protocol::TokenReply;
use crate::app::App;
use crate::cli::Exec;
use crate::error::{Error, ErrorCode};
use crate::model::{DecidingToken, TokenTarget};
use crate::paths::{AGENT_SOCKET_VARIABLE, TOKEN_VARIABLES};
use crate::secret::{Secret, SecretBytes};
use crate::session::TokenRequest;
use crate::verify::{Policy, Reason, Verdict};

/// A token to run the command with, or why it is denied.
enum Checked {
    Granted(Secret),
    Denied(Vec<Reason>),
}

/// Runs the command; comes back only if the command could not be started.
pub fn run(app: &App, args: Exec) -> Result<u8, Error> {
    let token = match app.handed_in(args.profile.as_ref())? {
        Some(token) => token.clone(),
        None => {
            let checked = match through_agent(app, &args)? {
                Some(checked) => checked,
                None => alone(app, &args)?,
            };
            match checked {
                Checked::Granted(token) => token,
                Checked::Denied(reasons) => return report_denied(app, &reasons),
            }
        }
    };
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Error::msg(ErrorCode::Usage, "no command was given", "put it after `--`"));
    };
    let mut command = Command::new(program);
    command.args(rest);
    for name in TOKEN_VARIABLES {
        command.env_remove(name);
    }
    command.env(AGENT_SOCKET_VARIABLE, app.agent_socket()?);
    command.env(&args.env, token.expose());
    drop(token);
    let error = command.exec();
    let context = format!("cannot run `{}`", program.to_string_lossy());
    Err(Error::new(
        ErrorCode::CommandNotFound,
        anyhow::Error::new(error).context(context),
        "check the command's name and PATH",
    ))
}

/// The agent's token, and the agent's verdict on it.
fn through_agent(app: &App, args: &Exec) -> Result<Option<Checked>, Error> {
    #[derive(Deserialize)]
    struct Verdict {
        valid: bool,
        #[serde(default)]
        reasons: Vec<Reason>,
    }
    let name = app.named(args.profile.as_ref())?.map(|name| format!("/{name}")).unwrap_or_default();
    if app.profile(args.profile.as_ref()).is_ok_and(|profile| profile.requirements.token == DecidingToken::IdToken) {
        // Refreshes it where it is over. What is wrong is told by what is asked next.
        let _: Result<Option<TokenReply>, Error> = app.ask_agent("GET", &format!("/v1/id-token{name}"), None);
    }
    let reply: Option<TokenReply> = app.ask_agent("GET", &format!("/v1/token{name}"), None)?;
    let Some(TokenReply { access_token: Some(token), profile: Some(profile), .. }) = reply else { return Ok(None) };
    // A profile's name needs no quoting in JSON, and neither does a token; one that would is none.
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if !token.expose().bytes().all(plain) {
        return Ok(None);
    }
    let mut body = SecretBytes::with_capacity(token.expose().len() + 128);
    body.extend(format!(r#"{{"profile":"{profile}","token":""#).as_bytes());
    body.extend(token.expose().as_bytes());
    body.extend(br#""}"#);
    let verdict: Option<Verdict> = app.ask_agent("POST", "/v1/verify", Some(&body))?;
    Ok(verdict.map(|verdict| match verdict.valid {
        true => Checked::Granted(token),
        false => Checked::Denied(verdict.reasons),
    }))
}

/// The same without an agent.
fn alone(app: &App, args: &Exec) -> Result<Checked, Error> {
    let profile = app.profile(args.profile.as_ref())?;
    let sessions = app.sessions()?;
    let served = app.run(async {
        let served = app.token(&profile, &TokenRequest::access(TokenTarget::default(), None)).await?;
        if profile.requirements.token == DecidingToken::AccessToken {
            return Ok(served);
        }
        // The ID token that decides may expire before the access token does.
        Ok(app.token(&profile, &TokenRequest::id_token(None)).await.unwrap_or(served))
    })?;
    super::token::report_warning(app, &profile, &served);
    let policy = Policy::new("", Vec::new(), app.clock().now());
    let verifier = sessions.verifier(&profile, policy, None).map_err(|e| Error::from(e).about(&profile.name))?;
    Ok(match verifier.verify_session(&profile, &served.session) {
        Verdict::Granted(_) => Checked::Granted(served.session.tokens.access_token),
        Verdict::Denied(reasons) => Checked::Denied(reasons),
    })
}
