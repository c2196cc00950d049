//! Tests of the key of the file store.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Barrier;

use age::secrecy::ExposeSecret as _;

use super::*;

/// Returns where the tests put what is encrypted to the key file at `path`: beside it.
fn directory(path: &Path) -> PathBuf {
    path.parent().expect("a directory").to_owned()
}

fn own(path: &Path) -> StoreKey {
    StoreKey::new(directory(path), KeySource::Default(path.to_owned()), None)
}

fn named(path: &Path) -> StoreKey {
    StoreKey::new(directory(path), KeySource::Path(path.to_owned()), None)
}

fn problem(key: &StoreKey) -> KeyProblem {
    match key.load() {
        Err(StoreError::KeyFile { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn concurrent_first_writers_get_one_key() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("made/authctl.key");
    let barrier = Barrier::new(16);
    std::thread::scope(|scope| {
        let racers: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let key = own(&path).load_or_create().expect("a key");
                    key.seal(b"plain").expect("sealed")
                })
            })
            .collect();
        let sealed: Vec<_> = racers.into_iter().map(|r| r.join().expect("no panic")).collect();
        let key = own(&path).load().expect("a key");
        assert!(sealed.iter().all(|s| key.open(s).is_some_and(|p| p.as_slice() == b"plain")));
    });
    let left: Vec<_> = path.parent().expect("parent").read_dir().expect("list").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).expect("readable");
    assert!(text.starts_with("# created: 20"), "{}", text.lines().next().unwrap_or_default());
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn provided_key_file_is_never_created() {
    let dir = tempfile::tempdir().expect("tempdir");
    let source = named(&dir.path().join("k"));
    assert!(source.load_or_create().is_err());
    assert_eq!(problem(&source), KeyProblem::NamedMissing);
    assert_eq!(dir.path().read_dir().expect("list").count(), 0);
}

#[test]
fn key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("it's.key");
    let source = own(&path);
    source.load_or_create().expect("made");
    for mode in [0o640, 0o604, 0o620, 0o644] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        let message = source.load().expect_err("refused").to_string();
        assert!(message.contains(&format!("mode {mode:04o}")), "{message}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("chmod");
    source.load().expect("owner alone");
    // Only root can give a file away.
    if std::os::unix::fs::chown(&path, Some(4711), None).is_ok() {
        assert_eq!(problem(&source), KeyProblem::NotOurs { owner: 4711 });
    }
}

#[test]
fn files_without_a_key_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("k");
    assert_eq!(problem(&named(dir.path())), KeyProblem::NotAFile);
    for text in ["", "# created: x\n", "AGE-SECRET-KEY-1QQQ\n", "age1xyz\n", "\u{0}\u{1}"] {
        std::fs::write(&path, text).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        assert_eq!(problem(&named(&path)), KeyProblem::NotAKey, "{text}");
    }
    std::fs::write(&path, [0xff, 0xfe]).expect("write");
    assert_eq!(problem(&named(&path)), KeyProblem::NotAKey);
    // The key itself is at the beginning of the file.
    let text = format!("{}\n#", age::x25519::Identity::generate().to_string().expose_secret());
    std::fs::write(&path, text.clone() + &"x".repeat(65_536 - text.len())).expect("write");
    named(&path).load().expect("the longest file");
    std::fs::write(&path, text.clone() + &"x".repeat(65_537 - text.len())).expect("write");
    assert_eq!(problem(&named(&path)).to_string(), "larger than 64 KiB");
    std::fs::remove_file(&path).expect("removed");
    let _socket = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let found = problem(&named(&path)).to_string();
    assert!(["No such device", "not supported"].iter().any(|reason| found.contains(reason)), "{found}");
}

fn secret(text: &str) -> Secret {
    Secret::new(text.into())
}

/// Returns the key as this answer to the question for the passphrase unlocks it.
fn answering(path: &Path, answer: &'static str) -> StoreKey {
    StoreKey::new(directory(path), KeySource::Default(path.to_owned()), Some(Arc::new(move || Ok(secret(answer)))))
}

#[test]
fn sealed_key_opens_with_its_passphrase_only() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("authctl.key");
    own(&path).change(Some(&secret("right")), false).expect("sealed");
    assert!(own(&path).is_sealed().expect("readable") && own(&path).is_locked());
    assert_eq!(path.metadata().expect("there").mode() & 0o777, 0o600);
    let bytes = std::fs::read(&path).expect("readable");
    assert!(!String::from_utf8_lossy(&bytes).contains("AGE-SECRET-KEY"));
    assert!(String::from_utf8_lossy(&bytes).lines().nth(1).expect("a stanza").ends_with(" 17"), "the work factor");
    assert!(matches!(own(&path).load(), Err(StoreError::Sealed)));
    assert!(matches!(own(&path).load_or_create(), Err(StoreError::Sealed)), "it is not replaced");
    let wrong = answering(&path, "wrong");
    assert!(matches!(wrong.load(), Err(StoreError::WrongPassphrase)));
    assert!(matches!(wrong.load(), Err(StoreError::Sealed)), "the user is asked once");
    let right = answering(&path, "right");
    let sealed = right.load().expect("unlocked").seal(b"plain").expect("sealed");
    assert!(!right.is_locked() && right.passphrase().is_some());
    right.lock();
    assert!(right.is_locked() && right.passphrase().is_none());
    let held = own(&path);
    held.hold(held.unlock(&secret("right")).expect("unlocked").expect("sealed"));
    assert_eq!(held.load().expect("held").open(&sealed).expect("opens").as_slice(), b"plain");
}

#[test]
fn changed_key_opens_what_the_earlier_ones_encrypted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("authctl.key");
    let in_the_clear = own(&path).load_or_create().expect("created").seal(b"first").expect("sealed");
    let key = own(&path);
    key.change(Some(&secret("one")), false).expect("sealed");
    let with_one = key.load().expect("held").seal(b"second").expect("sealed");
    let elsewhere = answering(&path, "one");
    elsewhere.load().expect("unlocked");
    key.change(Some(&secret("two")), false).expect("changed");
    assert!(elsewhere.is_locked(), "its passphrase is the old one");
    assert!(matches!(answering(&path, "one").load(), Err(StoreError::WrongPassphrase)));
    for _ in 0..MAX_EARLIER_KEYS {
        key.change(Some(&secret("two")), false).expect("changed");
    }
    assert_eq!(key.load().expect("held").0.len(), 1 + MAX_EARLIER_KEYS);
    key.change(None, false).expect("in the clear");
    assert!(!key.is_sealed().expect("readable"));
    let last = own(&path).load().expect("in the clear");
    assert!(last.open(&with_one).is_none(), "the number of keys is limited");

    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("authctl.key");
    let key = own(&path);
    let first = key.load_or_create().expect("created").seal(b"first").expect("sealed");
    key.change(Some(&secret("one")), false).expect("sealed");
    key.change(Some(&secret("two")), false).expect("changed");
    let loaded = answering(&path, "two").load().expect("unlocked");
    assert_eq!(loaded.open(&first).expect("opens").as_slice(), b"first");
    assert!(loaded.open(&in_the_clear).is_none());
    own(&path).change(Some(&secret("three")), true).expect("forgotten");
    assert!(answering(&path, "three").load().expect("unlocked").open(&first).is_none());
}

#[test]
fn passphrase_of_a_provided_key_file_is_used_and_not_changed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("k");
    own(&path).change(Some(&secret("its own")), false).expect("sealed");
    let source = KeySource::Path(path.clone());
    StoreKey::new(directory(&path), source, Some(Arc::new(|| Ok(secret("its own"))))).load().expect("unlocked");
    let refused = named(&path).change(Some(&secret("another")), false).expect_err("refused");
    assert!(matches!(refused, StoreError::KeyFile { problem: KeyProblem::Named, .. }), "{refused}");
}

#[test]
fn sealed_file_that_asks_for_too_much_work_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("k");
    let mut recipient = age::scrypt::Recipient::new(key_file::secret_string(&secret("right")));
    recipient.set_work_factor(key_file::MAX_WORK_FACTOR + 1);
    std::fs::write(&path, age::encrypt(&recipient, b"plain").expect("sealed")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(problem(&answering(&path, "right")), KeyProblem::WorkFactor { factor: key_file::MAX_WORK_FACTOR + 1 });
}

#[test]
fn truncated_or_changed_sealed_key_is_an_error() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("authctl.key");
    own(&path).change(Some(&secret("right")), false).expect("sealed");
    let good = std::fs::read(&path).expect("readable");
    for length in [30, 60, good.len() - 1] {
        std::fs::write(&path, &good[..length]).expect("written");
        answering(&path, "right").load().expect_err("refused");
    }
}

#[test]
fn replaced_key_file_does_not_unlock() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("key");
    let secret = |text: &str| Secret::new(text.into());
    let (own_passphrase, attackers) = (secret("own"), secret("attacker's"));
    let seal = |path: &Path, passphrase: &Secret| own(path).change(Some(passphrase), true).expect("sealed");
    seal(&path, &own_passphrase);
    let sealed = std::fs::read(&path).expect("readable");
    let key = own(&path);
    assert!(key.is_sealed().expect("readable"));
    let clear = || {
        std::fs::remove_file(&path).expect("removed");
        own(&path).load_or_create().expect("a key in the clear");
    };
    // Locked since it was started.
    clear();
    assert!(matches!(key.unlock(&attackers), Err(StoreError::WrongPassphrase)));
    std::fs::write(&path, &sealed).expect("restored");
    key.hold(key.unlock(&own_passphrase).expect("right").expect("sealed"));
    key.lock();
    // Locked by the user.
    clear();
    assert!(matches!(key.unlock(&attackers), Err(StoreError::WrongPassphrase)));
    assert!(key.unlock(&own_passphrase).expect("the one that locked it").is_none());
    seal(&path, &attackers);
    assert!(matches!(key.unlock(&attackers), Err(StoreError::KeyFile { problem: KeyProblem::Replaced, .. })));
    assert!(matches!(key.unlock(&own_passphrase), Err(StoreError::WrongPassphrase)));
    // Changed by the user, with the passphrase.
    std::fs::write(&path, &sealed).expect("restored");
    let (changing, new) = (own(&path), secret("new"));
    changing.hold(changing.unlock(&own_passphrase).expect("right").expect("sealed"));
    changing.change(Some(&new), false).expect("changed");
    assert!(matches!(key.unlock(&own_passphrase), Err(StoreError::WrongPassphrase)));
    assert!(key.unlock(&new).expect("it has the earlier key").is_some());
}

#[test]
fn key_file_replaced_since_the_start_has_to_open_a_session() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (path, session) = (dir.path().join("key"), dir.path().join("work.age"));
    let change = |key: StoreKey, passphrase: &str| key.change(Some(&secret(passphrase)), false).expect("sealed");
    let unlock = |key: &StoreKey, passphrase: &str| key.unlock(&secret(passphrase)).map(|unlocked| unlocked.is_some());
    let is_replaced = |result| matches!(result, Err(StoreError::KeyFile { problem: KeyProblem::Replaced, .. }));
    let locked = || {
        let key = own(&path);
        assert!(key.is_sealed().expect("readable"));
        key
    };
    change(own(&path), "own");
    let of_nothing = locked();
    std::fs::write(dir.path().join("damaged.age"), "age-encryption.org/v1\n").expect("written");
    let key = answering(&path, "own").load().expect("unlocked");
    std::fs::write(&session, key.seal(&[b'x'; 5000]).expect("sealed")).expect("written");
    let locked_at_start = locked();
    change(answering(&path, "own"), "new");
    assert!(unlock(&locked_at_start, "new").expect("it opens the session"));
    assert!(is_replaced(unlock(&of_nothing, "new")), "nothing shows whose file it is");
    std::fs::remove_file(&path).expect("removed");
    change(own(&path), "attacker's");
    // In the place of the session too.
    let others = answering(&path, "attacker's").load().expect("unlocked");
    std::fs::write(&session, others.seal(b"x").expect("sealed")).expect("written");
    assert!(is_replaced(unlock(&locked_at_start, "attacker's")));
    assert!(unlock(&locked(), "attacker's").expect("of another agent"));
}
