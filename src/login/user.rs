//! The user's side of a login: what a login asks and shows.

use std::path::PathBuf;

use crate::error::Error;
use crate::model::{Grant, Profile, ProfileName, StoreKind, Subject};
use crate::oauth::{Endpoint, Metadata, OAuthClient};
use crate::secret::Secret;
use crate::session::{NewLogin, SessionError};
use crate::text::excerpt;

/// The user's side of a login: the sign-in itself, and the questions that only the user can answer.
pub trait LoginUser {
    /// Returns whether the user can answer questions.
    fn can_answer(&self) -> bool;

    /// Returns the endpoints that the sign-in with the profile's grant may need, before the metadata is known.
    fn endpoints(&self, profile: &Profile) -> Vec<Endpoint>;

    /// Returns the profile's grant, or another one if that cannot be used here and the issuer offers the other.
    fn choose_grant(&self, profile: &Profile, metadata: &Metadata) -> Grant;

    /// Signs in with the profile's grant, and returns the tokens.
    async fn sign_in(
        &mut self,
        profile: &Profile,
        metadata: &Metadata,
        client: &OAuthClient,
    ) -> Result<NewLogin, Error>;

    /// Asks for the client secret.
    async fn ask_client_secret(&self, profile: &Profile) -> Option<Secret>;

    /// Asks whether to replace a session of another account; `None` if the user cannot answer.
    async fn confirm_replacement(&self) -> Option<bool>;

    /// Shows a notice.
    fn notify(&self, notice: &LoginNotice<'_>);

    /// Has an agent that cannot store a refreshed session of the profile leave its lock to this login.
    fn release_unsaved(&self, profile: &ProfileName);

    /// Awaits `work`, and shows what is waited for if it takes long.
    async fn wait_for<T>(&self, what: &str, work: impl Future<Output = T>) -> T;
}

/// What a user is shown during a login.
pub enum LoginNotice<'a> {
    /// Another login to the profile is running, and this one waits for it.
    OtherLoginRunning(&'a ProfileName),
    /// Other users can read the private key of the client.
    ClientKeyExposed(PathBuf),
    /// The keys that were pinned in the profile's previous store cannot be read.
    PinnedKeysLost(&'a Profile, StoreKind),
    /// The profile has a session of another account.
    OtherAccount {
        /// The profile.
        profile: &'a ProfileName,
        /// The account of the session.
        stored: String,
        /// The account that has just signed in.
        new: String,
    },
    /// The session in the profile's previous store could not be deleted.
    PreviousSessionRemains(StoreKind, SessionError),
    /// The damaged record of the issuer's keys was replaced.
    TrustReset(&'a Profile),
}

/// Describes an account for display.
#[must_use]
pub fn account(subject: Option<&Subject>, issuer: &str) -> String {
    match subject {
        Some(Subject { name: Some(name), .. }) => format!("{} at {issuer}", excerpt(name, 80)),
        Some(Subject { sub, name: None }) => format!("{} at {issuer}", excerpt(sub, 80)),
        None => format!("an unknown user at {issuer}"),
    }
}
