//! `authctl token --challenge`: does what helps when an API has refused a token.

use crate::app::App;
use crate::cli::Login;
use crate::cmd::challenge::{api_to_log_in, login_required, needs_browser};
use crate::cmd::login::log_in_again;
use crate::cmd::refresh::refresh_one;
use crate::config::setting;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ApiUrl, Profile, TokenTarget};
use crate::oauth::ApiChallenge;
use crate::session::{Remedy, StepUp, TokenRequest};

/// Does what helps against `challenge`, with which the API refused the token for `target`: refreshes, or logs in where a user can.
/// Nothing is done twice.
///
/// # Errors
/// [`ErrorCode::LoginRequired`] with the command to log in; [`ErrorCode::TokenDenied`] if nothing helps.
pub fn answer(
    app: &App,
    profile: &Profile,
    api: &ApiUrl,
    target: &TokenTarget,
    challenge: &ApiChallenge,
) -> Result<(), Error> {
    match app.run(app.remedy(profile, target, challenge, None))? {
        Remedy::StoredToken => Ok(()),
        Remedy::Nothing(reason) => {
            let hint = Hint::advice("ask the operator of the API for access, or log in with another account");
            Err(Error::msg(ErrorCode::TokenDenied, reason, hint))
        }
        Remedy::Login(step_up) => log_in(app, profile, api, challenge, step_up),
        Remedy::Refresh => match refresh_one(app, profile, &TokenRequest::new_access(target.clone())) {
            Ok(_) => Ok(()),
            Err(error) if error.code == ErrorCode::LoginRequired => {
                log_in(app, profile, api, challenge, StepUp::default())
            }
            Err(error) => Err(error),
        },
    }
}

/// Logs in once with these requirements, if there is a user.
fn log_in(app: &App, profile: &Profile, api: &ApiUrl, challenge: &ApiChallenge, step_up: StepUp) -> Result<(), Error> {
    let required = login_required(profile, api, &step_up);
    if !app.ui().is_interactive() {
        return Err(required);
    }
    app.ui().instruct(&required.message());
    let mut args = Login {
        profile: Some(profile.name.clone()),
        api: api_to_log_in(profile, api, &step_up).cloned(),
        challenge: Some(challenge.clone()),
        browser: needs_browser(profile, &step_up),
        acr_values: step_up.acr_values,
        max_age: step_up.max_age,
        ..Login::default()
    };
    if !step_up.scopes.is_empty() {
        args.settings.set(setting("scopes")?, step_up.scopes);
    }
    log_in_again(app, args)
}
