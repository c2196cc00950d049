//! `authctl status --watch`: the status, again and again.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use rustix::process::Signal;

use crate::app::{App, Signals};
use crate::cmd::output::{self, wrapped};
use crate::error::Error;

/// The time between two screens of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Shows the lines that `screen` returns again and again, until a signal or a closed pipe ends it.
pub(super) async fn watch(app: &App, screen: impl Fn() -> Result<Vec<String>, Error>) -> Result<u8, Error> {
    let redraws = io::stdout().is_terminal() && !app.environment.dumb_terminal;
    let mut resizes = redraws.then(|| Signals::listen(&[Signal::WINCH])).transpose().ok().flatten();
    let mut before = Vec::new();
    loop {
        let mut lines = screen().unwrap_or_else(|error| wrapped(&format!("error: {}", error.message()), 0));
        // The last row is for the cursor. More lines would scroll, and each screen would leave a part behind.
        if redraws && lines.len() >= output::height() {
            lines.truncate(output::height().saturating_sub(2));
            lines.push("…".to_owned());
        }
        let text = match redraws {
            // From the top left; what is left of the last screen is erased line by line, so that nothing flickers.
            true => format!("\u{1b}[H{}\u{1b}[K\u{1b}[J", lines.join("\u{1b}[K\n")),
            false => lines.join("\n") + "\n",
        };
        let first = if before.is_empty() && redraws { "\u{1b}[2J" } else { "" };
        if (redraws || lines != before) && !output::write(&format!("{first}{text}"))? {
            return Ok(0);
        }
        before = lines;
        until_due(app.clock().sleep(WATCH_INTERVAL), resizes.as_mut()).await;
    }
}

/// Waits for the end of the interval, or for another size of the terminal, for which the screen is drawn again at once.
async fn until_due(interval: impl Future<Output = ()>, resizes: Option<&mut Signals>) {
    let resized = async {
        match resizes {
            Some(signals) => drop(signals.next().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = interval => {}
        () = resized => {}
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn resized_terminal_ends_the_interval() {
        let mut resizes = Signals::listen(&[Signal::WINCH]).expect("listening");
        rustix::process::kill_process(rustix::process::getpid(), Signal::WINCH).expect("sent");
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, until_due(pending(), Some(&mut resizes))).await.expect("another screen");
        until_due(std::future::ready(()), None).await;
    }
}
