//! The HTTP clients, one for each file of certificate authorities, made anew where that or the platform's store has changed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::oauth::{Http, IssuerError};
use crate::paths::authorities_directories;

/// The clients made so far.
#[derive(Default)]
pub(super) struct Https(Mutex<Vec<Made>>);

struct Made {
    ca_cert: Option<PathBuf>,
    stamps: Vec<Option<Stamp>>,
    http: Arc<Http>,
}

/// What changes when the file does, written in place or moved there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self { inode: about.ino(), length: about.len(), modified: (about.mtime(), about.mtime_nsec()) })
    }
}

/// Those of all that a client trusts: the platform's store, or what the environment names instead, and `ca_cert`. On macOS
/// the platform is asked anew at each connection.
fn stamps(ca_cert: Option<&Path>) -> Vec<Option<Stamp>> {
    let platform = openssl_probe::probe();
    let files = platform.cert_file.iter().chain(&platform.cert_dir).map(PathBuf::as_path);
    let named = authorities_directories();
    files.chain(named.iter().map(PathBuf::as_path)).chain(ca_cert).map(Stamp::of).collect()
}

impl Https {
    /// The client that trusts the platform's certificate authorities and those in `ca_cert`, as they are now.
    ///
    /// # Errors
    /// [`IssuerError::CaCert`] where the file cannot be read or holds no certificate.
    pub(super) fn of(&self, ca_cert: Option<&Path>) -> Result<Arc<Http>, IssuerError> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files are read: what changes meanwhile is read again the next time.
        let stamps = stamps(ca_cert);
        let known = made.iter().position(|made| made.ca_cert.as_deref() == ca_cert);
        if let Some(known) = known.filter(|at| made[*at].stamps == stamps) {
            return Ok(Arc::clone(&made[known].http));
        }
        let http = Arc::new(Http::new(ca_cert)?);
        let new = Made { ca_cert: ca_cert.map(Path::to_owned), stamps, http: Arc::clone(&http) };
        match known {
            Some(known) => made[known] = new,
            None => made.push(new),
        }
        Ok(http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an authority that signed itself, and nothing else since.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
        MIIBLDCB36ADAgECAhQhacp476y7HqoubOKqveob0eNVvDAFBgMrZXAwDDEKMAgG\n\
        A1UEAwwBYTAeFw0yNjExMjQxNzU4NDNaFw0yNjExMjUxNzU4NDNaMAwxCjAIBgNV\n\
        BAMMAWEwKjAFBgMrZXADIQCa2SN3PaBGaURst1tX9LaEapKUwhkDF1GnneU0QcRw\n\
        EKNTMFEwHQYDVR0OBBYEFGFwEqQNDt2m+RtHukq/YN+1xnIXMB8GA1UdIwQYMBaA\n\
        FGFwEqQNDt2m+RtHukq/YN+1xnIXMA8GA1UdEwEB/wQFMAMBAf8wBQYDK2VwA0EA\n\
        uXjZ5gulcnU8F2hNRzzCZbCJQ+IT7z1Oni21NBvHzG5y9cHuq27m4Ffq1SbJ7frg\n\
        mhZM9179s7ABXc6wA0yICg==\n\
        -----END CERTIFICATE-----\n";

    #[test]
    fn a_client_is_kept_until_its_file_changes() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("ca.pem");
        let https = Https::default();
        let client = || https.of(Some(&file)).expect("a client");
        let plain = https.of(None).expect("a client");
        assert!(matches!(https.of(Some(&file)), Err(IssuerError::CaCert { .. })), "there is no file yet");
        fs::write(&file, CERTIFICATE).expect("written");
        let first = client();
        assert!(Arc::ptr_eq(&client(), &first) && !Arc::ptr_eq(&first, &plain));
        fs::write(&file, CERTIFICATE.repeat(2)).expect("written");
        let second = client();
        assert!(!Arc::ptr_eq(&second, &first), "written in place");
        // As long as the one before, and not younger.
        let about = fs::metadata(&file).expect("there");
        let other = dir.path().join("new.pem");
        fs::write(&other, CERTIFICATE.repeat(2)).expect("written");
        let times = fs::FileTimes::new().set_modified(about.modified().expect("known"));
        fs::File::options().write(true).open(&other).expect("opened").set_times(times).expect("set");
        fs::rename(&other, &file).expect("moved");
        let third = client();
        assert!(!Arc::ptr_eq(&third, &second), "moved there");
        assert!(Arc::ptr_eq(&client(), &third) && Arc::ptr_eq(&https.of(None).expect("a client"), &plain));
        fs::write(&file, "").expect("written");
        assert!(matches!(https.of(Some(&file)), Err(IssuerError::CaCert { .. })), "what is not trusted any more");
        assert_eq!(https.0.lock().expect("not poisoned").len(), 2);
    }
}
