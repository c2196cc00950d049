//! The setting of a profile for a token file.

use std::path::{Path, PathBuf};

use crate::app::App;
use crate::cmd::helper::call::Call;
use crate::config::{self, setting};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{directory_of, token_file};
use crate::model::Profile;

/// The token file of a profile.
#[derive(Clone)]
pub(crate) struct TokenFile {
    profile: Profile,
    /// The setting with its path.
    key: &'static str,
    pub(crate) path: PathBuf,
    /// The path that the setting has.
    configured: Option<PathBuf>,
}

impl TokenFile {
    /// Returns the file that the command line names, else the profile's, else a default one.
    pub(crate) fn of(call: &Call<'_>) -> Result<Self, Error> {
        let app = call.app;
        let profile = app.profile(None)?;
        let (key, configured) = match call.args.id_token {
            true => ("id_token_file", profile.id_token_file.clone()),
            false => ("token_file", profile.token_file.clone()),
        };
        let path = match (call.words()[..].first(), &configured) {
            _ if call.words().len() > 1 => return Err(call.unknown_words()),
            (Some(named), _) => std::path::absolute(named).map_err(|e| refused(Path::new(named), e))?,
            (None, Some(configured)) => configured.clone(),
            (None, None) => {
                let suffix = if call.args.id_token { "id-token" } else { "token" };
                directory_of(&app.paths()?.agent_socket).join(format!("{}.{suffix}", profile.name))
            }
        };
        Ok(Self { profile, key, path, configured })
    }

    /// Returns what the user would do, in lines.
    pub(crate) fn shown(&self, app: &App) -> Vec<String> {
        let setting = format!("{}={}", self.key, self.path.display());
        let set = Hint::command("profile set").with_argument(self.profile.name.as_str()).with_argument(setting);
        let start = app.next_command(Hint::command("agent start"));
        vec![app.next_command(set), format!("{start}  # refreshes the token in the file")]
    }

    /// Returns whether setting the file up, or undoing that, changes the profile.
    pub(crate) fn is_change(&self, call: &Call<'_>, add: bool) -> Result<bool, Error> {
        let name = &self.profile.name;
        let other = self.configured.as_ref().filter(|configured| **configured != self.path);
        if !add {
            return Ok(self.configured.is_some() && other.is_none());
        }
        if let Some(other) = other {
            let message = format!("the token of `{name}` is written to {}", other.display());
            let tool = call.args.tool.name();
            let hint = Hint::command("helper").with_argument(tool).with_flag("--remove");
            let hint = if call.args.id_token { hint.with_flag("--id-token") } else { hint };
            return Err(Error::msg(ErrorCode::Configuration, message, hint.with_option("--profile", name.as_str())));
        }
        let mut profile = self.profile.clone();
        setting(self.key)?.set(&mut profile, &[self.path.to_string_lossy().into_owned()])?;
        call.app.config()?.check_token_files(&profile)?;
        token_file::check(&self.path).map_err(|e| refused(&self.path, e))?;
        Ok(self.configured.is_none())
    }

    /// Sets the file up, or undoes that; returns what was done.
    pub(crate) fn set(&self, call: &Call<'_>, add: bool) -> Result<String, Error> {
        let app = call.app;
        app.run(async {
            let _lock = app.lock_config().await?;
            let config = app.config()?;
            let before = config.profile(&self.profile.name)?;
            let mut profile = before.clone();
            let path = self.path.to_string_lossy().into_owned();
            setting(self.key)?.set(&mut profile, &[path][..usize::from(add)])?;
            config.check_locks(&profile)?;
            config::save(&app.paths()?.config, &profile)?;
            app.move_token_files(before, &profile).await?;
            app.notify_agent(&profile.name);
            Ok(())
        })?;
        if add && app.running_agent()?.is_none() {
            let start = app.next_command(Hint::command("agent start"));
            app.ui().notice(&format!("no agent is running; to have the token in the file refreshed, run `{start}`"));
        }
        let done = if add { "is written" } else { "is no longer written" };
        Ok(format!("the token of {} {done} to {}", self.profile.name, self.path.display()))
    }
}

fn refused(path: &Path, error: impl Into<anyhow::Error>) -> Error {
    let error = error.into().context(format!("cannot write a token to {}", path.display()));
    Error::new(ErrorCode::Configuration, error, Hint::list(path))
}
