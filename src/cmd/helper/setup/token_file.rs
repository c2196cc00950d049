//! The setting of a profile for a token file.

use std::path::{Path, PathBuf};

use crate::cmd::helper::call::Call;
use crate::config::{self, setting};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{directory_of, token_file};
use crate::model::Profile;
use crate::text::shell_word;

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
    pub(crate) fn shown(&self) -> Vec<String> {
        let setting = shell_word(&format!("{}={}", self.key, self.path.display()));
        vec![
            format!("authctl profile set {} {setting}", self.profile.name),
            "authctl agent start  # keeps the file fresh".to_owned(),
        ]
    }

    /// Returns whether setting the file up, or undoing that, changes the profile.
    pub(crate) fn is_change(&self, call: &Call<'_>, add: bool) -> Result<bool, Error> {
        let name = &self.profile.name;
        let other = self.configured.as_ref().filter(|configured| **configured != self.path);
        if !add {
            return Ok(self.configured.is_some() && other.is_none());
        }
        if let Some(other) = other {
            let message = format!("`{name}` keeps its token in {}", other.display());
            let tool = call.args.tool.name();
            let hint = Hint::command("helper").with_argument(tool).with_flag("--remove");
            let hint = if call.args.id_token { hint.with_flag("--id-token") } else { hint };
            return Err(Error::msg(ErrorCode::Configuration, message, hint.with_option("--profile", name.as_str())));
        }
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
            app.ui().notice("no agent is running; to keep the file fresh, run `authctl agent start`");
        }
        let kept = if add { "is kept" } else { "is no longer kept" };
        Ok(format!("the token of {} {kept} in {}", self.profile.name, self.path.display()))
    }
}

fn refused(path: &Path, error: impl Into<anyhow::Error>) -> Error {
    let error = error.into().context(format!("cannot keep a token in {}", path.display()));
    Error::new(ErrorCode::Configuration, error, Hint::list(path))
}
