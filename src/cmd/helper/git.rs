//! git's credential helper protocol (gitcredentials(7), git-credential(1)).

use super::call::{Call, USERNAME, foreign};
use super::program::{is_authctl, program};
use super::protocol::{Failure, Protocol};
use super::setup::Change;
use crate::cmd::output;
use crate::cmd::refresh::refresh_one;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ToolHost;
use crate::session::{Demand, TokenRequest};
use crate::text::{excerpt, shell_line, shell_word};

pub(super) struct Git;

/// The credential that git needs, or that a server refused.
struct Request<'a> {
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Request<'a> {
    /// Parses lines of `KEY=VALUE` up to an empty one.
    fn parse(text: &'a str) -> Result<Self, Error> {
        let lines = text.lines().take_while(|line| !line.is_empty()).map(|line| {
            line.split_once('=').ok_or_else(|| {
                Error::msg(
                    ErrorCode::Usage,
                    "git's request has a line without `=`",
                    Hint::command("helper").with_flag("--help"),
                )
            })
        });
        Ok(Self { lines: lines.collect::<Result<_, _>>()? })
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.lines.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// Returns the host, or why it may not get a token; `None` if the request is not for a web server.
    fn host(&self) -> Option<Result<ToolHost, Error>> {
        let (protocol, host) = (self.get("protocol")?, self.get("host")?);
        if !matches!(protocol, "http" | "https") {
            return None;
        }
        // A host alone is checked more strictly than an address.
        let parsed = host.parse::<ToolHost>().and_then(|_| format!("{protocol}://{host}").parse());
        let hint = Hint::shell("git remote -v");
        Some(parsed.map_err(|error| Error::new(ErrorCode::Usage, anyhow::Error::new(error), hint)))
    }

    /// Returns whether git can send the credential in the scheme that the helper names (git 2.46 and newer).
    fn takes_scheme(&self) -> bool {
        self.lines.contains(&("capability[]", "authtype"))
    }
}

impl Protocol for Git {
    fn answer(&self, call: &Call<'_>) -> Result<u8, Error> {
        match call.words()[..] {
            ["capability"] => output::data("version 0\ncapability authtype").map(|()| 0),
            ["get"] => get(call),
            ["erase"] => erase(call),
            // What other helpers know is not stored, and git asks to ignore requests of newer versions.
            [_] => Ok(0),
            _ => Err(call.unknown_words()),
        }
    }

    /// `quit` keeps git from asking for a user name and password.
    fn failure(&self, error: &Error) -> Failure {
        Failure { stdout: Some("quit=1\n".to_owned()), code: error.code.exit_code(), on_stderr: true }
    }

    fn setup(&self, call: &Call<'_>) -> Result<Vec<Change>, Error> {
        let mut words = program(call.app)?;
        words.extend(["helper", "git"].map(str::to_owned));
        words.extend(call.args.id_token.then(|| "--id-token".to_owned()));
        let helper = format!("!{}", shell_line(words));
        let mut changes = Vec::new();
        for address in call.args.hosts.iter().flat_map(addresses) {
            let key = format!("credential.{address}.helper");
            let (key, helper) = (key, helper.clone());
            changes.push(Change::Commands {
                shown: git(&["--get-all", &key]),
                plan: Box::new(
                    move |shown, add| if add { set_up(&key, &helper, shown) } else { Ok(undo(&key, shown)) },
                ),
            });
        }
        changes.push(Change::Hosts);
        Ok(changes)
    }
}

fn git(words: &[&str]) -> Vec<String> {
    ["git", "config", "--global"].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

/// Splits the helpers that git shows, an empty one aside, into authctl's and others.
fn helpers(shown: &str) -> (Vec<&str>, Vec<&str>) {
    let is_ours = |helper: &&str| {
        let command = helper.strip_prefix('!').and_then(|command| command.split_once(" helper git"));
        command
            .is_some_and(|(start, _)| is_authctl(start.split(" --config ").next().unwrap_or(start).trim_matches('\'')))
    };
    shown.lines().filter(|line| !line.is_empty()).partition(is_ours)
}

fn set_up(key: &str, helper: &str, shown: &str) -> Result<Vec<Vec<String>>, Error> {
    // An empty one first: no helper for all hosts stores the token.
    let is_alone = shown.lines().take_while(|line| *line != helper).any(str::is_empty);
    Ok(match helpers(shown) {
        (ours, _) if ours == [helper] && is_alone => Vec::new(),
        (_, others) if others.is_empty() => vec![git(&["--replace-all", key, ""]), git(&["--add", key, helper])],
        (ours, _) if ours == [helper] => Vec::new(),
        (ours, others) => match ours.split_first() {
            None => {
                let message = format!("git's configuration has another {key}: {}", excerpt(others[0], 200));
                return Err(foreign(
                    message,
                    Hint::shell(format!("git config --show-origin --get-all {}", shell_word(key))),
                ));
            }
            Some((first, rest)) => {
                let remove = rest.iter().map(|other| git(&["--fixed-value", "--unset-all", key, other]));
                remove.chain([git(&["--fixed-value", "--replace-all", key, helper, first])]).collect()
            }
        },
    })
}

fn undo(key: &str, shown: &str) -> Vec<Vec<String>> {
    match helpers(shown) {
        (ours, others) if others.is_empty() && !ours.is_empty() => vec![git(&["--unset-all", key])],
        (ours, _) => ours.iter().map(|helper| git(&["--fixed-value", "--unset-all", key, helper])).collect(),
    }
}

/// Returns the addresses by which git finds its configuration for the host: https, and http for a port on loopback.
fn addresses(host: &ToolHost) -> Vec<String> {
    let http = format!("http://{host}");
    let is_loopback = http.parse::<ToolHost>().is_ok_and(|parsed| parsed == *host);
    [format!("https://{host}")].into_iter().chain(is_loopback.then_some(http)).collect()
}

fn get(call: &Call<'_>) -> Result<u8, Error> {
    let text = call.stdin()?;
    let request = Request::parse(&text)?;
    let Some(host) = request.host() else { return Ok(0) };
    let host = host?;
    let Some(profile) = call.profile_for(&host)? else { return Ok(0) };
    call.with_token(Some(profile), false, &|token| {
        let mut reply = match request.takes_scheme() {
            true => format!("capability[]=authtype\nauthtype=Bearer\ncredential={}\nephemeral=1\n", token.text),
            false => format!("username={}\npassword={}\n", request.get("username").unwrap_or(USERNAME), token.text),
        };
        if let Some(at) = token.expires_at {
            reply.push_str(&format!("password_expiry_utc={}\n", at.0));
        }
        output::data(&reply).map(|()| 0)
    })
}

/// Refreshes the session if a server has refused its token.
fn erase(call: &Call<'_>) -> Result<u8, Error> {
    let text = call.stdin()?;
    let request = Request::parse(&text)?;
    let refused = request.get("password").or_else(|| request.get("credential"));
    let (Some(refused), Some(Ok(host))) = (refused, request.host()) else { return Ok(0) };
    let Some(profile) = call.profile_for(&host)? else { return Ok(0) };
    let profile = call.app.profile(Some(&profile))?;
    call.with_token(Some(profile.name.clone()), false, &|token| {
        if token.text == refused {
            refresh_one(call.app, &profile, &TokenRequest::own(Demand::New))?;
        }
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ends_at_an_empty_line_and_the_last_value_counts() {
        let request =
            Request::parse("protocol=https\nhost=a\nhost=b.example\ncapability[]=authtype\n\nhost=c\n").expect("valid");
        assert_eq!(request.get("host"), Some("b.example"));
        assert!(request.takes_scheme());
        assert_eq!(request.host().expect("a host").expect("https").as_str(), "b.example");
        assert!(Request::parse("protocol").is_err());
        assert!(Request::parse("protocol=ssh\nhost=a\n").expect("valid").host().is_none());
        assert!(Request::parse("protocol=http\nhost=a\n").expect("valid").host().expect("a host").is_err());
    }
}
