//! `authctl helper`: other tools' protocols, byte by byte. The tools themselves are in `tests/e2e/tools`.

mod aws;
mod bad_input;
mod failures;
mod file;
mod printed_commands;
mod protocols;
mod replies;
mod setup;

use crate::support::{Sandbox, quick_issuer};
use authctl::dev_issuer::DevIssuer;

/// Returns a home with a session whose profile has these hosts.
fn logged_in(hosts: &str) -> (Sandbox, DevIssuer) {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    home.run(&["profile", "set", "work", &format!("hosts={hosts}")]).exits(0);
    (home, idp)
}
