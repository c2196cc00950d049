//! `authctl login --password`, with one-time codes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::login::{BY_PASSWORD, assert_nothing_stored, login, plain};
use crate::support::{PASSWORD, Sandbox, TOTP, USER};

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
    assert_eq!(
        ran.error()["message"],
        "wrong user name or password (invalid_grant)",
        "the issuer's words are the same"
    );
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
    typing.wait().exits(0).reports("Logged in to work as");
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
    // As apps show it.
    typing.type_text(&format!("{} {}\n", &code[..3], &code[3..]));
    let ran = typing.wait().exits(0);
    assert!(!ran.stderr.contains(&code[..3]), "the code is not echoed: {}", ran.stderr);
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
    home.run_with(&args, PASSWORD).exits(3).reports("one-time code").reports("note:  use another grant");
    assert_nothing_stored(&home);
}

#[test]
fn end_of_input_typed_before_the_prompt_ends_the_login() {
    let (home, issuer) = (Sandbox::new(), plain());
    for (args, typed) in [
        (login(&issuer, &["--password", "--username", USER]), "\u{4}"),
        (login(&issuer, &["--password"]), "developer\n\u{4}"),
    ] {
        let mut typing = home.spawn_in_terminal(&args);
        typing.type_text(typed);
        typing.wait().exits(3).reports("no password was entered");
    }
    let mut typing = home.spawn_in_terminal(&login(&issuer, &["--password"]));
    typing.reports("User name: ");
    typing.type_text("\u{4}");
    let shown = typing.wait().exits(3).stderr;
    let before = shown.split("\u{1b}[1;31merror:").next().expect("a part");
    assert!(before.ends_with('\n') && before.len() < shown.len(), "{shown}");
    // At the prompt, and after something that was deleted again.
    let mut typing = home.spawn_in_terminal(&login(&issuer, &["--password", "--username", USER]));
    typing.reports("Password: ");
    typing.type_text("wrong\u{17}\u{4}");
    typing.wait().exits(3).reports("no password was entered");
    assert_nothing_stored(&home);
}

#[test]
fn password_is_edited_with_the_keys_of_the_terminal() {
    let (home, issuer) = (Sandbox::new(), plain());
    let mut typing = home.spawn_in_terminal(&login(&issuer, &["--password", "--username", USER]));
    typing.reports("Password: ");
    typing.type_text(&format!("x\u{17}xx\u{15}{PASSWORD}\u{e9}\u{7f}\r"));
    let ran = typing.wait().exits(0);
    assert!(ran.stderr.contains("Password: \r\n"), "nothing is shown: {}", ran.stderr);
}
