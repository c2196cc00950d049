//! A login API that is none of OAuth's: JSON with a user name and a password goes there, JSON with a JWT comes back.

use std::fmt;
use std::io::Write as _;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use url::Url;

use super::client::sensitive;
use super::error::{IssuerError, OAuthError};
use super::form::echoes;
use super::http::{Http, Reply};
use super::reply::{Life, is_vschar, read_refusal};
use crate::clock::Clock;
use crate::model::{LoginApi, TokenSet};
use crate::secret::{Secret, SecretBytes};
use crate::ui::sanitize_for_terminal;

/// Where the JWT is looked for in an answer when nobody says, the first that is there.
const ACCESS_TOKEN: [&str; 4] = ["access_token", "accessToken", "token", "jwt"];

/// The same of the refresh token.
const REFRESH_TOKEN: [&str; 2] = ["refresh_token", "refreshToken"];

/// The same of how many seconds the JWT lives; most say it in the JWT alone.
const EXPIRES_IN: [&str; 2] = ["expires_in", "expiresIn"];

/// Where an API that has no `error` says in words what is wrong.
const DETAIL: [&str; 2] = ["detail", "message"];

/// Logs in with a user name and a password.
///
/// # Errors
/// [`IssuerError::Refused`] with `invalid_grant` where the API does not accept them (400, 401, 403 or 422), and whatever a
/// request can fail with.
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
    ask(http, api, url, body, password, clock, &[400, 401, 403, 422]).await
}

/// Gets a new JWT for a refresh token, which stays good where the answer brings none.
///
/// # Errors
/// As [`login`]; only a 401 with a JSON object, or the API's own `invalid_grant`, says that the session is over.
pub async fn refresh(http: &Http, api: &LoginApi, token: &Secret, clock: &dyn Clock) -> Result<TokenSet, IssuerError> {
    let url = api.refresh.as_ref().ok_or(IssuerError::Unsupported { what: "refresh_endpoint" })?;
    let field = api.refresh_token_field.as_deref().unwrap_or(REFRESH_TOKEN[0]);
    let field = field.rsplit_once('.').map_or(field, |(_, last)| last);
    ask(http, api, url, object(&[(field, token.expose())]), token, clock, &[401]).await
}

/// Tells the API of a logout, with the JWT in the `Authorization` header and the refresh token, where there is one, in the
/// body.
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
    let header = sensitive(&zeroize::Zeroizing::new(format!("Bearer {}", tokens.access_token.expose())))?;
    let reply = http.post_json(url, body, Some(header)).await?;
    match reply.busy() {
        Some(busy) => Err(busy),
        // A JWT that the API does not know any more is logged out.
        None if reply.is_success() || reply.status == 401 => Ok(()),
        None => {
            let sent: Vec<Secret> = tokens.refresh_token.iter().chain([&tokens.access_token]).cloned().collect();
            Err(IssuerError::Refused(refusal(&reply, &sent, &[])))
        }
    }
}

async fn ask(
    http: &Http,
    api: &LoginApi,
    url: &Url,
    body: SecretBytes,
    sent: &Secret,
    clock: &dyn Clock,
    denials: &[u16],
) -> Result<TokenSet, IssuerError> {
    let asked_at = clock.now();
    let reply = http.post_json(url, body, None).await?;
    if let Some(busy) = reply.busy() {
        return Err(busy);
    }
    let is_object = Members::read(reply.text()).is_some();
    if !reply.is_success() {
        let says_no = (400..500).contains(&reply.status) && is_object;
        let error = refusal(&reply, std::slice::from_ref(sent), denials);
        return Err(if says_no { IssuerError::Refused(error) } else { reply.malformed("JSON answer of a login API") });
    }
    let malformed = |what: String| IssuerError::Malformed { from: reply.host.clone(), what, misplaced: false };
    if !is_object {
        return Err(reply.malformed("JSON object"));
    }
    let secret = |named: &Option<String>, usual: &[&str]| {
        let found = find(reply.text(), named.as_deref(), usual)?;
        serde_json::from_str::<Secret>(found.get()).ok().filter(|token| !token.is_empty())
    };
    let names = api.access_token_field.clone().unwrap_or_else(|| ACCESS_TOKEN.join("`, `"));
    let access_token = secret(&api.access_token_field, &ACCESS_TOKEN)
        .ok_or_else(|| IssuerError::NoJwt { from: reply.host.clone(), names: sanitize_for_terminal(&names, 200) })?;
    let refresh_token = secret(&api.refresh_token_field, &REFRESH_TOKEN).filter(|_| api.refresh.is_some());
    if [Some(&access_token), refresh_token.as_ref()].into_iter().flatten().any(|token| !is_vschar(token)) {
        return Err(malformed("a token with characters that no token has (RFC 6749, appendix A)".into()));
    }
    let life = find(reply.text(), api.expires_in_field.as_deref(), &EXPIRES_IN);
    let life = life.and_then(|raw| serde_json::from_str::<Life>(raw.get()).ok()).and_then(|life| life.0);
    Ok(TokenSet {
        access_token,
        token_type: "Bearer".into(),
        refresh_token,
        id_token: None,
        obtained_at: asked_at,
        expires_at: life.map(|life| asked_at.plus(life)),
        scope: None,
    })
}

/// What an API's no means: its own word where it has one, else by its status.
fn refusal(reply: &Reply, sent: &[Secret], denials: &[u16]) -> OAuthError {
    let own = read_refusal(reply, sent);
    let said = || {
        let text: String = serde_json::from_str(find(reply.text(), None, &DETAIL)?.get()).ok()?;
        (!echoes(sent, &text)).then_some(text)
    };
    if denials.contains(&reply.status) {
        let description = own.as_ref().map(|error| error.description.clone().unwrap_or_else(|| error.code.clone()));
        return OAuthError::new("invalid_grant", description.or_else(said).as_deref(), Some(reply.status));
    }
    own.unwrap_or_else(|| OAuthError::new("error", said().as_deref(), Some(reply.status)))
}

/// A JSON object of texts, written without a second copy of them.
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

/// The member that is named, with dots between nested ones, else the first of the `usual` ones that is there.
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

/// The members of an object, each as it is written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// A member that is there once.
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

/// No answer of a login API has more members.
const MAX_MEMBERS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::super::testing::{Canned, Quick, answer, http, json};
    use super::*;
    use crate::clock::UnixTime;

    fn api(server: &Canned) -> LoginApi {
        LoginApi { login: Some(server.url.clone()), refresh: Some(server.url.clone()), ..LoginApi::default() }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    async fn logged_in(body: &str, change: impl FnOnce(&mut LoginApi)) -> (Result<TokenSet, IssuerError>, Canned) {
        let server = Canned::serving(vec![json(200, body)]).await;
        let mut api = api(&server);
        change(&mut api);
        (login(&http(), &api, "dev\"eloper", &secret("pä\\ss"), &Quick::new()).await, server)
    }

    #[tokio::test]
    async fn name_and_password_go_as_json_and_a_jwt_comes_back() {
        let body = r#"{"token":"JWT","refreshToken":"RT","expiresIn":"60"}"#;
        let (tokens, server) = logged_in(body, |_| {}).await;
        let tokens = tokens.expect("tokens");
        assert_eq!((tokens.access_token.expose(), tokens.expires_at), ("JWT", Some(UnixTime(1_700_000_060))));
        assert_eq!(tokens.refresh_token.as_ref().map(Secret::expose), Some("RT"));
        assert_eq!(server.body(0), r#"{"username":"dev\"eloper","password":"pä\\ss"}"#);
        assert!(server.requests()[0].to_ascii_lowercase().contains("content-type: application/json\r\n"));
    }

    #[tokio::test]
    async fn the_names_of_all_fields_can_be_said() {
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
    async fn without_a_place_to_refresh_a_refresh_token_is_not_kept() {
        let (tokens, _) = logged_in(r#"{"token":"JWT","refresh_token":"RT"}"#, |api| api.refresh = None).await;
        assert!(tokens.expect("tokens").refresh_token.is_none());
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_without_its_text() {
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
            let told = matches!(error, IssuerError::Malformed { .. } | IssuerError::NoJwt { .. });
            assert!(told, "{body}: {error:?}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_no_at_login_and_a_no_that_ends_a_session() {
        for (answer, word) in [
            (json(401, r#"{"message":"Bad credentials"}"#), "invalid_grant: Bad credentials"),
            (json(401, r#"{"detail":"No such account","code":"x"}"#), "invalid_grant: No such account"),
            (json(401, r#"{"detail":"not p/ss"}"#), "invalid_grant"),
            (json(401, r#"{"detail":["a"],"message":"b"}"#), "invalid_grant"),
            (json(404, r#"{"detail":"Not here"}"#), "error: Not here"),
            (json(422, r#"{"error":"wrong"}"#), "invalid_grant: wrong"),
            (json(400, r#"{"detail":"a"}"#), "invalid_grant: a"),
            (json(403, r#"{"detail":"b"}"#), "invalid_grant: b"),
            (json(404, "{}"), "error"),
        ] {
            let server = Canned::serving(vec![answer]).await;
            let error = login(&http(), &api(&server), "u", &secret("p/ss"), &Quick::new()).await.expect_err("refused");
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
            let server = Canned::serving(vec![answer.clone()]).await;
            let error = refresh(&http(), &api(&server), &secret("RT"), &Quick::new()).await.expect_err("refused");
            assert_eq!(error.ends_session(), ends, "{answer}: {error}");
        }
    }

    #[tokio::test]
    async fn a_logout_that_is_refused_repeats_neither_token() {
        for told in ["no such token: RT-hunter2", "no such token: AT-hunter2"] {
            let server = Canned::serving(vec![json(400, &format!(r#"{{"detail":"{told}"}}"#))]).await;
            let tokens = TokenSet {
                access_token: secret("AT-hunter2"),
                token_type: "Bearer".into(),
                refresh_token: Some(secret("RT-hunter2")),
                id_token: None,
                obtained_at: UnixTime(0),
                expires_at: None,
                scope: None,
            };
            let error = logout(&http(), &api(&server), &server.url, &tokens).await.expect_err("refused");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_logout_shows_the_jwt_and_sends_the_refresh_token() {
        let (tokens, _) = logged_in(r#"{"token":"JWT","refresh_token":"RT"}"#, |_| {}).await;
        let tokens = tokens.expect("tokens");
        for (answer, done) in
            [(json(200, "{}"), true), (answer(204, "", ""), true), (json(401, "{}"), true), (json(403, "{}"), false)]
        {
            let server = Canned::serving(vec![answer.clone()]).await;
            let api = LoginApi { refresh_token_field: Some("data.refresh".into()), ..api(&server) };
            let result = logout(&http(), &api, &server.url, &tokens).await;
            assert_eq!(result.is_ok(), done, "{answer}: {result:?}");
            assert_eq!(server.body(0), r#"{"refresh":"RT"}"#);
            assert!(server.requests()[0].to_ascii_lowercase().contains("authorization: bearer jwt\r\n"));
        }
    }

    #[tokio::test]
    async fn a_refresh_sends_the_refresh_token_alone() {
        let server = Canned::serving(vec![json(200, r#"{"data":{"jwt":"J2"}}"#)]).await;
        let mut api = api(&server);
        api.access_token_field = Some("data.jwt".into());
        api.refresh_token_field = Some("data.refresh".into());
        let tokens = refresh(&http(), &api, &secret("RT"), &Quick::new()).await.expect("tokens");
        assert!(tokens.refresh_token.is_none(), "the caller keeps the old one");
        assert_eq!(server.body(0), r#"{"refresh":"RT"}"#);
    }
}
