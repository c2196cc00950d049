//! The agent on a machine whose clock is set while it runs, and which is suspended.

use std::time::Duration;

use crate::agent_support::{KillOnDrop, agent, request_json, socket_of};
use crate::fake_clock::FakeClock;
use crate::support::process::wait_until;
use crate::support::{self, Sandbox};

#[test]
fn agent_refreshes_when_the_clock_is_set_forward_or_back() {
    let mut clock = FakeClock::new();
    let issuer = clock.issuer("1h");
    clock.log_in("work", &issuer);
    let _agent = agent(&clock.home, &[]);
    let first = token(&clock);
    assert_eq!(first, token(&clock));
    clock.set_wall_clock(2 * 3600);
    let second = token(&clock);
    assert_ne!(first, second, "two hours later");
    clock.home.run(&["verify", "work"]).exits(0);
    clock.set_wall_clock(-24 * 3600);
    assert_ne!(second, token(&clock), "set back by a day");
}

/// Requests the access token from the agent.
#[track_caller]
fn token(clock: &FakeClock) -> String {
    let (status, body) = request_json(&socket_of(&clock.home), "GET", "/v1/token/work", "");
    assert_eq!(status, 200, "{body}");
    body["access_token"].as_str().expect("a token").to_owned()
}

/// The flags in proc_pid_fdinfo(5) of a timer that is absolute and is cancelled when the clock is set.
const ABSOLUTE_AND_CANCELLED_ON_SET: &str = "settime flags: 03";
const WALL_CLOCK: &str = "clockid: 0";

const LIFETIME: Duration = Duration::from_secs(600);

/// Returns the seconds left of the process's wall-clock timer.
fn wall_clock_timer(process: &KillOnDrop) -> Option<u64> {
    let files = std::fs::read_dir(format!("/proc/{}/fdinfo", process.0.id())).ok()?;
    let timers = files.flatten().filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let mut timers = timers.filter(|info| info.contains(WALL_CLOCK) && info.contains(ABSOLUTE_AND_CANCELLED_ON_SET));
    timers.find_map(|info| info.split_once("it_value: (")?.1.split_once(',')?.0.parse().ok())
}

// A test can neither suspend the machine nor set its clock. The kernel guarantees (timerfd_create(2)) that such a timer
// fires after both.
#[test]
fn agent_waits_for_the_next_refresh_by_the_wall_clock() {
    let (home, issuer) = (Sandbox::new(), support::issuer(|options| options.access_token_ttl = LIFETIME));
    home.log_in("work", &issuer);
    let agent = agent(&home, &[]);
    let left = wait_until("a timer for the next refresh", || wall_clock_timer(&agent).filter(|left| *left > 0));
    assert!(left < LIFETIME.as_secs(), "{left}");
}
