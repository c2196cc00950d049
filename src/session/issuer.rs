//! Connections to a profile's issuer: HTTP client, metadata, and the client's own authentication.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::{DISCOVERY_LIMIT, SECOND_DOCUMENT_LIMIT, SessionError, SessionService};
use crate::fs::unblock;
use crate::model::{ClientAuth, IssuerSearch, IssuerUrl, Profile};
use crate::oauth::aws_sts::{self, AwsCredentials, Role};
use crate::oauth::{
    Api, AssertionSigner, ClientDpop, Delivery, Endpoint, Http, IssuerError, Metadata, OAuthClient, PassThrough, Phase,
    discover, fetch_missing_endpoints, webfinger,
};
use crate::secret::Secret;

impl SessionService {
    /// Returns the issuer's metadata, with the profile's own endpoints in place of the published ones. With a token or
    /// login endpoint in the profile nothing is requested.
    ///
    /// # Errors
    /// [`SessionError::Issuer`].
    pub async fn metadata(&self, profile: &Profile) -> Result<Metadata, SessionError> {
        let found = match needs_metadata(profile) {
            true => discover(&self.http(profile).await?, &profile.issuer).await?,
            false => Metadata::new(profile.issuer.clone()),
        };
        Ok(found.with_endpoints(&profile.server.endpoints))
    }

    /// Returns the issuer's metadata. Endpoints of `needed` that are missing in the first document are taken from the
    /// second, which is requested only in this case.
    ///
    /// # Errors
    /// [`SessionError::Issuer`].
    pub async fn metadata_with(&self, profile: &Profile, needed: &[Endpoint]) -> Result<Metadata, SessionError> {
        let failure = format!("no metadata of {}", profile.issuer);
        let mut metadata = self.within(DISCOVERY_LIMIT, &failure, self.metadata(profile)).await?;
        let http = self.http(profile).await?;
        tokio::select! {
            () = fetch_missing_endpoints(&http, &mut metadata, needed) => {}
            () = self.clock.sleep(SECOND_DOCUMENT_LIMIT) => tracing::info!("no second metadata document within {SECOND_DOCUMENT_LIMIT:?}"),
        }
        Ok(metadata)
    }

    /// Awaits `work`, which sends no refresh token, for at most `limit`.
    ///
    /// # Errors
    /// Those of `work`, and [`IssuerError::Unreachable`] with `failure` after the limit.
    pub(super) async fn within<T, E: Into<SessionError>>(
        &self,
        limit: Duration,
        failure: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SessionError> {
        tokio::select! {
            done = work => done.map_err(Into::into),
            () = self.clock.sleep(limit) => {
                let message = format!("{failure} within {} s", limit.as_secs());
                let (phase, delivery) = (Phase::Exchange, Delivery::NotSent);
                Err(IssuerError::Unreachable { message, proxy: None, phase, delivery }.into())
            }
        }
    }

    /// Returns the issuer that the user means, which has metadata: the one that WebFinger names at a domain, else the domain
    /// itself. If the metadata spells the issuer in another way at the same origin, that is the issuer. `profile` has the
    /// other settings.
    ///
    /// # Errors
    /// [`SessionError::Issuer`].
    pub async fn find_issuer(&self, profile: &Profile, search: &IssuerSearch) -> Result<IssuerUrl, SessionError> {
        let profile = Profile { issuer: search.at.clone(), ..profile.clone() };
        if !needs_metadata(&profile) {
            return Ok(profile.issuer);
        }
        // Of the domain: what it names must be in its own network or a public one.
        let http = self.http(&profile).await?;
        let named = match &search.resource {
            Some(resource) => webfinger::find_issuer(&http, &search.at, resource).await?,
            None => None,
        };
        let issuer = named.unwrap_or_else(|| search.at.clone());
        let found = match discover(&http, &issuer).await {
            Err(IssuerError::IssuerMismatch { expected, found }) => {
                let spelling = IssuerUrl::parse(&found).ok().filter(|url| url.url().origin() == issuer.url().origin());
                let spelling = spelling.ok_or(IssuerError::IssuerMismatch { expected, found })?;
                discover(&http, &spelling).await?
            }
            found => found?,
        };
        Ok(found.issuer)
    }

    /// Sends a request to the issuer, to learn whether it can be reached and what time its clock shows.
    ///
    /// # Errors
    /// [`SessionError::Issuer`] if there is no response.
    pub async fn reach_issuer(&self, profile: &Profile) -> Result<(), SessionError> {
        Ok(self.http(profile).await?.reach(&profile.issuer).await?)
    }

    /// Assumes a role of AWS with a token of the profile, through the profile's certificate authorities.
    ///
    /// # Errors
    /// [`SessionError::Issuer`].
    pub async fn assume_aws_role(
        &self,
        profile: &Profile,
        sts: &Url,
        role: &Role,
        token: &Secret,
    ) -> Result<AwsCredentials, SessionError> {
        let (clients, ca_cert) = (Arc::clone(&self.http_clients), profile.ca_cert.clone());
        // Not the issuer's client: the user has named this address.
        let http = unblock(profile.name.as_str(), move || clients.get(ca_cert.as_deref())).await;
        let http = http.map_err(|_| SessionError::Interrupted)??;
        Ok(aws_sts::assume_role(&http, sts, role, token).await?)
    }

    /// Returns a client for an API that the user has named, which trusts the certificate authorities in `ca_cert` too.
    ///
    /// # Errors
    /// [`SessionError::Issuer`] if the URL is insecure, or the file of certificate authorities cannot be read.
    pub async fn api(&self, ca_cert: Option<PathBuf>, url: &Url) -> Result<Api, SessionError> {
        Ok(self.http_for(ca_cert).await?.api(url)?)
    }

    /// Returns clients that pass requests on to an API; `before` unless the certificate authorities have changed.
    ///
    /// # Errors
    /// As [`Self::api`].
    pub async fn pass_through(
        &self,
        ca_cert: Option<PathBuf>,
        url: &Url,
        before: Option<&PassThrough>,
    ) -> Result<PassThrough, SessionError> {
        Ok(self.http_for(ca_cert).await?.pass_through(url, before)?)
    }

    async fn http_for(&self, ca_cert: Option<PathBuf>) -> Result<Http, SessionError> {
        let clients = Arc::clone(&self.http_clients);
        let http = unblock("the certificate authorities", move || clients.get(ca_cert.as_deref())).await;
        Ok(http.map_err(|_| SessionError::Interrupted)??)
    }

    /// Returns the HTTP client of the profile's issuer, which trusts the profile's certificate authorities.
    ///
    /// # Errors
    /// [`SessionError::Issuer`] if the file of certificate authorities cannot be read.
    pub async fn http(&self, profile: &Profile) -> Result<Http, SessionError> {
        Ok(self.http_of_user(profile).await?.for_issuer(&profile.issuer, &profile.server))
    }

    /// Returns the same client for an address that the issuer has not named.
    pub(super) async fn http_of_user(&self, profile: &Profile) -> Result<Http, SessionError> {
        let (clients, ca_cert) = (Arc::clone(&self.http_clients), profile.ca_cert.clone());
        let http = unblock(profile.name.as_str(), move || clients.get(ca_cert.as_deref())).await;
        Ok(http.map_err(|_| SessionError::Interrupted)??)
    }

    /// Returns the profile's client with its secret, or with its signing key. `dpop_key` is the key of its session.
    ///
    /// # Errors
    /// [`SessionError::Issuer`] if a key cannot be used.
    pub async fn client(
        &self,
        profile: &Profile,
        metadata: &Metadata,
        secret: Option<Secret>,
        dpop_key: Option<&Secret>,
    ) -> Result<OAuthClient, SessionError> {
        let signer = match profile.client_auth {
            ClientAuth::PrivateKeyJwt => {
                let (server, metadata) = (Arc::clone(&profile.server), metadata.clone());
                let clock = Arc::clone(&self.clock);
                let load = move || AssertionSigner::load(&server.client_key, &metadata, clock);
                let signer = unblock(profile.name.as_str(), load).await;
                Some(signer.map_err(|_| SessionError::Interrupted)??)
            }
            ClientAuth::None | ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost => None,
        };
        let dpop = ClientDpop::new(profile.server.dpop, dpop_key)?.with_support(metadata.supports_dpop);
        Ok(OAuthClient { id: profile.client_id.clone(), auth: profile.client_auth, secret, signer, dpop })
    }
}

/// Returns whether the issuer's metadata has to be requested: not if the profile names the token or the login endpoint.
fn needs_metadata(profile: &Profile) -> bool {
    profile.server.endpoints.token.is_none() && profile.server.api.login.is_none()
}
