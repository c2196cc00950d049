//! Passes requests of other programs on to an API as they are, with bodies that stream both ways.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use reqwest::header::HeaderMap;
use reqwest::{Method, Request, redirect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::error::IssuerError;
use super::http::{Http, host_of};
use super::reqwest_clients::ApiVersion;
use super::transport_error::Destination;

/// How many requests one client has open at an API. It sends them on one HTTP/2 connection, on which servers allow no fewer streams
/// (RFC 9113, section 6.5.2); one more would wait until another has ended, which a stream of events may never do.
const MAX_STREAMS: usize = 100;

/// The body of a request.
pub type ApiRequestBody = reqwest::Body;

/// The body of a response.
pub struct ApiBody {
    body: reqwest::Body,
    _stream: Option<OwnedSemaphorePermit>,
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client, with the streams that it may open.
type LimitedClient = (reqwest::Client, Arc<Semaphore>);

/// Clients for one API, which follow no redirect and add nothing but `Accept: */*`, which means the same as no such header
/// (RFC 9110, section 12.5.1).
#[derive(Clone)]
pub struct PassThrough {
    /// What they were made from.
    http: Http,
    requests: Arc<Mutex<Vec<LimitedClient>>>,
    /// A change of the protocol, such as to WebSocket, needs HTTP/1.1 (RFC 9110, section 7.8).
    upgrades: reqwest::Client,
    url: Url,
    host: String,
    proxy: Option<String>,
}

impl Http {
    /// Returns clients for the API at `url`, which the user has named; `before` if that trusts the same authorities.
    ///
    /// # Errors
    /// [`IssuerError`] if the URL is insecure or TLS cannot be set up.
    pub fn pass_through(&self, url: &Url, before: Option<&PassThrough>) -> Result<PassThrough, IssuerError> {
        if let Some(before) = before.filter(|before| before.http.shares_clients(self)) {
            return Ok(before.clone());
        }
        let (upgrades, proxy) = self.api_client(url, redirect::Policy::none(), ApiVersion::Http1)?;
        let (http, requests, host) = (self.clone(), Arc::default(), host_of(url));
        let clients = PassThrough { http, requests, upgrades, url: url.clone(), host, proxy };
        drop(clients.open_stream()?);
        Ok(clients)
    }
}

impl PassThrough {
    /// Returns a client that may send another request.
    fn open_stream(&self) -> Result<(reqwest::Client, OwnedSemaphorePermit), IssuerError> {
        let mut clients = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            for (client, streams) in &*clients {
                if let Ok(stream) = Arc::clone(streams).try_acquire_owned() {
                    return Ok((client.clone(), stream));
                }
            }
            let (client, _) = self.http.api_client(&self.url, redirect::Policy::none(), ApiVersion::Any)?;
            // Without TLS there is no HTTP/2.
            let streams = if self.url.scheme() == "https" { MAX_STREAMS } else { Semaphore::MAX_PERMITS };
            clients.push((client, Arc::new(Semaphore::new(streams))));
        }
    }

    /// Sends a request to the API, and returns the response as soon as its head has arrived. With `upgrades`, the response may
    /// change the protocol of its connection (`hyper::upgrade`).
    ///
    /// # Errors
    /// [`IssuerError`] if there is no response.
    pub async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: ApiRequestBody,
        upgrades: bool,
    ) -> Result<hyper::Response<ApiBody>, IssuerError> {
        let (client, stream) = match upgrades {
            true => (self.upgrades.clone(), None),
            false => self.open_stream().map(|(client, stream)| (client, Some(stream)))?,
        };
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body);
        let sent = client.execute(request).await;
        let destination = Destination { host: &self.host, proxy: self.proxy.as_deref() };
        let response = hyper::Response::from(sent.map_err(|error| destination.error(&error))?);
        Ok(response.map(|body| ApiBody { body, _stream: stream }))
    }
}
