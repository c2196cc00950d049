//! A reverse proxy for one API: clients send requests without a token, and the proxy adds what the session has at that moment.
//!
//! A request takes one path: `serve` accepts it, `caller` checks its sender, `exchange` checks its path
//! ([`CleanPath`](crate::model::CleanPath)) and the rules, adds the credentials and passes it on, with bodies that stream both
//! ways. The proxy asks the agent or the session service for tokens ([`CredentialSource`]), never a store.

mod body;
mod caller;
mod exchange;
mod headers;
mod own_response;
mod serve;
mod target;

pub use caller::ProxyAddress;
pub use serve::{Listener, raise_limits, serve};
pub use target::Target;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use url::Url;

use crate::error::Error;
use crate::model::{RequestRules, RuleName};
use crate::oauth::{ApiChallenge, LatestNonce, PassThrough};
use crate::secret::Secret;

/// What one request needs.
pub struct Access {
    /// The headers with the credentials.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The client to send it with.
    pub api: PassThrough,
    /// What callers may do, by the profile's settings at that moment.
    pub rules: Arc<RequestRules>,
}

/// A future of [`CredentialSource`].
pub type Pending<'a> = Pin<Box<dyn Future<Output = Result<Arc<Access>, Error>> + Send + 'a>>;

/// A request that needs credentials.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its method.
    pub method: Method,
    /// Its URL.
    pub url: Url,
    /// The last nonce of the API for proofs.
    pub nonce: Option<String>,
}

/// Where requests get their credentials from.
pub trait CredentialSource: Send + Sync {
    /// Returns the last credentials while any request may be sent with them.
    fn reusable(&self) -> Option<Arc<Access>>;

    /// Returns what a request needs. If the API has refused one with this `Authorization` and challenge, it returns something
    /// else: after a refresh, or with the nonce that the API has asked for.
    ///
    /// # Errors
    /// If the session has no token, or none but the refused one.
    fn access(&self, wanted: Wanted, refused: Option<(HeaderValue, ApiChallenge)>) -> Pending<'_>;
}

/// What the proxy did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// Passed it on, and the response back.
    PassedOn,
    /// Refused it.
    Refused(RuleName),
    /// Had no token, no whole request or no response, with a stable word: that of the error, `request` or `api`.
    Failed(&'static str),
}

/// What happened to a request.
#[derive(Debug)]
pub struct ProxyEvent<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path, without the query, which may contain secrets.
    pub path: &'a str,
    /// The status of the response.
    pub status: StatusCode,
    /// What the proxy did with it.
    pub outcome: RequestOutcome,
}

/// A proxy for one API.
pub struct ApiProxy {
    /// The API.
    pub target: Target,
    /// What callers may do, beside the profile's settings.
    pub rules: RequestRules,
    /// The last nonce of the API for proofs.
    pub nonce: LatestNonce,
    /// The highest number of requests that are passed on.
    pub max_requests: Option<u64>,
    /// What it listens on.
    pub listening: ProxyAddress,
    /// Its own origin, such as `http://127.0.0.1:8080`.
    pub base: String,
    /// The key of callers.
    pub key: Secret,
    /// Where requests get their credentials from.
    pub credentials: Arc<dyn CredentialSource>,
    /// Called for each request.
    pub on_event: Box<dyn Fn(&ProxyEvent<'_>) + Send + Sync>,
    /// The number of requests that were passed on.
    pub passed_on: AtomicU64,
}

impl ApiProxy {
    fn report(&self, event: &ProxyEvent<'_>) {
        (self.on_event)(event);
    }

    /// Counts a request; returns whether it may be passed on.
    fn count_request(&self) -> bool {
        let before = self.passed_on.fetch_add(1, Ordering::Relaxed);
        self.max_requests.is_none_or(|max| before < max)
    }
}
