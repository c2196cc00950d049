//! `login --workload`: the identity token of the platform logs in and refreshes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use authctl::dev_issuer::{Algorithm, DevIssuer, GrantType, PlatformKeys};
use rustix::process::{Pid, test_kill_process_group};
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::jwt::{Signer, claims, now};
use crate::support::process::wait_until;
use crate::support::stub_server::StubServer;
use crate::support::{CommandOutput, Sandbox, issuer};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// A platform, an issuer that trusts it, and a home.
struct Setup {
    home: Sandbox,
    platform: Signer,
    issuer: DevIssuer,
}

impl Setup {
    fn new(grants: &[GrantType]) -> Self {
        let platform = Signer::new();
        let issuer = issuer(|options| {
            options.algorithm = Algorithm::ES256;
            options.platform_keys = PlatformKeys::parse(&platform.jwks().to_string());
            options.clients.iter_mut().for_each(|client| client.grants.extend(grants));
        });
        Self { home: Sandbox::new(), platform, issuer }
    }

    /// Returns a new identity token for the issuer.
    fn identity_token(&self, changes: Value) -> String {
        let mut claims = json!({"iss": "https://platform.example", "aud": self.issuer.issuer(), "sub": "repo:a/b"});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let token = self.platform.token(claims);
        self.home.register_secret(&token);
        token
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("identity")
    }

    fn write(&self, changes: Value) {
        fs::write(self.file(), self.identity_token(changes) + "\n").unwrap();
    }

    fn file_source(&self) -> String {
        format!("file:{}", self.file().display())
    }

    fn log_in(&self, workload: &str) -> CommandOutput {
        let args = ["login", "ci", "--issuer", self.issuer.issuer(), "--client-id", "authctl", "-vvv"];
        self.home.run(&[&args[..], &["--workload", workload]].concat())
    }

    fn requests(&self, grant_type: &str) -> u64 {
        self.issuer.stats().token_requests.get(grant_type).copied().unwrap_or(0)
    }

    /// Returns the number of requests to the token endpoint.
    fn all_requests(&self) -> u64 {
        self.issuer.stats().requests.get("token").copied().unwrap_or(0)
    }
}

#[test]
fn workload_logs_in_and_refreshes_with_a_new_identity_token() {
    let setup = Setup::new(&[GrantType::JwtBearer]);
    let home = &setup.home;
    setup.write(json!({}));
    setup.log_in(&setup.file_source()).exits(0);
    assert_eq!(setup.requests(JWT_BEARER), 1);
    let status = home.status("ci");
    assert_eq!((&status["grant"], &status["can_refresh"]), (&json!("workload"), &json!(true)));
    assert!(home.session("ci").tokens.refresh_token.is_none());
    let token = home.token("ci");
    assert_eq!(claims(&token)["sub"], "https://platform.example#repo:a/b");
    let other = home.run(&["token", "ci", "--audience", "https://api.example"]).exits(0).line().to_owned();
    assert_eq!(claims(&other)["aud"], "https://api.example");
    // The first token of the platform has expired in the meantime.
    home.advance_time("ci", 301);
    setup.write(json!({"exp": now()}));
    let before = setup.all_requests();
    home.run(&["token", "ci"]).exits(2).reports("it has expired");
    assert_eq!(setup.all_requests(), before, "nothing is sent");
    setup.write(json!({"sub": "repo:a/b", "jti": "second"}));
    assert_ne!(home.run(&["token", "ci"]).exits(0).line(), token);
    assert_eq!(setup.requests(JWT_BEARER), 3);
    // As the profile has it.
    home.run(&["logout"]).exits(0);
    home.run(&["login", "ci"]).exits(0);
    home.run(&["status", "ci", "--check"]).exits(0);
    assert_eq!(home.leaks_in_files(), [setup.file()]);
}

/// Starts an identity provider that gives this assertion for any ID token.
fn identity_provider(assertion: String, issued: &'static str) -> StubServer {
    StubServer::start(move |url, request| match request.path.as_str() {
        "/token" => {
            let body = json!({"access_token": assertion, "issued_token_type": issued, "token_type": "N_A"});
            (200, body.to_string())
        }
        _ => (200, json!({"issuer": url, "token_endpoint": format!("{url}/token")}).to_string()),
    })
}

#[test]
fn identity_provider_gives_the_assertion_for_an_id_token() {
    let setup = Setup::new(&[GrantType::JwtBearer]);
    let assertion = setup.identity_token(json!({"sub": "employee"}));
    let id_jag = "urn:ietf:params:oauth:token-type:id-jag";
    let provider = identity_provider(assertion.clone(), id_jag);
    setup.write(json!({"aud": "my-cli", "iss": "https://idp.example"}));
    let api = ["--resource", "https://api.example/mcp"];
    let source = setup.file_source();
    let login = ["login", "ci", "--issuer", setup.issuer.issuer(), "--client-id", "authctl", "--workload", &source];
    let by = ["--identity-provider", &provider.url, "--identity-client-id", "my-cli", "-vvv"];
    setup.home.run(&[&login[..], &by, &api].concat()).exits(0);
    let sent = provider.requests().into_iter().find(|request| request.path == "/token").expect("an exchange");
    let form: std::collections::BTreeMap<String, String> =
        url::form_urlencoded::parse(sent.body.as_bytes()).into_owned().collect();
    let id_token = fs::read_to_string(setup.file()).unwrap();
    for (name, value) in [
        ("grant_type", EXCHANGE),
        ("requested_token_type", id_jag),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
        ("subject_token", id_token.trim()),
        ("audience", setup.issuer.issuer()),
        ("resource", "https://api.example/mcp"),
        ("client_id", "my-cli"),
    ] {
        assert_eq!(form.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(claims(&setup.home.token("ci"))["sub"], "https://platform.example#employee");
    setup.home.advance_time("ci", 301);
    setup.home.run(&["token", "ci"]).exits(0);
    assert_eq!(setup.requests(JWT_BEARER), 2);
    // An ID token for another client is not sent anywhere.
    setup.home.advance_time("ci", 301);
    setup.write(json!({"aud": "another-client"}));
    let before = provider.requests().len();
    setup.home.run(&["token", "ci"]).exits(2).reports("not for `my-cli`");
    assert_eq!(provider.requests().len(), before);
    let export = setup.home.run(&["profile", "export", "ci"]).exits(0).stdout;
    setup.home.run_with(&["profile", "import", "-", "--replace"], &export).exits(2).reports("identity provider");
    let other = identity_provider(assertion, "urn:ietf:params:oauth:token-type:access_token");
    setup.write(json!({"aud": "my-cli"}));
    setup.home.run(&["profile", "set", "ci", &format!("identity_provider={}", other.url)]).exits(0);
    setup.home.run(&["token", "ci"]).exits(6).reports("another type than was requested");
    assert_eq!(setup.requests(JWT_BEARER), 2);
}

#[test]
fn token_exchange_is_used_where_the_issuer_offers_only_that() {
    let setup = Setup::new(&[GrantType::TokenExchange]);
    setup.write(json!({}));
    setup.log_in(&setup.file_source()).exits(0);
    setup.home.advance_time("ci", 301);
    setup.home.run(&["token", "ci"]).exits(0);
    setup.home.run(&["token", "ci", "--audience", "https://api.example"]).exits(0);
    assert_eq!((setup.requests(EXCHANGE), setup.requests(JWT_BEARER)), (3, 0));
}

#[test]
fn refused_identity_token_does_not_end_the_session() {
    let setup = Setup::new(&[GrantType::JwtBearer]);
    let stranger = Signer::new().token(json!({"aud": setup.issuer.issuer()}));
    setup.home.register_secret(&stranger);
    fs::write(setup.file(), &stranger).unwrap();
    setup.log_in(&setup.file_source()).exits(5).reports("invalid_grant");
    setup.write(json!({}));
    setup.log_in(&setup.file_source()).exits(0);
    setup.home.advance_time("ci", 301);
    fs::write(setup.file(), &stranger).unwrap();
    (0..3).for_each(|_| drop(setup.home.run(&["token", "ci"]).exits(5).reports("invalid_grant")));
    setup.write(json!({"jti": "next"}));
    setup.home.run(&["token", "ci"]).exits(0);
}

#[test]
fn token_for_another_server_is_not_sent_to_the_issuer() {
    let setup = Setup::new(&[GrantType::JwtBearer]);
    for (changes, text) in [
        (
            json!({"aud": "https://kubernetes.default.svc"}),
            "it is for `https://kubernetes.default.svc`, not for `http://127",
        ),
        (json!({"aud": null}), "it is for no audience"),
        (json!({"aud": ["a", "b"]}), "it is for `a`, `b`, not for"),
        (json!({"exp": now() - 1}), "it has expired"),
    ] {
        setup.write(changes);
        setup.log_in(&setup.file_source()).exits(2).reports(text);
    }
    for text in ["", "opaque", "a.b.c", "\u{0}"] {
        fs::write(setup.file(), text).unwrap();
        setup.log_in(&setup.file_source()).exits(2).reports("it is not a JWT");
    }
    fs::write(setup.file(), "x".repeat(1 << 20)).unwrap();
    setup.log_in(&setup.file_source()).exits(2).reports("cannot read");
    fs::remove_file(setup.file()).unwrap();
    let error = setup.log_in(&setup.file_source()).exits(2);
    error.reports(&format!("error: no identity token from file:{}: cannot read", setup.file().display()));
    assert_eq!(setup.all_requests(), 0, "nothing was sent");
    // The user may name another audience; the token endpoint is the issuer too (RFC 7523, section 3).
    setup.write(json!({"aud": format!("{}/token", setup.issuer.issuer())}));
    setup.log_in(&setup.file_source()).exits(0);
    setup.write(json!({"aud": "other"}));
    let args = ["login", "ci", "--client-assertion-audience", "other"];
    setup.home.run(&args).exits(5).reports("invalid_grant");
}

#[test]
fn command_is_run_without_a_shell_and_within_limits() {
    let setup = Setup::new(&[GrantType::JwtBearer]);
    let script = setup.home.path().join("print-token");
    let write = |body: &str| {
        fs::write(&script, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    };
    let command = |arguments: &str| format!("command:{}{arguments}", script.display());
    setup.write(json!({}));
    write(&format!("[ \"$#\" = 3 ] && [ \"$2\" = '$(id)' ] && [ \"$3\" = '>x;y' ] && cat {}", setup.file().display()));
    setup.log_in(&command(" one $(id)  >x;y")).exits(0);
    setup.home.advance_time("ci", 301);
    setup.home.run(&["token", "ci"]).exits(0);
    let show = setup.home.run(&["profile", "show", "ci", "--json"]).exits(0).json();
    assert_eq!(show["workload"], command(" one $(id) >x;y"));
    for (body, text) in [
        ("echo hunter2-of-the-command >&2; exit 3", "the command exited with status 3"),
        ("kill -9 $$", "the command was killed"),
        ("exec cat /dev/zero", "the command printed more than 256 KiB"),
        ("echo hunter2-of-the-command", "it is not a JWT"),
        ("", "it is not a JWT"),
    ] {
        write(body);
        let ran = setup.log_in(&command("")).exits(2).reports(text);
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    }
    fs::remove_file(&script).unwrap();
    setup.log_in(&command("")).exits(2).reports("the command cannot be run: No such file or directory");
}

#[test]
fn github_job_requests_a_token_for_the_issuer() {
    let mut setup = Setup::new(&[GrantType::JwtBearer]);
    let token = setup.identity_token(json!({}));
    let github = StubServer::start(move |_, _| (200, json!({"count": 1, "value": token}).to_string()));
    setup.log_in("github").exits(2).reports("ACTIONS_ID_TOKEN_REQUEST_URL is not set").reports("id-token: write");
    setup.home.set("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/job?api-version=2.0", github.url));
    setup.log_in("github").exits(2).reports("ACTIONS_ID_TOKEN_REQUEST_TOKEN is not set");
    setup.home.set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "bearer-of-the-job");
    setup.home.register_secret("bearer-of-the-job");
    setup.log_in("github").exits(0);
    setup.home.advance_time("ci", 301);
    setup.home.run(&["token", "ci"]).exits(0);
    let audience: String = url::form_urlencoded::byte_serialize(setup.issuer.issuer().as_bytes()).collect();
    let paths: Vec<String> = github.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, vec![format!("/job?api-version=2.0&audience={audience}"); 2]);
    setup.home.set("ACTIONS_ID_TOKEN_REQUEST_URL", "http://pipelines.example/job");
    setup.log_in("github").exits(5).reports("https");
    assert_eq!(setup.home.leaks_in_files(), Vec::<PathBuf>::new());
}

#[test]
fn gitlab_and_kubernetes_tokens_are_read_where_the_platform_puts_them() {
    let mut setup = Setup::new(&[GrantType::JwtBearer]);
    setup.log_in("gitlab").exits(2).reports("AUTHCTL_ID_TOKEN is not set").reports("`id_tokens`");
    let token = setup.identity_token(json!({}));
    setup.home.set("AUTHCTL_ID_TOKEN", &token);
    setup.log_in("gitlab").exits(0);
    setup.home.unset("AUTHCTL_ID_TOKEN");
    setup.write(json!({"sub": "system:serviceaccount:a:b"}));
    // As root in a namespace of its own.
    let script = format!(
        "mount -t tmpfs run /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount && \
         cp {} /run/secrets/kubernetes.io/serviceaccount/token && exec \"$0\" \"$@\"",
        setup.file().display()
    );
    let args =
        ["login", "pod", "--issuer", setup.issuer.issuer(), "--client-id", "authctl", "--workload", "kubernetes"];
    setup.home.mounted(&script, &args, "").exits(0);
    assert_eq!(claims(&setup.home.token("pod"))["sub"], "https://platform.example#system:serviceaccount:a:b");
}

#[test]
fn agent_refreshes_workloads_and_commands_help_out_with_their_variables() {
    let mut setup = Setup::new(&[GrantType::JwtBearer]);
    setup.write(json!({}));
    setup.log_in(&setup.file_source()).exits(0);
    let agent = Agent::run(&setup.home);
    let first = agent.get("/v1/token/ci").token();
    setup.home.advance_agent_time(&agent, "ci", 301);
    assert_ne!(agent.get("/v1/token/ci").token(), first);
    agent.stop();
    let token = setup.identity_token(json!({}));
    setup.home.set("AUTHCTL_ID_TOKEN", &token);
    setup.log_in("gitlab").exits(0);
    setup.home.unset("AUTHCTL_ID_TOKEN");
    setup.home.advance_time("ci", 301);
    let agent = Agent::run(&setup.home);
    let problem = agent.get("/v1/token/ci").expect_problem(503, "workload_unavailable");
    assert_eq!(problem["exit_code"], 2);
    let mut command = setup.home.command(&["token", "ci"]);
    command.env("AUTHCTL_ID_TOKEN", &token);
    let refreshed = setup.home.run_command(&mut command).exits(0).line().to_owned();
    assert_eq!(agent.get("/v1/token/ci").token(), refreshed, "stored for all");
}

#[test]
fn ensure_stops_at_the_end_of_an_identity_token_issued_once() {
    let mut setup = Setup::new(&[GrantType::JwtBearer]);
    let ensure = |setup: &Setup, time: &str| setup.home.run(&["ensure", "ci", "--for", time]);
    let lasting = |issued: i64| json!({"iat": issued, "exp": now() + 7200});
    let token = setup.identity_token(lasting(now()));
    setup.home.set("AUTHCTL_ID_TOKEN", &token);
    setup.log_in("gitlab").exits(0);
    let known = "without a new identity token from gitlab it lasts";
    ensure(&setup, "1h").exits(0).reports(&format!("ci: signed in; {known}")).reports("; enough for 1 h");
    let found = setup.home.run(&["ensure", "ci", "--for", "1h", "--json"]).exits(0).json();
    assert_eq!((&found["limit"], &found["until"]), (&json!("identity_token"), &claims(&token)["exp"]));
    let short = ensure(&setup, "10h").exits(5).reports(&format!("the session of `ci` does not last 10 h: {known}"));
    assert!(short.stderr.contains("note:  split the job"), "{}", short.stderr);
    // A login would use the same token.
    let before = setup.requests(JWT_BEARER);
    setup.home.spawn_in_terminal(&["ensure", "ci", "--for", "10h"]).wait().exits(5);
    assert_eq!(setup.requests(JWT_BEARER), before + 1, "one refresh");
    // Without it, the access token of five minutes is all.
    setup.home.unset("AUTHCTL_ID_TOKEN");
    ensure(&setup, "1m").exits(0).reports(known);
    ensure(&setup, "10h").exits(2).reports("AUTHCTL_ID_TOKEN is not set");

    // A file may be replaced: by spiffe-helper, or by the kubelet where a container has a part of the volume.
    let warning = "warning: the session ends unless another program replaces the identity token in";
    setup.write(lasting(now() - 400));
    setup.log_in(&setup.file_source()).exits(0);
    let ran = ensure(&setup, "10h").exits(0).reports("logs in by itself; assumed to last 10 h").reports(warning);
    let expires_in = |left: &str| ran.stderr.contains(&format!("{}, which expires in {left}", setup.file_source()));
    assert!(expires_in("2 h") || expires_in("1 h 59 min"), "{}", ran.stderr);
    assert!(!ensure(&setup, "1h").exits(0).stderr.contains("warning"));
    for (time, is_named) in [("10h", true), ("1h", false)] {
        let found = setup.home.run(&["ensure", "ci", "--for", time, "--json"]).exits(0).json();
        assert_eq!(found["replace_identity_token_by"].is_i64(), is_named, "{found}");
    }
    // Nothing has replaced it for longer than its token is valid.
    let written = |ago: u64| {
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(ago);
        fs::File::options().write(true).open(setup.file()).unwrap().set_modified(time).unwrap();
    };
    written(7700);
    ensure(&setup, "10h").exits(5).reports(&format!("from {} it lasts", setup.file_source()));
    written(7500);
    ensure(&setup, "10h").exits(0).reports(warning);
    // Something has replaced it once.
    setup.home.advance_time("ci", 301);
    setup.write(lasting(now()));
    let ran = ensure(&setup, "10h").exits(0).reports("the workload logs in by itself; enough for 10 h");
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    // As in a volume of a pod.
    setup.write(lasting(now() - 400));
    let volume = setup.home.path().join("volume");
    fs::create_dir_all(volume.join("..data")).unwrap();
    fs::rename(setup.file(), volume.join("..data/token")).unwrap();
    std::os::unix::fs::symlink("..data/token", volume.join("token")).unwrap();
    setup.log_in(&format!("file:{}", volume.join("token").display())).exits(0);
    ensure(&setup, "10h").exits(0);

    // What authenticates the requests of a job expires too, if it is a JWT.
    let token = setup.identity_token(json!({}));
    let github = StubServer::start(move |_, _| (200, json!({"value": token}).to_string()));
    setup.home.set("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/job?a=b", github.url));
    setup.home.set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "opaque");
    setup.log_in("github").exits(0);
    ensure(&setup, "10h").exits(0);
    let bearer = setup.identity_token(lasting(now()));
    setup.home.set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &bearer);
    ensure(&setup, "1h").exits(0).reports("from github it lasts");
    ensure(&setup, "10h").exits(5);
}

#[test]
fn imported_profile_runs_no_command() {
    let home = Sandbox::new();
    let profile = |workload: &str| {
        format!(
            "[profiles.ci]\nissuer = \"https://issuer.example\"\nclient_id = \"ci\"\ngrant = \"workload\"\nstore = \"file\"\n\
             workload = \"{workload}\"\n"
        )
    };
    home.run_with(&["profile", "import", "-"], &profile("command:touch /tmp/x")).exits(2).reports("runs a command");
    home.run(&["profile", "show", "ci"]).exits(2);
    home.run_with(&["profile", "import", "-"], &profile("github")).exits(0);
}

#[test]
fn unknown_workload_is_a_usage_error() {
    let setup = Setup::new(&[GrantType::JwtBearer]);
    for workload in ["aws", "file:", "command:", "Github"] {
        setup.log_in(workload).exits(2).reports("possible values: github, gitlab, kubernetes, file:PATH, command:CMD");
    }
    let args = ["login", "ci", "--issuer", setup.issuer.issuer(), "--workload", "github", "--device"];
    setup.home.run(&args).exits(2).reports("cannot be used with");
}

#[test]
fn failure_of_the_platform_is_recorded_and_delays_the_next_attempt() {
    let setup = Setup::new(&[GrantType::JwtBearer]);
    let home = &setup.home;
    setup.write(json!({}));
    let program = home.path().join("identity-command");
    let script = format!("#!/bin/sh\necho x >> '{0}/runs'; exec cat '{0}/identity'\n", home.path().display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let runs = || fs::read_to_string(home.path().join("runs")).unwrap().lines().count();
    setup.log_in(&format!("command:{}", program.display())).exits(0);
    let token = home.token("ci");
    fs::remove_file(setup.file()).unwrap();
    // The token is still valid, and due for a refresh.
    home.advance_time("ci", 280);
    let before = runs();
    for _ in 0..3 {
        assert_eq!(home.run(&["token", "ci"]).exits(0).line(), token);
    }
    assert_eq!(runs(), before + 1);
    let failure = home.status("ci")["last_failure"].clone();
    assert_eq!((&failure["code"], &failure["failures"]), (&json!("workload_unavailable"), &json!(1)), "{failure}");
    assert!(home.run(&["status", "ci"]).stdout.contains("exited with status 1"));
    // A command that needs a new token tries again.
    home.run(&["refresh", "ci"]).exits(2).reports("exited with status 1");
    assert_eq!((runs(), home.status("ci")["last_failure"]["failures"].clone()), (before + 2, json!(2)));
    setup.write(json!({}));
    home.run(&["refresh", "ci"]).exits(0);
    assert_eq!(home.status("ci")["last_failure"], json!(null));
}

#[test]
fn interrupted_workload_command_ends_with_authctl() {
    let setup = Setup::new(&[GrantType::JwtBearer]);
    let home = &setup.home;
    let program = home.path().join("identity-command");
    fs::write(&program, format!("#!/bin/sh\necho $$ > '{}/pid'\nsleep 1000 & wait\n", home.path().display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let (issuer, source) = (setup.issuer.issuer(), format!("command:{}", program.display()));
    let login = ["login", "ci", "--issuer", issuer, "--client-id", "authctl", "--workload", &source];
    let mut running = home.spawn_in_terminal(&login);
    let pid =
        wait_until("the command", || fs::read_to_string(home.path().join("pid")).ok()?.trim().parse::<i32>().ok());
    running.type_text("\u{3}");
    running.wait().exits(130);
    let group = Pid::from_raw(pid).expect("a process");
    wait_until("its end", || test_kill_process_group(group).is_err().then_some(()));
}
