//! Checks the architecture against the source: imports between modules, reserved crates, and exposed secrets.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// Each module with its layer. A file imports only from its own module and from lower layers.
const LAYERS: [(&str, u8); 28] = [
    ("broker", 1),
    ("secret", 0),
    ("clock", 0),
    ("text", 0),
    ("process", 0),
    ("paths", 2),
    ("fs", 2),
    ("model", 2),
    ("ui", 2),
    ("agent/protocol", 3),
    ("cli", 4),
    ("config", 3),
    ("store", 3),
    ("oauth", 3),
    ("verify", 3),
    ("dev_issuer", 3),
    ("session", 4),
    ("error", 5),
    ("login", 6),
    ("status", 6),
    ("agent/server", 7),
    ("agent", 7),
    ("app", 7),
    ("mcp", 7),
    ("proxy", 7),
    ("cmd", 8),
    ("lib", 9),
    ("main", 10),
];

/// Crates that only these modules may use.
const RESERVED: [(&str, &[&str]); 19] = [
    ("reqwest", &["oauth"]),
    ("rustls", &["oauth"]),
    ("keyring_core", &["store"]),
    ("dbus_secret_service_keyring_store", &["store"]),
    ("apple_native_keyring_store", &["store"]),
    ("age", &["store"]),
    ("jsonwebtoken", &["verify", "dev_issuer", "oauth"]),
    ("clap", &["cli", "lib"]),
    (
        "tokio",
        &[
            "broker",
            "clock",
            "fs",
            "store",
            "oauth",
            "dev_issuer",
            "session",
            "agent/server",
            "app",
            "cmd",
            "mcp",
            "proxy",
        ],
    ),
    ("hyper", &["oauth", "dev_issuer", "agent/server", "proxy", "cmd"]),
    ("argon2", &["dev_issuer", "agent/server"]),
    ("notify", &["agent/server"]),
    ("nix", &["agent/protocol", "agent/server", "app", "cmd", "fs", "paths"]),
    ("landlock", &["agent/server"]),
    ("seccompiler", &["agent/server"]),
    ("listenfd", &["cmd"]),
    ("sd_notify", &["cmd"]),
    ("miniz_oxide", &["verify", "dev_issuer", "oauth"]),
    ("percent_encoding", &["agent/protocol", "agent/server", "model", "paths", "proxy"]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.ends_with("tests") {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Returns the path below `src`, the module and the text of each source file, except test files.
fn files() -> Vec<(PathBuf, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&src, &mut found);
    assert!(found.len() > 20, "the sources were found");
    found
        .into_iter()
        .filter(|path| !path.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs"))
        .map(|path| {
            let below = path.strip_prefix(&src).expect("below src").to_owned();
            let first = below.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
            let second = below.components().nth(1).map(|name| name.as_os_str().to_string_lossy().into_owned());
            let module = match second.filter(|name| first == "agent" && !name.ends_with(".rs")) {
                Some(second) => format!("{first}/{second}"),
                None => first.strip_suffix(".rs").unwrap_or(&first).to_owned(),
            };
            let text = fs::read_to_string(&path).expect("readable");
            (below, module, text)
        })
        .collect()
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

/// Returns the layer of a module.
fn layer(module: &str) -> u8 {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .unwrap_or_else(|| panic!("`{module}` has no layer: add it to LAYERS"))
        .1
}

/// Returns the modules that a file names as `crate::module` or in `use crate::{module, ...}`.
fn imports(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default().split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for name in names {
            let mut parts = name
                .split("::")
                .map(|part| part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>());
            let first = parts.next().unwrap_or_default();
            modules.push(match parts.next() {
                Some(second) if first == "agent" => format!("{first}/{second}"),
                _ => first,
            });
        }
    }
    modules
}

#[test]
fn files_import_only_from_lower_layers() {
    let mut wrong = Vec::new();
    for (path, module, text) in files() {
        for imported in imports(without_tests(&text)) {
            if imported == module || !LAYERS.iter().any(|(name, _)| *name == imported) {
                continue;
            }
            if layer(&imported) >= layer(&module) {
                wrong.push(format!(
                    "{} (layer {}) imports {imported} (layer {})",
                    path.display(),
                    layer(&module),
                    layer(&imported)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn reserved_crates_are_used_only_by_their_modules() {
    let mut wrong = Vec::new();
    for (path, module, text) in files() {
        let text = without_tests(&text);
        for (name, modules) in RESERVED {
            let own = |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':');
            let named = text.match_indices(&format!("{name}::")).any(|(at, _)| own(at))
                || text.contains(&format!("use {name};"));
            if named && !modules.contains(&module.as_str()) {
                wrong.push(format!("{} uses {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn secrets_are_exposed_only_in_listed_files() {
    // The files and modules that may call `expose()`. A new entry needs a review.
    const FILES: [&str; 38] = [
        "secret.rs",
        "broker.rs",
        "agent/server/ask_login.rs",
        "agent/server/broker.rs",
        "model/registration.rs",
        "model/session/stored.rs",
        "model/trust.rs",
        "agent/protocol/client.rs",
        "agent/protocol/messages.rs",
        "agent/server/response.rs",
        "agent/server/lock_state.rs",
        "agent/server/lock_requests.rs",
        "agent/server/handlers.rs",
        "agent/server/route.rs",
        "app/agent.rs",
        "app/api_credentials.rs",
        "app/passphrase.rs",
        "app/token.rs",
        "config/layers.rs",
        "fs/token_file.rs",
        "cmd/token.rs",
        "cmd/exec.rs",
        "cmd/exec/file.rs",
        "cmd/helper/aws.rs",
        "cmd/helper/setup/files.rs",
        "cmd/login/messages.rs",
        "cmd/login/stdin.rs",
        "cmd/mcp/credentials.rs",
        "cmd/verify.rs",
        "cmd/whoami.rs",
        "session/remedy.rs",
        "proxy/caller.rs",
        "cmd/proxy.rs",
        "cmd/proxy/credentials.rs",
        "cmd/proxy/key_file.rs",
        "cmd/proxy/registry.rs",
        "cmd/exec/proxy.rs",
        "cmd/headers.rs",
    ];
    const MODULES: [&str; 4] = ["store", "oauth", "verify", "dev_issuer"];
    const SESSION_FILES: [&str; 16] = [
        "session/commit_refresh.rs",
        "session/declined_logins.rs",
        "session/received_tokens.rs",
        "session/refresh_policy.rs",
        "session/limited_command.rs",
        "session/login.rs",
        "session/logout.rs",
        "session/send_refresh.rs",
        "session/session_end.rs",
        "session/store_key.rs",
        "session/token_file_records.rs",
        "session/token_response.rs",
        "session/trust.rs",
        "session/trust_update.rs",
        "session/verifier.rs",
        "session/workload.rs",
    ];
    const ISSUER_COMMANDS: [&str; 3] = ["cmd/demo.rs", "cmd/demo/agent.rs", "cmd/dev_issuer.rs"];
    for (path, module, text) in files() {
        let name = path.to_string_lossy().into_owned();
        let may_expose = FILES.contains(&&*name)
            || MODULES.contains(&&*module)
            || SESSION_FILES.contains(&&*name)
            || ISSUER_COMMANDS.contains(&&*name);
        assert!(may_expose || !without_tests(&text).contains(".expose()"), "{name} exposes a secret");
    }
}

#[test]
fn each_file_starts_with_a_doc_comment() {
    for (path, _, text) in files() {
        assert!(text.starts_with("//! "), "{} does not start with `//!`", path.display());
    }
}
