//! Black-box tests of the program against the embedded issuer: one file per command or feature.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod batch;
mod browser_login;
mod clock_record;
mod concurrent_logins;
mod corpus;
mod demo;
mod directories;
mod doctor;
mod durability;
mod endpoints;
mod exec;
mod exit_codes;
mod first_login;
mod helper;
mod hints;
mod id_token;
mod interrupt;
mod keys;
mod leaks;
mod locks;
mod login;
mod login_api;
mod login_without_browser;
mod logout;
mod lost_replies;
mod names;
mod network;
mod output;
mod password_login;
mod pasted_tokens;
mod presets;
mod profile;
mod recovery;
mod refresh;
mod refresh_errors;
mod requirements;
mod screens;
mod sign_in_requirements;
mod stampede;
mod status;
mod status_list;
mod storage_order;
mod stores;
mod supplied_tokens;
mod token;
mod unsaved_sessions;
mod variations;
mod verify;
mod version;
