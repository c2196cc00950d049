//! The token files of all profiles: no two settings name the same file, since its reader would get the token of another account,
//! or an ID token in place of an access token.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use crate::fs::{directory_of, link_target};
use crate::model::{Profile, ProfileName};

/// How long to wait for the file systems of token files. One that does not respond must not stop other profiles.
const LIMIT: Duration = Duration::from_secs(1);

/// A token file that another setting names too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` and `{other_key}`{} are the same file: {}", of(name, other), path.display())]
pub struct SharedTokenFile {
    /// The profile.
    pub name: ProfileName,
    /// Its setting.
    pub key: &'static str,
    /// The profile with the other setting.
    pub other: ProfileName,
    /// The other setting.
    pub other_key: &'static str,
    /// The file as the first setting has it.
    pub path: PathBuf,
}

fn of(name: &ProfileName, other: &ProfileName) -> String {
    if name == other { String::new() } else { format!(" of `{other}`") }
}

/// A setting with a token file.
type Named<'a> = (&'a ProfileName, &'static str, &'a Path);

fn token_files(profile: &Profile) -> impl Iterator<Item = Named<'_>> {
    let all = [("token_file", &profile.token_file), ("id_token_file", &profile.id_token_file)];
    all.into_iter().filter_map(|(key, path)| Some((&profile.name, key, path.as_deref()?)))
}

/// Returns the token files that another setting names too, both settings for each.
pub(super) fn shared(profiles: &BTreeMap<ProfileName, Profile>) -> Vec<SharedTokenFile> {
    let all: Vec<Named<'_>> = profiles.values().flat_map(token_files).collect();
    if all.len() < 2 {
        return Vec::new();
    }
    let locations = locations(all.iter().map(|(_, _, path)| path.to_path_buf()).collect());
    let other_at = |at: usize| (0..all.len()).find(|other| *other != at && locations[*other] == locations[at]);
    let pair = |at: usize| {
        let ((name, key, path), (other, other_key, _)) = (all[at], all[other_at(at)?]);
        Some(SharedTokenFile { name: name.clone(), key, other: other.clone(), other_key, path: path.to_owned() })
    };
    (0..all.len()).filter_map(pair).collect()
}

/// Returns the profile and the setting of the token file at `path`, if there is one.
pub(super) fn owner(profiles: &BTreeMap<ProfileName, Profile>, path: &Path) -> Option<(ProfileName, &'static str)> {
    let all: Vec<Named<'_>> = profiles.values().flat_map(token_files).collect();
    if all.is_empty() {
        return None;
    }
    let locations = locations(all.iter().map(|(_, _, path)| *path).chain([path]).map(Path::to_path_buf).collect());
    let (own, others) = locations.split_last()?;
    let at = others.iter().position(|other| other == own)?;
    Some((all[at].0.clone(), all[at].1))
}

/// Returns where each path leads. If a file system does not respond, the paths as they are.
fn locations(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let asked = paths.clone();
    let work = move || drop(sender.send(asked.iter().map(|path| location(path)).collect()));
    match std::thread::Builder::new().spawn(work) {
        Ok(_) => receiver.recv_timeout(LIMIT).unwrap_or(paths),
        Err(_) => paths,
    }
}

/// Returns the path without links and `..`. What does not exist has none: it is created as it is written.
fn location(path: &Path) -> PathBuf {
    let path = link_target(path);
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    for existing in directory_of(&path).ancestors() {
        let Ok(mut real) = existing.canonicalize() else { continue };
        for part in directory_of(&path).strip_prefix(existing).unwrap_or(Path::new("")).components() {
            match part {
                Component::ParentDir => drop(real.pop()),
                part => real.push(part),
            }
        }
        // What is left after `..` may be a link again.
        return real.canonicalize().unwrap_or(real).join(name);
    }
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::model::IssuerUrl;

    fn profile(name: &str, token_file: &Path, id_token_file: Option<&Path>) -> (ProfileName, Profile) {
        let name: ProfileName = name.parse().expect("a name");
        let mut profile = Profile::new(name.clone(), IssuerUrl::parse("https://a.example").expect("a URL"));
        (profile.token_file, profile.id_token_file) = (Some(token_file.into()), id_token_file.map(Path::to_owned));
        (name, profile)
    }

    #[test]
    fn same_file_is_recognized_however_it_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("real/deep")).expect("made");
        symlink("real/deep", at("link")).expect("made");
        symlink("real/token", at("dangling")).expect("made");
        symlink(at("real"), at("absolute")).expect("made");
        for (path, is_same) in [
            ("real/token", true),
            ("real/./token", true),
            ("real//token", true),
            ("real/deep/../token", true),
            ("link/../token", true),
            ("absolute/token", true),
            ("dangling", true),
            ("real/missing/../token", true),
            ("missing/../absolute/token", true),
            ("token", false),
            ("link/token", false),
            ("real/Token", false),
            ("missing/real/token", false),
        ] {
            let both = BTreeMap::from([profile("a", &at("real/token"), None), profile("b", &at(path), None)]);
            assert_eq!(shared(&both).len(), if is_same { 2 } else { 0 }, "{path}");
            assert_eq!(owner(&BTreeMap::from([profile("a", &at(path), None)]), &at("real/token")).is_some(), is_same);
            let one = BTreeMap::from([profile("a", &at("real/token"), Some(&at(path)))]);
            assert_eq!(shared(&one).len(), if is_same { 2 } else { 0 }, "{path}");
        }
        // A third one, and files in a directory that does not exist.
        let all = ["a", "b", "c"].map(|name| profile(name, &at("missing/dir/token"), None));
        let found = shared(&BTreeMap::from(all));
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 3);
        assert!(text[0].starts_with("`token_file` and `token_file` of `b` are the same file: "), "{}", text[0]);
    }
}
