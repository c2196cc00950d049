//! The protocol of a tool, as each tool's file implements it.

use super::call::Call;
use super::setup::Change;
use crate::app::App;
use crate::error::Error;
use crate::model::ProfileName;

/// The protocol of a tool.
pub(super) trait Protocol {
    /// Answers the tool on stdout; returns the exit code.
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error>;

    /// Returns the form in which the tool learns of an error: the text on stdout and the exit code. The error is on stderr as
    /// well, unless the tool shows what is on stdout.
    fn failure(&self, error: &Error) -> Failure {
        Failure { stdout: None, code: error.code.exit_code(), on_stderr: true }
    }

    /// Returns what the set-up of the tool changes.
    fn setup(&self, call: &Call<'_>) -> Result<Vec<Change>, Error>;

    /// Returns where the tool's configuration names the profile `old`, each with the command that has it name `new` or, without
    /// one, nothing. Most tools name a host instead.
    fn places_of(
        &self,
        _app: &App,
        _old: &ProfileName,
        _new: Option<&ProfileName>,
    ) -> Result<Vec<(String, String)>, Error> {
        Ok(Vec::new())
    }
}

/// How a tool learns of an error.
pub(super) struct Failure {
    pub(super) stdout: Option<String>,
    pub(super) code: u8,
    pub(super) on_stderr: bool,
}
