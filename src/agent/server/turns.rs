//! The turns in which passphrases are checked: at most one wrong one a second for long, however many processes guess.

use std::collections::HashMap;
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

/// How many sessions have their wrong passphrases counted.
const MAX_SESSIONS: usize = 1024;

/// The session of processes that an attempt comes from (setsid(2)), such as all programs of one terminal. A process that guesses
/// can fork as often as it likes, and its children are in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProcessSession {
    /// When its first process started, in clock ticks; the maximum if that has ended. A process that starts a session for each
    /// guess has later ones than a user's terminal.
    started: u64,
    id: u32,
}

impl ProcessSession {
    /// Returns the session of the process. One that has ended counts as a session of its own; those that began outside of
    /// this container, which have the number 0 here, count as one.
    pub(super) fn of(pid: u32) -> Self {
        let process = i32::try_from(pid).ok().map(nix::unistd::Pid::from_raw);
        let leader = process.and_then(|process| nix::unistd::getsid(Some(process)).ok());
        let id = leader.map_or(pid, |leader| leader.as_raw().unsigned_abs());
        Self { started: super::peer::start_time(id).unwrap_or(u64::MAX), id }
    }
}

/// Admits one attempt at a time. After too many wrong ones each waits, and those of the session with the fewest wrong ones come
/// first, then those of the session that started first: the user who comes with the right passphrase does not wait for
/// processes that guess. Within a session, the newest and the oldest are admitted in turn.
pub(super) struct Turns {
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// The oldest first.
    waiting: Vec<(ProcessSession, oneshot::Sender<Turn>)>,
    /// The number of wrong passphrases of each session.
    wrong: HashMap<u32, u32>,
    /// Whether an attempt has its turn, or the next one waits for its time.
    is_taken: bool,
    oldest_is_next: bool,
    /// Each wrong passphrase moves this time on by [`INTERVAL`].
    used_until: Option<Instant>,
}

/// The permission to check one passphrase. The next attempt has its turn when it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    session: Option<ProcessSession>,
}

impl Queue {
    /// Returns the order in which sessions have their turns.
    fn rank(&self, session: ProcessSession) -> (u32, ProcessSession) {
        (self.wrong.get(&session.id).copied().unwrap_or(0), session)
    }

    /// Takes the attempt that is next.
    fn pop(&mut self) -> Option<(ProcessSession, oneshot::Sender<Turn>)> {
        let best = self.waiting.iter().map(|(session, _)| self.rank(*session)).min()?.1;
        let mut of_best = (0..self.waiting.len()).filter(|at| self.waiting[*at].0 == best);
        let next = if self.oldest_is_next { of_best.next() } else { of_best.next_back() };
        self.oldest_is_next = !self.oldest_is_next && self.waiting.len() > 1;
        next.map(|at| self.waiting.remove(at))
    }
}

impl Turns {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, queue: Mutex::default() })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn for an attempt from `session`. Returns `None` if too many attempts wait that come first.
    pub(super) async fn next(self: &Arc<Self>, session: ProcessSession) -> Option<Turn> {
        let (sender, turn) = oneshot::channel();
        {
            let mut queue = self.queue();
            // A process that has gone does not wait any more.
            queue.waiting.retain(|(_, waiting)| !waiting.is_closed());
            queue.waiting.push((session, sender));
            if queue.waiting.len() > MAX_WAITING {
                // The newest of those that come last.
                let last = (0..queue.waiting.len()).max_by_key(|at| queue.rank(queue.waiting[*at].0));
                last.map(|at| queue.waiting.remove(at));
            }
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
                drop(Turn { turns, session: None });
            });
            return;
        }
        let next = queue.pop();
        drop(queue);
        if let Some((session, next)) = next {
            // If the process has gone, the turn is dropped, and the next attempt has it.
            let _ = next.send(Turn { turns: Arc::clone(self), session: Some(session) });
        }
    }
}

impl Turn {
    /// Counts a wrong passphrase.
    pub(super) fn wrong(&self) {
        let now = self.turns.clock.monotonic();
        let mut queue = self.turns.queue();
        // The counts start again once the delay of all wrong passphrases has passed.
        if queue.used_until.is_none_or(|used| used < now) || queue.wrong.len() >= MAX_SESSIONS {
            queue.wrong.clear();
        }
        if let Some(session) = self.session {
            *queue.wrong.entry(session.id).or_default() += 1;
        }
        queue.used_until = Some(queue.used_until.map_or(now, |used| used.max(now)) + INTERVAL);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.queue().is_taken = false;
        self.turns.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::oauth::testing::TestClock;

    const TERMINAL: ProcessSession = ProcessSession { started: 100, id: 10 };

    /// Lets an attempt of each session wait for its turn, and returns the sessions in the order of their turns.
    async fn order(turns: &Arc<Turns>, sessions: impl IntoIterator<Item = ProcessSession>) -> Vec<(usize, u32)> {
        let first = turns.next(TERMINAL).await.expect("a turn");
        let (order, mut admitted) = tokio::sync::mpsc::unbounded_channel();
        for (number, session) in sessions.into_iter().enumerate() {
            let (own, order) = (Arc::clone(turns), order.clone());
            let waiting = tokio::spawn(async move {
                if let Some(turn) = own.next(session).await {
                    order.send((number, session.id)).expect("open");
                    drop(turn);
                }
            });
            let waits = |turns: &Turns| turns.queue().waiting.len();
            let before = waits(turns);
            while waits(turns) == before && !waiting.is_finished() && before < MAX_WAITING {
                tokio::task::yield_now().await;
            }
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        drop((first, order));
        let mut all = Vec::new();
        while let Some(one) = admitted.recv().await {
            all.push(one);
        }
        all
    }

    #[tokio::test]
    async fn users_terminal_comes_before_processes_that_guess() {
        let guessing = ProcessSession { started: 50, id: 5 };
        let turns = Turns::new(Arc::new(SystemClock));
        turns.next(guessing).await.expect("a turn").wrong();
        let sessions = std::iter::repeat_n(guessing, 100).chain([TERMINAL]).chain(std::iter::repeat_n(guessing, 100));
        let order = order(&turns, sessions).await;
        assert_eq!((order[0], order.len()), ((100, TERMINAL.id), MAX_WAITING), "{order:?}");
    }

    #[tokio::test]
    async fn users_terminal_comes_before_sessions_that_start_later() {
        let turns = Turns::new(Arc::new(SystemClock));
        let fresh = |at: u32| ProcessSession { started: 200 + u64::from(at), id: 1000 + at };
        let order = order(&turns, (0..100).map(fresh).chain([TERMINAL]).chain((100..200).map(fresh))).await;
        assert_eq!((order[0], order.len()), ((100, TERMINAL.id), MAX_WAITING), "{order:?}");
    }

    #[tokio::test]
    async fn wrong_passphrases_of_a_session_are_forgotten_once_made_up_for() {
        let clock = Arc::new(TestClock::new());
        let turns = Turns::new(Arc::<TestClock>::clone(&clock));
        turns.next(TERMINAL).await.expect("a turn").wrong();
        clock.sleep(INTERVAL * 2).await;
        let other = ProcessSession { started: 200, id: 20 };
        turns.next(other).await.expect("a turn").wrong();
        assert_eq!(order(&turns, [other, TERMINAL]).await[0].1, TERMINAL.id);
    }

    #[test]
    fn child_is_in_the_session_of_its_parent() {
        let own = ProcessSession::of(std::process::id());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("spawned");
        let session = ProcessSession::of(child.id());
        child.kill().and_then(|()| child.wait()).expect("ended");
        assert_eq!(session, own);
        assert!(!cfg!(target_os = "linux") || own.started > 0);
    }

    #[tokio::test]
    async fn wrong_passphrases_are_checked_once_a_second_after_a_few() {
        let clock = Arc::new(TestClock::new());
        let turns = Turns::new(Arc::<TestClock>::clone(&clock));
        let start = clock.monotonic();
        for _ in 0..100 {
            turns.next(TERMINAL).await.expect("a turn").wrong();
        }
        let passed = clock.monotonic() - start;
        assert!((Duration::from_secs(89)..Duration::from_secs(91)).contains(&passed), "{passed:?}");
    }

    #[tokio::test]
    async fn newest_attempt_does_not_wait_for_those_that_came_before() {
        let turns = Turns::new(Arc::new(SystemClock));
        let order = order(&turns, std::iter::repeat_n(TERMINAL, 10)).await;
        let numbers: Vec<usize> = order.into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [9, 0, 8, 1, 7, 2, 6, 3, 5, 4]);
    }

    #[tokio::test]
    async fn number_of_waiting_attempts_is_limited() {
        let turns = Turns::new(Arc::new(SystemClock));
        let first = turns.next(TERMINAL).await.expect("a turn");
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(turns.next(TERMINAL))).collect();
        for one in &mut waiting {
            assert!(tokio::time::timeout(Duration::ZERO, one).await.is_err());
        }
        assert!(turns.next(TERMINAL).await.is_none());
        drop(waiting);
        let mut next = Box::pin(turns.next(TERMINAL));
        assert!(tokio::time::timeout(Duration::ZERO, &mut next).await.is_err(), "those that have gone leave room");
        drop(first);
        assert!(next.await.is_some(), "those that have gone are forgotten");
    }
}
