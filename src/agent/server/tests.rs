//! Tests of the agent's waits, with a clock that does not wait.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::*;
use crate::agent::protocol::listen;
use crate::clock::Clock as _;
use crate::model::{Profile, TokenTarget};
use crate::oauth::testing::TestClock;
use crate::session::TokenRequest;
use crate::session::tests::expired_session;

/// How long a test may take if nothing waits.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Returns the parts of an agent for one profile, whose session has expired and whose store fails while it `is_broken`.
fn parts(dir: &Path, is_broken: bool) -> (Parts, Arc<TestClock>, Profile) {
    let (sessions, clock, profile, _) = expired_session(dir, is_broken);
    let config_file = dir.join("config.toml");
    crate::config::save(&config_file, &profile).expect("saved");
    (Parts { sessions, config_file, home_id: String::new(), notify: false }, clock, profile)
}

fn agent(parts: Parts, dir: &Path) -> Arc<Agent> {
    Agent::new(parts.sessions, &parts.config_file, parts.home_id, dir.join("agent.sock")).expect("valid")
}

#[tokio::test]
async fn listener_gets_a_comment_every_fifteen_seconds() {
    let dir = tempfile::tempdir().expect("a directory");
    let (parts, clock, _) = parts(dir.path(), false);
    let agent = agent(parts, dir.path());
    let Ok(response) = agent.events_request() else { panic!("refused") };
    let mut body = response.into_body();
    for piece in [": subscribed\n\n", ": alive\n\n", ": alive\n\n"] {
        let frame = timeout(AT_ONCE, body.frame()).await.expect("in time").expect("open").expect("infallible");
        assert_eq!(frame.into_data().expect("data"), piece);
    }
    assert_eq!(clock.waits()[..2], [15, 15]);
}

#[tokio::test]
async fn caller_waits_for_a_refresh_for_two_minutes_at_most() {
    for (wait, seconds) in [(None, 120), (Some(1000), 120), (Some(121), 120), (Some(7), 7)] {
        let dir = tempfile::tempdir().expect("a directory");
        let (parts, clock, profile) = parts(dir.path(), false);
        let agent = agent(parts, dir.path());
        let request = TokenRequest::access(TokenTarget::default(), None);
        let token = agent.shared_token(Arc::new(profile), request, wait.map(Duration::from_secs));
        let error = timeout(AT_ONCE, token).await.expect("in time").err().expect("no token so far");
        assert_eq!((error.code, &clock.waits()[..1]), (ErrorCode::RefreshInProgress, &[seconds][..]), "{wait:?}");
    }
}

#[tokio::test]
async fn stopping_agent_gives_up_on_a_store_after_100_seconds() {
    let dir = tempfile::tempdir().expect("a directory");
    let (parts, clock, _) = parts(dir.path(), true);
    let listening = listen(&dir.path().join("agent.sock"), None).expect("free");
    let mut unsaved = parts.sessions.unsaved();
    let stopped_at = std::sync::Mutex::new(None);
    let stop = async {
        let _ = unsaved.wait_for(|unsaved| !unsaved.is_empty()).await;
        *stopped_at.lock().expect("unpoisoned") = Some(clock.monotonic());
    };
    let serving = pin!(serve(parts, listening, || {}, stop, || {}));
    let error = timeout(AT_ONCE, serving).await.expect("it ends").expect_err("not stored");
    assert_eq!(error.code, ErrorCode::StoreLocked);
    assert!(error.message().contains("the session is lost"), "{}", error.message());
    let waited = clock.monotonic() - stopped_at.lock().expect("unpoisoned").expect("stopped");
    assert!(waited >= Duration::from_secs(100), "{waited:?}");
}
