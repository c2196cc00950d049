//! The HTML pages: no scripts, no external resources, all text escaped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::{StatusCode, header};

use super::crypto::hash;
use super::http::{Reply, bytes_reply, set_header};
use crate::text::html::{self, STYLE, escape};

/// The hidden fields of a form.
pub(super) struct Form<'a> {
    /// The issuer's path.
    pub(super) base: &'a str,
    pub(super) interaction: &'a str,
    pub(super) csrf: &'a str,
}

impl Form<'_> {
    fn open(&self, page: &str) -> String {
        format!(
            r#"<form method="post" action="{}/{page}"><input type="hidden" name="interaction" value="{}"><input type="hidden" name="csrf" value="{}">"#,
            escape(self.base),
            escape(self.interaction),
            escape(self.csrf)
        )
    }
}

/// Returns a page. `target` is an origin that a form's reply may redirect to: Chromium applies `form-action` to redirects
/// too.
fn page(status: StatusCode, title: &str, main: &str, target: Option<&str>) -> Reply {
    let footer = "authctl dev issuer, for testing on this machine only";
    let html = html::page(title, "authctl dev issuer", main, footer);
    let mut reply = bytes_reply(status, "text/html; charset=utf-8", Bytes::from(html));
    let policy = format!(
        "default-src 'none'; img-src data:; style-src 'sha256-{}'; form-action 'self'{}{}; frame-ancestors 'none'; base-uri 'none'",
        STANDARD.encode(hash(STYLE)),
        if target.is_some() { " " } else { "" },
        target.unwrap_or_default(),
    );
    set_header(&mut reply, header::CONTENT_SECURITY_POLICY, &policy);
    set_header(&mut reply, header::X_FRAME_OPTIONS, "DENY");
    set_header(&mut reply, header::REFERRER_POLICY, "no-referrer");
    set_header(&mut reply, header::CACHE_CONTROL, "no-store");
    reply
}

fn error_message(message: Option<&str>) -> String {
    message.map(html::error_message).unwrap_or_default()
}

/// Returns a page with a text.
pub(super) fn notice(title: &str, text: &str) -> Reply {
    page(StatusCode::OK, title, &format!("<p>{}</p>", escape(text)), None)
}

/// Returns an error page.
pub(super) fn error(status: StatusCode, text: &str) -> Reply {
    page(status, "Error", &error_message(Some(text)), None)
}

/// Returns the page at the issuer's own address.
pub(super) fn home(base: &str, issuer: &str) -> Reply {
    let main = format!(
        r#"<p>This is an OAuth 2.0 and OpenID Connect issuer for testing.</p><ul><li>Issuer<code>{}</code></li><li><a href="{base}/.well-known/openid-configuration">Metadata</a></li><li><a href="{base}/device">Enter a device code</a></li></ul>"#,
        escape(issuer),
        base = escape(base),
    );
    page(StatusCode::OK, "Test issuer", &main, None)
}

/// Returns the page that asks for user name and password.
pub(super) fn login(status: StatusCode, form: &Form<'_>, user: &str, client: &str, message: Option<&str>) -> Reply {
    let (focus_user, focus_password) = if user.is_empty() { (" autofocus", "") } else { ("", " autofocus") };
    let main = format!(
        r#"<p class="soft">to continue to <strong>{}</strong></p>{}{}<label for="username">User name</label><input id="username" name="username" value="{}" autocomplete="username" autocapitalize="none" spellcheck="false" required{focus_user}><label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password" required{focus_password}><div class="buttons"><button id="login">Log in</button></div></form>"#,
        escape(client),
        error_message(message),
        form.open("login"),
        escape(user),
    );
    page(status, "Log in", &main, None)
}

/// Returns the page that asks for the one-time code.
pub(super) fn otp(status: StatusCode, form: &Form<'_>, user: &str, message: Option<&str>) -> Reply {
    let main = format!(
        r#"<p class="soft">Logging in as <strong>{}</strong></p>{}{}<label for="otp">Six-digit code from your authenticator app</label><input id="otp" name="otp" class="code" inputmode="numeric" autocomplete="one-time-code" pattern="[0-9 ]*" maxlength="8" required autofocus><div class="buttons"><button id="login">Continue</button></div></form>"#,
        escape(user),
        error_message(message),
        form.open("otp"),
    );
    page(status, "One-time code", &main, None)
}

fn describe_scope(scope: &str) -> &'static str {
    match scope {
        "openid" => "See your user ID",
        "profile" => "See your name",
        "email" => "See your email address",
        "offline_access" => "Stay logged in until you log out",
        _ => "Use this scope",
    }
}

/// What the consent page is about.
pub(super) struct Consent<'a> {
    pub(super) client: &'a str,
    pub(super) scopes: &'a [String],
    pub(super) audiences: &'a [String],
    /// The user code of a device.
    pub(super) user_code: Option<String>,
    /// The origin of the redirect URI.
    pub(super) target: Option<String>,
}

/// Returns the page that asks whether to allow access.
pub(super) fn consent(form: &Form<'_>, user: &str, request: &Consent<'_>) -> Reply {
    let scope = |scope: &String| format!("<li>{}<code>{}</code></li>", describe_scope(scope), escape(scope));
    let audience = |audience: &String| format!("<li>Get a token for<code>{}</code></li>", escape(audience));
    let mut items: String = request.scopes.iter().map(scope).collect();
    items.extend(request.audiences.iter().map(audience));
    if items.is_empty() {
        items.push_str("<li>Get a token without any scope</li>");
    }
    let device = request.user_code.as_ref().map(|code| {
        format!(
            r#"<p class="usercode">{}</p><p class="note">Only continue if you started this yourself and your own device shows this code. If you got the link to this page from someone else, they will get access in your name.</p>"#,
            escape(code)
        )
    });
    let main = format!(
        r#"<p class="soft">Logged in as <strong>{}</strong></p>{}<p><strong>{}</strong> wants to:</p><ul>{items}</ul>{}<div class="buttons"><button id="deny" name="decision" value="deny" class="plain">Deny</button><button id="allow" name="decision" value="allow">Allow</button></div></form>"#,
        escape(user),
        device.unwrap_or_default(),
        escape(request.client),
        form.open("consent"),
    );
    page(StatusCode::OK, "Allow access?", &main, request.target.as_deref())
}

/// Returns the page that asks for the code of a device.
pub(super) fn user_code(status: StatusCode, form: &Form<'_>, code: &str, message: Option<&str>) -> Reply {
    let main = format!(
        r#"<p class="soft">Enter the code that your terminal or device shows. If it is already filled in, compare the two.</p>{}{}<label for="user_code">Code</label><input id="user_code" name="user_code" value="{}" class="code" autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="16" required autofocus><div class="buttons"><button id="continue">Continue</button></div></form>"#,
        error_message(message),
        form.open("device"),
        escape(code),
    );
    page(status, "Connect a device", &main, None)
}

/// Returns the page that asks whether to log out.
pub(super) fn logout(form: &Form<'_>, target: Option<&str>) -> Reply {
    let main = format!(
        r#"<p>You will be logged out in this browser. Programs that you allowed keep their access.</p>{}<div class="buttons"><button id="logout">Log out</button></div></form>"#,
        form.open("logout"),
    );
    page(StatusCode::OK, "Log out?", &main, target)
}
