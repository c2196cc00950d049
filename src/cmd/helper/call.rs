//! One start of the helper by a tool: what it asks with, and the token that it gets.

use std::io::{self, Read as _};

use serde_json::Value;

use crate::agent::protocol::TokenResponse;
use crate::app::App;
use crate::cli::{Helper, Token};
use crate::clock::UnixTime;
use crate::cmd::token;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ProfileName, ToolHost};
use crate::paths::tool_variable;

/// The most that a tool may write, in bytes.
pub(super) const MAX_INPUT: u64 = 64 * 1024;

/// The user name beside a token, for tools that want one. Servers that take tokens as passwords ignore it or expect this.
pub(super) const USERNAME: &str = "oauth2";

/// One start of the helper by a tool.
pub(super) struct Call<'a> {
    pub(super) app: &'a App,
    pub(super) args: &'a Helper,
}

/// A token for a tool.
pub(super) struct ToolToken<'a> {
    pub(super) text: &'a str,
    pub(super) expires_at: Option<UnixTime>,
}

/// Returns an error and what to do next, for a tool that shows its user one line.
pub(super) fn error_and_hint(error: &Error) -> String {
    match (error.hint.is_command(), error.hint.to_string()) {
        (_, hint) if hint.is_empty() => error.message(),
        (true, hint) => format!("{}; run: {hint}", error.message()),
        (false, hint) => format!("{}; {hint}", error.message()),
    }
}

impl Call<'_> {
    /// Returns the words of the tool.
    pub(super) fn words(&self) -> Vec<&str> {
        self.args.words.iter().map(String::as_str).collect()
    }

    /// Adds the profile of this call to a command.
    pub(super) fn for_profile(&self, hint: Hint) -> Result<Hint, Error> {
        Ok(hint.with_option("--profile", self.app.profile(None)?.name.as_str()))
    }

    /// Returns the command that sets up the profile's token file.
    pub(super) fn write_token_file(&self) -> Result<String, Error> {
        let hint = Hint::command("helper").with_argument("file").with_flag("--write");
        let hint = if self.args.id_token { hint.with_flag("--id-token") } else { hint };
        Ok(self.app.next_command(self.for_profile(hint)?))
    }

    /// Returns the error of words that the tool's protocol does not have.
    pub(super) fn unknown_words(&self) -> Error {
        let message = match self.args.words.join(" ") {
            none if none.is_empty() => "no request was given".to_owned(),
            words => format!("unknown request `{words}`"),
        };
        Error::msg(ErrorCode::Usage, message, Hint::command("helper").with_flag("--help"))
    }

    /// Returns the profile whose set-up is shown, made or undone. For the last one, it need not exist any more.
    pub(super) fn profile_of_set_up(&self) -> Result<ProfileName, Error> {
        match &self.app.common.profile {
            Some(name) if self.args.remove => Ok(name.clone()),
            _ => Ok(self.app.profile(None)?.name),
        }
    }

    /// Returns what the tool wrote to stdin.
    pub(super) fn stdin(&self) -> Result<String, Error> {
        let mut text = Vec::new();
        let read = io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut text);
        read.map_err(|e| unreadable(anyhow::Error::new(e).context("reading stdin")))?;
        if text.len() as u64 > MAX_INPUT {
            return Err(unreadable(anyhow::anyhow!("stdin has more than {MAX_INPUT} bytes")));
        }
        String::from_utf8(text).map_err(|_| unreadable(anyhow::anyhow!("stdin is not text")))
    }

    /// Returns the profile whose tokens are for the host; `None` if there is none.
    pub(super) fn profile_for(&self, host: &ToolHost) -> Result<Option<ProfileName>, Error> {
        let config = self.app.config()?;
        let listing = config.profiles.values().filter(|profile| profile.hosts.contains(host));
        self.app.profile_among(
            &config,
            listing.map(|profile| &profile.name).collect(),
            self.app.common.profile.as_ref(),
            host,
        )
    }

    /// Calls `answer` with a valid token of the profile, or of the effective one; returns its exit code.
    pub(super) fn with_token(
        &self,
        profile: Option<ProfileName>,
        id_token: bool,
        answer: &dyn Fn(&ToolToken<'_>) -> Result<u8, Error>,
    ) -> Result<u8, Error> {
        let args = Token { profile, id_token: id_token || self.args.id_token, ..Token::default() };
        token::with_token(self.app, &args, &|app: &App, _: &Token, response: &TokenResponse<'_>| {
            if let (Some(profile), Some(warning)) = (response.profile, &response.warning) {
                token::report_warning(app, profile, warning);
            }
            token::require_bearer(app, response.profile, response.token_type)?;
            answer(&ToolToken { text: token::sendable(response)?, expires_at: response.expires_at })
        })
    }

    /// Returns what a tool has put into an environment variable as JSON; `None` if it is not set.
    pub(super) fn json_variable(&self, name: &str) -> Result<Option<Value>, Error> {
        let text = tool_variable(name);
        text.map(|text| {
            serde_json::from_str(&text).map_err(|e| unreadable(anyhow::Error::new(e).context(name.to_owned())))
        })
        .transpose()
    }
}

pub(super) fn unreadable(error: anyhow::Error) -> Error {
    Error::new(ErrorCode::Usage, error, Hint::command("helper").with_flag("--help"))
}

/// Returns the error of something that belongs to others and is in the way.
pub(super) fn foreign(message: String, hint: Hint) -> Error {
    Error::msg(ErrorCode::Configuration, message, hint)
}
