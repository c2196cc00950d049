//! The documents that commands print with `--json`, checked against their schemas in `man/json`. [`Sandbox`](super::Sandbox)
//! checks every command that a test runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use authctl::cli::Cli;
use boon::{Compiler, SchemaIndex, Schemas};
use clap::CommandFactory as _;
use serde_json::Value;

/// Every schema, and which of them is whose.
struct Documents {
    schemas: Schemas,
    error: SchemaIndex,
    by_command: BTreeMap<String, SchemaIndex>,
}

fn documents() -> &'static Documents {
    static DOCUMENTS: OnceLock<Documents> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        let mut commands = Vec::new();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("man/json")).expect("the schemas") {
            let path = entry.expect("readable").path();
            let schema: Value = serde_json::from_str(&fs::read_to_string(&path).expect("readable")).expect("JSON");
            let url = format!("file:///{}", path.file_name().expect("a name").to_string_lossy());
            for command in schema["commands"].as_array().expect("commands") {
                commands.push((command.as_str().expect("words").to_owned(), url.clone()));
            }
            compiler.add_resource(&url, schema).expect("a schema");
        }
        let mut compile = |url: &str| compiler.compile(url, &mut schemas).unwrap_or_else(|e| panic!("{url}: {e}"));
        let error = compile("file:///error.json");
        let by_command = commands.into_iter().map(|(command, url)| (command, compile(&url))).collect();
        Documents { schemas, error, by_command }
    })
}

/// Fails the test unless every document that a command printed is valid by its schema.
#[track_caller]
pub fn assert_valid(args: &[&str], stdout: &str, stderr: &str) {
    let own: Vec<&str> = args.iter().copied().take_while(|arg| *arg != "--").collect();
    if !own.contains(&"--json") && !own.contains(&"--batch") {
        return;
    }
    for line in complete_lines(stderr).filter(|line| line.starts_with('{')) {
        assert_line(args, line, documents().error);
    }
    let Ok(matches) = Cli::command().try_get_matches_from([&["authctl"], args].concat()) else { return };
    let (mut words, mut inner) = (Vec::new(), &matches);
    while let Some((name, matches)) = inner.subcommand() {
        words.push(name);
        inner = matches;
    }
    let mut command = words.join(" ");
    if own.contains(&"--follow") {
        command.push_str(" --follow");
    }
    // What another program prints is not checked.
    let is_own = |line: &&str| command != "exec" || line.starts_with("{\"valid\":false");
    for line in complete_lines(stdout).filter(is_own) {
        let schema = documents().by_command.get(&command);
        let schema = schema.unwrap_or_else(|| panic!("no schema in man/json has the command `{command}`: {line}"));
        assert_line(args, line, *schema);
    }
}

/// Returns the lines but for one that is cut off, because the command was killed.
fn complete_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'))
}

#[track_caller]
fn assert_line(args: &[&str], line: &str, schema: SchemaIndex) {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{args:?} printed no JSON: {e}: {line}"));
    if let Err(error) = documents().schemas.validate(&value, schema) {
        panic!("{args:?}: {error:#}\n{line}");
    }
}
