//! Reads what a token endpoint answers, as strictly as safety needs and as loosely as real issuers are.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use url::form_urlencoded;

use super::error::{IssuerError, OAuthError};
use super::form::echoes;
use super::http::Reply;
use crate::clock::UnixTime;
use crate::model::TokenSet;
use crate::secret::Secret;

/// No access token is believed to live longer: a hundred years.
const MAX_LIFE: f64 = 100.0 * 365.25 * 86400.0;

/// The RFCs' own error codes, shown even where somebody's password is a part of one.
const KNOWN: [&str; 13] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
    "authorization_pending",
    "slow_down",
    "expired_token",
    "unsupported_token_type",
    "mfa_required",
];

/// What a token endpoint said.
pub(super) enum Answer {
    /// RFC 6749, section 5.1.
    Tokens(TokenSet),
    /// RFC 6749, section 5.2, with what some issuers add to it.
    Refused(Refusal),
}

/// An error response.
pub(super) struct Refusal {
    pub(super) error: OAuthError,
    /// Continues a password grant with a one-time code.
    pub(super) mfa_token: Option<Secret>,
}

/// Reads a token endpoint's answer to a request that carried `sent` and left at `asked_at`.
pub(super) fn read_tokens(reply: &Reply, sent: &[Secret], asked_at: UnixTime) -> Result<Answer, IssuerError> {
    if let Some(busy) = reply.busy() {
        return Err(busy);
    }
    let success = reply.is_success();
    let expected = if success { "token response" } else { "OAuth error response" };
    let malformed =
        |what: &str| IssuerError::Malformed { from: reply.host.clone(), what: what.to_owned(), misplaced: false };
    let wire = parse(reply).ok_or_else(|| match reply.object::<Members>() {
        Some(_) => malformed(&format!("a {expected} with a member twice, or one that is no text where it has to be")),
        None => reply.malformed(expected),
    })?;
    if let Some(refusal) = wire.refusal(reply.status, sent) {
        return if success || (400..500).contains(&reply.status) {
            Ok(Answer::Refused(refusal))
        } else {
            Err(reply.malformed(expected))
        };
    }
    if !success {
        return Err(reply.malformed(expected));
    }
    let access_token = wire
        .access_token
        .filter(|t| !t.is_empty())
        .ok_or_else(|| malformed("a token response without access_token"))?;
    let refresh_token = wire.refresh_token.filter(|t| !t.is_empty());
    let id_token = wire.id_token.filter(|t| !t.is_empty());
    if [Some(&access_token), refresh_token.as_ref(), id_token.as_ref()].into_iter().flatten().any(|t| !is_vschar(t)) {
        return Err(malformed("a token with characters that no token has (RFC 6749, appendix A)"));
    }
    let token_type = wire.token_type.0.unwrap_or_else(|| "Bearer".to_owned());
    if !token_type.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:/".contains(&b)) {
        return Err(malformed("a token_type that is no name"));
    }
    Ok(Answer::Tokens(TokenSet {
        access_token,
        token_type,
        refresh_token,
        id_token,
        obtained_at: asked_at,
        expires_at: wire.expires_in.0.map(|life| asked_at.plus(life)),
        scope: wire.scope.0,
    }))
}

/// Reads an error response (RFC 6749, section 5.2) out of an answer that should have been something else.
pub(super) fn read_refusal(reply: &Reply, sent: &[Secret]) -> Option<OAuthError> {
    parse(reply).and_then(|wire| wire.refusal(reply.status, sent)).map(|refusal| refusal.error)
}

/// Spaces and visible ASCII, and so no line end that would split a header.
pub(super) fn is_vschar(token: &Secret) -> bool {
    token.expose().bytes().all(|b| (0x20..0x7f).contains(&b))
}

fn parse(reply: &Reply) -> Option<Wire> {
    if reply.content_type.as_deref() == Some("application/x-www-form-urlencoded") {
        return from_form(reply.text());
    }
    reply.object()
}

/// An object, whatever is in it.
type Members = std::collections::HashMap<String, IgnoredAny>;

/// Both kinds of response: which one it is shows in its members, since some issuers send errors with status 200. A
/// member that comes twice makes the response none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    access_token: Option<Secret>,
    token_type: Lenient,
    expires_in: Life,
    refresh_token: Option<Secret>,
    id_token: Option<Secret>,
    scope: Scope,
    error: ErrorMember,
    error_description: Lenient,
    mfa_token: Option<Secret>,
}

impl Wire {
    fn refusal(&self, status: u16, sent: &[Secret]) -> Option<Refusal> {
        let code = self.error.code.as_deref()?;
        let description = self.error_description.0.as_deref().or(self.error.message.as_deref());
        let description = description.filter(|text| !echoes(sent, text));
        let code = if !KNOWN.contains(&code) && echoes(sent, code) { "error" } else { code };
        Some(Refusal {
            error: OAuthError::new(code, description, Some(status)),
            mfa_token: self.mfa_token.clone().filter(|t| !t.is_empty()),
        })
    }
}

/// The members that are read from a form.
const MEMBERS: [&str; 8] =
    ["access_token", "refresh_token", "id_token", "token_type", "expires_in", "scope", "error", "error_description"];

/// The form that some issuers answer with.
fn from_form(body: &[u8]) -> Option<Wire> {
    let mut wire = Wire::default();
    let mut seen = [false; MEMBERS.len()];
    for (name, value) in form_urlencoded::parse(body) {
        // A mebibyte of names that mean nothing is passed over: comparing each with all before it would take minutes.
        let Some(at) = MEMBERS.iter().position(|member| *member == name) else { continue };
        if std::mem::replace(&mut seen[at], true) {
            return None;
        }
        let secret = || Some(Secret::new(value.clone().into_owned()));
        let plain = || Lenient(Some(value.clone().into_owned()).filter(|v| !v.is_empty()));
        match &*name {
            "access_token" => wire.access_token = secret(),
            "refresh_token" => wire.refresh_token = secret(),
            "id_token" => wire.id_token = secret(),
            "token_type" => wire.token_type = plain(),
            "expires_in" => wire.expires_in = Life::read(&value),
            "scope" => wire.scope = Scope(plain().0),
            "error" => wire.error.code = plain().0,
            "error_description" => wire.error_description = plain(),
            _ => {}
        }
    }
    Some(wire)
}

/// A string that is not empty; anything else counts as absent.
#[derive(Debug, Default)]
pub(super) struct Lenient(pub(super) Option<String>);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Loose::deserialize(deserializer)? {
            Loose::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }))
    }
}

/// A list of strings; anything else counts as absent, and what is no string in it is left out.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Ok(match Loose::deserialize(deserializer)? {
        Loose::List(texts) => Some(texts),
        _ => None,
    })
}

/// Whether it is true, as itself or as text; anything else is not.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(match Loose::deserialize(deserializer)? {
        Loose::Flag(flag) => flag,
        Loose::Text(text) => text == "true",
        _ => false,
    })
}

/// `scope` as text, or as the list that some issuers make of it.
#[derive(Default)]
struct Scope(Option<String>);

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Loose::deserialize(deserializer)? {
            Loose::Text(text) if !text.is_empty() => Some(text),
            Loose::List(scopes) if !scopes.is_empty() => Some(scopes.join(" ")),
            _ => None,
        }))
    }
}

/// `expires_in`: seconds as a number, a fraction or a string. A life below zero is over; one that says nothing is
/// unknown.
#[derive(Default)]
pub(super) struct Life(pub(super) Option<Duration>);

impl Life {
    fn read(text: &str) -> Self {
        Self(text.trim().parse().ok().and_then(Self::of))
    }

    fn of(seconds: f64) -> Option<Duration> {
        (!seconds.is_nan()).then(|| Duration::from_secs_f64(seconds.clamp(0.0, MAX_LIFE).floor()))
    }
}

impl<'de> Deserialize<'de> for Life {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Loose::deserialize(deserializer)? {
            Loose::Number(seconds) => Self(Self::of(seconds)),
            Loose::Text(text) => Self::read(&text),
            _ => Self(None),
        })
    }
}

/// `error`: a word, or the object with `type` or `status` and `message` that some issuers send instead.
#[derive(Default)]
struct ErrorMember {
    code: Option<String>,
    message: Option<String>,
}

impl<'de> Deserialize<'de> for ErrorMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Loose::deserialize(deserializer)? {
            Loose::Text(text) if !text.is_empty() => Self { code: Some(text), message: None },
            Loose::Object { code, message } => Self { code: Some(code.unwrap_or_else(|| "error".into())), message },
            _ => Self::default(),
        })
    }
}

/// Any JSON value, kept only as far as the loose members above can use it. None of them is a secret.
enum Loose {
    Nothing,
    Flag(bool),
    Text(String),
    Number(f64),
    List(Vec<String>),
    Object { code: Option<String>, message: Option<String> },
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Loose;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Loose, E> {
                Ok(Loose::Nothing)
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Loose, E> {
                Ok(Loose::Flag(flag))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose::Text(text.to_owned()))
            }

            #[allow(clippy::cast_precision_loss, reason = "a life this long is capped anyway")]
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Loose, E> {
                Ok(Loose::Number(number as f64))
            }

            #[allow(clippy::cast_precision_loss, reason = "a life this long is capped anyway")]
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Loose, E> {
                Ok(Loose::Number(number as f64))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Loose, E> {
                Ok(Loose::Number(number))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Loose, A::Error> {
                let mut texts = Vec::new();
                while let Some(element) = seq.next_element::<Loose>()? {
                    if let Loose::Text(text) = element {
                        texts.push(text);
                    }
                }
                Ok(Loose::List(texts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
                let (mut code, mut message) = (None, None);
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "type" => code = map.next_value::<Lenient>()?.0.or(code),
                        "status" => code = code.or(map.next_value::<Lenient>()?.0),
                        "message" => message = map.next_value::<Lenient>()?.0,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Loose::Object { code, message })
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretBytes;

    fn read(status: u16, content_type: &str, body: &str) -> Result<Answer, IssuerError> {
        let sent = [Secret::new("hunter2".into()), Secret::new("grant".into())];
        let reply = Reply {
            host: "a.example".into(),
            status,
            content_type: Some(content_type.into()),
            retry_after: None,
            body: SecretBytes::new(body.as_bytes().to_vec()),
        };
        read_tokens(&reply, &sent, UnixTime(1000))
    }

    fn tokens(body: &str) -> TokenSet {
        match read(200, "application/json", body) {
            Ok(Answer::Tokens(tokens)) => tokens,
            Ok(Answer::Refused(refusal)) => panic!("{body}: {}", refusal.error),
            Err(error) => panic!("{body}: {error}"),
        }
    }

    fn refused(status: u16, content_type: &str, body: &str) -> OAuthError {
        match read(status, content_type, body) {
            Ok(Answer::Refused(refusal)) => refusal.error,
            Ok(Answer::Tokens(_)) => panic!("{body}: tokens"),
            Err(error) => panic!("{body}: {error}"),
        }
    }

    #[test]
    fn a_life_in_any_form() {
        for (written, expected) in [
            ("3600", Some(4600)),
            ("\"3600\"", Some(4600)),
            ("\" 60 \"", Some(1060)),
            ("3599.9", Some(4599)),
            ("3.6e3", Some(4600)),
            ("0", Some(1000)),
            ("-5", Some(1000)),
            ("\"-5\"", Some(1000)),
            ("18446744073709551615", Some(1000 + 3_155_760_000)),
            ("1e300", Some(1000 + 3_155_760_000)),
            ("\"inf\"", Some(1000 + 3_155_760_000)),
            ("\"nan\"", None),
            ("\"soon\"", None),
            ("null", None),
            ("true", None),
            ("[3600]", None),
            ("{\"s\":1}", None),
        ] {
            let found = tokens(&format!(r#"{{"access_token":"AT","token_type":"bearer","expires_in":{written}}}"#));
            assert_eq!(found.expires_at, expected.map(UnixTime), "{written}");
            assert_eq!(found.obtained_at, UnixTime(1000));
        }
        assert_eq!(tokens(r#"{"access_token":"AT"}"#).expires_at, None);
    }

    #[test]
    fn what_real_issuers_leave_out_or_write_differently() {
        let found =
            tokens("\u{feff} {\"access_token\":\"AT\",\"refresh_token\":\"\",\"id_token\":null,\"x\":{\"y\":[1]}}");
        assert_eq!((found.access_token.expose(), found.token_type.as_str()), ("AT", "Bearer"));
        assert!(found.refresh_token.is_none() && found.id_token.is_none() && found.scope.is_none());
        assert_eq!(tokens(r#"{"access_token":"AT","token_type":"bEaReR"}"#).token_type, "bEaReR");
        assert_eq!(tokens(r#"{"access_token":"AT","scope":["a","b"]}"#).scope.as_deref(), Some("a b"));
        assert_eq!(tokens(r#"{"access_token":"AT","scope":"","error":null}"#).scope, None);
        let form = read(200, "application/x-www-form-urlencoded", "access_token=a%2Fb&token_type=bearer&expires_in=9");
        let Ok(Answer::Tokens(found)) = form else { panic!("a form") };
        assert_eq!((found.access_token.expose(), found.expires_at), ("a/b", Some(UnixTime(1009))));
    }

    #[test]
    fn what_is_no_token_response_is_told_without_its_text() {
        for body in [
            "",
            "{}",
            "null",
            "hunter2",
            "<html>hunter2</html>",
            r#"["hunter2"]"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":4711}"#,
            r#"{"access_token":["hunter2"]}"#,
            r#"{"access_token":"hunter2","access_token":"b"}"#,
            r#"{"access_token":"a","expires_in":1,"expires_in":2}"#,
            r#"{"access_token":"hunter2"#,
            r#"{"access_token":"hunter2"} hunter2"#,
            r#"{"access_token":"hunter2\r\nx: y"}"#,
            r#"{"access_token":"a","refresh_token":"hunter2\u0000"}"#,
            r#"{"access_token":"hünter2"}"#,
            r#"{"access_token":"a","token_type":"Bearer hunter2\r\n"}"#,
        ] {
            let error = read(200, "application/json", body).err().unwrap_or_else(|| panic!("{body}: taken"));
            assert!(matches!(error, IssuerError::Malformed { .. }), "{body}: {error:?}");
            assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
            assert!(!error.ends_session() && !error.never_sent(), "{body}");
        }
    }

    #[test]
    fn refusals_in_every_dress() {
        let invalid_grant = r#"{"error":"invalid_grant","error_description":"over"}"#;
        for status in [400, 401, 403] {
            let error = refused(status, "application/json", invalid_grant);
            assert!(error.ends_session());
            assert_eq!(error.to_string(), "invalid_grant: over");
        }
        assert!(refused(400, "text/html", invalid_grant).ends_session(), "JSON whatever its label");
        let error = refused(200, "application/json", r#"{"error":"bad_refresh_token"}"#);
        assert_eq!((error.code.as_str(), error.ends_session()), ("bad_refresh_token", false));
        assert_eq!(refused(400, "application/x-www-form-urlencoded", "error=invalid_scope").code, "invalid_scope");
        let object = r#"{"error":{"message":"Bad","type":"OAuthException","code":190}}"#;
        assert_eq!(refused(400, "application/json", object).to_string(), "OAuthException: Bad");
    }

    #[test]
    fn nothing_but_a_parsed_refusal_is_one() {
        let invalid_grant = r#"{"error":"invalid_grant"}"#;
        for (status, content_type, body) in [
            (400, "text/html", "<p>invalid_grant</p>"),
            (400, "text/plain", "error=invalid_grant"),
            (400, "application/x-www-form-urlencoded", "error=invalid_grant&error=invalid_grant"),
            (400, "application/json", ""),
            (400, "application/json", "{}"),
            (400, "application/json", r#""invalid_grant""#),
            (400, "application/json", r#"["invalid_grant"]"#),
            (400, "application/json", r#"{"error":"invalid_grant","error":"invalid_grant"}"#),
            (400, "application/json", r#"{"error":"invalid_grant""#),
            (429, "application/json", invalid_grant),
            (500, "application/json", invalid_grant),
            (503, "application/json", invalid_grant),
            (302, "application/json", invalid_grant),
            (400, "application/json", r#"{"access_token":"a"}"#),
        ] {
            let error = read(status, content_type, body).err().unwrap_or_else(|| panic!("{status} {body}: taken"));
            assert!(!error.ends_session(), "{status} {body}");
            assert!(matches!(error, IssuerError::Malformed { .. } | IssuerError::Busy { .. }), "{error:?}");
        }
    }

    #[test]
    fn an_issuer_that_repeats_our_secret_does_not_get_it_shown() {
        let error = refused(400, "application/json", r#"{"error":"x","error_description":"no token hunter2 here"}"#);
        assert_eq!(error.to_string(), "x");
        assert_eq!(refused(400, "application/json", r#"{"error":"hunter2"}"#).to_string(), "error");
        assert!(!echoes(&[Secret::new("a".into())], "an a") && echoes(&[Secret::new("grant".into())], "invalid_grant"));
    }

    #[test]
    fn a_form_of_nothing_but_other_names_is_read_through() {
        // As many names as fit into an answer: comparing them with each other would not end while anybody waits.
        let body: String = (0..200_000).map(|n| format!("{n:x}&")).collect();
        let read = read(200, "application/x-www-form-urlencoded", &format!("{body}access_token=a"));
        assert!(matches!(read, Ok(Answer::Tokens(_))));
    }
}
