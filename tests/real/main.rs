//! Against keychains, browsers and tools that nobody here wrote.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod browser;
mod crowd;
mod kept;
mod keychain;
#[path = "../support/keyring.rs"]
mod keyring;
#[path = "../support/mod.rs"]
mod support;
