//! The device authorization grant: the user enters a code on another device (RFC 8628).

use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use url::Url;

use super::error::IssuerError;
use super::form::{Form, contains_secret};
use super::lenient_json::{LenientString, Lifetime, text_of};
use super::metadata::Metadata;
use super::token_endpoint::{TokenEndpoint, add_single_resource, add_target, post, response_error};
use super::token_response::TokenEndpointResponse;
use crate::model::{TokenSet, TokenTarget};
use crate::secret::Secret;
use crate::text::excerpt;

/// The default time between polls (section 3.2).
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// What `slow_down` adds to the interval (section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// The shortest interval.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval.
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// The default lifetime of a code.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(900);
/// The longest time to wait for the user.
const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// A device authorization response (section 3.2).
#[derive(Debug)]
pub struct DeviceAuthorization {
    device_code: Secret,
    /// The code that the user enters, one line of at most 64 characters.
    pub user_code: String,
    /// The URL at which the user enters it.
    pub verification_uri: Url,
    /// The same URL with the code in it, for a QR code.
    pub verification_uri_complete: Option<Url>,
    /// The lifetime of the code, at most an hour.
    pub expires_in: Duration,
    interval: Duration,
    expires: Instant,
    resources: Vec<String>,
}

/// A code to type, which some issuers write as a number.
#[derive(Default)]
struct CodeText(Option<String>);

impl<'de> Deserialize<'de> for CodeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        let is_number = raw.get().bytes().all(|byte| byte.is_ascii_digit());
        let text = if is_number { Some(raw.get().to_owned()) } else { text_of(raw) };
        Ok(Self(text.filter(|text| !text.is_empty())))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    device_code: Option<Secret>,
    user_code: CodeText,
    verification_uri: LenientString,
    verification_url: LenientString,
    verification_uri_complete: LenientString,
    expires_in: Lifetime,
    interval: Lifetime,
}

/// Starts a device login at the metadata's `device_authorization_endpoint`.
///
/// # Errors
/// [`IssuerError::Unsupported`] if the issuer has none.
pub async fn request(
    endpoint: &TokenEndpoint<'_>,
    metadata: &Metadata,
    target: &TokenTarget,
) -> Result<DeviceAuthorization, IssuerError> {
    let missing = IssuerError::Unsupported { what: "device_authorization_endpoint" };
    let url = metadata.device_authorization_endpoint.as_ref().ok_or(missing)?;
    let mut form = Form::default();
    add_target(&mut form, target);
    let asked_at = endpoint.clock.monotonic();
    let (response, sent) = post(endpoint.http, url, endpoint.client, form, None).await?;
    let expected = "a device authorization response";
    if !response.is_success() {
        return Err(response_error(&response, &sent, expected));
    }
    let wire: Wire = response.object().ok_or_else(|| response.unexpected(expected))?;
    let uri = wire.verification_uri.0.or(wire.verification_url.0);
    let missing = match (&wire.device_code, &wire.user_code.0, &uri) {
        (None, None, None) => return Err(response_error(&response, &sent, expected)),
        (None, ..) => "device_code",
        (_, None, _) => "user_code",
        _ => "verification_uri",
    };
    let (Some(device_code), Some(user_code), Some(uri)) = (wire.device_code, wire.user_code.0, uri) else {
        let what = format!("a device authorization response without {missing}");
        return Err(IssuerError::InvalidResponse { from: response.host, what, wrong_address: false });
    };
    // Both are shown, and the second address as a QR code.
    let secrets: Vec<Secret> = sent.into_iter().chain([device_code.clone()]).collect();
    for (name, text) in [("user_code", &user_code), ("verification_uri", &uri)] {
        if contains_secret(&secrets, text) {
            let what = format!("a device authorization response with a secret in its {name}");
            return Err(IssuerError::InvalidResponse { from: response.host, what, wrong_address: false });
        }
    }
    let complete = wire.verification_uri_complete.0.filter(|uri| !contains_secret(&secrets, uri));
    let expires_in = wire.expires_in.0.unwrap_or(DEFAULT_LIFETIME).min(MAX_LIFETIME);
    Ok(DeviceAuthorization {
        device_code,
        user_code: excerpt(&user_code, 64),
        verification_uri: endpoint.http.named_url(&uri)?,
        // An optional convenience: an invalid one is ignored.
        verification_uri_complete: complete.and_then(|uri| endpoint.http.named_url(&uri).ok()),
        expires_in,
        interval: wire.interval.0.unwrap_or(DEFAULT_INTERVAL).clamp(MIN_INTERVAL, MAX_INTERVAL),
        expires: asked_at + expires_in,
        resources: target.resources.clone(),
    })
}

/// Polls until the user has decided or the code expires. After a network error, or while the issuer is unavailable, it waits
/// longer before the next poll.
///
/// # Errors
/// [`IssuerError::Refused`] with `access_denied` if the user denied access, [`IssuerError::LoginTimedOut`] if the code expired.
pub async fn poll(endpoint: &TokenEndpoint<'_>, authorization: &DeviceAuthorization) -> Result<TokenSet, IssuerError> {
    let clock = endpoint.clock;
    let timed_out = || IssuerError::LoginTimedOut { limit: authorization.expires_in };
    let mut interval = authorization.interval;
    let mut wait = interval;
    loop {
        if clock.monotonic() + wait >= authorization.expires {
            return Err(timed_out());
        }
        clock.sleep(wait).await;
        let mut form = Form::for_grant("urn:ietf:params:oauth:grant-type:device_code");
        form.add_secret("device_code", &authorization.device_code);
        add_single_resource(&mut form, &authorization.resources);
        wait = match endpoint.request(form).await {
            Ok(TokenEndpointResponse::Tokens(tokens)) => return Ok(tokens),
            Ok(TokenEndpointResponse::Error(response)) => match response.error.code.as_str() {
                "authorization_pending" => interval,
                "slow_down" => {
                    interval = (interval + SLOW_DOWN).min(MAX_INTERVAL);
                    interval
                }
                "expired_token" => return Err(timed_out()),
                _ => return Err(IssuerError::Refused(response.error)),
            },
            Err(IssuerError::Unreachable { .. }) => (wait * 2).min(MAX_INTERVAL),
            Err(IssuerError::Unavailable { retry_after, .. }) => {
                retry_after.unwrap_or_default().max((wait * 2).min(MAX_INTERVAL))
            }
            Err(error) => return Err(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::client_auth::OAuthClient;
    use super::super::testing::{TestClock, TestServer, answer, cli, http, json};
    use super::*;
    use crate::model::ClientAuth;

    const TOKENS: &str = r#"{"access_token":"AT","token_type":"Bearer"}"#;

    fn error_reply(error: &str) -> String {
        json(400, &format!(r#"{{"error":"{error}"}}"#))
    }

    /// Runs a device login against `answers`, the first of them the device authorization response.
    async fn login(answers: Vec<String>) -> (Result<TokenSet, IssuerError>, Vec<u64>, TestServer) {
        login_for(answers, &TokenTarget::default()).await
    }

    async fn login_for(
        answers: Vec<String>,
        target: &TokenTarget,
    ) -> (Result<TokenSet, IssuerError>, Vec<u64>, TestServer) {
        let server = TestServer::start(answers).await;
        let (http, client, clock) = (http(), cli(), TestClock::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let mut metadata = Metadata::new("https://a.example".parse().expect("valid"));
        metadata.device_authorization_endpoint = Some(server.url.clone());
        let result = match request(&endpoint, &metadata, target).await {
            Ok(authorization) => poll(&endpoint, &authorization).await,
            Err(error) => Err(error),
        };
        (result, clock.waits(), server)
    }

    fn started(more: &str) -> String {
        let body = r#"{"device_code":"DC","user_code":"WDJB-MJHT","verification_uri":"https://a.example/d""#;
        json(200, &format!("{body}{more}}}"))
    }

    #[tokio::test]
    async fn slow_down_applies_to_all_later_polls() {
        let pending = || error_reply("authorization_pending");
        let answers = vec![
            started(""),
            pending(),
            error_reply("slow_down"),
            pending(),
            error_reply("slow_down"),
            json(200, TOKENS),
        ];
        let (result, waits, server) = login(answers).await;
        assert_eq!(result.expect("tokens").access_token.expose(), "AT");
        assert_eq!(waits, [5, 5, 10, 10, 15]);
        assert_eq!(server.body(0), "client_id=cli");
        assert_eq!(
            server.body(1),
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=DC&client_id=cli"
        );
    }

    #[tokio::test]
    async fn each_poll_names_the_single_resource() {
        let target = TokenTarget { resources: vec!["https://r1".into()], ..TokenTarget::default() };
        let (result, _, server) = login_for(vec![started(""), json(200, TOKENS)], &target).await;
        result.expect("tokens");
        assert_eq!(server.body(0), "resource=https%3A%2F%2Fr1&client_id=cli");
        assert!(
            server.body(1).ends_with("&device_code=DC&resource=https%3A%2F%2Fr1&client_id=cli"),
            "{}",
            server.body(1)
        );
    }

    #[tokio::test]
    async fn failed_poll_only_delays_the_next() {
        let unavailable = answer(429, "retry-after: 30\r\n", "");
        let pending = error_reply("authorization_pending");
        let answers = vec![
            started(r#","interval":2"#),
            String::new(),
            String::new(),
            answer(502, "", "<html>"),
            unavailable,
            pending,
            json(200, TOKENS),
        ];
        let (result, waits, _) = login(answers).await;
        result.expect("tokens");
        assert_eq!(waits, [2, 4, 8, 16, 32, 2]);
    }

    #[tokio::test]
    async fn denial_ends_the_login_at_once() {
        let (result, waits, _) = login(vec![started(""), error_reply("access_denied")]).await;
        let Err(IssuerError::Refused(error)) = result else { panic!("{result:?}") };
        assert_eq!((error.code.as_str(), waits.len()), ("access_denied", 1));
    }

    #[tokio::test]
    async fn login_ends_when_the_code_expires() {
        let (result, _, _) = login(vec![started(""), error_reply("expired_token")]).await;
        assert!(matches!(result, Err(IssuerError::LoginTimedOut { .. })), "{result:?}");

        let mut answers = vec![started(r#","expires_in":20"#)];
        answers.extend(std::iter::repeat_n(error_reply("authorization_pending"), 100));
        let (result, waits, _) = login(answers).await;
        assert!(matches!(result, Err(IssuerError::LoginTimedOut { .. })), "{result:?}");
        assert_eq!(waits, [5, 5, 5]);

        let hungry = answer(429, "retry-after: 3600\r\n", "");
        let (result, waits, _) = login(vec![started(""), hungry]).await;
        assert!(matches!(result, Err(IssuerError::LoginTimedOut { .. })), "{result:?}");
        assert_eq!(waits, [5]);
    }

    #[tokio::test]
    async fn interval_and_lifetime_are_limited() {
        for (more, first) in [
            (r#","interval":0"#, 5),
            (r#","interval":-3,"expires_in":-5"#, 5),
            (r#","interval":0.5,"expires_in":0"#, 1),
            (r#","interval":1e9"#, 60),
            (r#","interval":"7","expires_in":"600""#, 7),
            (r#","expires_in":1e18"#, 5),
        ] {
            let (result, waits, _) = login(vec![started(more), json(200, TOKENS)]).await;
            result.expect(more);
            assert_eq!(waits, [first], "{more}");
        }
    }

    #[tokio::test]
    async fn device_response_is_validated() {
        let code = r#"{"device_code":"DC","user_code":"WDJB-MJHT","verification_url":"https://a.example/d"}"#;
        let server = TestServer::start(vec![json(200, code)]).await;
        let (http, client, clock) = (http(), cli(), TestClock::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let mut metadata = Metadata::new("https://a.example".parse().expect("valid"));
        metadata.device_authorization_endpoint = Some(server.url.clone());
        let shown = request(&endpoint, &metadata, &TokenTarget::default()).await.expect("started");
        assert_eq!((shown.user_code.as_str(), shown.verification_uri.as_str()), ("WDJB-MJHT", "https://a.example/d"));
        assert!(!format!("{shown:?}").contains("DC"));
        // A client secret is one too, a part of it is none, and without the optional address there is one less.
        let client = OAuthClient { secret: Some(Secret::new("hunter-2".into())), ..OAuthClient::public("hunter") };
        let client = OAuthClient { auth: ClientAuth::ClientSecretPost, ..client };
        let response = |code: &str, uri: &str, complete: &str| {
            let complete = format!(r#""verification_uri_complete":"https://a.example/{complete}""#);
            json(200, &format!(r#"{{"device_code":"DC","user_code":"{code}","verification_uri":"{uri}",{complete}}}"#))
        };
        let uri = "https://a.example/d";
        let answers = [("hunter", "hunter-2"), ("hunter", "DC"), ("hunter", "hunter"), ("hunter-2", "hunter")];
        let answers = answers.map(|(code, complete)| response(code, uri, complete));
        let server = TestServer::start(answers.to_vec()).await;
        metadata.device_authorization_endpoint = Some(server.url.clone());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let target = TokenTarget::default();
        for has_complete in [false, false, true] {
            let shown = request(&endpoint, &metadata, &target).await.expect("started");
            assert_eq!(shown.verification_uri_complete.is_some(), has_complete, "{shown:?}");
        }
        let refused = request(&endpoint, &metadata, &target).await.expect_err("the secret").to_string();
        assert!(refused.contains("user_code") && !refused.contains("hunter-2"), "{refused}");

        for (answer, expected) in [
            (started("").replace("https://a.example/d", "http://evil.example"), "https"),
            (json(200, r#"{"error":"unauthorized_client"}"#), "unauthorized_client"),
            (json(400, r#"{"error":"invalid_scope"}"#), "invalid_scope"),
            (response("DC", uri, ""), "with a secret in its user_code"),
            (response("U", "https://a.example/%44C", ""), "with a secret in its verification_uri"),
            (json(200, "{}"), "instead of a device authorization response"),
            (json(200, r#"{"user_code":"U"}"#), "without device_code"),
            (json(200, r#"{"device_code":"DC"}"#), "without user_code"),
            (json(200, r#"{"device_code":"DC","user_code":[1]}"#), "without user_code"),
            (json(200, r#"{"device_code":"DC","user_code":-1.5}"#), "without user_code"),
            (json(200, r#"{"device_code":"DC","user_code":"U"}"#), "without verification_uri"),
        ] {
            let (result, _, _) = login(vec![answer]).await;
            let error = result.expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
