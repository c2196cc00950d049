//! `authctl keys`: the issuer's keys that are trusted while it cannot be asked.

use std::time::Duration;

use serde::Serialize;

use super::output::{self, ago, span};
use super::verify::keys_in;
use crate::app::App;
use crate::cli::KeysCommand;
use crate::clock::UnixTime;
use crate::error::Error;
use crate::model::{IssuerUrl, Profile, ProfileName, Trust, format_duration};
use crate::session::{SessionError, trusted_keys};
use crate::ui::sanitize_for_terminal;
use crate::verify::{KeySet, KeySummary};

/// Runs the command.
pub fn run(app: &App, command: KeysCommand) -> Result<u8, Error> {
    match command {
        KeysCommand::Show { profile } => show(app, &app.profile(profile.as_ref())?),
        KeysCommand::Update { profile } => update(app, &app.profile(profile.as_ref())?),
        KeysCommand::Pin { profile, jwks } => {
            let profile = app.profile(profile.as_ref())?;
            let (keys, text) = keys_in(&jwks)?;
            let source = std::path::absolute(&jwks).unwrap_or(jwks).display().to_string();
            let sessions = app.sessions()?;
            app.run(async { sessions.pin_keys(&profile, text, source).await.map_err(about(&profile)) })?;
            app.ui().tell(&format!(
                "{}: {} pinned; no others are trusted until `authctl keys unpin {}`",
                profile.issuer,
                counted(keys.len()),
                profile.name
            ));
            Ok(0)
        }
        KeysCommand::Unpin { profile } => {
            let profile = app.profile(profile.as_ref())?;
            let sessions = app.sessions()?;
            let was = app.run(async { sessions.unpin_keys(&profile).await.map_err(about(&profile)) })?;
            let told = if was { "what the issuer publishes is trusted again" } else { "nothing was pinned" };
            app.ui().tell(&format!("{}: {told}", profile.issuer));
            Ok(0)
        }
    }
}

fn about(profile: &Profile) -> impl Fn(SessionError) -> Error + '_ {
    |error| Error::from(error).about(&profile.name)
}

fn update(app: &App, profile: &Profile) -> Result<u8, Error> {
    let sessions = app.sessions()?;
    let trust = app.run(async {
        app.patiently(profile.issuer.as_str(), sessions.update_keys(profile)).await.map_err(about(profile))
    })?;
    let fetched = trust.fetched.as_ref().map(|keys| KeySet::from_jwks(&keys.jwks).map_or(0, |set| set.len()));
    app.ui().tell(&match fetched {
        Some(number) => format!("{}: {} fetched", profile.issuer, counted(number)),
        None => format!("{} publishes no keys", profile.issuer),
    });
    if trust.pinned.is_some() {
        app.ui().tell(&format!("Only the pinned keys are trusted, until `authctl keys unpin {}`.", profile.name));
    }
    Ok(0)
}

fn counted(number: usize) -> String {
    if number == 1 { "1 key".to_owned() } else { format!("{number} keys") }
}

/// What `keys show --json` prints.
#[derive(Serialize)]
struct Shown<'a> {
    profile: &'a ProfileName,
    issuer: &'a IssuerUrl,
    pinned: Option<Pinned<'a>>,
    fetched: Option<Fetched<'a>>,
    /// The keys that decide, pinned or fetched.
    keys: Vec<KeySummary>,
    /// How many more of a kind or for a use that is not accepted.
    skipped: usize,
    keys_max_age: u64,
    contact_at: Option<UnixTime>,
}

#[derive(Serialize)]
struct Pinned<'a> {
    source: &'a str,
    pinned_at: UnixTime,
}

#[derive(Serialize)]
struct Fetched<'a> {
    source: &'a str,
    fetched_at: UnixTime,
    trusted_until: UnixTime,
}

fn show(app: &App, profile: &Profile) -> Result<u8, Error> {
    let trust = app.sessions()?.trust_blocking(profile).map_err(about(profile))?;
    let now = app.clock().now();
    let most = profile.requirements.keys_max_age();
    let (set, _) = trusted_keys(&trust, now);
    let shown = Shown {
        profile: &profile.name,
        issuer: &profile.issuer,
        pinned: trust.pinned.as_ref().map(|keys| Pinned { source: &keys.source, pinned_at: keys.pinned_at }),
        fetched: trust.fetched.as_ref().map(|keys| Fetched {
            source: &keys.source,
            fetched_at: keys.fetched_at,
            trusted_until: keys.fetched_at.plus(most),
        }),
        keys: set.summaries().collect(),
        skipped: set.skipped(),
        keys_max_age: most.as_secs(),
        contact_at: trust.contact_at,
    };
    if app.common.json {
        output::json(&shown)?;
        return Ok(0);
    }
    output::line(&format!("{}: {}", profile.name, profile.issuer))?;
    for line in standing(&trust, &shown, now, most) {
        output::line(&format!("  {line}"))?;
    }
    for key in &shown.keys {
        let kid = key.kid.as_deref().map_or_else(|| "(no kid)".to_owned(), |kid| sanitize_for_terminal(kid, 60));
        let algorithms: Vec<&str> = key.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        let weakness = key.weakness.map(|why| format!("; not relied on: {why}")).unwrap_or_default();
        output::line(&format!("  {kid}  {}{weakness}", algorithms.join(" ")))?;
    }
    Ok(0)
}

fn standing(trust: &Trust, shown: &Shown<'_>, now: UnixTime, most: Duration) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(pinned) = &trust.pinned {
        let source = sanitize_for_terminal(&pinned.source, 200);
        lines.push(format!("pinned {} from {source}: no others are trusted", ago(pinned.pinned_at, now)));
    }
    match &trust.fetched {
        Some(keys) => {
            let source = sanitize_for_terminal(&keys.source, 200);
            lines.push(format!("fetched {} from {source}", ago(keys.fetched_at, now)));
            let age = keys.fetched_at.until(now);
            lines.push(match most.checked_sub(age) {
                Some(left) if trust.pinned.is_none() => {
                    format!("trusted offline for another {} (keys_max_age {})", span(left), format_duration(most))
                }
                None if trust.pinned.is_none() => {
                    format!("too old to be trusted (keys_max_age {}); run `authctl keys update`", format_duration(most))
                }
                _ => "not trusted while others are pinned".to_owned(),
            });
        }
        None if trust.pinned.is_none() => lines.push("no keys yet; `authctl keys update` fetches them".to_owned()),
        None => {}
    }
    if let Some(at) = trust.contact_at {
        lines.push(format!("the issuer last answered {}", ago(at, now)));
    }
    if shown.skipped > 0 {
        lines.push(format!("{} more of kinds that are not accepted", counted(shown.skipped)));
    }
    lines
}
