//! Signatures that are altered, truncated, moved to another token or encoded in another form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::algorithms::all;
use super::{Case, PAIRS, Pairs, case, valid_claims};
use crate::support::signing_keys::{SigningKey, b64};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (alg, pair, kid) in all() {
        if !matches!(alg, "RS384" | "RS512" | "PS384" | "PS512") {
            cases.extend(altered(alg, pair, kid));
        }
    }
    cases.extend(ecdsa());
    cases.extend(ed25519());
    cases.extend(rsa());
    cases
}

/// Returns a token's signing input and signature.
fn token(alg: &str, pair: &SigningKey, kid: &str, changes: Value) -> (String, Vec<u8>) {
    let header = b64(json!({"alg": alg, "kid": kid}).to_string());
    let input = format!("{header}.{}", b64(valid_claims(changes).to_string()));
    let signature = pair.sign(alg, input.as_bytes());
    (input, signature)
}

fn altered(alg: &str, pair: &SigningKey, kid: &str) -> Vec<Case> {
    let Pairs { other_rsa, other_p256, other_p384, other_ed, .. } = &*PAIRS;
    let other = match kid {
        "rsa" => other_rsa,
        "p256" => other_p256,
        "p384" => other_p384,
        _ => other_ed,
    };
    let (input, signature) = token(alg, pair, kid, json!({}));
    let (other_input, other_signature) = token(alg, pair, kid, json!({"sub": "another-subject"}));
    let (header, payload) = input.split_once('.').unwrap();
    let length = signature.len();
    let flipped = |at: usize, bit: u8| {
        let mut changed = signature.clone();
        changed[at] ^= bit;
        changed
    };
    let reversed: Vec<u8> = signature.iter().rev().copied().collect();
    let rule = match alg {
        "RS256" => "RFC 7518 3.3",
        "PS256" => "RFC 7518 3.5",
        "EdDSA" => "RFC 8037 3.1",
        _ => "RFC 7518 3.4",
    };
    let changes: Vec<(&str, &'static str, Vec<u8>)> = vec![
        ("one byte short", rule, signature[..length - 1].to_vec()),
        ("its first byte removed", rule, signature[1..].to_vec()),
        ("its first half", rule, signature[..length / 2].to_vec()),
        ("one byte", rule, vec![1]),
        ("a zero after it", rule, [&signature[..], &[0]].concat()),
        ("a zero before it", rule, [&[0], &signature[..]].concat()),
        ("itself twice", rule, signature.repeat(2)),
        ("all zeros", rule, vec![0; length]),
        ("all ones", rule, vec![0xff; length]),
        ("its first bit changed", rule, flipped(0, 0x80)),
        ("its middle changed", rule, flipped(length / 2, 1)),
        ("its last bit changed", rule, flipped(length - 1, 1)),
        ("its bytes reversed", rule, reversed),
        ("another token's", "RFC 7515 5.2", other_signature),
        ("another key's", "RFC 7515 5.2", other.sign(alg, input.as_bytes())),
        ("the payload's alone", "RFC 7515 5.2", pair.sign(alg, payload.as_bytes())),
        ("the two texts' without the dot", "RFC 7515 5.2", pair.sign(alg, format!("{header}{payload}").as_bytes())),
        ("that of the input with an extra dot", "RFC 7515 5.2", pair.sign(alg, format!("{input}.").as_bytes())),
        ("the decoded claims'", "RFC 7515 5.2", pair.sign(alg, valid_claims(json!({})).to_string().as_bytes())),
        ("the empty text's", "RFC 7515 5.2", pair.sign(alg, b"")),
    ];
    let mut cases: Vec<Case> = changes
        .into_iter()
        .map(|(what, rule, changed)| {
            let token = format!("{input}.{}", b64(changed));
            case(format!("{alg} with {what} as signature"), rule, token, "invalid_signature")
        })
        .collect();
    let moved = format!("{other_input}.{}", b64(&signature));
    cases.push(case(format!("{alg} moved to other claims"), "RFC 7515 5.2", moved, "invalid_signature"));
    let header = b64(json!({"alg": alg, "kid": kid, "typ": "JWT"}).to_string());
    let moved = format!("{header}.{payload}.{}", b64(&signature));
    cases.push(case(format!("{alg} moved to another header"), "RFC 7515 5.2", moved, "invalid_signature"));
    cases.push(case(format!("{alg} with an empty signature"), "RFC 7515 5.2", format!("{input}."), "malformed"));
    cases
}

/// The orders of the curves' groups (FIPS 186-5 by way of RFC 6979, appendix A.2).
const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const P384_ORDER: &str =
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Returns `a - b`, big-endian. Both have the same length, and `a >= b`.
fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut digits: Vec<u8> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(a, b)| {
            let digit = i16::from(*a) - i16::from(*b) - borrow;
            borrow = i16::from(digit < 0);
            u8::try_from(digit + 256 * borrow).unwrap()
        })
        .collect();
    digits.reverse();
    digits
}

/// Returns `a + b`, big-endian, or `None` on overflow.
fn plus(a: &[u8], b: &[u8]) -> Option<Vec<u8>> {
    let mut carry = 0;
    let mut digits: Vec<u8> = a
        .iter()
        .zip(b)
        .rev()
        .map(|(a, b)| {
            let [high, low] = (u16::from(*a) + u16::from(*b) + carry).to_be_bytes();
            carry = u16::from(high);
            low
        })
        .collect();
    digits.reverse();
    (carry == 0).then_some(digits)
}

fn der_integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    let sign: &[u8] = if number[0] & 0x80 == 0 { &[] } else { &[0] };
    [&[0x02, u8::try_from(sign.len() + number.len()).unwrap()], sign, number].concat()
}

fn ecdsa() -> Vec<Case> {
    let mut cases = Vec::new();
    for (alg, pair, kid, order) in
        [("ES256", &PAIRS.p256, "p256", P256_ORDER), ("ES384", &PAIRS.p384, "p384", P384_ORDER)]
    {
        let order = bytes(order);
        let (input, signature) = token(alg, pair, kid, json!({}));
        let (r, s) = signature.split_at(order.len());
        let zero = vec![0; order.len()];
        let one = [&zero[1..], &[1]].concat();
        let der = [der_integer(r), der_integer(s)].concat();
        let der = [&[0x30, u8::try_from(der.len()).unwrap()], &der[..]].concat();
        let padded = [&[0; 16], r, &[0; 16], s].concat();
        let mut add = |what: &str, signature: &[u8], expected: &str| {
            let token = format!("{input}.{}", b64(signature));
            cases.push(case(format!("{alg}: {what}"), "RFC 7518 3.4", token, expected));
        };
        add("in DER", &der, "invalid_signature");
        add("r is zero", &[&zero, s].concat(), "invalid_signature");
        add("s is zero", &[r, &zero].concat(), "invalid_signature");
        add("r and s are one", &[&one[..], &one].concat(), "invalid_signature");
        add("r is the order", &[&order, s].concat(), "invalid_signature");
        add("s is the order", &[r, &order].concat(), "invalid_signature");
        add("r and s are the order", &[&order[..], &order].concat(), "invalid_signature");
        add("r and s are swapped", &[s, r].concat(), "invalid_signature");
        add("r twice", &[r, r].concat(), "invalid_signature");
        add("s is smaller by one", &[r, &minus(s, &one)].concat(), "invalid_signature");
        add("r and s with sixteen zeros before each", &padded, "invalid_signature");
        // ECDSA signatures are malleable: (r, n - s) is valid too, and RFC 7518 does not forbid it.
        add("s is the order minus s", &[r, &minus(&order, s)].concat(), "valid");
    }
    let (input, _) = token("ES256", &PAIRS.p256, "p256", json!({}));
    let longer = PAIRS.p384.sign("ES384", input.as_bytes());
    let token = format!("{input}.{}", b64(longer));
    cases.push(case("ES256 with a P-384 signature", "RFC 7518 3.4", token, "invalid_signature"));
    cases
}

fn ed25519() -> Vec<Case> {
    let (input, signature) = token("EdDSA", &PAIRS.ed, "ed", json!({}));
    let (r, s) = signature.split_at(32);
    let reversed = |number: &[u8]| number.iter().rev().copied().collect::<Vec<u8>>();
    let order = bytes("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed");
    let more = reversed(&plus(&reversed(s), &order).unwrap());
    let mut high = s.to_vec();
    high[31] |= 0x80;
    let mut neutral = vec![0; 32];
    neutral[0] = 1;
    [
        ("S plus the order", [r, &more].concat()),
        ("S with its highest bit set", [r, &high].concat()),
        ("S is zero", [r, &[0; 32]].concat()),
        ("R is the neutral element", [&neutral, s].concat()),
        ("R neutral and S zero", [&neutral[..], &[0; 32]].concat()),
        ("R and S are swapped", [s, r].concat()),
    ]
    .into_iter()
    .map(|(what, signature)| {
        let token = format!("{input}.{}", b64(signature));
        case(format!("EdDSA: {what}"), "RFC 8032 5.1.7", token, "invalid_signature")
    })
    .collect()
}

/// Signature representatives must be smaller than the modulus (RFC 8017, section 5.2.2).
fn rsa() -> Vec<Case> {
    let jwk = PAIRS.rsa.jwk("rsa");
    let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    let wide = |number: &[u8]| [&[0], number].concat();
    let mut cases = Vec::new();
    for alg in ["RS256", "PS256"] {
        let (input, signature) = token(alg, &PAIRS.rsa, "rsa", json!({}));
        let more = plus(&wide(&signature), &wide(&n)).unwrap();
        let more = if more[0] == 0 { &more[1..] } else { &more };
        for (what, changed) in [("the signature plus the modulus", more), ("the modulus", &n), ("one", &wide(&[1]))] {
            let token = format!("{input}.{}", b64(changed));
            cases.push(case(format!("{alg}: {what}"), "RFC 8017 5.2.2", token, "invalid_signature"));
        }
        let mut one = vec![0; n.len()];
        one[n.len() - 1] = 1;
        let token = format!("{input}.{}", b64(one));
        cases.push(case(format!("{alg}: the number one"), "RFC 8017 5.2.2", token, "invalid_signature"));
    }
    cases
}
