//! The tests that SECURITY.md and tests/README.md name, and the dependencies in SECURITY.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{read, root};

/// Returns the rows of the tables below a heading of a document, up to the next of its kind, as cells.
fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let (_, section) = text.split_once(&format!("## {heading}\n")).expect("the section");
    let section = section.split("\n## ").next().expect("a section");
    let lines = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// Returns the words between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Returns the names of the functions in the sources below a directory.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            // `#[test]` or `#[tokio::test]`.
            let tests = text.split("test]\n").skip(1).filter_map(|rest| rest.split_once("fn ")?.1.split_once('('));
            found.extend(tests.map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn each_defense_and_promise_names_tests_that_exist() {
    let mut tests = BTreeSet::new();
    ["src", "tests"].iter().for_each(|dir| functions(&root().join(dir), &mut tests));
    assert!(tests.len() > 500, "{} tests", tests.len());
    for (document, heading, cells) in [
        ("SECURITY.md", "Attackers, and the tests of each defense", 3),
        ("tests/README.md", "Promises, and the tests of each", 2),
    ] {
        let rows = rows(document, heading);
        assert!(rows.len() > 10, "{document}: {} rows", rows.len());
        for row in &rows[1..] {
            assert_eq!(row.len(), cells, "{document}: {row:?}");
            let names = row.last().expect("a cell");
            assert!(quoted(names).count() > 0, "{document}: no test: {row:?}");
            for name in quoted(names) {
                assert!(tests.contains(name) || root().join(name).is_file(), "{document} names no test: {name}");
            }
        }
    }
}

#[test]
fn each_dependency_is_argued_in_security_md() {
    let manifest: toml_edit::DocumentMut = read("Cargo.toml").parse().expect("TOML");
    let names = |table: Option<&toml_edit::Item>| -> BTreeSet<String> {
        table
            .and_then(toml_edit::Item::as_table_like)
            .into_iter()
            .flat_map(|table| table.iter())
            .map(|(name, _)| name.to_owned())
            .collect()
    };
    let mut shipped = names(manifest.get("dependencies"));
    let mut others = &names(manifest.get("dev-dependencies")) | &names(manifest.get("build-dependencies"));
    for (_, target) in manifest["target"].as_table_like().expect("targets").iter() {
        shipped.extend(names(target.get("dependencies")));
        others.extend(names(target.get("dev-dependencies")));
    }
    others.retain(|name| !shipped.contains(name));
    let rows = rows("SECURITY.md", "Dependencies");
    assert!(rows.iter().flatten().all(|cell| !cell.is_empty()), "an empty cell: {rows:?}");
    let of = |cells: usize| -> BTreeSet<String> {
        let rows = rows.iter().filter(|row| row.len() == cells && row[0] != "crate");
        rows.flat_map(|row| quoted(&row[0]).map(str::to_owned)).collect()
    };
    assert_eq!(of(3), shipped, "the first table of SECURITY.md has each dependency of Cargo.toml, and no other");
    assert_eq!(of(2), others, "the second table has each dependency of the tests");
}
