//! Secrets: runs each command of a session's life with `-vvv`, then searches the output and all written files for them.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};
use proptest::prelude::*;

use crate::support::process::{open_memory, wait_until};
use crate::support::stub_server::StubServer;
use crate::support::{AUTHCTL, PASSWORD, Sandbox, TOTP, contains, issuer, quick_issuer};

/// Fails the test if a file of this home contains a secret.
#[track_caller]
fn assert_no_leaks(home: &Sandbox) {
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
}

fn faults(idp: &DevIssuer, endpoint: Endpoint, kinds: &[FaultKind]) {
    for kind in kinds {
        idp.fault(Fault { endpoint, kind: kind.clone(), times: 1 });
    }
}

/// Returns the faults of an issuer or a network that do not delay a test.
fn quick_faults() -> Vec<FaultKind> {
    vec![
        FaultKind::Reset,
        FaultKind::LostReply,
        FaultKind::ServerError,
        FaultKind::Html,
        FaultKind::HtmlError,
        FaultKind::InvalidJson,
        FaultKind::OAuthError { status: 401, code: "invalid_client".into() },
        FaultKind::EmptyBody { status: 200 },
        FaultKind::EmptyBody { status: 404 },
    ]
}

const PASSWORD_LOGIN: [&str; 6] =
    ["--client-id", "authctl", "--password", "--username", "developer", "--password-stdin"];

#[test]
fn login_to_logout_leaks_no_secret() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.register_secret("wrong-password-typed-by-mistake");
    let login = [&["login", "work", "-vvv", "--issuer", idp.issuer()][..], &PASSWORD_LOGIN].concat();
    home.run_with(&login, "wrong-password-typed-by-mistake\n").exits(5);
    for (endpoint, kind) in
        quick_faults().into_iter().flat_map(|k| [(Endpoint::Token, k.clone()), (Endpoint::Metadata, k)])
    {
        faults(&idp, endpoint, &[kind]);
        let ran = home.run_with(&login, &format!("{PASSWORD}\n"));
        assert!(ran.code < 8, "{ran:?}");
        idp.clear_faults();
    }
    home.run_with(&login, &format!("{PASSWORD}\n")).exits(0);
    home.session("work");
    assert_no_leaks(&home);
    home.run(&["token", "--audience", "https://api.example", "-vvv"]).exits(0);
    home.session("work");
    for kind in quick_faults() {
        idp.fault(Fault { endpoint: Endpoint::Token, kind, times: 1 });
        home.run(&["refresh", "-vvv"]);
        home.run(&["refresh", "-vvv", "--json"]);
        home.session("work");
        idp.clear_faults();
        let ran = home.run(&["status", "-vvv"]);
        assert!(ran.code == 0, "{ran:?}");
    }
    home.run_with(&login, &format!("{PASSWORD}\n")).exits(0);
    home.session("work");
    for args in
        [&["status", "--json", "-vvv"][..], &["verify", "-vvv"], &["verify", "--json"], &["verify", "--audience", "x"]]
    {
        home.run(args);
        assert_no_leaks(&home);
    }
    home.run(&["profile", "rename", "work", "home"]).exits(0);
    assert_no_leaks(&home);
    faults(&idp, Endpoint::Revoke, &[FaultKind::OAuthError { status: 400, code: "invalid_request".into() }]);
    home.run(&["logout", "-vvv"]).exits(5);
    assert_no_leaks(&home);
    assert!(home.secrets().len() > 8, "the search had secrets to look for");
}

#[test]
fn client_secret_is_not_leaked() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    let secret = idp.client_secret("authctl-service").unwrap();
    home.register_secret(secret.expose());
    home.register_secret("a-wrong-client-secret");
    let login = ["login", "ci", "-vvv", "--issuer", idp.issuer(), "--client-id", "authctl-service"];
    let login = [&login[..], &["--client-credentials", "--client-secret-stdin"]].concat();
    home.run_with(&login, "a-wrong-client-secret\n").exits(5);
    home.run_with(&login, &format!("{}\n", secret.expose())).exits(0);
    home.session("ci");
    home.expire("ci");
    for kind in quick_faults() {
        faults(&idp, Endpoint::Token, &[kind]);
        home.run(&["refresh", "-vvv"]);
        idp.clear_faults();
    }
    home.session("ci");
    home.run(&["logout", "-vvv"]).exits(0);
    assert_no_leaks(&home);
}

#[test]
fn token_read_from_stdin_is_not_leaked() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.register_secret("a-refresh-token-from-elsewhere");
    let given = "{\"access_token\":\"an-access-token-from-elsewhere\",\"token_type\":\"Bearer\",\"expires_in\":60,\
                 \"refresh_token\":\"a-refresh-token-from-elsewhere\"}";
    home.register_secret("an-access-token-from-elsewhere");
    let login = ["login", "given", "-vvv", "--issuer", idp.issuer(), "--client-id", "authctl", "--with-token"];
    home.run_with(&login, &given[..given.len() - 1]);
    home.run_with(&login, given);
    home.run(&["refresh", "given", "-vvv"]);
    home.run(&["verify", "given", "-vvv"]);
    home.run_with(&["verify", "-", "--profile", "given", "-vvv"], "an-access-token-from-elsewhere");
    home.run_with(&["verify", "-", "--profile", "given", "--batch"], "an-access-token-from-elsewhere\n");
    home.run(&["logout", "given", "-vvv"]);
    assert_no_leaks(&home);
}

#[test]
fn device_code_and_second_factor_are_not_printed() {
    let home = Sandbox::new();
    let idp = issuer(|options| options.device_interval = std::time::Duration::from_secs(1));
    let args = ["login", "tv", "--issuer", idp.issuer(), "--client-id", "authctl", "--device", "-vvv"];
    let mut command = home.command(&args);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut printed = String::new();
    for line in crate::support::process::Lines::of(child.stderr.take().unwrap()) {
        let word = line.trim();
        if word.len() == 9 && word.as_bytes()[4] == b'-' {
            assert!(idp.approve_device(word, "developer"), "{word}");
        }
        printed.push_str(&line);
        printed.push('\n');
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{printed}");
    home.session("tv");
    for secret in home.secrets() {
        assert!(!printed.contains(&secret) && !contains(&output.stdout, secret.as_bytes()), "{printed}");
    }
    assert!(!printed.contains("device_code="), "{printed}");
    // Without a terminal no one-time code can be typed; the error must not contain the password that was accepted.
    let login = ["login", "two", "--issuer", idp.issuer(), "--client-id", "authctl", "--password", "-vvv"];
    let login = [&login[..], &["--username", "second", "--password-stdin"]].concat();
    home.run_with(&login, &format!("{PASSWORD}\n")).exits(3);
    assert!(home.secrets().contains(&TOTP.to_owned()));
    assert_no_leaks(&home);
}

#[test]
fn error_text_that_repeats_a_short_secret_is_left_out() {
    let home = Sandbox::new();
    let refreshes = std::sync::atomic::AtomicUsize::new(0);
    let idp = StubServer::start(move |own, request| match request.path.as_str() {
        "/token" if request.body.contains("grant_type=refresh_token") => {
            // The access token is not sent, but known.
            let number = refreshes.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let (code, text) = match number {
                0 => ("invalid_request", "`r7x` is used".to_owned()),
                1 => ("invalid_request", "`a9z` is used".to_owned()),
                2 => ("a9z", String::new()),
                // What is printed ends in the middle of it.
                _ => ("invalid_request", format!("{} a9z", "f".repeat(297))),
            };
            (400, format!("{{\"error\":\"{code}\",\"error_description\":\"{text}\"}}"))
        }
        "/token" if request.body.contains("password=p%26w") => {
            (403, "{\"error\":\"invalid_grant\",\"error_description\":\"not password=p%26w\"}".into())
        }
        "/token" => (200, "{\"access_token\":\"a9z\",\"refresh_token\":\"r7x\",\"expires_in\":300}".into()),
        "/.well-known/openid-configuration" => {
            (200, format!("{{\"issuer\":\"{own}\",\"token_endpoint\":\"{own}/token\"}}"))
        }
        _ => (404, "{}".into()),
    });
    let login = ["login", "work", "--issuer", &idp.url, "--client-id", "cli", "--scope", "api", "--password-stdin"];
    let login = [&login[..], &["--username", "developer"]].concat();
    let refused = home.run_with(&login, "p&w\n").exits(5).stderr;
    assert!(refused.contains("wrong user name or password") && !refused.contains("p%26w"), "{refused}");
    home.run_with(&login, "right\n").exits(0);
    for (secret, shown) in
        [("r7x", "invalid_request"), ("a9z", "invalid_request"), ("a9z", "error"), ("ffff", "invalid_request")]
    {
        let refused = home.run(&["refresh"]).exits(5).stderr;
        assert!(refused.contains(shown) && !refused.contains(secret), "{refused}");
        let status = home.run(&["status", "--json"]).stdout;
        assert!(!status.contains(secret), "{status}");
    }
}

/// Starts a stub issuer whose token endpoint repeats the request in an error, then in a page, and then issues tokens.
fn echoing_issuer() -> StubServer {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    StubServer::start(move |own, request| match request.path.as_str() {
        "/token" => {
            let echo = request.body.replace('"', "");
            match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 3 {
                0 => (400, format!("{{\"error\":\"invalid_request\",\"error_description\":\"you sent {echo}\"}}")),
                1 => (200, format!("<html>{echo}</html>")),
                _ => (200, "{\"access_token\":\"an-opaque-token\",\"refresh_token\":\"a-refresh-token\"}".into()),
            }
        }
        "/.well-known/openid-configuration" => {
            let places = ["authorization", "token"].map(|name| format!("\"{name}_endpoint\":\"{own}/{name}\""));
            (200, format!("{{\"issuer\":\"{own}\",{}}}", places.join(",")))
        }
        _ => (404, "{}".into()),
    })
}

#[test]
fn authorization_code_and_verifier_are_not_leaked() {
    let mut home = Sandbox::new();
    let (script, seen) = (home.path().join("browser"), home.path().join("browser-arguments"));
    fs::write(&script, format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >> '{}'\n", seen.display())).unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    home.set("BROWSER", &script);
    let idp = echoing_issuer();
    home.register_secret("an-opaque-token");
    home.register_secret("a-refresh-token");
    let login = ["login", "work", "--issuer", &idp.url, "--client-id", "cli", "--scope", "api", "-vvv"];
    for (attempt, how) in
        ["--browser", "--browser", "--browser", "--no-browser", "--no-browser", "--no-browser"].into_iter().enumerate()
    {
        let code = format!("the-code-of-attempt-{attempt}");
        home.register_secret(&code);
        let mut waiting = home.spawn(&[&login[..], &[how, "--replace"]].concat());
        let address = url::Url::parse(&waiting.wait_for_line("http://127.0.0.1")).unwrap();
        let asked = |name: &str| address.query_pairs().find(|(n, _)| n == name).unwrap().1.into_owned();
        let back = format!("{}?code={code}&state={}", asked("redirect_uri"), asked("state"));
        if how == "--browser" {
            assert_eq!(crate::support::http::get(&back, &[]).0, 200);
        } else {
            waiting.type_text(&format!("{back}\n"));
        }
        let ran = waiting.wait();
        assert_eq!(ran.code, [5, 6, 0][attempt % 3], "{ran:?}");
        let sent = idp.requests().into_iter().rfind(|request| request.path == "/token").unwrap().body;
        let form: std::collections::HashMap<String, String> =
            url::form_urlencoded::parse(sent.as_bytes()).into_owned().collect();
        assert_eq!(form["code"], code);
        assert_eq!(form["code_verifier"].len(), 43);
        // The verifier is known only now, so the output of this run is searched for it here.
        for secret in [&form["code_verifier"], &code] {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{ran:?}");
        }
        home.register_secret(&form["code_verifier"]);
        assert_no_leaks(&home);
    }
    assert!(
        fs::read_to_string(&seen).unwrap().lines().count() >= 3,
        "the browser's arguments were recorded and searched"
    );
}

#[test]
fn one_time_code_and_mfa_token_are_not_leaked() {
    let home = Sandbox::new();
    let idp = StubServer::start(|own, request| match request.path.as_str() {
        "/token" if request.body.contains("mfa-otp") && request.body.contains("otp=111111") => {
            (403, format!("{{\"error\":\"invalid_grant\",\"error_description\":\"no: {}\"}}", request.body))
        }
        "/token" if request.body.contains("mfa-otp") => (200, "{\"access_token\":\"an-opaque-token\"}".into()),
        "/token" => (403, "{\"error\":\"mfa_required\",\"mfa_token\":\"stands-for-the-password\"}".into()),
        "/.well-known/openid-configuration" => {
            (200, format!("{{\"issuer\":\"{own}\",\"token_endpoint\":\"{own}/token\"}}"))
        }
        _ => (404, "{}".into()),
    });
    for secret in ["an-opaque-token", "stands-for-the-password", "111111", "735192"] {
        home.register_secret(secret);
    }
    let login = ["login", "work", "--issuer", &idp.url, "--client-id", "cli", "--scope", "api", "-vvv", "--password"];
    let mut waiting = home.spawn_in_terminal(&[&login[..], &["--username", "developer"]].concat());
    waiting.reports("Password: ");
    waiting.type_text(&format!("{PASSWORD}\n"));
    waiting.reports("One-time code: ");
    waiting.type_text("111111\n");
    waiting.reports("try again");
    waiting.wait_until("the second prompt", |text| (text.matches("One-time code: ").count() > 1).then_some(()));
    waiting.type_text("735192\n");
    waiting.wait().exits(0);
    assert_no_leaks(&home);
}

#[test]
fn arguments_and_environment_of_a_process_hold_no_secret() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.expire("work");
    idp.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
    let before = idp.stats().requests["token"];
    let child = home.start(&["refresh", "-vvv"], "");
    wait_until("the request", || (idp.stats().requests["token"] > before).then_some(()));
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{file}", child.id())).unwrap();
        assert!(!bytes.is_empty(), "the process has ended");
        for secret in home.secrets() {
            assert!(!contains(&bytes, secret.as_bytes()), "{file}");
        }
    }
    idp.clear_faults();
    home.finish(child, &["refresh"]).exits(0);
    home.session("work");
    assert_no_leaks(&home);
}

#[test]
fn memory_of_a_command_is_closed_to_other_processes() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    home.expire("work");
    idp.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::HoldReply, times: 1 });
    let before = idp.stats().requests["token"];
    // Without CAP_SYS_PTRACE as well: a process with fewer capabilities is refused in any case.
    let spawn = |args: &[&str]| {
        let words = [&["--bounding-set=-sys_ptrace", AUTHCTL][..], args].concat();
        home.spawn_command(home.command_for("setpriv", &words), args)
    };
    let refreshing = spawn(&["token", "work"]);
    wait_until("the refresh", || (idp.stats().requests["token"] > before).then_some(()));
    assert!(open_memory("$$").status.success(), "a process can open its own memory");
    let refused = open_memory(&refreshing.id().to_string());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied"), "{refused:?}");
    idp.clear_faults();
    refreshing.wait().exits(0);
    // The command that is run with the token is an ordinary one.
    let mut running = spawn(&["exec", "work", "--", "sh", "-c", "echo started; cat"]);
    running.wait_for_output("the command", |output| output.contains("started").then_some(()));
    let opened = open_memory(&running.id().to_string());
    assert!(opened.status.success(), "{opened:?}");
    running.close_stdin();
    running.wait().exits(0);
}

#[test]
fn search_finds_a_planted_leak() {
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    let tokens = home.session("work").tokens;
    assert_no_leaks(&home);
    let planted = home.path().join("data/authctl/debug.log");
    for secret in [&tokens.access_token, tokens.refresh_token.as_ref().unwrap(), tokens.id_token.as_ref().unwrap()] {
        fs::write(&planted, format!("{{\"token\":\"{}\"}}", secret.expose())).unwrap();
        assert_eq!(home.leaks_in_files(), std::slice::from_ref(&planted));
    }
    // And on stdout: `profile show` prints a client ID that is registered as a secret.
    home.run(&["profile", "set", "work", "client_id=planted-secret"]).exits(0);
    home.register_secret("planted-secret");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| home.run(&["profile", "show"])));
    let message = *caught.expect_err("the search must fail the test").downcast::<String>().unwrap();
    assert!(message.contains("a secret on stdout"), "{message}");
}

#[test]
fn stored_files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Sandbox::new();
    let idp = quick_issuer();
    home.log_in("work", &idp);
    home.run(&["logout"]).exits(0);
    home.log_in("work", &idp);
    for (path, _) in home.files() {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Reports an error for an invalid configuration, whatever it contains, and does not panic.
    #[test]
    fn invalid_configuration_does_not_panic(
        text in r#"(?s)(\[(profiles\.)?["a-z.]{0,6}\]?\n|(issuer|client_id|scopes|grant|default_profile) ?= ?("[^"]{0,8}"|\[|7|\{\})\n|.{0,12}){0,6}"#
    ) {
        let home = Sandbox::new();
        home.configure("");
        fs::File::create(home.config_file()).unwrap().write_all(text.as_bytes()).unwrap();
        let ran = home.run(&["profile", "list", "--json"]);
        prop_assert!(matches!(ran.code, 0 | 2), "{:?} {:?}", text, ran);
        prop_assert!(!ran.stderr.contains("panicked"), "{:?} {:?}", text, ran);
    }
}
