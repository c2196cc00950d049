//! The audit log: which process got which token. In memory, with a maximum size, without the tokens themselves.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::peer::Peer;
use crate::agent::protocol::{AuditLogEntry, AuditLogResponse};
use crate::clock::UnixTime;
use crate::model::{ErrorCode, ProfileName, RuleName};

/// What a process did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AuditAction {
    /// Was issued an access token.
    Token,
    /// Was issued an ID token.
    IdToken,
    /// Was given a proof for a bound token.
    Proof,
    /// Refreshed a session.
    Refresh,
    /// Gave the session of a login to the agent.
    Handover,
    /// Logged out of a profile.
    Logout,
    /// Was refused: it runs as another user, has too many connections, belongs to another home, or the agent is locked.
    Refused,
    /// Locked the agent.
    Lock,
    /// Unlocked the agent.
    Unlock,
    /// Tried a wrong passphrase.
    WrongPassphrase,
    /// Stopped the agent.
    Stop,
    /// Refused a request of its own caller: it is a proxy.
    ProxyRefused(RuleName),
    /// Did not run a hook to its end. The process is the agent.
    HookFailed,
}

impl AuditAction {
    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::IdToken => "id_token",
            Self::Proof => "proof",
            Self::Refresh => "refresh",
            Self::Handover => "handover",
            Self::Logout => "logout",
            Self::Refused => "refused",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::WrongPassphrase => "wrong_passphrase",
            Self::Stop => "stop",
            Self::ProxyRefused(_) => "proxy_refused",
            Self::HookFailed => "hook_failed",
        }
    }
}

/// The entries, the oldest first.
#[derive(Default)]
pub(super) struct AuditLog {
    inner: Mutex<AuditEntries>,
}

#[derive(Default)]
struct AuditEntries {
    entries: VecDeque<AuditLogEntry>,
    /// How many entries were dropped, which is the sequence number of the first one.
    dropped: u64,
    /// The sequence number of the latest entry for a process, action and error, by profile; the name is empty without a profile.
    latest: HashMap<(u32, AuditAction, Option<ErrorCode>), HashMap<String, u64>>,
    /// How many sequence numbers `latest` holds.
    numbers: usize,
}

/// The maximum number of entries; each takes about 300 bytes.
const MAX_ENTRIES: usize = 1000;

/// The same action of the same process within this time is counted in one entry.
const MERGE_WITHIN: Duration = Duration::from_secs(60);

impl AuditLog {
    /// Records an action.
    pub(super) fn record(&self, peer: &Peer, action: AuditAction, profile: Option<&ProfileName>, now: UnixTime) {
        self.add(peer, action, None, profile, (1, None), now);
    }

    /// Records requests that a proxy has refused by a rule; `last` is the last one.
    pub(super) fn record_refused(
        &self,
        peer: &Peer,
        (rule, count, last): (RuleName, u64, String),
        profile: Option<&ProfileName>,
        now: UnixTime,
    ) {
        self.add(peer, AuditAction::ProxyRefused(rule), None, profile, (count, Some(last)), now);
    }

    /// Records an action that was denied or that failed.
    pub(super) fn record_denied(
        &self,
        peer: &Peer,
        action: AuditAction,
        error: ErrorCode,
        profile: Option<&ProfileName>,
        now: UnixTime,
    ) {
        self.add(peer, action, Some(error), profile, (1, None), now);
    }

    fn add(
        &self,
        peer: &Peer,
        action: AuditAction,
        error: Option<ErrorCode>,
        profile: Option<&ProfileName>,
        (count, request): (u64, Option<String>),
        now: UnixTime,
    ) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let AuditEntries { entries, dropped, latest, numbers } = &mut *inner;
        let known = latest.entry((peer.pid, action, error)).or_default();
        let name = profile.map(ProfileName::as_str).unwrap_or_default();
        if let Some(number) = known.get(name) {
            let entry = number.checked_sub(*dropped).and_then(|index| usize::try_from(index).ok());
            if let Some(entry) = entry.and_then(|index| entries.get_mut(index))
                && entry.uid == peer.uid
                && entry.executable == peer.identity.executable
                // An entry in the future was made before the clock was set back.
                && entry.first_at <= now
                && entry.first_at.until(now) < MERGE_WITHIN
            {
                entry.last_at = now;
                entry.count = entry.count.saturating_add(count);
                entry.request = request;
                return;
            }
        }
        *numbers += usize::from(known.insert(name.to_owned(), *dropped + entries.len() as u64).is_none());
        entries.push_back(AuditLogEntry {
            first_at: now,
            last_at: now,
            count,
            action: action.name().to_owned(),
            error,
            rule: match action {
                AuditAction::ProxyRefused(rule) => Some(rule),
                _ => None,
            },
            request,
            profile: profile.cloned(),
            pid: peer.pid,
            uid: peer.uid,
            executable: peer.identity.executable.clone(),
            parent: peer.identity.parent.clone(),
        });
        if entries.len() > MAX_ENTRIES {
            entries.pop_front();
            *dropped += 1;
            let first = *dropped;
            // Rarely, so that the cost for each entry stays small.
            if *numbers > MAX_ENTRIES * 2 {
                latest.values_mut().for_each(|known| known.retain(|_, number| *number >= first));
                latest.retain(|_, known| !known.is_empty());
                *numbers = latest.values().map(HashMap::len).sum();
            }
        }
    }

    /// Returns all entries.
    pub(super) fn all(&self) -> AuditLogResponse {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        AuditLogResponse { entries: inner.entries.iter().cloned().collect(), dropped: inner.dropped }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn peer(pid: u32) -> Peer {
        Peer { pid, uid: 1000, identity: Arc::default() }
    }

    #[test]
    fn repeated_actions_are_counted_in_one_entry() {
        let audit_log = AuditLog::default();
        let work: ProfileName = "work".parse().expect("valid");
        for second in 0..30 {
            audit_log.record(&peer(1), AuditAction::Token, Some(&work), UnixTime(second));
        }
        audit_log.record(&peer(2), AuditAction::Token, Some(&work), UnixTime(40));
        audit_log.record(&peer(1), AuditAction::Refresh, Some(&work), UnixTime(41));
        audit_log.record(&peer(1), AuditAction::Token, Some(&work), UnixTime(70));
        let entries: Vec<(u32, String, u64)> =
            audit_log.all().entries.into_iter().map(|entry| (entry.pid, entry.action, entry.count)).collect();
        let token = || "token".to_owned();
        assert_eq!(entries, [(1, token(), 30), (2, token(), 1), (1, "refresh".into(), 1), (1, token(), 1)]);
    }

    #[test]
    fn requests_that_a_proxy_refuses_are_counted_by_rule() {
        let audit_log = AuditLog::default();
        for number in 0..2000 {
            let refused = |rule| (rule, 2, format!("GET /{number}"));
            audit_log.record_refused(&peer(1), refused(RuleName::Allow), None, UnixTime(0));
            audit_log.record_refused(&peer(1), refused(RuleName::Key), None, UnixTime(0));
        }
        let entries: Vec<_> =
            audit_log.all().entries.into_iter().map(|entry| (entry.rule, entry.count, entry.request)).collect();
        let last = || Some("GET /1999".to_owned());
        assert_eq!(entries, [(Some(RuleName::Allow), 4000, last()), (Some(RuleName::Key), 4000, last())]);
    }

    #[test]
    fn new_entries_are_made_after_the_clock_was_set_back() {
        let audit_log = AuditLog::default();
        for second in [86_400, 0, 30, 3600] {
            audit_log.record(&peer(1), AuditAction::Token, None, UnixTime(second));
        }
        let entries: Vec<(i64, i64, u64)> =
            audit_log.all().entries.iter().map(|entry| (entry.first_at.0, entry.last_at.0, entry.count)).collect();
        assert_eq!(entries, [(86_400, 86_400, 1), (0, 30, 2), (3600, 3600, 1)]);
    }

    #[test]
    fn log_is_bounded() {
        let audit_log = AuditLog::default();
        for pid in 0..10_000 {
            audit_log.record(&peer(pid), AuditAction::Token, None, UnixTime(0));
        }
        let log = audit_log.all();
        assert_eq!((log.entries.len(), log.dropped), (MAX_ENTRIES, 9000));
        assert_eq!(log.entries[0].pid, 9000);
        assert!(audit_log.inner.lock().expect("not poisoned").latest.len() <= MAX_ENTRIES * 2 + 1);
        for number in 0..10_000 {
            let name: ProfileName = format!("p{number}").parse().expect("valid");
            audit_log.record(&peer(1), AuditAction::Token, Some(&name), UnixTime(0));
        }
        let inner = audit_log.inner.lock().expect("not poisoned");
        assert!(inner.latest.values().map(HashMap::len).sum::<usize>() <= MAX_ENTRIES * 2 + 1);
    }
}
