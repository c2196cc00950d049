//! Changes of the file store's passphrase: one of the two opens every session, whatever else happens.

use std::fs;
use std::io::Read as _;

use age::secrecy::SecretString;

use super::{OTHER_PASSPHRASE, Operation, Outcome, PASSPHRASE, Ran};
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER};
use crate::world::World;

/// The profiles that have a session.
const NAMES: [&str; 2] = ["work", "home"];

/// The passphrase that seals a key file, if one does, and its content without it.
#[derive(Clone)]
pub struct Unsealed {
    pub passphrase: Option<&'static str>,
    pub text: Vec<u8>,
}

/// Opens a key file, like a user who knows both passphrases.
///
/// # Errors
/// If none opens it.
pub fn unseal(file: &[u8]) -> Result<Unsealed, String> {
    if !file.starts_with(b"age-encryption.org/") {
        return Ok(Unsealed { passphrase: None, text: file.to_owned() });
    }
    for passphrase in [PASSPHRASE, OTHER_PASSPHRASE] {
        let identity = age::scrypt::Identity::new(SecretString::from(passphrase));
        let decryptor = age::Decryptor::new_buffered(file).map_err(|e| format!("the key file is damaged: {e}"))?;
        let Ok(mut plain) = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)) else { continue };
        let mut text = Vec::new();
        plain.read_to_end(&mut text).map_err(|e| format!("the key file is damaged: {e}"))?;
        return Ok(Unsealed { passphrase: Some(passphrase), text });
    }
    Err("no passphrase opens the key file".into())
}

/// Replaces the key file by one with the same keys that `passphrase` seals, if there is one, so that opening it takes no time.
pub fn seal_quickly(home: &Sandbox, keys: &[u8], passphrase: Option<&str>) {
    let Some(passphrase) = passphrase else { return };
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase));
    recipient.set_work_factor(1);
    fs::write(home.key_file(), age::encrypt(&recipient, keys).expect("sealed")).expect("written");
}

/// Runs a command, with the passphrase if there is one.
pub fn run_with(home: &Sandbox, args: &[&str], passphrase: Option<&str>) -> CommandOutput {
    match passphrase {
        None => home.run(args),
        Some(passphrase) => home.run_with(&[args, &["--passphrase-stdin"]].concat(), passphrase),
    }
}

/// Makes the store ready: two sessions, which `passphrase` opens.
pub fn prepare(world: &World, passphrase: Option<&str>) {
    if world.home.run(&["token", "home"]).code != 0 {
        let login = || world.home.run_with(&World::login_to("home", &world.other, "other"), PASSWORD);
        if login().code != 0 {
            world.home.run(&["keys", "unpin", "home"]).exits(0);
            login().exits(0);
        }
    }
    seal_quickly(&world.home, &fs::read(world.home.key_file()).expect("a key file"), passphrase);
}

/// Returns whether a command has found a session that an interrupted start with another passphrase has left, and reports that
/// a login replaces it.
pub fn is_encrypted_to_a_forgotten_key(ran: &CommandOutput, profile: &str) -> bool {
    ran.code == 7
        && ran.stderr.contains("encrypted to another key")
        && ran.stderr.contains(&format!("hint:  authctl login {profile}\n"))
}

/// After a change: the sessions are usable with the old or the new passphrase, the new one if it was reported. A forgotten
/// passphrase takes its sessions along.
pub fn check(operation: Operation, world: &World, token: &str, ran: &Ran) -> Result<Outcome, String> {
    let Some([_, new]) = operation.passphrases() else { return Err("not about passphrases".into()) };
    let key = unseal(&fs::read(world.home.key_file()).map_err(|e| format!("no key file: {e}"))?)?;
    seal_quickly(&world.home, &key.text, key.passphrase);
    let is_new = key.passphrase == new;
    ensure!(is_new || !ran.reported_success, "success was reported, and the passphrase is the old one");
    let is_deleted = is_new && operation == Operation::PassphraseForgotten;
    let is_complete = !["still encrypted", "not deleted"].iter().any(|left| ran.stderr.contains(left));
    for name in NAMES {
        let served = run_with(&world.home, &["token", name], key.passphrase);
        if is_deleted {
            let may_be_left = !ran.reported_success || !is_complete;
            let is_gone = served.code == 3 || may_be_left && is_encrypted_to_a_forgotten_key(&served, name);
            ensure!(is_gone, "{name}, whose passphrase is forgotten: {}: {}", served.code, served.stderr);
        } else {
            ensure!(served.code == 0, "no token of {name}: {}", served.stderr);
            ensure!(name != "work" || served.line() == token, "another token");
        }
    }
    if ran.reported_success && is_complete {
        let text = String::from_utf8_lossy(&key.text).into_owned();
        let first = text.lines().find_map(|line| line.parse::<age::x25519::Identity>().ok()).expect("an identity");
        for file in world.home.sessions() {
            let bytes = fs::read(&file).expect("readable");
            ensure!(age::decrypt(&first, &bytes).is_ok(), "{} is encrypted to an earlier key", file.display());
        }
    }
    if key.passphrase.is_some() {
        let removed = run_with(&world.home, &["store", "passphrase", "--remove"], key.passphrase);
        ensure!(removed.code == 0, "the passphrase cannot be removed: {}", removed.stderr);
    }
    if is_deleted {
        // The keys of the issuer may be left, which nothing opens.
        let login = || world.home.run_with(&World::login(&world.issuer, USER), PASSWORD);
        let mut again = login();
        if again.code == 7 && again.stderr.contains("authctl keys unpin work") {
            world.home.run(&["keys", "unpin", "work"]).exits(0);
            again = login();
        }
        ensure!(again.code == 0, "no login after a forgotten passphrase: {}", again.stderr);
    }
    ensure!(world.is_alive("work")?, "the session cannot be refreshed");
    Ok(Outcome::Intact)
}
