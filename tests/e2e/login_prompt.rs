//! `agent --login=ask`: one notification and one login in the browser for all callers that need it.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::agent_support::{KillOnDrop, agent, request_json, socket_of};
use crate::browser_login::User;
use crate::keyring::Keyring;
use crate::support::parts;
use crate::support::process::{Lines, RunningCommand, wait_until};
use crate::support::{self, Sandbox, USER};
use crate::webdriver::{self, BrowserSandbox, Screen};

/// A desktop without a screen, with the notification daemon dunst.
struct Desktop {
    // Dropped in this order.
    daemon: KillOnDrop,
    _screen: KillOnDrop,
    bus: Keyring,
}

impl Desktop {
    /// Starts a desktop for the programs of this home.
    fn start(home: &mut Sandbox) -> Self {
        parts::require(&["Xvfb", "dunst", "dunstctl", "notify-send"]);
        let bus = Keyring::start();
        let mut screen = Command::new("Xvfb");
        screen.args(["-displayfd", "1", "-screen", "0", "640x480x8", "-nolisten", "tcp"]);
        let screen = screen.env_clear().envs(bus.env()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut screen = KillOnDrop(screen.expect("Xvfb"));
        let number = Lines::of(screen.0.stdout.take().expect("piped")).next().expect("a display");
        let mut daemon = Command::new("dunst");
        daemon.args(["-conf", "/dev/null"]).env_clear().envs(bus.env()).env("DISPLAY", format!(":{number}"));
        let daemon = KillOnDrop(daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("dunst"));
        let waited = bus.run("gdbus", &["wait", "--session", "--timeout", "20", "org.freedesktop.Notifications"], b"");
        assert!(waited.status.success(), "{waited:?}");
        home.set("DBUS_SESSION_BUS_ADDRESS", bus.address());
        Self { daemon, _screen: screen, bus }
    }

    fn dunstctl(&self, arguments: &[&str]) -> String {
        let output = self.bus.run("dunstctl", arguments, b"");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    fn count(&self, which: &str) -> usize {
        self.dunstctl(&["count", which]).parse().expect("a number")
    }

    /// Returns how many notifications were shown, closed ones included.
    fn notified(&self) -> usize {
        ["waiting", "displayed", "history"].iter().map(|which| self.count(which)).sum()
    }

    /// Waits until a notification is shown.
    fn wait_for_notification(&self) {
        wait_until("the notification", || (self.count("displayed") == 1).then_some(()));
    }
}

fn callers(home: &Sandbox, count: usize) -> Vec<RunningCommand<'_>> {
    (0..count).map(|_| home.spawn(&["token", "work"])).collect()
}

/// Starts an agent whose session has ended, unknown to it.
fn ended_session(home: &Sandbox, issuer: &authctl::dev_issuer::DevIssuer, args: &[&str]) -> KillOnDrop {
    home.log_in("work", issuer);
    home.session("work");
    home.run(&["profile", "set", "work", "grant=browser"]).exits(0);
    let agent = agent(home, args);
    end(home, issuer, &socket_of(home));
    agent
}

fn end(home: &Sandbox, issuer: &authctl::dev_issuer::DevIssuer, socket: &Path) {
    end_profile(home, issuer, socket, "work");
}

fn end_profile(home: &Sandbox, issuer: &authctl::dev_issuer::DevIssuer, socket: &Path, name: &str) {
    issuer.revoke_everything();
    home.advance_time(name, 301);
    request_json(socket, "POST", &format!("/v1/forget/{name}"), "");
}

#[test]
fn twenty_callers_share_one_notification_and_one_browser_login() {
    let (mut browser, issuer) = (BrowserSandbox::new(), support::issuer(|_| {}));
    let desktop = Desktop::start(&mut browser.home);
    let home = &browser.home;
    let _agent = ended_session(home, &issuer, &["--login=ask", "--notify"]);
    let waiting = callers(home, 20);
    desktop.wait_for_notification();
    // Callers that give up leave the notification to the others.
    drop(callers(home, 3));
    desktop.dunstctl(&["action", "0"]);
    let result = webdriver::complete("prompt", Screen::Desktop, &browser.address(), &User { user: USER, allows: true });
    assert_eq!(result.pages(), ["Log in", "Allow access?", "Logged in to work"]);
    let tokens: Vec<String> = waiting.into_iter().map(|caller| caller.wait().exits(0).line().to_owned()).collect();
    assert_eq!(tokens[0].split('.').count(), 3);
    assert!(tokens.iter().all(|token| *token == tokens[0]), "all have the token of the one login");
    assert_eq!((desktop.notified(), issuer.stats().token_responses["authorization_code"]), (1, 1));

    // The next session that ends is another one, and the user may decline.
    end(home, &issuer, &socket_of(home));
    let waiting = callers(home, 20);
    desktop.wait_for_notification();
    desktop.dunstctl(&["close"]);
    for caller in waiting {
        assert!(caller.wait().exits(3).stderr.contains("hint:  authctl login work"));
    }
    for _ in 0..3 {
        home.run(&["token", "work"]).exits(3);
        home.run(&["refresh", "work"]).exits(3);
    }
    assert_eq!((desktop.notified(), desktop.count("displayed")), (2, 0), "the user is not asked again");
}

#[test]
fn login_in_a_terminal_closes_the_notification() {
    let (mut home, issuer) = (Sandbox::new(), support::quick_issuer());
    let desktop = Desktop::start(&mut home);
    let _agent = ended_session(&home, &issuer, &["--login=ask"]);
    let waiting = callers(&home, 3);
    desktop.wait_for_notification();
    home.log_in("work", &issuer);
    for caller in waiting {
        caller.wait().exits(0);
    }
    wait_until("the end of the notification", || (desktop.count("displayed") == 0).then_some(()));
}

#[test]
fn stopped_agent_closes_the_notification_and_ends_the_wait() {
    let (mut home, issuer) = (Sandbox::new(), support::quick_issuer());
    let desktop = Desktop::start(&mut home);
    let mut agent = ended_session(&home, &issuer, &["--login=ask"]);
    let waiting = callers(&home, 3);
    desktop.wait_for_notification();
    request_json(&socket_of(&home), "POST", "/v1/stop", "");
    for caller in waiting {
        caller.wait().exits(3);
    }
    wait_until("the end of the agent", || agent.0.try_wait().expect("waited"));
    wait_until("the end of the notification", || (desktop.count("displayed") == 0).then_some(()));
}

#[test]
fn caller_waits_no_longer_than_it_wants() {
    let (mut home, issuer) = (Sandbox::new(), support::quick_issuer());
    let desktop = Desktop::start(&mut home);
    let _agent = ended_session(&home, &issuer, &["--login=ask"]);
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "60", "-H", "Prefer: wait=1", "--unix-socket"]).arg(socket_of(&home));
    let reply = curl.arg("http://authctl/v1/token/work").output().expect("curl").stdout;
    let reply: serde_json::Value = serde_json::from_slice(&reply).expect("JSON");
    assert_eq!((&reply["code"], &reply["status"]), (&"login_required".into(), &401.into()));
    desktop.wait_for_notification();
}

#[test]
fn without_the_option_no_caller_waits() {
    let (mut home, issuer) = (Sandbox::new(), support::quick_issuer());
    let desktop = Desktop::start(&mut home);
    let _agent = ended_session(&home, &issuer, &[]);
    for caller in callers(&home, 20) {
        caller.wait().exits(3);
    }
    assert_eq!(desktop.notified(), 0);
    assert_eq!(issuer.stats().token_requests["refresh_token"], 1);
}

#[test]
fn each_profile_has_a_notification_of_its_own() {
    let (mut home, issuers) = (Sandbox::new(), [support::quick_issuer(), support::quick_issuer()]);
    let desktop = Desktop::start(&mut home);
    home.log_in("home", &issuers[1]);
    home.run(&["profile", "set", "home", "grant=browser"]).exits(0);
    let _agent = ended_session(&home, &issuers[0], &["--login=ask"]);
    end_profile(&home, &issuers[1], &socket_of(&home), "home");
    let of = |name: &'static str| (0..5).map(|_| home.spawn(&["token", name])).collect::<Vec<_>>();
    let (work, other) = (of("work"), of("home"));
    wait_until("two notifications", || (desktop.notified() == 2 && desktop.count("displayed") == 2).then_some(()));
    // A login to one of them leaves the other one.
    home.log_in("work", &issuers[0]);
    for caller in work {
        caller.wait().exits(0);
    }
    wait_until("the end of one", || (desktop.count("displayed") == 1).then_some(()));
    desktop.dunstctl(&["close"]);
    for caller in other {
        caller.wait().exits(3).reports("authctl login home");
    }
    home.run(&["token", "home"]).exits(3);
    home.run(&["token", "work"]).exits(0);
    assert_eq!(desktop.notified(), 2);
}

#[test]
fn callers_that_give_up_leave_one_notification() {
    let (mut home, issuer) = (Sandbox::new(), support::quick_issuer());
    let desktop = Desktop::start(&mut home);
    let _agent = ended_session(&home, &issuer, &["--login=ask"]);
    for _ in 0..3 {
        let waiting = callers(&home, 5);
        desktop.wait_for_notification();
        drop(waiting);
    }
    assert_eq!((desktop.notified(), desktop.count("displayed")), (1, 1));
    // It is still of use.
    let waiting = callers(&home, 2);
    home.log_in("work", &issuer);
    for caller in waiting {
        caller.wait().exits(0);
    }
    wait_until("its end", || (desktop.count("displayed") == 0).then_some(()));
    assert_eq!(desktop.notified(), 1);
}

#[test]
fn callers_fail_at_once_where_no_notification_can_be_shown() {
    parts::require(&["notify-send"]);
    for has_bus in [true, false] {
        let (mut home, issuer) = (Sandbox::new(), support::quick_issuer());
        let bus = Keyring::start();
        match has_bus {
            true => home.set("DBUS_SESSION_BUS_ADDRESS", bus.address()),
            false => home.set("DBUS_SESSION_BUS_ADDRESS", "unix:path=/does/not/exist"),
        }
        let _agent = ended_session(&home, &issuer, &["--login=ask"]);
        let start = std::time::Instant::now();
        for caller in callers(&home, 20) {
            caller.wait().exits(3).reports("authctl login work");
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
        assert_eq!(issuer.stats().token_requests["refresh_token"], 1);
    }
}

#[test]
fn callers_do_not_wait_for_a_daemon_that_does_not_respond() {
    let (mut home, issuer) = (Sandbox::new(), support::quick_issuer());
    let desktop = Desktop::start(&mut home);
    let _agent = ended_session(&home, &issuer, &["--login=ask"]);
    let daemon = Pid::from_child(&desktop.daemon.0);
    kill_process(daemon, Signal::STOP).expect("stopped");
    let start = std::time::Instant::now();
    for caller in callers(&home, 20) {
        caller.wait().exits(3).reports("authctl login work");
    }
    // `notify-send` would wait for 100 s, twice.
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "{:?}", start.elapsed());
    kill_process(daemon, Signal::CONT).expect("continued");
}

#[test]
fn user_is_shown_the_command_where_no_browser_can_be_opened() {
    let (mut home, issuer) = (Sandbox::new(), support::quick_issuer());
    let desktop = Desktop::start(&mut home);
    // No other program, so no browser.
    let programs = home.path().join("programs");
    std::fs::create_dir(&programs).expect("made");
    std::os::unix::fs::symlink(parts::program("notify-send"), programs.join("notify-send")).expect("linked");
    home.set("PATH", &programs);
    for name in ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"] {
        home.unset(name);
    }
    let _agent = ended_session(&home, &issuer, &["--login=ask"]);
    let waiting = callers(&home, 5);
    desktop.wait_for_notification();
    desktop.dunstctl(&["action", "0"]);
    for caller in waiting {
        caller.wait().exits(3).reports("authctl login work");
    }
    wait_until("the command", || (desktop.count("displayed") == 1 && desktop.notified() == 2).then_some(()));
    assert!(desktop.dunstctl(&["history"]).contains("Log in opens the browser"));
    // The user is not asked again.
    home.run(&["token", "work"]).exits(3);
    assert_eq!(desktop.notified(), 2);
}
