//! Keychain items (macOS).

use std::sync::Arc;

use keyring_core::api::CredentialStore;
use keyring_core::{Entry, Error as KeyringError};

use super::error::store_error;
use super::{SERVICE, StoreError};

/// The items found for a profile. Keychain keeps at most one for a service and user name.
pub(super) struct Items {
    pub(super) ours: Vec<Entry>,
    pub(super) others: Vec<Entry>,
}

pub(super) fn connect() -> Result<Arc<CredentialStore>, StoreError> {
    Ok(apple_native_keyring_store::keychain::Store::new().map_err(store_error)?)
}

pub(super) fn entry(connection: &Arc<CredentialStore>, user_name: &str) -> Result<Entry, StoreError> {
    connection.build(SERVICE, user_name, None).map_err(store_error)
}

pub(super) fn items(connection: &Arc<CredentialStore>, name: &str) -> Result<Items, StoreError> {
    let entry = entry(connection, name)?;
    let ours = match entry.get_credential() {
        Ok(found) => vec![found],
        Err(KeyringError::NoEntry) => Vec::new(),
        Err(e) => return Err(store_error(e)),
    };
    Ok(Items { ours, others: Vec::new() })
}
