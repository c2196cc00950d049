//! The routes: which endpoint or page a path names, and which methods it takes.

use hyper::Method;

use super::faults::{Endpoint, FaultKind, StatusListDefect};
use super::http::{OAuthError, Reply, Request, not_allowed};
use super::issuer::Issuer;
use super::state::Purpose;
use super::{
    authorize, consent, control, device, end_session, interaction, introspect, login, metadata, pages, par, revoke,
    status_list, token, userinfo,
};

/// What a path names.
#[derive(Clone, Copy)]
pub(super) enum Route<'a> {
    Endpoint(Endpoint),
    /// A status list, by its number.
    StatusList(u64),
    /// A page for users.
    Page(Page),
    /// The control endpoint, with the name of the command.
    Control(&'a str),
}

/// A page for users.
#[derive(Clone, Copy)]
pub(super) enum Page {
    Home,
    /// The current page of an interaction.
    Continue,
    UserCode,
    Login,
    Otp,
    Consent,
    Logout,
}

impl Route<'_> {
    /// Returns the route of a path.
    pub(super) fn find<'a>(issuer: &Issuer, path: &'a str) -> Option<Route<'a>> {
        // RFC 8414, section 3.1 inserts the well-known part before the issuer's path; OpenID Connect Discovery appends it.
        if path.strip_prefix("/.well-known/oauth-authorization-server") == Some(&issuer.options.path) {
            return Some(Route::Endpoint(Endpoint::AuthorizationServer));
        }
        let relative = path.strip_prefix(issuer.options.path.as_str())?;
        if relative.is_empty() {
            return Some(Route::Page(Page::Home));
        }
        let relative = relative.strip_prefix('/')?;
        if let Some(number) = relative.strip_prefix("statuslists/") {
            return issuer.options.status_list_ttl.and(number.parse().ok()).map(Route::StatusList);
        }
        if let Some(name) = relative.strip_prefix("control/") {
            return issuer.options.control_key.is_some().then_some(Route::Control(name));
        }
        Some(match relative {
            ".well-known/openid-configuration" => Route::Endpoint(Endpoint::OpenidConfiguration),
            "jwks" => Route::Endpoint(Endpoint::Jwks),
            "authorize" => Route::Endpoint(Endpoint::Authorize),
            "token" => Route::Endpoint(Endpoint::Token),
            "device_authorization" => Route::Endpoint(Endpoint::Device),
            "revoke" => Route::Endpoint(Endpoint::Revoke),
            "introspect" => Route::Endpoint(Endpoint::Introspect),
            "par" => Route::Endpoint(Endpoint::Par),
            "userinfo" => Route::Endpoint(Endpoint::Userinfo),
            "" => Route::Page(Page::Home),
            "continue" => Route::Page(Page::Continue),
            "device" => Route::Page(Page::UserCode),
            "login" => Route::Page(Page::Login),
            "otp" => Route::Page(Page::Otp),
            "consent" => Route::Page(Page::Consent),
            "logout" => Route::Page(Page::Logout),
            _ => return None,
        })
    }

    /// Returns the name in the counters.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Endpoint(endpoint) => endpoint.name(),
            Self::StatusList(_) => Endpoint::StatusList.name(),
            Self::Page(_) => "page",
            Self::Control(_) => "control",
        }
    }

    /// Returns the endpoint whose faults apply.
    pub(super) fn fault_target(self) -> Option<Endpoint> {
        match self {
            Self::Endpoint(endpoint) => Some(endpoint),
            Self::StatusList(_) => Some(Endpoint::StatusList),
            Self::Page(_) | Self::Control(_) => None,
        }
    }

    /// Handles a request. The fault is one of those that only the endpoint itself can apply.
    pub(super) async fn handle(self, issuer: &Issuer, request: &Request, fault: Option<&FaultKind>) -> Reply {
        match self {
            Self::Endpoint(endpoint) => {
                let mismatch = fault == Some(&FaultKind::IssuerMismatch);
                handle_endpoint(issuer, endpoint, request, mismatch).await
            }
            Self::StatusList(number) => status_list::status_list(issuer, number, request, defect(fault)).await,
            Self::Page(page) => handle_page(issuer, page, request)
                .await
                .unwrap_or_else(|error| pages::error(error.status, &error.description)),
            Self::Control(name) => control::control(issuer, name, request).await,
        }
    }
}

fn defect(fault: Option<&FaultKind>) -> Option<StatusListDefect> {
    match fault {
        Some(FaultKind::InvalidStatusList { defect }) => Some(*defect),
        _ => None,
    }
}

fn is_get(request: &Request) -> bool {
    request.method == Method::GET || request.method == Method::HEAD
}

async fn handle_endpoint(issuer: &Issuer, endpoint: Endpoint, request: &Request, mismatch: bool) -> Reply {
    let (get, post) = (is_get(request), request.method == Method::POST);
    let json = |result: Result<Reply, OAuthError>| result.unwrap_or_else(|error| error.reply());
    match endpoint {
        Endpoint::Metadata | Endpoint::OpenidConfiguration | Endpoint::AuthorizationServer if get => {
            metadata::metadata(issuer, mismatch)
        }
        Endpoint::Jwks if get => metadata::jwks(issuer).await,
        Endpoint::Authorize if get => authorize::authorize(issuer, request),
        Endpoint::Token if post => token::token(issuer, request).await,
        Endpoint::Device if post => json(device::authorization(issuer, request)),
        Endpoint::Revoke if post => json(revoke::revoke(issuer, request)),
        Endpoint::Introspect if post => json(introspect::introspect(issuer, request)),
        Endpoint::Par if post => json(par::push(issuer, request)),
        Endpoint::Userinfo if get || post => userinfo::userinfo(issuer, request),
        Endpoint::Metadata
        | Endpoint::OpenidConfiguration
        | Endpoint::AuthorizationServer
        | Endpoint::Jwks
        | Endpoint::Authorize
        | Endpoint::StatusList => not_allowed("GET"),
        Endpoint::Token | Endpoint::Device | Endpoint::Revoke | Endpoint::Introspect | Endpoint::Par => {
            not_allowed("POST")
        }
        Endpoint::Userinfo => not_allowed("GET, POST"),
    }
}

async fn handle_page(issuer: &Issuer, page: Page, request: &Request) -> Result<Reply, OAuthError> {
    let (get, post) = (is_get(request), request.method == Method::POST);
    match page {
        Page::Home if get => Ok(pages::home(&issuer.options.path, &issuer.url)),
        Page::Continue if get => Ok(interaction::resume(issuer, request)),
        Page::UserCode if get => interaction::start(issuer, request, Purpose::EnterUserCode, None),
        Page::UserCode if post => device::submit_user_code(issuer, request),
        Page::Login if post => login::submit_password(issuer, request).await,
        Page::Otp if post => login::submit_otp(issuer, request),
        Page::Consent if post => consent::submit(issuer, request),
        Page::Logout if get => end_session::confirm(issuer, request),
        Page::Logout if post => end_session::submit(issuer, request),
        Page::Home | Page::Continue => Ok(not_allowed("GET")),
        Page::UserCode | Page::Logout => Ok(not_allowed("GET, POST")),
        Page::Login | Page::Otp | Page::Consent => Ok(not_allowed("POST")),
    }
}
