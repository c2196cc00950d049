//! `authctl exec`: checks the session as `verify` does, then becomes the command, with the token in its environment.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::verify::{policy_at, tell_denied};
use crate::app::App;
use crate::broker::{Broker, Need};
use crate::cli::Exec;
use crate::failure::{Failure, Kind};
use crate::model::{MinTtl, TokenFor};
use crate::paths::TOKEN_VARIABLES;
use crate::verify::{RevokedList, Verdict};

/// Runs the command; comes back only if the command could not be started.
pub fn run(app: &App, args: Exec) -> Result<u8, Failure> {
    let token = match app.handed_in(args.profile.as_ref())? {
        Some(token) => token.clone(),
        None => {
            let profile = app.profile(args.profile.as_ref())?;
            let broker = app.broker()?;
            let served = app.run(async {
                let plain = TokenFor::default();
                app.patiently(profile.issuer.as_str(), broker.token(&profile, &plain, Need::Life(MinTtl::Default)))
                    .await
                    .map_err(|e| Failure::from(e).about(&profile.name))
            })?;
            super::token::tell_trouble(app, &profile, &served);
            let revoked = RevokedList::open(&app.paths()?.revoked_file)?;
            let (verdict, _) =
                Broker::judge(&profile, &served.session, &served.tokens, policy_at(app.clock().now()), None, &revoked);
            if let Verdict::Denied(reasons) = verdict {
                return tell_denied(app, &reasons);
            }
            served.tokens.access_token
        }
    };
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Failure::said(Kind::Usage, "no command was given", "put it after `--`"));
    };
    let mut command = Command::new(program);
    command.args(rest);
    for name in TOKEN_VARIABLES {
        command.env_remove(name);
    }
    command.env(&args.env, token.expose());
    drop(token);
    let error = command.exec();
    let context = format!("cannot run `{}`", program.to_string_lossy());
    Err(Failure::new(Kind::Usage, anyhow::Error::new(error).context(context), "check the command's name and PATH")
        .coded("command_not_found"))
}
