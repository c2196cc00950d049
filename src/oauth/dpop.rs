//! Proof of possession (DPoP; RFC 9449): the key of a session, its proofs, and what servers want in them.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::HeaderValue;
use serde::Serialize;
use url::Url;

use super::error::IssuerError;
use super::random::random;
use crate::clock::UnixTime;
use crate::model::Dpop;
use crate::secret::{Secret, SecretBytes};

/// How many servers' nonces and clocks are remembered.
const MAX_SERVERS: usize = 64;

/// The longest nonce that is sent back, in bytes.
const MAX_NONCE: usize = 1024;

/// How far a server's clock may differ before proofs are dated by it, in seconds: less than servers tolerate (section 11.1).
const TOLERATED_SKEW: i64 = 30;

/// An ES256 key that tokens are bound to.
#[derive(Clone)]
pub struct DpopKey(Arc<KeyParts>);

struct KeyParts {
    pair: EcdsaKeyPair,
    /// The public key as a JWK, with its members in the order of its thumbprint (RFC 7638, section 3.2).
    jwk: String,
    stored: Secret,
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DpopKey").field(&self.thumbprint()).finish()
    }
}

/// The request that a proof is for.
#[derive(Clone, Copy, Debug)]
pub struct ProvenRequest<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The URL. Its query and fragment are not part of a proof.
    pub url: &'a Url,
    /// The access token that it carries; `None` at the token endpoint.
    pub access_token: Option<&'a Secret>,
}

/// The claims of a proof (section 4.2).
#[derive(Serialize)]
struct Claims<'a> {
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    iat: UnixTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

impl DpopKey {
    /// Generates a key.
    ///
    /// # Errors
    /// [`IssuerError::Local`].
    pub fn generate() -> Result<Self, IssuerError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = document.map_err(|_| unusable("it cannot be generated"))?;
        Self::from_stored(&Secret::new(URL_SAFE_NO_PAD.encode(document.as_ref())))
    }

    /// Reads the stored form of a key.
    ///
    /// # Errors
    /// [`IssuerError::Local`].
    pub fn from_stored(stored: &Secret) -> Result<Self, IssuerError> {
        let der = URL_SAFE_NO_PAD.decode(stored.expose()).map(SecretBytes::new).unwrap_or_default();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.expose());
        let pair = pair.map_err(|_| unusable("the stored key is damaged"))?;
        let point = pair.public_key().as_ref();
        // An uncompressed point: a byte 4, then both coordinates.
        let coordinate = |from: usize| URL_SAFE_NO_PAD.encode(point.get(from..from + 32).unwrap_or_default());
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, coordinate(1), coordinate(33));
        Ok(Self(Arc::new(KeyParts { pair, jwk, stored: stored.clone() })))
    }

    /// Returns the stored form: PKCS #8 as base64url.
    #[must_use]
    pub fn to_stored(&self) -> Secret {
        self.0.stored.clone()
    }

    /// Returns the JWK thumbprint (RFC 7638), by which tokens name the key (`cnf.jkt`; section 6.1).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        sha256(self.0.jwk.as_bytes())
    }

    /// Returns a new proof with this nonce, dated `at`.
    ///
    /// # Errors
    /// [`IssuerError::Local`] if it cannot be signed.
    pub fn proof(&self, request: &ProvenRequest<'_>, nonce: Option<&str>, at: UnixTime) -> Result<String, IssuerError> {
        let mut url = request.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let ath = request.access_token.map(|token| sha256(token.expose().as_bytes()));
        let claims = Claims { jti: &random()?, htm: request.method, htu: url.as_str(), iat: at, ath, nonce };
        let claims = serde_json::to_vec(&claims).map_err(|_| unusable("the proof cannot be encoded"))?;
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{}}}"#, self.0.jwk);
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.pair.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| unusable("the key does not sign"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

fn sha256(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, bytes))
}

fn unusable(detail: &str) -> IssuerError {
    IssuerError::Local { action: "use the DPoP key", detail: detail.to_owned() }
}

/// Returns whether `text` has the syntax of a nonce (section 8.1) and a length that is sent back.
#[must_use]
pub fn is_nonce(text: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (1..=MAX_NONCE).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// The last nonce of a server that checks proofs (section 8.2), for the next one.
#[derive(Debug, Default)]
pub struct LatestNonce(Mutex<Option<String>>);

impl LatestNonce {
    /// Takes the nonce of a response, if it has a valid one.
    pub fn update(&self, header: Option<&str>) {
        if let Some(nonce) = header.filter(|nonce| is_nonce(nonce)) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(nonce.to_owned());
        }
    }

    /// Returns the nonce, if there was one.
    #[must_use]
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The key of a client, and whether the server decides if there is one.
#[derive(Clone, Debug, Default)]
pub struct ClientDpop {
    on_demand: bool,
    supported: bool,
    key: Arc<OnceLock<DpopKey>>,
}

impl ClientDpop {
    /// Uses the `stored` key of a session. Without one, `setting` decides.
    ///
    /// # Errors
    /// [`IssuerError::Local`].
    pub fn new(setting: Dpop, stored: Option<&Secret>) -> Result<Self, IssuerError> {
        let key = match (stored, setting) {
            (Some(stored), _) => OnceLock::from(DpopKey::from_stored(stored)?),
            (None, Dpop::Always) => OnceLock::from(DpopKey::generate()?),
            (None, Dpop::Auto | Dpop::Never) => OnceLock::new(),
        };
        Ok(Self { on_demand: setting == Dpop::Auto, supported: false, key: Arc::new(key) })
    }

    /// Returns the same for a server whose metadata list DPoP.
    #[must_use]
    pub fn with_support(self, supported: bool) -> Self {
        Self { supported, ..self }
    }

    /// Returns whether the server's metadata list DPoP.
    pub(super) fn is_supported(&self) -> bool {
        self.supported
    }

    /// Returns the key that proofs were sent of, or will be.
    #[must_use]
    pub fn key(&self) -> Option<&DpopKey> {
        self.key.get()
    }

    /// Generates the key that a server demands; returns whether there is a new one.
    pub(super) fn generate_on_demand(&self) -> Result<bool, IssuerError> {
        Ok(self.on_demand && self.key.get().is_none() && self.key.set(DpopKey::generate()?).is_ok())
    }
}

/// The nonces and clocks of the servers that check proofs, the latest last.
#[derive(Default)]
pub(super) struct ProofServers(Mutex<Vec<(String, KnownServer)>>);

#[derive(Clone, Default)]
struct KnownServer {
    nonce: Option<String>,
    /// How far its clock is ahead of this machine's, in seconds, if that matters.
    skew: i64,
}

/// A proof for one request.
pub(super) struct Proof {
    pub(super) text: Secret,
    pub(super) nonce: Option<String>,
}

impl Proof {
    /// Returns the value of the header, and the nonce that it proves.
    pub(super) fn into_parts(self) -> Result<(HeaderValue, Option<String>), IssuerError> {
        let mut header = HeaderValue::from_str(self.text.expose()).map_err(|_| unusable("the proof cannot be sent"))?;
        header.set_sensitive(true);
        Ok((header, self.nonce))
    }
}

impl ProofServers {
    /// Remembers the nonce that a response of the server at `url` brought (sections 8 and 9).
    pub(super) fn remember_nonce(&self, url: &Url, nonce: &str) {
        if is_nonce(nonce) {
            self.change(url, |server| server.nonce = Some(nonce.to_owned()));
        }
    }

    /// Remembers what time the server at `url` has; returns whether proofs will be dated in another way than before.
    pub(super) fn remember_time(&self, url: &Url, theirs: UnixTime, ours: UnixTime) -> bool {
        let skew = theirs.0.saturating_sub(ours.0);
        let skew = if skew.abs() < TOLERATED_SKEW { 0 } else { skew };
        let before = self.known(url).skew;
        if skew != before {
            self.change(url, |server| server.skew = skew);
        }
        (skew - before).abs() >= TOLERATED_SKEW
    }

    /// Returns a new proof of `key`, dated `now` by this machine's clock, with the nonce that the server wants. The clock of
    /// the server at `issuer` counts where the request's own is not known.
    pub(super) fn proof(
        &self,
        key: &DpopKey,
        request: &ProvenRequest<'_>,
        now: UnixTime,
        issuer: Option<&Url>,
    ) -> Result<Proof, IssuerError> {
        let server = self.known(request.url);
        let skew = match (server.skew, issuer) {
            (0, Some(issuer)) => self.known(issuer).skew,
            (skew, _) => skew,
        };
        let text = key.proof(request, server.nonce.as_deref(), UnixTime(now.0.saturating_add(skew)))?;
        Ok(Proof { text: Secret::new(text), nonce: server.nonce })
    }

    fn known(&self, url: &Url) -> KnownServer {
        let origin = url.origin().ascii_serialization();
        let servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.iter().find(|(of, _)| *of == origin).map(|(_, known)| known.clone()).unwrap_or_default()
    }

    fn change(&self, url: &Url, change: impl FnOnce(&mut KnownServer)) {
        let origin = url.origin().ascii_serialization();
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = servers.iter().position(|(of, _)| *of == origin);
        let mut known = at.map(|at| servers.remove(at).1).unwrap_or_default();
        change(&mut known);
        if servers.len() >= MAX_SERVERS {
            servers.remove(0);
        }
        servers.push((origin, known));
    }
}

#[cfg(test)]
mod tests;
