//! Secrets in memory: wiped when dropped, and redacted in debug output.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A token, password, code, verifier or key.
///
/// Wiped when dropped. `Debug` prints `<redacted>`. There is no `Display` and no `Serialize`: a secret is sent, stored or
/// printed only through [`Secret::expose`].
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`, of which the caller must have no copy.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the secret. Called only on the line that sends, stores, compares or prints it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns it without all white space, with which one-time codes are shown in groups.
    #[must_use]
    pub fn ungrouped(&self) -> Self {
        Self::new(self.0.split_whitespace().collect())
    }

    /// Returns whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a generated secret without the white space that is often pasted or printed around it. Not for passwords, which stay
    /// as typed.
    #[must_use]
    pub fn trimmed(&self) -> Self {
        Self::new(self.expose().trim().to_owned())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            // A number must be rejected here: serde's own messages quote the value.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
                Ok(Secret(text))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom("expected a string, found a number"))
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(E::custom("expected a string, found a number"))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(E::custom("expected a string, found a number"))
            }
        }
        // Not `deserialize_string`, with which serde_json itself would reject a number and quote it.
        deserializer.deserialize_any(Text)
    }
}

/// Bytes that contain secrets, such as a response body or a serialized session. Wiped when dropped.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Wraps `bytes`, of which the caller must have no copy.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Creates an empty buffer for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Returns the bytes. Called only on the line that sends, stores or parses them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends `more`. Wipes the old allocation if a new one is needed.
    pub fn extend(&mut self, more: &[u8]) {
        self.reserve(more.len());
        self.0.extend_from_slice(more);
    }

    /// Appends all that `reader` has, and returns its length. `std::io::copy` would leave a copy on the stack.
    ///
    /// # Errors
    /// As the reader's.
    pub fn read_from(&mut self, mut reader: impl std::io::Read) -> std::io::Result<u64> {
        // Longer than the buffer of the standard library's stdin, which is then passed by: it is never wiped.
        const PIECE: usize = 16 * 1024;
        let before = self.0.len();
        loop {
            let length = self.0.len();
            self.reserve(PIECE);
            self.0.resize(length + PIECE, 0);
            let read = reader.read(&mut self.0[length..]);
            self.0.truncate(length + read.as_ref().map_or(0, |read| *read));
            match read {
                Ok(0) => return Ok((length - before) as u64),
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
        }
    }

    fn reserve(&mut self, length: usize) {
        if self.0.capacity() - self.0.len() < length {
            let mut grown = Vec::with_capacity((self.0.len() + length).max(self.0.capacity() * 2));
            grown.extend_from_slice(&self.0);
            self.0.zeroize();
            self.0 = grown;
        }
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl std::io::Write for SecretBytes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Prevents core dumps, which would contain secrets, and debuggers; or allows core dumps again as the process was started, for
/// another program, to which debuggers can attach again. The limit alone does not hold if core dumps are piped to a program.
pub(crate) fn limit_core_dumps(limited: bool) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    static BEFORE: std::sync::OnceLock<Rlimit> = std::sync::OnceLock::new();
    let before = *BEFORE.get_or_init(|| getrlimit(Resource::Core));
    let current = if limited { Some(0) } else { before.current };
    #[cfg(target_os = "linux")]
    if limited {
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    }
    // Without the limit, the command works all the same.
    let _ = setrlimit(Resource::Core, Rlimit { current, ..before });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_is_redacted() {
        let secret = Secret::new("hunter2".into());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "<redacted> Some(<redacted>)");
        assert_eq!(format!("{:?}", SecretBytes::new(b"hunter2".to_vec())), "<redacted>");
    }

    #[test]
    fn errors_do_not_quote_a_secret_of_the_wrong_type() {
        for json in ["4711", "-4711", "4711.5", "[\"4711\"]", "{\"a\":\"4711\"}"] {
            let error = serde_json::from_str::<Secret>(json).expect_err(json).to_string();
            assert!(!error.contains("4711"), "{error}");
        }
    }

    #[test]
    fn bytes_survive_growth() {
        let mut bytes = SecretBytes::default();
        for n in 0..1000u16 {
            bytes.extend(&n.to_be_bytes());
        }
        assert_eq!(bytes.expose().len(), 2000);
        let long = vec![7; 10_000];
        assert_eq!(bytes.read_from(long.as_slice()).expect("read"), 10_000);
        assert_eq!((bytes.expose().len(), &bytes.expose()[2000..]), (12_000, long.as_slice()));
        bytes.0.truncate(2000);
        assert_eq!(&bytes.expose()[1998..], &999u16.to_be_bytes());
    }
}
