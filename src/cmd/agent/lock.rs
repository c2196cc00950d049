//! `authctl agent lock` and `unlock`, and the passphrase for both.

use serde::Serialize;

use crate::agent::protocol::{AgentStatus, LockRequest, UnlockRequest};
use crate::app::App;
use crate::cli::{AgentLock, AgentUnlock};
use crate::cmd::output::{self, PIPE_PASSPHRASE, span};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::StoreKind;
use crate::secret::{Secret, SecretBytes};
use crate::store::{StoreError, StoreKey};

/// Locks the agent.
pub(super) fn lock(app: &App, args: &AgentLock) -> Result<u8, Error> {
    let with_store = app.uses_sealed_store().unwrap_or(false);
    let passphrase = if with_store { None } else { Some(passphrase(app, true)?) };
    let after = args.after.map(|after| after.as_secs());
    let reply = app.require_agent("POST", "/v1/lock", Some(&body(&LockRequest { passphrase, after })?))?;
    let state: AgentStatus = reply.read()??;
    let unlock = app.next_command(Hint::command("agent unlock"));
    let message = match (state.locked, state.locks_after) {
        (true, _) if with_store => {
            format!("agent locked; it and the file store are unlocked by the store's passphrase: `{unlock}`")
        }
        (true, _) => format!("agent locked; unlock it with `{unlock}`"),
        (false, Some(after)) => {
            format!("the agent will lock after {} without use", span(std::time::Duration::from_secs(after)))
        }
        (false, None) => "the agent no longer locks itself".to_owned(),
    };
    // The agent is locked, whatever the configuration is like.
    let _ = report_open_stores(app);
    output::done(app, &message, &state)
}

/// Reports the profiles whose sessions the lock of the agent does not protect from other programs of the user.
fn report_open_stores(app: &App) -> Result<(), Error> {
    let config = app.config()?;
    let is_sealed = app.uses_sealed_store()?;
    let seal = app.next_command(Hint::command("store passphrase"));
    for (kind, what) in [
        (StoreKind::Keychain, "the keychain, until you lock it too".to_owned()),
        (StoreKind::File, format!("files; `{seal}` locks them")),
    ] {
        let names: Vec<&str> =
            config.profiles.values().filter(|profile| profile.store == kind).map(|p| p.name.as_str()).collect();
        let is_locked_too = kind == StoreKind::File && is_sealed;
        if !is_locked_too && !names.is_empty() {
            let names = names.join(", ");
            app.ui().notice(&format!("note: your programs can still read the sessions of {names} in {what}"));
        }
    }
    Ok(())
}

/// Unlocks the agent.
pub(super) fn unlock(app: &App, args: &AgentUnlock) -> Result<u8, Error> {
    let state = app.agent_status()?;
    if state.running && !state.locked {
        return output::done(app, "the agent is not locked", &state);
    }
    let state = if args.keychain { unlock_with_keychain(app)? } else { send_passphrase(app)? };
    output::done(app, "agent unlocked", &state)
}

/// Unlocks with the passphrase in the keychain. Without the right one there, asks for it and puts it there.
fn unlock_with_keychain(app: &App) -> Result<AgentStatus, Error> {
    if !app.uses_sealed_store()? {
        let message = "--keychain is for the passphrase of the file store, which has none";
        return Err(Error::msg(ErrorCode::Usage, message, Hint::command("store passphrase")));
    }
    let sessions = app.sessions()?;
    if let Some(passphrase) = app.run(async { Ok(sessions.passphrase_in_keychain().await?) })? {
        match send(app, passphrase) {
            Err(error) if error.code == ErrorCode::WrongPassphrase => {
                app.ui().notice("the passphrase in the keychain is an earlier one");
            }
            sent => return sent,
        }
    }
    let passphrase = passphrase(app, false)?;
    let state = send(app, passphrase.clone())?;
    app.run(async { Ok(sessions.put_passphrase_in_keychain(&passphrase).await?) })?;
    app.ui().notice("the passphrase is in the keychain: programs that can read that can unlock the file store");
    Ok(state)
}

/// Asks for the passphrase, and sends it to the agent, which it unlocks.
pub(super) fn send_passphrase(app: &App) -> Result<AgentStatus, Error> {
    send(app, passphrase(app, false)?)
}

fn send(app: &App, passphrase: Secret) -> Result<AgentStatus, Error> {
    let reply = app.require_agent("POST", "/v1/unlock", Some(&body(&UnlockRequest { passphrase })?))?;
    Ok(reply.read::<AgentStatus>()??)
}

/// Gives the passphrase that the file store has now to the agent.
pub fn share_passphrase(app: &App) -> Result<(), Error> {
    let Some(passphrase) = app.sessions()?.file_key().and_then(StoreKey::passphrase) else { return Ok(()) };
    send(app, passphrase).map(drop)
}

/// Reads the passphrase from the terminal or stdin, if there is an agent to send it to. A new one is asked for twice.
fn passphrase(app: &App, new: bool) -> Result<Secret, Error> {
    if app.agent()?.is_none() {
        return Err(app.agent_absent()?);
    }
    // Before a new passphrase is typed for nothing.
    if new && app.agent_status()?.locked {
        return Err(StoreError::AgentLocked.into());
    }
    let hint = || Hint::command(if new { "agent lock" } else { "agent unlock" }).with_typed_options();
    if app.common.passphrase_stdin {
        let hint = || if app.ui().is_interactive() { hint() } else { output::check_pipe() };
        let missing = || Error::msg(ErrorCode::Usage, "no passphrase on stdin", hint());
        return app.passphrase_from_stdin().ok_or_else(missing);
    }
    let missing = || {
        let hint = hint().or_add(app.ui().is_interactive(), PIPE_PASSPHRASE);
        Error::msg(ErrorCode::AgentUnavailable, app.why_no_passphrase(), hint)
    };
    let entered = match new {
        true => app.ask_new_passphrase("Passphrase: ", "the agent is not locked", hint())?,
        false => app.ask_passphrase("Passphrase: ")?.filter(|typed| !typed.is_empty()),
    };
    entered.ok_or_else(missing)
}

/// Returns the body of a request with a passphrase, in memory that is wiped.
fn body(request: &impl Serialize) -> Result<SecretBytes, Error> {
    let mut bytes = SecretBytes::default();
    serde_json::to_writer(&mut bytes, request).map_err(|e| Error::new(ErrorCode::Unexpected, e, Hint::None))?;
    Ok(bytes)
}
