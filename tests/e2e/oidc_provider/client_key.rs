//! A client that signs in place of showing a secret (`private_key_jwt`), at a provider that takes each signature once.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{Provider, Somebody};
use crate::agent_support::output_of;
use crate::driver::Desk;
use crate::support::parts;
use crate::support::{CommandOutput, Sandbox};

const KINDS: [(&str, &[&str]); 3] = [
    ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("ed25519", &["-algorithm", "ED25519"]),
];

/// Keys that openssl made, one of each kind.
fn keys(dir: &Path) -> Vec<PathBuf> {
    parts::require(&["openssl"]);
    let make = |(name, args): (&str, &[&str])| {
        let file = dir.join(name);
        output_of(Command::new("openssl").arg("genpkey").args(args).arg("-out").arg(&file)).expect("a key");
        file
    };
    KINDS.map(|(name, args)| make((name, args))).to_vec()
}

fn login(provider: &Provider, home: &Sandbox, key: &Path) -> CommandOutput {
    for line in std::fs::read_to_string(key).expect("text").lines().filter(|line| !line.starts_with("-----")) {
        home.register_secret(line);
    }
    let key = key.to_str().expect("text");
    let more = ["--client-credentials", "--client-auth", "private_key_jwt", "--client-key", key];
    home.run(&provider.login("pkjwt", &more))
}

#[test]
fn a_client_signs_with_a_key_of_each_kind() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = keys(dir.path());
    let mut provider = Provider::start(&json!({"keys": keys}));
    for key in &keys {
        let home = Sandbox::new();
        let told = login(&provider, &home, key).exits(0).stderr;
        assert!(!told.contains("chmod"), "it is nobody else's to read: {told}");
        let first = home.token("work");
        assert!(provider.is_active(&first), "{}", key.display());
        home.expire("work");
        let second = home.token("work");
        assert!(first != second && provider.is_active(&second), "{}: another signature", key.display());
        home.run(&["logout", "work"]).exits(0).reports("the issuer has revoked the tokens");
        assert!(!provider.is_active(&second), "{}", key.display());
    }
    let counts = provider.counts();
    assert_eq!((counts.by_header, counts.by_form, counts.refused.len()), (0, 0, 0), "{counts:?}");
}

#[test]
fn a_key_that_is_another_clients_is_refused() {
    let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let provider = Provider::start(&json!({"keys": keys(dir.path())}));
    for key in keys(other.path()) {
        let home = Sandbox::new();
        login(&provider, &home, &key).exits(5).reports("invalid_client");
        home.run(&["token", "work"]).exits(2);
    }
}

#[test]
fn a_person_signs_in_to_a_client_that_signs() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = keys(dir.path());
    let mut provider = Provider::start(&json!({"keys": keys}));
    let desk = Desk::set();
    let key = keys[1].to_str().expect("text");
    std::fs::set_permissions(key, Permissions::from_mode(0o640)).expect("chmod");
    let more = ["--client-auth", "private_key_jwt", "--client-key", key, "--prompt", "consent"];
    let (ran, _) = provider.tries(&desk, &provider.login("pkjwt", &more), &Somebody::agreeable());
    ran.exits(0).reports("Logged in as developer").reports(&format!("chmod 600 {key}"));
    let home = &desk.home;
    for refreshes in 1..=2 {
        home.run(&["refresh", "work"]).exits(0);
        assert_eq!(provider.counts().refreshes, refreshes);
    }
    let token = home.token("work");
    // The key is the client's, whatever issuer the profile names by now.
    home.run(&["profile", "set", "work", "issuer=https://elsewhere.example"]).exits(0);
    home.run(&["logout", "work"]).exits(0).reports("the issuer has revoked the tokens");
    assert!(!provider.is_active(&token));
}
