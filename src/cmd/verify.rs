//! `authctl verify`: the offline decision on a stored token or one on stdin.

mod batch;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::output::{self, span};
use crate::app::App;
use crate::cli::Verify;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode};
use crate::model::ProfileName;
use crate::secret::SecretBytes;
use crate::session::{LoginReason, SessionError, TokenVerifier};
use crate::ui::sanitize_for_terminal;
use crate::verify::{
    CheckResult, Checks, KeySet, Policy, PolicyOptions, Reason, ReasonCode, Step, Verdict, VerdictJson,
};

/// A longer line or token is refused as it is.
const MAX_BYTES: usize = 1024 * 1024;

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
                    format!("{option} is for tokens on stdin"),
                    "put `-` in the profile's place and pipe the token in",
                ));
            }
        }
    }
    let keys = given_keys(&args)?;
    let policy = policy(app, &args)?;
    if on_stdin {
        return stdin(app, &args, policy, keys);
    }
    let named: Option<ProfileName> = args
        .subject
        .as_deref()
        .map(|text| {
            text.parse().map_err(|e| Error::new(ErrorCode::Usage, e, "name a profile, or `-` for a token on stdin"))
        })
        .transpose()?;
    let profile = app.profile(named.as_ref())?;
    let about = |e: SessionError| Error::from(e).about(&profile.name);
    let sessions = app.sessions()?;
    let session = sessions.session_blocking(&profile).map_err(about)?;
    // The issuer has ended the session: what its tokens say no longer counts, for any command.
    if let Some(ended) = session.ended {
        return Err(about(SessionError::LoginRequired(LoginReason::Ended(ended))));
    }
    let verifier = sessions.verifier(&profile, policy, keys).map_err(about)?;
    let explained = verifier.explain_session(&profile, &session, args.explain);
    let owner = session.subject.and_then(|subject| subject.name);
    tell(app, &args, &explained, verifier.keys_age(), owner.as_deref())
}

fn given_keys(args: &Verify) -> Result<Option<KeySet>, Error> {
    args.jwks.as_deref().map(|path| keys_in(path).map(|(keys, _)| keys)).transpose()
}

/// The keys in a file, and its text.
pub(super) fn keys_in(path: &Path) -> Result<(KeySet, String), Error> {
    let unusable = |e: anyhow::Error| {
        Error::new(
            ErrorCode::Usage,
            e.context(format!("cannot use the keys in {}", path.display())),
            "give a JWK Set or PEM public keys with --jwks",
        )
    };
    let file = std::fs::File::open(path).map_err(|e| unusable(e.into()))?;
    let mut text = String::new();
    file.take(KeySet::MAX_LENGTH as u64 + 1).read_to_string(&mut text).map_err(|e| unusable(e.into()))?;
    let keys = KeySet::parse(&text).map_err(|e| unusable(e.into()))?;
    if keys.is_empty() {
        return Err(unusable(anyhow::anyhow!("none of its {} keys is a public key to verify with", keys.skipped())));
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
    // One claim may be asked for twice, with two values that an array must both hold.
    Ok(Policy { claims: args.claims.clone(), ..options.policy(app.clock().now())? })
}

/// Decides on what is piped in. A profile is only looked at for what the options do not give.
fn stdin(app: &App, args: &Verify, policy: Policy, keys: Option<KeySet>) -> Result<u8, Error> {
    let complete = !policy.issuer.is_empty() && !policy.audiences.is_empty();
    let verifier = match keys {
        Some(keys) if complete && args.profile.is_none() => app.sessions()?.verifier_with_keys(keys, policy)?,
        keys => {
            let profile = app.profile(args.profile.as_ref()).map_err(|failure| Error {
                hint: "give --issuer, --audience and --jwks, or a profile that has them with --profile".into(),
                code: ErrorCode::Usage,
                ..failure
            })?;
            let verifier = app.sessions()?.verifier(&profile, policy, keys);
            verifier.map_err(|e| Error::from(e).about(&profile.name))?
        }
    };
    if args.batch {
        let now = || app.clock().now();
        let one = |token: &[u8], now: UnixTime| match text_of(token) {
            Ok(text) => verifier.verify_at(text, now),
            Err(reason) => Verdict::Denied(vec![reason]),
        };
        let all_valid = batch::run(&now, &one, &|| verifier.reload_revocation_list(), verifier.keys_age())?;
        return Ok(if all_valid { 0 } else { ErrorCode::TokenDenied.exit_code() });
    }
    let mut token = SecretBytes::default();
    io::copy(&mut io::stdin().lock().take(MAX_BYTES as u64 + 1), &mut token).map_err(unreadable)?;
    if token.expose().trim_ascii().is_empty() {
        let hint = "look whether what was to print the token has failed";
        return Err(Error::msg(ErrorCode::Usage, "stdin holds no token", hint));
    }
    let explained = decide(token.expose(), &verifier, args.explain);
    tell(app, args, &explained, verifier.keys_age(), None)
}

fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorCode::Usage, anyhow::Error::new(error).context("reading stdin"), "pipe a token to stdin")
}

/// One token as it was read, with the white space that pipes add taken off its end.
fn text_of(token: &[u8]) -> Result<&str, Reason> {
    let malformed = |why| Reason::new(ReasonCode::Malformed, why);
    match std::str::from_utf8(token) {
        _ if token.len() > MAX_BYTES => Err(malformed("the token is longer than 1 MiB")),
        Ok(text) => Ok(text.trim_ascii_end()),
        Err(_) => Err(malformed("the token is not text")),
    }
}

/// The verdict on a token as it was read, and the way to it where it is wanted.
fn decide(token: &[u8], verifier: &TokenVerifier, explained: bool) -> (Verdict, Vec<Step>) {
    match text_of(token) {
        Ok(text) => verifier.explain(text, explained),
        Err(reason) => {
            let mut checks = Checks::new(explained);
            checks.deny("parts", reason);
            let steps = checks.steps.take().unwrap_or_default();
            (Verdict::Denied(checks.into_reasons()), steps)
        }
    }
}

/// What `--explain --json` prints.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    verdict: VerdictJson<'a>,
    steps: &'a [Step],
}

/// Tells the verdict, and the way to it where that was asked for. `owner` is whose session the token is from, by a name
/// that the token itself need not have.
fn tell(
    app: &App,
    args: &Verify,
    (verdict, steps): &(Verdict, Vec<Step>),
    age: Option<Duration>,
    owner: Option<&str>,
) -> Result<u8, Error> {
    if app.common.json && args.explain {
        output::json(&Explained { verdict: VerdictJson::of(verdict, age), steps })?;
        return Ok(if verdict.is_granted() { 0 } else { ErrorCode::TokenDenied.exit_code() });
    }
    if !app.common.quiet {
        for Step { check, outcome, message } in steps {
            let colour = if *outcome == CheckResult::Ok { 32 } else { 31 };
            output::line(&format!("{check:<12} {} {message}", app.paint(colour, &format!("{outcome:<6}"))))?;
        }
    }
    let granted = match verdict {
        Verdict::Denied(reasons) => return tell_denied(app, reasons),
        Verdict::Granted(granted) => granted,
    };
    if app.common.json {
        output::json(&VerdictJson::of(verdict, age))?;
        return Ok(0);
    }
    if app.common.quiet {
        return Ok(0);
    }
    let now = args.at.map_or_else(|| app.clock().now(), UnixTime);
    let text = |name: &str| granted.claims.get(name).and_then(Value::as_str).map(|t| sanitize_for_terminal(t, 100));
    let owner = owner.map(|name| sanitize_for_terminal(name, 100));
    let who = owner
        .or_else(|| text("preferred_username"))
        .or_else(|| text("sub"))
        .unwrap_or_else(|| "nobody in particular".into());
    let left = granted
        .claims
        .get("exp")
        .and_then(Value::as_f64)
        .map(|end| now.until(UnixTime(end as i64)))
        .map(|left| format!(", for another {}", span(left)))
        .unwrap_or_default();
    let keys = age.map(|age| format!(", by keys fetched {} ago", span(age))).unwrap_or_default();
    output::line(&format!("{}: {who}{left}; signed with {}{keys}", app.paint(32, "valid"), granted.key.alg.name()))?;
    Ok(0)
}

/// Tells every reason: on stdout as the verdict in JSON, else on stderr for people.
pub(super) fn tell_denied(app: &App, reasons: &[Reason]) -> Result<u8, Error> {
    if app.common.json {
        output::json(&VerdictJson::denied(reasons))?;
        return Ok(ErrorCode::TokenDenied.exit_code());
    }
    let told: Vec<&str> = reasons.iter().map(|reason| reason.message.as_str()).collect();
    let hint = match reasons.first().map(|reason| reason.code) {
        Some(ReasonCode::Expired) => "get a new token with `authctl token`, or log in again",
        Some(ReasonCode::OpaqueToken) => {
            "`authctl profile set NAME verify_token=id_token` has the session's ID token decide, where the login brought one; \
             without one, use `authctl token` and let the API judge"
        }
        Some(ReasonCode::WrongAudience) => {
            "if the token is meant for you, name its audience with --audience or `authctl profile set NAME audience=...`"
        }
        Some(ReasonCode::ClockRollback) => {
            "set the clock right; while online, `authctl refresh` compares it with the issuer's and goes on from there"
        }
        Some(ReasonCode::KeysStale) => "`authctl refresh` while online fetches the issuer's keys and status lists",
        Some(ReasonCode::OfflineTooLong) => "go online and run `authctl refresh`",
        Some(ReasonCode::UnknownKey) => "`authctl refresh` fetches the issuer's keys; or give them with --jwks",
        _ => "do not rely on this token; log in again if it is your own",
    };
    app.report(&Error::msg(ErrorCode::TokenDenied, format!("token denied: {}", told.join("; ")), hint));
    Ok(ErrorCode::TokenDenied.exit_code())
}
