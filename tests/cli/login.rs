//! `authctl login` with every grant, and what a failed login must leave unchanged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use authctl::clock::{Clock, Sleep, SystemClock, UnixTime};
use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind, Options};
use serde_json::{Value, json};

use crate::support::login_pages::{LoginPages, post, token_response};
use crate::support::stub_server::StubServer;
use crate::support::{PASSWORD, Sandbox, TOTP, USER, issuer};

pub fn plain() -> DevIssuer {
    issuer(|_| {})
}

/// Returns the arguments of `login work` as the public client, followed by `more`.
pub fn login<'a>(issuer: &'a DevIssuer, more: &[&'a str]) -> Vec<&'a str> {
    [&["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"], more].concat()
}

const BY_PASSWORD: [&str; 4] = ["--password", "--password-stdin", "--username", USER];

/// Asserts that there is no profile and no session.
#[track_caller]
fn assert_nothing_stored(home: &Sandbox) {
    assert!(!home.config_file().exists(), "a failed login leaves no profile");
    assert!(!home.session_file("work").exists(), "a failed login leaves no session");
    home.run(&["token", "work"]).exits(2);
}

#[test]
fn password_login_stores_session_and_saves_profile_without_secrets() {
    let (home, issuer) = (Sandbox::new(), plain());
    let args = login(&issuer, &[&BY_PASSWORD[..], &["--json", "-vvv"]].concat());
    let output = home.run_with(&args, &format!("{PASSWORD}\n")).exits(0).json();
    assert_eq!(
        (&output["profile"], &output["issuer"], &output["grant"], &output["store"], &output["can_refresh"]),
        (&json!("work"), &json!(issuer.issuer()), &json!("password"), &json!("file"), &json!(true))
    );
    assert_eq!(output["subject"]["name"], USER);
    let config: toml_edit::DocumentMut = fs::read_to_string(home.config_file()).unwrap().parse().unwrap();
    let profile = &config["profiles"]["work"];
    assert_eq!(profile["issuer"].as_str(), Some(issuer.issuer()));
    assert_eq!(profile["client_id"].as_str(), Some("authctl"));
    assert_eq!(profile["grant"].as_str(), Some("password"));
    assert_eq!(profile["store"].as_str(), Some("file"));
    let mode = fs::metadata(home.session_file("work")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = home.token("work");
    home.run(&["verify", "work"]).exits(0);
    for file in [home.config_file(), home.session_file("work")] {
        let text = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        assert!(!text.contains(PASSWORD) && !text.contains(&token));
    }
    // The profile is sufficient for the next login.
    home.run_with(&[&["login", "work"], &BY_PASSWORD[..]].concat(), PASSWORD).exits(0);
}

#[test]
fn wrong_password_leaves_no_profile_and_no_session() {
    let (home, issuer) = (Sandbox::new(), plain());
    home.register_secret("a-wrong-password-of-the-tests");
    let args = login(&issuer, &[&BY_PASSWORD[..], &["--json", "-vvv"]].concat());
    let ran = home.run_with(&args, "a-wrong-password-of-the-tests\n").exits(5);
    assert_eq!(ran.error()["code"], "issuer_refused");
    assert_nothing_stored(&home);
    // An empty stdin is not a wrong password.
    home.run_with(&login(&issuer, &BY_PASSWORD), "").exits(2).reports("no password");
}

#[test]
fn username_or_password_option_selects_password_grant() {
    let (home, issuer) = (Sandbox::new(), plain());
    let args = login(&issuer, &["--username", USER, "--password-stdin"]);
    home.run_with(&args, &format!("{PASSWORD}\n")).exits(0);
    let mut typing = home.spawn_in_terminal(&login(&issuer, &["--username", USER]));
    typing.reports("Password: ");
    typing.type_text(&format!("{PASSWORD}\n"));
    typing.wait().exits(0);
    assert_eq!(issuer.stats().token_responses["password"], 2);
    for other in ["--browser", "--no-browser", "--device", "--client-credentials", "--with-token"] {
        home.run_with(&login(&issuer, &[other, "--password-stdin"]), PASSWORD).exits(2).reports("cannot be used with");
        home.run(&login(&issuer, &[other, "--username", USER])).exits(2).reports("cannot be used with");
    }
}

#[test]
fn password_is_typed_in_terminal_without_echo() {
    let (home, issuer) = (Sandbox::new(), plain());
    let mut typing = home.spawn_in_terminal(&login(&issuer, &["--password"]));
    typing.reports("User name: ");
    typing.type_text(&format!("{USER}\n"));
    typing.reports("Password: ");
    typing.type_text(&format!("{PASSWORD}\n"));
    typing.wait().exits(0).reports("logged in to work as");
    home.token("work");
}

#[test]
fn ctrl_c_at_password_prompt_interrupts_and_restores_terminal() {
    let (home, issuer) = (Sandbox::new(), plain());
    let mut typing = home.spawn_in_terminal(&login(&issuer, &["--password", "--username", USER]));
    typing.reports("Password: ");
    typing.type_text("correct\u{3}");
    let ran = typing.wait().exits(130);
    assert!(!ran.stderr.contains("correct"), "{}", ran.stderr);
    assert_nothing_stored(&home);
}

fn otp_now() -> String {
    let secret = totp_rs::Secret::try_from_base32(TOTP).expect("base32");
    let totp = totp_rs::Builder::new().with_secret(secret).build().expect("totp");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    totp.generate(now.as_secs()).to_string()
}

#[test]
fn wrong_one_time_code_is_prompted_for_again() {
    let (home, issuer) = (Sandbox::new(), plain());
    let args = login(&issuer, &["--password", "--username", "second"]);
    let mut typing = home.spawn_in_terminal(&args);
    typing.reports("Password: ");
    typing.type_text(&format!("{PASSWORD}\n"));
    typing.reports("One-time code: ");
    typing.type_text("12\n");
    typing.reports("try again");
    typing.wait_until("the second prompt", |output| (output.matches("One-time code: ").count() == 2).then_some(()));
    let code = otp_now();
    typing.type_text(&format!("{code}\n"));
    let ran = typing.wait().exits(0);
    assert!(!ran.stderr.contains(&code), "the code is not echoed: {}", ran.stderr);
    assert_eq!(home.status("work")["subject"]["name"], "second");
}

#[test]
fn third_wrong_one_time_code_ends_the_login() {
    let (home, issuer) = (Sandbox::new(), plain());
    let mut typing = home.spawn_in_terminal(&login(&issuer, &["--password", "--username", "second"]));
    typing.reports("Password: ");
    typing.type_text(&format!("{PASSWORD}\n"));
    for attempt in 1..=3 {
        let asked = |output: &str| (output.matches("One-time code: ").count() == attempt).then_some(());
        typing.wait_until("the prompt", asked);
        typing.type_text("12\n");
    }
    typing.wait().exits(5);
    assert_nothing_stored(&home);
}

#[test]
fn one_time_code_without_terminal_is_login_required() {
    let (home, issuer) = (Sandbox::new(), plain());
    let args = login(&issuer, &["--password", "--password-stdin", "--username", "second"]);
    home.run_with(&args, PASSWORD).exits(3).reports("one-time code").reports("hint:  authctl login work");
    assert_nothing_stored(&home);
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

#[test]
fn supplied_token_response_is_stored_and_refreshed() {
    let (home, issuer) = (Sandbox::new(), plain());
    let tokens = token_response(&issuer, USER);
    for name in ["access_token", "refresh_token", "id_token"] {
        home.register_secret(tokens[name].as_str().unwrap());
    }
    home.run_with(&login(&issuer, &["--with-token", "-vvv"]), &tokens.to_string()).exits(0);
    assert_eq!(home.token("work"), tokens["access_token"].as_str().unwrap());
    home.advance_time("work", 301);
    assert_ne!(home.token("work"), tokens["access_token"].as_str().unwrap());
}

#[test]
fn supplied_jwt_is_stored_and_cannot_be_refreshed() {
    let (home, issuer) = (Sandbox::new(), plain());
    let token = token_response(&issuer, USER)["access_token"].as_str().unwrap().to_owned();
    home.register_secret(&token);
    home.run_with(&login(&issuer, &["--with-token"]), &format!("  {token}\n")).exits(0).reports("log in again");
    assert_eq!(home.token("work"), token);
    assert_eq!(home.status("work")["can_refresh"], false);
    home.run(&["verify", "work"]).exits(0);
    home.advance_time("work", 301);
    home.run(&["token", "work"]).exits(3).reports("authctl login work");
}

/// A clock that is an hour behind, so that the issuer's tokens have expired.
struct Past;

impl Clock for Past {
    fn now(&self) -> UnixTime {
        UnixTime(SystemClock.now().0 - 3600)
    }

    fn monotonic(&self) -> std::time::Instant {
        SystemClock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        SystemClock.sleep(duration)
    }

    fn until(&self, moment: UnixTime) -> Sleep {
        SystemClock.until(moment)
    }
}

#[test]
fn invalid_supplied_jwt_is_not_stored() {
    let (issuer, other) = (plain(), plain());
    let past = crate::support::issuer(|o| o.clock = Arc::new(Past));
    let text = |response: &Value| response["access_token"].as_str().unwrap().to_owned();
    let valid = text(&token_response(&issuer, USER));
    let parts: Vec<&str> = valid.split('.').collect();
    // The last character of a signature has unused bits, so one in the middle is changed.
    let middle = parts[2].len() / 2;
    let letter = if parts[2].as_bytes()[middle] == b'A' { "B" } else { "A" };
    let signature = format!("{}{letter}{}", &parts[2][..middle], &parts[2][middle + 1..]);
    let tampered = format!("{}.{}.{signature}", parts[0], parts[1]);
    for (at, token, why) in [
        (&issuer, tampered, "signature"),
        (&issuer, text(&token_response(&other, USER)), ""),
        (&past, text(&token_response(&past, USER)), "expired"),
    ] {
        let home = Sandbox::new();
        home.register_secret(&token);
        home.run_with(&login(at, &["--with-token", "-vvv"]), &token).exits(4).reports(why);
        assert_nothing_stored(&home);
    }
    let long = format!("{}{}", token_response(&issuer, USER), " ".repeat(1 << 20));
    for garbage in [
        long.as_str(),
        "",
        "hello\n",
        "<html>a portal</html>",
        "{}",
        r#"{"error":"invalid_grant"}"#,
        "{\"access_token\"",
    ] {
        let home = Sandbox::new();
        home.run_with(&login(&issuer, &["--with-token"]), garbage).exits(2);
        assert_nothing_stored(&home);
    }
}

#[test]
fn no_browser_login_accepts_pasted_redirect_address() {
    let (home, issuer) = (Sandbox::new(), plain());
    let mut pasting = home.spawn(&login(&issuer, &["--no-browser", "-vvv"]));
    let url = pasting.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    let pages = LoginPages::sign_in(&issuer, &url, USER);
    pasting.type_text(&format!("{}\n", pages.location));
    pasting.wait().exits(0);
    home.run(&["verify", "work"]).exits(0);
    assert_eq!(home.status("work")["subject"]["name"], USER);
}

fn parameter(url: &str, name: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    url.query_pairs().find(|(found, _)| found == name).expect(name).1.into_owned()
}

#[test]
fn id_token_with_wrong_nonce_is_not_stored() {
    let (home, issuer) = (Sandbox::new(), plain());
    let mut pasting = home.spawn(&login(&issuer, &["--no-browser"]));
    let url = pasting.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    // The issuer is sent another nonce than the one that authctl generated.
    let another = url.replace(&parameter(&url, "nonce"), "another");
    let pages = LoginPages::sign_in(&issuer, &another, USER);
    pasting.type_text(&format!("{}\n", pages.location));
    pasting.wait().exits(4).reports("nonce");
    assert_nothing_stored(&home);
}

#[test]
fn pasted_address_of_another_login_is_refused() {
    let (home, attacker, issuer) = (Sandbox::new(), Sandbox::new(), plain());
    // The redirect address of an attacker's login.
    let mut other = attacker.spawn(&login(&issuer, &["--no-browser"]));
    let other_location =
        LoginPages::sign_in(&issuer, &other.wait_for_line(&format!("{}/authorize", issuer.issuer())), "other").location;
    let mut pasting = home.spawn(&login(&issuer, &["--no-browser"]));
    pasting.reports("paste it here");
    pasting.type_text(&format!("{other_location}\n"));
    let ran = pasting.wait();
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("not a response to this login"), "{}", ran.stderr);
    assert_nothing_stored(&home);
    other.close_stdin();
    assert!(other.is_running(), "authctl still waits for the redirect after stdin is closed");
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

#[test]
fn browser_login_returns_over_loopback_redirect() {
    for path in ["", "/tenant/a"] {
        let (mut home, issuer) = (Sandbox::new(), crate::support::issuer(|o| o.path = path.into()));
        let opened = browser(&mut home);
        let waiting = home.spawn(&login(&issuer, &["--browser", "-vvv"]));
        let mut pages = LoginPages::sign_in(&issuer, &opened_address(&opened), USER);
        // Requests with another path or state are ignored.
        let back = url::Url::parse(&pages.location).unwrap();
        let mut other_client = LoginPages::open(&issuer, back.join("/favicon.ico").unwrap().as_str());
        let mut wrong = back.clone();
        wrong.set_query(Some("code=stolen&state=guessed"));
        assert_eq!(other_client.visit(wrong.as_str()), 400);
        wrong.set_query(Some("error=access_denied&state=guessed"));
        assert_eq!(other_client.visit(wrong.as_str()), 400);
        assert_eq!(pages.follow_redirect(), 200);
        assert!(pages.html.contains("You are signed in"), "{}", pages.html);
        waiting.wait().exits(0);
        home.run(&["verify", "work"]).exits(0);
        assert_eq!(home.run(&["profile", "show", "work", "--json"]).exits(0).json()["grant"], "browser");
    }
}

#[test]
fn denied_browser_login_is_reported_and_stores_nothing() {
    let (mut home, issuer) = (Sandbox::new(), plain());
    let opened = browser(&mut home);
    let waiting = home.spawn(&login(&issuer, &["--browser"]));
    let mut pages = LoginPages::open(&issuer, &opened_address(&opened));
    pages.log_in(USER);
    pages.deny();
    pages.follow_redirect();
    waiting.wait().exits(5).reports("access_denied");
    assert_nothing_stored(&home);
}

pub fn device(options: &mut Options) {
    options.device_interval = Duration::from_secs(1);
}

pub fn user_code(output: &str) -> Option<String> {
    let mut lines = output[..output.rfind('\n')?].lines().skip_while(|line| !line.contains("enter the code"));
    lines.nth(2).map(|line| line.trim().to_owned())
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
fn supplied_tokens_that_are_not_stored_are_not_revoked() {
    let (home, issuer) = (Sandbox::new(), plain());
    home.log_in("work", &issuer);
    let other_tokens = token_response(&issuer, "other").to_string();
    home.run_with(&["login", "work", "--with-token"], &other_tokens).exits(2);
    assert_eq!(issuer.stats().families_revoked, 0);
}
