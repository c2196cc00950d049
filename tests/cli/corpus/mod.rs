//! The verifier's corpus: hundreds of tokens, each with the rule that decides it, decided by the program itself.
//!
//! Cases that share their keys and options are decided in one `--batch`; every second one also alone, where the exit
//! code and what may be said about a token are checked too.

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

/// The moment as of which each case is decided, if it does not say another.
const NOW: i64 = 1_800_000_000;

/// One token, and what must be decided about it.
struct Case {
    name: String,
    /// The RFC and its section that decide it.
    rule: &'static str,
    token: Vec<u8>,
    /// The file given with `--jwks`.
    keys: String,
    args: Vec<String>,
    /// `valid`; or the codes of all reasons, in order, each once; or `refused`: the keys cannot be used, exit code 2.
    expected: String,
}

fn case(name: impl Into<String>, rule: &'static str, token: impl Into<Vec<u8>>, expected: impl Into<String>) -> Case {
    let (name, token, expected) = (name.into(), token.into(), expected.into());
    Case { name, rule, token, keys: USUAL.clone(), args: Vec::new(), expected }
}

impl Case {
    fn keys(self, keys: impl ToString) -> Self {
        Self { keys: keys.to_string(), ..self }
    }

    fn args(self, args: &[&str]) -> Self {
        Self { args: args.iter().map(ToString::to_string).collect(), ..self }
    }
}

/// The key pairs of a run. `usual` trusts the first four, by these names.
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

static USUAL: LazyLock<String> = LazyLock::new(|| {
    let Pairs { rsa, p256, p384, ed, .. } = &*PAIRS;
    jwks([rsa.jwk("rsa"), p256.jwk("p256"), p384.jwk("p384"), ed.jwk("ed")])
});

fn jwks(keys: impl IntoIterator<Item = Value>) -> String {
    json!({"keys": keys.into_iter().collect::<Vec<_>>()}).to_string()
}

/// Claims that are granted at [`NOW`], with changes; what nobody asks about must not be seen in a denial.
fn valid_claims(changes: Value) -> Value {
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "the-subject-itself", "jti": "the-tokens-own-id", "iat": NOW,
        "exp": NOW + 300, "email": "somebody@private.example",
    });
    changed(claims, changes)
}

/// [`good`] claims as text with the claim `name` written exactly as `text`.
fn with_claim(name: &str, text: &str) -> String {
    let others = valid_claims(json!({name: null})).to_string();
    format!("{},\"{name}\":{text}}}", others.strip_suffix('}').expect("an object"))
}

/// A token by the usual Ed25519 key with these texts as header and payload.
fn ed(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    PAIRS.ed.token("EdDSA", header, payload)
}

/// A token with [`good`] claims, changed.
fn says(changes: Value) -> String {
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

/// A home with the keys of the cases in it.
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
        // From a file, not a pipe: a batch answers while it is still being read.
        let output = self.0.command(&args).stdin(File::open(&input).unwrap()).output().unwrap();
        CommandOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A verdict in the words of [`Case::expected`].
fn told(verdict: &Value) -> String {
    if verdict["valid"] == true {
        return "valid".into();
    }
    assert_eq!(verdict["valid"], false, "{verdict}");
    let reasons = verdict["reasons"].as_array().expect("reasons");
    let mut codes: Vec<&str> = reasons.iter().map(|reason| reason["code"].as_str().expect("a code")).collect();
    codes.dedup();
    codes.join(" ")
}

/// What `said` must not hold about the case's token and does.
fn leaks(case: &Case, said: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(&case.token);
    let text = text.trim();
    let signature = text.rsplit('.').next().unwrap_or_default();
    // Shorter ones are words that stand in any text.
    let mut forbidden: Vec<String> =
        [text, signature].map(str::to_owned).into_iter().filter(|t| t.len() > 11).collect();
    let payload = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = payload.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).unwrap_or_default();
    let asked = |name: &str| match name {
        "iss" => case.expected.contains("wrong_issuer"),
        "aud" => case.expected.contains("wrong_audience"),
        _ => case.expected.contains("claim_mismatch"),
    };
    // The options name what they ask about.
    let named = ["iss", "aud", "scope", "scp", "acr", "amr", "team"];
    for (name, value) in claims.as_object().into_iter().flatten() {
        let known = [json!(ISSUER), json!(AUDIENCE)].contains(value);
        if !(known || case.expected == "valid" || named.contains(&name.as_str()) && asked(name)) {
            let texts = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            let texts = texts.iter().filter_map(Value::as_str).filter(|text| text.len() > 11 && *text != AUDIENCE);
            forbidden.extend(texts.map(str::to_owned));
        }
    }
    forbidden.retain(|text| said.contains(text));
    forbidden
}

#[test]
fn there_are_hundreds_and_each_names_its_rule() {
    let names: BTreeSet<&str> = CASES.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), CASES.len(), "each has a name of its own");
    let mut distinct = BTreeSet::new();
    for case in CASES.iter() {
        assert!(distinct.insert((&case.token, &case.keys, &case.args)), "{} is there twice", case.name);
    }
    assert!(distinct.len() >= 400, "{}", distinct.len());
    assert!(CASES.iter().filter(|case| case.expected == "valid").count() >= 100, "a verifier that denies all fails");
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
fn every_case_is_decided_in_a_batch_as_its_rule_says() {
    let bench = Bench(Sandbox::new());
    let mut groups: BTreeMap<_, Vec<&Case>> = BTreeMap::new();
    // A line end inside a token makes it two.
    for case in CASES.iter().filter(|case| !case.token.trim_ascii().contains(&b'\n')) {
        groups.entry((&case.keys, &case.args)).or_default().push(case);
    }
    let mut wrong = Vec::new();
    for cases in groups.values() {
        let lines: Vec<&[u8]> = cases.iter().map(|case| case.token.trim_ascii()).collect();
        let ran = bench.run(cases[0], &lines.join(&b'\n'), &["--batch"]);
        let answers: Vec<&str> = match ran.code {
            2 => vec!["{}"; cases.len()],
            _ => ran.stdout.lines().collect(),
        };
        assert_eq!(answers.len(), cases.len(), "{}: {}", cases[0].name, ran.stderr);
        let all_valid = cases.iter().all(|case| case.expected == "valid");
        let code = if cases[0].expected == "refused" { 2 } else { 4 * i32::from(!all_valid) };
        for (case, answer) in cases.iter().zip(answers) {
            let verdict: Value = serde_json::from_str(answer).unwrap();
            let found = if ran.code == 2 { "refused".to_owned() } else { told(&verdict) };
            let leaks = leaks(case, answer);
            if found != case.expected || ran.code != code || !leaks.is_empty() {
                let Case { name, rule, expected, .. } = case;
                wrong.push(format!("{name} ({rule}): expected {expected}, found {answer} {leaks:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_second_case_is_decided_alone_and_the_token_is_never_shown() {
    let bench = Bench(Sandbox::new());
    let mut wrong = Vec::new();
    for (n, case) in CASES.iter().enumerate() {
        let in_lines = !case.token.trim_ascii().contains(&b'\n');
        if n % 2 == 1 && in_lines {
            continue;
        }
        let for_programs = n % 4 == 0 || !in_lines;
        let ran = bench.run(case, &case.token, if for_programs { &["--json", "-vvv"] } else { &["-vvv"] });
        let code = match case.expected.as_str() {
            "valid" => 0,
            "refused" => 2,
            _ => 4,
        };
        let found = match serde_json::from_str(&ran.stdout) {
            Ok(verdict) if for_programs && code != 2 => told(&verdict),
            _ => case.expected.clone(),
        };
        let leaks = leaks(case, &format!("{}\n{}", ran.stdout, ran.stderr));
        let empty = ran.stdout.is_empty() && (for_programs && code == 4 || code == 0);
        if ran.code != code || found != case.expected || !leaks.is_empty() || empty {
            let Case { name, rule, expected, .. } = case;
            wrong.push(format!("{name} ({rule}): expected {expected}, found {ran:?} {leaks:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_known_of_a_key_is_told_with_a_grant() {
    let bench = Bench(Sandbox::new());
    let ran = bench.run(&case("", "", "", ""), says(json!({})).as_bytes(), &["--json"]).exits(0);
    assert_eq!(ran.json()["key"], json!({"kid": "ed", "alg": "EdDSA", "kty": "OKP"}));
    assert_eq!(ran.json()["claims"], valid_claims(json!({})));
}
