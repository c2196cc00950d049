//! From a checked sign-in to a session that is kept: what may be in its way is asked about or refused, and nothing that was
//! set meanwhile is lost.

use std::sync::Arc;
use std::time::Duration;

use super::named;
use super::profile::{Preset, laid_over};
use crate::app::App;
use crate::broker::{Broker, BrokerError, PreparedLogin};
use crate::cli::Login;
use crate::cmd::output::shell_word;
use crate::config::{self, Config};
use crate::failure::{Failure, Kind};
use crate::model::{Grant, PinnedKeys, Profile, Session};
use crate::ui::harmless;

/// How long a login waits for the configuration: as long as another may hold it that waits for a renewal of its own.
const KEEP_LIMIT: Duration = Duration::from_secs(100);

/// The keys that were pinned for the profile in the store that it was kept in before: they are the user's word, and move with
/// it. Those of a store that is not there cannot, which is told: a login in another store is the way out of that.
///
/// # Errors
/// Where they are there and cannot be read: those that the issuer publishes are not trusted in their place unasked.
pub(super) async fn pins_elsewhere(
    app: &App,
    broker: &Broker,
    before: &Config,
    profile: &Profile,
) -> Result<Option<PinnedKeys>, Failure> {
    let Some(old) = before.profiles.get(&profile.name) else { return Ok(None) };
    if old.store == profile.store || old.issuer != profile.issuer {
        return Ok(None);
    }
    let error = match broker.trust(old).await {
        Ok(trust) => return Ok(trust.pinned),
        Err(error) => error,
    };
    // After these `keys unpin` drops what is there.
    let lost = match &error {
        BrokerError::Trust { .. } => true,
        BrokerError::Store(error) => error.session_lost(),
        _ => false,
    };
    if !lost {
        app.ui().tell(&format!(
            "The {} store cannot be read ({error}): if keys of {} were pinned there, pin them again with `authctl keys pin {} --jwks \
             FILE`.",
            old.store, profile.issuer, profile.name
        ));
        return Ok(None);
    }
    let hint = "`authctl keys unpin{profile}` drops what was pinned there; or pin the keys again with --jwks FILE";
    let failure = Failure::from(error);
    let error = failure.error.context(format!("keys may be pinned in the {} store, and cannot be read", old.store));
    Err(Failure { error, hint: hint.to_owned(), ..failure })
}

/// The profile as it is set by now: somebody may have signed in for minutes.
///
/// # Errors
/// [`Kind::Usage`] where it was led to another issuer or client meanwhile: the session is not that one's.
pub(super) async fn set_meanwhile(
    app: &App,
    broker: &Broker,
    before: &Config,
    profile: &Profile,
    prepared: &PreparedLogin,
) -> Result<Option<Profile>, Failure> {
    let set = app.config()?.profiles.get(&profile.name).cloned();
    let same = |one: &Profile, other: &Profile| one.issuer == other.issuer && one.client_id == other.client_id;
    let old = before.profiles.get(&profile.name);
    match set {
        Some(set) if !same(&set, profile) && !old.is_some_and(|old| same(&set, old)) => {
            discard(broker, profile, prepared).await;
            Err(led_elsewhere(&set, profile))
        }
        set => Ok(set),
    }
}

fn led_elsewhere(set: &Profile, profile: &Profile) -> Failure {
    let client = |profile: &Profile| format!("the client {} at {}", harmless(&profile.client_id, 80), profile.issuer);
    Failure::said(
        Kind::Usage,
        format!(
            "the profile `{}` was changed meanwhile: it is for {} now, and you have signed in to {}, which is not kept",
            profile.name,
            client(set),
            client(profile)
        ),
        format!(
            "run `authctl login{{profile}}` to log in as the profile says now, or use another name: `authctl login NAME \
             --issuer {} --client-id {}`",
            shell_word(profile.issuer.as_str()),
            shell_word(&harmless(&profile.client_id, 400))
        ),
    )
    .coded("profile_changed")
}

/// Tells whose session would be replaced, and asks; without somebody to ask, only `--replace` goes on.
///
/// # Errors
/// Where it is to stay.
pub(super) async fn ask_before_replacing(
    app: &App,
    args: &Login,
    broker: &Broker,
    profile: &Profile,
    prepared: &PreparedLogin,
    stored: Option<&Session>,
) -> Result<(), Failure> {
    let Some(stored) = stored.filter(|stored| prepared.replaces_another(stored)) else { return Ok(()) };
    let old = named(&stored.subject, stored.issuer.as_str());
    let new = named(&prepared.session().subject, profile.issuer.as_str());
    app.ui().tell(&format!("The profile `{}` holds a session of {old}. You have signed in as {new}.", profile.name));
    if args.replace {
        return Ok(());
    }
    match app.confirm("Replace it?").await {
        Some(true) => Ok(()),
        answer => {
            discard(broker, profile, prepared).await;
            let message = format!("the session of {old} was kept");
            Err(match answer {
                Some(_) => Failure::said(Kind::Interrupted, message, "use another profile name for the other account"),
                None => Failure::said(
                    Kind::Usage,
                    format!("signed in as {new}, but {message}"),
                    "add --replace to replace it, or use another profile name for the other account",
                )
                .coded("other_subject"),
            })
        }
    }
}

/// Ends what is not kept.
async fn discard(broker: &Broker, profile: &Profile, prepared: &PreparedLogin) {
    // Tokens that were handed in are somebody else's to end.
    if prepared.session().grant != Grant::Token {
        broker.discard(profile, prepared.session()).await;
    }
}

/// Stores the session, saves the profile, and removes what is left in a store that it is no longer kept in.
///
/// # Errors
/// As [`set_meanwhile`], and where the session cannot be stored or the profile not saved.
pub(super) async fn keep(
    app: &App,
    broker: &Arc<Broker>,
    (args, preset): (&Login, Preset),
    before: &Config,
    profile: &Profile,
    prepared: PreparedLogin,
) -> Result<Session, Failure> {
    let old = before.profiles.get(&profile.name);
    // To the end: the session and the profile in the configuration belong together.
    let lock = match app.lock_config(KEEP_LIMIT).await {
        Ok(lock) => lock,
        Err(failure) => {
            discard(broker, profile, &prepared).await;
            return Err(failure);
        }
    };
    let set = set_meanwhile(app, broker, before, profile, &prepared).await?;
    // What was set meanwhile is kept, and what was removed is there again.
    let saved = match &set {
        Some(set) if old != Some(set) => {
            let (grant, client_auth, store) = (profile.grant, profile.client_auth, profile.store);
            Profile { grant, client_auth, store, ..laid_over(args, preset, set.clone())? }
        }
        _ => profile.clone(),
    };
    let lost = prepared.lost_trust();
    let session = broker.commit_login(profile, prepared).await?;
    if lost {
        app.ui().tell(&format!(
            "What was kept of the keys of {} could not be read and is dropped: pin again what was pinned.",
            profile.issuer
        ));
    }
    if set.as_ref() != Some(&saved) {
        config::save(&app.paths()?.config_file, &saved)?;
    }
    drop(lock);
    if let Some(left) = set.as_ref().or(old).filter(|left| left.store != profile.store)
        && let Err(error) = broker.forget(left).await
    {
        app.ui().tell(&format!("The old session is still in the {} store: {error}", left.store));
    }
    Ok(session)
}
