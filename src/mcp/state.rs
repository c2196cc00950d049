//! What the tasks of the bridge share.

use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

use super::calls::Calls;
use super::credential_requests::{CredentialClient, CredentialRequest};
use super::parameters::Tools;
use super::session::BridgeSession;
use super::stdio::Output;
use super::streams::Large;
use crate::clock::Clock;
use crate::oauth::{Api, LatestNonce};

/// A bridge between the client on stdin and stdout and one server.
pub struct Bridge {
    pub(super) api: Api,
    pub(super) credentials: CredentialClient,
    pub(super) session: BridgeSession,
    pub(super) tools: Tools,
    pub(super) large: Large,
    /// The last nonce of the server for proofs (RFC 9449, section 9).
    pub(super) nonce: LatestNonce,
    /// Held while a lost session is replaced.
    pub(super) restarting: tokio::sync::Mutex<()>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) calls: Arc<Calls>,
    pub(super) output: Output,
    /// The task that listens to messages which belong to no request.
    pub(super) listener: Mutex<Option<AbortHandle>>,
    pub(super) this: Weak<Self>,
}

impl Bridge {
    /// Creates a bridge to a server, and the questions for credentials that it will ask.
    #[must_use]
    pub fn new(api: Api, clock: Arc<dyn Clock>) -> (Arc<Self>, mpsc::Receiver<CredentialRequest>) {
        let (credentials, requests) = CredentialClient::new();
        let bridge = Arc::new_cyclic(|this| Self {
            api,
            credentials,
            session: BridgeSession::default(),
            tools: Tools::default(),
            large: Arc::new(Semaphore::new(1)),
            nonce: LatestNonce::default(),
            restarting: tokio::sync::Mutex::default(),
            clock,
            calls: Arc::default(),
            output: Output::to_stdout(),
            listener: Mutex::default(),
            this: this.clone(),
        });
        (bridge, requests)
    }
}
