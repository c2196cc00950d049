//! Which requests a caller of a proxy may make: methods and paths.

use std::fmt;
use std::str::FromStr;

use super::keyword::keywords;
use super::request_path::{CleanPath, decoded};

keywords! {
    /// What a proxy refuses a request by: the names in its responses and in the audit log.
    pub enum RuleName {
        /// The caller has no key, or another one.
        Key = "key",
        /// The request is addressed to another server.
        Host = "host",
        /// It comes from a page in a browser.
        Origin = "origin",
        /// Servers read its path in different ways.
        Path = "path",
        /// Its path is not below `--for`.
        For = "for",
        /// Its method is never passed on, or it asks the server to take it for another one.
        Method = "method",
        /// No `--allow` allows it.
        Allow = "allow",
        /// `--read-only`
        ReadOnly = "read-only",
        /// `--max-requests`, or `proxy_max_requests` of the profile.
        MaxRequests = "max-requests",
        /// No `proxy_allow` of the profile allows it.
        ProfileAllow = "proxy_allow",
        /// `proxy_read_only` of the profile
        ProfileReadOnly = "proxy_read_only",
    }
}

/// A rule of `--allow`: methods and a path with wildcards, such as `GET /v1/*` or `GET,POST /v1/search/**`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRule {
    text: String,
    /// Empty: any method.
    methods: Vec<String>,
    pattern: Vec<Part>,
}

/// A segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// A name with `*` for any number of characters: the pieces between them.
    Name(Vec<Vec<u8>>),
    /// `**`: any number of segments.
    Any,
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid rule `{0}` (example: `GET /v1/*`)")]
pub struct InvalidRule(String);

impl FromStr for RequestRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let invalid = || InvalidRule(text.chars().filter(|c| !c.is_control()).take(100).collect());
        let mut words = text.split_whitespace();
        let (methods, path) = match (words.next(), words.next(), words.next()) {
            (Some(methods), Some(path), None) => (methods, path),
            _ => return Err(invalid()),
        };
        let methods = match methods {
            "*" => Vec::new(),
            list => list
                .split(',')
                .map(|method| {
                    let is_method = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
                    if is_method { Ok(method.to_owned()) } else { Err(invalid()) }
                })
                .collect::<Result<_, _>>()?,
        };
        // A pattern is read as a request's path is: a rule for `/v1/../x` would never match.
        let clean = CleanPath::parse(path).map_err(|_| invalid())?;
        if clean.to_string() != path {
            return Err(invalid());
        }
        let part = |segment: &str| match segment {
            "**" => Ok(Part::Any),
            name if name.contains("**") => Err(invalid()),
            name => Ok(Part::Name(name.split('*').map(decoded).collect())),
        };
        let pattern = clean.segments().map(part).collect::<Result<_, _>>()?;
        Ok(Self { text: format!("{} {path}", text.split_whitespace().next().unwrap_or_default()), methods, pattern })
    }
}

impl fmt::Display for RequestRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl RequestRule {
    fn allows(&self, method: &str, path: &CleanPath) -> bool {
        // HEAD is GET without the content (RFC 9110, section 9.3.2).
        let is_named = |name: &String| name == method || method == "HEAD" && name == "GET";
        let has_method = self.methods.is_empty() || self.methods.iter().any(is_named);
        let segments: Vec<Vec<u8>> = path.segments().map(decoded).collect();
        has_method && matches(&self.pattern, &segments)
    }
}

/// Returns whether the pattern matches the whole path.
fn matches(pattern: &[Part], segments: &[Vec<u8>]) -> bool {
    // Which segments the pattern so far can end at.
    let mut ends = vec![false; segments.len() + 1];
    ends[0] = true;
    for part in pattern {
        let mut next = vec![false; segments.len() + 1];
        for at in (0..=segments.len()).filter(|at| ends[*at]) {
            match part {
                Part::Any => next[at..].fill(true),
                Part::Name(pieces) => {
                    if segments.get(at).is_some_and(|segment| name_matches(pieces, segment)) {
                        next[at + 1] = true;
                    }
                }
            }
        }
        ends = next;
    }
    ends[segments.len()]
}

/// Returns whether a segment has these pieces in this order, the first at its begin and the last at its end. An escaped slash is
/// part of no name that `*` stands for: a server may take it for the end of the segment, also after it has decoded the path twice.
/// What some servers cut off, from a `;`, `?` or `#` on, has no end that a pattern could name.
fn name_matches(pieces: &[Vec<u8>], segment: &[u8]) -> bool {
    let [first, middle @ .., last] = pieces else { return pieces.first().is_some_and(|only| only == segment) };
    let read = decoded_to_the_end(segment);
    if read.contains(&b'/') || !last.is_empty() && read.iter().any(|byte| b";?#".contains(byte)) {
        return false;
    }
    let Some(mut rest) = segment.strip_prefix(first.as_slice()).and_then(|rest| rest.strip_suffix(last.as_slice()))
    else {
        return false;
    };
    for piece in middle.iter().filter(|piece| !piece.is_empty()) {
        match rest.windows(piece.len()).position(|window| window == piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}

/// Decodes a segment until nothing in it is escaped.
fn decoded_to_the_end(segment: &[u8]) -> Vec<u8> {
    let mut bytes = segment.to_vec();
    loop {
        let next: Vec<u8> = percent_encoding::percent_decode(&bytes).collect();
        if next == bytes {
            return bytes;
        }
        bytes = next;
    }
}

/// What a caller may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestRules {
    /// Requests that are allowed; empty: all.
    pub allowed: Vec<RequestRule>,
    /// Whether only methods that change nothing are allowed (RFC 9110, section 9.2.1).
    pub read_only: bool,
}

/// What callers of any proxy for a profile may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyLimits {
    /// Which requests.
    pub rules: RequestRules,
    /// The highest number of requests that one proxy passes on.
    pub max_requests: Option<u64>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No rule allows it.
    #[error("no rule allows {0} {1}")]
    NotAllowed(String, String),
    /// It may change something.
    #[error("read-only: {0} is not GET, HEAD or OPTIONS")]
    ReadOnly(String),
    /// A method that would end at the proxy, or return the token to the caller (RFC 9110, sections 9.3.6 and 9.3.8).
    #[error("{0} is never passed on")]
    Method(String),
    /// It has a header by which some servers take it for a request with another method.
    #[error("{0} names another method")]
    Override(&'static str),
    /// It makes a WebSocket of its connection, and may change something.
    #[error("read-only: the connection cannot become a WebSocket")]
    Upgrade,
}

impl Refusal {
    /// Returns the name of the rule that refuses, which is one of the command line.
    #[must_use]
    pub fn rule(&self) -> RuleName {
        match self {
            Self::NotAllowed(..) => RuleName::Allow,
            Self::ReadOnly(_) | Self::Upgrade => RuleName::ReadOnly,
            Self::Method(_) | Self::Override(_) => RuleName::Method,
        }
    }

    /// Returns the name of the rule that refuses, which is one of the profile.
    #[must_use]
    pub fn rule_of_profile(&self) -> RuleName {
        match self.rule() {
            RuleName::Allow => RuleName::ProfileAllow,
            RuleName::ReadOnly => RuleName::ProfileReadOnly,
            rule => rule,
        }
    }
}

/// Returns whether a method changes nothing (RFC 9110, section 9.2.1).
fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

impl RequestRules {
    /// Returns a rule that names a method which is not read-only, although all requests have to be.
    #[must_use]
    pub fn contradiction(&self) -> Option<&RequestRule> {
        self.allowed.iter().find(|rule| self.read_only && !rule.methods.iter().all(|method| is_safe(method)))
    }

    /// Checks a request. `overridden` is its header by which some servers take it for one with another method, if it has one.
    /// `upgrades` is whether it makes a WebSocket of its connection: nothing is known of what is sent after that.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check(
        &self,
        method: &str,
        path: &CleanPath,
        overridden: Option<&'static str>,
        upgrades: bool,
    ) -> Result<(), Refusal> {
        if ["CONNECT", "TRACE", "TRACK"].iter().any(|never| method.eq_ignore_ascii_case(never)) {
            return Err(Refusal::Method(method.to_owned()));
        }
        let limits_methods = self.read_only || self.allowed.iter().any(|rule| !rule.methods.is_empty());
        if let Some(header) = overridden.filter(|_| limits_methods) {
            return Err(Refusal::Override(header));
        }
        if self.read_only && !is_safe(method) {
            return Err(Refusal::ReadOnly(method.to_owned()));
        }
        if !self.allowed.is_empty() && !self.allowed.iter().any(|rule| rule.allows(method, path)) {
            return Err(Refusal::NotAllowed(method.to_owned(), path.to_string()));
        }
        if self.read_only && upgrades { Err(Refusal::Upgrade) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &str, request: &str) -> bool {
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let rules = RequestRules { allowed: vec![rule.parse().expect(rule)], read_only: false };
        rules.check(method, &CleanPath::parse(path).expect(path), None, false).is_ok()
    }

    #[test]
    fn rule_allows_what_its_pattern_says() {
        for (rule, request, expected) in [
            ("GET /v1/*", "GET /v1/items", true),
            ("GET /v1/*", "HEAD /v1/items", true),
            ("GET /v1/*", "POST /v1/items", false),
            ("GET /v1/*", "GET /v1/items/7", false),
            ("GET /v1/*", "GET /v1/", true),
            ("GET /v1/*", "GET /v1", false),
            ("GET /v1/*", "GET /v1/a%2Fb", false),
            ("GET /v1/*", "GET /v1/a%252Fb", false),
            ("GET /v1/*", "GET /v1/a;b", true),
            ("GET /v1/*.json", "GET /v1/secret;.json", false),
            ("GET /v1/*.json", "GET /v1/secret%3B.json", false),
            ("GET /v1/*.json", "GET /v1/secret%3F.json", false),
            ("GET /v1/*.json", "GET /v1/secret%2523.json", false),
            ("GET /v1/*.json", "GET /v1/public.json", true),
            ("GET /v1/*", "GET /v1/x/../../v2/y", false),
            ("GET /v1/**", "GET /v1/items/7/parts", true),
            ("GET /v1/**", "GET /v1", true),
            ("GET /v1/**", "GET /v1/a%2Fb", true),
            ("GET /v1/**", "GET /v2/items", false),
            ("GET /v1/**/parts", "GET /v1/items/7/parts", true),
            ("GET /v1/**/parts", "GET /v1/parts", true),
            ("GET /v1/**/parts", "GET /v1/parts/7", false),
            ("GET,POST /v1/search", "POST /v1/search", true),
            ("GET,POST /v1/search", "POST /v1/search/", false),
            ("* /v1/search", "DELETE /v1/search", true),
            ("GET /v1/group%2Fproject", "GET /v1/group%2fproject", true),
            ("GET /v1/group%2Fproject", "GET /v1/group/project", false),
            ("GET /v1/items/*.json", "GET /v1/items/7.json", true),
            ("GET /v1/items/*.json", "GET /v1/items/7.xml", false),
            ("GET /v1/a*a", "GET /v1/a", false),
            ("GET /v1/a*b*c", "GET /v1/a-b-c", true),
            ("GET /v1/%69tems", "GET /v1/items", true),
        ] {
            assert_eq!(allows(rule, request), expected, "{rule}: {request}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in [
            "",
            "GET",
            "/v1",
            "GET v1",
            "get /v1",
            "GET /v1 x",
            "GET /v1/../x",
            "GET //v1",
            "GET /v1/a**",
            "GE(T /v1",
            ", /v1",
            "GET /v1?x=y",
        ] {
            assert!(text.parse::<RequestRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn read_only_allows_methods_that_change_nothing() {
        let rules = RequestRules { allowed: Vec::new(), read_only: true };
        let path = CleanPath::parse("/v1").expect("a path");
        for (method, expected) in
            [("GET", true), ("HEAD", true), ("OPTIONS", true), ("POST", false), ("DELETE", false), ("PROPFIND", false)]
        {
            assert_eq!(rules.check(method, &path, None, false).is_ok(), expected, "{method}");
        }
        let refusal = rules.check("GET", &path, None, true).expect_err("refused");
        assert_eq!((refusal.rule(), refusal.rule_of_profile()), (RuleName::ReadOnly, RuleName::ProfileReadOnly));
        assert_eq!(RequestRules::default().check("GET", &path, None, true), Ok(()));
    }

    #[test]
    fn methods_that_return_the_token_or_open_a_tunnel_are_never_passed_on() {
        let path = CleanPath::parse("/v1").expect("a path");
        for method in ["TRACE", "CONNECT"] {
            assert_eq!(
                RequestRules::default().check(method, &path, None, false),
                Err(Refusal::Method(method.to_owned()))
            );
        }
    }

    #[test]
    fn header_with_another_method_is_refused_where_methods_are_limited() {
        let path = CleanPath::parse("/v1").expect("a path");
        let rules = |allowed: &[&str], read_only| RequestRules {
            allowed: allowed.iter().map(|rule| rule.parse().expect("a rule")).collect(),
            read_only,
        };
        for (rules, expected) in [
            (rules(&[], false), true),
            (rules(&["* /v1"], false), true),
            (rules(&["GET /v1"], false), false),
            (rules(&["* /v1", "POST /v2"], false), false),
            (rules(&[], true), false),
        ] {
            let checked = rules.check("GET", &path, Some("x-http-method-override"), false);
            assert_eq!(checked.is_ok(), expected, "{rules:?}");
        }
    }

    /// Reads a pattern as a set of strings: letter by letter, with every choice tried.
    fn reference(pattern: &[&str], path: &[&str]) -> bool {
        fn name(pattern: &[u8], text: &[u8]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some((b'*', rest)) => (0..=text.len()).any(|taken| name(rest, &text[taken..])),
                Some((first, rest)) => {
                    text.split_first().is_some_and(|(letter, left)| letter == first && name(rest, left))
                }
            }
        }
        match pattern.split_first() {
            None => path.is_empty(),
            Some((&"**", rest)) => (0..=path.len()).any(|taken| reference(rest, &path[taken..])),
            Some((first, rest)) => path
                .split_first()
                .is_some_and(|(segment, left)| name(first.as_bytes(), segment.as_bytes()) && reference(rest, left)),
        }
    }

    /// Returns every way in which servers may read a path: they decode it several times, take `\` for `/`, cut names at `;`, `?`
    /// and `#`, trim spaces, and drop empty names, in any order. Then they walk along `.` and `..`.
    fn readings(path: &str) -> Vec<String> {
        let names =
            |text: &str, change: &dyn Fn(&str) -> String| text.split('/').map(change).collect::<Vec<_>>().join("/");
        let mut read = vec![path.to_owned()];
        let mut at = 0;
        while at < read.len() && read.len() < 500 {
            let text = read[at].clone();
            let decoded = String::from_utf8_lossy(&decoded(&text)).into_owned();
            let cut = |mark: char| names(&text, &|name| name.split(mark).next().unwrap_or_default().to_owned());
            let whole = |mark: char| text.split(mark).next().unwrap_or_default().to_owned();
            for other in [
                decoded,
                text.replace('\\', "/"),
                cut(';'),
                whole('?'),
                whole('#'),
                names(&text, &|name| name.trim_end().to_owned()),
                text.replace("//", "/"),
            ] {
                if !read.contains(&other) {
                    read.push(other);
                }
            }
            at += 1;
        }
        let walked = |text: &String| {
            let mut left: Vec<&str> = Vec::new();
            for name in text.split('/').skip(1) {
                match name {
                    "." => {}
                    ".." => drop(left.pop()),
                    name => left.push(name),
                }
            }
            format!("/{}", left.join("/"))
        };
        read.iter().map(walked).collect()
    }

    #[test]
    fn reference_reads_paths_as_careless_servers_do() {
        for path in ["/a/%252e%252e/b", "/a/..\\b", "/a/..;x/b", "/a/..%20/b", "/a/%2e%2e%5cb"] {
            assert!(readings(path).contains(&"/b".to_owned()), "{path}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

        /// A rule allows only what it names, however a server decodes the request.
        #[test]
        fn allowed_path_is_allowed_in_every_reading(
            steps in proptest::collection::vec("/|\\.|a|%2[eEfF5]|%5[cC]|%25|%3[bBfF]|%23|%20|;|\\\\|%", 0..10),
            prefix in "/v1/p|/v1/p/|/v1/p/a|/v1|/",
        ) {
            let path = format!("{prefix}{}", steps.concat());
            let rules = RequestRules { allowed: vec!["GET /v1/p/**".parse().expect("a rule")], read_only: false };
            if let Ok(clean) = CleanPath::parse(&path)
                && rules.check("GET", &clean, None, false).is_ok()
            {
                for read in readings(&clean.to_string()) {
                    proptest::prop_assert!(read == "/v1/p" || read.starts_with("/v1/p/"), "{}: {}", path, read);
                }
            }
        }

        #[test]
        fn patterns_match_as_the_reference_does(
            pattern in proptest::collection::vec("[ab*]{1,4}|\\*\\*", 1..5),
            path in proptest::collection::vec("[ab]{1,4}", 1..6),
        ) {
            let pattern: Vec<&str> = pattern.iter().map(String::as_str).filter(|part| *part == "**" || !part.contains("**")).collect();
            proptest::prop_assume!(!pattern.is_empty());
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let (rule, request) = (format!("GET /{}", pattern.join("/")), format!("GET /{}", path.join("/")));
            proptest::prop_assert_eq!(allows(&rule, &request), reference(&pattern, &path), "{}: {}", rule, request);
        }
    }
}
