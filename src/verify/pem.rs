//! Reads the public keys in PEM text: SPKI public keys, PKCS#1 RSA public keys, and the keys of certificates.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Decode, Reader, SliceReader, Tag, TagNumber};

/// A public key's numbers, big-endian.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// RFC 8017.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// An uncompressed point on P-256: 65 bytes with the leading 4.
    P256(Vec<u8>),
    /// An uncompressed point on P-384: 97 bytes with the leading 4.
    P384(Vec<u8>),
    /// An uncompressed point on P-521: 133 bytes with the leading 4.
    P521(Vec<u8>),
    /// RFC 8032.
    Ed25519(Vec<u8>),
}

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Reads each block of a PEM text (RFC 7468): its key, or `None` if it has none that is supported. Returns `None` for a
/// text that is not PEM.
pub(super) fn public_keys(text: &str) -> Option<Vec<Option<PublicKey>>> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, block)) = rest.split_once("-----BEGIN ") {
        let (label, body) = block.split_once("-----")?;
        let (body, after) = body.split_once(&format!("-----END {label}-----"))?;
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        keys.push(STANDARD.decode(body).ok().and_then(|der| public_key(label, &der)));
        rest = after;
    }
    (!keys.is_empty()).then_some(keys)
}

fn public_key(label: &str, der: &[u8]) -> Option<PublicKey> {
    let mut reader = SliceReader::new(der).ok()?;
    let key = match label {
        "PUBLIC KEY" => spki(&mut reader),
        "RSA PUBLIC KEY" => rsa(&mut reader).map(Some),
        "CERTIFICATE" => certificate(&mut reader),
        _ => return None,
    };
    // Nothing may follow it.
    key.and_then(|key| reader.finish(key)).ok()?
}

/// Reads a `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
fn spki<'r>(reader: &mut impl Reader<'r>) -> der::Result<Option<PublicKey>> {
    reader.sequence(|info| {
        let (algorithm, parameters) =
            info.sequence(|id| Ok((ObjectIdentifier::decode(id)?, Option::<AnyRef<'_>>::decode(id)?)))?;
        let key = BitStringRef::decode(info)?.as_bytes().unwrap_or_default();
        // The parameters: NULL (RFC 3279, section 2.3.1), the curve (RFC 5480, section 2.1.1), none (RFC 8410, section 3).
        Ok(match (algorithm, parameters) {
            (RSA, Some(AnyRef::NULL)) => public_key("RSA PUBLIC KEY", key),
            (EC, Some(curve)) => match (curve.decode_as::<ObjectIdentifier>()?, key) {
                (P256, [4, ..]) if key.len() == 65 => Some(PublicKey::P256(key.to_vec())),
                (P384, [4, ..]) if key.len() == 97 => Some(PublicKey::P384(key.to_vec())),
                (P521, [4, ..]) if key.len() == 133 => Some(PublicKey::P521(key.to_vec())),
                _ => None,
            },
            (ED25519, None) => Some(PublicKey::Ed25519(key.to_vec())),
            _ => None,
        })
    })
}

/// Reads an `RSAPublicKey` (RFC 8017, appendix A.1.1).
fn rsa<'r>(reader: &mut impl Reader<'r>) -> der::Result<PublicKey> {
    reader.sequence(|key| {
        let (n, e) = (UintRef::decode(key)?, UintRef::decode(key)?);
        Ok(PublicKey::Rsa { n: n.as_bytes().to_vec(), e: e.as_bytes().to_vec() })
    })
}

/// Reads the key of a `Certificate` (RFC 5280, section 4.1). Nothing else in it is checked: the user trusts the file.
fn certificate<'r>(reader: &mut impl Reader<'r>) -> der::Result<Option<PublicKey>> {
    const VERSION: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber::N0 };
    reader.sequence(|certificate| {
        let key = certificate.sequence(|to_be_signed| {
            if to_be_signed.peek_tag()? == VERSION {
                AnyRef::decode(to_be_signed)?;
            }
            for _ in ["serialNumber", "signature", "issuer", "validity", "subject"] {
                AnyRef::decode(to_be_signed)?;
            }
            let key = spki(to_be_signed)?;
            skip_rest(to_be_signed)?;
            Ok(key)
        })?;
        skip_rest(certificate)?;
        Ok(key)
    })
}

fn skip_rest<'r>(reader: &mut impl Reader<'r>) -> der::Result<()> {
    while !reader.is_finished() {
        AnyRef::decode(reader)?;
    }
    Ok(())
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

    fn spki(der: &[u8]) -> Option<PublicKey> {
        public_key("PUBLIC KEY", der)
    }

    fn der(pem: &str) -> Vec<u8> {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        STANDARD.decode(body).expect("base64")
    }

    #[test]
    fn certificate_gives_its_public_key() {
        let key = public_keys(SPKI).expect("PEM");
        assert!(matches!(key.as_slice(), [Some(PublicKey::P256(point))] if point.len() == 65));
        assert_eq!(public_keys(CERTIFICATE), Some(key));
    }

    #[test]
    fn truncated_and_extended_der_is_rejected() {
        let der = der(SPKI);
        assert!(spki(&der).is_some());
        for length in 0..der.len() {
            assert_eq!(spki(&der[..length]), None, "{length} bytes");
        }
        assert_eq!(spki(&[der.as_slice(), &[0]].concat()), None);
        // One more element, and a NULL after the curve.
        let more = [&[0x30, 0x5b], &der[2..], &[0x05, 0x00]].concat();
        assert_eq!(spki(&more), None);
        let null = [&[0x30, 0x5b, 0x30, 0x15], &der[4..23], &[0x05, 0x00], &der[23..]].concat();
        assert_eq!(spki(&null), None);
        for lengths in [&[0x30, 0x80, 0, 0][..], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x82, 0xff]] {
            assert_eq!(spki(lengths), None);
            assert_eq!(public_key("CERTIFICATE", lengths), None);
        }
    }

    #[test]
    fn truncated_certificate_is_rejected() {
        let der = der(CERTIFICATE);
        for length in 0..der.len() {
            assert_eq!(public_key("CERTIFICATE", &der[..length]), None, "{length} bytes");
        }
        assert_eq!(public_key("CERTIFICATE", &[der.as_slice(), &[0]].concat()), None);
    }
}
