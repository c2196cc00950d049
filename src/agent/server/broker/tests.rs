//! Tests of what the broker does for an agent that may have been taken over.

use super::*;

/// Returns a broker of a user who wants no notifications, and the configuration in `place`.
fn broker(place: &Path, key_file: Option<PathBuf>) -> (Broker, PathBuf) {
    let config = ConfigFiles { user: place.join("config.toml"), machine_wide: Vec::new() };
    configure(&config.user, "");
    let parts = BrokerParts {
        key_file,
        locks: place.join("locks"),
        socket: place.join("socket"),
        writable: vec![place.join("data")],
        notify: false,
        asks_for_login: false,
        config: config.clone(),
    };
    (Broker::new(parts), config.user)
}

fn configure(config: &Path, lines: &str) {
    let profile = "[profiles.work]\nissuer = \"https://a.example\"\nclient_id = \"cli\"\n";
    std::fs::write(config, format!("{profile}{lines}")).expect("written");
}

#[test]
fn broker_opens_and_changes_only_files_that_are_configured() {
    let place = tempfile::tempdir().expect("a directory");
    let at = |name: &str| place.path().join(name);
    let read_only = ["key", "ca", "client_key", "identity", "config.toml"];
    let token_files = ["token", "id_token"];
    for name in read_only.iter().chain(&token_files).chain(&["other"]) {
        std::fs::write(at(name), name).expect("written");
    }
    let (broker, config) = broker(place.path(), Some(at("key")));
    let opens = |name: &str| broker.open(&at(name)).file.is_some();
    let new = SecretBytes::new(b"new".to_vec());
    let refused = |changed: io::Result<()>, name: &str| {
        let error = changed.expect_err(name);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{name}: {error}");
    };
    let unchanged = |name: &str| {
        let before = std::fs::read(at(name)).expect("there");
        refused(broker.change_token_file(&at(name), Some(&new), || false), name);
        refused(broker.change_token_file(&at(name), None, || false), name);
        assert_eq!(std::fs::read(at(name)).expect("there"), before, "{name}");
    };
    assert_eq!(["key", "config.toml", "ca", "token", "other"].map(opens), [true, true, false, false, false]);
    read_only.iter().chain(&token_files).for_each(|name| unchanged(name));
    let setting = |key: &str, name: &str| format!("{key} = {:?}\n", at(name));
    let settings = [
        setting("ca_cert", "ca"),
        setting("token_file", "token"),
        setting("id_token_file", "id_token"),
        setting("client_key", "client_key"),
        format!("workload = \"file:{}\"\n", at("identity").display()),
    ];
    configure(&config, &settings.concat());
    for name in read_only.iter().chain(&token_files) {
        assert!(opens(name), "{name}");
    }
    assert!(!opens("other"));
    read_only.iter().chain(&["other"]).for_each(|name| unchanged(name));
    for name in token_files {
        broker.change_token_file(&at(name), Some(&new), || false).expect("configured");
        assert_eq!(std::fs::read(at(name)).expect("there"), b"new");
    }
    // The agent has the last valid configuration too.
    std::fs::write(&config, "[profiles").expect("written");
    assert!(opens("ca") && broker.profile("work").is_ok());
    // A token file is removed after its setting.
    configure(&config, "");
    for name in token_files {
        broker.change_token_file(&at(name), None, || false).expect("it was configured");
        assert!(!at(name).exists());
    }
    unchanged("other");
}

#[test]
fn broker_opens_no_file_that_the_agent_chooses_by_a_link() {
    use std::os::unix::fs::symlink;
    let place = tempfile::tempdir().expect("a directory");
    let at = |name: &str| place.path().join(name);
    for dir in ["data", "private", "home"] {
        std::fs::create_dir(at(dir)).expect("made");
    }
    std::fs::write(at("private/secret"), "secret").expect("written");
    std::fs::write(at("home/ca"), "ca").expect("written");
    symlink(at("private/secret"), at("data/token")).expect("linked");
    symlink(at("private"), at("data/dir")).expect("linked");
    symlink("../data/dir", at("home/by-data")).expect("linked");
    symlink(at("private/secret"), at("home/link")).expect("linked");
    symlink("ca", at("home/of-the-user")).expect("linked");
    let (broker, config) = broker(place.path(), None);
    let new = SecretBytes::new(b"new".to_vec());
    for (setting, path, is_opened) in [
        ("token_file", "data/token", false),
        ("token_file", "data/dir/secret", false),
        ("token_file", "home/by-data/secret", false),
        ("token_file", "home/../data/dir/secret", false),
        ("token_file", "home/link", false),
        ("ca_cert", "data/token", false),
        ("ca_cert", "home/by-data/secret", false),
        ("ca_cert", "home/of-the-user", true),
        ("token_file", "home/ca", true),
    ] {
        configure(&config, &format!("{setting} = {:?}\n", at(path)));
        // As the configuration names it.
        let named = broker.known().config.profiles.values().flat_map(files_of).next().expect("a file");
        assert_eq!(broker.open(&named).file.is_some(), is_opened, "{setting} = {path}");
        if !is_opened {
            broker.change_token_file(&named, Some(&new), || false).expect_err("refused");
            broker.change_token_file(&named, None, || false).expect_err("refused");
        }
    }
    assert_eq!(std::fs::read(at("private/secret")).expect("there"), b"secret");
}

#[test]
fn broker_runs_only_what_is_configured() {
    let place = tempfile::tempdir().expect("a directory");
    let (broker, _) = broker(place.path(), None);
    let (socket, _other) = UnixStream::pair().expect("sockets");
    for name in ["work", "other", "../work", "--help"] {
        let profile = name.to_owned();
        let done = broker.perform(&BrokerRequest::Workload { profile }, &SecretBytes::default(), &socket);
        assert!(matches!(done.outcome, BrokerOutcome::Failed(Some(_), _)), "{name}: {:?}", done.outcome);
    }
    // The user wants neither notifications nor to be asked.
    for profile in ["work", "other", "--help"].map(str::to_owned) {
        for request in
            [BrokerRequest::Notify { profile: profile.clone() }, BrokerRequest::Ask { profile: profile.clone() }]
        {
            let done = broker.perform(&request, &SecretBytes::default(), &socket);
            assert!(matches!(done.outcome, BrokerOutcome::Failed(Some(_), _)), "{:?}", done.outcome);
        }
        let refused = broker.start_login(&profile).expect_err("not wanted");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn token_is_not_written_after_the_agent_has_stopped_waiting() {
    let place = tempfile::tempdir().expect("a directory");
    let (broker, config) = broker(place.path(), None);
    let token = place.path().join("token");
    configure(&config, &format!("token_file = {token:?}\n"));
    let payload = SecretBytes::new(b"a-token".to_vec());
    let (socket, agent) = UnixStream::pair().expect("sockets");
    let write = || {
        let path = token.display().to_string();
        broker.perform(&BrokerRequest::WriteToken { path }, &payload, &socket)
    };
    write();
    assert!(token.exists(), "it waits");
    std::fs::remove_file(&token).expect("removed");
    drop(agent);
    write();
    assert!(!token.exists());
}

#[test]
fn profile_has_one_login_at_a_time() {
    let place = tempfile::tempdir().expect("a directory");
    let (mut broker, _) = broker(place.path(), None);
    broker.parts.asks_for_login = true;
    broker.logins().insert("work".into(), None);
    let refused = broker.start_login("work").expect_err("one is running");
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::ALREADY.raw_os_error()));
}
