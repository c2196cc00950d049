//! A private session bus with gnome-keyring, in its own directories; stopped when dropped.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::kill_on_drop::KillOnDrop;
use crate::support::parts;

/// The password of the keyring.
const PASSWORD: &[u8] = b"a password of the tests";

/// A private bus with a keyring.
pub struct Keyring {
    // Dropped in this order: the daemon before its bus, both before their directory.
    daemon: Option<KillOnDrop>,
    bus: KillOnDrop,
    /// Open as long as the bus: a program that it starts may exit when its output is not read.
    _output: BufReader<ChildStdout>,
    address: String,
    dir: TempDir,
}

impl Keyring {
    /// Starts a bus with an unlocked keyring.
    pub fn start() -> Self {
        Self::start_below(&std::env::temp_dir())
    }

    /// Starts a bus with an unlocked keyring, whose directories are below `parent`.
    pub fn start_below(parent: &Path) -> Self {
        parts::require(&["dbus-daemon", "secret-tool", "gdbus"]);
        let dir = tempfile::tempdir_in(parent).expect("tempdir");
        for name in ["home", "run", "data", "services"] {
            std::fs::create_dir(dir.path().join(name)).expect("mkdir");
        }
        // With its own service directory, the bus starts no services of the machine.
        let config = dir.path().join("bus.conf");
        let text = format!(
            "<busconfig><type>session</type><listen>unix:dir={}</listen><servicedir>{}</servicedir><policy context=\"default\">\
             <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy>\
             <limit name=\"max_connections_per_user\">1000</limit></busconfig>",
            dir.path().join("run").display(),
            dir.path().join("services").display()
        );
        std::fs::write(&config, text).expect("write");
        let mut bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--print-address"])
            .env_clear()
            .envs(variables(dir.path(), None))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon");
        let mut address = String::new();
        let mut output = BufReader::new(bus.stdout.take().expect("piped"));
        output.read_line(&mut address).expect("an address");
        let address = address.trim_end().to_owned();
        let mut keyring = Self { daemon: None, bus: KillOnDrop(bus), _output: output, address, dir };
        keyring.start_daemon(true);
        keyring
    }

    /// Starts the keyring's daemon, unlocked or, as after a login without a password, locked.
    pub fn start_daemon(&mut self, unlocked: bool) {
        let mut command = Command::new(parts::program("gnome-keyring-daemon"));
        command.args(["--foreground", "--components=secrets"]);
        if unlocked {
            command.arg("--unlock");
        }
        let mut daemon = command
            .env_clear()
            .envs(self.env())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(self.errors()).expect("created"))
            .spawn()
            .expect("gnome-keyring-daemon");
        let mut stdin = daemon.stdin.take().expect("piped");
        stdin.write_all(PASSWORD).expect("password");
        drop(stdin);
        let mut stdout = daemon.stdout.take().expect("piped");
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        self.daemon = Some(KillOnDrop(daemon));
        let waited = self.run("gdbus", &["wait", "--session", "--timeout", "20", "org.freedesktop.secrets"], b"");
        assert!(waited.status.success(), "the keyring did not start: {waited:?}");
    }

    /// Returns the file of what the daemon reports.
    fn errors(&self) -> PathBuf {
        self.dir.path().join("daemon.log")
    }

    /// Returns why the daemon does not serve any more, although it was not killed: it has ended, or left the bus.
    #[allow(dead_code, reason = "not every program has a keyring for so long")]
    pub fn failure(&mut self) -> Option<String> {
        let status = self.daemon.as_mut()?.0.try_wait().expect("a child");
        let what = match status {
            Some(status) => format!("it has ended ({status})"),
            None if self.owns_name() => return None,
            None => "it has left the bus".to_owned(),
        };
        Some(format!("{what}: {}", std::fs::read_to_string(self.errors()).unwrap_or_default().trim_end()))
    }

    /// Returns whether the daemon has its name on the bus.
    #[allow(dead_code, reason = "as above")]
    fn owns_name(&self) -> bool {
        let arguments = "call --session --dest org.freedesktop.DBus --object-path /org/freedesktop/DBus \
                         --method org.freedesktop.DBus.NameHasOwner org.freedesktop.secrets";
        let asked = self.run("gdbus", &arguments.split_whitespace().collect::<Vec<_>>(), b"");
        !asked.stdout.starts_with(b"(false")
    }

    /// Kills the keyring's daemon. The bus stays.
    pub fn kill_daemon(&mut self) {
        self.daemon = None;
    }

    /// Stops the keyring's daemon with SIGSTOP: it keeps its name on the bus and does not respond.
    pub fn stop_daemon(&self) {
        kill_process(self.daemon(), Signal::STOP).expect("stopped");
    }

    /// Makes the keychain unavailable: its daemon hangs, or is gone.
    pub fn make_unavailable(&mut self, hangs: bool) {
        if hangs { self.stop_daemon() } else { self.kill_daemon() }
    }

    /// Makes the keychain available again after [`Self::make_unavailable`].
    pub fn make_available(&mut self, hung: bool) {
        if hung { self.continue_daemon() } else { self.start_daemon(true) }
    }

    /// Continues the keyring's daemon.
    pub fn continue_daemon(&self) {
        kill_process(self.daemon(), Signal::CONT).expect("continued");
    }

    /// Returns the keyring's daemon.
    pub fn daemon(&self) -> Pid {
        self.daemon.as_ref().map(|daemon| Pid::from_child(&daemon.0)).expect("running")
    }

    /// Kills the bus as well.
    pub fn kill_bus(&mut self) {
        self.daemon = None;
        let _ = self.bus.0.kill();
        let _ = self.bus.0.wait();
    }

    /// Locks the default collection. There is no prompter to unlock it.
    pub fn lock(&self) {
        let arguments = "call --session --dest org.freedesktop.secrets --object-path /org/freedesktop/secrets \
                         --method org.freedesktop.Secret.Service.Lock ['/org/freedesktop/secrets/collection/login']";
        let locked = self.run("gdbus", &arguments.split_whitespace().collect::<Vec<_>>(), b"");
        assert!(locked.status.success(), "{locked:?}");
    }

    /// Makes prompts hang: the prompter is started and never shows one.
    pub fn ignore_prompts(&self) {
        // Exits with the bus.
        self.set_prompter(&format!("/usr/bin/tail --follow --pid={} /dev/null", self.bus.0.id()));
    }

    /// Lets every prompt fail: the prompter exits at once.
    pub fn fail_prompts(&self) {
        self.set_prompter("/bin/false");
    }

    fn set_prompter(&self, command: &str) {
        let services = self.dir.path().join("services");
        let text = |name: &str| format!("[D-BUS Service]\nName={name}\nExec={command}\n");
        for name in ["org.gnome.keyring.SystemPrompter", "org.gnome.keyring.PrivatePrompter"] {
            std::fs::write(services.join(format!("{name}.service")), text(name)).expect("write");
        }
        let arguments = "call --session --dest org.freedesktop.DBus --object-path /org/freedesktop/DBus \
                         --method org.freedesktop.DBus.ReloadConfig";
        let reloaded = self.run("gdbus", &arguments.split_whitespace().collect::<Vec<_>>(), b"");
        assert!(reloaded.status.success(), "{reloaded:?}");
    }

    /// Returns a path for the queue file of `Keychain::with_queue`.
    pub fn turns(&self) -> PathBuf {
        self.dir.path().join("turns")
    }

    /// Returns the directory of what authctl shares between the users of this keyring.
    pub fn shared(&self) -> PathBuf {
        self.dir.path().join("run/authctl-data")
    }

    /// Returns the directory of the locks of this keyring's items.
    pub fn locks(&self) -> PathBuf {
        self.shared().join("locks")
    }

    /// Returns the value of `DBUS_SESSION_BUS_ADDRESS`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the environment for a child that uses this keyring.
    pub fn env(&self) -> Vec<(OsString, OsString)> {
        variables(self.dir.path(), Some(&self.address))
    }

    /// Runs `program` on this bus with `input` on its stdin.
    pub fn run(&self, program: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(self.env())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect(program);
        let _ = child.stdin.take().expect("piped").write_all(input);
        child.wait_with_output().expect(program)
    }

    /// Runs `secret-tool`.
    pub fn secret_tool(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.run("secret-tool", arguments, input)
    }
}

fn variables(dir: &Path, address: Option<&str>) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), "/usr/bin:/bin".into()),
        ("LC_ALL".into(), "C.UTF-8".into()),
        ("HOME".into(), dir.join("home").into()),
        ("XDG_RUNTIME_DIR".into(), dir.join("run").into()),
        ("XDG_DATA_HOME".into(), dir.join("data").into()),
    ];
    variables.extend(address.map(|a| ("DBUS_SESSION_BUS_ADDRESS".into(), a.into())));
    variables
}

/// A bus that accepts connections and never responds.
pub struct SilentBus {
    path: PathBuf,
    _listener: UnixListener,
    _dir: TempDir,
}

impl SilentBus {
    /// Starts listening. The kernel completes connections; nothing accepts them.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("bus");
        Self { _listener: UnixListener::bind(&path).expect("bind"), path, _dir: dir }
    }

    /// Returns the value of `DBUS_SESSION_BUS_ADDRESS`.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.path.display())
    }
}
