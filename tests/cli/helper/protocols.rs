use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::logged_in;
use crate::support::{CommandOutput, Sandbox};

const GIT: &str = "protocol=https\nhost=git.example\n";

/// Returns when the profile's token expires.
fn expiry(home: &Sandbox) -> i64 {
    home.session("work").tokens.expires_at.expect("an expiry").0
}

fn git(home: &Sandbox, action: &str, request: &str) -> CommandOutput {
    home.run_with(&["helper", "git", action], request)
}

#[test]
fn git_gets_the_token_as_a_password_with_its_expiry() {
    let (home, _idp) = logged_in("git.example other.example:8443");
    let (token, at) = (home.token("work"), expiry(&home));
    let expected = format!("username=oauth2\npassword={token}\npassword_expiry_utc={at}\n\n");
    assert_eq!(git(&home, "get", GIT).exits(0).stdout, expected);
    assert_eq!(git(&home, "get", "protocol=https\nhost=other.example:8443\n").exits(0).stdout, expected);
    let named = format!("{GIT}path=team/project.git\nusername=ann\n");
    assert!(git(&home, "get", &named).exits(0).stdout.starts_with("username=ann\n"));
}

#[test]
fn git_that_takes_schemes_gets_a_bearer_token_that_no_helper_keeps() {
    let (home, _idp) = logged_in("git.example");
    let (token, at) = (home.token("work"), expiry(&home));
    let request = format!("capability[]=authtype\ncapability[]=state\n{GIT}");
    assert_eq!(
        git(&home, "get", &request).exits(0).stdout,
        format!(
            "capability[]=authtype\nauthtype=Bearer\ncredential={token}\nephemeral=1\npassword_expiry_utc={at}\n\n"
        )
    );
    assert_eq!(home.run(&["helper", "git", "capability"]).exits(0).stdout, "version 0\ncapability authtype\n");
}

#[test]
fn git_gets_no_token_for_another_host_or_without_encryption() {
    let (home, _idp) = logged_in("git.example 127.0.0.1:8080");
    for request in [
        "protocol=https\nhost=evil.example\n",
        "protocol=https\nhost=git.example.evil.example\n",
        "protocol=https\nhost=git.example:8443\n",
        "protocol=ssh\nhost=git.example\n",
        "host=git.example\n",
        "",
        "\nprotocol=https\nhost=git.example\n",
    ] {
        let ran = git(&home, "get", request).exits(0);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{request}");
    }
    for host in
        ["git.example\\.evil.example", "git.example/@evil.example", "git.exa\tmple", "git.example#.evil.example", "*"]
    {
        let ran = git(&home, "get", &format!("protocol=https\nhost={host}\n")).exits(2).reports("invalid host");
        assert_eq!(ran.stdout, "quit=1\n\n");
    }
    let ran = git(&home, "get", "protocol=http\nhost=git.example\n").exits(2).reports("sent unencrypted");
    assert_eq!(ran.stdout, "quit=1\n\n");
    assert!(git(&home, "get", "protocol=http\nhost=127.0.0.1:8080\n").exits(0).stdout.contains("password="));
}

#[test]
fn token_that_a_git_server_refused_is_replaced() {
    let (home, _idp) = logged_in("git.example");
    let token = home.token("work");
    assert_eq!(git(&home, "erase", &format!("{GIT}username=oauth2\npassword=another\n")).exits(0).stdout, "");
    assert_eq!(home.token("work"), token);
    assert_eq!(git(&home, "store", &format!("{GIT}username=oauth2\npassword={token}\n")).exits(0).stdout, "");
    assert_eq!(git(&home, "erase", &format!("{GIT}username=oauth2\npassword={token}\n")).exits(0).stdout, "");
    assert_ne!(home.token("work"), token);
}

#[test]
fn docker_gets_credentials_for_the_hosts_of_profiles() {
    let (home, _idp) = logged_in("registry.example localhost:5000");
    let token = home.token("work");
    let docker = |action: &str, stdin: &str| home.run_with(&["helper", "docker", action], stdin);
    for server in ["registry.example", "https://registry.example/v2/", "localhost:5000\n"] {
        let reply = docker("get", server).exits(0).json();
        assert_eq!(reply, json!({"ServerURL": server.trim(), "Username": "oauth2", "Secret": token}), "{server}");
    }
    for server in ["https://index.docker.io/v1/", "registry.example.evil.example", "http://registry.example", "\0"] {
        assert_eq!(docker("get", server).exits(1).stdout, "credentials not found in native keychain\n", "{server}");
    }
    assert_eq!(docker("list", "").exits(0).json(), json!({"localhost:5000": "oauth2", "registry.example": "oauth2"}));
    assert!(docker("version", "").exits(0).stdout.starts_with("docker-credential-authctl (authctl) 0."));
    assert_eq!(docker("erase", "registry.example").exits(0).stdout, "");
    assert_eq!(home.token("work"), token);
    for action in ["get", "erase", "store"] {
        let stdin = if action == "store" { r#"{"Username":"a","Secret":"b"}"# } else { " \n" };
        assert_eq!(docker(action, stdin).exits(1).stdout, "no credentials server URL\n", "{action}");
    }
    let stored = |server: &str, user: &str| json!({"ServerURL": server, "Username": user, "Secret": "b"}).to_string();
    assert_eq!(docker("store", &stored("registry.example", "")).exits(1).stdout, "no credentials username\n");
    // `docker login` stores again what it got.
    assert_eq!(docker("store", &stored("registry.example", "oauth2")).exits(0).stdout, "");
    for (server, user) in [("registry.example", "ann"), ("other.example", "oauth2")] {
        let ran = docker("store", &stored(server, user)).exits(2);
        assert_eq!(ran.stdout, "authctl stores no passwords of docker\n");
    }
    assert!(docker("store", "{").exits(2).stdout.starts_with("invalid request: EOF"));
}

#[test]
fn kubernetes_client_gets_the_version_that_it_asks_for() {
    let (mut home, _idp) = logged_in("");
    let (token, at) = (home.token("work"), home.session("work").tokens.expires_at.expect("an expiry"));
    let version = |name: &str| format!("client.authentication.k8s.io/{name}");
    let expected = |name: &str| {
        json!({
            "kind": "ExecCredential",
            "apiVersion": version(name),
            "spec": {},
            "status": {"token": token, "expirationTimestamp": at.to_string()},
        })
    };
    assert_eq!(home.run(&["helper", "kubernetes"]).exits(0).json(), expected("v1"));
    for name in ["v1", "v1beta1"] {
        let cluster = json!({"server": "https://cluster.example:6443"});
        let spec = json!({"interactive": true, "cluster": cluster});
        let asked = json!({"kind": "ExecCredential", "apiVersion": version(name), "spec": spec});
        home.set("KUBERNETES_EXEC_INFO", asked.to_string());
        assert_eq!(home.run(&["helper", "kubernetes", "--profile", "work"]).exits(0).json(), expected(name));
    }
    let plain = json!({"apiVersion": version("v1"), "spec": {"cluster": {"server": "http://cluster.example"}}});
    for wrong in [json!({"apiVersion": version("v2")}).to_string(), "{".to_owned(), plain.to_string()] {
        home.set("KUBERNETES_EXEC_INFO", &wrong);
        assert_eq!(home.run(&["helper", "kubernetes"]).exits(2).stdout, "", "{wrong}");
    }
}

#[test]
fn cargo_gets_the_header_for_its_registry() {
    let (home, _idp) = logged_in("index.example");
    let (token, at) = (home.token("work"), expiry(&home));
    let request = |kind: &str, index: &str| json!({"v": 1, "registry": {"index-url": index, "name": "own", "headers": []}, "kind": kind, "args": []});
    let lines = [
        request("get", "sparse+https://index.example/api/"),
        request("get", "https://index.example/git"),
        request("get", "sparse+https://other.example/"),
        request("login", "sparse+https://index.example/"),
        json!({"v": 2, "registry": {"index-url": "sparse+https://index.example/"}, "kind": "get"}),
    ]
    .map(|line| line.to_string());
    let stdin = format!("{}\n{{\"v\": 1\n{}\n", lines.join("\n"), lines[0]);
    let ran = home.run_with(&["--cargo-plugin"], &stdin).exits(0);
    let replies: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let token = json!({"Ok": {
        "kind": "get",
        "token": format!("Bearer {token}"),
        "cache": "expires",
        "expiration": at,
        "operation_independent": true,
    }});
    assert_eq!(replies[..3], [json!({"v": [1]}), token.clone(), token.clone()]);
    assert_eq!(replies[3], json!({"Err": {"kind": "url-not-supported"}}));
    assert_eq!(replies[4], json!({"Err": {"kind": "operation-not-supported"}}));
    assert_eq!([&replies[5]["Err"]["kind"], &replies[6]["Err"]["kind"]], [&json!("other"), &json!("other")]);
    assert_eq!(replies[7..], [token], "a bad line does not end the dialogue");
}

#[test]
fn pip_and_uv_get_the_password_of_their_index() {
    let (home, _idp) = logged_in("index.example");
    let token = home.token("work");
    let keyring = |words: &[&str]| home.run(&[&["helper", "keyring", "--"][..], words].concat());
    let index = "https://oauth2@index.example/simple";
    assert_eq!(keyring(&["get", index, "oauth2"]).exits(0).stdout, format!("{token}\n"));
    let both = format!("oauth2\n{token}\n");
    assert_eq!(keyring(&["--mode", "creds", "get", index]).exits(0).stdout, both);
    assert_eq!(keyring(&["get", index, "--mode=creds"]).exits(0).stdout, both);
    let reply = keyring(&["--mode", "creds", "--output", "json", "get", index]).exits(0).json();
    assert_eq!(reply, json!({"username": "oauth2", "password": token}));
    for service in ["https://pypi.org/simple", "pypi.org", "http://index.example/simple", "index.example", ""] {
        let ran = keyring(&["get", service, "oauth2"]).exits(1);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{service}");
    }
    assert_eq!(keyring(&["set", index, "ann"]).exits(2).stdout, "");
}

#[test]
fn terraform_gets_the_token_of_its_host() {
    let (home, _idp) = logged_in("registry.example");
    let token = home.token("work");
    let terraform = |words: &[&str]| home.run(&[&["helper", "terraform", "--"][..], words].concat());
    assert_eq!(terraform(&["get", "registry.example"]).exits(0).json(), json!({"token": token}));
    assert_eq!(terraform(&["get", "app.terraform.io"]).exits(0).stdout, "{}\n");
    assert_eq!(terraform(&["store", "registry.example"]).exits(2).stdout, "");
    assert_eq!(terraform(&["get"]).exits(2).stdout, "");
}

#[test]
fn google_client_gets_the_type_of_token_that_it_expects() {
    let (mut home, _idp) = logged_in("");
    let (token, at) = (home.token("work"), expiry(&home));
    let id_token = home.run(&["token", "--id-token"]).exits(0).line().to_owned();
    let type_of = |name: &str| format!("urn:ietf:params:oauth:token-type:{name}");
    let expected = |name: &str, token: &str| json!({"version": 1, "success": true, "token_type": type_of(name), "id_token": token});
    let mut reply = home.run(&["helper", "google"]).exits(0).json();
    assert_eq!(reply.as_object_mut().expect("an object").remove("expiration_time"), Some(json!(at)));
    assert_eq!(reply, expected("jwt", &token));
    home.set("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE", type_of("id_token"));
    let mut reply = home.run(&["helper", "google"]).exits(0).json();
    reply.as_object_mut().expect("an object").remove("expiration_time");
    assert_eq!(reply, expected("id_token", &id_token));
}

#[test]
fn tool_shows_its_user_that_a_login_is_required() {
    let (mut home, _idp) = logged_in("git.example");
    home.set("BROWSER", "touch opened; true");
    home.run(&["logout", "work"]).exits(0);
    let started = Instant::now();
    let next = "run: authctl login work";
    let ran = git(&home, "get", GIT).exits(3).reports("hint:  authctl login work");
    assert_eq!(ran.stdout, "quit=1\n\n");
    assert!(home.run_with(&["helper", "docker", "get"], "git.example").exits(3).stdout.contains(next));
    assert_eq!(home.run(&["helper", "kubernetes"]).exits(3).reports("authctl login work").stdout, "");
    let request = json!({"v": 1, "registry": {"index-url": "sparse+https://git.example/"}, "kind": "get"});
    let ran = home.run_with(&["--cargo-plugin"], &format!("{request}\n")).exits(0);
    assert!(ran.stdout.contains(r#""kind":"other""#) && ran.stdout.contains(next), "{}", ran.stdout);
    assert_eq!(
        home.run(&["helper", "keyring", "get", "https://git.example/simple", "a"])
            .exits(3)
            .reports("authctl login work")
            .stdout,
        ""
    );
    assert_eq!(home.run(&["helper", "terraform", "get", "git.example"]).exits(3).stdout, "");
    let ran = home.run(&["helper", "google"]).exits(0);
    assert_eq!(ran.stderr, "", "google-auth reads it together with the reply");
    let reply = ran.json();
    assert_eq!((&reply["success"], &reply["code"]), (&json!(false), &json!("login_required")));
    assert!(reply["message"].as_str().expect("a message").contains(next));
    assert!(!home.path().join("opened").exists());
    assert!(started.elapsed() < Duration::from_secs(20), "nothing waits for a person");
}

#[test]
fn host_of_several_profiles_needs_a_choice() {
    let (mut home, idp) = logged_in("git.example");
    home.log_in_as("other", &idp, "other");
    home.run(&["profile", "set", "other", "hosts=git.example"]).exits(0);
    home.unset_default_profile();
    git(&home, "get", GIT).exits(2).reports("several profiles are for git.example: other, work");
    let (work, other) = (home.token("work"), home.token("other"));
    assert!(home.run_with(&["helper", "git", "--profile", "other", "get"], GIT).exits(0).stdout.contains(&other));
    home.set("AUTHCTL_PROFILE", "work");
    assert!(git(&home, "get", GIT).exits(0).stdout.contains(&work));
}

#[test]
fn input_that_no_tool_sends_is_refused() {
    let (home, _idp) = logged_in("git.example");
    let long = format!("{GIT}path={}\n", "a".repeat(70_000));
    for (words, stdin) in [
        (&["git", "get"][..], long.as_str()),
        (&["git", "get"], "protocol\n"),
        (&["docker", "get"], &long),
        (&["git"], ""),
        (&["git", "get", "more"], GIT),
        (&["docker", "frobnicate"], ""),
        (&["kubernetes", "get"], ""),
        (&["keyring"], ""),
        (&["keyring", "get"], ""),
        (&["terraform", "get", "a", "b"], ""),
        (&["svn", "get"], ""),
    ] {
        let ran = home.run_with(&[&["helper"][..], words].concat(), stdin).exits(2);
        assert!(!ran.stdout.contains("eyJ"), "{words:?}: {}", ran.stdout);
    }
    // What a newer git asks for is ignored.
    assert_eq!(git(&home, "frobnicate", GIT).exits(0).stdout, "");
    home.run(&["helper", "git", "--json", "get"]).exits(2).reports("no JSON output");
}

#[test]
fn invalid_profile_that_may_have_the_host_is_named() {
    let (home, _idp) = logged_in("");
    let text = std::fs::read_to_string(home.config_file()).unwrap();
    let bad = "[profiles.bad]\nissuer = \"https://a.example\"\nclient_id = \"a\"\nhosts = [\"git.example\"]\nfuture = \"x\"\n";
    home.configure(&format!("{text}\n{bad}"));
    assert_eq!(git(&home, "get", GIT).exits(0).reports("warning: invalid configuration").stdout, "");
    home.run(&["profile", "set", "work", "hosts=u:secret@x.example"]).exits(2).reports("invalid host `x.example`");
}
