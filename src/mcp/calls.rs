//! The client's requests that are waiting for their response.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::MAX_MESSAGE;
use super::message::{Id, Message};

/// The most requests at a time.
const MAX_CALLS: usize = 128;
/// The most bytes of requests that are held, to send them again if necessary.
const MAX_BYTES: usize = 4 * MAX_MESSAGE;
/// The request that is open until the client ends it.
const SUBSCRIPTION: &str = "subscriptions/listen";

struct CallState {
    ids: Vec<Id>,
    size: usize,
    /// Whether a closed connection cancels it (revision 2026-07-28).
    ends_with_connection: bool,
    abort: Option<AbortHandle>,
}

/// The requests in progress.
#[derive(Default)]
pub(super) struct Calls {
    open: Mutex<(u64, HashMap<u64, CallState>)>,
    /// How many of them will end by themselves.
    ending: watch::Sender<usize>,
}

/// A request in progress, until this is dropped.
pub(super) struct OpenCall {
    calls: Arc<Calls>,
    key: u64,
    is_subscription: bool,
}

impl Calls {
    fn open(&self) -> MutexGuard<'_, (u64, HashMap<u64, CallState>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request; `None` if there are too many.
    pub(super) fn add(self: &Arc<Self>, message: &Message) -> Option<OpenCall> {
        let mut open = self.open();
        let held: usize = open.1.values().map(|call| call.size).sum();
        if open.1.len() >= MAX_CALLS || held + message.body.len() > MAX_BYTES {
            return None;
        }
        let key = open.0;
        open.0 += 1;
        let (ids, size, ends_with_connection) =
            (message.requests.clone(), message.body.len(), message.version.is_some());
        open.1.insert(key, CallState { ids, size, ends_with_connection, abort: None });
        let is_subscription = message.is(SUBSCRIPTION);
        self.ending.send_modify(|count| *count += usize::from(!is_subscription));
        Some(OpenCall { calls: Arc::clone(self), key, is_subscription })
    }

    /// Ends the request that the client cancels, if the server learns of that by the end of its connection; returns whether it
    /// does.
    pub(super) fn cancel_by_connection(&self, id: &Id) -> bool {
        self.abort(|call| call.ends_with_connection && call.ids.contains(id))
    }

    /// Ends a request that the client has canceled and the server knows of.
    pub(super) fn forget(&self, id: &Id) {
        self.abort(|call| call.ids == [id.clone()]);
    }

    fn abort(&self, is_meant: impl Fn(&CallState) -> bool) -> bool {
        let handle = self.open().1.values().find(|call| is_meant(call)).map(|call| call.abort.clone());
        // Outside of the mutex: the task's end removes the call.
        if let Some(Some(handle)) = &handle {
            handle.abort();
        }
        handle.is_some()
    }

    /// Waits until all have ended, except those that only the client ends.
    pub(super) async fn ended(&self) {
        let _ = self.ending.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl OpenCall {
    /// Names the task that a cancellation ends.
    pub(super) fn runs_as(key: u64, calls: &Calls, abort: AbortHandle) {
        if let Some(call) = calls.open().1.get_mut(&key) {
            call.abort = Some(abort);
        }
    }

    /// Returns the key of the request.
    pub(super) fn key(&self) -> u64 {
        self.key
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.calls.open().1.remove(&self.key);
        self.calls.ending.send_modify(|count| *count -= usize::from(!self.is_subscription));
    }
}
