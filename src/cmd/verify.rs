//! `authctl verify`: verifies a stored token, or tokens on stdin, offline.

mod batch;
mod explain;
mod input;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::jwks;
use super::output::{self, Style, StyledLine, span};
use crate::app::App;
use crate::cli::Verify;
use crate::clock::UnixTime;
use crate::error::{Error, ErrorCode, Hint, SET_CLOCK};
use crate::model::{DecidingToken, InvalidProfileName, Profile, ProfileName, Requirements, Session};
use crate::secret::SecretBytes;
use crate::session::{Decision, Obstacle, SessionError, SessionService, TokenRequest};
use crate::text::excerpt;
use crate::verify::{
    KeySet, Policy, PolicyOptions, Reason, ReasonCode, Step, Verdict, VerdictJson, Verification, unverified_claims,
};
use input::{MAX_LENGTH, as_text, help, read_from, unreadable};

/// Runs the command.
pub fn run(app: &App, args: Verify) -> Result<u8, Error> {
    let on_stdin = args.profile_or_stdin.as_deref() == Some("-");
    if !on_stdin {
        for (given, option) in [(args.at.is_some(), "--at"), (args.batch, "--batch")] {
            if given {
                return Err(Error::msg(ErrorCode::Usage, format!("{option} requires a token on stdin"), help()));
            }
        }
    }
    let keys = args.jwks.as_deref().map(|path| jwks::read(path).map(|(keys, _)| keys)).transpose()?;
    let policy = policy(app, &args)?;
    if on_stdin {
        return verify_stdin(app, &args, policy, keys);
    }
    let named: Option<ProfileName> = args
        .profile_or_stdin
        .as_deref()
        .map(|text| {
            text.parse().map_err(|error| {
                let is_token = error == InvalidProfileName::Token;
                let hint = if is_token { Hint::command("verify").with_argument("-") } else { help() };
                Error::new(ErrorCode::Usage, error, read_from(text).unwrap_or(hint))
            })
        })
        .transpose()?;
    let profile = app.profile(named.as_ref()).map_err(|error| {
        let file = args.profile_or_stdin.as_deref().filter(|_| error.code == ErrorCode::UnknownProfile);
        Error { hint: file.and_then(read_from).unwrap_or(error.hint), ..error }
    })?;
    let with_profile = |error: SessionError| Error::from(error).about(&profile.name);
    let sessions = app.sessions()?;
    let session = sessions.session_blocking(&profile).map_err(with_profile)?;
    // Once the issuer has ended the session, its tokens are invalid for every command.
    if let Some(error) = sessions.required_login(&profile, &session) {
        return Err(with_profile(error));
    }
    let keys_supplied = keys.is_some();
    let verifier = sessions.verifier(&profile, policy, keys).map_err(with_profile)?;
    let verification = verifier.verify_session(&profile, &session, args.explain);
    let request = TokenRequest::id_token(None);
    if matches!(&verification.verdict, Verdict::Denied(reasons) if is_expired(reasons))
        && profile.requirements.token == DecidingToken::IdToken
        && let Decision::Fail(obstacle @ Obstacle::NoNewIdToken) = sessions.decide(&session, &request)
    {
        return Err(with_profile(SessionService::obstacle_error(&profile, &session, &request, obstacle)));
    }
    let denied = DeniedToken { keys_supplied, is_explained: args.explain, ..DeniedToken::of(&profile, &session) };
    let user = session.subject.and_then(|subject| subject.name);
    print_verdict(app, &args, &verification, verifier.keys_age(), user.as_deref(), denied)
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
    let keys_supplied = keys.is_some();
    let (verifier, profile) = match keys {
        Some(keys) if complete && app.common.profile.is_none() => {
            (app.sessions()?.verifier_with_keys(keys, policy)?, None)
        }
        keys => {
            let needed = "without a profile, --issuer, --audience and --jwks are required";
            let profile = app.profile(None).map_err(|error| Error {
                code: ErrorCode::Usage,
                error: error.error.context(needed),
                hint: help(),
            })?;
            let verifier = app.sessions()?.verifier(&profile, policy, keys);
            (verifier.map_err(|e| Error::from(e).about(&profile.name))?, Some(profile))
        }
    };
    if args.batch {
        let now = || app.clock().now();
        let verify = |token: &[u8], now: UnixTime| match as_text(token) {
            Ok(text) => verifier.verify_token_at(text, now),
            Err(reason) => Verdict::Denied(vec![reason]),
        };
        let all_valid = batch::run(&now, &verify, &|| verifier.reload_revocation_list(), verifier.keys_age())?;
        return Ok(if all_valid { 0 } else { ErrorCode::TokenDenied.exit_code() });
    }
    let mut token = SecretBytes::default();
    token.read_from(io::stdin().lock().take(MAX_LENGTH as u64)).map_err(unreadable)?;
    if token.expose().trim_ascii().is_empty() {
        return Err(Error::msg(ErrorCode::Usage, "stdin is empty", Hint::advice("check the command before the pipe")));
    }
    let verification = match as_text(token.expose()) {
        Ok(text) => verifier.verify_token(text, args.explain),
        Err(reason) => Verification::denied("parts", reason, args.explain),
    };
    let denied =
        DeniedToken { profile: profile.as_ref(), keys_supplied, is_explained: args.explain, ..DeniedToken::default() };
    print_verdict(app, args, &verification, verifier.keys_age(), None, denied)
}

/// The output of `--explain --json`.
#[derive(Serialize)]
struct ExplainOutput<'a> {
    #[serde(flatten)]
    verdict: VerdictJson<'a>,
    steps: &'a [Step],
}

/// Prints the verdict, and the checks that were made with `--explain`. `user` is the name of the session's user, which the
/// token itself may not have.
fn print_verdict(
    app: &App,
    args: &Verify,
    Verification { verdict, steps }: &Verification,
    keys_age: Option<Duration>,
    user: Option<&str>,
    denied: DeniedToken<'_>,
) -> Result<u8, Error> {
    let steps = steps.as_deref().unwrap_or_default();
    if app.common.json && args.explain {
        output::json(&ExplainOutput { verdict: VerdictJson::of(verdict, keys_age), steps })?;
        return Ok(if verdict.is_granted() { 0 } else { ErrorCode::TokenDenied.exit_code() });
    }
    let granted = match verdict {
        Verdict::Denied(reasons) if args.explain && !app.common.quiet => {
            explain::denied(app, reasons, steps)?;
            app.ui().instruct("");
            app.report_hint(&denied_hint_about(app, reasons, denied));
            return Ok(ErrorCode::TokenDenied.exit_code());
        }
        Verdict::Denied(reasons) => return report_denied(app, reasons, denied),
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
    let expiry = granted.claims.get("exp").and_then(Value::as_f64).map(|exp| UnixTime(exp as i64));
    let expiry = expiry.map(|at| match at > now {
        true => format!(", expires in {}", span(now.until(at))),
        false => ", expired, and valid only by the leeway".to_owned(),
    });
    let expiry = expiry.unwrap_or_default();
    let keys = keys_age.map(|age| format!("; keys fetched {} ago", span(age))).unwrap_or_default();
    let rest = format!(": {user}{expiry}; signed with {}{keys}", granted.key.alg.name());
    StyledLine::new(app).styled(Style::Good, "valid").text(&rest).print()?;
    explain::granted(app, steps)?;
    Ok(0)
}

/// Returns whether the token has expired, among other reasons for the denial.
pub(super) fn is_expired(reasons: &[Reason]) -> bool {
    reasons.iter().any(|reason| reason.code == ReasonCode::Expired)
}

/// What a denied token is of, for the hint.
#[derive(Clone, Copy, Default)]
pub(super) struct DeniedToken<'a> {
    /// The profile that it was verified by.
    pub(super) profile: Option<&'a Profile>,
    /// Whether it is the profile's own token, and not one on stdin.
    pub(super) is_own: bool,
    /// Whether its session can be refreshed.
    pub(super) can_refresh: bool,
    /// Whether its session has an ID token.
    pub(super) has_id_token: bool,
    /// Whether the access token had expired by this machine's clock when it was received, so that a new one would have too.
    pub(super) is_clock_ahead: bool,
    /// Whether the keys were passed with `--jwks`.
    pub(super) keys_supplied: bool,
    /// Whether every check is shown.
    pub(super) is_explained: bool,
}

impl<'a> DeniedToken<'a> {
    /// Describes the token of a profile's session.
    pub(super) fn of(profile: &'a Profile, session: &Session) -> Self {
        let end = unverified_claims(session.tokens.access_token.expose()).and_then(|claims| claims.exp);
        Self {
            profile: Some(profile),
            is_own: true,
            can_refresh: session.can_refresh(),
            has_id_token: session.tokens.id_token.is_some(),
            is_clock_ahead: profile.requirements.token == DecidingToken::AccessToken
                && end.is_some_and(|end| end <= session.tokens.obtained_at),
            ..Self::default()
        }
    }
}

/// Reports every reason of a denial: on stdout as JSON, else on stderr.
pub(super) fn report_denied(app: &App, reasons: &[Reason], denied: DeniedToken<'_>) -> Result<u8, Error> {
    if app.common.json {
        output::json(&VerdictJson::denied(reasons))?;
        return Ok(ErrorCode::TokenDenied.exit_code());
    }
    let messages: Vec<&str> = reasons.iter().map(|reason| reason.message.as_str()).collect();
    let hint = denied_hint_about(app, reasons, denied);
    app.report(&Error::msg(ErrorCode::TokenDenied, format!("token denied: {}", messages.join("; ")), hint));
    Ok(ErrorCode::TokenDenied.exit_code())
}

/// Returns the hint of a denial, with the profile that it was verified by.
fn denied_hint_about(app: &App, reasons: &[Reason], denied: DeniedToken<'_>) -> Hint {
    let hint = denied_hint(app, reasons, denied);
    denied.profile.map_or(hint.clone(), |profile| hint.about(&profile.name))
}

/// Suggests to look at what was checked, or at what the profile requires.
fn examine(denied: DeniedToken<'_>, is_malformed: bool) -> Hint {
    match denied.profile {
        _ if is_malformed && !denied.is_own => help(),
        Some(_) if denied.is_own && !denied.is_explained => Hint::profile_command("verify").with_flag("--explain"),
        Some(_) => Hint::profile_command("profile show"),
        None => help(),
    }
}

fn denied_hint(app: &App, reasons: &[Reason], denied: DeniedToken<'_>) -> Hint {
    let api_decides = || Hint::advice("let the API decide, which alone can read it");
    let missing = |claim: &&str| reasons.iter().any(|reason| reason.missing_claim.as_deref() == Some(*claim));
    let missing: Vec<&str> = Requirements::OPTIONAL_CLAIMS.into_iter().filter(missing).collect();
    match reasons.first().map(|reason| reason.code) {
        Some(ReasonCode::Expired) if denied.is_clock_ahead => Hint::shell(SET_CLOCK),
        Some(ReasonCode::Expired) if denied.is_own && !denied.can_refresh => Hint::login(),
        Some(ReasonCode::Revoked) if denied.is_own => Hint::login(),
        Some(ReasonCode::NotYetValid) => Hint::shell(SET_CLOCK),
        Some(ReasonCode::Expired | ReasonCode::KeysStale | ReasonCode::OfflineTooLong | ReasonCode::ClockRollback) => {
            Hint::profile_command("refresh")
        }
        Some(code @ (ReasonCode::UnknownKey | ReasonCode::InvalidSignature)) => {
            let pinned = || {
                let trust = app.sessions().ok()?.trust_blocking(denied.profile?).ok()?;
                trust.pinned.map(|pinned| pinned.source)
            };
            let update = Hint::profile_command("keys update");
            match (denied.profile.filter(|_| !denied.keys_supplied), pinned()) {
                (None, _) => Hint::advice("if the issuer has new keys, write them to the file of --jwks and try again"),
                (_, Some(source)) => Hint::profile_command("keys pin").with_option("--jwks", source).after_advice(
                    "if the issuer has new keys, write them to the file that its keys were pinned from, and pin them",
                ),
                _ if denied.is_own || code == ReasonCode::UnknownKey => update,
                _ => update.after_advice("the issuer may have new keys"),
            }
        }
        Some(ReasonCode::OpaqueToken) => match denied.profile {
            Some(profile) if profile.requirements.token == DecidingToken::IdToken => match denied.is_own {
                true => Hint::login_with_openid(&profile.scopes),
                false => api_decides(),
            },
            Some(_) if denied.has_id_token => {
                let set = Hint::profile_command("profile set").with_flag("verify_token=id_token");
                set.after_advice("the API decides about such a token; authctl can verify the ID token instead")
            }
            _ => api_decides(),
        },
        Some(ReasonCode::MissingClaim) if !missing.is_empty() => {
            let optional = denied.profile.map(|profile| profile.requirements.optional_claims.clone());
            let mut optional = optional.unwrap_or_default();
            optional.extend(missing.into_iter().map(str::to_owned));
            optional.sort();
            optional.dedup();
            let claims = optional.join(" ");
            match denied.profile {
                Some(profile) => {
                    let is_set = profile.requirements.token == DecidingToken::IdToken;
                    let advice = match is_set || (denied.is_own && !denied.has_id_token) {
                        true => "accept tokens without that claim",
                        false => "verify the ID token with verify_token=id_token, or accept tokens without that claim",
                    };
                    Hint::profile_command("profile set")
                        .with_flag(format!("optional_claims={claims}"))
                        .after_advice(advice)
                }
                None => help(),
            }
        }
        code => examine(denied, code == Some(ReasonCode::Malformed)),
    }
}
