//! The HTTP clients, one for each file of certificate authorities, created again when a trusted certificate file changes.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::fs::FileStamp;
use crate::oauth::{Http, IssuerError};
use crate::paths::authorities_directories;

/// The clients created so far.
#[derive(Default)]
pub(super) struct HttpClients(Mutex<Vec<CachedClient>>);

struct CachedClient {
    ca_cert: Option<PathBuf>,
    stamps: Vec<Option<FileStamp>>,
    http: Http,
}

/// Returns the stamps of all certificate files that a client trusts: the platform's store, or what the environment
/// names in its place, and `ca_cert`. On macOS the platform's store is consulted at each connection instead.
fn stamps(ca_cert: Option<&Path>) -> Vec<Option<FileStamp>> {
    let platform = openssl_probe::probe();
    let files = platform.cert_file.iter().chain(&platform.cert_dir).map(PathBuf::as_path);
    let named = authorities_directories();
    files.chain(named.iter().map(PathBuf::as_path)).chain(ca_cert).map(FileStamp::of).collect()
}

impl HttpClients {
    /// Returns the client that trusts the platform's certificate authorities and those in `ca_cert`, as they are now.
    ///
    /// # Errors
    /// [`IssuerError::CaCertificates`] if the file cannot be read or holds no certificate.
    pub(super) fn get(&self, ca_cert: Option<&Path>) -> Result<Http, IssuerError> {
        // Taken before the files are read, so that a change during the reading is noticed the next time.
        let stamps = stamps(ca_cert);
        let clients = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |client: &&CachedClient| client.ca_cert.as_deref() == ca_cert && client.stamps == stamps;
        if let Some(client) = clients().iter().find(is_same) {
            return Ok(client.http.clone());
        }
        // Without the mutex: a file that cannot be read for a while must not keep other profiles from their clients.
        let http = Http::new(ca_cert)?;
        let mut clients = clients();
        // Another caller may have been faster: all use the client that is stored.
        if let Some(client) = clients.iter().find(is_same) {
            return Ok(client.http.clone());
        }
        clients.retain(|client| client.ca_cert.as_deref() != ca_cert);
        clients.push(CachedClient { ca_cert: ca_cert.map(Path::to_owned), stamps, http: http.clone() });
        Ok(http)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A self-signed certificate.
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
    fn client_is_reused_until_its_certificate_file_changes() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("ca.pem");
        let clients = HttpClients::default();
        let client = || clients.get(Some(&file)).expect("a client");
        let plain = clients.get(None).expect("a client");
        assert!(matches!(clients.get(Some(&file)), Err(IssuerError::CaCertificates { .. })), "the file is missing");
        fs::write(&file, CERTIFICATE).expect("written");
        let first = client();
        assert!(client().shares_clients(&first) && !first.shares_clients(&plain));
        fs::write(&file, CERTIFICATE.repeat(2)).expect("written");
        let second = client();
        assert!(!second.shares_clients(&first), "written in place");
        // Same length and modification time as the one before.
        let metadata = fs::metadata(&file).expect("there");
        let other = dir.path().join("new.pem");
        fs::write(&other, CERTIFICATE.repeat(2)).expect("written");
        let times = fs::FileTimes::new().set_modified(metadata.modified().expect("known"));
        fs::File::options().write(true).open(&other).expect("opened").set_times(times).expect("set");
        fs::rename(&other, &file).expect("moved");
        let third = client();
        assert!(!third.shares_clients(&second), "replaced");
        assert!(client().shares_clients(&third) && clients.get(None).expect("a client").shares_clients(&plain));
        fs::write(&file, "").expect("written");
        assert!(matches!(clients.get(Some(&file)), Err(IssuerError::CaCertificates { .. })), "an empty file");
        assert_eq!(clients.0.lock().expect("not poisoned").len(), 2);
    }
}
