//! Finds the Unix sockets of other programs: in the sandbox, a program could connect to each that it sees.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{read_dir, read_link};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Clock;
use crate::fs::directory_of;

/// How long the search may take, and how many files it looks at: the command waits for it.
const MAX_TIME: Duration = Duration::from_secs(5);
const MAX_FILES: usize = 1_000_000;

/// Returns the sockets that exist now: those that the system lists, and those below the directories in `searched`, except in those
/// in `skipped`. One that is created later is not found. Also returns the directories that were not searched within the limits.
pub(super) fn existing<'a>(
    searched: impl Iterator<Item = &'a PathBuf>,
    skipped: &[PathBuf],
    clock: &dyn Clock,
) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut found = listed();
    let (end, mut files) = (clock.monotonic() + MAX_TIME, 0);
    let may_go_on = || {
        files += 1;
        files <= MAX_FILES && clock.monotonic() < end
    };
    let left = search(searched, skipped, may_go_on, &mut found);
    found.sort();
    found.dedup();
    (found, left)
}

/// Returns the sockets that processes list, each in the view of its network namespace. A path may be relative to the working
/// directory that some process has or had.
fn listed() -> Vec<PathBuf> {
    let (mut namespaces, mut directories, mut paths) = (HashSet::new(), HashSet::new(), HashSet::new());
    let is_process = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes()[0].is_ascii_digit());
    for process in read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_process) {
        directories.extend(read_link(process.join("cwd")));
        // Those of other users cannot be read.
        if read_link(process.join("ns/net")).is_ok_and(|namespace| namespaces.insert(namespace)) {
            paths.extend(named_in(&std::fs::read(process.join("net/unix")).unwrap_or_default()));
        }
    }
    let mut found = Vec::new();
    for path in paths {
        if path.is_relative() {
            found.extend(directories.iter().map(|directory| directory.join(&path)).filter(|path| is_socket(path)));
        } else if is_socket(&path) {
            found.push(path);
        } else {
            // It was renamed, as authctl's own are.
            let entries = read_dir(directory_of(&path)).into_iter().flatten().flatten();
            found.extend(entries.map(|entry| entry.path()).filter(|path| is_socket(path)));
        }
    }
    found
}

/// Returns the paths in a table of sockets: the eighth column, which may contain spaces, and is empty or begins with `@` for a
/// socket without a file.
fn named_in(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|byte| *byte == b'\n').skip(1);
    let path = |line: &[u8]| {
        let rest = (0..7).try_fold(line, |rest, _| {
            let column = rest.trim_ascii_start();
            column.iter().position(|byte| *byte == b' ').map(|end| &column[end..])
        })?;
        let path = rest.strip_prefix(b" ").filter(|path| !path.is_empty() && !path.starts_with(b"@"))?;
        Some(PathBuf::from(OsStr::from_bytes(path)))
    };
    lines.filter_map(path).collect()
}

fn is_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.file_type().is_socket())
}

/// Adds the sockets below the directories, each in its file system: another may be one of a network, which can take long.
/// Nothing is searched twice, and what is nearer is searched first. Asks `may_go_on` before each file; returns the directories
/// that are left.
fn search<'a>(
    roots: impl Iterator<Item = &'a PathBuf>,
    skipped: &[PathBuf],
    mut may_go_on: impl FnMut() -> bool,
    found: &mut Vec<PathBuf>,
) -> Vec<PathBuf> {
    let mut seen: HashSet<PathBuf> = skipped.iter().cloned().collect();
    let mut waiting: VecDeque<(PathBuf, u64)> =
        roots.filter_map(|root| Some((root.clone(), root.metadata().ok()?.dev()))).collect();
    while let Some((directory, device)) = waiting.pop_front() {
        if !seen.insert(directory.clone()) {
            continue;
        }
        for entry in read_dir(&directory).into_iter().flatten().flatten() {
            if !may_go_on() {
                let others = waiting.into_iter().map(|(other, _)| other).filter(|other| !seen.contains(other));
                return std::iter::once(directory).chain(others).collect();
            }
            match entry.file_type() {
                Ok(kind) if kind.is_socket() => found.push(entry.path()),
                Ok(kind) if kind.is_dir() && entry.metadata().is_ok_and(|about| about.dev() == device) => {
                    waiting.push_back((entry.path(), device));
                }
                _ => {}
            }
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn search_names_the_directories_that_are_left_at_its_limit() {
        let place = tempfile::tempdir().expect("tempdir");
        let (root, deep) = (place.path().to_owned(), place.path().join("a/b"));
        std::fs::create_dir_all(&deep).expect("made");
        let near = root.join("a/near.sock");
        let far = deep.join("far.sock");
        let _sockets = [&near, &far].map(|path| UnixListener::bind(path).expect("bound"));
        let searched = |limit: usize| {
            let (mut found, mut files) = (Vec::new(), 0);
            let may_go_on = || {
                files += 1;
                files <= limit
            };
            let left = search([&root, &root].into_iter(), &[], may_go_on, &mut found);
            found.sort();
            (found, left)
        };
        // `a`, then what is in it, then the socket in `b`.
        assert_eq!(searched(4), (vec![far, near.clone()], vec![]));
        assert_eq!(searched(3), (vec![near], vec![deep]));
        assert_eq!(searched(0), (vec![], vec![root.clone()]), "each is named once");
        assert_eq!(
            search([&root].into_iter(), std::slice::from_ref(&root), || false, &mut Vec::new()),
            [""; 0].map(PathBuf::from)
        );
    }

    #[test]
    fn paths_of_a_table_are_absolute_relative_or_missing() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01  1001 /run/a b/c.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 10002 ./x.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 10003  y\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 10004 @abstract\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 10005\n";
        assert_eq!(named_in(table), ["/run/a b/c.sock", "./x.sock", " y"].map(PathBuf::from));
        assert!(named_in(b"").is_empty());
    }
}
