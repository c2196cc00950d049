//! Status lists: the draft's examples, limits and checks.

use miniz_oxide::deflate::compress_to_vec_zlib;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::verify::testing::{ISSUER, NOW, Signer, b64, ed, p256, policy as token_policy, rsa, set};
use crate::verify::{Verdict, verify};

const LIST: &str = "https://issuer.example/statuslists/1";
const HEADER: &str = r#"{"alg":"ES256","kid":"k","typ":"statuslist+jwt"}"#;
/// The example of the draft's section 4.1: 16 statuses of one bit.
const ONE_BIT: &str = "eNrbuRgAAhcBXQ";

fn policy() -> StatusListPolicy<'static> {
    StatusListPolicy::new(LIST, ISSUER, UnixTime(NOW))
}

/// Returns valid claims with `changes`. A null removes a claim.
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
    read(&p256().signs(HEADER, &payload(changes)))
}

fn invalid(code: ReasonCode) -> Result<StatusList, StatusListError> {
    Err(StatusListError::InvalidToken(vec![code]))
}

#[test]
fn codes_of_an_invalid_list_are_in_order_and_once_each() {
    use ReasonCode::{Malformed, MissingClaim, NotYetValid};
    let found = with(json!({"sub": null, "nbf": "x", "iat": NOW + 900, "exp": "x"}));
    assert_eq!(found.err(), Some(StatusListError::InvalidToken(vec![Malformed, NotYetValid, MissingClaim])));
}

fn packed(bytes: &[u8]) -> String {
    b64(compress_to_vec_zlib(bytes, 9))
}

fn claim(index: u64) -> StatusClaim {
    let claims = json!({"status": {"status_list": {"uri": LIST, "idx": index}}});
    StatusClaim::read(claims.as_object().expect("object")).expect("well-formed").expect("there")
}

/// Returns the statuses that are not 0, with their indices.
fn set_ones(list: &StatusList, count: u64) -> Vec<(u64, TokenStatus)> {
    (0..count).map(|index| (index, list.status(index))).filter(|(_, status)| *status != TokenStatus::Valid).collect()
}

#[test]
fn short_examples_of_the_draft() {
    let list = with(json!({})).expect("section 4.1");
    let invalid: Vec<u64> = set_ones(&list, 16).into_iter().map(|(index, _)| index).collect();
    assert_eq!(invalid, [0, 3, 4, 5, 7, 8, 9, 13, 15]);
    assert_eq!(list.status(16), TokenStatus::OutOfRange);
    assert_eq!(list.statuses.bytes, [0xb9, 0xa3]);

    let list = with(json!({"status_list": {"bits": 2, "lst": "eNo76fITAAPfAgc"}})).expect("two bits each");
    let values = [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3].map(|value| match value {
        0 => TokenStatus::Valid,
        1 => TokenStatus::Invalid,
        2 => TokenStatus::Suspended,
        other => TokenStatus::Other(other),
    });
    for (value, index) in values.into_iter().zip(0..) {
        assert_eq!(list.status(index), value, "{index}");
    }
    assert_eq!(list.status(12), TokenStatus::OutOfRange);
}

#[test]
fn examples_of_the_draft_with_a_million_tokens() {
    use TokenStatus::{Invalid, Other, Suspended};
    const PLACES: [u64; 11] =
        [0, 1993, 25460, 159_495, 495_669, 554_353, 645_645, 723_232, 854_545, 934_534, 1_000_345];
    let list = with(json!({"status_list": {"bits": 1, "lst": MILLION_ONE_BIT}})).expect("one bit each");
    assert_eq!(set_ones(&list, 1 << 20), PLACES.map(|place| (place, Invalid)));
    assert_eq!(list.status(1 << 20), TokenStatus::OutOfRange);
    let list = with(json!({"status_list": {"bits": 2, "lst": MILLION_TWO_BITS}})).expect("two bits each");
    let values =
        [Invalid, Suspended, Invalid, Other(3), Invalid, Invalid, Suspended, Invalid, Invalid, Suspended, Other(3)];
    assert_eq!(set_ones(&list, 1 << 20), PLACES.into_iter().zip(values).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn compressed_statuses_are_read_back(values in prop::collection::vec(any::<u8>(), 1..300), power in 0u32..4) {
        let bits = 1usize << power;
        let (mut bytes, mask) = (vec![0u8; (values.len() * bits).div_ceil(8)], u8::MAX >> (8 - bits));
        for (at, value) in values.iter().enumerate() {
            bytes[at * bits / 8] |= (value & mask) << (at * bits % 8);
        }
        let statuses = Statuses::unpack(1 << power, &compress_to_vec_zlib(&bytes, 6)).expect("whole");
        for (value, index) in values.iter().zip(0..) {
            let expected = match value & mask {
                0 => TokenStatus::Valid,
                1 => TokenStatus::Invalid,
                2 => TokenStatus::Suspended,
                other => TokenStatus::Other(other),
            };
            prop_assert_eq!(statuses.status(index), expected);
        }
        let each = 8 / bits;
        prop_assert_eq!(statuses.status((bytes.len() * each) as u64), TokenStatus::OutOfRange);
        prop_assert_eq!(statuses.status(u64::MAX), TokenStatus::OutOfRange);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bits in 0u64..10, bytes in prop::collection::vec(any::<u8>(), 0..200), index: u64) {
        for packed in [bytes.clone(), compress_to_vec_zlib(&bytes, 1)] {
            if let Ok(statuses) = Statuses::unpack(bits, &packed) {
                let _ = statuses.status(index);
                let _ = statuses.status(index % 2048);
            }
        }
        let _ = read(&p256().signs(HEADER, &payload(json!({"status_list": {"bits": bits, "lst": b64(&bytes)}}))));
    }
}

#[test]
fn decompression_is_limited() {
    let largest = vec![0; StatusList::MAX_UNPACKED];
    let list = with(json!({"status_list": {"bits": 1, "lst": packed(&largest)}})).expect("just fits");
    assert_eq!(list.status((StatusList::MAX_UNPACKED as u64) * 8 - 1), TokenStatus::Valid);
    let bomb = packed(&[largest.as_slice(), &[0]].concat());
    assert!(bomb.len() < 32 * 1024, "small enough to be let in: {}", bomb.len());
    assert_eq!(with(json!({"status_list": {"bits": 1, "lst": bomb}})), Err(StatusListError::TooLong));
    let padded = |length| with(json!({"padding": "x".repeat(length)}));
    assert!(padded(700_000).is_ok());
    assert_eq!(padded(900_000), invalid(ReasonCode::Malformed), "a JWT of 1.2 MB");
}

#[test]
fn list_may_be_longer_than_an_access_token() {
    let random: Vec<u8> = (0u32..300_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let lst = b64(compress_to_vec_zlib(&random, 0));
    assert!(lst.len() > crate::verify::header::MAX_TOKEN_LENGTH);
    assert_eq!(with(json!({"status_list": {"bits": 8, "lst": lst}})).expect("fits").statuses.bytes, random);
}

#[test]
fn truncated_and_changed_lists_are_rejected() {
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
fn malformed_lists_are_rejected() {
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
        assert_eq!(with(json!({"status_list": list})), Err(StatusListError::Malformed), "{list}");
    }
    assert_eq!(with(json!({"status_list": null})), Err(StatusListError::Malformed));
    for ttl in [json!(0), json!(-1), json!("600"), json!([600])] {
        assert_eq!(with(json!({"ttl": ttl})), Err(StatusListError::Malformed), "{ttl}");
    }
}

#[test]
fn list_is_verified_as_strictly_as_any_token() {
    use ReasonCode::*;
    assert_eq!(with(json!({"sub": "https://issuer.example/statuslists/2"})), Err(StatusListError::OtherList));
    assert_eq!(with(json!({"sub": format!("{LIST}/")})), Err(StatusListError::OtherList));
    assert_eq!(with(json!({"sub": null})), invalid(MissingClaim));
    assert_eq!(with(json!({"sub": [LIST]})), invalid(Malformed));
    assert_eq!(with(json!({"iat": null})), invalid(MissingClaim));
    assert_eq!(with(json!({"iat": NOW + 31})), invalid(NotYetValid));
    assert!(with(json!({"iat": NOW + 30})).is_ok());
    assert_eq!(with(json!({"exp": NOW - 30})), invalid(Expired));
    assert!(with(json!({"exp": NOW - 29})).is_ok());
    assert_eq!(with(json!({"exp": "never"})), invalid(Malformed));
    assert_eq!(with(json!({"iss": "https://evil.example"})), invalid(WrongIssuer));
    assert!(with(json!({"iss": null, "exp": null, "ttl": null})).is_ok(), "the three may be left out");
    for header in [
        r#"{"alg":"ES256","kid":"k"}"#,
        r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#,
        r#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#,
        r#"{"alg":"ES256","kid":"k","typ":"application/statuslist+jwt"}"#,
    ] {
        assert_eq!(read(&p256().signs(header, &payload(json!({})))), invalid(WrongType), "{header}");
    }
    let crit = r#"{"alg":"ES256","kid":"k","typ":"statuslist+jwt","crit":["x"]}"#;
    assert_eq!(read(&p256().signs(crit, &payload(json!({})))), invalid(UnsupportedHeader));
    let none = r#"{"alg":"none","typ":"statuslist+jwt"}"#;
    assert_eq!(read(&format!("{}.{}.", b64(none), b64(payload(json!({}))))), invalid(AlgorithmNotAllowed));
    assert_eq!(read("nonsense"), invalid(OpaqueToken));
    assert_eq!(read("e30.e30.e30"), invalid(Malformed));
    let twice = payload(json!({})).replacen('{', &format!(r#"{{"sub":"{LIST}","#), 1);
    assert_eq!(read(&p256().signs(HEADER, &twice)), invalid(Malformed));
}

#[test]
fn list_must_be_signed_with_the_issuers_key_and_its_algorithm() {
    use ReasonCode::*;
    let signed = |signer: &Signer, header: &str| signer.signs(header, &payload(json!({})));
    let keys = |keys: &[Value]| set(keys);
    let by = |jwt: &str, keys: &KeySet, policy: &StatusListPolicy<'_>| StatusList::read(jwt, keys, policy);
    let valid = signed(p256(), HEADER);
    let mut forged: Vec<&str> = valid.split('.').collect();
    let other = p256().signs(HEADER, &payload(json!({"ttl": 601})));
    forged[2] = other.rsplit('.').next().expect("a signature");
    assert_eq!(read(&forged.join(".")), invalid(InvalidSignature));
    assert_eq!(
        read(&signed(ed(), r#"{"alg":"EdDSA","kid":"k","typ":"statuslist+jwt"}"#)),
        invalid(AlgorithmNotAllowed)
    );
    assert_eq!(read(&signed(rsa(), HEADER)), invalid(InvalidSignature));
    assert_eq!(by(&valid, &KeySet::default(), &policy()), invalid(UnknownKey));
    assert_eq!(by(&valid, &keys(&[p256().jwk_with(json!({"kid": "other"}))]), &policy()), invalid(UnknownKey));
    let narrow = StatusListPolicy { algorithms: &[Algorithm::EdDSA], ..policy() };
    assert_eq!(by(&valid, &keys(&[p256().jwk.clone()]), &narrow), invalid(AlgorithmNotAllowed));
}

#[test]
fn only_a_list_that_no_key_verifies_needs_new_keys() {
    use ReasonCode::{Expired, InvalidSignature, Malformed, UnknownKey};
    let invalid = StatusListError::InvalidToken;
    for (error, needs) in [
        (invalid(vec![UnknownKey]), true),
        (invalid(vec![InvalidSignature, Expired]), true),
        (invalid(vec![Malformed, Expired]), false),
        (StatusListError::OtherList, false),
        (StatusListError::Damaged, false),
    ] {
        assert_eq!(error.is_unknown_key(), needs, "{error}");
    }
}

#[test]
fn list_of_an_unverified_token_is_found() {
    let status = json!({"status_list": {"uri": LIST, "idx": 7}});
    assert_eq!(unverified_status(&ed().token(json!({"status": status}))), Some(claim(7)));
    for other in [ed().token(json!({})), ed().token(json!({"status": 7})), "opaque".to_owned()] {
        assert_eq!(unverified_status(&other), None, "{other}");
    }
}

#[test]
fn list_is_not_accepted_as_an_access_token() {
    let claims = payload(json!({"aud": "https://api.example"}));
    let verdict = verify(&p256().signs(HEADER, &claims), &set(&[p256().jwk.clone()]), &token_policy());
    let Verdict::Denied(reasons) = verdict else { panic!("granted") };
    assert_eq!(reasons[0].code, ReasonCode::WrongType);
}

#[test]
fn errors_quote_nothing() {
    let errors = [with(json!({"iss": "hunter2", "sub": "hunter2", "iat": "hunter2"})), with(json!({"sub": "hunter2"}))];
    for error in errors {
        let error = error.expect_err("wrong").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = with(json!({"iss": "x", "exp": 1})).expect_err("wrong");
    assert_eq!(error.to_string(), "invalid status list token: expired, wrong_issuer");
}

#[test]
fn list_is_fresh_for_its_ttl_and_at_most_a_day() {
    let until = |changes: Value| with(changes).expect("valid").fresh_until().0 - NOW;
    assert_eq!(until(json!({})), 600);
    assert_eq!(until(json!({"exp": NOW + 60})), 60 + 30, "with the leeway");
    assert_eq!(until(json!({"ttl": null})), 7200 + 30);
    assert_eq!(until(json!({"exp": null})), 600);
    assert_eq!(until(json!({"exp": null, "ttl": null})), 3600);
    assert_eq!(until(json!({"ttl": null, "exp": NOW + 10_000_000})), 86_400);
    assert_eq!(until(json!({"ttl": 1e300, "exp": null})), 86_400);
}

#[test]
fn status_claim_is_parsed_strictly() {
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
    let of_length = |length| format!("{LIST:x<length$}");
    assert!(list(json!(of_length(StatusClaim::MAX_URI)), json!(0)).is_ok());
    for uri in [
        json!("http://issuer.example/statuslists/1"),
        json!("file:///etc/passwd"),
        json!("https://user:hunter2@issuer.example/"),
        json!("statuslists/1"),
        json!(""),
        json!(null),
        json!([LIST]),
        json!(of_length(StatusClaim::MAX_URI + 1)),
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
fn token_is_denied_unless_a_fresh_list_has_it_as_valid() {
    use ReasonCode::{KeysStale, Revoked};
    let list = with(json!({"status_list": {"bits": 2, "lst": "eNo76fITAAPfAgc"}})).expect("valid");
    let at = |index, now| check_status(&claim(index), Some(&list), UnixTime(now));
    let denied = |index, now, code, part: &str| {
        let reason = at(index, now).expect("denied");
        assert_eq!(reason.code, code, "{reason}");
        assert!(reason.message.contains(part) && reason.message.contains(LIST), "{reason}");
    };
    assert_eq!(at(2, NOW), None);
    assert_eq!(at(2, NOW + 599), None);
    denied(0, NOW, Revoked, "has revoked");
    denied(1, NOW, Revoked, "has suspended");
    denied(3, NOW, Revoked, "unknown status 3");
    denied(12, NOW, Revoked, "index 12 is beyond the end");
    denied(2, NOW + 600, KeysStale, "is 600 s old");
    denied(0, NOW + 600, KeysStale, "expired at 2027-01-15T08:10:00Z");
    let none = check_status(&claim(2), None, UnixTime(NOW)).expect("denied");
    assert_eq!(none.code, KeysStale);
    assert!(none.message.contains(LIST), "{none}");
    let other = StatusClaim { uri: format!("{LIST}0"), ..claim(2) };
    assert_eq!(check_status(&other, Some(&list), UnixTime(NOW)).map(|r| r.code), Some(KeysStale));
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
