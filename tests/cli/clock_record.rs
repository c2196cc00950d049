//! The recorded time: a clock that is set back does not make expired tokens valid.

use std::time::{Duration, SystemTime};

use authctl::clock::{Clock as _, SystemClock, UnixTime};
use authctl::model::{ClockMark, RecordName};
use serde_json::json;

use super::requirements::{decided, logged_in, set};
use crate::support::Sandbox;
use crate::support::agent::Agent;
use crate::support::jwt::Signer;
use crate::support::stub_server::StubServer;

#[test]
fn time_recorded_in_the_future_counts_as_stale() {
    let (home, issuer) = logged_in();
    set(&home, "max_offline=1d");
    let ahead = |by: i64| {
        home.change_trust(&issuer, |trust| {
            trust.contact_at.as_mut().expect("answered").0 += by;
            trust.fetched.as_mut().expect("keys").fetched_at.0 += by;
        });
    };
    ahead(200);
    assert_eq!(decided(&home), [""; 0], "a clock correction may be this large");
    ahead(60 * 24 * 3600);
    assert_eq!(decided(&home), ["keys_stale", "offline_too_long"]);
    home.run(&["refresh"]).exits(0);
    assert_eq!(decided(&home), [""; 0]);
}

/// Records a latest observed time that lies `ahead` seconds after now.
fn record_time(home: &Sandbox, ahead: i64) {
    let latest = UnixTime(SystemClock.now().0 + ahead);
    let mark = ClockMark { latest, uptime: None };
    home.store().write_record(&RecordName::clock(), &mark.to_stored()).expect("written");
}

#[test]
fn clock_set_back_denies_tokens_until_the_issuer_responds() {
    let (home, mut issuer) = logged_in();
    record_time(&home, 290);
    assert_eq!(decided(&home), [""; 0], "a clock correction may be this large");
    record_time(&home, 86_400);
    issuer.pause();
    assert_eq!(decided(&home), ["clock_rollback"]);
    home.run(&["verify"]).exits(4).reports("set back").reports("hint:  authctl refresh work\n");
    let token = home.token("work");
    home.run_with(&["verify", "-"], &token).exits(4);
    // With --at, this machine's clock does not matter.
    let now = SystemClock.now().0;
    home.run_with(&["verify", "-", "--at", &now.to_string()], &token).exits(0);
    issuer.resume().expect("resumed");
    home.run(&["refresh"]).exits(0);
    assert_eq!(decided(&home), [""; 0]);
}

/// Replaces the record of the time by text that is none.
fn damage_record(home: &Sandbox) {
    std::fs::write(home.session_file("work").with_file_name("@clock.age"), "junk").expect("written");
}

#[test]
fn only_an_issuer_whose_clock_agrees_confirms_the_time() {
    let (home, _issuer) = logged_in();
    let config = std::fs::read_to_string(home.config_file()).unwrap();
    let jwks = Signer::new().jwks().to_string();
    for (ahead, found) in [(86_400, &["clock_rollback"][..]), (0, &[])] {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(ahead));
        let jwks = jwks.clone();
        let other = StubServer::with_date(&date, move |own, request| match request.path.as_str() {
            "/jwks" => (200, jwks.clone()),
            _ => (200, json!({"issuer": own, "jwks_uri": format!("{own}/jwks")}).to_string()),
        });
        let profile = format!("[profiles.other]\nissuer = \"{}\"\nclient_id = \"c\"\nstore = \"file\"\n", other.url);
        std::fs::write(home.config_file(), format!("{config}\n{profile}")).unwrap();
        let records: [fn(&Sandbox); 2] = [|home| record_time(home, 86_400), damage_record];
        for (which, set_record) in records.iter().enumerate() {
            set_record(&home);
            home.run(&["keys", "update", "other"]).exits(0);
            assert_eq!(decided(&home), found, "{ahead} s ahead, record {which}");
        }
    }
}

#[test]
fn issuer_time_ahead_of_the_clock_denies_tokens() {
    let (home, issuer) = logged_in();
    home.change_trust(&issuer, |trust| trust.issuer_time.as_mut().expect("a time").latest.0 += 3600);
    assert_eq!(decided(&home), ["clock_rollback"]);
    home.run(&["refresh"]).exits(0);
    assert_eq!(decided(&home), [""; 0]);
}

#[test]
fn missing_or_damaged_clock_record_denies_tokens() {
    let (home, _issuer) = logged_in();
    let remove = |home: &Sandbox| {
        std::fs::remove_file(home.session_file("work").with_file_name("@clock.age")).expect("removed");
    };
    let changes: [fn(&Sandbox); 2] = [remove, damage_record];
    for (which, change) in changes.iter().enumerate() {
        change(&home);
        assert_eq!(decided(&home), ["clock_rollback"], "{which}");
        home.run(&["refresh"]).exits(0);
        assert_eq!(decided(&home), [""; 0]);
    }
}

#[test]
fn observed_time_is_recorded_at_intervals() {
    let (home, _issuer) = logged_in();
    let file = home.session_file("work").with_file_name("@clock.age");
    let content = || std::fs::read(&file).expect("there");
    let before = content();
    home.run(&["verify"]).exits(0);
    assert!(content() == before, "not at each run");
    record_time(&home, -70);
    for args in [&["verify"][..], &["exec", "--", "true"]] {
        let before = content();
        home.run(args).exits(0);
        assert!(content() != before, "{args:?}");
        record_time(&home, -70);
    }
    let before = content();
    let agent = Agent::run(&home);
    crate::support::process::wait_until("the agent to record the time", || (content() != before).then_some(()));
    agent.stop();
}
