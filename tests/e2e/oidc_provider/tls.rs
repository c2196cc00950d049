//! A provider with a certificate of a private CA.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::Provider;
use crate::support::Sandbox;
use crate::support::parts;

/// A CA, and its certificate for 127.0.0.1.
pub struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        parts::require(&["openssl"]);
        let authority = Self { dir: tempfile::tempdir().expect("a directory") };
        let root = ["-subj", "/CN=A private authority", "-addext", "keyUsage=critical,keyCertSign"];
        authority.create("ca", &root);
        let (certificate, key) = (authority.path("ca.pem"), authority.path("ca.key"));
        let (certificate, key) = (certificate.to_str().expect("text"), key.to_str().expect("text"));
        let leaf = ["-subj", "/CN=127.0.0.1", "-CA", certificate, "-CAkey", key];
        let names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"];
        authority.create("server", &[&leaf[..], &names].concat());
        authority
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn create(&self, name: &str, args: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
        command.arg("-out").arg(self.path(&format!("{name}.pem")));
        command.arg("-keyout").arg(self.path(&format!("{name}.key"))).args(args);
        let output = command.output().expect("openssl starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn provider(&self) -> Provider {
        Provider::start(&json!({"tls": {"cert": self.path("server.pem"), "key": self.path("server.key")}}))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn private_ca_is_trusted_only_where_it_is_configured() {
    let authority = Authority::new();
    let mut provider = authority.provider();
    assert!(provider.issuer.starts_with("https://127.0.0.1:"), "{}", provider.issuer);
    let home = Sandbox::new();
    let refused = provider.log_in_client(&home, "basic", &["--json"]).exits(6).error();
    assert_eq!(refused["code"], "issuer_unreachable", "{refused}");
    let output = format!("{} {}", refused["message"], refused["hint"]);
    for word in ["TLS", "certificate", "--ca-cert"] {
        assert!(output.contains(word), "{word}: {output}");
    }
    home.run(&["token", "work"]).exits(2);

    let ca = authority.path("ca.pem");
    provider.log_in_client(&home, "basic", &["--resource", "https://rs256.example", "--ca-cert", text(&ca)]).exits(0);
    // The option is stored in the profile.
    home.run(&["refresh", "work"]).exits(0);
    home.run(&["verify", "work"]).exits(0);
    assert_eq!(provider.counts().keys, 1);

    // The certificate is for 127.0.0.1 only.
    let named = provider.issuer.replace("127.0.0.1", "localhost");
    let login = ["login", "work", "--issuer", &named, "--client-id", "basic", "--ca-cert", text(&ca)];
    let login = [&login[..], &["--client-credentials", "--client-secret-stdin"]].concat();
    Sandbox::new().run_with(&login, "a-secret").exits(6).reports("certificate is for another host");

    // A CA with the same name does not match.
    let other = Authority::new();
    provider.log_in_client(&Sandbox::new(), "basic", &["--ca-cert", text(&other.path("ca.pem"))]).exits(6);
}

#[test]
fn private_ca_from_ssl_cert_file_is_trusted() {
    let authority = Authority::new();
    let provider = authority.provider();
    let mut home = Sandbox::new();
    home.set("SSL_CERT_FILE", authority.path("ca.pem"));
    provider.log_in_client(&home, "basic", &[]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
    home.unset("SSL_CERT_FILE");
    let refused = home.run(&["refresh", "work", "--json"]).exits(6).error();
    assert_eq!(refused["code"], "issuer_unreachable", "{refused}");
    // The cached token is returned while it is valid.
    home.run(&["token", "work"]).exits(0);
}
