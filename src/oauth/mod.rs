//! Client of authorization servers (OAuth 2.0, OpenID Connect): discovery, also from an API, one file a grant, revocation, keys
//! and status lists.
//!
//! Every URL passes [`crate::model::secure_url`] before anything is sent to it, one in a response of an issuer or an API is in a
//! public network or in the server's own, no redirect is followed, and responses are read into [`crate::secret::Secret`]. Every
//! failure is an [`IssuerError`], which distinguishes a request that was not sent from one that may have arrived
//! ([`Delivery`]).

mod api;
pub mod authorization_code;
mod authorization_response;
pub mod aws_sts;
mod ca_certificates;
mod challenge;
mod client_assertion;
mod client_auth;
pub mod client_credentials;
mod client_key;
mod content_coding;
pub mod device_code;
mod discovery;
mod dpop;
mod error;
mod form;
pub mod github_actions;
mod http;
mod http_response;
pub mod jwks;
pub mod jwt_bearer;
mod lenient_json;
pub mod login_api;
mod loopback;
mod loopback_page;
mod metadata;
mod network;
mod par;
mod pass_through;
pub mod password;
mod proxy;
mod random;
pub mod refresh_token;
pub mod registration;
mod reqwest_clients;
mod resolver;
pub mod resource;
pub mod revocation;
pub mod status_list;
mod supplied_tokens;
mod token_endpoint;
pub mod token_exchange;
mod token_response;
mod transport_error;
pub mod userinfo;
pub mod webfinger;

#[cfg(test)]
pub(crate) mod testing;

pub use api::{Api, ApiRequest, ApiResponse, Bytes};
pub use challenge::ApiChallenge;
pub use client_assertion::{AssertionSigner, assertion_audience};
pub use client_auth::OAuthClient;
pub use discovery::{discover, fetch_missing_endpoints};
pub use dpop::{ClientDpop, DpopKey, LatestNonce, ProvenRequest, is_nonce};
pub use error::{Delivery, IssuerError, OAuthError, Phase};
pub(crate) use form::repeats_secret;
pub use http::Http;
pub use loopback::WaitingBrowser;
pub use loopback_page::LoginPage;
pub use metadata::{Endpoint, Metadata};
pub use pass_through::{ApiBody, ApiRequestBody, PassThrough};
pub use random::random;
pub use supplied_tokens::{broken_jwt, parse_supplied_tokens, supplied_access_token};
pub use token_endpoint::TokenEndpoint;
