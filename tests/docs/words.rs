//! The language of what users read: help, manual pages, golden files and the README.

use std::fs;
use std::path::Path;

use authctl::cli::Cli;
use clap::{Command, CommandFactory as _};

use crate::{files, read, root};

/// Words that are wrong wherever they stand, with the right one.
const WRONG_WORDS: [(&str, &str); 17] = [
    ("anew", "again"),
    ("at hand", "available"),
    ("lack", "is missing"),
    ("lacks", "is missing"),
    ("meanwhile", "in the meantime"),
    ("nobody", "no user"),
    ("renew", "refresh"),
    ("renewal", "refresh"),
    ("renewed", "refreshed"),
    ("renews", "refreshes"),
    ("said", "reported"),
    ("setback", "failure"),
    ("somebody", "the user"),
    ("tells", "reports"),
    ("told", "reported"),
    ("went wrong", "failed"),
    ("whoever", "the caller"),
];

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
        let letters = line.to_lowercase().replace(|c: char| !c.is_alphanumeric(), " ");
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
    let mut texts = vec![("README.md".to_owned(), read("README.md"))];
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
