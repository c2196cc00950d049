//! Tokens that the user obtained elsewhere and supplies: a token response, or an access token alone.

use super::error::IssuerError;
use super::http_response::HttpResponse;
use super::token_response::{TokenEndpointResponse, parse_token_response};
use crate::clock::UnixTime;
use crate::model::TokenSet;
use crate::secret::{Secret, SecretBytes};
use crate::text::{bare_token, is_token, resembles_token, white_space_in_token};

/// Parses a token response (RFC 6749, section 5.1) whose lifetime counts from `now`, or a bare JWT.
///
/// # Errors
/// [`IssuerError::InvalidResponse`] if it is neither, [`IssuerError::Refused`] if it is an error response.
pub fn parse_supplied_tokens(text: &Secret, now: UnixTime) -> Result<TokenSet, IssuerError> {
    let supplied = text.expose().trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let bare = bare_token(supplied);
    let is_jwt = bare.split('.').count() == 3
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !bare.starts_with('.');
    if is_jwt {
        return Ok(TokenSet {
            access_token: Secret::new(bare.to_owned()),
            token_type: "Bearer".into(),
            refresh_token: None,
            id_token: None,
            obtained_at: now,
            issuer_time: None,
            expires_at: None,
            refresh_expires_at: None,
            scope: None,
        });
    }
    let response = HttpResponse {
        host: "stdin".into(),
        status: 200,
        content_type: Some("application/json".into()),
        retry_after: None,
        location: None,
        content_coding: None,
        challenges: Vec::new(),
        date: None,
        dpop_nonce: None,
        body: SecretBytes::new(supplied.as_bytes().to_vec()),
    };
    match parse_token_response(&response, &[], now) {
        Ok(TokenEndpointResponse::Tokens(tokens)) => Ok(tokens),
        Ok(TokenEndpointResponse::Error(response)) => Err(IssuerError::Refused(response.error)),
        // No issuer has refused or lost anything.
        Err(IssuerError::Rejected { .. } | IssuerError::Unreachable { .. }) => {
            let what = "a token response without access_token".to_owned();
            Err(IssuerError::InvalidResponse { from: response.host, what, wrong_address: false })
        }
        Err(error) => Err(error),
    }
}

/// Returns what is wrong with a JWT that is not one line; `None` if it is one line, or not a JWT.
#[must_use]
pub fn broken_jwt(text: &Secret) -> Option<String> {
    let bare = bare_token(text.expose());
    if resembles_token(bare) { white_space_in_token(bare) } else { None }
}

/// Returns the access token in `text`, which is one of any format or a token response.
///
/// # Errors
/// What is wrong with it.
pub fn supplied_access_token(text: &Secret, now: UnixTime) -> Result<Secret, String> {
    let bare = bare_token(text.expose());
    if is_token(bare) {
        return Ok(Secret::new(bare.to_owned()));
    }
    let supplied = parse_supplied_tokens(text, now).ok().map(|tokens| tokens.access_token);
    supplied.filter(|token| is_token(token.expose())).ok_or_else(|| match broken_jwt(text) {
        Some(problem) => problem,
        None if bare.bytes().all(|b| b.is_ascii_alphanumeric()) => "it has no token".to_owned(),
        None => "it is not a token response, and a token has only letters, digits and -._~+/|=".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TokenSet, IssuerError> {
        parse_supplied_tokens(&Secret::new(text.into()), UnixTime(100))
    }

    #[test]
    fn only_a_token_response_or_a_jwt_is_accepted() {
        let tokens = read(" eyJh.eyJi.c2ln\n").expect("a JWT");
        assert_eq!((tokens.access_token.expose(), tokens.expires_at), ("eyJh.eyJi.c2ln", None));
        let pasted = read("\u{feff}'Bearer eyJh.eyJi.c2ln'\r\n").expect("a JWT");
        assert_eq!(pasted.access_token.expose(), "eyJh.eyJi.c2ln");
        let text = "\u{feff}{\"access_token\":\"a\",\"scope\":\"openid profile email\"}\r\n";
        assert_eq!(read(text).expect("a response").scope.as_deref(), Some("openid profile email"));
        let tokens = read(r#"{"access_token":"a","expires_in":60,"refresh_token":"r"}"#).expect("a response");
        assert_eq!(tokens.expires_at, Some(UnixTime(160)));
        assert!(tokens.refresh_token.is_some());
        for text in ["Bearer", "null", "Bearer Bearer", "{}", r#"{"access_token":"a b"}"#, "a b", "eyJh.eyJi. c2ln"] {
            assert!(supplied_access_token(&Secret::new(text.into()), UnixTime(100)).is_err(), "{text}");
        }
        let problem = |text: &str| supplied_access_token(&Secret::new(text.into()), UnixTime(100)).expect_err(text);
        assert_eq!(problem("\"eyJh.ey\r\nJi.c2\nln\"\n"), "the token has 3 lines; a token is one line");
        assert!(problem("not\na token").contains("not a token response"));
        for text in
            ["a", "token a", "a;", r#"{"access_token":"a","expires_in":60}"#, "{\n \"access_token\": \"a\"\n}\r\n"]
        {
            let token = supplied_access_token(&Secret::new(text.into()), UnixTime(100)).expect("a token");
            assert_eq!(token.expose(), "a", "{text}");
        }
        for text in [r#"{"code":1}"#, "", "{\"access_token\":"] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains("stdin returned a token response without access_token"), "{text}: {error}");
        }
        for text in ["{}", "hello", "a b.c.d", "<html></html>", r#"{"error":"invalid_grant"}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
