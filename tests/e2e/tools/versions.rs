//! The versions of the system's tools, as tests use them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::parts;

/// Returns the version that a program prints.
fn version(program: &Path) -> String {
    let option = if program.ends_with("go") { "version" } else { "--version" };
    let output = Command::new(program).arg(option).output().expect("ran");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let words = text.split(|c: char| c.is_whitespace() || "(,/".contains(c));
    let mut numbers = words.map(|word| word.trim_start_matches(['v', 'g', 'o'])).filter(|word| word.contains('.'));
    let number = numbers.find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    number.unwrap_or_else(|| panic!("{}: {text}", program.display())).to_owned()
}

#[test]
fn pages_name_the_versions_of_debian_12() {
    let pages = concat!(include_str!("../../../man/authctl-helper.1"), include_str!("../../../man/authctl-recipes.7"));
    let pages = pages.replace("\\-", "-");
    let is_debian_12 = fs::read_to_string("/etc/debian_version").is_ok_and(|version| version.starts_with("12."));
    for (name, program, is_from_debian) in [
        ("Docker", "docker", true),
        ("Skopeo", "skopeo", true),
        ("docker-registry", "docker-registry", true),
        ("curl", "curl", true),
        ("rclone", "rclone", true),
        ("psql", "psql", true),
        ("msmtp", "msmtp", true),
        ("mbsync", "mbsync", true),
        ("systemd", "systemd-analyze", true),
        ("git", "git", false),
        ("cargo", env!("CARGO"), false),
        ("Python", "python3", false),
        ("Node", "node", false),
        ("Go", "go", false),
    ] {
        let found = version(&parts::program(program));
        println!("{name} {found}");
        let starts = |number: &str| {
            let rest = found.strip_prefix(number.trim_end_matches('.'));
            !number.is_empty() && rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let mut lines = pages.lines().filter(|line| line.contains(name));
        let is_named = lines.any(|line| line.split(|c: char| !c.is_ascii_digit() && c != '.').any(starts));
        assert!(is_named || !is_debian_12 || !is_from_debian, "{name} {found} is not named");
    }
}
