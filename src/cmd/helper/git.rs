//! git's credential helper protocol (gitcredentials(7), git-credential(1)).

use std::path::{Path, PathBuf};

use super::call::{Call, USERNAME, foreign};
use super::program::{is_authctl, program};
use super::protocol::{Failure, Protocol};
use super::setup::Change;
use crate::cmd::output;
use crate::cmd::refresh::refresh_one;
use crate::error::{Error, ErrorCode, Hint};
use crate::model::ToolHost;
use crate::paths::{self, tool_variable};
use crate::session::{Demand, TokenRequest};
use crate::text::{excerpt, shell_line, shell_word};

pub(super) struct Git;

/// The credential that git needs, or that a server refused.
struct GitCredential<'a> {
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> GitCredential<'a> {
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
        let file = global_file()?;
        for address in call.args.hosts.iter().flat_map(addresses) {
            let (helper, global) = (helper.clone(), file.clone());
            changes.push(Change::Commands {
                file: file.clone(),
                shown: git(&["--includes", "--show-origin", "-z", "--get-regexp", "^credential\\."]),
                plan: Box::new(move |shown, add| match add {
                    true => set_up(&address, &helper, &global, shown),
                    false => undo(&address, &global, shown),
                }),
                on_copy: |words, copy| {
                    let file = ["--file".to_owned(), copy.to_owned()];
                    words
                        .iter()
                        .flat_map(|word| if word == "--global" { file.to_vec() } else { vec![word.clone()] })
                        .collect()
                },
                edit: None,
            });
        }
        changes.push(Change::Hosts);
        Ok(changes)
    }
}

/// Returns the file that `git config --global` changes.
fn global_file() -> Result<PathBuf, Error> {
    if let Some(file) = tool_variable("GIT_CONFIG_GLOBAL") {
        return Ok(file.into());
    }
    let home = paths::home()?;
    let config = tool_variable("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    let [own, xdg] = [home.join(".gitconfig"), config.join("git/config")];
    Ok(if !own.exists() && xdg.exists() { xdg } else { own })
}

fn git(words: &[&str]) -> Vec<String> {
    ["git", "config", "--global"].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

/// A setting as git prints it.
struct GitSetting<'a> {
    /// The file that has it, which may be an included one.
    file: &'a Path,
    name: &'a str,
    value: &'a str,
}

/// Returns the settings that git prints, in the order in which it applies them. One without a value is true.
fn settings(shown: &str) -> Vec<GitSetting<'_>> {
    let mut parts = shown.split('\0');
    let next = || {
        let (file, setting) = (parts.next()?, parts.next()?);
        let (name, value) = setting.split_once('\n').unwrap_or((setting, "true"));
        Some(GitSetting { file: Path::new(file.strip_prefix("file:").unwrap_or(file)), name, value })
    };
    std::iter::from_fn(next).collect()
}

/// The helpers that git's settings for one address name. An empty one resets those before it.
struct OwnHelpers<'a> {
    /// Those of authctl that `git config --global` can change, each once.
    ours: Vec<&'a str>,
    /// A file that the configuration includes, and that names authctl too.
    included: Option<&'a Path>,
    /// Those after the last reset.
    effective: Vec<&'a str>,
    /// Whether an empty helper resets those for all addresses.
    is_reset: bool,
    others: Vec<&'a str>,
}

impl<'a> OwnHelpers<'a> {
    fn find(all: &[GitSetting<'a>], key: &str, global: &Path) -> Self {
        let own: Vec<&GitSetting<'a>> = all.iter().filter(|setting| setting.name == key).collect();
        let reset = own.iter().rposition(|setting| setting.value.is_empty());
        let named = own.iter().filter(|setting| !setting.value.is_empty());
        let (ours, others): (Vec<&GitSetting<'a>>, Vec<_>) = named.partition(|setting| is_ours(setting.value));
        let here = ours.iter().filter(|setting| setting.file == global);
        let mut values: Vec<&str> = Vec::new();
        for setting in here {
            // The last place of each counts.
            values.retain(|value| *value != setting.value);
            values.push(setting.value);
        }
        Self {
            ours: values,
            included: ours.iter().find(|setting| setting.file != global).map(|setting| setting.file),
            effective: own[reset.map_or(0, |at| at + 1)..].iter().map(|setting| setting.value).collect(),
            is_reset: reset.is_some(),
            others: others.iter().map(|setting| setting.value).collect(),
        }
    }
}

/// Returns the error of settings that `git config --global` does not change.
fn included(file: &Path, key: &str) -> Error {
    // As git prints it, it may have a doubled slash.
    let file: &PathBuf = &file.components().collect();
    foreign(format!("{}, which git's configuration includes, has {key}", file.display()), Hint::edit(file))
}

fn is_ours(helper: &str) -> bool {
    let command = helper.strip_prefix('!').and_then(|command| command.split_once(" helper git"));
    command.is_some_and(|(start, _)| is_authctl(start.split(" --config ").next().unwrap_or(start).trim_matches('\'')))
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
    let is_host = || without_default_port(scheme, named).eq_ignore_ascii_case(without_default_port(scheme, host));
    own_scheme.eq_ignore_ascii_case(scheme) && (named.is_empty() || named.contains('*') || is_host())
}

/// Returns the host without a port that git ignores.
fn without_default_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    let default = if scheme == "https" { "443" } else { "80" };
    match host.rsplit_once(':') {
        Some((name, port)) if ["", default].contains(&port.trim_start_matches('0')) => name,
        _ => host,
    }
}

/// Returns the commands after which git asks authctl alone for this address.
fn set_up(address: &str, helper: &str, global: &Path, shown: &str) -> Result<Vec<Vec<String>>, Error> {
    let section = format!("credential.{address}");
    let key = &format!("{section}.helper");
    let all = settings(shown);
    let own = OwnHelpers::find(&all, key, global);
    // git also gives the token to every later helper, and a later empty helper removes authctl's.
    let is_last = |place: Option<usize>| {
        let later = &all[place.map_or(0, |at| at + 1)..];
        !later.iter().any(|setting| is_helper_for(setting.name, address))
    };
    let last_of = |is_it: &dyn Fn(&str) -> bool, is_global: bool| {
        all.iter().rposition(|setting| is_it(setting.name) && (!is_global || setting.file == global))
    };
    let is_key = |name: &str| name == key;
    let in_section = |name: &str| name.rsplit_once('.').is_some_and(|(start, _)| start == section);
    let is_only = own.effective == [helper] && own.is_reset && is_last(last_of(&is_key, false));
    // git does not show where a section without settings is: it may be the first.
    let can_stay = is_last(last_of(&is_key, true).or(last_of(&in_section, true)));
    let mut ours = own.effective.iter().filter(|value| is_ours(value)).peekable();
    let has_added = !own.others.is_empty() && ours.peek().is_some() && ours.all(|value| *value == helper);
    Ok(match (&own.ours[..], &own.others[..], own.included) {
        _ if is_only || has_added => Vec::new(),
        (_, [], None) if can_stay => vec![git(&["--replace-all", key, ""]), git(&["--add", key, helper])],
        (ours, [], _) => {
            // In a section of its own at the end: what is added to one that is there is not the last.
            let added = [
                git(&["--add", "credential.authctl.helper", ""]),
                git(&["--add", "credential.authctl.helper", helper]),
                git(&["--rename-section", "credential.authctl", &section]),
            ];
            let old = (!ours.is_empty()).then(|| git(&["--unset-all", key]));
            old.into_iter().chain(added).collect()
        }
        (ours @ [.., last], _, None) => {
            // One before a reset has no effect, wherever it is replaced.
            let place = own.effective.contains(last).then_some(*last);
            let old = ours.iter().filter(|value| Some(**value) != place);
            let remove = old.map(|value| git(&["--fixed-value", "--unset-all", key, value]));
            let add = match place {
                Some(place) => git(&["--fixed-value", "--replace-all", key, helper, place]),
                None => git(&["--add", key, helper]),
            };
            remove.chain([add]).collect()
        }
        (_, _, Some(file)) => return Err(included(file, key)),
        ([], [other, ..], None) => {
            let message = format!("git's configuration has another {key}: {}", excerpt(other, 200));
            let hint = Hint::shell(format!("git config --show-origin --get-all {}", shell_word(key)));
            return Err(foreign(message, hint));
        }
    })
}

fn undo(address: &str, global: &Path, shown: &str) -> Result<Vec<Vec<String>>, Error> {
    let key = &format!("credential.{address}.helper");
    let own = OwnHelpers::find(&settings(shown), key, global);
    match (&own.ours[..], &own.others[..], own.included) {
        (_, _, Some(file)) => Err(included(file, key)),
        ([], ..) => Ok(Vec::new()),
        (_, [], _) => Ok(vec![git(&["--unset-all", key])]),
        (ours, _, _) => Ok(ours.iter().map(|helper| git(&["--fixed-value", "--unset-all", key, helper])).collect()),
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
    let request = GitCredential::parse(&text)?;
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
    let request = GitCredential::parse(&text)?;
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
            ("credential.https://git.example:443.helper", true),
            ("credential.HTTPS://Git.Example:0443.helper", true),
            ("credential.https://git.example:80.helper", false),
            ("credential.https://git.example:8443.helper", false),
            ("credential.https://other.example.helper", false),
            ("credential.https://git.example.username", false),
        ] {
            assert_eq!(is_helper_for(setting, "https://git.example"), expected, "{setting}");
        }
    }

    #[test]
    fn request_ends_at_an_empty_line_and_the_last_value_counts() {
        let request = GitCredential::parse("protocol=https\nhost=a\nhost=b.example\ncapability[]=authtype\n\nhost=c\n")
            .expect("valid");
        assert_eq!(request.get("host"), Some("b.example"));
        assert!(request.takes_scheme());
        assert_eq!(request.host().expect("a host").expect("https").as_str(), "b.example");
        assert!(GitCredential::parse("protocol").is_err());
        assert!(GitCredential::parse("protocol=ssh\nhost=a\n").expect("valid").host().is_none());
        assert!(GitCredential::parse("protocol=http\nhost=a\n").expect("valid").host().expect("a host").is_err());
    }
}
