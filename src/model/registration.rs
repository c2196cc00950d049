//! A client that authctl has registered itself (RFC 7591), as stored beside the sessions.

use std::io::Write as _;

use serde::{Deserialize, Serialize};
use url::Url;

use super::trust::TrustFormatError;
use super::{ClientAuth, IssuerUrl, secure_url};
use crate::clock::UnixTime;
use crate::secret::{Secret, SecretBytes};

/// A dynamically registered client.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The issuer that the client is registered at.
    pub issuer: IssuerUrl,
    /// The client ID.
    pub client_id: String,
    /// How the client authenticates.
    pub client_auth: ClientAuth,
    /// The client secret.
    pub client_secret: Option<Secret>,
    /// When the client secret expires; `None` if it does not.
    pub secret_expires_at: Option<UnixTime>,
    /// The redirect URI, with the port that was free at the registration. Not all issuers accept other ports (RFC 8252, section
    /// 7.3).
    pub redirect_uri: String,
    /// How the registration is deleted (RFC 7592); `None` if the issuer does not offer it.
    pub management: Option<RegistrationManagement>,
}

/// Access to a client's registration (RFC 7592, section 3).
#[derive(Clone, Debug)]
pub struct RegistrationManagement {
    /// `registration_client_uri`.
    pub url: Url,
    /// `registration_access_token`.
    pub token: Secret,
}

/// The stored form. `S` is a secret: `&str` to write it without another copy in memory, [`Secret`] to read it.
#[derive(Serialize, Deserialize)]
struct StoredRegistration<S> {
    issuer: IssuerUrl,
    /// None once the registration was deleted.
    client: Option<StoredClient<S>>,
}

#[derive(Serialize, Deserialize)]
struct StoredClient<S> {
    client_id: String,
    client_auth: ClientAuth,
    client_secret: Option<S>,
    secret_expires_at: Option<UnixTime>,
    redirect_uri: String,
    management_url: Option<String>,
    management_token: Option<S>,
}

impl Registration {
    /// Returns the stored form of an issuer's registration, or that there is none.
    #[must_use]
    pub fn to_stored(issuer: &IssuerUrl, registration: Option<&Self>) -> SecretBytes {
        let client = registration.map(|registration| StoredClient {
            client_id: registration.client_id.clone(),
            client_auth: registration.client_auth,
            client_secret: registration.client_secret.as_ref().map(Secret::expose),
            secret_expires_at: registration.secret_expires_at,
            redirect_uri: registration.redirect_uri.clone(),
            management_url: registration.management.as_ref().map(|management| management.url.to_string()),
            management_token: registration.management.as_ref().map(|management| management.token.expose()),
        });
        let mut bytes = SecretBytes::default();
        #[allow(
            clippy::expect_used,
            reason = "no map has keys other than strings, and SecretBytes never fails to write"
        )]
        serde_json::to_writer(&mut bytes, &StoredRegistration { issuer: issuer.clone(), client })
            .expect("it is always JSON");
        let _ = bytes.flush();
        bytes
    }

    /// Reads the stored form; `None` if there is no registration at `issuer`.
    ///
    /// # Errors
    /// [`TrustFormatError`].
    pub fn from_stored(bytes: &SecretBytes, issuer: &IssuerUrl) -> Result<Option<Self>, TrustFormatError> {
        let damaged = |e: serde_json::Error| TrustFormatError { line: e.line(), column: e.column() };
        let stored: StoredRegistration<Secret> = serde_json::from_slice(bytes.expose()).map_err(damaged)?;
        let client = stored.client.filter(|_| stored.issuer == *issuer);
        Ok(client.map(|client| Self {
            issuer: issuer.clone(),
            client_id: client.client_id,
            client_auth: client.client_auth,
            client_secret: client.client_secret,
            secret_expires_at: client.secret_expires_at,
            redirect_uri: client.redirect_uri,
            management: match (client.management_url.and_then(|url| secure_url(&url).ok()), client.management_token) {
                (Some(url), Some(token)) => Some(RegistrationManagement { url, token }),
                _ => None,
            },
        }))
    }
}

/// Checks the URL of a client ID metadata document, which is the client ID: https, with a path, without dot segments, fragment
/// and user information (OAuth Client ID Metadata Document, section 3).
///
/// # Errors
/// Why it is none.
pub fn client_metadata_url(text: &str) -> Result<(), String> {
    let invalid = |why: &str| format!("`{text}` is not the URL of a client ID metadata document: {why}");
    let url = secure_url(text).map_err(|error| error.to_string())?;
    match () {
        () if url.scheme() != "https" => Err(invalid("it must be https")),
        () if url.path() == "/" => Err(invalid("it has no path")),
        () if url.fragment().is_some() => Err(invalid("it has a fragment")),
        // The client ID is compared as text.
        () if url.as_str() != text => Err(invalid("it is not in its shortest form")),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_registration_is_of_its_issuer_and_can_be_deleted() {
        let issuer: IssuerUrl = "https://a.example".parse().expect("an issuer");
        let registration = Registration {
            issuer: issuer.clone(),
            client_id: "c".into(),
            client_auth: ClientAuth::ClientSecretPost,
            client_secret: Some(Secret::new("s".into())),
            secret_expires_at: Some(UnixTime(5)),
            redirect_uri: "http://127.0.0.1:9/callback".into(),
            management: Some(RegistrationManagement {
                url: "https://a.example/c".parse().expect("a URL"),
                token: Secret::new("t".into()),
            }),
        };
        let bytes = Registration::to_stored(&issuer, Some(&registration));
        let read = Registration::from_stored(&bytes, &issuer).expect("valid").expect("there");
        assert_eq!(Registration::to_stored(&issuer, Some(&read)).expose(), bytes.expose());
        let other = "https://b.example".parse().expect("an issuer");
        assert!(Registration::from_stored(&bytes, &other).expect("valid").is_none());
        let deleted = Registration::to_stored(&issuer, None);
        assert!(Registration::from_stored(&deleted, &issuer).expect("valid").is_none());
        let mut damaged = SecretBytes::default();
        damaged.extend(b"{\"issuer\":");
        Registration::from_stored(&damaged, &issuer).expect_err("damaged");
    }

    #[test]
    fn client_metadata_url_is_https_with_a_path() {
        client_metadata_url("https://a.example/client.json").expect("valid");
        for text in [
            "",
            "client.json",
            "http://a.example/c",
            "http://127.0.0.1/c",
            "https://a.example",
            "https://a.example/",
            "https://a.example/c#f",
            "https://u@a.example/c",
            "https://a.example/x/../c",
            "https://A.example/c",
            "https://a.example:443/c",
        ] {
            client_metadata_url(text).expect_err(text);
        }
    }
}
