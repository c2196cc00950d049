//! Commands in the sandbox: one that searches for the token, their signals, and what they can reach.

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use authctl::dev_issuer::DevIssuer;
use aws_lc_rs::digest;
use serde_json::Value;

use super::{Api, Proxy, duration};
use crate::support::agent::Agent;
use crate::support::process::{assert_signals_arrive, wait_until};
use crate::support::stub_server::{Reply, Request, StubServer};
use crate::support::{AUTHCTL, Sandbox, issuer, parts, quick_issuer};

/// Several lifetimes of a token long (`AUTHCTL_PROXY_SECONDS`), a command in the sandbox uses the API, and finds no secret
/// wherever it looks.
#[test]
fn sandboxed_command_finds_no_token() {
    parts::require(&["bwrap", "python3"]);
    let home = Sandbox::new();
    let idp = issuer(|options| options.access_token_ttl = Duration::from_secs(5));
    home.log_in("work", &idp);
    // The agent replaces these files while the command runs.
    for (setting, file) in [("token_file", "tokens/access"), ("id_token_file", "other/deep/id")] {
        home.run(&["profile", "set", "work", &format!("{setting}={}", home.path().join(file).display())]).exits(0);
    }
    let agent = Agent::start(&home);
    let api = Api::start();
    let writable = home.path().join("project");
    std::fs::create_dir(&writable).expect("made");
    let writable = writable.to_str().expect("text");
    let secret_digests: Vec<String> = home
        .secrets()
        .iter()
        .map(|secret| {
            digest::digest(&digest::SHA256, secret.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect()
        })
        .collect();
    assert!(secret_digests.len() > 1, "the access and the refresh token");
    // The command sees its working directory, also where that is below /tmp.
    let script = home.path().join("canary.py");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/api_proxy/canary.py"), &script)
        .expect("copied");
    let issuer_address = idp.issuer().trim_start_matches("http://").split('/').next().expect("a host").to_owned();
    let socket = home.socket();
    // In a directory that the command sees.
    let visible = home.path().join("visible/api.sock");
    let listen = format!("unix:{}", visible.display());
    let _other_proxy = Proxy::of(home.command(&["proxy", "work", "--for", &api.url, "--listen", &listen]));
    let mut command = home.command(&[
        "exec",
        "--proxy",
        "work",
        "--for",
        &api.url,
        "--sandbox",
        "--bind",
        writable,
        "--",
        "python3",
        script.to_str().expect("text"),
        writable,
        &secret_digests.join(","),
        &duration().as_secs().max(12).to_string(),
        socket.to_str().expect("text"),
        &issuer_address,
        visible.to_str().expect("text"),
    ]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let ran = home.finish_within(duration() + Duration::from_secs(120), child, &["exec"]);
    let report: Value = serde_json::from_str(&ran.exits(0).stdout).expect("JSON");
    assert_eq!((&report["found"], &report["failures"]), (&serde_json::json!([]), &serde_json::json!([])), "{report}");
    assert!(report["requests"].as_u64().is_some_and(|count| count > 10), "{report}");
    assert_eq!(report["undone"], serde_json::json!([]), "nothing that hides a file is removed");
    assert_eq!(report["connected"], serde_json::json!([]), "neither the agent, the issuer nor another proxy");
    assert_eq!(report["writes"], serde_json::json!([format!("{writable}/written")]));
    drop(agent);
}

/// An API whose paths below `/v1/moved` lead elsewhere, and a home that is logged in.
fn logged_in() -> (Sandbox, DevIssuer, StubServer) {
    parts::require(&["bwrap", "curl", "python3"]);
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    let api = StubServer::start(|own, request: &Request| {
        let location = match request.path.as_str() {
            "/v1/moved/absolute" => format!("{own}/v1/items"),
            "/v1/moved/relative" => "../items".to_owned(),
            "/v1/moved/elsewhere" => "https://elsewhere.example/v1/items".to_owned(),
            _ => return Reply::from((200, request.path.clone())),
        };
        Reply { status: 302, headers: format!("location: {location}\r\n"), body: String::new() }
    });
    (home, idp, api)
}

/// Returns the arguments that run a command in the sandbox.
fn exec<'a>(api: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&["exec", "--proxy", "work", "--for", api, "--sandbox"], words].concat()
}

#[test]
fn sandboxed_command_has_its_own_exit_code_and_gets_signals() {
    let (home, _idp, api) = logged_in();
    for (script, code) in [("exit 77", 77), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("exec no-such", 127)] {
        home.run(&exec(&api.url, &["--", "sh", "-c", script])).exits(code);
    }
    assert_signals_arrive(&home, &exec(&api.url, &["--"]));
    // Nothing stays blocked. The C library itself ignores its own signals, 32 and 33.
    let show = ["--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let status = home.run(&exec(&api.url, &show)).exits(0).stdout;
    let masks = status.split_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok());
    assert_eq!(masks.map(|mask| mask & 0x7fff_ffff).collect::<Vec<_>>(), [0, 0], "{status}");
}

#[test]
fn terminal_interrupts_and_stops_the_command_in_the_sandbox() {
    let (home, _idp, api) = logged_in();
    // Counts until the terminal's Ctrl-C comes a second time.
    let counting = "count=0; trap 'count=$((count + 1)); echo interrupted $count' INT; trap 'echo continued' CONT; \
        trap 'echo resized' WINCH; echo counting; while test $count -lt 2 -a -d $HOME; do sleep 0.01; done; exit 9";
    let script = format!(
        "set -m; '{AUTHCTL}' {} -- sh -c \"$0\"; echo \"stopped $?\"; read -r _; fg; echo \"ended $?\"",
        exec(&api.url, &[]).join(" ")
    );
    let mut shell = home.spawn_program_in_terminal("sh", &["-c", &script, counting], 0);
    // A key, and what is then printed.
    for (key, printed) in [
        ("", "counting"),
        ("\u{3}", "interrupted 1"),
        ("\u{1a}", "stopped 148"),
        ("\n", "continued"),
        ("\u{3}", "interrupted 2"),
        ("", "ended 9"),
    ] {
        shell.type_text(key);
        shell.reports(printed);
    }
    let output = shell.wait().exits(0).stderr;
    assert_eq!(output.matches("interrupted").count(), 2, "{output}");
}

#[test]
fn command_in_the_sandbox_has_no_other_descriptors() {
    let (home, _idp, api) = logged_in();
    std::fs::write(home.path().join("outside"), "outside").unwrap();
    let listing = "import os\n\
        for process in filter(str.isdigit, os.listdir('/proc')):\n\
        \x20   for number in os.listdir(f'/proc/{process}/fd'):\n\
        \x20       try: print(process, number, os.readlink(f'/proc/{process}/fd/{number}'))\n\
        \x20       except OSError: pass\n\
        print('own', sorted(os.listdir('/proc/self/fd')))";
    // A file that is hidden, and a connection.
    let script = format!(
        "import os, socket, sys\n\
         s = socket.create_connection(('127.0.0.1', {}))\n\
         os.dup2(s.fileno(), 41, True); os.dup2(os.open('outside', os.O_RDWR), 9, True)\n\
         os.execv(sys.argv[1], sys.argv[1:])",
        api.url.rsplit(':').next().unwrap()
    );
    let words = exec(&api.url, &["--", "python3", "-c", listing]);
    let mut command = home.command_for("python3", &[&["-c", &script, AUTHCTL], &words[..]].concat());
    let output = String::from_utf8(command.stdin(Stdio::null()).output().unwrap().stdout).unwrap();
    // The fourth is the listing's own.
    assert!(output.contains("own ['0', '1', '2', '3']"), "{output}");
    assert!(!output.contains("outside"), "{output}");
}

/// Listens at a path in a directory, and leaves that.
const LISTENER: &str = "import os, socket, sys\n\
    os.chdir(sys.argv[1]); s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[2]); s.listen()\n\
    if len(sys.argv) > 3: os.chdir(sys.argv[3])\n\
    print('listens', flush=True); sys.stdin.read()";

/// Prints to which of the paths it connects.
const CONNECTS: &str = "import socket, sys\n\
    for path in sys.argv[1:]:\n\
    \x20   try: socket.socket(socket.AF_UNIX).connect(path); print(path)\n\
    \x20   except OSError: pass";

#[test]
fn sockets_of_other_programs_are_hidden_wherever_they_are() {
    let (home, _idp, api) = logged_in();
    let directory = |name: &str| {
        let path = home.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (absolute, relative, left, moved) = ("absolute", "relative", "left", "moved/by");
    let (bound, deep) = (tempfile::tempdir_in("/var/tmp").unwrap(), directory("a/b c/d"));
    let bound = bound.path().to_str().unwrap();
    let elsewhere = tempfile::Builder::new().prefix("authctl-test-").tempdir_in("/opt").unwrap();
    let elsewhere = elsewhere.path().to_str().unwrap();
    let other_network: &[&str] = if rustix::process::geteuid().is_root() { &["unshare", "--net"] } else { &[] };
    let mut listeners = Vec::new();
    let mut listen = |program: &[&str], words: &[&str]| {
        let words = [program, &["python3", "-c", LISTENER], words].concat();
        let running = home.spawn_command(home.command_for(words[0], &words[1..]), &words);
        running.wait_for_output("the listener", |text| text.contains("listens").then_some(()));
        listeners.push(running);
    };
    let absolute_path = format!("{}/s", directory(absolute));
    listen(&[], &["/", &absolute_path]);
    listen(&[], &[&directory(relative), "s"]);
    listen(&[], &[&directory(left), "./s", "/"]);
    listen(&[], &["/", &format!("{}/s", directory(moved))]);
    std::fs::rename(home.path().join(moved), home.path().join("renamed")).unwrap();
    listen(other_network, &[&deep, "s", "/"]);
    listen(&[], &[bound, "s"]);
    listen(&[], &[elsewhere, "s"]);
    let home_path = home.path().to_str().unwrap();
    let paths = [
        absolute_path.clone(),
        format!("{home_path}/{relative}/s"),
        format!("{home_path}/{left}/s"),
        format!("{home_path}/renamed/s"),
        format!("{deep}/s"),
        format!("{bound}/s"),
        format!("{elsewhere}/s"),
    ];
    let search = [&["python3", "-c", CONNECTS][..], &paths.each_ref().map(String::as_str)].concat();
    let outside = home.command_for(search[0], &search[1..]).output().unwrap().stdout;
    assert_eq!(String::from_utf8(outside).unwrap().lines().collect::<Vec<_>>(), paths, "without a sandbox");
    let words = [&["--bind", bound, "--bind", home_path, "--"], &search[..]].concat();
    let ran = home.run(&exec(&api.url, &words)).exits(0);
    assert_eq!(ran.stdout, "", "in the sandbox");
}

#[test]
fn proxy_in_the_sandbox_has_a_socket_and_a_url() {
    let (home, _idp, api) = logged_in();
    let target = format!("{}/v1", api.url);
    let key = "X-Authctl-Key: {key}";
    let run = |words: &[&str]| home.run(&exec(&target, words)).exits(0).stdout;
    let curl = ["curl", "-sS", "--max-time", "60", "-H", key];
    for words in [
        &["--unix-socket", "{socket}", "http://any.example/v1/items"][..],
        &["{url}/items"],
        // Redirects lead to the proxy, which curl follows.
        &["-L", "{url}/moved/absolute"],
        &["-L", "{url}/moved/relative"],
        &["-L", "{url}/a/../moved/absolute"],
    ] {
        assert_eq!(run(&[&["--"], &curl[..], words].concat()), "/v1/items", "{words:?}");
    }
    let location = ["-o", "/dev/null", "-w", "%{redirect_url}"];
    for (path, expected) in [
        ("{url}/moved/absolute", "http://127.0.0.1:8642/v1/items"),
        ("{url}/moved/relative", "http://127.0.0.1:8642/v1/items"),
        ("{url}/moved/elsewhere", "https://elsewhere.example/v1/items"),
    ] {
        assert_eq!(run(&[&["--"], &curl[..], &location[..], &[path]].concat()), expected, "{path}");
    }
    let show = "printf '%s %s %s' \"$AT\" \"$AUTHCTL_PROXY_SOCKET\" \"$1\"";
    let shown = run(&["--env", "AT=unix:{socket}", "--", "sh", "-c", show, "sh", "{socket}"]);
    assert_eq!(shown, "unix:/run/authctl/api.sock /run/authctl/api.sock /run/authctl/api.sock");
}

/// Kinds of sockets that no network namespace holds back, keys of the kernel, and input for the terminal.
#[test]
fn command_in_the_sandbox_cannot_get_around_it() {
    let (home, _idp, api) = logged_in();
    let attempts = "import ctypes, errno, fcntl, os, socket, termios\n\
        def refused(attempt):\n\
        \x20   try: attempt()\n\
        \x20   except OSError as error: return error.errno == errno.EACCES\n\
        def call(number, *arguments):\n\
        \x20   libc = ctypes.CDLL(None, use_errno=True)\n\
        \x20   if libc.syscall(number, *arguments) < 0: raise OSError(ctypes.get_errno(), '')\n\
        keyctl = {'x86_64': 250}.get(os.uname().machine, 219)\n\
        print(refused(lambda: socket.socket(40, socket.SOCK_STREAM)), refused(lambda: call(keyctl, 0, -3, 0)),\n\
        \x20     refused(lambda: fcntl.ioctl(2, termios.TIOCSTI, b'x')))";
    let words = exec(&api.url, &["--", "python3", "-c", attempts]);
    let shell = home.spawn_program_in_terminal(AUTHCTL, &words, 0);
    assert_eq!(shell.wait().exits(0).stderr.trim(), "True True True");
}

#[test]
fn sandboxed_command_cannot_move_what_is_hidden_in_its_directory() {
    let (home, _idp, api) = logged_in();
    let place = home.path().to_str().expect("text");
    std::fs::create_dir(home.path().join("project")).expect("made");
    let script =
        "cd $0; for dir in data/authctl data run config project; do mv $dir $dir.moved && echo $dir; done; true";
    let ran = home.run(&exec(&api.url, &["--bind", place, "--", "sh", "-c", script, place])).exits(0);
    assert_eq!(ran.stdout, "project\n", "{}", ran.stderr);
}

#[test]
fn directory_of_a_killed_sandbox_is_removed_by_the_next() {
    let (home, _idp, api) = logged_in();
    let left = || {
        let entries = std::fs::read_dir(home.path().join("run/authctl")).expect("listed").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("sandbox-")).count()
    };
    let mut command = home.command(&exec(&api.url, &["--", "sh", "-c", "printf x; exec sleep 60"]));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("started");
    child.stdout.take().expect("piped").read_exact(&mut [0]).expect("it runs");
    child.kill().expect("running");
    child.wait().expect("a child");
    assert_eq!(left(), 1);
    // What ran in the killed one may still be ending.
    wait_until("its directory to be removed", || {
        home.run(&exec(&api.url, &["--", "true"])).exits(0);
        (left() == 0).then_some(())
    });
}
