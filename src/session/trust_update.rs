//! Updates the trust record of an issuer: fetches its keys and status lists, and stores them.

use std::time::Duration;

use super::observed_time::{RECORD_INTERVAL, difference};
use super::refresh_policy::backoff;
use super::trust::trusted_keys;
use super::{SessionError, SessionService};
use crate::clock::UnixTime;
use crate::model::{ClockMark, Profile, Session, StoredStatusList, Trust, TrustedKeys};
use crate::oauth::{Endpoint, IssuerError, Metadata, jwks, status_list};
use crate::secret::Secret;
use crate::verify::{CLOCK_TOLERANCE, KeySet, StatusList, StatusListPolicy, unverified_status};

/// The age at which a refresh fetches the keys again.
const KEYS_DUE: Duration = Duration::from_secs(3600);

/// How long a caller that waits for a token waits for keys or for a status list. A later refresh fetches them again.
const FETCH_LIMIT: Duration = Duration::from_secs(5);

/// The responses of an issuer, to be stored.
#[derive(Default)]
struct IssuerUpdate {
    keys: Option<TrustedKeys>,
    lists: Vec<StoredStatusList>,
    /// False if a request for the keys did not return the missing one.
    keys_found: Option<bool>,
    /// The time by the issuer's own clock.
    issuer_time: Option<UnixTime>,
}

/// The status lists that were due, fetched and verified.
struct FetchedLists {
    lists: Vec<StoredStatusList>,
    /// Whether a list could not be verified because its key is unknown.
    needs_key: bool,
}

impl SessionService {
    /// Fetches the issuer's keys now, whether keys are pinned or not.
    ///
    /// # Errors
    /// As [`SessionService::change_trust`], and [`SessionError::Issuer`]; the stored keys then stay as they are.
    pub async fn update_keys(&self, profile: &Profile) -> Result<Trust, SessionError> {
        let metadata = self.metadata_with(profile, &[Endpoint::Jwks]).await?;
        let stored = self.trust(profile).await?.fetched;
        let keys = self.fetch_keys(profile, &metadata, stored.as_ref()).await?;
        if keys.is_none() && stored.is_some() {
            return Err(IssuerError::Unsupported { what: "jwks_uri" }.into());
        }
        let update = IssuerUpdate { keys, issuer_time: self.issuer_time(profile).await, ..IssuerUpdate::default() };
        self.store_update(profile, update).await
    }

    /// Updates the trust record after a refresh: fetches the keys if they are old or a token names an unknown one, fetches
    /// status lists that are due, and records that the issuer responded. Returns `None` if nothing could be stored; a
    /// failure here does not fail the refresh.
    pub(super) async fn update_trust(&self, profile: &Profile, trust: &Trust, tokens: &[&Secret]) -> Option<Trust> {
        let now = self.clock.now();
        let is_past = |moment: UnixTime, interval: Duration| moment.plus(interval) <= now || moment > now;
        let old = trust.fetched.as_ref().is_none_or(|keys| is_past(keys.fetched_at, KEYS_DUE));
        let (known, _) = trusted_keys(trust, now);
        let unknown: Vec<&&Secret> = tokens.iter().filter(|token| !known.verifies(token.expose())).collect();
        let needs_key = !unknown.is_empty();
        // Requests that bring nothing are delayed: a token can cause them (RFC 8725, section 3.10).
        let delay = trust.unknown_key_fetched_at.filter(|_| trust.unknown_key_fetches > 0);
        let may_ask = delay.is_none_or(|since| is_past(since, backoff(trust.unknown_key_fetches)));
        let mut update = IssuerUpdate { issuer_time: self.issuer_time(profile).await, ..IssuerUpdate::default() };
        let may_fetch = trust.pinned.is_none() && may_ask;
        if may_fetch && (old || needs_key) {
            self.fetch_keys_again(profile, trust, needs_key, &mut update).await;
        }
        let updated =
            |update: &IssuerUpdate| Trust { fetched: update.keys.clone().or(trust.fetched.clone()), ..trust.clone() };
        let mut fetched = self.fetch_due_lists(profile, &updated(&update), tokens).await;
        if fetched.needs_key && may_fetch && !old && !needs_key {
            // The issuer signs its status lists with a new key before any token here is signed with it.
            self.fetch_keys_again(profile, trust, true, &mut update).await;
            fetched = self.fetch_due_lists(profile, &updated(&update), tokens).await;
        }
        // An ID token from before the refresh may be signed with a key that is no longer published.
        let (known, _) = trusted_keys(&updated(&update), now);
        let brings_key = unknown.iter().any(|token| known.verifies(token.expose()));
        let is_missing = fetched.needs_key || needs_key && !brings_key;
        if may_fetch && update.keys_found.is_none() {
            update.keys_found = Some(!is_missing);
        }
        update.lists = fetched.lists;
        match self.store_update(profile, update).await {
            Ok(trust) => Some(trust),
            Err(error) => {
                tracing::info!("the issuer's keys were not stored: {error}");
                None
            }
        }
    }

    /// Fetches the keys into `update`, within [`FETCH_LIMIT`].
    async fn fetch_keys_again(&self, profile: &Profile, trust: &Trust, needs_key: bool, update: &mut IssuerUpdate) {
        // For an issuer without keys, the second metadata document is not requested each time.
        let needed: &[Endpoint] = if trust.fetched.is_some() || needs_key { &[Endpoint::Jwks] } else { &[] };
        let fetch = async {
            let metadata = self.metadata_with(profile, needed).await?;
            self.fetch_keys(profile, &metadata, trust.fetched.as_ref()).await
        };
        let fetched = tokio::select! {
            fetched = fetch => fetched.map_err(|error| error.to_string()),
            () = self.clock.sleep(FETCH_LIMIT) => Err(format!("no reply within {FETCH_LIMIT:?}")),
        };
        match fetched {
            Ok(keys) => update.keys = keys,
            Err(reason) => {
                update.keys_found = Some(false);
                tracing::info!("the issuer's keys were not fetched: {reason}");
            }
        }
    }

    /// Fetches the status lists that the session's tokens name and that are due, for sessions whose tokens outlive them.
    pub async fn update_status_lists(&self, profile: &Profile, session: &Session) {
        let Ok(trust) = self.trust(profile).await else { return };
        let tokens: Vec<&Secret> = verified_tokens(session).collect();
        let FetchedLists { lists, needs_key } = self.fetch_due_lists(profile, &trust, &tokens).await;
        if needs_key {
            self.update_trust(profile, &trust, &tokens).await;
        }
        if lists.is_empty() {
            return;
        }
        // A status list may come from another host, so this does not count as a response of the issuer.
        let store = |trust: &mut Trust| lists.into_iter().for_each(|list| trust.store_list(list));
        if let Err(error) = self.change_trust(profile, store).await {
            tracing::info!("the issuer's status lists were not stored: {error}");
        }
    }

    /// Fetches and verifies the status lists that `tokens` name and whose stored copy is past half of its lifetime, so
    /// that the other half is left for a machine that goes offline.
    async fn fetch_due_lists(&self, profile: &Profile, trust: &Trust, tokens: &[&Secret]) -> FetchedLists {
        let now = self.clock.now();
        let (keys, _) = trusted_keys(trust, now);
        let verify = |list: &StoredStatusList| {
            let policy = StatusListPolicy::new(&list.uri, profile.issuer.as_str(), list.fetched_at);
            StatusList::read(&list.jwt, &keys, &policy)
        };
        let is_due = |list: &StoredStatusList| {
            let half_time =
                |verified: StatusList| list.fetched_at.plus(list.fetched_at.until(verified.fresh_until()) / 2);
            list.fetched_at > now || verify(list).map_or(true, |verified| half_time(verified) <= now)
        };
        let mut fetched = FetchedLists { lists: Vec::new(), needs_key: false };
        for claim in tokens.iter().filter_map(|token| unverified_status(token.expose())) {
            let is_fetched = fetched.lists.iter().any(|list| list.uri == claim.uri);
            if is_fetched || trust.lists.iter().any(|list| list.uri == claim.uri && !is_due(list)) {
                continue;
            }
            let reply = match self.http(profile).await {
                Ok(http) => tokio::select! {
                    reply = status_list::fetch(&http, &claim.url) => reply.map_err(SessionError::from),
                    () = self.clock.sleep(FETCH_LIMIT) => {
                        tracing::info!("a status list was not fetched: no reply within {FETCH_LIMIT:?}");
                        continue;
                    }
                },
                Err(error) => Err(error),
            };
            match reply.map(|jwt| StoredStatusList { uri: claim.uri, jwt, fetched_at: now }) {
                Ok(list) => match verify(&list) {
                    Ok(_) => fetched.lists.push(list),
                    Err(error) => {
                        fetched.needs_key |= error.is_unknown_key();
                        tracing::warn!("a status list is invalid: {error}");
                    }
                },
                Err(error) => tracing::info!("a status list was not fetched: {error}"),
            }
        }
        fetched
    }

    /// Stores the keys that a login fetched, and the status lists that its tokens name. A damaged record is replaced.
    pub(super) async fn store_trust_of_login(
        &self,
        profile: &Profile,
        keys: Option<TrustedKeys>,
        session: &Session,
        (trust, damaged): (&Trust, bool),
    ) {
        let updated = Trust { fetched: keys.clone(), ..trust.clone() };
        let tokens: Vec<&Secret> = verified_tokens(session).collect();
        let FetchedLists { lists, .. } = self.fetch_due_lists(profile, &updated, &tokens).await;
        let issuer_time = self.issuer_time(profile).await;
        let update = IssuerUpdate { keys, lists, issuer_time, ..IssuerUpdate::default() };
        let stored = async {
            if damaged {
                self.reset_damaged_trust(profile).await?;
            }
            self.store_update(profile, update).await
        };
        if let Err(error) = stored.await {
            tracing::warn!("the issuer's keys were not stored: {error}");
        }
    }

    /// Fetches the issuer's keys; returns `None` if its metadata names none.
    ///
    /// # Errors
    /// [`SessionError::Issuer`], also if they would replace the `stored` keys, of which one is usable, and none of them is: a
    /// publishing server that fails must not take away the means to verify tokens.
    pub async fn fetch_keys(
        &self,
        profile: &Profile,
        metadata: &Metadata,
        stored: Option<&TrustedKeys>,
    ) -> Result<Option<TrustedKeys>, SessionError> {
        let Some(source) = &metadata.jwks_uri else { return Ok(None) };
        let fetched_at = self.clock.now();
        let jwks = jwks::fetch(&self.http(profile).await?, source).await?;
        let is_usable = |jwks: &str| KeySet::from_jwks(jwks).is_ok_and(|keys| keys.is_usable());
        let unusable = match KeySet::from_jwks(&jwks) {
            Err(error) => Some(error.to_string()),
            Ok(keys) if !keys.is_usable() && stored.is_some_and(|stored| is_usable(&stored.jwks)) => {
                Some(format!("a JWK Set without a usable key{}; the stored keys stay trusted", keys.skipped_suffix()))
            }
            Ok(_) => None,
        };
        if let Some(what) = unusable {
            return Err(IssuerError::InvalidKeys { from: source.to_string(), what }.into());
        }
        Ok(Some(TrustedKeys { jwks, source: source.to_string(), fetched_at }))
    }

    /// Returns the time of the issuer's clock in its last response.
    pub async fn issuer_time(&self, profile: &Profile) -> Option<UnixTime> {
        self.http(profile).await.ok()?.server_time(&profile.issuer)
    }

    /// Stores an update, and the time at which the issuer responded.
    async fn store_update(&self, profile: &Profile, update: IssuerUpdate) -> Result<Trust, SessionError> {
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let issuer_time = update.issuer_time;
        let trust = self
            .change_trust(profile, move |trust| {
                if let Some(keys) = update.keys {
                    trust.fetched = Some(keys);
                }
                update.lists.into_iter().for_each(|list| trust.store_list(list));
                match update.keys_found {
                    Some(false) => {
                        trust.unknown_key_fetched_at = Some(now);
                        trust.unknown_key_fetches = trust.unknown_key_fetches.saturating_add(1);
                    }
                    Some(true) => trust.unknown_key_fetches = 0,
                    None => {}
                }
                let is_recorded = |at: UnixTime| at <= now && now < at.plus(RECORD_INTERVAL);
                if !trust.contact_at.is_some_and(is_recorded) {
                    trust.contact_at = Some(now);
                }
                if let Some(latest) = issuer_time {
                    let is_due = trust.issuer_time.as_ref().is_none_or(|recorded| {
                        let expected = recorded.earliest_now(uptime.as_ref());
                        difference(expected, latest) > RECORD_INTERVAL || recorded.latest > latest
                    });
                    if is_due {
                        trust.issuer_time = Some(ClockMark { latest, uptime });
                    }
                }
            })
            .await?;
        let confirmed = issuer_time.is_none_or(|issuer_time| difference(issuer_time, now) <= CLOCK_TOLERANCE);
        self.record_confirmed_time(profile.store, confirmed).await;
        Ok(trust)
    }
}

/// Returns whether a token of the session names a status list.
#[must_use]
pub fn names_status_list(session: &Session) -> bool {
    verified_tokens(session).any(|token| unverified_status(token.expose()).is_some())
}

/// Returns the tokens of a session that are verified offline.
fn verified_tokens(session: &Session) -> impl Iterator<Item = &Secret> {
    session.tokens.id_token.iter().chain([&session.tokens.access_token])
}
