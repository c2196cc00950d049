//! Validates an OpenID Connect ID token (OpenID Connect Core, section 3.1.3.7).

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claims::{numeric_date, strings};
use super::findings::Findings;
use super::keys::KeySet;
use super::policy::{AcceptedTypes, Algorithm, Policy};
use super::reason::{Reason, ReasonCode, quoted};
use super::{Judged, judge};
use crate::clock::UnixTime;
use crate::secret::Secret;

/// What an ID token must be like.
#[derive(Clone, Debug)]
pub struct IdTokenPolicy<'a> {
    /// The issuer that it was got from, compared exactly with `iss`.
    pub issuer: &'a str,
    /// The client that it was got for; must be in `aud`.
    pub client_id: &'a str,
    /// The nonce that was sent with the authorization request, where one was.
    pub nonce: Option<&'a str>,
    /// The access token that came with it; checked against `at_hash` where that is there.
    pub access_token: Option<&'a Secret>,
    /// The `max_age` that was asked for; `auth_time` is then needed.
    pub max_auth_age: Option<Duration>,
    /// The subject of the ID token that a refresh's must agree with (OpenID Connect Core, section 12.2).
    pub subject: Option<&'a str>,
    /// The accepted algorithms.
    pub algorithms: &'a [Algorithm],
    /// How far two clocks may be apart.
    pub leeway: Duration,
    /// The moment as of which it is judged.
    pub now: UnixTime,
}

impl<'a> IdTokenPolicy<'a> {
    /// The default policy for an ID token of `issuer` for `client_id`.
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

/// What a valid ID token says about the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdTokenClaims {
    /// Unique at the issuer, at most 255 characters.
    pub sub: String,
    /// A name for people: `preferred_username`, `email` or `name`, the first that is there.
    pub name: Option<String>,
    /// The session at the issuer, for logout.
    pub sid: Option<String>,
    /// When the user authenticated.
    pub auth_time: Option<UnixTime>,
    /// How strongly.
    pub acr: Option<String>,
    /// When the ID token ends.
    pub exp: UnixTime,
}

/// Validates `token`.
///
/// # Errors
/// Every reason against it, in the order of [`ReasonCode`].
pub fn verify_id_token(token: &str, keys: &KeySet, policy: &IdTokenPolicy<'_>) -> Result<IdTokenClaims, Vec<Reason>> {
    let general = Policy {
        algorithms: policy.algorithms.to_vec(),
        types: AcceptedTypes::IdToken,
        leeway: policy.leeway,
        max_auth_age: policy.max_auth_age,
        ..Policy::new(policy.issuer, vec![policy.client_id.to_owned()], policy.now)
    };
    let Judged { claims, key, findings: Findings { mut reasons, .. } } = judge(token, keys, &general);
    let mut told = None;
    if let Some((claims, _)) = &claims {
        own_rules(claims, policy, &mut reasons);
        if let (Some(key), Some(access_token)) = (&key, policy.access_token) {
            at_hash(claims, key.alg, access_token, &mut reasons);
        }
        told = read(claims);
    }
    match (told, key) {
        (Some(told), Some(_)) if reasons.is_empty() => Ok(told),
        _ => {
            reasons.sort_by_key(|r| r.code);
            Err(reasons)
        }
    }
}

/// The rules that hold for ID tokens alone.
/// Notes what an ID token must be besides, where one decides in an access token's stead: the rules of a login, but for what
/// only the login knows; and that it does not say of itself that it is an access token.
pub(super) fn rules(claims: &Map<String, Value>, policy: &Policy, findings: &mut Findings) {
    let client_id = policy.audiences.first().map_or("", String::as_str);
    let mut reasons = Vec::new();
    own_rules(claims, &IdTokenPolicy::new(&policy.issuer, client_id, policy.now), &mut reasons);
    let says = |name: &str, value: &str| claims.get(name).and_then(Value::as_str) == Some(value);
    if says("typ", "Bearer") || says("token_use", "access") {
        let message = "expected an ID token, found what says that it is an access token";
        reasons.push(Reason::new(ReasonCode::WrongType, message));
    }
    reasons.into_iter().for_each(|reason| findings.deny("id_token", reason));
}

fn own_rules(claims: &Map<String, Value>, policy: &IdTokenPolicy<'_>, reasons: &mut Vec<Reason>) {
    let mut deny = |code, message: String| reasons.push(Reason::new(code, message));
    match claims.get("sub") {
        None => deny(ReasonCode::MissingClaim, "the claim `sub` is missing".to_owned()),
        Some(Value::String(sub)) => {
            if sub.is_empty() || sub.chars().count() > 255 {
                deny(ReasonCode::Malformed, "the claim `sub` is empty or longer than 255 characters".to_owned());
            }
            if let Some(expected) = policy.subject.filter(|expected| expected != sub) {
                let message = format!("expected the subject {}, found {}", quoted(expected), quoted(sub));
                deny(ReasonCode::ClaimMismatch, message);
            }
        }
        Some(_) => {}
    }
    if !claims.contains_key("iat") {
        deny(ReasonCode::MissingClaim, "the claim `iat` is missing".to_owned());
    }
    let several = claims.get("aud").and_then(strings).is_some_and(|aud| aud.len() > 1);
    match claims.get("azp").and_then(Value::as_str) {
        Some(azp) if azp != policy.client_id => {
            let message = format!("expected the authorized party {}, found {}", quoted(policy.client_id), quoted(azp));
            deny(ReasonCode::ClaimMismatch, message);
        }
        None if several => {
            deny(ReasonCode::MissingClaim, "there are several audiences, and the claim `azp` is missing".to_owned());
        }
        _ => {}
    }
    if let Some(nonce) = policy.nonce {
        match claims.get("nonce") {
            None => deny(ReasonCode::MissingClaim, "the claim `nonce` is missing".to_owned()),
            Some(found) if found.as_str() == Some(nonce) => {}
            Some(_) => deny(ReasonCode::ClaimMismatch, "the nonce is not the one that was sent".to_owned()),
        }
    }
}

/// Binds the access token to the ID token (OpenID Connect Core, section 3.1.3.6).
fn at_hash(claims: &Map<String, Value>, alg: Algorithm, access_token: &Secret, reasons: &mut Vec<Reason>) {
    let Some(found) = claims.get("at_hash") else { return };
    let hash = match alg {
        Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => &digest::SHA256,
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &digest::SHA384,
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::EdDSA => &digest::SHA512,
    };
    let digest = digest::digest(hash, access_token.expose().as_bytes());
    let half = &digest.as_ref()[..digest.as_ref().len() / 2];
    if found.as_str() != Some(URL_SAFE_NO_PAD.encode(half).as_str()) {
        let message = "`at_hash` is not the access token's: the two do not belong together";
        reasons.push(Reason::new(ReasonCode::ClaimMismatch, message));
    }
}

fn read(claims: &Map<String, Value>) -> Option<IdTokenClaims> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let named = |name: &str| text(name).filter(|n| !n.trim().is_empty());
    Some(IdTokenClaims {
        sub: text("sub")?,
        name: named("preferred_username").or_else(|| named("email")).or_else(|| named("name")),
        sid: text("sid"),
        auth_time: claims.get("auth_time").and_then(numeric_date),
        acr: text("acr"),
        exp: claims.get("exp").and_then(numeric_date)?,
    })
}

/// What tells that a token which does not say so by its type is an ID token: for its reader it says who signed in, and not
/// what its bearer may do (RFC 9068, section 5; RFC 8725, section 3.12).
pub(super) fn mark(typ: Option<&str>, claims: &Map<String, Value>) -> Option<&'static str> {
    if typ.is_some_and(|typ| typ.to_ascii_lowercase().ends_with("at+jwt")) {
        return None;
    }
    let says = |name: &str, value: &str| claims.get(name).and_then(Value::as_str) == Some(value);
    let has = |name: &str| claims.contains_key(name);
    // Hashes of what came beside it (OpenID Connect Core 1.0, sections 3.1.3.6 and 3.3.2.11).
    if has("at_hash") || has("c_hash") || has("s_hash") {
        Some("a hash of another token (`at_hash`, `c_hash` or `s_hash`)")
    } else if says("typ", "ID") || says("token_use", "id") {
        Some("the word for one in `typ` or `token_use`")
    } else if has("nonce") && !says("typ", "Bearer") {
        // Some issuers repeat the nonce in access tokens too, and say what they are in a claim.
        Some("the `nonce` of a login")
    } else {
        None
    }
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
    fn tells_who_it_is() {
        let token = p256().token(json!({"preferred_username": " ", "email": "developer@example.com", "sid": "S"}));
        let told = verify_id_token(&token, &set(&[p256().jwk.clone()]), &policy()).expect("valid");
        assert_eq!((told.sub.as_str(), told.name.as_deref()), ("s", Some("developer@example.com")));
        assert_eq!((told.sid.as_deref(), told.exp), (Some("S"), UnixTime(NOW + 300)));
    }

    #[test]
    fn the_nonce_that_was_sent_must_come_back() {
        let sent = IdTokenPolicy { nonce: Some("n1"), ..policy() };
        assert_eq!(with(json!({"nonce": "n1"}), &sent), []);
        assert_eq!(with(json!({"nonce": "n2"}), &sent), [ClaimMismatch]);
        assert_eq!(with(json!({}), &sent), [MissingClaim]);
    }

    #[test]
    fn it_is_for_this_client_alone() {
        assert_eq!(with(json!({"aud": "other"}), &policy()), [WrongAudience]);
        assert_eq!(with(json!({"aud": [AUDIENCE, "other"]}), &policy()), [MissingClaim]);
        assert_eq!(with(json!({"aud": [AUDIENCE, "other"], "azp": AUDIENCE}), &policy()), []);
        assert_eq!(with(json!({"azp": "other"}), &policy()), [ClaimMismatch]);
    }

    #[test]
    fn the_subject_is_there_and_stays_the_same() {
        assert_eq!(with(json!({"sub": null}), &policy()), [MissingClaim]);
        assert_eq!(with(json!({"sub": ""}), &policy()), [Malformed]);
        assert_eq!(with(json!({"sub": "x".repeat(256)}), &policy()), [Malformed]);
        assert_eq!(with(json!({}), &IdTokenPolicy { subject: Some("t"), ..policy() }), [ClaimMismatch]);
        assert_eq!(with(json!({"iat": null}), &policy()), [MissingClaim]);
    }

    #[test]
    fn the_access_token_belongs_to_it() {
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
    fn other_kinds_of_token_do_not_pass_for_one() {
        let typed = |typ: &str| {
            let header = format!(r#"{{"alg":"ES256","kid":"k","typ":"{typ}"}}"#);
            codes(&p256().signs(&header, &claims(json!({})).to_string()), &policy())
        };
        assert_eq!(typed("JWT"), []);
        assert_eq!(typed("at+jwt"), [WrongType]);
        assert_eq!(typed("logout+jwt"), [WrongType]);
    }

    #[test]
    fn the_general_rules_hold() {
        assert_eq!(with(json!({"iss": "https://evil.example", "exp": 1}), &policy()), [Expired, WrongIssuer]);
        let other = set(&[ed().jwk.clone()]);
        let reasons = verify_id_token(&p256().token(json!({})), &other, &policy()).expect_err("another key");
        assert_eq!(reasons[0].code, AlgorithmNotAllowed);
        let recent = IdTokenPolicy { max_auth_age: Some(Duration::from_secs(60)), ..policy() };
        assert_eq!(with(json!({}), &recent), [MissingClaim]);
    }
}
