//! Reads secrets from stdin; none is ever taken from the command line.

use std::io::Read as _;

use crate::app::App;
use crate::cli::Login;
use crate::cmd::output::check_pipe;
use crate::error::{Error, ErrorCode, Hint};
use crate::secret::{Secret, SecretBytes};
use crate::ui::{BYTE_ORDER_MARK, Input, read_terminal};

/// The maximum input in bytes.
const MAX_LENGTH: u64 = 1024 * 1024;

/// The prompt at a terminal. What is typed is not shown: it holds the tokens.
const PASTE: &str = "Paste the token response or the JWT, which is not shown, then press Enter and Ctrl-D";

/// The secrets that options read from stdin.
pub(super) struct StdinSecrets {
    pub(super) client_secret: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) token: Option<Secret>,
}

impl StdinSecrets {
    /// Reads the secrets in this order: the client secret, a line; the password, a line; the token, the rest.
    pub(super) async fn read(app: &App, args: &Login) -> Result<Self, Error> {
        let mut secrets = Self { client_secret: None, password: None, token: None };
        if !(args.client_secret_stdin || args.password_stdin || args.with_token) {
            return Ok(secrets);
        }
        if app.ui().is_interactive() && (args.client_secret_stdin || args.password_stdin) {
            // Without the options that read stdin, it is typed without echo.
            let hint = Hint::login();
            return Err(Error::msg(ErrorCode::Usage, "stdin is a terminal, which would show the secret", hint));
        }
        // The same input would fail again.
        let reads_only_pipes = args.client_secret_stdin || args.password_stdin;
        let hint = || match reads_only_pipes {
            true => check_pipe(),
            false => Hint::login().or_add(app.ui().is_interactive(), "check the command before the pipe"),
        };
        let unreadable = |e: anyhow::Error| Error::new(ErrorCode::Usage, e.context("cannot read stdin"), hint());
        let ui = app.ui();
        // On a thread of its own, so that Ctrl-C ends the command.
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = SecretBytes::default();
            if ui.is_interactive() {
                let typed = read_terminal(Input::Everything, || ui.notice(PASTE)).unwrap_or_default();
                bytes.read_from(typed.as_slice())?;
            } else {
                bytes.read_from(std::io::stdin().lock().take(MAX_LENGTH + 1))?;
            }
            Ok::<_, std::io::Error>(bytes)
        });
        let read = read.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let bytes = read.map_err(|e| unreadable(e.into()))?;
        if bytes.expose().len() as u64 > MAX_LENGTH {
            return Err(Error::msg(ErrorCode::Usage, "stdin is longer than 1 MiB", hint()));
        }
        let mut rest = std::str::from_utf8(bytes.expose()).map_err(|e| unreadable(e.into()))?;
        rest = rest.trim_start_matches(BYTE_ORDER_MARK);
        let missing = |what: &str| Error::msg(ErrorCode::Usage, format!("no {what} on stdin"), hint());
        let mut line = |what: &str| {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            rest = after;
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                return Err(missing(what));
            }
            Ok(Secret::new(line.to_owned()))
        };
        if args.client_secret_stdin {
            secrets.client_secret = Some(line("client secret")?.trimmed());
        }
        if args.password_stdin {
            secrets.password = Some(line("password")?);
        }
        if args.with_token {
            if rest.trim().is_empty() {
                return Err(missing("token"));
            }
            secrets.token = Some(Secret::new(rest.trim().to_owned()));
        }
        Ok(secrets)
    }
}
