//! The client that authctl has registered at an issuer: one for all profiles, stored beside the sessions.

use std::net::TcpListener;
use std::time::Duration;

use url::Url;

use super::{SessionError, SessionService};
use crate::fs::{FileLock, LockFile};
use crate::model::{Profile, RecordName, RedirectUri, Registration};
use crate::oauth::{IssuerError, Metadata, registration};
use crate::store::StoreError;

/// How long to wait for another process that registers the client.
const LOCK_LIMIT: Duration = Duration::from_secs(60);

impl SessionService {
    /// Returns the client that is registered at the profile's issuer, and registers one if there is none, or if the issuer does
    /// not know it any more.
    ///
    /// # Errors
    /// [`SessionError::Issuer`], [`SessionError::Store`] or [`SessionError::Lock`].
    pub async fn registered_client(
        &self,
        profile: &Profile,
        metadata: &Metadata,
    ) -> Result<Registration, SessionError> {
        let _lock = self.lock_registration(profile).await?;
        let http = self.http(profile).await?;
        if let Some(known) = self.registration(profile).await? {
            let is_expired = known.secret_expires_at.is_some_and(|at| at <= self.clock.now());
            let exists = match &known.management {
                _ if is_expired => false,
                // One that cannot be looked up now may be there.
                Some(management) => registration::exists(&http, management).await.unwrap_or(true),
                None => true,
            };
            if exists {
                return Ok(known);
            }
            tracing::info!("the client {} is not registered at {} any more", known.client_id, known.issuer);
        }
        let mut metadata = metadata.clone();
        if metadata.registration_endpoint.is_none() && profile.server.endpoints.token.is_some() {
            // The issuer publishes no metadata; the default of the Model Context Protocol, revision 2025-03-26.
            metadata.registration_endpoint = Metadata::with_default_endpoints(&profile.issuer).registration_endpoint;
        }
        let registered = registration::register(&http, &metadata, &free_redirect(&profile.server.redirect_uri)).await?;
        self.write_registration(profile, Some(registered.clone())).await?;
        Ok(registered)
    }

    /// Forgets a registered client that the issuer refused.
    ///
    /// # Errors
    /// [`SessionError::Store`] or [`SessionError::Lock`].
    pub async fn forget_registration(&self, profile: &Profile) -> Result<(), SessionError> {
        let _lock = self.lock_registration(profile).await?;
        self.write_registration(profile, None).await
    }

    /// Deletes the client of the profile at its issuer (RFC 7592) and here, unless a session of one of `others` uses it. Returns
    /// the error of the issuer if it could not be reached; the client then stays stored, to be deleted later.
    ///
    /// # Errors
    /// [`SessionError::Store`] or [`SessionError::Lock`].
    pub async fn delete_registration<'a>(
        &self,
        profile: &Profile,
        others: impl IntoIterator<Item = &'a Profile>,
    ) -> Result<Option<IssuerError>, SessionError> {
        let _lock = self.lock_registration(profile).await?;
        let Some(known) = self.registration(profile).await?.filter(|known| known.client_id == profile.client_id) else {
            return Ok(None);
        };
        for other in others {
            let uses_it = other.name != profile.name && other.has_client(&profile.issuer, &known.client_id);
            if uses_it && self.stored(other).await?.is_some() {
                return Ok(None);
            }
        }
        if let Some(management) = &known.management {
            match registration::delete(&self.http(profile).await?, management).await {
                Err(error) if !error.is_refusal() => return Ok(Some(error)),
                Err(error) => tracing::info!("the client {} stays registered: {error}", known.client_id),
                Ok(()) => {}
            }
        }
        self.write_registration(profile, None).await?;
        Ok(None)
    }

    /// Returns the stored registration at the profile's issuer. One that cannot be read is replaced by the next.
    async fn registration(&self, profile: &Profile) -> Result<Option<Registration>, SessionError> {
        let issuer = profile.issuer.clone();
        self.with_store(profile.store, profile.name.as_str(), move |store| {
            match store.read_record(&RecordName::of_registration(&issuer)) {
                Ok(Some(bytes)) => Ok(Registration::from_stored(&bytes, &issuer).unwrap_or_default()),
                Ok(None) | Err(StoreError::Damaged { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn write_registration(
        &self,
        profile: &Profile,
        registration: Option<Registration>,
    ) -> Result<(), SessionError> {
        let issuer = profile.issuer.clone();
        self.with_store(profile.store, profile.name.as_str(), move |store| {
            let bytes = Registration::to_stored(&issuer, registration.as_ref());
            store.write_record(&RecordName::of_registration(&issuer), &bytes)
        })
        .await
    }

    async fn lock_registration(&self, profile: &Profile) -> Result<FileLock, SessionError> {
        let name = RecordName::issuer_lock_name(&profile.issuer);
        let path = self.locks.of(profile.store).join("clients").join(name).with_extension("lock");
        Ok(LockFile::lock(path, &*self.clock, LOCK_LIMIT).await?)
    }
}

/// Returns the redirect URI to register: with a port that is free now, since not all issuers accept another one.
fn free_redirect(configured: &RedirectUri) -> String {
    let free = || TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    match (configured.port(), free()) {
        (None, Ok(address)) => configured.at(address.port()),
        _ => configured.to_string(),
    }
}

/// Returns the redirect URI of a login with a registered client: the registered one, or another port if that is in use.
#[must_use]
pub fn usable_redirect(configured: &RedirectUri, registered: &str) -> RedirectUri {
    let port = Url::parse(registered).ok().and_then(|url| url.port());
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    match (registered.parse::<RedirectUri>(), port) {
        (Ok(redirect), Some(port)) if configured.at(port) == registered && is_free(port) => redirect,
        _ => configured.clone(),
    }
}
