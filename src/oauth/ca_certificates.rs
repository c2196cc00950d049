//! Certificate authorities that the user names: `--ca-cert` beside the platform's, `SSL_CERT_FILE` instead of them.

use std::path::Path;

use reqwest::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::IssuerError;
use crate::fs::regular_file::{self, ReadError};
use crate::paths::authorities_file;
use crate::secret::SecretBytes;
use crate::text::excerpt;

/// The maximum size of a file of certificates in bytes; all public authorities take a quarter of a MiB.
const MAX_FILE_SIZE: u64 = 8 * 1024 * 1024;

/// Reads the PEM certificates in the file at `path`. A user who can write to it can read everything that is sent to the issuer.
///
/// # Errors
/// [`IssuerError::CaCertificates`] if the file cannot be read or holds no certificate; [`IssuerError::UntrustedFile`] if other
/// users can write to it.
pub(super) fn read(path: &Path) -> Result<Vec<Certificate>, IssuerError> {
    let pem = match regular_file::read_trusted(path, MAX_FILE_SIZE) {
        Ok(pem) => pem,
        Err(ReadError::Untrusted(error)) => return Err(error.into()),
        Err(error) => return Err(unusable(path, &error.to_string())),
    };
    parse(&pem).map_err(|detail| unusable(path, &detail))
}

fn parse(pem: &SecretBytes) -> Result<Vec<Certificate>, String> {
    let mut roots = RootCertStore::empty();
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.expose()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        found.push(Certificate::from_der(&certificate).map_err(|error| error.to_string())?);
        roots.add(certificate).map_err(|_| "it contains an invalid certificate".to_owned())?;
    }
    if found.is_empty() { Err("it contains no PEM certificate".into()) } else { Ok(found) }
}

/// Checks that `SSL_CERT_FILE` names a regular file: the library that reads it would block on a pipe.
///
/// # Errors
/// [`IssuerError::CaCertificates`].
pub(super) fn check_ssl_cert_file() -> Result<(), IssuerError> {
    authorities_file().map_or(Ok(()), |path| check_regular(&path))
}

fn check_regular(path: &Path) -> Result<(), IssuerError> {
    if !path.exists() || path == Path::new("/dev/null") {
        return Ok(());
    }
    regular_file::read(path, MAX_FILE_SIZE).map(drop).map_err(|detail| unusable(path, &detail))
}

/// Returns why the certificate authorities in `SSL_CERT_FILE` cannot be read, if it is set.
pub(super) fn ssl_cert_file_error() -> Option<IssuerError> {
    let path = authorities_file()?;
    let read = regular_file::read(&path, MAX_FILE_SIZE).and_then(|pem| parse(&pem));
    read.err().map(|detail| unusable(&path, &detail))
}

fn unusable(path: &Path, detail: &str) -> IssuerError {
    IssuerError::CaCertificates { path: path.to_owned(), detail: excerpt(detail, 200) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_ca_file_is_named_in_the_error() {
        let dir = tempfile::tempdir().expect("scratch");
        let path = dir.path().join("ca.pem");
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n"), Some(no_certificate)] {
            if let Some(content) = content {
                std::fs::write(&path, content).expect("written");
            }
            let error = read(&path).expect_err("refused");
            assert!(error.to_string().contains("ca.pem"), "{error}");
        }
    }

    #[test]
    fn authorities_are_in_a_regular_file_or_none_at_all() {
        let dir = tempfile::tempdir().expect("scratch");
        let (file, missing) = (dir.path().join("ca.pem"), dir.path().join("missing"));
        std::fs::write(&file, "").expect("written");
        for (path, is_usable) in
            [(&*file, true), (&*missing, true), (Path::new("/dev/null"), true), (Path::new("/dev/zero"), false)]
        {
            assert_eq!(check_regular(path).is_ok(), is_usable, "{}", path.display());
        }
    }
}
