//! Checks in a stored status list whether its issuer has revoked or suspended a token (IETF draft "Token Status List").
//!
//! A token has the URI of a list and an index in it. The list is itself a JWT, verified like any other token. It is fetched
//! elsewhere.

use std::fmt;
use std::time::Duration;

use miniz_oxide::inflate::{TINFLStatus, decompress_to_vec_zlib_with_limit};
use serde_json::{Map, Value};
use url::Url;

use super::checks::Checks;
use super::claims::{check_status_list_claims, numeric_date};
use super::header::{decoded, parse};
use super::keys::KeySet;
use super::policy::{AcceptedTypes, Algorithm, Policy};
use super::reason::{Reason, ReasonCode, quoted};
use super::token::{CheckedToken, check};
use crate::clock::UnixTime;
use crate::model::secure_url;

/// The list that has a token's status (Token Status List, section 6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusClaim {
    /// The list's URI, exactly as in the token.
    pub uri: String,
    /// The parsed URI: https, or http on loopback.
    pub url: Url,
    /// The token's index in the list.
    pub index: u64,
}

/// Why a `status` claim is invalid. Quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStatus {
    /// `status`, or its `status_list`, is not an object.
    #[error("claim `status` or its `status_list` is not an object")]
    NotAnObject,
    /// `uri` is missing, or no list may be fetched from it.
    #[error(
        "`uri` in claim `status` is not an https URL, or http on loopback, of at most {} bytes",
        StatusClaim::MAX_URI
    )]
    Uri,
    /// `idx` is missing, negative or not an integer.
    #[error("`idx` in claim `status` is not a non-negative integer")]
    Index,
}

impl From<InvalidStatus> for Reason {
    fn from(invalid: InvalidStatus) -> Self {
        Self::new(ReasonCode::Malformed, invalid.to_string())
    }
}

impl StatusClaim {
    /// The longest accepted `uri`, in bytes.
    pub const MAX_URI: usize = 2048;

    /// Reads it from a token's claims. Returns `None` for a token without a status list. Other mechanisms in `status` are
    /// ignored.
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

/// What verification requires of a status list.
#[derive(Clone, Debug)]
pub struct StatusListPolicy<'a> {
    /// The list's URI, as in the token. Must be the list's `sub`.
    pub uri: &'a str,
    /// The token's issuer. Must be the list's `iss` if it has one.
    pub issuer: &'a str,
    /// The accepted algorithms.
    pub algorithms: &'a [Algorithm],
    /// The tolerated difference between two clocks.
    pub leeway: Duration,
    /// When it was fetched: the time at which it must be valid. Whether it is still fresh is for [`check_status`].
    pub fetched_at: UnixTime,
}

impl<'a> StatusListPolicy<'a> {
    /// Creates the default policy for the list `uri` of `issuer`.
    #[must_use]
    pub fn new(uri: &'a str, issuer: &'a str, fetched_at: UnixTime) -> Self {
        Self { uri, issuer, algorithms: &Algorithm::ALL, leeway: Policy::LEEWAY, fetched_at }
    }
}

/// Why a status list is rejected. Quotes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatusListError {
    /// It is not valid as a token. The codes are in their order.
    #[error("invalid status list token: {}", joined(.0))]
    InvalidToken(Vec<ReasonCode>),
    /// Its `sub` is another URI.
    #[error("the status list is not the one in the token")]
    OtherList,
    /// No `status_list` with `bits` and `lst`, or an invalid `ttl`.
    #[error("malformed status list")]
    Malformed,
    /// `lst` is not a zlib stream in base64url.
    #[error("the status list cannot be decompressed")]
    Damaged,
    /// It decompresses to more than [`StatusList::MAX_UNPACKED`].
    #[error("the status list decompresses to more than {} MiB", StatusList::MAX_UNPACKED >> 20)]
    TooLong,
}

impl StatusListError {
    /// Returns whether no trusted key verifies it. The issuer may have new keys.
    #[must_use]
    pub fn is_unknown_key(&self) -> bool {
        let is_by_key = |code: &ReasonCode| matches!(code, ReasonCode::UnknownKey | ReasonCode::InvalidSignature);
        matches!(self, Self::InvalidToken(codes) if codes.iter().any(is_by_key))
    }
}

fn joined(codes: &[ReasonCode]) -> String {
    codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The status of a token (Token Status List, section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenStatus {
    /// Valid.
    Valid,
    /// Revoked.
    Invalid,
    /// Suspended: temporarily invalid.
    Suspended,
    /// A value that is specific to the application.
    Other(u8),
    /// The index is beyond the end of the list.
    OutOfRange,
}

/// The statuses of a list, decompressed.
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
    /// Decompresses a zlib stream (RFC 1950) of statuses of `bits` bits each (Token Status List, section 4.1).
    ///
    /// # Errors
    /// [`StatusListError::Malformed`] for other bits than 1, 2, 4 or 8; [`StatusListError::Damaged`] or
    /// [`StatusListError::TooLong`] if it cannot be decompressed.
    pub fn unpack(bits: u64, packed: &[u8]) -> Result<Self, StatusListError> {
        let bits =
            u8::try_from(bits).ok().filter(|bits| matches!(bits, 1 | 2 | 4 | 8)).ok_or(StatusListError::Malformed)?;
        let bytes =
            decompress_to_vec_zlib_with_limit(packed, StatusList::MAX_UNPACKED).map_err(|e| match e.status {
                TINFLStatus::HasMoreOutput => StatusListError::TooLong,
                _ => StatusListError::Damaged,
            })?;
        Ok(Self { bits, bytes })
    }

    /// Returns the status at `index`, the lowest bits of a byte first (Token Status List, section 4.1).
    #[must_use]
    pub fn status(&self, index: u64) -> TokenStatus {
        let per_byte = u64::from(8 / self.bits);
        let Some(byte) = usize::try_from(index / per_byte).ok().and_then(|at| self.bytes.get(at)) else {
            return TokenStatus::OutOfRange;
        };
        let shift = (index % per_byte) * u64::from(self.bits);
        match (byte >> shift) & (u8::MAX >> (8 - self.bits)) {
            0 => TokenStatus::Valid,
            1 => TokenStatus::Invalid,
            2 => TokenStatus::Suspended,
            other => TokenStatus::Other(other),
        }
    }

    /// Parses the `status_list` claim (Token Status List, section 4.2).
    fn read(claim: Option<&Value>) -> Result<Self, StatusListError> {
        let member = |name| claim.and_then(Value::as_object).and_then(|list| list.get(name));
        let bits = member("bits").and_then(Value::as_u64).ok_or(StatusListError::Malformed)?;
        let packed = member("lst").and_then(Value::as_str).ok_or(StatusListError::Malformed)?;
        Self::unpack(bits, &decoded(packed).map_err(|_| StatusListError::Damaged)?)
    }
}

/// A verified status list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusList {
    uri: String,
    statuses: Statuses,
    fetched_at: UnixTime,
    fresh_until: UnixTime,
}

impl StatusList {
    /// The longest accepted JWT, in bytes.
    pub const MAX_LENGTH: usize = 1024 * 1024;
    /// The maximum size in bytes after decompression: 134 million tokens of one bit. A zlib stream can grow a thousandfold.
    pub const MAX_UNPACKED: usize = 16 * 1024 * 1024;
    /// How long a list without `ttl` and `exp` is fresh.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(60 * 60);
    /// How long any list is fresh at most, so that a revocation takes effect within a day.
    pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

    /// Verifies a status list token with its issuer's `keys` and decompresses it (Token Status List, section 8.3).
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
        let checked = check(jwt, Self::MAX_LENGTH, keys, &general, check_status_list_claims, Checks::default());
        let claims = match checked {
            CheckedToken { claims: Some((claims, _)), key: Some(_), checks } if checks.reasons.is_empty() => claims,
            CheckedToken { checks, .. } => {
                let mut codes: Vec<ReasonCode> = checks.into_reasons().iter().map(|reason| reason.code).collect();
                codes.dedup();
                return Err(StatusListError::InvalidToken(codes));
            }
        };
        if claims.get("sub").and_then(Value::as_str) != Some(policy.uri) {
            return Err(StatusListError::OtherList);
        }
        let exp = claims.get("exp").and_then(numeric_date);
        let ttl = match claims.get("ttl") {
            Some(ttl) => positive_seconds(ttl).ok_or(StatusListError::Malformed)?.min(Self::MAX_TTL),
            None if exp.is_some() => Self::MAX_TTL,
            None => Self::DEFAULT_TTL,
        };
        let fresh_until = policy.fetched_at.plus(ttl);
        Ok(Self {
            uri: policy.uri.to_owned(),
            statuses: Statuses::read(claims.get("status_list"))?,
            fetched_at: policy.fetched_at,
            // With the leeway by which `exp` was checked.
            fresh_until: exp.map_or(fresh_until, |exp| fresh_until.min(exp.plus(general.bounded_leeway()))),
        })
    }

    /// Returns the status of the token at `index`.
    #[must_use]
    pub fn status(&self, index: u64) -> TokenStatus {
        self.statuses.status(index)
    }

    /// Returns when it becomes stale: `ttl` after it was fetched, or at `exp` if that is earlier.
    #[must_use]
    pub fn fresh_until(&self) -> UnixTime {
        self.fresh_until
    }
}

/// Reads a token's `status` claim without verification, to fetch its list in advance. No decision may depend on it.
#[must_use]
pub fn unverified_status(token: &str) -> Option<StatusClaim> {
    StatusClaim::read(&parse(token).ok()?.claims).ok().flatten()
}

/// Parses a positive number of seconds, limited to [`StatusList::MAX_TTL`].
fn positive_seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite() && *seconds > 0.0)?;
    Some(Duration::from_secs_f64(seconds.min(StatusList::MAX_TTL.as_secs_f64())))
}

/// Returns the reason for a denial by the stored list, or `None` if the status is valid. A token is also denied if
/// its list is not stored or stale, or its status is unknown.
#[must_use]
pub fn check_status(claim: &StatusClaim, list: Option<&StatusList>, now: UnixTime) -> Option<Reason> {
    let (uri, index) = (quoted(&claim.uri), claim.index);
    let deny = |code, message: String| Some(Reason::new(code, message));
    let Some(list) = list.filter(|list| list.uri == claim.uri) else {
        return deny(ReasonCode::KeysStale, format!("status list {uri} is not stored"));
    };
    if now >= list.fresh_until {
        let (age, until) = (list.fetched_at.until(now).as_secs(), list.fresh_until);
        let message = format!("stored status list {uri} is {age} s old and expired at {until}; it is {now}");
        return deny(ReasonCode::KeysStale, message);
    }
    let entry = format!("status list {uri}, index {index}");
    match list.status(index) {
        TokenStatus::Valid => None,
        TokenStatus::Invalid => deny(ReasonCode::Revoked, format!("the issuer has revoked the token ({entry})")),
        TokenStatus::Suspended => deny(ReasonCode::Revoked, format!("the issuer has suspended the token ({entry})")),
        TokenStatus::Other(value) => {
            deny(ReasonCode::Revoked, format!("the issuer gave the token the unknown status {value} ({entry})"))
        }
        TokenStatus::OutOfRange => {
            deny(ReasonCode::Revoked, format!("index {index} is beyond the end of status list {uri}"))
        }
    }
}

#[cfg(test)]
mod tests;
