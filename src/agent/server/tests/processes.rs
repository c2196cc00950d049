//! Processes that run one step at a time, each on a runtime of its own. Ending one where it is between two steps is what a
//! kill does: the operating system releases its locks, and nothing else of it runs.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::clock::{Clock, Sleep, UnixTime};
use crate::fs::testing::pause_operations;
use crate::oauth::testing::{SimulatedIssuer, simulate_issuer};

/// The time, which only a slow issuer moves on.
pub(super) const NOW: UnixTime = UnixTime(1_700_000_000);

/// A longer wait is a limit, which is not reached; a shorter one is followed by another attempt.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What happens to a request whose sender waits for the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Delivery {
    /// The response arrives.
    Arrives,
    /// The connection ends at once, after the issuer has acted on the request.
    Lost,
    /// The same, too late for another request.
    LostLate,
}

/// Where a process waits for its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wait {
    /// For an operation on a file or the store, or to send a request.
    Operation,
    /// Before it tries again.
    Again,
    /// For a response.
    Response,
}

struct Waiting {
    wait: Wait,
    may_run: Arc<AtomicBool>,
    waker: Waker,
}

/// What the operations of a process share with what runs it.
pub(super) struct Steps {
    state: Mutex<StepState>,
    start: Instant,
}

#[derive(Default)]
struct StepState {
    waiting: VecDeque<Waiting>,
    /// Whether an operation that others notice may still run in this step.
    may_touch: bool,
    /// What the process has learned, in this step and in all.
    learned: u64,
    so_far: u64,
    /// How its last step ended, and what it learned in it.
    last: Option<(Wait, u64)>,
    late: Duration,
    delivery: Option<Delivery>,
}

pub(super) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Steps {
    fn state(&self) -> MutexGuard<'_, StepState> {
        self.state.lock().expect("unpoisoned")
    }

    /// Ends the step before the next operation: others notice what was done, or it has `learned` what others do.
    pub(super) fn touch(&self, learned: impl Hash) {
        let mut state = self.state();
        state.may_touch = false;
        state.learned = hash((state.learned, learned));
    }

    /// Records what the process has learned and no other notices or changes: the step goes on.
    pub(super) fn learn(&self, learned: impl Hash) {
        let mut state = self.state();
        state.learned = hash((state.learned, learned));
    }

    /// Waits for the step in which the operation runs.
    pub(super) fn pause(self: &Arc<Self>, wait: Wait) -> Sleep {
        Box::pin(Pause { steps: Arc::clone(self), wait, may_run: Arc::default(), is_waiting: false })
    }

    /// Returns what happens to the request whose response was waited for.
    pub(super) fn delivery(&self) -> Delivery {
        self.state().delivery.take().unwrap_or(Delivery::Arrives)
    }
}

struct Pause {
    steps: Arc<Steps>,
    wait: Wait,
    may_run: Arc<AtomicBool>,
    is_waiting: bool,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.steps.state();
        // An operation without an observer belongs to the step of the next one that has one.
        let is_unnoticed = self.wait == Wait::Operation && state.may_touch;
        if self.may_run.load(Ordering::Relaxed) || (!self.is_waiting && is_unnoticed) {
            return Poll::Ready(());
        }
        let (waker, may_run) = (context.waker().clone(), Arc::clone(&self.may_run));
        match state.waiting.iter_mut().find(|waiting| Arc::ptr_eq(&waiting.may_run, &may_run)) {
            Some(waiting) => waiting.waker = waker,
            None => state.waiting.push_back(Waiting { wait: self.wait, may_run, waker }),
        }
        drop(state);
        self.is_waiting = true;
        Poll::Pending
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.steps.state().waiting.retain(|waiting| !Arc::ptr_eq(&waiting.may_run, &self.may_run));
    }
}

/// The clock of a process.
struct StepClock(Arc<Steps>);

impl Clock for StepClock {
    fn now(&self) -> UnixTime {
        NOW
    }

    fn monotonic(&self) -> Instant {
        self.0.start + self.0.state().late
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        if duration > MAX_PAUSE { Box::pin(std::future::pending()) } else { self.0.pause(Wait::Again) }
    }

    fn until(&self, _: UnixTime) -> Sleep {
        Box::pin(std::future::pending())
    }
}

/// A process.
pub(super) struct Process<T> {
    /// `None` if the process has ended.
    runtime: Option<Runtime>,
    issuer: SimulatedIssuer,
    result: Arc<Mutex<Option<T>>>,
    steps: Arc<Steps>,
}

impl<T: Send + 'static> Process<T> {
    /// Starts a process up to its first operation. `main` gets its clock and steps; `issuer` responds to its requests.
    pub(super) fn start<F: Future<Output = T> + Send + 'static>(
        start: Instant,
        issuer: impl FnOnce(Arc<Steps>) -> SimulatedIssuer,
        main: impl FnOnce(Arc<dyn Clock>, Arc<Steps>) -> F,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let steps = Arc::new(Steps { state: Mutex::default(), start });
        let (result, main) = (Arc::default(), main(Arc::new(StepClock(Arc::clone(&steps))), Arc::clone(&steps)));
        let process = Self { runtime: Some(runtime), issuer: issuer(Arc::clone(&steps)), result, steps };
        let result = Arc::clone(&process.result);
        process.run(|runtime| {
            runtime.spawn(async move {
                let ended = main.await;
                *result.lock().expect("unpoisoned") = Some(ended);
            });
        });
        process
    }

    /// Runs `start`, and then the process until it waits for its next step, or ends.
    fn run(&self, start: impl FnOnce(&Runtime)) {
        let Some(runtime) = &self.runtime else { return };
        let steps = Arc::clone(&self.steps);
        pause_operations(Some(Arc::new(move || steps.pause(Wait::Operation))));
        simulate_issuer(Some(Arc::clone(&self.issuer)));
        start(runtime);
        // Each time, all tasks that can run do so.
        runtime.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
        pause_operations(None);
        simulate_issuer(None);
    }

    /// Returns where the process waits; `None` if it has ended.
    pub(super) fn wait(&self) -> Option<Wait> {
        self.runtime.as_ref()?;
        self.steps.state().waiting.front().map(|waiting| waiting.wait)
    }

    /// Runs the next step; returns the result if that was the last. A response is delivered as `delivery` specifies.
    pub(super) fn step(&mut self, delivery: Delivery) -> Option<T> {
        {
            let mut state = self.steps.state();
            let Some(next) = state.waiting.pop_front() else { panic!("the process does not wait") };
            (state.may_touch, state.learned) = (true, hash(delivery));
            state.delivery = Some(delivery);
            if delivery == Delivery::LostLate {
                state.late += Duration::from_secs(60);
            }
            next.may_run.store(true, Ordering::Relaxed);
            next.waker.wake();
        }
        self.run(|_| {});
        let result = self.result.lock().expect("unpoisoned").take();
        if result.is_some() {
            self.kill();
        }
        let mut state = self.steps.state();
        let ended = state.waiting.front().map(|waiting| (waiting.wait, state.learned));
        // One that has tried again in vain is where it was.
        if ended != state.last || ended.is_none_or(|(wait, _)| wait != Wait::Again) {
            state.so_far = hash((state.so_far, state.learned));
        }
        state.last = ended;
        result
    }

    /// Ends the process as it is.
    pub(super) fn kill(&mut self) {
        self.runtime = None;
    }

    /// Returns what distinguishes the process from another: it depends on nothing but what it has learned.
    pub(super) fn fingerprint(&self) -> u64 {
        let state = self.steps.state();
        let waits: Vec<Wait> = state.waiting.iter().map(|waiting| waiting.wait).collect();
        if self.runtime.is_none() { 0 } else { hash((state.so_far, waits)) }
    }
}
