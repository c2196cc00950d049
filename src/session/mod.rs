//! The only place where sessions are made, refreshed and ended: it joins store, issuer and verify.

mod commit;
mod error;
mod https;
mod id_token;
mod login;
mod logout;
mod refresh;
mod trust;
mod verdict;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{RwLock, Semaphore};

pub use error::{LoginReason, SessionError};
pub use id_token::IdTokenStanding;
pub use login::{NewLogin, PreparedLogin};
pub use logout::{LogoutOptions, LogoutReport, Revocation};
pub use refresh::{Demand, ServedToken};
pub use verdict::TokenVerifier;

use https::Https;

use crate::clock::Clock;
use crate::model::{ClientAuth, Profile, ProfileName, Session, StoreKind};
use crate::oauth::{Client, Endpoint, Http, IssuerError, Metadata, Reached, Signer, complete, discover};
use crate::secret::Secret;
use crate::store::{ProfileLock, Store, StoreError};
#[cfg(doc)]
use crate::verify::RevocationList;

/// The stores, one of each kind.
#[derive(Clone)]
pub struct Stores {
    /// The platform's keychain.
    pub keychain: Arc<dyn Store>,
    /// The encrypted files.
    pub file: Arc<dyn Store>,
}

impl Stores {
    /// The store of that kind.
    #[must_use]
    pub fn of(&self, kind: StoreKind) -> &Arc<dyn Store> {
        match kind {
            StoreKind::Keychain => &self.keychain,
            StoreKind::File => &self.file,
        }
    }
}

/// Joins the store, the issuer and the verifier. Shared by everything in a process that deals with sessions.
pub struct SessionService {
    clock: Arc<dyn Clock>,
    stores: Stores,
    locks: PathBuf,
    /// What names the tokens of sessions that were ended here.
    revoked: PathBuf,
    https: Https,
    /// Held for reading by whatever must not be cut short: from before a refresh token is sent until the reply is stored.
    underway: Arc<RwLock<()>>,
    /// The marks of changes that this sessions made itself.
    marks: Mutex<HashMap<ProfileName, SystemTime>>,
    /// One kind of store must not take all threads from the other.
    keychain_room: Semaphore,
    file_room: Semaphore,
}

/// How many calls to the keychain may be under way at a time: one that hangs must not keep all others waiting.
const MAX_KEYCHAIN_CALLS: usize = 4;

/// How many calls to the file store may be: it is bound by the disk and by opening the seal. Each thread takes memory that
/// the C library keeps for it. Two that hang, on a file system of the network, stall what needs this store and no other.
const MAX_FILE_CALLS: usize = 2;

/// How long to wait for another process that refreshes the same profile: longer than the longest refresh.
const LOCK_LIMIT: Duration = Duration::from_secs(95);

/// How long the second document of metadata is waited for; with it no refresh takes longer than 90 seconds.
const SECOND_DOCUMENT_LIMIT: Duration = Duration::from_secs(5);

/// Room kept for a session to come beyond the size of the present one: tokens grow when claims are added.
const RESERVE: usize = 64 * 1024;

impl SessionService {
    /// A sessions over these parts; `locks` is the directory of lock files, `revoked` the file of a [`RevocationList`].
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, stores: Stores, locks: PathBuf, revoked: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            clock,
            stores,
            locks,
            revoked,
            https: Https::default(),
            underway: Arc::new(RwLock::new(())),
            marks: Mutex::default(),
            keychain_room: Semaphore::new(MAX_KEYCHAIN_CALLS),
            file_room: Semaphore::new(MAX_FILE_CALLS),
        })
    }

    /// The file that names the tokens of sessions that were ended here.
    #[must_use]
    pub fn revoked_file(&self) -> &Path {
        &self.revoked
    }

    /// The directory of lock files, in which each change of a session leaves a mark.
    #[must_use]
    pub fn locks(&self) -> &Path {
        &self.locks
    }

    /// Whether the last change of the profile's session was made by another than this sessions.
    #[must_use]
    pub fn changed_elsewhere(&self, name: &ProfileName) -> bool {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        match ProfileLock::mark(&self.locks, name) {
            Some(mark) => marks.get(name) != Some(&mark),
            None => false,
        }
    }

    /// Time, as this sessions sees it.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The stores.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Returns once nothing that must not be cut short is under way; whether anything was.
    pub async fn settled(&self) -> bool {
        let busy = self.underway.try_write().is_err();
        drop(self.underway.write().await);
        busy
    }

    /// Returns once nothing that must not be cut short is under way, and lets nothing more begin: the process may end.
    pub async fn close(&self) {
        // Kept to the process's end.
        std::mem::forget(Arc::clone(&self.underway).write_owned().await);
    }

    /// The profile's session as stored, whoever's it is.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub async fn stored(&self, profile: &Profile) -> Result<Option<Session>, SessionError> {
        let name = profile.name.clone();
        self.with_store(profile.store, move |store| store.read(&name)).await
    }

    /// The profile's session, if it was given by the profile's issuer to the profile's client.
    ///
    /// # Errors
    /// [`SessionError::LoginRequired`] or [`SessionError::Store`].
    pub async fn session(&self, profile: &Profile) -> Result<Session, SessionError> {
        Self::owned(profile, self.stored(profile).await?)
    }

    /// What was found in the store, if it is the profile's.
    ///
    /// # Errors
    /// [`SessionError::LoginRequired`].
    pub fn owned(profile: &Profile, found: Option<Session>) -> Result<Session, SessionError> {
        match found {
            None => Err(SessionError::LoginRequired(LoginReason::NoSession)),
            Some(session) if session.issuer != profile.issuer => {
                Err(SessionError::LoginRequired(LoginReason::OtherIssuer { found: session.issuer }))
            }
            Some(session) if session.client_id != profile.client_id => {
                Err(SessionError::LoginRequired(LoginReason::OtherClient { found: session.client_id }))
            }
            Some(session) => Ok(session),
        }
    }

    /// Moves a session to another profile name within its store, under both profiles' locks: first a copy under the new
    /// name, then `rename` changes what names it, and only then is the old one deleted. Cut short anywhere, a profile
    /// still has its session.
    ///
    /// # Errors
    /// What `rename` fails with, and [`SessionError::Store`] or [`SessionError::Lock`].
    pub async fn rename<E: From<SessionError>>(
        &self,
        profile: &Profile,
        to: &ProfileName,
        rename: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let _from = self.lock(&profile.name).await?;
        let _to = self.lock(to).await?;
        let (from, new) = (profile.name.clone(), to.clone());
        self.change(profile.store, to, move |store| match store.read(&from)? {
            Some(session) => store.write(&new, &session),
            None => store.delete(&new).map(drop),
        })
        .await?;
        rename()?;
        self.delete(profile).await?;
        Ok(())
    }

    /// Makes sure that the profile's store can take a session, as far as that can be known beforehand.
    ///
    /// # Errors
    /// [`SessionError::Store`].
    pub async fn reserve(&self, profile: &Profile) -> Result<(), SessionError> {
        self.make_room(profile, RESERVE).await
    }

    async fn make_room(&self, profile: &Profile, bytes: usize) -> Result<(), SessionError> {
        let name = profile.name.clone();
        self.with_store(profile.store, move |store| store.reserve(&name, bytes)).await
    }

    /// Does `then` if the profile has no session, and keeps any login out meanwhile; whether it was done.
    ///
    /// # Errors
    /// What `then` fails with, and [`SessionError::Store`] or [`SessionError::Lock`].
    pub async fn without_session<E: From<SessionError>>(
        &self,
        profile: &Profile,
        then: impl FnOnce() -> Result<(), E>,
    ) -> Result<bool, E> {
        let _lock = self.lock(&profile.name).await?;
        if self.stored(profile).await?.is_some() {
            return Ok(false);
        }
        then().map(|()| true)
    }

    /// Deletes what is stored for the profile without telling the issuer. Take its lock before.
    async fn delete(&self, profile: &Profile) -> Result<bool, SessionError> {
        let name = profile.name.clone();
        self.change(profile.store, &profile.name, move |store| store.delete(&name)).await
    }

    /// Runs a store's call that changes the session of `name`, and marks the change, also where it may have failed in
    /// the middle: who keeps a copy then looks again.
    async fn change<T: Send + 'static>(
        &self,
        kind: StoreKind,
        name: &ProfileName,
        call: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let result = self.with_store(kind, call).await;
        // Held meanwhile: who is told of the mark at once must not take it for another's.
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        match ProfileLock::mark_changed(&self.locks, name, self.clock.now()) {
            Ok(mark) => {
                marks.insert(name.clone(), mark);
            }
            Err(error) => tracing::warn!("{name}: the change is not marked for a running agent: {error}"),
        }
        result
    }

    /// The issuer's metadata: what it says of itself, with the profile's own endpoints in its place. Nothing is asked for
    /// where the profile says where tokens are had.
    ///
    /// # Errors
    /// [`SessionError::Issuer`].
    pub async fn metadata(&self, profile: &Profile) -> Result<Metadata, SessionError> {
        let (endpoints, api) = (&profile.server.endpoints, &profile.server.api);
        let found = if endpoints.token.is_some() || api.login.is_some() {
            Metadata::bare(profile.issuer.clone())
        } else {
            discover(&*self.http(profile)?, &profile.issuer).await?
        };
        Ok(found.with(endpoints))
    }

    /// The issuer's metadata, with what the first document lacks of `needed` from the second: a request more where
    /// something is lacking, and none elsewhere.
    ///
    /// # Errors
    /// [`SessionError::Issuer`].
    pub async fn metadata_with(&self, profile: &Profile, needed: &[Endpoint]) -> Result<Metadata, SessionError> {
        let mut metadata = self.metadata(profile).await?;
        let http = self.http(profile)?;
        tokio::select! {
            () = complete(&http, &mut metadata, needed) => {}
            () = self.clock.sleep(SECOND_DOCUMENT_LIMIT) => tracing::info!("the second document of metadata did not come"),
        }
        Ok(metadata)
    }

    /// The HTTP client that trusts what the profile trusts.
    ///
    /// # Errors
    /// [`SessionError::Issuer`] where the profile's certificate authorities cannot be read.
    pub fn http(&self, profile: &Profile) -> Result<Arc<Http>, SessionError> {
        Ok(self.https.of(profile.ca_cert.as_deref())?)
    }

    /// The profile's client with its secret, or with the key that it signs with.
    ///
    /// # Errors
    /// [`SessionError::Issuer`] where the key cannot be used.
    pub fn client(
        &self,
        profile: &Profile,
        metadata: &Metadata,
        secret: Option<Secret>,
    ) -> Result<Client, SessionError> {
        let signer = match profile.client_auth {
            ClientAuth::PrivateKeyJwt => {
                Some(Signer::open(&profile.server.client_key, metadata, Arc::clone(&self.clock))?)
            }
            ClientAuth::None | ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost => None,
        };
        Ok(Client { id: profile.client_id.clone(), auth: profile.client_auth, secret, signer })
    }

    async fn lock(&self, name: &ProfileName) -> Result<ProfileLock, SessionError> {
        Ok(ProfileLock::acquire(&self.locks, name, &*self.clock, LOCK_LIMIT).await?)
    }

    /// Runs a store's blocking call away from the runtime's own threads.
    async fn with_store<T: Send + 'static>(
        &self,
        kind: StoreKind,
        call: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let store = Arc::clone(self.stores.of(kind));
        let room = match kind {
            StoreKind::Keychain => &self.keychain_room,
            StoreKind::File => &self.file_room,
        };
        let _room = room.acquire().await.map_err(|_| SessionError::Cut)?;
        match tokio::task::spawn_blocking(move || call(&*store)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(SessionError::Cut),
        }
    }
}

/// Whether the issuer may have acted on a request whose answer says nothing about it: a refresh token in it may be spent.
fn in_doubt(error: &IssuerError) -> bool {
    match error {
        IssuerError::Unreachable { reached, .. } => *reached == Reached::Maybe,
        IssuerError::Busy { status, .. } => *status != 429,
        IssuerError::Malformed { .. } | IssuerError::NoJwt { .. } => true,
        IssuerError::Insecure(_)
        | IssuerError::Mismatch { .. }
        | IssuerError::Unsupported { .. }
        | IssuerError::Refused(_)
        | IssuerError::TokenType { .. }
        | IssuerError::TimedOut { .. }
        | IssuerError::CaCert { .. }
        | IssuerError::Proxy { .. }
        | IssuerError::ClientKey { .. }
        | IssuerError::Local { .. } => false,
    }
}
