//! Checks authorization responses (RFC 6749, section 4.1.2; RFC 9207), however they arrive.

use aws_lc_rs::constant_time;
use url::{Url, form_urlencoded};

use super::error::{IssuerError, OAuthError};
use super::form::repeats_secret;
use crate::secret::Secret;
use crate::text::excerpt;

/// The classification of a request to the redirect URI.
pub(super) enum RedirectRequest {
    /// Not the response to this login: rejected, and the listener keeps waiting.
    Unrelated,
    /// The authorization response: a code, or why there is none.
    AuthorizationResponse(Result<Secret, IssuerError>),
}

/// What identifies the authorization response to this login.
pub(super) struct ExpectedResponse {
    pub(super) redirect_uri: Url,
    pub(super) state: Secret,
    pub(super) issuer: String,
    pub(super) iss_required: bool,
}

impl ExpectedResponse {
    /// Checks a response by its query. Without this login's state, or with a duplicate parameter, it is unrelated and must
    /// not even end the login. `from` names its source in errors.
    pub(super) fn check(&self, query: &str, from: &str) -> RedirectRequest {
        let (mut code, mut state, mut iss, mut error, mut description) = (None, None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let member = match &*name {
                "code" => &mut code,
                "state" => &mut state,
                "iss" => &mut iss,
                "error" => &mut error,
                "error_description" => &mut description,
                _ => continue,
            };
            if member.replace(Secret::new(value.into_owned())).is_some() {
                return RedirectRequest::Unrelated;
            }
        }
        let state_matches = state.is_some_and(|s| is_equal(s.expose(), self.state.expose()));
        let code = code.filter(|c| !c.is_empty());
        let error = error.filter(|e| !e.is_empty());
        if !state_matches || (code.is_none() && error.is_none()) {
            return RedirectRequest::Unrelated;
        }
        let found = iss.as_ref().map(Secret::expose);
        if found.map_or(self.iss_required, |iss| iss != self.issuer) {
            let found = found.map_or_else(|| format!("no `iss` from {from}"), |iss| excerpt(iss, 200));
            return RedirectRequest::AuthorizationResponse(Err(IssuerError::IssuerMismatch {
                expected: self.issuer.clone(),
                found,
            }));
        }
        RedirectRequest::AuthorizationResponse(match (error, code) {
            (None, Some(code)) => Ok(code),
            (error, code) => {
                let secrets: Vec<Secret> = code.into_iter().chain([self.state.clone()]).collect();
                let shown = |text: &&str| !repeats_secret(&secrets, text);
                let error = error.as_ref().map(Secret::expose).filter(shown).unwrap_or("error");
                let description = description.as_ref().map(Secret::expose).filter(shown);
                Err(IssuerError::Refused(OAuthError::new(error, description, None)))
            }
        })
    }
}

/// Compares in constant time.
fn is_equal(a: &str, b: &str) -> bool {
    constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}
