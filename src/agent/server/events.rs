//! The events that clients can subscribe to.

use serde::Serialize;
use tokio::sync::{Notify, broadcast};

use crate::clock::UnixTime;
use crate::model::ProfileName;
use crate::text::escape_json;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// A session has a new token.
    Refreshed,
    /// A refresh failed, the first in a row.
    RefreshFailed,
    /// A session has ended; the user must log in.
    LoginRequired,
    /// An API wants another sign-in than the session's: stronger, more recent, or with more scopes.
    SignInRequired,
    /// The user logged out.
    LoggedOut,
    /// A refreshed session could not be stored; it is in memory only.
    Unsaved,
    /// It was stored after all.
    Saved,
    /// A hook failed, or was not run.
    HookFailed,
    /// The agent was locked.
    Locked,
    /// The agent was unlocked.
    Unlocked,
}

impl EventKind {
    /// Returns the event's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::RefreshFailed => "refresh_failed",
            Self::LoginRequired => "login_required",
            Self::SignInRequired => "sign_in_required",
            Self::LoggedOut => "logged_out",
            Self::Unsaved => "unsaved",
            Self::Saved => "saved",
            Self::HookFailed => "hook_failed",
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
        }
    }
}

/// An event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) kind: EventKind,
    pub(super) profile: Option<ProfileName>,
    pub(super) at: UnixTime,
    /// The reason, in one line without secrets.
    pub(super) message: Option<String>,
}

#[derive(Serialize)]
struct Data<'a> {
    profile: Option<&'a ProfileName>,
    at: UnixTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

impl Event {
    /// Returns the event as a server-sent event (WHATWG HTML, section 9.2).
    pub(super) fn to_sse(&self) -> String {
        let data = Data { profile: self.profile.as_ref(), at: self.at, message: self.message.as_deref() };
        format!(
            "event: {}\ndata: {}\n\n",
            self.kind.name(),
            escape_json(serde_json::to_string(&data).unwrap_or_default())
        )
    }
}

/// Publishes events.
pub(super) struct Events {
    sender: broadcast::Sender<Event>,
    /// Notified when a cached session has changed.
    pub(super) changed: Notify,
}

/// How many events a slow subscriber may be behind before it misses some.
const CAPACITY: usize = 64;

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY), changed: Notify::new() }
    }
}

impl Events {
    /// Publishes an event to the present subscribers.
    pub(super) fn publish(
        &self,
        kind: EventKind,
        profile: Option<&ProfileName>,
        at: UnixTime,
        message: Option<String>,
    ) {
        let _ = self.sender.send(Event { kind, profile: profile.cloned(), at, message });
    }

    /// Subscribes to the events from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    /// Returns the number of subscribers.
    pub(super) fn subscribers(&self) -> usize {
        self.sender.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_is_pinned_and_a_message_stays_one_line() {
        let event = Event {
            kind: EventKind::LoginRequired,
            profile: Some("work".parse().expect("valid")),
            at: UnixTime(5),
            message: Some("a\nb".into()),
        };
        assert_eq!(
            event.to_sse(),
            "event: login_required\ndata: {\"profile\":\"work\",\"at\":5,\"message\":\"a\\nb\"}\n\n"
        );
    }
}
