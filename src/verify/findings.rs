//! What was found about a token, check by check: the reasons for a denial, and for people the whole way to the verdict.

use std::fmt;

use serde::Serialize;

use super::reason::Reason;
use crate::ui::sanitize_for_terminal;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it must be.
    Ok,
    /// A reason for a denial.
    Denied,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
        })
    }
}

/// One check, in the order in which it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What was looked at: a stable word, a claim's name for the claims.
    pub check: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was expected and what was found, on one line.
    pub message: String,
}

/// Collects what is found. The way is only noted where somebody wants to read it.
#[derive(Debug, Default)]
pub struct Findings {
    /// The reasons for a denial so far.
    pub reasons: Vec<Reason>,
    /// The way, where it is wanted.
    pub steps: Option<Vec<Step>>,
}

impl Findings {
    /// Nothing found yet; `explained` where the way is to be noted.
    #[must_use]
    pub fn new(explained: bool) -> Self {
        Self { reasons: Vec::new(), steps: explained.then(Vec::new) }
    }

    /// Notes a reason for a denial.
    pub fn deny(&mut self, check: &'static str, reason: Reason) {
        if let Some(steps) = &mut self.steps {
            steps.push(Step { check, outcome: Outcome::Denied, message: reason.message.clone() });
        }
        self.reasons.push(reason);
    }

    /// Notes a check that ended well; `what` is only asked where the way is wanted.
    pub fn pass<S: AsRef<str>>(&mut self, check: &'static str, what: impl FnOnce() -> S) {
        if let Some(steps) = &mut self.steps {
            steps.push(Step {
                check,
                outcome: Outcome::Ok,
                message: sanitize_for_terminal(what().as_ref(), Reason::MAX_LENGTH),
            });
        }
    }

    /// The reasons, in the order of their codes.
    #[must_use]
    pub fn sorted(mut self) -> Vec<Reason> {
        self.reasons.sort_by_key(|reason| reason.code);
        self.reasons
    }
}
