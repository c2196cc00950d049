//! Signals that the program handles itself, and those that wait while another program is started.

use std::collections::VecDeque;
use std::future::pending;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal as Number, raise, sigaction};
use rustix::process::Signal;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use tokio::net::UnixStream;

/// The signals that request termination.
pub const TERMINATION: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// A signal that has arrived.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedSignal {
    /// Which one.
    pub signal: Signal,
    /// Whether a process has sent it, and not the system, as for the keys of a terminal.
    pub is_from_process: bool,
}

/// Listens for signals, without those that the caller has had ignored, as nohup(1) does: they stay ignored, also in the programs
/// that are started.
pub struct Signals {
    /// In the order in which they are returned if several have arrived.
    listened: Vec<Signal>,
    delivery: SignalDelivery<UnixStream, WithOrigin>,
    arrived: VecDeque<ReceivedSignal>,
}

impl Signals {
    /// Starts listening for these; from here on they no longer end or stop the program by themselves.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen(signals: &[Signal]) -> std::io::Result<Self> {
        let ignored = ignored();
        let listened = signals.iter().copied().filter(|signal| ignored & (1 << (signal.as_raw() - 1)) == 0);
        let listened: Vec<Signal> = listened.collect();
        let (read, write) = UnixStream::pair()?;
        let numbers = listened.iter().map(|signal| signal.as_raw());
        let delivery = SignalDelivery::with_pipe(read, write.into_std()?, WithOrigin::default(), numbers)?;
        Ok(Self { listened, delivery, arrived: VecDeque::new() })
    }

    /// Waits for any of them.
    pub async fn next(&mut self) -> ReceivedSignal {
        loop {
            self.receive();
            if let Some(first) = self.arrived.pop_front() {
                return first;
            }
            let wakes = self.delivery.get_read();
            if wakes.readable().await.is_err() {
                pending::<()>().await;
            }
            // `receive` has read past the runtime, which would report the same again.
            let _ = wakes.try_read(&mut [0; 64]);
        }
    }

    /// Forgets what has arrived, before the user knew what another signal does.
    pub fn discard(&mut self) {
        self.receive();
        self.arrived.clear();
    }

    /// Returns whether one of these has been received, without waiting.
    pub fn has_received(&mut self, signals: &[Signal]) -> bool {
        self.receive();
        self.arrived.iter().any(|received| signals.contains(&received.signal))
    }

    fn receive(&mut self) {
        let received = |origin: Origin| {
            let signal = Signal::from_named_raw(origin.signal)?;
            Some(ReceivedSignal { signal, is_from_process: matches!(origin.cause, Cause::Sent(_)) })
        };
        let mut batch: Vec<ReceivedSignal> = self.delivery.pending().filter_map(received).collect();
        batch.sort_by_key(|received| self.listened.iter().position(|signal| *signal == received.signal));
        self.arrived.extend(batch);
    }
}

/// Runs `start` while these signals wait. A program that it starts inherits that: they wait there too, until it calls
/// [`receive_blocked`].
pub fn with_blocked<T>(signals: &[Signal], start: impl FnOnce() -> T) -> T {
    let before = set_of(signals).thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let started = start();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    started
}

/// Stops this program as SIGTSTP does where nothing listens for it: a shell sees that signal, and the kernel stops no program that
/// no shell could continue (an orphaned process group).
#[allow(unsafe_code, reason = "the default action runs no code, and the action that is put back was in place before")]
pub fn stop_for_shell() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    if let Ok(listening) = unsafe { sigaction(Number::SIGTSTP, &default) } {
        let _ = raise(Number::SIGTSTP);
        let _ = unsafe { sigaction(Number::SIGTSTP, &listening) };
    }
}

/// Unblocks the signals that this program was started with blocked.
pub fn receive_blocked(signals: &[Signal]) {
    let _ = set_of(signals).thread_unblock();
}

fn set_of(signals: &[Signal]) -> SigSet {
    signals.iter().filter_map(|signal| Number::try_from(signal.as_raw()).ok()).collect()
}

/// Returns the mask of ignored signals; none where the system does not show it.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
