//! The domain types, valid once parsed: profile, tokens, session, provider.

mod api_url;
mod duration;
mod error_code;
mod hook;
mod issuer_url;
mod keyword;
mod profile;
mod provider;
mod record;
mod redirect;
mod registration;
mod requirements;
mod revoked;
mod server;
mod session;
mod token_target;
mod tokens;
mod tool_host;
mod trust;
mod whole_number;
mod workload;

pub use api_url::ApiUrl;
pub use duration::{InvalidDuration, MAX_DURATION, format_duration, parse_duration, span};
pub use error_code::ErrorCode;
pub use hook::{HookCommand, Hooks, InvalidProgram};
pub use issuer_url::{InsecureUrl, InvalidIssuerSearch, IssuerSearch, IssuerUrl, secure_url};
pub(crate) use issuer_url::{is_loopback, named_url};
pub use keyword::UnknownKeyword;
pub use profile::{
    ClientAuth, ClientRegistration, Dpop, Grant, InvalidProfileName, Par, Profile, ProfileName, StoreKind,
};
pub use provider::{AccessTokenForm, DEFAULT_SCOPES, PROVIDERS, Provider, ProviderEndpoints, ProviderIssuer, provider};
pub use record::RecordName;
pub use redirect::{InvalidRedirect, RedirectHost, RedirectUri};
pub use registration::{Registration, RegistrationManagement, client_metadata_url};
pub use requirements::{DecidingToken, Requirements};
pub use revoked::{MAX_LEEWAY, RevokedToken, RevokedTokens, TokenDigest};
pub use server::{AssertionAudience, ClientKey, Endpoints, LoginApi, Server};
pub use session::{AnotherToken, Generation, RefreshFailure, Session, SessionFormatError, SessionHistory, Subject};
pub use token_target::TokenTarget;
pub use tokens::{TokenSet, canonical_type};
pub use tool_host::{InvalidToolHost, ToolHost};
pub use trust::{ClockMark, PinnedKeys, StoredStatusList, Trust, TrustFormatError, TrustedKeys};
pub use whole_number::deserialize_whole_number;
pub use workload::{InvalidWorkload, Workload};
