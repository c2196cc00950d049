//! Hints of a login.

use std::net::TcpListener;

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind};

use super::{hint_of, note_of, paste, paste_in_terminal};
use crate::support::stub_server::StubServer;
use crate::support::{AUTHCTL, PASSWORD, Sandbox, USER, quick_issuer};

#[test]
fn hints_for_errors_of_an_issuer_lead_to_a_login() {
    let issuer = quick_issuer();
    let slash = format!("{}/", issuer.issuer());
    let by_password = ["--client-id", "authctl", "--password", "--username", USER];
    let scopes = ["--scope", "openid offline_access nonsense"];
    for (at, more, refusals, ends) in [
        (slash.as_str(), &[][..], 0, format!("--issuer {}", issuer.issuer())),
        (issuer.issuer(), &scopes, 2, "--scope openid --scope offline_access".into()),
        (issuer.issuer(), &["--scope", "openid profile"], 2, "--scope openid".into()),
    ] {
        let home = Sandbox::new();
        if refusals > 0 {
            refuse(&issuer, "invalid_scope", refusals);
        }
        let login = [&["login", "work", "--issuer", at], &by_password[..], more, &["--password-stdin"]].concat();
        let hint = hint_of(&home, &login);
        assert!(hint.starts_with("authctl login work ") && hint.ends_with(&ends), "{hint}");
        paste_in_terminal(&home, &hint).exits(0);
        home.run(&["token", "work"]).exits(0);
    }
}

/// Makes the token endpoint refuse the next requests.
fn refuse(issuer: &DevIssuer, code: &str, times: u32) {
    let kind = FaultKind::OAuthError { status: 400, code: code.into() };
    issuer.fault(Fault { endpoint: Endpoint::Token, kind, times });
}

#[test]
fn hint_for_a_used_redirect_port_leads_to_a_device_login() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let redirect = format!("http://{}/callback", taken.local_addr().unwrap());
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--browser"];
    let hint = hint_of(&home, &[&login[..], &["--redirect-uri", &redirect]].concat());
    let script = format!("authctl() {{ '{AUTHCTL}' \"$@\"; }}; {hint}");
    home.spawn_program_in_terminal("sh", &["-c", &script], 0).reports("and enter the code");
}

#[test]
fn hints_of_a_login_name_what_to_check_and_repeat_it() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let nothing = StubServer::start(|_, _| (404, "{}".into()));
    let login = |at: &str, client: &str, part: fn(&Sandbox, &[&str]) -> String| {
        let by_password = ["--password", "--username", USER, "--password-stdin"];
        part(&home, &[&["login", "work", "--issuer", at, "--client-id", client], &by_password[..]].concat())
    };
    for (at, client, advice) in [
        (issuer.issuer(), "unknown", "check --client-id, --client-auth and the client secret, and log in again"),
        (&nothing.url, "authctl", "check the issuer's address"),
        ("https://issuer.invalid", "authctl", "check the network and the address"),
    ] {
        let (note, hint) = (login(at, client, note_of), login(at, client, hint_of));
        let line = format!("authctl login work --issuer {at} --client-id {client} --password --username {USER}");
        assert!(note.starts_with(advice), "{note}");
        assert_eq!(hint, line);
    }
    // The login of the hint succeeds when what was wrong is corrected.
    issuer.fault(Fault { endpoint: Endpoint::Metadata, kind: FaultKind::EmptyBody { status: 404 }, times: 0 });
    let hint = login(issuer.issuer(), "authctl", hint_of);
    issuer.clear_faults();
    paste_in_terminal(&home, &hint).exits(0);
    home.run(&["token", "work"]).exits(0);
    refuse(&issuer, "invalid_scope", 2);
    let scope = ["--scope", "openid", "--password", "--username", USER, "--password-stdin"];
    let login = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    let note = note_of(&home, &[&login[..], &scope].concat());
    assert!(note.starts_with("give a --scope that the issuer grants"), "{note}");
}

#[test]
fn hint_for_a_missing_issuer_or_client_asks_for_it() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let line = format!("authctl login work --issuer {} --password --username {USER}", issuer.issuer());
    let args: Vec<&str> = line.split(' ').skip(1).chain(["--password-stdin"]).collect();
    // Without a terminal the same line would fail again: the option to add is named.
    let ran = home.run_with(&args, &format!("{PASSWORD}\n")).exits(2);
    assert!(ran.stderr.ends_with("then add --client-id ID\n") && !ran.stderr.contains("hint:"), "{}", ran.stderr);
    let script = format!("authctl() {{ '{AUTHCTL}' \"$@\"; }}; {line}");
    let mut login = home.spawn_program_in_terminal("sh", &["-c", &script], 0);
    login.reports("Client ID for work");
    login.type_text("authctl\r");
    login.reports("Password: ");
    login.type_text(&format!("{PASSWORD}\r"));
    login.wait().exits(0);
    let okta = ["login", "--provider", "okta"];
    let note = note_of(&home, &okta);
    assert!(note.starts_with("add --issuer URL, for example --issuer https://"), "{note}");
    // The same command again would fail again.
    for provider in ["okta", "microsoft"] {
        let ran = home.run(&["login", "--provider", provider]).exits(2);
        assert!(!ran.stderr.contains("hint:"), "{}", ran.stderr);
        let error = home.run(&["login", "--provider", provider, "--json"]).exits(2).error();
        assert_eq!(
            (error["hint"].as_str().is_some_and(|hint| hint.starts_with("add --")), error.get("note")),
            (true, None)
        );
    }
}

#[test]
fn login_hint_repeats_options_wherever_they_were_typed() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    let issuer = idp.issuer();
    let config = home.path().join("my config.toml");
    let config = config.to_str().unwrap();
    for (before, profile) in [(&[][..], "a"), (&["--quiet", "--color", "never"], "b"), (&["--config", config], "c")] {
        let login = ["login", profile, "--issuer", issuer, "--client-id", "authctl", "--scope", "openid"];
        let hint = hint_of(&home, &[before, &login].concat());
        assert!(hint.ends_with("--device"), "{hint}");
        // The same login by another grant, which no user has to confirm.
        let hint = hint.replace("--device", &format!("--password --username {USER} --password-stdin"));
        paste(&home, &hint, &format!("{PASSWORD}\n")).exits(0);
    }
    home.run(&["token", "c", "--config", config]).exits(0);
}

#[test]
fn first_login_without_a_keychain_works_with_its_hint() {
    let (mut home, idp) = (Sandbox::with_store("keychain"), quick_issuer());
    home.set("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    let login = ["login", "work", "--issuer", idp.issuer(), "--client-id", "authctl", "--password", "--username", USER];
    let ran = home.run_with(&[&login[..], &["--password-stdin"]].concat(), &format!("{PASSWORD}\n")).exits(7);
    let hint = ran.stderr.lines().find_map(|line| line.strip_prefix("hint:  ")).expect("a hint");
    assert_eq!(hint, format!("authctl {} --store file", login.join(" ")));
    paste(&home, &format!("{hint} --password-stdin"), &format!("{PASSWORD}\n")).exits(0);
    home.run(&["token", "work"]).exits(0);
}
