//! Parses requests: path, query and body, each within limits. Unknown parameters are refused.

use std::time::Duration;

use hyper::{Method, Uri};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::BTreeMap;

use super::response::see_openapi;
use crate::agent::protocol::{HandoverRequest, LockRequest, ProofRequest, ProxyReport, UnlockRequest};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{MAX_DURATION, ProfileName, TokenTarget};
use crate::secret::{Secret, SecretBytes};
use crate::session::{Demand, MinTtl, RequestedToken, TokenRequest};
use crate::verify::PolicyOptions;

/// A request to the agent.
#[derive(Debug)]
pub(super) enum AgentRequest {
    Token { profile: Option<ProfileName>, request: TokenRequest },
    Status,
    Agent,
    Log,
    Events,
    Description,
    Proof,
    ProxyReport,
    Verify,
    Refresh { profile: ProfileName, request: TokenRequest },
    Forget { profile: ProfileName, revoke: bool },
    Lock,
    Unlock,
    Handover,
    Logout { profile: ProfileName, revoke: bool },
    Stop,
}

/// Why a request is invalid.
#[derive(Debug)]
pub(super) enum RouteError {
    /// The path is unknown.
    Path,
    /// The method is not allowed; this one is.
    Method(&'static str),
    /// The query or the body is invalid.
    Request(Error),
}

impl AgentRequest {
    /// Returns the maximum size of the body, in bytes.
    pub(super) fn max_body(&self) -> usize {
        match self {
            Self::Verify => MAX_VERIFY_BODY,
            Self::Proof => MAX_PROOF_BODY,
            Self::Lock | Self::Unlock | Self::ProxyReport => 16 * 1024,
            Self::Handover => MAX_VERIFY_BODY,
            _ => 0,
        }
    }
}

/// Enough for a token and a key set, each written with JSON escapes.
const MAX_VERIFY_BODY: usize = 2 * 1024 * 1024;

/// Enough for a token and a URL, with JSON escapes.
const MAX_PROOF_BODY: usize = 512 * 1024;

/// Parses the method and the request target.
pub(super) fn route(method: &Method, uri: &Uri) -> Result<AgentRequest, RouteError> {
    let path = uri.path().strip_prefix("/v1/").ok_or(RouteError::Path)?;
    let (verb, rest) = match path.split_once('/') {
        Some((verb, rest)) => (verb, Some(rest)),
        None => (path, None),
    };
    let only =
        |allowed: Method, name: &'static str| if *method == allowed { Ok(()) } else { Err(RouteError::Method(name)) };
    let request = match (verb, rest) {
        ("token" | "id-token", rest) => {
            only(Method::GET, "GET")?;
            let profile = rest.map(profile).transpose()?;
            let query = Query::parse(uri.query(), &["min_ttl", "audience", "scope", "resource"])?;
            let min_ttl = query.seconds("min_ttl")?.map(MinTtl::AtLeast);
            if verb == "id-token" {
                query.only(&["min_ttl"])?;
                return Ok(AgentRequest::Token { profile, request: TokenRequest::id_token(min_ttl) });
            }
            return Ok(AgentRequest::Token { profile, request: TokenRequest::access(query.target()?, min_ttl) });
        }
        ("refresh", Some(rest)) => {
            only(Method::POST, "POST")?;
            let query = Query::parse(uri.query(), &["if_expiring", "audience", "scope", "resource"])?;
            let left = query.seconds("if_expiring")?;
            let demand = left.map_or(Demand::New, |left| Demand::NewUnless(MinTtl::AtLeast(left)));
            let request = TokenRequest { token: RequestedToken::Access(query.target()?), demand };
            return Ok(AgentRequest::Refresh { profile: profile(rest)?, request });
        }
        ("logout", Some(rest)) => {
            only(Method::POST, "POST")?;
            return Ok(AgentRequest::Logout { profile: profile(rest)?, revoke: revoke(uri)? });
        }
        ("forget", Some(rest)) => {
            only(Method::POST, "POST")?;
            return Ok(AgentRequest::Forget { profile: profile(rest)?, revoke: revoke(uri)? });
        }
        ("status", None) => only(Method::GET, "GET").map(|()| AgentRequest::Status)?,
        ("agent", None) => only(Method::GET, "GET").map(|()| AgentRequest::Agent)?,
        ("log", None) => only(Method::GET, "GET").map(|()| AgentRequest::Log)?,
        ("events", None) => only(Method::GET, "GET").map(|()| AgentRequest::Events)?,
        ("openapi.json", None) => only(Method::GET, "GET").map(|()| AgentRequest::Description)?,
        ("proof", None) => only(Method::POST, "POST").map(|()| AgentRequest::Proof)?,
        ("proxy", None) => only(Method::POST, "POST").map(|()| AgentRequest::ProxyReport)?,
        ("verify", None) => only(Method::POST, "POST").map(|()| AgentRequest::Verify)?,
        ("lock", None) => only(Method::POST, "POST").map(|()| AgentRequest::Lock)?,
        ("unlock", None) => only(Method::POST, "POST").map(|()| AgentRequest::Unlock)?,
        ("session", None) => only(Method::POST, "POST").map(|()| AgentRequest::Handover)?,
        ("stop", None) => only(Method::POST, "POST").map(|()| AgentRequest::Stop)?,
        _ => return Err(RouteError::Path),
    };
    Query::parse(uri.query(), &[])?;
    Ok(request)
}

/// Parses the query of a request that ends a session: whether the issuer is to revoke it.
fn revoke(uri: &Uri) -> Result<bool, RouteError> {
    match Query::parse(uri.query(), &["revoke"])?.one("revoke")?.as_deref() {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(invalid("`revoke` is neither true nor false".to_owned())),
    }
}

fn invalid(message: String) -> RouteError {
    RouteError::Request(Error::msg(ErrorCode::InvalidRequest, message, see_openapi()))
}

fn profile(segment: &str) -> Result<ProfileName, RouteError> {
    let text = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
    text.parse().map_err(|e: crate::model::InvalidProfileName| {
        RouteError::Request(Error::new(ErrorCode::UnknownProfile, e, Hint::command("profile list")))
    })
}

/// The query's parameters, all of them known.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, RouteError> {
        let pairs: Vec<(String, String)> = match query {
            // The most frequent request has no query, and allocates nothing for it.
            None => Vec::new(),
            Some(query) => url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        };
        let query = Self(pairs);
        query.only(known)?;
        Ok(query)
    }

    fn target(&self) -> Result<TokenTarget, RouteError> {
        let scopes: Vec<String> =
            self.all("scope").iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect();
        Ok(TokenTarget::new(self.one("audience")?, &scopes, &self.all("resource")))
    }

    fn only(&self, known: &[&str]) -> Result<(), RouteError> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let name = crate::text::excerpt(name, 40);
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(invalid(format!("unknown parameter `{name}` (known: {known})")))
            }
        }
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    }

    fn one(&self, name: &str) -> Result<Option<String>, RouteError> {
        let mut values = self.all(name).into_iter();
        match (values.next(), values.next()) {
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
            _ => Err(invalid(format!("repeated parameter `{name}`"))),
        }
    }

    fn seconds(&self, name: &str) -> Result<Option<Duration>, RouteError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(seconds) if seconds <= MAX_DURATION.as_secs() && text.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Some(Duration::from_secs(seconds)))
            }
            _ => Err(invalid(format!("`{name}` is not a whole number of seconds, at most ten years"))),
        }
    }
}

/// The body of a request to verify. Unknown members are refused: a misspelled restriction would restrict nothing.
#[derive(Debug, Deserialize)]
pub(super) struct VerifyBody {
    pub(super) token: Secret,
    #[serde(default)]
    pub(super) profile: Option<ProfileName>,
    /// The keys to trust instead of the profile's, a JWK Set.
    #[serde(default)]
    pub(super) jwks: Option<Box<serde_json::value::RawValue>>,
    #[serde(flatten)]
    pub(super) options: PolicyOptions,
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

/// Parses the body of a request to verify.
pub(super) fn verify_body(body: &SecretBytes) -> Result<VerifyBody, Error> {
    let read: VerifyBody = parse(body)?;
    match read.unknown.keys().next() {
        None => Ok(read),
        Some(name) => {
            let message = format!("unknown option `{}`", crate::text::excerpt(name, 40));
            Err(Error::msg(ErrorCode::InvalidRequest, message, see_openapi()))
        }
    }
}

/// Parses the body of a request for a proof.
pub(super) fn proof_body(body: &SecretBytes) -> Result<ProofRequest, Error> {
    parse(body)
}

/// Parses the body of a report of a proxy.
pub(super) fn proxy_body(body: &SecretBytes) -> Result<ProxyReport, Error> {
    parse(body)
}

/// Parses the body of a request to lock.
pub(super) fn lock_body(body: &SecretBytes) -> Result<LockRequest, Error> {
    let read: LockRequest = parse(body)?;
    if read.after.is_some_and(|after| after > MAX_DURATION.as_secs()) {
        return Err(Error::msg(ErrorCode::InvalidRequest, "`after` is longer than ten years", see_openapi()));
    }
    Ok(read)
}

/// Parses the body of a request to unlock.
pub(super) fn unlock_body(body: &SecretBytes) -> Result<UnlockRequest, Error> {
    parse(body)
}

/// Parses the body of a request to take over a session.
pub(super) fn handover_body(body: &SecretBytes) -> Result<HandoverRequest, Error> {
    parse(body)
}

fn parse<T: DeserializeOwned>(body: &SecretBytes) -> Result<T, Error> {
    serde_json::from_slice(body.expose()).map_err(|e| {
        // The library's message may quote the body.
        let message = format!("invalid JSON body at line {}, column {}", e.line(), e.column());
        Error::msg(ErrorCode::InvalidRequest, message, see_openapi())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Demand, RequestedToken};

    fn get(uri: &str) -> Result<AgentRequest, RouteError> {
        route(&Method::GET, &uri.parse().expect("an address"))
    }

    #[test]
    fn token_request_has_target_and_min_ttl() {
        let request = get("/v1/token/work?min_ttl=300&audience=api&scope=write+read&resource=b&resource=a");
        let Ok(AgentRequest::Token { profile: Some(profile), request }) = request else { panic!("{request:?}") };
        let RequestedToken::Access(target) = &request.token else { panic!("{request:?}") };
        assert_eq!(profile.as_str(), "work");
        assert_eq!(
            *target,
            TokenTarget::new(Some("api".into()), &["read".into(), "write".into()], &["a".into(), "b".into()])
        );
        assert_eq!(request.demand, Demand::ValidFor(MinTtl::AtLeast(Duration::from_secs(300))));
        let plain = get("/v1/token");
        assert!(
            matches!(plain, Ok(AgentRequest::Token { profile: None, ref request }) if *request == TokenRequest::access(TokenTarget::default(), None))
        );
    }

    #[test]
    fn unknown_paths_and_parameters_are_refused() {
        for uri in [
            "/v1/token?scopes=read",
            "/v1/token?min_ttl=-1",
            "/v1/token?min_ttl=1&min_ttl=2",
            "/v1/status?x=1",
            "/v1/id-token?scope=a",
            "/v1/token/a%2Fb",
            "/v1/token/",
            "/v1/token?min_ttl=+5",
        ] {
            assert!(matches!(get(uri), Err(RouteError::Request(_))), "{uri}");
        }
        for uri in ["/", "/v2/token", "/v1/tokens", "/v1", "/v1/refresh", "/v1/status/work", "//v1/token"] {
            assert!(matches!(get(uri), Err(RouteError::Path)), "{uri}");
        }
        assert!(matches!(get("/v1/lock"), Err(RouteError::Method("POST"))));
        let posted = route(&Method::POST, &"/v1/token".parse().expect("an address"));
        assert!(matches!(posted, Err(RouteError::Method("GET"))));
    }

    #[test]
    fn misspelled_restrictions_are_refused_without_quoting_the_token() {
        let body = SecretBytes::new(br#"{"token":"a.b.c","audiences":["x"]}"#.to_vec());
        let refused = verify_body(&body).expect_err("refused").message();
        assert!(refused.contains("audiences"), "{refused}");
        let body = SecretBytes::new(br#"{"token":4711}"#.to_vec());
        assert!(!verify_body(&body).expect_err("refused").message().contains("4711"));
        let body =
            SecretBytes::new(br#"{"token":"a.b.c","audience":["x"],"claim":{"a":"b"},"jwks":{"keys":[]}}"#.to_vec());
        let read = verify_body(&body).expect("read");
        assert_eq!(read.options.audience, ["x"]);
        assert_eq!(read.jwks.expect("a key set").get(), r#"{"keys":[]}"#);
    }
}
