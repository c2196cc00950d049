//! The ID token that a login or a refresh brings: every claim that the client must check.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use serde_json::{Value, json};

use crate::support::jwt::{Signer, valid_claims};
use crate::support::signing_keys::b64;
use crate::support::stub_server::StubServer;
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER};

const ACCESS_TOKEN: &str = "an-opaque-access-token";

/// An issuer whose ID tokens have valid claims, with these changes.
struct Issuer {
    server: StubServer,
    changes: Arc<Mutex<Value>>,
    signer: Arc<Mutex<Signer>>,
}

impl Issuer {
    fn start() -> Self {
        let signer = Signer::new();
        let jwks = signer.jwks().to_string();
        let (changes, signer) = (Arc::new(Mutex::new(json!({}))), Arc::new(Mutex::new(signer)));
        let (changed, signing) = (Arc::clone(&changes), Arc::clone(&signer));
        let server = StubServer::start(move |own, request| match request.path.as_str() {
            "/.well-known/openid-configuration" => {
                let at = |name: &str| format!("{own}/{name}");
                let metadata = json!({"issuer": own, "token_endpoint": at("token"), "jwks_uri": at("jwks")});
                (200, metadata.to_string())
            }
            "/jwks" => (200, jwks.clone()),
            "/token" => {
                let mut claims = valid_claims(json!({"iss": own, "aud": "authctl"}));
                for (name, value) in changed.lock().unwrap().as_object().unwrap() {
                    claims[name] = value.clone();
                }
                claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                let id_token = signing.lock().unwrap().sign(&json!({"alg": "EdDSA", "kid": "k"}), &claims);
                let tokens = json!({"access_token": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 300,
                    "refresh_token": "a-refresh-token", "id_token": id_token});
                (200, tokens.to_string())
            }
            _ => (404, "{}".into()),
        });
        Self { server, changes, signer }
    }

    fn change(&self, changes: Value) {
        *self.changes.lock().unwrap() = changes;
    }

    #[track_caller]
    fn log_in(&self, home: &Sandbox) -> CommandOutput {
        for secret in [ACCESS_TOKEN, "a-refresh-token"] {
            home.register_secret(secret);
        }
        let args = ["login", "work", "--issuer", &self.server.url, "--client-id", "authctl", "-vvv"];
        home.run_with(&[&args[..], &["--password", "--password-stdin", "--username", USER]].concat(), PASSWORD)
    }
}

/// Returns `at_hash` for an EdDSA signature (OpenID Connect Core 1.0, section 3.1.3.6).
fn at_hash(access_token: &str) -> String {
    b64(&digest::digest(&digest::SHA512, access_token.as_bytes()).as_ref()[..32])
}

/// Changes that make an ID token invalid, and the claim that the error names.
fn invalid() -> [(Value, &'static str); 8] {
    [
        (json!({"iss": "https://other.example"}), "issuer"),
        (json!({"aud": "another"}), "audience"),
        (json!({"azp": "another"}), "authorized party"),
        (json!({"aud": ["authctl", "another"]}), "azp"),
        (json!({"exp": 1}), "expired"),
        (json!({"exp": null}), "exp"),
        (json!({"iat": null}), "iat"),
        (json!({"sub": null}), "sub"),
    ]
}

#[test]
fn login_checks_each_claim_of_the_id_token() {
    let issuer = Issuer::start();
    for valid in [json!({}), json!({"at_hash": at_hash(ACCESS_TOKEN)}), json!({"aud": ["authctl"], "azp": "authctl"})] {
        issuer.change(valid.clone());
        let ran = issuer.log_in(&Sandbox::new());
        assert_eq!(ran.code, 0, "{valid}: {}", ran.stderr);
    }
    let of_another_token = (json!({"at_hash": at_hash("another-access-token")}), "at_hash");
    for (changes, claim) in invalid().into_iter().chain([of_another_token]) {
        let home = Sandbox::new();
        issuer.change(changes.clone());
        let ran = issuer.log_in(&home);
        assert_eq!(ran.code, 4, "{changes}: {}", ran.stderr);
        assert!(ran.stderr.contains(claim), "{changes}: {}", ran.stderr);
        assert!(!home.session_file("work").exists() && !home.config_file().exists(), "{changes}");
    }
}

#[test]
fn invalid_id_token_of_a_refresh_is_not_stored() {
    let (home, issuer) = (Sandbox::new(), Issuer::start());
    issuer.log_in(&home).exits(0);
    let id_token = || home.run(&["token", "work", "--id-token"]).exits(0).line().to_owned();
    let first = id_token();
    for (changes, _) in invalid() {
        issuer.change(changes.clone());
        home.run(&["refresh", "work"]).exits(0);
        assert_eq!(id_token(), first, "{changes}");
    }
    issuer.change(json!({"jti": "2"}));
    *issuer.signer.lock().unwrap() = Signer::new();
    home.run(&["refresh", "work"]).exits(0);
    assert_eq!(id_token(), first, "signed by another key under the same key ID");
}

#[test]
fn valid_id_token_of_a_refresh_replaces_the_stored_one() {
    let (home, issuer) = (Sandbox::new(), Issuer::start());
    issuer.log_in(&home).exits(0);
    let before = home.stored("work")["tokens"]["id_token"].clone();
    issuer.change(json!({"jti": "2"}));
    home.run(&["refresh", "work"]).exits(0);
    assert_ne!(home.stored("work")["tokens"]["id_token"], before);
}

/// Nothing in it names the login or the access token.
#[test]
fn id_token_is_denied_after_a_logout() {
    let (home, issuer) = (Sandbox::new(), Issuer::start());
    issuer.log_in(&home).exits(0);
    home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    let id_token = home.run(&["token", "work", "--id-token"]).exits(0).line().to_owned();
    let verify = || home.run_with(&["verify", "-", "--profile", "work", "--json"], &id_token);
    verify().exits(0);
    home.run(&["logout", "work"]).exits(0);
    assert_eq!(verify().exits(4).json()["reasons"][0]["code"], "revoked");
}
