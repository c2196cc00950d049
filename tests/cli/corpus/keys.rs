//! Key sets: key selection, weak keys, and malformed keys and sets.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Case, HEADER, PAIRS, Pairs, case, jwks, token_with, valid_claims};
use crate::support::signing_keys::{SigningKey, b64, changed, pem};

pub fn cases() -> Vec<Case> {
    let mut cases = selection();
    cases.extend(unusable());
    cases.extend(weak_rsa());
    cases.extend(small_order());
    cases.extend(points());
    cases.extend(encodings());
    cases.extend(sets());
    cases.extend(pems());
    cases
}

/// Returns a valid token signed by `pair`.
fn signed(alg: &str, pair: &SigningKey, header: &str) -> String {
    pair.token(alg, header, valid_claims(json!({})).to_string())
}

fn number(jwk: &Value, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap()
}

fn selection() -> Vec<Case> {
    let Pairs { rsa, ed, other_ed, .. } = &*PAIRS;
    let without_kid = |pair: &SigningKey| changed(pair.jwk(""), json!({"kid": null}));
    let odd = |pair: &SigningKey, kid: Value| {
        let mut jwk = pair.jwk("");
        jwk["kid"] = kid;
        jwk
    };
    let bare = r#"{"alg":"EdDSA"}"#;
    let empty = r#"{"alg":"EdDSA","kid":""}"#;
    let weak = changed(ed.jwk("weak"), json!({"x": b64([0; 32])}));
    let mut cases = Vec::new();
    for (name, header, keys, expected) in [
        ("one key, no kid in the token", bare, vec![ed.jwk("ed")], "valid"),
        ("one key without kid, no kid in the token", bare, vec![without_kid(ed)], "valid"),
        ("one key without kid, a kid in the token", HEADER, vec![without_kid(ed)], "unknown_key"),
        ("two suitable keys, no kid in the token", bare, vec![ed.jwk("ed"), other_ed.jwk("b")], "unknown_key"),
        ("two suitable keys without kid", bare, vec![without_kid(ed), without_kid(other_ed)], "unknown_key"),
        ("two keys, one suitable", bare, vec![rsa.jwk("rsa"), ed.jwk("ed")], "valid"),
        ("two keys, one weak", bare, vec![weak.clone(), ed.jwk("ed")], "valid"),
        ("only a weak key", bare, vec![weak, rsa.jwk("rsa")], "weak_key"),
        ("no suitable key", bare, vec![rsa.jwk("rsa")], "unknown_key"),
        ("no key with that kid", HEADER, vec![other_ed.jwk("b"), rsa.jwk("rsa")], "unknown_key"),
        ("the kid is that of a key of another type", HEADER, vec![rsa.jwk("ed"), ed.jwk("b")], "algorithm_not_allowed"),
        ("the kid is that of another key", HEADER, vec![other_ed.jwk("ed"), ed.jwk("b")], "invalid_signature"),
        ("two keys with one kid, right first", HEADER, vec![ed.jwk("ed"), other_ed.jwk("ed")], "valid"),
        ("two keys with one kid, right last", HEADER, vec![other_ed.jwk("ed"), ed.jwk("ed")], "valid"),
        ("two keys with one kid and two types", HEADER, vec![rsa.jwk("ed"), ed.jwk("ed")], "valid"),
        ("the same key twice", HEADER, vec![ed.jwk("ed"), ed.jwk("ed")], "valid"),
        ("the same key twice, no kid in the token", bare, vec![ed.jwk("ed"), ed.jwk("ed")], "unknown_key"),
        ("an empty kid", empty, vec![ed.jwk(""), rsa.jwk("rsa")], "valid"),
        ("an empty kid and a key without kid", empty, vec![without_kid(ed)], "unknown_key"),
        ("a kid that is a number", HEADER, vec![odd(ed, json!(7)), rsa.jwk("rsa")], "unknown_key"),
        ("a kid that is null", bare, vec![odd(ed, json!(null)), rsa.jwk("rsa")], "valid"),
        ("a kid that is an array", bare, vec![odd(ed, json!(["ed"])), rsa.jwk("rsa")], "unknown_key"),
    ] {
        cases.push(case(name, "RFC 7517 4.5", signed("EdDSA", ed, header), expected).keys(jwks(keys)));
    }
    cases
}

/// Unusable keys do not invalidate the set, and private keys are never used.
fn unusable() -> Vec<Case> {
    let Pairs { rsa, p256, ed, .. } = &*PAIRS;
    let mut cases = Vec::new();
    for (rule, odd) in [
        ("RFC 7517 5", json!({"kty": "oct", "kid": "ed", "k": "c2VjcmV0"})),
        ("RFC 7517 5", json!({"kty": "AKP", "kid": "ed", "alg": "ML-DSA-44", "pub": "AAAA"})),
        ("RFC 7517 5", json!({"kty": "XYZ", "kid": "ed"})),
        ("RFC 7517 5", json!({"kid": "ed"})),
        ("RFC 7517 5", json!({})),
        ("RFC 7517 5", json!(7)),
        ("RFC 7517 5", json!(null)),
        ("RFC 7517 5", json!([ed.jwk("ed")])),
        ("RFC 7517 5", json!({"kty": "RSA", "kid": "ed", "n": 7, "e": "AQAB"})),
        ("RFC 8037 2", json!({"kty": "OKP", "crv": "X25519", "kid": "ed", "x": ed.jwk("")["x"]})),
        ("RFC 8037 2", json!({"kty": "OKP", "crv": "Ed448", "kid": "ed", "x": b64([9; 57])})),
        ("RFC 8037 2", json!({"kty": "OKP", "kid": "ed", "x": ed.jwk("")["x"]})),
        ("RFC 8037 2", json!({"kty": "EC", "crv": "Ed25519", "kid": "ed", "x": ed.jwk("")["x"]})),
    ] {
        let keys = jwks([odd.clone(), ed.jwk("ed")]);
        cases.push(case(format!("{odd} beside the right key"), rule, token_with(json!({})), "valid").keys(keys));
        let keys = jwks([odd.clone(), rsa.jwk("rsa")]);
        cases.push(
            case(format!("{odd} instead of the right key"), rule, token_with(json!({})), "unknown_key").keys(keys),
        );
    }
    for (pair, alg, private) in [
        (ed, "EdDSA", &["d"][..]),
        (p256, "ES256", &["d"]),
        (rsa, "RS256", &["d", "p", "q", "dp", "dq", "qi", "oth", "k"]),
    ] {
        for name in private {
            let mut jwk = pair.jwk("k");
            jwk[*name] = json!("c2VjcmV0LXNlY3JldC1zZWNyZXQ");
            let token = signed(alg, pair, &json!({"alg": alg, "kid": "k"}).to_string());
            let name = format!("a key for {alg} with the private member {name}");
            let beside = case(name.clone(), "RFC 7517 9.2", token.as_str(), "unknown_key");
            cases.push(beside.keys(jwks([jwk.clone(), PAIRS.other_p256.jwk("b")])));
            cases.push(case(format!("{name}, alone"), "RFC 7517 9.2", token, "refused").keys(jwks([jwk])));
        }
    }
    cases
}

fn weak_rsa() -> Vec<Case> {
    let jwk = PAIRS.rsa.jwk("rsa");
    let n = number(&jwk, "n");
    let mut even = n.clone();
    even[255] &= 0xfe;
    let token = signed("RS256", &PAIRS.rsa, r#"{"alg":"RS256","kid":"rsa"}"#);
    let ones = |bytes: usize| vec![0xff; bytes];
    let e = vec![1, 0, 1];
    [
        ("1024 bits", ones(128), e.clone(), "weak_key"),
        ("512 bits", ones(64), e.clone(), "weak_key"),
        ("8 bits", ones(1), e.clone(), "weak_key"),
        ("2047 bits", [vec![0x7f], ones(255)].concat(), e.clone(), "weak_key"),
        ("1024 bits behind zeros", [vec![0; 128], ones(128)].concat(), e.clone(), "weak_key"),
        ("8193 bits", [vec![1], ones(1024)].concat(), e.clone(), "weak_key"),
        ("8192 bits, another key", ones(1024), e.clone(), "invalid_signature"),
        ("an even modulus", even, e.clone(), "weak_key"),
        ("the exponent 1", n.clone(), vec![1], "weak_key"),
        ("the exponent 1 behind zeros", n.clone(), vec![0, 0, 1], "weak_key"),
        ("the exponent 2", n.clone(), vec![2], "weak_key"),
        ("an even exponent", n.clone(), vec![1, 0, 0], "weak_key"),
        ("the exponent 3, another key", n.clone(), vec![3], "invalid_signature"),
        ("an exponent of 34 bits", n.clone(), vec![2, 0, 0, 0, 1], "weak_key"),
        ("an exponent as long as the modulus", n.clone(), n.clone(), "weak_key"),
        ("no exponent", n.clone(), vec![], "unknown_key"),
        ("the exponent 0", n.clone(), vec![0], "unknown_key"),
        ("the modulus 0", vec![0; 256], e.clone(), "unknown_key"),
        ("no modulus", vec![], e.clone(), "unknown_key"),
        ("a zero before the modulus", [vec![0], n].concat(), e, "valid"),
    ]
    .into_iter()
    .map(|(name, n, e, expected)| {
        let odd = changed(jwk.clone(), json!({"n": b64(n), "e": b64(e)}));
        let keys = jwks([odd, PAIRS.ed.jwk("ed")]);
        case(format!("RSA with {name}"), "RFC 7518 6.3.1", token.as_str(), expected).keys(keys)
    })
    .collect()
}

/// Signatures for a key of small order can be forged: with the neutral element as R and zero as S, the equation holds.
fn small_order() -> Vec<Case> {
    let hex = |text: &str| (0..64).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
    let points: [(&str, Vec<u8>); 7] = [
        ("order 4", vec![0; 32]),
        ("order 1", hex(&format!("01{}", "00".repeat(31)))),
        ("order 2", hex(&format!("ec{}7f", "ff".repeat(30)))),
        ("order 4, not canonical", hex(&format!("ed{}7f", "ff".repeat(30)))),
        ("order 1, not canonical", hex(&format!("ee{}7f", "ff".repeat(30)))),
        ("order 8", hex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")),
        ("another of order 8", hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")),
    ];
    let mut neutral = [0; 64];
    neutral[0] = 1;
    let claims = valid_claims(json!({})).to_string();
    let mut cases = Vec::new();
    for (name, point) in points {
        for (name, sign) in [(name.to_owned(), 0), (format!("{name}, its sign bit set"), 0x80)] {
            let mut x = point.clone();
            x[31] |= sign;
            let keys = jwks([changed(PAIRS.ed.jwk("ed"), json!({"x": b64(&x)})), PAIRS.rsa.jwk("rsa")]);
            let key = UnparsedPublicKey::new(&ED25519, &x);
            let message = |n: u8| format!("{}.{}", b64(HEADER), b64(claims.replace("itself", &n.to_string())));
            // The forgery holds for one message in n for a key of order n. For some non-canonical keys it holds only in other
            // verifiers.
            let forged = (0..64).map(message).find(|text| key.verify(text.as_bytes(), &neutral).is_ok());
            let token = format!("{}.{}", forged.unwrap_or_else(|| message(0)), b64(neutral));
            cases.push(case(format!("an Ed25519 key of {name}"), "RFC 8032 5.1.7", token, "weak_key").keys(&keys));
        }
    }
    for (name, bytes) in [("no", vec![]), ("31", vec![9; 31]), ("33", vec![9; 33]), ("64", vec![9; 64])] {
        let keys = jwks([changed(PAIRS.ed.jwk("ed"), json!({"x": b64(bytes)})), PAIRS.rsa.jwk("rsa")]);
        cases.push(
            case(format!("an Ed25519 key of {name} bytes"), "RFC 8037 2", token_with(json!({})), "unknown_key")
                .keys(keys),
        );
    }
    cases
}

fn points() -> Vec<Case> {
    let mut cases = Vec::new();
    for (alg, pair, size) in [("ES256", &PAIRS.p256, 32), ("ES384", &PAIRS.p384, 48)] {
        let jwk = pair.jwk("k");
        let (x, y) = (number(&jwk, "x"), number(&jwk, "y"));
        let mut off = y.clone();
        off[size - 1] ^= 1;
        let zero = vec![0; size];
        let token = signed(alg, pair, &json!({"alg": alg, "kid": "k"}).to_string());
        for (name, x, y, expected) in [
            ("off the curve", x.clone(), off, "invalid_signature"),
            ("at infinity, as zeros", zero.clone(), zero.clone(), "invalid_signature"),
            ("with x beyond the field", vec![0xff; size], y.clone(), "invalid_signature"),
            ("with y beyond the field", x.clone(), vec![0xff; size], "invalid_signature"),
            ("with x and y swapped", y.clone(), x.clone(), "invalid_signature"),
            ("with y zero", x.clone(), zero, "invalid_signature"),
            ("with a zero before x", [vec![0], x.clone()].concat(), y.clone(), "valid"),
            ("with zeros before y", x.clone(), [vec![0, 0], y.clone()].concat(), "valid"),
            ("with x long", [vec![1], x.clone()].concat(), y.clone(), "unknown_key"),
            ("with y long", x.clone(), [vec![1], y.clone()].concat(), "unknown_key"),
            ("with x short", x[..size - 1].to_vec(), y.clone(), "invalid_signature"),
            ("with y short", x.clone(), y[..size - 1].to_vec(), "invalid_signature"),
            ("without x", vec![], y.clone(), "unknown_key"),
            ("without y", x, vec![], "unknown_key"),
        ] {
            let keys = jwks([changed(jwk.clone(), json!({"x": b64(x), "y": b64(y)})), PAIRS.ed.jwk("ed")]);
            cases.push(case(format!("{alg}: a point {name}"), "RFC 7518 6.2.1", token.as_str(), expected).keys(keys));
        }
    }
    // As written by a serializer of integers: without the zeros at the beginning.
    let starts_with_zero = |pair: &SigningKey| number(&pair.jwk(""), "x")[0] == 0;
    let pair = std::iter::repeat_with(|| SigningKey::ec("P-256")).find(starts_with_zero).unwrap();
    let x = number(&pair.jwk(""), "x");
    let keys = jwks([changed(pair.jwk("k"), json!({"x": b64(&x[1..])})), PAIRS.ed.jwk("ed")]);
    let token = signed("ES256", &pair, r#"{"alg":"ES256","kid":"k"}"#);
    cases.push(case("ES256: a point without the zero of x", "RFC 7518 6.2.1", token, "valid").keys(keys));
    let other = signed("ES256", &PAIRS.p256, r#"{"alg":"ES256","kid":"k"}"#);
    let keys = jwks([PAIRS.other_p256.jwk("k"), PAIRS.ed.jwk("ed")]);
    cases.push(case("ES256: another point", "RFC 7515 5.2", other, "invalid_signature").keys(keys));
    cases
}

/// Key parameters must be strict base64url, like the parts of a token, but for the padding that some serializers write.
fn encodings() -> Vec<Case> {
    // A key whose base64 and base64url encodings differ.
    let is_ambiguous = |pair: &SigningKey| pair.jwk("")["x"].as_str().unwrap().contains(['-', '_']);
    let pair = std::iter::repeat_with(SigningKey::ed25519).find(is_ambiguous).unwrap();
    let jwk = pair.jwk("ed");
    let x = jwk["x"].as_str().unwrap();
    let bytes = number(&jwk, "x");
    let mut trailing = x.to_owned();
    let last = trailing.pop().unwrap();
    // 32 bytes leave two bits of the last character unused: the next letter differs in those alone.
    trailing.push(char::from(last as u8 + 1));
    [
        ("padded", json!(format!("{x}="))),
        ("padded in front", json!(format!("={x}"))),
        ("with bits left over", json!(trailing)),
        ("with a space", json!(format!("{} {}", &x[..9], &x[9..]))),
        ("with a line end", json!(format!("{x}\n"))),
        ("in base64", json!(STANDARD_NO_PAD.encode(&bytes))),
        ("in hexadecimal", json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())),
        ("null", json!(null)),
        ("an array", json!(bytes)),
        ("a number", json!(7)),
    ]
    .into_iter()
    .map(|(name, x)| {
        let mut odd = jwk.clone();
        odd["x"] = x;
        let keys = jwks([odd, PAIRS.rsa.jwk("rsa")]);
        let expected = if name == "padded" { "valid" } else { "unknown_key" };
        case(format!("an x that is {name}"), "RFC 7518 2", signed("EdDSA", &pair, HEADER), expected).keys(keys)
    })
    .chain([padded_modulus()])
    .collect()
}

fn padded_modulus() -> Case {
    let jwk = PAIRS.rsa.jwk("rsa");
    let n = jwk["n"].as_str().unwrap();
    let token = signed("RS256", &PAIRS.rsa, r#"{"alg":"RS256","kid":"rsa"}"#);
    let keys = jwks([changed(jwk.clone(), json!({"n": format!("{n}==")})), PAIRS.ed.jwk("ed")]);
    case("a padded modulus", "RFC 7518 2", token, "valid").keys(keys)
}

fn sets() -> Vec<Case> {
    let ed = PAIRS.ed.jwk("ed");
    let one = jwks([ed.clone()]);
    let inside = &one[1..one.len() - 1];
    let many = |n: usize| jwks(std::iter::repeat_n(json!(7), n - 1).chain([ed.clone()]));
    let long = |length: usize| format!("{one}{}", " ".repeat(length - one.len()));
    let deep = |n: usize| format!("{{{inside},\"x\":{}{}}}", "[".repeat(n), "]".repeat(n));
    let twice = ed.to_string().replace(r#""kid":"ed""#, r#""kid":"ed","kid":"ed""#);
    let mut cases = Vec::new();
    for (name, rule, keys, expected) in [
        ("with white space before it", "RFC 8259 2", format!("\n {one}"), "valid"),
        ("with unknown members", "RFC 7517 5", format!("{{\"x\":[1],{inside}}}"), "valid"),
        ("of 256 members", "RFC 8259 9", many(256), "valid"),
        ("of 257 members", "RFC 8259 9", many(257), "refused"),
        ("of 256 KiB", "RFC 8259 9", long(256 * 1024), "valid"),
        ("of 256 KiB and one byte", "RFC 8259 9", long(256 * 1024 + 1), "refused"),
        ("with an unknown member nested deeply", "RFC 7517 5", deep(10_000), "valid"),
        ("with keys twice", "RFC 7517 5", format!("{{{inside},{inside}}}"), "refused"),
        ("with a key's member twice", "RFC 7517 4", format!("{{\"keys\":[{twice}]}}"), "refused"),
        ("without keys", "RFC 7517 5", "{}".into(), "refused"),
        ("with no key", "RFC 7517 5.1", r#"{"keys":[]}"#.into(), "refused"),
        ("with keys in an object", "RFC 7517 5.1", json!({"keys": {"ed": ed}}).to_string(), "refused"),
        ("with keys as a text", "RFC 7517 5.1", json!({"keys": one}).to_string(), "refused"),
        ("with Keys", "RFC 7517 5", one.replace("keys", "Keys"), "refused"),
        ("that is one key", "RFC 7517 5", ed.to_string(), "refused"),
        ("that is an array", "RFC 7517 5", json!([ed]).to_string(), "refused"),
        ("that is empty", "RFC 7517 5", String::new(), "refused"),
        ("that is null", "RFC 7517 5", "null".into(), "refused"),
        ("with a trailing comma", "RFC 8259 4", format!("{{{inside},}}"), "refused"),
        ("with something after it", "RFC 8259 2", format!("{one}x"), "refused"),
        ("with a byte order mark", "RFC 8259 8.1", format!("\u{feff}{one}"), "refused"),
        ("cut short", "RFC 8259 2", one[..one.len() - 1].into(), "refused"),
    ] {
        cases.push(case(format!("a set {name}"), rule, token_with(json!({})), expected).keys(keys));
    }
    cases
}

fn pems() -> Vec<Case> {
    let Pairs { rsa, p256, p384, ed, other_ed, .. } = &*PAIRS;
    let block = ed.pem();
    let spki = ed.spki();
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAA\n-----END PRIVATE KEY-----\n";
    let small = |x: [u8; 32]| pem("PUBLIC KEY", &[&spki[..12], &x].concat());
    let mut inner = spki[2..].to_vec();
    inner.extend([0x05, 0x00]);
    let extra_element = [&[0x30, u8::try_from(inner.len()).unwrap()], &inner[..]].concat();
    let mut unused = spki.clone();
    unused[11] = 1;
    // The algorithm with a NULL after its name, which Ed25519 must not have (RFC 8410, section 3).
    let null = [&[0x30, 0x2c, 0x30, 0x07, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x05, 0x00], &spki[9..]].concat();
    let mut cases = Vec::new();
    for (name, rule, keys, expected) in [
        ("with CR and LF", "RFC 7468 2", block.replace('\n', "\r\n"), "valid"),
        ("with other text around it", "RFC 7468 2", format!("a key:\n{block}the end\n"), "valid"),
        (
            "beside keys of other types",
            "RFC 7468 2",
            format!("{}{}{}{block}", rsa.pem(), p256.pem(), p384.pem()),
            "valid",
        ),
        ("after a private key, which is ignored", "RFC 7468 10", format!("{private}{block}"), "valid"),
        ("beside another suitable key", "RFC 7515 4.1.4", format!("{}{block}", other_ed.pem()), "unknown_key"),
        ("of another owner", "RFC 7515 5.2", other_ed.pem(), "invalid_signature"),
        ("of another type", "RFC 8725 3.1", rsa.pem(), "unknown_key"),
        ("of small order", "RFC 8032 5.1.7", small([0; 32]), "weak_key"),
        ("a private key", "RFC 7468 10", private.into(), "refused"),
        ("with the label RSA PUBLIC KEY", "RFC 7468 13", pem("RSA PUBLIC KEY", &spki), "refused"),
        ("with the label CERTIFICATE", "RFC 7468 5.1", pem("CERTIFICATE", &spki), "refused"),
        ("with different labels", "RFC 7468 3", block.replace("END PUBLIC", "END RSA PUBLIC"), "refused"),
        ("without an end", "RFC 7468 3", block[..60].into(), "refused"),
        ("with an extra byte", "RFC 5280 4.1", pem("PUBLIC KEY", &[&spki[..], &[0]].concat()), "refused"),
        ("with an extra element", "RFC 5280 4.1", pem("PUBLIC KEY", &extra_element), "refused"),
        ("with a bit unused", "RFC 8410 4", pem("PUBLIC KEY", &unused), "refused"),
        ("with a NULL for Ed25519", "RFC 8410 3", pem("PUBLIC KEY", &null), "refused"),
        ("a byte short", "RFC 5280 4.1", pem("PUBLIC KEY", &spki[..spki.len() - 1]), "refused"),
        (
            "in base64url",
            "RFC 7468 3",
            format!("-----BEGIN PUBLIC KEY-----\n{}-_\n-----END PUBLIC KEY-----\n", b64(&spki)),
            "refused",
        ),
        ("as OpenSSH writes it", "RFC 7468 13", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me\n".into(), "refused"),
    ] {
        cases.push(case(format!("a PEM key {name}"), rule, token_with(json!({})), expected).keys(keys));
    }
    let named = token_with(json!({}));
    cases.push(
        case("a PEM key has no kid to compare", "RFC 7515 4.1.4", named.replace('=', ""), "valid")
            .keys(format!("\n{block}")),
    );
    let token = signed("RS256", rsa, r#"{"alg":"RS256","kid":"any"}"#);
    cases.push(
        case("an RSA key as PKCS #1", "RFC 8017 A.1.1", token, "valid").keys(pem("RSA PUBLIC KEY", &rsa.pkcs1())),
    );
    cases
}
