//! The OAuth client and its authentication (RFC 6749, section 2.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use super::client_assertion::{ASSERTION_TYPE, AssertionSigner};
use super::dpop::ClientDpop;
use super::error::IssuerError;
use super::form::{Form, encode};
use crate::model::ClientAuth;
use crate::secret::{Secret, SecretBytes};

/// A client as registered with the issuer.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    /// The `client_id`.
    pub id: String,
    /// The authentication method.
    pub auth: ClientAuth,
    /// The client secret. Sent only if `auth` uses it.
    pub secret: Option<Secret>,
    /// Signs client assertions, if `auth` uses them.
    pub signer: Option<AssertionSigner>,
    /// The key that tokens are bound to, if they are.
    pub dpop: ClientDpop,
}

impl OAuthClient {
    /// Returns a public client.
    #[must_use]
    pub fn public(id: &str) -> Self {
        Self { id: id.to_owned(), auth: ClientAuth::None, secret: None, signer: None, dpop: ClientDpop::default() }
    }

    /// Adds the client ID and its authentication to the form, or returns an `Authorization` header with them.
    pub(super) fn authenticate(&self, form: &mut Form) -> Result<Option<HeaderValue>, IssuerError> {
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
                form.track_secret(secret);
                let mut pair = SecretBytes::default();
                encode(&mut pair, &self.id);
                pair.extend(b":");
                encode(&mut pair, secret.expose());
                let encoded = Secret::new(STANDARD.encode(pair.expose()));
                form.track_secret(&encoded);
                let text = Zeroizing::new(format!("Basic {}", encoded.expose()));
                Ok(Some(sensitive_header(&text)?))
            }
        }
    }
}

/// Returns an `Authorization` header whose value `Debug` does not show.
pub(super) fn sensitive_header(text: &str) -> Result<HeaderValue, IssuerError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| IssuerError::Local {
        action: "send the token",
        detail: "it contains control characters".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(auth: ClientAuth) -> (Option<HeaderValue>, Vec<u8>) {
        let client = OAuthClient { auth, secret: Some(Secret::new("s:/%".into())), ..OAuthClient::public("a b") };
        let mut form = Form::default();
        let header = client.authenticate(&mut form).expect("has a secret");
        (header, form.into_parts().0.to_vec())
    }

    #[test]
    fn client_secret_is_sent_by_the_configured_method() {
        assert_eq!(sent(ClientAuth::None), (None, b"client_id=a+b".to_vec()));
        assert_eq!(sent(ClientAuth::ClientSecretPost), (None, b"client_id=a+b&client_secret=s%3A%2F%25".to_vec()));
        let (header, body) = sent(ClientAuth::ClientSecretBasic);
        let header = header.expect("basic");
        assert_eq!(header.to_str().ok(), Some(format!("Basic {}", STANDARD.encode("a+b:s%3A%2F%25")).as_str()));
        assert!(header.is_sensitive() && body.is_empty());
    }

    #[test]
    fn missing_client_secret_is_an_error_before_sending() {
        let client = OAuthClient { auth: ClientAuth::ClientSecretBasic, ..OAuthClient::public("a") };
        assert!(!client.authenticate(&mut Form::default()).expect_err("no secret").is_in_doubt());
    }
}
