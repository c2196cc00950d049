//! The Debian package: installed, used, upgraded and removed with dpkg, in a root directory of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{AUTHCTL, Sandbox, parts};

/// A root directory with an empty dpkg database.
struct Machine {
    home: Sandbox,
    root: PathBuf,
    files_before: BTreeSet<PathBuf>,
}

impl Machine {
    fn new() -> Self {
        parts::require(&["dpkg", "dpkg-deb", "gzip", "unshare"]);
        let mut home = Sandbox::new();
        // The package is as large as the program with its debugging information.
        home.set("DPKG_DEB_COMPRESSOR_TYPE", "none");
        home.set("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()));
        let root = home.path().join("root");
        for dir in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for file in ["status", "available"] {
            fs::write(root.join("var/lib/dpkg").join(file), "").unwrap();
        }
        let files_before = files(&root);
        Self { home, root, files_before }
    }

    /// Makes a package of the program under test; returns its path.
    #[track_caller]
    fn package(&self, version: &str) -> PathBuf {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/deb");
        let home = self.home.path().to_str().unwrap();
        self.home.run_command(&mut self.home.command_for(script, &[AUTHCTL, home, version])).exits(0);
        let name = |path: &PathBuf| path.to_str().unwrap().contains(&format!("/authctl_{version}_"));
        let mut packages = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()).filter(name);
        packages.next().expect("a package")
    }

    /// Runs dpkg for the root directory, as the root of a user namespace. Its dependencies are not installed there.
    #[track_caller]
    fn dpkg(&self, args: &[&str]) -> String {
        let root = format!("--root={}", self.root.display());
        let dpkg = ["--user", "--map-root-user", "dpkg", &root, "--force-depends", "--log=/dev/null"];
        self.home.run_command(&mut self.home.command_for("unshare", &[&dpkg, args].concat())).exits(0).stdout
    }

    /// Runs the installed program.
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let program = self.root.join("usr/bin/authctl");
        self.home.run_command(&mut self.home.command_for(program, args)).exits(0).stdout
    }

    fn installed(&self) -> BTreeSet<PathBuf> {
        files(&self.root).difference(&self.files_before).cloned().collect()
    }
}

/// Returns every file and directory below `root`, but for dpkg's own.
fn files(root: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut dirs) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("var/lib/dpkg") {
                continue;
            }
            if path.is_dir() {
                dirs.push(path.clone());
            }
            found.insert(path.strip_prefix(root).unwrap().to_owned());
        }
    }
    found
}

#[test]
fn package_is_installed_used_upgraded_and_removed() {
    let machine = Machine::new();
    let first = machine.package("0.0.1-1");
    machine.dpkg(&["--install", first.to_str().unwrap()]);
    let installed = machine.installed();
    assert!(machine.run(&["--version"]).starts_with("authctl "));
    assert!(machine.run(&["status"]).contains("no profiles"));
    machine.run(&["demo"]);
    let second = machine.package("0.0.2-1");
    machine.dpkg(&["--install", second.to_str().unwrap()]);
    assert!(machine.dpkg(&["--list", "authctl"]).contains("0.0.2-1"));
    assert_eq!(machine.installed(), installed);
    assert!(machine.run(&["--version"]).starts_with("authctl "));
    assert_eq!(machine.dpkg(&["--verify", "authctl"]), "", "no file differs from its checksum");
    machine.dpkg(&["--remove", "authctl"]);
    assert_eq!(machine.installed(), BTreeSet::new());
    assert_eq!(machine.dpkg(&["--audit"]), "");
}

#[test]
fn package_has_program_manual_completions_units_and_licences() {
    let machine = Machine::new();
    let package = machine.package("0.0.1-1");
    machine.dpkg(&["--install", package.to_str().unwrap()]);
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: &str| {
        let path = machine.root.join(path);
        let mut read = match path.extension().is_some_and(|extension| extension == "gz") {
            true => Command::new("gzip"),
            false => Command::new("cat"),
        };
        if read.get_program() == "gzip" {
            read.arg("-dc");
        }
        let output = read.arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", path.display());
        output.stdout
    };
    let mut expected: BTreeSet<PathBuf> = BTreeSet::new();
    let mut same = |path: String, from: PathBuf| {
        assert!(text(&path) == fs::read(&from).unwrap(), "{path} is not {}", from.display());
        expected.insert(path.into());
    };
    for entry in fs::read_dir(source.join("man")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if let Some(section) = name.rsplit('.').next().filter(|section| section.len() == 1) {
            same(format!("usr/share/man/man{section}/{name}.gz"), entry.path());
        }
    }
    for (path, file) in [
        ("bash-completion/completions/authctl", "completions/authctl.bash"),
        ("zsh/vendor-completions/_authctl", "completions/_authctl"),
        ("fish/vendor_completions.d/authctl.fish", "completions/authctl.fish"),
        ("doc/authctl/changelog.gz", "CHANGELOG.md"),
    ] {
        same(format!("usr/share/{path}"), source.join(file));
    }
    same("usr/bin/authctl".into(), AUTHCTL.into());
    let generated =
        ["systemd/user/authctl.service", "systemd/user/authctl.socket"].map(|unit| format!("usr/lib/{unit}"));
    let doc = ["copyright", "changelog.Debian.gz"].map(|file| format!("usr/share/doc/authctl/{file}"));
    for path in generated.iter().chain(&doc) {
        let text = String::from_utf8(text(path)).unwrap();
        for place in [source, machine.home.path()] {
            assert!(!text.contains(place.to_str().unwrap()), "{path} names the machine that built it: {text}");
        }
        expected.insert(path.into());
    }
    let found = machine.installed().into_iter().filter(|path| machine.root.join(path).is_file());
    assert_eq!(found.collect::<BTreeSet<_>>(), expected);
    // The units are those of `agent install`, which names the program by its path here.
    let units = machine.run(&["agent", "install", "--print"]);
    for path in &generated {
        let unit = String::from_utf8(text(path)).unwrap();
        let (exec, others): (Vec<&str>, Vec<&str>) = unit.lines().partition(|line| line.starts_with("ExecStart="));
        assert!(exec.is_empty() != path.ends_with("service"), "{unit}");
        assert!(exec.iter().all(|line| *line == "ExecStart=/usr/bin/authctl agent run"), "{unit}");
        let variables = |line: &&str| line.starts_with("Environment=");
        for line in others.iter().filter(|line| !line.is_empty()) {
            assert!(units.lines().any(|unit| unit == *line) && !variables(line), "{path}: {line}");
        }
    }
    let copyright = String::from_utf8(text(&doc[0])).unwrap();
    assert!(copyright.contains("WITHOUT WARRANTY OF ANY KIND") && copyright.contains("Apache-2.0"), "{copyright}");
}
