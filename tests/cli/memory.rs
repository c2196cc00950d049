//! The memory of the command line: what a command no longer needs is wiped.

use std::collections::BTreeSet;

use nix::libc;

use crate::support::agent::Agent;
use crate::support::process::{Memory, wait_until};
use crate::support::stepper::{Action, Call, Watch};
use crate::support::{PASSWORD, Sandbox, quick_issuer};

/// Searches a command's memory each time it sends or writes something, and at its end.
struct MemorySearch {
    /// What is searched for, with names.
    secrets: Vec<(&'static str, String)>,
    seen: BTreeSet<&'static str>,
    /// What was there at the end; `None` before it.
    left: Option<Vec<&'static str>>,
}

impl Watch for MemorySearch {
    fn before(&mut self, call: &Call) -> Action {
        let is_end = call.number == libc::SYS_exit_group;
        if is_end || [libc::SYS_write, libc::SYS_writev, libc::SYS_sendto, libc::SYS_sendmsg].contains(&call.number) {
            let memory = Memory::of(call.thread.as_raw().cast_unsigned()).expect("the thread waits");
            let found = self.secrets.iter().filter(|(_, secret)| memory.has(secret)).map(|(name, _)| *name);
            let found = found.collect::<Vec<_>>();
            self.seen.extend(&found);
            self.left = is_end.then_some(found);
        }
        Action::Make
    }
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
fn faults(
    home: &Sandbox,
    args: &[&str],
    stdin: &str,
    secrets: &[(&'static str, String)],
    uses: &[&str],
) -> Option<String> {
    let search = MemorySearch { secrets: secrets.to_vec(), seen: BTreeSet::new(), left: None };
    let (MemorySearch { seen, left, .. }, ran) = home.step(args, stdin, search);
    ran.exits(0);
    let left = left.expect("searched at its end");
    let has_all = uses.iter().all(|name| seen.contains(name));
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
    home.expire("work");
    wrong.extend(faults(&home, &["token"], "", &secrets, &["secret"]));
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
