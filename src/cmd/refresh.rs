//! `authctl refresh`: renews now, or only what is about to expire.

use std::time::Duration;

use super::output;
use super::token::tell_trouble;
use crate::agent::Refreshed;
use crate::app::App;
use crate::broker::Need;
use crate::cli::Refresh;
use crate::failure::{Failure, Kind};
use crate::model::{MinTtl, Profile, TokenFor};

/// Runs the command.
#[inline(never)]
pub fn run(app: &App, args: &Refresh) -> Result<u8, Failure> {
    let need = args.if_expiring.map_or(Need::New, |left| Need::Life(MinTtl::AtLeast(left)));
    if !args.all {
        let profile = app.profile(args.profile.as_ref())?;
        // Outside of the runtime: a Ctrl-C ends the wait for the agent at once, and not the agent's renewal.
        let answer = match through_agent(app, &profile, need)? {
            Some(answer) => answer,
            None => app.run(renew(app, &profile, need))?,
        };
        tell(app, &answer)?;
        return Ok(0);
    }
    let config = app.config()?;
    let mut worst: Option<Kind> = None;
    let mut any = false;
    app.run(async {
        for profile in config.profiles.values() {
            let result = match app.broker()?.stored(profile).await {
                Ok(None) => continue,
                Ok(Some(_)) => renew(app, profile, need).await.and_then(|answer| tell(app, &answer)),
                Err(error) => Err(Failure::from(error).about(&profile.name)),
            };
            any = true;
            if let Err(failure) = result {
                app.report(&Failure { error: failure.error.context(profile.name.to_string()), ..failure });
                worst = worst.or(Some(failure.kind));
            }
        }
        Ok(())
    })?;
    if !any {
        app.ui().tell("Nobody is logged in: there is nothing to renew.");
    }
    Ok(worst.map_or(0, Kind::exit_code))
}

fn tell(app: &App, answer: &Refreshed) -> Result<(), Failure> {
    if app.common.json {
        output::json(answer)?;
    } else {
        let left = answer.expires_in.map(Duration::from_secs);
        let life = left.map(|left| format!(", valid for {}", output::span(left))).unwrap_or_default();
        let word = if answer.renewed { "renewed" } else { "not due yet" };
        app.ui().tell(&format!("{}: {word}{life}", answer.profile));
    }
    Ok(())
}

/// Where an agent runs, it renews: then it is the one that has the new token first.
fn through_agent(app: &App, profile: &Profile, need: Need) -> Result<Option<Refreshed>, Failure> {
    let query = match need {
        Need::Life(MinTtl::AtLeast(left)) => format!("?if_expiring={}", left.as_secs()),
        Need::Life(MinTtl::Default) | Need::New => String::new(),
    };
    app.ask_agent("POST", &format!("/v1/refresh/{}{query}", profile.name), None)
}

async fn renew(app: &App, profile: &Profile, need: Need) -> Result<Refreshed, Failure> {
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
    let expires_at = served.tokens.expires_at;
    Ok(Refreshed {
        profile: profile.name.clone(),
        renewed: served.renewed,
        expires_at,
        expires_in: expires_at.map(|end| app.clock().now().until(end).as_secs()),
    })
}
