//! Logins over a real SSH session, and in jobs without a terminal.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use authctl::dev_issuer::{Algorithm, DevIssuer};

use crate::support::free_port;
use crate::support::login_pages::user_code;
use crate::support::parts;
use crate::support::process::{RunningCommand, wait_until};
use crate::support::stub_server::StubServer;
use crate::support::{self, AUTHCTL, CommandOutput, Sandbox, USER};

/// The user and the empty directory that sshd, started by root, needs for privilege separation.
const SSHD_USER: &str = "sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n";

/// Runs "$@" in a mount namespace that has [`SSHD_USER`]: the files of the machine do not change.
const AS_ROOT: &str = r#"
mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && mount --bind "$1" /etc/passwd || exit 99
shift
exec "$@"
"#;

/// An SSH server for the user who runs the test; killed when dropped.
struct Server {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Self {
        parts::require(&["ssh", "ssh-keygen"]);
        // sshd re-executes itself and requires an absolute path.
        let sshd = parts::program("sshd");
        let dir = tempfile::Builder::new().prefix("authctl-sshd-").tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        for key in ["host", "mine"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key));
            assert!(keygen.status().expect("ssh-keygen").success());
        }
        std::fs::copy(at("mine.pub"), at("authorized")).expect("copied");
        let port = free_port();
        let mut text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {authorized}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
            host = at("host").display(),
            authorized = at("authorized").display()
        );
        // From OpenSSH 9.8 on, the server consists of several programs.
        for (option, name) in [("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")] {
            let path = parts::unpacked().join("usr/lib/openssh").join(name);
            if path.is_file() {
                text.push_str(&format!("{option} {}\n", path.display()));
            }
        }
        std::fs::write(at("config"), text).expect("written");
        let host = std::fs::read_to_string(at("host.pub")).expect("a key");
        std::fs::write(at("known"), format!("[127.0.0.1]:{port} {host}")).expect("written");
        let mut command = if rustix::process::geteuid().is_root() {
            let mut users = std::fs::read_to_string("/etc/passwd").expect("readable");
            if !users.lines().any(|line| line.starts_with("sshd:")) {
                users.push_str(SSHD_USER);
            }
            std::fs::write(at("passwd"), users).expect("written");
            let mut command = Command::new("unshare");
            command.args(["--mount", "--", "sh", "-c", AS_ROOT, "sh"]).arg(at("passwd")).arg(sshd);
            command
        } else {
            Command::new(sshd)
        };
        command.args(["-D", "-E"]).arg(at("log")).arg("-f").arg(at("config"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sshd");
        let server = Self { child, dir, port };
        wait_until("the SSH server", || {
            std::fs::read_to_string(server.dir.path().join("log")).ok()?.find("listening on")
        });
        server
    }

    /// Runs authctl over SSH, with or without a terminal. Its output is on `stderr`.
    fn runs<'a>(&self, home: &'a Sandbox, terminal: bool, args: &[&str]) -> RunningCommand<'a> {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let plain = home.command(&[]);
        let variables = plain.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let mut remote = vec!["env".to_owned()];
        remote.extend(variables.map(|(name, value)| quoted(&format!("{name}={value}"))));
        remote.push(quoted(AUTHCTL));
        remote.extend(args.iter().copied().map(quoted));
        let user = Command::new("id").arg("-un").output().expect("id");
        let user = String::from_utf8(user.stdout).expect("text");
        let known = format!("UserKnownHostsFile={}", at("known"));
        let port = self.port.to_string();
        let mine = at("mine");
        let to = format!("{}@127.0.0.1", user.trim());
        let remote = remote.join(" ");
        let ssh = ["ssh", if terminal { "-tt" } else { "-T" }, "-F", "/dev/null", "-p", &port, "-i", &mine];
        let options = ["-o", &known, "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR", &to, &remote];
        let mut command = home.command_for("sh", &[&["-c", "exec \"$@\" >&2", "sh"], &ssh[..], &options].concat());
        command.env_remove("BROWSER").env_remove("DISPLAY");
        home.spawn_command(command, args)
    }
}

fn device_issuer() -> DevIssuer {
    support::issuer(|options| {
        options.algorithm = Algorithm::ES256;
        options.device_interval = Duration::from_secs(1);
    })
}

/// Returns a home with a display, as with `ssh -X`, and a browser script that writes the URL to a file.
fn desk() -> (Sandbox, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut home = Sandbox::new();
    let (browser, opened) = (home.path().join("browser"), home.path().join("opened"));
    std::fs::write(&browser, format!("#!/bin/sh\necho \"$1\" > '{}'\n", opened.display())).expect("written");
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).expect("executable");
    home.set("BROWSER", &browser);
    home.set("DISPLAY", "localhost:10.0");
    (home, opened)
}

fn login<'a>(issuer: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["login", "work", "--issuer", issuer, "--client-id", "authctl"], more].concat()
}

#[test]
fn login_over_ssh_uses_a_device_code_unless_browser_is_requested() {
    let (server, issuer, (home, opened)) = (Server::start(), device_issuer(), desk());
    let waiting = server.runs(&home, true, &login(issuer.issuer(), &[]));
    waiting.reports("Connected over SSH, so no browser is opened here; --browser opens one");
    let code = waiting.wait_until("a user code", user_code);
    assert!(issuer.approve_device(&code, USER), "{code}");
    waiting.wait().exits(0).reports("Logged in to");
    assert!(!opened.exists(), "a browser was opened");
    home.token("work");
    let waiting = server.runs(&home, true, &login(issuer.issuer(), &["--browser"]));
    let address =
        wait_until("the browser", || std::fs::read_to_string(&opened).ok().filter(|text| text.ends_with('\n')));
    assert!(address.starts_with(&format!("{}/authorize", issuer.issuer())), "{address}");
    drop(waiting);
}

#[test]
fn login_over_ssh_without_device_grant_asks_for_the_redirect_url() {
    let (server, (home, opened)) = (Server::start(), desk());
    let issuer = StubServer::without_device_grant();
    let mut waiting = server.runs(&home, true, &login(&issuer.url, &[]));
    waiting.reports("Connected over SSH, so no browser is opened here, and the issuer offers no device login");
    waiting.reports("Paste the address: ");
    waiting.type_text("http://127.0.0.1:1/callback?error=access_denied\n");
    waiting.reports("copy the whole address");
    assert!(!opened.exists(), "a browser was opened");
}

/// Fails the test unless the command exited with 3 and names the command to run.
#[track_caller]
fn expect_login_required(ran: CommandOutput, run: &str) {
    ran.exits(3).reports(run);
}

#[test]
fn commands_without_a_terminal_fail_instead_of_prompting() {
    let (server, issuer, (home, opened)) = (Server::start(), device_issuer(), desk());
    // Without a profile, the hint cannot be a shorter command.
    let again = format!("authctl login work --issuer {} --client-id authctl", issuer.issuer());
    expect_login_required(server.runs(&home, false, &login(issuer.issuer(), &[])).wait(), &again);
    let job = |args: &[&str]| {
        let args = [&["--wait", AUTHCTL], args].concat();
        home.run_command(&mut home.command_for("setsid", &args))
    };
    expect_login_required(job(&login(issuer.issuer(), &[])), &again);
    assert_eq!(issuer.stats().requests.len(), 0, "nothing was asked of the issuer");
    // A session that the issuer has revoked.
    home.log_in("work", &issuer);
    issuer.revoke_everything();
    home.advance_time("work", 301);
    expect_login_required(job(&["token", "work"]), "authctl login work");
    expect_login_required(job(&["token", "work", "--json"]), "authctl login work");
    expect_login_required(server.runs(&home, false, &["token", "work"]).wait(), "authctl login work");
    expect_login_required(job(&["login", "work"]), "authctl login work");
    let asked = issuer.stats().requests;
    assert!(
        asked.contains_key("token") && !asked.contains_key("device_authorization"),
        "no code was asked for: {asked:?}"
    );
    assert!(!opened.exists(), "a browser was opened");
}
