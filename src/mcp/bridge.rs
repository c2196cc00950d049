//! The bridge: takes the client's messages, posts them, and passes on what the server sends.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::calls::OpenCall;
use super::events::Position;
use super::exchange::OutgoingRequest;
use super::message::{Id, Message, RequestFailure, ServerMessage, invalid_line, negotiated_version, too_long_line};
use super::session::valid_id;
use super::state::Bridge;
use super::stdio::{Line, read_stdin};
use super::streams::{Messages, StreamError};
use crate::clock::doubled;
use crate::oauth::{ApiResponse, Bytes};

/// How long a notification may take.
const NOTIFICATION_LIMIT: Duration = Duration::from_secs(30);

/// How long what follows `notifications/initialized` waits for it.
const INITIALIZED_LIMIT: Duration = Duration::from_secs(1);
/// How many notifications wait for those before them.
const MAX_QUEUED: usize = 256;
/// How long requests may take that are open when the client has closed stdin.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long the end of the session and the last messages may take.
const END_LIMIT: Duration = Duration::from_secs(1);
/// How long a stream may go on after the response: its connection is used again if it ends by itself.
const AFTER_RESPONSE: Duration = Duration::from_secs(1);
/// The wait before a stream is opened again, unless the server names another.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);
/// The shortest of these waits, whatever the server names.
const MIN_RETRY: Duration = Duration::from_millis(100);
/// The longest of these waits, which double with each failure.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// How often the rest of a response is asked for without getting an event.
const MAX_RESUMPTIONS: u32 = 5;

impl Bridge {
    /// Passes messages on until the client closes stdin or stdout. Open requests then have [`DRAIN_LIMIT`] to end.
    pub async fn run(&self) {
        let (mut lines, input_end) = read_stdin();
        let dispatch = async {
            let (queue, mut queued) = mpsc::channel(MAX_QUEUED);
            let mut urgent = JoinSet::new();
            let read = async {
                while let Some(line) = lines.recv().await {
                    self.take(line, &queue, &mut urgent).await;
                }
                drop(queue);
            };
            // In their order, beside the requests: a slow one delays the notifications after it alone.
            let deliver = async {
                while let Some(message) = queued.recv().await {
                    self.notify(&message).await;
                }
            };
            tokio::join!(read, deliver);
            while urgent.join_next().await.is_some() {}
            self.calls.ended().await;
        };
        tokio::pin!(dispatch);
        tokio::select! {
            () = &mut dispatch => {}
            () = self.output.closed() => {}
            () = async {
                let _ = input_end.await;
                self.clock.sleep(DRAIN_LIMIT).await;
            } => {}
        }
    }

    /// Ends the session, and writes what is still to be written.
    pub async fn end(&self) {
        if let Some(listener) = self.listener().take() {
            listener.abort();
        }
        let end = async {
            if self.session.view().id.is_some()
                && let Err(failure) = self.send(OutgoingRequest::Delete).await
            {
                tracing::info!("the session is not ended: {}", failure.line());
            }
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(end, self.output.flush()) } => {}
            () = self.clock.sleep(END_LIMIT) => {}
        }
    }

    /// Takes a line of the client.
    async fn take(&self, line: Line, queue: &mpsc::Sender<Message>, urgent: &mut JoinSet<()>) {
        let line = match line {
            Line::Complete(line) if line.iter().all(u8::is_ascii_whitespace) => return,
            Line::Complete(line) => Bytes::from(line),
            Line::TooLong => return self.output.send(too_long_line()).await,
        };
        let Some(message) = Message::parse(line.clone()) else {
            return self.output.send(invalid_line(&line)).await;
        };
        if message.requests.is_empty() {
            return self.take_notification(message, queue, urgent).await;
        }
        let Some(call) = self.calls.add(&message) else {
            let failure = RequestFailure::of_server("too many requests at a time");
            return self.output.send(failure.responses(&message.requests, message.is_batch)).await;
        };
        let Some(this) = self.this.upgrade() else { return };
        let (key, is_first) = (call.key(), message.is("initialize"));
        let task = tokio::spawn(async move {
            this.call(&message).await;
            drop(call);
        });
        OpenCall::runs_as(key, &self.calls, task.abort_handle());
        if is_first {
            // What follows needs the session.
            let _ = task.await;
        }
    }

    /// Takes notifications and responses.
    async fn take_notification(&self, message: Message, queue: &mpsc::Sender<Message>, urgent: &mut JoinSet<()>) {
        while urgent.try_join_next().is_some() {}
        let is_ordered = message.method.is_some() && message.cancels.is_none() || message.is_batch;
        let refused = if message.is("notifications/initialized") {
            // What follows needs the session. A server that is slow with it may answer that all the same.
            let (done, posted) = oneshot::channel();
            if let Some(this) = self.this.upgrade() {
                urgent.spawn(async move {
                    this.notify(&message).await;
                    let _ = done.send(());
                });
            }
            tokio::select! {
                _ = posted => {}
                () = self.clock.sleep(INITIALIZED_LIMIT) => {}
            }
            None
        } else if is_ordered {
            queue.try_send(message).err().map(|error| error.into_inner())
        } else if message.cancels.as_ref().is_some_and(|id| self.calls.cancel_by_connection(id)) {
            None
        } else if urgent.len() < MAX_QUEUED
            && let Some(this) = self.this.upgrade()
        {
            // The server waits for it.
            urgent.spawn(async move { this.notify(&message).await });
            None
        } else {
            Some(message)
        };
        if let Some(message) = refused {
            let what = message.method.as_deref().unwrap_or("a response");
            tracing::warn!("{what} is not delivered: too many notifications wait");
        }
    }

    /// Posts notifications and responses.
    async fn notify(&self, message: &Message) {
        let posted = tokio::select! {
            posted = self.send(OutgoingRequest::Post(message)) => posted,
            () = self.clock.sleep(NOTIFICATION_LIMIT) => Err(RequestFailure::of_server("it took too long")),
        };
        let failure = match posted {
            Ok(response) if response.is_success() => None,
            Ok(response) => Some(format!("{} returned {}", self.api.host(), response.outcome())),
            Err(failure) => Some(failure.line()),
        };
        if let Some(failure) = failure {
            tracing::warn!("{} is not delivered: {failure}", message.method.as_deref().unwrap_or("a response"));
        } else if message.is("notifications/initialized") {
            self.listen();
        }
        if let Some(id) = &message.cancels {
            self.calls.forget(id);
        }
    }

    /// Posts requests, and passes on the response or the reason why there is none.
    async fn call(&self, message: &Message) {
        let mut open = message.requests.clone();
        let failure = match self.send(OutgoingRequest::Post(message)).await {
            Ok(response) => self.respond(message, response, &mut open).await.err(),
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failure.filter(|_| !open.is_empty()) {
            self.output.send(failure.responses(&open, message.is_batch)).await;
        }
    }

    /// Passes on the response to the requests of `message`, of which `open` remain.
    async fn respond(
        &self,
        message: &Message,
        response: ApiResponse,
        open: &mut Vec<Id>,
    ) -> Result<(), RequestFailure> {
        let (is_success, outcome, host) = (response.is_success(), response.outcome(), self.api.host().to_owned());
        let failed = move |what: &str| RequestFailure::of_server(format!("{host} returned {what}"));
        let session_id = valid_id(response.header("mcp-session-id"));
        let Some(mut messages) = Messages::of(response, Arc::clone(&self.large)) else {
            return Err(match is_success {
                true => failed(&format!("no response ({outcome})")),
                false => failed(&outcome),
            });
        };
        let mut position = Position::default();
        let mut resumptions = 0;
        loop {
            let ended = self.pass_on(message, &session_id, &mut messages, open).await;
            if open.is_empty() {
                return Ok(());
            }
            if !is_success {
                return Err(failed(&outcome));
            }
            let lost = match ended {
                Err(StreamError::TooLong) => return Err(failed("a message that is too long")),
                Err(StreamError::Invalid) => return Err(failed("a body that is not a JSON-RPC message")),
                Err(StreamError::Lost(how)) => RequestFailure::of_server(how),
                Ok(()) => failed("no response"),
            };
            let now = messages.position();
            resumptions = if now.last_id.is_some() && now.last_id != position.last_id { 0 } else { resumptions + 1 };
            position = Position { last_id: now.last_id.or(position.last_id), retry: now.retry.or(position.retry) };
            let Some(last_id) = position.last_id.clone().filter(|_| resumptions < MAX_RESUMPTIONS) else {
                return Err(lost);
            };
            self.clock.sleep(backoff(position.retry, resumptions)).await;
            let resumed = self.send(OutgoingRequest::Listen(Some(&last_id))).await;
            if let Ok(response) = resumed
                && response.status == 200
                && let Some(more) = Messages::of(response, Arc::clone(&self.large))
            {
                messages = more;
            } else {
                return Err(lost);
            }
        }
    }

    /// Passes on the messages of a stream until it ends, shortly after the last response of `open` at the latest.
    async fn pass_on(
        &self,
        message: &Message,
        session_id: &Option<String>,
        messages: &mut Messages,
        open: &mut Vec<Id>,
    ) -> Result<(), StreamError> {
        loop {
            let next = tokio::select! {
                next = messages.next() => next?,
                () = self.clock.sleep(AFTER_RESPONSE), if open.is_empty() => return Ok(()),
            };
            let Some(received) = next else { return Ok(()) };
            let ServerMessage { mut line, responses, .. } = received.in_response_to(open);
            let is_response = responses.iter().any(|id| open.contains(id));
            open.retain(|id| !responses.contains(id));
            if is_response
                && message.is("initialize")
                && let Some(version) = negotiated_version(&line)
            {
                self.session.begin(message, session_id.clone(), Some(version));
            }
            if is_response && message.is("tools/list") && message.version.is_some() {
                line = self.tools.listed(&line).unwrap_or(line);
            }
            self.output.send(line).await;
        }
    }

    fn listener(&self) -> MutexGuard<'_, Option<AbortHandle>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to listen to the messages of the session that belong to no request, in place of those of an earlier session.
    pub(super) fn listen(&self) {
        let Some(this) = self.this.upgrade() else { return };
        let task = tokio::spawn(async move { this.listen_until_refused().await });
        if let Some(earlier) = self.listener().replace(task.abort_handle()) {
            earlier.abort();
        }
    }

    /// Passes on these messages; opens the stream again when it is interrupted, until the server refuses it.
    async fn listen_until_refused(&self) {
        let (mut position, mut failures) = (Position::default(), 0);
        loop {
            match self.send(OutgoingRequest::Listen(position.last_id.as_deref())).await {
                Ok(response) if response.status == 200 => {
                    let Some(mut messages) = Messages::of(response, Arc::clone(&self.large)) else { return };
                    let mut received = 0u32;
                    while let Ok(Some(message)) = messages.next().await {
                        received += 1;
                        self.output.send(message.line).await;
                    }
                    let now = messages.position();
                    failures = if received > 0 { 0 } else { failures + 1 };
                    position =
                        Position { last_id: now.last_id.or(position.last_id), retry: now.retry.or(position.retry) };
                }
                // It has no such stream, or the session has ended.
                Ok(response) if (400..500).contains(&response.status) && response.status != 429 => return,
                Ok(_) => failures += 1,
                Err(failure) => {
                    tracing::info!("cannot listen to {}: {}", self.api.host(), failure.line());
                    if failure.code != "server_failed" {
                        return;
                    }
                    failures += 1;
                }
            }
            self.clock.sleep(backoff(position.retry, failures)).await;
        }
    }
}

/// Returns how long to wait before a stream is opened again.
fn backoff(retry: Option<Duration>, failures: u32) -> Duration {
    let wait = retry.unwrap_or(DEFAULT_RETRY).max(MIN_RETRY);
    wait.max(doubled(wait, failures.saturating_sub(1), MAX_RETRY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_opened_again_after_a_wait_that_the_server_cannot_remove() {
        for (retry, failures, expected) in [
            (None, 0, 1000),
            (None, 3, 4000),
            (None, 30, 60_000),
            (Some(0), 0, 100),
            (Some(0), 1, 100),
            (Some(0), 3, 400),
            (Some(0), 30, 60_000),
            (Some(1), 2, 200),
            (Some(5000), 0, 5000),
            (Some(120_000), 5, 120_000),
        ] {
            let wait = backoff(retry.map(Duration::from_millis), failures);
            assert_eq!(wait, Duration::from_millis(expected), "{retry:?} {failures}");
        }
    }
}
