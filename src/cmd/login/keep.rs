//! From a checked sign-in to a session that is kept: what may be in its way is asked about or refused, and nothing that was
//! set meanwhile is lost.

use std::sync::Arc;
use std::time::Duration;

use super::named;
use super::profile::{Preset, laid_over};
use crate::app::App;
use crate::cli::Login;
use crate::config::{self, Config};
use crate::error::{Error, ErrorCode};
use crate::model::{Grant, PinnedKeys, Profile, Session};
use crate::session::{SessionError, SessionService, VerifiedLogin};
use crate::store::StoreError;
use crate::ui::sanitize_for_terminal;

/// How long a login waits for the configuration: longer than a change to it, since somebody has signed in.
const KEEP_LIMIT: Duration = Duration::from_secs(60);

/// The keys that were pinned for the profile in the store that it was kept in before: they are the user's word, and move with
/// it. Those that are gone, with their store or by damage, cannot, which is shown: a login is the way out of that.
///
/// # Errors
/// Where they may be there, and cannot be read now: those that the issuer publishes are not trusted in their place.
pub(super) async fn pins_elsewhere(
    app: &App,
    sessions: &SessionService,
    before: &Config,
    profile: &Profile,
) -> Result<Option<PinnedKeys>, Error> {
    let Some(old) = before.profiles.get(&profile.name) else { return Ok(None) };
    if old.store == profile.store || old.issuer != profile.issuer {
        return Ok(None);
    }
    let error = match sessions.trust(old).await {
        Ok(trust) => return Ok(trust.pinned),
        Err(error) => error,
    };
    let gone = match &error {
        SessionError::Trust { .. } => true,
        SessionError::Store(error) => error.session_lost() || matches!(error, StoreError::Absent { .. }),
        _ => false,
    };
    if gone {
        app.ui().show(&format!(
            "What was kept of the keys of {} in the {} store cannot be read: pin again what was pinned (`authctl keys pin {} \
             --jwks FILE`).",
            profile.issuer, old.store, profile.name
        ));
        return Ok(None);
    }
    let hint = "make that store readable and run the same command again; or pin the keys again with --jwks FILE";
    let failure = Error::from(error);
    let error = failure.error.context(format!("keys may be pinned in the {} store, and cannot be read", old.store));
    Err(Error { error, hint: hint.to_owned(), ..failure })
}

/// The profile as it is set by now: somebody may have signed in for minutes.
///
/// # Errors
/// [`ErrorCode::Usage`] where it was led to another issuer or client meanwhile: the session is not that one's.
fn set_meanwhile(app: &App, before: &Config, profile: &Profile) -> Result<Option<Profile>, Error> {
    let set = app.config()?.profiles.get(&profile.name).cloned();
    let same = |one: &Profile, other: &Profile| one.issuer == other.issuer && one.client_id == other.client_id;
    let old = before.profiles.get(&profile.name);
    match set {
        Some(set) if !same(&set, profile) && !old.is_some_and(|old| same(&set, old)) => {
            Err(led_elsewhere(&set, profile))
        }
        set => Ok(set),
    }
}

/// Whether the profile is still the one that the login is for, told before anybody is asked.
///
/// # Errors
/// As [`set_meanwhile`]; the tokens are revoked.
pub(super) async fn still_meant(
    app: &App,
    sessions: &SessionService,
    before: &Config,
    profile: &Profile,
    prepared: &VerifiedLogin,
) -> Result<(), Error> {
    match set_meanwhile(app, before, profile) {
        Ok(_) => Ok(()),
        Err(failure) => {
            discard(sessions, profile, prepared.session()).await;
            Err(failure)
        }
    }
}

fn led_elsewhere(set: &Profile, profile: &Profile) -> Error {
    let client = |profile: &Profile| {
        format!("the client {} at {}", sanitize_for_terminal(&profile.client_id, 80), profile.issuer)
    };
    Error::msg(
        ErrorCode::ProfileChanged,
        format!(
            "the profile `{}` was changed meanwhile: it is for {} now, and you have signed in to {}, which is not kept",
            profile.name,
            client(set),
            client(profile)
        ),
        "run `authctl login{profile}` to log in as the profile says now, or the same command with another profile's name",
    )
}

/// Tells whose session would be replaced, and asks; without somebody to ask, only `--replace` goes on.
///
/// # Errors
/// Where it is to stay.
pub(super) async fn ask_before_replacing(
    app: &App,
    args: &Login,
    sessions: &SessionService,
    profile: &Profile,
    prepared: &VerifiedLogin,
    stored: Option<&Session>,
) -> Result<(), Error> {
    let Some(stored) = stored.filter(|stored| prepared.replaces_other_account(stored)) else { return Ok(()) };
    let old = named(&stored.subject, stored.issuer.as_str());
    let new = named(&prepared.session().subject, profile.issuer.as_str());
    app.ui().tell(&format!("The profile `{}` holds a session of {old}. You have signed in as {new}.", profile.name));
    if args.replace {
        return Ok(());
    }
    match app.confirm("Replace it?").await {
        Some(true) => Ok(()),
        answer => {
            discard(sessions, profile, prepared.session()).await;
            let message = format!("the session of {old} was kept");
            Err(match answer {
                Some(_) => {
                    Error::msg(ErrorCode::Interrupted, message, "use another profile name for the other account")
                }
                None => Error::msg(
                    ErrorCode::OtherSubject,
                    format!("signed in as {new}, but {message}"),
                    "add --replace to replace it, or use another profile name for the other account",
                ),
            })
        }
    }
}

/// Ends what is not kept.
async fn discard(sessions: &SessionService, profile: &Profile, session: &Session) {
    // Tokens that were handed in are somebody else's to end.
    if session.grant != Grant::Token {
        sessions.discard(profile, session).await;
    }
}

/// Stores the session, saves the profile, and removes what is left in a store that it is no longer kept in. A session that
/// cannot be kept is revoked.
///
/// # Errors
/// As [`set_meanwhile`], and where the session cannot be stored or the profile not saved.
pub(super) async fn keep(
    app: &App,
    sessions: &Arc<SessionService>,
    wanted: (&Login, Preset),
    before: &Config,
    profile: &Profile,
    prepared: VerifiedLogin,
) -> Result<Session, Error> {
    let lost = prepared.is_trust_damaged();
    let session = prepared.session().clone();
    let kept = keep_both(app, sessions, wanted, before, profile, prepared).await;
    if kept.is_err() {
        discard(sessions, profile, &session).await;
    }
    if let (Some(left), Some(error)) = kept? {
        app.ui().tell(&format!("The old session is still in the {} store: {error}", left.store));
    }
    if lost {
        app.ui().show(&format!(
            "What was kept of the keys of {} could not be read and is dropped: pin again what was pinned.",
            profile.issuer
        ));
    }
    Ok(session)
}

/// What is left in another store, and why it is still there.
type Left = (Option<Profile>, Option<SessionError>);

async fn keep_both(
    app: &App,
    sessions: &Arc<SessionService>,
    (args, preset): (&Login, Preset),
    before: &Config,
    profile: &Profile,
    prepared: VerifiedLogin,
) -> Result<Left, Error> {
    // A refresh of the old session may take its time, in which nobody else's configuration is to stand still.
    let name = &profile.name;
    app.patiently(&format!("a refresh of `{name}`"), sessions.wait_for_lock(name)).await?;
    let lock = app.lock_config(KEEP_LIMIT);
    let lock = app.patiently("another change to the configuration", lock).await?;
    let old = before.profiles.get(name);
    let set = set_meanwhile(app, before, profile)?;
    // What was set meanwhile is kept, and what was removed is there again.
    let saved = match &set {
        Some(set) if old != Some(set) => {
            let (grant, client_auth, store) = (profile.grant, profile.client_auth, profile.store);
            Profile { grant, client_auth, store, ..laid_over(args, preset, set.clone())? }
        }
        _ => profile.clone(),
    };
    let left = set.as_ref().or(old).filter(|left| left.store != profile.store).cloned();
    let (file, leaves) = (app.paths()?.config_file, left.clone());
    let is_news = set.as_ref() != Some(&saved);
    let save = move || {
        // To the end: the session and the profile belong together, and nobody changes the one without the other.
        let _lock = lock;
        if is_news { config::save(&file, &saved).map_err(Error::from) } else { Ok(()) }
    };
    let error = sessions.commit_login(profile, prepared, leaves, save).await?;
    Ok((left, error))
}
