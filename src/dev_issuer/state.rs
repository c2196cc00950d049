//! The issuer's state: browser sessions, codes, tokens and their families, and counters.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::accounts::Accounts;
use super::bounded_map::BoundedMap;
use super::crypto::Digest;
use super::http::Params;
use crate::clock::UnixTime;
use crate::secret::Secret;

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests by endpoint, including those answered by a fault.
    pub requests: BTreeMap<String, u64>,
    /// Token requests by grant type.
    pub token_requests: BTreeMap<String, u64>,
    /// Token requests answered with tokens, by grant type.
    pub token_responses: BTreeMap<String, u64>,
    /// Error responses of the token endpoint by OAuth error code.
    pub token_errors: BTreeMap<String, u64>,
    /// Refreshes that used their refresh token, whether or not the reply arrived.
    pub refreshes_committed: u64,
    /// Reuses of a rotated refresh token.
    pub refresh_reuses: u64,
    /// Revoked token families, for any reason.
    pub families_revoked: u64,
    /// Issued access tokens.
    pub access_tokens: u64,
    /// Logins in a browser.
    pub logins: u64,
    /// Wrong passwords and one-time codes.
    pub failed_attempts: u64,
    /// Applied faults.
    pub faults: u64,
    /// Accepted connections.
    pub connections: u64,
}

/// A completed authentication of a user.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) user: String,
    /// The account's password version at that time.
    pub(super) password_version: u64,
    pub(super) at: UnixTime,
    /// Whether a one-time code was used.
    pub(super) otp: bool,
    /// The `sid` claim.
    pub(super) sid: String,
}

/// The authorization that tokens are issued for.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) client_id: String,
    /// `None` without a user.
    pub(super) login: Option<Login>,
    /// The subject of a workload.
    pub(super) workload: Option<String>,
    pub(super) scopes: Vec<String>,
    /// The default audience if empty.
    pub(super) audiences: Vec<String>,
    pub(super) nonce: Option<String>,
    /// The thumbprint of the key that the tokens are bound to (DPoP).
    pub(super) jkt: Option<String>,
}

impl Grant {
    /// Returns whether a scope was granted.
    pub(super) fn has_scope(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope == name)
    }
}

/// All tokens of one grant.
pub(super) struct TokenFamily {
    pub(super) grant: Grant,
    pub(super) expires_at: UnixTime,
    /// The number of refreshes.
    pub(super) refreshes: u32,
    pub(super) revoked: bool,
}

/// A refresh token.
pub(super) struct RefreshToken {
    pub(super) family: u64,
    pub(super) used_at: Option<Instant>,
}

/// An access token.
pub(super) struct AccessToken {
    /// `None` for client credentials.
    pub(super) family: Option<u64>,
    pub(super) grant: Grant,
    pub(super) issued_at: UnixTime,
    pub(super) expires_at: UnixTime,
    pub(super) jti: String,
    pub(super) revoked: bool,
    /// Temporarily invalid, set by an administrator.
    pub(super) suspended: bool,
    /// The number of its entry in the status lists.
    pub(super) serial: Option<u64>,
}

/// An authorization code.
pub(super) struct AuthorizationCode {
    pub(super) grant: Grant,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    pub(super) expires_at: UnixTime,
    /// The token family issued for it; a second use revokes the family (RFC 6749, section 4.1.2).
    pub(super) family: Option<u64>,
    pub(super) used: bool,
}

/// The user's decision on a device authorization.
pub(super) enum DeviceStatus {
    Pending,
    Denied,
    Approved(Login),
}

/// A device authorization (RFC 8628).
pub(super) struct DeviceAuthorization {
    pub(super) client_id: String,
    pub(super) scopes: Vec<String>,
    pub(super) audiences: Vec<String>,
    /// Eight letters, without the dash.
    pub(super) user_code: String,
    pub(super) status: DeviceStatus,
    /// The polling interval in seconds.
    pub(super) interval: u64,
    pub(super) last_poll: Option<Instant>,
    pub(super) expires_at: UnixTime,
}

impl DeviceAuthorization {
    /// Returns whether the user can still decide.
    pub(super) fn is_pending(&self, now: UnixTime) -> bool {
        matches!(self.status, DeviceStatus::Pending) && now < self.expires_at
    }
}

/// A password grant that waits for the one-time code.
pub(super) struct MfaChallenge {
    pub(super) grant: Grant,
    pub(super) expires_at: UnixTime,
    pub(super) attempts: u32,
}

/// A browser, identified by its cookie.
pub(super) struct BrowserSession {
    pub(super) login: Option<Login>,
    /// Pairs of client ID and scope that the user has consented to.
    pub(super) consents: Vec<(String, String)>,
    pub(super) expires_at: UnixTime,
}

/// A valid authorization request.
#[derive(Clone)]
pub(super) struct AuthorizationRequest {
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
    pub(super) challenge: String,
    pub(super) scopes: Vec<String>,
    pub(super) audiences: Vec<String>,
    pub(super) nonce: Option<String>,
    /// The key that the code is bound to (`dpop_jkt`; RFC 9449, section 10).
    pub(super) jkt: Option<String>,
    pub(super) login_hint: Option<String>,
}

/// A pushed authorization request.
pub(super) struct PushedRequest {
    pub(super) client_id: String,
    pub(super) parameters: Params,
    pub(super) expires_at: UnixTime,
}

/// What an interaction is for.
#[derive(Clone)]
pub(super) enum Purpose {
    Authorize(AuthorizationRequest),
    /// Entering a user code.
    EnterUserCode,
    /// Authorizing a device, identified by the digest of its device code.
    Device(Digest),
    /// Logging out, then redirecting to this URI if there is one.
    Logout(Option<String>),
}

/// A user's way through the pages, bound to one browser.
pub(super) struct Interaction {
    pub(super) browser: Digest,
    /// The token in each form, which another site cannot know.
    pub(super) csrf: Secret,
    pub(super) purpose: Purpose,
    /// The login; incomplete while `needs_otp`.
    pub(super) login: Option<Login>,
    pub(super) needs_otp: bool,
    pub(super) expires_at: UnixTime,
}

/// The whole state, behind one mutex.
pub(super) struct State {
    pub(super) accounts: Accounts,
    pub(super) browser_sessions: BoundedMap<Digest, BrowserSession>,
    pub(super) interactions: BoundedMap<Digest, Interaction>,
    pub(super) codes: BoundedMap<Digest, AuthorizationCode>,
    pub(super) devices: BoundedMap<Digest, DeviceAuthorization>,
    pub(super) mfa_challenges: BoundedMap<Digest, MfaChallenge>,
    pub(super) families: BoundedMap<u64, TokenFamily>,
    pub(super) refresh_tokens: BoundedMap<Digest, RefreshToken>,
    pub(super) access_tokens: BoundedMap<Digest, AccessToken>,
    /// Pushed authorization requests, by their reference.
    pub(super) pushed: BoundedMap<Digest, PushedRequest>,
    /// The nonces for DPoP proofs, with their expiry.
    pub(super) dpop_nonces: BoundedMap<Digest, UnixTime>,
    /// The `jti` of DPoP proofs that were used.
    pub(super) dpop_proofs: BoundedMap<Digest, ()>,
    /// Wrong user codes in the current minute, of all clients together (RFC 8628, section 5.1).
    pub(super) wrong_user_codes: Option<(Instant, u32)>,
    pub(super) next_family: u64,
    pub(super) next_serial: u64,
    pub(super) stats: Stats,
}

/// The limit on stored access tokens.
pub(super) const MAX_ACCESS_TOKENS: usize = 64 * 1024;

impl State {
    pub(super) fn new(accounts: Accounts) -> Self {
        Self {
            accounts,
            browser_sessions: BoundedMap::new(1024),
            interactions: BoundedMap::new(1024),
            codes: BoundedMap::new(4096),
            devices: BoundedMap::new(1024),
            mfa_challenges: BoundedMap::new(1024),
            families: BoundedMap::new(16 * 1024),
            refresh_tokens: BoundedMap::new(64 * 1024),
            access_tokens: BoundedMap::new(MAX_ACCESS_TOKENS),
            pushed: BoundedMap::new(1024),
            dpop_nonces: BoundedMap::new(4096),
            dpop_proofs: BoundedMap::new(64 * 1024),
            wrong_user_codes: None,
            next_family: 0,
            next_serial: 0,
            stats: Stats::default(),
        }
    }

    /// Returns whether the password is unchanged since the login.
    pub(super) fn is_current(&self, login: &Login) -> bool {
        self.accounts.find(&login.user).is_some_and(|account| account.password_version == login.password_version)
    }

    /// Revokes a token family.
    pub(super) fn revoke_family(&mut self, id: u64) {
        if let Some(family) = self.families.find_mut(&id)
            && !family.revoked
        {
            family.revoked = true;
            self.stats.families_revoked += 1;
        }
    }

    /// Revokes the token families that match.
    pub(super) fn revoke_families(&mut self, matches: impl Fn(&TokenFamily) -> bool) {
        for family in self.families.values_mut().filter(|family| !family.revoked && matches(family)) {
            family.revoked = true;
            self.stats.families_revoked += 1;
        }
    }

    /// Revokes all token families and ends all browser sessions of a user.
    pub(super) fn revoke_user(&mut self, user: &str) {
        self.revoke_families(|family| family.grant.login.as_ref().is_some_and(|login| login.user == user));
        self.browser_sessions.retain(|_, session| session.login.as_ref().is_none_or(|login| login.user != user));
    }

    /// Returns whether a token family can still be refreshed.
    pub(super) fn is_refreshable(&self, family: &TokenFamily, now: UnixTime) -> bool {
        let current = family.grant.login.as_ref().is_some_and(|login| self.is_current(login));
        !family.revoked && current && now < family.expires_at
    }

    /// Returns the access token with this digest if it is valid now.
    pub(super) fn valid_access_token(&self, digest: &Digest, now: UnixTime) -> Option<&AccessToken> {
        let token = self.access_tokens.find(digest)?;
        (!self.is_revoked(token) && !token.suspended && now < token.expires_at).then_some(token)
    }

    /// Returns whether an access token was revoked: by itself, with its family, or by a change of the password.
    pub(super) fn is_revoked(&self, token: &AccessToken) -> bool {
        let family_valid = token.family.is_none_or(|id| self.families.find(&id).is_some_and(|family| !family.revoked));
        let login_current = token.grant.login.as_ref().is_none_or(|login| self.is_current(login));
        token.revoked || !family_valid || !login_current
    }
}

/// Increments a named counter.
pub(super) fn increment(counters: &mut BTreeMap<String, u64>, name: &str) {
    *counters.entry(name.to_owned()).or_default() += 1;
}
