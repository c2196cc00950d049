//! Issuer responses that the RFCs allow, and some that violate them: tables of the section, the exit code and the message.

use authctl::dev_issuer::{DevIssuer, Fault};
use serde_json::{Value, json};

use crate::support::{CommandOutput, PASSWORD, Sandbox, USER};

mod device;
mod errors;
mod issuer_names;
mod metadata;
mod signatures;
mod tokens;
mod transport;

/// A part of invalid responses that must never be shown or stored.
const UNSEEN: &str = "hunter2-of-the-reply";

/// Applies `edit` to the reply to the next `times` requests to `endpoint`; 0 means until cleared.
fn edits(issuer: &DevIssuer, endpoint: &str, edit: &Value, times: u32) {
    set(issuer, endpoint, "edited", edit, times);
}

/// Replaces the reply with an empty 200 response of JSON to which `edit` is applied; the request is not processed.
fn answers(issuer: &DevIssuer, endpoint: &str, edit: &Value, times: u32) {
    set(issuer, endpoint, "replaced", edit, times);
}

fn set(issuer: &DevIssuer, endpoint: &str, kind: &str, edit: &Value, times: u32) {
    let mut fault = json!({"endpoint": endpoint, "kind": kind, "times": times});
    fault.as_object_mut().expect("an object").extend(edit.as_object().expect("an edit").clone());
    issuer.fault(serde_json::from_value::<Fault>(fault).expect("a fault"));
}

/// Logs in as `work` by password, with `-vvv` and `more` on the command line.
#[track_caller]
fn log_in(home: &Sandbox, issuer: &str, more: &[&str]) -> CommandOutput {
    home.register_secret(UNSEEN);
    let args = ["login", "work", "--issuer", issuer, "--client-id", "authctl", "-vvv"];
    let by = ["--password", "--password-stdin", "--username", USER];
    home.run_with(&[&args[..], &by, more].concat(), &format!("{PASSWORD}\n"))
}

/// A login with one edited reply.
struct Row {
    /// The section of the RFC.
    section: &'static str,
    endpoint: &'static str,
    edit: Value,
    code: i32,
    /// The texts expected on stderr.
    stderr: &'static [&'static str],
}

fn row(section: &'static str, endpoint: &'static str, edit: Value, code: i32, stderr: &'static [&'static str]) -> Row {
    Row { section, endpoint, edit, code, stderr }
}

/// Checks that the login of each row fails as expected, or succeeds with a token that can be served, verified and
/// refreshed.
fn each(issuer: &DevIssuer, rows: &[Row], set: fn(&DevIssuer, &str, &Value, u32)) {
    for Row { section, endpoint, edit, code, stderr } in rows {
        let home = Sandbox::new();
        set(issuer, endpoint, edit, 0);
        let ran = log_in(&home, issuer.issuer(), &[]);
        issuer.clear_faults();
        let which = edit.to_string().chars().take(120).collect::<String>();
        assert_eq!(ran.code, *code, "{section}: {endpoint} {which}: {}", ran.stderr);
        for text in *stderr {
            assert!(ran.stderr.contains(text), "{section}: {endpoint} {which}: no {text:?} in {}", ran.stderr);
        }
        fit_to_be_shown(&ran, &which);
        if *code == 0 {
            home.token("work");
            home.run(&["verify", "work"]).exits(0);
            home.run(&["refresh", "work"]).exits(0);
        } else {
            assert!(!home.session_file("work").exists() && !home.config_file().exists(), "{section}: {which}");
        }
        home.session_secrets();
        assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new(), "{section}: {which}");
    }
}

/// Fails if stderr has control or bidirectional characters, or very long lines.
#[track_caller]
fn fit_to_be_shown(ran: &CommandOutput, which: &str) {
    let odd = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
    assert!(!ran.stderr.contains(odd), "{which}: {:?}", ran.stderr);
    let last = ran.stderr.lines().rev().take(2).map(str::len).max().unwrap_or_default();
    assert!(last < 900, "{which}: {last} bytes in a line: {}", ran.stderr);
}

impl Sandbox {
    /// Registers the secrets of the session of `work`, if there is one.
    fn session_secrets(&self) {
        if self.session_file("work").exists() {
            self.session("work");
        }
    }
}
