//! `authctl headers`: prints the headers that a request to an API needs.

use std::collections::BTreeMap;

use super::{output, token};
use crate::agent::protocol::{ProofRequest, TokenResponse};
use crate::app::App;
use crate::cli::{Headers, Token};
use crate::error::Error;
use crate::model::is_dpop;
use crate::secret::Secret;

/// Runs the command.
pub fn run(app: &App, args: Headers) -> Result<u8, Error> {
    let request = Token { profile: args.profile.clone(), ..Token::default() };
    token::for_api(app, &request, &args.api, &|app: &App, _: &Token, response: &TokenResponse<'_>| {
        print(app, &args, response)
    })
}

fn print(app: &App, args: &Headers, response: &TokenResponse<'_>) -> Result<u8, Error> {
    if let (Some(profile), Some(warning)) = (response.profile, &response.warning) {
        token::report_warning(app, profile, warning);
    }
    let token = token::sendable(response)?;
    let mut headers = BTreeMap::from([("Authorization", format!("{} {token}", response.token_type))]);
    if is_dpop(response.token_type) {
        let proof = app.proof(&ProofRequest {
            profile: response.profile.cloned(),
            method: args.method.clone(),
            url: args.api.to_string(),
            nonce: args.nonce.clone(),
            access_token: Some(Secret::new(token.to_owned())),
        })?;
        headers.insert("DPoP", proof.expose().to_owned());
    }
    if app.common.json {
        output::json(&headers)?;
        return Ok(0);
    }
    headers.iter().try_for_each(|(name, value)| output::data(&format!("{name}: {value}")))?;
    Ok(0)
}
