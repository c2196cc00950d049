//! Services and jobs, run as systemd, the runner of GitHub Actions and a development container run them.

use std::ops::Range;
use std::process::Command;

use serde_json::Value;

use super::{AUTHORITIES, CLIENT_SECRET, Network, Recipe, python_program};
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

/// Reads the workflow of the recipe, and returns its only job.
fn job(recipe: &Recipe) -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(sys.argv[1]), sys.stdout)";
    let json =
        output_of(Command::new(python_program("python")).args(["-c", script, recipe.file(".yml")])).expect("YAML");
    let workflow: Value = serde_json::from_str(&json).expect("JSON");
    let jobs = workflow["jobs"].as_object().expect("jobs");
    assert_eq!(jobs.len(), 1);
    jobs.values().next().expect("a job").clone()
}

/// Runs a part of a job as the runner does with these secrets. Returns the exit code of each step, `None` if it was skipped.
fn run_steps(network: &mut Network, job: &Value, steps: Range<usize>, secret: &str) -> Vec<Option<i32>> {
    let mut codes: Vec<Option<i32>> = Vec::new();
    for step in &job["steps"].as_array().expect("steps")[steps] {
        let succeeded = codes.iter().all(|code| *code == Some(0));
        if !succeeded && step["if"] != "always()" {
            codes.push(None);
            continue;
        }
        let none = serde_json::Map::new();
        let variables = |of: &Value| of["env"].as_object().unwrap_or(&none).clone();
        let variables: Vec<(String, Value)> = variables(job).into_iter().chain(variables(step)).collect();
        for (name, value) in &variables {
            let value = value.as_str().expect("text").replace("${{ secrets.CLIENT_SECRET }}", secret);
            assert!(!value.contains("${{"), "an expression: {value}");
            network.home.set(name, value);
        }
        let script = step["run"].as_str().expect("a script");
        std::fs::write(network.home.path().join("step.sh"), script).expect("written");
        // The runner's default: https://docs.github.com/actions/reference/workflow-syntax-for-github-actions
        let ran = network.run("bash -e step.sh", || vec![secret.to_owned()]);
        codes.push(Some(ran.code));
        for (name, _) in &variables {
            network.home.unset(name);
        }
    }
    codes
}

#[test]
fn github_recipe_logs_in_calls_an_api_and_logs_out() {
    let (mut network, job) = (Network::new("ci"), job(&Recipe::named("GitHub Actions")));
    assert_eq!(run_steps(&mut network, &job, 0..2, "another-secret-than-registered"), [Some(5), None]);
    assert!(network.received().is_empty());
    assert_eq!(run_steps(&mut network, &job, 0..2, CLIENT_SECRET), [Some(0), Some(0)]);
    network.expect_received("api", "ci");
    assert!(network.home.leaks_in_files().is_empty());
    assert_eq!(run_steps(&mut network, &job, 2..3, CLIENT_SECRET), [Some(0)]);
    assert!(network.home.sessions().is_empty());
    assert_eq!(run_steps(&mut network, &job, 1..2, CLIENT_SECRET), [Some(3)]);
    network.home.run(&["token", "ci"]).exits(3);
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
