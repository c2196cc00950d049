//! Signals and closed streams: a wait is cancelled, a refresh that the issuer may have committed is finished.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use authctl::dev_issuer::{Endpoint, Fault, FaultKind};
use authctl::model::RecordName;
use authctl::store::ProfileLock;
use rustix::process::Signal;

use crate::support::process::wait_until;
use crate::support::{AUTHCTL, PASSWORD, Sandbox, USER, issuer, quick_issuer};

const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

#[test]
fn interrupted_login_changes_nothing() {
    let (mut home, issuer) = (Sandbox::new(), issuer(|_| {}));
    let browser = home.path().join("browser");
    fs::write(&browser, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).unwrap();
    home.set("BROWSER", &browser);
    let grants = [("--device", "Ctrl-C cancels"), ("--browser", "Ctrl-C cancels"), ("--no-browser", "paste it here")];
    let interrupted = |how: &str, word: &str, signal: Signal| {
        let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", how, "--scope", "openid"];
        let waiting = home.spawn(&args);
        waiting.reports(word);
        waiting.signal(signal);
        waiting.wait().exits(130).reports("interrupted");
    };
    for (how, word) in grants {
        interrupted(how, word, Signal::INT);
        assert!(!home.config_file().exists() && !home.session_file("work").exists(), "{how}");
    }
    home.log_in("work", &issuer);
    let before = (fs::read(home.config_file()).unwrap(), fs::read(home.session_file("work")).unwrap());
    for ((how, word), signal) in grants.into_iter().zip(SIGNALS) {
        interrupted(how, word, signal);
        let after = (fs::read(home.config_file()).unwrap(), fs::read(home.session_file("work")).unwrap());
        assert!(after == before, "{how}");
    }
    let left = home.sessions();
    assert_eq!(left.len(), 1, "nothing is left beside the session: {left:?}");
    // No profile lock is held either.
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn refresh_is_finished_despite_signals() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    for (count, (signal, args)) in
        SIGNALS.into_iter().zip([&["token", "work"][..], &["refresh", "work"], &["token", "work"]]).enumerate()
    {
        home.advance_time("work", 301);
        issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
        let refreshing = home.spawn(args);
        let committed = count as u64 + 1;
        wait_until("the refresh", || (issuer.stats().refreshes_committed == committed).then_some(()));
        // Both are pending when it continues: the second is sent before the user can know that it would abort the refresh.
        let other = SIGNALS[(count + 1) % SIGNALS.len()];
        for signal in [Signal::STOP, signal, other, Signal::CONT] {
            refreshing.signal(signal);
        }
        refreshing.reports("Finishing the refresh");
        issuer.clear_faults();
        let ran = refreshing.wait().exits(130);
        assert_eq!(ran.stdout, "");
        home.token("work");
        assert_eq!(issuer.stats().refreshes_committed, committed, "the refreshed session was stored");
    }
    let stats = issuer.stats();
    assert_eq!((stats.refresh_reuses, stats.families_revoked), (0, 0));
}

#[test]
fn logout_is_finished_despite_signals() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    issuer.fault(Fault { endpoint: Endpoint::Revoke, kind: FaultKind::HoldReply, times: 1 });
    let leaving = home.spawn(&["logout", "work"]);
    wait_until("the revocation", || (issuer.stats().families_revoked == 1).then_some(()));
    leaving.signal(Signal::INT);
    leaving.reports("Finishing");
    issuer.clear_faults();
    leaving.wait().exits(130);
    assert!(!home.session_file("work").exists(), "its tokens are revoked");
    home.run(&["logout", "work"]).exits(0).reports("not logged in");
}

#[test]
fn interrupted_login_stores_session_and_profile_or_neither() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    // The login updates the issuer's trust record last, and waits for this lock to do so.
    let mark = RecordName::issuer_lock_name(&issuer.issuer().parse().unwrap());
    let trust = home.path().join("data/authctl/locks/trust");
    let lock = ProfileLock::try_acquire(&trust, &mark.parse().unwrap()).unwrap();
    assert!(lock.is_some());
    let args =
        ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--password", "--username", USER];
    let mut login = home.spawn(&[&args[..], &["--password-stdin"]].concat());
    login.type_text(&format!("{PASSWORD}\n"));
    login.close_stdin();
    wait_until("the session", || home.session_file("work").exists().then_some(()));
    login.signal(Signal::INT);
    login.reports("Finishing the refresh");
    drop(lock);
    login.wait().exits(130);
    home.token("work");
    home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
}

#[test]
fn second_ctrl_c_aborts_a_refresh() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    home.advance_time("work", 301);
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
    let refreshing = home.spawn(&["token", "work"]);
    wait_until("the refresh", || (issuer.stats().refreshes_committed == 1).then_some(()));
    refreshing.signal(Signal::INT);
    refreshing.reports("Ctrl-C again to abort");
    refreshing.signal(Signal::INT);
    refreshing.wait().exits(130);
}

#[test]
fn wait_for_the_refresh_of_another_process_is_interruptible() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    home.advance_time("work", 301);
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Hold, times: 1 });
    let refreshing = home.spawn(&["token", "work"]);
    wait_until("the request", || (issuer.stats().faults == 1).then_some(()));
    let waiting = home.spawn(&["token", "work"]);
    wait_until("the wait for the profile lock", || waiting.has_lock_file_open("work").then_some(()));
    waiting.signal(Signal::INT);
    waiting.wait().exits(130);
    issuer.clear_faults();
    refreshing.wait().exits(0);
}

#[test]
fn closed_pipe_is_not_an_error() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    for args in [
        &["token", "work"][..],
        &["token", "work", "--json"],
        &["status"],
        &["status", "--json"],
        &["profile", "list"],
        &["verify", "work", "--json"],
        &["refresh", "work", "--json"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = home.command(args).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("pipe") && !stderr.contains("panicked"), "{args:?}: {stderr}");
        // Nor is a closed stderr.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = home.command(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn unwritable_stdout_is_an_error() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = home.command(&["token", "work"]).stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stdout"));
}

#[test]
fn commands_work_with_closed_streams() {
    let (home, issuer) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &issuer);
    let sh = |script: &str| {
        let plain = home.command(&[]);
        let mut command = Command::new("sh");
        command.args(["-c", script, AUTHCTL]).env_clear().current_dir(home.path()).stdin(Stdio::null());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.output().unwrap()
    };
    let token = home.token("work");
    let output = sh("exec \"$0\" token work <&-");
    assert_eq!((output.status.code(), output.stdout), (Some(0), format!("{token}\n").into_bytes()));
    let output = sh("exec \"$0\" token work <&- 2>&-");
    assert_eq!(output.status.code(), Some(0));
    let output = sh("exec \"$0\" login work --password --username developer --password-stdin <&-");
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let output = sh("exec \"$0\" refresh work <&- >&- 2>&-");
    assert_eq!(output.status.code(), Some(0));
    // No file that was opened became stdout and was overwritten: the session is intact.
    home.token("work");
}

#[test]
fn ctrl_c_ends_every_command_that_reads_a_secret() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.run(&["agent", "start"]).exits(0);
    let at = ["login", "work", "--issuer", idp.issuer(), "--client-id", "authctl"];
    for (args, prompt) in [
        (&["agent", "lock"][..], "Passphrase: "),
        (&[&at[..], &["--with-token"]].concat(), "press Enter and Ctrl-D"),
        (&[&at[..], &["--password"]].concat(), "User name: "),
        (&[&at[..], &["--password", "--username", USER]].concat(), "Password: "),
    ] {
        let mut command = home.spawn_in_terminal(args);
        command.reports(prompt);
        command.type_text("\u{3}");
        command.wait().exits(130);
    }
    home.run(&["agent", "stop"]).exits(0);
    // Nothing is piped, and the pipe stays open.
    let waiting = home.spawn(&[&at[..], &["--password", "--username", USER, "--password-stdin"]].concat());
    wait_until("it to read", || reads_stdin(waiting.id()).then_some(()));
    waiting.signal(Signal::INT);
    waiting.wait().exits(130);
}

/// Returns whether a thread of the process waits in a read of stdin.
fn reads_stdin(id: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let call = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
    // The number of `read` on x86-64 and on 64-bit ARM, and the descriptor.
    threads.map(call).any(|call| call.starts_with("0 0x0 ") || call.starts_with("63 0x0 "))
}
