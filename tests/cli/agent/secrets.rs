//! Secrets must not leave the agent by its socket, audit log, output or environment.

use std::fs;

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::process::{open_memory, wait_until};
use crate::support::{AUTHCTL, Sandbox, contains, issuer, quick_issuer};

use super::logged_in;

/// All GET targets, and the POST targets whose responses contain session data.
const REQUESTS: [(&str, &str); 13] = [
    ("GET", "/v1/token"),
    ("GET", "/v1/token/service"),
    ("GET", "/v1/token/work?scope=profile"),
    ("GET", "/v1/token/unknown"),
    ("GET", "/v1/id-token"),
    ("GET", "/v1/id-token/service"),
    ("GET", "/v1/status"),
    ("GET", "/v1/agent"),
    ("GET", "/v1/log"),
    ("GET", "/v1/openapi.json"),
    ("POST", "/v1/refresh/work"),
    ("POST", "/v1/refresh/service"),
    ("POST", "/v1/forget/work"),
];

#[test]
fn refresh_tokens_and_client_secrets_never_cross_the_socket() {
    let (home, idp) = (Sandbox::new(), issuer(|_| {}));
    home.log_in("work", &idp);
    let secret = idp.client_secret("authctl-service").unwrap().expose().to_owned();
    home.register_secret(&secret);
    let args = ["login", "service", "--issuer", idp.issuer(), "--client-id", "authctl-service", "--client-credentials"];
    home.run_with(&[&args[..], &["--client-secret-stdin"]].concat(), &format!("{secret}\n")).exits(0);
    let agent = Agent::run(&home);
    let mut events = agent.events();
    let mut secrets = vec![secret];
    let mut responses = Vec::new();
    for _ in 0..2 {
        secrets.push(home.session("work").tokens.refresh_token.unwrap().expose().to_owned());
        responses.extend(REQUESTS.map(|(method, target)| agent.request(method, target, &[], "")));
    }
    assert_eq!(
        responses.iter().filter(|response| response.body.contains("access_token\":\"")).count(),
        6,
        "{responses:?}"
    );
    for response in &responses {
        let whole = format!("{response:?}");
        assert!(secrets.iter().all(|secret| !whole.contains(secret.as_str())), "{whole}");
        let cached = response.header("cache-control");
        assert_eq!(cached, Some("no-store"), "{response:?}");
    }
    let (data, before) = events.until("refreshed");
    assert!(before.is_empty() && data.get("message").is_none(), "{data}");
    // `stop` fails if the agent's log contains a secret or an access token.
    home.session("work");
    home.session("service");
    let ran = agent.stop().expect("a child").exits(0);
    assert!(ran.stderr.contains("the agent listens at"), "{}", ran.stderr);
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn audit_log_names_processes_and_no_tokens() {
    let (home, _issuer) = logged_in(|_| {});
    home.log_in("other", &quick_issuer());
    let agent = Agent::run(&home);
    let token = home.token("work");
    home.run(&["token", "other"]).exits(0);
    home.run(&["token", "other", "--id-token"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    for _ in 0..3 {
        agent.get("/v1/token/work").expect_status(200);
    }
    home.session("work");
    home.session("other");
    let log = home.run(&["agent", "log", "--json"]).exits(0).json();
    let entries = log["entries"].as_array().unwrap();
    let of = |name: &str| entries.iter().filter(|entry| entry["executable"] == json!(name)).collect::<Vec<_>>();
    let client = fs::canonicalize(AUTHCTL).unwrap();
    let actions: Vec<_> = of(client.to_str().unwrap())
        .iter()
        .map(|entry| (entry["action"].as_str().unwrap().to_owned(), entry["profile"].as_str().unwrap().to_owned()))
        .collect();
    let actions: Vec<(&str, &str)> = actions.iter().map(|(what, profile)| (what.as_str(), profile.as_str())).collect();
    assert_eq!(actions, [("token", "work"), ("token", "other"), ("id_token", "other"), ("refresh", "work")]);
    let this = std::env::current_exe().unwrap();
    let mine = of(this.to_str().unwrap());
    assert_eq!(mine.len(), 1, "{log}");
    assert_eq!(
        (&mine[0]["pid"], &mine[0]["count"], &mine[0]["action"]),
        (&json!(std::process::id()), &json!(3), &json!("token"))
    );
    // This test started every authctl process.
    assert!(of(client.to_str().unwrap()).iter().all(|entry| entry["parent"] == json!(this)), "{log}");
    let text = home.run(&["agent", "log"]).exits(0).stdout;
    assert!(text.contains(&format!("(process {}, user", std::process::id())) && !text.contains(&token), "{text}");
}

#[test]
fn agent_does_not_inherit_a_token_of_its_caller() {
    let (mut home, _issuer) = logged_in(|_| {});
    home.set("AUTHCTL_TOKEN", "a-token-set-by-the-caller");
    home.register_secret("a-token-set-by-the-caller");
    let agent = Agent::start(&home);
    let environment = fs::read(format!("/proc/{}/environ", agent.pid)).expect("run as root");
    assert!(contains(&environment, b"AUTHCTL_SOCK="), "the environment of the agent");
    assert!(!contains(&environment, b"AUTHCTL_TOKEN") && !contains(&environment, b"set-by-the-caller"));
    assert_ne!(agent.get("/v1/token").token(), "a-token-set-by-the-caller");
}

#[test]
fn agent_refuses_debuggers_and_writes_no_core() {
    let (home, _issuer) = logged_in(|_| {});
    // Without CAP_SYS_PTRACE, root has the same access to other processes as the user.
    let no_ptrace = "--bounding-set=-sys_ptrace";
    let agent = Agent::run_under(&home, "setpriv", &[no_ptrace, "prlimit", "--core=4096:4096", "--"]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.pid)).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    let ordinary = open_memory("$$");
    assert!(ordinary.status.success(), "a process can open its own memory: {ordinary:?}");
    let refused = open_memory(&agent.pid.to_string());
    assert!(!refused.status.success(), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied"), "{refused:?}");
    use std::os::unix::fs::MetadataExt as _;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&home.socket()), mode(home.socket().parent().unwrap())), (0o600, 0o700));
    // Another user is refused even if the file modes allow the connection.
    let run = home.socket().parent().unwrap().to_owned();
    for (path, open) in [(home.path().to_owned(), 0o755), (run.clone(), 0o755), (home.socket(), 0o666)] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(open)).unwrap();
    }
    fs::set_permissions(run.parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let socket = home.socket();
    let curl = ["--reuid=65534", "--clear-groups", "curl", "-sS", "--unix-socket"];
    // The agent closes the connection without reading, so a slow client may see only the closed connection: try again.
    let problem = wait_until("the refusal", || {
        let output = std::process::Command::new("setpriv").args(curl).arg(&socket).arg("http://a/v1/token").output();
        serde_json::from_slice::<serde_json::Value>(&output.expect("setpriv").stdout).ok()
    });
    assert_eq!((&problem["status"], &problem["code"]), (&json!(403), &json!("caller_not_permitted")));
    let log = agent.get("/v1/log").expect_status(200);
    let refused =
        log["entries"].as_array().unwrap().iter().find(|entry| entry["action"] == "refused").expect("an entry");
    assert_eq!(refused["uid"], 65534);
}
