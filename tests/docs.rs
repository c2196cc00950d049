//! The manual pages and completions, rendered from the command line's definition: fails when the files in `man/` and
//! `completions/` are not what would be rendered now, and rewrites them with `BLESS=1`.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use authctl::cli::Cli;
use authctl::failure::EXIT_CODES;
use clap::CommandFactory as _;
use clap_complete::Shell;

/// Every generated file by its path in the repository.
fn rendered() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut command = Cli::command();
    command.build();
    pages(&command, "authctl", &mut files);
    for (shell, name) in [(Shell::Bash, "authctl.bash"), (Shell::Zsh, "_authctl"), (Shell::Fish, "authctl.fish")] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "authctl", &mut script);
        files.insert(Path::new("completions").join(name), script);
    }
    files
}

fn pages(command: &clap::Command, name: &str, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    let title: &'static str = name.to_owned().leak();
    let man = clap_mangen::Man::new(command.clone().name(title).display_name(title));
    let mut page = Vec::new();
    man.render(&mut page).expect("rendered");
    page.extend_from_slice(exit_status().as_bytes());
    files.insert(Path::new("man").join(format!("{name}.1")), page);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        pages(sub, &format!("{name}-{}", sub.get_name()), files);
    }
}

fn exit_status() -> String {
    let rows: String = EXIT_CODES.iter().map(|(code, meaning)| format!(".TP\n\\fB{code}\\fR\n{meaning}\n")).collect();
    format!(".SH EXIT STATUS\n{rows}")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn manual_and_completions_are_current() {
    let files = rendered();
    if std::env::var_os("BLESS").is_some() {
        for dir in ["man", "completions"] {
            let _ = fs::remove_dir_all(root().join(dir));
            fs::create_dir_all(root().join(dir)).expect("made");
        }
        for (path, text) in &files {
            fs::write(root().join(path), text).expect("written");
        }
    }
    for (path, text) in &files {
        let found = fs::read(root().join(path)).unwrap_or_default();
        assert!(found == *text, "{} is not current: run `BLESS=1 cargo test --test docs`", path.display());
    }
    for dir in ["man", "completions"] {
        for entry in fs::read_dir(root().join(dir)).expect("there") {
            let path = Path::new(dir).join(entry.expect("an entry").file_name());
            assert!(files.contains_key(&path), "{} is no longer rendered", path.display());
        }
    }
}

#[test]
fn the_readme_has_each_exit_code_in_its_table() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there");
    for (code, meaning) in EXIT_CODES {
        assert!(readme.contains(&format!("| {code} | {meaning} |")), "exit code {code} is not in README.md");
    }
}
