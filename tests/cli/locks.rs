//! Commands that change the same session or configuration at the same time: one waits for the other.

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};
use authctl::store::ProfileLock;
use nix::errno::Errno;
use nix::libc;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::process::{RunningCommand, wait_until};
use crate::support::stepper::{Action, Call, Watch};
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

fn logged_in() -> (Sandbox, DevIssuer) {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.session("work");
    (home, issuer)
}

/// Starts a command whose refresh the issuer has committed, but not replied to.
fn held_refresh<'a>(home: &'a Sandbox, issuer: &DevIssuer, args: &[&str]) -> RunningCommand<'a> {
    home.advance_time("work", 301);
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
    let refreshing = home.spawn(args);
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    refreshing
}

#[track_caller]
fn await_lock(command: &RunningCommand<'_>, lock: &str) {
    wait_until("the wait for the lock", || command.has_lock_file_open(lock).then_some(()));
}

#[test]
fn logout_during_a_refresh_leaves_no_session() {
    let (home, issuer) = logged_in();
    let refreshing = held_refresh(&home, &issuer, &["token", "work"]);
    let leaving = home.spawn(&["logout", "work"]);
    await_lock(&leaving, "work");
    issuer.clear_faults();
    refreshing.wait().exits(0);
    leaving.wait().exits(0).reports("tokens revoked");
    assert!(!home.session_file("work").exists());
    home.run(&["token", "work"]).exits(3);
    assert_eq!((issuer.stats().refresh_reuses, issuer.stats().families_revoked), (0, 1));
}

#[test]
fn command_that_waits_for_a_session_names_the_process_that_holds_it() {
    let (home, issuer) = logged_in();
    let refreshing = held_refresh(&home, &issuer, &["refresh", "work"]);
    let holder = format!("Waiting for authctl refresh (process {}), which holds the session of work", refreshing.id());
    let waiting: Vec<_> =
        [&["token", "work"][..], &["exec", "work", "--", "true"], &["profile", "rename", "work", "new"]]
            .into_iter()
            .map(|args| home.spawn(args))
            .collect();
    waiting.iter().for_each(|command| command.reports(&holder));
    let agent = Agent::run(&home);
    let through_agent = home.spawn(&["refresh", "work"]);
    through_agent.reports(&holder);
    let quiet = home.spawn(&["logout", "work", "--quiet"]);
    await_lock(&quiet, "work");
    for command in waiting.into_iter().chain([through_agent]) {
        command.signal(Signal::KILL);
        command.wait();
    }
    issuer.clear_faults();
    refreshing.wait().exits(0);
    assert_eq!(quiet.wait().exits(0).stderr, "");
    agent.stop();
}

#[test]
fn logout_during_a_refresh_of_the_agent_leaves_no_session() {
    let (home, issuer) = logged_in();
    let agent = Agent::run(&home);
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
    let mut refreshing = agent.start_request("POST", "/v1/refresh/work");
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    let leaving = home.spawn(&["logout", "work"]);
    await_lock(&leaving, "work");
    issuer.clear_faults();
    refreshing.response().expect("a response").expect_status(200);
    leaving.wait().exits(0).reports("tokens revoked");
    agent.get("/v1/token/work").expect_problem(401, "login_required");
    assert!(!home.session_file("work").exists());
}

#[test]
fn command_and_agent_share_a_refresh() {
    let (home, issuer) = logged_in();
    let agent = Agent::run(&home);
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
    let mut of_agent = agent.start_request("POST", "/v1/refresh/work");
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    let args = ["refresh", "work"];
    let mut command = home.command(&args);
    command.env("AUTHCTL_SOCK", home.path().join("no-agent.sock"));
    let of_command = home.spawn_command(command, &args);
    await_lock(&of_command, "work");
    issuer.clear_faults();
    of_agent.response().expect("a response").expect_status(200);
    of_command.wait().exits(0).reports("refreshed work");
    assert_eq!((issuer.stats().refreshes_committed, issuer.stats().refresh_reuses), (1, 0));
}

#[test]
fn commands_during_a_logout_find_no_session() {
    let (home, issuer) = logged_in();
    home.advance_time("work", 301);
    issuer.fault(Fault { endpoint: Endpoint::Revoke, kind: FaultKind::Hold, times: 0 });
    let first = home.spawn(&["logout", "work"]);
    wait_until("the first revocation", || (issuer.stats().faults == 1).then_some(()));
    let (second, mut refreshing) = (home.spawn(&["logout", "work"]), home.spawn(&["token", "work"]));
    await_lock(&second, "work");
    wait_until("the refresh to wait or give up", || {
        (refreshing.has_lock_file_open("work") || !refreshing.is_running()).then_some(())
    });
    issuer.clear_faults();
    first.wait().exits(0).reports("tokens revoked");
    second.wait().exits(0).reports("not logged in to work");
    refreshing.wait().exits(3);
    let stats = issuer.stats();
    assert_eq!(stats.requests["revoke"], 2, "each token was revoked once");
    assert_eq!(stats.token_requests.get("refresh_token"), None, "the revoked refresh token was not sent");
}

#[test]
fn login_during_a_refresh_is_not_overwritten() {
    let (home, issuer) = logged_in();
    let login_of = |home: &Sandbox| home.stored("work")["generation"]["login"].clone();
    let before = login_of(&home);
    let refreshing = held_refresh(&home, &issuer, &["token", "work"]);
    let mut login = home.spawn(&["login", "work", "--password", "--password-stdin", "--username", USER]);
    login.type_text(&format!("{PASSWORD}\n"));
    login.close_stdin();
    await_lock(&login, "work");
    issuer.clear_faults();
    refreshing.wait().exits(0);
    login.wait().exits(0);
    assert!(login_of(&home).is_string() && login_of(&home) != before, "{before}");
    assert_eq!(home.status("work")["refreshed_at"], Value::Null, "the refresh was of the previous session");
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn changes_of_the_configuration_wait_for_each_other() {
    let (home, issuer) = logged_in();
    home.log_in("other", &issuer);
    let beside = home.config_file().parent().unwrap().to_owned();
    let by_password = ["login", "work", "--scope", "openid", "--password", "--password-stdin", "--username", USER];
    for args in [
        &["profile", "set", "work", "max_offline=7d"][..],
        &["profile", "use", "other"],
        &by_password,
        &["profile", "rename", "other", "another"],
        &["profile", "remove", "another"],
    ] {
        if args[1] == "remove" {
            home.run(&["logout", "another"]).exits(0);
        }
        let before = std::fs::read(home.config_file()).unwrap();
        let lock = ProfileLock::try_acquire(&beside, &"authctl-config".parse().unwrap()).unwrap().expect("free");
        let mut waiting = home.spawn(args);
        waiting.type_text(&format!("{PASSWORD}\n"));
        waiting.close_stdin();
        await_lock(&waiting, "authctl-config");
        assert_eq!(std::fs::read(home.config_file()).unwrap(), before, "{args:?}");
        drop(lock);
        waiting.wait().exits(0);
        assert_ne!(std::fs::read(home.config_file()).unwrap(), before, "{args:?}");
    }
    let shown = home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    assert_eq!((&shown["max_offline"], &shown["scopes"]), (&json!(7 * 24 * 3600), &json!(["openid"])));
}

/// A terminal in a sandbox of its own, such as snap's, has other directories for data.
#[test]
fn changes_with_other_data_directories_wait_for_each_other() {
    let home = Sandbox::new();
    home.configure("[profiles.work]\nissuer = \"https://a.example\"\nclient_id = \"a\"\n");
    let beside = home.config_file().parent().unwrap().to_owned();
    let lock = ProfileLock::try_acquire(&beside, &"authctl-config".parse().unwrap()).unwrap().expect("free");
    let before = std::fs::read(home.config_file()).unwrap();
    let settings = ["max_offline=1d", "scopes=openid", "audience=https://b.example"];
    let changes = settings.map(|setting| {
        let args = ["profile", "set", "work", setting];
        let mut command = home.command(&args);
        command.env("XDG_DATA_HOME", home.path().join(setting));
        home.spawn_command(command, &args)
    });
    changes.iter().for_each(|change| await_lock(change, "authctl-config"));
    assert_eq!(std::fs::read(home.config_file()).unwrap(), before);
    drop(lock);
    changes.into_iter().for_each(|change| drop(change.wait().exits(0)));
    let text = std::fs::read_to_string(home.config_file()).unwrap();
    assert!(["max_offline", "scopes", "audience"].iter().all(|key| text.contains(key)), "{text}");
}

/// Lets one look at a profile's lock file fail.
struct FailingLook {
    nth: usize,
    looks: usize,
}

impl Watch for FailingLook {
    fn before(&mut self, call: &Call) -> Action {
        let is_look = call.number == libc::SYS_statx && call.path(1).ends_with("work.lock");
        self.looks += usize::from(is_look);
        if is_look && self.looks == self.nth { Action::fail(Errno::EIO) } else { Action::Make }
    }
}

/// The lock may be lost then, and it may not: a command that took it for lost waited for itself.
#[test]
fn lock_file_that_cannot_be_examined_does_not_block_its_owner() {
    let (home, issuer) = logged_in();
    let refresh = |nth| home.step(&["refresh", "work"], "", FailingLook { nth, looks: 0 });
    let (counted, ran) = refresh(0);
    ran.exits(0);
    assert!(counted.looks >= 3, "{}", counted.looks);
    for nth in 1..=counted.looks {
        refresh(nth).1.exits(0);
    }
    assert_eq!(issuer.stats().families_revoked, 0);
}
