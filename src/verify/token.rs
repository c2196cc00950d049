//! The checks for all tokens, access tokens and ID tokens: form, header, type and signature.

use serde_json::{Map, Value};

use super::checks::Checks;
use super::claims::id_token_feature;
use super::claims::shown_text;
use super::header::{ParsedToken, parse_token};
use super::keys::{KeyInfo, KeySet};
use super::policy::{AcceptedTypes, Algorithm, InvalidAlgorithm, Policy};
use super::reason::{Reason, ReasonCode, quoted, quoted_list};

/// A token after the checks. It is valid only if there is a key and no reason for a denial.
pub(super) struct CheckedToken {
    /// The claims and the header's `typ`, if they could be parsed.
    pub(super) claims: Option<(Map<String, Value>, Option<String>)>,
    /// The key that verified the signature.
    pub(super) key: Option<KeyInfo>,
    /// What was checked.
    pub(super) checks: Checks,
}

/// Checks length, header and signature by the rules for all tokens, and the claims with `check_claims`.
pub(super) fn check(
    token: &str,
    max_bytes: usize,
    keys: &KeySet,
    policy: &Policy,
    check_claims: fn(&Map<String, Value>, &Policy, &mut Checks),
    mut checks: Checks,
) -> CheckedToken {
    let parsed = match parse_token(token, max_bytes) {
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
        && let Some(feature) = id_token_feature(typ, &parsed.claims)
    {
        let message = format!("expected an access token, found an ID token: it has {feature}");
        checks.deny("typ", Reason::new(ReasonCode::WrongType, message));
    } else {
        checks.pass("typ", || format!("expected {}, found {}", policy.types.described(), shown()));
    }
    let key = check_signature(&parsed, keys, policy, &mut checks);
    let first_claim = checks.recorded();
    check_claims(&parsed.claims, policy, &mut checks);
    if key.is_none() {
        checks.distrust(first_claim, &parsed.claims, shown_text);
    }
    CheckedToken { claims: Some((parsed.claims, parsed.header.typ)), key, checks }
}

/// Returns the trusted key that verifies the signature. Checks the algorithm, the key and the signature, in this order, up
/// to the first that fails.
pub(super) fn check_signature(
    parsed: &ParsedToken<'_>,
    keys: &KeySet,
    policy: &Policy,
    checks: &mut Checks,
) -> Option<KeyInfo> {
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
    let Some(key) = candidates.iter().find(|key| key.verifies(parsed.signature, signing_input, algorithm)) else {
        let message = match (candidates.as_slice(), parsed.header.kid.as_deref()) {
            ([_], Some(kid)) => format!("the signature is not by the trusted key {}", quoted(kid)),
            _ => "the signature is not by a trusted key".to_owned(),
        };
        checks.deny("signature", Reason::new(ReasonCode::InvalidSignature, message));
        return None;
    };
    checks.pass("signature", || "verified with that key");
    Some(KeyInfo { kid: key.kid.clone(), alg: algorithm, kty: key.kty })
}
