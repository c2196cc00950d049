//! The recipes of authctl-recipes(7), with the programs that they are for. Each is run as the page prints it, in a network
//! namespace in which the page's hosts are servers with certificates that the programs trust.

mod jobs;
mod page;
mod programs;
mod tools;

use std::fs;
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use authctl::dev_issuer::{Algorithm, Client, DevIssuer, GrantType, PlatformKeys};
use aws_lc_rs::digest::{SHA256, digest};

use crate::agent_support::KillOnDrop;
use crate::network::certify;
use crate::support::jwt::Signer;
use crate::support::process::{Lines, RunningCommand};
use crate::support::{AUTHCTL, CommandOutput, PASSWORD, Sandbox, USER, contains, issuer, parts};
use page::Recipe;

/// The servers' hosts.
const HOSTS: [&str; 7] = [
    "api.example",
    "files.example",
    "issuer.example",
    "pipelines.example",
    "smtp.example",
    "imap.example",
    "db.example",
];

/// Where programs find the certificate authorities of the system.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A user whose network has the hosts of the page.
struct Network {
    home: Sandbox,
    issuer: DevIssuer,
    /// Signs the identity tokens of the platform that the issuer trusts.
    platform: Signer,
    servers: KillOnDrop,
}

impl Network {
    /// Starts the servers. They verify tokens by the settings of `profile`.
    fn new(profile: &str) -> Self {
        parts::require(&["unshare", "nsenter", "ip", "openssl", "python3", "strace"]);
        let mut home = Sandbox::new();
        let platform = Signer::new();
        let issuer = issuer(|options| {
            options.algorithm = Algorithm::ES256;
            options.public_url = Some("https://issuer.example".to_owned());
            options.clients.push(Client { id: "ci".to_owned(), secret: None, grants: vec![GrantType::JwtBearer] });
            options.platform_keys = PlatformKeys::parse(&platform.jwks().to_string());
        });
        let at = |name: &str| home.path().join(name);
        certify(home.path(), &HOSTS);
        let hosts: String =
            HOSTS.iter().enumerate().map(|(index, host)| format!("127.0.0.{} {host}\n", index + 2)).collect();
        fs::write(at("hosts"), format!("127.0.0.1 localhost\n{hosts}")).expect("written");
        relay(&at("issuer.sock"), issuer.address());
        // In a directory of PATH that systemd searches too.
        fs::create_dir(at("programs")).expect("made");
        for (name, program) in [("authctl", Path::new(AUTHCTL)), ("http", &python_program("http"))] {
            std::os::unix::fs::symlink(program, at("programs").join(name)).expect("linked");
        }
        let script = format!(
            "ip link set lo up && mount --bind hosts /etc/hosts && mount --bind ca.pem {AUTHORITIES} &&
             mount --bind programs /usr/local/sbin || exit 99
             exec python3 \"$@\""
        );
        let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/recipes/servers.py");
        let servers = servers.to_str().expect("text");
        let arguments = [servers, "hosts", "cert.pem", "key.pem", "log", "issuer.sock"];
        let verify = [AUTHCTL, "verify", "-", "--profile", profile];
        // A user who is not root is root in a user namespace of its own.
        let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
        let unshare = [user, &["--net", "--mount", "--", "sh", "-c", &script, "sh"], &arguments, &verify].concat();
        let mut command = home.command_for("unshare", &unshare);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut lines = Lines::of(child.stdout.take().expect("piped"));
        let servers = KillOnDrop(child);
        assert_eq!(lines.next().as_deref(), Some("ready"), "the servers start");
        let path = std::env::var("PATH").expect("PATH");
        home.set("PATH", format!("/usr/local/sbin:{path}"));
        // Not every Python, and neither HTTPie nor Node, uses those of the system.
        for variable in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
            home.set(variable, AUTHORITIES);
        }
        Self { home, issuer, platform, servers }
    }

    /// Returns a user who is logged in under the profile `work`, and whose token has expired.
    fn with_login() -> Self {
        let network = Self::new("work");
        network.authctl(
            &[
                "login",
                "work",
                "--issuer",
                network.issuer.issuer(),
                "--client-id",
                "authctl",
                "--username",
                USER,
                "--password-stdin",
            ],
            PASSWORD,
        );
        network.home.expire("work");
        network
    }

    /// Returns a command in the network.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let target = self.servers.0.id().to_string();
        let user: &[&str] =
            if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--preserve-credentials"] };
        let script = ["--", "sh", "-c", "cd \"$HOME\" && exec \"$@\"", "sh", program];
        self.home.command_for("nsenter", &[&["--target", &target, "--net", "--mount"], user, &script, args].concat())
    }

    #[track_caller]
    fn authctl(&self, args: &[&str], stdin: &str) -> CommandOutput {
        let mut command = self.command(AUTHCTL, args);
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().expect("it starts");
        child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("written");
        self.home.finish(child, args).exits(0)
    }

    /// Starts the agent in the network.
    fn agent(&self) -> RunningCommand<'_> {
        let agent = self.home.spawn_command(self.command(AUTHCTL, &["agent", "run"]), &["agent", "run"]);
        agent.reports("the agent listens at");
        agent
    }

    /// Runs shell code in the network. Fails the test if `secrets` gives one that a process has in its arguments, or a file
    /// of the user in its content.
    #[track_caller]
    fn run(&self, code: &str, secrets: impl FnOnce() -> Vec<String>) -> CommandOutput {
        let log = self.home.path().join("strace.log");
        let strace = ["-f", "-qq", "--seccomp-bpf", "-s", "100000", "-e", "trace=execve", "-o", "strace.log"];
        let output = self.home.run_command(&mut self.command("strace", &[&strace[..], &["sh", "-c", code]].concat()));
        let arguments = fs::read(&log).expect("strace wrote its log");
        fs::remove_file(&log).expect("removed");
        assert!(contains(&arguments, b"execve("), "strace has seen the processes");
        for secret in secrets() {
            assert!(!contains(&arguments, secret.as_bytes()), "a secret in arguments: {code}");
            assert!(!output.stderr.contains(&secret) && !output.stdout.contains(&secret), "a secret in output: {code}");
            self.home.register_secret(&secret);
        }
        assert_eq!(self.home.leaks_in_files(), Vec::<PathBuf>::new(), "a secret in files: {code}");
        output
    }

    /// Returns each credential that the servers have received, and what they did with it, in order and once.
    fn received(&self) -> Vec<String> {
        let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
        let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
        lines.dedup();
        lines
    }

    /// Fails the test unless `server` has received the profile's token, and nothing else was sent to any server.
    #[track_caller]
    fn expect_received(&self, server: &str, profile: &str) {
        let digest = digest(&SHA256, self.home.token(profile).as_bytes());
        let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(self.received(), [format!("{server} accepted {digest}")]);
    }

    /// Runs shell code that gives `server` the token of the profile `work`, refreshed, and that fails without a session.
    /// Returns its output.
    #[track_caller]
    fn expect_token(&self, server: &str, code: &str) -> CommandOutput {
        let output = self.run(code, || vec![self.home.token("work")]).exits(0);
        self.expect_received(server, "work");
        let received = self.received();
        self.authctl(&["logout", "work"], "");
        let refused = self.run(code, Vec::new);
        assert_ne!(refused.code, 0, "without a session: {}", refused.stdout);
        assert_eq!(self.received(), received, "nothing is sent without a session");
        refused.reports("authctl login work");
        output
    }
}

/// Returns a program of the Python environment of the recipes.
#[track_caller]
fn python_program(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/recipes/bin").join(name);
    if program.is_file() { program } else { parts::not_installed(name) }
}

/// Relays connections from a Unix socket, which exists in every network namespace, until the test process ends.
fn relay(socket: &Path, to: SocketAddr) {
    let listener = UnixListener::bind(socket).expect("bound");
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(to) else { continue };
            let (mut near_reader, mut far_writer) =
                (near.try_clone().expect("a copy"), far.try_clone().expect("a copy"));
            std::thread::spawn(move || {
                let _ = io::copy(&mut near_reader, &mut far_writer);
                let _ = far_writer.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || copy_back(far, near));
        }
    });
}

fn copy_back(mut far: TcpStream, mut near: UnixStream) {
    let _ = io::copy(&mut far, &mut near);
    let _ = near.shutdown(Shutdown::Write);
}

#[test]
fn every_recipe_of_the_page_is_tested() {
    let tested = [&tools::RECIPES[..], &programs::RECIPES, &jobs::RECIPES].concat();
    assert_eq!(page::names(), tested);
}
