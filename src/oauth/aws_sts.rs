//! AWS STS `AssumeRoleWithWebIdentity`: exchanges a token for temporary credentials (AWS STS API Reference, 2011-06-15).

use std::time::Duration;

use url::Url;

use super::error::IssuerError;
use super::form::{Form, repeats_secret};
use super::http::{Credentials, Http};
use crate::secret::Secret;
use crate::text::excerpt;

/// The role to be assumed.
#[derive(Clone, Debug)]
pub struct Role {
    /// The Amazon resource name of the role.
    pub arn: String,
    /// The name of the session, which AWS logs.
    pub session_name: String,
    /// How long the credentials last; AWS decides if it is not given.
    pub duration: Option<Duration>,
}

/// Temporary credentials.
#[derive(Clone, Debug)]
pub struct AwsCredentials {
    /// The ID of the access key.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Secret,
    /// The session token.
    pub session_token: Secret,
    /// When they expire, as AWS writes it (ISO 8601).
    pub expiration: String,
}

/// Assumes the role with a token. The request is not signed: the token is the credential.
///
/// # Errors
/// [`IssuerError::Rejected`] with the reason of AWS if it refuses.
pub async fn assume_role(http: &Http, sts: &Url, role: &Role, token: &Secret) -> Result<AwsCredentials, IssuerError> {
    let mut form = Form::default();
    form.add("Action", "AssumeRoleWithWebIdentity");
    form.add("Version", "2011-06-15");
    form.add("RoleArn", &role.arn);
    form.add("RoleSessionName", &role.session_name);
    if let Some(duration) = role.duration {
        form.add("DurationSeconds", &duration.as_secs().to_string());
    }
    form.add_secret("WebIdentityToken", token);
    let (body, secrets) = form.into_parts();
    let response = http.post_form(sts, body, Some(Credentials::in_body(&secrets))).await?;
    let text = String::from_utf8_lossy(response.text());
    if !response.is_success() {
        // AWS reports what is wrong with a request as 4xx, and a throttled one as well.
        const TEMPORARY: [&str; 4] =
            ["Throttling", "ThrottlingException", "RequestLimitExceeded", "IDPCommunicationError"];
        if element(&text, "Code").is_some_and(|code| TEMPORARY.contains(&code)) {
            let (host, status, retry_after) = (response.host.clone(), response.status, response.retry_after);
            return Err(IssuerError::Unavailable { host, status, retry_after });
        }
        if let (Some(code), 400..500) = (element(&text, "Code"), response.status) {
            let reason =
                element(&text, "Message").filter(|reason| !repeats_secret(&secrets, reason)).unwrap_or_default();
            let reason = excerpt(&unescaped(reason), 300);
            let message = format!("{} refused the role: {}: {reason}", response.host, excerpt(code, 60));
            return Err(IssuerError::Rejected { message, status: response.status, is_refusal: true });
        }
        return Err(response.unavailable().unwrap_or_else(|| response.unexpected("credentials")));
    }
    let member = |name: &str| element(&text, name).map(str::to_owned).filter(|text| !text.is_empty());
    let credentials = || {
        Some(AwsCredentials {
            access_key_id: member("AccessKeyId")?,
            secret_access_key: Secret::new(member("SecretAccessKey")?),
            session_token: Secret::new(member("SessionToken")?),
            expiration: member("Expiration")?,
        })
    };
    credentials().ok_or_else(|| response.unexpected("credentials"))
}

/// Returns the text of the first element of this name that has no others in it.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    (!text.contains('<')).then(|| text.trim())
}

fn unescaped(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (escaped, character)| text.replace(escaped, character))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestServer, answer, http};
    use super::*;

    #[tokio::test]
    async fn redirect_that_repeats_the_token_is_not_named() {
        let server = TestServer::start(vec![answer(302, "location: /log-in/hunter2-token\r\n", "")]).await;
        let role = Role { arn: "arn:aws:iam::1:role/x".into(), session_name: "x".into(), duration: None };
        let token = Secret::new("hunter2-token".into());
        let error = assume_role(&http(), &server.url, &role, &token).await.expect_err("no credentials").to_string();
        assert!(error.contains("(a redirect)") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn elements_are_read_and_unescaped() {
        let xml = "<r><Error><Code>AccessDenied</Code>\n<Message> a &lt;b&gt; &amp;amp; </Message></Error></r>";
        assert_eq!(element(xml, "Code"), Some("AccessDenied"));
        assert_eq!(element(xml, "Message").map(unescaped).as_deref(), Some("a <b> &amp;"));
        for (xml, name) in [("<r>", "r"), ("<Error><Code>x</Code></Error>", "Error"), ("", "Code"), ("<Code>", "Code")]
        {
            assert_eq!(element(xml, name), None, "{xml}");
        }
    }
}
