//! Form-encoded request bodies, which hold secrets and are zeroized after sending.

use std::collections::HashSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hyper::body::Bytes;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::secret::{Secret, SecretBytes};

/// The body of a request in `application/x-www-form-urlencoded`.
#[derive(Clone, Default)]
pub(super) struct Form {
    body: SecretBytes,
    secrets: Vec<Secret>,
}

/// Shares a body with the HTTP client without a copy, and zeroizes it when the last owner drops it.
struct Shared(SecretBytes);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl Form {
    /// Returns a form with this `grant_type`.
    pub(super) fn for_grant(grant_type: &str) -> Self {
        let mut form = Self::default();
        form.add("grant_type", grant_type);
        form
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !self.body.is_empty() {
            self.body.extend(b"&");
        }
        encode(&mut self.body, name);
        self.body.extend(b"=");
        encode(&mut self.body, value);
    }

    pub(super) fn add_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Adds a secret, and tracks it for [`repeats_secret`].
    pub(super) fn add_secret(&mut self, name: &str, secret: &Secret) {
        self.add(name, secret.expose());
        self.track_secret(secret);
    }

    /// Tracks a secret that is sent outside the form, or not at all, for [`repeats_secret`].
    pub(super) fn track_secret(&mut self, secret: &Secret) {
        self.secrets.push(secret.clone());
    }

    /// Returns whether it is about to redeem a code of the user (RFC 6749, section 4.1.3; RFC 8628, section 3.4).
    pub(super) fn has_code(&self) -> bool {
        let has = |name: &[u8]| self.body.expose().windows(name.len()).any(|part| part == name);
        has(b"&code=") || has(b"&device_code=")
    }

    /// Returns the body and the tracked secrets.
    pub(super) fn into_parts(self) -> (Bytes, Vec<Secret>) {
        (shared(self.body), self.secrets)
    }
}

/// Returns a body for the HTTP client that is zeroized when its last owner drops it.
pub(super) fn shared(body: SecretBytes) -> Bytes {
    Bytes::from_owner(Shared(body))
}

/// The number of consecutive letters and digits from which a part of a secret counts as repeating it.
const MIN_PART: usize = 8;

/// The length of the longest text that is searched, in bytes. No scope or message of an issuer is as long.
const MAX_SEARCHED: usize = 16 * 1024;

/// Returns whether `text` repeats one of the secrets, or a part of it: as it is, or in percent, base64 or hex encoding, in upper or
/// lower case, and with anything between its letters and digits. Other and repeated encodings are not searched. A text that is too
/// long to be searched counts as one that does.
pub(crate) fn repeats_secret(secrets: &[Secret], text: &str) -> bool {
    if text.len() > MAX_SEARCHED {
        return true;
    }
    let decoded = decoded(text);
    let texts = [text, std::str::from_utf8(decoded.expose()).unwrap_or_default()];
    let letters_of_texts = texts.map(letters);
    let parts: HashSet<&[u8]> =
        letters_of_texts.iter().flat_map(|letters| letters.expose().windows(MIN_PART)).collect();
    let has_part = |secret: &str| letters(secret).expose().windows(MIN_PART).any(|part| parts.contains(part));
    secrets.iter().map(Secret::expose).any(|secret| {
        has_secret(secret, &texts)
            || !parts.is_empty() && (has_part(secret) || encoded(secret).iter().any(|text| has_part(text)))
    })
}

/// Returns whether `text`, which is needed, has one of the secrets in it, also in percent encoding. A part of a secret is allowed:
/// a code or an address may have a name in common with it.
pub(super) fn contains_secret(secrets: &[Secret], text: &str) -> bool {
    let decoded = decoded(text);
    let texts = [text, std::str::from_utf8(decoded.expose()).unwrap_or_default()];
    secrets.iter().any(|secret| has_secret(secret.expose(), &texts))
}

fn has_secret(secret: &str, texts: &[&str]) -> bool {
    texts.iter().any(|text| contains(text, secret))
}

/// Decodes text in percent encoding.
fn decoded(text: &str) -> SecretBytes {
    let mut decoded = SecretBytes::default();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        [&*name, " ", &*value, " "].iter().for_each(|piece| decoded.extend(piece.as_bytes()));
    }
    decoded
}

/// Returns the letters and digits of a text, in lower case.
fn letters(text: &str) -> SecretBytes {
    let mut letters = SecretBytes::with_capacity(text.len());
    for byte in text.bytes().filter(u8::is_ascii_alphanumeric) {
        letters.extend(&[byte.to_ascii_lowercase()]);
    }
    letters
}

/// Returns the secret in hex, and in base64 as it begins at each of the three offsets of a group.
fn encoded(secret: &str) -> [Zeroizing<String>; 4] {
    let mut hex = Zeroizing::new(String::with_capacity(secret.len() * 2));
    for byte in secret.bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    let base64 = |skipped: usize| {
        let rest = secret.as_bytes().get(skipped..).unwrap_or_default();
        Zeroizing::new(STANDARD_NO_PAD.encode(rest))
    };
    [hex, base64(0), base64(1), base64(2)]
}

/// Returns whether `text` contains the secret; one of fewer than four characters only as a word, since it is a part of many.
fn contains(text: &str, secret: &str) -> bool {
    let is_inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let is_word =
        |at: usize| !is_inside(text[..at].chars().next_back()) && !is_inside(text[at + secret.len()..].chars().next());
    !secret.is_empty() && text.match_indices(secret).any(|(at, _)| secret.len() >= 4 || is_word(at))
}

/// Appends `text` in form encoding without a second copy of it in memory.
pub(super) fn encode(into: &mut SecretBytes, text: &str) {
    for piece in form_urlencoded::byte_serialize(text.as_bytes()) {
        into.extend(piece.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_form_encoded() {
        let mut form = Form::for_grant("password");
        form.add_secret("password", &Secret::new("p&q=r s+ü%".into()));
        form.add_if("scope", None);
        form.track_secret(&Secret::new("sent in a header".into()));
        let (body, secrets) = form.into_parts();
        assert!(repeats_secret(&secrets, "no user with p&q=r s+ü%") && repeats_secret(&secrets, "sent in a header"));
        assert!(!repeats_secret(&secrets, "password"));
        assert!(repeats_secret(&secrets, "password=p%26q%3Dr+s%2B%C3%BC%25"));
        let short = [Secret::new("abc".into())];
        assert!(repeats_secret(&short, "no user with `abc`") && !repeats_secret(&short, "no abcde, xabc"));
        let token = [Secret::new("rt-17-SecretRefresh".into())];
        for echo in [
            "rt-17-Secr",
            "17-SecretRefr",
            "RT-17-SECRETREFRESH",
            "/portal/rt17secretrefresh",
            "r t-1 7-S e.c.r.e.t",
            "%72%74%2D%31%37%2DSecret",
            "cnQtMTctU2VjcmV0UmVmcmVzaA==",
            "eHJ0LTE3LVNlY3JldFJlZnJlc2g",
            "eHhydC0xNy1TZWNyZXRSZWZyZXNo",
            "72742d31372d536563726574",
            "72:74:2D:31:37:2D:53",
        ] {
            assert!(repeats_secret(&token, echo), "{echo}");
        }
        for other in ["", "rt-17-Sec", "the refresh token is invalid", "secret", "invalid_grant", "rt"] {
            assert!(!repeats_secret(&token, other), "{other}");
        }
        assert!(!repeats_secret(&token, &"x".repeat(16 * 1024)) && repeats_secret(&token, &"x".repeat(1024 * 1024)));
        assert!(!repeats_secret(&[], "anything at all") && !repeats_secret(&[Secret::new(String::new())], ""));
        assert_eq!(body.as_ref(), b"grant_type=password&password=p%26q%3Dr+s%2B%C3%BC%25");
        let back: Vec<_> = form_urlencoded::parse(&body).into_owned().collect();
        assert_eq!(back[1].1, "p&q=r s+ü%");
    }
}
