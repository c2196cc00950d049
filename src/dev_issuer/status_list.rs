//! The lists in which the issuer says which access tokens it has revoked or suspended (IETF, "Token Status List").
//!
//! They are not kept but made when they are asked for, from what is known of each token: whatever takes a token back is
//! seen in them, and they take no memory.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode, header};
use miniz_oxide::deflate::compress_to_vec_zlib;
use serde_json::{Value, json};

use super::Core;
use super::faults::StatusListDefect;
use super::keys::encode;
use super::serve::not_allowed;
use super::state::{MAX_ACCESSES, State};
use super::wire::{OAuthError, Reply, Request, bytes_reply, empty, set};

/// How many tokens have their place in one list.
const TOKENS: u64 = MAX_ACCESSES as u64;
/// A status takes two bits, since a token can be suspended.
const BITS: u64 = 2;
const INVALID: u8 = 1;
const SUSPENDED: u8 = 2;
/// The `exp` of a list. Its `ttl` is an option.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// The number of a new access token that is to have a place in a list.
pub(super) fn take_serial(core: &Core) -> Option<u64> {
    let has_place = core.options.status_list_ttl.is_some() && !core.options.opaque_access_tokens;
    has_place.then(|| {
        let mut state = core.state();
        let serial = state.next_serial;
        state.next_serial += 1;
        serial
    })
}

/// The `status` claim of the access token `serial` (Token Status List, section 6.2).
pub(super) fn claim(core: &Core, serial: u64) -> Value {
    json!({"status_list": {"idx": serial % TOKENS, "uri": uri(core, serial / TOKENS + 1)}})
}

fn uri(core: &Core, number: u64) -> String {
    format!("{}/statuslists/{number}", core.issuer)
}

/// Answers a request for list `number`, counted from 1 (Token Status List, section 8.2).
pub(super) async fn answer(core: &Core, number: u64, request: &Request, fault: Option<StatusListDefect>) -> Reply {
    if request.method != Method::GET && request.method != Method::HEAD {
        return not_allowed("GET");
    }
    let Some(bytes) = statuses(&core.state(), number) else { return empty(StatusCode::NOT_FOUND) };
    core.keys.complete().await;
    signed(core, number, &bytes, fault).unwrap_or_else(|error| error.reply())
}

/// The statuses of list `number`; `None` where no token can be in it yet. A token that is forgotten is invalid.
fn statuses(state: &State, number: u64) -> Option<Vec<u8>> {
    let first = number.checked_sub(1)?.checked_mul(TOKENS).filter(|first| *first <= state.next_serial)?;
    let forgotten = state.next_serial.saturating_sub(TOKENS).saturating_sub(first).min(TOKENS);
    let lost = (0..forgotten).map(|index| (index, INVALID));
    let known = state.accesses.iter().filter_map(|(_, access)| {
        let index = access.serial?.checked_sub(first).filter(|index| (forgotten..TOKENS).contains(index))?;
        let status = if state.is_revoked(access) {
            INVALID
        } else if access.suspended {
            SUSPENDED
        } else {
            return None;
        };
        Some((index, status))
    });
    let mut bytes = vec![0; MAX_ACCESSES / 4];
    for (index, status) in lost.chain(known) {
        // The lowest bits of a byte come first (Token Status List, section 4.1).
        if let Some(byte) = usize::try_from(index / 4).ok().and_then(|at| bytes.get_mut(at)) {
            *byte |= status << (index % 4 * BITS);
        }
    }
    Some(bytes)
}

/// The reply with the list's token (Token Status List, section 5.1).
fn signed(core: &Core, number: u64, bytes: &[u8], fault: Option<StatusListDefect>) -> Result<Reply, OAuthError> {
    let is = |this| fault == Some(this);
    let mut packed = match fault {
        Some(StatusListDefect::DecompressionBomb) => compress_to_vec_zlib(&vec![0; 32 << 20], 9),
        _ => compress_to_vec_zlib(bytes, 9),
    };
    if is(StatusListDefect::Truncated) {
        packed.truncate(packed.len() / 2);
    }
    let now = core.now();
    let issued = if is(StatusListDefect::Expired) { now.0 - 2 * 3600 } else { now.0 };
    let claims = json!({
        "iss": core.issuer,
        "sub": uri(core, if is(StatusListDefect::WrongSubject) { number + 1 } else { number }),
        "iat": issued,
        "exp": if is(StatusListDefect::Expired) { issued + 3600 } else { now.plus(LIFE).0 },
        "ttl": core.options.status_list_ttl.unwrap_or_default().as_secs().max(1),
        "status_list": {"bits": BITS, "lst": encode(&packed)},
    });
    let typ = if is(StatusListDefect::WrongType) { "JWT" } else { "statuslist+jwt" };
    let mut jwt = core.keys.sign(typ, &claims)?.expose().to_owned();
    if is(StatusListDefect::WrongSignature) {
        let other = core.keys.sign(typ, &json!({}))?;
        let signature = other.expose().rsplit('.').next().unwrap_or_default();
        jwt.truncate(jwt.rfind('.').map_or(0, |dot| dot + 1));
        jwt.push_str(signature);
    }
    let mut reply = bytes_reply(StatusCode::OK, "application/statuslist+jwt", Bytes::from(jwt));
    // As for the keys: the issuer's next word counts at once.
    set(&mut reply, header::CACHE_CONTROL, "no-cache");
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::super::bounded::hashed;
    use super::super::state::{Access, Granted};
    use super::super::users::Accounts;
    use super::*;
    use crate::clock::UnixTime;

    fn state(tokens: u64) -> State {
        let mut state = State::new(Accounts::new(&[]).expect("no users"));
        let granted =
            Granted { client_id: "c".into(), login: None, scopes: Vec::new(), audiences: Vec::new(), nonce: None };
        for serial in 0..tokens {
            let access = Access {
                family: None,
                granted: granted.clone(),
                issued: UnixTime(0),
                ends: UnixTime(300),
                jti: String::new(),
                revoked: serial % 8 == 1,
                suspended: serial % 8 >= 6,
                serial: Some(serial),
            };
            state.accesses.insert(hashed(&serial.to_string()), access);
            state.next_serial += 1;
        }
        state
    }

    #[test]
    fn each_token_has_two_bits_and_the_lowest_come_first() {
        let bytes = statuses(&state(8), 1).expect("the first list");
        assert_eq!((bytes.len(), &bytes[..3]), (16 * 1024, &[0b0000_0100, 0b1010_0000, 0][..]));
        assert_eq!(statuses(&state(8), 0), None);
        assert_eq!(statuses(&state(8), 2), None);
        assert_eq!(statuses(&state(8), u64::MAX), None);
    }

    #[test]
    fn when_a_list_is_full_the_next_begins_and_what_is_forgotten_is_invalid() {
        let state = state(TOKENS + 6);
        let (first, second) = (statuses(&state, 1).expect("full"), statuses(&state, 2).expect("begun"));
        // Tokens 0 to 5 have left, all six of them; 6 and 7 are suspended.
        assert_eq!(first[..3], [0b0101_0101, 0b1010_0101, 0b0000_0100]);
        assert_eq!(second[..3], [0b0000_0100, 0, 0]);
        assert_eq!(statuses(&state, 3), None);
    }
}
