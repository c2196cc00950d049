//! Project Wycheproof's test vectors: signatures that some implementations handle wrongly.
//!
//! The signed bytes are not JWTs, but keys and signatures are parsed as those of JWTs.

use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify, rsa_pss_verify};

use super::testing::b64;
use super::{Algorithm, KeySet};

/// Returns whether the key in this PEM can be used with `algorithm` and verifies the signature.
fn is_valid(pem: &str, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    let keys = KeySet::from_pem(pem).expect("PEM");
    let candidates = keys.candidates(None, algorithm).unwrap_or_default();
    candidates.iter().any(|key| key.verifies(&b64(signature), message, algorithm))
}

/// Checks each vector of these sets, and returns how many are valid and invalid.
macro_rules! check_vectors {
    ($module:ident, $($name:ident: $algorithm:ident),+) => {{
        let mut counts = (0, 0);
        $(for group in $module::TestSet::load($module::TestName::$name).expect("a set").test_groups {
            for test in group.tests {
                let found = is_valid(&group.pem, Algorithm::$algorithm, &test.msg, &test.sig);
                let about = format!("{} {}: {}", stringify!($name), test.tc_id, test.comment);
                match test.result {
                    TestResult::Valid => assert!(found, "{about}"),
                    TestResult::Invalid => assert!(!found, "{about}"),
                    // Legacy variants that an implementation may accept.
                    TestResult::Acceptable => assert!(!found, "{about}"),
                }
                if found { counts.0 += 1 } else { counts.1 += 1 }
            }
        })+
        counts
    }};
}

#[test]
fn ecdsa_in_jws_format() {
    let (valid, invalid) = check_vectors!(
        ecdsa,
        EcdsaSecp256r1Sha256P1363: ES256, EcdsaSecp384r1Sha384P1363: ES384, EcdsaSecp521r1Sha512P1363: ES512
    );
    assert!(valid > 300 && invalid > 150, "{valid} {invalid}");
}

#[test]
fn ed25519() {
    let (valid, invalid) = check_vectors!(eddsa, Ed25519: EdDSA);
    assert!(valid > 50 && invalid > 50, "{valid} {invalid}");
}

#[test]
fn rsa() {
    let (valid, invalid) = check_vectors!(
        rsa_pkcs1_verify,
        Rsa2048Sha256: RS256, Rsa2048Sha384: RS384, Rsa2048Sha512: RS512, Rsa3072Sha256: RS256, Rsa3072Sha384: RS384,
        Rsa3072Sha512: RS512, Rsa4096Sha256: RS256, Rsa4096Sha384: RS384, Rsa4096Sha512: RS512, Rsa8192Sha256: RS256
    );
    assert!(valid > 50 && invalid > 1000, "{valid} {invalid}");
}

#[test]
fn rsa_pss() {
    let (valid, invalid) = check_vectors!(
        rsa_pss_verify,
        RsaPss2048Sha256Mgf1SaltLen32: PS256, RsaPss3072Sha256Mgf1SaltLen32: PS256, RsaPss4096Sha256Mgf1SaltLen32: PS256,
        RsaPss2048Sha384Mgf1SaltLen48: PS384, RsaPss4096Sha384Mgf1SaltLen48: PS384, RsaPss4096Sha512Mgf1SaltLen64: PS512
    );
    assert!(valid > 50 && invalid > 100, "{valid} {invalid}");
}
