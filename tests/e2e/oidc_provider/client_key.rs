//! Client authentication with `private_key_jwt`. The provider accepts each assertion once.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{Provider, User};
use crate::agent_support::output_of;
use crate::support::parts;
use crate::support::{CommandOutput, Sandbox};
use crate::webdriver::BrowserSandbox;

const KINDS: [(&str, &[&str]); 3] = [
    ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("ed25519", &["-algorithm", "ED25519"]),
];

/// Creates a private key of each kind with openssl.
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
fn private_key_jwt_works_with_each_kind_of_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = keys(dir.path());
    let mut provider = Provider::start(&json!({"keys": keys}));
    for key in &keys {
        let home = Sandbox::new();
        let output = login(&provider, &home, key).exits(0).stderr;
        assert!(!output.contains("chmod"), "the key is private: {output}");
        let first = home.token("work");
        assert!(provider.is_active(&first), "{}", key.display());
        home.expire("work");
        let second = home.token("work");
        assert!(first != second && provider.is_active(&second), "{}: another signature", key.display());
        home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
        assert!(!provider.is_active(&second), "{}", key.display());
    }
    let counts = provider.counts();
    assert_eq!((counts.by_header, counts.by_form, counts.refused.len()), (0, 0, 0), "{counts:?}");
}

#[test]
fn key_of_another_client_is_refused() {
    let (dir, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let provider = Provider::start(&json!({"keys": keys(dir.path())}));
    for key in keys(other.path()) {
        let home = Sandbox::new();
        login(&provider, &home, &key).exits(5).reports("invalid_client");
        home.run(&["token", "work"]).exits(2);
    }
}

#[test]
fn browser_login_with_private_key_jwt() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = keys(dir.path());
    let mut provider = Provider::start(&json!({"keys": keys}));
    let browser = BrowserSandbox::new();
    let key = keys[1].to_str().expect("text");
    std::fs::set_permissions(key, Permissions::from_mode(0o640)).expect("chmod");
    let more = ["--client-auth", "private_key_jwt", "--client-key", key, "--prompt", "consent"];
    let (ran, _) = provider.try_login(&browser, &provider.login("pkjwt", &more), &User::allowing());
    ran.exits(0).reports("Logged in to work as developer").reports(&format!("chmod 600 {key}"));
    let home = &browser.home;
    for refreshes in 1..=2 {
        home.run(&["refresh", "work"]).exits(0);
        assert_eq!(provider.counts().refreshes, refreshes);
    }
    let token = home.token("work");
    // Logout uses the issuer and the key of the session, not of the changed profile.
    home.run(&["profile", "set", "work", "issuer=https://elsewhere.example"]).exits(0);
    home.run(&["logout", "work"]).exits(0).reports("tokens revoked");
    assert!(!provider.is_active(&token));
}
