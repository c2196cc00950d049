//! The manual pages and completions, rendered from the command line's definition, and the README's providers, from the
//! presets: fails when the files are not what would be rendered now, and rewrites them with `BLESS=1`.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use authctl::cli::Cli;
use authctl::error::EXIT_CODES;
use authctl::model::{Grant, PROVIDERS, Provider, ProviderIssuer};
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

/// The README's part between these is rendered from the presets.
const PROVIDERS_BEGIN: &str = "<!-- providers -->\n";
const PROVIDERS_END: &str = "<!-- /providers -->";

fn providers() -> String {
    let mut text = String::from(
        "| provider | issuer | logs in with | client secret | redirect to register | access token | what it cannot do |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for provider in PROVIDERS {
        text.push_str(&provider_row(provider));
    }
    text.push('\n');
    for provider in PROVIDERS {
        let Provider { name, title, register, documentation, .. } = provider;
        let pages: Vec<String> = documentation.iter().map(|(page, url)| format!("[{page}]({url})")).collect();
        let checked = if pages.is_empty() { String::new() } else { format!(" Checked: {}.", pages.join(", ")) };
        text.push_str(&format!("- {title} (`{name}`). {register}{checked}\n"));
    }
    text
}

fn provider_row(provider: &Provider) -> String {
    let issuer = match provider.issuer {
        ProviderIssuer::Fixed(issuer) => format!("`{issuer}`"),
        ProviderIssuer::Default(issuer) => format!("`{issuer}`, or yours"),
        ProviderIssuer::Yours { example } => format!("yours: `{example}`"),
    };
    if let Some(why) = provider.unsupported {
        return format!("| `{}` | {issuer} | | | | | {why} |\n", provider.name);
    }
    let grants: Vec<String> = provider.grants.iter().map(|grant| format!("`--{grant}`")).collect();
    // That a service has to prove itself goes without saying.
    let secret_for = provider.secret_for.iter().find(|grant| **grant != Grant::ClientCredentials);
    let secret = match secret_for {
        _ if provider.needs_secret => "yes".to_owned(),
        Some(grant) => format!("only for `--{grant}`"),
        None => "no".to_owned(),
    };
    let redirect =
        if provider.registers_redirect { format!("`{}`", provider.redirect()) } else { "none to register".to_owned() };
    format!(
        "| `{}` | {issuer} | {} | {secret} | {redirect} | {} |{} |\n",
        provider.name,
        grants.join(", "),
        provider.access_token.words(),
        provider.notes.iter().map(|note| format!(" {note}")).collect::<String>(),
    )
}

#[test]
fn the_readme_has_the_providers_as_they_are() {
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path).expect("there");
    let (before, rest) = readme.split_once(PROVIDERS_BEGIN).expect("the README says where the providers begin");
    let (found, after) = rest.split_once(PROVIDERS_END).expect("the README says where the providers end");
    let rendered = providers();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{before}{PROVIDERS_BEGIN}{rendered}{PROVIDERS_END}{after}")).expect("written");
    } else {
        assert!(found == rendered, "README.md is not current: run `BLESS=1 cargo test --test docs`");
    }
    // Nothing told at a login is missing for those who read first.
    for provider in PROVIDERS {
        for sentence in provider.notes.iter().chain(&provider.unsupported) {
            assert!(rendered.contains(sentence), "{sentence}");
        }
        assert_eq!(rendered.matches(&format!("| `{}` |", provider.name)).count(), 1, "{}", provider.name);
    }
    // A row that has a cell too many or too few is drawn askew.
    let cells = |line: &str| line.matches('|').count();
    for row in rendered.lines().take_while(|line| line.starts_with('|')) {
        assert_eq!(cells(row), 8, "{row}");
    }
}
