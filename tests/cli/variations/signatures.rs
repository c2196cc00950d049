//! JWTs without `kid` or `typ`, opaque tokens, and key sets with unusable keys.

use authctl::dev_issuer::DevIssuer;
use serde_json::{Value, json};

use super::{edits, log_in};
use crate::support::jwt::{Signer, valid_claims};
use crate::support::signing_keys::{SigningKey, changed};
use crate::support::{Sandbox, http, issuer, quick_issuer};

/// Returns valid claims of this issuer.
fn claims(issuer: &DevIssuer) -> Value {
    valid_claims(json!({"iss": issuer.issuer(), "aud": "authctl"}))
}

/// Makes the issuer publish `keys` and issue these tokens.
fn set_keys_and_tokens(issuer: &DevIssuer, keys: &Value, access_token: &str, id_token: &str) {
    edits(issuer, "jwks", &json!({"set": {"keys": keys}}), 0);
    edits(issuer, "token", &json!({"set": {"access_token": access_token, "id_token": id_token}}), 0);
}

#[test]
fn token_without_kid_and_typ_verifies_with_the_only_key() {
    let issuer = quick_issuer();
    let signer = Signer::new();
    for header in [
        json!({"alg": "EdDSA"}),
        json!({"alg": "EdDSA", "typ": "JWT"}),
        json!({"alg": "EdDSA", "kid": "k"}),
        json!({"alg": "EdDSA", "kid": "k", "typ": "at+jwt"}),
        json!({"alg": "EdDSA", "kid": "k", "typ": "application/at+jwt", "x5t": "x", "own": 1}),
    ] {
        let id_header = changed(json!({"alg": "EdDSA", "typ": "JWT"}), json!({"kid": header["kid"]}));
        let home = Sandbox::new();
        let (access, id) = (signer.sign(&header, &claims(&issuer)), signer.sign(&id_header, &claims(&issuer)));
        set_keys_and_tokens(&issuer, &signer.jwks()["keys"], &access, &id);
        log_in(&home, issuer.issuer(), &[]).exits(0);
        let ran = home.run(&["verify", "work"]);
        assert_eq!(ran.code, 0, "RFC 7515, section 4.1.4: {header}: {}", ran.stderr);
        // The key may have no `kid`; then a token that has one does not verify.
        let mut nameless = signer.jwks()["keys"].clone();
        nameless[0].as_object_mut().expect("a key").remove("kid");
        issuer.clear_faults();
        set_keys_and_tokens(&issuer, &nameless, &access, &id);
        let home = Sandbox::new();
        let named = header["kid"].is_string();
        log_in(&home, issuer.issuer(), &[]).exits(if named { 4 } else { 0 });
        issuer.clear_faults();
    }
}

#[test]
fn usable_keys_are_found_among_others() {
    let issuer = quick_issuer();
    let (status, published) = http::get(&format!("{}/jwks", issuer.issuer()), &[]);
    assert_eq!(status, 200);
    let own: Value = serde_json::from_str(&published).expect("JSON");
    let own = own["keys"].as_array().expect("keys").clone();
    let kid = own[0]["kid"].clone();
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    // A key that cannot be understood is ignored, without rejecting the set (RFC 7517, section 5).
    let others = [
        Value::Null,
        json!(7),
        json!("key"),
        json!([]),
        json!({}),
        json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AAAA"}),
        json!({"kty": "EC", "crv": "P-999", "kid": "c", "x": x, "y": x}),
        json!({"kty": "EC", "crv": "P-256", "kid": "short", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "kid": "x", "x": x}),
        json!({"kty": "oct", "kid": "secret", "k": "AAAA"}),
        json!({"kty": "RSA", "kid": "broken", "n": "!!", "e": "AQAB"}),
        json!({"kty": 5, "kid": {"a": 1}}),
        json!({"kty": "OKP", "crv": "Ed25519", "use": "enc", "kid": kid, "x": x}),
    ];
    for other in &others {
        for keys in [[vec![other.clone()], own.clone()].concat(), [own.clone(), vec![other.clone()]].concat()] {
            let home = Sandbox::new();
            edits(&issuer, "jwks", &json!({"set": {"keys": keys}}), 1);
            let ran = log_in(&home, issuer.issuer(), &[]);
            assert_eq!(ran.code, 0, "RFC 7517, section 5: {other}: {}", ran.stderr);
            home.run(&["verify", "work"]).exits(0);
        }
    }
    let home = Sandbox::new();
    let all = [&others[..], &own].concat();
    edits(&issuer, "jwks", &json!({"set": {"keys": all}}), 1);
    log_in(&home, issuer.issuer(), &[]).exits(0);
    home.run(&["verify", "work"]).exits(0);
    // Without a usable key no token verifies.
    let home = Sandbox::new();
    edits(&issuer, "jwks", &json!({"set": {"keys": others}}), 1);
    log_in(&home, issuer.issuer(), &[]).exits(4).reports("ID token does not verify");
    assert!(!home.session_file("work").exists());
}

#[test]
fn new_key_without_a_new_kid_is_fetched_at_the_next_refresh() {
    let issuer = quick_issuer();
    for kid in [json!("k"), Value::Null] {
        let home = Sandbox::new();
        let give = |signer: &Signer| {
            let header = changed(json!({"alg": "EdDSA", "kid": kid}), json!({"kid": kid}));
            let mut keys = signer.jwks()["keys"].clone();
            keys[0] = changed(keys[0].clone(), json!({"kid": kid}));
            issuer.clear_faults();
            set_keys_and_tokens(
                &issuer,
                &keys,
                &signer.sign(&header, &claims(&issuer)),
                &signer.sign(&header, &claims(&issuer)),
            );
        };
        give(&Signer::new());
        log_in(&home, issuer.issuer(), &[]).exits(0);
        home.run(&["verify", "work"]).exits(0);
        give(&Signer::new());
        home.run(&["refresh", "work"]).exits(0);
        home.run(&["verify", "work"]).exits(0);
        assert!(home.run(&["token", "work", "--id-token"]).exits(0).line() != "", "{kid}");
        home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
        home.run(&["verify", "work"]).exits(0);
        home.run(&["profile", "set", "work", "verify_token="]).exits(0);
        // Again at once.
        give(&Signer::new());
        home.run(&["refresh", "work"]).exits(0);
        home.run(&["verify", "work"]).exits(0);
        // After requests that did not bring the key, the issuer is not asked each time, and the hint has the command for it.
        home.change_trust(&issuer, |trust| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
            trust.unknown_key_fetched_at = Some(authctl::clock::UnixTime(now.cast_signed()));
            trust.unknown_key_fetches = 10;
        });
        let jwks_requests = || issuer.stats().requests["jwks"];
        let before = jwks_requests();
        give(&Signer::new());
        home.run(&["refresh", "work"]).exits(0);
        home.run(&["verify", "work"]).exits(4).reports("hint:  authctl keys update work");
        assert_eq!(jwks_requests(), before, "{kid}");
        home.run(&["keys", "update", "work"]).exits(0);
        home.run(&["verify", "work"]).exits(0);
    }
}

#[test]
fn keys_are_used_as_serializers_write_them_and_the_rest_is_reported() {
    let issuer = quick_issuer();
    let signer = Signer::new();
    let header = json!({"alg": "EdDSA", "kid": "k"});
    let encryption = json!({"kty": "RSA", "use": "enc", "kid": "e", "n": "AQAB", "e": "AQAB"});
    let padding = json!({"kty": "EC", "crv": "secp256k1", "kid": "o", "x": "AA", "y": "AA"});
    for habit in [
        json!({"use": null, "alg": null, "key_ops": null, "x5c": null, "d": null, "k": null, "oth": null}),
        json!({"use": "", "alg": "", "key_ops": [], "x5u": "", "p": "", "q": "", "oth": []}),
        json!({"key_ops": [null], "x5c": [""], "oth": [null]}),
        json!({"key_ops": [null, "verify", ""]}),
    ] {
        let home = Sandbox::new();
        let mut key = signer.jwks()["keys"][0].clone();
        key.as_object_mut().expect("a key").extend(habit.as_object().expect("members").clone());
        let keys = json!([encryption, padding, key]);
        set_keys_and_tokens(
            &issuer,
            &keys,
            &signer.sign(&header, &claims(&issuer)),
            &signer.sign(&header, &claims(&issuer)),
        );
        log_in(&home, issuer.issuer(), &[]).exits(0);
        home.run(&["verify", "work"]).exits(0);
        let left_out = "left out: 1 not for signatures, 1 of an unsupported type";
        home.run(&["keys", "update", "work"]).exits(0).reports("fetched 1 key").reports(left_out);
        assert!(home.run(&["keys", "show", "work"]).exits(0).stdout.contains(left_out));
        issuer.clear_faults();
    }
    // What is left out is reported where it is missed.
    let home = Sandbox::new();
    set_keys_and_tokens(&issuer, &json!([encryption]), "opaque", &signer.sign(&header, &claims(&issuer)));
    log_in(&home, issuer.issuer(), &[]).exits(4).reports("0 trusted keys (left out: 1 not for signatures)");
}

#[test]
fn es512_token_verifies() {
    let (issuer, home) = (quick_issuer(), Sandbox::new());
    let pair = SigningKey::ec("P-521");
    let sign = || pair.token("ES512", r#"{"alg":"ES512","kid":"k"}"#, claims(&issuer).to_string());
    set_keys_and_tokens(&issuer, &json!([pair.jwk("k")]), &sign(), &sign());
    log_in(&home, issuer.issuer(), &[]).exits(0);
    assert!(home.run(&["verify", "work"]).exits(0).stdout.contains("signed with ES512"));
    let pem = home.path().join("key.pem");
    std::fs::write(&pem, pair.pem()).expect("written");
    home.run(&["keys", "pin", "work", "--jwks", pem.to_str().expect("text")]).exits(0).reports("pinned 1 key");
    home.run(&["verify", "work"]).exits(0);
}

#[test]
fn opaque_access_token_is_served_and_id_token_verified() {
    let issuer = issuer(|options| options.opaque_access_tokens = true);
    let home = Sandbox::new();
    log_in(&home, issuer.issuer(), &[]).exits(0);
    assert!(!home.token("work").contains('.'), "opaque (RFC 6749, section 1.4)");
    let denied = home.run(&["verify", "work", "--json"]).exits(4).json();
    assert_eq!(denied["reasons"][0]["code"], "opaque_token");
    home.run(&["profile", "set", "work", "verify_token=id_token"]).exits(0);
    home.run(&["verify", "work"]).exits(0);
    home.run(&["refresh", "work"]).exits(0);
}
