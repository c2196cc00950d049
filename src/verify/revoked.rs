//! The list of tokens that a logout on this machine has revoked, so that offline verification denies them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::{Map, Value};

use super::policy::Policy;
use crate::clock::UnixTime;

/// The first line's first word. A count of the entries follows, so that a file cut short at a line's end is noticed.
const FORMAT: &str = "authctl-revoked-1";
/// The longest file that is read, in bytes: ten thousand entries need less than 900 KiB.
const MAX_LENGTH: u64 = 2 * 1024 * 1024;
/// How often, 10 ms apart, a lock held by another process is tried.
const TRIES: u32 = 200;

type Hash = [u8; 32];

/// Why the list cannot be read or written. Names the file, nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum RevocationListError {
    /// The file is there, but is no such list; it is never taken for an empty one.
    #[error("the list of revoked tokens at {} is damaged", .0.display())]
    Damaged(PathBuf),
    /// Another process has been writing it for two seconds.
    #[error("the list of revoked tokens at {} is held by another process", .0.display())]
    Busy(PathBuf),
    /// It cannot be read or written.
    #[error("the list of revoked tokens at {} cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Tokens revoked on this machine, each as the SHA-256 of what its signature is over, with the token's end.
///
/// The signature itself is left out of the hash: an ECDSA signature can be changed into another valid one by anybody.
#[derive(Clone, Debug)]
pub struct RevocationList {
    path: PathBuf,
    entries: HashMap<Hash, Entry>,
}

/// What is known of one hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// When it is of no use any more.
    end: i64,
    /// Only what was issued by this moment is meant: the same browser session may bring a new login.
    issued_by: Option<i64>,
}

impl RevocationList {
    /// The most entries that are kept; of more, those that end first go.
    pub const MAX: usize = 10_000;

    /// Reads the list at `path`; a file that is not there is an empty list.
    ///
    /// # Errors
    /// [`RevocationListError`]; a damaged file is an error, since an empty list would grant what was revoked.
    pub fn open(path: &Path) -> Result<Self, RevocationListError> {
        let entries = match File::open(path) {
            Ok(file) => {
                let mut text = String::new();
                match file.take(MAX_LENGTH + 1).read_to_string(&mut text) {
                    Ok(length) if length as u64 <= MAX_LENGTH => parse(&text),
                    Ok(_) => None,
                    Err(e) if e.kind() == io::ErrorKind::InvalidData => None,
                    Err(source) => return Err(RevocationListError::Io { path: path.to_owned(), source }),
                }
                .ok_or_else(|| RevocationListError::Damaged(path.to_owned()))?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Err(source) => return Err(RevocationListError::Io { path: path.to_owned(), source }),
        };
        Ok(Self { path: path.to_owned(), entries })
    }

    /// The same list as it is now.
    ///
    /// # Errors
    /// As [`RevocationList::open`].
    pub fn again(&self) -> Result<Self, RevocationListError> {
        Self::open(&self.path)
    }

    /// Whether `token` was revoked.
    #[must_use]
    pub fn contains(&self, token: &str) -> bool {
        !self.entries.is_empty() && self.entries.contains_key(&hash(token))
    }

    /// Whether a token with these claims is another copy of one that was revoked (`jti`), or came from the same login
    /// (`sid`, OpenID Connect Front-Channel Logout 1.0, section 3) no later than it.
    #[must_use]
    pub fn names(&self, claims: &Map<String, Value>) -> bool {
        !self.entries.is_empty()
            && named(claims).any(|(hash, by_login)| match self.entries.get(&hash) {
                Some(Entry { issued_by: Some(by), .. }) if by_login => issued(claims).is_some_and(|at| at <= *by),
                Some(_) => true,
                None => false,
            })
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds tokens, each with its end, and drops those that ended more than [`Policy::MAX_LEEWAY`] before `now`. What
    /// another process has added since is kept. The file is replaced in one step, with mode 0600.
    ///
    /// # Errors
    /// [`RevocationListError`]; the file is then as it was before.
    pub fn add(&mut self, tokens: &[(&str, UnixTime)], now: UnixTime) -> Result<(), RevocationListError> {
        let io = |source| RevocationListError::Io { path: self.path.clone(), source };
        let directory = self.path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let _held = self.lock()?;
        let mut entries = Self::open(&self.path)?.entries;
        for (token, exp) in tokens {
            let claims = super::header::take_apart(token).map(|parts| parts.claims).unwrap_or_default();
            let names = named(&claims).map(|(hash, by_login)| (hash, issued(&claims).filter(|_| by_login)));
            for (hash, issued_by) in names.chain([(hash(token), None)]) {
                let entry = entries.entry(hash).or_insert(Entry { end: exp.0, issued_by });
                entry.end = exp.0.max(entry.end);
                entry.issued_by = issued_by.max(entry.issued_by);
            }
        }
        entries.retain(|_, entry| UnixTime(entry.end).plus(Policy::MAX_LEEWAY) >= now);
        if entries.len() > Self::MAX {
            let mut by_end: Vec<(Hash, Entry)> = entries.into_iter().collect();
            by_end.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.end));
            by_end.truncate(Self::MAX);
            entries = by_end.into_iter().collect();
        }
        let mut file = tempfile::Builder::new().prefix(".revoked").tempfile_in(directory).map_err(io)?;
        file.write_all(written(&entries).as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(io)?;
        file.persist(&self.path).map_err(|e| io(e.error))?;
        File::open(directory).and_then(|d| d.sync_all()).map_err(io)?;
        self.entries = entries;
        Ok(())
    }

    /// Keeps two logouts from losing each other's entries. Released when dropped.
    fn lock(&self) -> Result<File, RevocationListError> {
        let io = |source| RevocationListError::Io { path: self.path.clone(), source };
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(PathBuf::from(path)).map_err(io)?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::park_timeout(Duration::from_millis(10)),
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
        }
        Err(RevocationListError::Busy(self.path.clone()))
    }
}

/// A token's hash: of what its signature is over where it has the shape of a JWT, else of all of it.
fn hash(token: &str) -> Hash {
    digest_of(match token.rsplit_once('.') {
        Some((signed, _)) if signed.contains('.') => signed,
        _ => token,
    })
}

fn digest_of(text: &str) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    hash
}

/// The hashes of what a token's claims name it by, and whether it is the login that is named.
fn named(claims: &Map<String, Value>) -> impl Iterator<Item = (Hash, bool)> + '_ {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let issuer = text("iss");
    [("jti", false), ("sid", true)].into_iter().filter_map(move |(name, by_login)| {
        let (issuer, value) = (issuer?, text(name).filter(|value| !value.is_empty())?);
        // A JSON array keeps the three apart, whatever is in them, and no token looks like one.
        Some((digest_of(&serde_json::json!([name, issuer, value]).to_string()), by_login))
    })
}

fn issued(claims: &Map<String, Value>) -> Option<i64> {
    claims.get("iat").and_then(super::claims::numeric_date).map(|at| at.0)
}

fn written(entries: &HashMap<Hash, Entry>) -> String {
    let mut lines: Vec<String> = entries
        .iter()
        .map(|(hash, entry)| {
            let mut line = String::with_capacity(80);
            for byte in hash {
                let _ = write!(line, "{byte:02x}");
            }
            let _ = write!(line, " {}", entry.end);
            if let Some(by) = entry.issued_by {
                let _ = write!(line, " {by}");
            }
            line
        })
        .collect();
    lines.sort();
    let mut text = format!("{FORMAT} {}\n", lines.len());
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn parse(text: &str) -> Option<HashMap<Hash, Entry>> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let count: usize = lines.next()?.strip_prefix(FORMAT)?.strip_prefix(' ')?.parse().ok()?;
    let mut entries = HashMap::with_capacity(count.min(RevocationList::MAX));
    for line in lines {
        let (hex, end) = line.split_once(' ')?;
        let hex: &[u8; 64] = hex.as_bytes().try_into().ok()?;
        let mut hash = Hash::default();
        for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| (c as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let (end, issued_by) = match end.split_once(' ') {
            Some((end, by)) => (end, Some(by.parse().ok()?)),
            None => (end, None),
        };
        entries.insert(hash, Entry { end: end.parse().ok()?, issued_by });
    }
    (entries.len() == count).then_some(entries)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    fn at() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("revoked");
        (directory, path)
    }

    #[test]
    fn what_is_added_is_found_again_and_nothing_else() {
        let (_kept, path) = at();
        let mut list = RevocationList::open(&path).expect("no file is an empty list");
        assert!(list.is_empty() && !list.contains("h.p.s"));
        list.add(&[("h.p.s", UnixTime(1000)), ("opaque", UnixTime(1000))], UnixTime(0)).expect("added");
        let again = RevocationList::open(&path).expect("readable");
        assert!(list.contains("h.p.s") && again.contains("h.p.s") && again.contains("opaque"));
        assert!(!again.contains("h.q.s") && !again.contains("opaqu"));
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(!text.contains("opaque") && !text.contains("h.p"), "{text}");
        assert_eq!(std::fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn another_signature_for_the_same_token_is_revoked_too() {
        let (_kept, path) = at();
        let mut list = RevocationList::open(&path).expect("empty");
        list.add(&[("h.p.s", UnixTime(1000))], UnixTime(0)).expect("added");
        assert!(list.contains("h.p.t"));
    }

    #[test]
    fn copies_and_elder_tokens_of_the_same_login_are_revoked_too_and_later_ones_are_not() {
        let (_kept, path) = at();
        let mut list = RevocationList::open(&path).expect("empty");
        let claims = |jti: &str, sid: &str, iat: i64| {
            let value = serde_json::json!({"iss": "https://a.b.example", "jti": jti, "sid": sid, "iat": iat});
            value.as_object().cloned().expect("an object")
        };
        let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
        let body = Value::Object(claims("one", "login", 500)).to_string();
        let token = format!("{}.{}.c2ln", encode("{\"alg\":\"ES256\"}"), encode(&body));
        list.add(&[(&token, UnixTime(1000))], UnixTime(600)).expect("added");
        for list in [list, RevocationList::open(&path).expect("readable")] {
            for (claims, expected) in [
                (claims("one", "other", 900), true),
                (claims("two", "login", 400), true),
                (claims("two", "login", 500), true),
                (claims("two", "login", 501), false),
                (claims("two", "other", 400), false),
                (claims("login", "one", 400), false),
                (claims("", "", 400), false),
            ] {
                assert_eq!(list.names(&claims), expected, "{claims:?}");
            }
            let mut elsewhere = claims("one", "login", 400);
            elsewhere.insert("iss".into(), "https://b.example".into());
            assert!(!list.names(&elsewhere), "names are the issuer's own");
        }
    }

    #[test]
    fn an_entry_outlives_every_leeway_and_then_goes() {
        let (_kept, path) = at();
        let mut list = RevocationList::open(&path).expect("empty");
        list.add(&[("a.b.c", UnixTime(1000))], UnixTime(0)).expect("added");
        list.add(&[], UnixTime(1000 + DAY)).expect("added");
        assert!(list.contains("a.b.c"));
        list.add(&[], UnixTime(1001 + DAY)).expect("added");
        assert!(!list.contains("a.b.c"));
    }

    #[test]
    fn two_writers_keep_each_others_entries() {
        let (_kept, path) = at();
        let (mut one, mut two) =
            (RevocationList::open(&path).expect("empty"), RevocationList::open(&path).expect("empty"));
        one.add(&[("a.b.c", UnixTime(9))], UnixTime(0)).expect("added");
        two.add(&[("d.e.f", UnixTime(9))], UnixTime(0)).expect("added");
        let list = RevocationList::open(&path).expect("readable");
        assert!(list.contains("a.b.c") && list.contains("d.e.f"));
    }

    #[test]
    fn a_lock_held_elsewhere_is_not_waited_for_without_end() {
        let (_kept, path) = at();
        let mut list = RevocationList::open(&path).expect("empty");
        let _held = list.lock().expect("free");
        assert!(matches!(list.add(&[("a.b.c", UnixTime(9))], UnixTime(0)), Err(RevocationListError::Busy(_))));
    }

    #[test]
    fn damage_is_an_error_and_not_an_empty_list() {
        let (_kept, path) = at();
        let mut list = RevocationList::open(&path).expect("empty");
        list.add(&[("a.b.c", UnixTime(9)), ("d.e.f", UnixTime(9))], UnixTime(0)).expect("added");
        let good = std::fs::read(&path).expect("bytes");
        let first_line = good.iter().position(|b| *b == b'\n').expect("lines") + 1;
        let cuts = [0, 1, first_line, good.len() - 1, first_line + 67, good.len() / 2];
        for cut in cuts {
            std::fs::write(&path, &good[..cut]).expect("written");
            assert!(matches!(RevocationList::open(&path), Err(RevocationListError::Damaged(_))), "cut at {cut}");
            assert!(list.add(&[], UnixTime(0)).is_err(), "and it is not written over");
        }
        std::fs::write(&path, [good.as_slice(), b"\xff\n"].concat()).expect("written");
        assert!(matches!(RevocationList::open(&path), Err(RevocationListError::Damaged(_))));
        std::fs::write(&path, vec![b'a'; 3 << 20]).expect("written");
        assert!(matches!(RevocationList::open(&path), Err(RevocationListError::Damaged(_))));
    }

    #[test]
    fn of_too_many_those_that_end_first_go() {
        let (_kept, path) = at();
        let tokens: Vec<String> = (0..RevocationList::MAX + 5).map(|n| format!("a.{n}.c")).collect();
        let ends: Vec<(&str, UnixTime)> =
            tokens.iter().zip(1000..).map(|(token, end)| (token.as_str(), UnixTime(end))).collect();
        let mut list = RevocationList::open(&path).expect("empty");
        list.add(&ends, UnixTime(0)).expect("added");
        let list = RevocationList::open(&path).expect("readable");
        assert_eq!(list.len(), RevocationList::MAX);
        assert!(!list.contains("a.4.c") && list.contains("a.5.c"));
    }
}
