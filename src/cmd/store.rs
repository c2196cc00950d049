//! `authctl store`: the passphrase of the file store.

use serde_json::json;

use super::output;
use crate::app::App;
use crate::cli::{StoreCommand, StorePassphrase};
use crate::error::{Error, ErrorCode, Hint};
use crate::secret::Secret;
use crate::store::{StoreKey, check_passphrase};
use crate::ui::read_stdin_secret;

/// Runs the command.
pub fn run(app: &App, command: StoreCommand) -> Result<u8, Error> {
    match command {
        StoreCommand::Passphrase(args) => passphrase(app, &args),
    }
}

fn passphrase(app: &App, args: &StorePassphrase) -> Result<u8, Error> {
    let sessions = app.sessions()?;
    let is_sealed = sessions.file_key().map_or(Ok(false), StoreKey::is_sealed)?;
    let forgotten_nothing = args.forgotten && !is_sealed;
    if forgotten_nothing || args.remove && !is_sealed {
        let hint = if args.remove { Hint::None } else { Hint::command("store passphrase") };
        return Err(Error::msg(ErrorCode::Usage, "the file store has no passphrase", hint));
    }
    if is_sealed && !args.forgotten {
        app.unlock_store()?;
    }
    let new = match args.remove {
        true => None,
        // With a current one, that was the first line of stdin.
        false => Some(new_passphrase(app, is_sealed && !args.forgotten)?),
    };
    let is_complete = change(app, new, args.forgotten)?;
    let message = match (args.remove, args.forgotten) {
        (true, _) => "passphrase removed: the key of the file store is now readable without one",
        (false, true) if !is_complete => "new passphrase set; log in again",
        (false, true) => {
            "new passphrase set; the sessions, the keys of issuers and the registrations in the file store are deleted, log in again"
        }
        (false, false) if is_sealed => "passphrase changed",
        (false, false) => "passphrase set: the sessions of the file store are locked with it",
    };
    output::done(app, message, &json!({ "sealed": !args.remove }))
}

/// Seals the file store for `login --passphrase` unless it is sealed already.
///
/// # Errors
/// As `store passphrase`.
pub(super) fn seal(app: &App) -> Result<(), Error> {
    let sessions = app.sessions()?;
    if sessions.file_key().map_or(Ok(true), StoreKey::is_sealed)? {
        return app.unlock_store();
    }
    change(app, Some(new_passphrase(app, false)?), false)?;
    app.ui().notice("passphrase set: all sessions of the file store are locked with it");
    Ok(())
}

/// Changes the passphrase, and gives the new one to an agent that holds the key. Returns whether all sessions follow it.
fn change(app: &App, new: Option<Secret>, is_forgotten: bool) -> Result<bool, Error> {
    let sessions = app.sessions()?;
    let is_agent_unlocked = app.agent_status().is_ok_and(|state| state.running && !state.locked);
    let left = app.run(async {
        let _lock = app.lock_config().await?;
        let items = sessions.change_passphrase(new, is_forgotten).await?;
        // At once: without it, the agent locks itself when it next reads a session.
        if is_agent_unlocked && let Err(error) = super::agent::share_passphrase(app) {
            app.ui().warn(&format!("the agent does not have the new passphrase: {}", error.message()));
        }
        Ok(sessions.follow_key(items, is_forgotten).await)
    })?;
    if !left.is_empty() {
        let state = match is_forgotten {
            true => "not deleted, and unreadable from now on",
            false => "still encrypted to the earlier key, until they are next refreshed",
        };
        app.ui().warn_always(&format!("{state}: {}", left.join(", ")));
    }
    Ok(left.is_empty())
}

/// Asks for a new passphrase, twice at a terminal, or reads it from stdin; from another line if `after_current`.
fn new_passphrase(app: &App, after_current: bool) -> Result<Secret, Error> {
    let hint = || Hint::command("store passphrase").with_typed_options();
    let new = match (app.common.passphrase_stdin, after_current) {
        (true, true) => read_stdin_secret(),
        (true, false) => app.passphrase_from_stdin(),
        (false, _) => app.ask_new_passphrase("New passphrase: ", "nothing is changed", hint())?,
    };
    let missing = if app.common.passphrase_stdin { "no new passphrase on stdin" } else { app.why_no_passphrase() };
    let code = if app.common.passphrase_stdin { ErrorCode::Usage } else { ErrorCode::PassphraseRequired };
    let added = if after_current {
        "pipe in the current passphrase and the new one, a line each"
    } else {
        output::PIPE_PASSPHRASE
    };
    let hint_if_missing = || match app.common.passphrase_stdin && !app.ui().is_interactive() && !after_current {
        true => output::check_pipe(),
        false => hint().or_add(app.ui().is_interactive(), added),
    };
    let new = new.ok_or_else(|| Error::msg(code, missing, hint_if_missing()))?;
    check_passphrase(&new).map_err(|invalid| Error::new(ErrorCode::Usage, invalid, hint()))?;
    Ok(new)
}
