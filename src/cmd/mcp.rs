//! `authctl mcp`: the bridge between an MCP client on stdin and stdout and a server that requires tokens.

mod credentials;

use std::sync::atomic::Ordering;

use crate::app::{App, StoreAccess};
use crate::cli::Mcp;
use crate::error::{Error, ErrorCode, Hint};
use crate::mcp::Bridge;
use crate::ui::{Background, STDOUT_WAS_CLOSED};
use credentials::{McpCredentials, profile};

/// Runs the command.
pub fn run(app: &App, args: &Mcp) -> Result<u8, Error> {
    if STDOUT_WAS_CLOSED.load(Ordering::Relaxed) {
        let hint = Hint::command("mcp").with_flag("--help");
        return Err(Error::msg(ErrorCode::Usage, "stdout is closed; an MCP client must read it", hint));
    }
    // Stdin is the client's: no passphrase is asked for.
    app.use_stores(StoreAccess::NoPrompt);
    // The profile may be created, or logged in to, while the bridge runs.
    let ca_cert = profile(app, args)?.and_then(|profile| profile.ca_cert);
    let sessions = app.sessions()?;
    let api = app.run(async { Ok(sessions.api(ca_cert, args.url.url()).await?) })?;
    let clock = sessions.clock().clone();
    let provider = McpCredentials::new(app, args);
    let bridge = std::cell::OnceCell::new();
    let _printing = Background::start();
    let passed_on = async {
        let (new, requests) = Bridge::new(api, clock);
        let (bridge, requests) = bridge.get_or_init(|| (new, tokio::sync::Mutex::new(requests)));
        let mut requests = requests.lock().await;
        tokio::select! {
            () = bridge.run() => {}
            () = provider.serve(&mut requests) => {}
        }
        Ok(())
    };
    app.run_then(passed_on, async |_| {
        let Some((bridge, requests)) = bridge.get() else { return };
        let mut requests = requests.lock().await;
        tokio::select! {
            () = bridge.end() => {}
            () = provider.serve(&mut requests) => {}
        }
    })?;
    Ok(0)
}
