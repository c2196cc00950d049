//! The token files of a profile whose settings change.

use std::sync::Arc;

use super::App;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::Profile;

impl App {
    /// Checks the token files that a change of its settings gives a profile.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] if one is another setting's, cannot be written, or would replace what authctl has not
    /// written.
    pub async fn check_new_token_files(&self, before: &Profile, after: &Profile) -> Result<(), Error> {
        if (&before.token_file, &before.id_token_file) == (&after.token_file, &after.id_token_file) {
            return Ok(());
        }
        self.config()?.check_token_files(after)?;
        let checked = self.sessions()?.check_new_token_files(before, after).await;
        checked.map_err(|(path, error)| {
            let error = anyhow::Error::new(error).context(format!("cannot write a token to {}", path.display()));
            Error::new(ErrorCode::Configuration, error, Hint::list(&path))
        })
    }

    /// Moves the token of a profile whose settings have changed to the files that it has now.
    ///
    /// # Errors
    /// As [`App::sessions`].
    pub async fn move_token_files(&self, before: &Profile, after: &Profile) -> Result<(), Error> {
        if (&before.token_file, &before.id_token_file) != (&after.token_file, &after.id_token_file) {
            let sessions = self.sessions()?;
            sessions.remove_former_token_files(before, &[Arc::new(after.clone())]).await;
            sessions.update_token_files(after).await;
        }
        Ok(())
    }
}
