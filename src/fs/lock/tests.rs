//! Tests of file locks, with threads and processes that compete for one.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::clock::SystemClock;

fn try_lock(path: &Path) -> Option<FileLock> {
    LockFile::open(path.to_owned()).expect("opened").try_lock().expect("supported")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime")
}

#[test]
fn lock_excludes_other_threads_and_keeps_its_file() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("made/a.lock");
    assert!(!is_locked(&path) && !path.exists());
    let held = try_lock(&path).expect("free");
    assert!(try_lock(&path).is_none() && is_locked(&path));
    assert!(try_lock(&dir.path().join("b.lock")).is_some(), "another file");
    assert_eq!(lock_holder(&path, Some(std::process::id())), Some(std::process::id()));
    drop(held);
    assert!(!is_locked(&path) && lock_holder(&path, None).is_none());
    assert!(try_lock(&path).is_some());
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().expect("a directory"))), (0o600, 0o700));
}

#[test]
fn waiting_stops_at_the_limit_or_when_the_lock_is_released() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("a.lock");
    let open = || LockFile::open(path.clone()).expect("opened");
    runtime().block_on(async {
        let held = try_lock(&path).expect("free");
        let limit = Duration::from_millis(30);
        let timed_out = LockFile::lock(path.clone(), &SystemClock, limit).await;
        assert!(matches!(timed_out, Err(LockError::TimedOut { .. })), "{timed_out:?}");
        let started = SystemClock.monotonic();
        let timed_out = open().lock_blocking(limit);
        assert!(started.elapsed() >= limit, "it waits for the whole time");
        assert!(matches!(timed_out, Err(LockError::TimedOut { .. })), "{timed_out:?}");
        let (acquired, ()) = tokio::join!(LockFile::lock(path.clone(), &SystemClock, Duration::from_secs(20)), async {
            tokio::task::yield_now().await;
            drop(held);
        });
        acquired.expect("released");
        open().lock_blocking(Duration::ZERO).expect("free");
    });
}

#[test]
fn each_of_a_hundred_waiters_gets_the_lock() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("a.lock");
    runtime().block_on(tokio::task::LocalSet::new().run_until(async {
        let holders = std::rc::Rc::new(std::cell::Cell::new(0u32));
        let mut tasks = Vec::new();
        for _ in 0..100 {
            let (holders, path) = (holders.clone(), path.clone());
            tasks.push(tokio::task::spawn_local(async move {
                let lock = LockFile::lock(path, &SystemClock, Duration::from_secs(60)).await.expect("acquired");
                assert_eq!(holders.replace(1), 0, "two holders");
                tokio::task::yield_now().await;
                holders.set(0);
                drop(lock);
            }));
        }
        for task in tasks {
            task.await.expect("no panic");
        }
    }));
}

#[test]
fn lock_of_another_process_ends_with_the_process() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("a.lock");
    let mut holder = Command::new("flock")
        .arg(&path)
        .args(["sh", "-c", "echo held; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flock");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).expect("read");
    assert_eq!(line, "held\n");
    assert!(try_lock(&path).is_none());
    drop(holder.stdin.take());
    holder.wait().expect("ended");
    assert!(try_lock(&path).is_some());
}

#[test]
fn child_does_not_inherit_the_lock() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("a.lock");
    let held = try_lock(&path).expect("free");
    let open = rustix::io::fcntl_getfd(&held.file.file).expect("open");
    assert!(open.contains(rustix::io::FdFlags::CLOEXEC), "a child would keep the file open");
}

#[test]
fn dropping_the_lock_releases_it_while_another_descriptor_is_open() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("a.lock");
    let held = try_lock(&path).expect("free");
    // What a child has between `fork` and `exec`.
    let shared = held.file.file.try_clone().expect("a second descriptor");
    drop(held);
    assert!(try_lock(&path).is_some());
    drop(shared);
}

#[test]
fn removed_lock_file_lets_one_process_through() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("locks/a.lock");
    let waiting = LockFile::open(path.clone()).expect("opened");
    let held = try_lock(&path).expect("free");
    assert!(held.is_in_place());
    std::fs::remove_dir_all(dir.path().join("locks")).expect("removed");
    assert!(!held.is_in_place(), "its holder notices");
    let second = try_lock(&path).expect("a new file");
    assert_ne!(held.inode(), second.inode());
    drop(held);
    assert!(waiting.try_lock().expect("supported").is_none(), "the lock on the removed file does not count");
    let waiting = LockFile::open(path.clone()).expect("opened");
    std::fs::remove_file(&path).expect("removed");
    drop(second);
    let third = waiting.try_lock().expect("supported").expect("a new file, which no process holds");
    assert!(third.is_in_place());
    assert!(try_lock(&path).is_none());
}

#[test]
fn lock_file_is_opened_again_if_its_directory_is_removed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let locks = dir.path().join("locks");
    for _ in 0..300 {
        let is_open = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // An empty one can be removed: after it was created and before the lock file is.
                let mut removals = 1..MAX_REPLACEMENTS;
                while !is_open.load(Ordering::Relaxed) && !removals.is_empty() {
                    if std::fs::remove_dir(&locks).is_ok() {
                        removals.next();
                    }
                }
            });
            let opened = LockFile::open(locks.join("a.lock"));
            is_open.store(true, Ordering::Relaxed);
            opened.expect("opened");
        });
        std::fs::remove_dir_all(&locks).expect("removed");
    }
}

#[test]
fn waits_differ_and_double_up_to_a_limit() {
    let limits = [2, 4, 8, 16, 25, 25].map(Duration::from_millis);
    let all: Vec<Duration> = (0..100).flat_map(|_| waits().take(limits.len())).collect();
    for (wait, limit) in all.iter().zip(limits.iter().cycle()) {
        assert!((*limit / 2..=*limit).contains(wait), "{wait:?} of {limit:?}");
    }
    let different: std::collections::HashSet<Duration> = all.into_iter().collect();
    assert!(different.len() > 20, "{different:?}");
}

#[test]
fn symbolic_link_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (target, path) = (dir.path().join("elsewhere"), dir.path().join("a.lock"));
    std::os::unix::fs::symlink(&target, &path).expect("symlink");
    let error = LockFile::open(path).expect_err("refused");
    assert!(matches!(error, LockError::Io { .. }), "{error}");
    assert!(!target.exists());
}
