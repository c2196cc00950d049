//! What a request that failed on its way says: which step it was, and whose fault.

use std::time::Duration;

use super::connect::{Late, Limits, Step};
use super::error::{IssuerError, Phase, Reached};
use crate::ui::sanitize_for_terminal;

/// Where a request goes, in words for an error.
#[derive(Clone, Copy)]
pub(super) struct Destination<'a> {
    /// The host and, where it is not the scheme's own, the port.
    pub(super) host: &'a str,
    /// The same of the proxy on the way.
    pub(super) proxy: Option<&'a str>,
    /// Whether the proxy is told a user name and password.
    pub(super) with_password: bool,
}

impl Destination<'_> {
    /// Sorts a failure to send. Only what failed before the connection stood is certain not to have arrived: then the
    /// step that was under way is the one that failed.
    pub(super) fn not_answered(&self, error: &reqwest::Error, step: Step, limits: &Limits) -> IssuerError {
        if error.is_builder() {
            return self.failed(Phase::Connect, Reached::No, root_cause(error));
        }
        if !error.is_connect() {
            let detail = if error.is_timeout() { nothing_within(limits.exchange) } else { root_cause(error) };
            return self.failed(Phase::Exchange, Reached::Maybe, detail);
        }
        let late = causes(error).find_map(|cause| cause.downcast_ref::<Late>());
        let detail = match late {
            Some(late) => late.to_string(),
            None if error.is_timeout() => nothing_within(limits.connection()),
            None => root_cause(error),
        };
        match late.map_or(step, |late| late.step) {
            Step::Dns { of_proxy: true } => self.failed(Phase::Dns, Reached::No, detail),
            Step::Dns { of_proxy: false } => Self { proxy: None, ..*self }.failed(Phase::Dns, Reached::No, detail),
            Step::Tls => self.failed(Phase::Tls, Reached::No, detail),
            Step::Tcp { .. } | Step::Answer => match self.refusal(error).filter(|_| self.proxy.is_some()) {
                Some(refusal) => self.failed(Phase::Proxy, Reached::No, refusal),
                None => self.failed(Phase::Connect, Reached::No, detail),
            },
        }
    }

    /// An answer that broke off.
    pub(super) fn broken_off(&self, error: &reqwest::Error, limits: &Limits) -> IssuerError {
        let detail = match error.is_timeout() {
            true => format!("it was not whole within {} seconds", limits.exchange.as_secs_f32()),
            false => root_cause(error),
        };
        self.failed(Phase::Read, Reached::Maybe, detail)
    }

    /// A server that was connected and says nothing more.
    pub(super) fn late(&self, phase: Phase, limit: Duration) -> IssuerError {
        self.failed(phase, Reached::Maybe, nothing_within(limit))
    }

    /// Why a proxy that was reached gave no connection. The client's errors about it have no type that could be asked, only
    /// their words.
    fn refusal(self, error: &reqwest::Error) -> Option<String> {
        causes(error).find_map(|cause| {
            let words = cause.to_string();
            let said = words.strip_prefix("tunnel error: ").or_else(|| words.strip_prefix("SOCKS error: "))?;
            Some(match said {
                // It was not reached at all.
                "failed to create underlying connection" => return None,
                "proxy authorization required" => "it wants another user name and password: status 407".to_owned(),
                "credentials not accepted" => "it does not accept the user name and password".to_owned(),
                "server does not support user/pass authentication" | "server implements authentication incorrectly" => {
                    "it agrees to no way to log in; it may want a user name and password, or none".to_owned()
                }
                // Any status but 200 and 407: which one is not told.
                "unsuccessful" if self.with_password => {
                    "it refused, maybe the user name and password, or could not connect itself".to_owned()
                }
                "unsuccessful" => "it refused, or could not connect itself".to_owned(),
                "unexpected end of file" | "io error during SOCKS handshake" => "it hung up".to_owned(),
                other => sanitize_for_terminal(other, 200),
            })
        })
    }

    fn failed(&self, phase: Phase, reached: Reached, detail: String) -> IssuerError {
        let proxy = self.proxy.map(|proxy| sanitize_for_terminal(proxy, 200));
        IssuerError::Unreachable { host: self.host.to_owned(), proxy, phase, reached, detail }
    }
}

fn nothing_within(limit: Duration) -> String {
    format!("nothing within {} seconds", limit.as_secs_f32())
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |e| e.source())
}

/// The innermost cause, without the address, which the error names already.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    causes(error).last().map(|cause| sanitize_for_terminal(&cause.to_string(), 200)).unwrap_or_default()
}
