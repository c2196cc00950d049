//! Pushed authorization requests (PAR; RFC 9126): the browser gets a reference to the parameters instead of them.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::error::IssuerError;
use super::form::{Form, contains_secret};
use super::lenient_json::{LenientString, Lifetime};
use super::token_endpoint::{TokenEndpoint, post, response_error};
use crate::model::ClientAuth;

/// The lifetime of a reference whose response names none: the example of section 2.2.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// The longest reference, in bytes.
const MAX_REFERENCE: usize = 2048;

/// A pushed request.
pub(super) struct PushedRequest {
    /// The `request_uri`.
    pub(super) reference: String,
    /// How long it can be used.
    pub(super) expires_in: Duration,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    request_uri: LenientString,
    expires_in: Lifetime,
}

/// Pushes the parameters of an authorization request to the endpoint at `url`, with the authentication of the client.
///
/// # Errors
/// [`IssuerError`].
pub(super) async fn push(
    endpoint: &TokenEndpoint<'_>,
    url: &Url,
    parameters: impl Iterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
) -> Result<PushedRequest, IssuerError> {
    let mut form = Form::default();
    // The other methods of authentication add it to the form.
    let adds_client_id = endpoint.client.auth != ClientAuth::ClientSecretBasic;
    for (name, value) in parameters {
        if name.as_ref() != "client_id" || !adds_client_id {
            form.add(name.as_ref(), value.as_ref());
        }
    }
    let (response, sent) = post(endpoint.http, url, endpoint.client, form, None).await?;
    let expected = "a response to a pushed authorization request";
    if !response.is_success() {
        return Err(response_error(&response, &sent, expected));
    }
    let wire: Wire = response.object().ok_or_else(|| response.unexpected(expected))?;
    let is_usable = |text: &String| text.len() <= MAX_REFERENCE && text.bytes().all(|byte| byte.is_ascii_graphic());
    // It becomes a part of the address that is shown and opened in a browser.
    match wire.request_uri.0.filter(|text| is_usable(text) && !contains_secret(&sent, text)) {
        Some(reference) => Ok(PushedRequest { reference, expires_in: wire.expires_in.0.unwrap_or(DEFAULT_LIFETIME) }),
        None => Err(response_error(&response, &sent, expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::client_auth::OAuthClient;
    use super::super::testing::{TestClock, TestServer, http, json};
    use super::*;
    use crate::secret::Secret;

    #[tokio::test]
    async fn reference_with_the_client_secret_is_refused() {
        let client = OAuthClient { secret: Some(Secret::new("hunter2".into())), ..OAuthClient::public("cli") };
        let client = OAuthClient { auth: ClientAuth::ClientSecretPost, ..client };
        let answers = ["urn:x:hunter2", "urn:x:%68unter2", "urn:x:hunter"];
        let answers = answers.map(|reference| json(201, &format!(r#"{{"request_uri":"{reference}"}}"#)));
        let server = TestServer::start(answers.to_vec()).await;
        let (http, clock) = (http(), TestClock::new());
        let endpoint = TokenEndpoint { http: &http, url: &server.url, client: &client, clock: &clock };
        let none: [(&str, &str); 0] = [];
        for is_accepted in [false, false, true] {
            let pushed = push(&endpoint, &server.url, none.into_iter()).await;
            assert_eq!(pushed.is_ok(), is_accepted);
        }
    }
}
