//! `authctl refresh`: renews now, or only what is about to expire.

use serde::Serialize;

use super::output;
use super::token::tell_trouble;
use crate::app::App;
use crate::broker::Need;
use crate::cli::Refresh;
use crate::clock::UnixTime;
use crate::failure::{Failure, Kind};
use crate::model::{MinTtl, Profile, ProfileName, TokenFor};

#[derive(Serialize)]
struct Answer<'a> {
    profile: &'a ProfileName,
    renewed: bool,
    expires_at: Option<UnixTime>,
    expires_in: Option<u64>,
}

/// Runs the command.
pub fn run(app: &App, args: &Refresh) -> Result<u8, Failure> {
    let need = args.if_expiring.map_or(Need::New, |left| Need::Life(MinTtl::AtLeast(left)));
    if !args.all {
        let profile = app.profile(args.profile.as_ref())?;
        app.run(one(app, &profile, need))?;
        return Ok(0);
    }
    let config = app.config()?;
    let mut worst: Option<Kind> = None;
    app.run(async {
        for profile in config.profiles.values() {
            let result = match app.broker()?.stored(profile).await {
                Ok(None) => continue,
                Ok(Some(_)) => one(app, profile, need).await,
                Err(error) => Err(Failure::from(error).about(&profile.name)),
            };
            if let Err(failure) = result {
                app.report(&Failure { error: failure.error.context(profile.name.to_string()), ..failure });
                worst = worst.or(Some(failure.kind));
            }
        }
        Ok(())
    })?;
    Ok(worst.map_or(0, Kind::exit_code))
}

async fn one(app: &App, profile: &Profile, need: Need) -> Result<(), Failure> {
    let (broker, plain) = (app.broker()?, TokenFor::default());
    let served = app
        .patiently(profile.issuer.as_str(), broker.token(profile, &plain, need))
        .await
        .map_err(|e| Failure::from(e).about(&profile.name))?;
    tell_trouble(app, profile, &served);
    // Asked to renew, and the token was due, but it was not renewed: that is for the caller to know.
    if let Some(trouble) = served.trouble {
        return Err(Failure::from(trouble).about(&profile.name));
    }
    let left = served.tokens.expires_at.map(|end| app.clock().now().until(end));
    if app.common.json {
        output::json(&Answer {
            profile: &profile.name,
            renewed: served.renewed,
            expires_at: served.tokens.expires_at,
            expires_in: left.map(|left| left.as_secs()),
        })?;
    } else {
        let life = left.map(|left| format!(", valid for {}", output::span(left))).unwrap_or_default();
        let word = if served.renewed { "renewed" } else { "not due yet" };
        app.ui().tell(&format!("{}: {word}{life}", profile.name));
    }
    Ok(())
}
