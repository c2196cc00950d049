//! Makes a request of what was sent: path, query and body, each within its bounds and each word known.

use std::time::Duration;

use hyper::{Method, Uri};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::BTreeMap;

use crate::agent::protocol::{LockRequest, UnlockRequest};
use crate::error::{Error, ErrorCode};
use crate::model::{ProfileName, TokenTarget};
use crate::secret::{Secret, SecretBytes};
use crate::session::{MinTtl, TokenRequest};
use crate::verify::PolicyOptions;

/// What is asked.
#[derive(Debug)]
pub(super) enum Ask {
    Token { profile: Option<ProfileName>, request: TokenRequest },
    Status,
    Agent,
    Log,
    Events,
    Description,
    Verify,
    Refresh { profile: ProfileName, if_expiring: Option<Duration> },
    Forget { profile: ProfileName },
    Lock,
    Unlock,
    Stop,
}

/// Why what was sent is no request.
#[derive(Debug)]
pub(super) enum RouteError {
    /// No such path.
    Path,
    /// Not with this method, but with these.
    Method(&'static str),
    /// The query or the body is wrong.
    Request(Error),
}

impl Ask {
    /// How long a body it may have, in bytes.
    pub(super) fn most_body(&self) -> usize {
        match self {
            Self::Verify => MAX_VERIFY_BODY,
            Self::Lock | Self::Unlock => 16 * 1024,
            _ => 0,
        }
    }
}

/// Room for a token of a mebibyte and a key set.
const MAX_VERIFY_BODY: usize = 2 * 1024 * 1024;

/// The longest life that can be asked for, in seconds: ten years, as on the command line.
const MAX_SECONDS: u64 = 10 * 366 * 24 * 3600;

/// The request that method and address make.
pub(super) fn route(method: &Method, uri: &Uri) -> Result<Ask, RouteError> {
    let path = uri.path().strip_prefix("/v1/").ok_or(RouteError::Path)?;
    let (verb, rest) = match path.split_once('/') {
        Some((verb, rest)) => (verb, Some(rest)),
        None => (path, None),
    };
    let only =
        |allowed: Method, name: &'static str| if *method == allowed { Ok(()) } else { Err(RouteError::Method(name)) };
    let ask = match (verb, rest) {
        ("token" | "id-token", rest) => {
            only(Method::GET, "GET")?;
            let profile = rest.map(profile).transpose()?;
            let query = Query::parse(uri.query(), &["min_ttl", "audience", "scope", "resource"])?;
            let min_ttl = query.seconds("min_ttl")?.map(MinTtl::AtLeast);
            if verb == "id-token" {
                query.only(&["min_ttl"])?;
                return Ok(Ask::Token { profile, request: TokenRequest::id_token(min_ttl) });
            }
            let scopes: Vec<String> =
                query.all("scope").iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect();
            let asked = TokenTarget::new(query.one("audience")?, &scopes, &query.all("resource"));
            return Ok(Ask::Token { profile, request: TokenRequest::access(asked, min_ttl) });
        }
        ("refresh", Some(rest)) => {
            only(Method::POST, "POST")?;
            let query = Query::parse(uri.query(), &["if_expiring"])?;
            return Ok(Ask::Refresh { profile: profile(rest)?, if_expiring: query.seconds("if_expiring")? });
        }
        ("forget", Some(rest)) => {
            only(Method::POST, "POST")?;
            Ask::Forget { profile: profile(rest)? }
        }
        ("status", None) => only(Method::GET, "GET").map(|()| Ask::Status)?,
        ("agent", None) => only(Method::GET, "GET").map(|()| Ask::Agent)?,
        ("log", None) => only(Method::GET, "GET").map(|()| Ask::Log)?,
        ("events", None) => only(Method::GET, "GET").map(|()| Ask::Events)?,
        ("openapi.json", None) => only(Method::GET, "GET").map(|()| Ask::Description)?,
        ("verify", None) => only(Method::POST, "POST").map(|()| Ask::Verify)?,
        ("lock", None) => only(Method::POST, "POST").map(|()| Ask::Lock)?,
        ("unlock", None) => only(Method::POST, "POST").map(|()| Ask::Unlock)?,
        ("stop", None) => only(Method::POST, "POST").map(|()| Ask::Stop)?,
        _ => return Err(RouteError::Path),
    };
    Query::parse(uri.query(), &[])?;
    Ok(ask)
}

fn wrong(message: String, hint: &str) -> RouteError {
    RouteError::Request(Error::msg(ErrorCode::InvalidRequest, message, hint))
}

fn profile(segment: &str) -> Result<ProfileName, RouteError> {
    let text = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
    text.parse().map_err(|e: crate::model::InvalidProfileName| {
        RouteError::Request(Error::new(ErrorCode::UnknownProfile, e, "name a profile"))
    })
}

/// The parameters of a query, each of which is known.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, RouteError> {
        let pairs: Vec<(String, String)> = match query {
            // The usual request has none: nothing is allocated for it.
            None => Vec::new(),
            Some(query) => url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        };
        let query = Self(pairs);
        query.only(known)?;
        Ok(query)
    }

    fn only(&self, known: &[&str]) -> Result<(), RouteError> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => {
                let name = crate::ui::sanitize_for_terminal(name, 40);
                let hint = if known.is_empty() {
                    "leave the query out".to_owned()
                } else {
                    format!("known are {}", known.join(", "))
                };
                Err(wrong(format!("there is no parameter `{name}` here"), &hint))
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
            _ => Err(wrong(format!("`{name}` is given more than once"), "give it once")),
        }
    }

    fn seconds(&self, name: &str) -> Result<Option<Duration>, RouteError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(seconds) if seconds <= MAX_SECONDS && text.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Some(Duration::from_secs(seconds)))
            }
            _ => Err(wrong(format!("`{name}` is no number of seconds"), "give a whole number, ten years at most")),
        }
    }
}

/// The body of a request to verify. A member that nobody knows is refused: a restriction with a typing error in its name
/// would otherwise restrict nothing.
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

/// Reads the body of a request to verify.
pub(super) fn verify_body(body: &SecretBytes) -> Result<VerifyBody, Error> {
    let read: VerifyBody = parse(body)?;
    match read.unknown.keys().next() {
        None => Ok(read),
        Some(name) => {
            let message = format!("there is no option `{}`", crate::ui::sanitize_for_terminal(name, 40));
            Err(Error::msg(ErrorCode::InvalidRequest, message, "see /v1/openapi.json for those there are"))
        }
    }
}

/// Reads the body of a request to lock.
pub(super) fn lock_body(body: &SecretBytes) -> Result<LockRequest, Error> {
    let read: LockRequest = parse(body)?;
    if read.after.is_some_and(|after| after > MAX_SECONDS) {
        return Err(Error::msg(ErrorCode::InvalidRequest, "`after` is more than ten years", "give fewer seconds"));
    }
    Ok(read)
}

/// Reads the body of a request to unlock.
pub(super) fn unlock_body(body: &SecretBytes) -> Result<UnlockRequest, Error> {
    parse(body)
}

fn parse<T: DeserializeOwned>(body: &SecretBytes) -> Result<T, Error> {
    serde_json::from_slice(body.expose()).map_err(|e| {
        // The library's own words may quote what was sent.
        let message = format!("the body is not what is expected, at line {}, column {}", e.line(), e.column());
        Error::msg(ErrorCode::InvalidRequest, message, "send JSON as /v1/openapi.json has it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Demand, RequestedToken};

    fn get(uri: &str) -> Result<Ask, RouteError> {
        route(&Method::GET, &uri.parse().expect("an address"))
    }

    #[test]
    fn a_token_is_asked_for_with_all_that_narrows_it() {
        let asked = get("/v1/token/work?min_ttl=300&audience=api&scope=write+read&resource=b&resource=a");
        let Ok(Ask::Token { profile: Some(profile), request }) = asked else { panic!("{asked:?}") };
        let RequestedToken::Access(asked) = &request.token else { panic!("{request:?}") };
        assert_eq!(profile.as_str(), "work");
        assert_eq!(
            *asked,
            TokenTarget::new(Some("api".into()), &["read".into(), "write".into()], &["a".into(), "b".into()])
        );
        assert_eq!(request.demand, Demand::ValidFor(MinTtl::AtLeast(Duration::from_secs(300))));
        let plain = get("/v1/token");
        assert!(
            matches!(plain, Ok(Ask::Token { profile: None, ref request }) if *request == TokenRequest::access(TokenTarget::default(), None))
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
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
    fn a_misspelt_restriction_is_refused_and_nothing_is_quoted() {
        let body = SecretBytes::new(br#"{"token":"a.b.c","audiences":["x"]}"#.to_vec());
        let refused = verify_body(&body).expect_err("refused").message();
        assert!(refused.contains("audiences"), "{refused}");
        let body = SecretBytes::new(br#"{"token":4711}"#.to_vec());
        assert!(!verify_body(&body).expect_err("refused").message().contains("4711"));
        let body =
            SecretBytes::new(br#"{"token":"a.b.c","audience":["x"],"claim":{"a":"b"},"jwks":{"keys":[]}}"#.to_vec());
        let read = verify_body(&body).expect("read");
        assert_eq!(read.options.audience, ["x"]);
        assert_eq!(read.jwks.expect("there").get(), r#"{"keys":[]}"#);
    }
}
