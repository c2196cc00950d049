//! DPoP proofs (RFC 9449) and their nonces.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::HeaderName;
use serde::Deserialize;

use super::crypto::{base64url, hash, random_token, sha256};
use super::http::{OAuthError, Reply, Request, set_header};
use super::issuer::Issuer;
use crate::clock::UnixTime;

/// How far the time of a proof may be from the issuer's.
const MAX_SKEW: Duration = Duration::from_secs(60);

/// How long a nonce is accepted.
const NONCE_TTL: Duration = Duration::from_secs(60);

const PROOF: HeaderName = HeaderName::from_static("dpop");
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

#[derive(Deserialize)]
struct Header {
    typ: String,
    alg: String,
    jwk: Jwk,
}

/// A public key on P-256. A private one is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
}

#[derive(Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: UnixTime,
    ath: Option<String>,
    nonce: Option<String>,
}

/// Returns the thumbprint of the key that the request proves possession of; `None` without a proof. `access_token` is the one
/// that the request carries.
///
/// # Errors
/// `invalid_dpop_proof`, or `use_dpop_nonce`.
pub(super) fn proven_key(
    issuer: &Issuer,
    request: &Request,
    endpoint: &str,
    access_token: Option<&str>,
) -> Result<Option<String>, OAuthError> {
    let invalid = |why: &'static str| OAuthError::bad_request("invalid_dpop_proof", why);
    let mut proofs = request.headers.get_all(PROOF).iter();
    let Some(proof) = proofs.next() else { return Ok(None) };
    let proof = proof.to_str().ok().filter(|_| proofs.next().is_none());
    let proof = proof.ok_or_else(|| invalid("there must be one proof"))?;
    let (signed, signature) = proof.rsplit_once('.').ok_or_else(|| invalid("it is not a JWT"))?;
    let (header, claims) = signed.split_once('.').ok_or_else(|| invalid("it is not a JWT"))?;
    let header: Header = part(header).ok_or_else(|| invalid("its header is invalid"))?;
    let claims: Claims = part(claims).ok_or_else(|| invalid("its claims are invalid"))?;
    let Jwk { kty, crv, x, y } = &header.jwk;
    if (header.typ.as_str(), header.alg.as_str(), kty.as_str(), crv.as_str()) != ("dpop+jwt", "ES256", "EC", "P-256") {
        return Err(invalid("its type, algorithm or key is not supported"));
    }
    let coordinates = [x, y].map(|text| URL_SAFE_NO_PAD.decode(text).unwrap_or_default());
    let point = [&[4], coordinates[0].as_slice(), coordinates[1].as_slice()].concat();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(signed.as_bytes(), &signature).map_err(|_| invalid("its signature is invalid"))?;
    let is_request = claims.htm == request.method.as_str() && claims.htu == format!("{}/{endpoint}", issuer.url);
    if !is_request || claims.ath != access_token.map(|token| base64url(&sha256(token.as_bytes()))) {
        return Err(invalid("it is for another request"));
    }
    let now = issuer.now();
    let mut state = issuer.state();
    if issuer.options.dpop_nonces {
        let nonce = claims.nonce.as_deref().map(hash);
        let expires_at = nonce.and_then(|nonce| state.dpop_nonces.find(&nonce).copied());
        if expires_at.is_none_or(|expires_at| expires_at <= now) {
            return Err(OAuthError::bad_request("use_dpop_nonce", "the nonce is missing or has expired"));
        }
    }
    if claims.iat.until(now).max(now.until(claims.iat)) > MAX_SKEW {
        return Err(invalid("it is from another time"));
    }
    let id = hash(&claims.jti);
    if state.dpop_proofs.find(&id).is_some() {
        return Err(invalid("it was used before"));
    }
    state.dpop_proofs.insert(id, ());
    // The members of the key in the order of RFC 7638, section 3.2.
    Ok(Some(base64url(&sha256(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes()))))
}

/// Adds the nonce for the next proof to a reply.
pub(super) fn add_nonce(issuer: &Issuer, reply: &mut Reply) {
    if issuer.options.dpop_nonces
        && let Ok(nonce) = random_token()
    {
        issuer.state().dpop_nonces.insert(hash(nonce.expose()), issuer.now().plus(NONCE_TTL));
        set_header(reply, NONCE, nonce.expose());
    }
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
