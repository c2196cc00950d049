//! Other tools with the same purpose, if they are installed, logged in at the same issuer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::load::{LoadRequest, ReplyEnd, Target};
use super::{Home, Issuer, LIMIT, Running, bytes_in, resident, run};

/// A peer with accounts, the first of them `work`.
pub struct Peer {
    /// The home, with the variables that the client needs.
    home: Home,
    /// The command that prints the token of `work`.
    pub show: Vec<String>,
    /// The token of `work`.
    pub token: String,
    /// The agent, if the tool has one.
    pub agent: Option<Running>,
    /// The requests for the agent, if the tool has one.
    pub target: Option<Target>,
}

/// A peer, or why it is not available.
pub struct Found {
    pub name: &'static str,
    pub peer: Result<Peer, String>,
}

/// Sets up each peer with `accounts` accounts.
pub fn all(issuer: &Issuer, accounts: usize) -> Vec<Found> {
    let found = |name, program, set_up: fn(&Issuer, usize) -> Result<Peer, String>| Found {
        name,
        peer: if is_installed(program) {
            set_up(issuer, accounts).map_err(|why| format!("not set up: {why}"))
        } else {
            Err("not installed".to_owned())
        },
    };
    vec![
        found("oidc-agent", "oidc-agent", oidc_agent),
        found("pizauth", "pizauth", pizauth),
        found("ortie", "ortie", ortie),
    ]
}

impl Peer {
    /// Returns the command that prints the token.
    pub fn show_command(&self) -> std::process::Command {
        let args: Vec<&str> = self.show.iter().map(String::as_str).collect();
        self.home.command(args[0], &args[1..])
    }

    /// Returns the agent's resident memory in bytes and its number of processes. Shared memory is counted once.
    pub fn resident(&self) -> Option<(u64, usize)> {
        let mut ids = vec![self.agent.as_ref()?.0.id()];
        let mut at = 0;
        while let Some(id) = ids.get(at) {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            ids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            at += 1;
        }
        if let [one] = ids[..] {
            return Some((resident(one).0, 1));
        }
        let parts = ids.iter().map(|id| bytes_in(&format!("/proc/{id}/smaps_rollup"), "Pss:"));
        Some((parts.sum::<Option<u64>>()?, ids.len()))
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn account(number: usize) -> String {
    if number == 0 { "work".to_owned() } else { format!("work{number}") }
}

/// Runs a peer's client, which must print one line.
fn line(home: &Home, show: &[String]) -> Result<String, String> {
    let args: Vec<&str> = show.iter().map(String::as_str).collect();
    let ran = run(&mut home.command(args[0], &args[1..]), "");
    let line = ran.stdout.trim().to_owned();
    if ran.code == 0 && line.split('.').count() == 3 { Ok(line) } else { Err(ran.stderr.trim().to_owned()) }
}

fn wait_for_socket(socket: &Path) -> Result<(), String> {
    let started = Instant::now();
    while !socket.exists() {
        if started.elapsed() > Duration::from_secs(10) {
            return Err("its agent created no socket".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn without_output(command: &mut std::process::Command) -> &mut std::process::Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn target(socket: PathBuf, ends: ReplyEnd, request: String, token: &str) -> Target {
    let request = LoadRequest { bytes: request.into_bytes(), expected: token.to_owned() };
    Target { socket, ends, reused: false, requests: vec![request] }
}

/// Sets up oidc-agent with refresh tokens, then restarts it with its accounts.
fn oidc_agent(issuer: &Issuer, accounts: usize) -> Result<Peer, String> {
    let mut home = Home::new();
    let socket = home.path().join("oidc.sock");
    fs::create_dir_all(home.path().join(".config")).map_err(|e| e.to_string())?;
    home.set("OIDC_SOCK", &socket);
    home.set("OIDC_ENCRYPTION_PW", "bench");
    let start = |home: &Home| {
        let _ = fs::remove_file(&socket);
        let agent =
            Running::start(without_output(&mut home.command("oidc-agent", &["-d", "-a", &socket.to_string_lossy()])));
        wait_for_socket(&socket).map(|()| agent)
    };
    let must = |home: &Home, program: &str, args: &[&str]| {
        let ran = run(&mut home.command(program, args), "");
        if ran.code == 0 { Ok(()) } else { Err(format!("{program}: {}", ran.stderr.trim())) }
    };
    let agent = start(&home)?;
    for number in 0..accounts {
        let tokens = issuer.token_response();
        home.set("OIDC_REFRESH_TOKEN", tokens["refresh_token"].as_str().ok_or("no refresh token")?);
        let (name, at) = (account(number), format!("--issuer={}", issuer.url));
        let mut args = vec!["--client-id=authctl", "--client-secret=", "--scope=openid profile offline_access"];
        args.extend(["--manual", "--confirm-default", "--prompt=none", "--rt-env", "--pw-env", &at, &name]);
        must(&home, "oidc-gen", &args)?;
    }
    drop(agent);
    let agent = start(&home)?;
    for number in 0..accounts {
        let name = account(number);
        must(&home, "oidc-add", &["--pw-env", &name])?;
        line(&home, &words(&["oidc-token", &name]))?;
    }
    let show = words(&["oidc-token", "work"]);
    let token = line(&home, &show)?;
    let request = r#"{"request":"access_token","account":"work","min_valid_period":0}"#.to_owned();
    let target = target(socket, ReplyEnd::Close, request, &token);
    Ok(Peer { home, show, token, agent: Some(agent), target: Some(target) })
}

/// Sets up pizauth by logging in on the issuer's pages.
fn pizauth(issuer: &Issuer, accounts: usize) -> Result<Peer, String> {
    let home = Home::new();
    let mut config = "https_listen = none;\n".to_owned();
    for number in 0..accounts {
        config.push_str(&format!(
            "account \"{name}\" {{\n  auth_uri = \"{url}/authorize\";\n  token_uri = \"{url}/token\";\n  client_id = \
             \"authctl\";\n  redirect_uri = \"http://127.0.0.1/\";\n  scopes = [\"openid\", \"profile\", \
             \"offline_access\"];\n}}\n",
            name = account(number),
            url = issuer.url
        ));
    }
    fs::write(home.path().join("config/pizauth.conf"), config).map_err(|e| e.to_string())?;
    let agent = Running::start(without_output(&mut home.command("pizauth", &["server", "-d"])));
    let socket = home.path().join("run/pizauth/pizauth.sock");
    wait_for_socket(&socket)?;
    for number in 0..accounts {
        let show = words(&["pizauth", "show", &account(number)]);
        let reported = line(&home, &show).err().ok_or("it has a token before the login")?;
        let address =
            reported.split_whitespace().find(|word| word.starts_with("http://")).ok_or("it reported no address")?;
        issuer.sign_in(address)?;
        let started = Instant::now();
        while let Err(why) = line(&home, &show) {
            if started.elapsed() > LIMIT / 6 {
                return Err(why);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let show = words(&["pizauth", "show", "work"]);
    let token = line(&home, &show)?;
    let target = target(socket, ReplyEnd::HalfClose, "showtoken:withurl work".to_owned(), &token);
    Ok(Peer { home, show, token, agent: Some(agent), target: Some(target) })
}

/// Sets up ortie, which has no agent, with its token in a file that it reads with `cat`.
fn ortie(issuer: &Issuer, _accounts: usize) -> Result<Peer, String> {
    let home = Home::new();
    let (tokens, config) = (home.path().join("token.json"), home.path().join("ortie.toml"));
    let mut response = issuer.token_response();
    let token = response["access_token"].as_str().ok_or("no access token")?.to_owned();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_err(|e| e.to_string())?;
    response["issued_at"] = now.as_secs().into();
    fs::write(&tokens, response.to_string()).map_err(|e| e.to_string())?;
    let text = format!(
        "[accounts.work]\ndefault = true\nclient-id = \"authctl\"\nendpoints.authorization = \
         \"{url}/authorize\"\nendpoints.token = \"{url}/token\"\nscopes = [\"openid\", \
         \"profile\"]\nstorage.read.command = [\"cat\", \"{file}\"]\nstorage.write.command = [\"tee\", \"{file}\"]\n",
        url = issuer.url,
        file = tokens.display()
    );
    fs::write(&config, text).map_err(|e| e.to_string())?;
    let show = words(&["ortie", "-c", &config.to_string_lossy(), "token", "show"]);
    if line(&home, &show)? != token {
        return Err("it prints another token".into());
    }
    Ok(Peer { home, show, token, agent: None, target: None })
}
