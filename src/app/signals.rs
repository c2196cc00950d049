//! Signals that the program handles itself, and those that wait while another program is started.

use std::task::{Context, Poll, Waker};

use nix::sys::signal::{SigSet, SigmaskHow, Signal as Number};
use rustix::process::Signal;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// The signals that request termination.
pub const TERMINATION: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// Listens for signals, without those that the caller has had ignored, as nohup(1) does: they stay ignored, also in the programs
/// that are started.
pub struct Signals(Vec<(Signal, Listener)>);

impl Signals {
    /// Starts listening for these; from here on they no longer end or stop the program by themselves.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen(signals: &[Signal]) -> std::io::Result<Self> {
        let ignored = ignored();
        let heard = signals.iter().filter(|signal| ignored & (1 << (signal.as_raw() - 1)) == 0);
        heard.map(|of| Ok((*of, signal(SignalKind::from_raw(of.as_raw()))?))).collect::<std::io::Result<_>>().map(Self)
    }

    /// Waits for any of them; returns which.
    pub async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            let received = self
                .0
                .iter_mut()
                .find_map(|(signal, listener)| listener.poll_recv(context).is_ready().then_some(*signal));
            received.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Returns whether one of these has been received, without waiting.
    pub fn has_received(&mut self, signals: &[Signal]) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut these = self.0.iter_mut().filter(|(signal, _)| signals.contains(signal));
        these.any(|(_, listener)| listener.poll_recv(&mut context).is_ready())
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
