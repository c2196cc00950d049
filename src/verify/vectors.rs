//! Project Wycheproof's signatures, each decided as the project says: the edges that implementations fall over.
//!
//! They are over any bytes, and so no JWTs; keys and signatures are read as those of JWTs are.

use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use super::testing::b64;
use super::{Algorithm, KeySet};

/// Whether the key in this PEM is trusted, is one for `algorithm`, and made the signature.
fn believed(pem: &str, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    let keys = KeySet::from_pem(pem).expect("PEM");
    let candidates = keys.candidates(None, algorithm).unwrap_or_default();
    candidates.iter().any(|key| key.made(&b64(signature), message, algorithm))
}

/// Decides each vector of these sets; gives how many were believed and how many not.
macro_rules! decide {
    ($room:ident, $($name:ident: $algorithm:ident),+) => {{
        let mut counts = (0, 0);
        $(for group in $room::TestSet::load($room::TestName::$name).expect("a set").test_groups {
            for test in group.tests {
                let found = believed(&group.pem, Algorithm::$algorithm, &test.msg, &test.sig);
                let about = format!("{} {}: {}", stringify!($name), test.tc_id, test.comment);
                match test.result {
                    TestResult::Valid => assert!(found, "{about}"),
                    TestResult::Invalid => assert!(!found, "{about}"),
                    // Old habits that one may keep; this verifier does not.
                    TestResult::Acceptable => assert!(!found, "{about}"),
                }
                if found { counts.0 += 1 } else { counts.1 += 1 }
            }
        })+
        counts
    }};
}

#[test]
fn ecdsa_as_jws_writes_it() {
    let (valid, invalid) = decide!(ecdsa, EcdsaSecp256r1Sha256P1363: ES256, EcdsaSecp384r1Sha384P1363: ES384);
    assert!(valid > 300 && invalid > 150, "{valid} {invalid}");
}

#[test]
fn ed25519() {
    let (valid, invalid) = decide!(eddsa, Ed25519: EdDSA);
    assert!(valid > 50 && invalid > 50, "{valid} {invalid}");
}

#[test]
fn rsa() {
    let (valid, invalid) = decide!(
        rsa_pkcs1_verify,
        Rsa2048Sha256: RS256, Rsa2048Sha384: RS384, Rsa2048Sha512: RS512, Rsa3072Sha256: RS256, Rsa3072Sha384: RS384,
        Rsa3072Sha512: RS512, Rsa4096Sha256: RS256, Rsa4096Sha384: RS384, Rsa4096Sha512: RS512, Rsa8192Sha256: RS256
    );
    assert!(valid > 50 && invalid > 1000, "{valid} {invalid}");
}

#[test]
fn rsa_pss() {
    let (valid, invalid) = decide!(
        rsa_pss_verify,
        RsaPss2048Sha256Mgf1SaltLen32: PS256, RsaPss3072Sha256Mgf1SaltLen32: PS256, RsaPss4096Sha256Mgf1SaltLen32: PS256,
        RsaPss2048Sha384Mgf1SaltLen48: PS384, RsaPss4096Sha384Mgf1SaltLen48: PS384, RsaPss4096Sha512Mgf1SaltLen64: PS512
    );
    assert!(valid > 50 && invalid > 100, "{valid} {invalid}");
}
