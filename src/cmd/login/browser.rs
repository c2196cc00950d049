//! Opens the browser on this machine, to log in and to log out.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use url::Url;

use crate::app::App;
use crate::error::Error;
use crate::model::Profile;
use crate::oauth::Endpoint;

/// Opens an address in the browser that `BROWSER` names, or in the default one, and hides its output. Returns whether a
/// browser was started.
pub(super) fn open_browser(app: &App, url: &Url) -> bool {
    let mut options = webbrowser::BrowserOptions::new();
    options.with_suppress_output(true);
    let url = url.to_string();
    let windows = app.environment.surroundings.windows_opener();
    // Some browsers only return when they are closed, so the thread is not joined.
    let (sender, receiver) = std::sync::mpsc::channel();
    let started = std::thread::Builder::new().name("browser".into()).spawn(move || {
        let opened = windows.is_some_and(|(program, arguments)| open_with(&program, arguments, &url))
            || webbrowser::open_browser_with_options(webbrowser::Browser::Default, &url, &options).is_ok();
        let _ = sender.send(opened);
    });
    started.is_ok() && receiver.recv_timeout(Duration::from_secs(1)).unwrap_or(true)
}

/// Opens an address with `program`; returns whether that succeeded.
fn open_with(program: &Path, arguments: &[&str], url: &str) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Logs out in the browser (OpenID Connect RP-Initiated Logout 1.0), if the issuer supports it.
///
/// The address contains the client ID only: an `id_token_hint` would put a token into the browser's arguments. The issuer
/// asks the user instead.
pub async fn open_end_session(app: &App, profile: &Profile) -> Result<(), Error> {
    let metadata = app.sessions()?.metadata_with(profile, &[Endpoint::EndSession]).await?;
    let Some(mut url) = metadata.end_session_endpoint else {
        app.ui().notice("the issuer supports no logout in the browser");
        return Ok(());
    };
    url.query_pairs_mut().append_pair("client_id", &profile.client_id);
    if app.environment.surroundings.elsewhere().is_none() && open_browser(app, &url) {
        app.ui().notice(&format!("Opened your browser to log out at {}", profile.issuer));
    } else {
        app.ui().notice(&format!("To log out in the browser too, open this address:\n\n  {url}\n"));
    }
    Ok(())
}
