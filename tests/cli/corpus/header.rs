//! Header parameters: `crit`, embedded keys, `typ` and `kid`.

use serde_json::{Value, json};

use super::{Case, PAIRS, case, jwks, valid_claims};
use crate::support::signing_keys::b64;

pub fn cases() -> Vec<Case> {
    let mut cases = critical();
    cases.extend(embedded_keys());
    cases.extend(types());
    cases.extend(key_ids());
    cases
}

/// Returns a valid token with additional header members.
fn with(members: &Value) -> String {
    let mut header = json!({"alg": "EdDSA", "kid": "ed"});
    header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    super::ed(header.to_string(), valid_claims(json!({})).to_string())
}

fn critical() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |rule: &'static str, members: Value, expected: &str| {
        cases.push(case(format!("a header with {members}"), rule, with(&members), expected));
    };
    for crit in [
        json!([]),
        json!(["exp"]),
        json!(["alg"]),
        json!(["b64"]),
        json!(["kid", "kid"]),
        json!(["absent"]),
        json!(["http://extension.example/"]),
        json!([""]),
        json!([7]),
        json!("exp"),
        json!({}),
        json!(null),
        json!(false),
    ] {
        add("RFC 7515 4.1.11", json!({"crit": crit, "exp": 1}), "unsupported_header");
    }
    add("RFC 7797 6", json!({"crit": ["b64"], "b64": true}), "unsupported_header");
    add("RFC 7797 6", json!({"crit": ["b64"], "b64": false}), "unsupported_header");
    add("RFC 7797 3", json!({"b64": true}), "valid");
    for b64 in [json!(false), json!("true"), json!("false"), json!(0), json!(1), json!(null), json!([])] {
        add("RFC 7797 3", json!({"b64": b64}), "unsupported_header");
    }
    for zip in [json!("DEF"), json!(""), json!(null)] {
        add("RFC 7516 4.1.3", json!({"zip": zip}), "unsupported_header");
    }
    for enc in [json!("A256GCM"), json!(null)] {
        add("RFC 7516 9", json!({"enc": enc}), "unsupported_header");
    }
    for ignored in [
        json!({"cty": "JWT"}),
        json!({"nonce": "n", "exp": 1, "iss": "https://evil.example", "aud": "other"}),
        json!({"x": {"deep": [[{"er": null}]]}}),
        json!({"B64": false, "CRIT": ["exp"], "Enc": "A256GCM"}),
        json!({"apu": "AAAA", "epk": {"kty": "EC"}, "p2c": 1_000_000_000}),
        json!({"ALG": "none"}),
    ] {
        add("RFC 7515 4", ignored, "valid");
    }
    // An unencoded payload (RFC 7797).
    let header = b64(r#"{"alg":"EdDSA","kid":"ed","b64":false,"crit":["b64"]}"#);
    let token = PAIRS.ed.parts("EdDSA", &header, &json!({"exp": 1_900_000_000}).to_string());
    cases.push(case("a payload that is not encoded", "RFC 7797 3", token, "malformed"));
    cases
}

/// Keys in the token's header must be ignored.
fn embedded_keys() -> Vec<Case> {
    let attacker = &PAIRS.other_ed;
    let url = "http://127.0.0.1:9/keys";
    let mut cases = Vec::new();
    for (name, rule, right, odd) in [
        ("jku", "RFC 7515 4.1.2", json!(url), vec![json!(7), json!([url]), json!("file:///etc/passwd"), json!(null)]),
        (
            "jwk",
            "RFC 7515 4.1.3",
            attacker.jwk("ed"),
            vec![json!("x"), json!({}), json!([attacker.jwk("ed")]), json!(null)],
        ),
        ("x5u", "RFC 7515 4.1.5", json!(url), vec![json!(7), json!([url]), json!(null)]),
        ("x5c", "RFC 7515 4.1.6", json!(["MIIB"]), vec![json!("MIIB"), json!([]), json!([7]), json!(null)]),
        ("x5t", "RFC 7515 4.1.7", json!("AAAA"), vec![json!(7), json!("!"), json!(null)]),
        ("x5t#S256", "RFC 7515 4.1.8", json!("AAAA"), vec![json!(7), json!("!"), json!(null)]),
    ] {
        let header = json!({"alg": "EdDSA", "kid": "ed", name: right});
        let forged = attacker.token("EdDSA", header.to_string(), valid_claims(json!({})).to_string());
        cases.push(case(format!("an attacker's token with {name}"), rule, forged, "invalid_signature"));
        let header = json!({"alg": "EdDSA", "kid": "attacker", name: right});
        let forged = attacker.token("EdDSA", header.to_string(), valid_claims(json!({})).to_string());
        cases.push(case(
            format!("an attacker's token with {name} and its own kid"),
            "RFC 8725 3.10",
            forged,
            "unknown_key",
        ));
        let right_token = with(&json!({name: right}));
        cases.push(case(format!("a trusted token with an attacker's {name}"), rule, right_token, "valid"));
        for odd in odd {
            let token = with(&json!({name: odd}));
            cases.push(case(format!("a trusted token with {name} {odd}"), rule, token, "valid"));
        }
    }
    let jwk = attacker.jwk("attacker");
    let header = json!({"alg": "EdDSA", "jwk": jwk}).to_string();
    let forged = attacker.token("EdDSA", header, valid_claims(json!({})).to_string());
    let only = jwks([PAIRS.ed.jwk("ed")]);
    cases
        .push(case("an attacker's token with jwk and no kid", "RFC 8725 3.10", forged, "invalid_signature").keys(only));
    cases
}

fn types() -> Vec<Case> {
    const LOGOUT: &str = "application/logout+jwt";
    let mut cases = Vec::new();
    let typed = |typ: &Value| with(&json!({"typ": typ}));
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt", "application/jwt"] {
        cases.push(case(format!("typ {typ}"), "RFC 9068 4", typed(&json!(typ)), "valid"));
    }
    for (typ, rule) in [
        ("logout+jwt", "RFC 8725 3.11"),
        (LOGOUT, "RFC 8725 3.11"),
        ("dpop+jwt", "RFC 9449 4.2"),
        ("secevent+jwt", "RFC 8417 2.3"),
        ("token-introspection+jwt", "RFC 9701 5"),
        ("oauth-authz-req+jwt", "RFC 9101 10.8"),
        ("client-authentication+jwt", "RFC 8725 3.11"),
        ("entity-statement+jwt", "RFC 8725 3.11"),
        ("statuslist+jwt", "RFC 8725 3.11"),
        ("kb+jwt", "RFC 8725 3.11"),
        ("vc+sd-jwt", "RFC 8725 3.11"),
        ("JOSE", "RFC 7515 4.1.9"),
        ("JOSE+JSON", "RFC 7515 4.1.9"),
        ("", "RFC 7515 4.1.9"),
        ("JWT ", "RFC 7515 4.1.9"),
        (" at+jwt", "RFC 7515 4.1.9"),
        ("at+jwt;charset=utf-8", "RFC 7515 4.1.9"),
        ("application/application/at+jwt", "RFC 7515 4.1.9"),
        ("text/at+jwt", "RFC 7515 4.1.9"),
        ("/at+jwt", "RFC 7515 4.1.9"),
        ("at+jwt\u{0}", "RFC 7515 4.1.9"),
        ("ａt+jwt", "RFC 7515 4.1.9"),
    ] {
        cases.push(case(format!("typ {typ:?}"), rule, typed(&json!(typ)), "wrong_type"));
    }
    for typ in [json!(null), json!(7), json!(["at+jwt"]), json!({}), json!(true)] {
        cases.push(case(format!("typ {typ}"), "RFC 7515 4.1.9", typed(&typ), "malformed"));
    }
    for (required, typ, expected) in [
        ("at+jwt", Some("at+jwt"), "valid"),
        ("at+jwt", Some("application/at+jwt"), "valid"),
        ("application/at+jwt", Some("at+jwt"), "valid"),
        ("AT+JWT", Some("At+jwt"), "valid"),
        ("at+jwt", Some("JWT"), "wrong_type"),
        ("at+jwt", None, "wrong_type"),
        ("JWT", Some("JWT"), "valid"),
        ("JWT", Some("jwt"), "valid"),
        ("JWT", Some("at+jwt"), "wrong_type"),
        ("JWT", None, "wrong_type"),
        (LOGOUT, Some("logout+jwt"), "valid"),
        (LOGOUT, Some("JWT"), "wrong_type"),
        ("secevent+jwt", Some("secevent+jwt"), "valid"),
    ] {
        let token = typ.map_or_else(|| with(&json!({})), |typ| typed(&json!(typ)));
        let name = format!("typ {typ:?} where {required} is required");
        cases.push(case(name, "RFC 8725 3.11", token, expected).args(&["--typ", required]));
    }
    let either = ["--typ", "at+jwt", "--typ", "dpop+jwt"];
    let token = typed(&json!("dpop+jwt"));
    cases.push(case("typ dpop+jwt where two are accepted", "RFC 8725 3.11", token, "valid").args(&either));
    cases
}

fn key_ids() -> Vec<Case> {
    let mut cases = Vec::new();
    let named = |kid: &Value| {
        let header = json!({"alg": "EdDSA", "kid": kid});
        super::ed(header.to_string(), valid_claims(json!({})).to_string())
    };
    for kid in [
        "ED",
        "ed ",
        " ed",
        "e",
        "edd",
        "",
        "p256/../ed",
        "ed\u{0}",
        "еd",
        "../keys",
        "' OR 1=1 --",
        "http://127.0.0.1:9/",
    ] {
        cases.push(case(format!("kid {kid:?}"), "RFC 7515 4.1.4", named(&json!(kid)), "unknown_key"));
    }
    for kid in ["rsa", "p256", "p384"] {
        cases.push(case(format!("kid {kid}"), "RFC 8725 3.1", named(&json!(kid)), "algorithm_not_allowed"));
    }
    for kid in [json!(null), json!(7), json!(["ed"]), json!({"ed": 1}), json!(false)] {
        cases.push(case(format!("kid {kid}"), "RFC 7515 4.1.4", named(&kid), "malformed"));
    }
    let escaped = r#"{"alg":"EdDSA","kid":"\u0065d"}"#;
    let token = super::ed(escaped, valid_claims(json!({})).to_string());
    cases.push(case("a kid written with an escape", "RFC 8259 8.3", token, "valid"));
    cases
}
