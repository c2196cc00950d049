//! Sessions as files in the `age` format, for machines without a keychain.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::key_file::{KeySource, SecretKeys};
use super::keys::{AskPassphrase, StoreKey};
use super::{Damage, MAX_BYTES, Store, StoreError};
use crate::fs::{AtomicFile, Directory, check_own_directory, create_private_dir, regular_file};
use crate::model::{ProfileName, RecordName, Session};
use crate::secret::SecretBytes;

/// More than most encrypted sessions have, so that one read is enough.
const USUAL_BYTES: usize = 8 << 10;

/// Stores the session of a profile in `DIR/PROFILE.age`, mode 0600. `age -d -i KEY DIR/PROFILE.age` decrypts it.
///
/// A key file protects sessions that are copied without it, as in a backup of one directory, but not from a reader of both.
/// A passphrase also protects from a reader of both.
#[derive(Debug)]
pub struct FileStore {
    dir: PathBuf,
    key: StoreKey,
    reserved: Mutex<HashMap<ProfileName, Reserved>>,
}

/// What the next write of an item needs: nothing else is opened for it.
#[derive(Debug)]
struct Reserved {
    file: AtomicFile,
    key: SecretKeys,
}

impl FileStore {
    /// Creates a store of files in `dir`, encrypted to `key`. The directory is created at the first write, mode 0700.
    #[must_use]
    pub fn new(dir: PathBuf, key: KeySource) -> Self {
        Self { key: StoreKey::new(dir.clone(), key, None), dir, reserved: Mutex::default() }
    }

    /// Creates a store of which `ask` returns the passphrase, if its key is sealed with one.
    #[must_use]
    pub fn asking(dir: PathBuf, key: KeySource, ask: AskPassphrase) -> Self {
        Self { key: StoreKey::new(dir.clone(), key, Some(ask)), dir, reserved: Mutex::default() }
    }

    fn path(&self, item: &str) -> PathBuf {
        self.dir.join(format!("{item}.age"))
    }

    fn reserved(&self) -> MutexGuard<'_, HashMap<ProfileName, Reserved>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates the directory if it is missing, and refuses one that other users can write to.
    fn prepare_dir(&self) -> Result<(), StoreError> {
        let failed = |e| StoreError::io("create the directory", &self.dir, e);
        create_private_dir(&self.dir).map_err(failed)?;
        Ok(check_own_directory(&self.dir, &self.dir.metadata().map_err(failed)?)?)
    }

    /// Creates the file that is to replace `item`, and loads the key.
    fn prepare(&self, item: &str) -> Result<Reserved, StoreError> {
        // Before the key, which may be created in the same directory.
        self.prepare_dir()?;
        let key = self.key.load_or_create()?;
        let path = self.path(item);
        let file = AtomicFile::beside(&path).map_err(|e| StoreError::io("create a file beside", &path, e))?;
        Ok(Reserved { file, key })
    }

    /// Reads and decrypts `item`.
    fn read_item(&self, item: &str) -> Result<Option<SecretBytes>, StoreError> {
        let path = self.path(item);
        let failed = |e: io::Error| StoreError::io("read", &path, e);
        let file = match regular_file::open_no_follow(&path) {
            Ok((file, _)) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        self.open_sealed(&file, &path).map(Some)
    }

    /// Decrypts `file`, the file at `path` or the one that is to replace it.
    fn open_sealed(&self, file: &File, path: &Path) -> Result<SecretBytes, StoreError> {
        let damaged = |damage| StoreError::Damaged { location: path.display().to_string(), damage };
        let mut sealed = Vec::with_capacity(USUAL_BYTES);
        let read = file.take(MAX_BYTES as u64 + 1).read_to_end(&mut sealed);
        read.map_err(|e| StoreError::io("read", path, e))?;
        if sealed.len() > MAX_BYTES {
            return Err(damaged(Damage::TooLong));
        }
        let mut plain = self.key.load()?.open(&sealed).ok_or_else(|| damaged(Damage::Sealed))?;
        Ok(SecretBytes::new(std::mem::take(&mut *plain)))
    }

    /// Encrypts `plain` and replaces `item` with it, in the file that was reserved for it if there is one.
    fn write_item(&self, item: &str, plain: &SecretBytes, reserved: Option<Reserved>) -> Result<(), StoreError> {
        let Reserved { file, key } = reserved.map_or_else(|| self.prepare(item), Ok)?;
        let sealed = key.seal(plain.expose())?;
        file.replace(&sealed).map_err(|e| StoreError::io("write", &self.path(item), e))
    }
}

impl Store for FileStore {
    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError> {
        let Some(plain) = self.read_item(profile.as_str())? else { return Ok(None) };
        Session::from_stored(&plain, profile).map(Some).map_err(|e| StoreError::of_session(e, self.location(profile)))
    }

    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError> {
        // A separate statement, so that the mutex is not held during the call.
        let reserved = self.reserved().remove(profile);
        self.write_item(profile.as_str(), &session.to_stored(profile), reserved)
    }

    fn read_record(&self, record: &RecordName) -> Result<Option<SecretBytes>, StoreError> {
        self.read_item(record.as_str())
    }

    fn write_record(&self, record: &RecordName, bytes: &SecretBytes) -> Result<(), StoreError> {
        self.write_item(record.as_str(), bytes, None)
    }

    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError> {
        let path = self.path(profile.as_str());
        self.reserved().remove(profile);
        match Directory::open(&self.dir).and_then(|dir| dir.remove(&path)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::io("remove", &path, e)),
        }
    }

    fn reserve(&self, profile: &ProfileName, bytes: usize) -> Result<(), StoreError> {
        // A statement of its own: the mutex must not be locked during the call.
        let reserved = self.reserved().remove(profile);
        let mut reserved = reserved.map_or_else(|| self.prepare(profile.as_str()), Ok)?;
        reserved
            .file
            .reserve(sealed_length(bytes))
            .map_err(|e| StoreError::io("reserve space for", &self.path(profile.as_str()), e))?;
        self.reserved().insert(profile.clone(), reserved);
        Ok(())
    }

    fn finish_interrupted_refresh(&self, profile: &ProfileName) -> Result<bool, StoreError> {
        let path = self.path(profile.as_str());
        let files = AtomicFile::abandoned(&path);
        if files.is_empty() {
            return Ok(false);
        }
        // They are removed unless an error leaves open whether they are needed.
        let leave = |files: Vec<AtomicFile>, error| {
            files.into_iter().for_each(AtomicFile::leave);
            Err(error)
        };
        let next = match self.read(profile) {
            Ok(stored) => stored.filter(|stored| stored.refreshing_since.is_some()).map(|s| s.generation.next()),
            Err(error) if error.is_session_lost() => None,
            Err(error) => return leave(files, error),
        };
        let is_next = |plain: &SecretBytes| {
            Session::from_stored(plain, profile).is_ok_and(|session| next.as_ref() == Some(&session.generation))
        };
        let mut found = None;
        for (at, file) in files.iter().enumerate() {
            match self.open_sealed(file.file(), &path) {
                Ok(plain) if is_next(&plain) => found = Some(at),
                Ok(_) | Err(StoreError::Damaged { .. }) => {}
                Err(error) => return leave(files, error),
            }
        }
        let Some(file) = found.and_then(|at| files.into_iter().nth(at)) else { return Ok(false) };
        file.replace_as_it_is().map(|()| true).map_err(|e| StoreError::io("write", &path, e))
    }

    fn location(&self, profile: &ProfileName) -> String {
        self.path(profile.as_str()).display().to_string()
    }

    fn key(&self) -> Option<&StoreKey> {
        Some(&self.key)
    }

    fn items(&self) -> Result<Vec<String>, StoreError> {
        let failed = |e: io::Error| StoreError::io("list", &self.dir, e);
        let entries = match self.dir.read_dir() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut items = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // A file that is being written begins with a dot.
            let item = name.to_str().and_then(|name| name.strip_suffix(".age")).filter(|item| !item.starts_with('.'));
            items.extend(item.map(str::to_owned));
        }
        Ok(items)
    }

    fn encrypt_again(&self, item: &str) -> Result<(), StoreError> {
        self.read_item(item)?.map_or(Ok(()), |plain| self.write_item(item, &plain, None))
    }

    fn remove_item(&self, item: &str) -> Result<(), StoreError> {
        let path = self.path(item);
        match Directory::open(&self.dir).and_then(|dir| dir.remove(&path)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path, e)),
            _ => Ok(()),
        }
    }
}

/// Returns at least the length of the `age` file of `bytes` of plain text: a header of less than 512 bytes, and 16 bytes for
/// each 64 KiB or part of it.
fn sealed_length(bytes: usize) -> u64 {
    let bytes = bytes as u64;
    bytes.saturating_add(bytes / 4096).saturating_add(1024)
}

#[cfg(test)]
mod tests;
