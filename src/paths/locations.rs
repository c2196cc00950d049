//! The paths of authctl's files.

use std::env;
use std::ffi::OsString;
#[cfg(not(target_os = "macos"))]
use std::os::unix::ffi::OsStringExt as _;
#[cfg(not(target_os = "macos"))]
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;
#[cfg(not(target_os = "macos"))]
use percent_encoding::percent_decode_str;

use crate::text::abbreviate_home;

/// The machine-wide configuration below those in `XDG_CONFIG_DIRS`.
pub(super) const MACHINE_CONFIG: &str = "/etc/authctl/config.toml";

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
pub(super) fn machine_wide_files(config_dirs: Option<OsString>) -> Vec<PathBuf> {
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
    pub(super) fn within(config: &Path, data: PathBuf, run: Option<PathBuf>) -> Self {
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

/// Returns the directory of what belongs to the user as keychain items do: their locks and the list of revoked tokens. Returns
/// `None` if the user has no home directory. Also returns `None` if there is no message bus, and so no keychain, and `HOME` is not
/// the home directory in the user database, as in a test or a container.
///
/// A terminal of a snap or Flatpak sets `XDG_DATA_HOME` to a directory of its own, so this one is in the home that the user
/// database names. A message bus outside of `/run`, as in a test, has a keychain of its own, and this directory beside its
/// socket, if no other user can write there.
#[cfg(not(target_os = "macos"))]
#[allow(clippy::disallowed_methods, reason = "the only module that reads the environment")]
fn shared() -> Option<PathBuf> {
    let user = nix::unistd::geteuid();
    let address = env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|address| !address.is_empty());
    let socket = match &address {
        // One directory for one bus, however its address is spelled.
        Some(address) => bus_socket(address).map(|socket| socket.canonicalize().unwrap_or(socket)),
        None => env::var_os("XDG_RUNTIME_DIR").and_then(|run| Path::new(&run).join("bus").canonicalize().ok()),
    };
    let has_bus = address.is_some() || socket.is_some();
    let is_named = |home: &PathBuf| {
        let named = directories::BaseDirs::new().and_then(|dirs| dirs.home_dir().canonicalize().ok());
        named.is_some() && named == home.canonicalize().ok()
    };
    let is_private = |dir: &Path| {
        let private = |about: std::fs::Metadata| about.uid() == user.as_raw() && about.mode() & 0o022 == 0;
        !dir.starts_with("/run") && dir.metadata().is_ok_and(private)
    };
    match socket.as_deref().and_then(Path::parent).filter(|dir| is_private(dir)) {
        Some(dir) => Some(dir.join("authctl-data")),
        None => user_home(user).filter(|home| has_bus || is_named(home)).map(|home| home.join(".local/share/authctl")),
    }
}

/// See above. The keychain of macOS has no variable.
#[cfg(target_os = "macos")]
fn shared() -> Option<PathBuf> {
    Some(user_home(nix::unistd::geteuid())?.join("Library/Application Support/authctl"))
}

/// Returns the user's home directory by the user database, and not by `HOME`.
fn user_home(user: nix::unistd::Uid) -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(user).ok()??;
    Some(user.dir).filter(|home| home.is_absolute() && home.is_dir())
}

/// Returns text with `~` for the user's home directory, under each of its paths: in HOME, without symbolic links, and in the user
/// database. What is shown is pasted into public places.
#[must_use]
pub fn without_home(text: &str) -> String {
    let named = directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_path_buf());
    let real = named.as_ref().and_then(|home| home.canonicalize().ok());
    let homes = named.into_iter().chain(real).chain(user_home(nix::unistd::geteuid()));
    homes.fold(text.to_owned(), |text, home| abbreviate_home(&text, &home.display().to_string()))
}

/// Returns the path of the socket in a D-Bus address, such as `unix:path=/run/user/1000/bus,guid=...`.
#[cfg(not(target_os = "macos"))]
pub(super) fn bus_socket(address: &str) -> Option<PathBuf> {
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
