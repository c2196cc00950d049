//! Whether a session's ID token will do, is to be refreshed, or cannot be had any more.

use std::time::Duration;

use super::SessionService;
use crate::clock::UnixTime;
use crate::model::Session;
use crate::verify::unverified_claims;

/// How a session's ID token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdTokenStanding {
    /// There is none.
    Absent,
    /// It has the life that is wanted; until then.
    Good(UnixTime),
    /// It has less, or is over, and a refresh may bring another.
    Due(Option<UnixTime>),
    /// It has less and lives yet, but the last refresh brought no other, and the next would not either.
    Last(UnixTime),
    /// It is over, and refreshes bring no other (OpenID Connect Core 1.0, section 12.2 leaves that to the issuer).
    Over,
}

/// A refresh that brought an ID token did so within this time of its `iat`.
const SAME_MOMENT: Duration = Duration::from_secs(120);

impl SessionService {
    /// How the session's ID token stands at `now` for who wants it to live so long yet; of one that never lives so long,
    /// half its life is enough, since asking again would bring no more.
    #[must_use]
    pub fn id_token_standing(session: &Session, now: UnixTime, wanted: Duration) -> IdTokenStanding {
        let Some(token) = &session.tokens.id_token else { return IdTokenStanding::Absent };
        let Some(claims) = unverified_claims(token.expose()) else { return IdTokenStanding::Over };
        let Some(end) = claims.exp else { return IdTokenStanding::Over };
        let issued = claims.iat.unwrap_or(session.logged_in_at);
        let life = issued.until(end);
        let wanted = if wanted >= life { life / 2 } else { wanted };
        if end > now && now.until(end) > wanted {
            return IdTokenStanding::Good(end);
        }
        let replaced = session.refreshed_at.is_none_or(|at| issued.plus(SAME_MOMENT) >= at);
        match (replaced && session.can_refresh(), end > now) {
            (true, lives) => IdTokenStanding::Due(lives.then_some(end)),
            (false, true) => IdTokenStanding::Last(end),
            (false, false) => IdTokenStanding::Over,
        }
    }
}
