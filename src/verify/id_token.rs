//! Validates ID tokens (OpenID Connect Core 1.0, section 3.1.3.7).

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::checks::Checks;
use super::claims::{check_claims, numeric_date, strings};
use super::header::MAX_TOKEN_LENGTH;
use super::keys::KeySet;
use super::policy::{AcceptedTypes, Algorithm, Policy};
use super::reason::{Reason, ReasonCode, quoted};
use super::token::{CheckedToken, check};
use crate::clock::UnixTime;
use crate::model::Subject;
use crate::secret::Secret;

/// What validation requires of an ID token.
#[derive(Clone, Debug)]
pub struct IdTokenPolicy<'a> {
    /// The issuer, compared exactly with `iss`.
    pub issuer: &'a str,
    /// The client, which must be in `aud`.
    pub client_id: &'a str,
    /// The nonce of the authorization request, if it had one.
    pub nonce: Option<&'a str>,
    /// The access token that was issued with it, checked against `at_hash` if that is present.
    pub access_token: Option<&'a Secret>,
    /// The requested `max_age`, which makes `auth_time` required.
    pub max_auth_age: Option<Duration>,
    /// The subject of the login, which must be the same after a refresh (OpenID Connect Core 1.0, section 12.2).
    pub subject: Option<&'a str>,
    /// The accepted algorithms.
    pub algorithms: &'a [Algorithm],
    /// The tolerated difference between two clocks.
    pub leeway: Duration,
    /// The time at which it must be valid.
    pub now: UnixTime,
}

impl<'a> IdTokenPolicy<'a> {
    /// Creates the default policy for an ID token of `issuer` for `client_id`.
    #[must_use]
    pub fn new(issuer: &'a str, client_id: &'a str, now: UnixTime) -> Self {
        Self {
            issuer,
            client_id,
            nonce: None,
            access_token: None,
            max_auth_age: None,
            subject: None,
            algorithms: &Algorithm::ALL,
            leeway: Policy::LEEWAY,
            now,
        }
    }
}

/// The claims of a valid ID token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdTokenClaims {
    /// Unique at the issuer, at most 255 characters.
    pub sub: String,
    /// A display name: the first of `preferred_username`, `email` and `name`.
    pub name: Option<String>,
    /// The session at the issuer, for logout.
    pub sid: Option<String>,
    /// When the user authenticated.
    pub auth_time: Option<UnixTime>,
    /// How strongly.
    pub acr: Option<String>,
    /// When the ID token expires.
    pub exp: UnixTime,
}

/// Validates `token`.
///
/// # Errors
/// All reasons why it is invalid, in the order of [`ReasonCode`].
pub fn verify_id_token(token: &str, keys: &KeySet, policy: &IdTokenPolicy<'_>) -> Result<IdTokenClaims, Vec<Reason>> {
    let general = Policy {
        algorithms: policy.algorithms.to_vec(),
        types: AcceptedTypes::IdToken,
        leeway: policy.leeway,
        max_auth_age: policy.max_auth_age,
        ..Policy::new(policy.issuer, vec![policy.client_id.to_owned()], policy.now)
    };
    let CheckedToken { claims, key, checks: Checks { mut reasons, .. } } =
        check(token, MAX_TOKEN_LENGTH, keys, &general, check_claims, Checks::default());
    let mut found = None;
    if let Some((claims, _)) = &claims {
        check_id_token(claims, policy, &mut reasons);
        if let (Some(key), Some(access_token)) = (&key, policy.access_token) {
            check_at_hash(claims, key.alg, access_token, &mut reasons);
        }
        found = read(claims);
    }
    match (found, key) {
        (Some(found), Some(_)) if reasons.is_empty() => Ok(found),
        _ => {
            reasons.sort_by_key(|r| r.code);
            Err(reasons)
        }
    }
}

/// Checks an ID token that is verified in place of an access token: the rules for ID tokens, except those that need the
/// login's request, and that its claims do not mark it as an access token.
pub(super) fn check_as_access_token(claims: &Map<String, Value>, policy: &Policy, checks: &mut Checks) {
    let client_id = policy.audiences.first().map_or("", String::as_str);
    let mut reasons = Vec::new();
    check_id_token(claims, &IdTokenPolicy::new(&policy.issuer, client_id, policy.now), &mut reasons);
    let has_value = |name: &str, value: &str| claims.get(name).and_then(Value::as_str) == Some(value);
    if has_value("typ", "Bearer") || has_value("token_use", "access") {
        let message = "expected an ID token, found an access token by its claims";
        reasons.push(Reason::new(ReasonCode::WrongType, message));
    }
    reasons.into_iter().for_each(|reason| checks.deny("id_token", reason));
}

/// Checks the rules for ID tokens only.
fn check_id_token(claims: &Map<String, Value>, policy: &IdTokenPolicy<'_>, reasons: &mut Vec<Reason>) {
    for name in ["sub", "iat"] {
        if !claims.contains_key(name) {
            reasons.push(Reason::missing_claim(name));
        }
    }
    if policy.nonce.is_some() && !claims.contains_key("nonce") {
        reasons.push(Reason::missing_claim("nonce"));
    }
    let mut deny = |code, message: String| reasons.push(Reason::new(code, message));
    if let Some(Value::String(sub)) = claims.get("sub") {
        if sub.is_empty() || sub.chars().count() > 255 {
            deny(ReasonCode::Malformed, "claim `sub` is empty or longer than 255 characters".to_owned());
        }
        if let Some(expected) = policy.subject.filter(|expected| expected != sub) {
            let message = format!("expected subject {}, found {}", quoted(expected), quoted(sub));
            deny(ReasonCode::ClaimMismatch, message);
        }
    }
    let several = claims.get("aud").and_then(strings).is_some_and(|aud| aud.len() > 1);
    match claims.get("azp").and_then(Value::as_str) {
        Some(azp) if azp != policy.client_id => {
            let message = format!("expected authorized party {}, found {}", quoted(policy.client_id), quoted(azp));
            deny(ReasonCode::ClaimMismatch, message);
        }
        None if several => {
            deny(ReasonCode::MissingClaim, "claim `azp` is missing, and there are several audiences".to_owned());
        }
        _ => {}
    }
    if let (Some(nonce), Some(found)) = (policy.nonce, claims.get("nonce"))
        && found.as_str() != Some(nonce)
    {
        deny(ReasonCode::ClaimMismatch, "claim `nonce` is not the nonce of the request".to_owned());
    }
}

/// Checks that the access token was issued with the ID token (OpenID Connect Core 1.0, section 3.1.3.6).
fn check_at_hash(claims: &Map<String, Value>, alg: Algorithm, access_token: &Secret, reasons: &mut Vec<Reason>) {
    let Some(found) = claims.get("at_hash") else { return };
    let hash = match alg {
        Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => &digest::SHA256,
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &digest::SHA384,
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::ES512 | Algorithm::EdDSA => &digest::SHA512,
    };
    let digest = digest::digest(hash, access_token.expose().as_bytes());
    let half = &digest.as_ref()[..digest.as_ref().len() / 2];
    if found.as_str() != Some(URL_SAFE_NO_PAD.encode(half).as_str()) {
        let message = "claim `at_hash` does not match the access token";
        reasons.push(Reason::new(ReasonCode::ClaimMismatch, message));
    }
}

fn read(claims: &Map<String, Value>) -> Option<IdTokenClaims> {
    let claim = |name: &str| claims.get(name).and_then(Value::as_str);
    let text = |name: &str| claim(name).map(str::to_owned);
    Some(IdTokenClaims {
        sub: text("sub")?,
        name: Subject::display_name(claim),
        sid: text("sid"),
        auth_time: claims.get("auth_time").and_then(numeric_date),
        acr: text("acr"),
        exp: claims.get("exp").and_then(numeric_date)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::ReasonCode::*;
    use super::*;
    use crate::verify::testing::{AUDIENCE, ISSUER, NOW, b64, claims, ed, p256, set};

    fn policy() -> IdTokenPolicy<'static> {
        IdTokenPolicy::new(ISSUER, AUDIENCE, UnixTime(NOW))
    }

    fn codes(token: &str, policy: &IdTokenPolicy<'_>) -> Vec<ReasonCode> {
        match verify_id_token(token, &set(&[p256().jwk.clone()]), policy) {
            Ok(_) => Vec::new(),
            Err(reasons) => reasons.iter().map(|r| r.code).collect(),
        }
    }

    fn with(changes: Value, policy: &IdTokenPolicy<'_>) -> Vec<ReasonCode> {
        codes(&p256().token(changes), policy)
    }

    #[test]
    fn valid_id_token_gives_subject_and_display_name() {
        let token = p256().token(json!({"preferred_username": " ", "email": "developer@example.com", "sid": "S"}));
        let found = verify_id_token(&token, &set(&[p256().jwk.clone()]), &policy()).expect("valid");
        assert_eq!((found.sub.as_str(), found.name.as_deref()), ("s", Some("developer@example.com")));
        assert_eq!((found.sid.as_deref(), found.exp), (Some("S"), UnixTime(NOW + 300)));
    }

    #[test]
    fn nonce_must_be_that_of_the_request() {
        let sent = IdTokenPolicy { nonce: Some("n1"), ..policy() };
        assert_eq!(with(json!({"nonce": "n1"}), &sent), []);
        assert_eq!(with(json!({"nonce": "n2"}), &sent), [ClaimMismatch]);
        assert_eq!(with(json!({}), &sent), [MissingClaim]);
    }

    #[test]
    fn audience_and_authorized_party_must_be_the_client() {
        assert_eq!(with(json!({"aud": "other"}), &policy()), [WrongAudience]);
        assert_eq!(with(json!({"aud": [AUDIENCE, "other"]}), &policy()), [MissingClaim]);
        assert_eq!(with(json!({"aud": [AUDIENCE, "other"], "azp": AUDIENCE}), &policy()), []);
        assert_eq!(with(json!({"azp": "other"}), &policy()), [ClaimMismatch]);
    }

    #[test]
    fn subject_is_required_and_must_not_change() {
        assert_eq!(with(json!({"sub": null}), &policy()), [MissingClaim]);
        assert_eq!(with(json!({"sub": ""}), &policy()), [Malformed]);
        assert_eq!(with(json!({"sub": "x".repeat(256)}), &policy()), [Malformed]);
        assert_eq!(with(json!({"sub": "\u{e4}".repeat(255)}), &policy()), []);
        assert_eq!(with(json!({}), &IdTokenPolicy { subject: Some("t"), ..policy() }), [ClaimMismatch]);
        assert_eq!(with(json!({"iat": null}), &policy()), [MissingClaim]);
    }

    #[test]
    fn at_hash_must_match_the_access_token() {
        // OpenID Connect Core, section A.3: the access token and its at_hash with SHA-256.
        let token = Secret::new("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y".into());
        let asked = IdTokenPolicy { access_token: Some(&token), ..policy() };
        assert_eq!(with(json!({"at_hash": "77QmUPtjPfzWtF2AnpK9RQ"}), &asked), []);
        assert_eq!(with(json!({}), &asked), []);
        assert_eq!(with(json!({"at_hash": "77QmUPtjPfzWtF2AnpK9RR"}), &asked), [ClaimMismatch]);
        assert_eq!(with(json!({"at_hash": 1}), &asked), [ClaimMismatch]);
        let half = &digest::digest(&digest::SHA512, token.expose().as_bytes()).as_ref()[..32].to_vec();
        let eddsa = ed().token(json!({"at_hash": b64(half)}));
        assert!(verify_id_token(&eddsa, &set(&[ed().jwk.clone()]), &asked).is_ok());
    }

    #[test]
    fn id_token_in_place_of_an_access_token_is_checked_as_one() {
        let general = Policy { types: AcceptedTypes::IdToken, ..crate::verify::testing::policy() };
        let with =
            |changes| crate::verify::testing::codes(&p256().token(changes), &set(&[p256().jwk.clone()]), &general);
        assert_eq!(with(json!({"nonce": "n", "at_hash": "h", "typ": "ID"})), []);
        assert_eq!(with(json!({"sub": null})), [MissingClaim]);
        assert_eq!(with(json!({"azp": "other"})), [ClaimMismatch]);
        assert_eq!(with(json!({"typ": "Bearer"})), [WrongType]);
        assert_eq!(with(json!({"token_use": "access"})), [WrongType]);
    }

    #[test]
    fn other_types_of_tokens_are_rejected() {
        let typed = |typ: &str| {
            let header = format!(r#"{{"alg":"ES256","kid":"k","typ":"{typ}"}}"#);
            codes(&p256().signs(&header, &claims(json!({})).to_string()), &policy())
        };
        assert_eq!(typed("JWT"), []);
        assert_eq!(typed("at+jwt"), [WrongType]);
        assert_eq!(typed("logout+jwt"), [WrongType]);
    }

    #[test]
    fn rules_for_all_tokens_apply() {
        assert_eq!(with(json!({"iss": "https://evil.example", "exp": 1}), &policy()), [Expired, WrongIssuer]);
        let other = set(&[ed().jwk.clone()]);
        let reasons = verify_id_token(&p256().token(json!({})), &other, &policy()).expect_err("another key");
        assert_eq!(reasons[0].code, AlgorithmNotAllowed);
        let recent = IdTokenPolicy { max_auth_age: Some(Duration::from_secs(60)), ..policy() };
        assert_eq!(with(json!({}), &recent), [MissingClaim]);
        let long_ago = json!({"auth_time": NOW - 1000, "sub": null});
        assert_eq!(with(long_ago, &recent), [MissingClaim, ClaimMismatch], "in order");
    }
}
