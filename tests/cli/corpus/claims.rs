//! Issuer, audience, subject and other claims, with valid and invalid values.

use serde_json::{Value, json};

use super::{Case, HEADER, PAIRS, case, ed, valid_claims, with_claim};
use crate::support::jwt::{AUDIENCE, ISSUER};

pub fn cases() -> Vec<Case> {
    let mut cases = issuers();
    cases.extend(audiences());
    cases.extend(others());
    cases.extend(id_tokens());
    cases.extend(several_reasons());
    cases
}

/// Returns a token whose claim `name` is `value`; null is written as null.
fn with(name: &str, value: &Value) -> String {
    ed(HEADER, with_claim(name, &value.to_string()))
}

fn issuers() -> Vec<Case> {
    let mut cases = Vec::new();
    for wrong in [
        "",
        "https://issuer.example/",
        "https://issuer.example:443",
        "http://issuer.example",
        "HTTPS://issuer.example",
        "https://Issuer.example",
        "https://issuer.example ",
        " https://issuer.example",
        "https://issuer.exampl",
        "https://issuer.example.evil.example",
        "https://evil.example/https://issuer.example",
        "https://issuer.example?",
        "https://issuer.example#",
        "https://user@issuer.example",
        "https://issuer%2Eexample",
        "issuer.example",
        AUDIENCE,
    ] {
        cases.push(case(format!("iss {wrong:?}"), "RFC 7519 4.1.1", with("iss", &json!(wrong)), "wrong_issuer"));
    }
    for odd in [json!(null), json!(7), json!(true), json!([ISSUER]), json!([]), json!({}), json!({"url": ISSUER})] {
        cases.push(case(format!("iss {odd}"), "RFC 7519 4.1.1", with("iss", &odd), "malformed"));
    }
    let none = ed(HEADER, valid_claims(json!({"iss": null})).to_string());
    cases.push(case("no iss", "RFC 9068 4", none, "missing_claim"));
    let mine = with("iss", &json!("https://issuer.example/tenant"));
    let tenant = case("iss with a path", "RFC 8725 3.8", mine.as_str(), "valid");
    cases.push(tenant.args(&["--issuer", "https://issuer.example/tenant"]));
    let other = case("iss with another path", "RFC 8725 3.8", mine, "wrong_issuer");
    cases.push(other.args(&["--issuer", "https://issuer.example/tenant2"]));
    cases
}

fn audiences() -> Vec<Case> {
    let mut cases = Vec::new();
    let rule = "RFC 7519 4.1.3";
    for right in [
        json!(AUDIENCE),
        json!([AUDIENCE]),
        json!(["other", AUDIENCE]),
        json!([AUDIENCE, "other"]),
        json!([AUDIENCE, AUDIENCE]),
        json!(["", AUDIENCE]),
    ] {
        cases.push(case(format!("aud {right}"), rule, with("aud", &right), "valid"));
    }
    for wrong in [
        json!(""),
        json!([]),
        json!([""]),
        json!("other"),
        json!(["other", "another"]),
        json!("https://api.example/"),
        json!("https://API.example"),
        json!("https://api.example "),
        json!("https://api.example https://other.example"),
        json!("https://api.example,other"),
        json!("*"),
        json!("https://api.exampl"),
        json!("https://api.example.evil.example"),
        json!(ISSUER),
        json!("[\"https://api.example\"]"),
        json!(vec!["x"; 1000]),
    ] {
        let name = wrong.to_string();
        let name = name.get(..60).unwrap_or(&name);
        cases.push(case(format!("aud {name}"), rule, with("aud", &wrong), "wrong_audience"));
    }
    for odd in [
        json!(null),
        json!(7),
        json!(true),
        json!({}),
        json!({AUDIENCE: true}),
        json!([AUDIENCE, 7]),
        json!([AUDIENCE, null]),
        json!([[AUDIENCE]]),
        json!([AUDIENCE, ["x"]]),
        json!([7]),
        json!([{"aud": AUDIENCE}]),
    ] {
        cases.push(case(format!("aud {odd}"), rule, with("aud", &odd), "malformed"));
    }
    let none = ed(HEADER, valid_claims(json!({"aud": null})).to_string());
    cases.push(case("no aud", "RFC 9068 4", none, "missing_claim"));
    for (aud, expected) in
        [(json!("one"), "valid"), (json!(["x", "two"]), "valid"), (json!(["x", "y"]), "wrong_audience")]
    {
        let case = case(format!("aud {aud} where two are accepted"), "RFC 8725 3.9", with("aud", &aud), expected);
        cases.push(case.args(&["--audience", "one", "--audience", "two"]));
    }
    cases
}

/// Registered claims must have the type that their RFC requires, even if no option asks for them.
fn others() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, rule) in
        [("sub", "RFC 7519 4.1.2"), ("jti", "RFC 7519 4.1.7"), ("client_id", "RFC 8693 4.3"), ("azp", "RFC 7519 10.1")]
    {
        for odd in [json!(null), json!(7), json!(false), json!(["x"]), json!({})] {
            cases.push(case(format!("{name} {odd}"), rule, with(name, &odd), "malformed"));
        }
        for valid in [json!(""), json!("x"), json!("x".repeat(300)), json!("a\u{1b}[2J\u{202e}\0")] {
            let shown = valid.to_string();
            let shown = shown.get(..40).unwrap_or(&shown);
            cases.push(case(format!("{name} {shown}"), rule, with(name, &valid), "valid"));
        }
        let none = ed(HEADER, valid_claims(json!({name: null, "x": name})).to_string());
        cases.push(case(format!("without {name}"), rule, none, "valid"));
    }
    // Unregistered claims may have any value.
    for (name, value) in [
        ("email", json!(7)),
        ("act", json!({"sub": "x"})),
        ("cnf", json!({"jkt": "AAAA"})),
        ("https://a.example/x", json!(null)),
    ] {
        cases.push(case(format!("{name} {value}"), "RFC 7519 4.3", with(name, &value), "valid"));
    }
    let minimal = json!({"iss": ISSUER, "aud": AUDIENCE, "exp": super::NOW + 300}).to_string();
    cases.push(case("only the required claims", "RFC 7519 4.1", ed(HEADER, minimal), "valid"));
    cases.push(case("no claim at all", "RFC 7519 4.1", ed(HEADER, "{}"), "missing_claim"));
    cases
}

/// ID tokens are rejected as access tokens, even with the right audience and without `typ`.
fn id_tokens() -> Vec<Case> {
    let typed = |typ: &str, changes: &Value| {
        let header = format!(r#"{{"alg":"EdDSA","kid":"ed"{typ}}}"#);
        ed(&header, valid_claims(changes.clone()).to_string())
    };
    let mut cases = Vec::new();
    for mark in [
        json!({"at_hash": "x"}),
        json!({"c_hash": "x"}),
        json!({"s_hash": "x"}),
        json!({"nonce": "x"}),
        json!({"typ": "ID"}),
        json!({"token_use": "id"}),
    ] {
        for typ in ["", r#","typ":"JWT""#] {
            let name = format!("an ID token with {mark}{typ}");
            cases.push(case(name, "RFC 9068 5", typed(typ, &mark), "wrong_type"));
        }
        let name = format!("an access token by its type, with {mark}");
        cases.push(case(name, "RFC 9068 4", typed(r#","typ":"at+jwt""#, &mark), "valid"));
        let name = format!("{mark} where its type is required");
        cases.push(case(name, "RFC 8725 3.11", typed(r#","typ":"JWT""#, &mark), "valid").args(&["--typ", "JWT"]));
    }
    let bearer = json!({"nonce": "x", "typ": "Bearer"});
    cases.push(case("a nonce with typ Bearer in the claims", "RFC 9068 5", typed("", &bearer), "valid"));
    cases.push(case("token_use access", "RFC 9068 5", typed("", &json!({"token_use": "access"})), "valid"));
    cases
}

fn several_reasons() -> Vec<Case> {
    let rule = "RFC 7519 7.2";
    let invalid = valid_claims(json!({"exp": 1, "iss": "https://evil.example", "aud": "other"})).to_string();
    let reasons = "expired wrong_issuer wrong_audience";
    let forged = PAIRS.other_ed.token("EdDSA", HEADER, &invalid);
    let unknown = ed(r#"{"alg":"EdDSA","kid":"x"}"#, &invalid);
    let none = ed(r#"{"alg":"none","kid":"ed"}"#, &invalid);
    let typed = ed(r#"{"alg":"EdDSA","kid":"ed","typ":"dpop+jwt","crit":["x"]}"#, &invalid);
    let all = PAIRS.other_ed.token(
        "EdDSA",
        r#"{"alg":"EdDSA","kid":"ed","typ":"dpop+jwt","crit":["x"]}"#,
        r#"{"nbf":"x","exp":1}"#,
    );
    vec![
        case("three invalid claims", rule, ed(HEADER, &invalid), reasons),
        case("a forged token with three invalid claims", rule, forged, format!("invalid_signature {reasons}")),
        case("an unknown key and three invalid claims", rule, unknown, format!("unknown_key {reasons}")),
        case("alg none and three invalid claims", rule, none, format!("algorithm_not_allowed {reasons}")),
        case("typ, crit and three invalid claims", rule, typed, format!("unsupported_header wrong_type {reasons}")),
        case(
            "nearly all reasons",
            rule,
            all,
            "invalid_signature unsupported_header malformed wrong_type expired missing_claim",
        ),
    ]
}
