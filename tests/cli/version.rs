//! `--version`, and the build script that finds its commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Sandbox;

#[test]
fn version_has_the_commit_in_every_form() {
    let home = Sandbox::new();
    let json = home.run(&["version", "--json"]).exits(0).json();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(json["version"], version);
    let expected = match json["commit"].as_str() {
        Some(commit) => format!("authctl {version} ({commit})"),
        None => format!("authctl {version}"),
    };
    for args in [&["version"][..], &["--version"], &["-V"]] {
        assert_eq!(home.run(args).exits(0).line(), expected, "{args:?}");
    }
    for args in [["--version", "--json"], ["--json", "-V"]] {
        assert_eq!(home.run(&args).exits(0).json(), json, "{args:?}");
    }
    let help = |args: &[&str]| home.run(args).exits(0).json()["text"].clone();
    assert_eq!(help(&["token", "--help", "--json"]), help(&["help", "token", "--json"]));
}

/// A directory with a compiled build script.
struct Script(tempfile::TempDir);

/// What the script printed: the commit, the version, and the files that have it run again.
#[derive(Debug, PartialEq)]
struct Printed {
    commit: String,
    version: String,
    watched: Vec<PathBuf>,
}

impl Script {
    fn compile() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/build.rs");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition", "2024", "-o"]).arg(dir.path().join("script")).arg(source);
        assert!(rustc.status().expect("rustc").success());
        Self(dir)
    }

    fn run(&self, dir: &Path, variables: &[(&str, &str)]) -> Printed {
        let mut command = Command::new(self.0.path().join("script"));
        command.current_dir(dir).env("CARGO_PKG_VERSION", "1.2.3").envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let values = |begin: &str| -> Vec<String> {
            lines.lines().filter_map(|line| line.strip_prefix(begin)).map(str::to_owned).collect()
        };
        let watched = values("cargo::rerun-if-changed=").into_iter().filter(|path| path != "src/build.rs");
        Printed {
            commit: values("cargo::rustc-env=AUTHCTL_COMMIT=").remove(0),
            version: values("cargo::rustc-env=AUTHCTL_VERSION=").remove(0),
            watched: watched.map(|path| dir.join(path)).collect(),
        }
    }
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=x", "-c", "user.email=x@example.com"]).args(args).current_dir(dir);
    let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("git");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(dir: &Path) {
    git(dir, &["commit", "-q", "--allow-empty", "-m", "x"]);
}

#[track_caller]
fn assert_commit(printed: &Printed, dir: &Path) {
    let commit = git(dir, &["rev-parse", "HEAD"])[..12].to_owned();
    assert_eq!((&printed.commit, &printed.version), (&commit, &format!("1.2.3 ({commit})")));
    assert!(!printed.watched.is_empty() && printed.watched.iter().all(|path| path.exists()), "{printed:?}");
}

#[test]
fn build_without_a_checkout_has_no_commit() {
    let script = Script::compile();
    let place = tempfile::tempdir().unwrap();
    let repository = place.path().join("repository");
    fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "-q"]);
    commit(&repository);
    let below = repository.join("vendor/authctl-1.2.3");
    fs::create_dir_all(&below).unwrap();
    let none = Printed { commit: String::new(), version: "1.2.3".into(), watched: Vec::new() };
    // A tarball, one that is unpacked in the checkout of another project, and a machine without Git.
    assert_eq!(script.run(place.path(), &[]), none);
    assert_eq!(script.run(&below, &[]), none);
    let variable = repository.join(".git").display().to_string();
    assert_eq!(script.run(place.path(), &[("GIT_DIR", &variable)]), none);
    assert_eq!(script.run(&repository, &[("PATH", "/nowhere")]), none);
    // Of a repository without a commit only the files are known that a commit changes.
    let new = place.path().join("new");
    fs::create_dir(&new).unwrap();
    git(&new, &["init", "-q"]);
    let printed = script.run(&new, &[]);
    assert_eq!((printed.commit.as_str(), printed.version.as_str()), ("", "1.2.3"));
}

#[test]
fn build_is_repeated_when_the_commit_moves() {
    let script = Script::compile();
    let place = tempfile::tempdir().unwrap();
    let [main, linked, other] = ["main", "linked", "other"].map(|name| place.path().join(name));
    for repository in [&main, &other] {
        fs::create_dir(repository).unwrap();
        git(repository, &["init", "-q"]);
        commit(repository);
    }
    git(&main, &["worktree", "add", "-q", "-b", "linked", linked.to_str().unwrap()]);
    // The environment of a build in a Git hook.
    let variable = other.join(".git").display().to_string();
    let run = |dir: &Path| script.run(dir, &[("GIT_DIR", &variable), ("GIT_WORK_TREE", "/"), ("GIT_INDEX_FILE", "/x")]);
    let content = |path: &PathBuf| match fs::read_dir(path) {
        Ok(entries) => entries.flat_map(|entry| entry.unwrap().path().into_os_string().into_encoded_bytes()).collect(),
        Err(_) => fs::read(path).unwrap_or_default(),
    };
    let contents = |printed: &Printed| -> BTreeMap<PathBuf, Vec<u8>> {
        printed.watched.iter().map(|path| (path.clone(), content(path))).collect()
    };
    let moves: [&dyn Fn(&Path); 5] = [
        &|dir| commit(dir),
        &|dir| drop(git(dir, &["pack-refs", "--all"])),
        &|dir| commit(dir),
        &|dir| drop(git(dir, &["checkout", "-q", "--detach", "HEAD~1"])),
        &|dir| commit(dir),
    ];
    for dir in [&main, &linked] {
        for reflog in ["true", "false"] {
            git(dir, &["config", "core.logAllRefUpdates", reflog]);
            let branch = format!("branch-{reflog}-{}", dir.file_name().unwrap().display());
            git(dir, &["checkout", "-q", "-b", &branch]);
            if reflog == "false" {
                // Git goes on with a log that exists.
                fs::remove_file(dir.join(git(dir, &["rev-parse", "--git-path", "logs/HEAD"]))).unwrap();
            }
            for step in moves {
                let before = run(dir);
                assert_commit(&before, dir);
                let seen = contents(&before);
                let head = git(dir, &["rev-parse", "HEAD"]);
                step(dir);
                let has_moved = git(dir, &["rev-parse", "HEAD"]) != head;
                assert!(!has_moved || contents(&before) != seen, "{reflog}: {before:?}");
                assert_commit(&run(dir), dir);
            }
        }
    }
}
