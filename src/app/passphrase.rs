//! Asks for passphrases: at the terminal, or from stdin with `--passphrase-stdin`.

use std::io::IsTerminal as _;
use std::sync::Arc;

use super::App;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::StoreKind;
use crate::secret::Secret;
use crate::store::{AskPassphrase, StoreError, StoreKey};
use crate::ui::{self, AskInterrupted};

impl App {
    /// Returns the first line of stdin, for `--passphrase-stdin`. At a terminal, which would show it, a prompt asks instead.
    pub fn passphrase_from_stdin(&self) -> Option<Secret> {
        let read = || if std::io::stdin().is_terminal() { None } else { ui::read_stdin_secret() };
        self.piped_passphrase.get_or_init(read).clone()
    }

    /// Asks for a passphrase; returns `None` if no user can answer.
    ///
    /// # Errors
    /// [`ErrorCode::Interrupted`].
    pub fn ask_passphrase(&self, prompt: &str) -> Result<Option<Secret>, Error> {
        let (ui, prompt) = (self.ui(), prompt.to_owned());
        self.run(async {
            let asked = tokio::task::spawn_blocking(move || ui.ask_secret_anywhere(&prompt)).await;
            asked.unwrap_or(Err(AskInterrupted)).map_err(|AskInterrupted| Error::interrupted())
        })
    }

    /// Asks for a new passphrase, twice; returns `None` if none is entered, or a prompt is closed. `unchanged` is what stays as
    /// it is if the two differ.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] with `hint` if they differ, or [`ErrorCode::Interrupted`].
    pub fn ask_new_passphrase(&self, prompt: &str, unchanged: &str, hint: Hint) -> Result<Option<Secret>, Error> {
        let Some(new) = self.ask_passphrase(prompt)?.filter(|typed| !typed.is_empty()) else { return Ok(None) };
        let Some(second) = self.ask_passphrase("Repeat passphrase: ")? else { return Ok(None) };
        if second.expose() != new.expose() {
            return Err(Error::msg(ErrorCode::Usage, format!("the passphrases differ; {unchanged}"), hint));
        }
        Ok(Some(new))
    }

    /// Returns why no passphrase was entered at the terminal.
    #[must_use]
    pub fn why_no_passphrase(&self) -> &'static str {
        match self.ui().is_interactive() {
            true => "no passphrase was entered",
            false => "a passphrase is required, and there is no terminal",
        }
    }

    /// Asks for the passphrase of the file store now, if it has one.
    ///
    /// # Errors
    /// If it is not entered, or wrong.
    pub fn unlock_store(&self) -> Result<(), Error> {
        self.sessions()?.file_key().map_or(Ok(()), |key| Ok(key.check()?))
    }

    /// Returns whether a profile uses the file store and that has a passphrase.
    ///
    /// # Errors
    /// As [`App::config`] and [`App::sessions`].
    pub fn uses_sealed_store(&self) -> Result<bool, Error> {
        let is_used = self.config()?.profiles.values().any(|profile| profile.store == StoreKind::File);
        Ok(is_used && self.sessions()?.file_key().map_or(Ok(false), StoreKey::is_sealed)?)
    }

    /// Returns what the file store calls when it needs its passphrase.
    pub(super) fn passphrase_prompt(&self) -> AskPassphrase {
        let (ui, piped) = (self.ui(), self.common.passphrase_stdin.then(|| self.passphrase_from_stdin()).flatten());
        Arc::new(move || match &piped {
            Some(piped) => Ok(piped.clone()),
            None => match ui.ask_secret_anywhere("Passphrase of the file store: ") {
                Ok(typed) => typed.filter(|typed| !typed.is_empty()).ok_or(StoreError::Sealed),
                Err(AskInterrupted) => Err(StoreError::Interrupted),
            },
        })
    }
}
