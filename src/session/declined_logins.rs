//! The logins that the user has declined when the agent asked for them: an agent that is started again does not ask again.

use std::path::PathBuf;

use super::SessionService;
use crate::fs::{create_private_dir, directory_of, regular_file, replace, unblock};
use crate::model::Profile;

/// The maximum size of a record in bytes: more than the identifier of a login.
const MAX_BYTES: u64 = 256;

impl SessionService {
    /// Returns whether the user has declined to log in again after the session of `login`.
    pub async fn is_login_declined(&self, profile: &Profile, login: &str) -> bool {
        let file = self.declined_login(profile);
        let recorded = unblock(profile.name.as_str(), move || regular_file::read(&file, MAX_BYTES)).await;
        recorded.is_ok_and(|recorded| recorded.is_ok_and(|recorded| recorded.expose() == login.as_bytes()))
    }

    /// Records that the user has declined to log in again after the session of `login`.
    pub async fn decline_login(&self, profile: &Profile, login: &str) {
        let (file, login) = (self.declined_login(profile), login.to_owned());
        let record =
            move || create_private_dir(directory_of(&file)).and_then(|()| replace(&file, login.as_bytes(), 0o600));
        if let Ok(Err(error)) | Err(error) = unblock(profile.name.as_str(), record).await {
            tracing::warn!("{}: cannot record that the login was declined: {error}", profile.name);
        }
    }

    /// Returns the file with the session's login, beside the locks of its store.
    fn declined_login(&self, profile: &Profile) -> PathBuf {
        self.locks.of(profile.store).with_file_name("declined-logins").join(profile.name.as_str())
    }
}
