//! A profile's token, verified as `authctl verify` does.

use crate::app::App;
use crate::cmd::token::require_bearer;
use crate::error::{Error, ErrorCode};
use crate::model::{DecidingToken, Profile, TokenTarget, canonical_type};
use crate::secret::Secret;
use crate::session::refresh_policy::Validity;
use crate::session::{ServedToken, SessionError, TokenRequest};
use crate::verify::{Policy, Reason, Verdict};

/// A verified token, or why it is denied.
pub(super) enum TokenCheck {
    Granted(Secret, Validity),
    /// With the error if only a login would bring an ID token that is required.
    Denied(Vec<Reason>, Option<Error>),
}

/// Returns the profile's token, verified, and why it was not refreshed, although it expires soon.
pub(super) async fn verified(app: &App, profile: &Profile) -> Result<(TokenCheck, Option<SessionError>), Error> {
    let sessions = app.sessions()?;
    let verifier = || sessions.verifier(profile, Policy::new("", Vec::new(), app.clock().now()), None);
    // The keychain may be locked during a refresh.
    let before = verifier();
    let mut served = app.token_within_limit(profile, &TokenRequest::access(TokenTarget::default(), None)).await?;
    let mut login_required = None;
    if profile.requirements.token == DecidingToken::IdToken {
        // The ID token, which is verified, may expire before the access token does.
        match app.token_within_limit(profile, &TokenRequest::id_token(None)).await {
            Ok(newer) => served = ServedToken { refreshed: served.refreshed || newer.refreshed, ..newer },
            Err(error) => login_required = Some(error).filter(|error| error.code == ErrorCode::LoginRequired),
        }
    }
    require_bearer(app, Some(&profile.name), canonical_type(&served.session.tokens.token_type))?;
    let verifier = match before {
        Ok(before) if !served.refreshed => Ok(before),
        before => verifier().or(before),
    };
    let verifier = verifier.map_err(|e| Error::from(e).about(&profile.name))?;
    let token = match verifier.verify_session(profile, &served.session, false).verdict {
        Verdict::Granted(_) => {
            let tokens = served.session.tokens;
            TokenCheck::Granted(tokens.access_token.clone(), Validity::from(&tokens))
        }
        Verdict::Denied(reasons) => TokenCheck::Denied(reasons, login_required),
    };
    Ok((token, served.warning))
}
