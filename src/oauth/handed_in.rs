//! Tokens that were got elsewhere and are handed in: a token endpoint's JSON, or an access token alone.

use super::error::IssuerError;
use super::http::Reply;
use super::reply::{Answer, read_tokens};
use crate::clock::UnixTime;
use crate::model::TokenSet;
use crate::secret::{Secret, SecretBytes};

/// Reads a token response (RFC 6749, section 5.1) whose life counts from `now`, or a bare JWT.
///
/// # Errors
/// [`IssuerError::Malformed`] where it is neither, [`IssuerError::Refused`] where it is an error response.
pub fn token_response(text: &Secret, now: UnixTime) -> Result<TokenSet, IssuerError> {
    let given = text.expose().trim();
    let is_jwt = given.split('.').count() == 3
        && given.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !given.starts_with('.');
    if is_jwt {
        return Ok(TokenSet {
            access_token: Secret::new(given.to_owned()),
            token_type: "Bearer".into(),
            refresh_token: None,
            id_token: None,
            obtained_at: now,
            expires_at: None,
            scope: None,
        });
    }
    let reply = Reply {
        host: "stdin".into(),
        status: 200,
        content_type: Some("application/json".into()),
        retry_after: None,
        body: SecretBytes::new(given.as_bytes().to_vec()),
    };
    match read_tokens(&reply, std::slice::from_ref(text), now)? {
        Answer::Tokens(tokens) => Ok(tokens),
        Answer::Refused(refusal) => Err(IssuerError::Refused(refusal.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TokenSet, IssuerError> {
        token_response(&Secret::new(text.into()), UnixTime(100))
    }

    #[test]
    fn a_token_response_or_a_bare_jwt_and_nothing_else() {
        let tokens = read(" eyJh.eyJi.c2ln\n").expect("a JWT");
        assert_eq!((tokens.access_token.expose(), tokens.expires_at), ("eyJh.eyJi.c2ln", None));
        let tokens = read(r#"{"access_token":"a","expires_in":60,"refresh_token":"r"}"#).expect("a response");
        assert_eq!(tokens.expires_at, Some(UnixTime(160)));
        assert!(tokens.refresh_token.is_some());
        for text in ["", "{}", "hello", "a b.c.d", "<html></html>", r#"{"error":"invalid_grant"}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
