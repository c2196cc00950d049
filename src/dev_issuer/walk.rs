//! A person's walk through the pages: log in, one-time code, consent, and the pages for devices and logging out.

use std::time::Duration;

use aws_lc_rs::constant_time;
use hyper::{Method, StatusCode, header};
use url::{Host, Url};

use super::bounded::{Digest, hashed};
use super::device::{self, CodeRefused, decide, find_pending};
use super::keys::random_text;
use super::serve::{control_page, not_allowed};
use super::state::{Browser, Login, Purpose, State, Walk};
use super::token::{PasswordRefused, check_password};
use super::users::{Account, OtpRefused};
use super::wire::{OAuthError, Params, Reply, Request, see_other, set};
use super::{Core, authorize, pages};
use crate::secret::Secret;

/// How long a login lasts in a browser.
const BROWSER_TTL: Duration = Duration::from_secs(8 * 3600);
/// How long somebody may take over the pages.
const WALK_TTL: Duration = Duration::from_secs(600);

/// Answers a page; `page` is the path under the issuer's own.
pub(super) async fn page(core: &Core, page: &str, request: &Request) -> Reply {
    let get = request.method == Method::GET || request.method == Method::HEAD;
    let post = request.method == Method::POST;
    let answered = match page {
        page if page.starts_with("control/") => return control_page(core, page, request).await,
        "" if get => Ok(pages::home(&core.options.path, &core.issuer)),
        "continue" if get => Ok(go_on(core, request)),
        "device" if get => begin(core, request, Purpose::EnterCode, None),
        "logout" if get => begin_logout(core, request),
        "device" if post => device_code(core, request),
        "login" if post => login(core, request).await,
        "otp" if post => otp(core, request),
        "consent" if post => consent(core, request),
        "logout" if post => logout(core, request),
        "" | "continue" => return not_allowed("GET"),
        "device" | "logout" => return not_allowed("GET, POST"),
        _ => return not_allowed("POST"),
    };
    answered.unwrap_or_else(|error| pages::error(error.status, error.description))
}

/// Cookies do not tell ports apart, so that the name has to.
fn cookie_name(core: &Core) -> String {
    format!("authctl_dev_issuer_{}", core.address.port())
}

/// The browser that sent the request, where its cookie is known.
pub(super) fn browser_of<'a>(core: &Core, state: &'a State, request: &Request) -> Option<(Digest, &'a Browser)> {
    let name = cookie_name(core);
    let cookies = request.header(header::COOKIE)?;
    let value = cookies.split(';').find_map(|pair| pair.trim().strip_prefix(&name)?.strip_prefix('='))?;
    let digest = hashed(value);
    let browser = state.browsers.find(&digest).filter(|browser| core.now() < browser.ends)?;
    Some((digest, browser))
}

/// Remembers a browser under a new cookie, and gives the cookie.
fn new_browser(core: &Core, state: &mut State, browser: Browser) -> Result<(Digest, String), OAuthError> {
    let value = random_text()?;
    let digest = hashed(value.expose());
    state.browsers.insert(digest, browser);
    let path = if core.options.path.is_empty() { "/" } else { &core.options.path };
    Ok((digest, format!("{}={}; Path={path}; HttpOnly; SameSite=Lax", cookie_name(core), value.expose())))
}

/// Begins a walk and shows its first page.
pub(super) fn begin(
    core: &Core,
    request: &Request,
    purpose: Purpose,
    login: Option<Login>,
) -> Result<Reply, OAuthError> {
    let mut state = core.state();
    let (browser, cookie) = match browser_of(core, &state, request) {
        Some((digest, _)) => (digest, None),
        None => {
            let fresh = Browser { login: None, allowed: Vec::new(), ends: core.now().plus(BROWSER_TTL) };
            let (digest, cookie) = new_browser(core, &mut state, fresh)?;
            (digest, Some(cookie))
        }
    };
    let id = random_text()?;
    let ends = core.now().plus(WALK_TTL);
    let walk = Walk { browser, csrf: random_text()?, purpose, login, needs_otp: false, ends };
    let typed = request.query.one("user_code").unwrap_or_default();
    let mut reply = show(core, &state, &id, &walk, typed, StatusCode::OK, None);
    state.walks.insert(hashed(id.expose()), walk);
    if let Some(cookie) = cookie {
        set(&mut reply, header::SET_COOKIE, &cookie);
    }
    Ok(reply)
}

/// The page that a walk has come to.
fn show(
    core: &Core,
    state: &State,
    id: &Secret,
    walk: &Walk,
    typed: &str,
    status: StatusCode,
    message: Option<&str>,
) -> Reply {
    let form = pages::Form { base: &core.options.path, walk: id.expose(), csrf: walk.csrf.expose() };
    let who = match &walk.purpose {
        Purpose::EnterCode => return pages::user_code(status, &form, typed, message),
        Purpose::Logout(to) => return pages::logout(&form, to.as_deref().and_then(form_target).as_deref()),
        Purpose::Authorize(asked) => asked.client_id.clone(),
        Purpose::Device(device) => match state.devices.find(device) {
            Some(device) => device.client_id.clone(),
            None => return pages::error(StatusCode::GONE, "The code has expired. Start again on your device."),
        },
    };
    let Some(login) = &walk.login else {
        let hint = match &walk.purpose {
            Purpose::Authorize(asked) => asked.login_hint.as_deref().unwrap_or_default(),
            _ => "",
        };
        let typed = if typed.is_empty() { hint } else { typed };
        return pages::login(status, &form, typed, &who, message);
    };
    if walk.needs_otp {
        return pages::otp(status, &form, &login.user, message);
    }
    match &walk.purpose {
        Purpose::Authorize(asked) => {
            let target = form_target(&asked.redirect_uri);
            let (scopes, audiences) = (&asked.scopes, &asked.audiences);
            pages::consent(&form, &login.user, &who, scopes, audiences, None, target.as_deref())
        }
        Purpose::Device(device) => match state.devices.find(device) {
            Some(device) => {
                let code = device::shown(&device.user_code);
                let (scopes, audiences) = (&device.scopes, &device.audiences);
                pages::consent(&form, &login.user, &who, scopes, audiences, Some(&code), None)
            }
            None => pages::error(StatusCode::GONE, "The code has expired. Start again on your device."),
        },
        Purpose::EnterCode | Purpose::Logout(_) => pages::error(StatusCode::BAD_REQUEST, "This page is out of date."),
    }
}

/// The source for `form-action` that lets the browser follow a redirect to `uri`. Content Security Policy has no way to
/// write an IPv6 address, so that there it is the whole scheme.
fn form_target(uri: &str) -> Option<String> {
    let url = Url::parse(uri).ok()?;
    Some(match url.host()? {
        Host::Ipv4(ip) => format!("http://{ip}:{}", url.port_or_known_default()?),
        _ => "http:".to_owned(),
    })
}

fn out_of_date() -> OAuthError {
    OAuthError::bad("invalid_request", "This page is out of date. Start again from your program.")
}

/// Sends on to the walk's next page, with a GET, so that reloading it sends nothing twice.
fn onwards(core: &Core, id: &Secret, cookie: Option<String>) -> Reply {
    let mut reply = see_other(&format!("{}/continue?walk={}", core.options.path, id.expose()));
    if let Some(cookie) = cookie {
        set(&mut reply, header::SET_COOKIE, &cookie);
    }
    reply
}

/// The walk with this id, where it is this browser's.
fn walk_of<'a>(core: &Core, state: &'a State, request: &Request, id: &str) -> Option<&'a Walk> {
    let browser = browser_of(core, state, request).map(|(digest, _)| digest)?;
    state.walks.find(&hashed(id)).filter(|walk| walk.browser == browser && core.now() < walk.ends)
}

/// The form of a walk, where browser and CSRF token are right.
fn form_of(core: &Core, state: &State, request: &Request) -> Result<(Params, Secret), OAuthError> {
    let form = request.form()?;
    let id = Secret::new(form.one("walk").ok_or_else(out_of_date)?.to_owned());
    let csrf = form.one("csrf").ok_or_else(out_of_date)?;
    let walk = walk_of(core, state, request, id.expose()).ok_or_else(out_of_date)?;
    constant_time::verify_slices_are_equal(walk.csrf.expose().as_bytes(), csrf.as_bytes())
        .map_err(|_| out_of_date())?;
    Ok((form, id))
}

fn go_on(core: &Core, request: &Request) -> Reply {
    let state = core.state();
    let id = Secret::new(request.query.one("walk").unwrap_or_default().to_owned());
    match walk_of(core, &state, request, id.expose()) {
        Some(walk) => show(core, &state, &id, walk, "", StatusCode::OK, None),
        None => pages::error(StatusCode::BAD_REQUEST, out_of_date().description),
    }
}

async fn login(core: &Core, request: &Request) -> Result<Reply, OAuthError> {
    let (form, id) = form_of(core, &core.state(), request)?;
    let name = form.one("username").unwrap_or_default().trim().to_owned();
    let checked = check_password(core, &name, form.one("password").unwrap_or_default()).await;
    let mut state = core.state();
    let state = &mut *state;
    let Some(walk) = state.walks.find_mut(&hashed(id.expose())) else { return Err(out_of_date()) };
    match checked {
        Ok(login) => {
            walk.needs_otp = state.accounts.find(&name).is_some_and(Account::has_second_factor);
            walk.login = Some(login);
            let cookie = if walk.needs_otp { None } else { Some(logged_in(core, state, &id)?) };
            Ok(onwards(core, &id, cookie))
        }
        Err(refused) => {
            let (status, message) = match refused {
                PasswordRefused::Wrong => (StatusCode::FORBIDDEN, "Wrong user name or password.".to_owned()),
                PasswordRefused::TooMany(seconds) => {
                    (StatusCode::TOO_MANY_REQUESTS, format!("Too many tries. Try again in {seconds} seconds."))
                }
            };
            let Some(walk) = state.walks.find(&hashed(id.expose())) else { return Err(out_of_date()) };
            Ok(show(core, state, &id, walk, &name, status, Some(&message)))
        }
    }
}

/// Notes a finished login under a new cookie, so that a cookie known from before it is worth nothing.
fn logged_in(core: &Core, state: &mut State, id: &Secret) -> Result<String, OAuthError> {
    let hash = hashed(id.expose());
    let (old, login) = {
        let walk = state.walks.find(&hash).ok_or_else(out_of_date)?;
        (walk.browser, walk.login.clone())
    };
    let same_user = |b: &Browser| b.login.as_ref().map(|l| &l.user) == login.as_ref().map(|l| &l.user);
    let allowed = state.browsers.remove(&old).filter(same_user).map(|b| b.allowed).unwrap_or_default();
    let browser = Browser { login, allowed, ends: core.now().plus(BROWSER_TTL) };
    let (digest, cookie) = new_browser(core, state, browser)?;
    // Walks in other tabs of the same browser go on.
    for walk in state.walks.values_mut() {
        if walk.browser == old {
            walk.browser = digest;
        }
    }
    state.stats.logins += 1;
    Ok(cookie)
}

fn otp(core: &Core, request: &Request) -> Result<Reply, OAuthError> {
    let mut state = core.state();
    let state = &mut *state;
    let (form, id) = form_of(core, state, request)?;
    let walk = state.walks.find_mut(&hashed(id.expose())).filter(|walk| walk.needs_otp).ok_or_else(out_of_date)?;
    let login = walk.login.as_mut().ok_or_else(out_of_date)?;
    let code: String = form.one("otp").unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    match state.accounts.check_otp(&login.user, &code, core.options.clock.monotonic(), core.now()) {
        Ok(()) => {
            login.otp = true;
            walk.needs_otp = false;
            let cookie = logged_in(core, state, &id)?;
            Ok(onwards(core, &id, Some(cookie)))
        }
        Err(refused) => {
            let (status, message) = match refused {
                OtpRefused::Wrong => (StatusCode::FORBIDDEN, "Wrong code. Each code works once.".to_owned()),
                OtpRefused::TooMany(seconds) => {
                    (StatusCode::TOO_MANY_REQUESTS, format!("Too many tries. Try again in {seconds} seconds."))
                }
            };
            state.stats.wrong_tries += 1;
            let walk = state.walks.find(&hashed(id.expose())).ok_or_else(out_of_date)?;
            Ok(show(core, state, &id, walk, "", status, Some(&message)))
        }
    }
}

fn consent(core: &Core, request: &Request) -> Result<Reply, OAuthError> {
    let (walk, login, allowed) = {
        let mut state = core.state();
        let (form, id) = form_of(core, &state, request)?;
        let allowed = form.one("decision") == Some("allow");
        let hash = hashed(id.expose());
        let ready = state.walks.find(&hash).is_some_and(|walk| walk.login.is_some() && !walk.needs_otp);
        let walk = if ready { state.walks.remove(&hash) } else { None }.ok_or_else(out_of_date)?;
        let login = walk.login.clone().filter(|login| state.stands(login)).ok_or_else(out_of_date)?;
        if allowed
            && let Purpose::Authorize(asked) = &walk.purpose
            && let Some(browser) = state.browsers.find_mut(&walk.browser)
        {
            let pair = (asked.client_id.clone(), asked.scopes.join(" "));
            if browser.allowed.len() < 64 && !browser.allowed.contains(&pair) {
                browser.allowed.push(pair);
            }
        }
        (walk, login, allowed)
    };
    match &walk.purpose {
        Purpose::Authorize(asked) if allowed => authorize::send_code(core, asked, login),
        Purpose::Authorize(asked) => {
            let denied = OAuthError::bad("access_denied", "the user said no");
            Ok(authorize::send_error(core, &asked.redirect_uri, asked.state.as_deref(), &denied))
        }
        Purpose::Device(device) => {
            let decided = decide(core, &mut core.state(), device, allowed.then_some(login));
            Ok(match (decided, allowed) {
                (false, _) => pages::error(StatusCode::GONE, "The code has expired. Start again on your device."),
                (true, true) => pages::notice("Connected", "You can close this page and go back to your device."),
                (true, false) => pages::notice("Denied", "Nothing was allowed. You can close this page."),
            })
        }
        Purpose::EnterCode | Purpose::Logout(_) => Err(out_of_date()),
    }
}

fn device_code(core: &Core, request: &Request) -> Result<Reply, OAuthError> {
    let mut state = core.state();
    let (form, id) = form_of(core, &state, request)?;
    let typed = form.one("user_code").unwrap_or_default();
    let known = browser_of(core, &state, request).and_then(|(_, browser)| browser.login.clone());
    let known = known.filter(|login| state.stands(login));
    match find_pending(core, &mut state, typed) {
        Ok(device) => {
            let walk = state.walks.find_mut(&hashed(id.expose())).ok_or_else(out_of_date)?;
            walk.purpose = Purpose::Device(device);
            walk.login = known;
            Ok(onwards(core, &id, None))
        }
        Err(refused) => {
            let (status, message) = match refused {
                CodeRefused::Unknown => (StatusCode::NOT_FOUND, "No device waits with this code. Check it."),
                CodeRefused::TooManyTries => (StatusCode::TOO_MANY_REQUESTS, "Too many wrong codes. Wait a minute."),
            };
            let walk = state.walks.find(&hashed(id.expose())).ok_or_else(out_of_date)?;
            Ok(show(core, &state, &id, walk, typed, status, Some(message)))
        }
    }
}

/// RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0): always asks the person first.
fn begin_logout(core: &Core, request: &Request) -> Result<Reply, OAuthError> {
    let to = match request.query.one("post_logout_redirect_uri") {
        None => None,
        Some(uri) if authorize::is_loopback_redirect(uri) => {
            let mut url = Url::parse(uri).map_err(|_| out_of_date())?;
            if let Some(state) = request.query.one("state") {
                url.query_pairs_mut().append_pair("state", state);
            }
            Some(url.to_string())
        }
        Some(_) => {
            return Err(OAuthError::invalid_request("The address to return to must be http on 127.0.0.1 or [::1]."));
        }
    };
    begin(core, request, Purpose::Logout(to), None)
}

fn logout(core: &Core, request: &Request) -> Result<Reply, OAuthError> {
    let mut state = core.state();
    let (_, id) = form_of(core, &state, request)?;
    let walk = state.walks.remove(&hashed(id.expose())).ok_or_else(out_of_date)?;
    let Purpose::Logout(to) = walk.purpose else { return Err(out_of_date()) };
    state.browsers.remove(&walk.browser);
    Ok(match to {
        Some(to) => see_other(&to),
        None => pages::notice("Logged out", "Your login in this browser has ended."),
    })
}
