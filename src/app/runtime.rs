//! Runs what waits: the runtime, the signals that end it, and the reports of a long wait.

use std::future::{Future, pending};
use std::time::Duration;

use super::signals::TERMINATION;
use super::{App, Signals};
use crate::clock::within;
use crate::error::{Error, ErrorCode, Hint};
use crate::process;
use crate::session::{LockWait, MAX_REFRESH, Settled, UNSAVED_LIMIT, UnsavedSession};
use crate::text::without_error_numbers;
use crate::ui;

/// How long to wait before a progress message.
pub(super) const PROGRESS_DELAY: Duration = Duration::from_secs(2);

/// How often a command looks whether it waits for a profile lock.
const LOCK_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The maximum number of threads for blocking calls: stores, name lookups and prompts.
const MAX_THREADS: usize = 512;

/// How long an idle thread of the agent stays. Threads are woken in turn: with tokio's default of ten seconds none would ever
/// exit, and the C library keeps memory for each.
const THREAD_KEEP_ALIVE: Duration = Duration::from_millis(200);

/// The same for a command, which ends soon: the thread that has prepared the store for a refreshed session still exists when the
/// issuer replies.
const COMMAND_THREAD_KEEP_ALIVE: Duration = Duration::from_secs(60);

impl App {
    /// Runs `work` on a single-threaded runtime. Ctrl-C, SIGTERM and SIGHUP end it after a refresh in flight; a second signal
    /// ends it at once.
    ///
    /// # Errors
    /// The error of `work`, or [`ErrorCode::Interrupted`].
    pub fn run<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.run_then(work, async |_| ())
    }

    /// Does the same, and calls `end` with the result, also after a signal. Another signal ends that.
    ///
    /// # Errors
    /// As [`App::run`].
    pub fn run_then<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
        end: impl AsyncFnOnce(&Result<T, Error>),
    ) -> Result<T, Error> {
        self.block_on(COMMAND_THREAD_KEEP_ALIVE, |mut signals| async move {
            let result = tokio::select! {
                result = work => result,
                never = self.report_lock_waits() => never,
                _ = signals.next() => {
                    ui::end_interrupted_line(self.ui().is_interactive());
                    Err(self.finish_refresh(&mut signals).await)
                }
            };
            signals.discard();
            tokio::select! {
                () = end(&result) => {}
                _ = signals.next() => {}
            }
            result
        })
    }

    /// Runs `work` on a single-threaded runtime, and leaves the handling of signals to it.
    ///
    /// # Errors
    /// The error of `work`.
    pub fn run_with_signals<T, F: Future<Output = Result<T, Error>>>(
        &self,
        work: impl FnOnce(Signals) -> F,
    ) -> Result<T, Error> {
        self.block_on(THREAD_KEEP_ALIVE, work)
    }

    fn block_on<T, F: Future<Output = Result<T, Error>>>(
        &self,
        thread_keep_alive: Duration,
        work: impl FnOnce(Signals) -> F,
    ) -> Result<T, Error> {
        let unexpected =
            |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::advice("close some programs and try again"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_THREADS)
            .thread_keep_alive(thread_keep_alive)
            .build()
            .map_err(unexpected)?;
        let result = runtime.block_on(async { work(Signals::listen(&TERMINATION).map_err(unexpected)?).await });
        for (path, reason) in self.sessions.get().into_iter().flat_map(|sessions| sessions.take_failed_token_files()) {
            let path = path.display();
            self.ui().warn(&format!("the token file {path} is not up to date: {reason}"));
        }
        for (name, reason) in self.sessions.get().into_iter().flat_map(|sessions| sessions.take_ignored_id_tokens()) {
            self.ui().warn(&format!("the refreshed ID token of `{name}` is ignored: {reason}"));
        }
        // An unanswered prompt blocks its thread; the process exits without it.
        runtime.shutdown_background();
        result
    }

    /// Waits for a refresh in flight, and returns the error that describes the interruption.
    async fn finish_refresh(&self, signals: &mut Signals) -> Error {
        let Some(sessions) = self.sessions.get() else { return Error::interrupted() };
        let settled = async {
            match sessions.settled().await {
                Settled::Idle => Error::interrupted(),
                Settled::Finished => Error::interrupted_after_change(),
                Settled::Failed => Error::interrupted_during_refresh(),
            }
        };
        tokio::pin!(settled);
        let error = tokio::select! {
            error = &mut settled => error,
            () = self.clock.sleep(Duration::from_millis(200)) => {
                signals.discard();
                self.ui().notice("Finishing the refresh; press Ctrl-C again to abort, which may lose the session");
                tokio::select! {
                    error = within(&*self.clock, MAX_REFRESH, settled) => {
                        error.unwrap_or_else(Error::interrupted_during_refresh)
                    }
                    _ = signals.next() => Error::interrupted_during_refresh(),
                }
            }
        };
        let unsaved = sessions.unsaved();
        match unsaved.borrow().iter().next() {
            Some((name, unsaved)) => {
                let lost = Error::from(unsaved.given_up()).about(name);
                Error::msg(ErrorCode::Interrupted, format!("interrupted; {}", lost.message()), lost.hint)
            }
            None => error,
        }
    }

    /// Reports each long wait for a profile lock, with the process that holds it: it may be suspended. Never returns.
    async fn report_lock_waits<T>(&self) -> T {
        let mut reported = None;
        loop {
            self.clock.sleep(LOCK_CHECK_INTERVAL).await;
            let wait = self.sessions.get().and_then(|sessions| sessions.long_lock_wait(PROGRESS_DELAY));
            match wait {
                Some(wait) if reported.as_ref() != Some(&wait.profile) => {
                    self.report_lock(&wait);
                    reported = Some(wait.profile);
                }
                _ => {}
            }
        }
    }

    /// Reports a wait for a profile lock.
    pub(super) fn report_lock(&self, LockWait { profile, holder }: &LockWait) {
        let holder = holder.map_or_else(|| "another process".to_owned(), process::describe);
        self.ui().notice(&format!("Waiting for {holder}, which holds the session of {profile}; press Ctrl-C to abort"));
    }

    /// Awaits `work`, and shows what is waited for if it takes long and the terminal is interactive. A store that does not
    /// take a refreshed session is always reported: the user may be able to unlock it.
    pub async fn with_progress<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let progress = async {
            self.clock.sleep(PROGRESS_DELAY).await;
            let waits_for_lock = self.sessions.get().is_some_and(|s| s.long_lock_wait(Duration::ZERO).is_some());
            if self.ui().is_interactive() && !waits_for_lock {
                self.ui().notice(&format!("Waiting for {what}; press Ctrl-C to abort"));
            }
        };
        let report_unsaved = async {
            let mut unsaved = self.sessions().ok()?.unsaved();
            let unsaved = unsaved.wait_for(|unsaved| !unsaved.is_empty()).await.ok()?;
            let (name, UnsavedSession { error, .. }) = unsaved.iter().next()?;
            let (limit, reason) = (UNSAVED_LIMIT.as_secs(), without_error_numbers(&error.to_string()));
            self.ui().instruct(&format!("Waiting up to {limit} s to store the refreshed session of {name}: {reason}"));
            Some(())
        };
        tokio::select! {
            done = work => done,
            never = async { tokio::join!(progress, report_unsaved); pending().await } => never,
        }
    }
}
