//! What runs in the sandbox of `authctl exec --sandbox`: the command, beside a port that leads to the proxy's socket.

use std::path::Path;
use std::process::Command;

use tokio::net::{TcpListener, UnixStream};

use super::sandbox::INNER_ADDRESS;
use crate::app::App;
use crate::clock::Clock;
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::ACCEPT_RETRY;
use crate::proxy::raise_limits;

/// Runs the command; returns its exit code.
pub(super) fn run(
    app: &App,
    socket: &Path,
    mut command: Command,
    cannot_run: fn(&Command, std::io::Error) -> Error,
) -> Result<u8, Error> {
    app.run_with_signals(|signals| async move {
        let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::None);
        let listener = TcpListener::bind(INNER_ADDRESS).await.map_err(unexpected)?;
        let child = command.spawn().map_err(|error| cannot_run(&command, error))?;
        // The command keeps the limit that it was started with.
        raise_limits();
        super::child::attend(child, signals, forward(&listener, socket, app.clock())).await
    })
}

/// Passes connections on to the socket.
async fn forward(listener: &TcpListener, socket: &Path, clock: &dyn Clock) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            // No descriptor is free.
            clock.sleep(ACCEPT_RETRY).await;
            continue;
        };
        let socket = socket.to_owned();
        tokio::spawn(async move {
            if let Ok(mut proxy) = UnixStream::connect(socket).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut proxy).await;
            }
        });
    }
}
