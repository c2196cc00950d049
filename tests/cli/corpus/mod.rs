//! A corpus of tokens for `verify`, each with its expected verdict and the RFC section that requires it.
//!
//! Cases with the same keys and options are verified in one `--batch`. Every second case is also verified alone, where
//! the exit code and the output are checked too.

mod algorithms;
mod base64url;
mod claims;
mod forged;
mod header;
mod json;
mod keys;
mod options;
mod signatures;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::jwt::{AUDIENCE, ISSUER};
use crate::support::signing_keys::{SigningKey, changed};
use crate::support::{CommandOutput, Sandbox};

/// The default for `--at`.
const NOW: i64 = 1_800_000_000;

/// A token and its expected verdict.
struct Case {
    name: String,
    /// The RFC and section that require the verdict.
    rule: &'static str,
    token: Vec<u8>,
    /// The file given with `--jwks`.
    keys: String,
    args: Vec<String>,
    /// `valid`, or all reason codes in order without duplicates, or `refused` (unusable keys, exit code 2).
    expected: String,
}

fn case(name: impl Into<String>, rule: &'static str, token: impl Into<Vec<u8>>, expected: impl Into<String>) -> Case {
    let (name, token, expected) = (name.into(), token.into(), expected.into());
    Case { name, rule, token, keys: DEFAULT_KEYS.clone(), args: Vec::new(), expected }
}

impl Case {
    fn keys(self, keys: impl ToString) -> Self {
        Self { keys: keys.to_string(), ..self }
    }

    fn args(self, args: &[&str]) -> Self {
        Self { args: args.iter().map(ToString::to_string).collect(), ..self }
    }
}

/// The key pairs of a run. [`DEFAULT_KEYS`] contains the first four, with the field names as key IDs.
struct Pairs {
    rsa: SigningKey,
    p256: SigningKey,
    p384: SigningKey,
    ed: SigningKey,
    other_rsa: SigningKey,
    other_p256: SigningKey,
    other_p384: SigningKey,
    other_ed: SigningKey,
}

static PAIRS: LazyLock<Pairs> = LazyLock::new(|| Pairs {
    rsa: SigningKey::rsa(),
    p256: SigningKey::ec("P-256"),
    p384: SigningKey::ec("P-384"),
    ed: SigningKey::ed25519(),
    other_rsa: SigningKey::rsa(),
    other_p256: SigningKey::ec("P-256"),
    other_p384: SigningKey::ec("P-384"),
    other_ed: SigningKey::ed25519(),
});

static DEFAULT_KEYS: LazyLock<String> = LazyLock::new(|| {
    let Pairs { rsa, p256, p384, ed, .. } = &*PAIRS;
    jwks([rsa.jwk("rsa"), p256.jwk("p256"), p384.jwk("p384"), ed.jwk("ed")])
});

fn jwks(keys: impl IntoIterator<Item = Value>) -> String {
    json!({"keys": keys.into_iter().collect::<Vec<_>>()}).to_string()
}

/// Returns claims that are valid at [`NOW`], changed by `changes`. A denial must not show their values unless an option
/// asks for them.
fn valid_claims(changes: Value) -> Value {
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "the-subject-itself", "jti": "the-tokens-own-id", "iat": NOW,
        "exp": NOW + 300, "email": "user@private.example",
    });
    changed(claims, changes)
}

/// Returns [`valid_claims`] as JSON text in which the claim `name` has the value `text`, verbatim.
fn with_claim(name: &str, text: &str) -> String {
    let others = valid_claims(json!({name: null})).to_string();
    format!("{},\"{name}\":{text}}}", others.strip_suffix('}').expect("an object"))
}

/// Returns a token signed with the default Ed25519 key.
fn ed(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    PAIRS.ed.token("EdDSA", header, payload)
}

/// Returns a token with [`valid_claims`], changed by `changes`.
fn token_with(changes: Value) -> String {
    ed(HEADER, valid_claims(changes).to_string())
}

const HEADER: &str = r#"{"alg":"EdDSA","kid":"ed"}"#;

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let groups = [
        ("algorithms", algorithms::cases()),
        ("base64url", base64url::cases()),
        ("claims", claims::cases()),
        ("forged", forged::cases()),
        ("header", header::cases()),
        ("json", json::cases()),
        ("keys", keys::cases()),
        ("options", options::cases()),
        ("signatures", signatures::cases()),
        ("time", time::cases()),
    ];
    let named = |(group, cases): (&str, Vec<Case>)| {
        let name = |case: Case| Case { name: format!("{group}: {}", case.name), ..case };
        cases.into_iter().map(name).collect::<Vec<_>>()
    };
    groups.into_iter().flat_map(named).collect()
});

/// A home in which cases are verified.
struct Bench(Sandbox);

impl Bench {
    fn run(&self, case: &Case, stdin: &[u8], more: &[&str]) -> CommandOutput {
        let (keys, input) = (self.0.path().join("keys"), self.0.path().join("stdin"));
        fs::write(&keys, &case.keys).unwrap();
        fs::write(&input, stdin).unwrap();
        let now = NOW.to_string();
        let mut args = vec!["verify", "-", "--jwks", keys.to_str().unwrap()];
        for (option, value) in [("--issuer", ISSUER), ("--audience", AUDIENCE), ("--at", &now)] {
            if !case.args.iter().any(|arg| arg == option) {
                args.extend([option, value]);
            }
        }
        args.extend(case.args.iter().map(String::as_str).chain(more.iter().copied()));
        // From a file, because a batch writes verdicts while stdin is still being written.
        let output = self.0.command(&args).stdin(File::open(&input).unwrap()).output().unwrap();
        CommandOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Returns a verdict in the format of [`Case::expected`].
fn outcome(verdict: &Value) -> String {
    if verdict["valid"] == true {
        return "valid".into();
    }
    assert_eq!(verdict["valid"], false, "{verdict}");
    let reasons = verdict["reasons"].as_array().expect("reasons");
    let mut codes: Vec<&str> = reasons.iter().map(|reason| reason["code"].as_str().expect("a code")).collect();
    codes.dedup();
    codes.join(" ")
}

/// Returns the parts of the case's token that `output` contains and must not contain.
fn leaks(case: &Case, output: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(&case.token);
    let text = text.trim();
    let signature = text.rsplit('.').next().unwrap_or_default();
    // Shorter texts may occur in any output.
    let mut forbidden: Vec<String> =
        [text, signature].map(str::to_owned).into_iter().filter(|t| t.len() > 11).collect();
    let payload = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = payload.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).unwrap_or_default();
    let may_be_shown = |name: &str| match name {
        "iss" => case.expected.contains("wrong_issuer"),
        "aud" => case.expected.contains("wrong_audience"),
        _ => case.expected.contains("claim_mismatch"),
    };
    // Claims that options ask for.
    let option_claims = ["iss", "aud", "scope", "scp", "acr", "amr", "team"];
    for (name, value) in claims.as_object().into_iter().flatten() {
        let known = [json!(ISSUER), json!(AUDIENCE)].contains(value);
        if !(known || case.expected == "valid" || option_claims.contains(&name.as_str()) && may_be_shown(name)) {
            let texts = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            let texts = texts.iter().filter_map(Value::as_str).filter(|text| text.len() > 11 && *text != AUDIENCE);
            forbidden.extend(texts.map(str::to_owned));
        }
    }
    forbidden.retain(|text| output.contains(text));
    forbidden
}

#[test]
fn cases_are_unique_and_name_an_rfc_section() {
    let names: BTreeSet<&str> = CASES.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), CASES.len(), "names are unique");
    let mut distinct = BTreeSet::new();
    for case in CASES.iter() {
        assert!(distinct.insert((&case.token, &case.keys, &case.args)), "{} is a duplicate", case.name);
    }
    assert!(distinct.len() >= 400, "{}", distinct.len());
    assert!(
        CASES.iter().filter(|case| case.expected == "valid").count() >= 100,
        "enough valid tokens that a verifier which denies everything fails"
    );
    for case in CASES.iter() {
        let mut words = case.rule.split(' ');
        let (rfc, number, section) = (words.next(), words.next(), words.next());
        let number = number.and_then(|n| n.parse::<u16>().ok());
        let is_section = |s: &str| s.starts_with(|c: char| c.is_ascii_alphanumeric()) && s.len() < 12;
        assert!(rfc == Some("RFC") && number.is_some_and(|n| n > 2000), "{}: {}", case.name, case.rule);
        assert!(section.is_some_and(is_section) && words.next().is_none(), "{}: {}", case.name, case.rule);
    }
}

#[test]
fn batch_gives_the_expected_verdict_for_each_case() {
    let bench = Bench(Sandbox::new());
    let mut groups: BTreeMap<_, Vec<&Case>> = BTreeMap::new();
    // A token with a line end inside would be two lines.
    for case in CASES.iter().filter(|case| !case.token.trim_ascii().contains(&b'\n')) {
        groups.entry((&case.keys, &case.args)).or_default().push(case);
    }
    let mut wrong = Vec::new();
    for cases in groups.values() {
        let lines: Vec<&[u8]> = cases.iter().map(|case| case.token.trim_ascii()).collect();
        let ran = bench.run(cases[0], &lines.join(&b'\n'), &["--batch"]);
        let verdicts: Vec<&str> = match ran.code {
            2 => vec!["{}"; cases.len()],
            _ => ran.stdout.lines().collect(),
        };
        assert_eq!(verdicts.len(), cases.len(), "{}: {}", cases[0].name, ran.stderr);
        let all_valid = cases.iter().all(|case| case.expected == "valid");
        let code = if cases[0].expected == "refused" { 2 } else { 4 * i32::from(!all_valid) };
        for (case, line) in cases.iter().zip(verdicts) {
            let verdict: Value = serde_json::from_str(line).unwrap();
            let found = if ran.code == 2 { "refused".to_owned() } else { outcome(&verdict) };
            let leaks = leaks(case, line);
            if found != case.expected || ran.code != code || !leaks.is_empty() {
                let Case { name, rule, expected, .. } = case;
                wrong.push(format!("{name} ({rule}): expected {expected}, found {line} {leaks:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn single_verdicts_are_as_expected_and_hide_the_token() {
    let bench = Bench(Sandbox::new());
    let mut wrong = Vec::new();
    for (n, case) in CASES.iter().enumerate() {
        let is_one_line = !case.token.trim_ascii().contains(&b'\n');
        // An empty stdin is a usage error: the command before the pipe failed.
        if (n % 2 == 1 && is_one_line) || case.token.is_empty() {
            continue;
        }
        let as_json = n % 4 == 0 || !is_one_line;
        let ran = bench.run(case, &case.token, if as_json { &["--json", "-vvv"] } else { &["-vvv"] });
        let code = match case.expected.as_str() {
            "valid" => 0,
            "refused" => 2,
            _ => 4,
        };
        let found = match serde_json::from_str(&ran.stdout) {
            Ok(verdict) if as_json && code != 2 => outcome(&verdict),
            _ => case.expected.clone(),
        };
        let leaks = leaks(case, &format!("{}\n{}", ran.stdout, ran.stderr));
        let empty = ran.stdout.is_empty() && (as_json && code == 4 || code == 0);
        if ran.code != code || found != case.expected || !leaks.is_empty() || empty {
            let Case { name, rule, expected, .. } = case;
            wrong.push(format!("{name} ({rule}): expected {expected}, found {ran:?} {leaks:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn valid_verdict_describes_the_key() {
    let bench = Bench(Sandbox::new());
    let ran = bench.run(&case("", "", "", ""), token_with(json!({})).as_bytes(), &["--json"]).exits(0);
    assert_eq!(ran.json()["key"], json!({"kid": "ed", "alg": "EdDSA", "kty": "OKP"}));
    assert_eq!(ran.json()["claims"], valid_claims(json!({})));
}
