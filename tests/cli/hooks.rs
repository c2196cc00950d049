//! Hooks: when they run, what they read, and where they may be configured.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::process::{copy_program, wait_until};
use crate::support::{CommandOutput, Sandbox, quick_issuer};

/// Records its event, its environment and whether another hook runs at the same time, and prints what must not be seen.
const RECORDS: &str = "#!/bin/sh
mkdir \"$HOME/running\" || touch \"$HOME/overlap\"
echo noise; echo noise >&2
env > \"$HOME/environment\"
event=$(cat)
rmdir \"$HOME/running\"
echo \"$1 $event\" >> \"$HOME/events\"
";

/// Returns a home with a session whose hooks record their events.
fn with_hooks(script: &str) -> (Sandbox, authctl::dev_issuer::DevIssuer) {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &issuer);
    home.session("work");
    let program = home.path().join("hook");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    for key in ["on_refresh", "on_login_required"] {
        home.run(&["profile", "set", "work", &format!("{key}={} {key}", program.display())]).exits(0);
    }
    (home, issuer)
}

/// Waits for this number of events, and returns the argument and the event of each.
#[track_caller]
fn events(home: &Sandbox, count: usize) -> Vec<(String, Value)> {
    let text = wait_until("the events", || {
        let text = fs::read_to_string(home.path().join("events")).unwrap_or_default();
        (text.lines().count() >= count).then_some(text)
    });
    assert_eq!(text.lines().count(), count, "{text}");
    let parse = |line: &str| {
        let (argument, json) = line.split_once(' ').expect("an argument");
        (argument.to_owned(), serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}")))
    };
    text.lines().map(parse).collect()
}

#[test]
fn refresh_runs_the_hook_with_an_event_without_a_token() {
    let (mut home, issuer) = with_hooks(RECORDS);
    home.set("AUTHCTL_TOKEN", "hunter2-token");
    home.register_secret("hunter2-token");
    home.set("AUTHCTL_ID_TOKEN", "hunter2-identity");
    home.register_secret("hunter2-identity");
    let shown: Vec<CommandOutput> = (0..2).map(|_| home.run(&["refresh", "work", "--json", "-vvv"]).exits(0)).collect();
    let events = events(&home, 2);
    assert!(!home.path().join("overlap").exists(), "the hooks of a profile run one after the other");
    let session = home.session("work");
    let (argument, event) = &events[1];
    assert_eq!((argument.as_str(), &event["event"]), ("on_refresh", &"refreshed".into()));
    assert_eq!((&event["profile"], &event["issuer"]), (&"work".into(), &issuer.issuer().into()));
    assert_eq!(event["expires_at"], session.tokens.expires_at.unwrap().0);
    assert_eq!(event.as_object().unwrap().len(), 5, "{event}");
    let environment = fs::read_to_string(home.path().join("environment")).unwrap();
    for secret in home.secrets() {
        assert!(!environment.contains(&secret) && !events.iter().any(|(_, e)| e.to_string().contains(&secret)));
    }
    assert!(shown.iter().all(|ran| !ran.stdout.contains("noise") && !ran.stderr.contains("noise")));
}

#[test]
fn ended_session_runs_the_hook_once() {
    let (home, issuer) = with_hooks(RECORDS);
    for sessions in 1..=2 {
        issuer.revoke_everything();
        home.expire("work");
        for _ in 0..3 {
            home.run(&["token", "work"]).exits(3);
            home.run(&["refresh", "work"]).exits(3);
        }
        let events = events(&home, sessions);
        let (argument, event) = &events[sessions - 1];
        assert_eq!((argument.as_str(), &event["event"]), ("on_login_required", &"login_required".into()));
        assert!(event["message"].as_str().unwrap().contains("ended"), "{event}");
        // Logging in starts a session of its own.
        home.log_in("work", &issuer);
    }
    home.run(&["logout", "work"]).exits(0);
    home.run(&["token", "work"]).exits(3);
    events(&home, 2);
}

/// Writes a line to a pipe, once it has a reader.
fn let_go(pipe: &Path) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = wait_until("a hook that waits", || rustix::fs::open(pipe, flags, Mode::empty()).ok());
    rustix::io::write(opened, b"\n").expect("written");
}

#[test]
fn valid_token_of_a_session_without_refresh_token_runs_no_hook() {
    let (home, _issuer) = with_hooks(RECORDS);
    home.change_session("work", |session| session.tokens.refresh_token = None);
    home.run(&["token", "work", "--audience", "https://other.example"]).exits(3);
    home.run(&["refresh", "work"]).exits(3);
    home.run(&["token", "work"]).exits(0);
    home.expire("work");
    home.run(&["token", "work"]).exits(3).reports("no refresh token");
    assert_eq!(events(&home, 1)[0].0, "on_login_required");
}

#[test]
fn agent_runs_hooks_without_waiting_for_them() {
    // The hook waits until the test lets it go on.
    let (home, issuer) = with_hooks(&RECORDS.replace("event=$(cat)", "event=$(cat); read -r _ < \"$HOME/go\""));
    let go = home.path().join("go");
    assert!(std::process::Command::new("mkfifo").arg(&go).status().unwrap().success());
    let agent = Agent::run(&home);
    home.advance_agent_time(&agent, "work", 301);
    let waiting: Vec<_> = (0..20).map(|_| agent.start_request("GET", "/v1/token/work")).collect();
    for mut request in waiting {
        request.response().expect("a response").expect_status(200);
    }
    assert!(!home.path().join("events").exists(), "the tokens come before the hook ends");
    let_go(&go);
    assert_eq!(events(&home, 1)[0].1["event"], "refreshed");
    issuer.revoke_everything();
    for _ in 0..3 {
        agent.post("/v1/refresh/work", "").expect_problem(401, "login_required");
    }
    let_go(&go);
    assert_eq!(events(&home, 2)[1].1["event"], "login_required");
    // The agent and the command line share what they know.
    home.run_without_agent(&["refresh", "work"]).exits(3);
    agent.stop();
    events(&home, 2);
}

#[test]
fn quoted_words_of_a_hook_stay_together() {
    let (home, _issuer) = with_hooks(RECORDS);
    let file = home.path().join("with space");
    let set = |value: &str| home.run(&["profile", "set", "work", value]);
    let value = format!("on_refresh=sh -c 'cat > \"$1\"' \"hook's name\" \"{}\"", file.display());
    set(&value).exits(0);
    let stored = |key: &str| home.run(&["profile", "show", "work", "--json"]).exits(0).json()[key].clone();
    let words = serde_json::json!(["sh", "-c", "cat > \"$1\"", "hook's name", file]);
    assert_eq!(stored("on_refresh"), words);
    home.run(&["refresh", "work"]).exits(0);
    wait_until("the event", || fs::read_to_string(&file).ok().filter(|event| event.contains("refreshed")));
    // What is shown sets it again.
    let shown = home.run(&["profile", "show", "work"]).exits(0).stdout;
    let shown = shown.lines().find_map(|line| line.strip_prefix("on_refresh")).expect("shown").trim();
    set(&format!("on_refresh={shown}")).exits(0);
    assert_eq!(stored("on_refresh"), words);
    for invalid in ["on_refresh=sh -c 'cat", "on_refresh=[\"sh\", \"-c\", \"cat\"]"] {
        set(invalid).exits(2).reports("cannot set `on_refresh`");
    }
    assert_eq!(stored("on_refresh"), words);
    set("workload=command:sh -c \"cat a b\"").exits(0);
    assert_eq!(stored("workload"), "command:sh -c 'cat a b'");
    set("workload=command:sh -c 'x").exits(2).reports("is not closed");
}

#[test]
fn refresh_without_agent_warns_of_a_hook_that_fails() {
    let (home, issuer) = with_hooks("#!/bin/sh\nexit 7\n");
    // The command waits 2 s for its hook, which may take longer on a busy machine.
    let warns = |text: &str, refresh: &dyn Fn() -> CommandOutput| {
        wait_until("the warning", || refresh().stderr.contains(text).then_some(()));
    };
    let refresh = || home.run(&["refresh", "work"]).exits(0).reports("refreshed work");
    let hook = home.path().join("hook");
    warns(&format!("warning: work: the hook `{}` failed: exit status: 7", hook.display()), &refresh);
    warns("warning: work: the hook", &|| {
        home.log_in("work", &issuer);
        issuer.revoke_everything();
        home.expire("work");
        home.run(&["refresh", "work"]).exits(3)
    });
    home.log_in("work", &issuer);
    // A command that refreshes on the way waits for no hook.
    let refreshes = issuer.stats().refreshes_committed;
    let ensured = home.run(&["ensure", "work", "--for", "6m"]);
    assert!(!ensured.stderr.contains("warning"), "{}", ensured.stderr);
    assert_eq!(issuer.stats().refreshes_committed, refreshes + 1);
    home.run(&["profile", "set", "work", "on_refresh=no-such-program-4711"]).exits(0);
    warns("`no-such-program-4711` cannot be run", &refresh);
    home.run(&["profile", "set", "work", "on_refresh=true"]).exits(0);
    assert!(!home.run(&["refresh", "work"]).exits(0).stderr.contains("warning"));
}

#[test]
fn hook_that_fails_is_a_warning_in_the_log_of_the_agent() {
    let (home, _issuer) = with_hooks("#!/bin/sh\nexit 7\n");
    home.run(&["refresh", "work"]).exits(0);
    let agent = home.spawn(&["agent", "run", "-v"]);
    agent.reports("the agent listens at");
    home.run(&["refresh", "work"]).exits(0);
    agent.reports("failed: exit status: 7");
    home.run(&["profile", "set", "work", "on_refresh=no-such-program-4711"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    agent.reports("the hook `no-such-program-4711` cannot be run");
    home.run(&["agent", "stop"]).exits(0);
}

#[test]
fn failed_hook_is_an_event_and_in_the_log_of_an_agent_in_the_background() {
    let (home, _issuer) = with_hooks("#!/bin/sh\nexit 7\n");
    let program = home.path().join("hook").display().to_string();
    let agent = Agent::start(&home);
    let mut events = agent.events();
    for (hook, reason) in [
        (program.clone(), format!("the hook `{program}` failed: exit status: 7")),
        ("no-such-program-4711".to_owned(), "the hook `no-such-program-4711` cannot be run".to_owned()),
    ] {
        home.run(&["profile", "set", "work", &format!("on_refresh={hook}")]).exits(0);
        home.run(&["refresh", "work"]).exits(0);
        let event = events.until("hook_failed").0;
        assert_eq!(event["profile"], "work");
        assert!(event["message"].as_str().expect("a message").starts_with(&reason), "{event}");
        let state = home.run(&["agent", "status", "--json"]).exits(0).json();
        let [failed] = &state["failed_hooks"].as_array().expect("a failed hook")[..] else { panic!("one: {state}") };
        assert_eq!((&failed["profile"], &failed["hook"]), (&"work".into(), &"on_refresh".into()));
        for command in [&["status"][..], &["agent", "status"]] {
            let shown = home.run(command).exits(0).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(shown.contains(&format!("`on_refresh` of work: {reason}")), "{shown}");
        }
    }
    // Until it succeeds, or is no longer configured.
    let failed = || home.run(&["agent", "status", "--json"]).exits(0).json()["failed_hooks"].clone();
    home.run(&["profile", "set", "work", "on_refresh=true"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    wait_until("a hook that succeeds", || failed().is_null().then_some(()));
    home.run(&["profile", "set", "work", "on_refresh=false"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    events.until("hook_failed");
    assert_ne!(failed(), Value::Null);
    home.run(&["profile", "set", "work", "on_refresh="]).exits(0);
    assert_eq!(failed(), Value::Null);
    let log = home.run(&["agent", "log", "--json"]).exits(0).json();
    let failed = log["entries"].as_array().unwrap().iter().find(|entry| entry["action"] == "hook_failed");
    let failed = failed.expect("an entry");
    let pid = home.run(&["agent", "status", "--json"]).exits(0).json()["pid"].clone();
    assert_eq!((&failed["profile"], &failed["count"], &failed["pid"]), (&"work".into(), &3.into(), &pid));
    assert_eq!(failed["executable"], crate::support::AUTHCTL);
    agent.stop();
}

#[test]
fn hooks_come_only_from_the_configuration_of_the_user() {
    let (mut home, _issuer) = with_hooks(RECORDS);
    let show = |home: &Sandbox| home.run(&["profile", "show", "work", "--json"]).json()["on_refresh"].clone();
    let own = show(&home);
    assert_eq!(own.as_array().unwrap().len(), 2);
    // Export and import.
    let exported = home.run(&["profile", "export", "work"]).exits(0).stdout;
    assert!(exported.contains("# work: the hooks are not included.") && !exported.contains("on_"), "{exported}");
    home.run_with(&["profile", "import", "-", "--replace"], &exported).exits(0);
    assert_eq!(show(&home), own, "the hooks of this machine stay");
    let before = fs::read_to_string(home.config_file()).unwrap();
    for hook in ["on_refresh = [\"evil\"]", "on_login_required = [\"/bin/evil\", \"x\"]"] {
        let text = format!("[profiles.new]\nissuer = \"https://n.example\"\nclient_id = \"n\"\n{hook}\n");
        home.run_with(&["profile", "import", "-"], &text)
            .exits(2)
            .reports("would run a command or write a file and is not imported");
        home.run_with(&["profile", "import", "-"], &exported.replace("client_id", &format!("{hook}\nclient_id")))
            .exits(2);
    }
    assert_eq!(fs::read_to_string(home.config_file()).unwrap(), before);
    // A program must not depend on the current directory.
    home.run(&["profile", "set", "work", "on_refresh=./hook"]).exits(2).reports("invalid program `./hook`");
    // Machine-wide files.
    let machine = home.path().join("machine/authctl");
    fs::create_dir_all(&machine).unwrap();
    home.set("XDG_CONFIG_DIRS", machine.parent().unwrap());
    let file = machine.join("config.toml");
    fs::write(&file, "[profiles.work]\non_refresh = [\"evil\"]\n").unwrap();
    home.run(&["refresh", "work"]).exits(2).reports("`on_refresh` is accepted only in the user's own configuration");
    fs::write(&file, "[profiles.work]\nlocked = [\"on_refresh\"]\n").unwrap();
    home.run(&["refresh", "work"]).exits(2).reports("cannot set `on_refresh`");
    fs::remove_file(&file).unwrap();
    assert!(!home.path().join("events").exists(), "no hook has run");
    home.run(&["profile", "set", "work", "on_refresh="]).exits(0);
    assert_eq!(show(&home), Value::Null);
}

#[test]
fn hook_uses_the_configuration_that_was_named() {
    let (home, _issuer) =
        with_hooks(&RECORDS.replace("event=$(cat)", "event=$(cat); echo \"$AUTHCTL_CONFIG\" > \"$HOME/named\""));
    let config = home.path().join("other.toml");
    fs::rename(home.config_file(), &config).unwrap();
    let named = || fs::read_to_string(home.path().join("named")).unwrap();
    home.run(&["--config", "other.toml", "refresh", "work"]).exits(0);
    events(&home, 1);
    assert_eq!(named(), format!("{}\n", config.display()));
    fs::remove_file(home.path().join("named")).unwrap();
    let agent = home.spawn(&["agent", "run", "--config", "other.toml"]);
    agent.reports("the agent listens at");
    home.run(&["--config", "other.toml", "refresh", "work"]).exits(0);
    events(&home, 2);
    assert_eq!(named(), format!("{}\n", config.display()));
    home.run(&["--config", "other.toml", "agent", "stop"]).exits(0);
}

#[test]
fn agent_whose_program_was_replaced_runs_hooks() {
    let (home, _issuer) = with_hooks(RECORDS);
    let program = home.path().join("authctl");
    copy_program(&program);
    let agent = home.spawn_command(home.command_for(&program, &["agent", "run"]), &["agent", "run"]);
    agent.reports("the agent listens at");
    // As an upgrade does, and then as a removal does.
    fs::write(home.path().join("next"), "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(home.path().join("next"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(home.path().join("next"), &program).unwrap();
    home.run(&["refresh", "work"]).exits(0);
    events(&home, 1);
    fs::remove_file(&program).unwrap();
    home.run(&["refresh", "work"]).exits(0);
    events(&home, 2);
    home.run(&["agent", "stop"]).exits(0);
}

#[test]
fn few_hooks_wait_and_others_are_reported() {
    let (home, _issuer) = with_hooks(&RECORDS.replace("event=$(cat)", "event=$(cat); read -r _ < \"$HOME/go\""));
    assert!(std::process::Command::new("mkfifo").arg(home.path().join("go")).status().unwrap().success());
    let agent = home.spawn(&["agent", "run", "-v"]);
    agent.reports("the agent listens at");
    for _ in 0..11 {
        home.run(&["refresh", "work"]).exits(0);
    }
    agent.reports("was not run: 8 others are waiting");
    let log = home.run(&["agent", "log", "--profile", "work"]).exits(0).stdout;
    assert!(log.contains("  hook_failed work"), "{log}");
    // Another one starts only when one has ended.
    let_go(&home.path().join("go"));
    events(&home, 1);
    home.run(&["agent", "stop"]).exits(0);
}
