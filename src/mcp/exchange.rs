//! One request over HTTP: with the session's headers and with credentials, again if those are refused or the session is lost.

use std::time::Duration;

use super::credential_requests::ServerRefusal;
use super::message::{Message, RequestFailure, negotiated_version};
use super::parameters;
use super::session::{self, View, valid_id};
use super::state::Bridge;
use super::streams::Messages;
use crate::oauth::{ApiRequest, ApiResponse, Bytes};

/// How often one request is sent with other credentials: for an expired token, for one with too few scopes, and for a nonce.
const MAX_REFUSALS: usize = 3;

/// How long the beginning of another session may take.
const RESTART_LIMIT: Duration = Duration::from_secs(30);

/// What is sent.
#[derive(Clone, Copy)]
pub(super) enum OutgoingRequest<'a> {
    /// A message of the client.
    Post(&'a Message),
    /// The stream of messages that belong to no request, or what follows the event with this ID.
    Listen(Option<&'a str>),
    /// The end of the session.
    Delete,
}

impl OutgoingRequest<'_> {
    fn method(self) -> &'static str {
        match self {
            Self::Post(_) => "POST",
            Self::Listen(_) => "GET",
            Self::Delete => "DELETE",
        }
    }
}

impl Bridge {
    /// Sends a request in the current session; returns the response, of any status.
    ///
    /// # Errors
    /// [`RequestFailure`] without a response, or if the credentials were refused or the session is lost for good.
    pub(super) async fn send(&self, request: OutgoingRequest<'_>) -> Result<ApiResponse, RequestFailure> {
        let mut has_restarted = false;
        loop {
            let view = self.session.view();
            let response = self.send_in(&view, request).await?;
            let is_lost = response.status == 404 && view.id.is_some() && uses_session(request);
            if !is_lost {
                return Ok(response);
            }
            if std::mem::replace(&mut has_restarted, true) {
                return Err(RequestFailure::of_server(format!("{} has ended the session again", self.api.host())));
            }
            self.restart(&view).await?;
        }
    }

    /// Sends a request in this session, with other credentials if the first are refused.
    pub(super) async fn send_in(
        &self,
        view: &View,
        request: OutgoingRequest<'_>,
    ) -> Result<ApiResponse, RequestFailure> {
        let mut refusal = None;
        let mut refused = None;
        for attempt in 0..=MAX_REFUSALS {
            let credentials = match self.credentials.headers(request.method(), self.nonce.get(), refusal.take()).await?
            {
                Some(credentials) => credentials,
                // Not about credentials.
                None => break,
            };
            let response = self.send_once(view, request, &credentials).await?;
            self.nonce.update(response.header("dpop-nonce"));
            if !matches!(response.status, 401 | 403) {
                return Ok(response);
            }
            if attempt < MAX_REFUSALS {
                refusal = Some(ServerRefusal {
                    status: response.status,
                    challenges: response.headers("www-authenticate"),
                    sent: credentials,
                });
            }
            refused = Some(response);
        }
        refused.ok_or_else(|| RequestFailure::of_server("no credentials"))
    }

    async fn send_once(
        &self,
        view: &View,
        request: OutgoingRequest<'_>,
        credentials: &[(String, crate::secret::Secret)],
    ) -> Result<ApiResponse, RequestFailure> {
        let (message, last_id) = match request {
            OutgoingRequest::Post(message) => (Some(message), None),
            OutgoingRequest::Listen(last_id) => (None, last_id),
            OutgoingRequest::Delete => (None, None),
        };
        let described = message.map(|message| parameters::headers(message, &self.tools)).unwrap_or_default();
        let mut headers = session::headers(view, message);
        headers.extend(described.iter().map(|(name, value)| (name.as_str(), value.clone())));
        match request {
            OutgoingRequest::Post(_) => {
                headers.push(("accept", "application/json, text/event-stream".to_owned()));
                headers.push(("content-type", "application/json".to_owned()));
            }
            OutgoingRequest::Listen(_) => headers.push(("accept", "text/event-stream".to_owned())),
            OutgoingRequest::Delete => {}
        }
        headers.extend(last_id.map(|id| ("last-event-id", id.to_owned())));
        let body = message.map(|message| message.body.clone());
        let sent = self.api.send(ApiRequest { method: request.method(), headers, credentials, body }).await;
        sent.map_err(|error| RequestFailure::of_server(error.to_string()))
    }

    /// Begins another session in place of one that the server has ended (revision 2025-11-25, session management), unless
    /// another request has done so, within [`RESTART_LIMIT`]: requests wait for it. The client does not notice.
    async fn restart(&self, lost: &View) -> Result<(), RequestFailure> {
        let _one_at_a_time = self.restarting.lock().await;
        tokio::select! {
            restarted = self.begin_again(lost) => restarted,
            () = self.clock.sleep(RESTART_LIMIT) => {
                let host = self.api.host();
                Err(RequestFailure::of_server(format!("{host} has ended the session: beginning another took too long")))
            }
        }
    }

    async fn begin_again(&self, lost: &View) -> Result<(), RequestFailure> {
        let failed =
            |what: String| RequestFailure::of_server(format!("{} has ended the session: {what}", self.api.host()));
        if self.session.view().generation != lost.generation {
            return Ok(());
        }
        let parsed = self.session.initialize_request().and_then(Message::parse);
        let request = parsed.ok_or_else(|| failed("it cannot be begun again".to_owned()))?;
        tracing::info!("{} has ended the session; another is begun", self.api.host());
        let response = self.send_in(&View::default(), OutgoingRequest::Post(&request)).await?;
        let (status, outcome) = (response.status, response.outcome());
        let id = valid_id(response.header("mcp-session-id"));
        let mut messages = Messages::of(response, self.large.clone())
            .filter(|_| status == 200)
            .ok_or_else(|| failed(format!("another could not be begun ({outcome})")))?;
        let version = loop {
            match messages.next().await {
                Ok(Some(message)) if message.responses.iter().any(|id| request.requests.contains(id)) => {
                    break negotiated_version(&message.line);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break None,
            }
        };
        if version.is_none() || version != lost.version {
            return Err(failed("another could not be begun".to_owned()));
        }
        self.session.begin(&request, id, version);
        let initialized = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        if let Some(message) = Message::parse(Bytes::from_static(initialized)) {
            self.send_in(&self.session.view(), OutgoingRequest::Post(&message)).await?;
        }
        self.listen();
        Ok(())
    }
}

/// Returns whether a request belongs to the session.
fn uses_session(request: OutgoingRequest<'_>) -> bool {
    match request {
        OutgoingRequest::Post(message) => !message.is("initialize") && message.version.is_none(),
        // Its place in another session is unknown.
        OutgoingRequest::Listen(_) | OutgoingRequest::Delete => false,
    }
}
