//! The checks of the issuer: the way to it, its clock, its metadata and its keys.

use std::time::Duration;

use super::examination::{Examination, ISSUER_CHECKS, limited};
use crate::cmd::output::span;
use crate::error::{Error, ErrorCode, Hint, SET_CLOCK};
use crate::model::{Profile, Trust, is_loopback};
use crate::oauth::{Delivery, Endpoint, IssuerError, Phase};
use crate::session::{SessionError, SessionService, trusted_keys};
use crate::verify::{CLOCK_TOLERANCE, KeySet, Policy};

/// How long the checks of the issuer may take together: longer than an attempt to connect.
const ISSUER_LIMIT: Duration = Duration::from_secs(20);

/// How many of the [`ISSUER_CHECKS`] are on the way to the issuer.
const WAY: usize = 4;

/// Returns the hint for keys that only the issuer can correct.
fn report_keys() -> Hint {
    Hint::advice("report to the issuer's operator which keys it publishes")
}

impl Examination<'_> {
    /// Checks the way to the issuer, its clock, its metadata and its keys.
    pub(super) async fn check_issuer(&mut self, profile: &Profile, trust: Option<&Trust>) -> Result<(), Error> {
        let sessions = self.app.sessions()?;
        let mut limit = self.app.clock().sleep(ISSUER_LIMIT);
        let silent = |phase| {
            let message = format!("no reply from {} within {} s", profile.issuer, ISSUER_LIMIT.as_secs());
            let error = IssuerError::Unreachable { message, proxy: None, phase, delivery: Delivery::NotSent };
            SessionError::Issuer(error)
        };
        let proxy = sessions.http(profile).await.ok().and_then(|http| http.proxy(&profile.issuer).ok().flatten());
        let reached = limited(&mut limit, sessions.reach_issuer(profile)).await;
        let reached = reached.unwrap_or_else(|| Err(silent(Phase::Connect)));
        self.check_way(profile, proxy.as_deref(), &reached)?;
        if let Err(error) = reached {
            let failed = failed_check(&error);
            self.error(failed, error)?;
            let rest: Vec<&str> = ISSUER_CHECKS.into_iter().filter(|check| !self.has(check)).collect();
            return self.skip(&rest, &format!("see {failed}"));
        }
        self.check_clock(&sessions, profile).await?;
        let needed = [Endpoint::Token, Endpoint::Jwks];
        let metadata = limited(&mut limit, sessions.metadata_with(profile, &needed)).await;
        let metadata = match metadata.unwrap_or_else(|| Err(silent(Phase::Exchange))) {
            Ok(metadata) if metadata.token_endpoint.is_none() => {
                self.error("metadata", IssuerError::Unsupported { what: "token_endpoint" })?;
                metadata
            }
            Ok(metadata) => {
                self.ok("metadata", metadata.issuer.as_str())?;
                metadata
            }
            Err(error) => {
                self.error("metadata", error)?;
                return self.skip(&["keys"], "see metadata");
            }
        };
        if let Some(trust) = trust
            && let Some(pinned) = &trust.pinned
        {
            let (set, _) = trusted_keys(trust, self.app.clock().now());
            return self.check_keys(
                &set,
                &format!("pinned from {}", pinned.source),
                Hint::profile_command("keys unpin"),
            );
        }
        let keys = limited(&mut limit, sessions.fetch_keys(profile, &metadata, None)).await;
        match keys.unwrap_or_else(|| Err(silent(Phase::Exchange))) {
            Err(error) => self.error("keys", error),
            Ok(None) => {
                let message = "the issuer publishes no keys: tokens cannot be verified offline";
                let hint = Hint::advice("if its tokens are JWTs, give the address of its keys with --jwks-uri");
                self.warning("keys", Error::msg(ErrorCode::TokenDenied, message, hint))
            }
            Ok(Some(keys)) => match KeySet::from_jwks(&keys.jwks) {
                Ok(set) => self.check_keys(&set, &format!("at {}", keys.source), report_keys()),
                Err(error) => self.error("keys", Error::new(ErrorCode::TokenDenied, error, report_keys())),
            },
        }
    }

    /// Checks that a token can be verified with one of the keys.
    fn check_keys(&mut self, set: &KeySet, place: &str, hint: Hint) -> Result<(), Error> {
        let weak: Vec<&str> = set.summaries().filter_map(|key| key.weakness).collect();
        if weak.len() < set.len() {
            return self.ok("keys", &format!("{} {place}", set.len()));
        }
        let reasons = [set.skipped_text(), weak.join(", ")].into_iter().filter(|text| !text.is_empty());
        let reasons = reasons.fold(String::new(), |all, reason| format!("{all}; {reason}"));
        let message = format!("none of the keys {place} can verify a token{reasons}");
        self.error("keys", Error::msg(ErrorCode::TokenDenied, message, hint))
    }

    /// Shows the checks before the one that failed, or all of the way if none has.
    fn check_way(
        &mut self,
        profile: &Profile,
        proxy: Option<&str>,
        reached: &Result<(), SessionError>,
    ) -> Result<(), Error> {
        let failed = reached.as_ref().err().map(failed_check);
        // An error before the first connection attempt does not show the result of the checks before.
        let tried = matches!(reached, Ok(()) | Err(SessionError::Issuer(IssuerError::Unreachable { .. })));
        let url = profile.issuer.url();
        let host = url.host_str().unwrap_or_default();
        for check in ISSUER_CHECKS.into_iter().take(WAY).take_while(|check| Some(*check) != failed) {
            match (check, proxy) {
                _ if !tried => self.skip(&[check], &format!("see {}", failed.unwrap_or_default()))?,
                ("proxy", None) => self.ok(check, "none")?,
                ("dns", Some(_)) => self.skip(&[check], "the proxy resolves names")?,
                ("dns", None) => self.ok(check, host)?,
                ("tls", _) if is_loopback(url) && url.scheme() == "http" => {
                    self.skip(&[check], "not used on loopback")?;
                }
                ("tls", _) => self.ok(check, "the certificate is trusted")?,
                ("proxy", Some(proxy)) => self.ok(check, proxy)?,
                (_, Some(proxy)) => self.ok(check, &format!("{host} through {proxy}"))?,
                (_, None) => self.ok(check, host)?,
            }
        }
        Ok(())
    }

    async fn check_clock(&mut self, sessions: &SessionService, profile: &Profile) -> Result<(), Error> {
        let Some(theirs) = sessions.issuer_time(profile).await else {
            return self.skip(&["clock"], "the issuer's response has no date");
        };
        let now = self.app.clock().now();
        let (ahead, behind) = (theirs.until(now), now.until(theirs));
        let (difference, word) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
        let message = format!("this machine's clock is {} {word} the issuer's", span(difference));
        let error = Error::msg(ErrorCode::Configuration, message, Hint::shell(SET_CLOCK));
        if difference > CLOCK_TOLERANCE {
            self.error("clock", error)
        } else if difference > Policy::LEEWAY {
            self.warning("clock", error)
        } else {
            self.ok("clock", "agrees with the issuer's")
        }
    }
}

/// Returns the check that failed if the issuer was not reached.
fn failed_check(error: &SessionError) -> &'static str {
    match error {
        SessionError::Issuer(IssuerError::InvalidProxy { .. }) => "proxy",
        SessionError::Issuer(IssuerError::CaCertificates { .. } | IssuerError::UntrustedFile(_)) => "tls",
        SessionError::Issuer(IssuerError::Unreachable { phase, proxy, .. }) => match (phase, proxy) {
            (Phase::Proxy, _) | (Phase::Dns | Phase::Connect, Some(_)) => "proxy",
            (Phase::Dns, None) => "dns",
            (Phase::Connect, None) => "connection",
            (Phase::Tls | Phase::UnknownAuthority | Phase::NoTls, _) => "tls",
            (Phase::Exchange | Phase::InvalidResponse, _) => "metadata",
        },
        _ => "metadata",
    }
}
