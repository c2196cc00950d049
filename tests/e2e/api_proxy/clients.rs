//! Clients by other makers, each with the proxy's address in place of the API's.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use authctl::dev_issuer::Algorithm;

use super::{Proxy, Setup, parsed};
use crate::agent_support::output_of;
use crate::support::process::wait_until;
use crate::support::{Sandbox, issuer, parts};
use crate::{mcp, tools};

/// Sends three bytes without saying how many, with `requests`.
const REQUESTS: &str = "
import os, requests
headers = {'Authorization': 'Bearer ' + os.environ['KEY']}
print(requests.post(os.environ['URL'], data=iter([b'a', b'bc']), headers=headers).text)
";

/// The same with `httpx`.
const HTTPX: &str = "
import os, httpx
headers = {'Authorization': 'Bearer ' + os.environ['KEY']}
print(httpx.post(os.environ['URL'], content=iter([b'a', b'bc']), headers=headers, timeout=60).text)
";

/// The same with `fetch`.
const FETCH: &str = "
const body = new ReadableStream({ start(stream) { stream.enqueue(Buffer.from('abc')); stream.close(); } });
const headers = { authorization: 'Bearer ' + process.env.KEY };
fetch(process.env.URL, { method: 'POST', body, headers, duplex: 'half' }).then((reply) => reply.text()).then(console.log);
";

/// Returns the client that `tests/install` makes of `client.go`.
fn go_client() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/go-client/client");
    if program.is_file() { program } else { parts::not_installed("the client of Go") }
}

#[test]
fn clients_of_other_languages_are_served() {
    let Setup { proxy, .. } = &Setup::new();
    let python = tools::python("python");
    let clients: [(&str, &Path, &[&str]); 4] = [
        ("requests", &python, &["-c", REQUESTS]),
        ("httpx", &python, &["-c", HTTPX]),
        ("fetch", Path::new("node"), &["-e", FETCH]),
        ("Go", &go_client(), &[]),
    ];
    for (name, program, args) in clients {
        let mut command = Command::new(program);
        command.args(args).env("URL", format!("{}/item", proxy.url));
        let printed = |command: &mut Command| output_of(command).unwrap_or_else(|error| panic!("{name}: {error}"));
        let seen = parsed(&printed(command.env("KEY", &proxy.key)));
        assert_eq!(
            (&seen["method"], &seen["path"], &seen["length"]),
            (&"POST".into(), &"/v1/item".into(), &3.into()),
            "{name}"
        );
        assert_eq!(seen["headers"]["transfer-encoding"], "chunked", "{name}: {seen}");
        // A client that still writes its body when the connection is closed may not see the response.
        let refused = || output_of(command.env("KEY", "another")).ok();
        let refused = parsed(&crate::support::process::wait_until("a response", refused));
        assert_eq!(refused["code"], "key", "{name}: {refused}");
    }
}

#[test]
fn git_clones_and_pushes() {
    let setup = tools::Setup::new();
    let proxy = Proxy::start(&setup.home, &format!("http://{}/git", setup.host));
    let git = |words: &[&str]| {
        let mut git = setup.command("git");
        git.args(["-c", "user.name=Test", "-c", "user.email=test@a.example", "-c", "init.defaultBranch=main"]);
        // More than the buffer is sent in chunks.
        git.args(["-c", "http.postBuffer=65536"]).args(words).env("GIT_TERMINAL_PROMPT", "0");
        git
    };
    let header = format!("http.extraHeader={}", proxy.key_header());
    let bare = setup.root().join("git/project.git");
    tools::succeeds(&mut git(&["init", "-q", "--bare", bare.to_str().unwrap()]));
    tools::succeeds(git(&["config", "http.receivepack", "true"]).current_dir(&bare));
    let url = format!("{}/project.git", proxy.url);
    tools::fails(&mut git(&["clone", "-q", &url, "refused"]));
    tools::succeeds(&mut git(&["-c", &header, "clone", "-q", &url, "project"]));
    let project = setup.home.path().join("project");
    // It does not compress, so that more than the proxy repeats is pushed.
    let mut content = vec![0; 3 << 20];
    aws_lc_rs::rand::fill(&mut content).unwrap();
    fs::write(project.join("file"), &content).unwrap();
    tools::succeeds(git(&["add", "file"]).current_dir(&project));
    tools::succeeds(git(&["commit", "-q", "-m", "change"]).current_dir(&project));
    let tokens = |requests: &[Vec<String>]| requests.iter().map(|request| request[2].clone()).collect::<HashSet<_>>();
    setup.home.expire("work");
    // The proxy holds the token that it had for a moment.
    wait_until("a new token", || {
        tools::succeeds(&mut git(&["-c", &header, "ls-remote", "-q", &url]));
        (tokens(&setup.requests()).len() > 1).then_some(())
    });
    tools::succeeds(git(&["-c", &header, "push", "-q", "origin", "HEAD"]).current_dir(&project));
    tools::succeeds(&mut git(&["-c", &header, "clone", "-q", &url, "again"]));
    assert!(fs::read(setup.home.path().join("again/file")).unwrap() == content, "the same file");
    let requests = setup.requests();
    assert!(requests.iter().all(|request| request[0] == "200"), "{requests:?}");
    assert_eq!(tokens(&requests).len(), 2, "one new token for all of them: {requests:?}");
}

#[test]
fn mcp_inspector_calls_a_tool() {
    let home = Sandbox::new();
    let issuer = issuer(|options| options.algorithm = Algorithm::ES256);
    home.log_in("work", &issuer);
    let (_server, url) = mcp::server(issuer.issuer());
    let proxy = Proxy::start(&home, &url);
    let (inspector, path) = mcp::node(".bin/mcp-inspector");
    let server = ["--cli", &proxy.url, "--transport", "http", "--header", &proxy.key_header()];
    let call = ["--method", "tools/call", "--tool-name", "add", "--tool-arg", "a=20", "b=22"];
    let mut command = home.command_for(inspector, &[&server[..], &call].concat());
    let called = home.run_command(command.env("PATH", path)).exits(0).json();
    assert_eq!(called["structuredContent"]["result"], 42, "{called}");
}
