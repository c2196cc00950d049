//! Tests of the file store, with `age` itself, a full disk and damaged files.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::process::Command;

use super::super::tests::session;
use super::*;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("tempdir") }
    }

    fn store(&self) -> FileStore {
        FileStore::new(self.sessions(), KeySource::Default(self.key()))
    }

    fn sessions(&self) -> PathBuf {
        self.dir.path().join("sessions")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("authctl.key")
    }

    fn file(&self) -> PathBuf {
        self.sessions().join("work.age")
    }

    fn names(&self) -> Vec<String> {
        let list = self.sessions().read_dir().expect("list");
        list.map(|e| e.expect("entry").file_name().into_string().expect("UTF-8")).collect()
    }
}

fn work() -> ProfileName {
    "work".parse().expect("valid")
}

fn token(store: &FileStore) -> String {
    store.read(&work()).expect("readable").expect("there").tokens.access_token.expose().to_owned()
}

#[test]
fn session_is_written_read_replaced_and_deleted() {
    let place = Place::new();
    let store = place.store();
    assert!(store.read(&work()).expect("works").is_none());
    assert!(!store.delete(&work()).expect("works"));
    assert!(!place.key().exists(), "reading creates no key");
    for text in ["first", "second", &"x".repeat(1 << 20)] {
        store.write(&work(), &session(text)).expect("written");
        assert_eq!(token(&place.store()), text);
    }
    assert_eq!(place.file().metadata().expect("there").mode() & 0o777, 0o600);
    assert_eq!(place.sessions().metadata().expect("there").mode() & 0o777, 0o700);
    assert_eq!(place.names(), ["work.age"], "nothing is left beside it");
    assert!(store.delete(&work()).expect("works"));
    assert!(store.read(&work()).expect("works").is_none());
}

#[test]
fn age_decrypts_the_file_and_the_token_is_not_in_it() {
    let place = Place::new();
    place.store().write(&work(), &session("very-secret")).expect("written");
    let raw = std::fs::read(place.file()).expect("readable");
    assert!(!raw.windows(11).any(|w| w == b"very-secret"));
    let Ok(shown) = Command::new("age").arg("-d").arg("-i").arg(place.key()).arg(place.file()).output() else {
        return;
    };
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    assert_eq!(shown.stdout, session("very-secret").to_stored(&work()).expose());
}

#[test]
fn changed_and_truncated_files_are_damaged_and_not_removed() {
    let place = Place::new();
    let store = place.store();
    store.write(&work(), &session("t")).expect("written");
    let good = std::fs::read(place.file()).expect("readable");
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|n| good[..n].to_vec()).collect();
    for n in 0..good.len() {
        let mut flipped = good.clone();
        flipped[n] ^= 1 << (n % 8);
        bad.push(flipped);
    }
    for bytes in bad {
        std::fs::write(place.file(), &bytes).expect("write");
        let error = store.read(&work()).expect_err("damaged");
        assert!(matches!(error, StoreError::Damaged { damage: Damage::Sealed, .. }), "{error}");
        assert_eq!(std::fs::read(place.file()).expect("still there"), bytes);
    }
}

#[test]
fn file_longer_than_any_session_is_damaged() {
    let place = Place::new();
    place.store().write(&work(), &session("t")).expect("written");
    File::options().write(true).open(place.file()).expect("opened").set_len(MAX_BYTES as u64 + 1).expect("extended");
    let error = place.store().read(&work()).expect_err("damaged");
    assert!(matches!(error, StoreError::Damaged { damage: Damage::TooLong, .. }), "{error}");
}

#[test]
fn wrong_key_and_missing_key_are_distinguished() {
    let place = Place::new();
    place.store().write(&work(), &session("t")).expect("written");
    std::fs::rename(place.key(), place.dir.path().join("old")).expect("rename");
    let error = place.store().read(&work()).expect_err("no key");
    assert!(matches!(error, StoreError::KeyFile { .. }), "{error}");
    place.store().write(&"other".parse().expect("valid"), &session("t")).expect("makes a new key");
    let error = place.store().read(&work()).expect_err("another key");
    assert!(matches!(error, StoreError::Damaged { damage: Damage::Sealed, .. }), "{error}");
}

#[test]
fn symbolic_links_and_writable_directories_are_refused() {
    let place = Place::new();
    place.store().write(&work(), &session("t")).expect("written");
    let elsewhere = place.dir.path().join("elsewhere");
    std::fs::rename(place.file(), &elsewhere).expect("rename");
    std::os::unix::fs::symlink(&elsewhere, place.file()).expect("symlink");
    assert!(matches!(place.store().read(&work()), Err(StoreError::Io { .. })));
    std::fs::set_permissions(place.sessions(), std::fs::Permissions::from_mode(0o777)).expect("chmod");
    let error = place.store().write(&work(), &session("t")).expect_err("refused");
    assert!(error.to_string().contains("mode 0777"), "{error}");
}

#[test]
fn session_of_another_profile_is_not_read() {
    let place = Place::new();
    place.store().write(&work(), &session("t")).expect("written");
    // What a file system that does not distinguish upper and lower case does.
    std::fs::hard_link(place.file(), place.sessions().join("Work.age")).expect("linked");
    let error = place.store().read(&"Work".parse().expect("valid")).expect_err("another profile's");
    assert!(matches!(&error, StoreError::OtherProfile { found, .. } if *found == work()), "{error}");
    assert!(!error.is_session_lost(), "a login does not replace it");
}

#[test]
fn reservation_lasts_as_long_as_its_store() {
    let place = Place::new();
    let store = place.store();
    store.reserve(&work(), 1000).expect("reserved");
    place.store().write(&work(), &session("theirs")).expect("written");
    assert_eq!(place.names().len(), 2, "the reserved file is not removed by others");
    store.write(&work(), &session("mine")).expect("written");
    assert_eq!(token(&store), "mine");
    store.reserve(&work(), 1000).expect("reserved");
    assert!(store.delete(&work()).expect("works"));
    assert_eq!(place.names(), Vec::<String>::new(), "the reserved file is removed with the session");
    store.reserve(&work(), 1000).expect("reserved");
    drop(store);
    assert_eq!(place.names(), Vec::<String>::new());
}

#[test]
fn session_that_cannot_be_removed_is_an_error() {
    let place = Place::new();
    std::fs::create_dir_all(place.file()).expect("a directory in its place");
    let error = place.store().delete(&work()).expect_err("it is still there");
    assert!(matches!(error, StoreError::Io { doing: "remove", .. }), "{error}");
}

#[test]
fn readers_never_see_a_partial_session() {
    let place = Place::new();
    place.store().write(&work(), &session(&"0".repeat(100_000))).expect("written");
    std::thread::scope(|scope| {
        for writer in 1..=3 {
            let store = place.store();
            scope.spawn(move || {
                for _ in 0..20 {
                    store.write(&work(), &session(&writer.to_string().repeat(100_000))).expect("written");
                }
            });
        }
        for _ in 0..100 {
            let text = token(&place.store());
            assert!(text.len() == 100_000 && text.bytes().all(|b| b == text.as_bytes()[0]));
        }
    });
    assert_eq!(place.names(), ["work.age"]);
}

#[test]
fn reserved_length_is_enough() {
    for length in [0usize, 1, 1000, 65_535, 65_536, 65_537, 1 << 20, 4 << 20] {
        let place = Place::new();
        let key = StoreKey::new(PathBuf::new(), KeySource::Default(place.key()), None).load_or_create().expect("a key");
        let sealed = key.seal(&vec![0; length]).expect("sealed");
        assert!(sealed.len() as u64 <= sealed_length(length), "{length}");
    }
}

/// Run by the next test in a process of its own, under a limit on the size of files.
#[test]
#[ignore = "the child of full_disk_keeps_the_old_session"]
#[allow(clippy::disallowed_methods, reason = "a test's own channel to its child")]
fn child_with_little_space() {
    let dir = PathBuf::from(std::env::var_os("AUTHCTL_TEST_DIR").expect("given by the parent"));
    let store = FileStore::new(dir.join("sessions"), KeySource::Default(dir.join("authctl.key")));
    let big = session(&"x".repeat(100_000));
    for error in [store.write(&work(), &big), store.reserve(&work(), 100_000)] {
        assert!(matches!(error, Err(StoreError::NoSpace { .. })), "{error:?}");
    }
    assert_eq!(token(&store), "old");
}

#[test]
fn disk_that_fills_up_after_the_reservation_loses_nothing() {
    let place = Place::new();
    let mount = r#"mount -t tmpfs -o size=64k tmpfs "$1" && exec "$0" --ignored --exact store::file::tests::child_on_a_small_disk"#;
    let ran = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
        .arg(std::env::current_exe().expect("this test"))
        .arg(place.dir.path())
        .env("AUTHCTL_TEST_DIR", place.dir.path())
        .output()
        .expect("unshare of util-linux");
    let stdout = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && stdout.contains("1 passed"), "{stdout}{}", String::from_utf8_lossy(&ran.stderr));
}

/// Fills the disk up between `reserve` and `write`.
#[test]
#[ignore = "the child of disk_that_fills_up_after_the_reservation_loses_nothing"]
#[allow(clippy::disallowed_methods, reason = "a test's own channel to its child")]
fn child_on_a_small_disk() {
    let dir = PathBuf::from(std::env::var_os("AUTHCTL_TEST_DIR").expect("given by the parent"));
    let store = FileStore::new(dir.join("sessions"), KeySource::Default(dir.join("authctl.key")));
    store.write(&work(), &session("old")).expect("written");
    store.reserve(&work(), 10_000).expect("enough space");
    let mut filler = File::create(dir.join("filler")).expect("create");
    while filler.write_all(&[0; 4096]).is_ok() {}
    store.write(&work(), &session(&"n".repeat(9_000))).expect("it was reserved");
    assert_eq!(token(&store).len(), 9_000);
    while filler.write_all(&[0; 4096]).is_ok() {}
    let error = store.write(&work(), &session(&"x".repeat(50_000))).expect_err("full");
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert_eq!(token(&store).len(), 9_000, "the old one stays");
    assert!(matches!(store.reserve(&work(), 10_000), Err(StoreError::NoSpace { .. })));
    let error = StoreKey::new(PathBuf::new(), KeySource::Default(dir.join("other.key")), None)
        .load_or_create()
        .expect_err("full");
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
}

#[test]
fn full_disk_keeps_the_old_session() {
    let place = Place::new();
    place.store().write(&work(), &session("old")).expect("written");
    let me = std::env::current_exe().expect("this test");
    let ran = Command::new("sh")
        .args([
            "-c",
            r#"trap '' XFSZ; ulimit -f 8; exec "$0" --ignored --exact store::file::tests::child_with_little_space"#,
        ])
        .arg(me)
        .env("AUTHCTL_TEST_DIR", place.dir.path())
        .output()
        .expect("sh");
    let stdout = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && stdout.contains("1 passed"), "{stdout}");
    assert_eq!(place.names(), ["work.age"], "no half file is left");
}

/// Leaves `session` as a process does that is killed before it renames what it has written.
fn leave_behind(place: &Place, session: &Session, name: &str) {
    let before = std::fs::read(place.file()).expect("readable");
    place.store().write(&work(), session).expect("written");
    std::fs::rename(place.file(), place.sessions().join(name)).expect("renamed");
    std::fs::write(place.file(), before).expect("written");
}

#[test]
fn session_that_a_killed_refresh_has_written_is_stored() {
    let (place, mut old) = (Place::new(), session("old"));
    old.refreshing_since = Some(crate::clock::UnixTime(1));
    let new = Session { generation: old.generation.next(), ..session("new") };
    place.store().write(&work(), &old).expect("written");
    leave_behind(&place, &new, ".work.age.1-0.next");
    let store = place.store();
    assert!(store.finish_interrupted_refresh(&work()).expect("works"));
    assert_eq!(store.read(&work()).expect("works").expect("there").tokens.access_token.expose(), "new");
    assert_eq!(place.names(), ["work.age"]);
    assert!(!store.finish_interrupted_refresh(&work()).expect("works"));
}

#[test]
fn file_left_behind_by_anything_else_is_not_stored() {
    let (place, mut old) = (Place::new(), session("old"));
    old.refreshing_since = Some(crate::clock::UnixTime(1));
    let store = place.store();
    let mut other_login = Session { generation: old.generation.next(), ..session("other") };
    other_login.generation.login = "another".into();
    let next = Session { generation: old.generation.next(), ..session("new") };
    let finished = Session { refreshing_since: None, ..old.clone() };
    let later = Session { generation: next.generation.next(), ..session("later") };
    for (stored, left) in [(&old, &other_login), (&old, &old), (&finished, &next), (&old, &later), (&next, &old)] {
        store.write(&work(), stored).expect("written");
        leave_behind(&place, left, ".work.age.1-0.next");
        assert!(!store.finish_interrupted_refresh(&work()).expect("works"));
        let found = store.read(&work()).expect("works").expect("there");
        assert_eq!(found.tokens.access_token.expose(), stored.tokens.access_token.expose());
    }
    store.write(&work(), &old).expect("written");
    leave_behind(&place, &next, ".work.age.1-0.next");
    let left = File::options().write(true).open(place.sessions().join(".work.age.1-0.next")).expect("opened");
    left.set_len(left.metadata().expect("there").len() - 1).expect("truncated");
    assert!(!store.finish_interrupted_refresh(&work()).expect("works"), "it is truncated");
    assert_eq!(place.names(), ["work.age"]);
    leave_behind(&place, &next, ".work.age.1-0.next");
    std::fs::write(place.sessions().join("work.age"), "damaged").expect("written");
    assert!(!store.finish_interrupted_refresh(&work()).expect("works"), "nothing shows that it is the next one");
    assert_eq!(place.names(), ["work.age"]);
}

#[test]
fn file_left_behind_stays_while_the_store_cannot_be_read() {
    let (place, mut old) = (Place::new(), session("old"));
    old.refreshing_since = Some(crate::clock::UnixTime(1));
    let new = Session { generation: old.generation.next(), ..session("new") };
    place.store().write(&work(), &old).expect("written");
    leave_behind(&place, &new, ".work.age.1-0.next");
    std::fs::set_permissions(place.key(), std::fs::Permissions::from_mode(0o644)).expect("opened to others");
    assert!(matches!(place.store().finish_interrupted_refresh(&work()), Err(StoreError::KeyFile { .. })));
    std::fs::set_permissions(place.key(), std::fs::Permissions::from_mode(0o600)).expect("closed to others");
    assert!(place.store().finish_interrupted_refresh(&work()).expect("works"));
    assert_eq!(token(&place.store()), "new");
}
