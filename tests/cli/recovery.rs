//! Recovery from a damaged session, a lost key, a changed profile, and wrong input.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};

use crate::support::{Sandbox, issuer};

#[test]
fn logout_sends_tokens_only_to_their_issuer() {
    let (ours, other) = (issuer(|_| {}), issuer(|_| {}));
    let home = Sandbox::new();
    home.log_in("work", &ours);
    let revocation = format!("revocation_endpoint={}/revoke", other.issuer());
    home.run(&["profile", "set", "work", &format!("issuer={}", other.issuer()), &revocation]).exits(0);
    home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
    assert_eq!(other.stats().requests.values().sum::<u64>(), 0, "{:?}", other.stats().requests);
    assert_eq!(ours.stats().families_revoked, 1);
}

#[test]
fn damaged_session_can_be_logged_out_and_removed() {
    let issuer = issuer(|_| {});
    let home = Sandbox::new();
    home.log_in("work", &issuer);
    fs::write(home.session_file("work"), "junk").expect("written");
    let result = home.run(&["logout", "work", "--json"]).exits(7).json();
    assert_eq!((&result["deleted"], &result["revocation"]), (&true.into(), &"failed".into()));
    assert!(!home.session_file("work").exists());
    home.run(&["profile", "remove", "work"]).exits(0);
}

#[test]
fn login_works_after_key_file_is_lost() {
    let issuer = issuer(|_| {});
    let home = Sandbox::new();
    home.log_in("work", &issuer);
    fs::remove_file(home.key_file()).expect("removed");
    home.run(&["token", "work"]).exits(7).reports("authctl login work");
    home.log_in("work", &issuer);
    home.token("work");
}

#[test]
fn wrong_redirect_address_on_stdin_is_a_usage_error() {
    let issuer = issuer(|_| {});
    let home = Sandbox::new();
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
    home.run_with(&args, "http://127.0.0.1:9/callback?code=a&state=b\n").exits(2).reports("the pasted address");
    assert!(!home.session_file("work").exists());
}

#[test]
fn closed_input_reports_what_login_waits_for() {
    let issuer = issuer(|_| {});
    let home = Sandbox::new();
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
    let mut login = home.spawn_in_terminal(&args);
    login.reports("Paste the address: ");
    login.type_text("\u{4}");
    login.reports("Input is closed; waiting for a browser");
    login.type_text("\u{3}");
    login.wait().exits(130);
}

#[test]
fn settings_changed_during_a_login_are_preserved() {
    let issuer = issuer(|options| options.device_interval = std::time::Duration::from_secs(1));
    let home = Sandbox::new();
    home.log_in("work", &issuer);
    let mut login = home.start(&["login", "work", "--device"], "");
    let mut stderr = BufReader::new(login.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("waiting for the login") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).expect("read"), 0, "it ended");
        let word = line.trim();
        if word.len() == 9 && word.as_bytes()[4] == b'-' {
            home.run(&["profile", "set", "work", "audience=https://api.example"]).exits(0);
            assert!(issuer.approve_device(word, crate::support::USER));
        }
    }
    stderr.read_to_string(&mut line).expect("read");
    assert!(login.wait().expect("it ends").success(), "{line}");
    let shown = home.run(&["profile", "show", "work", "--json"]).exits(0).json();
    assert_eq!(shown["audience"], "https://api.example");
    assert_eq!(shown["grant"], "device");
}
