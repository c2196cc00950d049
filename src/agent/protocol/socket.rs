//! Creates the agent's socket so that no other user can connect to it, replace it or impersonate the agent.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::broker::{self, BrokerRequest};
use crate::fs::{FileLock, LockError, LockFile, UntrustedFile, check_own_directory, create_private_dir, directory_of};

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another agent listens there.
    #[error("an agent is already running at {}", .0.display())]
    Running(PathBuf),
    /// Other users could replace the socket, or its directory is another user's.
    #[error(transparent)]
    Untrusted(#[from] UntrustedFile),
    /// Longer than a socket's address can be.
    #[error("{} is too long for a socket address", .0.display())]
    TooLong(PathBuf),
    /// Something that is no socket is there.
    #[error("{} exists, and is not a socket", .0.display())]
    Occupied(PathBuf),
    /// The lock file beside the socket cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The path of the socket that this process listens on. Dropping it removes the socket, unless the service manager created
/// it.
#[derive(Debug)]
pub struct Listening {
    /// The path.
    pub path: PathBuf,
    /// Excludes other agents and proxies.
    lock: FileLock,
    dir: OwnedFd,
    ours: bool,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // If the lock file was removed, the socket at the path may be that of another process.
        if self.ours
            && self.lock.is_in_place()
            && let Some(name) = self.path.file_name()
        {
            let removed = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
            // A confined agent may change no file in this directory. It leaves its lock file there.
            if removed == Err(Errno::ACCESS) {
                let _ = broker::call(&BrokerRequest::RemoveSocket, &[]);
            }
            self.lock.remove_file();
        }
    }
}

/// How many clients may wait to be accepted. The system may allow fewer.
const BACKLOG: i32 = 4096;

/// Creates the socket at `path` with mode 0600, or takes over `given`, which the service manager has created there.
///
/// The directory is created with mode 0700 if it is missing, and opened without following a symbolic link. It must belong
/// to this user, and other users must not be able to write to it. All operations use its descriptor. The socket lock, a
/// file beside the socket, allows one agent only: the socket of a dead agent is replaced atomically, that of a running one
/// never.
///
/// The listener is returned separately: a stopping agent closes it first, so that new clients are refused at once.
///
/// # Errors
/// [`ListenError`].
pub fn listen(path: &Path, given: Option<UnixListener>) -> Result<(UnixListener, Listening), ListenError> {
    let failed = |doing| move |e: Errno| ListenError::Io { doing, path: path.to_owned(), source: e.into() };
    let name = path.file_name().ok_or_else(|| failed("listen at")(Errno::INVAL))?;
    let parent = directory_of(path);
    check_length(path)?;
    create_private_dir(parent).map_err(|source| ListenError::Io {
        doing: "create the directory",
        path: parent.to_owned(),
        source,
    })?;
    let dir = open_dir(parent)?;
    refuse_other_file(&dir, name, path)?;
    let lock_path = socket_lock(path);
    let lock_name = lock_path.file_name().unwrap_or_default();
    let lock = LockFile::open_in(&dir, lock_name, lock_path.clone()).and_then(LockFile::try_lock)?;
    let lock = lock.ok_or_else(|| ListenError::Running(path.to_owned()))?;
    let ours = given.is_none();
    let listener = match given {
        Some(listener) => listener,
        None => bind(&dir, parent, name, path)?,
    };
    Ok((listener, Listening { path: path.to_owned(), lock, dir, ours }))
}

/// Returns the path of the lock file of the socket at `path`.
#[must_use]
pub fn socket_lock(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

/// Checks what [`listen`] requires of the path and of its directory, and creates nothing.
///
/// # Errors
/// [`ListenError`].
pub fn check_socket_path(path: &Path) -> Result<(), ListenError> {
    check_length(path)?;
    match open_dir(directory_of(path)) {
        Err(ListenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        dir => refuse_other_file(&dir?, path.file_name().unwrap_or_default(), path),
    }
}

/// A longer path could be bound through a descriptor of its directory, but no client could connect to it.
fn check_length(path: &Path) -> Result<(), ListenError> {
    SocketAddr::from_pathname(path).map(drop).map_err(|_| ListenError::TooLong(path.to_owned()))
}

/// Opens the socket's directory, and checks that only this user can write to it.
fn open_dir(path: &Path) -> Result<OwnedFd, ListenError> {
    let failed = |doing| move |source: io::Error| ListenError::Io { doing, path: path.to_owned(), source };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed("open the directory")(e.into()))?;
    let dir = File::from(dir);
    let about = dir.metadata().map_err(failed("check"))?;
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(UntrustedFile::NotOurs { path: path.to_owned(), owner: about.uid() }.into());
    }
    check_own_directory(path, &about)?;
    Ok(dir.into())
}

/// Refuses a path at which there is something else than a socket: it would be replaced.
fn refuse_other_file(dir: &OwnedFd, name: &std::ffi::OsStr, path: &Path) -> Result<(), ListenError> {
    let is = |about: &rustix::fs::Stat, kind| FileType::from_raw_mode(about.st_mode) == kind;
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Ok(about) if is(&about, FileType::Socket) => Ok(()),
        // The link is replaced, not what it leads to. One to a socket is the user's other name for it.
        Ok(about) if is(&about, FileType::Symlink) => match rustix::fs::statat(dir, name, AtFlags::empty()) {
            Ok(about) if is(&about, FileType::Socket) => Err(ListenError::Occupied(path.to_owned())),
            _ => Ok(()),
        },
        Ok(_) => Err(ListenError::Occupied(path.to_owned())),
        Err(e) => Err(ListenError::Io { doing: "check", path: path.to_owned(), source: e.into() }),
    }
}

/// Binds to a temporary name, restricts the mode, and only then renames the socket to the one that clients use.
fn bind(dir: &OwnedFd, parent: &Path, name: &std::ffi::OsStr, path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |doing| move |e: Errno| ListenError::Io { doing, path: path.to_owned(), source: e.into() };
    let fresh = OsString::from(format!(".{}.sock", std::process::id()));
    let _ = rustix::fs::unlinkat(dir, &fresh, AtFlags::empty());
    let address = address_in(dir, parent, &fresh).ok_or_else(|| ListenError::TooLong(path.to_owned()))?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
        .map_err(failed("create"))?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(failed("create"))?;
    rustix::net::bind(&socket, &address).map_err(failed("create"))?;
    let placed = rustix::fs::chmodat(dir, &fresh, Mode::RUSR | Mode::WUSR, AtFlags::empty())
        .and_then(|()| rustix::net::listen(&socket, BACKLOG))
        .and_then(|()| rustix::fs::renameat(dir, &fresh, dir, name));
    if let Err(e) = placed {
        let _ = rustix::fs::unlinkat(dir, &fresh, AtFlags::empty());
        return Err(failed("create")(e));
    }
    Ok(UnixListener::from(socket))
}

/// Returns the address of `name` in the directory: its path, by which the kernel lists the socket, or if that is too long, by the
/// directory's descriptor where the system supports that. If it is not the directory that was checked, the next step fails.
fn address_in(dir: &OwnedFd, parent: &Path, name: &std::ffi::OsStr) -> Option<SocketAddrUnix> {
    use std::os::fd::AsRawFd as _;
    let parent = std::path::absolute(parent).ok()?;
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd()));
    let mut bases = [parent, by_descriptor].into_iter();
    bases.find_map(|base| SocketAddrUnix::new(base.join(name).as_path()).ok())
}

/// Returns the user ID of the process at the other end of `socket`.
///
/// # Errors
/// The system's error.
#[cfg(target_os = "linux")]
pub fn owner_of(socket: impl AsFd) -> io::Result<u32> {
    // The type of rustix does not allow the PID 0, which a process outside of this container has here.
    Ok(nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials)?.uid())
}

/// Returns this user's ID: on this system, the permissions of the socket's directory are relied on.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn owner_of(_socket: impl AsFd) -> io::Result<u32> {
    Ok(rustix::process::geteuid().as_raw())
}

/// What a path is sent without in a header: all but the visible ASCII characters, and the escape character itself.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// Returns the value of the header that identifies a process's configuration and data directory. The agent rejects a client
/// with another value, which would get the tokens of another home directory.
#[must_use]
pub fn home_id(config_file: &Path, data: &Path) -> String {
    let escaped = |path: &Path| percent_encode(path.as_os_str().as_bytes(), ESCAPED).to_string();
    format!("{} {}", escaped(config_file), escaped(data))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn socket_is_private_and_removed_at_the_end() {
        let place = tempfile::tempdir().expect("tempdir");
        let path = place.path().join("authctl/agent.sock");
        let listening = listen(&path, None).expect("made");
        let mode = |path: &Path| path.metadata().expect("there").mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("a parent"))), (0o600, 0o700));
        assert_eq!(mode(&path.with_extension("sock.lock")), 0o600);
        UnixStream::connect(&path).expect("reached");
        drop(listening);
        let left: Vec<_> = path.parent().expect("a parent").read_dir().expect("read").collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn file_that_is_no_socket_is_not_replaced() {
        let place = tempfile::tempdir().expect("tempdir");
        let path = place.path().join("notes.txt");
        std::fs::write(&path, "mine").expect("written");
        assert!(matches!(listen(&path, None), Err(ListenError::Occupied(_))));
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "mine");
        assert_eq!(std::fs::read_dir(place.path()).expect("listed").count(), 1, "nothing was created");
        // That of a process that has crashed is replaced.
        let stale = place.path().join("stale.sock");
        drop(UnixListener::bind(&stale).expect("bound"));
        let _listening = listen(&stale, None).expect("replaced");
        UnixStream::connect(&stale).expect("reached");
    }

    #[test]
    fn path_that_no_client_can_connect_to_is_refused() {
        let place = tempfile::tempdir().expect("tempdir");
        let begin = place.path().join("x").as_os_str().len();
        for (length, fits) in [(100, true), (107, cfg!(target_os = "linux")), (108, false), (109, false), (300, false)]
        {
            let dir = place.path().join(format!("x{}", "x".repeat(length - begin - "/agent.sock".len())));
            let path = dir.join("agent.sock");
            assert_eq!(path.as_os_str().len(), length);
            match listen(&path, None) {
                Ok(_listening) => assert!(fits && UnixStream::connect(&path).is_ok(), "{length}"),
                Err(ListenError::TooLong(_)) => assert!(!fits && !dir.exists(), "{length}"),
                Err(other) => panic!("{length}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_the_socket_of_a_dead_agent_is_replaced() {
        let place = tempfile::tempdir().expect("tempdir");
        let path = place.path().join("agent.sock");
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(UnixStream::connect(&path).is_err(), "nothing listens");
        let living = listen(&path, None).expect("taken over");
        assert!(matches!(listen(&path, None), Err(ListenError::Running(_))));
        UnixStream::connect(&path).expect("still the living one's");
        drop(living);
    }

    #[test]
    fn symbolic_links_and_writable_directories_are_refused() {
        let place = tempfile::tempdir().expect("tempdir");
        let open = place.path().join("open");
        std::fs::create_dir(&open).expect("mkdir");
        for wide in [0o777, 0o770, 0o720, 0o702] {
            std::fs::set_permissions(&open, std::fs::Permissions::from_mode(wide)).expect("chmod");
            let refused = listen(&open.join("agent.sock"), None);
            assert!(
                matches!(refused, Err(ListenError::Untrusted(UntrustedFile::Writable { mode, .. })) if mode == wide),
                "{refused:?}"
            );
        }
        let (real, link) = (place.path().join("real"), place.path().join("link"));
        std::fs::create_dir(&real).expect("mkdir");
        symlink(&real, &link).expect("symlink");
        let refused = listen(&link.join("agent.sock"), None);
        assert!(matches!(refused, Err(ListenError::Io { .. })), "{refused:?}");
    }

    #[test]
    fn symbolic_link_at_the_path_is_replaced_not_followed() {
        let place = tempfile::tempdir().expect("tempdir");
        let dir = place.path().join("run");
        std::fs::create_dir(&dir).expect("mkdir");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        let (target, path) = (place.path().join("elsewhere"), dir.join("agent.sock"));
        std::fs::write(&target, "untouched").expect("write");
        symlink(&target, &path).expect("symlink");
        let listening = listen(&path, None).expect("made");
        assert!(!path.symlink_metadata().expect("there").file_type().is_symlink());
        assert_eq!(std::fs::read_to_string(&target).expect("there"), "untouched");
        drop(listening);
    }

    #[test]
    fn home_ids_are_distinct_header_values() {
        let id = home_id(Path::new("/h\u{e4}/my config.toml"), Path::new("/d%20"));
        assert_eq!(id, "/h%C3%A4/my%20config.toml /d%2520");
        assert_ne!(home_id(Path::new("/a b"), Path::new("/c")), home_id(Path::new("/a"), Path::new("/b /c")));
    }
}
