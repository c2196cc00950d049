//! Tokens that are bound to a key of the session (DPoP, RFC 9449).

use authctl::dev_issuer::{Algorithm, DevIssuer, Fault, Options};
use authctl::model::Session;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::jwt::claims;
use crate::support::login_pages::LoginPages;
use crate::support::process::wait_until;
use crate::support::protected_api::{Documents, ProtectedApi};
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER, http, issuer};

/// Starts an issuer that refuses requests without a proof, and proofs without a nonce.
fn strict_issuer() -> DevIssuer {
    binding_issuer(|options| (options.require_dpop, options.dpop_nonces) = (true, true))
}

fn binding_issuer(change: impl FnOnce(&mut Options)) -> DevIssuer {
    issuer(|options| {
        options.algorithm = Algorithm::ES256;
        change(options);
    })
}

#[track_caller]
fn log_in(home: &Sandbox, issuer: &DevIssuer, more: &[&str]) -> CommandOutput {
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--username", USER];
    home.run_with(&[&args[..], &["--password-stdin", "-vvv"], more].concat(), &format!("{PASSWORD}\n"))
}

#[test]
fn key_survives_the_handover_to_the_agent_and_a_new_passphrase() {
    let issuer = strict_issuer();
    let jkt = |ran: CommandOutput| {
        let token = ran.exits(0).json()["access_token"].as_str().expect("a token").to_owned();
        claims(&token)["cnf"]["jkt"].as_str().expect("a bound token").to_owned()
    };
    let home = Sandbox::new();
    let agent = Agent::run(&home);
    log_in(&home, &issuer, &["--store", "memory"]).exits(0);
    let before = jkt(home.run(&["token", "work", "--json"]));
    // The issuer would refuse a refresh without the key.
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(jkt(home.run(&["token", "work", "--json"])), before);
    agent.stop().expect("a child").exits(0);

    let home = Sandbox::new();
    log_in(&home, &issuer, &[]).exits(0);
    let before = bound_to(&home.session("work"));
    let with = |args: &[&str], passphrases: &str| home.run_with(&[args, &["--passphrase-stdin"]].concat(), passphrases);
    for (args, passphrases, new) in [
        (&["store", "passphrase"][..], "first\n", Some("first\n")),
        (&["store", "passphrase"], "first\nsecond\n", Some("second\n")),
        (&["store", "passphrase", "--remove"], "second\n", None),
    ] {
        with(args, passphrases).exits(0);
        let run = |args: &[&str]| new.map_or_else(|| home.run(args), |passphrase| with(args, passphrase));
        run(&["refresh", "work"]).exits(0);
        assert_eq!(jkt(run(&["token", "work", "--json"])), before, "{args:?}");
    }
}

/// Makes the next reply with tokens call them bearer tokens.
fn unbind(issuer: &DevIssuer) {
    edit_next_reply(issuer, &json!({"token_type": "Bearer"}));
}

/// Changes these members of the next reply with tokens.
fn edit_next_reply(issuer: &DevIssuer, set: &Value) {
    let fault = json!({"endpoint": "token", "kind": "edited", "times": 1, "set": set});
    issuer.fault(serde_json::from_value::<Fault>(fault).expect("a fault"));
}

/// Returns the thumbprint of the key that the stored access token is bound to.
#[track_caller]
fn bound_to(session: &Session) -> String {
    claims(session.tokens.access_token.expose())["cnf"]["jkt"].as_str().expect("a bound token").to_owned()
}

#[test]
fn bound_session_keeps_its_key_through_refreshes_until_the_logout() {
    let (home, issuer) = (Sandbox::new(), strict_issuer());
    log_in(&home, &issuer, &[]).exits(0);
    let first = home.session("work");
    assert!(first.dpop_key.is_some() && first.subject.is_some(), "userinfo accepts the proof too");
    let status = home.status("work");
    assert_eq!((&status["bound"], &status["token_type"]), (&json!(true), &json!("DPoP")));
    assert!(home.run(&["status", "work"]).exits(0).stdout.contains("bound to a key (DPoP)"));
    home.advance_time("work", 301);
    assert_eq!(home.run(&["token", "work", "--json"]).exits(0).json()["token_type"], "DPoP");
    let second = home.session("work");
    assert_ne!(second.tokens.access_token.expose(), first.tokens.access_token.expose());
    assert_eq!(bound_to(&second), bound_to(&first));
    home.run(&["verify", "work"]).exits(0);
    home.run(&["logout", "work"]).exits(0);
    assert!(!home.session_file("work").exists());
    assert_eq!(home.leaks_in_files(), Vec::<std::path::PathBuf>::new());
    log_in(&home, &issuer, &[]).exits(0);
    assert_ne!(bound_to(&home.session("work")), bound_to(&first), "a login makes a new key");
}

#[test]
fn browser_login_is_bound_from_its_code_on() {
    let (home, issuer) = (Sandbox::new(), strict_issuer());
    for (setting, sends_key) in [("always", true), ("auto", false)] {
        let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
        let login = home.spawn(&[&args[..], &["--dpop", setting, "-vvv"]].concat());
        let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
        assert_eq!(address.contains("dpop_jkt="), sends_key, "{address}");
        let mut person = LoginPages::sign_in(&issuer, &address, USER);
        assert_eq!(person.follow_redirect(), 200, "{}", person.html);
        login.wait().exits(0);
        bound_to(&home.session("work"));
    }
}

#[test]
fn request_is_pushed_where_the_issuer_requires_it_or_the_profile_asks() {
    for (required, setting, pushed) in [(true, "auto", true), (false, "always", true), (false, "auto", false)] {
        let issuer = binding_issuer(|options| options.require_par = required);
        let home = Sandbox::new();
        let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
        let login = home.spawn(&[&args[..], &["--par", setting, "--dpop", "always"]].concat());
        let address = login.wait_for_line(&format!("{}/authorize", issuer.issuer()));
        assert_eq!(address.contains("request_uri=") && !address.contains("code_challenge"), pushed, "{address}");
        if pushed {
            login.reports("Open the address within 1 min");
        }
        let mut person = LoginPages::sign_in(&issuer, &address, USER);
        assert_eq!(person.follow_redirect(), 200, "{}", person.html);
        login.wait().exits(0);
        bound_to(&home.session("work"));
    }
}

#[test]
fn refused_pushed_request_opens_no_address() {
    let issuer = binding_issuer(|options| options.require_par = true);
    let home = Sandbox::new();
    let fault = json!({"endpoint": "par", "kind": "o_auth_error", "status": 400, "code": "invalid_scope", "times": 1});
    issuer.fault(serde_json::from_value::<Fault>(fault).expect("a fault"));
    let args = ["login", "work", "--issuer", issuer.issuer(), "--client-id", "authctl", "--no-browser"];
    let ran = home.run(&args).exits(5).reports("invalid_scope");
    assert!(!ran.stderr.contains("/authorize"), "{}", ran.stderr);
}

#[test]
fn setting_decides_whether_tokens_are_bound() {
    let (lenient, strict) = (binding_issuer(|_| {}), strict_issuer());
    for (issuer, setting, bound) in [
        (&lenient, "auto", Some(false)),
        (&lenient, "always", Some(true)),
        (&lenient, "never", Some(false)),
        (&strict, "auto", Some(true)),
        (&strict, "always", Some(true)),
        (&strict, "never", None),
    ] {
        let home = Sandbox::new();
        let ran = log_in(&home, issuer, &["--dpop", setting]);
        match bound {
            Some(bound) => {
                ran.exits(0);
                assert_eq!(home.status("work")["bound"], bound, "{setting}");
                assert_eq!(home.session("work").dpop_key.is_some(), bound, "{setting}");
            }
            None => {
                ran.exits(5).reports("invalid_dpop_proof");
                assert!(!home.session_file("work").exists());
            }
        }
    }
}

#[test]
fn token_that_is_not_bound_is_never_called_so() {
    let issuer = binding_issuer(|_| {});
    let home = Sandbox::new();
    unbind(&issuer);
    log_in(&home, &issuer, &["--dpop", "always"]).exits(5).reports("not bound").reports("--dpop auto");
    assert!(!home.session_file("work").exists() && !home.config_file().exists());
    log_in(&home, &issuer, &["--dpop", "always"]).exits(0);
    home.advance_time("work", 301);
    unbind(&issuer);
    home.run(&["token", "work", "--json"]).exits(5).reports("not bound");
    assert_eq!(home.status("work")["bound"], true, "the token of before");
    home.run(&["token", "work", "--json"]).exits(0);
    // Where binding is not required, the issuer decides (RFC 9449, section 5); its refresh token stays bound.
    home.run(&["profile", "set", "work", "dpop=auto"]).exits(0);
    home.advance_time("work", 301);
    unbind(&issuer);
    assert_eq!(home.run(&["token", "work", "--json"]).exits(0).json()["token_type"], "Bearer");
    assert_eq!(home.status("work")["bound"], false);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(home.status("work")["bound"], true);
    assert_eq!(issuer.stats().refresh_reuses, 0);
}

#[test]
fn token_that_is_bound_to_another_key_is_refused() {
    let (home, other, issuer) = (Sandbox::new(), Sandbox::new(), binding_issuer(|_| {}));
    log_in(&other, &issuer, &["--dpop", "always"]).exits(0);
    let stranger = json!({"access_token": other.session("work").tokens.access_token.expose()});
    home.register_secret(stranger["access_token"].as_str().expect("a token"));
    edit_next_reply(&issuer, &stranger);
    log_in(&home, &issuer, &["--dpop", "always"]).exits(5).reports("bound to another key");
    assert!(!home.session_file("work").exists() && !home.config_file().exists());
    log_in(&home, &issuer, &["--dpop", "always"]).exits(0);
    for args in [&["token", "work"][..], &["token", "work", "--audience", "https://api.example"]] {
        home.advance_time("work", 301);
        edit_next_reply(&issuer, &stranger);
        home.run(args).exits(5).reports("bound to another key");
        assert_eq!(home.status("work")["bound"], true, "the token of before");
        // The refresh token of that reply is the session's.
        home.run(&["refresh", "work"]).exits(0);
    }
    assert_eq!(issuer.stats().refresh_reuses, 0);
}

#[test]
fn session_from_before_is_bound_by_its_next_refresh() {
    let (home, issuer) = (Sandbox::new(), binding_issuer(|_| {}));
    log_in(&home, &issuer, &[]).exits(0);
    assert_eq!(home.status("work")["bound"], false);
    home.run(&["profile", "set", "work", "dpop=always"]).exits(0);
    for _ in 0..2 {
        home.run(&["refresh", "work"]).exits(0);
        assert_eq!(home.status("work")["bound"], true);
    }
    home.run(&["profile", "set", "work", "dpop=never"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(home.status("work")["bound"], true, "the refresh token is bound to the key");
    home.run(&["token", "work", "--audience", "https://api.example", "--json"]).exits(0);
}

#[test]
fn bound_token_is_not_issued_by_itself() {
    let (home, issuer) = (Sandbox::new(), strict_issuer());
    let file = home.path().join("token");
    log_in(&home, &issuer, &[]).exits(0);
    home.run(&["profile", "set", "work", &format!("token_file={}", file.display()), "hosts=api.example"]).exits(0);
    home.session("work");
    let check = |home: &Sandbox| {
        for args in [
            &["token", "work"][..],
            &["token", "work", "--header"],
            &["exec", "work", "--", "true"],
            &["exec", "--file", "t", "work", "--", "true"],
            &["helper", "keyring", "get", "https://api.example/", "user"],
        ] {
            let ran = home.run(args);
            assert!(ran.code != 0 && ran.stdout.is_empty(), "{args:?}: {} {}", ran.code, ran.stdout);
            assert!(ran.stderr.contains("bound to a key (DPoP)"), "{args:?}: {}", ran.stderr);
        }
    };
    check(&home);
    let _agent = Agent::start(&home);
    check(&home);
    assert!(!file.exists());
    assert!(home.run(&["status", "work"]).stdout.contains("not up to date: the access token is bound"));
    home.run(&["token", "work", "--id-token"]).exits(0);
}

/// Calls the userinfo endpoint with a bound token and this proof; returns the status and the nonce of the reply.
fn call(issuer: &DevIssuer, token: &str, proof: &str) -> (u16, String) {
    let headers = [format!("Authorization: DPoP {token}"), format!("DPoP: {proof}")];
    let url = format!("{}/userinfo", issuer.issuer());
    let (status, head, _) = http::exchange("GET", &url, &[&headers[0], &headers[1]], "");
    let nonce = head.lines().find_map(|line| line.strip_prefix("dpop-nonce: ")).unwrap_or_default();
    (status, nonce.to_owned())
}

#[test]
fn agent_makes_proofs_and_keeps_the_key() {
    let (home, issuer) = (Sandbox::new(), strict_issuer());
    log_in(&home, &issuer, &[]).exits(0);
    let agent = Agent::start(&home);
    let token = agent.get("/v1/token/work").token();
    let key = home.session("work").dpop_key.expect("a key");
    let url = format!("{}/userinfo?x=1", issuer.issuer());
    let proof = |more: Value| {
        let mut body = json!({"profile": "work", "method": "GET", "url": url});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        agent.post("/v1/proof", &body.to_string())
    };
    let text = |response: crate::support::agent::Response| {
        assert!(!response.body.contains(key.expose()));
        response.expect_status(200)["proof"].as_str().expect("a proof").to_owned()
    };
    let (status, nonce) = call(&issuer, &token, &text(proof(json!({}))));
    assert_eq!((status, nonce.is_empty()), (401, false), "a nonce is missing");
    let given = text(proof(json!({"nonce": nonce, "access_token": token})));
    assert_eq!(call(&issuer, &token, &given).0, 200);
    assert_eq!(call(&issuer, &token, &given).0, 401, "each proof is for one request");
    assert_eq!(call(&issuer, &token, &text(proof(json!({})))).0, 200, "the nonce is remembered");
    assert_eq!(call(&issuer, &token, &text(proof(json!({"access_token": "another"})))).0, 401);
    assert_eq!(call(&issuer, &token, &text(proof(json!({"method": "POST"})))).0, 401);
    for wrong in [
        json!({"method": "GET /"}),
        json!({"method": ""}),
        json!({"url": "http://api.example/"}),
        json!({"url": "x"}),
        json!({"nonce": "a b"}),
        json!({"nonces": "a"}),
    ] {
        proof(wrong).expect_problem(400, "invalid_request");
    }
    assert!(home.run(&["agent", "log", "--json"]).stdout.contains("\"proof\""));
    home.run_with(&["agent", "lock", "--passphrase-stdin"], "pass-phrase-of-the-lock\n").exits(0);
    proof(json!({})).expect_problem(423, "agent_locked");
}

#[test]
fn headers_of_a_bound_token_have_a_proof() {
    let (home, issuer) = (Sandbox::new(), strict_issuer());
    let url = format!("{}/userinfo", issuer.issuer());
    log_in(&home, &issuer, &["--resource", &url]).exits(0);
    home.run(&["token", "work"]).exits(2).reports(&format!("authctl headers work --for {url}"));
    let check = |home: &Sandbox| {
        let print = |more: &[&str]| {
            let ran = home.run(&[&["headers", "--for", &url, "--json"], more].concat()).exits(0).json();
            let token = ran["Authorization"].as_str().and_then(|value| value.strip_prefix("DPoP ")).expect("a token");
            call(&issuer, token, ran["DPoP"].as_str().expect("a proof"))
        };
        let (status, nonce) = print(&[]);
        assert_eq!(status, 401, "a nonce is missing");
        assert_eq!(print(&["--nonce", &nonce]).0, 200);
        assert_eq!(print(&["--nonce", &nonce, "--method", "POST"]).0, 401, "a proof for another request");
        home.run(&["headers", "--for", &url, "--nonce", "a b"]).exits(2).reports("invalid nonce");
    };
    check(&home);
    let _agent = Agent::start(&home);
    check(&home);
}

#[test]
fn api_that_asks_for_bound_tokens_gets_a_profile_that_requires_them() {
    let required = |documents: &mut Documents| {
        let document = documents.resource.values_mut().next().expect("the metadata");
        document["dpop_bound_access_tokens_required"] = json!(true);
    };
    let challenged = |documents: &mut Documents| {
        documents.challenge = Some("DPoP".into());
        lists_algorithms(documents);
    };
    for change in [&required as &dyn Fn(&mut Documents), &challenged] {
        let (home, api) = (Sandbox::new(), ProtectedApi::start(|documents| change(documents)));
        let login = ["login", "api", "--for", &api.url(), "--yes", "--client-id", "cli", "--client-credentials"];
        // Its issuer returns bearer tokens.
        let ran = home.run_with(&[&login[..], &["--client-secret-stdin"]].concat(), "secret-of-the-client\n");
        ran.exits(5).reports("not bound to the key");
    }
}

fn lists_algorithms(documents: &mut Documents) {
    let metadata = documents.server.values_mut().next().expect("the metadata");
    metadata["dpop_signing_alg_values_supported"] = json!(["ES256"]);
}

#[test]
fn api_that_also_takes_bearer_tokens_does_not_force_bound_ones() {
    let both = |documents: &mut Documents| {
        documents.challenge = Some("Bearer realm=\"a\", DPoP algs=\"ES256\"".into());
        lists_algorithms(documents);
    };
    let unsupported = |documents: &mut Documents| documents.challenge = Some("DPoP".into());
    for change in [&both as &dyn Fn(&mut Documents), &unsupported] {
        let (home, api) = (Sandbox::new(), ProtectedApi::start(|documents| change(documents)));
        let login = ["login", "api", "--for", &api.url(), "--yes", "--client-id", "cli", "--client-credentials"];
        home.run_with(&[&login[..], &["--client-secret-stdin"]].concat(), "secret-of-the-client\n").exits(0);
        assert!(!std::fs::read_to_string(home.config_file()).expect("written").contains("dpop"));
    }
}

#[test]
fn login_with_a_bound_token_suggests_the_headers_of_a_request() {
    let (home, issuer) = (Sandbox::new(), strict_issuer());
    log_in(&home, &issuer, &["--resource", "https://api.example/v1"])
        .exits(0)
        .reports("Try: authctl headers work --for https://api.example/v1");
    home.run(&["headers", "work", "--for", "https://api.example/v1"]).exits(0);
}

#[test]
fn session_without_a_key_has_no_proofs() {
    let (home, issuer) = (Sandbox::new(), binding_issuer(|_| {}));
    log_in(&home, &issuer, &[]).exits(0);
    let agent = Agent::start(&home);
    let body = json!({"method": "GET", "url": "https://api.example/"}).to_string();
    let problem = agent.post("/v1/proof", &body).expect_problem(400, "invalid_request");
    assert!(problem["title"].as_str().expect("text").contains("not bound to a key"), "{problem}");
    wait_until("the agent still answers", || (agent.get("/v1/token/work").status == 200).then_some(()));
}
