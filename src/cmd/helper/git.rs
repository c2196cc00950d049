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
        // A carriage return is part of the value, and no value may have one.
        let lines = text.split('\n').take_while(|line| !line.is_empty()).map(|line| {
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
            let helper = helper.clone();
            changes.push(Change::Commands {
                shown: git(&["--includes", "-z", "--get-regexp", "^credential\\."]),
                plan: Box::new(move |shown, add| match add {
                    true => set_up(&address, &helper, shown),
                    false => Ok(undo(&address, shown)),
                }),
            });
        }
        changes.push(Change::Hosts);
        Ok(changes)
    }
}

fn git(words: &[&str]) -> Vec<String> {
    ["git", "config", "--global"].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

/// Returns the settings with their values that git prints, in the order in which it applies them. One without a value is true.
fn settings(shown: &str) -> Vec<(&str, &str)> {
    let printed = shown.split('\0').filter(|setting| !setting.is_empty());
    printed.map(|setting| setting.split_once('\n').unwrap_or((setting, "true"))).collect()
}

/// Splits helpers, an empty one aside, into authctl's and others.
fn helpers<'a>(values: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    let is_ours = |helper: &&str| {
        let command = helper.strip_prefix('!').and_then(|command| command.split_once(" helper git"));
        command
            .is_some_and(|(start, _)| is_authctl(start.split(" --config ").next().unwrap_or(start).trim_matches('\'')))
    };
    values.iter().copied().filter(|helper| !helper.is_empty()).partition(is_ours)
}

/// Returns whether a setting names helpers that git may ask for this address too.
fn is_helper_for(setting: &str, address: &str) -> bool {
    let Some(pattern) = setting.strip_prefix("credential.").and_then(|rest| rest.strip_suffix("helper")) else {
        return false;
    };
    let pattern = pattern.trim_end_matches('.');
    let (scheme, host) = address.split_once("://").unwrap_or_default();
    let (own_scheme, rest) = pattern.split_once("://").unwrap_or((scheme, pattern));
    let named = rest.split('/').next().unwrap_or(rest);
    let named = named.rsplit('@').next().unwrap_or(named);
    own_scheme == scheme && (named.is_empty() || named.contains('*') || named.eq_ignore_ascii_case(host))
}

/// Returns the commands after which git asks authctl alone for this address.
fn set_up(address: &str, helper: &str, shown: &str) -> Result<Vec<Vec<String>>, Error> {
    let section = format!("credential.{address}");
    let key = &format!("{section}.helper");
    let all = settings(shown);
    let own: Vec<&str> = all.iter().filter(|(name, _)| name == key).map(|(_, value)| *value).collect();
    // An empty one first: no helper for all hosts stores the token.
    let is_alone = own.iter().take_while(|value| **value != helper).any(|value| value.is_empty());
    let in_section = |name: &str| name.rsplit_once('.').is_some_and(|(start, _)| start == section);
    // git also gives the token to every later helper, and a later empty helper removes authctl's.
    let place = all.iter().rposition(|(name, _)| name == key).or(all.iter().rposition(|(name, _)| in_section(name)));
    let later = place.map_or(&[][..], |at| &all[at + 1..]);
    let is_last = !later.iter().any(|(name, _)| is_helper_for(name, address));
    let add = || [git(&["--replace-all", key, ""]), git(&["--add", key, helper])];
    Ok(match helpers(&own) {
        (ours, others) if ours == [helper] && (!others.is_empty() || is_alone && is_last) => Vec::new(),
        (_, others) if others.is_empty() && is_last => add().to_vec(),
        (_, others) if others.is_empty() => {
            // A section that is written again is at the end.
            let rest = all.iter().filter(|(name, _)| in_section(name) && name != key);
            let rest = rest.map(|(name, value)| git(&["--add", name, value]));
            [git(&["--remove-section", &section])].into_iter().chain(rest).chain(add()).collect()
        }
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

fn undo(address: &str, shown: &str) -> Vec<Vec<String>> {
    let key = &format!("credential.{address}.helper");
    let own: Vec<&str> = settings(shown).into_iter().filter(|(name, _)| name == key).map(|(_, value)| value).collect();
    match helpers(&own) {
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
    fn helpers_for_an_address_are_found_however_they_are_named() {
        for (setting, expected) in [
            ("credential.helper", true),
            ("credential.https://git.example.helper", true),
            ("credential.https://ann@git.example/team.helper", true),
            ("credential.git.example.helper", true),
            ("credential.https://.helper", true),
            ("credential.https://*.example.helper", true),
            ("credential.http://git.example.helper", false),
            ("credential.https://git.example:8443.helper", false),
            ("credential.https://other.example.helper", false),
            ("credential.https://git.example.username", false),
        ] {
            assert_eq!(is_helper_for(setting, "https://git.example"), expected, "{setting}");
        }
    }

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
