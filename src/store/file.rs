//! Sessions in files, each sealed in the age format and replaced in one step.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::key::KeySource;
use super::{Damage, Store, StoreError, io_error};
use crate::model::{ProfileName, Session, StoreKind};
use crate::secret::SecretBytes;

/// No session file is larger.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// What the age format adds to what it seals: the header, and 16 bytes for each 64 KiB.
const AGE_OVERHEAD: usize = 1024;

/// Sessions as `DIRECTORY/PROFILE.age`, to be opened with `age -d -i KEY` as well.
#[derive(Debug)]
pub struct FileStore {
    directory: PathBuf,
    key: KeySource,
}

impl FileStore {
    /// A store of files in `directory`, made at the first write with mode 0700, sealed to `key`.
    #[must_use]
    pub fn new(directory: PathBuf, key: KeySource) -> Self {
        Self { directory, key }
    }

    fn path(&self, profile: &ProfileName) -> PathBuf {
        self.directory.join(format!("{profile}.age"))
    }

    /// What becomes the session file. There is one a profile, so that one left by a killed process is used again; no
    /// profile's name begins with a dot.
    fn next_path(&self, profile: &ProfileName) -> PathBuf {
        self.directory.join(format!(".{profile}.next"))
    }

    fn open_next(&self, profile: &ProfileName) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(self.next_path(profile))
    }

    fn replace(&self, profile: &ProfileName, sealed: &[u8]) -> io::Result<()> {
        let mut next = self.open_next(profile)?;
        next.rewind()?;
        next.write_all(sealed)?;
        next.set_len(sealed.len() as u64)?;
        next.sync_all()?;
        fs::rename(self.next_path(profile), self.path(profile))?;
        File::open(&self.directory)?.sync_all()
    }

    fn damaged(&self, profile: &ProfileName, why: Damage) -> StoreError {
        StoreError::Damaged { location: self.location(profile), why }
    }
}

impl Store for FileStore {
    fn kind(&self) -> StoreKind {
        StoreKind::File
    }

    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError> {
        let path = self.path(profile);
        let failed = |e| io_error(&path, e);
        let file = match OpenOptions::new().read(true).custom_flags(no_follow()).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut sealed = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut sealed).map_err(failed)?;
        let identity = self.key.read()?;
        let opened = age::decrypt(&identity, &sealed).map_err(|_| self.damaged(profile, Damage::NotOpened))?;
        let opened = SecretBytes::new(opened);
        Session::from_stored(&opened).map(Some).map_err(|e| self.damaged(profile, e.into()))
    }

    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError> {
        let recipient = self.key.read_or_make()?.to_public();
        let path = self.path(profile);
        let sealed = age::encrypt(&recipient, session.to_stored().expose())
            .map_err(|e| io_error(&path, io::Error::other(e.to_string())))?;
        self.replace(profile, &sealed).map_err(|e| io_error(&path, e))
    }

    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError> {
        let path = self.path(profile);
        let gone = |path: &Path| match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(io_error(path, e)),
        };
        gone(&self.next_path(profile))?;
        let was_there = gone(&path)?;
        if was_there {
            File::open(&self.directory).and_then(|dir| dir.sync_all()).map_err(|e| io_error(&path, e))?;
        }
        Ok(was_there)
    }

    fn reserve(&self, profile: &ProfileName, bytes: usize) -> Result<(), StoreError> {
        let path = self.next_path(profile);
        self.key.read_or_make()?;
        let sealed = bytes + bytes / 4096 + AGE_OVERHEAD;
        self.open_next(profile).and_then(|next| allocate(&next, sealed)).map_err(|e| io_error(&path, e))
    }

    fn location(&self, profile: &ProfileName) -> String {
        self.path(profile).display().to_string()
    }
}

fn no_follow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// Takes the blocks for `bytes`, without changing what the file holds where the file system can do that.
fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes as u64) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    let mut file = file;
    file.rewind()?;
    file.write_all(&vec![0; bytes])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::model::{Generation, Grant, TokenSet};
    use crate::secret::Secret;
    use std::os::unix::fs::PermissionsExt as _;

    fn session(token: &str) -> Session {
        Session {
            generation: Generation { login: "l".into(), number: 1 },
            issuer: "https://a.example".parse().expect("valid"),
            client_id: "cli".into(),
            grant: Grant::Browser,
            subject: None,
            tokens: TokenSet {
                access_token: Secret::new(token.into()),
                token_type: "Bearer".into(),
                refresh_token: None,
                id_token: None,
                obtained_at: UnixTime(0),
                expires_at: None,
                scope: None,
            },
            others: vec![],
            client_secret: None,
            keys: None,
            logged_in_at: UnixTime(0),
            renewed_at: None,
            renewing_since: None,
            last_failure: None,
            ended: None,
        }
    }

    fn store() -> (tempfile::TempDir, FileStore, ProfileName) {
        let dir = tempfile::tempdir().expect("tempdir");
        let key = KeySource::Own(dir.path().join("authctl.key"));
        let store = FileStore::new(dir.path().join("sessions"), key);
        (dir, store, "work".parse().expect("name"))
    }

    fn token(session: Option<Session>) -> Option<String> {
        session.map(|s| s.tokens.access_token.expose().to_owned())
    }

    #[test]
    fn what_is_written_comes_back_sealed_and_private() {
        let (dir, store, work) = store();
        assert!(store.read(&work).expect("readable").is_none());
        let large = "x".repeat(1024 * 1024);
        store.write(&work, &session(&large)).expect("written");
        assert_eq!(token(store.read(&work).expect("readable")), Some(large));
        store.write(&work, &session("tiny-token")).expect("written");
        assert_eq!(token(store.read(&work).expect("readable")).as_deref(), Some("tiny-token"));
        let file = fs::read(store.path(&work)).expect("there");
        assert!(!file.windows(10).any(|w| w == b"tiny-token"), "sealed");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&store.path(&work)), mode(&dir.path().join("sessions"))), (0o600, 0o700));
        assert!(store.delete(&work).expect("deleted"));
        assert!(!store.delete(&work).expect("gone already"));
        assert!(store.read(&work).expect("readable").is_none());
    }

    #[test]
    fn damage_is_told_and_nothing_is_deleted() {
        let (_dir, store, work) = store();
        store.write(&work, &session("t")).expect("written");
        let whole = fs::read(store.path(&work)).expect("there");
        for cut in [0, 10, whole.len() / 2, whole.len() - 1] {
            fs::write(store.path(&work), &whole[..cut]).expect("cut");
            assert!(matches!(store.read(&work), Err(StoreError::Damaged { .. })), "cut to {cut}");
            assert_eq!(fs::read(store.path(&work)).expect("there").len(), cut);
        }
        for at in (0..whole.len()).step_by(7) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(store.path(&work), &flipped).expect("flipped");
            assert!(matches!(store.read(&work), Err(StoreError::Damaged { .. })), "bit flipped in byte {at}");
        }
        fs::write(store.path(&work), &whole).expect("mended");
        assert_eq!(token(store.read(&work).expect("readable")).as_deref(), Some("t"));
    }

    #[test]
    fn another_key_opens_nothing() {
        let (dir, store, work) = store();
        store.write(&work, &session("t")).expect("written");
        let other = FileStore::new(dir.path().join("sessions"), KeySource::Own(dir.path().join("other.key")));
        assert!(
            matches!(other.read(&work), Err(StoreError::Key { .. })),
            "there is no such key, and none is made to read"
        );
        other.key.read_or_make().expect("made");
        assert!(matches!(other.read(&work), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_next_file_left_by_a_killed_process_does_no_harm() {
        let (_dir, store, work) = store();
        store.write(&work, &session("old")).expect("written");
        fs::write(store.next_path(&work), vec![7u8; 300_000]).expect("left behind");
        assert_eq!(token(store.read(&work).expect("readable")).as_deref(), Some("old"));
        store.write(&work, &session("new")).expect("written");
        assert_eq!(token(store.read(&work).expect("readable")).as_deref(), Some("new"));
        assert!(!store.next_path(&work).exists());
    }

    #[test]
    fn a_symlink_is_not_followed() {
        let (dir, store, work) = store();
        store.write(&work, &session("t")).expect("written");
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(store.path(&work), &elsewhere).expect("moved");
        std::os::unix::fs::symlink(&elsewhere, store.path(&work)).expect("linked");
        assert!(matches!(store.read(&work), Err(StoreError::Io { .. })));
        std::os::unix::fs::symlink(&elsewhere, store.next_path(&work)).expect("linked");
        let before = fs::read(&elsewhere).expect("there");
        assert!(store.write(&work, &session("u")).is_err());
        assert_eq!(fs::read(&elsewhere).expect("there"), before);
    }

    #[test]
    fn what_is_reserved_is_taken_from_the_disk_beforehand() {
        use std::os::unix::fs::MetadataExt as _;
        let (_dir, store, work) = store();
        store.reserve(&work, 100_000).expect("reserved");
        let blocks = fs::metadata(store.next_path(&work)).expect("there").blocks();
        assert!(blocks * 512 >= 100_000, "{blocks} blocks");
        store.write(&work, &session("t")).expect("written");
        assert_eq!(token(store.read(&work).expect("readable")).as_deref(), Some("t"));
    }

    #[test]
    fn a_writer_that_cannot_write_leaves_the_old_session() {
        let (_dir, store, work) = store();
        store.write(&work, &session("old")).expect("written");
        // A directory in the next file's place stands for any failure before the rename, for root too.
        fs::create_dir(store.next_path(&work)).expect("made");
        assert!(store.write(&work, &session("new")).is_err());
        assert!(store.reserve(&work, 1).is_err());
        assert_eq!(token(store.read(&work).expect("readable")).as_deref(), Some("old"));
    }
}
