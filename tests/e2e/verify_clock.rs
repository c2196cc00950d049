//! `verify` on a machine whose clock is set, which is suspended and rebooted, with the issuer out of reach.

use crate::fake_clock::FakeClock;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Returns the codes of the reasons for which the profile's token is denied; none if it is granted.
#[track_caller]
fn denials(clock: &FakeClock, profile: &str) -> Vec<String> {
    let verdict = clock.run(&["verify", profile, "--json"]).json();
    let reasons = verdict["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut codes: Vec<String> =
        reasons.iter().map(|reason| reason["code"].as_str().expect("a code").to_owned()).collect();
    codes.dedup();
    assert_eq!(verdict["valid"], codes.is_empty(), "{verdict}");
    codes
}

#[test]
fn verify_denies_while_the_wall_clock_is_set_back() {
    let mut clock = FakeClock::new();
    let issuer = clock.issuer("2d");
    clock.log_in("work", &issuer);
    drop(issuer);
    assert_eq!(denials(&clock, "work"), [""; 0], "after the login");
    clock.set_wall_clock(DAY);
    assert_eq!(denials(&clock, "work"), [""; 0], "a day later");
    clock.set_wall_clock(-DAY);
    assert_eq!(denials(&clock, "work"), ["clock_rollback"], "set back by a day");
    clock.set_wall_clock(DAY);
    assert_eq!(denials(&clock, "work"), [""; 0], "set right again");
    clock.set_wall_clock(-120);
    assert_eq!(denials(&clock, "work"), [""; 0], "corrected by two minutes");
}

#[test]
fn verify_denies_expired_token_after_clock_is_set_back() {
    let mut clock = FakeClock::new();
    let issuer = clock.issuer("2d");
    clock.log_in("work", &issuer);
    clock.set_wall_clock(3 * DAY);
    assert_eq!(denials(&clock, "work"), ["expired"]);
    clock.set_wall_clock(-2 * DAY);
    assert_eq!(denials(&clock, "work"), ["clock_rollback"], "before the expiry again");
    clock.set_wall_clock(2 * DAY);
    clock.run(&["refresh", "work"]).exits(0);
    assert_eq!(denials(&clock, "work"), [""; 0], "after a refresh");
}

#[test]
fn verify_counts_suspended_time_as_passed() {
    let mut clock = FakeClock::new();
    let issuer = clock.issuer("2d");
    clock.log_in("work", &issuer);
    drop(issuer);
    clock.suspend(600);
    assert_eq!(denials(&clock, "work"), [""; 0], "suspended for ten minutes");
    clock.suspend(HOUR);
    clock.set_wall_clock(-HOUR);
    assert_eq!(denials(&clock, "work"), ["clock_rollback"], "suspended for an hour and set back by it");
}

#[test]
fn verify_compares_wall_clocks_after_a_reboot() {
    let mut clock = FakeClock::new();
    let issuer = clock.issuer("2d");
    clock.log_in("work", &issuer);
    drop(issuer);
    clock.set_wall_clock(60);
    clock.reboot();
    assert_eq!(denials(&clock, "work"), [""; 0], "a minute later");
    clock.set_wall_clock(-60 - HOUR);
    let codes = denials(&clock, "work");
    assert_eq!(codes, ["not_yet_valid", "clock_rollback", "keys_stale"], "an hour before the login");
    clock.set_wall_clock(2 * HOUR);
    assert_eq!(denials(&clock, "work"), [""; 0], "an hour after the login");
}

#[test]
fn login_accepts_a_clock_that_the_issuer_confirms() {
    let mut clock = FakeClock::new();
    let issuer = clock.issuer("2d");
    clock.log_in("work", &issuer);
    clock.set_wall_clock(DAY);
    assert_eq!(denials(&clock, "work"), [""; 0]);
    clock.set_wall_clock(-DAY);
    assert_eq!(denials(&clock, "work"), ["clock_rollback"]);
    clock.log_in("second", &issuer);
    assert_eq!(denials(&clock, "second"), [""; 0]);
}
