//! The OAuth client that authctl is at an issuer, and how it proves itself (RFC 6749, section 2.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use super::client_assertion::{ASSERTION_TYPE, Signer};
use super::error::IssuerError;
use super::form::{Form, encode};
use crate::model::ClientAuth;
use crate::secret::{Secret, SecretBytes};

/// A client as registered at the issuer.
#[derive(Clone, Debug)]
pub struct Client {
    /// The `client_id`.
    pub id: String,
    /// How it proves itself.
    pub auth: ClientAuth,
    /// A confidential client's secret. Sent only where `auth` says so.
    pub secret: Option<Secret>,
    /// What signs its assertions, where `auth` says that it signs.
    pub signer: Option<Signer>,
}

impl Client {
    /// A public client: its id alone.
    #[cfg(any(test, feature = "dev-issuer"))]
    #[must_use]
    pub fn public(id: &str) -> Self {
        Self { id: id.to_owned(), auth: ClientAuth::None, secret: None, signer: None }
    }

    /// Puts the client's id, and its proof, into the form or the returned `Authorization` header.
    pub(super) fn identify(&self, form: &mut Form) -> Result<Option<HeaderValue>, IssuerError> {
        let secret = || self.secret.as_ref().ok_or(IssuerError::Unsupported { what: "this client without its secret" });
        match self.auth {
            ClientAuth::None => {
                form.add("client_id", &self.id);
                Ok(None)
            }
            ClientAuth::ClientSecretPost => {
                form.add("client_id", &self.id);
                form.add_secret("client_secret", secret()?);
                Ok(None)
            }
            ClientAuth::PrivateKeyJwt => {
                let signer = self.signer.as_ref();
                let signer = signer.ok_or(IssuerError::Unsupported { what: "this client without its key" })?;
                form.add("client_id", &self.id);
                form.add("client_assertion_type", ASSERTION_TYPE);
                form.add_secret("client_assertion", &signer.sign(&self.id)?);
                Ok(None)
            }
            ClientAuth::ClientSecretBasic => {
                let secret = secret()?;
                form.remember(secret);
                let mut pair = SecretBytes::default();
                encode(&mut pair, &self.id);
                pair.extend(b":");
                encode(&mut pair, secret.expose());
                let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.expose())));
                Ok(Some(sensitive(&text)?))
            }
        }
    }
}

/// An `Authorization` header that no `Debug` shows.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue, IssuerError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| IssuerError::Local {
        what: "valid header",
        detail: "the token holds control characters".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(auth: ClientAuth) -> (Option<HeaderValue>, Vec<u8>) {
        let client = Client { auth, secret: Some(Secret::new("s:/%".into())), ..Client::public("a b") };
        let mut form = Form::default();
        let header = client.identify(&mut form).expect("has a secret");
        (header, form.into_parts().0.to_vec())
    }

    #[test]
    fn the_secret_goes_where_it_should_and_nowhere_else() {
        assert_eq!(sent(ClientAuth::None), (None, b"client_id=a+b".to_vec()));
        assert_eq!(sent(ClientAuth::ClientSecretPost), (None, b"client_id=a+b&client_secret=s%3A%2F%25".to_vec()));
        let (header, body) = sent(ClientAuth::ClientSecretBasic);
        let header = header.expect("basic");
        assert_eq!(header.to_str().ok(), Some(format!("Basic {}", STANDARD.encode("a+b:s%3A%2F%25")).as_str()));
        assert!(header.is_sensitive() && body.is_empty());
    }

    #[test]
    fn a_missing_secret_is_told_before_anything_is_sent() {
        let client = Client { auth: ClientAuth::ClientSecretBasic, ..Client::public("a") };
        assert!(client.identify(&mut Form::default()).expect_err("no secret").never_sent());
    }
}
