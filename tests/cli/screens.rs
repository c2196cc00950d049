//! Every screen at 40, 80 and 200 columns and in a pipe (`tests/golden`).

use authctl::dev_issuer::{DevIssuer, Endpoint, Fault, FaultKind, User};
use authctl::secret::Secret;

use crate::support::agent::Agent;
use crate::support::golden::Screen;
use crate::support::login_pages::LoginPages;
use crate::support::process::RunningCommand;
use crate::support::{PASSWORD, Sandbox, USER, issuer, quick_issuer};

fn screen<'a>(name: &'a str, args: &'a [&'a str], code: i32) -> Screen<'a> {
    Screen { name, args, code, code_in_pipe: None, varies: &[] }
}

/// Returns a home with a session in each state: `work` is the default, `failing` cannot be refreshed, and `ended` was
/// ended by its issuer.
fn every_state() -> (Sandbox, Vec<DevIssuer>) {
    let home = Sandbox::new();
    let issuers = vec![quick_issuer(), quick_issuer(), quick_issuer()];
    for (name, issuer) in ["work", "failing", "ended"].into_iter().zip(&issuers) {
        home.log_in(name, issuer);
    }
    home.run(&["use", "work"]).exits(0);
    home.expire("failing");
    // Not one that has stopped: another test's server could get its port.
    issuers[1].fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Reset, times: u32::MAX });
    home.run(&["token", "failing"]).exits(6);
    home.expire("ended");
    issuers[2].revoke_everything();
    home.run(&["token", "ended"]).exits(3);
    (home, issuers)
}

#[test]
fn overview_and_topics() {
    let home = Sandbox::new();
    home.assert_screens(&screen("overview", &[], 0));
    home.assert_screens(&screen("help-environment", &["help", "environment"], 0));
    home.assert_screens(&screen("help-files", &["help", "files"], 0));
    home.assert_screens(&screen("help-exit-codes", &["help", "exit-codes"], 0));
    home.assert_screens(&screen("help-json", &["help", "json"], 0));
    home.assert_screens(&screen("unknown-command", &["remove", "work"], 2));
}

#[test]
fn status_of_every_state() {
    let (home, issuers) = every_state();
    home.assert_screens(&screen("status", &["status"], 0));
    let sub = home.session("work").subject.expect("known").sub;
    let varies = [(sub, "SUB")];
    home.assert_screens(&Screen { varies: &varies, ..screen("status-long", &["status", "--long"], 0) });
    home.assert_screens(&screen("status-short", &["status", "failing", "--short"], 0));
    home.assert_screens(&screen("whoami", &["whoami"], 0));
    home.assert_screens(&screen("whoami-ended", &["whoami", "ended"], 3));
    home.run(&["logout", "work"]).exits(0);
    home.assert_screens(&screen("status-logged-out", &["status", "work"], 0));
    drop(issuers);
}

#[test]
fn status_without_profiles() {
    Sandbox::new().assert_screens(&screen("status-empty", &["status"], 0));
}

#[test]
fn status_cuts_long_accounts() {
    let long = "a.person.with.a.long.name@department.company.example";
    let names = [USER, long, "日本語の名前"];
    let issuer = issuer(|options| {
        options.users = names.iter().map(|name| User::new(name, Secret::new(PASSWORD.into()))).collect();
    });
    let home = Sandbox::new();
    for (name, account) in ["work", "home", "club"].into_iter().zip(names) {
        home.log_in_as(name, &issuer, account);
    }
    home.assert_screens(&screen("status-accounts", &["status"], 0));
}

#[test]
fn status_with_an_agent() {
    let (home, _issuers) = every_state();
    let agent = Agent::run(&home);
    agent.get("/v1/token/work").expect_status(200);
    agent.get("/v1/token/failing").expect_problem(503, "issuer_unreachable");
    agent.get("/v1/token/ended").expect_problem(401, "login_required");
    // In the second in which it is due.
    let varies = [("next attempt now".to_owned(), "next attempt in N s")];
    home.assert_screens(&Screen { varies: &varies, ..screen("status-agent", &["status"], 0) });
    home.assert_screens(&screen("agent-status", &["agent", "status"], 0));
    home.assert_screens(&screen("status-short-agent", &["status", "ended", "--short"], 0));
}

/// Returns the address to visit: the issuer's in a pipe, and in a terminal a short one that leads there.
fn shown_address(login: &RunningCommand<'_>) -> String {
    login.wait_until("an address", |output| {
        let complete = output.rfind('\n').map_or("", |end| &output[..end]);
        let address = |line: &&str| {
            line.starts_with("http://127.0.0.1:") && line.split('/').nth(3).is_some_and(|path| !path.is_empty())
        };
        complete.lines().map(str::trim).find(address).map(str::to_owned)
    })
}

#[test]
fn login_in_the_browser() {
    let mut home = Sandbox::new();
    home.set("BROWSER", "true");
    home.set("DISPLAY", ":0");
    let issuer = quick_issuer();
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--browser"];
    home.assert_screens_while(&screen("login-browser", &args, 0), |command| {
        let address = shown_address(command);
        LoginPages::sign_in(&issuer, &address, USER).follow_redirect();
    });
}

#[test]
fn first_login() {
    let mut home = Sandbox::new();
    home.set("BROWSER", "true");
    let issuer = quick_issuer();
    let screen = Screen { code_in_pipe: Some(2), ..screen("login-first", &["login", "work"], 5) };
    home.assert_screens_while(&screen, |login| {
        let domain = issuer.issuer().trim_start_matches("http://");
        let client = format!("Client ID for work at {}: ", issuer.issuer());
        for (prompt, answer) in
            [("Provider for work: ", "9"), ("Issuer for work: ", domain), (client.as_str(), "authctl")]
        {
            login.reports(prompt);
            login.type_text(&format!("{answer}\r"));
        }
        // Denied, so that the next one is the first login again.
        let mut pages = LoginPages::open(&issuer, &shown_address(login));
        pages.log_in(USER);
        pages.deny();
        pages.follow_redirect();
    });
}

#[test]
fn errors_and_advice_are_wrapped_and_commands_are_not() {
    let home = Sandbox::new();
    let issuer = quick_issuer();
    home.log_in("work", &issuer);
    let varies = [(issuer.issuer().to_owned(), "ISSUER")];
    let unknown = ["login", "new", "--issuer", issuer.issuer(), "--client-id", "unknown", "--device", "--no-input"];
    home.assert_screens(&Screen { varies: &varies, ..screen("error-advice-and-command", &unknown, 5) });
    home.assert_screens(&Screen {
        varies: &varies,
        ..screen("error-advice", &["login", "new", "--provider", "apple"], 2)
    });
    home.assert_screens(&screen("error-command", &["token", "work", "--min-ttl", "soon"], 2));
    home.expire("work");
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Reset, times: u32::MAX });
    home.assert_screens(&Screen { varies: &varies, ..screen("error-doctor", &["token", "work"], 6) });
}

#[test]
fn login_without_a_keychain() {
    let home = Sandbox::with_store("keychain");
    let args = ["login", "work", "--issuer", "https://issuer.example", "--client-id", "ID", "--browser"];
    home.assert_screens(&screen("login-no-keychain", &args, 7));
}

#[test]
fn verification_explained() {
    let home = Sandbox::new();
    let issuer = quick_issuer();
    home.log_in("work", &issuer);
    let session = home.session("work");
    let token = session.tokens.access_token.expose().to_owned();
    let claims = crate::support::jwt::claims(&token);
    let kid = crate::support::jwt::header(&token)["kid"].as_str().expect("a kid").to_owned();
    let varies = [
        (claims["sub"].as_str().expect("text").to_owned(), "SUB"),
        (claims["jti"].as_str().unwrap_or("no jti").to_owned(), "JTI"),
        (kid, "KID"),
    ];
    home.assert_screens(&Screen { varies: &varies, ..screen("verify-explain", &["verify", "work", "--explain"], 0) });
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let tampered = format!("{signed}.{first}{}", &signature[1..]);
    home.change_session("work", |session| session.tokens.access_token = Secret::new(tampered.clone()));
    let denied = screen("verify-explain-denied", &["verify", "work", "--explain"], 4);
    home.assert_screens(&Screen { varies: &varies, ..denied });
}
