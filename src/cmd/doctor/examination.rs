//! The findings of the checks: shown as they are made, without the home directory.

use std::future::Future;

use serde::Serialize;

use crate::app::App;
use crate::clock::Sleep;
use crate::cmd::output::{self, Style, StyledLine};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ProfileName;
use crate::paths::without_home;

/// The checks of the issuer, in the order in which a connection passes them.
pub(super) const ISSUER_CHECKS: [&str; 7] = ["proxy", "dns", "connection", "tls", "clock", "metadata", "keys"];

/// The status of a finding that was made before, and of one that it does not replace.
const WARNING_BEFORE: (CheckStatus, CheckStatus) = (CheckStatus::Warning, CheckStatus::Error);

/// The result of a check.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CheckStatus {
    /// Nothing is wrong.
    Ok,
    /// Commands work, but not as they could.
    Warning,
    /// Commands fail.
    Error,
    /// Not checked, because it does not apply or because an earlier check failed.
    Skipped,
}

impl CheckStatus {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Skipped => "skipped",
        }
    }
}

/// What a check found.
#[derive(Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    status: CheckStatus,
    /// The error code of a warning or an error.
    code: Option<ErrorCode>,
    message: String,
    /// The command that solves the problem, or advice if no command does. Empty if there is no problem.
    hint: String,
}

/// The output of `doctor --json`.
#[derive(Serialize)]
struct DoctorReport<'a> {
    profile: Option<&'a ProfileName>,
    checks: &'a [Finding],
}

/// The width of status and check before a message.
const INDENT: usize = 21;

/// The findings so far. Each is printed at once, unless the output is JSON.
pub(super) struct Examination<'a> {
    pub(super) app: &'a App,
    /// The profile that is checked, if it is known.
    pub(super) profile: Option<ProfileName>,
    findings: Vec<Finding>,
}

impl<'a> Examination<'a> {
    /// Creates an examination without findings.
    pub(super) fn new(app: &'a App) -> Self {
        Self { app, profile: None, findings: Vec::new() }
    }

    /// Returns the number of findings so far.
    pub(super) fn number(&self) -> usize {
        self.findings.len()
    }

    /// Returns whether there is a finding of this check.
    pub(super) fn has(&self, check: &str) -> bool {
        self.findings.iter().any(|finding| finding.check == check)
    }

    /// Prints the report if it is JSON, and returns the exit code: that of the first error.
    pub(super) fn finish(self) -> Result<u8, Error> {
        if self.app.common.json {
            output::json(&DoctorReport { profile: self.profile.as_ref(), checks: &self.findings })?;
        }
        Ok(self.errors().find_map(|finding| finding.code).map_or(0, ErrorCode::exit_code))
    }

    /// Returns the errors so far.
    pub(super) fn errors(&self) -> impl DoubleEndedIterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.status == CheckStatus::Error)
    }

    fn add(
        &mut self,
        check: &'static str,
        status: CheckStatus,
        code: Option<ErrorCode>,
        message: &str,
        hint: &Hint,
    ) -> Result<(), Error> {
        let text = without_home(&hint.to_string());
        let finding = Finding { check, status, code, message: without_home(message), hint: text };
        if !self.app.common.json {
            let style = match status {
                CheckStatus::Ok => Style::Good,
                CheckStatus::Skipped => Style::Bold,
                CheckStatus::Warning | CheckStatus::Error => Style::Bad,
            };
            let word = format!("{:<8}", status.word());
            let lines = output::wrapped(&format!("{word} {check:<11} {}", finding.message), INDENT);
            let (first, rest) = lines.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
            let first = first.strip_prefix(&word).unwrap_or(first);
            StyledLine::new(self.app).styled(style, &word).text(first).print()?;
            rest.iter().try_for_each(|line| output::line(line))?;
            // A command is copied as it is.
            match hint.is_command() {
                _ if finding.hint.is_empty() => {}
                true => output::line(&format!("{:INDENT$}{}", "", finding.hint))?,
                false => output::indented(&finding.hint, INDENT).iter().try_for_each(|line| output::line(line))?,
            }
        }
        self.findings.push(finding);
        Ok(())
    }

    pub(super) fn ok(&mut self, check: &'static str, message: &str) -> Result<(), Error> {
        self.add(check, CheckStatus::Ok, None, message, &Hint::None)
    }

    pub(super) fn skip(&mut self, checks: &[&'static str], reason: &str) -> Result<(), Error> {
        checks.iter().try_for_each(|check| self.add(check, CheckStatus::Skipped, None, reason, &Hint::None))
    }

    /// Adds an error as a warning or an error. One that was shown before is not repeated.
    pub(super) fn problem(
        &mut self,
        check: &'static str,
        status: CheckStatus,
        error: impl Into<Error>,
    ) -> Result<(), Error> {
        let mut error: Error = error.into();
        if let Some(profile) = &self.profile {
            error = error.about(profile);
        }
        let (message, hint) = (error.message(), self.app.with_typed_options(error.hint.clone()));
        let shown = without_home(&message);
        // A warning of before does not replace an error: the exit code is that of the first error.
        let is_same = |known: &&Finding| {
            known.code == Some(error.code) && known.message == shown && (known.status, status) != WARNING_BEFORE
        };
        match self.findings.iter().find(is_same) {
            Some(known) => self.skip(&[check], &format!("see {}", known.check)),
            None => self.add(check, status, Some(error.code), &message, &hint),
        }
    }

    pub(super) fn warning(&mut self, check: &'static str, error: impl Into<Error>) -> Result<(), Error> {
        self.problem(check, CheckStatus::Warning, error)
    }

    pub(super) fn error(&mut self, check: &'static str, error: impl Into<Error>) -> Result<(), Error> {
        self.problem(check, CheckStatus::Error, error)
    }
}

/// Returns the result of `work`; `None` if the limit is reached first.
pub(super) async fn limited<T>(limit: &mut Sleep, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = limit => None,
    }
}
