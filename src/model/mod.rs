//! The words of the domain, parsed once and then relied on: profile, tokens, session, freshness.

mod freshness;
mod issuer_url;
mod profile;
mod session;
mod tokens;
mod whole;

pub use freshness::{Freshness, MinTtl, freshness};
pub(crate) use issuer_url::is_loopback;
pub use issuer_url::{InsecureUrl, IssuerUrl, secure_url};
pub use profile::{ClientAuth, Grant, InvalidProfileName, Profile, ProfileName, StoreKind};
pub use session::{AnotherToken, Failed, Generation, Session, SessionFormatError, Subject, TokenFor, TrustedKeys};
pub use tokens::{TokenSet, canonical_type};
pub use whole::whole;
