//! `authctl headers`: prints the headers that a request to an API needs.

use std::collections::BTreeMap;

use super::{output, token};
use crate::agent::protocol::TokenResponse;
use crate::app::App;
use crate::cli::{Headers, Token};
use crate::error::Error;

/// Runs the command.
pub fn run(app: &App, args: Headers) -> Result<u8, Error> {
    let Headers { profile, api, .. } = args;
    let request = Token { profile, ..Token::default() };
    token::for_api(app, &request, &api, &print)
}

fn print(app: &App, _: &Token, response: &TokenResponse<'_>) -> Result<u8, Error> {
    if let (Some(profile), Some(warning)) = (response.profile, &response.warning) {
        token::report_warning(app, profile, warning);
    }
    let headers =
        BTreeMap::from([("Authorization", format!("{} {}", response.token_type, token::sendable(response)?))]);
    if app.common.json {
        output::json(&headers)?;
        return Ok(0);
    }
    headers.iter().try_for_each(|(name, value)| output::data(&format!("{name}: {value}")))?;
    Ok(0)
}
