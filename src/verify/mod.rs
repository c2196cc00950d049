//! Verifies JWTs offline: the signature with trusted keys, the header and the claims by a policy.
//!
//! `header` parses the token, `keys` finds the key that may have signed it, the signature is verified over the token's
//! exact bytes, and `claims` checks the claims. Nothing here does I/O or reads a clock, whatever the token's header asks
//! for (RFC 8725, section 3.10). All reasons for a denial are reported at once.

mod checks;
mod claims;
mod clock_guard;
mod header;
mod id_token;
mod key;
mod keys;
mod options;
mod pem;
mod policy;
#[cfg(test)]
mod properties;
mod reason;
mod revocation;
mod rsa;
mod status_list;
mod strict_json;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod token;
#[cfg(test)]
mod vectors;

use serde_json::{Map, Value};

pub use checks::{CheckResult, Checks, Step};
pub use clock_guard::{CLOCK_TOLERANCE, clock_rollback};
pub use header::MAX_TOKEN_LENGTH;
pub use id_token::{IdTokenPolicy, verify_id_token};
pub use keys::{KeyInfo, KeySet, KeySummary};
pub use options::{InvalidOption, PolicyOptions, ReceivedVerdict, VerdictJson};
#[cfg(test)]
pub use policy::Algorithm;
pub use policy::{AcceptedTypes, Policy};
pub use reason::{Reason, ReasonCode};
pub use revocation::{is_revoked, mark_revoked};
#[cfg(fuzzing)]
pub use status_list::Statuses;
pub use status_list::{StatusClaim, StatusList, StatusListPolicy, check_status, unverified_status};
#[cfg(test)]
pub use status_list::{StatusListError, TokenStatus};

use crate::clock::UnixTime;
use header::ParsedToken;
use token::{CheckedToken, check};

/// A token that passed every check.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedToken {
    /// All its claims.
    pub claims: Map<String, Value>,
    /// The header's `typ`, unchanged.
    pub typ: Option<String>,
    /// The key that signed it.
    pub key: KeyInfo,
}

/// The decision on one token.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The token passed every check.
    Granted(VerifiedToken),
    /// It did not: at least one reason, in the order of [`ReasonCode`].
    Denied(Vec<Reason>),
}

impl Verdict {
    /// Adds a reason for a denial, such as a local revocation.
    #[must_use]
    pub fn denied_for(self, reason: Reason) -> Self {
        let mut reasons = match self {
            Self::Granted(_) => Vec::new(),
            Self::Denied(reasons) => reasons,
        };
        reasons.push(reason);
        reasons.sort_by_key(|r| r.code);
        Self::Denied(reasons)
    }

    /// Returns whether the token is granted.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted(_))
    }
}

/// The verdict on a token and, if they were recorded, the checks that led to it.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The verdict.
    pub verdict: Verdict,
    /// Each check, in the order in which they were made.
    pub steps: Option<Vec<Step>>,
}

impl Verification {
    /// Creates the denial of a token for one reason, which `check` found.
    #[must_use]
    pub fn denied(check: &'static str, reason: Reason, record_steps: bool) -> Self {
        let mut checks = Checks::new(record_steps);
        checks.deny(check, reason);
        Self { steps: checks.steps.take(), verdict: Verdict::Denied(checks.into_reasons()) }
    }
}

/// Verifies `token` with `keys` by `policy`.
#[must_use]
pub fn verify(token: &str, keys: &KeySet, policy: &Policy) -> Verdict {
    verify_with_steps(token, keys, policy, false).verdict
}

/// Verifies `token` as [`verify`] does, and records each check if `record_steps`.
#[must_use]
pub fn verify_with_steps(token: &str, keys: &KeySet, policy: &Policy, record_steps: bool) -> Verification {
    let CheckedToken { claims, key, mut checks } =
        check(token, MAX_TOKEN_LENGTH, keys, policy, claims::check_claims, Checks::new(record_steps));
    if policy.types == AcceptedTypes::IdToken
        && let Some((claims, _)) = &claims
    {
        id_token::check_as_access_token(claims, policy, &mut checks);
    }
    let steps = checks.steps.take();
    let verdict = match (claims, key) {
        (Some((claims, typ)), Some(key)) if checks.reasons.is_empty() => {
            Verdict::Granted(VerifiedToken { claims, typ, key })
        }
        _ => Verdict::Denied(checks.into_reasons()),
    };
    Verification { verdict, steps }
}

/// Returns whether `token` begins as a signed JWT does, with a header that names an algorithm. What follows may be damaged or cut
/// off. Verifies nothing.
#[must_use]
pub fn looks_like_jwt(token: &str) -> bool {
    header::begins_like_jws(token)
}

/// A token's claims without verification: for display, and for the expiry of a supplied token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnverifiedClaims {
    /// `iss`.
    pub iss: Option<String>,
    /// `sub`.
    pub sub: Option<String>,
    /// `aud`; empty if it is missing.
    pub audiences: Vec<String>,
    /// `exp`.
    pub exp: Option<UnixTime>,
    /// `iat`.
    pub iat: Option<UnixTime>,
    /// `auth_time`.
    pub auth_time: Option<UnixTime>,
    /// `nonce`.
    pub nonce: Option<String>,
    /// `jkt` of `cnf`: the thumbprint of the key that the token is bound to (RFC 9449, section 6.1).
    pub jkt: Option<String>,
}

/// Reads a JWT's claims without verifying it. Returns `None` for another token. No decision may depend on them.
#[must_use]
pub fn unverified_claims(token: &str) -> Option<UnverifiedClaims> {
    let ParsedToken { claims, .. } = header::parse(token).ok()?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(UnverifiedClaims {
        iss: text("iss"),
        sub: text("sub"),
        nonce: text("nonce"),
        audiences: claims
            .get("aud")
            .and_then(claims::strings)
            .unwrap_or_default()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        exp: claims.get("exp").and_then(claims::numeric_date),
        iat: claims.get("iat").and_then(claims::numeric_date),
        auth_time: claims.get("auth_time").and_then(claims::numeric_date),
        jkt: claims.get("cnf").and_then(|cnf| cnf.get("jkt")).and_then(Value::as_str).map(str::to_owned),
    })
}
