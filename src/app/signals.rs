//! The signals that request termination, which the program handles itself.

use std::future::pending;

use rustix::process::Signal;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// The signals that request termination, without those that the caller has had ignored, as nohup(1) does: they stay ignored, also
/// in the programs that are started.
pub struct Signals {
    interrupt: Option<Listener>,
    terminate: Option<Listener>,
    hangup: Option<Listener>,
}

impl Signals {
    /// Starts listening; from here on the signals no longer end the program by themselves.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen() -> std::io::Result<Self> {
        let ignored = ignored();
        let listen = |of: Signal, kind| match ignored & (1 << (of.as_raw() - 1)) {
            0 => signal(kind).map(Some),
            _ => Ok(None),
        };
        Ok(Self {
            interrupt: listen(Signal::INT, SignalKind::interrupt())?,
            terminate: listen(Signal::TERM, SignalKind::terminate())?,
            hangup: listen(Signal::HUP, SignalKind::hangup())?,
        })
    }

    /// Waits for any of them; returns which.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            () = received(&mut self.interrupt) => Signal::INT,
            () = received(&mut self.terminate) => Signal::TERM,
            () = received(&mut self.hangup) => Signal::HUP,
        }
    }
}

async fn received(listener: &mut Option<Listener>) {
    match listener {
        Some(listener) => drop(listener.recv().await),
        None => pending().await,
    }
}

/// Returns the mask of ignored signals; none where the system does not show it.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
