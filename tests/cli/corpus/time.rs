//! NumericDate values, and the limits of `exp`, `nbf`, `iat` and `auth_time`.

use serde_json::json;

use super::{Case, HEADER, NOW, case, ed, valid_claims, with_claim};

/// The last second of the year 9999.
const LATEST: i64 = 253_402_300_799;

pub fn cases() -> Vec<Case> {
    let mut cases = invalid_dates();
    cases.extend(notations());
    cases.extend(limits());
    cases.extend(combinations());
    cases
}

fn rule(name: &str) -> &'static str {
    match name {
        "exp" => "RFC 7519 4.1.4",
        "nbf" => "RFC 7519 4.1.5",
        "iat" => "RFC 7519 4.1.6",
        _ => "RFC 9068 2.2.1",
    }
}

const TIMES: [&str; 4] = ["exp", "nbf", "iat", "auth_time"];

/// Invalid NumericDates are malformed in each claim.
fn invalid_dates() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in TIMES {
        for text in [
            r#""1800000000""#,
            r#""""#,
            r#""2027-01-15T08:00:00Z""#,
            "null",
            "true",
            "[1800000000]",
            "[]",
            "{}",
            "-1",
            "-0.5",
            "-9223372036854775808",
            "9223372036854775807",
            "18446744073709551615",
            "18446744073709551616",
            "1800000000000",
            "1.8e12",
            "1e308",
            "1e400",
            "-1e400",
            "253402300800",
            "253402300799.5",
        ] {
            let token = ed(HEADER, with_claim(name, text));
            cases.push(case(format!("{name} {text}"), "RFC 7519 2", token, "malformed"));
        }
    }
    cases
}

/// Different notations of the same number.
fn notations() -> Vec<Case> {
    let mut cases = Vec::new();
    for (text, past) in [
        ("1800000030", false),
        ("1800000030.0", false),
        ("1800000030.999999999999", false),
        ("18000000305e-1", false),
        ("1.80000003e9", false),
        ("1.80000003E+9", false),
        ("1800000.030e3", false),
        ("0", true),
        ("-0", true),
        ("0.0", true),
        ("1e-400", true),
        ("1e3", true),
    ] {
        let expected = if past { "expired" } else { "valid" };
        cases.push(case(format!("exp {text}"), "RFC 7519 2", ed(HEADER, with_claim("exp", text)), expected));
        // `limits` has this case.
        for name in ["nbf", "iat"].into_iter().filter(|_| text != "1800000030") {
            // 30 seconds and a fraction exceed the leeway of 30 seconds.
            let fraction = text.contains(".9") || text.contains("305");
            let expected = if fraction { "not_yet_valid" } else { "valid" };
            cases.push(case(format!("{name} {text}"), "RFC 7519 2", ed(HEADER, with_claim(name, text)), expected));
        }
    }
    for (name, expected) in [("exp", "valid"), ("nbf", "not_yet_valid"), ("iat", "not_yet_valid")] {
        let token = ed(HEADER, with_claim(name, &LATEST.to_string()));
        cases.push(case(format!("{name} at the end of the year 9999"), rule(name), token, expected));
    }
    for (name, expected) in [("exp", "missing_claim"), ("iat", "valid")] {
        let token = ed(HEADER, valid_claims(json!({name: null})).to_string());
        cases.push(case(format!("without {name}"), rule(name), token, expected));
    }
    cases
}

/// A token is valid while now < exp + leeway, nbf <= now + leeway and iat <= now + leeway.
fn limits() -> Vec<Case> {
    let mut cases = Vec::new();
    for (leeway, option) in [(30, None), (0, Some("0s")), (1, Some("1s")), (3600, Some("1h")), (86_400, Some("1d"))] {
        let mut at = |name: &str, moment: i64, expected: &str| {
            let token = ed(HEADER, with_claim(name, &moment.to_string()));
            let from_now = moment - NOW;
            let case = case(format!("{name} {from_now} s from now, leeway {leeway} s"), rule(name), token, expected);
            cases.push(match option {
                Some(option) => case.args(&["--leeway", option]),
                None => case,
            });
        };
        at("exp", NOW - leeway - 1, "expired");
        at("exp", NOW - leeway, "expired");
        at("exp", NOW - leeway + 1, "valid");
        for name in ["nbf", "iat", "auth_time"] {
            at(name, NOW + leeway - 1, "valid");
            at(name, NOW + leeway, "valid");
            at(name, NOW + leeway + 1, "not_yet_valid");
        }
    }
    let half = |name: &str, text: &str, expected: &str| {
        case(format!("{name} {text}, no leeway"), rule(name), ed(HEADER, with_claim(name, text)), expected)
            .args(&["--leeway", "0s"])
    };
    cases.push(half("exp", "1800000000.000001", "valid"));
    cases.push(half("exp", "1799999999.999999", "expired"));
    cases.push(half("nbf", "1800000000.000001", "not_yet_valid"));
    cases.push(half("nbf", "1799999999.999999", "valid"));
    cases.push(half("iat", "1800000000.5", "not_yet_valid"));
    for (moment, expected) in
        [("0", "not_yet_valid"), ("-1", "not_yet_valid"), ("1800000329", "valid"), ("1800000330", "expired")]
    {
        let case = case(
            format!("as of {moment}"),
            "RFC 7519 4.1.4",
            ed(HEADER, valid_claims(json!({})).to_string()),
            expected,
        );
        cases.push(case.args(&["--at", moment]));
    }
    let latest = case(
        "as of the latest moment",
        "RFC 7519 4.1.4",
        ed(HEADER, valid_claims(json!({"n": 1})).to_string()),
        "expired",
    );
    cases.push(latest.args(&["--at", "9223372036854775807"]));
    cases
}

fn combinations() -> Vec<Case> {
    let of = |name: &str, changes, expected: &str| {
        case(name, "RFC 7519 7.2", ed(HEADER, valid_claims(changes).to_string()), expected)
    };
    vec![
        of("nbf after exp, both in the future", json!({"nbf": NOW + 900}), "not_yet_valid"),
        of("exp before nbf", json!({"exp": NOW - 900, "nbf": NOW + 900}), "expired not_yet_valid"),
        of("exp before iat, within the leeway", json!({"exp": NOW - 10, "iat": NOW + 10}), "valid"),
        of("exp not a number, nbf in the future", json!({"exp": "x", "nbf": NOW + 900}), "malformed not_yet_valid"),
        of("none of them a number", json!({"exp": "x", "nbf": [], "iat": true, "auth_time": {}}), "malformed"),
        of("expired, and for another audience", json!({"exp": 1, "aud": "x"}), "expired wrong_audience"),
        of("Exp in another spelling", json!({"exp": null, "Exp": NOW + 300}), "missing_claim"),
    ]
}
