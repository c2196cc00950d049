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
            (Some(&""), _) => return Err(Error::msg(ErrorCode::Usage, "the path of the file is empty", help())),
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
        call.app.run(call.app.check_new_token_files(&self.profile, &profile))?;
        token_file::check(&self.path).map_err(|e| refused(&self.path, e))?;
        Ok(self.configured.is_none())
    }

    /// Sets the file up, or undoes that.
    pub(crate) fn set(&self, call: &Call<'_>, add: bool) -> Result<(), Error> {
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
        if !add {
            app.ui().notice(&format!(
                "the token of {} is no longer written to {}",
                self.profile.name,
                self.path.display()
            ));
        }
        Ok(())
    }

    /// Makes sure that the file has the token, refreshed if needed.
    ///
    /// # Errors
    /// Why it has none.
    pub(crate) fn fill(&self, call: &Call<'_>) -> Result<(), Error> {
        let (app, name, path) = (call.app, &self.profile.name, self.path.display());
        let filled = call.with_token(Some(name.clone()), false, &|_| Ok(0)).and_then(|_| {
            let profile = app.profile(Some(name))?;
            let mut failed = app.run(async {
                app.sessions()?.update_token_files(&profile).await;
                Ok(app.sessions()?.take_failed_token_files())
            })?;
            if let Some(reason) = failed.remove(&self.path) {
                let hint = Hint::command("status").with_argument(name.as_str());
                return Err(Error::msg(ErrorCode::Unexpected, format!("cannot write {path}: {reason}"), hint));
            }
            match token_file::read(&self.path).map_err(|e| refused(&self.path, e))? {
                Some(found) if !found.is_empty() => Ok(()),
                _ => {
                    let hint = Hint::command("status").with_argument(name.as_str());
                    Err(Error::msg(ErrorCode::Unexpected, format!("no token was written to {path}"), hint))
                }
            }
        });
        if filled.is_err() {
            app.ui().notice(&format!("{path} is the token file of {name}, but has no valid token"));
        }
        filled
    }

    /// Returns what a file that has the token is reported as.
    pub(crate) fn done(&self) -> String {
        format!("the token of {} is written to {}", self.profile.name, self.path.display())
    }
}

fn help() -> Hint {
    Hint::command("helper").with_flag("--help")
}

fn refused(path: &Path, error: impl Into<anyhow::Error>) -> Error {
    let error = error.into().context(format!("cannot write a token to {}", path.display()));
    Error::new(ErrorCode::Configuration, error, Hint::list(path))
}
