//! The order in which passphrases are checked: at most one wrong one a second in the long run, however many processes guess.
//! Foreground processes of a terminal have a limit of their own, because a user may be typing there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::process;

/// The time between two wrong passphrases in the long run.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many may be wrong at once before the next ones wait.
const BURST: u32 = 10;

/// How many wrong passphrases do not lower the rank of a source: users mistype.
const TYPOS: u32 = 2;

/// How many attempts may wait for their turn.
const MAX_WAITING: usize = 64;

/// For how many sources wrong passphrases are counted.
const MAX_SOURCES: usize = 1024;

/// A session leader, a parent process or the process itself, which attempts are attributed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Origin {
    /// When it started, in clock ticks; the maximum if it has ended. A process that makes a new origin for each guess has later
    /// ones than a user's terminal.
    started: u64,
    pid: u32,
}

/// Where an attempt comes from. Forking does not hide that: children stay in the session (setsid(2)) and have the same parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    session: Origin,
    parent: Origin,
    process: Origin,
    is_foreground: bool,
}

/// A queue for foreground processes and one for the others. Each has a limit of its own, so that neither can use up the other's.
pub(super) struct PassphraseQueue {
    foreground: Arc<Queue>,
    background: Arc<Queue>,
}

/// Admits one attempt at a time. After too many wrong ones, the order is: sessions with fewer wrong ones first, then older
/// sessions, then parents by the same rules, then processes with fewer wrong ones. So a user with the right passphrase does not
/// wait for processes that guess. Of what is left, the newest and the oldest attempt alternate: only a process that makes a new
/// sibling of the user's command for each guess (`CLONE_PARENT`) cannot be distinguished.
struct Queue {
    clock: Arc<dyn Clock>,
    inner: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    /// The oldest first.
    waiting: Vec<(Source, oneshot::Sender<Turn>)>,
    /// The number of wrong passphrases of each session, of each parent and of each process.
    wrong: [HashMap<Origin, u32>; 3],
    /// Whether an attempt has its turn, or the next one waits for its time.
    is_taken: bool,
    oldest_is_next: bool,
    /// Each wrong passphrase moves this time on by [`INTERVAL`].
    used_until: Option<Instant>,
}

/// The permission to check one passphrase. The next attempt has its turn when it is dropped.
pub(super) struct Turn {
    queue: Arc<Queue>,
    source: Option<Source>,
}

impl Origin {
    fn of(pid: u32) -> Self {
        Self { started: process::start_time(pid).unwrap_or(u64::MAX), pid }
    }
}

impl Source {
    /// Returns the source of an attempt of the process `pid`. One that has ended counts as a session of its own; those whose
    /// session began outside of this container, which has the number 0 here, count as one.
    pub(super) fn of(pid: u32) -> Self {
        let leader = i32::try_from(pid).ok().and_then(|pid| nix::unistd::getsid(Some(Pid::from_raw(pid))).ok());
        let session = Origin::of(leader.map_or(pid, |leader| leader.as_raw().unsigned_abs()));
        let parent = Origin::of(process::parent_of(pid).unwrap_or(0));
        Self { session, parent, process: Origin::of(pid), is_foreground: process::is_foreground(pid) }
    }

    fn origins(&self) -> [Origin; 3] {
        [self.session, self.parent, self.process]
    }
}

impl PassphraseQueue {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        let queue = || Arc::new(Queue { clock: Arc::clone(clock), inner: Mutex::default() });
        Self { foreground: queue(), background: queue() }
    }

    /// Waits for a turn for an attempt from `source`. Returns `None` if too many attempts are ahead.
    pub(super) async fn next(&self, source: Source) -> Option<Turn> {
        let queue = if source.is_foreground { &self.foreground } else { &self.background };
        queue.next(source).await
    }
}

impl QueueState {
    /// Returns the order in which attempts are admitted.
    fn rank(&self, source: &Source) -> (u32, Origin, u32, Origin, u32) {
        let mut counts = self.wrong.iter().zip(source.origins());
        let mut wrong = || {
            let found = counts.next().and_then(|(counts, origin)| counts.get(&origin));
            found.map_or(0, |wrong| wrong.saturating_sub(TYPOS))
        };
        (wrong(), source.session, wrong(), source.parent, wrong())
    }

    /// Takes the attempt that is next.
    fn pop(&mut self) -> Option<(Source, oneshot::Sender<Turn>)> {
        let best = self.waiting.iter().map(|(source, _)| self.rank(source)).min()?;
        let mut of_best = (0..self.waiting.len()).filter(|at| self.rank(&self.waiting[*at].0) == best);
        let next = if self.oldest_is_next { of_best.next() } else { of_best.next_back() }?;
        self.oldest_is_next = !self.oldest_is_next && self.waiting.len() > 1;
        Some(self.waiting.remove(next))
    }
}

impl Queue {
    fn inner(&self) -> MutexGuard<'_, QueueState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(self: &Arc<Self>, source: Source) -> Option<Turn> {
        let (sender, turn) = oneshot::channel();
        {
            let mut inner = self.inner();
            // A process that has gone does not wait any more.
            inner.waiting.retain(|(_, waiting)| !waiting.is_closed());
            inner.waiting.push((source, sender));
            if inner.waiting.len() > MAX_WAITING {
                // The newest of those that come last.
                let last = (0..inner.waiting.len()).max_by_key(|at| inner.rank(&inner.waiting[*at].0));
                last.map(|at| inner.waiting.remove(at));
            }
        }
        self.advance();
        turn.await.ok()
    }

    /// Gives the next attempt its turn when it is time.
    fn advance(self: &Arc<Self>) {
        let mut inner = self.inner();
        if inner.is_taken || inner.waiting.is_empty() {
            return;
        }
        inner.is_taken = true;
        let allowed = self.clock.monotonic() + INTERVAL * BURST;
        let wait = inner.used_until.map_or(Duration::ZERO, |used| used.saturating_duration_since(allowed));
        if !wait.is_zero() {
            drop(inner);
            let queue = Arc::clone(self);
            tokio::spawn(async move {
                queue.clock.sleep(wait).await;
                drop(Turn { queue, source: None });
            });
            return;
        }
        let next = inner.pop();
        drop(inner);
        if let Some((source, next)) = next {
            // If the process has gone, the turn is dropped, and the next attempt has it.
            let _ = next.send(Turn { queue: Arc::clone(self), source: Some(source) });
        }
    }
}

impl Turn {
    /// Counts a wrong passphrase.
    pub(super) fn wrong(&self) {
        let now = self.queue.clock.monotonic();
        let mut inner = self.queue.inner();
        // The counts start again once the delay of all wrong passphrases has passed.
        let delay_has_passed = inner.used_until.is_none_or(|used| used < now);
        inner
            .wrong
            .iter_mut()
            .filter(|counts| delay_has_passed || counts.len() >= MAX_SOURCES)
            .for_each(HashMap::clear);
        if let Some(source) = self.source {
            for (counts, origin) in inner.wrong.iter_mut().zip(source.origins()) {
                *counts.entry(origin).or_default() += 1;
            }
        }
        inner.used_until = Some(inner.used_until.map_or(now, |used| used.max(now)) + INTERVAL);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.inner().is_taken = false;
        self.queue.advance();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::oauth::testing::TestClock;

    /// A process that started before those with higher numbers.
    fn origin(pid: u32) -> Origin {
        Origin { started: u64::from(pid), pid }
    }

    fn source(session: u32, parent: u32) -> Source {
        Source { session: origin(session), parent: origin(parent), process: origin(parent), is_foreground: false }
    }

    fn at_terminal(session: u32, parent: u32) -> Source {
        Source { is_foreground: true, ..source(session, parent) }
    }

    fn new_queue() -> (Arc<TestClock>, PassphraseQueue) {
        let clock = Arc::new(TestClock::new());
        let shared: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
        (clock, PassphraseQueue::new(&shared))
    }

    async fn wrong(queue: &PassphraseQueue, source: Source) {
        queue.next(source).await.expect("a turn").wrong();
    }

    /// Lets an attempt of each source wait for its turn while one of the first has it, and returns their numbers in the order of
    /// their turns.
    async fn order(queue: PassphraseQueue, sources: impl IntoIterator<Item = Source>) -> Vec<usize> {
        let mut sources = sources.into_iter().peekable();
        let first = queue.next(*sources.peek().expect("one")).await.expect("a turn");
        let (queue, (order, mut admitted)) = (Arc::new(queue), tokio::sync::mpsc::unbounded_channel());
        for (number, source) in sources.enumerate() {
            let (own, order) = (Arc::clone(&queue), order.clone());
            tokio::spawn(async move {
                if let Some(turn) = own.next(source).await {
                    order.send(number).expect("open");
                    drop(turn);
                }
            });
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
    async fn users_attempt_comes_before_those_of_processes_that_guess() {
        type Guesser = fn(u32) -> Source;
        let (typing, scripted) = (at_terminal(100, 100), source(100, 100));
        let rows: [(&str, Source, Guesser); 11] = [
            ("background jobs of the terminal", typing, |n| source(100, 200 + n % 40)),
            ("older sessions", typing, |n| source(n % 90, n % 90)),
            ("newer sessions", typing, |n| source(200 + n, 200 + n)),
            ("newer terminals", typing, |n| at_terminal(200 + n, 200 + n)),
            ("one older terminal", typing, |_| at_terminal(50, 50)),
            ("newer sessions, without a terminal", scripted, |n| source(200 + n, 200 + n)),
            ("one older session, without a terminal", scripted, |n| source(50, 50 + n % 40)),
            ("the same session, without a terminal", scripted, |n| source(100, 200 + n % 40)),
            ("a parent for each guess", scripted, |n| source(100, 200 + n)),
            ("a process for each guess of an older parent", scripted, |n| Source {
                process: origin(200 + n),
                ..source(100, 50)
            }),
            ("the same parent, without a terminal", scripted, |n| Source {
                process: origin(200 + n % 40),
                ..source(100, 100)
            }),
        ];
        for (name, user, guesser) in rows {
            for typos in 0..=TYPOS {
                let (clock, queue) = new_queue();
                for n in 0..120 {
                    wrong(&queue, guesser(n)).await;
                }
                for _ in 0..typos {
                    wrong(&queue, user).await;
                }
                let before = clock.monotonic();
                let sources = (0..100).map(guesser).chain([user]).chain((100..200).map(guesser));
                let order = order(queue, sources).await;
                assert_eq!(order[0], 100, "{name}, {typos} typos: {order:?}");
                assert!(order.len() <= MAX_WAITING + 1, "{name}: {order:?}");
                assert!(clock.monotonic() - before <= INTERVAL * 2, "{name}, {typos} typos");
            }
        }
    }

    #[tokio::test]
    async fn wrong_passphrases_are_forgotten_once_made_up_for() {
        let (clock, queue) = new_queue();
        let (older, newer) = (source(100, 100), source(200, 200));
        for _ in 0..=TYPOS {
            wrong(&queue, older).await;
        }
        clock.sleep(INTERVAL * (TYPOS + 2)).await;
        wrong(&queue, newer).await;
        assert_eq!(order(queue, [newer, older]).await, [1, 0]);
    }

    #[test]
    fn child_has_the_session_of_its_parent() {
        let own = Source::of(std::process::id());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("spawned");
        let source = Source::of(child.id());
        child.kill().and_then(|()| child.wait()).expect("ended");
        assert_eq!(source.session, own.session);
        if cfg!(target_os = "linux") {
            assert_eq!(source.parent.pid, std::process::id());
            assert!(own.session.started > 0 && source.parent.started >= own.parent.started);
        }
    }

    #[tokio::test]
    async fn wrong_passphrases_are_checked_once_a_second_after_a_few() {
        type Guesser = fn(u32) -> Source;
        // One a second at terminals, and one elsewhere.
        let rows: [(&str, Guesser, u64); 4] = [
            ("one process", |_| source(1, 1), 89),
            ("a session for each", |n| source(n, n), 89),
            ("a terminal for each", |n| at_terminal(n, n), 89),
            ("both", |n| if n % 2 == 0 { source(n, n) } else { at_terminal(n, n) }, 39),
        ];
        for (name, guesser, seconds) in rows {
            let (clock, queue) = new_queue();
            let start = clock.monotonic();
            for n in 0..100 {
                wrong(&queue, guesser(n)).await;
            }
            let passed = (clock.monotonic() - start).as_secs();
            assert!((seconds..=seconds + 2).contains(&passed), "{name}: {passed} s");
        }
    }

    #[tokio::test]
    async fn newest_attempt_does_not_wait_for_those_that_came_before() {
        let order = order(new_queue().1, std::iter::repeat_n(source(1, 1), 10)).await;
        assert_eq!(order, [9, 0, 8, 1, 7, 2, 6, 3, 5, 4]);
    }

    #[tokio::test]
    async fn number_of_waiting_attempts_is_limited() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let queue = PassphraseQueue::new(&clock);
        let source = source(1, 1);
        let first = queue.next(source).await.expect("a turn");
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(queue.next(source))).collect();
        for one in &mut waiting {
            assert!(tokio::time::timeout(Duration::ZERO, one).await.is_err());
        }
        assert!(queue.next(source).await.is_none());
        drop(waiting);
        let mut next = Box::pin(queue.next(source));
        assert!(tokio::time::timeout(Duration::ZERO, &mut next).await.is_err(), "processes that have gone do not wait");
        drop(first);
        assert!(next.await.is_some(), "those that have gone are forgotten");
    }
}
