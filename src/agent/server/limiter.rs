//! How many connections there may be, in all and for each process, and who has to go when there are too many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Connections in all, where the descriptors suffice.
const MAX: usize = 2048;

/// Descriptors that are kept for the store, issuers, locks, the processes that are remembered, and those turned away.
const RESERVED: usize = 60;

/// Counts the connections.
pub(super) struct ConnectionLimiter {
    most: usize,
    most_each: usize,
    inner: Mutex<Inner>,
    emptied: Notify,
}

#[derive(Default)]
struct Inner {
    next: u64,
    tickets: HashMap<u64, Arc<Place>>,
    each: HashMap<u32, usize>,
}

/// A connection's place.
struct Place {
    pid: u32,
    busy: AtomicBool,
    evicted: Notify,
}

/// An admitted connection; the place is free again when it is dropped.
pub(super) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    number: u64,
    place: Arc<Place>,
}

impl ConnectionLimiter {
    /// A limiter for a process that may open so many descriptors. One process gets at most half the places.
    pub(super) fn within(descriptors: usize) -> Self {
        let most = descriptors.saturating_sub(RESERVED).clamp(2, MAX);
        Self { most, most_each: most / 2, inner: Mutex::default(), emptied: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.inner().tickets.len()
    }

    /// Returns once no connection is open.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.open() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Admits a connection of the process `pid`, or not. Where all places are taken, the process that has most of them
    /// loses one on which nothing is asked just now, unless it is the one that comes.
    pub(super) fn admit(self: &Arc<Self>, pid: u32) -> Option<ConnectionPermit> {
        let mut inner = self.inner();
        let own = inner.each.get(&pid).copied().unwrap_or(0);
        if own >= self.most_each {
            return None;
        }
        if inner.tickets.len() >= self.most {
            let (greediest, count) = inner.each.iter().max_by_key(|(_, count)| **count).map(|(p, c)| (*p, *c))?;
            if count <= own + 1 {
                return None;
            }
            let idle = |place: &Place| place.pid == greediest && !place.busy.load(Ordering::Relaxed);
            let oldest = inner.tickets.iter().filter(|(_, place)| idle(place)).map(|(number, _)| *number).min()?;
            if let Some(place) = inner.leave(oldest) {
                place.evicted.notify_one();
            }
        }
        let number = inner.next;
        inner.next += 1;
        let place = Arc::new(Place { pid, busy: AtomicBool::new(false), evicted: Notify::new() });
        inner.tickets.insert(number, Arc::clone(&place));
        *inner.each.entry(pid).or_default() += 1;
        drop(inner);
        Some(ConnectionPermit { limiter: Arc::clone(self), number, place })
    }
}

impl Inner {
    fn leave(&mut self, number: u64) -> Option<Arc<Place>> {
        let place = self.tickets.remove(&number)?;
        if let Some(count) = self.each.get_mut(&place.pid) {
            *count -= 1;
            if *count == 0 {
                self.each.remove(&place.pid);
            }
        }
        Some(place)
    }
}

impl ConnectionPermit {
    /// Says whether something is being asked on the connection, which is then not closed to make room.
    pub(super) fn busy(&self, busy: bool) {
        self.place.busy.store(busy, Ordering::Relaxed);
    }

    /// Whether something is being asked.
    pub(super) fn is_busy(&self) -> bool {
        self.place.busy.load(Ordering::Relaxed)
    }

    /// Returns when the connection has to make room for another.
    pub(super) async fn evicted(&self) {
        self.place.evicted.notified().await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut inner = self.limiter.inner();
        inner.leave(self.number);
        if inner.tickets.is_empty() {
            self.limiter.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_gets_half_and_the_greediest_makes_room() {
        let limiter = Arc::new(ConnectionLimiter::within(RESERVED + 8));
        let mut greedy: Vec<Option<ConnectionPermit>> = (0..5).map(|_| limiter.admit(1)).collect();
        assert!(greedy[3].is_some() && greedy[4].is_none(), "half of eight");
        let others: Vec<Option<ConnectionPermit>> = (2..6).map(|pid| limiter.admit(pid)).collect();
        assert!(others.iter().all(Option::is_some));
        assert_eq!(limiter.open(), 8);
        greedy[0].as_ref().expect("there").busy(true);
        let newcomer = limiter.admit(9).expect("admitted in place of a greedy one");
        assert_eq!(limiter.open(), 8);
        drop(greedy.remove(1));
        assert_eq!(limiter.open(), 8, "the evicted one had left already");
        drop(newcomer);
        assert_eq!(limiter.open(), 7);
    }

    #[test]
    fn where_all_have_one_and_where_all_are_busy_nobody_makes_room() {
        let limiter = Arc::new(ConnectionLimiter::within(RESERVED + 4));
        let all: Vec<ConnectionPermit> = (0..4).map(|pid| limiter.admit(pid).expect("room")).collect();
        assert!(limiter.admit(9).is_none(), "all have one");
        drop(all);
        let two: Vec<ConnectionPermit> = (0..2).map(|_| limiter.admit(1).expect("room")).collect();
        two.iter().for_each(|ticket| ticket.busy(true));
        let _others: Vec<ConnectionPermit> = (2..4).map(|pid| limiter.admit(pid).expect("room")).collect();
        assert!(limiter.admit(9).is_none(), "the greedy one is busy");
    }
}
