//! What the issuer remembers: logins, codes, families of tokens, and what became of them.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use super::bounded::{Bounded, Digest};
use super::users::Accounts;
use crate::clock::UnixTime;
use crate::secret::Secret;

/// What happened so far. Names of endpoints and grants are the words of the RFCs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests by endpoint, those that a fault answered too.
    pub requests: BTreeMap<String, u64>,
    /// Token requests by grant type.
    pub token_requests: BTreeMap<String, u64>,
    /// Token requests that were answered with tokens, by grant type.
    pub token_responses: BTreeMap<String, u64>,
    /// Refusals by OAuth error code.
    pub refusals: BTreeMap<String, u64>,
    /// Refreshes that spent their refresh token, whether or not the reply arrived.
    pub refreshes_committed: u64,
    /// Uses of a refresh token that was spent already.
    pub refresh_reuses: u64,
    /// Families of tokens revoked, for whatever reason.
    pub families_revoked: u64,
    /// Access tokens given.
    pub access_tokens: u64,
    /// Logins through the pages.
    pub logins: u64,
    /// Wrong passwords and one-time codes.
    pub wrong_tries: u64,
    /// Faults applied.
    pub faults: u64,
    /// Connections accepted.
    pub connections: u64,
}

/// That somebody proved who they are.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) user: String,
    /// The account's epoch at that time.
    pub(super) epoch: u64,
    pub(super) at: UnixTime,
    /// Whether a one-time code was part of it.
    pub(super) otp: bool,
    /// Names the login in tokens.
    pub(super) sid: String,
}

/// What a client was allowed.
#[derive(Clone)]
pub(super) struct Granted {
    pub(super) client_id: String,
    /// Nobody for client credentials.
    pub(super) login: Option<Login>,
    pub(super) scopes: Vec<String>,
    /// Empty: the default.
    pub(super) audiences: Vec<String>,
    pub(super) nonce: Option<String>,
}

/// All the tokens that came from one grant.
pub(super) struct Family {
    pub(super) granted: Granted,
    pub(super) ends: UnixTime,
    /// Refreshes so far.
    pub(super) uses: u32,
    pub(super) revoked: bool,
}

/// A refresh token.
pub(super) struct Refresh {
    pub(super) family: u64,
    pub(super) spent: Option<Instant>,
}

/// An access token.
pub(super) struct Access {
    /// `None` for client credentials.
    pub(super) family: Option<u64>,
    pub(super) granted: Granted,
    pub(super) issued: UnixTime,
    pub(super) ends: UnixTime,
    pub(super) jti: String,
    pub(super) revoked: bool,
    /// Not good for now, by an administrator's word.
    pub(super) suspended: bool,
    /// Its number among those that have a place in a status list.
    pub(super) serial: Option<u64>,
}

/// An authorization code.
pub(super) struct Code {
    pub(super) granted: Granted,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    pub(super) ends: UnixTime,
    /// The family it gave; a second use revokes that (RFC 6749, section 4.1.2).
    pub(super) gave: Option<u64>,
    pub(super) spent: bool,
}

/// How a device authorization stands.
pub(super) enum DeviceStatus {
    Pending,
    Denied,
    Approved(Login),
}

/// A device authorization (RFC 8628).
pub(super) struct Device {
    pub(super) client_id: String,
    pub(super) scopes: Vec<String>,
    pub(super) audiences: Vec<String>,
    /// Eight letters without the dash.
    pub(super) user_code: String,
    pub(super) status: DeviceStatus,
    /// Seconds.
    pub(super) interval: u64,
    pub(super) polled: Option<Instant>,
    pub(super) ends: UnixTime,
}

/// A password grant that waits for its one-time code.
pub(super) struct Mfa {
    pub(super) granted: Granted,
    pub(super) ends: UnixTime,
    pub(super) tries: u32,
}

/// A browser, by its cookie.
pub(super) struct Browser {
    pub(super) login: Option<Login>,
    /// Client and scope pairs that were allowed in it.
    pub(super) allowed: Vec<(String, String)>,
    pub(super) ends: UnixTime,
}

/// An authorization request whose parameters are good.
#[derive(Clone)]
pub(super) struct AuthorizationRequest {
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
    pub(super) challenge: String,
    pub(super) scopes: Vec<String>,
    pub(super) audiences: Vec<String>,
    pub(super) nonce: Option<String>,
    pub(super) login_hint: Option<String>,
}

/// What a walk through the pages is for.
#[derive(Clone)]
pub(super) enum Purpose {
    Authorize(AuthorizationRequest),
    /// The page that asks for the user code.
    EnterCode,
    /// A device, by the hash of its device code.
    Device(Digest),
    /// Ends the login; then to this address, where there is one.
    Logout(Option<String>),
}

/// A walk through the pages, tied to one browser.
pub(super) struct Walk {
    pub(super) browser: Digest,
    /// The secret in each form of it that another site cannot know.
    pub(super) csrf: Secret,
    pub(super) purpose: Purpose,
    /// Who logged in: complete, or still without the one-time code.
    pub(super) login: Option<Login>,
    pub(super) needs_otp: bool,
    pub(super) ends: UnixTime,
}

/// Everything, behind one lock.
pub(super) struct State {
    pub(super) accounts: Accounts,
    pub(super) browsers: Bounded<Digest, Browser>,
    pub(super) walks: Bounded<Digest, Walk>,
    pub(super) codes: Bounded<Digest, Code>,
    pub(super) devices: Bounded<Digest, Device>,
    pub(super) mfas: Bounded<Digest, Mfa>,
    pub(super) families: Bounded<u64, Family>,
    pub(super) refreshes: Bounded<Digest, Refresh>,
    pub(super) accesses: Bounded<Digest, Access>,
    /// Wrong user codes in the current minute, by anybody (RFC 8628, section 5.1).
    pub(super) wrong_user_codes: Option<(Instant, u32)>,
    pub(super) next_family: u64,
    pub(super) next_serial: u64,
    pub(super) stats: Stats,
}

/// How many access tokens are remembered.
pub(super) const MAX_ACCESSES: usize = 64 * 1024;

impl State {
    pub(super) fn new(accounts: Accounts) -> Self {
        Self {
            accounts,
            browsers: Bounded::new(1024),
            walks: Bounded::new(1024),
            codes: Bounded::new(4096),
            devices: Bounded::new(1024),
            mfas: Bounded::new(1024),
            families: Bounded::new(16 * 1024),
            refreshes: Bounded::new(64 * 1024),
            accesses: Bounded::new(MAX_ACCESSES),
            wrong_user_codes: None,
            next_family: 0,
            next_serial: 0,
            stats: Stats::default(),
        }
    }

    /// Whether a login still counts: the password has not been changed since.
    pub(super) fn stands(&self, login: &Login) -> bool {
        self.accounts.find(&login.user).is_some_and(|account| account.epoch == login.epoch)
    }

    pub(super) fn revoke_family(&mut self, id: u64) {
        if let Some(family) = self.families.find_mut(&id)
            && !family.revoked
        {
            family.revoked = true;
            self.stats.families_revoked += 1;
        }
    }

    /// Ends all that `user` was given. The epoch is grown already.
    pub(super) fn revoke_user(&mut self, user: &str) {
        for family in self.families.values_mut() {
            if !family.revoked && family.granted.login.as_ref().is_some_and(|login| login.user == user) {
                family.revoked = true;
                self.stats.families_revoked += 1;
            }
        }
        self.browsers.retain(|_, browser| browser.login.as_ref().is_none_or(|login| login.user != user));
    }

    /// The access token with this hash, where it is good now.
    pub(super) fn access(&self, token: &Digest, now: UnixTime) -> Option<&Access> {
        let access = self.accesses.find(token)?;
        (!self.is_revoked(access) && !access.suspended && now < access.ends).then_some(access)
    }

    /// Whether an access token was taken back: by itself, with all that came from its grant, or with its login.
    pub(super) fn is_revoked(&self, access: &Access) -> bool {
        let alive = match access.family {
            Some(id) => self.families.find(&id).is_some_and(|family| !family.revoked),
            None => true,
        };
        let stands = access.granted.login.as_ref().is_none_or(|login| self.stands(login));
        access.revoked || !alive || !stands
    }
}

/// Adds one to a named counter.
pub(super) fn tally(counters: &mut BTreeMap<String, u64>, name: &str) {
    *counters.entry(name.to_owned()).or_default() += 1;
}
