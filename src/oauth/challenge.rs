//! Parses what an API asks for in `WWW-Authenticate` (RFC 9110, section 11.6.1; RFC 6750, section 3; RFC 9470; RFC 9728,
//! section 5.1).

use crate::model::{MAX_DURATION, is_dpop};

/// The most that is parsed, in bytes: all header fields of a response together are rarely longer.
const MAX_LENGTH: usize = 64 * 1024;
/// The maximum number of scopes that are taken from a challenge or from metadata.
pub(super) const MAX_SCOPES: usize = 100;

/// What an API asks for: its challenges for bearer and DPoP tokens, merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiChallenge {
    /// The `error`, such as `invalid_token`; none if the request had no token.
    pub error: Option<String>,
    /// The scopes that the request needs.
    pub scopes: Vec<String>,
    /// The authentication context classes that the sign-in must have, separated by spaces (RFC 9470, section 3).
    pub acr_values: Option<String>,
    /// How many seconds ago the sign-in may have been (RFC 9470, section 3).
    pub max_age: Option<u64>,
    /// The URL of the metadata of the API (RFC 9728, section 5.1). It is not checked here.
    pub resource_metadata: Option<String>,
    /// Whether the API takes DPoP tokens (RFC 9449, section 7.1), and no bearer tokens.
    pub takes_only_dpop: bool,
}

impl ApiChallenge {
    /// Parses the values of `WWW-Authenticate`, one for each header field. Challenges of other schemes and what cannot be parsed
    /// are skipped; returns `None` if no challenge for a bearer or DPoP token is left.
    #[must_use]
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut merged = None;
        let mut left = MAX_LENGTH;
        for value in values {
            left = left.saturating_sub(value.len());
            if left == 0 {
                break;
            }
            for challenge in (Parser { rest: value }).challenges() {
                let is_dpop = is_dpop(challenge.scheme);
                if is_dpop || challenge.scheme.eq_ignore_ascii_case("Bearer") {
                    let before: bool = merged.as_ref().is_none_or(|before: &Self| before.takes_only_dpop);
                    let merged: &mut Self = merged.get_or_insert_default();
                    merged.takes_only_dpop = before && is_dpop;
                    merged.add(&challenge);
                }
            }
        }
        merged
    }

    /// Returns whether the server refuses a proof only because it has no nonce, or an old one (RFC 9449, section 9).
    #[must_use]
    pub fn wants_nonce(&self) -> bool {
        self.error.as_deref() == Some("use_dpop_nonce")
    }

    /// Returns whether the token has too few scopes (RFC 6750, section 3.1).
    #[must_use]
    pub fn wants_scope(&self) -> bool {
        self.error.as_deref() == Some("insufficient_scope")
    }

    /// Returns whether only another sign-in helps: with more scopes, stronger, or more recent (RFC 6750, section 3.1; RFC 9470,
    /// section 3).
    #[must_use]
    pub fn wants_sign_in(&self) -> bool {
        let is_too_weak = self.error.as_deref() == Some("insufficient_user_authentication");
        self.wants_scope() || is_too_weak || self.acr_values.is_some() || self.max_age.is_some()
    }

    /// Adds what the challenges before have not named.
    fn add(&mut self, challenge: &Challenge<'_>) {
        let text = |name: &str| challenge.get(name).filter(|text| !text.is_empty() && is_printable(text));
        let set = |place: &mut Option<String>, name| {
            if place.is_none() {
                *place = text(name).map(str::to_owned);
            }
        };
        set(&mut self.error, "error");
        // A server that takes both schemes names its reason for each; the nonce is tried first.
        if text("error") == Some("use_dpop_nonce") {
            self.error = text("error").map(str::to_owned);
        }
        set(&mut self.acr_values, "acr_values");
        set(&mut self.resource_metadata, "resource_metadata");
        // A longer one than a login can require is no requirement.
        let max_age = text("max_age").and_then(|text| text.parse().ok()).filter(|age| *age <= MAX_DURATION.as_secs());
        self.max_age = self.max_age.or(max_age);
        if self.scopes.is_empty() {
            self.scopes = scopes(text("scope").unwrap_or_default().split(' '));
        }
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Returns the valid scopes of a list from outside (RFC 6749, section 3.3), each once.
pub(super) fn scopes<'a>(listed: impl Iterator<Item = &'a str>) -> Vec<String> {
    let is_valid = |scope: &&str| {
        let is_scope_byte = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        !scope.is_empty() && scope.len() <= 1000 && scope.bytes().all(is_scope_byte)
    };
    let mut found: Vec<String> = Vec::new();
    for scope in listed.filter(is_valid) {
        if found.len() < MAX_SCOPES && !found.iter().any(|known| known == scope) {
            found.push(scope.to_owned());
        }
    }
    found
}

/// One challenge: `scheme name=value, name="value"`, or `scheme token68`.
#[derive(Debug, PartialEq, Eq)]
struct Challenge<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl Challenge<'_> {
    /// Returns the first value of a parameter; names are compared without case.
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The rest of a header value that is still to be parsed.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Parses the list of challenges. After something that is neither a challenge nor a parameter the next element follows.
    fn challenges(mut self) -> Vec<Challenge<'a>> {
        let mut all: Vec<Challenge<'a>> = Vec::new();
        loop {
            self.skip([' ', '\t', ',']);
            if self.rest.is_empty() {
                return all;
            }
            let mut parameters = self.parameters();
            if parameters.is_empty()
                && let Some(scheme) = self.token()
            {
                // A token68 in place of parameters is skipped: no scheme here uses one.
                parameters = self.parameters();
                all.push(Challenge { scheme, parameters: Vec::new() });
            }
            if let Some(challenge) = all.last_mut() {
                challenge.parameters.append(&mut parameters);
            }
            self.skip_to_comma();
        }
    }

    /// Takes parameters without a comma between them, which some servers omit.
    fn parameters(&mut self) -> Vec<(&'a str, String)> {
        let mut all = Vec::new();
        loop {
            self.skip([' ', '\t']);
            match self.parameter() {
                Some(parameter) => all.push(parameter),
                None => return all,
            }
        }
    }

    fn skip<const N: usize>(&mut self, characters: [char; N]) {
        self.rest = self.rest.trim_start_matches(characters);
    }

    /// Skips to the next comma that is not in a quoted string. One that does not end is the rest.
    fn skip_to_comma(&mut self) {
        while let Some(at) = self.rest.find([',', '"']) {
            self.rest = &self.rest[at..];
            if self.rest.starts_with(',') {
                return;
            }
            if self.quoted().is_none() {
                break;
            }
        }
        self.rest = "";
    }

    /// Takes a token (RFC 9110, section 5.6.2).
    fn token(&mut self) -> Option<&'a str> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.rest.find(|c| !is_token(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// Takes `name = value`; takes nothing if the rest begins with something else, such as a token68 that ends with `=`.
    fn parameter(&mut self) -> Option<(&'a str, String)> {
        let before = self.rest;
        let parameter = self.name_and_value();
        if parameter.is_none() {
            self.rest = before;
        }
        parameter
    }

    fn name_and_value(&mut self) -> Option<(&'a str, String)> {
        let name = self.token()?;
        self.skip([' ', '\t']);
        self.rest = self.rest.strip_prefix('=')?;
        self.skip([' ', '\t']);
        let value = if self.rest.starts_with('"') { self.quoted()? } else { self.token()?.to_owned() };
        Some((name, value))
    }

    /// Takes a quoted string (RFC 9110, section 5.6.4); takes nothing if it does not end.
    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut characters = self.rest.strip_prefix('"')?.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 2..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                c => value.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the challenges of a value as `scheme[name=value|name=value]`.
    fn parsed(value: &str) -> String {
        let shown = |challenge: &Challenge<'_>| {
            let parameters: Vec<_> =
                challenge.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{}[{}]", challenge.scheme, parameters.join("|"))
        };
        Parser { rest: value }.challenges().iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn challenges_are_split_at_their_schemes() {
        for (value, challenges) in [
            ("", ""),
            (" , ,", ""),
            ("Bearer", "Bearer[]"),
            ("Bearer ", "Bearer[]"),
            ("Bearer, Basic", "Bearer[] Basic[]"),
            (r#"Bearer realm="a", error="invalid_token""#, "Bearer[realm=a|error=invalid_token]"),
            (r#"Bearer realm = "a" , error= invalid_token"#, "Bearer[realm=a|error=invalid_token]"),
            (r#"Bearer realm="a",error="x",Basic realm="b""#, "Bearer[realm=a|error=x] Basic[realm=b]"),
            (r#"Bearer , realm="a""#, "Bearer[realm=a]"),
            (
                r#"Basic realm="a, Bearer scope=\"b\"", Bearer scope="c d""#,
                r#"Basic[realm=a, Bearer scope="b"] Bearer[scope=c d]"#,
            ),
            (r#"Negotiate YII=, Bearer realm="a""#, "Negotiate[] Bearer[realm=a]"),
            (r#"Negotiate YII==, Bearer realm="a""#, "Negotiate[] Bearer[realm=a]"),
            (r#"Negotiate a/b+c, Bearer realm="a""#, "Negotiate[] Bearer[realm=a]"),
            (r#"Bearer realm="", x=y"#, "Bearer[realm=|x=y]"),
            (r#"Bearer realm="a" error="b" Basic x=y"#, "Bearer[realm=a|error=b]"),
            (r#"Bearer realm="a\\b\"c""#, r#"Bearer[realm=a\b"c]"#),
            (r#"Bearer realm="ends late, error="x", a=b"#, "Bearer[realm=ends late, error=]"),
            (r#"Bearer error=invalid_token, realm="never ends"#, "Bearer[error=invalid_token] realm[]"),
            (r#"realm="no scheme", Bearer a=b"#, "Bearer[a=b]"),
            ("\u{fc}, Bearer a=b", "Bearer[a=b]"),
            ("=, ==, \", Bearer a=b", ""),
        ] {
            assert_eq!(parsed(value), challenges, "{value}");
        }
    }

    #[test]
    fn challenges_for_tokens_are_merged() {
        let bearer = |members: fn(&mut ApiChallenge)| {
            let mut challenge = ApiChallenge::default();
            members(&mut challenge);
            Some(challenge)
        };
        for (values, expected) in [
            (vec![], None),
            (vec!["Basic realm=a", "Negotiate"], None),
            (vec!["bearer"], bearer(|_| ())),
            (vec!["DPoP algs=\"ES256\""], bearer(|c| c.takes_only_dpop = true)),
            (vec!["DPoP", "DPoP algs=ES256"], bearer(|c| c.takes_only_dpop = true)),
            (vec!["DPoP", "Basic realm=a, Bearer"], bearer(|_| ())),
            (vec!["Bearer max_age=400000000"], bearer(|_| ())),
            (vec!["Bearer max_age=99999999999999999999"], bearer(|_| ())),
            (
                vec![r#"Basic scope="no", BEARER Error="insufficient_scope", SCOPE="b a  b""#],
                bearer(|c| {
                    c.error = Some("insufficient_scope".into());
                    c.scopes = vec!["b".into(), "a".into()];
                }),
            ),
            (
                vec![r#"Bearer resource_metadata="https://a.example/m""#, r#"DPoP error=invalid_token, scope=x"#],
                bearer(|c| {
                    c.error = Some("invalid_token".into());
                    c.scopes = vec!["x".into()];
                    c.resource_metadata = Some("https://a.example/m".into());
                }),
            ),
            (
                vec![r#"Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="5""#],
                bearer(|c| {
                    c.error = Some("insufficient_user_authentication".into());
                    c.acr_values = Some("gold silver".into());
                    c.max_age = Some(5);
                }),
            ),
            (
                vec!["Bearer error=invalid_token", "DPoP error=use_dpop_nonce"],
                bearer(|c| c.error = Some("use_dpop_nonce".into())),
            ),
            (vec![r#"Bearer error="a", error="b", max_age=-1, acr_values="""#], bearer(|c| c.error = Some("a".into()))),
            (vec!["Bearer error=\"a\u{1b}[31m\", scope=\"a\\\"b c\u{7f} d\""], bearer(|_| ())),
            (vec![r#"Bearer scope="a\"b c\\d e""#], bearer(|c| c.scopes = vec!["e".into()])),
        ] {
            assert_eq!(ApiChallenge::parse(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn long_challenges_are_cut_off() {
        let many: String = (0..1000).map(|n| format!("s{n} ")).collect();
        let found = ApiChallenge::parse([format!("Bearer scope=\"{many}\"").as_str()]).expect("a challenge");
        assert_eq!(found.scopes.len(), MAX_SCOPES);
        let long = format!("Bearer realm=\"{}\", error=x", "a".repeat(MAX_LENGTH));
        assert_eq!(ApiChallenge::parse([long.as_str(), "Bearer error=y"]), None);
        let nested = "\"".repeat(MAX_LENGTH - 100);
        assert_eq!(ApiChallenge::parse([format!("Bearer {nested}").as_str()]), Some(ApiChallenge::default()));
    }
}
