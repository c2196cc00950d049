//! `authctl login` with a browser: the redirect, the pasted address, and what is refused.

use super::login::{assert_nothing_stored, browser, login, opened_address, plain};
use authctl::dev_issuer::{Endpoint, Fault, FaultKind, User};
use authctl::secret::Secret;

use crate::support::login_pages::LoginPages;
use crate::support::process::wait_until;
use crate::support::{PASSWORD, Sandbox, USER, quick_issuer};

#[test]
fn browser_returns_to_the_configured_redirect_uri() {
    for (redirect, begins) in
        [("http://127.0.0.1/signed/in", "http://127.0.0.1:"), ("http://[::1]/cb/", "http://[::1]:")]
    {
        let (home, issuer) = (Sandbox::new(), quick_issuer());
        let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
        let more = ["--redirect-uri", redirect, "--authorization-parameter", "access_type=offline", "--max-age", "5m"];
        let login = home.spawn(&[&args[..], &more[..]].concat());
        let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
        let asked: url::Url = address.parse().expect("an address");
        let sent = |name: &str| asked.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        assert_eq!((sent("access_type").as_deref(), sent("max_age").as_deref()), (Some("offline"), Some("300")));
        let mut person = LoginPages::sign_in_to(&issuer, &address, USER, begins);
        let path = redirect.trim_start_matches("http://").split_once('/').expect("a path").1;
        assert!(person.location.contains(&format!("/{path}?code=")), "{}", person.location);
        assert_eq!(person.follow_redirect(), 200, "{}", person.html);
        login.wait().exits(0);
        home.run(&["token", "work"]).exits(0);
    }
}

#[test]
fn used_redirect_port_is_named_in_the_error() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let redirect = format!("http://127.0.0.1:{port}/callback");
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--browser"];
    home.run(&[&args[..], &["--redirect-uri", &redirect]].concat()).exits(1).reports(&format!("port {port}"));
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
        assert!(pages.html.contains("You are logged in"), "{}", pages.html);
        waiting.wait().exits(0);
        home.run(&["verify", "work"]).exits(0);
        assert_eq!(home.run(&["profile", "show", "work", "--json"]).exits(0).json()["grant"], "browser");
    }
}

#[test]
fn browser_is_shown_account_and_profile_when_the_login_has_ended() {
    let hostile = "<b onload='x'>&\"ann\u{202e}";
    let issuer = crate::support::issuer(|options| {
        options.users.push(User::new(hostile, Secret::new(PASSWORD.into())));
    });
    for (account, shown) in [(USER, USER), (hostile, "&lt;b onload=&#39;x&#39;&gt;&amp;&quot;ann\u{fffd}")] {
        let mut home = Sandbox::new();
        let opened = browser(&mut home);
        let waiting = home.spawn(&login(&issuer, &["--browser"]));
        let mut pages = LoginPages::sign_in(&issuer, &opened_address(&opened), account);
        assert_eq!(pages.follow_redirect(), 200);
        // The session is already stored.
        home.session("work");
        let text = format!("You are logged in as {shown} at {}.", issuer.issuer());
        assert!(pages.html.contains("<h1>Logged in to work</h1>") && pages.html.contains(&text), "{}", pages.html);
        waiting.wait().exits(0);
    }
}

#[test]
fn browser_is_shown_a_failed_exchange_and_the_next_command() {
    let issuer = plain();
    let refusal = FaultKind::OAuthError { status: 400, code: "invalid_client".into() };
    for (kind, code) in [(FaultKind::InvalidJson, 6), (refusal, 5)] {
        let mut home = Sandbox::new();
        issuer.fault(Fault { endpoint: Endpoint::Token, kind, times: 1 });
        let opened = browser(&mut home);
        let waiting = home.spawn(&login(&issuer, &["--browser"]));
        let mut pages = LoginPages::sign_in(&issuer, &opened_address(&opened), USER);
        assert_eq!(pages.follow_redirect(), 200);
        let ran = waiting.wait().exits(code);
        let line = |begin: &str| ran.stderr.lines().find_map(|line| line.strip_prefix(begin)).map(str::to_owned);
        let next = line("hint:  ").or_else(|| line("note:  ")).expect("a hint or advice");
        assert!(pages.html.contains("<h1>Login to work failed</h1>"), "{}", pages.html);
        for text in [line("error: ").expect("an error"), next] {
            let text = text.replace('\'', "&#39;").replace('"', "&quot;");
            assert!(pages.html.contains(&text), "{text}: {}", pages.html);
        }
        assert_nothing_stored(&home);
    }
}

#[test]
fn browser_leads_to_a_question_at_the_terminal() {
    let (mut home, issuer) = (Sandbox::new(), plain());
    home.log_in("work", &issuer);
    let opened = browser(&mut home);
    let mut waiting = home.spawn_in_terminal(&["login", "work", "--browser"]);
    let mut pages = LoginPages::sign_in(&issuer, &opened_address(&opened), "other");
    assert_eq!(pages.follow_redirect(), 200);
    assert!(pages.html.contains("<h1>Return to the terminal</h1>"), "{}", pages.html);
    waiting.reports("Replace it? [y/N] ");
    waiting.type_text("n\n");
    waiting.wait().exits(130);

    // Without a terminal nothing is asked.
    std::fs::remove_file(&opened).unwrap();
    let waiting = home.spawn(&["login", "work", "--browser"]);
    let mut pages = LoginPages::sign_in(&issuer, &opened_address(&opened), "other");
    assert_eq!(pages.follow_redirect(), 200);
    assert!(pages.html.contains("<h1>Login to work failed</h1>"), "{}", pages.html);
    waiting.wait().exits(2);
}

#[test]
fn browser_is_shown_that_the_login_was_interrupted() {
    let (mut home, issuer) = (Sandbox::new(), plain());
    issuer.fault(Fault { endpoint: Endpoint::Token, kind: FaultKind::Hang, times: 1 });
    let opened = browser(&mut home);
    let waiting = home.spawn(&login(&issuer, &["--browser"]));
    let mut pages = LoginPages::sign_in(&issuer, &opened_address(&opened), USER);
    std::thread::scope(|scope| {
        let page = scope.spawn(move || {
            pages.follow_redirect();
            pages.html
        });
        wait_until("the exchange", || (issuer.stats().faults == 1).then_some(()));
        waiting.signal(rustix::process::Signal::INT);
        waiting.wait().exits(130);
        let html = page.join().unwrap();
        assert!(html.contains("<h1>Login to work failed</h1>") && html.contains("interrupted"), "{html}");
    });
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
    assert!(pages.html.contains("Login to work failed") && pages.html.contains("access_denied"), "{}", pages.html);
    waiting.wait().exits(5).reports("access_denied");
    assert_nothing_stored(&home);
}
