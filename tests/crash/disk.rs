//! A model of a disk that loses power: what a program has changed, and what of it may be left.
//!
//! The content of a file is on the disk once the file is synced, and the entry of a file or directory once the directory that
//! it is in is synced. Of everything else, each change may or may not be there, whatever their order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc;

use crate::Random;
use crate::support::stepper::{Action, Call, Watch};

/// What a name in a directory leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Directory,
    /// By its index in [`Disk::files`].
    File(usize),
}

/// The files and directories, by path.
pub type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// A change of directory entries that happens as a whole.
#[derive(Clone, Debug)]
struct EntryChange {
    directory: PathBuf,
    set: Option<(PathBuf, Node)>,
    removed: Option<PathBuf>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    on_disk: Vec<u8>,
}

/// The recorder of what a program changes below a directory.
#[derive(Clone, Debug)]
pub struct Disk {
    root: PathBuf,
    now: BTreeMap<PathBuf, Node>,
    on_disk: BTreeMap<PathBuf, Node>,
    pending: Vec<EntryChange>,
    files: Vec<Content>,
    /// The states that a power failure may leave, after each change; with the number of requests sent until then.
    pub possible: Vec<(usize, BTreeSet<Tree>)>,
    requests: usize,
    random: u64,
}

/// How many states are considered after each change, if there are more.
const MAX_STATES: usize = 256;

impl Disk {
    /// Reads what is below `root`, which counts as being on the disk.
    pub fn new(root: &Path, seed: u64) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            now: BTreeMap::new(),
            on_disk: BTreeMap::new(),
            pending: Vec::new(),
            files: Vec::new(),
            possible: Vec::new(),
            requests: 0,
            random: seed,
        };
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for path in fs::read_dir(directory).expect("readable").map(|entry| entry.expect("readable").path()) {
                let kind = fs::symlink_metadata(&path).expect("there").file_type();
                if kind.is_dir() {
                    disk.now.insert(path.clone(), Node::Directory);
                    directories.push(path);
                } else if kind.is_file() {
                    let bytes = fs::read(&path).expect("readable");
                    disk.now.insert(path, Node::File(disk.files.len()));
                    disk.files.push(Content { now: bytes.clone(), on_disk: bytes });
                }
            }
        }
        disk.on_disk.clone_from(&disk.now);
        disk.record();
        disk
    }

    fn is_below(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
    }

    fn file(&self, path: &Path) -> Option<usize> {
        match self.now.get(path) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    fn change(&mut self, set: Option<(PathBuf, Node)>, removed: Option<PathBuf>) {
        let path = set.as_ref().map(|(path, _)| path).or(removed.as_ref()).expect("a change");
        let directory = path.parent().expect("below the root").to_owned();
        if let Some(path) = &removed {
            assert_eq!(path.parent(), Some(&*directory), "within a directory");
            self.now.remove(path);
        }
        self.now.extend(set.clone());
        self.pending.push(EntryChange { directory, set, removed });
    }

    fn sync(&mut self, path: &Path) {
        match self.now.get(path) {
            Some(Node::File(file)) => self.files[*file].on_disk = self.files[*file].now.clone(),
            Some(Node::Directory) => {
                let (synced, others) = std::mem::take(&mut self.pending).into_iter().partition(|c| c.directory == path);
                self.pending = others;
                apply(&mut self.on_disk, &synced);
            }
            None => {}
        }
    }

    fn tree(&self, nodes: &BTreeMap<PathBuf, Node>, content: impl Fn(&Content) -> Vec<u8>) -> Tree {
        let is_reachable = |path: &Path| {
            let mut parents = path.ancestors().skip(1).take_while(|parent| *parent != self.root);
            parents.all(|parent| nodes.get(parent) == Some(&Node::Directory))
        };
        let relative = |path: &Path| path.strip_prefix(&self.root).expect("below").to_owned();
        let reachable = nodes.iter().filter(|(path, _)| is_reachable(path));
        let bytes = |node: &Node| match node {
            Node::Directory => None,
            Node::File(file) => Some(content(&self.files[*file])),
        };
        reachable.map(|(path, node)| (relative(path), bytes(node))).collect()
    }

    /// Records what a power failure at this moment may leave.
    fn record(&mut self) {
        let mut random = Random(self.random);
        let mut states = BTreeSet::new();
        let count = self.pending.len();
        let all = (count < 8).then(|| 1usize << count);
        for number in 0..all.unwrap_or(MAX_STATES) {
            // The first are all and nothing.
            let chosen = match (all, number) {
                (Some(_), _) => number,
                (None, 0) => 0,
                (None, 1) => usize::MAX,
                (None, _) => random.below(usize::MAX),
            };
            let changes: Vec<EntryChange> =
                (0..count).filter(|bit| chosen >> (bit % 64) & 1 == 1).map(|bit| self.pending[bit].clone()).collect();
            let mut nodes = self.on_disk.clone();
            apply(&mut nodes, &changes);
            let half = |content: &Content| {
                let mut bytes = content.now.clone();
                bytes.truncate(bytes.len() / 2);
                bytes
            };
            states.insert(self.tree(&nodes, |content| content.now.clone()));
            states.insert(self.tree(&nodes, |content| content.on_disk.clone()));
            if self.files.iter().any(|content| content.now != content.on_disk) {
                let torn = |partly: &dyn Fn(&Content) -> Vec<u8>| {
                    self.tree(&nodes, |content| {
                        if content.now == content.on_disk { content.now.clone() } else { partly(content) }
                    })
                };
                states.insert(torn(&half));
                states.insert(torn(&|content| vec![0; content.now.len()]));
            }
        }
        self.random = random.0;
        self.possible.push((self.requests, states));
    }

    /// Returns the path that an argument names, relative to the directory that another names.
    fn path_at(call: &Call, directory: usize, path: usize) -> PathBuf {
        let path = call.path(path);
        #[allow(clippy::cast_possible_truncation, reason = "an int")]
        let is_cwd = call.args[directory] as i32 == libc::AT_FDCWD;
        if path.is_absolute() || is_cwd { path } else { call.file(directory).join(path) }
    }

    /// Applies a call that has succeeded; returns whether it may have changed anything.
    fn apply_call(&mut self, call: &Call, result: i64) -> bool {
        let length = usize::try_from(result).unwrap_or(0);
        match call.number {
            libc::SYS_open | libc::SYS_openat => {
                let (path, flags) = match call.number {
                    libc::SYS_open => (call.path(0), call.args[1]),
                    _ => (Self::path_at(call, 0, 1), call.args[2]),
                };
                #[allow(clippy::cast_possible_truncation, reason = "an int")]
                let flags = flags as i32;
                if !self.is_below(&path) || flags & (libc::O_CREAT | libc::O_TRUNC) == 0 {
                    return false;
                }
                match self.file(&path) {
                    Some(file) if flags & libc::O_TRUNC != 0 => self.files[file].now.clear(),
                    Some(_) => return false,
                    None => {
                        self.files.push(Content::default());
                        self.change(Some((path, Node::File(self.files.len() - 1))), None);
                    }
                }
            }
            libc::SYS_mkdir | libc::SYS_mkdirat => {
                let path = if call.number == libc::SYS_mkdir { call.path(0) } else { Self::path_at(call, 0, 1) };
                if !self.is_below(&path) {
                    return false;
                }
                self.change(Some((path, Node::Directory)), None);
            }
            libc::SYS_rename | libc::SYS_renameat2 | libc::SYS_link | libc::SYS_linkat => {
                let (from, to) = match call.number {
                    libc::SYS_rename | libc::SYS_link => (call.path(0), call.path(1)),
                    _ => (Self::path_at(call, 0, 1), Self::path_at(call, 2, 3)),
                };
                let Some(node) = self.now.get(&from).copied() else { return false };
                let moves = matches!(call.number, libc::SYS_rename | libc::SYS_renameat2);
                self.change(Some((to, node)), moves.then_some(from));
            }
            libc::SYS_unlink | libc::SYS_unlinkat => {
                let path = if call.number == libc::SYS_unlink { call.path(0) } else { Self::path_at(call, 0, 1) };
                if !self.now.contains_key(&path) {
                    return false;
                }
                self.change(None, Some(path));
            }
            libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_ftruncate | libc::SYS_fsync | libc::SYS_fdatasync => {
                let path = call.file(0);
                if matches!(call.number, libc::SYS_fsync | libc::SYS_fdatasync) {
                    self.sync(&path);
                    return self.now.contains_key(&path);
                }
                let Some(file) = self.file(&path) else {
                    if call.data(length, 5).starts_with(b"POST ") {
                        self.requests += 1;
                    }
                    return false;
                };
                let content = &mut self.files[file].now;
                if call.number == libc::SYS_ftruncate {
                    content.resize(usize::try_from(call.args[1]).expect("a length"), 0);
                } else {
                    let at = match call.number {
                        libc::SYS_write => content.len(),
                        _ => usize::try_from(call.args[3]).expect("an offset"),
                    };
                    content.resize(content.len().max(at + length), 0);
                    content[at..at + length].copy_from_slice(&call.data(length, length));
                }
            }
            libc::SYS_writev | libc::SYS_sendto => {
                self.requests += usize::from(call.data(length, 5).starts_with(b"POST "));
                return false;
            }
            _ => return false,
        }
        true
    }
}

fn apply(nodes: &mut BTreeMap<PathBuf, Node>, changes: &[EntryChange]) {
    for change in changes {
        if let Some(path) = &change.removed {
            nodes.remove(path);
        }
        nodes.extend(change.set.clone());
    }
}

impl Watch for Disk {
    fn before(&mut self, _: &Call) -> Action {
        Action::Make
    }

    fn after(&mut self, call: &Call, result: i64) {
        if result >= 0 && self.apply_call(call, result) {
            self.record();
        }
    }
}

/// Writes the tree below `root`, closed to other users.
pub fn write(tree: &Tree, root: &Path) {
    for (path, bytes) in tree {
        let path = root.join(path);
        match bytes {
            None => fs::create_dir_all(&path).expect("made"),
            Some(bytes) => {
                fs::write(&path, bytes).expect("written");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
            }
        }
    }
}
