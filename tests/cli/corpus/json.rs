//! Headers and payloads that are not JSON objects or that parsers read differently. All are correctly signed.

use serde_json::json;

use super::{Case, HEADER, case, ed, valid_claims};

pub fn cases() -> Vec<Case> {
    let mut cases = invalid_json();
    cases.extend(duplicate_members());
    cases.extend(nesting());
    cases.extend(escapes());
    cases
}

fn invalid_json() -> Vec<Case> {
    let claims = valid_claims(json!({})).to_string();
    let mut cases = Vec::new();
    for (what, text) in [("header", HEADER), ("payload", claims.as_str())] {
        let inside = &text[1..text.len() - 1];
        let latin: Vec<u8> = format!("{{{inside},\"x\":\"é\"}}").chars().map(|c| c as u8).collect();
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let odd: Vec<(&str, &'static str, Vec<u8>)> = vec![
            ("is an array", "RFC 7519 7.2", format!("[{text}]").into()),
            ("is a string", "RFC 7519 7.2", json!(text).to_string().into()),
            ("is a number", "RFC 7519 7.2", "1".into()),
            ("is null", "RFC 7519 7.2", "null".into()),
            ("is a space", "RFC 7519 7.2", " ".into()),
            ("is an open brace", "RFC 8259 2", "{".into()),
            ("is not closed", "RFC 8259 2", text[..text.len() - 1].into()),
            ("has a comma at the end", "RFC 8259 4", format!("{{{inside},}}").into()),
            ("has a comma at the start", "RFC 8259 4", format!("{{,{inside}}}").into()),
            ("has single quotes", "RFC 8259 7", text.replace('"', "'").into()),
            ("has names without quotes", "RFC 8259 4", format!("{{x:1,{inside}}}").into()),
            ("has a comment", "RFC 8259 2", format!("{{/**/{inside}}}").into()),
            ("has something after it", "RFC 8259 2", format!("{text}x").into()),
            ("has an object after it", "RFC 8259 2", format!("{text}{{}}").into()),
            ("has a NUL after it", "RFC 8259 2", format!("{text}\0").into()),
            ("has a byte order mark", "RFC 8259 8.1", format!("\u{feff}{text}").into()),
            ("is Latin-1", "RFC 8259 8.1", latin),
            ("is UTF-16", "RFC 8259 8.1", utf16),
            ("has a byte FF in a string", "RFC 8259 8.1", [b"{\"x\":\"\xff\",", inside.as_bytes(), b"}"].concat()),
            ("has an overlong slash", "RFC 3629 3", [b"{\"x\":\"\xc0\xaf\",", inside.as_bytes(), b"}"].concat()),
            ("has a surrogate as bytes", "RFC 3629 3", [b"{\"x\":\"\xed\xa0\x80\",", inside.as_bytes(), b"}"].concat()),
            ("has half a surrogate pair", "RFC 8259 8.2", format!(r#"{{"x":"\ud800",{inside}}}"#).into()),
            ("has a line end in a string", "RFC 8259 7", format!("{{\"x\":\"\n\",{inside}}}").into()),
            ("has an unknown escape", "RFC 8259 7", format!(r#"{{"x":"\x41",{inside}}}"#).into()),
            ("has NaN", "RFC 8259 6", format!(r#"{{"x":NaN,{inside}}}"#).into()),
            ("has Infinity", "RFC 8259 6", format!(r#"{{"x":Infinity,{inside}}}"#).into()),
            ("has a leading zero", "RFC 8259 6", format!(r#"{{"x":01,{inside}}}"#).into()),
            ("has a leading plus", "RFC 8259 6", format!(r#"{{"x":+1,{inside}}}"#).into()),
            ("has a hexadecimal number", "RFC 8259 6", format!(r#"{{"x":0x1,{inside}}}"#).into()),
            ("has a point and no digit", "RFC 8259 6", format!(r#"{{"x":1.,{inside}}}"#).into()),
            ("has True for true", "RFC 8259 3", format!(r#"{{"x":True,{inside}}}"#).into()),
            ("has a number that overflows", "RFC 7493 2.2", format!(r#"{{"x":1e400,{inside}}}"#).into()),
        ];
        let token = |text: Vec<u8>| if what == "header" { ed(text, &claims) } else { ed(HEADER, text) };
        cases.extend(
            odd.into_iter().map(|(odd, rule, text)| case(format!("the {what} {odd}"), rule, token(text), "malformed")),
        );
        for (valid, text) in [
            ("has white space", format!(" \t\r\n{{ {inside} }}\n")),
            ("has an escaped slash", format!(r#"{{"x":"\/",{inside}}}"#)),
            ("has a whole surrogate pair", format!(r#"{{"x":"\ud83d\ude00",{inside}}}"#)),
            ("has a NUL, escaped", format!(r#"{{"x":"\u0000",{inside}}}"#)),
            ("has an empty name", format!(r#"{{"":1,{inside}}}"#)),
            ("has a long number", format!(r#"{{"x":{},{inside}}}"#, "9".repeat(200))),
        ] {
            cases.push(case(format!("the {what} {valid}"), "RFC 8259 2", token(text.into()), "valid"));
        }
    }
    cases
}

/// Parsers take the first or the last of two members with the same name, and so may disagree about the token.
fn duplicate_members() -> Vec<Case> {
    let mut cases = Vec::new();
    let claims = valid_claims(json!({})).to_string();
    for members in [
        r#""alg":"none","alg":"EdDSA","kid":"ed""#,
        r#""alg":"EdDSA","alg":"EdDSA","kid":"ed""#,
        r#""alg":"EdDSA","\u0061lg":"EdDSA","kid":"ed""#,
        r#""alg":"EdDSA","kid":"rsa","kid":"ed""#,
        r#""alg":"EdDSA","kid":"ed","typ":"JWT","typ":"at+jwt""#,
        r#""alg":"EdDSA","kid":"ed","x":1,"x":1"#,
        r#""alg":"EdDSA","kid":"ed","jwk":{"kty":"OKP","kty":"RSA"}"#,
        r#""alg":"EdDSA","kid":"ed","x":[[{"y":1,"y":2}]]"#,
        r#""alg":"EdDSA","kid":"ed","":1,"":2"#,
    ] {
        let token = ed(format!("{{{members}}}"), &claims);
        cases.push(case(format!("a header with {members}"), "RFC 7515 4", token, "malformed"));
    }
    let inside = &claims[1..claims.len() - 1];
    for members in [
        r#""sub":"another""#,
        r#""\u0073ub":"the-subject-itself""#,
        r#""exp":1900000000"#,
        r#""iss":"https://issuer.example""#,
        r#""aud":"https://api.example""#,
        r#""x":1,"x":1"#,
        r#""x":{"y":1,"y":2}"#,
        r#""x":[0,[{"y":{"z":1,"z":1}}]]"#,
        r#""é":1,"\u00e9":2"#,
    ] {
        let token = ed(HEADER, format!("{{{members},{inside}}}"));
        cases.push(case(format!("a payload with {members} more"), "RFC 7519 4", token, "malformed"));
    }
    // The same name in two objects, or similar names, are not duplicates.
    for members in [r#""x":{"sub":"x","exp":1}"#, r#""Sub":"x""#, r#""e\u0301":1,"é":2"#, r#""x":[{"y":1},{"y":1}]"#] {
        let token = ed(HEADER, format!("{{{members},{inside}}}"));
        cases.push(case(format!("a payload with {members}, no duplicate"), "RFC 7519 4", token, "valid"));
    }
    cases
}

fn nesting() -> Vec<Case> {
    const MAX_DEPTH: usize = 32;
    let mut cases = Vec::new();
    let claims = valid_claims(json!({})).to_string();
    for (what, open, inner, close) in [("arrays", "[", "", "]"), ("objects", r#"{"x":"#, "{}", "}")] {
        // The payload itself is one level, and the innermost object another.
        let levels = MAX_DEPTH - 1 - usize::from(what == "objects");
        for (more, expected) in [(0, "valid"), (1, "malformed"), (100_000 / open.len(), "malformed")] {
            let deep = format!("{}{inner}{}", open.repeat(levels + more), close.repeat(levels + more));
            let member = |text: &str| format!("{},\"x\":{deep}}}", text.strip_suffix('}').unwrap());
            let name = format!("{what} {more} levels deeper than allowed");
            let token = ed(HEADER, member(&claims));
            cases.push(case(format!("a payload {name}"), "RFC 8259 9", token, expected));
            // Headers are limited to 64 KiB.
            if more < 2 {
                let token = ed(member(HEADER), &claims);
                cases.push(case(format!("a header {name}"), "RFC 8259 9", token, expected));
            }
        }
    }
    cases
}

/// Claims are compared after unescaping.
fn escapes() -> Vec<Case> {
    let text = |name, text| ed(HEADER, super::with_claim(name, text));
    vec![
        case("iss written with escapes", "RFC 7519 7.3", text("iss", r#""https:\/\/issuer.ex\u0061mple""#), "valid"),
        case("aud written with escapes", "RFC 7519 7.3", text("aud", r#""\u0068ttps://api.example""#), "valid"),
        case("iss with a NUL", "RFC 7519 7.3", text("iss", r#""https://issuer.example\u0000""#), "wrong_issuer"),
        case("aud with a NUL", "RFC 7519 7.3", text("aud", r#""https://api.example\u0000x""#), "wrong_audience"),
        case("iss with a look-alike", "RFC 7519 7.3", text("iss", r#""https://іssuer.example""#), "wrong_issuer"),
    ]
}
