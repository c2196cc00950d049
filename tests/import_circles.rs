//! Checks that no file of `src` imports a file that imports it, directly or through others.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A path such as `crate::store::Store`, as segments.
type Segments = Vec<String>;

struct Module {
    file: String,
    /// What the file uses, but for re-exports.
    imports: Vec<Segments>,
    /// Re-exported names with the paths behind them.
    exports: BTreeMap<String, Segments>,
}

fn source_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            source_files(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" && name != "testing.rs" {
            found.push(path);
        }
    }
}

/// Returns the code without unit tests, comments and the contents of strings.
fn code(text: &str) -> String {
    let is_tests = |line: &str| line.starts_with("pub(crate) mod tests {") || line.starts_with("mod tests {");
    let lines = text.lines().take_while(|line| !is_tests(line)).map(|line| line.split("//").next().unwrap_or_default());
    lines.map(|line| line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")).collect::<Vec<_>>().join("\n")
}

/// Expands `a::{b, c::{d, e as f}}` to `a::b`, `a::c::d` and `a::c::e`, each with the name that it introduces.
fn expand(tree: &str, prefix: &[String], found: &mut Vec<(Segments, String)>) {
    let tree = tree.trim();
    if let Some((head, list)) = tree.split_once('{').filter(|(head, _)| !head.contains(',')) {
        let mut prefix = prefix.to_vec();
        prefix.extend(head.split("::").map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()));
        let (mut depth, mut start) = (0, 0);
        let list = list.rsplit_once('}').map_or(list, |(list, _)| list);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&list[start..at], &prefix, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        expand(&list[start..], &prefix, found);
    } else if !tree.is_empty() {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let mut segments = prefix.to_vec();
        segments.extend(path.split("::").map(|s| s.trim().to_owned()).filter(|s| s != "self" || prefix.is_empty()));
        let name = if name.is_empty() { segments.last().cloned().unwrap_or_default() } else { name.trim().to_owned() };
        found.push((segments, name));
    }
}

fn read_module(file: String, text: &str) -> Module {
    let mut module = Module { file, imports: Vec::new(), exports: BTreeMap::new() };
    let mut rest = String::new();
    for statement in code(text).split_inclusive(';') {
        let at = ["use ", "pub use ", "pub(super) use ", "pub(crate) use "].iter().find_map(|keyword| {
            let at = statement.rfind(&format!("\n{keyword}"))?;
            Some((at, at + 1 + keyword.len(), keyword.starts_with("pub")))
        });
        let Some((before, start, is_export)) = at else {
            rest.push_str(statement);
            continue;
        };
        rest.push_str(&statement[..before]);
        let mut found = Vec::new();
        expand(statement[start..].trim_end_matches(';'), &[], &mut found);
        if is_export {
            module.exports.extend(found.into_iter().map(|(path, name)| (name, path)));
        } else {
            module.imports.extend(found.into_iter().map(|(path, _)| path));
        }
    }
    // Paths in the code itself.
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = rest.split(|c| !is_word(c)).filter(|word| word.contains("::"));
    module.imports.extend(words.map(|word| word.split("::").map(str::to_owned).collect()));
    module
}

fn modules() -> BTreeMap<Segments, Module> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    let read = |path: PathBuf| {
        let relative = path.strip_prefix(&src).expect("below src").to_string_lossy().into_owned();
        let module = relative.trim_end_matches(".rs").trim_end_matches("/mod");
        let segments = if module == "lib" { Vec::new() } else { module.split('/').map(str::to_owned).collect() };
        (segments, read_module(relative, &fs::read_to_string(&path).expect("readable")))
    };
    files.into_iter().filter(|path| !path.ends_with("src/main.rs")).map(read).collect()
}

/// Returns the module that defines what `path` names in module `from`, if it is a module of this crate.
fn resolve(modules: &BTreeMap<Segments, Module>, from: &Segments, path: &[String], depth: u32) -> Option<Segments> {
    let mut at = from.clone();
    let mut path = path;
    match path.first()?.as_str() {
        "crate" => at.clear(),
        "self" => {}
        "super" => {
            at.pop();
        }
        first => {
            let child = [&at[..], &[first.to_owned()]].concat();
            if !modules.contains_key(&child) {
                return None;
            }
            at = child;
        }
    }
    path = &path[1..];
    while let Some((name, remaining)) = path.split_first() {
        let child = [&at[..], std::slice::from_ref(name)].concat();
        if name == "super" {
            at.pop();
        } else if modules.contains_key(&child) {
            at = child;
        } else if let Some(target) = modules.get(&at).and_then(|module| module.exports.get(name)).filter(|_| depth > 0)
        {
            let target = [&target[..], remaining].concat();
            return resolve(modules, &at, &target, depth - 1);
        } else {
            break;
        }
        path = remaining;
    }
    Some(at)
}

fn reachable(graph: &BTreeMap<&str, BTreeSet<&str>>, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut pending = vec![from];
    while let Some(file) = pending.pop() {
        for next in graph.get(file).into_iter().flatten() {
            if seen.insert((*next).to_owned()) {
                pending.push(next);
            }
        }
    }
    seen
}

#[test]
fn no_file_is_part_of_an_import_circle() {
    let modules = modules();
    assert!(modules.len() > 50, "the sources were found");
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (segments, module) in &modules {
        let targets = module.imports.iter().filter_map(|path| resolve(&modules, segments, path, 8));
        let files = targets.filter(|target| target != segments).filter_map(|target| modules.get(&target));
        graph.insert(&module.file, files.map(|module| module.file.as_str()).collect());
    }
    let reach: BTreeMap<&str, BTreeSet<String>> = graph.keys().map(|file| (*file, reachable(&graph, file))).collect();
    let mut circles = BTreeSet::new();
    for (file, targets) in &reach {
        let circle: Vec<&str> = targets.iter().map(String::as_str).filter(|t| reach[*t].contains(*file)).collect();
        if targets.contains(*file) {
            circles.insert(circle.join(" "));
        }
    }
    let list: Vec<String> = circles.into_iter().collect();
    assert!(list.is_empty(), "files that import each other, one circle a line:\n{}", list.join("\n"));
}
