//! The house's rules, checked against the source: who may import whom, and who may name which crate.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// Each room with its floor. A file imports only from floors below its own, or from its own room.
const FLOORS: [(&str, u8); 23] = [
    ("secret", 1),
    ("clock", 1),
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
    ("cmd", 8),
    ("lib", 9),
    ("main", 10),
];

/// Crates that only some rooms may name.
const RESERVED: [(&str, &[&str]); 20] = [
    ("reqwest", &["oauth"]),
    ("rustls", &["oauth"]),
    ("rustls_platform_verifier", &["oauth"]),
    ("tower_layer", &["oauth"]),
    ("tower_service", &["oauth"]),
    ("keyring_core", &["store"]),
    ("dbus_secret_service_keyring_store", &["store"]),
    ("apple_native_keyring_store", &["store"]),
    ("age", &["store"]),
    ("jsonwebtoken", &["verify", "dev_issuer", "oauth"]),
    ("clap", &["cli", "lib"]),
    ("tokio", &["clock", "store", "oauth", "dev_issuer", "session", "agent/server", "app", "cmd"]),
    ("hyper", &["oauth", "dev_issuer", "agent/server"]),
    ("argon2", &["dev_issuer", "agent/server"]),
    ("notify", &["agent/server"]),
    ("nix", &["agent/server"]),
    ("listenfd", &["cmd"]),
    ("sd_notify", &["cmd"]),
    ("miniz_oxide", &["verify", "dev_issuer"]),
    ("percent_encoding", &["agent/protocol", "agent/server"]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every source file with its room and its text, the unit tests cut off.
fn files() -> Vec<(PathBuf, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&src, &mut found);
    assert!(found.len() > 20, "the sources are where they are expected");
    found
        .into_iter()
        .filter(|path| !path.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs"))
        .map(|path| {
            let below = path.strip_prefix(&src).expect("below src").to_owned();
            let first = below.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
            let second = below.components().nth(1).map(|name| name.as_os_str().to_string_lossy().into_owned());
            let room = match second.filter(|name| first == "agent" && !name.ends_with(".rs")) {
                Some(second) => format!("{first}/{second}"),
                None => first.strip_suffix(".rs").unwrap_or(&first).to_owned(),
            };
            let text = fs::read_to_string(&path).expect("readable");
            (below, room, text)
        })
        .collect()
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text)
}

fn floor(room: &str) -> u8 {
    FLOORS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("`{room}` has no floor: give it one")).1
}

/// The rooms that a file names as `crate::room` or in `use crate::{room, ...}`.
fn imports(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
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
            rooms.push(match parts.next() {
                Some(second) if first == "agent" => format!("{first}/{second}"),
                _ => first,
            });
        }
    }
    rooms
}

#[test]
fn a_file_imports_only_from_floors_below() {
    let mut wrong = Vec::new();
    for (path, room, text) in files() {
        for imported in imports(without_tests(&text)) {
            if imported == room || !FLOORS.iter().any(|(name, _)| *name == imported) {
                continue;
            }
            if floor(&imported) >= floor(&room) {
                wrong.push(format!(
                    "{} (floor {}) imports {imported} (floor {})",
                    path.display(),
                    floor(&room),
                    floor(&imported)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_crate_is_named_only_where_it_may_be() {
    let mut wrong = Vec::new();
    for (path, room, text) in files() {
        for (name, rooms) in RESERVED {
            let own = |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':');
            let named = text.match_indices(&format!("{name}::")).any(|(at, _)| own(at))
                || text.contains(&format!("use {name};"));
            if named && !rooms.contains(&room.as_str()) {
                wrong.push(format!("{} names {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_secret_is_exposed_only_where_it_is_sent_stored_compared_or_printed() {
    // Each file that may call `expose()`. A new one is a decision, taken here where a reviewer sees it.
    const MAY: [&str; 14] = [
        "secret.rs",
        "model/session.rs",
        "model/trust.rs",
        "agent/protocol/client.rs",
        "agent/server/response.rs",
        "agent/server/lock.rs",
        "agent/server/handlers.rs",
        "agent/server/route.rs",
        "app/agent.rs",
        "cmd/agent.rs",
        "cmd/token.rs",
        "cmd/exec.rs",
        "cmd/login/stdin.rs",
        "cmd/verify.rs",
    ];
    const ROOMS: [&str; 4] = ["store", "oauth", "verify", "dev_issuer"];
    const BROKER: [&str; 8] = [
        "session/commit.rs",
        "session/policy.rs",
        "session/login.rs",
        "session/logout.rs",
        "session/refresh.rs",
        "session/trust.rs",
        "session/trust_update.rs",
        "session/verifier.rs",
    ];
    const ISSUER_COMMANDS: [&str; 3] = ["cmd/demo.rs", "cmd/demo/agent.rs", "cmd/dev_issuer.rs"];
    for (path, room, text) in files() {
        let name = path.to_string_lossy().into_owned();
        let may = MAY.contains(&&*name)
            || ROOMS.contains(&&*room)
            || BROKER.contains(&&*name)
            || ISSUER_COMMANDS.contains(&&*name);
        assert!(may || !without_tests(&text).contains(".expose()"), "{name} exposes a secret");
    }
}

#[test]
fn each_file_says_what_it_is() {
    for (path, _, text) in files() {
        assert!(text.starts_with("//! "), "{} does not open with a sentence", path.display());
    }
}
