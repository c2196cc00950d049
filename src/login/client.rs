//! The client of a login, with its secret or its signing key.

use std::os::unix::fs::MetadataExt as _;

use super::{LoginNotice, LoginService, LoginUser, Supplied};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::is_private;
use crate::model::{ClientAuth, Grant, Profile, Session};
use crate::oauth::{Metadata, OAuthClient};
use crate::secret::Secret;

/// Returns an error before the first request if the client credentials grant has no secret and there is no terminal to
/// prompt for it.
///
/// # Errors
/// [`ErrorCode::LoginRequired`].
pub(super) fn require_secret(
    user: &impl LoginUser,
    profile: &Profile,
    previous: Option<&Session>,
    supplied: &Supplied,
) -> Result<(), Error> {
    let is_known = supplied.client_secret.is_some() || stored_secret(profile, previous).is_some();
    if is_known || !is_secret_grant(profile) || user.can_answer() { Ok(()) } else { Err(no_secret(user)) }
}

impl LoginService {
    /// Returns the client, with the supplied secret, else the one of the previous session, else one that the user types.
    pub(super) async fn client(
        &self,
        profile: &Profile,
        metadata: &Metadata,
        previous: Option<&Session>,
        supplied: Option<Secret>,
        user: &impl LoginUser,
    ) -> Result<OAuthClient, Error> {
        let needs_secret = profile.has_client_secret();
        let secret = match (supplied, stored_secret(profile, previous)) {
            (Some(supplied), _) => Some(supplied),
            (None, Some(stored)) if needs_secret => Some(stored.clone()),
            (None, _) if needs_secret && profile.grant != Grant::Token => {
                let typed = user.ask_client_secret(profile).await;
                Some(typed.filter(|secret| !secret.is_empty()).ok_or_else(|| no_secret(user))?)
            }
            (None, _) => None,
        };
        let client = self.sessions.client(profile, metadata, secret, None).await?;
        if profile.client_auth == ClientAuth::PrivateKeyJwt {
            warn_of_exposed_key(profile, user);
        }
        Ok(client)
    }
}

/// Warns if other users can read the client's key. It is not an error: container platforms mount secrets like this.
fn warn_of_exposed_key(profile: &Profile, user: &impl LoginUser) {
    let Some(file) = &profile.server.client_key.file else { return };
    if std::fs::metadata(file).is_ok_and(|about| !is_private(about.mode())) {
        user.notify(&LoginNotice::ClientKeyExposed(file.clone()));
    }
}

/// Returns whether the profile's grant requires a client secret.
fn is_secret_grant(profile: &Profile) -> bool {
    profile.grant == Grant::ClientCredentials && profile.client_auth != ClientAuth::PrivateKeyJwt
}

/// Returns the client secret of the previous session, if it is of the same client and issuer.
fn stored_secret<'a>(profile: &Profile, previous: Option<&'a Session>) -> Option<&'a Secret> {
    previous.filter(|session| session.belongs_to(profile))?.client_secret.as_ref()
}

fn no_secret(user: &impl LoginUser) -> Error {
    let hint = Hint::login().or_add(user.can_answer(), "pipe it in with --client-secret-stdin");
    Error::msg(ErrorCode::LoginRequired, "the client secret is missing", hint)
}
