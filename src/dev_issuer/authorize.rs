//! The authorization endpoint (RFC 6749, section 4.1; OpenID Connect Core 1.0, section 3.1.2).

use std::time::Duration;

use hyper::StatusCode;
use url::{Host, Url};

use super::Core;
use super::bounded::hashed;
use super::client::{audiences, find, may, scopes};
use super::keys::random_text;
use super::options::GrantKind;
use super::pages;
use super::state::{AuthorizationRequest, Code, Granted, Login, Purpose};
use super::walk::{self, browser_of};
use super::wire::{OAuthError, Params, Reply, Request, see_other};

const CODE_TTL: Duration = Duration::from_secs(60);

/// Whether the login page may, must or must not be shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prompt {
    AsNeeded,
    Login,
    None,
}

/// Answers an authorization request: a page, or straight back to the client.
pub(super) fn authorize(core: &Core, request: &Request) -> Reply {
    let query = &request.query;
    // Until client and redirect URI are known to be good, nobody is sent anywhere (RFC 6749, section 4.1.2.1).
    let refuse = |text: &str| pages::error(StatusCode::BAD_REQUEST, text);
    if query.repeats() {
        return refuse("A parameter is repeated.");
    }
    let Some(client) = query.one("client_id").and_then(|id| find(core, id)) else {
        return refuse("The program that sent you here is not known to this issuer (client_id).");
    };
    let Some(redirect_uri) = query.one("redirect_uri").filter(|uri| is_loopback_redirect(uri)) else {
        return refuse("The address to return to must be http on 127.0.0.1 or [::1] (redirect_uri).");
    };
    let state = query.one("state").map(str::to_owned);
    let asked = may(client, GrantKind::AuthorizationCode).and_then(|()| parse(&client.id, redirect_uri, query));
    match asked.and_then(|(asked, prompt, max_age)| begin(core, request, asked, prompt, max_age)) {
        Ok(reply) => reply,
        Err(error) => send_error(core, redirect_uri, state.as_deref(), &error),
    }
}

/// Whether this is a native app's own address: an http URL on a loopback IP literal, any port and path (RFC 8252,
/// section 7.3). Judged by its text as well, so that no other spelling of an address gets through.
pub(super) fn is_loopback_redirect(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => ip == std::net::Ipv4Addr::LOCALHOST && text.starts_with("http://127.0.0.1"),
        Some(Host::Ipv6(ip)) => ip == std::net::Ipv6Addr::LOCALHOST && text.starts_with("http://[::1]"),
        _ => false,
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    literal && plain && url.scheme() == "http" && text.len() <= 2048
}

type Asked = (AuthorizationRequest, Prompt, Option<u64>);

fn parse(client_id: &str, redirect_uri: &str, query: &Params) -> Result<Asked, OAuthError> {
    if query.one("request").is_some() || query.one("request_uri").is_some() {
        return Err(OAuthError::bad("request_not_supported", "request objects are not supported"));
    }
    if query.one("response_type") != Some("code") {
        return Err(OAuthError::bad("unsupported_response_type", "only the code flow is supported"));
    }
    if query.one("response_mode").is_some_and(|mode| mode != "query") {
        return Err(OAuthError::invalid_request("only response_mode query is supported"));
    }
    let challenge = query.one("code_challenge").unwrap_or_default();
    let good = challenge.len() == 43 && challenge.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if query.one("code_challenge_method") != Some("S256") || !good {
        return Err(OAuthError::invalid_request("PKCE with code_challenge_method S256 is required"));
    }
    let mut prompt = Prompt::AsNeeded;
    let words: Vec<&str> = query.one("prompt").unwrap_or_default().split(' ').filter(|w| !w.is_empty()).collect();
    for word in &words {
        match *word {
            "none" if words.len() == 1 => prompt = Prompt::None,
            "login" | "select_account" => prompt = Prompt::Login,
            // The consent page is always shown.
            "consent" => {}
            _ => return Err(OAuthError::invalid_request("prompt must be none, or login and consent")),
        }
    }
    let max_age = match query.one("max_age") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| OAuthError::invalid_request("max_age must be seconds"))?),
    };
    let text = |name| query.one(name).filter(|text| text.len() <= 1024).map(str::to_owned);
    let asked = AuthorizationRequest {
        client_id: client_id.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        state: query.one("state").map(str::to_owned),
        challenge: challenge.to_owned(),
        scopes: scopes(query)?,
        audiences: audiences(query)?,
        nonce: text("nonce"),
        login_hint: text("login_hint"),
    };
    Ok((asked, prompt, max_age))
}

fn begin(
    core: &Core,
    request: &Request,
    asked: AuthorizationRequest,
    prompt: Prompt,
    max_age: Option<u64>,
) -> Result<Reply, OAuthError> {
    let known = {
        let state = core.state();
        let now = core.now();
        browser_of(core, &state, request).and_then(|(_, browser)| {
            let login = browser.login.clone().filter(|login| state.stands(login))?;
            let age = login.at.until(now).as_secs();
            let fits = prompt != Prompt::Login && max_age.is_none_or(|most| age <= most);
            fits.then(|| (login, browser.allowed.contains(&(asked.client_id.clone(), asked.scopes.join(" ")))))
        })
    };
    if prompt == Prompt::None {
        return match known {
            None => Err(OAuthError::bad("login_required", "nobody is logged in")),
            Some((_, false)) => Err(OAuthError::bad("consent_required", "nobody has allowed this")),
            Some((login, true)) => send_code(core, &asked, login),
        };
    }
    walk::begin(core, request, Purpose::Authorize(asked), known.map(|(login, _)| login))
}

/// Sends the browser back with a code.
pub(super) fn send_code(core: &Core, asked: &AuthorizationRequest, login: Login) -> Result<Reply, OAuthError> {
    let code = random_text()?;
    let granted = Granted {
        client_id: asked.client_id.clone(),
        login: Some(login),
        scopes: asked.scopes.clone(),
        audiences: asked.audiences.clone(),
        nonce: asked.nonce.clone(),
    };
    let kept = Code {
        granted,
        redirect_uri: asked.redirect_uri.clone(),
        challenge: asked.challenge.clone(),
        ends: core.now().plus(CODE_TTL),
        gave: None,
        spent: false,
    };
    core.state().codes.insert(hashed(code.expose()), kept);
    Ok(back(core, &asked.redirect_uri, asked.state.as_deref(), &[("code", code.expose())]))
}

/// Sends the browser back with an error (RFC 6749, section 4.1.2.1).
pub(super) fn send_error(core: &Core, redirect_uri: &str, state: Option<&str>, error: &OAuthError) -> Reply {
    back(core, redirect_uri, state, &[("error", error.code), ("error_description", error.description)])
}

/// With `state` as it came, and `iss` (RFC 9207).
fn back(core: &Core, redirect_uri: &str, state: Option<&str>, pairs: &[(&str, &str)]) -> Reply {
    let Ok(mut url) = Url::parse(redirect_uri) else {
        return pages::error(StatusCode::BAD_REQUEST, "There is no address to return to.");
    };
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(pairs);
        if let Some(state) = state {
            query.append_pair("state", state);
        }
        query.append_pair("iss", &core.issuer);
    }
    see_other(url.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_literals_are_returned_to() {
        for good in ["http://127.0.0.1/", "http://127.0.0.1:4711/callback?x=1", "http://[::1]:80/cb"] {
            assert!(is_loopback_redirect(good), "{good}");
        }
        for bad in [
            "https://127.0.0.1/",
            "http://localhost/",
            "http://127.0.0.1.attacker.example/",
            "http://127.0.0.1@attacker.example/",
            "http://127.0.0.2/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://user@127.0.0.1/",
            "http://127.0.0.1/#f",
            "javascript:alert(1)",
            "/relative",
        ] {
            assert!(!is_loopback_redirect(bad), "{bad}");
        }
    }
}
