//! A command in the sandbox that searches for the token.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::Value;

use super::{Api, Proxy, duration};
use crate::support::agent::Agent;
use crate::support::{Sandbox, issuer, parts};

/// Several lifetimes of a token long (`AUTHCTL_PROXY_SECONDS`), a command in the sandbox uses the API, and finds no secret wherever it looks.
#[test]
fn sandboxed_command_finds_no_token() {
    parts::require(&["bwrap", "python3"]);
    let home = Sandbox::new();
    let idp = issuer(|options| options.access_token_ttl = Duration::from_secs(5));
    home.log_in("work", &idp);
    // The agent replaces these files while the command runs.
    for (setting, file) in [("token_file", "tokens/access"), ("id_token_file", "other/deep/id")] {
        home.run(&["profile", "set", "work", &format!("{setting}={}", home.path().join(file).display())]).exits(0);
    }
    let agent = Agent::start(&home);
    let api = Api::start();
    let writable = home.path().join("project");
    std::fs::create_dir(&writable).expect("made");
    let writable = writable.to_str().expect("text");
    let secret_digests: Vec<String> = home
        .secrets()
        .iter()
        .map(|secret| {
            digest::digest(&digest::SHA256, secret.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect()
        })
        .collect();
    assert!(secret_digests.len() > 1, "the access and the refresh token");
    // The command sees its working directory, also where that is below /tmp.
    let script = home.path().join("canary.py");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/api_proxy/canary.py"), &script)
        .expect("copied");
    let issuer_address = idp.issuer().trim_start_matches("http://").split('/').next().expect("a host").to_owned();
    let socket = home.socket();
    // In a directory that the command sees.
    let visible = home.path().join("visible/api.sock");
    let listen = format!("unix:{}", visible.display());
    let _other_proxy = Proxy::of(home.command(&["proxy", "work", "--for", &api.url, "--listen", &listen]));
    let mut command = home.command(&[
        "exec",
        "--proxy",
        "work",
        "--for",
        &api.url,
        "--sandbox",
        "--bind",
        writable,
        "--",
        "python3",
        script.to_str().expect("text"),
        writable,
        &secret_digests.join(","),
        &duration().as_secs().max(12).to_string(),
        socket.to_str().expect("text"),
        &issuer_address,
        visible.to_str().expect("text"),
    ]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let ran = home.finish_within(duration() + Duration::from_secs(120), child, &["exec"]);
    let report: Value = serde_json::from_str(&ran.exits(0).stdout).expect("JSON");
    assert_eq!((&report["found"], &report["failures"]), (&serde_json::json!([]), &serde_json::json!([])), "{report}");
    assert!(report["requests"].as_u64().is_some_and(|count| count > 10), "{report}");
    assert_eq!(report["undone"], serde_json::json!([]), "nothing that hides a file is removed");
    assert_eq!(report["connected"], serde_json::json!([]), "neither the agent, the issuer nor another proxy");
    assert_eq!(report["writes"], serde_json::json!([format!("{writable}/written")]));
    drop(agent);
}
