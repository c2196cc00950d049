//! The stored trust in an issuer for offline verification, and the latest recorded time.

use serde::{Deserialize, Serialize};

use super::IssuerUrl;
use crate::clock::{UnixTime, Uptime};
use crate::secret::SecretBytes;

/// The maximum size of a JWK Set in bytes, fetched or supplied.
pub const MAX_JWKS_LENGTH: usize = 256 * 1024;

/// The issuer's keys as last fetched, trusted for offline verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustedKeys {
    /// The JWK Set as the issuer sent it (RFC 7517, section 5).
    pub jwks: String,
    /// The URL that they were fetched from.
    pub source: String,
    /// When they were fetched.
    pub fetched_at: UnixTime,
}

/// Pinned keys, which a fetch never replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedKeys {
    /// The contents of the file: a JWK Set or PEM public keys.
    pub keys: String,
    /// The file that they were read from.
    pub source: String,
    /// When they were pinned.
    pub pinned_at: UnixTime,
}

/// A Token Status List as last fetched. It is verified each time it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredStatusList {
    /// Its URL, which tokens name.
    pub uri: String,
    /// The status list token, a JWT.
    pub jwt: String,
    /// When it was fetched.
    pub fetched_at: UnixTime,
}

/// The latest recorded time, and the machine's uptime then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockMark {
    /// The time.
    pub latest: UnixTime,
    /// The uptime, if the system reports it. Within one boot, at least the difference in uptime has passed.
    pub uptime: Option<Uptime>,
}

impl ClockMark {
    /// Returns the earliest time that it can be now, given the machine's `uptime`.
    #[must_use]
    pub fn earliest_now(&self, uptime: Option<&Uptime>) -> UnixTime {
        match (&self.uptime, uptime) {
            (Some(then), Some(now)) if then.boot == now.boot => self.latest.plus(then.until(now)),
            _ => self.latest,
        }
    }

    /// Returns the stored form.
    #[must_use]
    pub fn to_stored(&self) -> SecretBytes {
        stored(self)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`TrustFormatError`].
    pub fn from_stored(bytes: &SecretBytes) -> Result<Self, TrustFormatError> {
        read(bytes)
    }
}

/// The trust record of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The issuer.
    pub issuer: IssuerUrl,
    /// Its keys as last fetched.
    pub fetched: Option<TrustedKeys>,
    /// Its pinned keys. If there are any, no others are trusted.
    pub pinned: Option<PinnedKeys>,
    /// When a request for its keys last failed, or did not bring the key of a token.
    #[serde(rename = "asked_at")]
    pub unknown_key_fetched_at: Option<UnixTime>,
    /// How often in a row.
    #[serde(rename = "asked", default, skip_serializing_if = "is_zero")]
    pub unknown_key_fetches: u32,
    /// When it last responded, by this machine's clock.
    pub contact_at: Option<UnixTime>,
    /// When it last responded, by its own clock (`Date`, RFC 9110, section 6.6.1).
    pub issuer_time: Option<ClockMark>,
    /// The status lists that its tokens name, the latest last; at most [`Trust::MAX_LISTS`].
    pub lists: Vec<StoredStatusList>,
}

/// A record that cannot be read. The error contains the position, never the contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored record is damaged at line {line}, column {column}")]
pub struct TrustFormatError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
}

impl Trust {
    /// The maximum number of status lists of an issuer; the oldest is dropped first.
    pub const MAX_LISTS: usize = 8;

    /// Returns the empty record of an issuer.
    #[must_use]
    pub fn none(issuer: IssuerUrl) -> Self {
        Self {
            issuer,
            fetched: None,
            pinned: None,
            unknown_key_fetched_at: None,
            unknown_key_fetches: 0,
            contact_at: None,
            issuer_time: None,
            lists: Vec::new(),
        }
    }

    /// Adds a list, or replaces the one with the same URL.
    pub fn store_list(&mut self, list: StoredStatusList) {
        self.lists.retain(|stored| stored.uri != list.uri);
        let excess = (self.lists.len() + 1).saturating_sub(Self::MAX_LISTS);
        self.lists.drain(..excess);
        self.lists.push(list);
    }

    /// Returns the stored form: JSON.
    #[must_use]
    pub fn to_stored(&self) -> SecretBytes {
        stored(self)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`TrustFormatError`].
    pub fn from_stored(bytes: &SecretBytes) -> Result<Self, TrustFormatError> {
        read(bytes)
    }
}

/// The stored form's version. A reader refuses any other.
const FORMAT: u64 = 1;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    format: u64,
    #[serde(flatten)]
    what: T,
}

fn stored(what: &impl Serialize) -> SecretBytes {
    #[allow(clippy::expect_used, reason = "no map has keys other than strings, and a vector never fails to grow")]
    SecretBytes::new(serde_json::to_vec(&Versioned { format: FORMAT, what }).expect("a record is always JSON"))
}

fn read<T: for<'de> Deserialize<'de>>(bytes: &SecretBytes) -> Result<T, TrustFormatError> {
    let damaged = |e: serde_json::Error| TrustFormatError { line: e.line(), column: e.column() };
    let read: Versioned<T> = serde_json::from_slice(bytes.expose()).map_err(damaged)?;
    if read.format == FORMAT { Ok(read.what) } else { Err(TrustFormatError { line: 1, column: 1 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(number: usize) -> StoredStatusList {
        StoredStatusList { uri: format!("https://a.example/{number}"), jwt: "j".into(), fetched_at: UnixTime(9) }
    }

    #[test]
    fn trust_record_has_the_documented_format() {
        let uptime = Some(Uptime { boot: "b".into(), seconds: 5 });
        let trust = Trust {
            fetched: Some(TrustedKeys {
                jwks: "{}".into(),
                source: "https://a.example/k".into(),
                fetched_at: UnixTime(7),
            }),
            pinned: Some(PinnedKeys { keys: "pem".into(), source: "k.pem".into(), pinned_at: UnixTime(8) }),
            unknown_key_fetched_at: Some(UnixTime(1)),
            unknown_key_fetches: 4,
            contact_at: Some(UnixTime(2)),
            issuer_time: Some(ClockMark { latest: UnixTime(3), uptime }),
            lists: vec![list(1)],
            ..Trust::none("https://a.example".parse().expect("an issuer"))
        };
        let bytes = trust.to_stored();
        let expected = "{\"format\":1,\"issuer\":\"https://a.example\",\"fetched\":{\"jwks\":\"{}\",\
            \"source\":\"https://a.example/k\",\"fetched_at\":7},\"pinned\":{\"keys\":\"pem\",\"source\":\"k.pem\",\
            \"pinned_at\":8},\"asked_at\":1,\"asked\":4,\"contact_at\":2,\"issuer_time\":{\"latest\":3,\"uptime\":{\"boot\":\"b\",\
            \"seconds\":5}},\"lists\":[{\"uri\":\"https://a.example/1\",\"jwt\":\"j\",\"fetched_at\":9}]}";
        assert_eq!(std::str::from_utf8(bytes.expose()).expect("text"), expected);
        assert_eq!(Trust::from_stored(&bytes), Ok(trust));
        for bad in ["", "{", "[]", "{\"format\":2}", &expected.replacen("\"format\":1", "\"format\":2", 1)] {
            assert!(Trust::from_stored(&SecretBytes::new(bad.as_bytes().to_vec())).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_latest_status_lists_are_stored() {
        let mut trust = Trust::none("https://a.example".parse().expect("an issuer"));
        (0..12).chain([11]).for_each(|number| trust.store_list(list(number)));
        let numbers: Vec<&str> = trust.lists.iter().map(|list| list.uri.rsplit('/').next().expect("some")).collect();
        assert_eq!(numbers, ["4", "5", "6", "7", "8", "9", "10", "11"]);
    }

    #[test]
    fn uptime_counts_within_one_boot_only() {
        let up = |boot: &str, seconds| Uptime { boot: boot.into(), seconds };
        let mark = ClockMark { latest: UnixTime(1000), uptime: Some(up("a", 50)) };
        assert_eq!(mark.earliest_now(Some(&up("a", 80))), UnixTime(1030));
        assert_eq!(mark.earliest_now(Some(&up("a", 10))), UnixTime(1000), "uptime does not go backwards");
        assert_eq!(mark.earliest_now(Some(&up("b", 80))), UnixTime(1000), "after a reboot the uptime means nothing");
        assert_eq!(mark.earliest_now(None), UnixTime(1000));
    }
}
