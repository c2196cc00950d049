//! The parts of a token and their encoding. Signatures are computed over the malformed text.

use serde_json::json;

use super::{Case, DEFAULT_KEYS, HEADER, PAIRS, case, token_with, valid_claims};
use crate::support::signing_keys::b64;

pub fn cases() -> Vec<Case> {
    let mut cases = encodings();
    cases.extend(parts());
    cases.extend(opaque());
    cases.extend(lengths());
    cases
}

/// Appends spaces until the length modulo 3 is `remainder`, which determines the unused bits of the last character.
fn padded(text: &str, remainder: usize) -> String {
    let spaces = (3 + remainder - text.len() % 3) % 3;
    format!("{text}{}", " ".repeat(spaces))
}

/// Sets an unused bit of the last character: a lenient decoder returns the same bytes.
fn with_trailing_bits(part: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = part.split_at(part.len() - 1);
    let at = ALPHABET.iter().position(|c| *c == last.as_bytes()[0]).unwrap();
    format!("{rest}{}", char::from(ALPHABET[at + 1]))
}

type Change = Box<dyn Fn(&str) -> String>;

fn encodings() -> Vec<Case> {
    let mut cases = Vec::new();
    let claims = valid_claims(json!({})).to_string();
    let signature_of = |header: &str, payload: &str| {
        let token = PAIRS.ed.parts("EdDSA", header, payload);
        token.rsplit('.').next().unwrap().to_owned()
    };
    let inserted = |part: &str, what: &str| format!("{}{what}{}", &part[..4], &part[4..]);
    let changes: Vec<(&str, Change)> = vec![
        ("with trailing bits", Box::new(with_trailing_bits)),
        ("padded with =", Box::new(|part| format!("{part}="))),
        ("padded with ==", Box::new(|part| format!("{part}=="))),
        ("padded with %3D", Box::new(|part| format!("{part}%3D"))),
        ("with a space in it", Box::new(move |part| inserted(part, " "))),
        ("with a tab in it", Box::new(move |part| inserted(part, "\t"))),
        ("with a line end in it", Box::new(move |part| inserted(part, "\r\n"))),
        ("with a NUL in it", Box::new(move |part| inserted(part, "\0"))),
        ("with + for -", Box::new(move |part| inserted(part, "++++"))),
        ("with / for _", Box::new(move |part| inserted(part, "////"))),
        ("with ! in it", Box::new(move |part| inserted(part, "!"))),
        ("with é in it", Box::new(move |part| inserted(part, "é"))),
        ("with a soft hyphen in it", Box::new(move |part| inserted(part, "\u{ad}"))),
        ("with full-width letters", Box::new(move |part| inserted(part, "ＡＡＡＡ"))),
        ("with an extra character", Box::new(|part| format!("{part}A"))),
        ("after a space", Box::new(|part| format!(" {part}"))),
    ];
    for (what, change) in &changes {
        for remainder in [1, 2] {
            let (header, payload) = (b64(padded(HEADER, remainder)), b64(padded(&claims, remainder)));
            let changed = change(&header);
            let name = format!("the header {what}, {remainder} over");
            let token = format!("{changed}.{payload}.{}", signature_of(&changed, &payload));
            if *what != "after a space" && !(*what == "with an extra character" && remainder == 2) {
                cases.push(case(name, "RFC 7515 2", token, "malformed"));
            }
            let changed = change(&payload);
            let name = format!("the payload {what}, {remainder} over");
            let token = format!("{header}.{changed}.{}", signature_of(&header, &changed));
            if !(*what == "with an extra character" && remainder == 2) {
                cases.push(case(name, "RFC 7515 2", token, "malformed"));
            }
        }
        let (header, payload) = (b64(HEADER), b64(&claims));
        let token = format!("{header}.{payload}.{}", change(&signature_of(&header, &payload)));
        // 64 bytes followed by one more character are the encoding of 65 bytes.
        if *what != "with an extra character" {
            cases.push(case(format!("the signature {what}"), "RFC 7515 2", token, "malformed"));
        }
    }
    for remainder in [0, 1] {
        let token = super::ed(padded(HEADER, remainder), padded(&claims, remainder));
        cases.push(case(format!("well encoded, {remainder} over"), "RFC 7515 2", token, "valid"));
    }
    cases
}

fn parts() -> Vec<Case> {
    let token = token_with(json!({}));
    let texts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = texts[..] else { panic!("three parts") };
    let jwe = format!("{}..AAAA.AAAA.AAAA", b64(r#"{"alg":"dir","enc":"A256GCM"}"#));
    let mut cases = Vec::new();
    for (name, rule, token) in [
        ("one part", "RFC 7519 7.2", format!("{header}.")),
        ("two parts", "RFC 7515 7.1", format!("{header}.{payload}")),
        ("a dot at the end", "RFC 7515 7.1", format!("{token}.")),
        ("a dot at the start", "RFC 7515 7.1", format!(".{token}")),
        ("four parts", "RFC 7515 7.1", format!("{token}.{signature}")),
        ("five parts", "RFC 7516 9", format!("{token}.{signature}.{signature}")),
        ("six parts", "RFC 7515 7.1", format!("{token}.{token}")),
        ("seven parts", "RFC 7515 7.1", format!("{token}.{token}.x")),
        ("nine parts", "RFC 7515 7.1", format!("{token}.{token}.{token}")),
        ("two dots", "RFC 7515 7.1", "..".into()),
        ("ten thousand dots", "RFC 7515 7.1", ".".repeat(10_000)),
        ("no header", "RFC 7515 7.1", format!(".{payload}.{signature}")),
        ("no payload", "RFC 7515 7.1", format!("{header}..{signature}")),
        ("a detached payload", "RFC 7515 F", PAIRS.ed.parts("EdDSA", header, "")),
        ("a JWE", "RFC 7516 3.1", jwe),
        ("a JWE of one key", "RFC 7516 9", format!("{header}.AAAA.AAAA.{payload}.{signature}")),
        ("a nested JWT", "RFC 7519 7.2", super::ed(r#"{"alg":"EdDSA","kid":"ed","cty":"JWT"}"#, &token)),
        ("two tokens with a comma", "RFC 7515 7.1", format!("{token},{token}")),
        ("a tilde after it, as an SD-JWT has", "RFC 7515 7.1", format!("{token}~")),
    ] {
        cases.push(case(name, rule, token, "malformed"));
    }
    // What is pasted along with a token is not a part of it.
    for (name, rule, token) in [
        ("Bearer before it", "RFC 6750 2.1", format!("Bearer {token}")),
        ("quoted", "RFC 7515 7.1", format!("\"{token}\"")),
        ("a byte order mark before it", "RFC 7515 7.1", format!("\u{feff}{token}")),
    ] {
        cases.push(case(name, rule, token, "valid"));
    }
    let header_thrice = [header; 3].join(".");
    cases.push(case("the header three times", "RFC 7515 5.2", header_thrice, "invalid_signature missing_claim"));
    let latin = [token.as_bytes(), b"\xe9"].concat();
    cases.push(case("a byte that is not UTF-8", "RFC 7515 7.1", latin, "malformed"));
    for (name, end) in [("nothing after it", ""), ("a line end", "\n"), ("CR and LF", "\r\n"), ("spaces", "  \n")] {
        // Pipes often add white space at the end. The claim makes the cases differ in a batch.
        let token = token_with(json!({"end": name}));
        cases.push(case(format!("with {name}"), "RFC 7515 7.1", format!("{token}{end}"), "valid"));
    }
    cases
}

/// Opaque tokens, which are not JWTs.
fn opaque() -> Vec<Case> {
    let token = token_with(json!({}));
    let texts: Vec<&str> = token.split('.').collect();
    let general = json!({"payload": texts[1], "signatures": [{"protected": texts[0], "signature": texts[2]}]});
    [
        ("an empty text", String::new()),
        ("a word", "opaque".into()),
        ("a GitHub token", "gho_16C7e42F292c6912E7710c838347Ae178B4a".into()),
        ("a token with a dot", "ya29.a0AfH6SMBx7Cq".into()),
        ("a token with an equals sign", "dGhpcyBpcyBvcGFxdWU=".into()),
        ("a header alone", texts[0].into()),
        ("general JWS JSON serialization", general.to_string()),
        ("a set of keys", DEFAULT_KEYS.clone()),
        ("a megabyte without a dot", "x".repeat(1_000_000)),
    ]
    .into_iter()
    .map(|(name, token)| {
        let expected =
            if token.len() > 256 * 1024 || token.matches('.').count() > 1 { "malformed" } else { "opaque_token" };
        case(name, "RFC 6749 1.4", token, expected)
    })
    .collect()
}

/// Returns a signed token of exactly `length` bytes.
fn long(length: usize) -> String {
    let fixed = token_with(json!({"pad": ""})).len();
    let about = (length - fixed) * 3 / 4;
    // No payload has an encoded length of 4n + 1, so the header's length varies too.
    let tries = (about - 4..about + 4).flat_map(|pad| (0..3).map(move |over| (pad, over)));
    let build =
        |(pad, over)| super::ed(padded(HEADER, over), valid_claims(json!({"pad": "x".repeat(pad)})).to_string());
    tries.map(build).find(|token| token.len() == length).expect("a token of that length")
}

fn lengths() -> Vec<Case> {
    const MAX: usize = 256 * 1024;
    const MAX_HEADER: usize = 64 * 1024;
    let header = |length: usize| {
        let pad = length - r#"{"alg":"EdDSA","kid":"ed","x":""}"#.len();
        format!(r#"{{"alg":"EdDSA","kid":"ed","x":"{}"}}"#, "x".repeat(pad))
    };
    let claims = valid_claims(json!({})).to_string();
    vec![
        case("256 KiB", "RFC 8259 9", long(MAX), "valid"),
        case("256 KiB and one byte", "RFC 8259 9", long(MAX + 1), "malformed"),
        case("more than a megabyte", "RFC 8259 9", long(MAX * 4 + 100), "malformed"),
        case("a header of 64 KiB", "RFC 8259 9", super::ed(header(MAX_HEADER), &claims), "valid"),
        case("a header of 64 KiB and one byte", "RFC 8259 9", super::ed(header(MAX_HEADER + 1), &claims), "malformed"),
    ]
}
