//! `authctl keys`: shows, fetches and pins the issuer's keys for offline verification.

use std::time::Duration;

use serde::Serialize;

use super::jwks;
use super::output::{self, ago, count, span};
use crate::app::App;
use crate::cli::KeysCommand;
use crate::clock::UnixTime;
use crate::error::{Error, Hint};
use crate::model::{IssuerUrl, Profile, ProfileName, Trust, format_duration};
use crate::session::{SessionError, trusted_keys};
use crate::text::excerpt;
use crate::verify::{KeySet, KeySummary};

/// The output of every `keys` command with `--json`.
#[derive(Serialize)]
struct KeysOutput<'a> {
    profile: &'a ProfileName,
    issuer: &'a IssuerUrl,
    pinned: Option<PinnedOutput<'a>>,
    fetched: Option<FetchedOutput<'a>>,
    /// The trusted keys, pinned or fetched.
    keys: Vec<KeySummary>,
    /// The number of keys of an unsupported type or use.
    skipped: usize,
    keys_max_age: u64,
    contact_at: Option<UnixTime>,
}

#[derive(Serialize)]
struct PinnedOutput<'a> {
    source: &'a str,
    pinned_at: UnixTime,
}

#[derive(Serialize)]
struct FetchedOutput<'a> {
    source: &'a str,
    fetched_at: UnixTime,
    trusted_until: UnixTime,
}

/// Runs the command.
pub fn run(app: &App, command: KeysCommand) -> Result<u8, Error> {
    match command {
        KeysCommand::Show { profile } => show(app, &app.profile(profile.as_ref())?),
        KeysCommand::Update { profile } => update(app, &app.profile(profile.as_ref())?),
        KeysCommand::Pin { profile, jwks } => {
            let profile = app.profile(profile.as_ref())?;
            let (keys, text) = jwks::read(&jwks)?;
            let source = std::path::absolute(&jwks).unwrap_or(jwks).display().to_string();
            let sessions = app.sessions()?;
            app.run(async { sessions.pin_keys(&profile, text, source).await.map_err(with_profile(&profile)) })?;
            app.ui().notice(&format!(
                "pinned {} for {}; no others are trusted until `{}`",
                count(keys.len(), "key"),
                profile.issuer,
                next(app, "keys unpin", &profile.name)
            ));
            shown_after_change(app, &profile)
        }
        KeysCommand::Unpin { profile } => {
            let profile = app.profile(profile.as_ref())?;
            let sessions = app.sessions()?;
            let were_pinned = app.run(async { sessions.unpin_keys(&profile).await.map_err(with_profile(&profile)) })?;
            let issuer = &profile.issuer;
            app.ui().notice(&match were_pinned {
                Some(true) => format!("unpinned the keys of {issuer}; the published keys are trusted"),
                Some(false) => format!("no keys are pinned for {issuer}"),
                None => format!(
                    "removed the damaged keys of {issuer}; the published keys are trusted. If keys were pinned, pin them again with \
                     `{} --jwks FILE`",
                    next(app, "keys pin", &profile.name)
                ),
            });
            shown_after_change(app, &profile)
        }
    }
}

/// Returns a command for the profile, with the typed configuration.
fn next(app: &App, verbs: &'static str, profile: &ProfileName) -> String {
    app.next_command(Hint::profile_command(verbs).without_typed_options().about(profile))
}

fn with_profile(profile: &Profile) -> impl Fn(SessionError) -> Error + '_ {
    |error| Error::from(error).about(&profile.name)
}

fn update(app: &App, profile: &Profile) -> Result<u8, Error> {
    let sessions = app.sessions()?;
    let trust = app.run(async {
        app.with_progress(profile.issuer.as_str(), sessions.update_keys(profile)).await.map_err(with_profile(profile))
    })?;
    let fetched = trust.fetched.as_ref().map(|keys| KeySet::from_jwks(&keys.jwks).unwrap_or_default());
    app.ui().notice(&match fetched {
        Some(set) if !set.skipped_text().is_empty() => {
            format!("fetched {} of {}; {}", count(set.len(), "key"), profile.issuer, set.skipped_text())
        }
        Some(set) => format!("fetched {} of {}", count(set.len(), "key"), profile.issuer),
        None => format!("{} publishes no keys", profile.issuer),
    });
    if trust.pinned.is_some() {
        let unpin = next(app, "keys unpin", &profile.name);
        app.ui().notice(&format!("only the pinned keys are trusted until `{unpin}`"));
    }
    shown_after_change(app, profile)
}

/// Prints the keys as `keys show --json` does, with `--json`.
fn shown_after_change(app: &App, profile: &Profile) -> Result<u8, Error> {
    if app.common.json { show(app, profile) } else { Ok(0) }
}

fn show(app: &App, profile: &Profile) -> Result<u8, Error> {
    let trust = app.sessions()?.trust_blocking(profile).map_err(with_profile(profile))?;
    let now = app.clock().now();
    let keys_max_age = profile.requirements.keys_max_age();
    let (set, _) = trusted_keys(&trust, now);
    let shown = KeysOutput {
        profile: &profile.name,
        issuer: &profile.issuer,
        pinned: trust.pinned.as_ref().map(|keys| PinnedOutput { source: &keys.source, pinned_at: keys.pinned_at }),
        fetched: trust.fetched.as_ref().map(|keys| FetchedOutput {
            source: &keys.source,
            fetched_at: keys.fetched_at,
            trusted_until: keys.fetched_at.plus(keys_max_age),
        }),
        keys: set.summaries().collect(),
        skipped: set.skipped(),
        keys_max_age: keys_max_age.as_secs(),
        contact_at: trust.contact_at,
    };
    if app.common.json {
        output::json(&shown)?;
        return Ok(0);
    }
    output::line(&format!("{}: {}", profile.name, profile.issuer))?;
    let update = next(app, "keys update", &profile.name);
    for line in trust_lines(&update, &trust, now, keys_max_age) {
        output::line(&format!("  {line}"))?;
    }
    if shown.skipped > 0 {
        output::line(&format!("  {}", set.skipped_text()))?;
    }
    for key in &shown.keys {
        let kid = key.kid.as_deref().map_or_else(|| "(no kid)".to_owned(), |kid| excerpt(kid, 60));
        let algorithms: Vec<&str> = key.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        let weakness = key.weakness.map(|reason| format!("; not trusted: {reason}")).unwrap_or_default();
        output::line(&format!("  {kid}  {}{weakness}", algorithms.join(" ")))?;
    }
    Ok(0)
}

/// Describes where the trusted keys are from, and how long they are trusted offline.
fn trust_lines(update: &str, trust: &Trust, now: UnixTime, keys_max_age: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(pinned) = &trust.pinned {
        let source = &pinned.source;
        lines.push(format!("pinned {} from {source}; no others are trusted", ago(pinned.pinned_at, now)));
    }
    match &trust.fetched {
        Some(keys) => {
            let source = &keys.source;
            lines.push(format!("fetched {} from {source}", ago(keys.fetched_at, now)));
            let max_age = format_duration(keys_max_age);
            lines.push(match keys_max_age.checked_sub(keys.fetched_at.until(now)) {
                _ if trust.pinned.is_some() => "not trusted while others are pinned".to_owned(),
                Some(left) => format!("trusted offline for another {} (keys_max_age {max_age})", span(left)),
                None => format!("too old to be trusted (keys_max_age {max_age}); run `{update}`"),
            });
        }
        None if trust.pinned.is_none() => lines.push(format!("no keys; run `{update}`")),
        None => {}
    }
    if let Some(at) = trust.contact_at {
        lines.push(format!("the issuer last answered {}", ago(at, now)));
    }
    lines
}
