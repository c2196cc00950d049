//! Programs that take a token from stdin, from a command or from a variable.

use super::{Network, Recipe};
use crate::support::CommandOutput;
use crate::support::parts;

pub const RECIPES: [&str; 6] = ["curl", "HTTPie", "rclone", "psql", "msmtp", "mbsync"];

/// Runs a recipe whose program gives `server` the token. Returns its output, and the network.
#[track_caller]
fn run(name: &str, program: &str, server: &str) -> (CommandOutput, Network) {
    parts::require(&[program]);
    let (network, recipe) = (Network::with_login(), Recipe::named(name));
    recipe.write_files(network.home.path(), network.home.path());
    (network.expect_token(server, &recipe.code), network)
}

#[test]
fn curl_recipe_calls_an_api() {
    let (output, _) = run("curl", "curl", "api");
    assert_eq!(output.json()["answer"], "from the API");
}

#[test]
fn httpie_recipe_calls_an_api() {
    let (output, _) = run("HTTPie", "python3", "api");
    assert_eq!(output.json()["answer"], "from the API");
}

#[test]
fn rclone_recipe_lists_a_remote() {
    let (output, _) = run("rclone", "rclone", "files");
    assert_eq!(output.line(), "report.txt");
}

#[test]
fn psql_recipe_runs_a_query() {
    let (output, _) = run("psql", "psql", "db");
    assert!(output.stdout.contains("(1 row)"), "{}", output.stdout);
}

#[test]
fn msmtp_recipe_sends_mail() {
    run("msmtp", "msmtp", "smtp");
}

#[test]
fn mbsync_recipe_fetches_mail() {
    parts::library("sasl2/libkdexoauth2.so");
    let (_, network) = run("mbsync", "mbsync", "imap");
    let mail = std::fs::read_dir(network.home.path().join("Mail/new")).expect("a maildir");
    assert_eq!(mail.count(), 1);
}

#[test]
fn token_in_arguments_is_found() {
    let network = Network::with_login();
    let code = "curl --silent -H \"$(authctl token work --header)\" https://api.example/v1";
    let run = std::panic::AssertUnwindSafe(|| network.run(code, || vec![network.home.token("work")]));
    let found = std::panic::catch_unwind(run).expect_err("the test fails");
    let message = found.downcast_ref::<String>().expect("a message");
    assert!(message.starts_with("a secret in arguments"), "{message}");
}
