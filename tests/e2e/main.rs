//! Against keychains, browsers and tools that nobody here wrote.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod addresses;
mod agent_clients;
mod agent_clock;
mod agent_guarded;
mod agent_keychain;
mod agent_notifies;
mod agent_service;
mod agent_support;
mod authority;
mod browser;
mod crowd;
mod directories;
mod django_browser;
mod django_jwt;
mod django_oauth;
mod driver;
mod fake_clock;
mod hostile;
mod kept;
mod keychain;
#[path = "../support/keyring.rs"]
mod keyring;

#[path = "../support/network.rs"]
mod network;
mod oidc_provider;
mod openapi;
mod proxy;
mod silence;
mod site;
mod ssh;
#[path = "../support/mod.rs"]
mod support;
mod verify_alone;
mod verify_clock;
