//! The turns in which passphrases are checked: at most one wrong one a second for long, however many processes guess.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::clock::Clock;

/// The time between two wrong passphrases in the long run.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many may be wrong at once before the next ones wait.
const BURST: u32 = 10;

/// How many attempts may wait for their turn.
const MAX_WAITING: usize = 64;

/// Admits one attempt at a time. After too many wrong ones each waits, and the newest and the oldest are admitted in turn:
/// processes that guess wait in a row, and the user who comes with the right passphrase is the newest.
pub(super) struct Turns {
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<oneshot::Sender<Turn>>,
    /// Whether an attempt has its turn, or the next one waits for its time.
    is_taken: bool,
    oldest_is_next: bool,
    /// Each wrong passphrase moves this time on by [`INTERVAL`].
    used_until: Option<Instant>,
}

/// The permission to check one passphrase. The next attempt has its turn when it is dropped.
pub(super) struct Turn(Arc<Turns>);

impl Turns {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, queue: Mutex::default() })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn. Returns `None` if too many attempts wait already.
    pub(super) async fn next(self: &Arc<Self>) -> Option<Turn> {
        let (sender, turn) = oneshot::channel();
        {
            let mut queue = self.queue();
            // A process that has gone does not wait any more.
            queue.waiting.retain(|waiting| !waiting.is_closed());
            if queue.waiting.len() >= MAX_WAITING {
                return None;
            }
            queue.waiting.push_back(sender);
        }
        self.advance();
        turn.await.ok()
    }

    /// Gives the next attempt its turn when it is time.
    fn advance(self: &Arc<Self>) {
        let mut queue = self.queue();
        if queue.is_taken || queue.waiting.is_empty() {
            return;
        }
        queue.is_taken = true;
        let allowed = self.clock.monotonic() + INTERVAL * BURST;
        let wait = queue.used_until.map_or(Duration::ZERO, |used| used.saturating_duration_since(allowed));
        if !wait.is_zero() {
            drop(queue);
            let turns = Arc::clone(self);
            tokio::spawn(async move {
                turns.clock.sleep(wait).await;
                drop(Turn(turns));
            });
            return;
        }
        let next = if queue.oldest_is_next { queue.waiting.pop_front() } else { queue.waiting.pop_back() };
        queue.oldest_is_next = !queue.oldest_is_next && !queue.waiting.is_empty();
        drop(queue);
        if let Some(next) = next {
            // If the process has gone, the turn is dropped, and the next attempt has it.
            let _ = next.send(Turn(Arc::clone(self)));
        }
    }
}

impl Turn {
    /// Counts a wrong passphrase.
    pub(super) fn wrong(&self) {
        let now = self.0.clock.monotonic();
        let mut queue = self.0.queue();
        queue.used_until = Some(queue.used_until.map_or(now, |used| used.max(now)) + INTERVAL);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.queue().is_taken = false;
        self.0.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::oauth::testing::TestClock;

    #[tokio::test]
    async fn wrong_passphrases_are_checked_once_a_second_after_a_few() {
        let clock = Arc::new(TestClock::new());
        let turns = Turns::new(Arc::<TestClock>::clone(&clock));
        let start = clock.monotonic();
        for _ in 0..100 {
            turns.next().await.expect("a turn").wrong();
        }
        let passed = clock.monotonic() - start;
        assert!((Duration::from_secs(89)..Duration::from_secs(91)).contains(&passed), "{passed:?}");
    }

    #[tokio::test]
    async fn newest_attempt_does_not_wait_for_those_that_came_before() {
        let turns = Turns::new(Arc::new(SystemClock));
        let first = turns.next().await.expect("a turn");
        let (order, mut admitted) = tokio::sync::mpsc::unbounded_channel();
        let mut started = 0;
        for number in 0..10 {
            let (own, order) = (Arc::clone(&turns), order.clone());
            tokio::spawn(async move {
                let turn = own.next().await.expect("a turn");
                order.send(number).expect("open");
                drop(turn);
            });
            started += 1;
            while turns.queue().waiting.len() < started {
                tokio::task::yield_now().await;
            }
        }
        drop(first);
        let mut numbers = Vec::new();
        for _ in 0..10 {
            numbers.push(admitted.recv().await.expect("admitted"));
        }
        assert_eq!(numbers, [9, 0, 8, 1, 7, 2, 6, 3, 5, 4]);
    }

    #[tokio::test]
    async fn number_of_waiting_attempts_is_limited() {
        let turns = Turns::new(Arc::new(SystemClock));
        let first = turns.next().await.expect("a turn");
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(turns.next())).collect();
        for one in &mut waiting {
            assert!(tokio::time::timeout(Duration::ZERO, one).await.is_err());
        }
        assert!(turns.next().await.is_none());
        drop(waiting);
        let mut next = Box::pin(turns.next());
        assert!(tokio::time::timeout(Duration::ZERO, &mut next).await.is_err(), "those that have gone leave room");
        drop(first);
        assert!(next.await.is_some(), "those that have gone are forgotten");
    }
}
