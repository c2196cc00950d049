//! An authority of one's own in the system's store, put there as an administrator does it, on a machine of the test's own.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::agent_support::{KillOnDrop, answers, socket_of};
use crate::network::{CompanyNetwork, log_in};
use crate::support::parts;
use crate::support::{AUTHCTL, CommandOutput, PASSWORD, USER};

/// What an administrator of Debian runs.
const UPDATE: &str = "update-ca-certificates";

/// A machine like this one but for its store of authorities: what runs on it sees two directories of the company's home
/// in the places where Debian keeps that.
struct Machine {
    company: CompanyNetwork,
}

impl Machine {
    fn new() -> Self {
        parts::require(&["openssl", "unshare", UPDATE]);
        let mut company = CompanyNetwork::new();
        for (name, value) in company.names() {
            company.home.set(name, value);
        }
        for dir in ["certs", "local", "no-hooks"] {
            fs::create_dir(company.home.path().join(dir)).expect("made");
        }
        let machine = Self { company };
        machine.updates();
        machine
    }

    /// A command that runs on this machine.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let script =
            "mount --bind certs /etc/ssl/certs && mount --bind local /usr/local/share/ca-certificates || exit 99
                      exec \"$@\"";
        // A user who is not root is root in a user namespace of its own.
        let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
        let unshare = [user, &["--mount", "--", "sh", "-c", script, "sh", program]].concat();
        self.company.home.command_for("unshare", &[&unshare, args].concat())
    }

    #[track_caller]
    fn runs(&self, args: &[&str], stdin: &str) -> CommandOutput {
        let mut command = self.command(AUTHCTL, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        // One that ends without reading has its reasons.
        let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
        self.company.home.finish(child, args)
    }

    fn log_in(&self) -> CommandOutput {
        let issuer = self.company.issuer.issuer();
        let args = ["login", "work", "--issuer", issuer, "--client-id", "authctl", "--username", USER];
        self.runs(&[&args[..], &["--password", "--password-stdin", "--json"]].concat(), &format!("{PASSWORD}\n"))
    }

    /// Makes the store anew from what the administrator wants in it. Other programs' hooks could reach beyond it.
    #[track_caller]
    fn updates(&self) {
        let hooks = self.company.home.path().join("no-hooks");
        let mut command = self
            .command(parts::program(UPDATE).to_str().expect("text"), &["--hooksdir", hooks.to_str().expect("text")]);
        self.company.home.run_command(&mut command).exits(0);
    }

    /// Puts the company's authority into the store.
    #[track_caller]
    fn trusts(&self) {
        fs::copy(self.company.authority(), self.company.home.path().join("local/company.crt")).expect("copied");
        self.updates();
    }
}

/// Fails unless it says that the issuer's authority is unknown, and what to do about that.
#[track_caller]
fn unknown(ran: CommandOutput) {
    let error = ran.exits(6).error();
    assert_eq!(error["code"], "issuer_unreachable");
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("no trusted TLS connection") && message.contains("UnknownIssuer"), "{message}");
    let hint = error["hint"].as_str().expect("text");
    assert!(hint.contains("--ca-cert") && hint.contains("SSL_CERT_FILE"), "{hint}");
}

#[test]
fn an_authority_in_the_systems_store_is_trusted_there_and_nowhere_else() {
    let machine = Machine::new();
    let home = &machine.company.home;
    let issuer = machine.company.issuer.issuer();
    unknown(machine.log_in());
    unknown(log_in(home, issuer, &["--json"]));
    assert_eq!(machine.company.issuer.stats().requests.len(), 0);
    machine.trusts();
    machine.log_in().exits(0);
    let before = home.token("work");
    home.advance_time("work", 301);
    let refreshed = machine.runs(&["token", "work"], "").exits(0).line().to_owned();
    home.register_secret(&refreshed);
    assert_ne!(refreshed, before);
    machine.runs(&["refresh", "work"], "").exits(0);
    machine.runs(&["verify", "work"], "").exits(0);
    assert_eq!(machine.company.issuer.stats().token_requests["refresh_token"], 2);
    // The same commands on the machine around it, whose store has not changed.
    unknown(home.run(&["refresh", "work", "--json"]));
    unknown(log_in(home, issuer, &["--json"]));
    home.run(&["token", "work"]).exits(0);
}

#[test]
fn the_agent_sees_an_authority_that_comes_into_the_systems_store_while_it_runs() {
    let machine = Machine::new();
    let home = &machine.company.home;
    machine.company.log_in().exits(0);
    home.run(&["profile", "set", "work", "ca_cert="]).exits(0);
    let mut command = machine.command(AUTHCTL, &["agent", "run"]);
    let _agent = KillOnDrop(
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the agent starts"),
    );
    answers(&socket_of(home));
    unknown(home.run(&["refresh", "work", "--json"]));
    machine.trusts();
    home.run(&["refresh", "work"]).exits(0);
}
