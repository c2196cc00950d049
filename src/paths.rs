//! The environment variables that authctl reads, and the paths of its files. No other module reads
//! variables itself; the HTTP client, openssl-probe and webbrowser read theirs.

mod locations;
mod runtime;
mod surroundings;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::secret::Secret;
use crate::text::bare_token;
pub use locations::{ConfigFiles, NoHome, Paths, without_home};
pub use runtime::missing_runtime_directory;
pub use surroundings::{Elsewhere, Surroundings};

/// The environment variables that authctl reads, as they were at start. Empty ones count as unset.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `AUTHCTL_PROFILE`: the default profile.
    pub profile: Option<String>,
    /// `AUTHCTL_CONFIG`: the configuration file.
    pub config: Option<PathBuf>,
    /// `AUTHCTL_STORE`: the store for new profiles.
    pub store: Option<String>,
    /// `AUTHCTL_KEY_FILE`: the age identity file of the `file` store.
    pub key_file: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY`: the directory of a systemd service's credentials.
    pub credentials_directory: Option<PathBuf>,
    /// `AUTHCTL_NO_INPUT`: never prompt.
    pub no_input: bool,
    /// `AUTHCTL_TOKEN`: a supplied access token, as it is written there.
    pub token: Option<Secret>,
    /// `NO_COLOR`, or `TERM=dumb`.
    pub no_color: bool,
    /// `CLICOLOR_FORCE`: colour even if the output is not a terminal.
    pub force_color: bool,
    /// `TERM=dumb`: a terminal without cursor movement.
    pub dumb_terminal: bool,
    /// What decides whether a browser can be opened on this machine.
    pub surroundings: Surroundings,
    /// `AUTHCTL_SOCK`: the agent's socket.
    pub agent_socket: Option<PathBuf>,
    /// The working directory at start.
    pub directory: Option<PathBuf>,
    /// Those of `XDG_CONFIG_HOME`, `XDG_CONFIG_DIRS` and `XDG_DATA_HOME` that are absolute paths. Others count as unset.
    pub base_directories: Vec<(&'static str, PathBuf)>,
}

#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
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
            config: os(CONFIG_VARIABLE).map(PathBuf::from),
            store: text("AUTHCTL_STORE"),
            key_file: os(KEY_FILE_VARIABLE).map(PathBuf::from),
            credentials_directory: os(CREDENTIALS_VARIABLE).map(PathBuf::from),
            no_input: flag("AUTHCTL_NO_INPUT"),
            token: os(TOKEN_VARIABLE)
                .map(|value| value.to_string_lossy().into_owned())
                .filter(|text| !bare_token(text).is_empty())
                .map(Secret::new),
            no_color: os("NO_COLOR").is_some() || dumb,
            force_color: flag("CLICOLOR_FORCE"),
            dumb_terminal: dumb,
            surroundings: Surroundings {
                browser_named: os("BROWSER").is_some(),
                display,
                ssh: os("SSH_CONNECTION").is_some() || os("SSH_TTY").is_some(),
                wsl: os("WSL_DISTRO_NAME").is_some() || os("WSL_INTEROP").is_some(),
                container_named: os("container").is_some(),
                search_path: os("PATH").unwrap_or_default(),
            },
            agent_socket: os(AGENT_SOCKET_VARIABLE).map(PathBuf::from),
            directory: env::current_dir().ok(),
            base_directories: BASE_DIRECTORY_VARIABLES
                .into_iter()
                .filter_map(|name| Some((name, os(name).map(PathBuf::from).filter(|path| path.is_absolute())?)))
                .collect(),
        }
    }
}

/// The variables that select the proxy of https requests. No `Debug`: a proxy's URL may contain a password.
#[derive(Default)]
pub struct ProxyVariables {
    /// The variable that the HTTP client uses, and its value: `HTTPS_PROXY`, else `ALL_PROXY`, each in upper case first.
    pub https: Option<(&'static str, OsString)>,
    /// The hosts that are reached without it: `no_proxy`, else `NO_PROXY`, as curl reads them.
    pub none_for: String,
}

#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
impl ProxyVariables {
    /// Reads the process's environment.
    #[must_use]
    pub fn capture() -> Self {
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, env::var_os(name)?)));
        let proxy = |names| first(names).filter(|(_, value)| !value.is_empty());
        let hosts = |name| env::var(name).ok().filter(|hosts| !hosts.is_empty());
        Self {
            https: proxy(["HTTPS_PROXY", "https_proxy"]).or_else(|| proxy(["ALL_PROXY", "all_proxy"])),
            none_for: hosts("no_proxy").or_else(|| hosts("NO_PROXY")).unwrap_or_default(),
        }
    }
}

/// What a platform gives to the jobs that it runs, for their identity tokens.
#[derive(Debug)]
pub struct WorkloadVariables {
    /// [`WorkloadVariables::GITHUB_URL`]: where a job of GitHub Actions requests an identity token.
    pub github_url: Option<String>,
    /// [`WorkloadVariables::GITHUB_TOKEN`]: what authenticates that request.
    pub github_token: Option<Secret>,
    /// [`WorkloadVariables::GITLAB`]: the identity token of a job of GitLab CI/CD.
    pub gitlab_token: Option<Secret>,
}

#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
impl WorkloadVariables {
    /// Set by GitHub Actions.
    pub const GITHUB_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
    /// Set by GitHub Actions.
    pub const GITHUB_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
    /// Set by GitLab if `id_tokens` of the job has an entry with this name.
    pub const GITLAB: &str = "AUTHCTL_ID_TOKEN";
    /// All of them.
    const ALL: [&str; 3] = [Self::GITHUB_URL, Self::GITHUB_TOKEN, Self::GITLAB];

    /// Reads the process's environment.
    #[must_use]
    pub fn capture() -> Self {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            github_url: text(Self::GITHUB_URL),
            github_token: text(Self::GITHUB_TOKEN).map(Secret::new),
            gitlab_token: text(Self::GITLAB).map(Secret::new),
        }
    }
}

/// What a shell's completion script passes to authctl.
pub struct CompletionVariables {
    /// [`COMPLETION_VARIABLE`]: the name of the shell.
    pub shell: String,
    /// `_CLAP_COMPLETE_INDEX`: the word to complete, unless it is the last.
    pub index: Option<usize>,
}

#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
impl CompletionVariables {
    /// Reads the process's environment; `None` if authctl was not started for completion.
    #[must_use]
    pub fn capture() -> Option<Self> {
        let shell = env::var(COMPLETION_VARIABLE).ok().filter(|shell| !shell.is_empty())?;
        let index = env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
        Some(Self { shell, index })
    }
}

/// Returns a variable that a tool sets for its helper, or that names the tool's configuration. An empty one counts as unset.
#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
#[must_use]
pub fn tool_variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the user's home, where tools have their configuration.
///
/// # Errors
/// [`NoHome`].
pub fn home() -> Result<PathBuf, NoHome> {
    directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned()).ok_or(NoHome)
}

/// Returns the path in `PATH` that leads to `program`, if there is one, or the path by which it was started, if that does.
/// Package managers install each version in a directory of its own, which an update removes, and link to the current one from a
/// directory in `PATH`.
#[must_use]
pub fn stable_link(program: PathBuf, search_path: &std::ffi::OsStr, started_as: Option<PathBuf>) -> PathBuf {
    let Some(name) = program.file_name() else { return program };
    let is_program = |path: &PathBuf| path.is_absolute() && path.canonicalize().is_ok_and(|path| path == program);
    let mut in_path = env::split_paths(search_path).map(|dir| dir.join(name));
    let started_as = started_as.filter(|path| path.file_name() == Some(name));
    in_path.find(is_program).or_else(|| started_as.filter(is_program)).unwrap_or(program)
}

/// Returns `SSL_CERT_FILE`: the certificate authorities that replace the platform's. Ignored on macOS.
#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
#[must_use]
pub fn authorities_file() -> Option<PathBuf> {
    let named = env::var_os("SSL_CERT_FILE").filter(|value| !value.is_empty());
    named.filter(|_| !cfg!(target_os = "macos")).map(PathBuf::from)
}

/// Returns whether the message bus or the service manager listens on a Unix socket that is not in the file system.
#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
#[must_use]
pub fn uses_abstract_sockets() -> bool {
    let has = |name, text| env::var_os(name).is_some_and(|value| value.to_string_lossy().contains(text));
    has("DBUS_SESSION_BUS_ADDRESS", "abstract=") || has("NOTIFY_SOCKET", "@")
}

/// Returns the directories in `SSL_CERT_DIR`.
#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
#[must_use]
pub fn authorities_directories() -> Vec<PathBuf> {
    let named = env::var_os("SSL_CERT_DIR").filter(|value| !value.is_empty());
    named.map(|value| env::split_paths(&value).collect()).unwrap_or_default()
}

/// Returns whether a file exists that a program of this name, or at this path, would be started from.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
pub fn program_exists(program: &Path) -> bool {
    match program.components().count() {
        1 => env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).is_file()),
        _ => program.exists(),
    }
}

/// The variable with an access token. A command run by `authctl exec` does not inherit it.
pub const TOKEN_VARIABLE: &str = "AUTHCTL_TOKEN";

/// The variable with the path of a token file, for a command run by `authctl exec --file`.
pub const TOKEN_FILE_VARIABLE: &str = "AUTHCTL_TOKEN_FILE";

/// Returns the token file that `exec --file` has given to the caller.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
pub fn provided_token_file() -> Option<PathBuf> {
    env::var_os(TOKEN_FILE_VARIABLE).map(PathBuf::from)
}

/// The variable with the proxy's URL, for a command run by `authctl exec --proxy`.
pub const PROXY_URL_VARIABLE: &str = "AUTHCTL_PROXY_URL";

/// The variable with the proxy's key.
pub const PROXY_KEY_VARIABLE: &str = "AUTHCTL_PROXY_KEY";

/// The variable with the path of the proxy's socket, in the sandbox.
pub const PROXY_SOCKET_VARIABLE: &str = "AUTHCTL_PROXY_SOCKET";

/// Keeps from a command everything by which it could get a token without asking for one: what it needs to reach the agent or to
/// read the store, and what a platform gives to its jobs.
pub fn without_secrets(command: &mut Command) {
    without_identity_tokens(command);
    for name in [AGENT_SOCKET_VARIABLE, KEY_FILE_VARIABLE, CREDENTIALS_VARIABLE] {
        command.env_remove(name);
    }
}

/// Keeps the tokens of `authctl exec` and of the platform's job from a program that needs neither.
pub fn without_identity_tokens(command: &mut Command) {
    without_tokens(command);
    for name in WorkloadVariables::ALL {
        command.env_remove(name);
    }
}

/// The variable with the directory in which systemd gives a unit its credentials, such as the key file.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// The variable with the path of the configuration file.
pub const CONFIG_VARIABLE: &str = "AUTHCTL_CONFIG";

/// Returns the program of this process, to start it again: its own version, also after an upgrade has replaced the file.
///
/// # Errors
/// As [`env::current_exe`].
pub fn own_program() -> std::io::Result<PathBuf> {
    let path = env::current_exe()?;
    // The system then adds ` (deleted)` to the path.
    let is_replaced = cfg!(target_os = "linux") && !path.exists();
    Ok(if is_replaced { PathBuf::from("/proc/self/exe") } else { path })
}

/// Keeps the token of `authctl exec`, or the file with it, from a program that is not the command of that.
pub fn without_tokens(command: &mut Command) -> &mut Command {
    command.env_remove(TOKEN_VARIABLE).env_remove(TOKEN_FILE_VARIABLE)
}

/// The variable with the key file of the `file` store.
pub const KEY_FILE_VARIABLE: &str = "AUTHCTL_KEY_FILE";

/// The variable with the path of the agent's socket.
pub const AGENT_SOCKET_VARIABLE: &str = "AUTHCTL_SOCK";

/// Set by a shell's completion script to the name of the shell.
pub const COMPLETION_VARIABLE: &str = "AUTHCTL_COMPLETE";

/// The variables of the XDG Base Directory Specification for the configuration and the sessions.
const BASE_DIRECTORY_VARIABLES: [&str; 3] = ["XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_DATA_HOME"];

#[cfg(test)]
mod tests;
