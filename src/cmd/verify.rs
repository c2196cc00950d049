//! `authctl verify`: verifies a stored token, or tokens on stdin, offline.

mod batch;
mod input;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::output::{self, Style, StyledLine, span};
use crate::app::App;
use crate::cli::Verify;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ProfileName;
use crate::secret::SecretBytes;
use crate::session::{SessionError, TokenVerifier};
use crate::text::excerpt;
use crate::verify::{
    CheckResult, Checks, KeySet, Policy, PolicyOptions, Reason, ReasonCode, Step, Verdict, VerdictJson,
};
use input::{MAX_TOKEN_LENGTH, as_text, unreadable};

/// Runs the command.
pub fn run(app: &App, args: Verify) -> Result<u8, Error> {
    let on_stdin = args.subject.as_deref() == Some("-");
    if !on_stdin {
        for (given, option) in
            [(args.at.is_some(), "--at"), (args.batch, "--batch"), (args.profile.is_some(), "--profile")]
        {
            if given {
                return Err(Error::msg(
                    ErrorCode::Usage,
                    format!("{option} requires a token on stdin"),
                    "give `-` in place of the profile and pipe the token in",
                ));
            }
        }
    }
    let keys = args.jwks.as_deref().map(|path| keys_in(path).map(|(keys, _)| keys)).transpose()?;
    let policy = policy(app, &args)?;
    if on_stdin {
        return verify_stdin(app, &args, policy, keys);
    }
    let named: Option<ProfileName> = args
        .subject
        .as_deref()
        .map(|text| {
            text.parse()
                .map_err(|e| Error::new(ErrorCode::Usage, e, "give the name of a profile, or `-` for a token on stdin"))
        })
        .transpose()?;
    let profile = app.profile(named.as_ref())?;
    let with_profile = |error: SessionError| Error::from(error).about(&profile.name);
    let sessions = app.sessions()?;
    let session = sessions.session_blocking(&profile).map_err(with_profile)?;
    // Once the issuer has ended the session, its tokens are invalid for every command.
    if let Some(error) = sessions.verdict(&session) {
        return Err(with_profile(error));
    }
    let verifier = sessions.verifier(&profile, policy, keys).map_err(with_profile)?;
    let explained = verifier.explain_session(&profile, &session, args.explain);
    let user = session.subject.and_then(|subject| subject.name);
    print_verdict(app, &args, &explained, verifier.keys_age(), user.as_deref())
}

/// Returns the keys in a file, and its text.
///
/// # Errors
/// [`ErrorCode::Usage`] if it contains no public key.
pub(super) fn keys_in(path: &Path) -> Result<(KeySet, String), Error> {
    let unusable = |e: anyhow::Error| {
        Error::new(
            ErrorCode::Usage,
            e.context(format!("cannot use the keys in {}", path.display())),
            "pass a JWK Set or PEM public keys with --jwks FILE",
        )
    };
    let file = std::fs::File::open(path).map_err(|e| unusable(e.into()))?;
    let mut text = String::new();
    file.take(KeySet::MAX_LENGTH as u64 + 1).read_to_string(&mut text).map_err(|e| unusable(e.into()))?;
    let keys = KeySet::parse(&text).map_err(|e| unusable(e.into()))?;
    if keys.is_empty() {
        return Err(unusable(anyhow::anyhow!("none of its {} keys is a public signing key", keys.skipped())));
    }
    Ok((keys, text))
}

fn policy(app: &App, args: &Verify) -> Result<Policy, Error> {
    let options = PolicyOptions {
        issuer: args.issuer.clone(),
        audience: args.audiences.clone(),
        algorithms: args.algorithms.clone(),
        leeway: Some(args.leeway.as_secs()),
        typ: args.typ.clone(),
        scope: args.scopes.clone(),
        claim: BTreeMap::new(),
        max_auth_age: args.max_auth_age.map(|age| age.as_secs()),
        acr: args.acr.clone(),
        amr: args.amr.clone(),
        ignore_status: args.ignore_status,
        at: args.at.map(UnixTime),
    };
    // A claim may be required twice: an array must contain both values.
    Ok(Policy { claims: args.claims.clone(), ..options.policy(app.clock().now())? })
}

/// Verifies the tokens on stdin. A profile is only used for what the options do not provide.
fn verify_stdin(app: &App, args: &Verify, policy: Policy, keys: Option<KeySet>) -> Result<u8, Error> {
    let complete = !policy.issuer.is_empty() && !policy.audiences.is_empty();
    let verifier = match keys {
        Some(keys) if complete && args.profile.is_none() => app.sessions()?.verifier_with_keys(keys, policy)?,
        keys => {
            let profile = app.profile(args.profile.as_ref()).map_err(|error| Error {
                hint: "add --issuer, --audience and --jwks, or --profile with the name of a profile".into(),
                code: ErrorCode::Usage,
                ..error
            })?;
            let verifier = app.sessions()?.verifier(&profile, policy, keys);
            verifier.map_err(|e| Error::from(e).about(&profile.name))?
        }
    };
    if args.batch {
        let now = || app.clock().now();
        let verify = |token: &[u8], now: UnixTime| match as_text(token) {
            Ok(text) => verifier.verify_at(text, now),
            Err(reason) => Verdict::Denied(vec![reason]),
        };
        let all_valid = batch::run(&now, &verify, &|| verifier.reload_revocation_list(), verifier.keys_age())?;
        return Ok(if all_valid { 0 } else { ErrorCode::TokenDenied.exit_code() });
    }
    let mut token = SecretBytes::default();
    io::copy(&mut io::stdin().lock().take(MAX_TOKEN_LENGTH as u64 + 1), &mut token).map_err(unreadable)?;
    if token.expose().trim_ascii().is_empty() {
        return Err(Error::msg(ErrorCode::Usage, "stdin is empty", "check the command before the pipe"));
    }
    let explained = explain(token.expose(), &verifier, args.explain);
    print_verdict(app, args, &explained, verifier.keys_age(), None)
}

/// Verifies a token; with `explained`, also returns the checks that were made.
fn explain(token: &[u8], verifier: &TokenVerifier, explained: bool) -> (Verdict, Vec<Step>) {
    match as_text(token) {
        Ok(text) => verifier.explain(text, explained),
        Err(reason) => {
            let mut checks = Checks::new(explained);
            checks.deny("parts", reason);
            let steps = checks.steps.take().unwrap_or_default();
            (Verdict::Denied(checks.into_reasons()), steps)
        }
    }
}

/// The output of `--explain --json`.
#[derive(Serialize)]
struct ExplainOutput<'a> {
    #[serde(flatten)]
    verdict: VerdictJson<'a>,
    steps: &'a [Step],
}

/// Prints the verdict, and the checks that were made with `--explain`. `user` is the name of the session's user, which the
/// token itself may lack.
fn print_verdict(
    app: &App,
    args: &Verify,
    (verdict, steps): &(Verdict, Vec<Step>),
    keys_age: Option<Duration>,
    user: Option<&str>,
) -> Result<u8, Error> {
    if app.common.json && args.explain {
        output::json(&ExplainOutput { verdict: VerdictJson::of(verdict, keys_age), steps })?;
        return Ok(if verdict.is_granted() { 0 } else { ErrorCode::TokenDenied.exit_code() });
    }
    if !app.common.quiet {
        for Step { check, outcome, message } in steps {
            let style = if *outcome == CheckResult::Ok { Style::Good } else { Style::Bad };
            let line = StyledLine::new(app).text(&format!("{check:<12} ")).styled(style, &format!("{outcome:<6}"));
            line.text(&format!(" {message}")).print()?;
        }
    }
    let granted = match verdict {
        Verdict::Denied(reasons) => return report_denied(app, reasons),
        Verdict::Granted(granted) => granted,
    };
    if app.common.json {
        output::json(&VerdictJson::of(verdict, keys_age))?;
        return Ok(0);
    }
    if app.common.quiet {
        return Ok(0);
    }
    let now = args.at.map_or_else(|| app.clock().now(), UnixTime);
    let text = |name: &str| granted.claims.get(name).and_then(Value::as_str).map(|t| excerpt(t, 100));
    let user = user.map(|name| excerpt(name, 100));
    let user = user.or_else(|| text("preferred_username")).or_else(|| text("sub"));
    let user = user.unwrap_or_else(|| "unknown user".to_owned());
    let expiry = granted.claims.get("exp").and_then(Value::as_f64).map(|exp| now.until(UnixTime(exp as i64)));
    let expiry = expiry.map(|left| format!(", expires in {}", span(left))).unwrap_or_default();
    let keys = keys_age.map(|age| format!("; keys fetched {} ago", span(age))).unwrap_or_default();
    let rest = format!(": {user}{expiry}; signed with {}{keys}", granted.key.alg.name());
    StyledLine::new(app).styled(Style::Good, "valid").text(&rest).print()?;
    Ok(0)
}

/// Reports every reason of a denial: on stdout as JSON, else on stderr.
pub(super) fn report_denied(app: &App, reasons: &[Reason]) -> Result<u8, Error> {
    if app.common.json {
        output::json(&VerdictJson::denied(reasons))?;
        return Ok(ErrorCode::TokenDenied.exit_code());
    }
    let messages: Vec<&str> = reasons.iter().map(|reason| reason.message.as_str()).collect();
    let hint = match reasons.first().map(|reason| reason.code) {
        Some(
            ReasonCode::Expired
            | ReasonCode::KeysStale
            | ReasonCode::OfflineTooLong
            | ReasonCode::UnknownKey
            | ReasonCode::ClockRollback,
        ) => Hint::profile_command("refresh"),
        Some(ReasonCode::OpaqueToken) => "verify the ID token with verify_token=id_token, or let the API decide".into(),
        Some(ReasonCode::WrongAudience) => "if the token is meant for you, add --audience".into(),
        _ => Hint::None,
    };
    app.report(&Error::msg(ErrorCode::TokenDenied, format!("token denied: {}", messages.join("; ")), hint));
    Ok(ErrorCode::TokenDenied.exit_code())
}
