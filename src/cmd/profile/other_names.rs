//! Where the name of a profile that was renamed or removed is still in use: the set-up of tools, services, and what chooses the
//! profile of a command.

use crate::app::App;
use crate::cmd::helper::places_of;
use crate::cmd::proxy::installed_service;
use crate::config;
use crate::error::Hint;
use crate::model::ProfileName;
use crate::text::shell_line;

/// Warns of each place that still names `old`, with the command that changes it. `new` is the profile's new name, if it has one.
pub(super) fn warn(app: &App, old: &ProfileName, new: Option<&ProfileName>) {
    let mut places = places_of(app, old, new);
    if let Some(file) = installed_service(app, old) {
        let command = app.next_command(Hint::command("proxy uninstall").with_argument(old.as_str()));
        places.push((file.display().to_string(), command));
    }
    let directory = app.environment.directory.as_ref().and_then(|dir| config::directory_profile(dir).ok()?);
    if let Some((_, file)) = directory.filter(|(name, _)| name == old) {
        places.push((file.display().to_string(), Hint::edit(&file).to_string()));
    }
    if app.environment.profile.as_deref() == Some(old.as_str()) {
        let variable = "AUTHCTL_PROFILE";
        let command = match new {
            Some(new) => shell_line(["export", &format!("{variable}={new}")]),
            None => shell_line(["unset", variable]),
        };
        places.push((variable.to_owned(), command));
    }
    for (place, command) in places {
        app.ui().warn(&format!("{place} still names {old}; to change that, run: {command}"));
    }
}
