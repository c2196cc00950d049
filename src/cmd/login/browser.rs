//! The browser on this machine: opened to sign in, and to sign out.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use url::Url;

use crate::app::App;
use crate::error::Error;
use crate::model::Profile;
use crate::oauth::Endpoint;

/// Opens an address in the browser, the one that `BROWSER` names before any other; whether one could be started. Its
/// output is never seen.
pub(super) fn open_browser(app: &App, url: &Url) -> bool {
    let mut options = webbrowser::BrowserOptions::new();
    options.with_suppress_output(true);
    let url = url.to_string();
    let windows = app.environment.surroundings.windows_opener();
    // Some browsers only return when they are closed: they are started from a thread that nobody waits for.
    let (tell, told) = std::sync::mpsc::channel();
    let started = std::thread::Builder::new().name("browser".into()).spawn(move || {
        let opened = windows.is_some_and(|(program, arguments)| opens(&program, arguments, &url))
            || webbrowser::open_browser_with_options(webbrowser::Browser::Default, &url, &options).is_ok();
        let _ = tell.send(opened);
    });
    started.is_ok() && told.recv_timeout(Duration::from_secs(1)).unwrap_or(true)
}

/// Has `program` open an address.
fn opens(program: &Path, arguments: &[&str], url: &str) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Signs out of the issuer's own pages (OpenID Connect RP-Initiated Logout 1.0), where it has such.
///
/// The address names the client only: with an `id_token_hint` a token would stand in the browser's arguments, so the
/// issuer asks the user instead.
pub(in crate::cmd) async fn open_end_session(app: &App, profile: &Profile) -> Result<(), Error> {
    let metadata = app.sessions()?.metadata_with(profile, &[Endpoint::EndSession]).await?;
    let Some(mut url) = metadata.end_session_endpoint else {
        app.ui().tell("The issuer offers no sign-out in the browser.");
        return Ok(());
    };
    url.query_pairs_mut().append_pair("client_id", &profile.client_id);
    if app.environment.surroundings.elsewhere().is_none() && open_browser(app, &url) {
        app.ui().tell(&format!("Opening your browser to sign out at {}.", profile.issuer));
    } else {
        app.ui().tell(&format!("To sign out of the browser's session too, open:\n\n  {url}\n"));
    }
    Ok(())
}
