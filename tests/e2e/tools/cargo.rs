//! cargo with a private registry.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Setup, fails, succeeds};

/// Returns cargo itself: a proxy of its name may look for toolchains in the home.
fn cargo(setup: &Setup, project: &Path, words: &[&str]) -> Command {
    let mut cargo = setup.command(env!("CARGO"));
    cargo.args(words).current_dir(project);
    // Beside cargo.
    let tools = Path::new(env!("CARGO")).parent().unwrap();
    cargo.env("RUSTC", tools.join("rustc"));
    cargo
}

/// Writes a crate.
fn write_crate(dir: &Path, name: &str, dependencies: &str, source: (&str, &str)) {
    fs::create_dir_all(dir.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n\n[dependencies]\n{dependencies}"
    );
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    fs::write(dir.join("src").join(source.0), source.1).unwrap();
}

#[test]
fn cargo_builds_with_a_crate_from_a_private_registry() {
    let setup = Setup::new();
    let library = setup.home.path().join("library");
    write_crate(&library, "greeting", "", ("lib.rs", "pub fn hello() -> &'static str { \"hello\" }\n"));
    succeeds(&mut cargo(&setup, &library, &["package", "-q", "--offline", "--no-verify"]));
    let package = library.join("target/package/greeting-1.0.0.crate");
    let (crates, index) = (setup.root().join("crates"), setup.root().join("index/gr/ee"));
    fs::create_dir_all(&crates).unwrap();
    fs::create_dir_all(&index).unwrap();
    fs::copy(&package, crates.join("greeting.crate")).unwrap();
    let sum = succeeds(Command::new("sha256sum").arg(&package));
    let checksum = sum.split(' ').next().unwrap();
    let entry = format!(
        r#"{{"name":"greeting","vers":"1.0.0","deps":[],"cksum":"{checksum}","features":{{}},"yanked":false}}"#
    );
    fs::write(index.join("greeting"), entry).unwrap();

    let project = setup.home.path().join("project");
    write_crate(
        &project,
        "app",
        "greeting = { version = \"1\", registry = \"own\" }\n",
        ("main.rs", "fn main() { println!(\"{}\", greeting::hello()); }\n"),
    );
    let configuration = format!("[registries.own]\nindex = \"sparse+http://{}/index/\"\n", setup.host);
    fs::create_dir_all(project.join(".cargo")).unwrap();
    fs::write(project.join(".cargo/config.toml"), configuration).unwrap();
    let build = || cargo(&setup, &project, &["run", "-q"]);
    let error = fails(&mut build());
    assert!(error.contains("credential"), "{error}");
    setup.set_up("cargo");
    let token = setup.home.token("work");
    assert_eq!(succeeds(&mut build()), "hello\n");
    let requests = setup.requests();
    assert!(
        requests.iter().any(|request| request[..2] == ["200", "Bearer"] && request[4].starts_with("/crates/")),
        "{requests:?}"
    );
    setup.assert_no_token_in_files(&token);

    setup.home.run(&["logout", "work"]).exits(0);
    fs::remove_dir_all(setup.home.path().join(".cargo/registry")).unwrap();
    fs::remove_file(project.join("Cargo.lock")).unwrap();
    let error = fails(&mut build());
    assert!(error.contains("authctl login work"), "{error}");
}
