//! What a proxy reports: refused requests to stderr and to the agent's audit log, and another sign-in that an API wants to
//! stderr and to clients that listen to the agent's events.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;
use tokio::sync::Notify;

use crate::agent::protocol::{ProxyReport, ProxyReported};
use crate::app::App;
use crate::error::Error;
use crate::model::{ProfileName, RuleName};
use crate::proxy::{ProxyEvent, RequestOutcome};
use crate::secret::SecretBytes;
use crate::text::excerpt;

/// How long the same command to log in is not printed again.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// How long reports are collected before the agent gets them: however many requests are refused, it gets few.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the last reports may take when the proxy stops.
const LAST_LIMIT: Duration = Duration::from_secs(2);

/// The longest text of a refused request, in characters.
const MAX_REQUEST: usize = 500;

/// The longest method that is logged, in characters.
const MAX_METHOD: usize = 40;

/// The reports that the agent has not got.
pub(super) struct Reports {
    profile: ProfileName,
    /// Refused requests by rule: how many, and the last one. A caller cannot make this longer than there are rules.
    refused: Mutex<BTreeMap<&'static str, (RuleName, NonZeroU32, String)>>,
    /// What the user has to do.
    sign_in: Mutex<Option<String>>,
    /// What was last printed, and when.
    printed: Mutex<Option<(String, Instant)>>,
    changed: Notify,
}

/// Returns the method and the path as a log shows them, each shortened: a caller chooses them.
pub(super) fn shown(method: &Method, path: &str) -> String {
    format!("{} {}", excerpt(method.as_str(), MAX_METHOD), excerpt(path, MAX_REQUEST))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reports {
    /// Returns no reports of a proxy for this profile.
    pub(super) fn new(profile: ProfileName) -> Self {
        let (refused, sign_in, printed) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { profile, refused, sign_in, printed, changed: Notify::new() }
    }

    /// Records a refused request, with its path but without its query, which may contain secrets.
    pub(super) fn take(&self, event: &ProxyEvent<'_>) {
        let RequestOutcome::Refused(rule) = event.outcome else { return };
        let mut refused = lock(&self.refused);
        let request = excerpt(&shown(event.method, event.path), MAX_REQUEST);
        let count = refused.get(rule.as_str()).map_or(NonZeroU32::MIN, |(_, count, _)| count.saturating_add(1));
        refused.insert(rule.as_str(), (rule, count, request));
        self.changed.notify_one();
    }

    /// Takes the error that the API wants another sign-in, and prints it unless it was just printed.
    pub(super) fn sign_in_required(&self, app: &App, error: &Error) {
        let now = app.clock().monotonic();
        let hint = app.next_command(error.hint.clone());
        let text = if hint.is_empty() { error.message() } else { format!("{}: {hint}", error.message()) };
        let mut printed = lock(&self.printed);
        let is_new = |(last, at): &(String, Instant)| *last != text || now.duration_since(*at) >= REPEAT_AFTER;
        if printed.as_ref().is_none_or(is_new) {
            app.ui().notice(&format!("{} {text}", app.clock().now()));
            *lock(&self.sign_in) = Some(text.clone());
            *printed = Some((text, now));
            self.changed.notify_one();
        }
    }

    /// Stores a report for the next time, beside what has come since.
    fn store(&self, reported: ProxyReported) {
        match reported {
            ProxyReported::Refused { rule, count, request } => {
                let mut refused = lock(&self.refused);
                let newer = refused.remove(rule.as_str());
                let (count, request) =
                    newer.map_or((count, request), |(_, newer, request)| (count.saturating_add(newer.get()), request));
                refused.insert(rule.as_str(), (rule, count, request));
            }
            ProxyReported::SignInRequired { message } => {
                lock(&self.sign_in).get_or_insert(message);
            }
        }
    }

    /// Gives the agent the reports as they come. Does not end.
    pub(super) async fn deliver(&self, app: &App) {
        loop {
            self.changed.notified().await;
            self.deliver_present(app).await;
            app.clock().sleep(PAUSE).await;
        }
    }

    /// Gives the agent the last reports.
    pub(super) async fn deliver_last(&self, app: &App) {
        tokio::select! {
            () = self.deliver_present(app) => {}
            () = app.clock().sleep(LAST_LIMIT) => {}
        }
    }

    async fn deliver_present(&self, app: &App) {
        let refused = std::mem::take(&mut *lock(&self.refused)).into_values();
        let refused = refused.map(|(rule, count, request)| ProxyReported::Refused { rule, count, request });
        let sign_in = lock(&self.sign_in).take().map(|message| ProxyReported::SignInRequired { message });
        for reported in refused.chain(sign_in) {
            let report = ProxyReport { profile: Some(self.profile.clone()), reported };
            let mut body = SecretBytes::default();
            // Without an agent, what was printed is all there is.
            if serde_json::to_writer(&mut body, &report).is_ok() {
                let sent = app.try_agent_async::<serde::de::IgnoredAny>("POST", "/v1/proxy".to_owned(), Some(body));
                if let Err(error) = sent.await {
                    tracing::info!("not in the audit log of the agent: {}", error.message());
                    self.store(report.reported);
                }
            }
        }
    }
}
