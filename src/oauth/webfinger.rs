//! Finds the issuer of a host or an account (OpenID Connect Discovery 1.0, section 2; WebFinger, RFC 7033).

use serde::Deserialize;

use super::error::IssuerError;
use super::http::Http;
use super::lenient_json::LenientString;
use crate::model::IssuerUrl;

/// The relation of a link to the issuer.
const ISSUER: &str = "http://openid.net/specs/connect/1.0/issuer";

/// The JSON resource descriptor (RFC 7033, section 4.4), as far as it is used.
#[derive(Deserialize)]
struct Descriptor {
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    rel: LenientString,
    #[serde(default)]
    href: LenientString,
}

/// Returns the issuer that the host of `at` names for `resource`; `None` if it names none.
///
/// # Errors
/// [`IssuerError::Unreachable`]; [`IssuerError::Insecure`] if the issuer has no secure URL.
pub async fn find_issuer(http: &Http, at: &IssuerUrl, resource: &str) -> Result<Option<IssuerUrl>, IssuerError> {
    let mut url = at.url().clone();
    url.set_path("/.well-known/webfinger");
    url.query_pairs_mut().append_pair("resource", resource).append_pair("rel", ISSUER);
    let response = http.get(&url, "application/jrd+json, application/json", None).await?;
    let descriptor: Option<Descriptor> = if response.is_success() { response.object() } else { None };
    let mut links = descriptor.into_iter().flat_map(|descriptor| descriptor.links);
    let Some(href) = links.find(|link| link.rel.0.as_deref() == Some(ISSUER)).and_then(|link| link.href.0) else {
        return Ok(None);
    };
    at.named_url(&href)?;
    Ok(Some(IssuerUrl::parse(&href)?))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TestServer, http, json};
    use super::*;

    async fn found(answer: String) -> (Option<IssuerUrl>, String) {
        let server = TestServer::start(vec![answer]).await;
        let at: IssuerUrl = server.url.origin().ascii_serialization().parse().expect("an issuer");
        let found = find_issuer(&http(), &at, "acct:ann@a.example").await;
        (found.ok().flatten(), server.requests()[0].lines().next().unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn issuer_is_the_link_with_its_relation() {
        let link = |rel: &str, href: &str| format!(r#"{{"rel":"{rel}","href":"{href}","titles":{{}}}}"#);
        let links = |links: &[String]| json(200, &format!(r#"{{"subject":"x","links":[{}]}}"#, links.join(",")));
        let right = link(ISSUER, "https://a.example/t");
        let (issuer, request) = found(links(&[link("other", "https://b.example"), right.clone()])).await;
        assert_eq!(issuer.expect("named").as_str(), "https://a.example/t");
        let query = "resource=acct%3Aann%40a.example&rel=http%3A%2F%2Fopenid.net%2Fspecs%2Fconnect%2F1.0%2Fissuer";
        assert_eq!(request, format!("GET /.well-known/webfinger?{query} HTTP/1.1"));
        for none in [
            json(404, "{}"),
            json(200, "[]"),
            json(200, "{}"),
            links(&[link("other", "https://b.example")]),
            links(&[link(ISSUER, "")]),
            links(&[link(ISSUER, "http://a.example")]),
            links(&[link(ISSUER, "no URL")]),
        ] {
            assert_eq!(found(none.clone()).await.0, None, "{none}");
        }
    }
}
