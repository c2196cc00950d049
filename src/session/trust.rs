//! What is trusted of an issuer while it cannot be asked: its keys, its status lists and when it last answered, kept in the
//! profile's store.

use std::sync::Arc;
use std::time::Duration;

use super::{SessionError, SessionService};
use crate::clock::{Clock, UnixTime};
use crate::model::{
    ClockMark, IssuerUrl, PinnedKeys, Profile, ProfileName, RecordName, Session, StoreKind, StoredStatusList, Trust,
    TrustedKeys,
};
use crate::oauth::{Endpoint, Metadata, jwks, status_list};
use crate::secret::Secret;
use crate::store::{ProfileLock, Store, StoreError};
use crate::verify::{CLOCK_TOLERANCE, KeySet, StatusList, StatusListPolicy, unverified_claims, unverified_status};

/// How old kept keys may get before a refresh fetches them again.
const KEYS_DUE: Duration = Duration::from_secs(3600);

/// How often at most keys are fetched because a token names one that is not known (RFC 8725, section 3.10 warns of
/// requests that a token can cause).
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(300);

/// What is known of the time is written down again after so long.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// How long somebody who waits for a token waits for keys or for a status list, which a later refresh asks for again.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long another process may take to change what is trusted.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// What an issuer was just heard to say.
#[derive(Default)]
struct IssuerUpdate {
    lists: Vec<StoredStatusList>,
    keys: Option<TrustedKeys>,
    asked_in_vain: bool,
    told: Option<UnixTime>,
}

/// Status lists that were fetched and are believed, and whether one was not for want of the key that signed it.
struct DueLists {
    lists: Vec<StoredStatusList>,
    lacks_key: bool,
}

impl SessionService {
    /// What is trusted of the profile's issuer.
    ///
    /// # Errors
    /// [`SessionError::Store`], or [`SessionError::Trust`] where what is kept cannot be read.
    pub async fn trust(&self, profile: &Profile) -> Result<Trust, SessionError> {
        let issuer = profile.issuer.clone();
        self.with_store(profile.store, move |store| Ok(trust_in(store, &issuer))).await?
    }

    /// Changes what is trusted of the profile's issuer, one process after the other.
    ///
    /// # Errors
    /// As [`SessionService::trust`], and [`SessionError::Lock`].
    pub async fn change_trust(
        &self,
        profile: &Profile,
        change: impl FnOnce(&mut Trust) + Send + 'static,
    ) -> Result<Trust, SessionError> {
        let _lock = self.lock_trust(&profile.issuer).await?;
        let issuer = profile.issuer.clone();
        self.with_store(profile.store, move |store| {
            let before = match trust_in(store, &issuer) {
                Ok(trust) => trust,
                Err(error) => return Ok(Err(error)),
            };
            let mut trust = before.clone();
            change(&mut trust);
            if trust != before {
                store.write_record(&RecordName::of_issuer(&issuer), &trust.to_stored())?;
            }
            Ok(Ok(trust))
        })
        .await?
    }

    /// Fetches the issuer's keys now, pinned ones or not.
    ///
    /// # Errors
    /// As [`SessionService::change_trust`], and [`SessionError::Issuer`]; the kept keys are then kept.
    pub async fn update_keys(&self, profile: &Profile) -> Result<Trust, SessionError> {
        let metadata = self.metadata_with(profile, &[Endpoint::Jwks]).await?;
        let keys = self.fetch_keys(profile, &metadata).await?;
        let heard = IssuerUpdate { keys, told: self.told(profile), ..IssuerUpdate::default() };
        self.hear(profile, heard).await
    }

    /// Trusts these keys and no others from now on.
    ///
    /// # Errors
    /// As [`SessionService::change_trust`].
    pub async fn pin_keys(&self, profile: &Profile, keys: String, source: String) -> Result<Trust, SessionError> {
        let pinned = PinnedKeys { keys, source, pinned_at: self.clock.now() };
        self.change_trust(profile, move |trust| trust.pinned = Some(pinned)).await
    }

    /// Trusts what the issuer says again; whether anything was pinned. What is kept and cannot be read is dropped: this
    /// is the way out for who has seen to why.
    ///
    /// # Errors
    /// As [`SessionService::change_trust`].
    pub async fn unpin_keys(&self, profile: &Profile) -> Result<bool, SessionError> {
        match self.trust(profile).await {
            Ok(trust) => {
                self.change_trust(profile, |trust| trust.pinned = None).await?;
                Ok(trust.pinned.is_some())
            }
            Err(error) if is_lost(&error) => {
                self.trust_nothing(profile).await?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn trust_nothing(&self, profile: &Profile) -> Result<(), SessionError> {
        let _lock = self.lock_trust(&profile.issuer).await?;
        let issuer = profile.issuer.clone();
        self.with_store(profile.store, move |store| match trust_in(store, &issuer) {
            // Somebody has pinned keys, or logged in, meanwhile.
            Ok(_) => Ok(()),
            Err(_) => store.write_record(&RecordName::of_issuer(&issuer), &Trust::none(issuer.clone()).to_stored()),
        })
        .await
    }

    /// What is trusted when a login begins, and whether that had been kept and is lost: a new login goes on without.
    pub(super) async fn trust_at_login(&self, profile: &Profile) -> Result<(Trust, bool), SessionError> {
        match self.trust(profile).await {
            Ok(trust) => Ok((trust, false)),
            Err(error) if is_lost(&error) => Ok((Trust::none(profile.issuer.clone()), true)),
            Err(error) => Err(error),
        }
    }

    /// Fetches the keys again after a refresh, if they are old or lack the one that a token names, and notes that the
    /// issuer answered. What fails is no failure of the refresh: old keys are kept.
    pub(super) async fn keep_up(&self, profile: &Profile, trust: &Trust, tokens: &[&Secret]) -> Option<Trust> {
        let now = self.clock.now();
        let past = |moment: UnixTime, pause: Duration| moment.plus(pause) <= now || moment > now;
        let old = trust.fetched.as_ref().is_none_or(|keys| past(keys.fetched_at, KEYS_DUE));
        let lacking = !tokens.iter().all(|token| knows_key(trust, token));
        // What was asked for in vain is not asked for again at each refresh.
        let rested = trust.asked_at.is_none_or(|at| past(at, UNKNOWN_KEY_PAUSE));
        let mut heard =
            IssuerUpdate { told: self.told(profile), asked_in_vain: lacking && rested, ..IssuerUpdate::default() };
        let may_fetch = trust.pinned.is_none() && rested;
        if may_fetch && (old || lacking) {
            self.fetch_again(profile, trust, lacking, &mut heard).await;
        }
        let known =
            |heard: &IssuerUpdate| Trust { fetched: heard.keys.clone().or(trust.fetched.clone()), ..trust.clone() };
        let mut due = self.due_lists(profile, &known(&heard), tokens).await;
        if due.lacks_key && may_fetch && !old && !lacking {
            // The issuer signs its lists with a new key already, and these tokens are older.
            heard.asked_in_vain = true;
            self.fetch_again(profile, trust, true, &mut heard).await;
            due = self.due_lists(profile, &known(&heard), tokens).await;
        }
        heard.lists = due.lists;
        match self.hear(profile, heard).await {
            Ok(trust) => Some(trust),
            Err(error) => {
                tracing::info!("what the issuer said of its keys was not stored: {error}");
                None
            }
        }
    }

    /// Fetches the keys once more, for somebody who does not wait for them for long.
    async fn fetch_again(&self, profile: &Profile, trust: &Trust, lacking: bool, heard: &mut IssuerUpdate) {
        // An issuer that never had keys, and signs nothing, is not asked twice for them.
        let needed: &[Endpoint] = if trust.fetched.is_some() || lacking { &[Endpoint::Jwks] } else { &[] };
        let fetch = async {
            let metadata = self.metadata_with(profile, needed).await?;
            self.fetch_keys(profile, &metadata).await
        };
        let fetched = tokio::select! {
            fetched = fetch => fetched.map_err(|error| error.to_string()),
            () = self.clock.sleep(PATIENCE) => Err(format!("nothing came within {PATIENCE:?}")),
        };
        match fetched {
            Ok(keys) => heard.keys = keys,
            Err(why) => {
                heard.asked_in_vain = true;
                tracing::info!("the issuer's keys were not fetched again: {why}");
            }
        }
    }

    /// Whether a token of the session names a status list.
    #[must_use]
    pub fn names_lists(session: &Session) -> bool {
        let mut tokens = session.tokens.id_token.iter().chain([&session.tokens.access_token]);
        tokens.any(|token| unverified_status(token.expose()).is_some())
    }

    /// Fetches again those status lists that the session's tokens name and that will soon be too old, as
    /// [`SessionService::keep_up`] does at a refresh; for sessions whose tokens outlive their lists.
    pub async fn keep_lists(&self, profile: &Profile, session: &Session) {
        let Ok(trust) = self.trust(profile).await else { return };
        let tokens: Vec<&Secret> = session.tokens.id_token.iter().chain([&session.tokens.access_token]).collect();
        let DueLists { lists, lacks_key } = self.due_lists(profile, &trust, &tokens).await;
        if lacks_key {
            self.keep_up(profile, &trust, &tokens).await;
        }
        if lists.is_empty() {
            return;
        }
        // Lists may be another host's: that the issuer itself has answered is not said by them.
        let keep = |trust: &mut Trust| lists.into_iter().for_each(|list| trust.keep_list(list));
        if let Err(error) = self.change_trust(profile, keep).await {
            tracing::info!("the issuer's status lists were not stored: {error}");
        }
    }

    /// The status lists that `tokens` name, fetched where the kept one will soon be too old, and believed.
    async fn due_lists(&self, profile: &Profile, trust: &Trust, tokens: &[&Secret]) -> DueLists {
        let now = self.clock.now();
        let (keys, _) = keys_of(trust, now);
        let read = |list: &StoredStatusList| {
            let policy = StatusListPolicy::new(&list.uri, profile.issuer.as_str(), list.fetched_at);
            StatusList::read(&list.jwt, &keys, &policy)
        };
        // Half of its life is left for a machine that goes offline right after.
        let due = |list: &StoredStatusList| {
            let half = |read: StatusList| list.fetched_at.plus(list.fetched_at.until(read.fresh_until()) / 2);
            list.fetched_at > now || read(list).map_or(true, |read| half(read) <= now)
        };
        let (mut lists, mut lacks_key): (Vec<StoredStatusList>, bool) = (Vec::new(), false);
        for claim in tokens.iter().filter_map(|token| unverified_status(token.expose())) {
            let known = lists.iter().any(|list| list.uri == claim.uri);
            if known || trust.lists.iter().any(|list| list.uri == claim.uri && !due(list)) {
                continue;
            }
            let fetched = match self.http(profile) {
                Ok(http) => tokio::select! {
                    fetched = status_list::fetch(&http, &claim.url) => fetched.map_err(SessionError::from),
                    () = self.clock.sleep(PATIENCE) => {
                        tracing::info!("a status list did not come within {PATIENCE:?}");
                        continue;
                    }
                },
                Err(error) => Err(error),
            };
            match fetched.map(|jwt| StoredStatusList { uri: claim.uri, jwt, fetched_at: now }) {
                Ok(list) => match read(&list) {
                    Ok(_) => lists.push(list),
                    Err(error) => {
                        lacks_key |= error.is_unknown_key();
                        tracing::warn!("a status list is not kept: {error}");
                    }
                },
                Err(error) => tracing::info!("a status list was not fetched: {error}"),
            }
        }
        DueLists { lists, lacks_key }
    }

    /// Keeps the keys that a login fetched, and the status lists that its tokens name; what was kept before is dropped
    /// where it is `lost`.
    pub(super) async fn learn(
        &self,
        profile: &Profile,
        keys: Option<TrustedKeys>,
        session: &Session,
        (kept, lost): (&Trust, bool),
    ) {
        let known = Trust { fetched: keys.clone(), ..kept.clone() };
        let tokens: Vec<&Secret> = session.tokens.id_token.iter().chain([&session.tokens.access_token]).collect();
        let DueLists { lists, .. } = self.due_lists(profile, &known, &tokens).await;
        let heard = IssuerUpdate { keys, lists, told: self.told(profile), ..IssuerUpdate::default() };
        let learnt = async {
            if lost {
                self.trust_nothing(profile).await?;
            }
            self.hear(profile, heard).await
        };
        if let Err(error) = learnt.await {
            tracing::warn!("the issuer's keys were not stored: {error}");
        }
    }

    /// The issuer's keys as they are now; `None` where it publishes none.
    pub(super) async fn fetch_keys(
        &self,
        profile: &Profile,
        metadata: &Metadata,
    ) -> Result<Option<TrustedKeys>, SessionError> {
        let Some(source) = &metadata.jwks_uri else { return Ok(None) };
        let fetched_at = self.clock.now();
        let jwks = jwks::fetch(&*self.http(profile)?, source).await?;
        Ok(Some(TrustedKeys { jwks, source: source.to_string(), fetched_at }))
    }

    /// What the issuer's clock showed when it last answered.
    fn told(&self, profile: &Profile) -> Option<UnixTime> {
        self.http(profile).ok()?.told_by(&profile.issuer)
    }

    /// Writes down what was heard, where it is news.
    async fn hear(&self, profile: &Profile, heard: IssuerUpdate) -> Result<Trust, SessionError> {
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let told = heard.told;
        let trust = self
            .change_trust(profile, move |trust| {
                if let Some(keys) = heard.keys {
                    trust.fetched = Some(keys);
                }
                heard.lists.into_iter().for_each(|list| trust.keep_list(list));
                if heard.asked_in_vain {
                    trust.asked_at = Some(now);
                }
                let known = |at: UnixTime| at <= now && now < at.plus(NOTED_EVERY);
                if !trust.contact_at.is_some_and(known) {
                    trust.contact_at = Some(now);
                }
                if let Some(told) = told {
                    let mark = ClockMark { latest: told, uptime: uptime.clone() };
                    let apart = |kept: &ClockMark| apart(kept.earliest_now(uptime.as_ref()), told);
                    if trust.told.as_ref().is_none_or(|kept| apart(kept) > NOTED_EVERY || kept.latest > told) {
                        trust.told = Some(mark);
                    }
                }
            })
            .await?;
        // An issuer whose clock agrees has confirmed this machine's: whatever it once showed, it is right now.
        let confirmed = told.is_none_or(|told| apart(told, now) <= CLOCK_TOLERANCE);
        let mark = ClockMark { latest: now, uptime: self.clock.uptime() };
        let noted = self.with_store(profile.store, move |store| {
            let news = match mark_in(store) {
                Mark::Kept(kept) => confirmed && apart(kept.earliest_now(mark.uptime.as_ref()), now) > NOTED_EVERY,
                Mark::Unreadable => confirmed,
                Mark::None => true,
            };
            if news { store.write_record(&RecordName::clock(), &mark.to_stored()) } else { Ok(()) }
        });
        if let Err(error) = noted.await {
            tracing::info!("the time was not noted: {error}");
        }
        Ok(trust)
    }

    async fn lock_trust(&self, issuer: &IssuerUrl) -> Result<ProfileLock, SessionError> {
        #[allow(clippy::expect_used, reason = "letters, digits and a dash are a profile's name")]
        let name: ProfileName = RecordName::issuer_mark(issuer).parse().expect("a name");
        Ok(ProfileLock::acquire(&self.locks.join("trust"), &name, &*self.clock, LOCK_LIMIT).await?)
    }

    /// What a store keeps of an issuer; nothing yet where it keeps nothing. Blocks, for as long as the store's own limit.
    ///
    /// # Errors
    /// [`SessionError::Store`] or [`SessionError::Trust`].
    pub fn kept_trust(store: &dyn Store, issuer: &IssuerUrl) -> Result<Trust, SessionError> {
        trust_in(store, issuer)
    }

    /// The keys that are trusted, and the age of fetched ones; pinned ones have none.
    #[must_use]
    pub fn trusted_keys(trust: &Trust, now: UnixTime) -> (KeySet, Option<Duration>) {
        keys_of(trust, now)
    }

    /// Notes that it is now, for later runs: the clock will not be believed that shows less. Whatever fails is no
    /// failure of what is done beside it. Blocks, for as long as the store's own limit.
    pub fn note_time(store: &dyn Store, clock: &dyn Clock) {
        let mark = ClockMark { latest: clock.now(), uptime: clock.uptime() };
        // The first is noted when an issuer answers. What is gone or cannot be read is not made good here.
        let is_news = matches!(mark_in(store), Mark::Kept(kept) if mark.latest > kept.latest.plus(NOTED_EVERY));
        if is_news && let Err(error) = store.write_record(&RecordName::clock(), &mark.to_stored()) {
            tracing::info!("the time was not noted: {error}");
        }
    }

    /// The same without holding the runtime's thread.
    pub async fn note_the_time(&self, kind: StoreKind) {
        let clock = Arc::clone(&self.clock);
        let noted = self.with_store(kind, move |store| {
            Self::note_time(store, &*clock);
            Ok(())
        });
        if let Err(error) = noted.await {
            tracing::info!("the time was not noted: {error}");
        }
    }
}

/// What a store keeps of an issuer; nothing yet where it keeps nothing.
///
/// # Errors
/// [`SessionError::Store`] or [`SessionError::Trust`].
pub(super) fn trust_in(store: &dyn Store, issuer: &IssuerUrl) -> Result<Trust, SessionError> {
    let damaged = || SessionError::Trust { issuer: issuer.clone() };
    match store.read_record(&RecordName::of_issuer(issuer)) {
        Ok(None) => Ok(Trust::none(issuer.clone())),
        Ok(Some(bytes)) => match Trust::from_stored(&bytes) {
            Ok(trust) if trust.issuer == *issuer => Ok(trust),
            _ => Err(damaged()),
        },
        Err(StoreError::Damaged { .. }) => Err(damaged()),
        Err(error) => Err(error.into()),
    }
}

/// Whether what was kept is there and will not be read by any further try.
fn is_lost(error: &SessionError) -> bool {
    match error {
        SessionError::Trust { .. } => true,
        SessionError::Store(error) => error.session_lost(),
        _ => false,
    }
}

/// The latest moment seen, as a store keeps it.
pub(super) enum Mark {
    /// No issuer has answered yet, or somebody took it away.
    None,
    /// This.
    Kept(ClockMark),
    /// It is there, and cannot be read.
    Unreadable,
}

/// The latest moment seen, as `store` keeps it.
pub(super) fn mark_in(store: &dyn Store) -> Mark {
    match store.read_record(&RecordName::clock()) {
        Ok(None) => Mark::None,
        Ok(Some(bytes)) => ClockMark::from_stored(&bytes).map_or(Mark::Unreadable, Mark::Kept),
        Err(_) => Mark::Unreadable,
    }
}

/// The keys that are trusted, and the age of fetched ones. Pinned ones have none.
pub(super) fn keys_of(trust: &Trust, now: UnixTime) -> (KeySet, Option<Duration>) {
    match (&trust.pinned, &trust.fetched) {
        (Some(pinned), _) => (KeySet::parse(&pinned.keys).unwrap_or_default(), None),
        (None, Some(fetched)) => {
            (KeySet::from_jwks(&fetched.jwks).unwrap_or_default(), Some(fetched.fetched_at.until(now)))
        }
        (None, None) => (KeySet::default(), None),
    }
}

/// Whether the key that signed a token is known; opaque tokens need none.
fn knows_key(trust: &Trust, token: &Secret) -> bool {
    let Some(kid) = unverified_claims(token.expose()).and_then(|claims| claims.kid) else { return true };
    keys_of(trust, UnixTime(0)).0.has_kid(&kid)
}

fn apart(one: UnixTime, other: UnixTime) -> Duration {
    one.until(other).max(other.until(one))
}
