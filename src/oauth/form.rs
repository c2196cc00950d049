//! A request's form, which holds secrets and is wiped once it is sent.

use hyper::body::Bytes;
use url::form_urlencoded;

use crate::secret::{Secret, SecretBytes};

/// The body of a request in `application/x-www-form-urlencoded`.
#[derive(Default)]
pub(super) struct Form {
    body: SecretBytes,
    secrets: Vec<Secret>,
}

/// Lets a body be shared with the HTTP client without a copy, and be wiped when the last holder drops it.
struct Shared(SecretBytes);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

impl Form {
    /// A form of one grant.
    pub(super) fn grant(grant_type: &str) -> Self {
        let mut form = Self::default();
        form.add("grant_type", grant_type);
        form
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !self.body.expose().is_empty() {
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

    /// Adds a secret, and remembers it for [`echoes`].
    pub(super) fn add_secret(&mut self, name: &str, secret: &Secret) {
        self.add(name, secret.expose());
        self.remember(secret);
    }

    /// Takes a secret that is sent beside the form, for [`echoes`].
    pub(super) fn remember(&mut self, secret: &Secret) {
        self.secrets.push(secret.clone());
    }

    /// Hands out the secrets, so that they outlive the body.
    pub(super) fn into_parts(self) -> (Bytes, Vec<Secret>) {
        (shared(self.body), self.secrets)
    }
}

/// A body that the HTTP client shares, and that is wiped when the last holder drops it.
pub(super) fn shared(body: SecretBytes) -> Bytes {
    Bytes::from_owner(Shared(body))
}

/// Whether `text` repeats one of the secrets that were sent. Shorter ones than four characters would hide too much.
pub(super) fn echoes(secrets: &[Secret], text: &str) -> bool {
    secrets.iter().any(|secret| secret.expose().len() >= 4 && text.contains(secret.expose()))
}

/// Appends `text`, form-urlencoded, leaving no second copy behind.
pub(super) fn encode(into: &mut SecretBytes, text: &str) {
    for piece in form_urlencoded::byte_serialize(text.as_bytes()) {
        into.extend(piece.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_and_kept_apart() {
        let mut form = Form::grant("password");
        form.add_secret("password", &Secret::new("p&q=r s+ü%".into()));
        form.add_if("scope", None);
        let (body, _) = form.into_parts();
        assert_eq!(body.as_ref(), b"grant_type=password&password=p%26q%3Dr+s%2B%C3%BC%25");
        let back: Vec<_> = form_urlencoded::parse(&body).into_owned().collect();
        assert_eq!(back[1].1, "p&q=r s+ü%");
    }
}
