//! File operations: the advisory lock, atomic replacement, reading a file that the user named, and threads for all of them.

mod atomic_file;
mod descriptors;
mod lock;
mod permissions;
pub mod regular_file;
#[cfg(test)]
pub(crate) mod testing;
pub mod token_file;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use atomic_file::{AtomicFile, replace};
pub use descriptors::{ACCEPT_RETRY, descriptors, raise_descriptors};
pub use lock::{FileLock, LockError, LockFile, is_locked, lock_holder, lock_note};
pub use permissions::{UntrustedFile, check_own_directory, is_private, is_trusted_owner};

/// How many calls of [`unblock`] may run at once: half of the threads that a process may have for blocking calls.
const MAX_UNBLOCKED: usize = 256;

/// How many of them may concern the same subject. However many callers wait for files that do not respond, they leave threads
/// for other subjects.
const MAX_PER_SUBJECT: usize = 4;

/// Creates a named pipe that the user alone can open.
///
/// # Errors
/// If the system refuses.
pub fn create_pipe(path: &Path) -> io::Result<()> {
    use nix::sys::stat::Mode;
    Ok(nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?)
}

static UNBLOCKED: Semaphore = Semaphore::const_new(MAX_UNBLOCKED);

/// The subjects of the calls that run or wait.
static SUBJECTS: Mutex<BTreeMap<OsString, Weak<Semaphore>>> = Mutex::new(BTreeMap::new());

/// The permission to run file operations that concern one subject.
#[derive(Debug)]
pub struct FilePermit(#[expect(dead_code, reason = "held")] Option<OwnedSemaphorePermit>);

/// Waits for a permit for a call among those that concern `subject`: a profile, or a file that profiles share.
pub async fn file_permit(subject: impl AsRef<OsStr>) -> FilePermit {
    #[cfg(test)]
    if let Some(pause) = testing::pause() {
        pause().await;
        return FilePermit(None);
    }
    let calls = {
        let mut subjects = SUBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
        subjects.retain(|_, calls| calls.strong_count() > 0);
        let known = subjects.get(subject.as_ref()).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let calls = Arc::new(Semaphore::new(MAX_PER_SUBJECT));
            subjects.insert(subject.as_ref().to_owned(), Arc::downgrade(&calls));
            calls
        })
    };
    // Never closed.
    FilePermit(calls.acquire_owned().await.ok())
}

impl FilePermit {
    /// Runs file operations as [`unblock`] does.
    ///
    /// # Errors
    /// As [`unblock`].
    pub async fn unblock<T: Send + 'static>(self, operations: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        #[cfg(test)]
        if testing::pause().is_some() {
            return Ok(operations());
        }
        let permit = UNBLOCKED.acquire().await.ok();
        let thread = tokio::task::spawn_blocking(move || {
            let _until_done = (self, permit);
            operations()
        });
        thread.await.map_err(|_| io::ErrorKind::Interrupted.into())
    }
}

/// Runs file operations on a thread for blocking calls: a file system that does not respond, such as a network's, then stops
/// nothing but the calls that concern the same `subject`. They run to their end even if the future is dropped.
///
/// # Errors
/// [`io::ErrorKind::Interrupted`] if the runtime stops before they have run, or if they panic.
pub async fn unblock<T: Send + 'static>(
    subject: impl AsRef<OsStr>,
    operations: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    file_permit(subject).await.unblock(operations).await
}

/// Creates `dir` and its missing parents with mode 0700, durably: a power failure must not take what is synced in them later.
/// An existing directory keeps its mode. A symbolic link of this user to a missing directory is followed.
///
/// # Errors
/// As [`DirBuilder::create`].
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    let dir = &through_own_links(dir);
    let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.is_dir());
    let parents: Vec<&Path> = missing.map(directory_of).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for parent in parents {
        match Directory::open(parent) {
            Ok(parent) => parent.sync(),
            Err(error) => tracing::info!("cannot sync {}: {error}", parent.display()),
        }
    }
    Ok(())
}

/// Returns `dir` without the symbolic links of this user that lead nowhere so far. Those of others could choose where a directory
/// is created.
fn through_own_links(dir: &Path) -> PathBuf {
    let own = rustix::process::geteuid().as_raw();
    let leads_nowhere = |path: &&Path| {
        let is_own_link = |about: std::fs::Metadata| about.is_symlink() && about.uid() == own;
        path.symlink_metadata().is_ok_and(is_own_link) && !path.exists()
    };
    let mut target = dir.to_owned();
    for _ in 0..MAX_LINKS {
        let Some(link) = target.ancestors().find(leads_nowhere) else { break };
        let below = target.strip_prefix(link).unwrap_or(Path::new("")).to_owned();
        // Joining an empty path would add a slash.
        target = link_target(link).components().chain(below.components()).collect();
    }
    target
}

/// Identifies the content of a file: another one each time that the file is written, replaced, or its attributes change. The
/// change time is compared, which no program can set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl FileStamp {
    /// Returns the stamp of the file at `path`; `None` if there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        Some(Self { inode: about.ino(), length: about.len(), changed: (about.ctime(), about.ctime_nsec()) })
    }

    /// Returns whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

/// A directory that is about to be changed, open so that the change can be made durable.
#[derive(Debug)]
pub struct Directory {
    file: File,
    path: PathBuf,
}

impl Directory {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: path.to_owned() })
    }

    /// Makes the creations, renames and removals in the directory durable. A failure is only logged: the changes are in
    /// effect for every process, and a caller that took them for undone would act on what is no longer there.
    pub fn sync(&self) {
        if let Err(error) = self.file.sync_all() {
            tracing::warn!("a change in {} may be lost in a power failure: {error}", self.path.display());
        }
    }

    /// Removes the file at `path` in this directory.
    ///
    /// # Errors
    /// As [`std::fs::remove_file`]; the file is still there then.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        // A network's file system can report an error of a removal that it has made.
        let is_gone = || std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound || !is_gone() => return Err(error),
            _ => {}
        }
        self.sync();
        Ok(())
    }
}

/// Returns the directory that `path` is in, `.` for a bare file name.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How many symbolic links are followed, as by the system.
const MAX_LINKS: usize = 40;

/// Returns the file that `path` leads to. A symbolic link is followed, so that a configuration stored elsewhere stays there,
/// and also if that file does not exist.
#[must_use]
pub fn link_target(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&target) {
            Ok(next) => target = directory_of(&target).join(next),
            Err(_) => break,
        }
    }
    target
}

/// Returns whether `path` leads through one of `places`: by its directories, or by those of a symbolic link on the way. Who may
/// change a place may then choose the file.
#[must_use]
pub fn leads_through(path: &Path, places: &[PathBuf]) -> bool {
    let places: Vec<PathBuf> =
        places.iter().map(|place| place.canonicalize().unwrap_or_else(|_| place.clone())).collect();
    PathEntries::of(path).any(|entry| entry.map_or(true, |entry| places.iter().any(|place| entry.starts_with(place))))
}

/// The entries of directories that the system looks up on the way to a path, also those on the way to the target of each symbolic
/// link. In each, only the last part may be a symbolic link.
struct PathEntries {
    /// The parts that are left, the next one last.
    left: Vec<OsString>,
    reached: PathBuf,
    links: usize,
}

impl PathEntries {
    fn of(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self { left: Self::parts(&path), reached: PathBuf::from("/"), links: 0 }
    }

    fn parts(path: &Path) -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    }
}

impl Iterator for PathEntries {
    /// An error if there are too many links.
    type Item = io::Result<PathBuf>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut name = self.left.pop()?;
        while name == ".." {
            self.reached.pop();
            name = self.left.pop()?;
        }
        let entry = self.reached.join(name);
        match std::fs::read_link(&entry) {
            Ok(_) if self.links == MAX_LINKS => {
                self.left.clear();
                return Some(Err(rustix::io::Errno::LOOP.into()));
            }
            // Relative to the directory of the link, unless it begins with the root directory.
            Ok(target) => {
                self.links += 1;
                self.left.extend(Self::parts(&target));
            }
            Err(_) => self.reached.clone_from(&entry),
        }
        Some(Ok(entry))
    }
}
