//! Login APIs outside of OAuth: they take a user name and a password as JSON and return a JWT as JSON.

use std::fmt;
use std::io::Write as _;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use url::Url;

use super::error::{IssuerError, OAuthError};
use super::form::repeats_secret;
use super::http::{Credentials, Http};
use super::http_response::HttpResponse;
use super::lenient_json::Lifetime;
use super::token_response::{is_vschar, parse_error_response};
use crate::clock::Clock;
use crate::model::{LoginApi, TokenSet};
use crate::secret::{Secret, SecretBytes};
use crate::text::excerpt;

/// The members to look for the JWT in by default; the first that is present counts.
const ACCESS_TOKEN: [&str; 4] = ["access_token", "accessToken", "token", "jwt"];

/// The same for the refresh token.
const REFRESH_TOKEN: [&str; 2] = ["refresh_token", "refreshToken"];

/// The same for the lifetime in seconds, which most APIs put into the JWT alone.
const EXPIRES_IN: [&str; 2] = ["expires_in", "expiresIn"];

/// The members with an error description in APIs that have no `error`.
const DETAIL: [&str; 2] = ["detail", "message"];

/// Logs in with a user name and a password.
///
/// # Errors
/// [`IssuerError::Refused`] with `invalid_grant` if the API rejects them (400, 401, 403 or 422).
pub async fn login(
    http: &Http,
    api: &LoginApi,
    user: &str,
    password: &Secret,
    clock: &dyn Clock,
) -> Result<TokenSet, IssuerError> {
    let url = api.login.as_ref().ok_or(IssuerError::Unsupported { what: "login_endpoint" })?;
    let name = |field: &Option<String>, usual: &str| field.clone().unwrap_or_else(|| usual.to_owned());
    let body = object(&[
        (&name(&api.username_field, "username"), user),
        (&name(&api.password_field, "password"), password.expose()),
    ]);
    request_tokens(http, api, url, body, std::slice::from_ref(password), clock, &[400, 401, 403, 422]).await
}

/// Refreshes the JWT. The refresh token stays valid if the response has no new one.
///
/// # Errors
/// As [`login`]; only a 401 with a JSON object, or the API's own `invalid_grant`, ends the session. An error repeats none of the
/// `known` secrets, which are not sent.
pub async fn refresh(
    http: &Http,
    api: &LoginApi,
    token: &Secret,
    known: &[Secret],
    clock: &dyn Clock,
) -> Result<TokenSet, IssuerError> {
    let url = api.refresh.as_ref().ok_or(IssuerError::Unsupported { what: "refresh_endpoint" })?;
    let field = api.refresh_token_field.as_deref().unwrap_or(REFRESH_TOKEN[0]);
    let field = field.rsplit_once('.').map_or(field, |(_, last)| last);
    let secrets: Vec<Secret> = known.iter().chain([token]).cloned().collect();
    request_tokens(http, api, url, object(&[(field, token.expose())]), &secrets, clock, &[401]).await
}

/// Logs out, with the JWT in the `Authorization` header and the refresh token, if there is one, in the body.
///
/// # Errors
/// As [`login`].
pub async fn logout(http: &Http, api: &LoginApi, url: &Url, tokens: &TokenSet) -> Result<(), IssuerError> {
    let field = api.refresh_token_field.as_deref().unwrap_or(REFRESH_TOKEN[0]);
    let field = field.rsplit_once('.').map_or(field, |(_, last)| last);
    let body = match &tokens.refresh_token {
        Some(token) => object(&[(field, token.expose())]),
        None => object(&[]),
    };
    let mut credentials = Credentials::of_token("Bearer", &tokens.access_token)?;
    credentials.secrets.extend(tokens.refresh_token.clone());
    let sent = credentials.secrets.clone();
    let response = http.post_json(url, body, Some(credentials)).await?;
    match response.unavailable() {
        Some(error) => Err(error),
        // A JWT that the API no longer accepts is logged out.
        None if response.is_success() || response.status == 401 => Ok(()),
        None if Members::read(response.text()).is_none() => Err(response.unexpected("a logout response")),
        None => Err(IssuerError::Refused(error_response(&response, &sent, &[]))),
    }
}

async fn request_tokens(
    http: &Http,
    api: &LoginApi,
    url: &Url,
    body: SecretBytes,
    sent: &[Secret],
    clock: &dyn Clock,
    refusal_statuses: &[u16],
) -> Result<TokenSet, IssuerError> {
    let sent_at = clock.now();
    let response = http.post_json(url, body, Some(Credentials::in_body(sent))).await?;
    if let Some(error) = response.unavailable() {
        return Err(error);
    }
    let is_object = Members::read(response.text()).is_some();
    if !response.is_success() {
        let is_refusal = (400..500).contains(&response.status) && is_object;
        let error = error_response(&response, sent, refusal_statuses);
        return Err(if is_refusal {
            IssuerError::Refused(error)
        } else {
            response.unexpected("a JSON response of a login API")
        });
    }
    let invalid =
        |what: String| IssuerError::InvalidResponse { from: response.host.clone(), what, wrong_address: false };
    if !is_object {
        return Err(response.unexpected("a JSON object"));
    }
    let secret = |named: &Option<String>, usual: &[&str]| {
        let found = find(response.text(), named.as_deref(), usual)?;
        serde_json::from_str::<Secret>(found.get()).ok().filter(|token| !token.is_empty())
    };
    let names = api.access_token_field.clone().unwrap_or_else(|| ACCESS_TOKEN.join("`, `"));
    let access_token = secret(&api.access_token_field, &ACCESS_TOKEN)
        .ok_or_else(|| IssuerError::NoJwt { from: response.host.clone(), names: excerpt(&names, 200) })?;
    let refresh_token = secret(&api.refresh_token_field, &REFRESH_TOKEN).filter(|_| api.refresh.is_some());
    if [Some(&access_token), refresh_token.as_ref()].into_iter().flatten().any(|token| !is_vschar(token)) {
        return Err(invalid("a token with invalid characters (RFC 6749, appendix A)".into()));
    }
    let lifetime = find(response.text(), api.expires_in_field.as_deref(), &EXPIRES_IN);
    let lifetime =
        lifetime.and_then(|raw| serde_json::from_str::<Lifetime>(raw.get()).ok()).and_then(|lifetime| lifetime.0);
    Ok(TokenSet {
        access_token,
        token_type: "Bearer".into(),
        refresh_token,
        id_token: None,
        obtained_at: sent_at,
        issuer_time: response.date,
        expires_at: lifetime.map(|lifetime| sent_at.plus(lifetime)),
        refresh_expires_at: None,
        scope: None,
    })
}

/// Returns the API's own error code if it has one, else one by its status.
fn error_response(response: &HttpResponse, sent: &[Secret], refusal_statuses: &[u16]) -> OAuthError {
    let own = parse_error_response(response, sent);
    let detail = || {
        let text: String = serde_json::from_str(find(response.text(), None, &DETAIL)?.get()).ok()?;
        (!repeats_secret(sent, &text)).then_some(text)
    };
    if refusal_statuses.contains(&response.status) {
        let description = own.as_ref().map(|error| error.description.clone().unwrap_or_else(|| error.code.clone()));
        return OAuthError::new("invalid_grant", description.or_else(detail).as_deref(), Some(response.status));
    }
    let code = format!("HTTP {}", response.status);
    own.unwrap_or_else(|| OAuthError::new(&code, detail().as_deref(), Some(response.status)))
}

/// Writes a JSON object of strings without a second copy of them in memory.
fn object(members: &[(&str, &str)]) -> SecretBytes {
    let mut body = SecretBytes::default();
    // Writing to memory does not fail.
    let _ = body.write_all(b"{");
    for (at, (name, value)) in members.iter().enumerate() {
        let _ = body.write_all(if at == 0 { b"" } else { b"," });
        let _ = serde_json::to_writer(&mut body, name);
        let _ = body.write_all(b":");
        let _ = serde_json::to_writer(&mut body, value);
    }
    let _ = body.write_all(b"}");
    body
}

/// Returns the named member, with dots between nested ones, or the first of the `usual` ones that is present.
fn find<'a>(text: &'a [u8], named: Option<&str>, usual: &[&str]) -> Option<&'a RawValue> {
    let walk = |path: &str| {
        let mut segments = path.split('.');
        let first = Members::read(text)?.only(segments.next()?)?;
        segments.try_fold(first, |raw, segment| Members::read(raw.get().as_bytes())?.only(segment))
    };
    match named {
        Some(path) => walk(path),
        None => usual.iter().find_map(|name| Members::read(text)?.only(name)),
    }
}

/// The members of an object as raw JSON.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Returns a member that is not duplicated.
    fn only(&self, name: &str) -> Option<&'a RawValue> {
        let mut found = self.0.iter().filter(|(member, _)| member == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() >= MAX_MEMBERS {
                        return Err(de::Error::custom("too many members"));
                    }
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Object).map(Self)
    }
}

/// The maximum number of members in a response.
const MAX_MEMBERS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::super::testing::{TestClock, TestServer, answer, http, json};
    use super::*;
    use crate::clock::UnixTime;

    fn api(server: &TestServer) -> LoginApi {
        LoginApi { login: Some(server.url.clone()), refresh: Some(server.url.clone()), ..LoginApi::default() }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    async fn logged_in(body: &str, change: impl FnOnce(&mut LoginApi)) -> (Result<TokenSet, IssuerError>, TestServer) {
        let server = TestServer::start(vec![json(200, body)]).await;
        let mut api = api(&server);
        change(&mut api);
        (login(&http(), &api, "dev\"eloper", &secret("pä\\ss"), &TestClock::new()).await, server)
    }

    #[tokio::test]
    async fn login_sends_json_and_returns_the_jwt() {
        let body = r#"{"token":"JWT","refreshToken":"RT","expiresIn":"60"}"#;
        let (tokens, server) = logged_in(body, |_| {}).await;
        let tokens = tokens.expect("tokens");
        assert_eq!((tokens.access_token.expose(), tokens.expires_at), ("JWT", Some(UnixTime(1_700_000_060))));
        assert_eq!(tokens.refresh_token.as_ref().map(Secret::expose), Some("RT"));
        assert_eq!(server.body(0), r#"{"username":"dev\"eloper","password":"pä\\ss"}"#);
        assert!(server.requests()[0].to_ascii_lowercase().contains("content-type: application/json\r\n"));
    }

    #[tokio::test]
    async fn all_field_names_are_configurable() {
        let body = r#"{"data":{"auth":{"jwt":"JWT"}},"token":"wrong","ttl":5,"refresh":"RT"}"#;
        let (tokens, server) = logged_in(body, |api| {
            api.username_field = Some("email".into());
            api.password_field = Some("pass".into());
            api.access_token_field = Some("data.auth.jwt".into());
            api.refresh_token_field = Some("refresh".into());
            api.expires_in_field = Some("ttl".into());
        })
        .await;
        let tokens = tokens.expect("tokens");
        assert_eq!((tokens.access_token.expose(), tokens.expires_at), ("JWT", Some(UnixTime(1_700_000_005))));
        assert!(tokens.refresh_token.is_some());
        assert!(server.body(0).starts_with(r#"{"email":"#) && server.body(0).contains(r#""pass":"#));
    }

    #[tokio::test]
    async fn logout_distinguishes_refusals_from_other_pages() {
        let html = |status| answer(status, "content-type: text/html\r\n", "<html>");
        for (reply, is_done, is_refusal) in [
            (json(200, "{}"), true, false),
            (answer(204, "", ""), true, false),
            (html(401), true, false),
            (json(400, r#"{"detail":"no"}"#), false, true),
            (html(400), false, false),
            (html(404), false, false),
        ] {
            let server = TestServer::start(vec![reply.clone()]).await;
            let (tokens, _) = logged_in(r#"{"token":"JWT","refresh_token":"RT"}"#, |_| {}).await;
            let ended = logout(&http(), &api(&server), &server.url, &tokens.expect("tokens")).await;
            assert_eq!(server.body(0), r#"{"refresh_token":"RT"}"#);
            let refused = matches!(ended, Err(IssuerError::Refused(_)));
            assert_eq!((ended.is_ok(), refused), (is_done, is_refusal), "{reply}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn refresh_token_is_dropped_without_a_refresh_endpoint() {
        let (tokens, _) = logged_in(r#"{"token":"JWT","refresh_token":"RT"}"#, |api| api.refresh = None).await;
        assert!(tokens.expect("tokens").refresh_token.is_none());
    }

    #[tokio::test]
    async fn invalid_response_is_reported_without_its_text() {
        for body in [
            "",
            "hunter2",
            r#"["hunter2"]"#,
            r#"{"hunter2":1}"#,
            r#"{"token":4711}"#,
            r#"{"token":{"jwt":"hunter2"}}"#,
            r#"{"token":"hunter2","token":"b"}"#,
            r#"{"token":"hunter2\n"}"#,
        ] {
            let (result, _) = logged_in(body, |_| {}).await;
            let error = result.expect_err(body);
            let is_reported = matches!(error, IssuerError::InvalidResponse { .. } | IssuerError::NoJwt { .. })
                || (body.is_empty() && error.is_response_lost());
            assert!(is_reported, "{body}: {error:?}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn refused_login_and_refused_refresh() {
        for (answer, word) in [
            (json(401, r#"{"message":"Bad credentials"}"#), "invalid_grant: Bad credentials"),
            (json(401, r#"{"detail":"No such account","code":"x"}"#), "invalid_grant: No such account"),
            (json(401, r#"{"detail":"not p/ss"}"#), "invalid_grant"),
            (json(401, r#"{"detail":["a"],"message":"b"}"#), "invalid_grant"),
            (json(404, r#"{"detail":"Not here"}"#), "HTTP 404: Not here"),
            (json(422, r#"{"error":"wrong"}"#), "invalid_grant: wrong"),
            (json(400, r#"{"detail":"a"}"#), "invalid_grant: a"),
            (json(403, r#"{"detail":"b"}"#), "invalid_grant: b"),
            (json(404, "{}"), "HTTP 404"),
        ] {
            let server = TestServer::start(vec![answer]).await;
            let error =
                login(&http(), &api(&server), "u", &secret("p/ss"), &TestClock::new()).await.expect_err("refused");
            assert_eq!(error.to_string(), format!("the issuer refused: {word}"));
        }
        for (answer, ends) in [
            (json(401, "{}"), true),
            (json(400, r#"{"error":"invalid_grant"}"#), true),
            (json(400, r#"{"error":"rate"}"#), false),
            (json(403, "{}"), false),
            (answer(401, "", "<html>"), false),
            (json(500, "{}"), false),
        ] {
            let server = TestServer::start(vec![answer.clone()]).await;
            let error =
                refresh(&http(), &api(&server), &secret("RT"), &[], &TestClock::new()).await.expect_err("refused");
            assert_eq!(error.ends_session(), ends, "{answer}: {error}");
        }
    }

    #[tokio::test]
    async fn refused_logout_shows_no_token() {
        for reply in [
            json(400, r#"{"detail":"no such token: RT-hunter2"}"#),
            json(400, r#"{"detail":"no such token: AT-hunter2"}"#),
            answer(302, "location: /ended/AT-hunter2\r\n", ""),
            answer(302, "location: /ended/RT-hunter2\r\n", ""),
        ] {
            let server = TestServer::start(vec![reply]).await;
            let tokens = TokenSet {
                access_token: secret("AT-hunter2"),
                token_type: "Bearer".into(),
                refresh_token: Some(secret("RT-hunter2")),
                id_token: None,
                obtained_at: UnixTime(0),
                issuer_time: None,
                expires_at: None,
                refresh_expires_at: None,
                scope: None,
            };
            let error = logout(&http(), &api(&server), &server.url, &tokens).await.expect_err("refused");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn logout_sends_both_tokens() {
        let (tokens, _) = logged_in(r#"{"token":"JWT","refresh_token":"RT"}"#, |_| {}).await;
        let tokens = tokens.expect("tokens");
        for (answer, done) in
            [(json(200, "{}"), true), (answer(204, "", ""), true), (json(401, "{}"), true), (json(403, "{}"), false)]
        {
            let server = TestServer::start(vec![answer.clone()]).await;
            let api = LoginApi { refresh_token_field: Some("data.refresh".into()), ..api(&server) };
            let result = logout(&http(), &api, &server.url, &tokens).await;
            assert_eq!(result.is_ok(), done, "{answer}: {result:?}");
            assert_eq!(server.body(0), r#"{"refresh":"RT"}"#);
            assert!(server.requests()[0].to_ascii_lowercase().contains("authorization: bearer jwt\r\n"));
        }
    }

    #[tokio::test]
    async fn refresh_sends_the_refresh_token_alone() {
        let server = TestServer::start(vec![json(200, r#"{"data":{"jwt":"J2"}}"#)]).await;
        let mut api = api(&server);
        api.access_token_field = Some("data.jwt".into());
        api.refresh_token_field = Some("data.refresh".into());
        let tokens = refresh(&http(), &api, &secret("RT"), &[], &TestClock::new()).await.expect("tokens");
        assert!(tokens.refresh_token.is_none(), "the caller reuses the old one");
        assert_eq!(server.body(0), r#"{"refresh":"RT"}"#);
    }
}
