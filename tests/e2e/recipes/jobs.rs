//! Services and jobs, run as systemd, the runner of GitHub Actions and a development container run them.

use std::ops::Range;
use std::process::Command;

use serde_json::{Value, json};

use super::{AUTHORITIES, Network, Recipe, python_program};
use crate::agent_support::output_of;
use crate::support::{CommandOutput, parts};

pub const RECIPES: [&str; 3] = ["systemd", "GitHub Actions", "Development containers"];

/// Returns the value of a setting in a unit file.
fn setting<'a>(unit: &'a str, name: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix('=');
    unit.lines().find_map(value).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn systemd_recipe_is_valid_and_calls_an_api() {
    let (mut network, recipe) = (Network::with_login(), Recipe::named("systemd"));
    recipe.write_files(network.home.path(), network.home.path());
    let unit = ".config/systemd/user/report.service";
    let analyze = parts::program("systemd-analyze");
    let verify = ["verify", "--user", "--man=no", unit];
    let verified = network.home.run_command(&mut network.command(analyze.to_str().expect("text"), &verify)).exits(0);
    // systemd only warns about settings that it does not know.
    assert!(!verified.stderr.contains("report.service"), "{}", verified.stderr);

    let home = network.home.path().to_owned();
    std::fs::write(home.join("report.txt"), "all is well").expect("written");
    let unit = recipe.file(".service");
    let start = setting(unit, "ExecStart").replace("%h", home.to_str().expect("text"));
    let restarts = |ran: &CommandOutput| {
        let code = ran.code.to_string();
        ran.code != 0 && setting(unit, "RestartPreventExitStatus").split(' ').all(|status| status != code)
    };
    network.issuer.pause();
    assert!(restarts(&network.run(&start, Vec::new).exits(6)), "the issuer is unreachable");
    network.issuer.resume().expect("the same port");
    network.expect_token("api", &start);
    assert!(!restarts(&network.run(&start, Vec::new).exits(3)), "a login is required");
}

/// Reads the workflow of the recipe.
fn workflow(recipe: &Recipe) -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(sys.argv[1]), sys.stdout)";
    let json = output_of(Command::new(python_program("python")).args(["-c", script, recipe.file(".yml")]));
    serde_json::from_str(&json.expect("YAML")).expect("JSON")
}

/// Runs some steps of the only job as the runner does. Returns the exit code of each, `None` if it was skipped.
fn run_steps(network: &mut Network, workflow: &Value, steps: Range<usize>) -> Vec<Option<i32>> {
    let mut jobs = workflow["jobs"].as_object().expect("jobs").values();
    let job = jobs.next().expect("a job");
    assert!(jobs.next().is_none(), "one job");
    let mut variables: Vec<(&str, &str)> = Vec::new();
    if workflow["permissions"]["id-token"] == "write" {
        variables.push(("ACTIONS_ID_TOKEN_REQUEST_URL", "https://pipelines.example/token?api-version=2.0"));
        variables.push(("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the-bearer-token-of-the-job"));
    }
    for (name, value) in job["env"].as_object().expect("variables") {
        variables.push((name, value.as_str().expect("text")));
    }
    for (name, value) in &variables {
        network.home.set(name, value);
    }
    let mut codes: Vec<Option<i32>> = Vec::new();
    for step in &job["steps"].as_array().expect("steps")[steps] {
        let succeeded = codes.iter().all(|code| *code == Some(0));
        codes.push((succeeded || step["if"] == "always()").then(|| {
            let script = step["run"].as_str().expect("a script");
            std::fs::write(network.home.path().join("step.sh"), script).expect("written");
            // The default of `shell`.
            network.run("bash -e step.sh", || vec!["the-bearer-token-of-the-job".to_owned()]).code
        }));
    }
    for (name, _) in &variables {
        network.home.unset(name);
    }
    codes
}

#[test]
fn github_recipe_logs_in_calls_an_api_and_logs_out() {
    let (mut network, workflow) = (Network::new("ci"), workflow(&Recipe::named("GitHub Actions")));
    let identify = |network: &Network, audience: &str| {
        let token = network.platform.token(json!({"aud": audience, "sub": "repo:a/b"}));
        std::fs::write(network.home.path().join("identity.jwt"), token).expect("written");
    };
    identify(&network, "https://another.example");
    assert_eq!(run_steps(&mut network, &workflow, 0..2), [Some(2), None]);
    assert!(network.received().is_empty());
    identify(&network, "https://issuer.example");
    assert_eq!(run_steps(&mut network, &workflow, 0..1), [Some(0)]);
    network.home.expire("ci");
    assert_eq!(run_steps(&mut network, &workflow, 1..2), [Some(0)]);
    network.expect_received("api", "ci");
    assert!(network.home.leaks_in_files().is_empty());
    assert_eq!(run_steps(&mut network, &workflow, 2..3), [Some(0)]);
    assert!(network.home.sessions().is_empty());
    // The last step is run after a failure too.
    assert_eq!(run_steps(&mut network, &workflow, 1..3), [Some(3), Some(0)]);
}

#[test]
fn container_recipe_reaches_only_the_socket() {
    let (network, recipe) = (Network::with_login(), Recipe::named("Development containers"));
    let workspace = network.home.path().join("workspace");
    recipe.write_files(network.home.path(), &workspace);
    Recipe::named("Python").write_files(network.home.path(), &workspace);
    let settings: Value = serde_json::from_str(recipe.file(".json")).expect("JSON");

    let run_dir = network.home.path().join("run");
    let mounts = settings["mounts"].as_array().expect("mounts");
    let mounts: String = mounts
        .iter()
        .map(|mount| {
            assert_eq!(mount["type"], "bind");
            let source = mount["source"].as_str().expect("a path");
            let source = source.replace("${localEnv:XDG_RUNTIME_DIR}", run_dir.to_str().expect("text"));
            let target = mount["target"].as_str().expect("a path");
            format!("mkdir -p {target} && mount --bind {source} {target} &&\n")
        })
        .collect();
    let variables = settings["containerEnv"].as_object().expect("variables");
    let variables: String =
        variables.iter().map(|(name, value)| format!("{name}={} ", value.as_str().expect("text"))).collect();
    let start = settings["postStartCommand"].as_str().expect("a command");
    // Another home, other processes, and of the host's files those that are mounted.
    let container = format!(
        "mount -t tmpfs none /run && mkdir /run/workspace && mount --bind workspace /run/workspace &&
         {mounts} mount -t tmpfs none \"$HOME\" && cd /run/workspace || exit 99
         exec env -i PATH=\"$PATH\" HOME=/run/workspace SSL_CERT_FILE={AUTHORITIES} {variables} sh -c '{start}'"
    );
    let code = format!("unshare --mount --pid --fork --mount-proc sh -c '{}'", container.replace('\'', "'\\''"));
    let _agent = network.agent();
    network.expect_token("api", &code);
}
