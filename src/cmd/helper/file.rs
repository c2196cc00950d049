//! A token file, for programs that read one: a setting of the profile, which the agent and every refresh keep fresh.

use super::call::Call;
use super::protocol::Protocol;
use super::setup::{Change, TokenFile};
use crate::error::{Error, ErrorCode, Hint};

pub(super) struct File;

impl Protocol for File {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        Err(nothing_to_answer(call))
    }

    fn setup(&self, call: &Call<'_>) -> Result<Vec<Change>, Error> {
        Ok(vec![Change::TokenFile(Box::new(TokenFile::of(call)?))])
    }
}

/// Returns the error of a start without a mode, for a tool that reads a file and asks nothing.
pub(super) fn nothing_to_answer(call: &Call<'_>) -> Error {
    let tool = call.args.tool.name();
    let message = format!("`authctl helper {tool}` answers nothing: the program reads the token from a file");
    let hint = Hint::command("helper").with_argument(tool).with_flag("--setup");
    Error::msg(ErrorCode::Usage, message, call.for_profile(hint.clone()).unwrap_or(hint))
}
