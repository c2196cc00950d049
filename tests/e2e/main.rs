//! End-to-end tests with real keychains, browsers, authorization servers, proxies and HTTP clients.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod agent_access;
mod agent_clients;
mod agent_clock;
mod agent_keychain;
mod agent_notification;
mod agent_service;
mod agent_support;
mod api_proxy;
mod browser_login;
mod completion;
mod concurrent_refresh;
mod debian_package;
mod directory_owner;
mod django_browser;
mod django_jwt;
mod django_oauth;
mod doctor;
mod dual_stack;
mod fake_clock;
mod internal_addresses;
mod key_owner;
mod keychain_session;
mod keychain_store;
#[path = "../support/keyring.rs"]
mod keyring;
mod login_prompt;
mod mcp;
mod redirect_listener;
mod system_ca;
mod webdriver;

mod django_site;
#[path = "../support/network.rs"]
mod network;
mod oidc_provider;
mod openapi;
mod proxy;
mod recipes;
mod silent_network;
mod ssh;
#[path = "../support/mod.rs"]
mod support;
mod tools;
mod verify_clock;
mod verify_offline;
