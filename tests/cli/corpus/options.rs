//! Options that require scopes, claims, or how and when the user authenticated.

use serde_json::{Value, json};

use super::{Case, HEADER, NOW, case, ed, token_with, with_claim};

pub fn cases() -> Vec<Case> {
    let mut cases = scopes();
    cases.extend(claims());
    cases.extend(authentication());
    cases
}

fn scopes() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |claims: Value, args: &[&str], expected: &str| {
        let name = format!("{claims} with {}", args.join(" "));
        cases.push(case(name, "RFC 8693 4.2", token_with(claims), expected).args(args));
    };
    let read: &[&str] = &["--scope", "read"];
    for right in [
        json!({"scope": "read"}),
        json!({"scope": "read write"}),
        json!({"scope": "write  read "}),
        json!({"scope": ["read", "write"]}),
        json!({"scope": "read", "scp": ["other"]}),
        json!({"scp": ["read"]}),
        json!({"scp": "write read"}),
    ] {
        add(right, read, "valid");
    }
    for wrong in [
        json!({"scope": ""}),
        json!({"scope": []}),
        json!({"scope": "write"}),
        json!({"scope": "READ"}),
        json!({"scope": "reads"}),
        json!({"scope": "rea d"}),
        json!({"scope": "read,write"}),
        json!({"scope": "read\twrite"}),
        json!({"scope": "read\u{a0}write"}),
        json!({"scope": "write", "scp": ["read"]}),
        json!({"scp": []}),
    ] {
        add(wrong, read, "claim_mismatch");
    }
    for odd in [
        json!({"scope": 7}),
        json!({"scope": {"read": true}}),
        json!({"scope": ["read", 7]}),
        json!({"scope": true, "scp": "read"}),
        json!({"scp": 7}),
    ] {
        add(odd, read, "malformed");
    }
    add(json!({}), read, "missing_claim");
    add(json!({"scopes": "read"}), read, "missing_claim");
    add(json!({"scope": "a b c"}), &["--scope", "a b"], "valid");
    add(json!({"scope": "a b c"}), &["--scope", "a", "--scope", "c"], "valid");
    add(json!({"scope": "a b c"}), &["--scope", "a", "--scope", "d"], "claim_mismatch");
    cases
}

fn claims() -> Vec<Case> {
    let mut cases = Vec::new();
    for (text, required, expected) in [
        (r#""blue""#, "blue", "valid"),
        (r#""""#, "", "valid"),
        (r#""a=b""#, "a=b", "valid"),
        ("7", "7", "valid"),
        ("-7", "-7", "valid"),
        ("true", "true", "valid"),
        ("false", "false", "valid"),
        (r#"["red","blue"]"#, "blue", "valid"),
        (r#"["blue",7]"#, "blue", "valid"),
        (r#""Blue""#, "blue", "claim_mismatch"),
        (r#""blue ""#, "blue", "claim_mismatch"),
        (r#""bluer""#, "blue", "claim_mismatch"),
        (r#""red blue""#, "blue", "claim_mismatch"),
        (r#""7.0""#, "7", "claim_mismatch"),
        ("7.5", "7", "claim_mismatch"),
        ("18446744073709551617", "18446744073709551616", "claim_mismatch"),
        ("true", "True", "claim_mismatch"),
        ("true", "1", "claim_mismatch"),
        ("null", "null", "claim_mismatch"),
        ("null", "", "claim_mismatch"),
        ("[]", "", "claim_mismatch"),
        ("[7]", "7", "claim_mismatch"),
        (r#"[["blue"]]"#, "blue", "claim_mismatch"),
        (r#"{"blue":true}"#, "blue", "claim_mismatch"),
    ] {
        let name = format!("team {text} where {required:?} is required");
        let token = ed(HEADER, with_claim("team", text));
        cases.push(case(name, "RFC 7519 4.3", token, expected).args(&["--claim", &format!("team={required}")]));
    }
    for (claims, expected) in [
        (json!({"team": ["red", "blue"]}), "valid"),
        (json!({"team": "red"}), "claim_mismatch"),
        (json!({}), "missing_claim"),
        (json!({"Team": ["red", "blue"]}), "missing_claim"),
        (json!({"teams": {"team": ["red", "blue"]}}), "missing_claim"),
    ] {
        let case = case(format!("{claims} where two are required"), "RFC 7519 4.3", token_with(claims), expected);
        cases.push(case.args(&["--claim", "team=red", "--claim", "team=blue"]));
    }
    cases
}

fn authentication() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |rule: &'static str, claims: Value, args: &[&str], expected: &str| {
        let name = format!("{claims} with {}", args.join(" "));
        cases.push(case(name, rule, token_with(claims), expected).args(args));
    };
    let acr: &[&str] = &["--acr", "gold", "--acr", "silver"];
    for (value, expected) in [
        (json!("gold"), "valid"),
        (json!("silver"), "valid"),
        (json!("Gold"), "claim_mismatch"),
        (json!(""), "claim_mismatch"),
        (json!("gold silver"), "claim_mismatch"),
        (json!(["gold"]), "malformed"),
        (json!(1), "malformed"),
    ] {
        add("RFC 9470 6.1", json!({"acr": value}), acr, expected);
    }
    add("RFC 9470 6.1", json!({}), acr, "missing_claim");
    let amr: &[&str] = &["--amr", "otp", "--amr", "pwd"];
    for (value, expected) in [
        (json!(["pwd", "otp"]), "valid"),
        (json!(["otp", "pwd", "hwk"]), "valid"),
        (json!(["otp"]), "claim_mismatch"),
        (json!([]), "claim_mismatch"),
        (json!(["OTP", "PWD"]), "claim_mismatch"),
        (json!(["otp pwd"]), "claim_mismatch"),
        (json!("otp pwd"), "malformed"),
        (json!(["otp", "pwd", 7]), "malformed"),
        (json!({"otp": 1, "pwd": 1}), "malformed"),
    ] {
        add("RFC 8176 1", json!({"amr": value}), amr, expected);
    }
    add("RFC 8176 1", json!({}), amr, "missing_claim");
    let age: &[&str] = &["--max-auth-age", "10m"];
    for (ago, expected) in [(0, "valid"), (629, "valid"), (630, "valid"), (631, "claim_mismatch"), (-30, "valid")] {
        add("RFC 9470 6.1", json!({"auth_time": NOW - ago}), age, expected);
    }
    add("RFC 9470 6.1", json!({"auth_time": NOW + 31}), age, "not_yet_valid");
    add("RFC 9470 6.1", json!({"auth_time": "1800000000"}), age, "malformed");
    add("RFC 9470 6.1", json!({}), age, "missing_claim");
    let exact: &[&str] = &["--max-auth-age", "10m", "--leeway", "0s"];
    for (ago, expected) in [(600, "valid"), (601, "claim_mismatch"), (-1, "not_yet_valid")] {
        add("RFC 9470 6.1", json!({"auth_time": NOW - ago}), exact, expected);
    }
    cases
}
