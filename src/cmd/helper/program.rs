//! How tools start authctl.

use std::path::{Path, PathBuf};

use crate::app::App;
use crate::error::{Error, ErrorCode, Hint};
use crate::paths;

/// Returns the words with which the tool starts authctl: `authctl` if that is this program, else its path; and the
/// configuration, if this command has another one than usual.
///
/// # Errors
/// [`ErrorCode::Unexpected`] if the program does not exist any more.
pub(super) fn program(app: &App) -> Result<Vec<String>, Error> {
    let path = program_path(app)?;
    let mut dirs = std::env::split_paths(&app.environment.surroundings.search_path);
    let is_first = dirs.find(|dir| dir.join("authctl").exists()).is_some_and(|dir| dir.join("authctl") == path);
    let mut words = vec![if is_first { "authctl".to_owned() } else { path.display().to_string() }];
    if let Some(config) = app.common.config.as_ref().or(app.environment.config.as_ref()) {
        let config = std::path::absolute(config).map_err(|e| {
            let error = anyhow::Error::new(e).context(format!("cannot find {}", config.display()));
            Error::new(ErrorCode::Configuration, error, Hint::command("helper").with_flag("--help"))
        })?;
        words.extend(["--config".to_owned(), config.display().to_string()]);
    }
    Ok(words)
}

/// Returns the path of this program: the stable one where a package manager links to it.
///
/// # Errors
/// As [`program`].
pub(super) fn program_path(app: &App) -> Result<PathBuf, Error> {
    let program = std::env::current_exe().and_then(|program| program.canonicalize());
    let program = program.map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::shell("command -v authctl")))?;
    let started_as = std::env::args_os().next().map(PathBuf::from);
    Ok(paths::stable_link(program, &app.environment.surroundings.search_path, started_as))
}

/// Returns whether a program that a tool starts is authctl: this one, or one in another place, which need not exist any more. Its
/// name may have a version or a platform, as a download does.
pub(super) fn is_authctl(program: impl AsRef<Path>) -> bool {
    let program = program.as_ref();
    let is_this = || {
        let this = std::env::current_exe().and_then(|this| this.canonicalize());
        this.is_ok_and(|this| program.canonicalize().is_ok_and(|program| program == this))
    };
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == "authctl" || name.starts_with("authctl-") || name.starts_with("authctl_") || is_this()
}
