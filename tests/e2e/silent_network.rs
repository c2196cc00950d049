//! Errors in a network in which every packet is lost: they name the step that timed out.

use crate::support::parts;
use crate::support::{AUTHCTL, CommandOutput, Sandbox};

/// Logs in at `issuer` in a network namespace in which no name server and no address responds.
fn log_in_at(issuer: &str) -> CommandOutput {
    parts::require(&["unshare", "ip"]);
    let home = Sandbox::new();
    let servers = home.path().join("resolv.conf");
    std::fs::write(&servers, "nameserver 192.0.2.53\n").expect("written");
    // The loopback device drops packets that are routed to it for other addresses.
    let script = format!(
        "ip link set lo up && ip route add 192.0.2.0/24 dev lo && mount --bind '{}' /etc/resolv.conf || exit 99
         echo password | exec '{AUTHCTL}' login work --issuer {issuer} --client-id authctl \
         --password --username user --password-stdin",
        servers.display()
    );
    // A user who is not root is root in a user namespace of its own.
    let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
    let args = [user, &["--net", "--mount", "--", "sh", "-c", &script]].concat();
    home.run_command(&mut home.command_for("unshare", &args)).exits(6)
}

#[test]
fn silent_name_server_is_reported() {
    log_in_at("https://issuer.test").reports("cannot resolve issuer.test").reports("check the network");
}

#[test]
fn silent_address_is_reported() {
    log_in_at("https://192.0.2.7").reports("connection to 192.0.2.7 timed out");
}
