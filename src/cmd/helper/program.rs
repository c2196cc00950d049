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
/// name may have a version or a platform, as a download does; a user's own `authctl-work.sh` is another program.
pub(super) fn is_authctl(program: impl AsRef<Path>) -> bool {
    let program = program.as_ref();
    let is_this = || {
        let this = std::env::current_exe().and_then(|this| this.canonicalize());
        this.is_ok_and(|this| program.canonicalize().is_ok_and(|program| program == this))
    };
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_download = || {
        let words = name.strip_prefix("authctl").and_then(|rest| rest.strip_prefix(['-', '_']));
        words.is_some_and(|words| words.split(['-', '_']).any(is_version_or_platform))
    };
    name == "authctl" || is_download() || is_this()
}

fn is_version_or_platform(word: &str) -> bool {
    let platforms = ["linux", "darwin", "macos", "apple", "x86", "amd64", "arm64", "aarch64"];
    word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit()) || platforms.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn download_is_authctl_and_a_wrapper_of_the_user_is_not() {
        for name in ["authctl", "authctl-0.1.0", "authctl_v0.1.0_linux_amd64", "authctl-linux-arm64", "authctl-x86_64"]
        {
            assert!(is_authctl(format!("/no/such/{name}")), "{name}");
        }
        for name in ["authctl-work.sh", "authctl-wrapper", "authctl_", "authctlx", "my-authctl-0.1.0", "sh"] {
            assert!(!is_authctl(format!("/no/such/{name}")), "{name}");
        }
    }
}
