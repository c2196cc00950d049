//! The errors of the platform's keychain.

use std::time::Duration;

use keyring_core::Error as KeyringError;

use crate::store::StoreError;

/// Converts a keychain's error. Its types contain the name of the D-Bus error only in their debug form, which has no secret.
pub(super) fn store_error(error: KeyringError) -> StoreError {
    let cause = match &error {
        KeyringError::PlatformFailure(cause) | KeyringError::NoStorageAccess(cause) => cause,
        // Their messages would contain the stored bytes.
        KeyringError::BadEncoding(_) | KeyringError::BadDataFormat(..) => {
            return StoreError::Refused { detail: "the item has an unknown encoding".into() };
        }
        other => return StoreError::Refused { detail: line(&other.to_string()) },
    };
    let named = format!("{cause:?}");
    let any = |words: &[&str]| words.iter().any(|w| named.contains(w));
    if any(&["Error.NoReply", "Error.Timeout", "Error.TimedOut"]) {
        StoreError::TimedOut { limit: Duration::ZERO }
    } else if any(&["Secret.Error.IsLocked"]) || named == "Locked" || named == "Prompt" {
        StoreError::Locked
    } else if any(&ABSENT) || named == "Unavailable" {
        tracing::info!("no keychain: {cause}");
        StoreError::Absent { detail: line(&cause.to_string()) }
    } else if named == "NoResult" {
        StoreError::Refused { detail: "the keychain has no default collection".into() }
    } else {
        StoreError::Refused { detail: line(&cause.to_string()) }
    }
}

/// D-Bus errors that mean that there is no bus or no service.
const ABSENT: [&str; 9] = [
    "Error.ServiceUnknown",
    "Error.NameHasNoOwner",
    "Error.NoServer",
    "Error.NotSupported",
    "Error.FileNotFound",
    "Error.Disconnected",
    "Error.BadAddress",
    "Error.NoNetwork",
    "Error.Spawn.",
];

/// Returns `text` as one line of at most 300 characters.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(debug: &'static str) -> StoreError {
        #[derive(Debug, thiserror::Error)]
        #[error("custom message")]
        struct Custom;
        let cause: Box<dyn std::error::Error + Send + Sync> =
            if debug.is_empty() { Box::new(Custom) } else { debug.into() };
        store_error(KeyringError::PlatformFailure(cause))
    }

    #[test]
    fn d_bus_errors_are_classified() {
        assert!(matches!(failure("x (org.freedesktop.DBus.Error.ServiceUnknown)"), StoreError::Absent { .. }));
        assert!(matches!(failure("x (org.freedesktop.DBus.Error.NoReply)"), StoreError::TimedOut { .. }));
        assert!(matches!(failure("x (org.freedesktop.Secret.Error.IsLocked)"), StoreError::Locked));
        assert!(matches!(failure(""), StoreError::Refused { detail } if detail == "custom message"));
    }

    #[test]
    fn messages_contain_no_stored_bytes() {
        for error in [
            KeyringError::BadEncoding(b"hunter2".to_vec()),
            KeyringError::BadDataFormat(b"hunter2".to_vec(), "hunter2".into()),
        ] {
            let message = format!("{:?}", store_error(error));
            assert!(!message.contains("hunter2") && !message.contains("104"), "{message}");
        }
    }

    #[test]
    fn details_are_one_short_line() {
        assert_eq!(line("a\nb\u{1b}[0m"), "a b [0m");
        assert_eq!(line(&"x".repeat(1000)).len(), 300);
    }
}
