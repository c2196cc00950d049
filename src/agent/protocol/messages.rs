//! The JSON messages on the agent's socket. Their paths contain a version.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::model::{ErrorCode, ProfileName, RuleName, TokenTarget, deserialize_whole_number};
use crate::secret::Secret;

/// The OpenAPI 3.1 description of the interface, which the agent also serves as `/v1/openapi.json`.
pub const OPENAPI: &str = include_str!("openapi.json");

/// The longest wait for a refresh, and the default.
pub const MAX_WAIT: Duration = Duration::from_secs(120);

/// The response to `GET /v1/token`, and what `authctl token --json` prints.
#[derive(Debug, Serialize)]
pub struct TokenResponse<'a> {
    /// The profile; `None` for the token in `AUTHCTL_TOKEN`.
    pub profile: Option<&'a ProfileName>,
    /// The access token, unless the ID token was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<&'a str>,
    /// The ID token, if it was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_token: Option<&'a str>,
    /// `Bearer`, or as the issuer wrote it (RFC 6749, section 7.1).
    pub token_type: &'a str,
    /// When it expires, if known.
    pub expires_at: Option<UnixTime>,
    /// How long it is still valid, in seconds.
    pub expires_in: Option<u64>,
    /// The scope granted, separated by spaces.
    pub scope: Option<&'a str>,
    /// The issuer.
    pub issuer: Option<&'a str>,
    /// Why the access token, which expires soon, cannot be refreshed without a login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// The response as a client reads it.
#[derive(Debug, Deserialize)]
pub struct ReceivedToken {
    /// As in [`TokenResponse`].
    pub profile: Option<ProfileName>,
    /// As in [`TokenResponse`].
    pub access_token: Option<Secret>,
    /// As in [`TokenResponse`].
    pub id_token: Option<Secret>,
    /// As in [`TokenResponse`].
    pub token_type: String,
    /// As in [`TokenResponse`].
    pub expires_at: Option<UnixTime>,
    /// As in [`TokenResponse`].
    pub expires_in: Option<u64>,
    /// As in [`TokenResponse`].
    pub scope: Option<String>,
    /// As in [`TokenResponse`].
    pub issuer: Option<String>,
    /// As in [`TokenResponse`].
    pub warning: Option<String>,
}

/// A problem document (RFC 9457), with the error code and exit code of the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ReceivedProblem")]
pub struct Problem {
    /// The HTTP status, repeated.
    pub status: u16,
    /// What failed, as a script sees it.
    pub code: ErrorCode,
    /// What failed, in one line.
    pub title: String,
    /// The next command; may be empty.
    pub hint: String,
    /// Advice, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The exit code of `authctl` for the same failure.
    pub exit_code: u8,
}

/// A problem as it is received. The code of a newer agent may be one that this version does not know.
#[derive(Deserialize)]
struct ReceivedProblem {
    status: u16,
    code: String,
    title: String,
    #[serde(default)]
    hint: String,
    #[serde(default)]
    note: Option<String>,
    #[serde(default)]
    exit_code: u8,
}

impl From<ReceivedProblem> for Problem {
    /// Replaces an unknown code with the general one of its exit code.
    fn from(ReceivedProblem { status, code, title, hint, note, exit_code }: ReceivedProblem) -> Self {
        let code = ErrorCode::from_word(&code).unwrap_or_else(|| ErrorCode::from_exit_code(exit_code));
        Self { status, code, title, hint, note, exit_code: code.exit_code() }
    }
}

/// The body of `POST /v1/lock`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// The passphrase that unlocks it again. None if the file store has one, which unlocks the agent too.
    #[serde(skip_serializing_if = "Option::is_none", default, serialize_with = "expose_optional")]
    pub passphrase: Option<Secret>,
    /// Lock after this idle time in seconds instead of now; 0 turns that off.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "deserialize_whole_number")]
    pub after: Option<u64>,
}

/// The body of `POST /v1/unlock`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnlockRequest {
    /// The passphrase that it was locked with.
    #[serde(serialize_with = "expose")]
    pub passphrase: Secret,
}

/// The body of `POST /v1/session`: the session of a login, with the records that belong to it, for the memory of the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandoverRequest {
    /// The profile.
    pub profile: ProfileName,
    /// The session under the profile's name, and records under theirs.
    pub items: Vec<HandoverItem>,
    /// Whether to replace the session of another account.
    #[serde(default)]
    pub replace: bool,
    /// Whether the caller holds the profile lock while it waits for the response.
    #[serde(default, rename = "locked")]
    pub holds_profile_lock: bool,
}

/// A session or a record, encrypted to the agent's key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandoverItem {
    /// The profile, or the name of the record.
    pub name: String,
    /// The age file in Base64.
    sealed: String,
}

impl HandoverItem {
    /// Returns an item with this encrypted content.
    #[must_use]
    pub fn new(name: String, sealed: &[u8]) -> Self {
        Self { name, sealed: STANDARD.encode(sealed) }
    }

    /// Returns the encrypted content; `None` if it is not in Base64.
    #[must_use]
    pub fn sealed(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.sealed).ok()
    }
}

/// The response to `POST /v1/logout/PROFILE`.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogoutResponse {
    /// The profile.
    pub profile: ProfileName,
    /// Whether there was a session, which is deleted.
    pub deleted: bool,
    /// `revoked`, `skipped`, `unsupported`, `partial` or `failed`; `None` if there was no session.
    pub revocation: Option<String>,
    /// Why the revocation failed.
    pub error: Option<Problem>,
}

fn expose<S: serde::Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

fn expose_optional<S: serde::Serializer>(passphrase: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    passphrase.as_ref().map(Secret::expose).serialize(serializer)
}

/// The response to `POST /v1/refresh/PROFILE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshResponse {
    /// The profile.
    pub profile: ProfileName,
    /// Whether this request, or one that it waited for, refreshed the session.
    pub refreshed: bool,
    /// When the token expires now.
    pub expires_at: Option<UnixTime>,
    /// How long it is still valid, in seconds.
    pub expires_in: Option<u64>,
}

/// The response to `POST /v1/forget/PROFILE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetResponse {
    /// The profile.
    pub profile: ProfileName,
    /// Whether anything was cached.
    pub forgotten: bool,
}

/// The response to `POST /v1/stop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopResponse {
    /// The PID of the agent that is stopping.
    pub pid: u32,
}

/// The response to `GET /v1/log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLogResponse {
    /// The entries, the oldest first.
    pub entries: Vec<AuditLogEntry>,
    /// The number of older entries that were dropped.
    pub dropped: u64,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLogEntry {
    /// When it first happened.
    pub first_at: UnixTime,
    /// When it last happened.
    pub last_at: UnixTime,
    /// How often the same process did it.
    pub count: u64,
    /// The action, such as `token` or `id_token`.
    pub action: String,
    /// Why it was denied or failed, if so.
    #[serde(default)]
    pub error: Option<ErrorCode>,
    /// The rule of a proxy that refused a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleName>,
    /// The last refused request: its method and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The profile.
    pub profile: Option<ProfileName>,
    /// The PID of the process.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its executable, if the system shows it; a process can choose its own name.
    pub executable: Option<String>,
    /// The executable of its parent process, if the system shows it.
    pub parent: Option<String>,
}

/// The body of `POST /v1/proof`: the request that a caller is about to make with a bound token (DPoP).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofRequest {
    /// The profile; the default one if missing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub profile: Option<ProfileName>,
    /// The HTTP method.
    pub method: String,
    /// The URL. Its query and fragment are not part of a proof.
    pub url: String,
    /// The nonce that the server wants, from its `DPoP-Nonce` header.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nonce: Option<String>,
    /// The access token that the request carries; the session's own if missing.
    #[serde(skip_serializing_if = "Option::is_none", default, serialize_with = "expose_optional")]
    pub access_token: Option<Secret>,
}

/// The response to `POST /v1/proof`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProofResponse {
    /// The profile.
    pub profile: ProfileName,
    /// The value of the `DPoP` header.
    #[serde(serialize_with = "expose")]
    pub proof: Secret,
}

/// The body of `POST /v1/proxy`: what a proxy reports.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyReport {
    /// The profile.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub profile: Option<ProfileName>,
    /// What has happened.
    pub reported: ProxyReported,
}

/// What a proxy reports.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ProxyReported {
    /// It has refused requests, for the audit log.
    Refused {
        /// The rule.
        rule: RuleName,
        /// How many.
        count: std::num::NonZeroU32,
        /// Method and path of the last one.
        request: String,
    },
    /// The API wants another sign-in, which is an event.
    SignInRequired {
        /// What the user has to do, in one line.
        message: String,
    },
}

/// Returns the query of a request for a token with its `?`, or an empty string.
#[must_use]
pub fn token_query(target: &TokenTarget, min_ttl: Option<u64>) -> String {
    query(target, "min_ttl", min_ttl)
}

/// Returns the query of a refresh with its `?`, or an empty string.
#[must_use]
pub fn refresh_query(target: &TokenTarget, if_expiring: Option<u64>) -> String {
    query(target, "if_expiring", if_expiring)
}

fn query(target: &TokenTarget, limit: &str, seconds: Option<u64>) -> String {
    let mut query = String::new();
    let mut add = |name: &str, value: &str| {
        let mark = if query.is_empty() { '?' } else { '&' };
        let _ = write!(query, "{mark}{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    };
    if let Some(seconds) = seconds {
        add(limit, &seconds.to_string());
    }
    if let Some(audience) = &target.audience {
        add("audience", audience);
    }
    if !target.scopes.is_empty() {
        add("scope", &target.scopes.join(" "));
    }
    for resource in &target.resources {
        add("resource", resource);
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_response_has_the_documented_format() {
        let profile: ProfileName = "work".parse().expect("valid");
        let answer = TokenResponse {
            profile: Some(&profile),
            access_token: Some("AT"),
            id_token: None,
            token_type: "Bearer",
            expires_at: Some(UnixTime(400)),
            expires_in: Some(300),
            scope: Some("openid"),
            issuer: Some("https://a.example"),
            warning: None,
        };
        let text = serde_json::to_string(&answer).expect("JSON");
        assert_eq!(
            text,
            r#"{"profile":"work","access_token":"AT","token_type":"Bearer","expires_at":400,"expires_in":300,"scope":"openid","issuer":"https://a.example"}"#
        );
        let back: ReceivedToken = serde_json::from_str(&text).expect("readable");
        assert_eq!(back.access_token.expect("a token").expose(), "AT");
        assert!(back.id_token.is_none());
    }

    #[test]
    fn problem_document_has_the_documented_format() {
        let problem = Problem {
            status: 401,
            code: ErrorCode::LoginRequired,
            title: "not logged in".into(),
            hint: "authctl login work".into(),
            note: None,
            exit_code: 3,
        };
        assert_eq!(
            serde_json::to_string(&problem).expect("JSON"),
            r#"{"status":401,"code":"login_required","title":"not logged in","hint":"authctl login work","exit_code":3}"#
        );
    }

    #[test]
    fn unknown_problem_code_keeps_its_exit_code() {
        for (text, code) in [
            (r#"{"status":401,"code":"login_required","title":"t","exit_code":3}"#, ErrorCode::LoginRequired),
            (r#"{"status":423,"code":"from_the_future","title":"t","exit_code":8}"#, ErrorCode::AgentUnavailable),
            (r#"{"status":500,"code":"from_the_future","title":"t"}"#, ErrorCode::Unexpected),
        ] {
            let problem: Problem = serde_json::from_str(text).expect("readable");
            assert_eq!((problem.code, problem.exit_code), (code, code.exit_code()), "{text}");
        }
    }

    #[test]
    fn queries_are_encoded() {
        assert_eq!(token_query(&TokenTarget::default(), None), "");
        let target = TokenTarget {
            audience: Some("https://api.example/?a=b&c".into()),
            scopes: vec!["read".into(), "write".into()],
            resources: vec!["r1".into(), "r2".into()],
        };
        assert_eq!(
            token_query(&target, Some(60)),
            "?min_ttl=60&audience=https%3A%2F%2Fapi%2Eexample%2F%3Fa%3Db%26c&scope=read%20write&resource=r1&resource=r2"
        );
    }

    #[test]
    fn description_is_json_and_names_this_version() {
        let description: serde_json::Value = serde_json::from_str(OPENAPI).expect("JSON");
        assert_eq!(description["openapi"], "3.1.0");
        let paths = description["paths"].as_object().expect("paths");
        let methods = |item: &serde_json::Value| item.as_object().expect("methods").keys().cloned().collect::<Vec<_>>();
        let described: Vec<String> = paths.iter().map(|(path, item)| methods(item).join(",") + " " + path).collect();
        let expected = [
            "get /v1/agent",
            "get /v1/events",
            "post /v1/forget/{profile}",
            "get /v1/id-token",
            "get /v1/id-token/{profile}",
            "post /v1/lock",
            "get /v1/log",
            "post /v1/logout/{profile}",
            "get /v1/openapi.json",
            "post /v1/proof",
            "post /v1/proxy",
            "post /v1/refresh/{profile}",
            "post /v1/session",
            "get /v1/status",
            "post /v1/stop",
            "get /v1/token",
            "get /v1/token/{profile}",
            "post /v1/unlock",
            "post /v1/verify",
        ];
        assert_eq!(described, expected);
    }
}
