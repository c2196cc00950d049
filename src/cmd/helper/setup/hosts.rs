//! The hosts whose tools get a profile's tokens, as a set-up changes them.

use crate::cmd::helper::call::Call;
use crate::config;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::{ProfileName, ToolHost};

/// Returns the command that gives a profile these hosts.
pub(super) fn set_hosts(profile: &ProfileName, hosts: &[ToolHost]) -> Hint {
    let hosts: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
    Hint::command("profile set").with_argument(profile.as_str()).with_argument(format!("hosts={}", hosts.join(" ")))
}

/// Adds the named hosts to the profile, or removes all but `shared` from it; returns whether that changed it.
pub(super) fn change_hosts(call: &Call<'_>, shared: &[ToolHost]) -> Result<bool, Error> {
    let (app, args) = (call.app, call.args);
    app.run(async {
        let _lock = app.lock_config().await?;
        let mut profile = match app.profile(None) {
            // Its hosts went with it.
            Err(error) if args.remove && error.code == ErrorCode::UnknownProfile => return Ok(false),
            profile => profile?,
        };
        let before = profile.hosts.clone();
        if args.write {
            profile.hosts.extend(args.hosts.iter().filter(|host| !before.contains(host)).cloned());
            for other in app.config()?.profiles.values().filter(|other| other.name != profile.name) {
                let (both, rest): (Vec<_>, Vec<_>) =
                    other.hosts.iter().cloned().partition(|host| args.hosts.contains(host));
                if let Some(host) = both.first() {
                    let command = app.next_command(set_hosts(&other.name, &rest));
                    app.ui()
                        .warn(&format!("{host} is a host of {} too; to remove it there, run: {command}", other.name));
                }
            }
        } else {
            for host in shared.iter().filter(|host| before.contains(host)) {
                let rest: Vec<ToolHost> = before.iter().filter(|other| *other != host).cloned().collect();
                let command = app.next_command(set_hosts(&profile.name, &rest));
                app.ui().notice(&format!(
                    "{host} still gets tokens: another tool is set up that may use them; to stop that, run: {command}"
                ));
            }
            profile.hosts.retain(|host| !args.hosts.contains(host) || shared.contains(host));
        }
        if profile.hosts == before {
            return Ok(false);
        }
        config::save(&app.paths()?.config, &profile)?;
        app.notify_agent(&profile.name);
        let hosts: Vec<&str> = profile.hosts.iter().map(|host| host.as_str()).collect();
        let hosts = if hosts.is_empty() { "none".to_owned() } else { hosts.join(", ") };
        app.ui().notice(&format!("hosts that get tokens of {}: {hosts}", profile.name));
        Ok(true)
    })
}

/// Returns whether hosts remain that get tokens, after those that the command names were removed, `shared` with other tools aside.
pub(super) fn has_other_hosts(call: &Call<'_>, shared: &[ToolHost]) -> Result<bool, Error> {
    let config = call.app.config()?;
    let mut remaining = config.profiles.values().flat_map(|profile| &profile.hosts);
    Ok(!call.args.hosts.is_empty() && remaining.any(|host| !shared.contains(host)))
}
