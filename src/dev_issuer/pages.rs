//! The HTML that people see: no scripts, nothing loaded from anywhere, every text escaped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::{StatusCode, header};

use super::bounded::hashed;
use super::wire::{Reply, bytes_reply, set};

const STYLE: &str = include_str!("style.css");

/// What each form carries besides what is typed.
pub(super) struct Form<'a> {
    /// The issuer's path.
    pub(super) base: &'a str,
    pub(super) walk: &'a str,
    pub(super) csrf: &'a str,
}

impl Form<'_> {
    fn open(&self, page: &str) -> String {
        format!(
            r#"<form method="post" action="{}/{page}"><input type="hidden" name="walk" value="{}"><input type="hidden" name="csrf" value="{}">"#,
            escaped(self.base),
            escaped(self.walk),
            escaped(self.csrf)
        )
    }
}

/// Text made safe for element content and quoted attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Nothing that could turn the text around or hide in it.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                out.push('\u{fffd}');
            }
            c => out.push(c),
        }
    }
    out
}

/// `target` is where a form's answer may lead to besides this server: Chromium applies `form-action` to redirects too.
fn page(status: StatusCode, title: &str, main: &str, target: Option<&str>) -> Reply {
    let html = format!(
        r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex"><title>{title} - authctl dev issuer</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>{main}</main><footer>authctl dev issuer, on this machine only. For trying things out.</footer></body></html>"#,
        title = escaped(title),
    );
    let mut reply = bytes_reply(status, "text/html; charset=utf-8", Bytes::from(html));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'self'{}{}; frame-ancestors 'none'; base-uri 'none'",
        STANDARD.encode(hashed(STYLE)),
        if target.is_some() { " " } else { "" },
        target.unwrap_or_default(),
    );
    set(&mut reply, header::CONTENT_SECURITY_POLICY, &policy);
    set(&mut reply, header::X_FRAME_OPTIONS, "DENY");
    set(&mut reply, header::REFERRER_POLICY, "no-referrer");
    set(&mut reply, header::CACHE_CONTROL, "no-store");
    reply
}

fn complaint(message: Option<&str>) -> String {
    message.map(|m| format!(r#"<p class="bad" role="alert">{}</p>"#, escaped(m))).unwrap_or_default()
}

/// A page that says something and asks nothing.
pub(super) fn notice(title: &str, text: &str) -> Reply {
    page(StatusCode::OK, title, &format!("<p>{}</p>", escaped(text)), None)
}

/// A page that says what is wrong.
pub(super) fn error(status: StatusCode, text: &str) -> Reply {
    page(status, "That did not work", &complaint(Some(text)), None)
}

/// What the issuer says at its own address.
pub(super) fn home(base: &str, issuer: &str) -> Reply {
    let main = format!(
        r#"<p>An OAuth 2.0 and OpenID Connect issuer for trying things out is running here.</p><ul><li>Issuer<code>{}</code></li><li><a href="{base}/.well-known/openid-configuration">Metadata</a></li><li><a href="{base}/device">Enter a device code</a></li></ul>"#,
        escaped(issuer),
        base = escaped(base),
    );
    page(StatusCode::OK, "It works", &main, None)
}

/// Asks for user name and password.
pub(super) fn login(status: StatusCode, form: &Form<'_>, name: &str, who: &str, message: Option<&str>) -> Reply {
    let (on_name, on_password) = if name.is_empty() { (" autofocus", "") } else { ("", " autofocus") };
    let main = format!(
        r#"<p class="soft">to continue to <strong>{}</strong></p>{}{}<label for="username">User name</label><input id="username" name="username" value="{}" autocomplete="username" autocapitalize="none" spellcheck="false" required{on_name}><label for="password">Password</label><input id="password" name="password" type="password" autocomplete="current-password" required{on_password}><div class="buttons"><button id="login">Log in</button></div></form>"#,
        escaped(who),
        complaint(message),
        form.open("login"),
        escaped(name),
    );
    page(status, "Log in", &main, None)
}

/// Asks for the one-time code.
pub(super) fn otp(status: StatusCode, form: &Form<'_>, name: &str, message: Option<&str>) -> Reply {
    let main = format!(
        r#"<p class="soft">Logging in as <strong>{}</strong></p>{}{}<label for="otp">Six digits from your authenticator</label><input id="otp" name="otp" class="code" inputmode="numeric" autocomplete="one-time-code" pattern="[0-9 ]*" maxlength="8" required autofocus><div class="buttons"><button id="login">Continue</button></div></form>"#,
        escaped(name),
        complaint(message),
        form.open("otp"),
    );
    page(status, "One-time code", &main, None)
}

fn meaning(scope: &str) -> &'static str {
    match scope {
        "openid" => "Know who you are",
        "profile" => "Read your name",
        "email" => "Read your email address",
        "offline_access" => "Stay logged in until you log out",
        _ => "Use this scope",
    }
}

/// Asks whether the client may have what it wants. `user_code` is shown for a device.
pub(super) fn consent(
    form: &Form<'_>,
    name: &str,
    client: &str,
    scopes: &[String],
    audiences: &[String],
    user_code: Option<&str>,
    target: Option<&str>,
) -> Reply {
    let mut items: String =
        scopes.iter().map(|scope| format!("<li>{}<code>{}</code></li>", meaning(scope), escaped(scope))).collect();
    items.extend(audiences.iter().map(|to| format!("<li>Get a token for<code>{}</code></li>", escaped(to))));
    if items.is_empty() {
        items.push_str("<li>Get a token without any scope</li>");
    }
    let device = user_code.map(|code| {
        format!(
            r#"<p class="usercode">{}</p><p class="note">Only continue if you started this yourself, on your own machine, and it shows this code. Whoever sent you a link to this page would get your access.</p>"#,
            escaped(code)
        )
    });
    let main = format!(
        r#"<p class="soft">Logged in as <strong>{}</strong></p>{}<p><strong>{}</strong> wants to:</p><ul>{items}</ul>{}<div class="buttons"><button id="deny" name="decision" value="deny" class="plain">Deny</button><button id="allow" name="decision" value="allow">Allow</button></div></form>"#,
        escaped(name),
        device.unwrap_or_default(),
        escaped(client),
        form.open("consent"),
    );
    page(StatusCode::OK, "Allow access?", &main, target)
}

/// Asks for the code that a device shows.
pub(super) fn user_code(status: StatusCode, form: &Form<'_>, code: &str, message: Option<&str>) -> Reply {
    let main = format!(
        r#"<p class="soft">Enter the code that your terminal or device shows. If it stands here already, compare the two.</p>{}{}<label for="user_code">Code</label><input id="user_code" name="user_code" value="{}" class="code" autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="16" required autofocus><div class="buttons"><button id="continue">Continue</button></div></form>"#,
        complaint(message),
        form.open("device"),
        escaped(code),
    );
    page(status, "Connect a device", &main, None)
}

/// Asks whether to log out.
pub(super) fn logout(form: &Form<'_>, target: Option<&str>) -> Reply {
    let main = format!(
        r#"<p>This ends your login in this browser. Programs that you allowed keep what they have.</p>{}<div class="buttons"><button id="logout">Log out</button></div></form>"#,
        form.open("logout"),
    );
    page(StatusCode::OK, "Log out?", &main, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_an_attribute_or_an_element() {
        let text = escaped("\"'><script>&\u{202e}\n");
        assert_eq!(text, "&quot;&#39;&gt;&lt;script&gt;&amp;\u{fffd}\u{fffd}");
    }
}
