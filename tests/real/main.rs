//! Against keychains, browsers and tools that nobody here wrote.
#![allow(missing_docs)]

#[path = "../support/mod.rs"]
mod support;
