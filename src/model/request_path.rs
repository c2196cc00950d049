//! The path of a request: one reading that a proxy and every server behind it share, or none.
//!
//! Servers differ in what they make of `..`, `%2e`, `//`, `\` and escaped slashes. A path is passed on only if no server can
//! take it for one outside of what was checked.

/// The longest path, in bytes.
const MAX_PATH: usize = 8 * 1024;

/// Why a path is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// It does not begin with a slash.
    #[error("the path does not begin with `/`")]
    Relative,
    /// It is longer than 8 KiB.
    #[error("the path is longer than 8192 bytes")]
    TooLong,
    /// It has a segment that servers read in different ways.
    #[error("the path is ambiguous: servers interpret it differently")]
    Ambiguous,
    /// It has a byte that a path cannot have (RFC 3986, section 3.3).
    #[error("the path contains a character that is not allowed")]
    Character,
}

/// A path without `.` and `..` (RFC 3986, section 5.2.4), and without empty segments except the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanPath {
    /// As it is sent: escapes are as the client wrote them.
    segments: Vec<String>,
}

impl CleanPath {
    /// Reads the path of a request target.
    ///
    /// # Errors
    /// [`InvalidPath`].
    pub fn parse(path: &str) -> Result<Self, InvalidPath> {
        if path.len() > MAX_PATH {
            return Err(InvalidPath::TooLong);
        }
        let mut rest = path.strip_prefix('/').ok_or(InvalidPath::Relative)?.split('/').peekable();
        let mut segments: Vec<String> = Vec::new();
        while let Some(segment) = rest.next() {
            let is_last = rest.peek().is_none();
            match meaning(segment)? {
                Segment::Up => {
                    segments.pop();
                }
                Segment::Here => {}
                Segment::Empty if !is_last => return Err(InvalidPath::Ambiguous),
                Segment::Empty | Segment::Name => {
                    segments.push(segment.to_owned());
                    continue;
                }
            }
            if is_last {
                segments.push(String::new());
            }
        }
        Ok(Self { segments })
    }

    /// Returns the segments as they are sent.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().map(String::as_str)
    }

    /// Returns whether this path is `prefix` or below it.
    #[must_use]
    pub fn is_below(&self, prefix: &Self) -> bool {
        // A prefix may end with a slash.
        let wanted = match prefix.segments.split_last() {
            Some((last, before)) if last.is_empty() => before,
            _ => &prefix.segments,
        };
        let starts = self.segments.len() >= wanted.len()
            && self.segments.iter().zip(wanted).all(|(here, there)| here == there || decoded(here) == decoded(there));
        // `/v1/` is not above `/v1`.
        starts && (wanted.len() == prefix.segments.len() || self.segments.len() > wanted.len())
    }
}

impl std::fmt::Display for CleanPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.segments.iter().try_for_each(|segment| f.write_str("/").and_then(|()| f.write_str(segment)))
    }
}

/// What a segment does.
enum Segment {
    Name,
    Empty,
    Here,
    Up,
}

/// Returns what every server reads in `segment`.
fn meaning(segment: &str) -> Result<Segment, InvalidPath> {
    if !segment.bytes().all(is_path_byte) {
        return Err(InvalidPath::Character);
    }
    // Nothing in it has a second reading.
    if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte)) {
        return Ok(Segment::Name);
    }
    match decode_dots(segment).as_str() {
        "" => return Ok(Segment::Empty),
        "." => return Ok(Segment::Here),
        ".." => return Ok(Segment::Up),
        _ => {}
    }
    // What servers make of it that decode more than once.
    let mut read = segment.as_bytes().to_vec();
    loop {
        let again = decode(&read);
        if again.len() == read.len() {
            break;
        }
        read = again;
    }
    if read.iter().any(|byte| byte.is_ascii_control()) {
        return Err(InvalidPath::Character);
    }
    // Some servers take `\` for a slash, ignore spaces at the end, and what follows a `;`, `?` or `#`.
    let ends_name = |byte: &u8| matches!(byte, b';' | b'?' | b'#');
    let is_step = |piece: &[u8]| {
        let name = piece.split(ends_name).next().unwrap_or_default();
        matches!(name.trim_ascii_end(), b"" | b"." | b"..")
    };
    if read.contains(&b'\\') || read.split(|byte| *byte == b'/').any(is_step) || has_look_alike(&read) {
        return Err(InvalidPath::Ambiguous);
    }
    Ok(Segment::Name)
}

/// Returns whether some servers read a dot, a slash or a backslash where others do not: in overlong UTF-8 (RFC 3629, section 10),
/// in `%u002e`, or in characters that a compatibility mapping or a best-fit code page makes of them.
fn has_look_alike(read: &[u8]) -> bool {
    const LOOK_ALIKES: [char; 12] = [
        '\u{2024}', '\u{2025}', '\u{2026}', '\u{2044}', '\u{2215}', '\u{2216}', '\u{29f8}', '\u{fe52}', '\u{fe68}',
        '\u{ff0e}', '\u{ff0f}', '\u{ff3c}',
    ];
    let is_overlong = |pair: &[u8]| {
        matches!(pair, [0xc0 | 0xc1, _] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f])
            || matches!(pair, [b'%', b'u' | b'U'])
    };
    read.windows(2).any(is_overlong) || String::from_utf8_lossy(read).contains(LOOK_ALIKES)
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%\\".contains(&byte)
}

/// Decodes escapes once; what is no escape stays as it is.
fn decode(text: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(text).collect()
}

/// Returns the segment with its escaped dots decoded.
fn decode_dots(segment: &str) -> String {
    segment.replace("%2e", ".").replace("%2E", ".")
}

/// Returns what a segment names: escapes that need none are decoded (RFC 3986, section 6.2.2.2).
pub(super) fn decoded(segment: &str) -> Vec<u8> {
    decode(segment.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the path that is sent, or why none is.
    fn sent(path: &str) -> String {
        match CleanPath::parse(path) {
            Ok(clean) => clean.to_string(),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn path_has_one_reading_or_is_refused() {
        for (path, expected) in [
            ("/", "/"),
            ("/v1/items", "/v1/items"),
            ("/v1/items/", "/v1/items/"),
            ("/v1/./items", "/v1/items"),
            ("/v1/a/../b", "/v1/b"),
            ("/v1/a/..", "/v1/"),
            ("/v1/.", "/v1/"),
            ("/v1/%2e%2E/admin", "/admin"),
            ("/v1/.%2e/admin", "/admin"),
            ("/../../etc", "/etc"),
            ("/v1/group%2Fproject", "/v1/group%2Fproject"),
            ("/v1/a%20b", "/v1/a%20b"),
            ("/v1/caf%C3%A9", "/v1/caf%C3%A9"),
            ("/v1/a;b=c", "/v1/a;b=c"),
            ("/v1/...", "/v1/..."),
            ("/v1/a..b", "/v1/a..b"),
            ("/v1/100%", "/v1/100%"),
            ("/v1//items", "Ambiguous"),
            ("//other.example/v1", "Ambiguous"),
            ("/v1/..%2Fadmin", "Ambiguous"),
            ("/v1/%2e%2e%2fadmin", "Ambiguous"),
            ("/v1/a%2F..%2F..%2Fadmin", "Ambiguous"),
            ("/v1/%252e%252e/admin", "Ambiguous"),
            ("/v1/%25252e%25252e/admin", "Ambiguous"),
            ("/v1/a%252f..%252fadmin", "Ambiguous"),
            ("/v1/..;/admin", "Ambiguous"),
            ("/v1/..;x=y/admin", "Ambiguous"),
            ("/v1/;/admin", "Ambiguous"),
            ("/v1/..\\admin", "Ambiguous"),
            ("/v1/..%5cadmin", "Ambiguous"),
            ("/v1/%255cadmin", "Ambiguous"),
            ("/v1/a%2F%2Fb", "Ambiguous"),
            ("/v1/%2F", "Ambiguous"),
            ("/v1/..%20", "Ambiguous"),
            ("/v1/.%20/admin", "Ambiguous"),
            ("/v1/%20", "Ambiguous"),
            ("/v1/..%3Fx/admin", "Ambiguous"),
            ("/v1/..%23/admin", "Ambiguous"),
            ("/v1/%3F", "Ambiguous"),
            ("/v1/a%3Fb", "/v1/a%3Fb"),
            ("/v1/%c0%ae%c0%ae/admin", "Ambiguous"),
            ("/v1/..%c0%afadmin", "Ambiguous"),
            ("/v1/..%c1%9cadmin", "Ambiguous"),
            ("/v1/..%e0%80%afadmin", "Ambiguous"),
            ("/v1/..%f0%80%80%afadmin", "Ambiguous"),
            ("/v1/%25c0%25ae%25c0%25ae/admin", "Ambiguous"),
            ("/v1/%u002e%u002e/admin", "Ambiguous"),
            ("/v1/..%u2215admin", "Ambiguous"),
            ("/v1/%ef%bc%8e%ef%bc%8e/admin", "Ambiguous"),
            ("/v1/..%ef%bc%8fadmin", "Ambiguous"),
            ("/v1/%e2%80%a5/admin", "Ambiguous"),
            ("/v1/..%e2%88%95admin", "Ambiguous"),
            ("/v1/caf%E9", "/v1/caf%E9"),
            ("/v1/%e2%82%ac", "/v1/%e2%82%ac"),
            ("/v1/%00", "Character"),
            ("/v1/%0d%0aX", "Character"),
            ("/v1/%2500", "Character"),
            ("/v1/a b", "Character"),
            ("/v1/a#b", "Character"),
            ("/v1/a?b", "Character"),
            ("/v1/caf\u{e9}", "Character"),
            ("v1", "Relative"),
            ("", "Relative"),
            ("*", "Relative"),
        ] {
            assert_eq!(sent(path), expected, "{path}");
        }
        assert_eq!(sent(&format!("/{}", "a".repeat(MAX_PATH))), "TooLong");
    }

    #[test]
    fn only_the_prefix_and_what_is_below_can_be_reached() {
        for (prefix, path, expected) in [
            ("/", "/", true),
            ("/", "/anything", true),
            ("/v1", "/v1", true),
            ("/v1", "/v1/", true),
            ("/v1", "/v1/items", true),
            ("/v1", "/%76%31/items", true),
            ("/v1/", "/v1/items", true),
            ("/v1/", "/v1/", true),
            ("/v1/", "/v1", false),
            ("/v1", "/v10", false),
            ("/v1", "/v1%2Fadmin", false),
            ("/v1", "/V1/items", false),
            ("/v1", "/", false),
            ("/v1", "/v1/../admin", false),
            ("/v1/a", "/v1", false),
        ] {
            let clean = |path| CleanPath::parse(path).expect(path);
            assert_eq!(clean(path).is_below(&clean(prefix)), expected, "{path} below {prefix}");
        }
    }

    proptest::proptest! {
        /// A browser's reading (WHATWG URL) of what is sent is what was checked.
        #[test]
        fn sent_path_is_read_the_same_by_a_url_parser(path in "/([a-z.;%/\\\\]|%2[eEfF]|%5[cC]|%25){0,24}") {
            if let Ok(clean) = CleanPath::parse(&path) {
                let sent = clean.to_string();
                let url = url::Url::parse(&format!("https://api.example{sent}")).expect("a URL");
                proptest::prop_assert_eq!(url.path(), sent.as_str());
                proptest::prop_assert_eq!(url.host_str(), Some("api.example"));
                proptest::prop_assert_eq!(CleanPath::parse(&sent), Ok(clean));
            }
        }
    }
}
