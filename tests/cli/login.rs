//! `authctl login` without and with a browser elsewhere, and what a failed login must leave unchanged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind, Options};
use serde_json::json;

use crate::support::login_pages::{post, token_response, user_code};
use crate::support::stub_server::StubServer;
use crate::support::{AUTHCTL, PASSWORD, Sandbox, USER, issuer};

pub fn plain() -> DevIssuer {
    issuer(|_| {})
}

/// Returns the arguments of `login work` as the public client, followed by `more`.
pub fn login<'a>(issuer: &'a DevIssuer, more: &[&'a str]) -> Vec<&'a str> {
    [&["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"], more].concat()
}

pub const BY_PASSWORD: [&str; 4] = ["--password", "--password-stdin", "--username", USER];

/// Asserts that there is no profile and no session.
#[track_caller]
pub fn assert_nothing_stored(home: &Sandbox) {
    assert!(!home.config_file().exists(), "a failed login leaves no profile");
    assert!(!home.session_file("work").exists(), "a failed login leaves no session");
    home.run(&["token", "work"]).exits(2);
}

#[test]
fn client_credentials_login_supports_both_auth_methods_and_repeats() {
    let issuer = plain();
    let secret = issuer.client_secret("authctl-service").expect("drawn").expose().to_owned();
    for (auth, method) in [(None, "client_secret_basic"), (Some("client_secret_post"), "client_secret_post")] {
        let home = Sandbox::new();
        home.register_secret(&secret);
        let mut args = vec!["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl-service", "-vvv"];
        args.extend(["--client-credentials", "--client-secret-stdin", "--scope", "read"]);
        args.extend(auth.iter().flat_map(|auth| ["--client-auth", auth]));
        home.run_with(&args, "not-the-secret\n").exits(5);
        assert_nothing_stored(&home);
        home.run_with(&args, &format!("{secret}\n")).exits(0);
        let config = fs::read_to_string(home.config_file()).unwrap();
        assert!(config.contains(method) && !config.contains(&secret), "{config}");
        let first = home.token("work");
        assert_eq!(home.token("work"), first);
        home.advance_time("work", 301);
        let second = home.token("work");
        assert_ne!(first, second);
        assert_eq!(home.status("work")["can_refresh"], true);
        // A new login does not need the secret again.
        home.run(&["login", "work", "--client-credentials"]).exits(0);
    }
}

#[test]
fn client_credentials_login_reuses_stored_secret_without_terminal() {
    let (home, issuer) = (Sandbox::new(), plain());
    let secret = issuer.client_secret("authctl-service").expect("drawn").expose().to_owned();
    home.register_secret(&secret);
    let args = ["login", "ci", "--issuer", issuer.issuer(), "--client-id", "authctl-service", "--scope", "read"];
    let args = [&args[..], &["--client-credentials", "--client-secret-stdin"]].concat();
    home.run_with(&args, &secret).exits(0);
    let before = home.token("ci");
    home.run(&["login", "ci"]).exits(0);
    assert_ne!(home.token("ci"), before);
    // The secret is not used for another client or issuer, and is deleted by a logout; no request is sent in these cases.
    let requests = || issuer.stats().requests;
    let before = requests();
    let other = ["login", "ci", "--client-id", "another"];
    home.run(&other).exits(3).reports("--client-secret-stdin");
    assert_eq!(requests(), before);
    let elsewhere = plain();
    home.run(&["login", "ci", "--issuer", elsewhere.issuer()]).exits(3).reports("--client-secret-stdin");
    assert_eq!(elsewhere.stats().requests.len(), 0);
    home.run(&["logout", "ci"]).exits(0);
    let before = requests();
    home.run(&["login", "ci"]).exits(3).reports("--client-secret-stdin");
    assert_eq!(requests(), before);
    home.run_with(&["login", "ci", "--client-secret-stdin"], &secret).exits(0);
}

/// Sets `BROWSER` to a script that writes the address to a file.
pub fn browser(home: &mut Sandbox) -> std::path::PathBuf {
    let (script, opened) = (home.path().join("browser"), home.path().join("opened"));
    let text = format!("#!/bin/sh\nprintf '%s\\n' \"$1\" > '{0}.part'\nmv '{0}.part' '{0}'\n", opened.display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    home.set("BROWSER", script);
    opened
}

pub fn opened_address(file: &std::path::Path) -> String {
    crate::support::process::wait_until("the browser", || fs::read_to_string(file).ok()).trim().to_owned()
}

pub fn device(options: &mut Options) {
    options.device_interval = Duration::from_secs(1);
}

#[test]
fn device_login_shows_address_and_code() {
    let (home, issuer) = (Sandbox::new(), issuer(device));
    let waiting = home.spawn(&login(&issuer, &["--device", "-vvv"]));
    let address = waiting.wait_for_line(&format!("{}/device", issuer.issuer()));
    assert_eq!(address, format!("{}/device", issuer.issuer()));
    let code = waiting.wait_until("a user code", user_code);
    assert!(issuer.approve_device(&code, USER), "{code}");
    let ran = waiting.wait().exits(0);
    assert_eq!(ran.stdout, "", "progress goes to stderr");
    assert_eq!(home.status("work")["subject"]["name"], USER);
    assert_eq!(home.status("work")["grant"], "device");
}

#[test]
fn device_login_shows_address_code_and_qr_code_on_24_lines() {
    let (home, issuer) = (Sandbox::new(), issuer(device));
    let address = format!("{}/device", issuer.issuer());
    for (columns, has_code) in [(80, true), (40, false)] {
        let args = login(&issuer, &["--device"]);
        let mut waiting = home.spawn_program_in_terminal(AUTHCTL, &args, columns);
        waiting.wait_until("the end", |text| text.replace("\r\n", " ").contains("(Ctrl-C cancels)").then_some(()));
        waiting.type_text("\u{3}");
        let shown = waiting.wait().exits(130).stderr;
        // The terminal shows the key as `^C`.
        assert!(shown.contains("^C\r\n"), "{shown}");
        let shown = shown.split("cancels)").next().expect("a part").to_owned();
        let first = shown.find(['\u{2580}', '\u{2584}', '\u{2588}']);
        assert_eq!(first.is_some(), has_code, "{columns}: {shown}");
        let last = &shown[first.unwrap_or_default()..];
        assert!(last.contains(&address) && last.contains("enter the code"), "{shown}");
        // With the line of the cursor, where the width of each line is below that of the terminal.
        assert!(!has_code || last.lines().count() < 24, "{last}");
    }
}

#[test]
fn denied_or_expired_device_login_stores_nothing() {
    let (home, denying) = (Sandbox::new(), issuer(device));
    let waiting = home.spawn(&login(&denying, &["--device"]));
    let code = waiting.wait_until("a user code", user_code);
    assert!(denying.deny_device(&code));
    waiting.wait().exits(5).reports("access_denied");
    assert_nothing_stored(&home);
    let slow = issuer(|o| {
        device(o);
        o.device_code_ttl = Duration::from_secs(1);
    });
    home.spawn(&login(&slow, &["--device"])).wait().exits(3).reports("authctl login work");
    assert_nothing_stored(&home);
}

#[test]
fn login_without_terminal_fails_at_once_with_the_command_to_run() {
    let (mut home, issuer) = (Sandbox::new(), plain());
    browser(&mut home);
    home.set("DISPLAY", ":9");
    let ran = home.run(&login(&issuer, &["--json"])).exits(3);
    assert_eq!(ran.error()["code"], "login_required");
    // The profile does not exist, so its name alone would not work.
    let hint = format!("authctl login work --issuer {} --client-id authctl --device", issuer.issuer());
    assert_eq!(ran.error()["hint"], hint, "{}", ran.stderr);
    assert_eq!(issuer.stats().requests.len(), 0, "no request to the issuer");
    assert!(!home.path().join("opened").exists(), "no browser was opened");
    // Nor is there a prompt.
    home.run(&login(&issuer, &["--password"])).exits(3).reports("--username");
    home.run(&login(&issuer, &["--password", "--username", USER])).exits(3).reports("--password-stdin");
    assert_nothing_stored(&home);
    home.log_in("work", &issuer);
    home.run(&["login", "work"]).exits(3).reports("hint:  authctl login work --device");
}

#[test]
fn no_input_disables_prompts_in_a_terminal() {
    let (mut home, issuer) = (Sandbox::new(), plain());
    home.spawn_in_terminal(&login(&issuer, &["--no-input"])).wait().exits(3);
    home.spawn_in_terminal(&login(&issuer, &["--password", "--no-input"])).wait().exits(3);
    home.set("AUTHCTL_NO_INPUT", "1");
    home.spawn_in_terminal(&login(&issuer, &["--password"])).wait().exits(3);
}

#[test]
fn metadata_of_another_issuer_is_refused_before_password_is_sent() {
    let (home, issuer) = (Sandbox::new(), plain());
    issuer.fault(Fault { endpoint: Endpoint::Metadata, kind: FaultKind::IssuerMismatch, times: 0 });
    let ran = home.run_with(&login(&issuer, &[&BY_PASSWORD[..], &["--json"]].concat()), PASSWORD).exits(5);
    assert_eq!(ran.error()["code"], "issuer_mismatch");
    assert_nothing_stored(&home);
    assert_eq!(issuer.stats().token_requests.len(), 0, "no password was sent");
}

#[test]
fn insecure_unknown_or_incomplete_issuer_is_refused() {
    let home = Sandbox::new();
    let at = |issuer: &str, more: &[&str]| {
        home.run_with(&[&["login", "work", "--issuer", issuer], &BY_PASSWORD[..], more].concat(), PASSWORD)
    };
    at("http://issuer.example", &["--client-id", "authctl"]).exits(2).reports("https");
    at("not a url", &["--client-id", "authctl"]).exits(2);
    at("https://issuer.invalid", &["--client-id", "authctl"]).exits(6).reports("issuer.invalid");
    at(plain().issuer(), &[]).exits(2).reports("--client-id");
    assert_nothing_stored(&home);
}

#[test]
fn id_token_that_does_not_verify_is_not_stored() {
    let real = plain();
    // The issuer's keys and tokens, but the ID token has the signature of another token.
    let tokens = token_response(&real, USER);
    let (jwks, issuer) = (post(&real, "jwks", &[]).1, real.issuer().to_owned());
    assert!(jwks.is_null() || jwks.is_object());
    let signature = tokens["access_token"].as_str().unwrap().rsplit_once('.').unwrap().1.to_owned();
    let id_token = tokens["id_token"].as_str().unwrap().to_owned();
    let forged = format!("{}.{signature}", id_token.rsplit_once('.').unwrap().0);
    for (id_token, why) in [(forged, "wrong signature"), (id_token, "other issuer")] {
        let mut tokens = tokens.clone();
        tokens["id_token"] = id_token.into();
        let (metadata_of, body) = (issuer.clone(), tokens.to_string());
        let server = StubServer::start(move |own, request| match request.path.as_str() {
            "/.well-known/openid-configuration" => {
                let metadata = json!({
                    "issuer": own,
                    "token_endpoint": format!("{own}/token"),
                    "jwks_uri": format!("{metadata_of}/jwks"),
                });
                (200, metadata.to_string())
            }
            "/token" => (200, body.clone()),
            _ => (404, "{}".into()),
        });
        let home = Sandbox::new();
        for name in ["access_token", "refresh_token", "id_token"] {
            home.register_secret(tokens[name].as_str().unwrap());
        }
        let args = ["login", "work", "--issuer", &server.url, "--client-id", "authctl", "-vvv"];
        let ran = home.run_with(&[&args[..], &BY_PASSWORD].concat(), PASSWORD);
        assert_eq!(ran.code, 4, "{why}: {}", ran.stderr);
        assert!(ran.stderr.contains("ID token"), "{why}: {}", ran.stderr);
        assert_nothing_stored(&home);
    }
}

#[test]
fn rfc_8414_metadata_alone_is_sufficient() {
    let real = plain();
    let issuer = real.issuer().to_owned();
    let server = StubServer::start(move |own, request| match request.path.as_str() {
        "/.well-known/oauth-authorization-server/tenant" => {
            let metadata = json!({"issuer": format!("{own}/tenant"), "token_endpoint": format!("{issuer}/token")});
            (200, metadata.to_string())
        }
        _ => (404, "{}".into()),
    });
    let home = Sandbox::new();
    let at = format!("{}/tenant", server.url);
    let args = ["login", "work", "--issuer", &at, "--client-id", "authctl", "--scope", "offline_access"];
    home.run_with(&[&args[..], &BY_PASSWORD].concat(), PASSWORD).exits(0);
    let first = home.token("work");
    home.advance_time("work", 301);
    assert_ne!(home.token("work"), first);
    let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths[0], "/tenant/.well-known/openid-configuration");
}

#[test]
fn session_of_another_account_is_not_replaced_without_replace_option() {
    let (home, issuer) = (Sandbox::new(), plain());
    home.log_in("work", &issuer);
    let (config, token) = (fs::read(home.config_file()).unwrap(), home.token("work"));
    let other = ["login", "work", "--password", "--password-stdin", "--username", "other"];
    let ran = home.run_with(&[&other[..], &["--json"]].concat(), PASSWORD).exits(2);
    assert_eq!(ran.error()["code"], "other_subject");
    assert!(ran.stderr.contains("--replace") && ran.stderr.contains(USER), "{}", ran.stderr);
    assert_eq!(fs::read(home.config_file()).unwrap(), config);
    assert_eq!(home.token("work"), token);
    home.advance_time("work", 301);
    home.token("work");
    let stats = issuer.stats();
    assert_eq!(stats.families_revoked, 1, "only the discarded tokens are revoked");
    home.run_with(&[&other[..], &["--replace"]].concat(), PASSWORD).exits(0);
    assert_eq!(home.status("work")["subject"]["name"], "other");
}

#[test]
fn replacement_of_another_account_is_confirmed_in_terminal() {
    let (home, issuer) = (Sandbox::new(), plain());
    home.log_in("work", &issuer);
    for (answer, code, account) in [("\n", 130, USER), ("n\n", 130, USER), ("y\n", 0, "other")] {
        let mut command = home.spawn_in_terminal(&["login", "work", "--password", "--username", "other"]);
        command.reports("Password: ");
        command.type_text(&format!("{PASSWORD}\n"));
        command.reports("Replace it? [y/N] ");
        command.type_text(answer);
        command.wait().exits(code);
        assert_eq!(home.status("work")["subject"]["name"], account, "{answer:?}");
    }
}

#[test]
fn failed_login_leaves_session_and_configuration_unchanged() {
    let (home, issuer) = (Sandbox::new(), plain());
    home.log_in("work", &issuer);
    let before = (fs::read(home.config_file()).unwrap(), fs::read(home.session_file("work")).unwrap());
    let fails = |more: &[&str], stdin: &str, code: i32| {
        let args = [&["login", "work", "--scope", "openid", "--audience", "https://other.example"], more].concat();
        home.run_with(&args, stdin).exits(code);
        assert_eq!(fs::read(home.config_file()).unwrap(), before.0, "{more:?}");
        assert_eq!(fs::read(home.session_file("work")).unwrap(), before.1, "{more:?}");
    };
    fails(&BY_PASSWORD, "wrong\n", 5);
    fails(&["--with-token"], "garbage", 2);
    for (endpoint, kind) in [
        (Endpoint::Metadata, FaultKind::HtmlError),
        (Endpoint::Token, FaultKind::InvalidJson),
        (Endpoint::Token, FaultKind::LostReply),
        (Endpoint::Jwks, FaultKind::Html),
    ] {
        issuer.fault(Fault { endpoint, kind, times: 1 });
        fails(&BY_PASSWORD, PASSWORD, 6);
    }
    home.advance_time("work", 301);
    home.token("work");
}

#[test]
fn address_without_scheme_is_answered_with_the_command_for_its_url() {
    let home = Sandbox::new();
    for (typed, url) in [
        ("localhost:1234", "http://localhost:1234"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:80/realms/x", "'http://[::1]:80/realms/x'"),
        ("idp.example:8443", "https://idp.example:8443"),
        ("idp.example", "https://idp.example"),
    ] {
        let ran = home.run(&["login", "work", "--issuer", typed, "--client-id", "authctl"]).exits(2);
        let hint = format!("hint:  authctl login work --issuer {url} --client-id authctl\n");
        ran.reports("has no scheme").reports(&hint);
        let ran = home.run(&["login", "work", &format!("--issuer={typed}"), "--client-id", "authctl"]).exits(2);
        assert!(ran.stderr.contains("hint:  authctl login work "), "{}", ran.stderr);
        assert!(ran.stderr.contains(url.trim_matches('\'')), "{}", ran.stderr);
    }
    let ran = home.run(&["login", "work", "--issuer", "someone:secret@localhost:1", "--client-id", "authctl"]).exits(2);
    assert!(!ran.stderr.contains("someone:secret"), "{}", ran.stderr);
}
