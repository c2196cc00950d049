//! What happens to sessions, told to whoever listens: refreshed, failed, login-required, logged-out, locked, unlocked.

use serde::Serialize;
use tokio::sync::{Notify, broadcast};

use crate::clock::UnixTime;
use crate::model::ProfileName;

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A session has a new token.
    Refreshed,
    /// A refresh failed; the first of a row.
    Failed,
    /// A session has ended, and only a login brings another.
    LoginRequired,
    /// Somebody logged out.
    LoggedOut,
    /// The agent hands out nothing until it is unlocked.
    Locked,
    /// It hands out tokens again.
    Unlocked,
}

impl What {
    /// The event's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::Failed => "failed",
            Self::LoginRequired => "login-required",
            Self::LoggedOut => "logged-out",
            Self::Locked => "locked",
            Self::Unlocked => "unlocked",
        }
    }
}

/// An event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) what: What,
    pub(super) profile: Option<ProfileName>,
    pub(super) at: UnixTime,
    /// Why, in one line without secrets.
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
    /// The event on the wire (WHATWG HTML, section 9.2, server-sent events).
    pub(super) fn on_the_wire(&self) -> String {
        let data = Data { profile: self.profile.as_ref(), at: self.at, message: self.message.as_deref() };
        format!("event: {}\ndata: {}\n\n", self.what.name(), serde_json::to_string(&data).unwrap_or_default())
    }
}

/// The events, and that something has changed for those who only want to look again.
pub(super) struct Events {
    told: broadcast::Sender<Event>,
    /// Told when a session was read, refreshed or forgotten.
    pub(super) changed: Notify,
}

/// How many events a listener may be behind before it misses some.
const BEHIND: usize = 64;

impl Default for Events {
    fn default() -> Self {
        Self { told: broadcast::Sender::new(BEHIND), changed: Notify::new() }
    }
}

impl Events {
    /// Tells an event to those who listen now.
    pub(super) fn tell(&self, what: What, profile: Option<&ProfileName>, at: UnixTime, message: Option<String>) {
        let _ = self.told.send(Event { what, profile: profile.cloned(), at, message });
    }

    /// Listens from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<Event> {
        self.told.subscribe()
    }

    /// How many listen.
    pub(super) fn listeners(&self) -> usize {
        self.told.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_pinned_and_one_line_stays_one() {
        let event = Event {
            what: What::LoginRequired,
            profile: Some("work".parse().expect("valid")),
            at: UnixTime(5),
            message: Some("a\nb".into()),
        };
        assert_eq!(
            event.on_the_wire(),
            "event: login-required\ndata: {\"profile\":\"work\",\"at\":5,\"message\":\"a\\nb\"}\n\n"
        );
    }
}
