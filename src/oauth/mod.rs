//! Talks to authorization servers as an OAuth 2.0 and OpenID Connect client: discovery, one file a grant, revocation,
//! keys and status lists.
//!
//! Every address passes [`crate::model::secure_url`] before anything is sent to it, no redirect is followed, and
//! replies go straight into [`crate::secret::Secret`]. What fails is an [`IssuerError`], which tells a request that was
//! never sent from one that may have arrived.

mod client;
mod client_assertion;
pub mod client_credentials;
pub mod code;
mod connect;
pub mod device;
mod error;
mod form;
mod handed_in;
mod http;
pub mod json_api;
pub mod jwks;
mod loopback;
mod metadata;
pub mod password;
mod proxy;
mod random;
pub mod refresh;
mod reply;
pub mod revoke;
pub mod status_list;
mod token_endpoint;
mod unreachable;
pub mod userinfo;

#[cfg(test)]
mod testing;

pub use client::Client;
pub use client_assertion::Signer;
pub use error::{IssuerError, Phase, Reached};
pub use handed_in::token_response;
pub use http::Http;
pub use metadata::{Endpoint, Metadata, complete, discover};
pub use token_endpoint::TokenEndpoint;
