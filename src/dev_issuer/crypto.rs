//! Hashes, random secrets, and comparison in constant time.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::secret::Secret;

/// A SHA-256 digest. Codes, tokens and cookies are looked up by theirs, so that the tables hold no usable secret.
pub(super) type Digest = [u8; 32];

/// Returns the SHA-256 digest of bytes.
pub(super) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Returns the SHA-256 digest of text.
pub(super) fn hash(text: &str) -> Digest {
    sha256(text.as_bytes())
}

/// Compares two secrets in constant time. Comparing digests hides their lengths too.
pub(super) fn secrets_match(a: &str, b: &str) -> bool {
    constant_time::verify_slices_are_equal(&hash(a), &hash(b)).is_ok()
}

/// Encodes as base64url without padding (RFC 7515, section 2).
pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns 256 random bits as 43 characters that need no escaping in URLs, headers or HTML.
pub(super) fn random_token() -> Result<Secret, Unspecified> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    rand::fill(bytes.as_mut())?;
    Ok(Secret::new(base64url(bytes.as_ref())))
}
