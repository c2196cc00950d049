//! Golden bytes: what each tool gets on stdout and stderr, with its exit code, for a token and for each kind of failure
//! (`tests/golden/helper`). `BLESS=1` rewrites the files.
//!
//! What differs between runs has a placeholder: `TOKEN` and `ID_TOKEN`, `EXPIRES` in seconds since 1970 and `EXPIRES_TEXT` as a
//! date, `HOME`, `AUTHCTL` for the path of the program, `VERSION` and `ISSUER`. A line without a line break is followed by `\`.

use std::fs;

use authctl::clock::UnixTime;
use serde_json::{Value, json};

use super::aws::{CREDENTIALS, ROLE};
use super::logged_in;
use crate::support::golden::assert_golden;
use crate::support::stub_server::StubServer;
use crate::support::{AUTHCTL, Sandbox};

/// The replies to a tool.
struct Replies {
    home: Sandbox,
    issuer: authctl::dev_issuer::DevIssuer,
    tool: &'static str,
    varies: Vec<(String, &'static str)>,
    text: String,
}

impl Replies {
    fn to(tool: &'static str) -> Self {
        let (home, issuer) = logged_in("a.example localhost:5000");
        home.token("work");
        let mut replies = Self { home, issuer, tool, varies: Vec::new(), text: String::new() };
        replies.read_session();
        replies
    }

    /// Finds out what differs between runs.
    fn read_session(&mut self) {
        let tokens = self.home.session("work").tokens;
        let expiry = tokens.expires_at.expect("an expiry");
        let id_token = tokens.id_token.expect("an ID token").expose().to_owned();
        // Issued within the second of the access token, or in the next.
        let id_expiry = UnixTime(crate::support::jwt::claims(&id_token)["exp"].as_i64().expect("an expiry"));
        self.varies = vec![
            (tokens.access_token.expose().to_owned(), "TOKEN"),
            (id_token, "ID_TOKEN"),
            (expiry.to_string(), "EXPIRES_TEXT"),
            (expiry.0.to_string(), "EXPIRES"),
            (id_expiry.to_string(), "EXPIRES_TEXT"),
            (id_expiry.0.to_string(), "EXPIRES"),
            (AUTHCTL.to_owned(), "AUTHCTL"),
            (self.home.path().display().to_string(), "HOME"),
            (self.issuer.issuer().to_owned(), "ISSUER"),
            (format!("(authctl) {}", env!("CARGO_PKG_VERSION")), "(authctl) VERSION"),
        ];
    }

    /// Records the reply to a request.
    fn add(&mut self, words: &[&str], stdin: &str) {
        // As the link of its name does: its options are not authctl's.
        let separator = if self.tool == "keyring" { &["--"][..] } else { &[] };
        let args = [&["helper", self.tool][..], separator, words].concat();
        let ran = self.home.run_with(&args, stdin);
        let heading = format!("== {} -> {}\n", args.join(" "), ran.code);
        self.text.push_str(&heading);
        for (stream, text) in [("stdin", stdin), ("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
            self.show(stream, text);
        }
    }

    /// Records the reply with a variable of the tool.
    fn add_with(&mut self, variable: &str, value: &str, words: &[&str]) {
        self.home.set(variable, value);
        self.show(variable, value);
        self.add(words, "");
        self.home.unset(variable);
    }

    fn show(&mut self, what: &str, text: &str) {
        let mut shown = text.to_owned();
        for (value, placeholder) in &self.varies {
            shown = shown.replace(value, placeholder);
        }
        for line in shown.split_inclusive('\n') {
            let line_end = if line.ends_with('\n') { "" } else { "\\\n" };
            self.text.push_str(&format!("{what}: {line}{line_end}"));
        }
    }

    fn log_out(&mut self) {
        self.home.run(&["logout", "work"]).exits(0);
        self.text.push_str("\n-- without a session\n\n");
    }

    fn finish(self) {
        assert_golden(&format!("helper/{}", self.tool), &self.text);
    }
}

#[test]
fn replies_to_git() {
    let mut replies = Replies::to("git");
    let get = "protocol=https\nhost=a.example\n";
    // git before 2.46 names no capabilities.
    replies.add(&["get"], get);
    replies.add(&["get"], &format!("{get}path=team/project.git\nusername=ann\nwwwauth[]=Basic realm=\"a\"\n\n"));
    replies.add(&["get"], &format!("capability[]=authtype\ncapability[]=state\n{get}\n"));
    replies.add(&["get"], "protocol=http\nhost=localhost:5000\n");
    replies.add(&["capability"], "");
    replies.add(&["get"], "protocol=https\nhost=b.example\n");
    replies.add(&["get"], "protocol=http\nhost=a.example\n");
    replies.add(&["get"], "protocol\n");
    let token = replies.home.token("work");
    replies.add(&["store"], &format!("{get}username=oauth2\npassword={token}\n"));
    replies.add(&["erase"], &format!("{get}username=oauth2\npassword=other\n"));
    replies.add(&["erase"], &format!("{get}username=oauth2\npassword={token}\n"));
    replies.read_session();
    assert_ne!(replies.home.token("work"), token, "the server has refused it");
    replies.add(&["get"], get);
    replies.log_out();
    replies.add(&["get"], get);
    replies.finish();
}

#[test]
fn replies_to_docker() {
    let mut replies = Replies::to("docker");
    let stored = |server: &str, user: &str| json!({"ServerURL": server, "Username": user, "Secret": "x"}).to_string();
    for server in ["a.example", "https://a.example/v2/\n", "localhost:5000"] {
        replies.add(&["get"], server);
    }
    for server in ["https://index.docker.io/v1/", "a.example.evil.example", "http://a.example", "", "\n"] {
        replies.add(&["get"], server);
    }
    replies.add(&["list"], "");
    replies.add(&["version"], "");
    replies.add(&["store"], &stored("a.example", "oauth2"));
    replies.add(&["store"], &stored("a.example", "ann"));
    replies.add(&["store"], &stored("b.example", "oauth2"));
    replies.add(&["store"], &stored("", "oauth2"));
    replies.add(&["store"], &stored("a.example", ""));
    replies.add(&["store"], "{");
    replies.add(&["erase"], "a.example");
    replies.add(&["erase"], "");
    replies.add(&["frobnicate"], "");
    replies.log_out();
    replies.add(&["get"], "a.example");
    replies.finish();
}

#[test]
fn replies_to_kubernetes() {
    let mut replies = Replies::to("kubernetes");
    let asked = |version: &str, server: &str| {
        let spec = json!({"interactive": true, "cluster": {"server": server}});
        let version = format!("client.authentication.k8s.io/{version}");
        json!({"kind": "ExecCredential", "apiVersion": version, "spec": spec}).to_string()
    };
    let info = "KUBERNETES_EXEC_INFO";
    for version in ["v1", "v1beta1"] {
        replies.add_with(info, &asked(version, "https://cluster.example:6443"), &[]);
    }
    replies.add_with(info, &asked("v1", "https://cluster.example:6443"), &["--id-token"]);
    replies.add(&[], "");
    replies.add_with(info, &asked("v1alpha1", "https://cluster.example:6443"), &[]);
    replies.add_with(info, &asked("v1", "http://cluster.example"), &[]);
    replies.add_with(info, "{", &[]);
    replies.log_out();
    replies.add_with(info, &asked("v1", "https://cluster.example:6443"), &[]);
    replies.finish();
}

#[test]
fn replies_to_cargo() {
    let mut replies = Replies::to("cargo");
    let request = |kind: &str, index: &str| json!({"v": 1, "registry": {"index-url": index, "name": "own", "headers": []}, "kind": kind, "args": []});
    let version_2: Value = json!({"v": 2, "registry": {"index-url": "sparse+https://a.example/"}, "kind": "get"});
    let lines = [
        request("get", "sparse+https://a.example/index/"),
        request("get", "https://a.example/git"),
        request("get", "sparse+https://b.example/"),
        request("get", "sparse+http://a.example/"),
        request("login", "sparse+https://a.example/index/"),
        request("logout", "sparse+https://a.example/index/"),
        version_2,
    ];
    for line in &lines {
        replies.add(&[], &format!("{line}\n"));
    }
    replies.add(&[], "{\n");
    replies.add(&[], "");
    replies.add(&[], &format!("{{\n{}\n{}\n", lines[2], lines[0]));
    replies.log_out();
    replies.add(&[], &format!("{}\n", lines[0]));
    replies.finish();
}

#[test]
fn replies_to_keyring() {
    let mut replies = Replies::to("keyring");
    let index = "https://oauth2@a.example/simple";
    replies.add(&["get", index, "oauth2"], "");
    replies.add(&["--mode", "creds", "get", index], "");
    replies.add(&["--mode", "creds", "--output", "json", "get", index], "");
    replies.add(&["get", index, "oauth2", "--output=json"], "");
    replies.add(&["get", "https://b.example/simple", "oauth2"], "");
    replies.add(&["get", "http://a.example/simple", "oauth2"], "");
    replies.add(&["get", "a.example", "oauth2"], "");
    replies.add(&["set", index, "oauth2"], "");
    replies.add(&["frobnicate"], "");
    replies.log_out();
    replies.add(&["get", index, "oauth2"], "");
    replies.finish();
}

#[test]
fn replies_to_terraform() {
    let mut replies = Replies::to("terraform");
    replies.add(&["get", "a.example"], "");
    replies.add(&["get", "localhost:5000"], "");
    replies.add(&["get", "b.example"], "");
    replies.add(&["store", "a.example"], "{\"token\": \"x\"}");
    replies.add(&["forget", "a.example"], "");
    replies.add(&["get"], "");
    replies.log_out();
    replies.add(&["get", "a.example"], "");
    replies.finish();
}

#[test]
fn replies_to_google() {
    let mut replies = Replies::to("google");
    let type_of = |name: &str| format!("urn:ietf:params:oauth:token-type:{name}");
    replies.add(&[], "");
    for name in ["jwt", "id_token", "saml2"] {
        replies.add_with("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE", &type_of(name), &[]);
    }
    replies.add(&["--id-token"], "");
    replies.add(&["more"], "");
    replies.log_out();
    replies.add(&[], "");
    replies.finish();
}

#[test]
fn replies_to_aws() {
    let mut replies = Replies::to("aws");
    let refusal = "<E><Error><Code>InvalidIdentityToken</Code><Message>no provider</Message></Error></E>";
    let sts = StubServer::start(move |_, request| match request.body.contains("refused") {
        true => (400, refusal.to_owned()),
        false => (200, CREDENTIALS.to_owned()),
    });
    let address = sts.url.clone();
    replies.home.set("AWS_ENDPOINT_URL_STS", &address);
    replies.varies.push((address.replace("http://", ""), "STS"));
    let role = ["--profile", "work", "--role-arn", ROLE];
    replies.add(&role, "");
    let request = sts.requests().pop().expect("a request");
    replies.show("sent", &format!("{} {}\n{}\n", request.method, request.path, request.body));
    replies.add(&[&role[..], &["--role-session-name", "refused"]].concat(), "");
    replies.add(&["--profile", "work"], "");
    replies.add(&["--profile", "work", "--role-arn", "deploy"], "");
    replies.log_out();
    replies.add(&role, "");
    replies.finish();
}

#[test]
fn replies_to_readers_of_token_files() {
    for tool in ["file", "azure"] {
        let mut replies = Replies::to(tool);
        let file = replies.home.path().join("run/authctl/work.token");
        replies.add(&["--setup", "--profile", "work"], "");
        replies.add(&["--write", "--profile", "work"], "");
        replies.show("work.token", &fs::read_to_string(&file).expect("a token"));
        replies.add(&["--write", "--profile", "work"], "");
        replies.add(&["--profile", "work"], "");
        replies.log_out();
        assert!(!file.exists());
        replies.add(&["--write", "--profile", "work"], "");
        assert!(!file.exists());
        replies.add(&["--remove", "--profile", "work"], "");
        replies.add(&["--remove", "--profile", "work"], "");
        replies.finish();
    }
}
