//! What verification requires of a token.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::clock::UnixTime;

/// A signature algorithm with a public key (RFC 7518, section 3.1, and RFC 8037). There is no `none` and no HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[allow(missing_docs, reason = "each name is the RFC's own")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

impl Algorithm {
    /// All supported algorithms, which are also allowed by default.
    pub const ALL: [Self; 10] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
    ];

    /// The RSA algorithms.
    pub(super) const RSA: &[Self] = &[Self::RS256, Self::RS384, Self::RS512, Self::PS256, Self::PS384, Self::PS512];

    /// Returns the `alg` value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is not a supported algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAlgorithm {
    /// `none`.
    #[error("algorithm `none` is never allowed: the token would not be signed")]
    None,
    /// HS256, HS384 or HS512.
    #[error("HMAC algorithms (HS256, HS384, HS512) are never allowed: the key that verifies could also sign")]
    Hmac,
    /// Any other.
    #[error("unsupported algorithm (supported: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA)")]
    Unknown,
}

impl FromStr for Algorithm {
    type Err = InvalidAlgorithm;

    /// Parses an `alg` value, which is case-sensitive (RFC 7515, section 4.1.1). `Ed25519` is the fully specified name of the
    /// only supported kind of EdDSA (RFC 9864, section 2.2).
    fn from_str(name: &str) -> Result<Self, InvalidAlgorithm> {
        if name == "Ed25519" {
            return Ok(Self::EdDSA);
        }
        Self::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| {
            if name.eq_ignore_ascii_case("none") {
                InvalidAlgorithm::None
            } else if ["HS256", "HS384", "HS512"].iter().any(|h| h.eq_ignore_ascii_case(name)) {
                InvalidAlgorithm::Hmac
            } else {
                InvalidAlgorithm::Unknown
            }
        })
    }
}

/// The accepted `typ` header values, compared without case and without `application/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AcceptedTypes {
    /// No `typ`, `JWT`, or `at+jwt` (RFC 9068).
    #[default]
    AccessToken,
    /// No `typ`, or any that does not end in `+jwt`, as the explicit types of other tokens do (RFC 8725, section 3.11).
    IdToken,
    /// Exactly `statuslist+jwt` (Token Status List, section 5.1).
    StatusList,
    /// One of these. A token without `typ` is rejected.
    Only(Vec<String>),
}

/// The `typ` of a status list.
const STATUS_LIST: &str = "statuslist+jwt";

impl AcceptedTypes {
    /// Returns whether a token with this `typ` is accepted.
    pub(super) fn accept(&self, typ: Option<&str>) -> bool {
        let plain = typ.map(media_type);
        match (self, plain.as_deref()) {
            (Self::AccessToken, typ) => matches!(typ, None | Some("jwt" | "at+jwt")),
            (Self::IdToken, typ) => !typ.is_some_and(|t| t.ends_with("+jwt")),
            (Self::StatusList, _) => typ == Some(STATUS_LIST),
            (Self::Only(_), None) => false,
            (Self::Only(types), Some(typ)) => types.iter().any(|t| media_type(t) == typ),
        }
    }

    /// Returns the accepted types for a message.
    pub(super) fn described(&self) -> String {
        match self {
            Self::AccessToken => "no typ, JWT or at+jwt".to_owned(),
            Self::IdToken => "an ID token".to_owned(),
            Self::StatusList => STATUS_LIST.to_owned(),
            Self::Only(types) => types.join(" or "),
        }
    }
}

/// Normalizes a `typ` value for comparison (RFC 7515, section 4.1.9).
fn media_type(typ: &str) -> String {
    let lower = typ.to_ascii_lowercase();
    lower.strip_prefix("application/").map(str::to_owned).unwrap_or(lower)
}

/// What verification requires of a token.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The accepted `alg` values.
    pub algorithms: Vec<Algorithm>,
    /// The accepted `iss`, compared exactly.
    pub issuer: String,
    /// The accepted audiences, one of which must be in `aud`. An empty list denies all tokens.
    pub audiences: Vec<String>,
    /// Those of `iss` and `aud` that may be missing. If present, they must match.
    pub optional_claims: Vec<String>,
    /// The accepted `typ` header values.
    pub types: AcceptedTypes,
    /// The tolerated difference between two clocks, limited to [`Policy::MAX_LEEWAY`].
    pub leeway: Duration,
    /// Scopes that must all be granted, in `scope` (a string, RFC 8693, section 4.2, or an array) or `scp`.
    pub scopes: Vec<String>,
    /// Claims that must be present with a value: as a string, number or boolean, or as one string of an array.
    pub claims: Vec<(String, String)>,
    /// How long ago the user may have authenticated, by `auth_time`.
    pub max_auth_age: Option<Duration>,
    /// The accepted `acr` values. An empty list accepts any, and none.
    pub acr: Vec<String>,
    /// The `acr` values that the profile accepts, which hold in addition to `acr`.
    pub required_acr: Vec<String>,
    /// Authentication methods that must all be in `amr`.
    pub amr: Vec<String>,
    /// Whether a token's status list is ignored.
    pub ignore_status: bool,
    /// The time at which the token must be valid.
    pub now: UnixTime,
    /// Whether `now` was given by the user instead of this machine's clock, whose rollback then does not matter.
    pub as_of: bool,
}

impl Policy {
    /// The default leeway.
    pub const LEEWAY: Duration = Duration::from_secs(30);

    /// The largest leeway.
    pub const MAX_LEEWAY: Duration = crate::model::MAX_LEEWAY;

    /// Creates the default policy for tokens of `issuer` for one of `audiences`.
    #[must_use]
    pub fn new(issuer: impl Into<String>, audiences: Vec<String>, now: UnixTime) -> Self {
        Self {
            algorithms: Algorithm::ALL.to_vec(),
            issuer: issuer.into(),
            audiences,
            optional_claims: Vec::new(),
            types: AcceptedTypes::default(),
            leeway: Self::LEEWAY,
            scopes: Vec::new(),
            claims: Vec::new(),
            max_auth_age: None,
            acr: Vec::new(),
            required_acr: Vec::new(),
            amr: Vec::new(),
            ignore_status: false,
            now,
            as_of: false,
        }
    }

    /// Returns the leeway, limited to [`Policy::MAX_LEEWAY`].
    pub(super) fn bounded_leeway(&self) -> Duration {
        self.leeway.min(Self::MAX_LEEWAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_key_algorithms_are_parsed() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
        for (name, error) in [
            ("none", InvalidAlgorithm::None),
            ("NONE", InvalidAlgorithm::None),
            ("HS256", InvalidAlgorithm::Hmac),
            ("ES256K", InvalidAlgorithm::Unknown),
            ("Ed448", InvalidAlgorithm::Unknown),
            ("rs256", InvalidAlgorithm::Unknown),
            ("", InvalidAlgorithm::Unknown),
        ] {
            assert_eq!(name.parse::<Algorithm>(), Err(error), "{name}");
        }
    }

    #[test]
    fn ed25519_is_another_name_of_eddsa() {
        assert_eq!("Ed25519".parse(), Ok(Algorithm::EdDSA));
    }

    #[test]
    fn each_kind_of_token_accepts_its_own_types() {
        let default = AcceptedTypes::default();
        for typ in [None, Some("JWT"), Some("jwt"), Some("at+jwt"), Some("application/at+JWT")] {
            assert!(default.accept(typ), "{typ:?}");
        }
        for typ in ["", "logout+jwt", "dpop+jwt", "secevent+jwt", "application/logout+jwt", "JWT "] {
            assert!(!default.accept(Some(typ)), "{typ}");
        }
        let only = AcceptedTypes::Only(vec!["AT+jwt".into()]);
        assert!(only.accept(Some("application/at+jwt")));
        assert!(!only.accept(Some("JWT")) && !only.accept(None));
        assert!(AcceptedTypes::StatusList.accept(Some("statuslist+jwt")));
        for typ in [None, Some("JWT"), Some("application/statuslist+jwt"), Some("StatusList+JWT"), Some("at+jwt")] {
            assert!(!AcceptedTypes::StatusList.accept(typ), "{typ:?}");
        }
        assert!(!default.accept(Some("statuslist+jwt")) && !AcceptedTypes::IdToken.accept(Some("statuslist+jwt")));
        assert!(AcceptedTypes::IdToken.accept(None) && AcceptedTypes::IdToken.accept(Some("JWT")));
        assert!(!AcceptedTypes::IdToken.accept(Some("at+jwt")) && !AcceptedTypes::IdToken.accept(Some("logout+JWT")));
    }
}
