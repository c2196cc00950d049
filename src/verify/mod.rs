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
#[cfg(test)]
mod vectors;

use serde_json::{Map, Value};

pub use checks::{CheckResult, Checks, Step};
pub use clock_guard::{CLOCK_TOLERANCE, clock_rollback};
pub use id_token::{IdTokenPolicy, verify_id_token};
pub use keys::{KeyInfo, KeySet, KeySummary};
pub use options::{InvalidOption, PolicyOptions, VerdictJson};
pub use policy::{AcceptedTypes, Algorithm, InvalidAlgorithm, Policy};
pub use reason::{Reason, ReasonCode};
pub use revocation::{is_revoked, mark_revoked};
#[cfg(fuzzing)]
pub use status_list::Statuses;
#[cfg(test)]
pub use status_list::{Status, StatusListError};
pub use status_list::{StatusClaim, StatusList, StatusListPolicy, check_status, unverified_status};

use crate::clock::UnixTime;
use header::ParsedToken;
use reason::{quoted, quoted_list};

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

/// Verifies `token` with `keys` by `policy`.
#[must_use]
pub fn verify(token: &str, keys: &KeySet, policy: &Policy) -> Verdict {
    explain(token, keys, policy, false).0
}

/// Verifies `token` as [`verify`] does, and returns each check too where `explained`.
#[must_use]
pub fn explain(token: &str, keys: &KeySet, policy: &Policy, explained: bool) -> (Verdict, Vec<Step>) {
    let CheckedToken { claims, key, mut checks } =
        check(token, header::MAX_TOKEN, keys, policy, claims::check_claims, Checks::new(explained));
    if policy.types == AcceptedTypes::IdToken
        && let Some((claims, _)) = &claims
    {
        id_token::check_as_access_token(claims, policy, &mut checks);
    }
    let steps = checks.steps.take().unwrap_or_default();
    let verdict = match (claims, key) {
        (Some((claims, typ)), Some(key)) if checks.reasons.is_empty() => {
            Verdict::Granted(VerifiedToken { claims, typ, key })
        }
        _ => Verdict::Denied(checks.into_reasons()),
    };
    (verdict, steps)
}

/// A token after the checks. It is valid only where there is a key and no reason for a denial.
struct CheckedToken {
    /// The claims and the header's `typ`, where they could be parsed.
    claims: Option<(Map<String, Value>, Option<String>)>,
    /// The key that verified the signature.
    key: Option<KeyInfo>,
    checks: Checks,
}

/// Checks length, header and signature by the rules for all tokens, and the claims with `check_claims`.
fn check(
    token: &str,
    max_bytes: usize,
    keys: &KeySet,
    policy: &Policy,
    check_claims: fn(&Map<String, Value>, &Policy, &mut Checks),
    mut checks: Checks,
) -> CheckedToken {
    let parsed = match header::parse_token(token, max_bytes) {
        Ok(parsed) => parsed,
        Err(reasons) => {
            reasons.into_iter().for_each(|reason| checks.deny("parts", reason));
            return CheckedToken { claims: None, key: None, checks };
        }
    };
    checks.pass("parts", || format!("a signed JWT of {} bytes", token.len()));
    match parsed.header.unsupported {
        Some(what) => {
            let message = format!("unsupported header parameter {what}");
            checks.deny("header", Reason::new(ReasonCode::UnsupportedHeader, message));
        }
        None => checks.pass("header", || "no unsupported parameters"),
    }
    let typ = parsed.header.typ.as_deref();
    let shown = || typ.map_or_else(|| "none".to_owned(), quoted);
    if !policy.types.accept(typ) {
        let message = format!("expected type {}, found {}", policy.types.described(), shown());
        checks.deny("typ", Reason::new(ReasonCode::WrongType, message));
    } else if policy.types == AcceptedTypes::AccessToken
        && let Some(feature) = id_token::id_token_feature(typ, &parsed.claims)
    {
        let message = format!("expected an access token, found an ID token: it has {feature}");
        checks.deny("typ", Reason::new(ReasonCode::WrongType, message));
    } else {
        checks.pass("typ", || format!("expected {}, found {}", policy.types.described(), shown()));
    }
    let key = check_signature(&parsed, keys, policy, &mut checks);
    check_claims(&parsed.claims, policy, &mut checks);
    CheckedToken { claims: Some((parsed.claims, parsed.header.typ)), key, checks }
}

/// Returns the trusted key that verifies the signature. Checks the algorithm, the key and the signature, in this order, up
/// to the first that fails.
fn check_signature(parsed: &ParsedToken<'_>, keys: &KeySet, policy: &Policy, checks: &mut Checks) -> Option<KeyInfo> {
    let alg = &parsed.header.alg;
    let algorithm = match alg.parse::<Algorithm>() {
        Ok(algorithm) if policy.algorithms.contains(&algorithm) => algorithm,
        refused => {
            let message = match refused {
                Err(InvalidAlgorithm::None) => "the token is not signed (alg `none`)".to_owned(),
                _ => format!(
                    "algorithm {} is not allowed; allowed: {}",
                    quoted(alg),
                    quoted_list(&policy.algorithms.iter().map(|a| a.name()).collect::<Vec<_>>())
                ),
            };
            checks.deny("alg", Reason::new(ReasonCode::AlgorithmNotAllowed, message));
            return None;
        }
    };
    checks.pass("alg", || format!("{algorithm} is allowed"));
    let candidates = match keys.candidates(parsed.header.kid.as_deref(), algorithm) {
        Ok(candidates) => candidates,
        Err(reason) => {
            checks.deny("key", reason);
            return None;
        }
    };
    checks.pass("key", || match (candidates.as_slice(), parsed.header.kid.as_deref()) {
        ([_], Some(kid)) => format!("kid {} is a trusted key for {algorithm}", quoted(kid)),
        ([_], None) => format!("no kid, and one trusted key for {algorithm}"),
        (several, _) => format!("{} trusted keys for {algorithm} have the token's kid", several.len()),
    });
    let signing_input = parsed.signing_input.as_bytes();
    let Some(key) = candidates.into_iter().find(|key| key.verifies(parsed.signature, signing_input, algorithm)) else {
        let message = "the signature is not by a trusted key";
        checks.deny("signature", Reason::new(ReasonCode::InvalidSignature, message));
        return None;
    };
    checks.pass("signature", || "verified with that key");
    Some(KeyInfo { kid: key.kid.clone(), alg: algorithm, kty: key.kty })
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::RS256 => Self::RS256,
            Algorithm::RS384 => Self::RS384,
            Algorithm::RS512 => Self::RS512,
            Algorithm::PS256 => Self::PS256,
            Algorithm::PS384 => Self::PS384,
            Algorithm::PS512 => Self::PS512,
            Algorithm::ES256 => Self::ES256,
            Algorithm::ES384 => Self::ES384,
            Algorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// Returns whether `token` has the form of a JWT: three parts, the first two of which are JSON objects. Verifies nothing.
#[must_use]
pub fn looks_like_jwt(token: &str) -> bool {
    header::parse(token).is_ok()
}

/// A token's claims without verification: for display, and for the expiry of a supplied token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnverifiedClaims {
    /// `iss`.
    pub iss: Option<String>,
    /// `sub`.
    pub sub: Option<String>,
    /// `client_id`, else `azp`.
    pub client_id: Option<String>,
    /// `aud`, as a list.
    pub aud: Vec<String>,
    /// `scope` or `scp`, space-separated.
    pub scope: Option<String>,
    /// `exp`.
    pub exp: Option<UnixTime>,
    /// `iat`.
    pub iat: Option<UnixTime>,
    /// The header's `kid`.
    pub kid: Option<String>,
}

/// Reads a JWT's claims without verifying it. Returns `None` for another token. No decision may depend on them.
#[must_use]
pub fn unverified_claims(token: &str) -> Option<UnverifiedClaims> {
    let ParsedToken { claims, header, .. } = header::parse(token).ok()?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let texts = |name: &str| claims.get(name).and_then(claims::strings);
    Some(UnverifiedClaims {
        iss: text("iss"),
        sub: text("sub"),
        client_id: text("client_id").or_else(|| text("azp")),
        aud: texts("aud").unwrap_or_default().into_iter().map(str::to_owned).collect(),
        scope: texts("scope").or_else(|| texts("scp")).map(|scopes| scopes.join(" ")),
        exp: claims.get("exp").and_then(claims::numeric_date),
        iat: claims.get("iat").and_then(claims::numeric_date),
        kid: header.kid,
    })
}
