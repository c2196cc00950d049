//! `authctl login`: gets a session by any grant, checks it, asks before it replaces somebody else's, and keeps it.

mod browser;
mod client;
mod grants;
mod input;
mod keep;
mod preset;
mod profile;
mod qr;
mod turn;

use serde::Serialize;

use super::output;
use super::verify::keys_in;
use crate::app::App;
use crate::cli::Login;
use crate::clock::UnixTime;
use crate::config;
use crate::error::{Error, ErrorCode};
use crate::model::{Grant, PinnedKeys, Profile, ProfileName, Session, StoreKind, Subject};
use crate::oauth::Client;
use crate::secret::Secret;
use crate::session::{NewLogin, SessionError, SessionService, VerifiedLogin};
use crate::ui::sanitize_for_terminal;
use client::{client, has_proof};
use grants::How;
use input::Input;
use keep::{ask_before_replacing, keep, pins_elsewhere, still_meant};
use profile::{absolute, prepare_profile, tell_of_directory, wanted_profile};
use turn::Turn;

pub(super) use browser::open_end_session;
pub(super) use input::secret_line;

#[derive(Serialize)]
struct Answer<'a> {
    profile: &'a ProfileName,
    issuer: &'a str,
    subject: &'a Option<Subject>,
    grant: Grant,
    scope: &'a Option<String>,
    expires_at: Option<UnixTime>,
    can_refresh: bool,
    store: StoreKind,
}

/// Runs the command.
#[inline(never)]
pub fn run(app: &App, args: Login) -> Result<u8, Error> {
    let preset = preset::named(&args)?;
    let config = app.config()?;
    let (mut profile, mut new) = wanted_profile(app, &args, preset, &config)?;
    let name = profile.name.clone();
    let about = |failure: Error| failure.about(&name);
    // A client by itself needs nobody where its secret is at hand, which is seen below.
    if args.grant().is_none() && profile.grant != Grant::ClientCredentials && !app.ui().is_human() {
        return Err(about(Error::msg(
            ErrorCode::LoginRequired,
            format!("logging in to `{name}` needs a person, and there is no terminal"),
            format!(
                "run {} in a terminal, or name a grant: --device, --no-browser, --client-credentials, --password-stdin or \
                 --with-token",
                if new { "the same command" } else { "`authctl login{profile}`" }
            ),
        )));
    }
    tell_of_directory(app, &args, &name)?;
    let pinned = args.jwks.as_deref().map(keys_in).transpose()?.map(|(_, keys)| PinnedKeys {
        keys,
        source: absolute(args.jwks.as_deref()).unwrap_or_default().display().to_string(),
        pinned_at: app.clock().now(),
    });
    let input = Input::read(app, &args)?;
    app.run(async {
        let sessions = app.sessions()?;
        // A store that cannot keep the session is told before anybody signs in.
        let before = readable(&sessions, &profile).await?;
        has_proof(app, &args, &profile, before.as_ref(), &input)?;
        let turn = Turn::take(app, &sessions, &args, &profile, before.as_ref()).await?;
        if let Some((profile, session)) = turn.joined() {
            app.ui().tell("The other login has got a session.");
            return tell(app, &args, profile, session);
        }
        // The login that was waited for has left a session and a profile, which are not to be replaced unasked.
        let config = app.config()?;
        let (again, still_new) = wanted_profile(app, &args, preset, &config)?;
        if again.name == name {
            (profile, new) = (again, still_new);
        }
        let stored = readable(&sessions, &profile).await?;
        sessions.reserve(&profile).await?;
        config::probe(&app.paths()?.config_file)?;
        let pins = match pinned {
            None => pins_elsewhere(app, &sessions, &config, &profile).await?,
            given => given,
        };
        let needed = How::needed(app, &args, &profile);
        let metadata = app.patiently(profile.issuer.as_str(), sessions.metadata_with(&profile, &needed)).await?;
        let how = How::choose(app, &args, &profile, &metadata);
        profile.grant = how.grant();
        prepare_profile(&args, preset, &mut profile, new, &metadata, &input);
        let client = client(app, &sessions, &profile, &metadata, stored.as_ref(), &input).await?;
        let mut login = how.run(app, &args, &profile, &metadata, &client, input).await?;
        login.max_auth_age = args.max_age;
        login.pinned = pins;
        let checks = sessions.verify_login(&profile, &metadata, login);
        let prepared = app.patiently(profile.issuer.as_str(), checks).await?;
        // Somebody signed in for minutes, and another login may have needed nobody.
        still_meant(app, &sessions, &config, &profile, &prepared).await?;
        let present = readable(&sessions, &profile).await?;
        ask_before_replacing(app, &args, &sessions, &profile, &prepared, present.as_ref()).await?;
        tell_weaker(app, &args, &profile, &prepared);
        let session = keep(app, &sessions, (&args, preset), &config, &profile, prepared).await?;
        app.tell_agent(&profile.name);
        for note in preset.map(|preset| preset.notes).unwrap_or_default() {
            app.ui().tell(note);
        }
        tell(app, &args, &profile, &session)
    })
    .map_err(about)?;
    Ok(0)
}

/// The profile's session as stored; none where it is there and cannot be read by any further try.
async fn readable(sessions: &SessionService, profile: &Profile) -> Result<Option<Session>, SessionError> {
    match sessions.stored(profile).await {
        Err(SessionError::Store(error)) if error.session_lost() => Ok(None),
        found => found,
    }
}

/// Tells of a sign-in that was weaker than what was asked for: an issuer may do less than `acr_values` say (OpenID Connect
/// Core 1.0, section 3.1.2.1).
fn tell_weaker(app: &App, args: &Login, profile: &Profile, prepared: &VerifiedLogin) {
    let Some(asked) = &args.acr_values else { return };
    if prepared.acr().is_some_and(|acr| asked.split_whitespace().any(|one| one == acr)) {
        return;
    }
    let found = prepared.acr().map_or_else(|| "none".to_owned(), |acr| format!("`{}`", sanitize_for_terminal(acr, 80)));
    app.ui().tell(&format!(
        "The issuer was asked for `{}` and says {found} of this sign-in. To demand it of every token: authctl profile set \
         {} required_acr={}",
        sanitize_for_terminal(asked, 80),
        profile.name,
        crate::ui::shell_word(&sanitize_for_terminal(asked, 80))
    ));
}

fn named(subject: &Option<Subject>, issuer: &str) -> String {
    match subject {
        Some(Subject { name: Some(name), .. }) => format!("{} at {issuer}", sanitize_for_terminal(name, 80)),
        Some(Subject { sub, name: None }) => format!("{} at {issuer}", sanitize_for_terminal(sub, 80)),
        None => format!("somebody at {issuer}"),
    }
}

fn tell(app: &App, args: &Login, profile: &Profile, session: &Session) -> Result<(), Error> {
    if app.common.json {
        return output::json(&Answer {
            profile: &profile.name,
            issuer: profile.issuer.as_str(),
            subject: &session.subject,
            grant: session.grant,
            scope: &session.tokens.scope,
            expires_at: session.tokens.expires_at,
            can_refresh: session.can_refresh(),
            store: profile.store,
        });
    }
    let who = match (&session.subject, session.grant) {
        (None, Grant::ClientCredentials) => {
            format!("the client {} at {}", sanitize_for_terminal(&profile.client_id, 80), profile.issuer)
        }
        (subject, _) => named(subject, profile.issuer.as_str()),
    };
    app.ui().tell(&format!("Logged in as {who}. The session is kept in the {} store.", profile.store));
    if !session.can_refresh() {
        app.ui().tell("The issuer gave nothing to refresh it with: when the token expires, log in again.");
        let prompts = &profile.server.authorization_parameters;
        let told = args.prompt.is_some() || prompts.iter().any(|(name, _)| name == "prompt");
        if session.grant == Grant::Browser && profile.scopes.iter().any(|s| s == "offline_access") && !told {
            // OpenID Connect Core 1.0, section 11. Not asked for unbidden: at some issuers only an administrator can
            // consent.
            app.ui().tell(&format!(
                "Some issuers give it only where they may ask for consent; try `authctl login {} \
                 --authorization-parameter prompt=consent`, which the profile keeps.",
                profile.name
            ));
        }
    }
    app.ui()
        .tell(&format!("`authctl token {}` prints a valid token, `authctl status` shows how it stands.", profile.name));
    Ok(())
}

/// A grant's outcome as the sessions takes it.
fn new_login(grant: Grant, tokens: crate::model::TokenSet, nonce: Option<String>, client: &Client) -> NewLogin {
    NewLogin {
        grant,
        tokens,
        nonce: nonce.map(Secret::new),
        client_secret: client.secret.clone(),
        max_auth_age: None,
        pinned: None,
    }
}
