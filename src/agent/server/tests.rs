//! Tests of the agent's waits, with a clock that does not wait.

mod processes;
mod refresh_model;

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::*;
use crate::agent::protocol::listen;
use crate::model::{Profile, RefreshFailure, TokenTarget};
use crate::oauth::testing::TestClock;
use crate::paths::ConfigFiles;
use crate::session::tests::expired_session;
use crate::session::{LoginReason, ServedToken, SessionError, TokenRequest};

/// How long a test may take if nothing waits.
const AT_ONCE: Duration = Duration::from_secs(20);

/// Returns the parts of an agent for one profile, whose session has expired and whose store fails while it `is_broken`.
fn parts(dir: &Path, is_broken: bool) -> (Parts, Arc<TestClock>, Profile) {
    let (sessions, clock, profile, _) = expired_session(dir, is_broken);
    let config = ConfigFiles { user: dir.join("config.toml"), machine_wide: Vec::new() };
    crate::config::save(&config, &profile).expect("saved");
    let confinement = Confinement::default();
    let home_id = String::new();
    (Parts { sessions, config, home_id, confinement, notify: false, asks_for_login: false }, clock, profile)
}

fn agent(parts: Parts, dir: &Path) -> Arc<Agent> {
    Agent::new(parts.sessions, parts.config, parts.home_id, dir.join("agent.sock"), false, parts.confinement)
        .expect("valid")
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
async fn configuration_that_does_not_respond_is_waited_for_two_minutes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (parts, clock, profile) = parts(dir.path(), false);
    let agent = agent(parts, dir.path());
    // As while it is being read.
    let _reading = agent.reloading.lock().await;
    let unknown = "unknown".parse().expect("a name");
    let error = timeout(AT_ONCE, agent.choose_profile(Some(&unknown))).await.expect("an end").expect_err("not read");
    assert_eq!((error.code, &clock.waits()[..]), (ErrorCode::Configuration, &[120][..]));
    assert!(error.message().contains("config.toml did not respond within 120 s"), "{}", error.message());
    timeout(AT_ONCE, agent.choose_profile(Some(&profile.name))).await.expect("an end").expect("known");
    let response = timeout(AT_ONCE, agent.forget_request(profile.name, true)).await.expect("an end");
    assert!(response.status().is_success(), "{}", response.status());
}

#[tokio::test]
async fn removed_configuration_takes_effect_though_the_caller_gives_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let (parts, _, profile) = parts(dir.path(), false);
    let agent = agent(parts, dir.path());
    std::fs::remove_file(dir.path().join("config.toml")).expect("removed");
    // With this clock, the caller does not wait for a thread.
    let _ = timeout(AT_ONCE, agent.reread_configuration()).await.expect("an end");
    let is_known = || agent.profiles.choose(Some(&profile.name)).is_ok();
    timeout(AT_ONCE, async {
        while is_known() {
            tokio::task::yield_now().await
        }
    })
    .await
    .expect("no profile");
}

#[tokio::test]
async fn store_that_does_not_respond_is_waited_for_two_minutes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (parts, clock, _) = parts(dir.path(), false);
    let agent = agent(parts, dir.path());
    let peer = peer::Peer { pid: 1, uid: 0, identity: Arc::default() };
    // As if as many requests as may read the stores at a time wait for one.
    let mut reading = Vec::new();
    while let Ok(permit) = timeout(Duration::from_millis(100), crate::fs::file_permit("@status")).await {
        reading.push(permit);
    }
    let nothing = crate::secret::SecretBytes::default();
    let response = handlers::respond(&agent, &peer, route::AgentRequest::Status, &nothing, None);
    let response = timeout(AT_ONCE, response).await.expect("an end");
    assert_eq!((response.status().as_u16(), &clock.waits()[..]), (503, &[120][..]));
}

#[tokio::test]
async fn stopping_agent_gives_up_on_a_store_after_100_seconds() {
    let dir = tempfile::tempdir().expect("a directory");
    let (parts, clock, _) = parts(dir.path(), true);
    let listening = listen(&dir.path().join("agent.sock"), None).expect("free");
    let mut unsaved = parts.sessions.unsaved();
    let stopped_at = std::cell::OnceCell::new();
    let stop = async {
        let _ = unsaved.wait_for(|unsaved| !unsaved.is_empty()).await;
        let _ = stopped_at.set(clock.waits().len());
    };
    let serving = pin!(serve(parts, listening, || {}, stop, || {}));
    let error = timeout(AT_ONCE, serving).await.expect("it ends").expect_err("not stored");
    // The waits of others move the clock too: as in a process that is stopped, 20 of the limit's steps, of a second, do not count.
    let waits = clock.waits().split_off(*stopped_at.get().expect("stopped"));
    let not_counted: u64 = waits.iter().filter(|wait| **wait > 1).take(20).map(|wait| wait + 1).sum();
    let counted = waits.iter().sum::<u64>() - not_counted;
    assert_eq!(error.code, ErrorCode::StoreLocked);
    assert!(error.message().contains("the session is lost"), "{}", error.message());
    assert!((100..=120).contains(&counted), "{counted}: {waits:?}");
}

#[tokio::test]
async fn token_of_an_ending_session_is_served_without_a_failure() {
    let dir = tempfile::tempdir().expect("a directory");
    let (parts, _, profile) = parts(dir.path(), false);
    let agent = agent(parts, dir.path());
    let (target, mut events) = (TokenTarget::default(), agent.events.subscribe());
    let session = agent.sessions.session(&profile).await.expect("stored");
    let finish = |warning| {
        let served = ServedToken { session: session.clone(), refreshed: false, warning: Some(warning) };
        agent.finish_refresh(&profile, &target, agent.cache.epoch(&profile.name), Ok(served))
    };
    finish(SessionError::LoginRequired(LoginReason::NoRefreshToken)).expect("served");
    assert!(agent.cache.get(&profile.name, &target).1.is_none(), "no failure is recorded");
    assert!(events.try_recv().is_err(), "and none is published");
    let error = finish(SessionError::Interrupted).expect_err("the refresh failed");
    assert_ne!(error.code, ErrorCode::LoginRequired);
    assert!(agent.cache.get(&profile.name, &target).1.is_some());
    assert_eq!(events.try_recv().expect("an event").kind, events::EventKind::RefreshFailed);
}

/// Where the end of a session cannot be stored, its refresh token is not sent with each request. That of a refused session stays
/// stored.
#[tokio::test]
async fn refresh_token_of_an_ended_session_is_not_sent_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (parts, _, profile) = parts(dir.path(), false);
    let agent = agent(parts, dir.path());
    let (at, target) = (agent.now(), TokenTarget::default());
    let (code, message) = (ErrorCode::IssuerRefused, "refused".to_owned());
    let failure = RefreshFailure { at, failures: 1, refusals: 1, other_target: false, code, message, retry_at: None };
    for (reason, is_put_off) in [(LoginReason::Ended(failure.clone()), true), (LoginReason::Refused(failure), false)] {
        let ended = Err(SessionError::LoginRequired(reason));
        let epoch = agent.cache.epoch(&profile.name);
        agent.finish_refresh(&profile, &target, epoch, ended).expect_err("no token");
        let recorded = agent.cache.get(&profile.name, &target).1.expect("recorded");
        assert_eq!(recorded.failure.retry_at.is_some_and(|until| until > at), is_put_off);
    }
}
