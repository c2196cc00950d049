//! A home whose programs see a clock that the test sets: the wall clock by Debian's `faketime`, the boot time by a time
//! namespace, a reboot by another boot ID in a mount namespace.

use std::process::{Command, Stdio};

use crate::agent_support::{KillOnDrop, output_of};
use crate::support::parts;
use crate::support::process::Lines;
use crate::support::{AUTHCTL, CommandOutput, PASSWORD, Sandbox, USER};

/// The library of Debian's package `libfaketime` for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A home with a clock of its own.
pub struct FakeClock {
    pub home: Sandbox,
    /// How many seconds the wall clock is ahead of the machine's.
    ahead: i64,
    /// How many seconds the boot time is ahead of the machine's.
    boottime_ahead: i64,
}

/// An issuer that sees the same clock; killed when dropped.
pub struct Issuer {
    pub url: String,
    _process: KillOnDrop,
}

impl FakeClock {
    pub fn new() -> Self {
        let mut home = Sandbox::new();
        home.set("LD_PRELOAD", parts::library(LIBRARY));
        home.set("FAKETIME_TIMESTAMP_FILE", home.agent_readable("wall-clock"));
        home.set("FAKETIME_NO_CACHE", "1");
        home.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        std::fs::write(home.path().join("boot-id"), std::fs::read(BOOT_ID).expect("readable")).expect("written");
        let clock = Self { home, ahead: 0, boottime_ahead: 0 };
        clock.write();
        clock
    }

    /// Replaces the file that every process of this home reads each time it reads the clock.
    fn write(&self) {
        let fresh = self.home.agent_readable("wall-clock.new");
        std::fs::write(&fresh, format!("{:+}\n", self.ahead)).expect("written");
        std::fs::rename(fresh, self.home.agent_readable("wall-clock")).expect("renamed");
    }

    /// Moves the wall clock, as `date -s` does: boot time is not affected.
    pub fn set_wall_clock(&mut self, seconds: i64) {
        self.ahead += seconds;
        self.write();
    }

    /// Advances the boot time only.
    pub fn advance_boottime(&mut self, seconds: i64) {
        self.boottime_ahead += seconds;
    }

    /// Suspends the machine: wall clock and boot time advance, the monotonic clock does not.
    pub fn suspend(&mut self, seconds: i64) {
        self.set_wall_clock(seconds);
        self.advance_boottime(seconds);
    }

    /// Reboots the machine: another boot ID, and a boot time of one minute.
    pub fn reboot(&mut self) {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("a UUID");
        std::fs::write(self.home.path().join("boot-id"), id).expect("written");
        let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
        self.boottime_ahead = 60 - uptime;
    }

    /// Runs authctl with this wall clock, boot time and boot ID.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> CommandOutput {
        let script = format!("mount --bind boot-id {BOOT_ID} && exec \"$@\"");
        let boottime = format!("--boottime={}", self.boottime_ahead);
        // Without root, a user namespace is needed for the others.
        let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
        let namespaces = ["--fork", "--mount", "--time", &boottime, "--", "sh", "-c", &script, "sh"];
        let check = [user, &namespaces[..], &["true"]].concat();
        if let Err(refused) = output_of(&mut self.home.command_for("unshare", &check)) {
            panic!("`unshare --time` does not work here: {refused}");
        }
        let args = [user, &namespaces[..], &[AUTHCTL], args].concat();
        self.home.run_command(&mut self.home.command_for("unshare", &args))
    }

    /// Starts an issuer whose access tokens are valid for `ttl`.
    pub fn issuer(&self, ttl: &str) -> Issuer {
        std::fs::write(self.home.path().join("users"), format!("{USER}:{PASSWORD}\n")).expect("written");
        let args = ["dev-issuer", "--users", "users", "--algorithm", "ES256", "--access-token-ttl", ttl, "--json"];
        let mut command: Command = self.home.command(&args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = KillOnDrop(command.spawn().expect("the issuer starts"));
        let line = Lines::of(process.0.stdout.take().expect("piped")).next().expect("a line");
        let started: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        Issuer { url: started["issuer"].as_str().expect("a URL").to_owned(), _process: process }
    }

    /// Logs in by password as the profile `name`.
    #[track_caller]
    pub fn log_in(&self, name: &str, issuer: &Issuer) {
        let args = ["login", name, "--issuer", &issuer.url, "--client-id", "authctl", "--username", USER];
        let args = [&args[..], &["--password", "--password-stdin"]].concat();
        self.home.run_with(&args, &format!("{PASSWORD}\n")).exits(0);
    }
}
