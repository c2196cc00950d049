//! Parses a compact JWS (RFC 7515, section 3.1) and its header.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::reason::{Reason, ReasonCode};
use super::strict_json;
use crate::text::white_space_in_token;

/// The longest accepted token, in bytes.
pub const MAX_TOKEN_LENGTH: usize = 256 * 1024;
/// The longest accepted header after decoding, in bytes. Certificate chains (`x5c`) make some long.
const MAX_HEADER: usize = 64 * 1024;

/// A parsed token. Nothing in it is verified.
#[derive(Debug)]
pub(super) struct ParsedToken<'t> {
    /// The JWS Signing Input (RFC 7515, section 5.2).
    pub signing_input: &'t str,
    /// The signature in canonical base64url.
    pub signature: &'t str,
    pub header: Header,
    pub claims: Map<String, Value>,
}

/// The header parameters that verification uses. `jwk`, `jku`, `x5u`, `x5c` and others are ignored: a token must not choose
/// the key that it is verified with (RFC 8725, section 3.10).
#[derive(Debug)]
pub(super) struct Header {
    pub alg: String,
    pub kid: Option<String>,
    pub typ: Option<String>,
    /// A parameter that is not supported, and why.
    pub unsupported: Option<&'static str>,
}

/// Parses `token`, of at most [`MAX_TOKEN_LENGTH`] bytes, or returns the reasons why it is malformed.
pub(super) fn parse(token: &str) -> Result<ParsedToken<'_>, Vec<Reason>> {
    parse_token(token, MAX_TOKEN_LENGTH)
}

/// Parses `token`, of at most `max_bytes`.
pub(super) fn parse_token(token: &str, max_bytes: usize) -> Result<ParsedToken<'_>, Vec<Reason>> {
    let one = |code, message: &str| vec![Reason::new(code, message)];
    if is_opaque(token) {
        let message = "the token is opaque (not a JWT), so only its issuer can verify it";
        return Err(one(ReasonCode::OpaqueToken, message));
    }
    if let Some(message) = white_space_in_token(token) {
        return Err(one(ReasonCode::Malformed, &message));
    }
    if token.len() > max_bytes {
        return Err(one(ReasonCode::Malformed, &format!("the token is longer than {max_bytes} bytes")));
    }
    let parts: Vec<&str> = token.splitn(4, '.').collect();
    let &[header, claims_part, signature] = parts.as_slice() else {
        let message = match token.split('.').count() {
            5 => {
                "the token is encrypted (JWE, five parts); only signed tokens (JWS, three parts) can be verified".into()
            }
            n => format!("the token has {n} parts; a signed JWT has three"),
        };
        return Err(one(ReasonCode::Malformed, &message));
    };
    let mut problems: Vec<(&str, String)> = Vec::new();
    let header_read = decoded(header)
        .and_then(|bytes| strict_json::object(&bytes, MAX_HEADER).map_err(|e| e.to_string()))
        .and_then(|members| Header::read(&members));
    let claims_read =
        decoded(claims_part).and_then(|bytes| strict_json::object(&bytes, max_bytes).map_err(|e| e.to_string()));
    problems.extend(header_read.as_ref().err().map(|why| ("header", why.clone())));
    problems.extend(claims_read.as_ref().err().map(|why| ("payload", why.clone())));
    if let Err(why) = decoded(signature) {
        // A token with `alg: none` has an empty signature. It is reported as unsigned, not as malformed.
        let unsigned = signature.is_empty() && header_read.as_ref().is_ok_and(|h| h.alg.eq_ignore_ascii_case("none"));
        if !unsigned {
            problems.push(("signature", why));
        }
    }
    match (header_read, claims_read, problems.is_empty()) {
        (Ok(header_read), Ok(claims), true) => {
            let signing_input = &token[..header.len() + 1 + claims_part.len()];
            Ok(ParsedToken { signing_input, signature, header: header_read, claims })
        }
        _ => Err(malformed(&problems)),
    }
}

/// Returns the reasons why parts of a token are malformed. Parts with the same problem share one.
fn malformed(problems: &[(&str, String)]) -> Vec<Reason> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (part, why) in problems {
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, parts)) => parts.push(part),
            None => reasons.push((why, vec![part])),
        }
    }
    let reason = |(why, parts): &(&str, Vec<&str>)| {
        let message = match parts.as_slice() {
            [part] => format!("the token's {part} is malformed: {why}"),
            [first @ .., last] => format!("the token's {} and {last} are malformed: {why}", first.join(", ")),
            [] => format!("the token is malformed: {why}"),
        };
        Reason::new(ReasonCode::Malformed, message)
    };
    reasons.iter().map(reason).collect()
}

/// Returns whether `token` has a header that names an algorithm, and is not encrypted.
pub(super) fn begins_like_jws(token: &str) -> bool {
    let Some((header, _)) = token.split_once('.').filter(|(header, _)| header.len() <= MAX_TOKEN_LENGTH) else {
        return false;
    };
    let members = decoded(header).ok().and_then(|bytes| strict_json::object(&bytes, MAX_HEADER).ok());
    members.is_some_and(|members| members.get("alg").is_some_and(Value::is_string) && !members.contains_key("enc"))
}

/// Returns whether `token` does not begin like a JWT. Some issuers' opaque tokens have a dot, but no JSON before it.
fn is_opaque(token: &str) -> bool {
    let mut parts = token.splitn(3, '.');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let json = || first.len() <= MAX_TOKEN_LENGTH && decoded(first).is_ok_and(|bytes| bytes.first() == Some(&b'{'));
    second.is_none() || (third.is_none() && !json())
}

/// Decodes canonical base64url without padding (RFC 7515, section 2). Only canonical text, so that a valid token has only one
/// encoding.
pub(super) fn decoded(part: &str) -> Result<Vec<u8>, String> {
    if part.is_empty() {
        return Err("empty".into());
    }
    URL_SAFE_NO_PAD.decode(part).map_err(|_| "not canonical base64url without padding".into())
}

impl Header {
    fn read(members: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("`{name}` is not a string")),
        };
        let unsupported = if members.contains_key("crit") {
            Some("`crit`: no critical extensions are supported")
        } else if members.get("b64").is_some_and(|b64| *b64 != Value::Bool(true)) {
            Some("`b64`: unencoded payloads (RFC 7797) are not supported")
        } else if members.contains_key("zip") || members.contains_key("enc") {
            Some("`enc` or `zip`: encrypted and compressed payloads are not supported")
        } else {
            None
        };
        Ok(Self { alg: text("alg")?.ok_or("`alg` is missing")?, kid: text("kid")?, typ: text("typ")?, unsupported })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn b64(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn code_and_text(token: &str) -> (ReasonCode, String) {
        let reasons = parse(token).expect_err(token);
        (reasons[0].code, reasons[0].message.clone())
    }

    #[test]
    fn opaque_encrypted_and_malformed_tokens_are_distinguished() {
        assert_eq!(code_and_text("gho_16C7e42F292c6912E7710c838347Ae178B4a").0, ReasonCode::OpaqueToken);
        assert_eq!(code_and_text("").0, ReasonCode::OpaqueToken);
        let (code, message) = code_and_text("a.b.c.d.e");
        assert_eq!(code, ReasonCode::Malformed);
        assert!(message.contains("JWE"), "{message}");
        let parts = ["é.e30.c2ln", "é.é.c2ln", "é.é.é"].map(|token| parse(token).expect_err("malformed"));
        assert!(parts[0][0].message.starts_with("the token's header is malformed: "), "{parts:?}");
        assert!(parts[1][0].message.starts_with("the token's header and payload are malformed: "), "{parts:?}");
        assert_eq!(parts.map(|reasons| reasons.len()), [1, 1, 1], "one reason for what is wrong in several parts");
        for token in ["e30.e30", "a.b.c.d", "..", "a..c", &".".repeat(1000), &"a.".repeat(200_000)] {
            assert_eq!(code_and_text(token).0, ReasonCode::Malformed);
        }
    }

    #[test]
    fn token_may_be_as_long_as_the_limit() {
        let token = format!("{}.{}.c2ln", b64(r#"{"alg":"ES256"}"#), b64("{}"));
        assert!(parse_token(&token, token.len()).is_ok());
        let reasons = parse_token(&token, token.len() - 1).expect_err("too long");
        assert_eq!(reasons[0].message, format!("the token is longer than {} bytes", token.len() - 1));
    }

    #[test]
    fn only_canonical_base64url_is_decoded() {
        // "e30" is "{}"; "e31" decodes to the same bytes if trailing bits are ignored.
        assert_eq!(decoded("e30").expect("canonical"), b"{}");
        for part in ["e31", "e30=", "e3 0", "e30\n", "e", "e+/_", "é"] {
            assert!(decoded(part).is_err(), "{part}");
        }
    }

    #[test]
    fn only_used_header_parameters_must_have_the_right_type() {
        let token = |header: &str| format!("{}.{}.c2ln", b64(header), b64("{}"));
        let odd = token(r#"{"alg":"ES256","jwk":7,"x5c":null,"jku":["https://evil.example"],"x5t":{}}"#);
        assert!(parse(&odd).is_ok());
        for header in [r#"{"alg":["ES256"]}"#, r#"{"kid":"1"}"#, r#"{"alg":"ES256","kid":1}"#, r#"{"alg":"a","typ":1}"#]
        {
            assert_eq!(code_and_text(&token(header)).0, ReasonCode::Malformed, "{header}");
        }
        assert_eq!(code_and_text(&token(r#"{"alg":"none","alg":"ES256"}"#)).0, ReasonCode::Malformed);
    }

    #[test]
    fn unsupported_header_parameters_are_reported() {
        let unsupported = |header: &str| {
            let token = format!("{}.{}.c2ln", b64(header), b64("{}"));
            parse(&token).expect("well-formed").header.unsupported.is_some()
        };
        assert!(unsupported(r#"{"alg":"ES256","crit":["exp"]}"#));
        assert!(unsupported(r#"{"alg":"ES256","crit":[]}"#));
        assert!(unsupported(r#"{"alg":"ES256","crit":null}"#));
        assert!(unsupported(r#"{"alg":"ES256","b64":false}"#));
        assert!(unsupported(r#"{"alg":"ES256","b64":"true"}"#));
        assert!(!unsupported(r#"{"alg":"ES256","b64":true,"cty":"x"}"#));
    }
}
