//! Limits the number of connections, in total and for each process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The maximum number of connections, if there are enough descriptors.
const MAX_CONNECTIONS: usize = 2048;

/// Descriptors reserved for stores, issuers, locks, remembered processes and refused connections.
const RESERVED_DESCRIPTORS: usize = 60;

/// Counts the connections.
pub(super) struct ConnectionLimiter {
    max: usize,
    max_per_process: usize,
    inner: Mutex<OpenConnections>,
    emptied: Notify,
}

#[derive(Default)]
struct OpenConnections {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
    per_process: HashMap<u32, usize>,
}

/// One connection.
struct Connection {
    pid: u32,
    busy: AtomicBool,
    evicted: Notify,
}

/// An admitted connection, released on drop.
pub(super) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    number: u64,
    connection: Arc<Connection>,
}

impl ConnectionLimiter {
    /// Creates a limiter for an agent with this many descriptors. One process gets at most half of the connections.
    pub(super) fn new(descriptors: usize) -> Self {
        let max = descriptors.saturating_sub(RESERVED_DESCRIPTORS).clamp(2, MAX_CONNECTIONS);
        Self { max, max_per_process: max / 2, inner: Mutex::default(), emptied: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, OpenConnections> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of open connections.
    pub(super) fn open(&self) -> usize {
        self.inner().connections.len()
    }

    /// Waits until no connection is open.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.open() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Admits a connection of the process `pid`. At the maximum, the process with the most connections loses an idle one,
    /// unless it is `pid` itself. Returns `None` if there is none to close.
    pub(super) fn admit(self: &Arc<Self>, pid: u32) -> Option<ConnectionPermit> {
        let mut inner = self.inner();
        let own = inner.per_process.get(&pid).copied().unwrap_or(0);
        if own >= self.max_per_process {
            return None;
        }
        if inner.connections.len() >= self.max {
            let (largest, count) = inner.per_process.iter().max_by_key(|(_, count)| **count).map(|(p, c)| (*p, *c))?;
            if count <= own + 1 {
                return None;
            }
            let idle = |connection: &Connection| connection.pid == largest && !connection.busy.load(Ordering::Relaxed);
            let oldest =
                inner.connections.iter().filter(|(_, connection)| idle(connection)).map(|(number, _)| *number).min()?;
            if let Some(connection) = inner.remove(oldest) {
                connection.evicted.notify_one();
            }
        }
        let number = inner.next;
        inner.next += 1;
        let connection = Arc::new(Connection { pid, busy: AtomicBool::new(false), evicted: Notify::new() });
        inner.connections.insert(number, Arc::clone(&connection));
        *inner.per_process.entry(pid).or_default() += 1;
        drop(inner);
        Some(ConnectionPermit { limiter: Arc::clone(self), number, connection })
    }
}

impl OpenConnections {
    fn remove(&mut self, number: u64) -> Option<Arc<Connection>> {
        let connection = self.connections.remove(&number)?;
        if let Some(count) = self.per_process.get_mut(&connection.pid) {
            *count -= 1;
            if *count == 0 {
                self.per_process.remove(&connection.pid);
            }
        }
        Some(connection)
    }
}

impl ConnectionPermit {
    /// Marks whether a request is being served: a busy connection is not closed in favour of another.
    pub(super) fn set_busy(&self, busy: bool) {
        self.connection.busy.store(busy, Ordering::Relaxed);
    }

    /// Returns whether a request is being served.
    pub(super) fn is_busy(&self) -> bool {
        self.connection.busy.load(Ordering::Relaxed)
    }

    /// Waits until the connection has to close in favour of another.
    pub(super) async fn evicted(&self) {
        self.connection.evicted.notified().await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut inner = self.limiter.inner();
        inner.remove(self.number);
        if inner.connections.is_empty() {
            self.limiter.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_gets_half_and_the_largest_loses_an_idle_connection() {
        let limiter = Arc::new(ConnectionLimiter::new(RESERVED_DESCRIPTORS + 8));
        let mut busiest: Vec<Option<ConnectionPermit>> = (0..5).map(|_| limiter.admit(1)).collect();
        assert!(busiest[3].is_some() && busiest[4].is_none(), "half of eight");
        let others: Vec<Option<ConnectionPermit>> = (2..6).map(|pid| limiter.admit(pid)).collect();
        assert!(others.iter().all(Option::is_some));
        assert_eq!(limiter.open(), 8);
        busiest[0].as_ref().expect("admitted").set_busy(true);
        let newcomer = limiter.admit(9).expect("admitted in place of another");
        assert_eq!(limiter.open(), 8);
        drop(busiest.remove(1));
        assert_eq!(limiter.open(), 8, "the evicted one was already removed");
        drop(newcomer);
        assert_eq!(limiter.open(), 7);
    }

    #[test]
    fn no_connection_is_closed_if_all_have_one_or_are_busy() {
        let limiter = Arc::new(ConnectionLimiter::new(RESERVED_DESCRIPTORS + 4));
        let all: Vec<ConnectionPermit> = (0..4).map(|pid| limiter.admit(pid).expect("admitted")).collect();
        assert!(limiter.admit(9).is_none(), "all have one");
        drop(all);
        let two: Vec<ConnectionPermit> = (0..2).map(|_| limiter.admit(1).expect("admitted")).collect();
        two.iter().for_each(|permit| permit.set_busy(true));
        let _others: Vec<ConnectionPermit> = (2..4).map(|pid| limiter.admit(pid).expect("admitted")).collect();
        assert!(limiter.admit(9).is_none(), "both are busy");
    }
}
