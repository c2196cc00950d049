//! The results of the checks of one token: the reasons for a denial and, for `--explain`, each check.

use serde::Serialize;
use serde_json::{Map, Value};

use super::reason::Reason;
use crate::text::excerpt;

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// The token passed it.
    Ok,
    /// It is a reason for a denial.
    Denied,
    /// The token passed it, but no trusted key has signed the token.
    Untrusted,
}

/// One check, in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What was checked: a stable word, and for a claim its name.
    pub check: &'static str,
    /// The result.
    pub outcome: CheckResult,
    /// What was expected and what was found, on one line.
    pub message: String,
    /// Whether the message is the claim in words: one text or several.
    #[serde(skip)]
    pub is_text: bool,
}

/// Collects the results of the checks of one token. Steps are only recorded if they are wanted.
#[derive(Debug, Default)]
pub struct Checks {
    /// The reasons for a denial so far.
    pub reasons: Vec<Reason>,
    /// Each check so far, if they are recorded.
    pub steps: Option<Vec<Step>>,
}

impl Checks {
    /// Creates an empty collection, which records steps if `record_steps`.
    #[must_use]
    pub fn new(record_steps: bool) -> Self {
        Self { reasons: Vec::new(), steps: record_steps.then(Vec::new) }
    }

    /// Adds a reason for a denial.
    pub fn deny(&mut self, check: &'static str, reason: Reason) {
        if let Some(steps) = &mut self.steps {
            steps.push(Step { check, outcome: CheckResult::Denied, message: reason.message.clone(), is_text: false });
        }
        self.reasons.push(reason);
    }

    /// Adds a check that the token passed. `message` is only called if steps are recorded.
    pub fn pass<S: AsRef<str>>(&mut self, check: &'static str, message: impl FnOnce() -> S) {
        if let Some(steps) = &mut self.steps {
            let message = excerpt(message().as_ref(), Reason::MAX_LENGTH);
            steps.push(Step { check, outcome: CheckResult::Ok, message, is_text: false });
        }
    }

    /// Returns the number of recorded steps.
    pub(super) fn recorded(&self) -> usize {
        self.steps.as_ref().map_or(0, Vec::len)
    }

    /// Marks the passed checks after the first `from` as untrusted; `shown` returns what was found in place of the message.
    pub(super) fn distrust(
        &mut self,
        from: usize,
        claims: &Map<String, Value>,
        shown: impl Fn(&Value) -> Option<String>,
    ) {
        let steps = self.steps.iter_mut().flatten().skip(from);
        for step in steps.filter(|step| step.outcome == CheckResult::Ok) {
            step.outcome = CheckResult::Untrusted;
            let claim = claims.get(step.check);
            step.is_text = match claim {
                Some(Value::String(_)) => true,
                Some(Value::Array(items)) => !items.is_empty(),
                _ => false,
            };
            if let Some(found) = claim.and_then(&shown) {
                step.message = found;
            }
        }
    }

    /// Returns the reasons in the order of their codes.
    #[must_use]
    pub fn into_reasons(mut self) -> Vec<Reason> {
        self.reasons.sort_by_key(|reason| reason.code);
        self.reasons
    }
}
