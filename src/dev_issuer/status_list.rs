//! The status lists of revoked and suspended access tokens (IETF, "Token Status List").
//!
//! A list is built from the state when it is requested, so that it includes every kind of revocation and takes no memory.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode, header};
use miniz_oxide::deflate::compress_to_vec_zlib;
use serde_json::{Value, json};

use super::crypto::base64url;
use super::faults::StatusListDefect;
use super::http::{OAuthError, Reply, Request, bytes_reply, empty, not_allowed, set_header};
use super::issuer::Issuer;
use super::state::{MAX_ACCESS_TOKENS, State};

/// The number of entries in a list.
const ENTRIES: u64 = MAX_ACCESS_TOKENS as u64;
/// The bits of a status: two because a token can be suspended.
const BITS: u64 = 2;
const INVALID: u8 = 1;
const SUSPENDED: u8 = 2;
/// The lifetime of a list.
const LIST_TTL: Duration = Duration::from_secs(24 * 3600);

/// Returns the number of the entry for a new access token if there are status lists.
pub(super) fn take_serial(issuer: &Issuer) -> Option<u64> {
    let has_entry = issuer.options.status_list_ttl.is_some() && !issuer.options.opaque_access_tokens;
    has_entry.then(|| {
        let mut state = issuer.state();
        let serial = state.next_serial;
        state.next_serial += 1;
        serial
    })
}

/// Returns the `status` claim for an entry (Token Status List, section 6.2).
pub(super) fn claim(issuer: &Issuer, serial: u64) -> Value {
    json!({"status_list": {"idx": serial % ENTRIES, "uri": uri(issuer, serial / ENTRIES + 1)}})
}

fn uri(issuer: &Issuer, number: u64) -> String {
    format!("{}/statuslists/{number}", issuer.url)
}

/// Handles a request for the list `number`, counted from 1 (Token Status List, section 8.2).
pub(super) async fn status_list(
    issuer: &Issuer,
    number: u64,
    request: &Request,
    defect: Option<StatusListDefect>,
) -> Reply {
    if request.method != Method::GET && request.method != Method::HEAD {
        return not_allowed("GET");
    }
    let Some(bytes) = statuses(&issuer.state(), number) else { return empty(StatusCode::NOT_FOUND) };
    issuer.keys.complete().await;
    signed(issuer, number, &bytes, defect).unwrap_or_else(|error| error.reply())
}

/// Returns the statuses in a list, or `None` if the list is not in use. The entry of a token that is no longer stored
/// is invalid.
fn statuses(state: &State, number: u64) -> Option<Vec<u8>> {
    let first = number.checked_sub(1)?.checked_mul(ENTRIES).filter(|first| *first <= state.next_serial)?;
    let dropped = state.next_serial.saturating_sub(ENTRIES).saturating_sub(first).min(ENTRIES);
    let dropped_entries = (0..dropped).map(|index| (index, INVALID));
    let stored_entries = state.access_tokens.iter().filter_map(|(_, token)| {
        let index = token.serial?.checked_sub(first).filter(|index| (dropped..ENTRIES).contains(index))?;
        let status = if state.is_revoked(token) {
            INVALID
        } else if token.suspended {
            SUSPENDED
        } else {
            return None;
        };
        Some((index, status))
    });
    let mut bytes = vec![0; MAX_ACCESS_TOKENS / 4];
    for (index, status) in dropped_entries.chain(stored_entries) {
        // The lowest bits of a byte come first (Token Status List, section 4.1).
        if let Some(byte) = usize::try_from(index / 4).ok().and_then(|at| bytes.get_mut(at)) {
            *byte |= status << (index % 4 * BITS);
        }
    }
    Some(bytes)
}

/// Returns the reply with the signed list (Token Status List, section 5.1).
fn signed(issuer: &Issuer, number: u64, bytes: &[u8], defect: Option<StatusListDefect>) -> Result<Reply, OAuthError> {
    let has = |this| defect == Some(this);
    let mut packed = match defect {
        Some(StatusListDefect::DecompressionBomb) => compress_to_vec_zlib(&vec![0; 32 << 20], 9),
        _ => compress_to_vec_zlib(bytes, 9),
    };
    if has(StatusListDefect::Truncated) {
        packed.truncate(packed.len() / 2);
    }
    let now = issuer.now();
    let issued_at = if has(StatusListDefect::Expired) { now.0 - 2 * 3600 } else { now.0 };
    let claims = json!({
        "iss": issuer.url,
        "sub": uri(issuer, if has(StatusListDefect::WrongSubject) { number + 1 } else { number }),
        "iat": issued_at,
        "exp": if has(StatusListDefect::Expired) { issued_at + 3600 } else { now.plus(LIST_TTL).0 },
        "ttl": issuer.options.status_list_ttl.unwrap_or_default().as_secs().max(1),
        "status_list": {"bits": BITS, "lst": base64url(&packed)},
    });
    let typ = if has(StatusListDefect::WrongType) { "JWT" } else { "statuslist+jwt" };
    let mut jwt = issuer.keys.sign(typ, &claims)?.expose().to_owned();
    if has(StatusListDefect::WrongSignature) {
        let other = issuer.keys.sign(typ, &json!({}))?;
        let signature = other.expose().rsplit('.').next().unwrap_or_default();
        jwt.truncate(jwt.rfind('.').map_or(0, |dot| dot + 1));
        jwt.push_str(signature);
    }
    let mut reply = bytes_reply(StatusCode::OK, "application/statuslist+jwt", Bytes::from(jwt));
    // Caches must revalidate because tests revoke tokens.
    set_header(&mut reply, header::CACHE_CONTROL, "no-cache");
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::super::accounts::Accounts;
    use super::super::crypto::hash;
    use super::super::state::{AccessToken, Grant};
    use super::*;
    use crate::clock::UnixTime;

    fn state(tokens: u64) -> State {
        let mut state = State::new(Accounts::new(&[]).expect("no users"));
        let grant = Grant {
            client_id: "c".into(),
            login: None,
            workload: None,
            scopes: Vec::new(),
            audiences: Vec::new(),
            nonce: None,
            jkt: None,
        };
        for serial in 0..tokens {
            let access = AccessToken {
                family: None,
                grant: grant.clone(),
                issued_at: UnixTime(0),
                expires_at: UnixTime(300),
                jti: String::new(),
                revoked: serial % 8 == 1,
                suspended: serial % 8 >= 6,
                serial: Some(serial),
            };
            state.access_tokens.insert(hash(&serial.to_string()), access);
            state.next_serial += 1;
        }
        state
    }

    #[test]
    fn each_token_has_two_bits_starting_with_the_lowest() {
        let bytes = statuses(&state(8), 1).expect("the first list");
        assert_eq!((bytes.len(), &bytes[..3]), (16 * 1024, &[0b0000_0100, 0b1010_0000, 0][..]));
        assert_eq!(statuses(&state(8), 0), None);
        assert_eq!(statuses(&state(8), 2), None);
        assert_eq!(statuses(&state(8), u64::MAX), None);
    }

    #[test]
    fn entries_of_dropped_tokens_are_invalid_in_a_full_list() {
        let state = state(ENTRIES + 6);
        let (first, second) = (statuses(&state, 1).expect("full"), statuses(&state, 2).expect("started"));
        // Tokens 0 to 5 are no longer stored; 6 and 7 are suspended.
        assert_eq!(first[..3], [0b0101_0101, 0b1010_0101, 0b0000_0100]);
        assert_eq!(second[..3], [0b0000_0100, 0, 0]);
        assert_eq!(statuses(&state, 3), None);
    }
}
