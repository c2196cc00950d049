//! The key that session files are sealed to: an age identity in a file of its own.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use zeroize::Zeroizing;

use super::{StoreError, io_error};

/// Where the key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file that somebody gave: it must be there.
    Given(PathBuf),
    /// authctl's own: made when the first session is written.
    Own(PathBuf),
}

/// No key file is larger.
const MOST_BYTES: u64 = 64 * 1024;

impl KeySource {
    fn path(&self) -> &Path {
        match self {
            Self::Given(path) | Self::Own(path) => path,
        }
    }

    /// The identity in the key file.
    pub(super) fn read(&self) -> Result<Identity, StoreError> {
        let path = self.path();
        let unusable = |problem: String| StoreError::Key { path: path.to_owned(), problem };
        let file = fs::File::open(path).map_err(|e| unusable(e.to_string()))?;
        let about = file.metadata().map_err(|e| unusable(e.to_string()))?;
        if about.mode() & 0o077 != 0 {
            let mode = about.mode() & 0o777;
            return Err(unusable(format!("others than its owner can use it (mode {mode:03o}); chmod it to 600")));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MOST_BYTES).read_to_string(&mut text).map_err(|e| unusable(e.to_string()))?;
        text.lines()
            .map(str::trim)
            .find(|line| line.starts_with("AGE-SECRET-KEY-1"))
            .and_then(|line| line.parse().ok())
            .ok_or_else(|| unusable("it holds no age identity (AGE-SECRET-KEY-1...)".into()))
    }

    /// The identity, made first if it is authctl's own and there is none yet. Of two that make one at once, both get
    /// the same.
    pub(super) fn read_or_make(&self) -> Result<Identity, StoreError> {
        if let Self::Own(path) = self
            && !path.exists()
        {
            make(path).map_err(|e| io_error(path, e))?;
        }
        self.read()
    }
}

/// Makes a key under another name and links it into its place, which fails if one is there: nobody sees half a key.
fn make(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let identity = Identity::generate();
    let text = Zeroizing::new(format!(
        "# The key to authctl's session files. Whoever can read it can open them: age -d -i THIS-FILE SESSION\n\
         # public key: {}\n{}\n",
        identity.to_public(),
        identity.to_string().expose_secret()
    ));
    let next = tempfile::Builder::new()
        .prefix(".authctl.key.")
        .make_in(directory, |path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path))?;
    next.as_file().write_all(text.as_bytes())?;
    next.as_file().sync_all()?;
    match fs::hard_link(next.path(), path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn many_at_once_get_one_key() {
        let dir = tempfile::tempdir().expect("tempdir");
        let source = KeySource::Own(dir.path().join("config/authctl.key"));
        let keys: Vec<String> = std::thread::scope(|scope| {
            let made: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| source.read_or_make().expect("a key").to_public().to_string()))
                .collect();
            made.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        let mode = fs::metadata(source.path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("config")).expect("there").count(), 1, "nothing else is left");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let source = KeySource::Own(dir.path().join("authctl.key"));
        source.read_or_make().expect("made");
        fs::set_permissions(source.path(), fs::Permissions::from_mode(0o640)).expect("changed");
        let error = source.read().err().expect("refused").to_string();
        assert!(error.contains("mode 640") && error.contains("chmod"), "{error}");
    }

    #[test]
    fn a_given_key_is_never_made_up() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("key");
        assert!(KeySource::Given(path.clone()).read_or_make().is_err());
        assert!(!path.exists());
        fs::write(&path, "not a key").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        let error = KeySource::Given(path).read_or_make().err().expect("refused").to_string();
        assert!(error.contains("no age identity") && !error.contains("not a key"), "{error}");
    }
}
