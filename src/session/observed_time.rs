//! The latest time seen by this user's commands, stored so that a clock that is set back is noticed.

use std::sync::Arc;
use std::time::Duration;

use super::SessionService;
use crate::clock::{Clock, UnixTime};
use crate::model::{ClockMark, RecordName, StoreKind};
use crate::store::Store;

/// How much later the current time must be to be recorded again.
pub(super) const RECORD_INTERVAL: Duration = Duration::from_secs(60);

/// The latest time seen, as recorded in a store.
pub(super) enum ObservedTime {
    /// Nothing is recorded: no issuer has responded so far, or the record was removed.
    None,
    /// The recorded time.
    At(ClockMark),
    /// There is a record, but it cannot be read.
    Unreadable,
}

/// Returns the latest time seen, as recorded in `store`.
pub(super) fn read_observed_time(store: &dyn Store) -> ObservedTime {
    match store.read_record(&RecordName::clock()) {
        Ok(None) => ObservedTime::None,
        Ok(Some(bytes)) => ClockMark::from_stored(&bytes).map_or(ObservedTime::Unreadable, ObservedTime::At),
        Err(_) => ObservedTime::Unreadable,
    }
}

/// Returns the current time as it is recorded.
pub(super) fn mark_of(clock: &dyn Clock) -> ClockMark {
    ClockMark { latest: clock.now(), uptime: clock.uptime() }
}

/// Records the current time if it is later than the recorded one. A failure is only logged. Blocks for at most the store's
/// own limit.
///
/// The first record is written when an issuer responds. A missing or unreadable one is not replaced here, or setting the
/// clock back would go unnoticed.
pub(super) fn record_time(store: &dyn Store, clock: &dyn Clock) {
    let mark = mark_of(clock);
    let is_due = matches!(read_observed_time(store),
        ObservedTime::At(recorded) if mark.latest > recorded.latest.plus(RECORD_INTERVAL));
    if is_due && let Err(error) = store.write_record(&RecordName::clock(), &mark.to_stored()) {
        tracing::info!("the current time was not recorded: {error}");
    }
}

/// Returns how far apart two moments are.
pub(super) fn difference(one: UnixTime, other: UnixTime) -> Duration {
    one.until(other).max(other.until(one))
}

impl SessionService {
    /// Records the current time in the store of that kind if it is later than the recorded one.
    pub async fn record_time(&self, kind: StoreKind) {
        let (clock, record) = (Arc::clone(&self.clock), RecordName::clock());
        let recorded = self.with_store(kind, record.as_str(), move |store| {
            record_time(store, &*clock);
            Ok(())
        });
        if let Err(error) = recorded.await {
            tracing::info!("the current time was not recorded: {error}");
        }
    }

    /// Records the current time after an issuer has responded. If the issuer's clock agrees with this machine's, the record
    /// is always replaced: the clock is right.
    pub(super) async fn record_confirmed_time(&self, kind: StoreKind, confirmed: bool) {
        let (mark, record) = (mark_of(&*self.clock), RecordName::clock());
        let recorded = self.with_store(kind, record.as_str(), move |store| {
            let is_due = match read_observed_time(store) {
                ObservedTime::At(recorded) => {
                    let expected = recorded.earliest_now(mark.uptime.as_ref());
                    confirmed && difference(expected, mark.latest) > RECORD_INTERVAL
                }
                ObservedTime::Unreadable => confirmed,
                ObservedTime::None => true,
            };
            if is_due { store.write_record(&RecordName::clock(), &mark.to_stored()) } else { Ok(()) }
        });
        if let Err(error) = recorded.await {
            tracing::info!("the current time was not recorded: {error}");
        }
    }
}
