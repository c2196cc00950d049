//! authctl

pub mod clock;
pub mod model;
pub mod secret;
