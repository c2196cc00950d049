//! `authctl exec --proxy`: runs the command with a proxy of its own instead of a token.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::Command;

use tokio::sync::oneshot;

use super::child::{PASSED_ON, attend, check_interrupted, listen, pass_on, sender};
use super::sandbox::{INNER_SOCKET, INNER_URL, Sandbox};
use crate::app::{App, with_blocked};
use crate::cli::Exec;
use crate::cmd::proxy::{ListenAddress, Prepared};
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ProfileName;
use crate::paths::{PROXY_KEY_VARIABLE, PROXY_SOCKET_VARIABLE, PROXY_URL_VARIABLE, without_secrets};
use crate::proxy::raise_limits;
use crate::secret::limit_core_dumps;

/// What the texts of `--env` and the arguments of the command can name.
struct Placeholders {
    url: String,
    key: String,
    socket: String,
}

impl Placeholders {
    /// Returns `text` with `{url}`, `{key}` and `{socket}` replaced.
    fn fill(&self, text: &OsStr) -> OsString {
        let mut rest = text.as_bytes();
        let mut filled = Vec::with_capacity(rest.len());
        while let Some((first, after)) = rest.split_first() {
            let named = [("{url}", &self.url), ("{key}", &self.key), ("{socket}", &self.socket)];
            match named.iter().find(|(name, _)| rest.starts_with(name.as_bytes())) {
                Some((name, value)) => {
                    filled.extend_from_slice(value.as_bytes());
                    rest = &rest[name.len()..];
                }
                None => {
                    filled.push(*first);
                    rest = after;
                }
            }
        }
        OsString::from_vec(filled)
    }
}

fn names_socket(text: impl AsRef<OsStr>) -> bool {
    text.as_ref().as_bytes().windows(8).any(|part| part == b"{socket}")
}

/// Runs the command with a proxy that ends with it. Returns its exit code, as a shell does.
pub(super) fn run(
    app: &App,
    args: &Exec,
    profile: Option<&ProfileName>,
    words: &[OsString],
    cannot_run: fn(&Command, std::io::Error) -> Error,
) -> Result<u8, Error> {
    let sandbox = if args.sandbox { Some(Sandbox::new(app, &args.bind)?) } else { None };
    let address = match &sandbox {
        Some(sandbox) => ListenAddress::Unix(sandbox.socket()),
        None => ListenAddress::Tcp(([127, 0, 0, 1], 0).into()),
    };
    let mut prepared = Prepared::new(app, profile, &args.rules, address)?;
    if sandbox.is_some() {
        prepared.origin = INNER_URL.to_owned();
    } else if words.iter().any(names_socket)
        || args.env.iter().filter_map(|(_, value)| value.as_ref()).any(names_socket)
    {
        let hint = Hint::command("exec").with_flag("--help");
        return Err(Error::msg(ErrorCode::Usage, "`{socket}` needs --sandbox: without it, the proxy has a port", hint));
    }
    let places = match &sandbox {
        Some(_) => Placeholders {
            url: format!("{INNER_URL}{}", prepared.path()),
            key: prepared.key.expose().to_owned(),
            socket: INNER_SOCKET.to_owned(),
        },
        None => Placeholders { url: prepared.url(), key: prepared.key.expose().to_owned(), socket: String::new() },
    };
    let filled: Vec<OsString> = words.iter().map(|word| places.fill(word)).collect();
    let mut command = match &sandbox {
        Some(sandbox) => sandbox.command(&filled)?,
        None => {
            let mut command = Command::new(filled.first().map_or(OsStr::new(""), OsString::as_os_str));
            command.args(filled.iter().skip(1));
            command
        }
    };
    without_secrets(&mut command);
    command.env(PROXY_URL_VARIABLE, &places.url).env(PROXY_KEY_VARIABLE, &places.key);
    if sandbox.is_some() {
        command.env(PROXY_SOCKET_VARIABLE, &places.socket);
    }
    for (name, value) in &args.env {
        let Some(value) = value else {
            let message = format!("--proxy passes no token: write --env {name}={{url}} or {name}={{key}}");
            return Err(Error::msg(ErrorCode::Usage, message, Hint::command("exec").with_flag("--help")));
        };
        command.env(name, places.fill(OsStr::new(value)));
    }
    app.run_with_signals(|_| async move {
        let mut signals = listen()?;
        let (ended, end) = oneshot::channel::<()>();
        let stop = async {
            let _ = end.await;
        };
        let running = async {
            check_interrupted(&mut signals)?;
            limit_core_dumps(false);
            // bubblewrap would end at a signal, and the command with it.
            let blocked = if sandbox.is_some() { &PASSED_ON[..] } else { &[] };
            let started = with_blocked(blocked, || command.spawn());
            limit_core_dumps(true);
            // The command keeps the limit that it was started with.
            raise_limits();
            match started {
                Ok(child) => match &sandbox {
                    Some(sandbox) => attend(child, pass_on(signals, |signal| sandbox.pass_on(signal))).await,
                    None => {
                        let to = sender(&child);
                        attend(child, pass_on(signals, to)).await
                    }
                },
                Err(error) => Err(cannot_run(&command, error)),
            }
        };
        let running = async {
            let result = running.await;
            drop(ended);
            result
        };
        let (result, served) = tokio::join!(running, prepared.serve(app, stop));
        served.and(result)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_the_proxy() {
        let places = Placeholders { url: "http://x/v1".into(), key: "{url}".into(), socket: "/s".into() };
        for (text, expected) in [
            ("{url}", "http://x/v1"),
            ("--api={url}/items", "--api=http://x/v1/items"),
            ("{key}", "{url}"),
            ("{socket}:{url}", "/s:http://x/v1"),
            ("{other} {", "{other} {"),
            ("", ""),
        ] {
            assert_eq!(places.fill(OsStr::new(text)), OsStr::new(expected), "{text}");
        }
        let bytes = OsString::from_vec(vec![0xff, b'{', b'k']);
        assert_eq!(places.fill(&bytes), bytes, "text that is not UTF-8");
    }
}
