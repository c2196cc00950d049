//! Finds the public key in a PEM text: an SPKI public key, a PKCS#1 RSA public key, or a certificate's key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The numbers of a public key, as big-endian bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// RFC 8017.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point on P-256: 65 bytes with the leading 4.
    P256(Vec<u8>),
    /// An uncompressed point on P-384: 97 bytes with the leading 4.
    P384(Vec<u8>),
    /// RFC 8032.
    Ed25519(Vec<u8>),
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const NULL: &[u8] = &[0x05, 0x00];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Each block of a PEM text (RFC 7468): its label and its key, `None` where it holds none that is known. `None`
/// altogether where the text is no PEM.
pub(super) fn pem_keys(text: &str) -> Option<Vec<Option<PublicKey>>> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let (label, body) = begun.split_once("-----")?;
        let (body, after) = body.split_once(&format!("-----END {label}-----"))?;
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        keys.push(STANDARD.decode(body).ok().and_then(|der| match label {
            "PUBLIC KEY" => spki(&der),
            "RSA PUBLIC KEY" => rsa(&der),
            "CERTIFICATE" => certificate(&der),
            _ => None,
        }));
        rest = after;
    }
    (!keys.is_empty()).then_some(keys)
}

/// Takes one element with `tag` off `der` and gives its content. Definite lengths below 64 KiB only.
fn element<'d>(der: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *der = rest;
    (found == tag).then_some(content)
}

/// An element that fills the whole of `der`.
fn whole(mut der: &[u8], tag: u8) -> Option<&[u8]> {
    let content = element(&mut der, tag)?;
    der.is_empty().then_some(content)
}

fn bits<'d>(der: &mut &'d [u8]) -> Option<&'d [u8]> {
    element(der, BIT_STRING)?.strip_prefix(&[0])
}

/// `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
fn spki(der: &[u8]) -> Option<PublicKey> {
    let mut info = whole(der, SEQUENCE)?;
    let mut algorithm = element(&mut info, SEQUENCE)?;
    let key = bits(&mut info)?;
    if !info.is_empty() {
        return None;
    }
    // The parameters: NULL (RFC 3279, section 2.3.1), the curve (RFC 5480, section 2.1.1), none (RFC 8410, section 3).
    let name = element(&mut algorithm, OID)?;
    match (name, algorithm) {
        (RSA, NULL) => rsa(key),
        (EC, curve) => match (whole(curve, OID)?, key.len()) {
            (P256, 65) if key[0] == 4 => Some(PublicKey::P256(key.to_vec())),
            (P384, 97) if key[0] == 4 => Some(PublicKey::P384(key.to_vec())),
            _ => None,
        },
        (ED25519, []) if key.len() == 32 => Some(PublicKey::Ed25519(key.to_vec())),
        _ => None,
    }
}

/// `RSAPublicKey` (RFC 8017, appendix A.1.1).
fn rsa(der: &[u8]) -> Option<PublicKey> {
    let mut key = whole(der, SEQUENCE)?;
    let n = element(&mut key, INTEGER)?;
    let e = element(&mut key, INTEGER)?;
    let positive = |number: &[u8]| number.first().is_some_and(|first| first & 0x80 == 0);
    (key.is_empty() && positive(n) && positive(e)).then(|| PublicKey::Rsa { n: n.to_vec(), e: e.to_vec() })
}

/// The key of a `Certificate` (RFC 5280, section 4.1). Nothing else of it is judged: the user trusts the file.
fn certificate(der: &[u8]) -> Option<PublicKey> {
    let mut certificate = whole(der, SEQUENCE)?;
    let mut fields = element(&mut certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        element(&mut fields, VERSION)?;
    }
    element(&mut fields, INTEGER)?;
    for _signature_issuer_validity_subject in 0..4 {
        element(&mut fields, SEQUENCE)?;
    }
    let before = fields;
    element(&mut fields, SEQUENCE)?;
    spki(&before[..before.len() - fields.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate and the key in it, as OpenSSL 3 wrote them.
    const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBhzCCAS2gAwIBAgIUaE8l2USPo44xiESAAsQ88BtuioYwCgYIKoZIzj0EAwIw\n\
GTEXMBUGA1UEAwwOaXNzdWVyLmV4YW1wbGUwHhcNMjYxMTIzMjMwMzE5WhcNMjYx\n\
MjIzMjMwMzE5WjAZMRcwFQYDVQQDDA5pc3N1ZXIuZXhhbXBsZTBZMBMGByqGSM49\n\
AgEGCCqGSM49AwEHA0IABDyDqF7YS9npmOJUEGLBY0dzej0ysD6ZXfK1q8j/Vn15\n\
HuhlxCQQiHFhrl8bGJTv7LGR7AAiY2G1/T4cv2HXrK+jUzBRMB0GA1UdDgQWBBSM\n\
PnH9vx7bB3z4VFuiquA/i7vQejAfBgNVHSMEGDAWgBSMPnH9vx7bB3z4VFuiquA/\n\
i7vQejAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQDFeHjfYaWF\n\
1WJdXxvWsv4SkErPw6oWCsZhuXYCtxgL5wIgYlwq566GjZY1anGswFUXw75N3c28\n\
edASds42xEJUBi0=\n\
-----END CERTIFICATE-----\n\
";
    const SPKI: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEPIOoXthL2emY4lQQYsFjR3N6PTKw\n\
Ppld8rWryP9WfXke6GXEJBCIcWGuXxsYlO/ssZHsACJjYbX9Phy/Ydesrw==\n\
-----END PUBLIC KEY-----\n\
";

    #[test]
    fn a_certificate_gives_the_key_that_is_in_it() {
        let key = pem_keys(SPKI).expect("PEM");
        assert!(matches!(key.as_slice(), [Some(PublicKey::P256(point))] if point.len() == 65));
        assert_eq!(pem_keys(CERTIFICATE), Some(key));
    }

    #[test]
    fn der_cut_short_or_drawn_out_is_no_key() {
        let body: String = SPKI.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(body).expect("base64");
        assert!(spki(&der).is_some());
        for length in 0..der.len() {
            assert_eq!(spki(&der[..length]), None, "{length} bytes");
        }
        assert_eq!(spki(&[der.as_slice(), &[0]].concat()), None);
        // The same with an element more, and a curve with a NULL after it.
        let more = [&[0x30, 0x5b], &der[2..], &[0x05, 0x00]].concat();
        assert_eq!(spki(&more), None);
        let null = [&[0x30, 0x5b, 0x30, 0x15], &der[4..23], &[0x05, 0x00], &der[23..]].concat();
        assert_eq!(spki(&null), None);
        for lengths in [&[0x30, 0x80, 0, 0][..], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x82, 0xff]] {
            assert_eq!(spki(lengths), None);
            assert_eq!(certificate(lengths), None);
        }
    }
}
