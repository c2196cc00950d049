//! What the environment says, and where authctl's files are: read once, here, and handed down.

use std::env;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

use crate::secret::Secret;

/// The environment variables that authctl obeys, as they were when it started. Empty ones count as unset.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `AUTHCTL_PROFILE`: the profile where none is named.
    pub profile: Option<String>,
    /// `AUTHCTL_CONFIG`: the configuration file.
    pub config: Option<PathBuf>,
    /// `AUTHCTL_STORE`: the store for new profiles.
    pub store: Option<String>,
    /// `AUTHCTL_KEY_FILE`: the age identity that the `file` store seals to.
    pub key_file: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY`: where systemd puts a service's credentials.
    pub credentials_directory: Option<PathBuf>,
    /// `AUTHCTL_NO_INPUT`: never ask anybody anything.
    pub no_input: bool,
    /// `AUTHCTL_TOKEN`: an access token handed in, used as it is.
    pub token: Option<Secret>,
    /// `NO_COLOR`, or `TERM=dumb`.
    pub no_color: bool,
    /// `CLICOLOR_FORCE`: colour even where the output is no terminal.
    pub force_color: bool,
    /// `TERM=dumb`: a terminal without cursor movement.
    pub dumb_terminal: bool,
    /// A graphical session is there to open a browser in, or `BROWSER` names one.
    pub has_browser: bool,
    /// `SSH_CONNECTION` or `SSH_TTY`: the person sits at another machine.
    pub over_ssh: bool,
    /// `AUTHCTL_SOCK`: the agent's socket.
    pub agent_socket: Option<PathBuf>,
    /// The directory that authctl was started in.
    pub directory: Option<PathBuf>,
    /// Those of `XDG_CONFIG_HOME` and `XDG_DATA_HOME` that are whole paths; others count as unset.
    pub base_directories: Vec<(&'static str, PathBuf)>,
}

#[allow(clippy::disallowed_methods, reason = "the room that the ban points to")]
impl Environment {
    /// Reads the process's environment.
    #[must_use]
    pub fn capture() -> Self {
        let os = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| os(name).and_then(|value| value.into_string().ok());
        let flag = |name: &str| text(name).is_some_and(|value| !matches!(value.as_str(), "0" | "false" | "no"));
        let dumb = text("TERM").as_deref() == Some("dumb");
        let display = cfg!(target_os = "macos") || os("DISPLAY").is_some() || os("WAYLAND_DISPLAY").is_some();
        Self {
            profile: text("AUTHCTL_PROFILE"),
            config: os("AUTHCTL_CONFIG").map(PathBuf::from),
            store: text("AUTHCTL_STORE"),
            key_file: os(KEY_FILE_VARIABLE).map(PathBuf::from),
            credentials_directory: os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            no_input: flag("AUTHCTL_NO_INPUT"),
            token: text("AUTHCTL_TOKEN").map(Secret::new),
            no_color: os("NO_COLOR").is_some() || dumb,
            force_color: flag("CLICOLOR_FORCE"),
            dumb_terminal: dumb,
            has_browser: display || os("BROWSER").is_some(),
            over_ssh: os("SSH_CONNECTION").is_some() || os("SSH_TTY").is_some(),
            agent_socket: os(AGENT_SOCKET_VARIABLE).map(PathBuf::from),
            directory: env::current_dir().ok(),
            base_directories: BASE_DIRECTORY_VARIABLES
                .into_iter()
                .filter_map(|name| Some((name, os(name).map(PathBuf::from).filter(|path| path.is_absolute())?)))
                .collect(),
        }
    }
}

/// The variables that hold tokens, which a command run by `authctl exec` must not inherit from authctl's own caller.
pub const TOKEN_VARIABLES: [&str; 1] = ["AUTHCTL_TOKEN"];

/// The variable that names the `file` store's key.
pub const KEY_FILE_VARIABLE: &str = "AUTHCTL_KEY_FILE";

/// The variable that says where the agent's socket is.
pub const AGENT_SOCKET_VARIABLE: &str = "AUTHCTL_SOCK";

/// The variables of the XDG Base Directory Specification that say where the configuration and the sessions are.
const BASE_DIRECTORY_VARIABLES: [&str; 2] = ["XDG_CONFIG_HOME", "XDG_DATA_HOME"];

/// No home directory is known, so there is no place for files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no home directory is known, so there is no place for authctl's files")]
pub struct NoHome;

/// Where authctl's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The profiles.
    pub config_file: PathBuf,
    /// The `file` store's own key, where nobody gave one.
    pub default_key_file: PathBuf,
    /// The `file` store's sessions.
    pub sessions: PathBuf,
    /// One lock file a profile.
    pub locks: PathBuf,
    /// Holds `config.lock`, which writers of the configuration take.
    pub data: PathBuf,
    /// Hashes of tokens that were logged out before they expired.
    pub revoked_file: PathBuf,
    /// The agent's socket, where nobody named another.
    pub agent_socket: PathBuf,
    /// The user's own services: systemd's units, or launchd's agents.
    pub services: PathBuf,
}

impl Paths {
    /// The platform's directories (on Linux the XDG base directories), with `config_file` instead of the usual one
    /// where given.
    ///
    /// # Errors
    /// [`NoHome`].
    pub fn locate(config_file: Option<&Path>) -> Result<Self, NoHome> {
        let dirs = ProjectDirs::from("", "", "authctl").ok_or(NoHome)?;
        let run = dirs.runtime_dir().map(Path::to_path_buf);
        let usual = Self::within(dirs.config_dir(), dirs.data_local_dir().to_path_buf(), run);
        Ok(match config_file {
            Some(file) => Self { config_file: file.to_path_buf(), ..usual },
            None => usual,
        })
    }

    /// `run` is the platform's directory for sockets, where it has one that is gone after a reboot.
    fn within(config: &Path, data: PathBuf, run: Option<PathBuf>) -> Self {
        Self {
            services: match config.parent() {
                Some(all) if !cfg!(target_os = "macos") => all.join("systemd/user"),
                // `~/Library/Application Support/authctl`
                Some(support) => support.with_file_name("LaunchAgents"),
                None => config.join("services"),
            },
            agent_socket: run.unwrap_or_else(|| data.join("run")).join("agent.sock"),
            config_file: config.join("config.toml"),
            default_key_file: config.join("authctl.key"),
            sessions: data.join("sessions"),
            locks: data.join("locks"),
            revoked_file: data.join("revoked"),
            data,
        }
    }
}

/// A home of one's own, for the demo: the variables that make another authctl live in it, and the paths it then has.
#[cfg(feature = "dev-issuer")]
impl Paths {
    /// The variables, besides which the other authctl needs none.
    #[must_use]
    pub fn environment_below(home: &Path) -> [(&'static str, PathBuf); 4] {
        [
            ("HOME", home.into()),
            ("XDG_CONFIG_HOME", home.join("config")),
            ("XDG_DATA_HOME", home.join("data")),
            ("XDG_RUNTIME_DIR", home.join("run")),
        ]
    }

    /// Where the files are then.
    #[must_use]
    pub fn below(home: &Path) -> Self {
        let (config, data) = if cfg!(target_os = "macos") {
            let both = home.join("Library/Application Support/authctl");
            (both.clone(), both)
        } else {
            (home.join("config/authctl"), home.join("data/authctl"))
        };
        let run = (!cfg!(target_os = "macos")).then(|| home.join("run/authctl"));
        Self::within(&config, data, run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_apart_what_is_configured_and_what_is_kept() {
        let paths = Paths::within(Path::new("/c"), PathBuf::from("/d"), None);
        assert_eq!(paths.config_file, Path::new("/c/config.toml"));
        assert_eq!(paths.default_key_file, Path::new("/c/authctl.key"));
        assert_eq!(paths.sessions, Path::new("/d/sessions"));
        assert_eq!(paths.locks, Path::new("/d/locks"));
        assert_eq!(paths.agent_socket, Path::new("/d/run/agent.sock"));
        let with_run = Paths::within(Path::new("/c"), PathBuf::from("/d"), Some(PathBuf::from("/r")));
        assert_eq!(with_run.agent_socket, Path::new("/r/agent.sock"));
    }
}
