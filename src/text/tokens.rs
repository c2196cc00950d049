//! Finds tokens and secrets in text that repeats what was typed.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What is shown in place of a token.
const PLACEHOLDER: &str = "TOKEN";

/// How a JWT begins: base64url of `{"`.
const JSON_OBJECT: &str = "eyJ";

/// The shortest part of a JWT that is hidden, in characters. A header with nothing but `alg` has 20.
const MIN_JWT: usize = 16;

/// The shortest opaque secret that is hidden if it has capital and small letters and digits, and if it has not, as in hexadecimal.
const MIN_OPAQUE: (usize, usize) = (24, 40);

/// Parameters whose value is a secret, however short.
const SECRET_PARAMETERS: [&str; 11] = [
    "access_token",
    "refresh_token",
    "id_token",
    "token",
    "client_secret",
    "secret",
    "password",
    "assertion",
    "client_assertion",
    "code",
    "code_verifier",
];

/// Words before an identifier, which may look random without being a secret: `--client-id`, `key ID`, `account`.
const IDENTIFIERS: [&str; 14] = [
    "client",
    "client-id",
    "client_id",
    "id",
    "audience",
    "scope",
    "key",
    "account",
    "subject",
    "user",
    "as",
    "found",
    "party",
    "for",
];

/// Returns whether the text has the form of a JWT or a JWE, whose header is a JSON object.
#[must_use]
pub fn resembles_token(text: &str) -> bool {
    text.trim_start().starts_with(JSON_OBJECT) && text.matches('.').count() >= 2
}

/// Replaces what looks like a token or a secret: JWTs, long random text, and the passwords and secret parameters of URLs. Names,
/// paths, issuers and client IDs stay, so that commands that repeat them work. Opaque secrets that are short are not found.
#[must_use]
pub fn hide_tokens(text: &str) -> Cow<'_, str> {
    match hide_passwords(text) {
        Cow::Borrowed(text) => hide_words(text),
        Cow::Owned(text) => hide_words(&text).into_owned().into(),
    }
}

/// Replaces the passwords of URLs: what is between the user's name and the last `@` of the authority.
fn hide_passwords(text: &str) -> Cow<'_, str> {
    let (mut hidden, mut copied) = (String::new(), 0);
    for (at, _) in text.match_indices("//") {
        let start = at + 2;
        let authority =
            text[start..].split(|c: char| c.is_whitespace() || "/?#\"'`<>".contains(c)).next().unwrap_or_default();
        let user = authority.rfind('@').map(|end| &authority[..end]);
        if let Some((name, password)) = user.and_then(|user| user.split_once(':'))
            && !password.is_empty()
        {
            hidden.push_str(&text[copied..=start + name.len()]);
            hidden.push_str(PLACEHOLDER);
            copied = start + name.len() + 1 + password.len();
        }
    }
    if copied == 0 { text.into() } else { (hidden + &text[copied..]).into() }
}

fn hide_words(text: &str) -> Cow<'_, str> {
    let (mut hidden, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(start) = text[at..].find(is_token_char).map(|found| at + found) {
        let is_secret = is_secret_parameter(&text[..start]);
        let is_end = |c: char| match is_secret {
            true => c.is_whitespace() || "\"'`<>&#".contains(c),
            false => !is_token_char(c),
        };
        let end = text[start..].find(is_end).map_or(text.len(), |length| start + length);
        for (from, to) in secrets(&text[..start], &text[start..end], is_secret) {
            hidden.push_str(&text[copied..start + from]);
            hidden.push_str(PLACEHOLDER);
            copied = start + to;
        }
        at = end;
    }
    if copied == 0 { text.into() } else { (hidden + &text[copied..]).into() }
}

/// The characters of base64 and base64url, of JWTs, and of bearer tokens (RFC 6750, section 2.1) without the padding.
fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~+/".contains(c)
}

/// Returns whether the value of a secret parameter follows.
fn is_secret_parameter(before: &str) -> bool {
    before.strip_suffix('=').is_some_and(|before| SECRET_PARAMETERS.contains(&last_name(before)))
}

/// Returns the name of what follows, in lower case: for a list, that before its first value.
fn label(mut before: &str) -> String {
    let is_quote = |c: char| "\"'`".contains(c);
    loop {
        let trimmed = before.trim_end_matches(|c: char| c.is_whitespace() || is_quote(c) || c == '=');
        match trimmed.strip_suffix(',') {
            Some(rest) => before = rest.trim_end_matches(is_quote).rsplit_once(is_quote).map_or("", |(start, _)| start),
            None => return last_name(trimmed).to_ascii_lowercase(),
        }
    }
}

/// Returns where a JWT begins: with base64url of printable JSON.
fn jwt_start(part: &str) -> Option<usize> {
    let is_json = |from: usize| {
        let decoded = part.get(from..from + 8).and_then(|start| URL_SAFE_NO_PAD.decode(start).ok());
        decoded.is_some_and(|bytes| bytes.iter().all(|byte| matches!(byte, b' '..=b'~')))
    };
    let mut starts = part.match_indices(JSON_OBJECT).map(|(from, _)| from);
    starts.find(|from| part.len() - from >= MIN_JWT && is_json(*from))
}

/// Returns the ranges of `text` to hide, which follows `before`: all of it if it is the value of a secret parameter.
fn secrets(before: &str, text: &str, is_secret: bool) -> Vec<(usize, usize)> {
    let whole = vec![(0, text.len())];
    let word = before.rsplit(|c: char| c.is_whitespace() || "\"'`<>()".contains(c)).next().unwrap_or_default();
    if is_secret {
        return whole;
    }
    let is_authority =
        word.contains("://") && !word.contains(['?', '#']) || text.starts_with("//") && before.ends_with(':');
    // A path goes on after a character that no token has, such as the `@` of a file of ours.
    let is_path = is_authority || text.starts_with(['/', '.', '~']) || word.starts_with(['/', '.', '~']);
    if !is_path && !IDENTIFIERS.contains(&label(before).as_str()) && is_random(text) {
        return whole;
    }
    let mut found = Vec::new();
    let mut start = 0;
    for part in text.split('/') {
        if let Some(from) = jwt_start(part) {
            found.push((start + from, start + part.len()));
        }
        start += part.len() + 1;
    }
    found
}

/// Returns the name at the end of the text, without the dashes of an option.
fn last_name(text: &str) -> &str {
    let name = text.rsplit(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).next().unwrap_or_default();
    name.trim_start_matches('-')
}

/// Returns whether the text is long, and changes between digits, capital and small letters more often than words do.
fn is_random(text: &str) -> bool {
    let class = |c: char| match c {
        'a'..='z' => Some(0_usize),
        'A'..='Z' => Some(1),
        '0'..='9' => Some(2),
        _ => None,
    };
    let classes: Vec<usize> = text.chars().filter_map(class).collect();
    let has = |class: usize| classes.contains(&class);
    let min = if has(0) && has(1) { MIN_OPAQUE.0 } else { MIN_OPAQUE.1 };
    let changes = classes.windows(2).filter(|pair| pair[0] != pair[1]).count();
    has(2) && (has(0) || has(1)) && text.len() >= min && changes * 4 >= text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";

    #[test]
    fn tokens_and_secrets_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            ("unknown command `JWT`", "unknown command `TOKEN`"),
            ("cannot read /tmp/JWT: not found", "cannot read /tmp/TOKEN: not found"),
            ("cannot read /tmp/@JWT: not found", "cannot read /tmp/@TOKEN: not found"),
            ("'https://a.example/JWT/x' and xJWT", "'https://a.example/TOKEN/x' and TOKEN"),
            ("https://a.example/?q=JWT&b=1", "https://a.example/?q=TOKEN&b=1"),
            ("authctl token --header=JWT", "authctl token --header=TOKEN"),
            ("eyJhbGciOiJub25lIn0.eyJhIjoxfQ.", "TOKEN"),
            ("half a one, eyJhbGciOiJFUzI1NiJ9", "half a one, TOKEN"),
            ("`ghp_16C7e42F292c6912E7710c838347Ae178B4a`", "`TOKEN`"),
            ("glpat-4xYz7Qw9rTk2mNb8vC1s", "TOKEN"),
            ("wJalrXUtnFEMI/K7MDENG/bPxRfiCY2EXAMPLEKEY", "TOKEN"),
            ("no profile `1f8a0c3d5e7b92f4a6c8d0e1b3f5a7c91f8a0c3d5e7b92f4a6c8d0e1b3f5a7c9`", "no profile `TOKEN`"),
            ("https://user:hunter2@proxy.example:8080/", "https://user:TOKEN@proxy.example:8080/"),
            (
                "http://127.0.0.1/cb?code=abc&state=x#access_token=y",
                "http://127.0.0.1/cb?code=TOKEN&state=x#access_token=TOKEN",
            ),
            ("--password=hunter2", "--password=TOKEN"),
            ("--password=Tr0ub4dor!3xy is", "--password=TOKEN is"),
            ("client_secret=ab%2Bcd&x=y", "client_secret=TOKEN&x=y"),
            ("no profile http://user:hunter%212@proxy:8080", "no profile http://user:TOKEN@proxy:8080"),
            ("https://user:p@ss!w0rd@h/x@y", "https://user:TOKEN@h/x@y"),
        ] {
            assert_eq!(hide_tokens(&text.replace("JWT", JWT)), shown);
        }
    }

    #[test]
    fn names_paths_and_identifiers_are_not_hidden() {
        for text in [
            "error: cannot connect to https://oidc.eks.us-east-1.amazonaws.com/id/5C8E3A0B9D7F2164E1A0B3C5D7E9F182",
            "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
            "no profile `my-service-account-production-2024-01-east-1`",
            "authctl login --client-id 123456789012-4k3v9q8w7e6r5t4y3u2i1o0p9a8s7d6f.apps.googleusercontent.com",
            "the client `kIyoKTuMdyJGFGw6qJ6mq8Zb4e4lZ3Xy` is unknown",
            "--audience=32eafc7626e737d5a1c4b8e9f0d2a3b4c5d6e7f8a9b0c1d2e3f4a5b6c7d8e9f0",
            "cannot read /x/@issuer-1f8a0c3d5e7b92f4a6c8d0e1b3f5a7c91f8a0c3d5e7b92f4a6c8d0e1b3f5a7c9.age: not a regular file",
            "ls -la '/j\u{fc}/a=1,b@1f8a0C3d5e7b92F4a6c8d0e1b3f5a7c9'",
            "cannot read /tmp/1f8a0C3d5e7b92F4a6c8d0e1b3f5a7c91f8a0c3d5e7b92f4a6c8d0e1b3f5a7c9: denied",
            "arn:aws:iam::123456789012:role/AWSReservedSSO_AdministratorAccess_0123456789abcdef",
            "as auth0|5f7c8ec7c33c6c004bbafe82, KEY=VALUE, eyJ, password: wrong, 2026-11-27T17:14:00Z",
            "expected audience \"https://api\", found \"kIyoKTuMdyJGFGw6qJ6mq8Zb4e4lZ3Xy\"",
            "audience \"https://api\", \"kIyoKTuMdyJGFGw6qJ6mq8Zb4e4lZ3Xy\"",
            "expected authorized party kIyoKTuMdyJGFGw6qJ6mq8Zb4e4lZ3Xy",
            "client_key=/etc/ssl/signingkeyJwtProduction.pem, https://user@host:80/a@b, //:@",
            "",
        ] {
            assert_eq!(hide_tokens(text), text);
        }
    }
}
