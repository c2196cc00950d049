//! The memory of the command line: what a command no longer needs is wiped.

use rustix::process::Signal;

use crate::support::agent::Agent;
use crate::support::process::{Memory, wait_until};
use crate::support::{PASSWORD, Sandbox, quick_issuer};

/// Stops a command each time it writes, and at its end; returns the names of the secrets that were in its memory at any stop,
/// and of those that were still there at the end.
#[track_caller]
fn secrets_in_memory(home: &Sandbox, args: &[&str], stdin: &str, secrets: &[(&str, String)]) -> [Vec<String>; 2] {
    let (mut seen, mut left): (Vec<String>, Vec<String>) = Default::default();
    let (mut ends, mut process) = (0, None);
    // The standard library removes the signal stack of the main thread last, after it has dropped what a program left.
    let calls = "write,writev,sendto,sendmsg,sigaltstack";
    let (ran, _) = home.run_stepwise(calls, args, stdin, |_, call| {
        let thread: u32 = call.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a thread");
        // Its main thread makes the first call.
        let main = *process.get_or_insert(thread);
        let Some(memory) = Memory::of(main) else { return Signal::CONT };
        left = secrets.iter().filter(|(_, secret)| memory.has(secret)).map(|(name, _)| (*name).to_owned()).collect();
        seen.extend(left.iter().cloned());
        ends += usize::from(thread == main && call.contains("SS_DISABLE"));
        Signal::CONT
    });
    ran.exits(0);
    assert!(ends > 0, "{args:?} was stopped at its end");
    seen.sort();
    seen.dedup();
    [seen, left]
}

/// Returns the tokens of the profile, with their names.
fn tokens(home: &Sandbox, age: &str) -> Vec<(&'static str, String)> {
    let tokens = home.session("work").tokens;
    let name = |new, old| if age == "new" { new } else { old };
    vec![
        (name("access", "old access"), tokens.access_token.expose().to_owned()),
        (name("refresh", "old refresh"), tokens.refresh_token.expect("a refresh token").expose().to_owned()),
        (name("id", "old id"), tokens.id_token.expect("an ID token").expose().to_owned()),
    ]
}

/// Returns what is wrong with the memory of a command: a secret that it uses was not found, or one is still there at its end.
#[track_caller]
fn faults(home: &Sandbox, args: &[&str], stdin: &str, secrets: &[(&str, String)], uses: &[&str]) -> Option<String> {
    let [seen, left] = secrets_in_memory(home, args, stdin, secrets);
    let has_all = uses.iter().all(|name| seen.iter().any(|other| other == name));
    (!has_all || !left.is_empty()).then(|| format!("{args:?}: had {seen:?}, left {left:?}"))
}

#[test]
fn command_leaves_no_secret_in_its_memory() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    let key = std::fs::read_to_string(home.key_file()).unwrap();
    let key = key.lines().find(|line| line.starts_with("AGE-SECRET-KEY")).expect("a key").to_owned();
    let mut secrets = [tokens(&home, "new"), vec![("key", key), ("password", PASSWORD.to_owned())]].concat();
    let access = secrets[0].1.clone();
    let login = ["login", "work", "--issuer", idp.issuer(), "--client-id", "authctl"];
    let login = [&login[..], &["--password", "--username", "developer", "--password-stdin"]].concat();
    let helper = ["helper", "git", "--profile", "work", "get"];
    home.run(&["profile", "set", "work", "hosts=a.example"]).exits(0);
    let mut wrong = Vec::new();
    let cases: [(&[&str], &str, &[&str]); 7] = [
        (&["token"], "", &["access", "refresh"]),
        (&["token", "--json"], "", &["access"]),
        (&["token", "--id-token"], "", &["id"]),
        (&["verify"], "", &[]),
        (&["verify", "-"], &access, &["access"]),
        (&["status", "--json"], "", &[]),
        (&helper, "protocol=https\nhost=a.example\n", &["access"]),
    ];
    for (args, stdin, uses) in cases {
        wrong.extend(faults(&home, args, stdin, &secrets, uses));
    }
    wrong.extend(faults(&home, &["refresh"], "", &secrets, &["refresh"]));
    secrets.extend(tokens(&home, "old"));
    home.expire("work");
    wrong.extend(faults(&home, &["token", "--json"], "", &secrets, &["old refresh"]));
    secrets.extend(tokens(&home, "old"));
    wrong.extend(faults(&home, &login, PASSWORD, &secrets, &["password"]));
    secrets.extend(tokens(&home, "old"));
    wrong.extend(faults(&home, &["logout"], "", &secrets, &["old refresh"]));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn command_leaves_no_client_secret_in_its_memory() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    let secret = idp.client_secret("authctl-service").unwrap().expose().to_owned();
    home.register_secret(&secret);
    let login = ["login", "work", "--issuer", idp.issuer(), "--client-id", "authctl-service", "--client-credentials"];
    let login = [&login[..], &["--client-secret-stdin"]].concat();
    let basic = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("authctl-service:{secret}"));
    let secrets = [("secret", secret.clone()), ("basic", basic)];
    let mut wrong = Vec::from_iter(faults(&home, &login, &secret, &secrets, &["secret"]));
    // On a busy machine, a thread may still be at work when the process ends. What is never wiped is there each time.
    let again = || {
        home.expire("work");
        faults(&home, &["token"], "", &secrets, &["secret"])
    };
    let tries: Vec<String> = (0..8).map_while(|_| again()).collect();
    if tries.len() == 8 {
        wrong.extend(tries);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A command may run for days.
#[test]
fn exec_with_a_file_keeps_no_refresh_token_while_its_command_runs() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    home.expire("work");
    let before = tokens(&home, "old");
    let command = ["exec", "work", "--file", "token", "--", "sh", "-c", "echo started >&2; read -r line"];
    let mut running = home.spawn(&command);
    running.reports("started");
    let memory = Memory::of(running.id()).expect("running");
    let secrets = [before, tokens(&home, "new")].concat();
    let found: Vec<&str> = secrets.iter().filter(|(_, secret)| memory.has(secret)).map(|(name, _)| *name).collect();
    assert_eq!(found, ["access"], "it keeps the token that it will replace");
    running.type_text("\n");
    running.wait().exits(0);
}

#[test]
fn agent_wipes_what_a_refresh_or_a_logout_ends() {
    let (home, idp) = (Sandbox::new(), quick_issuer());
    home.log_in("work", &idp);
    let agent = Agent::run(&home);
    let found = |secrets: &[(&'static str, String)]| -> Vec<&'static str> {
        let memory = Memory::of(agent.pid).expect("running");
        secrets.iter().filter(|(_, secret)| memory.has(secret)).map(|(name, _)| *name).collect()
    };
    let old = tokens(&home, "old");
    agent.get("/v1/token").token();
    agent.get("/v1/id-token").expect_status(200);
    assert_eq!(found(&old), ["old access", "old refresh", "old id"]);
    agent.post("/v1/refresh/work", "").expect_status(200);
    agent.get("/v1/token").token();
    let new = tokens(&home, "new");
    // An ID token that is issued again within the same second is the same.
    let old: Vec<_> = old.into_iter().filter(|(_, old)| new.iter().all(|(_, new)| new != old)).collect();
    assert_eq!(found(&[old.clone(), new.clone()].concat()), ["access", "refresh", "id"]);
    home.run(&["logout"]).exits(0);
    wait_until("the agent to notice the logout", || (agent.get("/v1/token").status == 401).then_some(()));
    assert_eq!(found(&[old, new].concat()), [""; 0]);
}
