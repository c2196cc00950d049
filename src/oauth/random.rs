//! Unpredictable strings: states, nonces, PKCE verifiers, `jti` of assertions and IDs of logins.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::IssuerError;

/// Returns 32 random bytes as 43 characters of base64url, the length that RFC 7636, section 4.1 recommends for a verifier.
///
/// # Errors
/// [`IssuerError::Local`] if the system's generator fails.
pub fn random() -> Result<String, IssuerError> {
    let mut bytes = [0u8; 32];
    rand::fill(&mut bytes)
        .map_err(|_| IssuerError::Local { action: "generate random bytes", detail: "the generator failed".into() })?;
    let text = URL_SAFE_NO_PAD.encode(bytes);
    zeroize::Zeroize::zeroize(&mut bytes);
    Ok(text)
}
