//! The client that logs in: with its secret from stdin, from the session that is there or typed, or with its key.

use std::os::unix::fs::MetadataExt as _;

use super::input::Input;
use crate::app::App;
use crate::cli::Login;
use crate::error::{Error, ErrorCode};
use crate::model::{ClientAuth, Grant, Profile, Session};
use crate::oauth::{Client, Metadata};
use crate::secret::Secret;
use crate::session::SessionService;
use crate::ui::{sanitize_for_terminal, shell_word};

/// Refuses a client that logs in by itself where its secret is not at hand and nobody can type it, before anything is
/// asked of the issuer.
///
/// # Errors
/// [`ErrorCode::LoginRequired`].
pub(super) fn has_proof(
    app: &App,
    args: &Login,
    profile: &Profile,
    stored: Option<&Session>,
    input: &Input,
) -> Result<(), Error> {
    let grant = args.grant().unwrap_or(profile.grant);
    let at_hand = input.client_secret.is_some() || kept_secret(profile, stored).is_some();
    if at_hand || !is_alone(profile, grant) || app.ui().is_human() { Ok(()) } else { Err(nobody_typed_it()) }
}

/// The client, with its secret from stdin, else from the present session, else asked for; or with the key that it signs with.
pub(super) async fn client(
    app: &App,
    sessions: &SessionService,
    profile: &Profile,
    metadata: &Metadata,
    stored: Option<&Session>,
    input: &Input,
) -> Result<Client, Error> {
    let needs_secret = profile.client_auth.needs_secret() || is_alone(profile, profile.grant);
    let secret = match (&input.client_secret, kept_secret(profile, stored)) {
        (Some(given), _) => Some(given.clone()),
        (None, Some(kept)) if needs_secret => Some(kept.clone()),
        (None, _) if needs_secret && profile.grant != Grant::Token => {
            let asked = app
                .ask_secret(&format!("Secret of the client {}: ", sanitize_for_terminal(&profile.client_id, 80)))
                .await;
            Some(asked.filter(|secret| !secret.is_empty()).ok_or_else(nobody_typed_it)?)
        }
        (None, _) => None,
    };
    let client = sessions.client(profile, metadata, secret)?;
    if profile.client_auth == ClientAuth::PrivateKeyJwt {
        tell_of_readers(app, profile);
    }
    Ok(client)
}

/// Tells where others can read the key that the client signs with. Not refused: what a container mounts is often so.
fn tell_of_readers(app: &App, profile: &Profile) {
    let Some(file) = &profile.server.client_key.file else { return };
    if std::fs::metadata(file).is_ok_and(|about| about.mode() & 0o077 != 0) {
        let path = file.display().to_string();
        app.ui().tell(&format!(
            "Others on this machine can read the client's key. To end that: chmod 600 {}",
            shell_word(&sanitize_for_terminal(&path, 400))
        ));
    }
}

/// Whether the client logs in by itself, and with a secret.
fn is_alone(profile: &Profile, grant: Grant) -> bool {
    grant == Grant::ClientCredentials && profile.client_auth != ClientAuth::PrivateKeyJwt
}

/// The secret of the present session, where that is this client's at this issuer.
fn kept_secret<'a>(profile: &Profile, stored: Option<&'a Session>) -> Option<&'a Secret> {
    let ours = |session: &&Session| session.client_id == profile.client_id && session.issuer == profile.issuer;
    stored.filter(ours)?.client_secret.as_ref()
}

fn nobody_typed_it() -> Error {
    Error::msg(
        ErrorCode::LoginRequired,
        "the client's secret is needed, and nobody typed it",
        "type it when asked, or pipe it to the same command with --client-secret-stdin",
    )
}
