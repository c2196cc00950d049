//! Tells from a kept status list whether its issuer has revoked or suspended a token (IETF, "Token Status List").
//!
//! A token names a list and an index in it; the list is a JWT of its own, judged like any other token before a bit of it
//! is believed. What fetches it is elsewhere: here is no network.

use std::fmt;
use std::time::Duration;

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};
use serde_json::{Map, Value};
use url::Url;

use super::claims::{judge_status_list, numeric_date};
use super::findings::Findings;
use super::header::{decoded, take_apart};
use super::keys::KeySet;
use super::policy::{AcceptedTypes, Algorithm, Policy};
use super::reason::{Reason, ReasonCode, quoted};
use super::{Judged, judge_by};
use crate::clock::UnixTime;
use crate::model::secure_url;

/// Where a token says that its status stands (Token Status List, section 6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusClaim {
    /// The list's name, exactly as in the token.
    pub uri: String,
    /// The same as an address, https or http on loopback.
    pub url: Url,
    /// The token's place in the list.
    pub index: u64,
}

/// A `status` claim of the wrong shape. Quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStatus {
    /// `status`, or `status_list` in it, is no object.
    #[error("the claim `status` or its `status_list` is not an object")]
    NotAnObject,
    /// `uri` is missing, or is no address that a list may be fetched from.
    #[error(
        "`uri` in the claim `status` is neither an https address nor an http one on loopback, or is longer than {} bytes",
        StatusClaim::MAX_URI
    )]
    Uri,
    /// `idx` is missing, negative or no integer.
    #[error("`idx` in the claim `status` is not an integer of zero or more")]
    Index,
}

impl From<InvalidStatus> for Reason {
    fn from(invalid: InvalidStatus) -> Self {
        Self::new(ReasonCode::Malformed, invalid.to_string())
    }
}

impl StatusClaim {
    /// The longest `uri`, in bytes.
    pub const MAX_URI: usize = 2048;

    /// Reads it from a token's claims; `None` where the token names no status list. Other mechanisms that `status` may
    /// name are not known here and not read.
    ///
    /// # Errors
    /// [`InvalidStatus`], which is a reason for a denial.
    pub fn read(claims: &Map<String, Value>) -> Result<Option<Self>, InvalidStatus> {
        let Some(status) = claims.get("status") else { return Ok(None) };
        let Some(list) = status.as_object().ok_or(InvalidStatus::NotAnObject)?.get("status_list") else {
            return Ok(None);
        };
        let list = list.as_object().ok_or(InvalidStatus::NotAnObject)?;
        let uri = list.get("uri").and_then(Value::as_str).filter(|uri| uri.len() <= Self::MAX_URI);
        let uri = uri.ok_or(InvalidStatus::Uri)?;
        let url = secure_url(uri).map_err(|_| InvalidStatus::Uri)?;
        let index = list.get("idx").and_then(Value::as_u64).ok_or(InvalidStatus::Index)?;
        Ok(Some(Self { uri: uri.to_owned(), url, index }))
    }
}

/// What a status list must be like to be believed.
#[derive(Clone, Debug)]
pub struct StatusListPolicy<'a> {
    /// The list's name, as the token gives it; must be the list's `sub`.
    pub uri: &'a str,
    /// The token's issuer; must be the list's `iss` where it has one.
    pub issuer: &'a str,
    /// The accepted algorithms.
    pub algorithms: &'a [Algorithm],
    /// How far two clocks may be apart.
    pub leeway: Duration,
    /// When it was fetched, which is the moment as of which it is judged. Whether it still counts is for
    /// [`judge_status`] to say.
    pub fetched_at: UnixTime,
}

impl<'a> StatusListPolicy<'a> {
    /// The default policy for the list `uri` of `issuer`.
    #[must_use]
    pub fn new(uri: &'a str, issuer: &'a str, fetched_at: UnixTime) -> Self {
        Self { uri, issuer, algorithms: &Algorithm::ALL, leeway: Policy::LEEWAY, fetched_at }
    }
}

/// Why a status list is not believed. Quotes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusListError {
    /// As a token: its shape, signature, `typ`, times or issuer. The codes are in the order of [`ReasonCode`].
    #[error("the status list is not to be believed: {}", words(.0))]
    Refused(Vec<ReasonCode>),
    /// Its `sub` is another address.
    #[error("the status list is another one than the token names")]
    OtherList,
    /// No `status_list` with `bits` and `lst`, or a `ttl` that is no positive number.
    #[error("the status list does not have the shape of one")]
    Shape,
    /// `lst` is not base64url of a whole zlib stream.
    #[error("the status list is damaged: it cannot be unpacked")]
    Damaged,
    /// It unpacks to more than [`StatusList::MAX_UNPACKED`].
    #[error("the status list unpacks to more than {} MiB", StatusList::MAX_UNPACKED >> 20)]
    TooLong,
}

impl StatusListError {
    /// Whether the key that signed it is not known, which fetching the keys again may mend.
    #[must_use]
    pub fn is_unknown_key(&self) -> bool {
        matches!(self, Self::Refused(codes) if codes.contains(&ReasonCode::UnknownKey))
    }
}

fn words(codes: &[ReasonCode]) -> String {
    codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What a list says of one token (Token Status List, section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing against it.
    Valid,
    /// Revoked for good.
    Invalid,
    /// Not to be used for now.
    Suspended,
    /// A value that only its issuer understands.
    Other(u8),
    /// The list ends before the index.
    OutOfRange,
}

/// The statuses of a list, unpacked.
#[derive(Clone, PartialEq, Eq)]
pub struct Statuses {
    /// 1, 2, 4 or 8.
    bits: u8,
    bytes: Vec<u8>,
}

impl fmt::Debug for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statuses({} bytes, {} bits each)", self.bytes.len(), self.bits)
    }
}

impl Statuses {
    /// Unpacks a zlib stream (RFC 1950) of statuses of `bits` bits each (Token Status List, section 4.1).
    ///
    /// # Errors
    /// [`StatusListError::Shape`] for other bits than 1, 2, 4 or 8; [`StatusListError::Damaged`] or
    /// [`StatusListError::TooLong`] for what cannot be unpacked.
    pub fn unpack(bits: u64, packed: &[u8]) -> Result<Self, StatusListError> {
        let bits =
            u8::try_from(bits).ok().filter(|bits| matches!(bits, 1 | 2 | 4 | 8)).ok_or(StatusListError::Shape)?;
        let bytes =
            decompress_to_vec_zlib_with_limit(packed, StatusList::MAX_UNPACKED).map_err(|e| match e.status {
                TINFLStatus::HasMoreOutput => StatusListError::TooLong,
                _ => StatusListError::Damaged,
            })?;
        Ok(Self { bits, bytes })
    }

    /// The status at `index`, the lowest bits of a byte first (Token Status List, section 4.1).
    #[must_use]
    pub fn status(&self, index: u64) -> Status {
        let each = u64::from(8 / self.bits);
        let Some(byte) = usize::try_from(index / each).ok().and_then(|at| self.bytes.get(at)) else {
            return Status::OutOfRange;
        };
        let shift = (index % each) * u64::from(self.bits);
        match (byte >> shift) & (u8::MAX >> (8 - self.bits)) {
            0 => Status::Valid,
            1 => Status::Invalid,
            2 => Status::Suspended,
            other => Status::Other(other),
        }
    }

    /// Reads the `status_list` claim (Token Status List, section 4.2).
    fn read(claim: Option<&Value>) -> Result<Self, StatusListError> {
        let member = |name| claim.and_then(Value::as_object).and_then(|list| list.get(name));
        let bits = member("bits").and_then(Value::as_u64).ok_or(StatusListError::Shape)?;
        let packed = member("lst").and_then(Value::as_str).ok_or(StatusListError::Shape)?;
        Self::unpack(bits, &decoded(packed).map_err(|_| StatusListError::Damaged)?)
    }
}

/// A status list that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusList {
    uri: String,
    statuses: Statuses,
    fetched_at: UnixTime,
    fresh_until: UnixTime,
}

impl StatusList {
    /// The longest JWT that is read, in bytes.
    pub const MAX_LENGTH: usize = 1024 * 1024;
    /// The most bytes that it may unpack to: 134 million tokens of one bit. A zlib stream grows up to a thousandfold.
    pub const MAX_UNPACKED: usize = 16 * 1024 * 1024;
    /// How long a list counts that gives neither `ttl` nor `exp`.
    pub const USUAL_LIFE: Duration = Duration::from_secs(60 * 60);
    /// How long any list counts, whatever it says: a revocation is seen a day later at most.
    pub const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

    /// Verifies a status list token by its issuer's `keys` and unpacks it (Token Status List, section 8.3).
    ///
    /// # Errors
    /// [`StatusListError`].
    pub fn read(jwt: &str, keys: &KeySet, policy: &StatusListPolicy<'_>) -> Result<Self, StatusListError> {
        let general = Policy {
            algorithms: policy.algorithms.to_vec(),
            types: AcceptedTypes::StatusList,
            leeway: policy.leeway,
            ..Policy::new(policy.issuer, Vec::new(), policy.fetched_at)
        };
        let claims = match judge_by(jwt, Self::MAX_LENGTH, keys, &general, judge_status_list, Findings::default()) {
            Judged { claims: Some((claims, _)), key: Some(_), findings } if findings.reasons.is_empty() => claims,
            Judged { findings, .. } => {
                let mut codes: Vec<ReasonCode> = findings.reasons.iter().map(|reason| reason.code).collect();
                codes.sort();
                codes.dedup();
                return Err(StatusListError::Refused(codes));
            }
        };
        if claims.get("sub").and_then(Value::as_str) != Some(policy.uri) {
            return Err(StatusListError::OtherList);
        }
        let exp = claims.get("exp").and_then(numeric_date);
        let life = match claims.get("ttl") {
            Some(ttl) => positive(ttl).ok_or(StatusListError::Shape)?.min(Self::MAX_LIFE),
            None if exp.is_some() => Self::MAX_LIFE,
            None => Self::USUAL_LIFE,
        };
        let fresh_until = policy.fetched_at.plus(life);
        Ok(Self {
            uri: policy.uri.to_owned(),
            statuses: Statuses::read(claims.get("status_list"))?,
            fetched_at: policy.fetched_at,
            // The leeway that let it in keeps it, too.
            fresh_until: exp.map_or(fresh_until, |exp| fresh_until.min(exp.plus(general.bounded_leeway()))),
        })
    }

    /// What it says of the token at `index`.
    #[must_use]
    pub fn status(&self, index: u64) -> Status {
        self.statuses.status(index)
    }

    /// The moment from which it is too old to be asked: `ttl` after it was fetched, or `exp` where that is sooner.
    #[must_use]
    pub fn fresh_until(&self) -> UnixTime {
        self.fresh_until
    }
}

/// The list that a token names, believed by nobody: for fetching it while the issuer can be asked. Never base a decision
/// on it.
#[must_use]
pub fn unverified_status(token: &str) -> Option<StatusClaim> {
    StatusClaim::read(&take_apart(token).ok()?.claims).ok().flatten()
}

/// A positive number of seconds, in whole ones.
fn positive(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite() && *seconds > 0.0)?;
    Some(Duration::from_secs_f64(seconds.min(StatusList::MAX_LIFE.as_secs_f64())))
}

/// The reason that the kept list gives against a token that is believed otherwise, `None` where the list says that it
/// is valid. A token whose list is not kept or too old is denied, and so is one of a status that is not known here.
#[must_use]
pub fn judge_status(claim: &StatusClaim, list: Option<&StatusList>, now: UnixTime) -> Option<Reason> {
    let (name, index) = (quoted(&claim.uri), claim.index);
    let deny = |code, message: String| Some(Reason::new(code, message));
    let online = "run `authctl refresh` while online";
    let Some(list) = list.filter(|list| list.uri == claim.uri) else {
        let message = format!("whether the token is revoked stands in the status list {name}, which is not kept here");
        return deny(ReasonCode::KeysStale, format!("{message}: {online}"));
    };
    if now >= list.fresh_until {
        let (age, until) = (list.fetched_at.until(now).as_secs(), list.fresh_until);
        let message = format!("the kept status list {name} is {age} s old and counted until {until}; it is {now}");
        return deny(ReasonCode::KeysStale, format!("{message}: {online}"));
    }
    let place = format!("status list {name}, index {index}");
    match list.status(index) {
        Status::Valid => None,
        Status::Invalid => deny(ReasonCode::Revoked, format!("the issuer has revoked the token ({place})")),
        Status::Suspended => deny(ReasonCode::Revoked, format!("the issuer has suspended the token ({place})")),
        Status::Other(value) => {
            deny(ReasonCode::Revoked, format!("the issuer gives the token the unknown status {value} ({place})"))
        }
        Status::OutOfRange => {
            let message = format!("the token's index {index} is beyond the end of the status list {name}");
            deny(ReasonCode::Revoked, format!("{message}, so nothing says that the token is valid"))
        }
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::deflate::compress_to_vec_zlib;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::verify::testing::{ISSUER, NOW, Signer, b64, ed, p256, policy as token_policy, rsa, set};
    use crate::verify::{Verdict, verify};

    const LIST: &str = "https://issuer.example/statuslists/1";
    const GOOD: &str = r#"{"alg":"ES256","kid":"k","typ":"statuslist+jwt"}"#;
    /// The example of the draft's section 4.1: 16 statuses of one bit.
    const ONE_BIT: &str = "eNrbuRgAAhcBXQ";

    fn policy() -> StatusListPolicy<'static> {
        StatusListPolicy::new(LIST, ISSUER, UnixTime(NOW))
    }

    /// Good claims with changes; a null takes one away.
    fn payload(changes: Value) -> String {
        let mut claims = json!({"sub": LIST, "iss": ISSUER, "iat": NOW, "exp": NOW + 7200, "ttl": 600,
            "status_list": {"bits": 1, "lst": ONE_BIT}});
        let members = claims.as_object_mut().expect("object");
        members.extend(changes.as_object().expect("object").clone());
        members.retain(|_, value| !value.is_null());
        claims.to_string()
    }

    fn read(jwt: &str) -> Result<StatusList, StatusListError> {
        StatusList::read(jwt, &set(&[p256().jwk.clone()]), &policy())
    }

    fn with(changes: Value) -> Result<StatusList, StatusListError> {
        read(&p256().signs(GOOD, &payload(changes)))
    }

    fn refused(code: ReasonCode) -> Result<StatusList, StatusListError> {
        Err(StatusListError::Refused(vec![code]))
    }

    fn packed(bytes: &[u8]) -> String {
        b64(compress_to_vec_zlib(bytes, 9))
    }

    fn claim(index: u64) -> StatusClaim {
        let claims = json!({"status": {"status_list": {"uri": LIST, "idx": index}}});
        StatusClaim::read(claims.as_object().expect("object")).expect("well-formed").expect("there")
    }

    /// The statuses that are not 0, with their indices.
    fn set_ones(list: &StatusList, count: u64) -> Vec<(u64, Status)> {
        (0..count).map(|index| (index, list.status(index))).filter(|(_, status)| *status != Status::Valid).collect()
    }

    #[test]
    fn the_drafts_short_examples_read_as_it_says() {
        let list = with(json!({})).expect("section 4.1");
        let invalid: Vec<u64> = set_ones(&list, 16).into_iter().map(|(index, _)| index).collect();
        assert_eq!(invalid, [0, 3, 4, 5, 7, 8, 9, 13, 15]);
        assert_eq!(list.status(16), Status::OutOfRange);
        assert_eq!(list.statuses.bytes, [0xb9, 0xa3]);

        let list = with(json!({"status_list": {"bits": 2, "lst": "eNo76fITAAPfAgc"}})).expect("two bits each");
        let values = [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3].map(|value| match value {
            0 => Status::Valid,
            1 => Status::Invalid,
            2 => Status::Suspended,
            other => Status::Other(other),
        });
        for (value, index) in values.into_iter().zip(0..) {
            assert_eq!(list.status(index), value, "{index}");
        }
        assert_eq!(list.status(12), Status::OutOfRange);
    }

    #[test]
    fn the_drafts_lists_of_a_million_tokens_read_as_it_says() {
        use Status::{Invalid, Other, Suspended};
        const PLACES: [u64; 11] =
            [0, 1993, 25460, 159_495, 495_669, 554_353, 645_645, 723_232, 854_545, 934_534, 1_000_345];
        let list = with(json!({"status_list": {"bits": 1, "lst": MILLION_ONE_BIT}})).expect("one bit each");
        assert_eq!(set_ones(&list, 1 << 20), PLACES.map(|place| (place, Invalid)));
        assert_eq!(list.status(1 << 20), Status::OutOfRange);
        let list = with(json!({"status_list": {"bits": 2, "lst": MILLION_TWO_BITS}})).expect("two bits each");
        let values =
            [Invalid, Suspended, Invalid, Other(3), Invalid, Invalid, Suspended, Invalid, Invalid, Suspended, Other(3)];
        assert_eq!(set_ones(&list, 1 << 20), PLACES.into_iter().zip(values).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read_again(values in prop::collection::vec(any::<u8>(), 1..300), power in 0u32..4) {
            let bits = 1usize << power;
            let (mut bytes, mask) = (vec![0u8; (values.len() * bits).div_ceil(8)], u8::MAX >> (8 - bits));
            for (at, value) in values.iter().enumerate() {
                bytes[at * bits / 8] |= (value & mask) << (at * bits % 8);
            }
            let statuses = Statuses::unpack(1 << power, &compress_to_vec_zlib(&bytes, 6)).expect("whole");
            for (value, index) in values.iter().zip(0..) {
                let expected = match value & mask {
                    0 => Status::Valid,
                    1 => Status::Invalid,
                    2 => Status::Suspended,
                    other => Status::Other(other),
                };
                prop_assert_eq!(statuses.status(index), expected);
            }
            let each = 8 / bits;
            prop_assert_eq!(statuses.status((bytes.len() * each) as u64), Status::OutOfRange);
            prop_assert_eq!(statuses.status(u64::MAX), Status::OutOfRange);
        }

        #[test]
        fn no_bytes_are_a_panic(bits in 0u64..10, bytes in prop::collection::vec(any::<u8>(), 0..200), index: u64) {
            for packed in [bytes.clone(), compress_to_vec_zlib(&bytes, 1)] {
                if let Ok(statuses) = Statuses::unpack(bits, &packed) {
                    let _ = statuses.status(index);
                    let _ = statuses.status(index % 2048);
                }
            }
            let _ = read(&p256().signs(GOOD, &payload(json!({"status_list": {"bits": bits, "lst": b64(&bytes)}}))));
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked_beyond_the_bound() {
        let largest = vec![0; StatusList::MAX_UNPACKED];
        let list = with(json!({"status_list": {"bits": 1, "lst": packed(&largest)}})).expect("just fits");
        assert_eq!(list.status((StatusList::MAX_UNPACKED as u64) * 8 - 1), Status::Valid);
        let bomb = packed(&[largest.as_slice(), &[0]].concat());
        assert!(bomb.len() < 32 * 1024, "small enough to be let in: {}", bomb.len());
        assert_eq!(with(json!({"status_list": {"bits": 1, "lst": bomb}})), Err(StatusListError::TooLong));
        let padded = |length| with(json!({"padding": "x".repeat(length)}));
        assert!(padded(700_000).is_ok());
        assert_eq!(padded(900_000), refused(ReasonCode::Malformed), "a JWT of 1.2 MB");
    }

    #[test]
    fn a_list_may_be_longer_than_a_token_may() {
        let random: Vec<u8> = (0u32..300_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let lst = b64(compress_to_vec_zlib(&random, 0));
        assert!(lst.len() > super::super::header::MAX_TOKEN);
        assert_eq!(with(json!({"status_list": {"bits": 8, "lst": lst}})).expect("fits").statuses.bytes, random);
    }

    #[test]
    fn damage_is_an_error_and_not_a_shorter_list() {
        let whole = compress_to_vec_zlib(&(0..=255).cycle().take(5000).collect::<Vec<u8>>(), 9);
        let damaged = |bytes: &[u8]| with(json!({"status_list": {"bits": 1, "lst": b64(bytes)}}));
        assert!(damaged(&whole).is_ok());
        for cut in (1..whole.len()).step_by(7).chain([whole.len() - 1, whole.len() - 4, whole.len() - 5]) {
            assert_eq!(damaged(&whole[..cut]), Err(StatusListError::Damaged), "cut at {cut}");
        }
        let mut changed = whole.clone();
        *changed.last_mut().expect("a checksum") ^= 1;
        assert_eq!(damaged(&changed), Err(StatusListError::Damaged), "another checksum");
        for lst in ["", "eNrbuRgAAhcBXQ==", "eNrbuRgAAhcBXR", "e30", "****"] {
            assert_eq!(with(json!({"status_list": {"bits": 1, "lst": lst}})), Err(StatusListError::Damaged), "{lst}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for list in [
            json!([]),
            json!("x"),
            json!({"bits": 1}),
            json!({"lst": ONE_BIT}),
            json!({"bits": 3, "lst": ONE_BIT}),
            json!({"bits": 0, "lst": ONE_BIT}),
            json!({"bits": 16, "lst": ONE_BIT}),
            json!({"bits": 257, "lst": ONE_BIT}),
            json!({"bits": "1", "lst": ONE_BIT}),
            json!({"bits": 1.5, "lst": ONE_BIT}),
            json!({"bits": 1, "lst": [ONE_BIT]}),
        ] {
            assert_eq!(with(json!({"status_list": list})), Err(StatusListError::Shape), "{list}");
        }
        assert_eq!(with(json!({"status_list": null})), Err(StatusListError::Shape));
        for ttl in [json!(0), json!(-1), json!("600"), json!([600])] {
            assert_eq!(with(json!({"ttl": ttl})), Err(StatusListError::Shape), "{ttl}");
        }
    }

    #[test]
    fn it_is_judged_as_strictly_as_any_token() {
        use ReasonCode::*;
        assert_eq!(with(json!({"sub": "https://issuer.example/statuslists/2"})), Err(StatusListError::OtherList));
        assert_eq!(with(json!({"sub": format!("{LIST}/")})), Err(StatusListError::OtherList));
        assert_eq!(with(json!({"sub": null})), refused(MissingClaim));
        assert_eq!(with(json!({"sub": [LIST]})), refused(Malformed));
        assert_eq!(with(json!({"iat": null})), refused(MissingClaim));
        assert_eq!(with(json!({"iat": NOW + 31})), refused(NotYetValid));
        assert!(with(json!({"iat": NOW + 30})).is_ok());
        assert_eq!(with(json!({"exp": NOW - 30})), refused(Expired));
        assert!(with(json!({"exp": NOW - 29})).is_ok());
        assert_eq!(with(json!({"exp": "never"})), refused(Malformed));
        assert_eq!(with(json!({"iss": "https://evil.example"})), refused(WrongIssuer));
        assert!(with(json!({"iss": null, "exp": null, "ttl": null})).is_ok(), "the three may be left out");
        for header in [
            r#"{"alg":"ES256","kid":"k"}"#,
            r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#,
            r#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#,
            r#"{"alg":"ES256","kid":"k","typ":"application/statuslist+jwt"}"#,
        ] {
            assert_eq!(read(&p256().signs(header, &payload(json!({})))), refused(WrongType), "{header}");
        }
        let crit = r#"{"alg":"ES256","kid":"k","typ":"statuslist+jwt","crit":["x"]}"#;
        assert_eq!(read(&p256().signs(crit, &payload(json!({})))), refused(UnsupportedHeader));
        let none = r#"{"alg":"none","typ":"statuslist+jwt"}"#;
        assert_eq!(read(&format!("{}.{}.", b64(none), b64(payload(json!({}))))), refused(AlgorithmNotAllowed));
        assert_eq!(read("nonsense"), refused(OpaqueToken));
        assert_eq!(read("e30.e30.e30"), refused(Malformed));
        let twice = payload(json!({})).replacen('{', &format!(r#"{{"sub":"{LIST}","#), 1);
        assert_eq!(read(&p256().signs(GOOD, &twice)), refused(Malformed));
    }

    #[test]
    fn only_the_issuers_key_makes_one_and_only_with_its_algorithm() {
        use ReasonCode::*;
        let signed = |signer: &Signer, header: &str| signer.signs(header, &payload(json!({})));
        let keys = |keys: &[Value]| set(keys);
        let by = |jwt: &str, keys: &KeySet, policy: &StatusListPolicy<'_>| StatusList::read(jwt, keys, policy);
        let good = signed(p256(), GOOD);
        let mut forged: Vec<&str> = good.split('.').collect();
        let other = p256().signs(GOOD, &payload(json!({"ttl": 601})));
        forged[2] = other.rsplit('.').next().expect("a signature");
        assert_eq!(read(&forged.join(".")), refused(BadSignature));
        assert_eq!(
            read(&signed(ed(), r#"{"alg":"EdDSA","kid":"k","typ":"statuslist+jwt"}"#)),
            refused(AlgorithmNotAllowed)
        );
        assert_eq!(read(&signed(rsa(), GOOD)), refused(BadSignature));
        assert_eq!(by(&good, &KeySet::default(), &policy()), refused(UnknownKey));
        assert_eq!(by(&good, &keys(&[p256().jwk_with(json!({"kid": "other"}))]), &policy()), refused(UnknownKey));
        let narrow = StatusListPolicy { algorithms: &[Algorithm::EdDSA], ..policy() };
        assert_eq!(by(&good, &keys(&[p256().jwk.clone()]), &narrow), refused(AlgorithmNotAllowed));
    }

    #[test]
    fn a_list_does_not_pass_for_an_access_token() {
        let claims = payload(json!({"aud": "https://api.example"}));
        let verdict = verify(&p256().signs(GOOD, &claims), &set(&[p256().jwk.clone()]), &token_policy());
        let Verdict::Denied(reasons) = verdict else { panic!("granted") };
        assert_eq!(reasons[0].code, ReasonCode::WrongType);
    }

    #[test]
    fn an_error_quotes_nothing() {
        let errors =
            [with(json!({"iss": "hunter2", "sub": "hunter2", "iat": "hunter2"})), with(json!({"sub": "hunter2"}))];
        for error in errors {
            let error = error.expect_err("wrong").to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = with(json!({"iss": "x", "exp": 1})).expect_err("wrong");
        assert_eq!(error.to_string(), "the status list is not to be believed: expired, wrong_issuer");
    }

    #[test]
    fn it_counts_as_long_as_it_says_and_no_longer_than_a_day() {
        let until = |changes: Value| with(changes).expect("believed").fresh_until().0 - NOW;
        assert_eq!(until(json!({})), 600);
        assert_eq!(until(json!({"exp": NOW + 60})), 60 + 30, "with the leeway");
        assert_eq!(until(json!({"ttl": null})), 7200 + 30);
        assert_eq!(until(json!({"exp": null})), 600);
        assert_eq!(until(json!({"exp": null, "ttl": null})), 3600);
        assert_eq!(until(json!({"ttl": null, "exp": NOW + 10_000_000})), 86_400);
        assert_eq!(until(json!({"ttl": 1e300, "exp": null})), 86_400);
    }

    #[test]
    fn the_claim_is_read_strictly() {
        let read = |status: Value| StatusClaim::read(json!({ "status": status }).as_object().expect("object"));
        let list = |uri: Value, idx: Value| read(json!({"status_list": {"uri": uri, "idx": idx}}));
        let found = list(json!(LIST), json!(7)).expect("well-formed").expect("there");
        assert_eq!((found.uri.as_str(), found.url.as_str(), found.index), (LIST, LIST, 7));
        assert!(list(json!("http://127.0.0.1:8080/statuslists/1"), json!(u64::MAX)).is_ok());
        assert_eq!(StatusClaim::read(&Map::new()), Ok(None));
        assert_eq!(read(json!({"other": 1})), Ok(None));
        for status in [json!(null), json!("x"), json!([]), json!({"status_list": []}), json!({"status_list": null})] {
            assert_eq!(read(status.clone()), Err(InvalidStatus::NotAnObject), "{status}");
        }
        let long = format!("https://issuer.example/{}", "x".repeat(StatusClaim::MAX_URI));
        for uri in [
            json!("http://issuer.example/statuslists/1"),
            json!("file:///etc/passwd"),
            json!("https://user:hunter2@issuer.example/"),
            json!("statuslists/1"),
            json!(""),
            json!(null),
            json!([LIST]),
            json!(long),
        ] {
            assert_eq!(list(uri.clone(), json!(0)), Err(InvalidStatus::Uri), "{uri}");
        }
        for idx in [json!(-1), json!(1.0), json!(1e3), json!("1"), json!(null), json!([1])] {
            assert_eq!(list(json!(LIST), idx.clone()), Err(InvalidStatus::Index), "{idx}");
        }
        let reason = Reason::from(InvalidStatus::Uri);
        assert_eq!(reason.code, ReasonCode::Malformed);
    }

    #[test]
    fn a_token_is_denied_unless_a_fresh_list_says_that_it_is_valid() {
        use ReasonCode::{KeysStale, Revoked};
        let list = with(json!({"status_list": {"bits": 2, "lst": "eNo76fITAAPfAgc"}})).expect("believed");
        let at = |index, now| judge_status(&claim(index), Some(&list), UnixTime(now));
        let told = |index, now, code, part: &str| {
            let reason = at(index, now).expect("denied");
            assert_eq!(reason.code, code, "{reason}");
            assert!(reason.message.contains(part) && reason.message.contains(LIST), "{reason}");
        };
        assert_eq!(at(2, NOW), None);
        assert_eq!(at(2, NOW + 599), None);
        told(0, NOW, Revoked, "has revoked");
        told(1, NOW, Revoked, "has suspended");
        told(3, NOW, Revoked, "unknown status 3");
        told(12, NOW, Revoked, "index 12 is beyond the end");
        told(2, NOW + 600, KeysStale, "is 600 s old");
        told(2, NOW + 600, KeysStale, "authctl refresh");
        told(0, NOW + 600, KeysStale, "counted until 2027-01-15T08:10:00Z");
        let none = judge_status(&claim(2), None, UnixTime(NOW)).expect("denied");
        assert_eq!(none.code, KeysStale);
        assert!(none.message.contains("authctl refresh") && none.message.contains(LIST), "{none}");
        let other = StatusClaim { uri: format!("{LIST}0"), ..claim(2) };
        assert_eq!(judge_status(&other, Some(&list), UnixTime(NOW)).map(|r| r.code), Some(KeysStale));
    }

    /// The lists of the draft's appendix: 2^20 statuses.
    const MILLION_ONE_BIT: &str = concat!(
        "eNrt3AENwCAMAEGogklACtKQPg9LugC9k_ACvreiogEAAKkeCQAAAAAAAAAAAAAAAAAAAIBylgQAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAXG9IAAAAAAAAAPwsJAAAAAAAAAAAAAAAvhsSAAAAAAAAAAAA7KpLAAAAAAAAAAAA",
        "AAAAAAAAAJsLCQAAAAAAAAAAADjelAAAAAAAAAAAKjDMAQAAAACAZC8L2AEb",
    );

    const MILLION_TWO_BITS: &str = concat!(
        "eNrt2zENACEQAEEuoaBABP5VIO01fCjIHTMStt9ovGVIAAAAAABAbiEBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AEB5WwIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAID0ugQAAAAAAAAAAAAAAAAAQG12SgAAAAAAAAAAAAAAAAAAAAAAAAAAAOCSIQEAAAAAAAAAAAAAAAAA",
        "AAAAAAD8ExIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAwJEuAQAAAAAAAAAAAAAAAAAAAAAAAMB9SwIAAAAAAAAA",
        "AAAAAAAAAACoYUoAAAAAAAAAAAAAAEBqH81gAQw",
    );
}
