//! A setting in a section of an INI file, such as AWS's. Every other line stays as it is.

use std::path::Path;

use super::files::line_end;
use crate::cmd::helper::call::foreign;
use crate::error::{Error, Hint};

/// A setting in a section.
pub(super) struct IniSetting<'a> {
    /// The section's header, such as `[profile work]`.
    pub(super) header: &'a str,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
    /// Whether a value was written by authctl.
    pub(super) is_ours: fn(&str) -> bool,
    /// The settings of the section that would contradict it.
    pub(super) others: &'a [&'a str],
}

/// Returns the words of a header; `None` if the line is none.
fn header(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('[')?.split(']').next()?;
    Some(inner.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned()).collect())
}

fn setting(line: &str) -> Option<(&str, &str)> {
    // An indented line belongs to the setting before it.
    let (key, value) = line.split_once('=').filter(|_| !line.starts_with([' ', '\t', '#', ';']))?;
    Some((key.trim(), value.trim()))
}

/// Returns the values of a setting, each with the words of its section's header.
pub(crate) fn values<'a>(text: &'a str, key: &str) -> Vec<(Vec<String>, &'a str)> {
    let (mut section, mut found) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(words) = header(line) {
            section = words;
        } else if let Some((_, value)) = setting(line).filter(|(name, _)| *name == key) {
            found.push((section.clone(), value));
        }
    }
    found
}

/// Returns the text with, or without, the setting; `None` if it stays.
pub(super) fn edit(file: &Path, text: &str, wanted: &IniSetting<'_>, add: bool) -> Result<Option<String>, Error> {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let own = header(wanted.header);
    let end_of_line = line_end(text);
    let line = format!("{} = {}{end_of_line}", wanted.key, wanted.value);
    let Some(start) = lines.iter().position(|line| header(line).is_some() && header(line) == own) else {
        if !add {
            return Ok(None);
        }
        let separator = if text.is_empty() || text.ends_with('\n') { "" } else { end_of_line };
        let blank = if text.is_empty() { "" } else { end_of_line };
        return Ok(Some(format!("{text}{separator}{blank}{}{end_of_line}{line}", wanted.header)));
    };
    let length = lines[start + 1..].iter().position(|line| header(line).is_some());
    let end = length.map_or(lines.len(), |length| start + 1 + length);
    let body =
        || lines[start + 1..end].iter().enumerate().filter_map(|(at, line)| Some((start + 1 + at, setting(line)?)));
    let found = body().find(|(_, (key, _))| *key == wanted.key).map(|(at, (_, value))| (at, value.to_owned()));
    match (found, add) {
        (Some((_, value)), true) if value == wanted.value => return Ok(None),
        (Some((at, value)), true) if (wanted.is_ours)(&value) => lines[at] = line,
        (Some(_), true) => {
            return Err(foreign(
                format!("{} has another {} in {}", file.display(), wanted.key, wanted.header),
                Hint::edit(file),
            ));
        }
        (None, true) => {
            if let Some((_, (key, _))) = body().find(|(_, (key, _))| wanted.others.contains(key)) {
                return Err(foreign(format!("{} has {key} in {}", file.display(), wanted.header), Hint::edit(file)));
            }
            if !lines[start].ends_with('\n') {
                lines[start].push_str(end_of_line);
            }
            lines.insert(start + 1, line);
        }
        (Some((at, value)), false) if (wanted.is_ours)(&value) => {
            lines.remove(at);
            // With nothing left in it, the section goes, and one blank line.
            let rest = &lines[start + 1..end - 1];
            if rest.iter().all(|line| line.trim().is_empty()) {
                let is_after_blank = rest.is_empty() && start > 0 && lines[start - 1].trim().is_empty();
                lines.drain(start - usize::from(is_after_blank)..end - 1);
            }
        }
        (Some(_) | None, false) => return Ok(None),
    }
    Ok(Some(lines.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, add: bool) -> Result<Option<String>, String> {
        let wanted = IniSetting {
            header: "[profile work]",
            key: "credential_process",
            value: "authctl helper aws --role-arn x",
            is_ours: |value| value.contains(" helper aws "),
            others: &["role_arn"],
        };
        edit(Path::new("config"), text, &wanted, add).map_err(|error| error.message())
    }

    #[test]
    fn setting_is_added_and_removed_and_the_rest_stays() {
        let own = "credential_process = authctl helper aws --role-arn x";
        for before in [
            "",
            "[default]\nregion = a\n",
            "[profile work]\nregion = a\n",
            "[default]\r\nregion = a\r\n",
            "[profile work]\r\nregion = a\r\n",
            "# x\n[default]\n[profile  'work' ] # mine\ns3 =\n  role_arn = y\n\n[profile b]\nrole_arn = z\n",
        ] {
            let after = edited(before, true).expect("changed").expect("changed");
            assert_eq!(after.matches(own).count(), 1, "{after}");
            assert!(
                !before.contains('\r') || after.matches('\n').count() == after.matches("\r\n").count(),
                "{after:?}"
            );
            assert_eq!(edited(&after, true), Ok(None), "{after}");
            assert_eq!(edited(&after, false), Ok(Some(before.to_owned())), "{after}");
            assert_eq!(edited(before, false), Ok(None), "{before}");
        }
        let older = "[profile work]\ncredential_process=/opt/authctl helper aws --role-arn y\n[b]\n";
        assert_eq!(edited(older, true), Ok(Some(format!("[profile work]\n{own}\n[b]\n"))));
        assert_eq!(edited(older, false), Ok(Some("[b]\n".to_owned())));
        assert_eq!(edited("[default]", true), Ok(Some(format!("[default]\n\n[profile work]\n{own}\n"))));
        for foreign in ["[profile work]\ncredential_process = other\n", "[profile work]\nrole_arn = y\n"] {
            assert!(edited(foreign, true).is_err(), "{foreign}");
            assert_eq!(edited(foreign, false), Ok(None), "{foreign}");
        }
    }
}
