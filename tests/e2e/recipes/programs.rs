//! Programs that ask the agent at its socket.

use super::{Network, Recipe};
use crate::support::parts;

pub const RECIPES: [&str; 3] = ["Python", "Node", "Go"];

/// Runs the recipe of a language, with the agent where it is by default and where `AUTHCTL_SOCK` names it.
#[track_caller]
fn run(name: &str, program: &str) {
    parts::require(&[program]);
    let (network, recipe) = (Network::with_login(), Recipe::named(name));
    recipe.write_files(network.home.path(), network.home.path());
    let _agent = network.agent();
    let output = network.expect_token("api", &recipe.code);
    assert_eq!(output.json()["answer"], "from the API");
    // The variable goes before the default, where an agent listens too.
    let elsewhere = format!("export AUTHCTL_SOCK=authctl-is-not-here\n{}", recipe.code);
    let output = network.run(&elsewhere, Vec::new);
    assert_ne!(output.code, 0, "{}", output.stdout);
    assert!(!output.stderr.contains("authctl login"), "the agent was not asked: {}", output.stderr);
}

#[test]
fn python_recipe_calls_an_api() {
    run("Python", "python3");
}

#[test]
fn node_recipe_calls_an_api() {
    run("Node", "node");
}

#[test]
fn go_recipe_calls_an_api() {
    run("Go", "go");
}
