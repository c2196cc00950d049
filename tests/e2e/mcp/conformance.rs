//! The conformance suite of the Model Context Protocol, with a client behind `authctl mcp` under test.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{node, python, script};
use crate::support::AUTHCTL;

/// The revisions of the protocol whose requirements are run, and how many scenarios of authorization each has at least.
const REVISIONS: [(&str, usize); 2] = [("2025-11-25", 20), ("2026-07-28", 31)];
/// The scenarios of the oldest revision, for which the suite has no set of requirements: an API without any metadata.
const FALLBACKS: [&str; 2] = ["auth/2025-03-26-oauth-metadata-backcompat", "auth/2025-03-26-oauth-endpoint-fallback"];
/// How many scenarios run at a time.
const PARALLEL: usize = 3;

/// Returns a command of the suite.
fn suite(arguments: &[&str]) -> Command {
    let (program, path) = node("@modelcontextprotocol/conformance/dist/index.js");
    let mut command = Command::new("node");
    command.arg(program).args(arguments).env("PATH", path);
    command
}

/// Returns the scenarios of authorization for clients in a set of requirements, with those of the extensions.
fn scenarios(revision: &str) -> Vec<String> {
    let listed = suite(&["list", "--requirements", revision]).output().expect("node starts");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("- auth/"));
    names.map(|name| format!("auth/{}", name.split(' ').next().unwrap_or_default())).collect()
}

/// Runs a scenario; returns how many checks succeeded, or what failed.
fn run(revision: &str, scenario: &str, results: &Path) -> Result<usize, String> {
    let client = format!("{} {}", python().display(), script("driver.py").display());
    let directory = results.join(revision).join(scenario.replace('/', "-"));
    fs::create_dir_all(&directory).expect("made");
    let mut command = suite(&["client", "--command", &client, "--scenario", scenario, "--spec-version", revision]);
    command.args(["--force", "--timeout", "60000", "--output-dir"]).arg(&directory).env("AUTHCTL_UNDER_TEST", AUTHCTL);
    // The homes of clients that the suite kills are removed with the results.
    command.env("TMPDIR", results);
    let ran = command.output().expect("node starts");
    let find = |name: &str| {
        let runs = fs::read_dir(&directory).ok()?.flatten().map(|entry| entry.path());
        let below = |path: std::path::PathBuf| fs::read_to_string(path.join(name)).ok();
        let deeper = |path: &Path| {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
        };
        runs.flat_map(|path| [vec![path.clone()], deeper(&path)].concat()).find_map(below)
    };
    let stderr = find("stderr.txt").unwrap_or_default();
    let checks: Value = find("checks.json").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let checks = checks.as_array().cloned().unwrap_or_default();
    let is =
        |check: &Value, statuses: &[&str]| check["status"].as_str().is_some_and(|status| statuses.contains(&status));
    let failed: Vec<String> = checks
        .iter()
        .filter(|check| is(check, &["FAILURE", "WARNING"]))
        .map(|check| {
            format!(
                "{}: {}",
                check["id"].as_str().unwrap_or_default(),
                check["description"].as_str().unwrap_or_default()
            )
        })
        .collect();
    let succeeded = checks.iter().filter(|check| is(check, &["SUCCESS"])).count();
    if ran.status.success() && failed.is_empty() && succeeded > 0 {
        return Ok(succeeded);
    }
    let suite = String::from_utf8_lossy(&ran.stdout).into_owned();
    Err(format!("{revision} {scenario}: {failed:?}\n{suite}\n{stderr}"))
}

#[test]
fn every_scenario_of_authorization_succeeds() {
    let results = tempfile::tempdir().expect("a directory");
    let mut queue: Vec<(&str, String)> = FALLBACKS.iter().map(|name| ("2025-03-26", (*name).to_owned())).collect();
    for (revision, least) in REVISIONS {
        let names = scenarios(revision);
        assert!(names.len() >= least, "{revision}: {names:?}");
        queue.extend(names.into_iter().map(|name| (revision, name)));
    }
    if let Ok(only) = std::env::var("AUTHCTL_MCP_SCENARIO") {
        queue.retain(|(_, name)| name.contains(&only));
    }
    let (queue, done) = (Arc::new(Mutex::new(queue)), Arc::<Mutex<Vec<_>>>::default());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let Some((revision, name)) = queue.lock().expect("not poisoned").pop() else { return };
                    let result = run(revision, &name, results.path());
                    done.lock().expect("not poisoned").push(result);
                }
            });
        }
    });
    let done = done.lock().expect("not poisoned");
    let failed: Vec<&String> = done.iter().filter_map(|result| result.as_ref().err()).collect();
    let checks: usize = done.iter().flatten().sum();
    println!("{} of {} scenarios succeeded, with {checks} checks", done.len() - failed.len(), done.len());
    for failure in &failed {
        println!("{failure}");
    }
    assert!(failed.is_empty(), "{} scenarios failed", failed.len());
}
