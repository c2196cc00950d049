//! Recognizes the tokens that a logout on this machine has revoked, so that offline verification denies them.

use aws_lc_rs::digest;
use serde_json::{Map, Value};

use super::claims::numeric_date;
use super::header::parse;
use crate::clock::UnixTime;
use crate::model::{RevokedToken, RevokedTokens, TokenDigest};

/// Adds `token` to `revoked`, and the tokens that its claims identify: other copies of it (`jti`), and the tokens of the
/// same login (`sid`, OpenID Connect Front-Channel Logout 1.0, section 3) issued until then.
pub fn mark_revoked(revoked: &mut RevokedTokens, token: &str, expires_at: UnixTime) {
    revoked.insert(digest_of_token(token), RevokedToken { expires_at, issued_until: None });
    let claims = parse(token).map(|parsed| parsed.claims).unwrap_or_default();
    for identifier in identifiers(&claims) {
        let issued_until = if identifier.is_login { issued_at(&claims) } else { None };
        revoked.insert(identifier.digest, RevokedToken { expires_at, issued_until });
    }
}

/// Returns whether `revoked` has `token`, or a token or login that its verified `claims` identify.
#[must_use]
pub fn is_revoked(revoked: &RevokedTokens, token: &str, claims: Option<&Map<String, Value>>) -> bool {
    if revoked.is_empty() {
        return false;
    }
    let by_claims = |claims: &Map<String, Value>| {
        identifiers(claims).any(|identifier| match revoked.get(&identifier.digest) {
            Some(RevokedToken { issued_until: Some(until), .. }) => issued_at(claims).is_some_and(|at| at <= *until),
            found => found.is_some(),
        })
    };
    revoked.get(&digest_of_token(token)).is_some() || claims.is_some_and(by_claims)
}

/// Returns the digest of a JWT's signing input, or of the whole of an opaque token. The signature is left out: an ECDSA
/// signature can be changed into another valid one without the key.
fn digest_of_token(token: &str) -> TokenDigest {
    digest_of(match token.rsplit_once('.') {
        Some((signing_input, _)) if signing_input.contains('.') => signing_input,
        _ => token,
    })
}

fn digest_of(text: &str) -> TokenDigest {
    let mut digest = TokenDigest::default();
    digest.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    digest
}

/// A token or login that claims identify.
struct Identifier {
    digest: TokenDigest,
    is_login: bool,
}

fn identifiers(claims: &Map<String, Value>) -> impl Iterator<Item = Identifier> + '_ {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let issuer = text("iss");
    [("jti", false), ("sid", true)].into_iter().filter_map(move |(name, is_login)| {
        let (issuer, value) = (issuer?, text(name).filter(|value| !value.is_empty())?);
        // A JSON array separates the three, whatever they contain, and is never equal to a token.
        let digest = digest_of(&serde_json::json!([name, issuer, value]).to_string());
        Some(Identifier { digest, is_login })
    })
}

fn issued_at(claims: &Map<String, Value>) -> Option<UnixTime> {
    claims.get("iat").and_then(numeric_date)
}

#[cfg(test)]
mod tests {
    use super::super::testing::b64;
    use super::*;

    #[test]
    fn revoked_token_is_recognized_with_any_signature() {
        let mut revoked = RevokedTokens::default();
        assert!(!is_revoked(&revoked, "h.p.s", None));
        mark_revoked(&mut revoked, "h.p.s", UnixTime(1000));
        mark_revoked(&mut revoked, "opaque", UnixTime(1000));
        mark_revoked(&mut revoked, "ya29.one", UnixTime(1000));
        for (token, expected) in [
            ("h.p.s", true),
            ("h.p.t", true),
            ("opaque", true),
            ("ya29.one", true),
            ("h.q.s", false),
            ("opaqu", false),
            ("ya29.two", false),
        ] {
            assert_eq!(is_revoked(&revoked, token, None), expected, "{token}");
        }
    }

    #[test]
    fn copies_and_earlier_tokens_of_the_login_are_revoked_too() {
        let claims = |jti: &str, sid: &str, iat: i64| {
            let value = serde_json::json!({"iss": "https://a.b.example", "jti": jti, "sid": sid, "iat": iat});
            value.as_object().cloned().expect("an object")
        };
        let payload = Value::Object(claims("one", "login", 500)).to_string();
        let token = format!("{}.{}.c2ln", b64("{\"alg\":\"ES256\"}"), b64(payload));
        let mut revoked = RevokedTokens::default();
        mark_revoked(&mut revoked, &token, UnixTime(1000));
        for (claims, expected) in [
            (claims("one", "other", 900), true),
            (claims("two", "login", 400), true),
            (claims("two", "login", 500), true),
            (claims("two", "login", 501), false),
            (claims("two", "other", 400), false),
            (claims("login", "one", 400), false),
            (claims("", "", 400), false),
        ] {
            assert_eq!(is_revoked(&revoked, "another", Some(&claims)), expected, "{claims:?}");
        }
        let mut elsewhere = claims("one", "login", 400);
        elsewhere.insert("iss".into(), "https://b.example".into());
        assert!(!is_revoked(&revoked, "another", Some(&elsewhere)), "identifiers are unique only at their issuer");
    }
}
