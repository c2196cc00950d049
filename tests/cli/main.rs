//! The program as its users and their scripts see it, against the embedded issuer: a file a verb.
#![allow(missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod life;
