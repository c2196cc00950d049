//! A private CA in the system's certificate store, added as an administrator does, in a mount namespace.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::agent_support::{KillOnDrop, socket_of, wait_for_agent};
use crate::network::{CompanyNetwork, log_in};
use crate::support::parts;
use crate::support::{AUTHCTL, CommandOutput, PASSWORD, USER};

/// The command that updates the certificate store on Debian.
const UPDATE: &str = "update-ca-certificates";

/// A mount namespace with its own certificate store: two directories of the company's home are mounted where Debian keeps
/// certificates.
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

    /// Returns a command that runs in the mount namespace.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let script =
            "mount --bind certs /etc/ssl/certs && mount --bind local /usr/local/share/ca-certificates || exit 99
                      exec \"$@\"";
        // Without root, a user namespace is needed for the mount namespace.
        let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
        let unshare = [user, &["--mount", "--", "sh", "-c", script, "sh", program]].concat();
        self.company.home.command_for("unshare", &[&unshare, args].concat())
    }

    #[track_caller]
    fn runs(&self, args: &[&str], stdin: &str) -> CommandOutput {
        let mut command = self.command(AUTHCTL, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        // authctl may exit without reading its stdin.
        let _ = child.stdin.take().expect("piped").write_all(stdin.as_bytes());
        self.company.home.finish(child, args)
    }

    fn log_in(&self) -> CommandOutput {
        let issuer = self.company.issuer.issuer();
        let args = ["login", "work", "--issuer", issuer, "--client-id", "authctl", "--username", USER];
        self.runs(&[&args[..], &["--password", "--password-stdin", "--json"]].concat(), &format!("{PASSWORD}\n"))
    }

    /// Updates the certificate store, without hooks, which could reach outside of the namespace.
    #[track_caller]
    fn updates(&self) {
        let hooks = self.company.home.path().join("no-hooks");
        let mut command = self
            .command(parts::program(UPDATE).to_str().expect("text"), &["--hooksdir", hooks.to_str().expect("text")]);
        self.company.home.run_command(&mut command).exits(0);
    }

    /// Adds the CA of the company to the store.
    #[track_caller]
    fn trusts(&self) {
        fs::copy(self.company.authority(), self.company.home.path().join("local/company.crt")).expect("copied");
        self.updates();
    }
}

/// Fails the test unless the error is an unknown CA with a hint.
#[track_caller]
fn expect_unknown_issuer(ran: CommandOutput) {
    let error = ran.exits(6).error();
    assert_eq!(error["code"], "issuer_unreachable");
    let message = error["message"].as_str().expect("text");
    assert!(message.contains("certificate signed by an unknown authority"), "{message}");
    let hint = error["hint"].as_str().expect("text");
    assert!(hint.contains("--ca-cert") && hint.contains("SSL_CERT_FILE"), "{hint}");
}

#[test]
fn ca_in_the_system_store_is_trusted_on_that_machine_only() {
    let machine = Machine::new();
    let home = &machine.company.home;
    let issuer = machine.company.issuer.issuer();
    expect_unknown_issuer(machine.log_in());
    expect_unknown_issuer(log_in(home, issuer, &["--json"]));
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
    // Outside of the namespace the store has not changed.
    expect_unknown_issuer(home.run(&["refresh", "work", "--json"]));
    expect_unknown_issuer(log_in(home, issuer, &["--json"]));
    home.run(&["token", "work"]).exits(0);
}

#[test]
fn hints_for_an_unknown_authority_lead_to_trust() {
    parts::require(&["openssl"]);
    let mut company = CompanyNetwork::new();
    for (name, value) in company.names() {
        company.home.set(name, value);
    }
    let (home, authority) = (&company.home, company.authority());
    let authority = authority.to_str().expect("text");
    let ran = log_in(home, company.issuer.issuer(), &[]).exits(6).reports("with --ca-cert of login");
    assert!(!ran.stderr.contains("FILE ") && !ran.stderr.contains("=FILE"), "no placeholder: {}", ran.stderr);
    log_in(home, company.issuer.issuer(), &["--ca-cert", authority]).exits(0);
    home.run(&["profile", "set", "work", "ca_cert="]).exits(0);
    home.run(&["refresh", "work"]).exits(6).reports("as ca_cert with profile set");
    home.run(&["profile", "set", "work", &format!("ca_cert={authority}")]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
}

#[test]
fn running_agent_trusts_a_ca_added_to_the_system_store() {
    let machine = Machine::new();
    let home = &machine.company.home;
    machine.company.log_in().exits(0);
    home.run(&["profile", "set", "work", "ca_cert="]).exits(0);
    let mut command = machine.command(AUTHCTL, &["agent", "run"]);
    let _agent = KillOnDrop(
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the agent starts"),
    );
    wait_for_agent(&socket_of(home));
    expect_unknown_issuer(home.run(&["refresh", "work", "--json"]));
    machine.trusts();
    home.run(&["refresh", "work"]).exits(0);
}
