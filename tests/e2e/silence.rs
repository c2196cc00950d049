//! A network that swallows whatever is sent into it: what is waited for there, for how long, and what is said then.

use crate::support::parts;
use crate::support::{AUTHCTL, CommandOutput, Sandbox};

/// Logs in at `issuer` from a network of its own, in which every name server and every address is silent.
fn log_in_at(issuer: &str) -> CommandOutput {
    parts::require(&["unshare", "ip"]);
    let home = Sandbox::new();
    let servers = home.path().join("resolv.conf");
    std::fs::write(&servers, "nameserver 192.0.2.53\n").expect("written");
    // What is sent to one's own loopback device for somebody else is dropped there.
    let script = format!(
        "ip link set lo up && ip route add 192.0.2.0/24 dev lo && mount --bind '{}' /etc/resolv.conf || exit 99
         echo password | exec '{AUTHCTL}' login work --issuer {issuer} --client-id authctl \
         --password --username somebody --password-stdin",
        servers.display()
    );
    // A user who is not root is root in a user namespace of its own.
    let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
    let args = [user, &["--net", "--mount", "--", "sh", "-c", &script]].concat();
    home.run_command(&mut home.command_for("unshare", &args)).exits(6)
}

#[test]
fn a_name_server_that_never_answers_is_what_is_named() {
    log_in_at("https://issuer.test")
        .reports("issuer.test cannot be reached: its name could not be resolved (nothing within 7 seconds)")
        .reports("check the network and the address");
}

#[test]
fn an_address_that_never_answers_is_what_is_named() {
    log_in_at("https://192.0.2.7").reports("192.0.2.7 cannot be reached: no connection (nothing within 8 seconds)");
}
