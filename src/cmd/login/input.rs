//! Secrets that are piped into `authctl login`, since none is ever taken from the command line.

use std::io::Read as _;

use crate::app::App;
use crate::cli::Login;
use crate::error::{Error, ErrorCode};
use crate::secret::{Secret, SecretBytes};

/// The most that is read from stdin.
const MAX_INPUT: u64 = 1024 * 1024;

/// A secret from stdin, as its first line.
///
/// # Errors
/// [`ErrorCode::Usage`] where there is none.
pub(in crate::cmd) fn secret_line(what: &str) -> Result<Secret, Error> {
    let mut bytes = SecretBytes::default();
    let read = std::io::copy(&mut std::io::stdin().lock().take(MAX_INPUT), &mut bytes);
    let text = read.ok().and_then(|_| std::str::from_utf8(bytes.expose()).ok()).unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        let hint = "pipe it to stdin, as the first line";
        return Err(Error::msg(ErrorCode::Usage, format!("stdin holds no {what}"), hint));
    }
    Ok(Secret::new(line.to_owned()))
}

/// What was read from stdin because options said so.
pub(super) struct Input {
    pub(super) client_secret: Option<Secret>,
    pub(super) password: Option<Secret>,
    pub(super) token: Option<Secret>,
}

impl Input {
    /// Reads what the options say is on stdin: a line for the client's secret, a line for the password, the rest a token.
    pub(super) fn read(app: &App, args: &Login) -> Result<Self, Error> {
        let mut input = Self { client_secret: None, password: None, token: None };
        if !(args.client_secret_stdin || args.password_stdin || args.with_token) {
            return Ok(input);
        }
        if app.ui().is_human() {
            if args.client_secret_stdin || args.password_stdin {
                let hint = "leave out the options that end in -stdin to be asked without echo, or pipe the secret in";
                return Err(Error::msg(ErrorCode::Usage, "stdin is a terminal, which would show what is typed", hint));
            }
            app.ui().tell("Paste the token response or the JWT here, then press Enter and Ctrl-D.");
        }
        let unreadable =
            |e: anyhow::Error| Error::new(ErrorCode::Usage, e.context("reading stdin"), "pipe UTF-8 text to stdin");
        let mut bytes = SecretBytes::default();
        let read = std::io::copy(&mut std::io::stdin().lock().take(MAX_INPUT + 1), &mut bytes);
        if read.map_err(|e| unreadable(e.into()))? > MAX_INPUT {
            return Err(Error::msg(
                ErrorCode::Usage,
                "stdin holds more than 1 MiB",
                "pipe only what the options ask for",
            ));
        }
        let mut rest = std::str::from_utf8(bytes.expose()).map_err(|e| unreadable(e.into()))?;
        let mut line = |what: &str| {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            rest = after;
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                let hint = "pipe it to stdin, each secret on a line of its own: first the client's, then the password";
                return Err(Error::msg(ErrorCode::Usage, format!("stdin holds no {what}"), hint));
            }
            Ok(Secret::new(line.to_owned()))
        };
        if args.client_secret_stdin {
            input.client_secret = Some(line("client secret")?);
        }
        if args.password_stdin {
            input.password = Some(line("password")?);
        }
        if args.with_token {
            if rest.trim().is_empty() {
                let hint = "pipe a token response (JSON) or a JWT to stdin";
                return Err(Error::msg(ErrorCode::Usage, "stdin holds no token", hint));
            }
            input.token = Some(Secret::new(rest.trim().to_owned()));
        }
        Ok(input)
    }
}
