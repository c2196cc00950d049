//! A machine of its own, User Mode Linux, whose clock can be set and which can be put to sleep, on this machine's files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::keyring::needs;
use crate::support::AUTHCTL;

/// What every machine begins with: its file systems, its network, a home in its memory, an issuer and words for the rest.
const BEGIN: &str = r#"
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /run
ip link set lo up 2>/dev/null || ifconfig lo up
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/run/home XDG_RUNTIME_DIR=/run/user AUTHCTL_STORE=file
mkdir -m 700 /run/home /run/user
echo developer:password > /run/users

# What the test reads.
tell() { echo "$*" >> "$HERE/told"; }
# Looks until the command succeeds, for half a minute.
comes() { n=0; until "$@"; do n=$((n + 1)); [ $n -lt 300 ] || { tell "never came: $*"; cat /run/agent.log; "$AUTHCTL" status; poweroff -f; }; sleep 0.1; done; }
# An issuer whose tokens live so long; its URL.
issuer() {
    "$AUTHCTL" dev-issuer --users /run/users --algorithm ES256 --access-token-ttl "$1" --json > "/run/issuer-$1" &
    comes grep -q issuer "/run/issuer-$1"
    URL=$(grep -o 'http://127.0.0.1:[0-9]*' "/run/issuer-$1" | head -n 1)
}
log_in() { echo password | "$AUTHCTL" login "$1" --issuer "$URL" --client-id authctl --username developer --password-stdin --password; }
# Sleeps so many seconds as far as its programs can tell: User Mode Linux suspends, wakes at once, and is set to the moment
# at which it would have been woken. What measures time that has passed has stood still.
suspend() { echo mem > /sys/power/state && date -s "+$1 seconds"; }
"#;

/// How long a machine may take for all that it does. Reached only where the test fails.
const LIMIT: Duration = Duration::from_secs(90);

/// A machine that is on; switched off when dropped.
pub struct Machine {
    kernel: Child,
    here: PathBuf,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.kernel.kill();
        let _ = self.kernel.wait();
    }
}

impl Machine {
    /// Boots a machine that does what `script` says and switches itself off. `here` is a directory that it shares.
    pub fn boots(here: &Path, script: &str) -> Self {
        needs(&["linux"]);
        let init = here.join("init");
        let head = format!("#!/bin/sh\nHERE={}\nAUTHCTL={AUTHCTL}\nexec > $HERE/log 2>&1\n", here.display());
        std::fs::write(&init, format!("{head}{BEGIN}{script}\ntell done\npoweroff -f\n")).expect("written");
        std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        std::fs::write(here.join("told"), "").expect("written");
        let mut command = Command::new("linux");
        command.args(["mem=256M", "quiet", "root=98:0", "rootfstype=hostfs", "rootflags=/", "rw", "con=null"]);
        // It keeps notes of itself in its home, and its memory in a file there: shared memory may be scarce.
        command
            .arg(format!("init={}", init.display()))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", here)
            .env("TMPDIR", here);
        let streams = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { kernel: streams.spawn().expect("the machine boots"), here: here.to_owned() }
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.here.join(name)).unwrap_or_default()
    }

    /// What it told when it has switched itself off.
    #[track_caller]
    pub fn wait(mut self) -> Vec<String> {
        let begun = Instant::now();
        while self.kernel.try_wait().expect("waited").is_none() {
            assert!(begun.elapsed() < LIMIT, "it did not end\n{}\n{}", self.read("told"), self.read("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
        let told = self.read("told");
        let all = told.strip_suffix("done\n").unwrap_or_else(|| panic!("{told}\n{}", self.read("log")));
        all.lines().map(str::to_owned).collect()
    }
}
