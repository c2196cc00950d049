//! `authctl login --for URL` and `token --for URL`: from the address of an API to a token for it.

use serde_json::json;

use super::login::browser;
use crate::support::Sandbox;
use crate::support::protected_api::ProtectedApi;

/// Logs in for the API as the client `cli`, and returns the parameters of the authorization request.
#[track_caller]
fn log_in(home: &mut Sandbox, api: &ProtectedApi, more: &[&str]) -> std::collections::BTreeMap<String, String> {
    let opened = browser(home);
    let url = api.url();
    let args = [&["login", "--for", &url, "--yes", "--client-id", "cli"], more].concat();
    let login = home.spawn(&args);
    let sent = api.sign_in(&opened);
    login.wait().exits(0);
    sent
}

#[test]
fn url_of_an_api_is_enough_for_a_login_and_a_token() {
    let (mut home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    let sent = log_in(&mut home, &api, &[]);
    assert_eq!((sent["resource"].as_str(), sent.get("scope")), (api.url().as_str(), None));
    let form = &api.asked("POST", "/token")[0].body;
    assert!(form.contains("resource=http"), "{form}");
    for below in ["", "/", "/v1?x=y"] {
        assert_eq!(home.run(&["token", "--for", &format!("{}{below}", api.url())]).exits(0).line(), "access-1");
    }
    let headers = home.run(&["headers", "--for", &api.url()]).exits(0);
    assert_eq!(headers.line(), "Authorization: Bearer access-1");
    let headers = home.run(&["headers", "--for", &api.url(), "--method", "POST", "--json"]).exits(0).json();
    assert_eq!(headers, json!({ "Authorization": "Bearer access-1" }));
    for other in [format!("{}2", api.url()), api.api.url.clone(), "https://other.example/mcp".to_owned()] {
        let hint = format!("authctl login --for {other}");
        home.run(&["token", "--for", &other]).exits(3).reports(&hint);
    }
}

#[test]
fn client_is_registered_once_and_deleted_at_the_logout() {
    let (mut home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    home.register_secret("management-token");
    let opened = browser(&mut home);
    for other in ["/mcp", "/mcp/other"] {
        let url = format!("{}{other}", api.api.url);
        let profile = if other == "/mcp" { "one" } else { "two" };
        let login = home.spawn(&["login", profile, "--for", &url, "--yes", "-vvv"]);
        let sent = api.sign_in(&opened);
        assert_eq!(sent["client_id"], "registered");
        login.wait().exits(0);
    }
    let registered: serde_json::Value = serde_json::from_str(&api.asked("POST", "/register")[0].body).unwrap();
    assert_eq!((api.asked("POST", "/register").len(), &registered["application_type"]), (1, &json!("native")));
    let redirects = registered["redirect_uris"].clone();
    assert!(redirects[0].as_str().unwrap().starts_with("http://127.0.0.1:"), "{redirects}");
    home.run(&["logout", "one"]).exits(0);
    assert_eq!(api.asked("DELETE", "/register/registered").len(), 0, "the other session uses it");
    home.run(&["logout", "two"]).exits(0);
    let deleted = api.asked("DELETE", "/register/registered");
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].authorization.as_deref(), Some("Bearer management-token"));
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
    // The next login registers a client again.
    let login = home.spawn(&["login", "one", "--yes", "--for", &api.url()]);
    api.sign_in(&opened);
    login.wait().exits(0);
    assert_eq!(api.asked("POST", "/register").len(), 2);
}

#[test]
fn registration_of_a_login_that_failed_is_deleted_with_the_profile() {
    let (mut home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    let opened = browser(&mut home);
    let login = home.spawn(&["login", "one", "--for", &api.url(), "--yes"]);
    api.sign_in(&opened);
    login.wait().exits(0);
    home.run(&["logout", "one", "--no-revoke"]).exits(0);
    assert_eq!(api.asked("DELETE", "/register/registered").len(), 0, "nothing is sent to the issuer");
    home.run(&["profile", "remove", "one"]).exits(0);
    assert_eq!(api.asked("DELETE", "/register/registered").len(), 1);
}

#[test]
fn client_that_the_issuer_does_not_know_any_more_is_registered_again() {
    let (mut home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    let opened = browser(&mut home);
    for (expected, now) in [("registered", "registered"), ("second", "second")] {
        api.change(|documents| documents.registration["client_id"] = json!(now));
        let login = home.spawn(&["login", "one", "--for", &api.url(), "--yes"]);
        assert_eq!(api.sign_in(&opened)["client_id"], expected);
        login.wait().exits(0);
    }
    assert!(!api.asked("GET", "/register/registered").is_empty(), "it was looked up");
}

#[test]
fn client_metadata_document_is_used_where_the_issuer_takes_one() {
    const DOCUMENT: &str = "https://client.example/authctl.json";
    for (takes, in_config) in [(true, false), (true, true), (false, false)] {
        let (mut home, api) = (
            Sandbox::new(),
            ProtectedApi::start(|documents| {
                let metadata = documents.server.values_mut().next().unwrap();
                metadata["client_id_metadata_document_supported"] = json!(takes);
            }),
        );
        let opened = browser(&mut home);
        let url = api.url();
        let mut args = vec!["login", "--for", &url, "--yes"];
        match in_config {
            true => home.configure(&format!("client_metadata_url = \"{DOCUMENT}\"\n")),
            false => args.extend(["--client-metadata-url", DOCUMENT]),
        }
        let login = home.spawn(&args);
        let client = api.sign_in(&opened)["client_id"].clone();
        login.wait().exits(0);
        assert_eq!(client, if takes { DOCUMENT } else { "registered" });
        assert_eq!(api.asked("POST", "/register").len(), usize::from(!takes));
    }
}

#[test]
fn another_issuer_than_at_the_first_login_is_an_error_that_names_both() {
    let (mut home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    log_in(&mut home, &api, &[]);
    let pinned = api.server.url.clone();
    api.change(|documents| {
        let moved = json!({ "resource": "API/mcp", "authorization_servers": ["https://other.example"] });
        documents.resource.values_mut().for_each(|document| *document = moved.clone());
    });
    let before = api.server.requests().len();
    let refused = home.run(&["login", "--for", &api.url(), "--yes"]).exits(5);
    assert!(refused.stderr.contains(&pinned) && refused.stderr.contains("https://other.example"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--accept-new-issuer"), "{}", refused.stderr);
    assert_eq!(api.server.requests().len(), before, "nothing was sent to either");
    home.run(&["token", "--for", &api.url()]).exits(0);
}

#[test]
fn first_login_needs_a_confirmation_and_one_of_several_issuers() {
    let (home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    home.run(&["login", "--for", &api.url()]).exits(3).reports("--yes");
    assert!(api.asked("POST", "/register").is_empty());
    api.change(|documents| {
        let servers = json!(["https://a.example", "AS"]);
        documents.resource.values_mut().for_each(|document| document["authorization_servers"] = servers.clone());
    });
    let ambiguous = home.run(&["login", "--for", &api.url(), "--yes"]).exits(2);
    assert!(ambiguous.stderr.contains("https://a.example") && ambiguous.stderr.contains(&api.server.url));
    assert!(!ambiguous.stderr.contains("--issuer http"), "the API's address is in no command: {}", ambiguous.stderr);
    let other = home.run(&["login", "--for", &api.url(), "--yes", "--issuer", "https://b.example"]).exits(5);
    assert!(other.stderr.contains("https://b.example"), "{}", other.stderr);
    assert!(!other.stderr.contains("--issuer http"), "{}", other.stderr);
}

#[test]
fn issuer_that_would_forge_the_confirmation_is_refused() {
    for forged in [
        "https://attacker.example/\n  issuer    https://login.example",
        "https://attacker.example/\r\n x",
        "https://attacker.example/ (login.example)",
        "https://attacker.example/\u{202e}elpmaxe.nigol",
        "https://attacker.example\\@login.example",
    ] {
        let (home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
        api.change(|documents| {
            let servers = json!([forged]);
            documents.resource.values_mut().for_each(|document| document["authorization_servers"] = servers.clone());
        });
        let ran = home.run(&["login", "--for", &api.url(), "--yes"]).exits(5);
        assert!(!ran.stderr.lines().any(|line| line.trim_start().starts_with("issuer")), "{}", ran.stderr);
        assert!(ran.stderr.contains("invalid URL"), "{forged:?}: {}", ran.stderr);
    }
}

#[test]
fn address_beside_that_of_the_api_is_suggested() {
    let (home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    api.change(|documents| {
        let document = documents.resource.values().next().unwrap().clone();
        documents.resource.insert("/.well-known/oauth-protected-resource".into(), document);
        documents.challenge = None;
    });
    let hint = format!("hint:  authctl login --for {} --yes", api.url());
    let host = format!("{}/", api.api.url);
    let ran = home.run(&["login", "--for", &host, "--yes"]).exits(5);
    assert!(ran.stderr.contains(&format!("--for {}", api.url())), "{} {hint}", ran.stderr);
    let elsewhere = json!({ "resource": "https://other.example/mcp", "authorization_servers": ["AS"] });
    api.change(|documents| documents.resource.values_mut().for_each(|document| *document = elsewhere.clone()));
    let ran = home.run(&["login", "--for", &host, "--yes"]).exits(5);
    assert!(!ran.stderr.contains("--for https://other.example"), "{}", ran.stderr);
}

#[test]
fn api_without_metadata_is_its_own_issuer_with_the_default_endpoints() {
    let (mut home, api) = (
        Sandbox::new(),
        ProtectedApi::start(|documents| {
            documents.resource.clear();
            documents.challenge = None;
        }),
    );
    let opened = browser(&mut home);
    let login = home.spawn(&["login", "--for", &api.url(), "--yes", "--client-id", "cli"]);
    let address = super::login::opened_address(&opened);
    assert!(address.starts_with(&format!("{}/authorize?", api.api.url)) && !address.contains("resource="), "{address}");
    drop(login);
}

#[test]
fn scopes_are_the_challenges_with_offline_access_if_offered() {
    for (challenged, listed, offered, expected) in [
        (Some("a b"), Some(json!(["c"])), Some(json!(["a", "offline_access"])), Some("a b offline_access")),
        (None, Some(json!(["c", "d"])), Some(json!(["c"])), Some("c d")),
        (None, Some(json!(["c"])), None, Some("c")),
        (None, None, Some(json!(["offline_access"])), None),
    ] {
        let (mut home, api) = (
            Sandbox::new(),
            ProtectedApi::start(|documents| {
                let scope = challenged.map(|scopes| format!(", scope=\"{scopes}\"")).unwrap_or_default();
                documents.challenge = documents.challenge.take().map(|challenge| challenge + &scope);
                let resource = documents.resource.values_mut().next().unwrap();
                resource["scopes_supported"] = listed.clone().unwrap_or_default();
                documents.server.values_mut().next().unwrap()["scopes_supported"] = offered.clone().unwrap_or_default();
            }),
        );
        let sent = log_in(&mut home, &api, &[]);
        assert_eq!(sent.get("scope").map(String::as_str), expected, "{challenged:?} {listed:?} {offered:?}");
    }
}

#[test]
fn challenge_is_answered_with_one_refresh_or_the_login_that_it_needs() {
    let (mut home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    log_in(&mut home, &api, &["--scope", "a"]);
    let url = api.url();
    let challenge = |text: &str| home.run_with(&["token", "--for", &url, "--challenge", "-"], text);
    assert_eq!(challenge("Bearer error=\"invalid_token\"\n").exits(0).line(), "access-2");
    assert_eq!(challenge("Bearer error=\"invalid_token\"\n").exits(0).line(), "access-2", "it was refreshed just now");
    let head = "HTTP/1.1 403 Forbidden\r\nwww-authenticate: Bearer error=\"insufficient_scope\", scope=\"a b\"\r\n\r\n";
    let name = api.api.url.trim_start_matches("http://").replace(':', "-");
    let hint = format!("authctl login {name} --for {url} --scope a --scope b");
    challenge(head).exits(3).reports(&hint);
    challenge("Bearer error=\"insufficient_scope\", scope=\"a\"\n").exits(4).reports("`a`");
    let stronger = "Bearer error=\"insufficient_user_authentication\", acr_values=\"gold\", max_age=60\n";
    challenge(stronger).exits(3).reports("--acr-values gold --max-age 1m");
    challenge("Basic realm=\"x\"\n").exits(2);
    assert_eq!(api.asked("POST", "/token").len(), 2, "the login and one refresh");
}

#[test]
fn user_at_a_terminal_steps_up_in_one_browser() {
    let (mut home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    log_in(&mut home, &api, &["--scope", "a"]);
    let opened = browser(&mut home);
    let file = home.path().join("challenge");
    std::fs::write(&file, "Bearer error=\"insufficient_scope\", scope=\"b\"\n").unwrap();
    let url = api.url();
    let mut asking = home.spawn_in_terminal(&["token", "--for", &url, "--challenge", file.to_str().unwrap()]);
    let sent = api.sign_in(&opened);
    assert_eq!((sent["scope"].as_str(), sent["client_id"].as_str()), ("a b", "cli"));
    asking.reports("access-2");
    assert!(!opened.exists(), "one browser");
    asking.close_stdin();
    drop(asking);
    assert_eq!(home.run(&["token", "--for", &url]).exits(0).line(), "access-2");
}

#[test]
fn new_issuer_of_an_api_gets_a_client_of_its_own_once_it_is_accepted() {
    for by_name in [false, true] {
        let (mut home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
        let other = ProtectedApi::start(|documents| documents.registration["client_id"] = json!("at-the-other"));
        let (opened, url) = (browser(&mut home), api.url());
        let login = home.spawn(&["login", "one", "--for", &url, "--yes"]);
        api.sign_in(&opened);
        login.wait().exits(0);
        let moved = json!([other.server.url]);
        api.change(|documents| {
            documents.resource.values_mut().for_each(|document| document["authorization_servers"] = moved.clone());
        });
        let mut args = vec!["login", "--for", &url, "--yes"];
        match by_name {
            true => args.extend(["--issuer", &other.server.url]),
            false => args.push("--accept-new-issuer"),
        }
        let login = home.spawn(&args);
        assert_eq!(other.sign_in(&opened)["client_id"], "at-the-other");
        login.wait().exits(0);
        assert!(other.asked("POST", "/token").iter().all(|request| !request.body.contains("registered")));
        assert_eq!(api.asked("DELETE", "/register/registered").len(), 1, "the old client is deleted");
        home.run(&["token", "--for", &url]).exits(0);
    }
}

#[test]
fn two_logins_for_one_api_open_one_browser() {
    let (mut home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    let (opened, url) = (browser(&mut home), api.url());
    let first = home.spawn(&["login", "--for", &url, "--yes"]);
    let address = super::login::opened_address(&opened);
    let second = home.spawn(&["login", "--for", &url, "--yes"]);
    second.reports("Waiting for another login");
    assert_eq!(super::login::opened_address(&opened), address);
    api.sign_in(&opened);
    first.wait().exits(0);
    second.wait().exits(0);
    assert!(!opened.exists(), "one browser");
    assert_eq!((api.asked("POST", "/token").len(), api.asked("POST", "/register").len()), (1, 1));
}

#[test]
fn hostile_metadata_ends_the_login_before_anything_is_sent_there() {
    let nested = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    for (servers, resource, code) in [
        (json!(["http://as.example"]), json!("API/mcp"), 5),
        (json!(["AS"]), json!("https://other.example/mcp"), 5),
        (json!([]), json!("API/mcp"), 6),
        (json!([nested]), json!("API/mcp"), 5),
    ] {
        let (home, api) = (
            Sandbox::new(),
            ProtectedApi::start(|documents| {
                let document = documents.resource.values_mut().next().unwrap();
                (document["authorization_servers"], document["resource"]) = (servers.clone(), resource.clone());
            }),
        );
        home.run(&["login", "--for", &api.url(), "--yes"]).exits(code);
        assert!(api.server.requests().is_empty() && !home.config_file().exists(), "{servers} {resource}");
    }
    let (home, api) = (
        Sandbox::new(),
        ProtectedApi::start(|documents| {
            documents.server.values_mut().next().unwrap()["issuer"] = json!("https://attacker.example");
        }),
    );
    home.run(&["login", "--for", &api.url(), "--yes"]).exits(5).reports("https://attacker.example");
    assert!(api.asked("POST", "/register").is_empty());
}

#[test]
fn two_callers_that_need_a_stronger_sign_in_open_one_browser() {
    let (mut home, api) = (Sandbox::new(), ProtectedApi::start(|_| ()));
    log_in(&mut home, &api, &["--scope", "a"]);
    let (opened, url) = (browser(&mut home), api.url());
    let file = home.path().join("challenge");
    std::fs::write(&file, "Bearer error=\"insufficient_user_authentication\", acr_values=\"gold\"\n").unwrap();
    let args = ["token", "--for", &url, "--challenge", file.to_str().unwrap()];
    let first = home.spawn_in_terminal(&args);
    super::login::opened_address(&opened);
    let second = home.spawn_in_terminal(&args);
    second.reports("Waiting for another login");
    assert_eq!(api.sign_in(&opened)["acr_values"], "gold");
    first.reports("access-2");
    second.reports("access-2");
    assert!(!opened.exists(), "one browser");
    assert_eq!(api.asked("POST", "/token").len(), 2, "the first login and one more");
}
