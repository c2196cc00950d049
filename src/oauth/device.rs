//! Signing in on another device: a code is shown here and typed in there (RFC 8628).

use std::time::{Duration, Instant};

use serde::Deserialize;
use url::Url;

use super::error::IssuerError;
use super::form::Form;
use super::metadata::Metadata;
use super::reply::{Answer, Lenient, Life};
use super::token_endpoint::{TokenEndpoint, add_asked, add_own_resource, failure, post};
use crate::model::{TokenSet, TokenTarget, secure_url};
use crate::secret::Secret;
use crate::ui::sanitize_for_terminal;

/// Between polls where the issuer does not say (RFC 8628, section 3.2).
const INTERVAL: Duration = Duration::from_secs(5);
/// What `slow_down` adds, for this and all later polls (section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// Never polled more often, nor waited longer between polls.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a code is good for where the issuer does not say, and at most.
const LIVES: (Duration, Duration) = (Duration::from_secs(900), Duration::from_secs(3600));

/// What the user must be shown, and what is polled with.
#[derive(Debug)]
pub struct DeviceAuthorization {
    device_code: Secret,
    /// What the user types in, at most 64 printable characters.
    pub user_code: String,
    /// Where.
    pub verification_uri: Url,
    /// The same with the code in it, for a QR code.
    pub verification_uri_complete: Option<Url>,
    /// How long the code is good for, an hour at most.
    pub expires_in: Duration,
    interval: Duration,
    expires: Instant,
    resources: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    device_code: Option<Secret>,
    user_code: Lenient,
    verification_uri: Lenient,
    verification_url: Lenient,
    verification_uri_complete: Lenient,
    expires_in: Life,
    interval: Life,
}

/// Starts a device login at the metadata's `device_authorization_endpoint`.
///
/// # Errors
/// [`IssuerError::Unsupported`] where the issuer has none, and whatever a request can fail with.
pub async fn request(
    endpoint: &TokenEndpoint<'_>,
    metadata: &Metadata,
    asked: &TokenTarget,
) -> Result<DeviceAuthorization, IssuerError> {
    let missing = IssuerError::Unsupported { what: "device_authorization_endpoint" };
    let url = metadata.device_authorization_endpoint.as_ref().ok_or(missing)?;
    let mut form = Form::default();
    add_asked(&mut form, asked);
    let asked_at = endpoint.clock.monotonic();
    let (reply, sent) = post(endpoint.http, url, endpoint.client, form).await?;
    let expected = "device authorization response";
    if !reply.is_success() {
        return Err(failure(&reply, &sent, expected));
    }
    let wire: Wire = reply.object().ok_or_else(|| reply.malformed(expected))?;
    let uri = wire.verification_uri.0.or(wire.verification_url.0);
    let missing = match (&wire.device_code, &wire.user_code.0, &uri) {
        (None, None, None) => return Err(failure(&reply, &sent, expected)),
        (None, ..) => "device_code",
        (_, None, _) => "user_code",
        _ => "verification_uri",
    };
    let (Some(device_code), Some(user_code), Some(uri)) = (wire.device_code, wire.user_code.0, uri) else {
        let what = format!("a device authorization response without {missing}");
        return Err(IssuerError::Malformed { from: reply.host, what, misplaced: false });
    };
    let expires_in = wire.expires_in.0.unwrap_or(LIVES.0).min(LIVES.1);
    Ok(DeviceAuthorization {
        device_code,
        user_code: sanitize_for_terminal(&user_code, 64),
        verification_uri: secure_url(&uri)?,
        // It only saves typing: one that cannot be used is left out.
        verification_uri_complete: wire.verification_uri_complete.0.and_then(|uri| secure_url(&uri).ok()),
        expires_in,
        interval: wire.interval.0.unwrap_or(INTERVAL).clamp(INTERVALS.0, INTERVALS.1),
        expires: asked_at + expires_in,
        resources: asked.resources.clone(),
    })
}

/// Polls until the user has decided or the code is over. A network fault or a busy issuer between polls only makes the
/// next one later.
///
/// # Errors
/// [`IssuerError::Refused`] with `access_denied` where the user said no, [`IssuerError::TimedOut`] where nobody decided
/// in time, and whatever else the issuer refuses with.
pub async fn poll(endpoint: &TokenEndpoint<'_>, authorization: &DeviceAuthorization) -> Result<TokenSet, IssuerError> {
    let clock = endpoint.clock;
    let timed_out = || IssuerError::TimedOut { limit: authorization.expires_in };
    let mut interval = authorization.interval;
    let mut wait = interval;
    loop {
        if clock.monotonic() + wait >= authorization.expires {
            return Err(timed_out());
        }
        clock.sleep(wait).await;
        let mut form = Form::grant("urn:ietf:params:oauth:grant-type:device_code");
        form.add_secret("device_code", &authorization.device_code);
        add_own_resource(&mut form, &authorization.resources);
        wait = match endpoint.answer(form).await {
            Ok(Answer::Tokens(tokens)) => return Ok(tokens),
            Ok(Answer::Refused(refusal)) => match refusal.error.code.as_str() {
                "authorization_pending" => interval,
                "slow_down" => {
                    interval = (interval + SLOWER).min(INTERVALS.1);
                    interval
                }
                "expired_token" => return Err(timed_out()),
                _ => return Err(IssuerError::Refused(refusal.error)),
            },
            Err(IssuerError::Unreachable { .. }) => (wait * 2).min(INTERVALS.1),
            Err(IssuerError::Busy { retry_after, .. }) => {
                retry_after.unwrap_or_default().max((wait * 2).min(INTERVALS.1))
            }
            Err(error) => return Err(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Canned, Quick, answer, cli, http, json};
    use super::*;

    const TOKENS: &str = r#"{"access_token":"AT","token_type":"Bearer"}"#;

    fn says(error: &str) -> String {
        json(400, &format!(r#"{{"error":"{error}"}}"#))
    }

    /// A device login against `answers`, the first of them the device authorization response.
    async fn login(answers: Vec<String>) -> (Result<TokenSet, IssuerError>, Vec<u64>, Canned) {
        login_for(answers, &TokenTarget::default()).await
    }

    async fn login_for(answers: Vec<String>, asked: &TokenTarget) -> (Result<TokenSet, IssuerError>, Vec<u64>, Canned) {
        let server = Canned::serving(answers).await;
        let (http, client, clock) = (http(), cli(), Quick::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let mut metadata = Metadata::bare("https://a.example".parse().expect("valid"));
        metadata.device_authorization_endpoint = Some(server.url.clone());
        let result = match request(&endpoint, &metadata, asked).await {
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
    async fn slow_down_counts_for_all_later_polls() {
        let pending = || says("authorization_pending");
        let answers = vec![started(""), pending(), says("slow_down"), pending(), says("slow_down"), json(200, TOKENS)];
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
    async fn a_login_for_one_resource_names_it_at_each_poll() {
        let asked = TokenTarget { resources: vec!["https://r1".into()], ..TokenTarget::default() };
        let (result, _, server) = login_for(vec![started(""), json(200, TOKENS)], &asked).await;
        result.expect("tokens");
        assert_eq!(server.body(0), "resource=https%3A%2F%2Fr1&client_id=cli");
        assert!(
            server.body(1).ends_with("&device_code=DC&resource=https%3A%2F%2Fr1&client_id=cli"),
            "{}",
            server.body(1)
        );
    }

    #[tokio::test]
    async fn a_fault_between_polls_ends_nothing() {
        let busy = answer(429, "retry-after: 30\r\n", "");
        let pending = says("authorization_pending");
        let answers = vec![
            started(r#","interval":2"#),
            String::new(),
            String::new(),
            answer(502, "", "<html>"),
            busy,
            pending,
            json(200, TOKENS),
        ];
        let (result, waits, _) = login(answers).await;
        result.expect("tokens");
        assert_eq!(waits, [2, 4, 8, 16, 32, 2]);
    }

    #[tokio::test]
    async fn a_denial_is_told_at_once() {
        let (result, waits, _) = login(vec![started(""), says("access_denied")]).await;
        let Err(IssuerError::Refused(error)) = result else { panic!("{result:?}") };
        assert_eq!((error.code.as_str(), waits.len()), ("access_denied", 1));
    }

    #[tokio::test]
    async fn it_ends_when_the_code_does_whatever_the_issuer_says() {
        let (result, _, _) = login(vec![started(""), says("expired_token")]).await;
        assert!(matches!(result, Err(IssuerError::TimedOut { .. })), "{result:?}");

        let mut answers = vec![started(r#","expires_in":20"#)];
        answers.extend(std::iter::repeat_n(says("authorization_pending"), 100));
        let (result, waits, _) = login(answers).await;
        assert!(matches!(result, Err(IssuerError::TimedOut { .. })), "{result:?}");
        assert_eq!(waits, [5, 5, 5]);

        let hungry = answer(429, "retry-after: 3600\r\n", "");
        let (result, waits, _) = login(vec![started(""), hungry]).await;
        assert!(matches!(result, Err(IssuerError::TimedOut { .. })), "{result:?}");
        assert_eq!(waits, [5]);
    }

    #[tokio::test]
    async fn absurd_times_are_bounded() {
        for (more, first) in [
            (r#","interval":0"#, 1),
            (r#","interval":-3"#, 1),
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
    async fn what_the_user_is_shown_is_fit_to_be_shown() {
        let code = r#"{"device_code":"DC","user_code":"A\u001b[2JB","verification_url":"https://a.example/d"}"#;
        let server = Canned::serving(vec![json(200, code)]).await;
        let (http, client, clock) = (http(), cli(), Quick::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let mut metadata = Metadata::bare("https://a.example".parse().expect("valid"));
        metadata.device_authorization_endpoint = Some(server.url.clone());
        let shown = request(&endpoint, &metadata, &TokenTarget::default()).await.expect("started");
        assert_eq!(
            (shown.user_code.as_str(), shown.verification_uri.as_str()),
            ("A\u{fffd}[2JB", "https://a.example/d")
        );
        assert!(!format!("{shown:?}").contains("DC"));

        for (answer, expected) in [
            (started("").replace("https://a.example/d", "http://evil.example"), "https"),
            (json(200, r#"{"error":"unauthorized_client"}"#), "unauthorized_client"),
            (json(400, r#"{"error":"invalid_scope"}"#), "invalid_scope"),
            (json(200, "{}"), "no device authorization response"),
        ] {
            let (result, _, _) = login(vec![answer]).await;
            let error = result.expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
