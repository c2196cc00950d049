//! `verify` in a network namespace in which even the loopback device is down.

use crate::support::parts;
use crate::support::{self, AUTHCTL, Sandbox};

#[test]
fn verify_works_without_any_network() {
    parts::require(&["unshare"]);
    let (home, issuer) = (Sandbox::new(), support::quick_issuer());
    home.log_in("work", &issuer);
    // A user who is not root is root in a user namespace of its own.
    let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--map-current-user"] };
    let alone = |program: &str, args: &[&str]| {
        let args = [user, &["--net", "--", program], args].concat();
        home.run_command(&mut home.command_for("unshare", &args))
    };
    let devices = alone("cat", &["/proc/net/dev"]).exits(0).stdout;
    assert_eq!(devices.lines().skip(2).count(), 1, "a loopback device and nothing else: {devices}");
    let sees = alone(AUTHCTL, &["verify", "work", "--json"]).exits(0).json();
    assert_eq!(sees["valid"], true);
    assert!(alone(AUTHCTL, &["verify", "work", "--audience", "other"]).exits(4).reports("audience").stdout.is_empty());
    alone(AUTHCTL, &["keys", "update"]).exits(6);
    home.change_trust(&issuer, |trust| trust.fetched = None);
    alone(AUTHCTL, &["verify", "work"]).exits(4).reports("there are no trusted keys");
}
