//! The keys of a trusted platform, and the identity tokens (JWTs) that they verify.

use std::collections::HashSet;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use crate::clock::UnixTime;

/// The keys of a platform whose identity tokens are accepted.
#[derive(Clone, Debug)]
pub struct PlatformKeys(JwkSet);

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: f64,
    #[serde(default)]
    nbf: f64,
}

impl PlatformKeys {
    /// Parses a JWK Set (RFC 7517, section 5). `None` if it is not one, or is empty.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|set: &JwkSet| !set.keys.is_empty()).map(Self)
    }

    /// Returns the subject of a token that is valid at `now` for one of `audiences`, with the platform's name before it
    /// (RFC 7523, section 3); `None` if the token is invalid.
    pub(super) fn subject(&self, token: &str, audiences: &[String], now: UnixTime) -> Option<String> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA) {
            return None;
        }
        let key = match (&header.kid, self.0.keys.as_slice()) {
            (Some(kid), _) => self.0.find(kid)?,
            (None, [only]) => only,
            (None, _) => return None,
        };
        let mut validation = Validation::new(header.alg);
        validation.set_audience(audiences);
        validation.required_spec_claims = HashSet::from(["iss", "sub", "aud", "exp"].map(str::to_owned));
        // Checked below, by the issuer's own clock.
        validation.validate_exp = false;
        let Claims { iss, sub, exp, nbf } =
            jsonwebtoken::decode(token, &DecodingKey::from_jwk(key).ok()?, &validation).ok()?.claims;
        (nbf <= now.0 as f64 && exp > now.0 as f64).then(|| format!("{iss}#{sub}"))
    }
}
