//! The environment variables that authctl reads, and the paths of its files. No other module reads
//! variables itself; the HTTP client, openssl-probe and webbrowser read theirs.

mod runtime;

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use directories::ProjectDirs;
use percent_encoding::percent_decode_str;

use crate::secret::Secret;
use crate::text::bare_token;
pub use runtime::missing_runtime_directory;

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
    /// `AUTHCTL_TOKEN`: a supplied access token, used as it is.
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
            token: text(TOKEN_VARIABLE)
                .map(|text| bare_token(&text).to_owned())
                .filter(|token| !token.is_empty())
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

/// Returns the path in `PATH` that leads to `program`, if there is one, or the path by which it was started, if that does. Package managers install each version in a directory
/// of its own, which an update removes, and link to the current one from a directory in `PATH`.
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

/// What the environment reveals about the user's location, and what can open a browser.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `BROWSER` is set. It is used in a container and in WSL too, where editors set it.
    pub browser_named: bool,
    /// There is a graphical session.
    pub display: bool,
    /// `SSH_CONNECTION` or `SSH_TTY`: the user is at another machine.
    pub ssh: bool,
    /// `WSL_DISTRO_NAME` or `WSL_INTEROP`: this is Linux inside Windows.
    pub wsl: bool,
    /// `container`, which Podman, systemd-nspawn and others set.
    pub container_named: bool,
    /// `PATH`.
    pub search_path: OsString,
}

/// Why no browser is opened on this machine without an option. The messages begin a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Elsewhere {
    /// The user is at another machine.
    #[error("Connected over SSH")]
    Ssh,
    /// WSL, and nothing opens a browser in Windows.
    #[error("Running in WSL without BROWSER, wslview or rundll32.exe")]
    Wsl,
    /// A container without a display.
    #[error("Running in a container without a display")]
    Container,
    /// No graphical session.
    #[error("No display available")]
    NoDisplay,
}

/// What opens a URL in a Windows browser from WSL, with the arguments before the URL, in order of preference.
const WINDOWS_OPENERS: [(&str, &[&str]); 2] = [("wslview", &[]), ("rundll32.exe", &["url.dll,FileProtocolHandler"])];

impl Surroundings {
    /// Returns why no browser can be opened here, or `None` if one can.
    #[must_use]
    pub fn elsewhere(&self) -> Option<Elsewhere> {
        // Docker and Podman create these in each container.
        self.elsewhere_if(|| ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists()))
    }

    fn elsewhere_if(&self, marked_as_container: impl Fn() -> bool) -> Option<Elsewhere> {
        if self.ssh {
            return Some(Elsewhere::Ssh);
        }
        if self.browser_named || self.display || self.windows_opener().is_some() {
            return None;
        }
        Some(if self.wsl {
            Elsewhere::Wsl
        } else if self.container_named || marked_as_container() {
            Elsewhere::Container
        } else {
            Elsewhere::NoDisplay
        })
    }

    /// Returns the program that opens a URL in a Windows browser from WSL, and its arguments before the URL. `None` if
    /// `BROWSER` is set.
    #[must_use]
    pub fn windows_opener(&self) -> Option<(PathBuf, &'static [&'static str])> {
        if !self.wsl || self.browser_named {
            return None;
        }
        WINDOWS_OPENERS.into_iter().find_map(|(program, arguments)| {
            let found = env::split_paths(&self.search_path).map(|dir| dir.join(program)).find(|path| path.is_file());
            found.map(|path| (path, arguments))
        })
    }
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

/// The machine-wide configuration below those in `XDG_CONFIG_DIRS`.
const MACHINE_CONFIG: &str = "/etc/authctl/config.toml";

/// The configuration files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFiles {
    /// The user's, the only one that is written.
    pub user: PathBuf,
    /// The machine-wide ones below it, the topmost first.
    pub machine_wide: Vec<PathBuf>,
}

impl ConfigFiles {
    /// Returns every file, the topmost first.
    pub fn all(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.user).chain(&self.machine_wide).map(PathBuf::as_path)
    }
}

/// Returns the machine-wide configuration files, the topmost first. `config_dirs` is `XDG_CONFIG_DIRS`, of which the XDG Base
/// Directory Specification has relative paths ignored.
fn machine_wide_files(config_dirs: Option<OsString>) -> Vec<PathBuf> {
    let dirs = config_dirs.filter(|dirs| !dirs.is_empty()).unwrap_or_else(|| "/etc/xdg".into());
    let named = env::split_paths(&dirs).filter(|dir| dir.is_absolute()).map(|dir| dir.join("authctl/config.toml"));
    let mut files = Vec::new();
    for file in named.chain([MACHINE_CONFIG.into()]) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

/// There is no home directory for authctl's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot find the home directory")]
pub struct NoHome;

/// The paths of authctl's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The configuration.
    pub config: ConfigFiles,
    /// The `file` store's key if the user provides none.
    pub default_key_file: PathBuf,
    /// The `file` store's sessions.
    pub sessions: PathBuf,
    /// The directory of lock files, one for each profile with the `file` store.
    pub locks: PathBuf,
    /// The directory of the data.
    pub data: PathBuf,
    /// The agent's default socket.
    pub agent_socket: PathBuf,
    /// The directory of the user's services: systemd units, or launchd agents.
    pub services: PathBuf,
}

impl Paths {
    /// Finds the platform's directories (on Linux the XDG base directories). `config_file` replaces the user's default one.
    ///
    /// # Errors
    /// [`NoHome`].
    #[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
    pub fn locate(config_file: Option<&Path>) -> Result<Self, NoHome> {
        let dirs = ProjectDirs::from("", "", "authctl").ok_or(NoHome)?;
        let run = dirs.runtime_dir().map(Path::to_path_buf);
        let mut paths = Self::within(dirs.config_dir(), dirs.data_local_dir().to_path_buf(), run);
        if let Some(file) = config_file {
            paths.config.user = file.to_path_buf();
        }
        paths.config.machine_wide = machine_wide_files(env::var_os("XDG_CONFIG_DIRS"));
        paths.config.machine_wide.retain(|file| *file != paths.config.user);
        Ok(paths)
    }

    /// Returns the directory of what belongs to the user, whatever `XDG_DATA_HOME` is: the locks of keychain items, and the list of
    /// revoked tokens, so that a token that was revoked in one terminal is denied in all. A token from the agent needs neither.
    #[must_use]
    pub fn shared(&self) -> PathBuf {
        shared().unwrap_or_else(|| self.data.clone())
    }

    /// Returns the paths below these directories. `run` is the platform's directory for sockets, if it has one that is
    /// emptied at boot.
    fn within(config: &Path, data: PathBuf, run: Option<PathBuf>) -> Self {
        Self {
            services: match config.parent() {
                Some(all) if !cfg!(target_os = "macos") => all.join("systemd/user"),
                // `~/Library/Application Support/authctl`
                Some(support) => support.with_file_name("LaunchAgents"),
                None => config.join("services"),
            },
            agent_socket: run.unwrap_or_else(|| data.join("run")).join("agent.sock"),
            config: ConfigFiles { user: config.join("config.toml"), machine_wide: Vec::new() },
            default_key_file: config.join("authctl.key"),
            sessions: data.join("sessions"),
            locks: data.join("locks"),
            data,
        }
    }
}

/// Returns the directory of what belongs to the user as keychain items do: their locks and the list of revoked tokens. `None`
/// where there is no message bus, and so no keychain, or the user has no home.
///
/// A terminal of a snap or Flatpak sets `XDG_DATA_HOME` to a directory of its own, so this one is in the home that the user
/// database names. A message bus outside of `/run`, as in a test, has a keychain of its own, and this directory beside its
/// socket, if no other user can write there.
#[cfg(not(target_os = "macos"))]
#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
fn shared() -> Option<PathBuf> {
    let user = nix::unistd::geteuid();
    let socket = match env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|address| !address.is_empty()) {
        // One directory for one bus, however its address is spelled.
        Some(address) => bus_socket(&address).map(|socket| socket.canonicalize().unwrap_or(socket)),
        None => Some(Path::new(&env::var_os("XDG_RUNTIME_DIR")?).join("bus").canonicalize().ok()?),
    };
    let is_private = |dir: &Path| {
        let private = |about: std::fs::Metadata| about.uid() == user.as_raw() && about.mode() & 0o022 == 0;
        !dir.starts_with("/run") && dir.metadata().is_ok_and(private)
    };
    match socket.as_deref().and_then(Path::parent).filter(|dir| is_private(dir)) {
        Some(dir) => Some(dir.join("authctl-data")),
        None => Some(user_home(user)?.join(".local/share/authctl")),
    }
}

/// See above. The keychain of macOS has no variable.
#[cfg(target_os = "macos")]
fn shared() -> Option<PathBuf> {
    Some(user_home(nix::unistd::geteuid())?.join("Library/Application Support/authctl"))
}

/// Returns the user's home directory by the user database, whatever `HOME` says.
fn user_home(user: nix::unistd::Uid) -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(user).ok()??;
    Some(user.dir).filter(|home| home.is_absolute() && home.is_dir())
}

/// Returns the paths that the user's home directory has: in HOME, without symbolic links, and in the user database.
#[must_use]
pub fn home_directories() -> Vec<PathBuf> {
    let named = directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_path_buf());
    let real = named.as_ref().and_then(|home| home.canonicalize().ok());
    named.into_iter().chain(real).chain(user_home(nix::unistd::geteuid())).collect()
}

/// Returns the path of the socket in a D-Bus address, such as `unix:path=/run/user/1000/bus,guid=...`.
#[cfg(not(target_os = "macos"))]
fn bus_socket(address: &str) -> Option<PathBuf> {
    let options = address.split(';').find_map(|one| one.strip_prefix("unix:"))?;
    let path = options.split(',').find_map(|option| option.strip_prefix("path="))?;
    Some(OsString::from_vec(percent_decode_str(path).collect()).into())
}

/// A separate home directory, for the demo.
#[cfg(feature = "dev-issuer")]
impl Paths {
    /// Returns the environment variables with which authctl uses `home`.
    #[must_use]
    pub fn environment_below(home: &Path) -> [(&'static str, PathBuf); 4] {
        [
            ("HOME", home.into()),
            ("XDG_CONFIG_HOME", home.join("config")),
            ("XDG_DATA_HOME", home.join("data")),
            ("XDG_RUNTIME_DIR", home.join("run")),
        ]
    }

    /// Returns the paths of its files.
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
mod tests;
