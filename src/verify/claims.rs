//! Judges a token's claims against a policy (RFC 7519, section 4.1).

use serde_json::{Map, Value};

use super::findings::Findings;
use super::policy::Policy;
use super::reason::{Reason, ReasonCode, quoted, quoted_list};
use crate::clock::UnixTime;

/// The latest moment that a NumericDate may name: the end of the year 9999. A `exp` in milliseconds lies beyond it.
const LATEST: f64 = 253_402_300_799.0;

/// Notes every reason that the claims give for a denial under `policy`.
pub(super) fn judge(claims: &Map<String, Value>, policy: &Policy, findings: &mut Findings) {
    let mut judged = Judged { claims, policy, findings, at: "exp" };
    judged.expiry(true);
    judged.beginnings();
    judged.check("iss", Judged::issuer, |judged| judged.shown("iss"));
    judged.check("aud", Judged::audience, |judged| judged.shown("aud"));
    judged.shapes();
    judged.scopes();
    judged.wanted_claims();
    judged.authentication();
}

/// Notes every reason that a status list's own claims give against it (Token Status List, section 5.1): it is for no
/// audience and may name neither an end nor an issuer, but those it names count.
pub(super) fn judge_status_list(claims: &Map<String, Value>, policy: &Policy, findings: &mut Findings) {
    let mut judged = Judged { claims, policy, findings, at: "iat" };
    judged.needs("iat");
    judged.expiry(false);
    judged.beginnings();
    if claims.contains_key("iss") {
        judged.issuer();
    }
    judged.needs("sub");
    judged.shapes();
}

struct Judged<'a> {
    claims: &'a Map<String, Value>,
    policy: &'a Policy,
    findings: &'a mut Findings,
    /// What is looked at.
    at: &'static str,
}

impl Judged<'_> {
    fn deny(&mut self, code: ReasonCode, message: impl AsRef<str>) {
        self.findings.deny(self.at, Reason::new(code, message));
    }

    /// Looks at a claim, and notes what was `found` where it gave no reason for a denial; nothing where that is `None`.
    fn check(&mut self, at: &'static str, look: impl FnOnce(&mut Self), found: impl FnOnce(&Self) -> Option<String>) {
        let before = self.findings.reasons.len();
        self.at = at;
        look(self);
        if self.findings.steps.is_some()
            && self.findings.reasons.len() == before
            && let Some(found) = found(self)
        {
            self.findings.pass(at, || found);
        }
    }

    /// A claim's value as it is shown to people.
    fn shown(&self, name: &str) -> Option<String> {
        Some(match self.claims.get(name)? {
            Value::String(text) => quoted(text),
            Value::Array(items) => quoted_list(&items.iter().map(plain).collect::<Vec<_>>()),
            other => quoted(&other.to_string()),
        })
    }

    /// A NumericDate claim; one of the wrong shape is reported and then counts as absent.
    fn moment(&mut self, name: &str) -> Option<UnixTime> {
        let value = self.claims.get(name)?;
        let moment = numeric_date(value);
        if moment.is_none() {
            let why = "is no NumericDate: it must be a number of seconds since 1970, before the year 10000";
            self.deny(ReasonCode::Malformed, format!("the claim `{name}` {why}"));
        }
        moment
    }

    fn missing(&mut self, name: &str) {
        self.deny(ReasonCode::MissingClaim, format!("the claim `{name}` is missing"));
    }

    fn may_lack(&self, name: &str) -> bool {
        self.policy.optional_claims.iter().any(|claim| claim == name)
    }

    fn needs(&mut self, name: &str) {
        if !self.claims.contains_key(name) {
            self.missing(name);
        }
    }

    /// `exp`, which every token must have; a status list need not.
    fn expiry(&mut self, needed: bool) {
        let (now, leeway) = (self.policy.now, self.policy.bounded_leeway());
        let look = |judged: &mut Self| {
            if needed {
                judged.needs("exp");
            }
            if let Some(exp) = judged.moment("exp").filter(|exp| now >= exp.plus(leeway)) {
                let message = format!("the token expired at {exp}; it is {now} (leeway {} s)", leeway.as_secs());
                judged.deny(ReasonCode::Expired, message);
            }
        };
        let end = |judged: &Self| judged.claims.get("exp").and_then(numeric_date);
        self.check("exp", look, |judged| {
            end(judged).map(|exp| format!("the token ends at {exp}; it is {now} (leeway {} s)", leeway.as_secs()))
        });
    }

    fn beginnings(&mut self) {
        let (now, leeway) = (self.policy.now, self.policy.bounded_leeway());
        for (name, what, well) in
            [("nbf", "is valid only from", "is valid from"), ("iat", "was issued in the future, at", "was issued at")]
        {
            let look = |judged: &mut Self| {
                if let Some(from) = judged.moment(name).filter(|from| *from > now.plus(leeway)) {
                    let message = format!("the token {what} {from}; it is {now} (leeway {} s)", leeway.as_secs());
                    judged.deny(ReasonCode::NotYetValid, message);
                }
            };
            self.check(name, look, |judged| {
                judged.claims.get(name).and_then(numeric_date).map(|from| format!("the token {well} {from}"))
            });
        }
    }

    fn issuer(&mut self) {
        match self.claims.get("iss") {
            None if self.may_lack("iss") => {}
            None => self.missing("iss"),
            Some(Value::String(iss)) if *iss == self.policy.issuer => {}
            Some(Value::String(iss)) => {
                let message = format!("expected the issuer {}, found {}", quoted(&self.policy.issuer), quoted(iss));
                self.deny(ReasonCode::WrongIssuer, message);
            }
            Some(_) => self.deny(ReasonCode::Malformed, "the claim `iss` is not a string"),
        }
    }

    fn audience(&mut self) {
        let found = match self.claims.get("aud") {
            None if self.may_lack("aud") => return,
            None => return self.missing("aud"),
            Some(aud) => strings(aud),
        };
        let Some(found) = found else {
            return self.deny(ReasonCode::Malformed, "the claim `aud` is neither a string nor an array of strings");
        };
        if !self.policy.audiences.iter().any(|expected| found.contains(&expected.as_str())) {
            let expected = quoted_list(&self.policy.audiences);
            self.deny(
                ReasonCode::WrongAudience,
                format!("expected the audience {expected}, found {}", quoted_list(&found)),
            );
        }
    }

    /// The other registered claims: where they are, they must have their RFC's shape.
    fn shapes(&mut self) {
        for name in ["sub", "jti", "client_id", "azp"] {
            let look = |judged: &mut Self| {
                if judged.claims.get(name).is_some_and(|v| !v.is_string()) {
                    judged.deny(ReasonCode::Malformed, format!("the claim `{name}` is not a string"));
                }
            };
            self.check(name, look, |judged| judged.shown(name));
        }
    }

    fn scopes(&mut self) {
        if self.policy.scopes.is_empty() {
            return;
        }
        let policy = self.policy;
        self.check("scope", Self::wanted_scopes, |_| Some(format!("{} granted", quoted_list(&policy.scopes))));
    }

    fn wanted_scopes(&mut self) {
        let Some(value) = self.claims.get("scope").or_else(|| self.claims.get("scp")) else {
            return self.missing("scope");
        };
        let Some(granted) = strings(value) else {
            return self.deny(ReasonCode::Malformed, "the claim `scope` is neither a string nor an array of strings");
        };
        let granted: Vec<&str> = granted.into_iter().flat_map(|s| s.split(' ')).filter(|s| !s.is_empty()).collect();
        let lacking: Vec<&String> = self.policy.scopes.iter().filter(|s| !granted.contains(&s.as_str())).collect();
        if !lacking.is_empty() {
            let message =
                format!("the scope {} is lacking; granted is {}", quoted_list(&lacking), quoted_list(&granted));
            self.deny(ReasonCode::ClaimMismatch, message);
        }
    }

    fn wanted_claims(&mut self) {
        self.at = "claim";
        for (name, wanted) in &self.policy.claims {
            let shown = quoted(name);
            match self.claims.get(name) {
                None => self.deny(ReasonCode::MissingClaim, format!("the claim {shown} is missing")),
                Some(value) if holds(value, wanted) => {
                    self.findings.pass("claim", || format!("the claim {shown} is {}", quoted(wanted)));
                }
                Some(value) => {
                    let found = match value {
                        Value::String(text) => quoted(text),
                        other => quoted(&other.to_string()),
                    };
                    let message = format!("expected the claim {shown} to be {}, found {found}", quoted(wanted));
                    self.deny(ReasonCode::ClaimMismatch, message);
                }
            }
        }
    }

    /// How and when the user authenticated (OpenID Connect Core, section 2; RFC 9068, section 2.2.1; RFC 9470).
    fn authentication(&mut self) {
        self.check("auth_time", Self::authenticated_at, |judged| {
            judged.claims.get("auth_time").and_then(numeric_date).map(|at| format!("the user signed in at {at}"))
        });
        let policy = self.policy;
        for accepted in [&policy.acr, &policy.acr_too] {
            if !accepted.is_empty() {
                self.check("acr", |judged| judged.context(accepted), |judged| judged.shown("acr"));
            }
        }
        if !self.policy.amr.is_empty() {
            self.check("amr", Self::methods, |judged| judged.shown("amr"));
        }
    }

    fn authenticated_at(&mut self) {
        let (now, leeway) = (self.policy.now, self.policy.bounded_leeway());
        let auth_time = self.moment("auth_time");
        if let Some(at) = auth_time.filter(|at| *at > now.plus(leeway)) {
            self.deny(ReasonCode::NotYetValid, format!("the user logged in in the future, at {at}; it is {now}"));
        }
        if let Some(most) = self.policy.max_auth_age {
            match auth_time {
                None if !self.claims.contains_key("auth_time") => self.missing("auth_time"),
                Some(at) if now > at.plus(most).plus(leeway) => {
                    let message = format!("the user logged in at {at}, more than {} s ago", most.as_secs());
                    self.deny(ReasonCode::ClaimMismatch, message);
                }
                _ => {}
            }
        }
    }

    fn context(&mut self, accepted: &[String]) {
        match self.claims.get("acr") {
            None => self.missing("acr"),
            Some(Value::String(acr)) if accepted.contains(acr) => {}
            Some(Value::String(acr)) => {
                let expected = quoted_list(accepted);
                self.deny(ReasonCode::ClaimMismatch, format!("expected acr {expected}, found {}", quoted(acr)));
            }
            Some(_) => self.deny(ReasonCode::Malformed, "the claim `acr` is not a string"),
        }
    }

    fn methods(&mut self) {
        match self.claims.get("amr").map(|amr| (amr.is_array(), strings(amr))) {
            None => self.missing("amr"),
            Some((true, Some(found))) => {
                let lacking: Vec<&String> = self.policy.amr.iter().filter(|m| !found.contains(&m.as_str())).collect();
                if !lacking.is_empty() {
                    let message = format!("amr lacks {}; found {}", quoted_list(&lacking), quoted_list(&found));
                    self.deny(ReasonCode::ClaimMismatch, message);
                }
            }
            Some(_) => self.deny(ReasonCode::Malformed, "the claim `amr` is not an array of strings"),
        }
    }
}

/// A value of an array as text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A NumericDate (RFC 7519, section 2) as the first whole second at or after it; `None` for anything else. Against a
/// clock of whole seconds, `now < exp` and `nbf <= now` say the same for that second as for the exact fraction.
pub(super) fn numeric_date(value: &Value) -> Option<UnixTime> {
    let Value::Number(number) = value else { return None };
    let seconds = number.as_f64().filter(|s| s.is_finite() && (0.0..=LATEST).contains(s))?;
    #[allow(clippy::cast_possible_truncation, reason = "it lies between 0 and LATEST, where f64 holds each integer")]
    let whole = seconds.ceil() as i64;
    Some(UnixTime(whole))
}

/// A string, or an array of strings; `None` for anything else.
pub(super) fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(texts) => texts.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Whether a claim says `wanted`: as its text, or as one string of an array.
fn holds(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(truth) => wanted == if *truth { "true" } else { "false" },
        Value::Number(number) => number.to_string() == wanted,
        Value::Array(values) => values.iter().any(|v| v.as_str() == Some(wanted)),
        Value::Null | Value::Object(_) => false,
    }
}
