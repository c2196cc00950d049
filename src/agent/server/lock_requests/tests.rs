//! Tests of locking and unlocking with a clock that moves only when the test moves it, and without the task that locks an idle
//! agent.

use super::*;
use crate::clock::{Clock, SystemClock, UnixTime};
use crate::model::{Session, TokenTarget};
use crate::oauth::testing::TestClock;
use crate::paths::ConfigFiles;
use crate::session::{LockDirectories, ServedToken, SessionService, Stores};
use crate::store::tests::session;
use crate::store::{FileStore, KeySource, Store};

/// Returns an unlocked agent with one profile, `work`, whose session is stored.
fn agent(clock: Arc<dyn Clock>) -> (tempfile::TempDir, Arc<Agent>) {
    let dir = tempfile::tempdir().expect("tempdir");
    let at = |name: &str| dir.path().join(name);
    let store: Arc<dyn Store> = Arc::new(FileStore::new(at("sessions"), KeySource::Default(at("key"))));
    store.write(&"work".parse().expect("valid"), &session("t")).expect("written");
    let stores = Stores { keychain: Arc::clone(&store), file: Arc::clone(&store), memory: store };
    let locks = LockDirectories { keychain: at("locks"), file: at("locks") };
    let sessions = SessionService::new(clock, stores, locks, at("revoked"));
    let profile = "[profiles.work]\nissuer = \"https://a.example\"\nclient_id = \"cli\"\nstore = \"file\"\n";
    std::fs::write(at("config.toml"), profile).expect("written");
    let config = ConfigFiles { user: at("config.toml"), machine_wide: Vec::new() };
    let agent = Agent::new(sessions, config, String::new(), at("socket"), false, Default::default()).expect("valid");
    (dir, agent)
}

fn passphrase(text: &str) -> Secret {
    Secret::new(text.into())
}

/// Lets this many seconds pass.
async fn pass(clock: &TestClock, seconds: u64) {
    clock.sleep(Duration::from_secs(seconds)).await;
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
    result.expect_err("refused").code
}

#[tokio::test]
async fn passphrase_has_a_length_from_1_to_1024_bytes() {
    let (_dir, agent) = agent(Arc::new(TestClock::new()));
    for text in [String::new(), "x".repeat(1025), "ä".repeat(513)] {
        assert_eq!(refused(agent.lock(1, passphrase(&text), None).await), ErrorCode::Usage);
        assert!(!agent.state().locked);
    }
    for (guesser, text) in [(2, "x".to_owned()), (3, "x".repeat(1024))] {
        agent.lock(1, passphrase(&text), None).await.expect("locked");
        assert!(agent.state().locked);
        let longer = agent.unlock(guesser, passphrase(&text.repeat(1025))).await.expect_err("another passphrase").0;
        assert_eq!(longer.code, ErrorCode::WrongPassphrase);
        agent.unlock(1, passphrase(&text)).await.expect("unlocked");
        assert!(!agent.state().locked);
    }
}

#[tokio::test]
async fn idle_agent_is_locked_before_its_timer_fires() {
    let clock = Arc::new(TestClock::new());
    let (_dir, agent) = agent(Arc::<TestClock>::clone(&clock));
    let mut events = agent.events.subscribe();
    agent.lock(1, passphrase("right"), Some(60)).await.expect("set");
    assert_eq!((agent.state().locked, agent.state().locks_after), (false, Some(60)));
    pass(&clock, 59).await;
    assert!(!agent.state().locked);
    pass(&clock, 1).await;
    // No caller may replace the passphrase of an agent that should be locked.
    assert_eq!(refused(agent.lock(1, passphrase("other"), Some(0)).await), ErrorCode::AgentLocked);
    assert_eq!(events.try_recv().expect("an event").kind, EventKind::Locked);
    assert!(agent.state().locked);
    assert_eq!(agent.unlock(1, passphrase("other")).await.expect_err("wrong").0.code, ErrorCode::WrongPassphrase);
    agent.unlock(2, passphrase("right")).await.expect("unlocked");
    assert_eq!(events.try_recv().expect("an event").kind, EventKind::Unlocked);
    pass(&clock, 59).await;
    assert!(!agent.state().locked, "unlocking counts as use");
    pass(&clock, 1).await;
    assert_eq!(agent.unlock(3, passphrase("other")).await.expect_err("locked").0.code, ErrorCode::WrongPassphrase);
    assert!(agent.state().locked);
}

#[tokio::test]
async fn timer_locks_the_agent_each_time_that_it_is_idle() {
    let (_dir, agent) = agent(Arc::new(TestClock::new()));
    let timer = tokio::spawn(lock_when_idle(Arc::clone(&agent)));
    // Until it waits for a change.
    tokio::task::yield_now().await;
    agent.lock(1, passphrase("right"), Some(60)).await.expect("set");
    for _ in 0..2 {
        let locked = async {
            while !agent.agent_lock.is_locked() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), locked).await.expect("locked");
        agent.unlock(1, passphrase("right")).await.expect("unlocked");
    }
    timer.abort();
}

#[tokio::test]
async fn idle_time_can_be_changed_and_turned_off() {
    let clock = Arc::new(TestClock::new());
    let (_dir, agent) = agent(Arc::<TestClock>::clone(&clock));
    agent.lock(1, passphrase("first"), Some(60)).await.expect("set");
    pass(&clock, 50).await;
    agent.lock(1, passphrase("second"), Some(60)).await.expect("set");
    pass(&clock, 50).await;
    assert!(!agent.state().locked, "setting it counts as use");
    agent.lock(1, passphrase("second"), Some(0)).await.expect("turned off");
    pass(&clock, 100).await;
    assert_eq!((agent.state().locked, agent.state().locks_after), (false, None));
    agent.lock(1, passphrase("third"), None).await.expect("locked");
    assert!(agent.state().locked);
    agent.unlock(1, passphrase("third")).await.expect("unlocked");
}

#[tokio::test]
async fn wrong_passphrases_of_a_process_are_delayed_until_the_right_one() {
    let clock = Arc::new(TestClock::new());
    let (_dir, agent) = agent(Arc::<TestClock>::clone(&clock));
    agent.lock(1, passphrase("right"), None).await.expect("locked");
    for delay in [250, 500, 1000, 2000, 4000, 8000, 8000] {
        let (wrong, delayed) = agent.unlock(1, passphrase("wrong")).await.expect_err("wrong");
        assert_eq!((wrong.code, delayed), (ErrorCode::WrongPassphrase, Some(Duration::from_millis(delay))));
        // A process that does not wait for the response gains nothing.
        let (early, delayed) = agent.unlock(1, passphrase("right")).await.expect_err("too early");
        assert_eq!((early.code, delayed), (ErrorCode::TooManyRequests, None));
        clock.sleep(Duration::from_millis(delay)).await;
    }
    agent.unlock(1, passphrase("right")).await.expect("unlocked");
    agent.lock(1, passphrase("right"), None).await.expect("locked");
    let (_, delayed) = agent.unlock(1, passphrase("wrong")).await.expect_err("wrong");
    assert_eq!(delayed, Some(Duration::from_millis(250)), "the right one ended the delays");
}

#[tokio::test]
async fn wrong_passphrases_of_many_processes_are_checked_once_a_second() {
    let clock = Arc::new(TestClock::new());
    let (_dir, agent) = agent(Arc::<TestClock>::clone(&clock));
    agent.lock(1, passphrase("right"), None).await.expect("locked");
    let start = clock.monotonic();
    for pid in 1..=30 {
        let (wrong, _) = agent.unlock(pid, passphrase("wrong")).await.expect_err("wrong");
        assert_eq!(wrong.code, ErrorCode::WrongPassphrase);
    }
    let passed = clock.monotonic() - start;
    assert!(passed >= Duration::from_secs(19), "all but the first ten wait: {passed:?}");
}

#[tokio::test]
async fn right_passphrase_of_an_earlier_lock_does_not_unlock_a_later_one() {
    let (_dir, agent) = agent(Arc::new(TestClock::new()));
    agent.lock(1, passphrase("first"), None).await.expect("locked");
    let hashing = agent.agent_lock.hashing.acquire().await.expect("free");
    let (late, right) = (Arc::clone(&agent), passphrase("first"));
    let unlocking = tokio::spawn(async move { late.unlock(2, right).await });
    while agent.agent_lock.inner().attempts.is_empty() {
        tokio::task::yield_now().await;
    }
    // What another process does in the meantime.
    let second = LockPassphrase::Chosen(PassphraseHash::of(&passphrase("second")).expect("hashed"));
    agent.agent_lock.inner().passphrase = Some(Arc::new(second));
    drop(hashing);
    let (error, _) = unlocking.await.expect("an end").expect_err("not unlocked");
    assert_eq!(error.code, ErrorCode::AgentLocked);
    assert!(agent.state().locked);
    agent.unlock(2, passphrase("second")).await.expect("unlocked");
}

#[tokio::test]
async fn passphrase_is_not_replaced_after_the_agent_has_locked_itself() {
    let (_dir, agent) = agent(Arc::new(TestClock::new()));
    agent.lock(1, passphrase("first"), Some(60)).await.expect("set");
    let hashing = agent.agent_lock.hashing.acquire().await.expect("free");
    let (late, other) = (Arc::clone(&agent), passphrase("other"));
    let locking = tokio::spawn(async move { late.lock(2, other, Some(0)).await });
    while agent.agent_lock.inner().attempts.is_empty() {
        tokio::task::yield_now().await;
    }
    pass_idle_time(&agent);
    drop(hashing);
    assert_eq!(refused(locking.await.expect("an end")), ErrorCode::AgentLocked);
    agent.unlock(1, passphrase("first")).await.expect("unlocked");
}

/// Lets the idle time pass, as seen from the last use.
fn pass_idle_time(agent: &Agent) {
    agent.agent_lock.inner().used_at = Some(UnixTime(0));
}

#[tokio::test]
async fn locked_agent_loads_no_session_and_drops_the_loaded_ones() {
    let (_dir, agent) = agent(Arc::new(SystemClock));
    let profile = agent.profiles.choose(None).expect("one profile");
    let loaded = agent.loaded(&profile).await.expect("stored");
    assert_eq!(agent.state().sessions, 1);
    agent.lock(1, passphrase("right"), None).await.expect("locked");
    assert_eq!(agent.state().sessions, 0);
    // By a refresh that began before.
    let refreshed = ServedToken { session: Session::clone(&loaded), refreshed: true, warning: None };
    let epoch = agent.cache.epoch(&profile.name);
    agent.finish_refresh(&profile, &TokenTarget::default(), epoch, Ok(refreshed)).expect("refreshed");
    assert_eq!(agent.state().sessions, 0);
    let refused = agent.loaded(&profile).await.expect_err("locked");
    assert_eq!((refused.code, agent.state().sessions), (ErrorCode::AgentLocked, 0));
    agent.unlock(1, passphrase("right")).await.expect("unlocked");
    agent.loaded(&profile).await.expect("stored");
}

#[tokio::test]
async fn unlocked_agent_loads_its_sessions_before_a_request() {
    let (_dir, agent) = agent(Arc::new(TestClock::new()));
    agent.lock(1, passphrase("right"), None).await.expect("locked");
    let background = tokio::spawn(crate::agent::server::background::refresh_sessions(Arc::clone(&agent)));
    // Until it waits for a change.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    agent.unlock(1, passphrase("right")).await.expect("unlocked");
    let loaded = async {
        while agent.state().sessions == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), loaded).await.expect("loaded");
    background.abort();
}
