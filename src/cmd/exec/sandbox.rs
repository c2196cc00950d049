//! `authctl exec --proxy --sandbox`: runs the command under bubblewrap, without a network but the proxy's socket, and without
//! what could lead to a token: the agent, the keychain, authctl's files.

mod sockets;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::app::App;
use crate::config::Config;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::{create_pipe, create_private_dir, directory_of};
use crate::model::{ProfileName, Workload};
use crate::paths::{home, own_program, provided_token_file};

/// The proxy's socket, as the command sees it.
pub(super) const INNER_SOCKET: &str = "/run/authctl/api.sock";

/// Brings the numbers of the signals for the command. The command could read or write it, to no effect but on itself.
pub(super) const INNER_SIGNALS: &str = "/run/authctl/signals";

/// The proxy's address in the command's own network, where authctl passes connections on to the socket.
pub(super) const INNER_ADDRESS: &str = "127.0.0.1:8642";

/// The same as a URL.
pub(super) const INNER_URL: &str = "http://127.0.0.1:8642";

/// authctl, as the command sees it.
const INNER_PROGRAM: &str = "/run/authctl/authctl";

/// How the names of the sandboxes' own directories begin, and the name of the pipe in each.
const PREFIX: &str = "sandbox-";
const PIPE: &str = "signals";

/// Directories in which other programs have sockets.
const SOCKET_DIRECTORIES: [&str; 3] = ["/run", "/tmp", "/var/tmp"];

/// Variables that lead to services of the session.
const SERVICES: [&str; 7] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "GNOME_KEYRING_CONTROL",
    "GPG_AGENT_INFO",
    "SSH_AUTH_SOCK",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
];

/// What the command may reach.
pub(super) struct Sandbox {
    /// Holds the proxy's socket and the pipe.
    directory: TempDir,
    /// A pipe for the numbers of signals: bubblewrap passes none on.
    signals: File,
    program: PathBuf,
    /// Directories that are empty for the command.
    hidden_directories: Vec<PathBuf>,
    /// Files that are empty for it.
    hidden_files: Vec<PathBuf>,
    writable: Vec<PathBuf>,
    /// Directories between what the command may write and what is hidden in it, the outer ones first: each is a mount, which cannot
    /// be renamed to a place where nothing hides it.
    fixed: BTreeSet<PathBuf>,
}

impl Sandbox {
    /// Prepares a sandbox in which the command may write to `writable`.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] if there is no bubblewrap, if something cannot be hidden, or if a path does not exist.
    pub(super) fn new(app: &App, writable: &[PathBuf]) -> Result<Self, Error> {
        let search_path = &app.environment.surroundings.search_path;
        let program = std::env::split_paths(search_path).map(|dir| dir.join("bwrap")).find(|path| path.is_file());
        let program = program.ok_or_else(|| {
            let message = "--sandbox needs bubblewrap, and there is no bwrap in PATH";
            Error::msg(ErrorCode::Configuration, message, Hint::advice("install the package bubblewrap"))
        })?;
        let usage = |path: &Path, error: std::io::Error| {
            let error = anyhow::Error::new(error).context(format!("--bind {}", path.display()));
            Error::new(ErrorCode::Usage, error, Hint::list(path))
        };
        let writable = writable
            .iter()
            .map(|path| path.canonicalize().map_err(|error| usage(path, error)))
            .collect::<Result<Vec<PathBuf>, _>>()?;
        let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::None);
        let paths = app.paths()?;
        let home = home()?;
        let socket = app.agent_socket()?;
        let mut hidden_directories = vec![
            paths.data.clone(),
            directory_of(&paths.agent_socket).to_owned(),
            directory_of(&socket).to_owned(),
            home.join(".local/share/keyrings"),
            home.join(".gnupg"),
            home.join(".ssh"),
        ];
        let current = std::env::current_dir().map_err(unexpected)?;
        let is_needed = |hidden: &Path| home.starts_with(hidden) || current.starts_with(hidden);
        if let Some(open) = hidden_directories.iter().find(|hidden| is_needed(hidden)) {
            let message =
                format!("the agent's socket or authctl's data is in {}, which cannot be hidden", open.display());
            return Err(Error::msg(ErrorCode::Configuration, message, Hint::shell("unset AUTHCTL_SOCK")));
        }
        let config = app.config()?;
        // Only a directory that exists can be hidden.
        for directory in [&paths.data, directory_of(&paths.agent_socket)] {
            create_private_dir(directory).map_err(unexpected)?;
        }
        // Where it cannot be created, it does not appear later.
        let _ = create_private_dir(directory_of(&paths.default_key_file));
        remove_abandoned(directory_of(&paths.agent_socket));
        // A file that is replaced appears in spite of what hides the one before: its directory is hidden.
        for (file, name) in replaced_files(app, &config)? {
            let directory = directory_of(&file).canonicalize().unwrap_or_else(|_| directory_of(&file).to_owned());
            if is_needed(&directory) {
                let message =
                    format!("{} is in a directory that the command needs, and so cannot be hidden", file.display());
                let hint =
                    name.map_or(Hint::None, |name| Hint::command("profile show").with_argument(name.to_string()));
                return Err(Error::msg(ErrorCode::Configuration, message, hint));
            }
            hidden_directories.extend([directory, directory_of(&file).to_owned()]);
        }
        let keys = config.profiles.values().filter_map(|profile| profile.server.client_key.file.clone());
        let hidden_files: Vec<PathBuf> = keys.chain(app.provided_key_file()).collect();
        // What is in those directories is hidden, except for what is shown again.
        let is_shown = |path: &PathBuf| {
            !SOCKET_DIRECTORIES.iter().any(|hidden| path.starts_with(hidden))
                || path.starts_with(&current)
                || writable.iter().any(|shown| path.starts_with(shown))
        };
        let may_write = |path: &Path| writable.iter().any(|bound| path.starts_with(bound) && path != bound);
        let is_replaceable = |path: &Path| {
            path.is_symlink() && directory_of(path).canonicalize().is_ok_and(|parent| may_write(&parent.join("link")))
        };
        let leading = hidden_directories.iter().chain(&hidden_files).flat_map(|path| path.ancestors());
        if let Some(link) = leading.into_iter().find(|path| is_replaceable(path)) {
            let message =
                format!("{} is a symbolic link to what is hidden, and the command could replace it", link.display());
            return Err(Error::msg(ErrorCode::Configuration, message, Hint::list(link)));
        }
        let existing = |path: PathBuf| path.canonicalize().ok();
        let hidden_directories: Vec<PathBuf> = hidden_directories.into_iter().filter_map(existing).collect();
        let is_hidden = |path: &PathBuf| hidden_directories.iter().any(|hidden| path.starts_with(hidden));
        let searched = [&home, &current].into_iter().chain(&writable);
        let (sockets, unsearched) = sockets::existing(searched, &hidden_directories, app.clock());
        if let Some(first) = unsearched.first() {
            let first = first.display();
            app.ui().warn_always(&format!(
                "too many files to search; the command may see sockets below {first} and later directories"
            ));
        }
        let sockets = sockets.into_iter().filter_map(existing).filter(is_shown);
        let files = hidden_files.into_iter().filter_map(existing).chain(sockets);
        let hidden_files: Vec<PathBuf> = files.filter(|path| !is_hidden(path)).collect();
        let above = hidden_directories.iter().chain(&hidden_files).flat_map(|path| path.ancestors().skip(1));
        let fixed = above.filter(|path| may_write(path)).map(Path::to_owned).collect();
        // In a directory that no sandbox shows: whatever can connect is a caller.
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(directory_of(&paths.agent_socket))
            .map_err(unexpected)?;
        // A pipe with this name has a reader while the process runs: see `remove_abandoned`.
        let (new_pipe, pipe) = (directory.path().join("new"), directory.path().join(PIPE));
        create_pipe(&new_pipe).map_err(unexpected)?;
        // Also open for reading, so that signals can be written before the sandbox opens the pipe.
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let signals = options.open(&new_pipe).map_err(unexpected)?;
        std::fs::rename(new_pipe, pipe).map_err(unexpected)?;
        Ok(Self { directory, signals, program, hidden_directories, hidden_files, writable, fixed })
    }

    /// Returns the path of the proxy's socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// Sends a signal to the command.
    pub(super) fn pass_on(&self, signal: Signal) {
        if let Ok(number) = u8::try_from(signal.as_raw()) {
            let _ = (&self.signals).write(&[number]);
        }
    }

    /// Returns the command that runs `words` in the sandbox.
    ///
    /// # Errors
    /// If this program's own file cannot be found.
    pub(super) fn command(&self, words: &[OsString]) -> Result<Command, Error> {
        let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::None);
        let current = std::env::current_dir().map_err(unexpected)?;
        let mut command = Command::new(&self.program);
        command.args(["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]);
        // For root: nothing is mounted or removed again, and no setting of the kernel changes.
        command.args(["--cap-drop", "ALL", "--ro-bind", "/proc/sys", "/proc/sys"]);
        let bind = |command: &mut Command, how: &str, from: &Path, to: &OsStr| {
            command.arg(how).arg(from).arg(to);
        };
        for directory in SOCKET_DIRECTORIES {
            command.args(["--tmpfs", directory]);
        }
        // What is below a directory that is hidden, and still needed.
        if SOCKET_DIRECTORIES.iter().any(|hidden| current.starts_with(hidden)) {
            bind(&mut command, "--ro-bind", &current, current.as_os_str());
        }
        for path in self.writable.iter().chain(&self.fixed) {
            bind(&mut command, "--bind", path, path.as_os_str());
        }
        // Last, so that nothing shows them again.
        for path in &self.hidden_directories {
            command.arg("--tmpfs").arg(path);
        }
        // A socket that is gone since it was found cannot be covered.
        for path in self.hidden_files.iter().filter(|path| path.symlink_metadata().is_ok()) {
            bind(&mut command, "--ro-bind", Path::new("/dev/null"), path.as_os_str());
        }
        bind(&mut command, "--ro-bind", &own_program().map_err(unexpected)?, OsStr::new(INNER_PROGRAM));
        bind(&mut command, "--ro-bind", &self.directory.path().join(PIPE), OsStr::new(INNER_SIGNALS));
        bind(&mut command, "--bind", &self.socket(), OsStr::new(INNER_SOCKET));
        for name in SERVICES {
            command.args(["--unsetenv", name]);
        }
        command.arg("--chdir").arg(&current);
        command.args(["--", INNER_PROGRAM, "exec", "--inside", INNER_SOCKET, "--"]).args(words);
        Ok(command)
    }
}

/// Removes the directories of sandboxes whose process was killed: their pipe has no reader.
fn remove_abandoned(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())) {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let opened = options.open(entry.path().join(PIPE));
        if opened.is_err_and(|error| error.raw_os_error() == Some(Errno::NXIO.raw_os_error())) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns the files with tokens or keys that are replaced while the command runs, each with its profile.
fn replaced_files(app: &App, config: &Config) -> Result<Vec<(PathBuf, Option<ProfileName>)>, Error> {
    let mut files = Vec::new();
    for profile in config.profiles.values() {
        let workload = match &profile.server.workload {
            Some(Workload::File(file)) => Some(file.as_path()),
            _ => None,
        };
        for file in profile.token_files().chain(workload) {
            // A link leads to the file that is read, and a missing file may be written later.
            let target = file.canonicalize().ok();
            if target.is_none() && workload != Some(file) {
                let failed =
                    |e: std::io::Error| Error::new(ErrorCode::Configuration, e, Hint::list(directory_of(file)));
                create_private_dir(directory_of(file)).map_err(failed)?;
            }
            let both = [Some(file.to_owned()), target].into_iter().flatten();
            files.extend(both.map(|file| (file, Some(profile.name.clone()))));
        }
    }
    files.extend(
        provided_token_file().into_iter().chain([app.paths()?.default_key_file.clone()]).map(|file| (file, None)),
    );
    Ok(files)
}
