//! The language of what users read: help, manual pages, golden files and the documents.

use std::fs;
use std::path::Path;

use authctl::cli::Cli;
use clap::{Command, CommandFactory as _};

use crate::{files, read, root};

/// Words that are wrong wherever they stand, with the right one.
const WRONG_WORDS: [(&str, &str); 46] = [
    ("anew", "again"),
    ("at hand", "available"),
    ("deed", "audit action"),
    ("flight", "in-flight refresh"),
    ("floor", "layer"),
    ("gate", "connection limiter"),
    ("guard", "agent lock"),
    ("hand out", "issue or return"),
    ("handed", "issued or supplied"),
    ("heard", "issuer update"),
    ("house", "architecture"),
    ("how it stands", "state"),
    ("journal", "audit log"),
    ("kept", "stored or cached"),
    ("lack", "is missing"),
    ("lacks", "is missing"),
    ("landing", "outcome"),
    ("lead away", "redirect"),
    ("life left", "expired"),
    ("meanwhile", "in the meantime"),
    ("misfit", "route error"),
    ("nobody", "no user"),
    ("not to be believed", "untrusted"),
    ("out of order", "returned HTTP 503"),
    ("renew", "refresh"),
    ("renewal", "refresh"),
    ("renewed", "refreshed"),
    ("renews", "refreshes"),
    ("room", "module"),
    ("said", "reported"),
    ("say", "report"),
    ("says", "reports"),
    ("setback", "failure"),
    ("somebody", "the user"),
    ("tell", "report"),
    ("telling", "reporting"),
    ("tells", "reports"),
    ("token is over", "expired"),
    ("told", "reported"),
    ("trouble", "error"),
    ("troubles", "errors"),
    ("warm", "cached"),
    ("went wrong", "failed"),
    ("who asks", "the caller"),
    ("whoever", "the caller"),
    ("yet", "still"),
];

/// A phrase that is right in spite of its word.
const RIGHT_PHRASE: &str = "not refreshed yet";

/// Returns the help of a command and of those below it.
fn help(command: &mut Command, texts: &mut Vec<(String, String)>) {
    texts.push((format!("{} --help", command.get_name()), command.render_long_help().to_string()));
    command.get_subcommands_mut().for_each(|inner| help(inner, texts));
}

/// Returns the texts below a directory, if it exists.
fn below(dir: &Path, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => below(&path, texts),
            path => texts.push((path.display().to_string(), fs::read_to_string(&path).expect("text"))),
        }
    }
}

/// Returns the wrong words in a text, with the line.
fn wrong_words(text: &str) -> Vec<String> {
    let words = |line: &str| {
        let letters =
            line.replace(RIGHT_PHRASE, "").to_lowercase().replace(|c: char| !c.is_alphanumeric() && c != '_', " ");
        format!(" {} ", letters.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let in_line = |line: &str| {
        let found = WRONG_WORDS.iter().filter(|(wrong, _)| words(line).contains(&format!(" {wrong} ")));
        found.map(|(wrong, right)| format!("`{wrong}` (write: {right}) in: {line}")).collect::<Vec<_>>()
    };
    text.lines().flat_map(in_line).collect()
}

#[test]
fn text_for_users_has_no_wrong_word() {
    let documents = ["README.md", "SECURITY.md"];
    let mut texts: Vec<(String, String)> = documents.map(|name| (name.to_owned(), read(name))).into();
    help(&mut Cli::command(), &mut texts);
    texts.extend(files("man").map(|path| (path.display().to_string(), read(path))));
    below(&root().join("tests/golden"), &mut texts);
    let found: Vec<String> = texts
        .iter()
        .flat_map(|(place, text)| wrong_words(text).into_iter().map(move |word| format!("{place}: {word}")))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn wrong_words_are_found_as_whole_words() {
    assert_eq!(wrong_words("Nobody is logged in,\nand anew: at\thand").len(), 3);
    assert_eq!(wrong_words("a renewable slack, cut-off"), Vec::<String>::new());
}
