//! What the faults need: a clock that can be set, a file system that can be full, and profiles in a keychain.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicI64, Ordering};

use crate::support::issuer::{PASSWORD, USER};
use crate::support::{Home, Issuer, parts};

/// Set in the process that has its own mounts.
const HAS_NAMESPACE: &str = "AUTHCTL_SOAK_HAS_NAMESPACE";

/// Runs the bench again in a mount namespace of its own, in which it may mount a file system; returns its exit code. `None` if
/// this is that process.
pub fn enter_namespace(args: &[String]) -> Option<ExitCode> {
    if std::env::var_os(HAS_NAMESPACE).is_some() {
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).args(args).env(HAS_NAMESPACE, "1");
    let status = command.status().expect("unshare");
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many seconds the clock of the programs under test is ahead of the machine's.
static OFFSET: AtomicI64 = AtomicI64::new(0);

pub fn clock_offset() -> i64 {
    OFFSET.load(Ordering::Relaxed)
}

/// The wall clock of the programs under test, which Debian's `faketime` reads from a file each time.
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Gives the home a clock of its own.
    pub fn of(home: &mut Home) -> Self {
        // The agent may read the directory of the configuration.
        let directory = home.path().join("config/authctl");
        fs::create_dir_all(&directory).expect("made");
        let clock = Self { file: directory.join("wall-clock") };
        clock.set(0);
        for (name, value) in clock.environment() {
            home.set(name, value);
        }
        clock
    }

    /// Returns the environment of a program with this clock.
    pub fn environment(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("LD_PRELOAD", parts::library("faketime/libfaketimeMT.so.1")),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// Sets the clock, as `date -s` does: by this many seconds ahead of the machine's.
    pub fn set(&self, ahead: i64) {
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{ahead:+}\n")).expect("written");
        fs::rename(next, &self.file).expect("renamed");
        OFFSET.store(ahead, Ordering::Relaxed);
    }
}

/// The directory of shared memory.
const SHARED_MEMORY: &str = "/dev/shm";

/// Has the programs under test share memory with no others: `faketime` names it after the process, and another process that was
/// killed may have had its ID.
pub fn separate_shared_memory() {
    let options = ["-t", "tmpfs", "-o", "mode=1777", "soak", SHARED_MEMORY];
    let mounted = Command::new("mount").args(options).status().expect("mount");
    assert!(mounted.success(), "cannot mount a file system: {mounted}");
}

/// Removes the shared memory of a program that was killed.
pub fn remove_shared_memory(id: u32) {
    for name in [format!("faketime_shm_{id}"), format!("sem.faketime_sem_{id}")] {
        let _ = fs::remove_file(Path::new(SHARED_MEMORY).join(name));
    }
}

/// A small file system for the data of a home.
pub struct Disk {
    directory: PathBuf,
}

impl Disk {
    /// Mounts it.
    pub fn mount(home: &Home) -> Self {
        let directory = home.path().join("data/authctl");
        fs::create_dir_all(&directory).expect("made");
        let options = ["-t", "tmpfs", "-o", "size=8m,mode=700", "soak"];
        let mounted = Command::new("mount").args(options).arg(&directory).status().expect("mount");
        assert!(mounted.success(), "cannot mount a file system: {mounted}");
        Self { directory }
    }

    fn filler(&self) -> PathBuf {
        self.directory.join("filler")
    }

    /// Uses all its space.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.filler()).expect("created");
        for size in [1 << 16, 1 << 12, 1] {
            let piece = vec![0; size];
            loop {
                match file.write(&piece) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Gives the space back.
    pub fn clear(&self) {
        let _ = fs::remove_file(self.filler());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.directory).status();
    }
}

/// Logs in to a profile whose session is in the keychain or in a file.
pub fn log_in(home: &Home, profile: &str, issuer: &Issuer, in_keychain: bool) {
    let store = if in_keychain { "keychain" } else { "file" };
    let args = ["login", profile, "--issuer", &issuer.url, "--client-id", "authctl", "--store", store];
    let account = ["--password", "--username", USER, "--password-stdin"];
    home.must(&[&args[..], &account].concat(), &format!("{PASSWORD}\n"));
}
