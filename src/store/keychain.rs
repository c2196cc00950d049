//! Sessions in the platform's keychain: the Secret Service on Linux, Keychain on macOS.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};

use super::{Damage, Store, StoreError};
use crate::model::{ProfileName, Session, StoreKind};
use crate::secret::SecretBytes;

#[cfg(target_os = "macos")]
use apple_native_keyring_store::keychain::Store as Platform;
#[cfg(not(target_os = "macos"))]
use dbus_secret_service_keyring_store::Store as Platform;

/// The service that every item is under; its user name is the profile's name.
const SERVICE: &str = "authctl";

/// The platform's keychain. Each call ends within the time limit: a daemon that hangs, or a question to unlock that
/// nobody answers, is [`StoreError::TimedOut`], and after one of those the others are at once.
#[derive(Debug)]
pub struct Keychain {
    limit: Duration,
    hung: AtomicBool,
    /// Kept between calls: setting up a connection's encryption costs more than a call.
    connection: Arc<Mutex<Option<Arc<Platform>>>>,
}

impl Keychain {
    /// A keychain whose calls may take up to `limit`. Nothing is connected to until the first call.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, hung: AtomicBool::new(false), connection: Arc::new(Mutex::new(None)) }
    }

    /// Runs a call on a thread of its own. One that does not end in time is left to itself.
    fn call<T: Send + 'static>(
        &self,
        profile: &ProfileName,
        call: impl Fn(&Item) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let timed_out = || StoreError::TimedOut { limit: self.limit };
        if self.hung.load(Ordering::Relaxed) {
            return Err(timed_out());
        }
        let (tell, told) = mpsc::sync_channel(1);
        let (profile, connection) = (profile.clone(), Arc::clone(&self.connection));
        let started = thread::Builder::new().name("keychain".into()).spawn(move || {
            let _ = tell.send(connected(&connection, &profile, &call));
        });
        if let Err(error) = started {
            return Err(StoreError::Refused { detail: error.to_string() });
        }
        match told.recv_timeout(self.limit) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                self.hung.store(true, Ordering::Relaxed);
                Err(timed_out())
            }
            Err(RecvTimeoutError::Disconnected) => Err(StoreError::Refused { detail: "its library failed".into() }),
        }
    }
}

/// A profile's item on a connection.
struct Item<'a> {
    platform: &'a Platform,
    profile: &'a ProfileName,
}

/// Runs a call on the kept connection, or on a new one where there is none or the kept one is dead.
fn connected<T>(
    kept: &Mutex<Option<Arc<Platform>>>,
    profile: &ProfileName,
    call: &impl Fn(&Item) -> Result<T, Error>,
) -> Result<T, StoreError> {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(platform) = kept.take()
        && let Ok(value) = call(&Item { platform: &platform, profile })
    {
        *kept = Some(platform);
        return Ok(value);
    }
    let platform = Platform::new().map_err(|e| StoreError::Absent { detail: said(&e) })?;
    let value = call(&Item { platform: &platform, profile }).map_err(|e| refusal(&e))?;
    *kept = Some(platform);
    Ok(value)
}

fn refusal(error: &Error) -> StoreError {
    match error {
        Error::NoStorageAccess(_) => StoreError::Locked,
        other => StoreError::Refused { detail: said(other) },
    }
}

/// A library's error in one line, without any of its data.
fn said(error: &Error) -> String {
    let text = match error {
        Error::PlatformFailure(cause) | Error::NoStorageAccess(cause) => cause.to_string(),
        Error::BadEncoding(_) | Error::BadDataFormat(..) => "the item's data has another form".into(),
        other => other.to_string(),
    };
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Item<'_> {
    fn entry(&self) -> Result<Entry, Error> {
        #[cfg(not(target_os = "macos"))]
        {
            let label = format!("authctl: {}", self.profile);
            self.platform.build(SERVICE, self.profile.as_str(), Some(&HashMap::from([("label", label.as_str())])))
        }
        #[cfg(target_os = "macos")]
        {
            self.platform.build(SERVICE, self.profile.as_str(), None::<&HashMap<&str, &str>>)
        }
    }

    /// The items that are authctl's where the library finds several for the service and user name: those with no other
    /// attribute than it gives.
    fn own(found: Vec<Entry>) -> Result<Vec<Entry>, Error> {
        let mut own = Vec::new();
        for entry in found {
            let plain = entry
                .get_attributes()?
                .keys()
                .all(|name| matches!(name.as_str(), "service" | "username" | "application" | "target" | "xdg:schema"));
            if plain {
                own.push(entry);
            }
        }
        Ok(own)
    }

    fn read(&self) -> Result<Option<SecretBytes>, Error> {
        match self.entry()?.get_secret() {
            Ok(secret) => Ok(Some(SecretBytes::new(secret))),
            Err(Error::NoEntry) => Ok(None),
            Err(Error::Ambiguous(found)) => match Self::own(found)?.first() {
                Some(entry) => Ok(Some(SecretBytes::new(entry.get_secret()?))),
                None => Ok(None),
            },
            Err(error) => Err(error),
        }
    }

    fn write(&self, secret: &SecretBytes) -> Result<(), Error> {
        match self.entry()?.set_secret(secret.expose()) {
            Err(Error::Ambiguous(found)) => {
                let mut own = Self::own(found)?.into_iter();
                let first = own.next().ok_or(Error::NoEntry)?;
                first.set_secret(secret.expose())?;
                own.try_for_each(|surplus| surplus.delete_credential())
            }
            result => result,
        }
    }

    fn delete(&self) -> Result<bool, Error> {
        match self.entry()?.delete_credential() {
            Ok(()) => Ok(true),
            Err(Error::NoEntry) => Ok(false),
            Err(Error::Ambiguous(found)) => {
                let own = Self::own(found)?;
                own.iter().try_for_each(Entry::delete_credential)?;
                Ok(!own.is_empty())
            }
            Err(error) => Err(error),
        }
    }
}

impl Store for Keychain {
    fn kind(&self) -> StoreKind {
        StoreKind::Keychain
    }

    fn read(&self, profile: &ProfileName) -> Result<Option<Session>, StoreError> {
        let Some(stored) = self.call(profile, |item| item.read())? else { return Ok(None) };
        Session::from_stored(&stored)
            .map(Some)
            .map_err(|e| StoreError::Damaged { location: self.location(profile), why: Damage::from(e) })
    }

    fn write(&self, profile: &ProfileName, session: &Session) -> Result<(), StoreError> {
        let stored = session.to_stored();
        self.call(profile, move |item| item.write(&stored))
    }

    fn delete(&self, profile: &ProfileName) -> Result<bool, StoreError> {
        self.call(profile, |item| item.delete())
    }

    /// Does nothing: how a keychain keeps its items is its own affair.
    fn reserve(&self, _profile: &ProfileName, _bytes: usize) -> Result<(), StoreError> {
        Ok(())
    }

    fn location(&self, profile: &ProfileName) -> String {
        format!("the keychain, as \"authctl: {profile}\"")
    }
}
