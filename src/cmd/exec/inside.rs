//! What runs in the sandbox of `authctl exec --sandbox`: the command, beside a port that leads to the proxy's socket.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, UnixStream};

use super::child::{PASSED_ON, attend, check_interrupted, listen, sender};
use super::sandbox::{INNER_ADDRESS, INNER_SIGNALS};
use crate::agent::server::{close_inherited_descriptors, confine_command};
use crate::app::{App, receive_blocked};
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
    let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::None);
    // Such as an open file outside of the sandbox.
    close_inherited_descriptors(0);
    confine_command().map_err(unexpected)?;
    app.run_with_signals(|_| async move {
        // Signals must not end this process: the command gets them from the terminal or through the pipe.
        let mut ignored = listen()?;
        receive_blocked(&PASSED_ON);
        let sent = pipe::OpenOptions::new().open_receiver(INNER_SIGNALS).map_err(unexpected)?;
        let listener = TcpListener::bind(INNER_ADDRESS).await.map_err(unexpected)?;
        check_interrupted(&mut ignored)?;
        let child = command.spawn().map_err(|error| cannot_run(&command, error))?;
        // The command keeps the limit that it was started with.
        raise_limits();
        let (passing_on, forwarding) = (receive(sent, sender(&child)), forward(&listener, socket, app.clock()));
        attend(child, async { tokio::join!(passing_on, forwarding) }).await
    })
}

/// Passes signals on that arrive as their numbers.
async fn receive(mut sent: pipe::Receiver, to: impl Fn(Signal)) {
    while let Ok(number) = sent.read_u8().await {
        Signal::from_named_raw(number.into()).into_iter().for_each(&to);
    }
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
