//! The bridge's access to credentials: it asks, and the command that runs it provides them, one refusal at a time.

use tokio::sync::{mpsc, oneshot};

use super::message::RequestFailure;
use crate::secret::Secret;

/// The headers that authenticate a request, with their values.
pub type CredentialHeaders = Vec<(String, Secret)>;

/// What the server has refused.
#[derive(Debug)]
pub struct ServerRefusal {
    /// 401 or 403.
    pub status: u16,
    /// The values of `WWW-Authenticate`.
    pub challenges: Vec<String>,
    /// What the request was sent with; nothing if it had no token.
    pub sent: CredentialHeaders,
}

/// A question for credentials.
#[derive(Debug)]
pub struct CredentialRequest {
    /// The method of the request.
    pub method: &'static str,
    /// The last value of `DPoP-Nonce` of the server (RFC 9449, section 9).
    pub nonce: Option<String>,
    /// The refusal of the last attempt.
    pub refusal: Option<ServerRefusal>,
    /// Where the answer goes: `None` if the server's response has nothing to do with credentials.
    pub reply: oneshot::Sender<Result<Option<CredentialHeaders>, RequestFailure>>,
}

/// Asks for credentials.
#[derive(Clone)]
pub(super) struct CredentialClient(mpsc::Sender<CredentialRequest>);

impl CredentialClient {
    /// Returns what asks, and what the questions arrive at.
    pub(super) fn new() -> (Self, mpsc::Receiver<CredentialRequest>) {
        let (sender, requests) = mpsc::channel(1);
        (Self(sender), requests)
    }

    /// Returns the headers for a request with this method and nonce. After a refusal they are other ones; `None` if it is not
    /// about credentials.
    pub(super) async fn headers(
        &self,
        method: &'static str,
        nonce: Option<String>,
        refusal: Option<ServerRefusal>,
    ) -> Result<Option<CredentialHeaders>, RequestFailure> {
        let (reply, answer) = oneshot::channel();
        let stopped = || RequestFailure::of_server("the bridge is stopping");
        self.0.send(CredentialRequest { method, nonce, refusal, reply }).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}
