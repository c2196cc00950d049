//! A running command on pipes or in a terminal, whose output is read as it arrives.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::stepper::{self, Action, Call, Watch};
use super::{AUTHCTL, CommandOutput, Sandbox};

/// The time limit for each wait of a test.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Polls until `look` returns a value, for at most [`LIMIT`].
#[track_caller]
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The lines of a stream. Fails the test if the next line does not arrive within [`LIMIT`].
pub struct Lines(mpsc::Receiver<String>);

impl Lines {
    /// Reads the stream on its own thread, so that a full pipe never blocks the command.
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self(lines)
    }
}

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        match self.0.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("no line within {LIMIT:?}"),
        }
    }
}

/// The output of a stream so far.
struct Stream {
    text: Arc<(Mutex<Vec<u8>>, Condvar)>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let output = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // Reading a terminal fails when its last program has exited.
            while let Ok(length @ 1..) = stream.read(&mut piece) {
                output.0.lock().expect("not poisoned").extend_from_slice(&piece[..length]);
                output.1.notify_all();
            }
        });
        Self { text, reader }
    }

    #[track_caller]
    fn wait_until<T>(&self, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
        let (text, more) = &*self.text;
        let mut found = None;
        let looked = more
            .wait_timeout_while(text.lock().expect("not poisoned"), LIMIT, |text| {
                found = look(&String::from_utf8_lossy(text));
                found.is_none()
            })
            .expect("not poisoned");
        let text = String::from_utf8_lossy(&looked.0).into_owned();
        found.unwrap_or_else(|| panic!("timed out waiting for {what} in: {text}"))
    }

    fn all(self) -> String {
        self.reader.join().expect("read");
        String::from_utf8_lossy(&self.text.0.lock().expect("not poisoned")).into_owned()
    }
}

/// A running command, killed when dropped.
pub struct RunningCommand<'a> {
    home: &'a Sandbox,
    args: Vec<String>,
    child: Child,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    /// The terminal, or the pipe to stdin.
    input: Option<Box<dyn std::io::Write>>,
    terminal: Option<File>,
}

impl Drop for RunningCommand<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies authctl to `to`, with a process of its own: a child that another test starts in the meantime would have the copy
/// open for writing, and until it ends, the copy could not be run.
#[track_caller]
pub fn copy_program(to: &Path) {
    assert!(Command::new("cp").arg(AUTHCTL).arg(to).status().expect("cp").success(), "{}", to.display());
}

impl Sandbox {
    /// Starts authctl on pipes. Its stdin stays open.
    pub fn spawn(&self, args: &[&str]) -> RunningCommand<'_> {
        self.spawn_command(self.command(args), args)
    }

    /// Steps through authctl with `stdin` to its end. A command that was killed has the exit code -1.
    #[track_caller]
    pub fn step<W: Watch + 'static>(&self, args: &[&str], stdin: &str, watch: W) -> (W, CommandOutput) {
        let (watch, ran) = stepper::run(self.stepped(args), stdin, watch);
        self.check(&ran, args);
        (watch, ran)
    }

    /// Returns the command that [`stepper::start`] takes to run authctl in this home.
    pub fn stepped(&self, args: &[&str]) -> Command {
        self.command_for("sh", &[&["-c", stepper::WAIT_TO_BE_TRACED, AUTHCTL], args].concat())
    }

    /// Runs authctl and kills it right before the `nth` of these system calls, counted over all threads. Returns how many it
    /// has begun, which is fewer if it has ended by itself.
    #[track_caller]
    pub fn run_killed(&self, calls: &'static [i64], nth: usize, args: &[&str], stdin: &str) -> (CommandOutput, usize) {
        let (watch, ran) = self.step(args, stdin, KillBefore { calls, nth, begun: 0 });
        (ran, watch.begun)
    }

    /// Starts a command of this home on pipes. `args` names it in messages.
    pub fn spawn_command(&self, command: Command, args: &[&str]) -> RunningCommand<'_> {
        let (mut running, stderr) = self.spawn_unread(command, args);
        running.stderr = Some(Stream::of(stderr));
        running
    }

    /// Starts it without reading its stderr, which stays open while the second value exists.
    pub fn spawn_unread(&self, mut command: Command, args: &[&str]) -> (RunningCommand<'_>, ChildStderr) {
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().expect("spawned");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let input = child.stdin.take().expect("piped");
        let running = RunningCommand {
            home: self,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            child,
            stdout: Some(Stream::of(stdout)),
            stderr: None,
            input: Some(Box::new(input)),
            terminal: None,
        };
        (running, stderr)
    }

    /// Starts authctl in a new terminal of unknown size. All output is in `stderr`.
    pub fn spawn_in_terminal(&self, args: &[&str]) -> RunningCommand<'_> {
        self.spawn_program_in_terminal(AUTHCTL, args, 0)
    }

    /// Starts a program in a new terminal with this many columns, and the environment of this home. All output is in `stderr`.
    pub fn spawn_program_in_terminal(&self, program: &str, args: &[&str], columns: u16) -> RunningCommand<'_> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("pty");
        rustix::pty::grantpt(&master).expect("granted");
        rustix::pty::unlockpt(&master).expect("unlocked");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).expect("sized");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("named");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("opened");
        let stream = || Stdio::from(slave.try_clone().expect("another"));
        let plain = self.command(args);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program).args(args).env_clear().current_dir(self.path());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().expect("setsid");
        drop((command, slave));
        let master = File::from(master);
        RunningCommand {
            home: self,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            child,
            stdout: None,
            stderr: Some(Stream::of(master.try_clone().expect("another"))),
            input: Some(Box::new(master.try_clone().expect("another"))),
            terminal: Some(master),
        }
    }
}

struct KillBefore {
    calls: &'static [i64],
    nth: usize,
    begun: usize,
}

impl Watch for KillBefore {
    fn before(&mut self, call: &Call) -> Action {
        let is_counted = self.calls.contains(&call.number);
        self.begun += usize::from(is_counted);
        if is_counted && self.begun == self.nth { Action::Kill } else { Action::Make }
    }
}

impl RunningCommand<'_> {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until stderr contains `text`.
    #[track_caller]
    pub fn reports(&self, text: &str) {
        self.stderr.as_ref().expect("running").wait_until(text, |output| output.contains(text).then_some(()));
    }

    /// Waits until `look` finds something in stderr.
    #[track_caller]
    pub fn wait_until<T>(&self, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
        self.stderr.as_ref().expect("running").wait_until(what, look)
    }

    /// Waits until `look` finds something in stdout.
    #[track_caller]
    pub fn wait_for_output<T>(&self, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
        self.stdout.as_ref().expect("running").wait_until(what, look)
    }

    /// Waits for a line of stderr that starts with `begin` after spaces, and returns it.
    #[track_caller]
    pub fn wait_for_line(&self, begin: &str) -> String {
        self.wait_until(begin, |output| {
            let complete = output.rfind('\n').map_or("", |end| &output[..end]);
            complete.lines().map(str::trim).find(|line| line.starts_with(begin)).map(str::to_owned)
        })
    }

    /// Waits until the terminal shows no more what is typed.
    #[track_caller]
    pub fn waits_without_echo(&self) {
        let terminal = self.terminal.as_ref().expect("in a terminal");
        let has_echo = || {
            let settings = rustix::termios::tcgetattr(terminal).expect("a terminal");
            settings.local_modes.contains(rustix::termios::LocalModes::ECHO)
        };
        wait_until("the echo to be off", || (!has_echo()).then_some(()));
    }

    pub fn type_text(&mut self, text: &str) {
        let input = self.input.as_mut().expect("open");
        input.write_all(text.as_bytes()).expect("typed");
        input.flush().expect("typed");
    }

    pub fn close_stdin(&mut self) {
        self.input = None;
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).expect("signalled");
    }

    /// Returns whether the profile lock file is open, which it is while the command waits for or holds the lock.
    pub fn has_lock_file_open(&self, profile: &str) -> bool {
        let files = Path::new("/proc").join(self.id().to_string()).join("fd");
        let lock = format!("/{profile}.lock");
        let mut open = files.read_dir().into_iter().flatten().flatten();
        open.any(|fd| fd.path().read_link().is_ok_and(|target| target.to_string_lossy().ends_with(&lock)))
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("waited").is_none()
    }

    /// Waits until the command exits, and checks its output. Fails the test if the terminal's echo is off.
    #[track_caller]
    pub fn wait(mut self) -> CommandOutput {
        let status = wait_until("the command to exit", || self.child.try_wait().expect("waited"));
        self.input = None;
        if let Some(terminal) = self.terminal.take() {
            let settings = rustix::termios::tcgetattr(&terminal).expect("a terminal");
            assert!(settings.local_modes.contains(rustix::termios::LocalModes::ECHO), "the echo is off");
        }
        let all = |stream: &mut Option<Stream>| stream.take().map(Stream::all).unwrap_or_default();
        let ran = CommandOutput {
            code: status.code().unwrap_or(-1),
            stdout: all(&mut self.stdout),
            stderr: all(&mut self.stderr),
        };
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.home.check(&ran, &args);
        ran
    }
}

/// Prints each signal that it gets, until the second SIGTERM.
pub const PRINT_SIGNALS: &str = "terms=0; for name in HUP INT QUIT USR1 USR2 ALRM WINCH TSTP CONT; do trap \"echo got $name\" $name; done; \
    trap 'terms=$((terms + 1)); echo got TERM $terms' TERM; echo ready; while test $terms -lt 2 -a -d $HOME; do sleep 0.01; done; exit 9";

/// Checks that a command that authctl runs with these arguments gets each signal once that is sent to authctl, and that its exit
/// code is that of authctl.
#[track_caller]
pub fn assert_signals_arrive(home: &Sandbox, exec: &[&str]) {
    let signals = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("ALRM", Signal::ALARM),
        ("WINCH", Signal::WINCH),
        ("TSTP", Signal::TSTP),
        ("CONT", Signal::CONT),
        ("TERM 1", Signal::TERM),
        ("TERM 2", Signal::TERM),
    ];
    // Without a terminal, which would be of the test's process group.
    let words = [&[AUTHCTL], exec, &["sh", "-c", PRINT_SIGNALS]].concat();
    let running = home.spawn_command(home.command_for("setsid", &words), &words);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let mut expected = vec!["ready".to_owned()];
    running.wait_for_output("the command", |text| (lines(text) == expected).then_some(()));
    for (name, signal) in signals {
        running.signal(signal);
        expected.push(format!("got {name}"));
        // The first one too that comes twice.
        running.wait_for_output(name, |text| (lines(text).len() >= expected.len()).then_some(()));
    }
    assert_eq!(lines(&running.wait().exits(9).stdout), expected);
}

/// Opens the memory of a process as another of the same user would: root without CAP_SYS_PTRACE has no more rights.
pub fn open_memory(process: &str) -> std::process::Output {
    let memory = format!("dd if=/proc/{process}/mem count=0 status=none; exit $?");
    Command::new("setpriv").args(["--bounding-set=-sys_ptrace", "sh", "-c", &memory]).output().expect("setpriv")
}

/// The writable memory of a process. Reading it needs root: agents and commands are not dumpable.
pub struct Memory(Vec<String>);

impl Memory {
    /// Reads it; returns `None` if the process has ended.
    #[track_caller]
    pub fn of(pid: u32) -> Option<Self> {
        let ended = |e: &std::io::Error| e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error());
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"));
        let (maps, file) = match maps.and_then(|maps| Ok((maps, File::open(format!("/proc/{pid}/mem"))?))) {
            Err(error) if ended(&error) => return None,
            opened => opened.expect("run as root"),
        };
        let regions = maps.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next()?, words.next()?);
            let (from, to) = range.split_once('-')?;
            let address = |text| u64::from_str_radix(text, 16).ok();
            rights.starts_with("rw").then_some((address(from)?, address(to)?))
        });
        let read = |(from, to): (u64, u64)| {
            let mut bytes = vec![0; usize::try_from(to - from).ok()?];
            let length = file.read_at(&mut bytes, from).ok()?;
            bytes.truncate(length);
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        Some(Self(regions.filter_map(read).collect()))
    }

    /// Returns whether a copy of the secret is there. The second half is searched, which has the signature of a token: the
    /// allocator may overwrite the first bytes of freed memory.
    pub fn has(&self, secret: &str) -> bool {
        let half = &secret[secret.len() / 2..];
        self.0.iter().any(|region| region.contains(half))
    }
}
