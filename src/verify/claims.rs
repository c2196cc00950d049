//! Checks a token's claims by a policy (RFC 7519, section 4.1).

use serde_json::{Map, Value};

use super::checks::Checks;
use super::policy::Policy;
use super::reason::{Reason, ReasonCode, quoted, quoted_list};
use crate::clock::UnixTime;

/// The latest NumericDate: the end of the year 9999. An `exp` in milliseconds is later.
const LATEST: f64 = 253_402_300_799.0;

/// Checks the claims of an access token or ID token.
pub(super) fn check_claims(claims: &Map<String, Value>, policy: &Policy, checks: &mut Checks) {
    let mut these = ClaimChecks { claims, policy, checks, current: "exp" };
    these.expiry(true);
    these.not_before();
    these.check("iss", ClaimChecks::issuer, |these| these.shown("iss"));
    these.check("aud", ClaimChecks::audience, |these| these.shown("aud"));
    these.string_claims();
    these.scopes();
    these.required_claims();
    these.authentication();
}

/// Checks the claims of a status list token (Token Status List, section 5.1). It has no audience, and `exp` and `iss` are
/// optional.
pub(super) fn check_status_list_claims(claims: &Map<String, Value>, policy: &Policy, checks: &mut Checks) {
    let mut these = ClaimChecks { claims, policy, checks, current: "iat" };
    these.require("iat");
    these.expiry(false);
    these.not_before();
    if claims.contains_key("iss") {
        these.issuer();
    }
    these.require("sub");
    these.string_claims();
}

/// Returns a claim of one or several texts for a message; `None` for another value.
pub(super) fn shown_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(quoted(text)),
        Value::Array(items) => Some(quoted_list(&items.iter().map(element_text).collect::<Vec<_>>())),
        _ => None,
    }
}

struct ClaimChecks<'a> {
    claims: &'a Map<String, Value>,
    policy: &'a Policy,
    checks: &'a mut Checks,
    /// The claim that is being checked.
    current: &'static str,
}

impl ClaimChecks<'_> {
    fn deny(&mut self, code: ReasonCode, message: impl AsRef<str>) {
        self.checks.deny(self.current, Reason::new(code, message));
    }

    /// Runs `look` on a claim, and records a passed check with the text that `found` returns unless `look` has denied it.
    fn check(&mut self, at: &'static str, look: impl FnOnce(&mut Self), found: impl FnOnce(&Self) -> Option<String>) {
        let before = self.checks.reasons.len();
        self.current = at;
        look(self);
        if self.checks.steps.is_some()
            && self.checks.reasons.len() == before
            && let Some(found) = found(self)
        {
            self.checks.pass(at, || found);
        }
    }

    /// Returns a claim's value for a message.
    fn shown(&self, name: &str) -> Option<String> {
        let value = self.claims.get(name)?;
        Some(shown_text(value).unwrap_or_else(|| quoted(&value.to_string())))
    }

    /// Returns a NumericDate claim. An invalid one is reported, and then counts as absent.
    fn numeric_date(&mut self, name: &str) -> Option<UnixTime> {
        let value = self.claims.get(name)?;
        let moment = numeric_date(value);
        if moment.is_none() {
            let message = format!("claim `{name}` is not a number of seconds since 1970, before the year 10000");
            self.deny(ReasonCode::Malformed, message);
        }
        moment
    }

    fn missing(&mut self, name: &str) {
        self.checks.deny(self.current, Reason::missing_claim(name));
    }

    fn is_optional(&self, name: &str) -> bool {
        self.policy.optional_claims.iter().any(|claim| claim == name)
    }

    fn require(&mut self, name: &str) {
        if !self.claims.contains_key(name) {
            self.missing(name);
        }
    }

    /// Checks `exp`, which is optional only in a status list.
    fn expiry(&mut self, required: bool) {
        let (now, leeway) = (self.policy.now, self.policy.bounded_leeway());
        let look = |these: &mut Self| {
            if required {
                these.require("exp");
            }
            if let Some(exp) = these.numeric_date("exp").filter(|exp| now >= exp.plus(leeway)) {
                let message = format!("expired at {exp}; it is {now} (leeway {} s)", leeway.as_secs());
                these.deny(ReasonCode::Expired, message);
            }
        };
        let end = |these: &Self| these.claims.get("exp").and_then(numeric_date);
        self.check("exp", look, |these| {
            end(these).map(|exp| format!("expires at {exp}; it is {now} (leeway {} s)", leeway.as_secs()))
        });
    }

    fn not_before(&mut self) {
        let (now, leeway) = (self.policy.now, self.policy.bounded_leeway());
        for (name, early, passed) in
            [("nbf", "not valid before", "valid from"), ("iat", "issued in the future, at", "issued at")]
        {
            let look = |these: &mut Self| {
                if let Some(from) = these.numeric_date(name).filter(|from| *from > now.plus(leeway)) {
                    let message = format!("{early} {from}; it is {now} (leeway {} s)", leeway.as_secs());
                    these.deny(ReasonCode::NotYetValid, message);
                }
            };
            self.check(name, look, |these| {
                these.claims.get(name).and_then(numeric_date).map(|from| format!("{passed} {from}"))
            });
        }
    }

    fn issuer(&mut self) {
        match self.claims.get("iss") {
            None if self.is_optional("iss") => {}
            None => self.missing("iss"),
            Some(Value::String(iss)) if *iss == self.policy.issuer => {}
            Some(Value::String(iss)) => {
                let message = format!("expected issuer {}, found {}", quoted(&self.policy.issuer), quoted(iss));
                self.deny(ReasonCode::WrongIssuer, message);
            }
            Some(_) => self.deny(ReasonCode::Malformed, "claim `iss` is not a string"),
        }
    }

    fn audience(&mut self) {
        let found = match self.claims.get("aud") {
            None if self.is_optional("aud") => return,
            None => return self.missing("aud"),
            Some(aud) => strings(aud),
        };
        let Some(found) = found else {
            return self.deny(ReasonCode::Malformed, "claim `aud` is not a string or an array of strings");
        };
        if !self.policy.audiences.iter().any(|expected| found.contains(&expected.as_str())) {
            let expected = quoted_list(&self.policy.audiences);
            self.deny(
                ReasonCode::WrongAudience,
                format!("expected audience {expected}, found {}", quoted_list(&found)),
            );
        }
    }

    /// Checks the other registered claims, which must be strings if present.
    fn string_claims(&mut self) {
        for name in ["sub", "jti", "client_id", "azp"] {
            let look = |these: &mut Self| {
                if these.claims.get(name).is_some_and(|v| !v.is_string()) {
                    these.deny(ReasonCode::Malformed, format!("claim `{name}` is not a string"));
                }
            };
            self.check(name, look, |these| these.shown(name));
        }
    }

    fn scopes(&mut self) {
        if self.policy.scopes.is_empty() {
            return;
        }
        let policy = self.policy;
        self.check("scope", Self::required_scopes, |_| Some(format!("{} granted", quoted_list(&policy.scopes))));
    }

    fn required_scopes(&mut self) {
        let Some(value) = self.claims.get("scope").or_else(|| self.claims.get("scp")) else {
            return self.missing("scope");
        };
        let Some(granted) = strings(value) else {
            return self.deny(ReasonCode::Malformed, "claim `scope` is not a string or an array of strings");
        };
        let granted: Vec<&str> = granted.into_iter().flat_map(|s| s.split(' ')).filter(|s| !s.is_empty()).collect();
        let missing: Vec<&String> = self.policy.scopes.iter().filter(|s| !granted.contains(&s.as_str())).collect();
        if !missing.is_empty() {
            let message = format!("missing scope {}; granted: {}", quoted_list(&missing), quoted_list(&granted));
            self.deny(ReasonCode::ClaimMismatch, message);
        }
    }

    fn required_claims(&mut self) {
        self.current = "claim";
        for (name, expected) in &self.policy.claims {
            match self.claims.get(name) {
                None => self.deny(ReasonCode::MissingClaim, format!("claim {} is missing", quoted(name))),
                Some(value) if has_value(value, expected) => {
                    self.checks.pass("claim", || format!("claim {} is {}", quoted(name), quoted(expected)));
                }
                Some(value) => {
                    let found = match value {
                        Value::String(text) => quoted(text),
                        other => quoted(&other.to_string()),
                    };
                    let message = format!("expected claim {} to be {}, found {found}", quoted(name), quoted(expected));
                    self.deny(ReasonCode::ClaimMismatch, message);
                }
            }
        }
    }

    /// Checks how and when the user authenticated (OpenID Connect Core, section 2; RFC 9068, section 2.2.1; RFC 9470).
    fn authentication(&mut self) {
        self.check("auth_time", Self::auth_time, |these| {
            these.claims.get("auth_time").and_then(numeric_date).map(|at| format!("the user authenticated at {at}"))
        });
        let policy = self.policy;
        for accepted in [&policy.acr, &policy.required_acr] {
            if !accepted.is_empty() {
                self.check("acr", |these| these.acr(accepted), |these| these.shown("acr"));
            }
        }
        if !self.policy.amr.is_empty() {
            self.check("amr", Self::amr, |these| these.shown("amr"));
        }
    }

    fn auth_time(&mut self) {
        let (now, leeway) = (self.policy.now, self.policy.bounded_leeway());
        let auth_time = self.numeric_date("auth_time");
        if let Some(at) = auth_time.filter(|at| *at > now.plus(leeway)) {
            self.deny(ReasonCode::NotYetValid, format!("the user authenticated in the future, at {at}; it is {now}"));
        }
        if let Some(max_age) = self.policy.max_auth_age {
            match auth_time {
                None if !self.claims.contains_key("auth_time") => self.missing("auth_time"),
                Some(at) if now > at.plus(max_age).plus(leeway) => {
                    let message = format!("the user authenticated at {at}, more than {} s ago", max_age.as_secs());
                    self.deny(ReasonCode::ClaimMismatch, message);
                }
                _ => {}
            }
        }
    }

    fn acr(&mut self, accepted: &[String]) {
        match self.claims.get("acr") {
            None => self.missing("acr"),
            Some(Value::String(acr)) if accepted.contains(acr) => {}
            Some(Value::String(acr)) => {
                let expected = quoted_list(accepted);
                self.deny(ReasonCode::ClaimMismatch, format!("expected acr {expected}, found {}", quoted(acr)));
            }
            Some(_) => self.deny(ReasonCode::Malformed, "claim `acr` is not a string"),
        }
    }

    fn amr(&mut self) {
        match self.claims.get("amr").map(|amr| (amr.is_array(), strings(amr))) {
            None => self.missing("amr"),
            Some((true, Some(found))) => {
                let missing: Vec<&String> = self.policy.amr.iter().filter(|m| !found.contains(&m.as_str())).collect();
                if !missing.is_empty() {
                    let message = format!("missing amr {}; found {}", quoted_list(&missing), quoted_list(&found));
                    self.deny(ReasonCode::ClaimMismatch, message);
                }
            }
            Some(_) => self.deny(ReasonCode::Malformed, "claim `amr` is not an array of strings"),
        }
    }
}

/// Returns an array's element as text.
fn element_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Parses a NumericDate (RFC 7519, section 2), rounded up to whole seconds. With a clock of whole seconds, `now < exp` and
/// `nbf <= now` are then the same as for the exact fraction.
pub(super) fn numeric_date(value: &Value) -> Option<UnixTime> {
    let Value::Number(number) = value else { return None };
    let seconds = number.as_f64().filter(|s| s.is_finite() && (0.0..=LATEST).contains(s))?;
    #[allow(clippy::cast_possible_truncation, reason = "it lies between 0 and LATEST, where f64 holds each integer")]
    let whole = seconds.ceil() as i64;
    Some(UnixTime(whole))
}

/// Returns a string, or an array of strings, as a list.
pub(super) fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(texts) => texts.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Returns whether a claim is `expected` as text, or an array of which one string is.
fn has_value(value: &Value, expected: &str) -> bool {
    match value {
        Value::String(text) => text == expected,
        Value::Bool(truth) => expected == if *truth { "true" } else { "false" },
        Value::Number(number) => number.to_string() == expected,
        Value::Array(values) => values.iter().any(|v| v.as_str() == Some(expected)),
        Value::Null | Value::Object(_) => false,
    }
}

/// Returns the claim that marks a token without an explicit type as an ID token, which must not be accepted as an access
/// token (RFC 9068, section 5; RFC 8725, section 3.12).
pub(super) fn id_token_feature(typ: Option<&str>, claims: &Map<String, Value>) -> Option<&'static str> {
    if typ.is_some_and(|typ| typ.to_ascii_lowercase().ends_with("at+jwt")) {
        return None;
    }
    let has_value = |name: &str, value: &str| claims.get(name).and_then(Value::as_str) == Some(value);
    let has = |name: &str| claims.contains_key(name);
    // Hashes of the token or code that was issued with it (OpenID Connect Core 1.0, sections 3.1.3.6 and 3.3.2.11).
    if has("at_hash") || has("c_hash") || has("s_hash") {
        Some("a hash of another token (`at_hash`, `c_hash` or `s_hash`)")
    } else if has_value("typ", "ID") || has_value("token_use", "id") {
        Some("an ID token's `typ` or `token_use`")
    } else if has("nonce") && !has_value("typ", "Bearer") {
        // Some issuers put the nonce in access tokens too, but mark those with `typ`.
        Some("a login's `nonce`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
