//! Tests of the locations and of the environment.

use std::path::Path;

#[cfg(not(target_os = "macos"))]
use super::locations::bus_socket;
use super::locations::{MACHINE_CONFIG, machine_wide_files};
use super::*;

#[test]
fn configuration_and_data_are_in_separate_directories() {
    let paths = Paths::within(Path::new("/c"), PathBuf::from("/d"), None);
    assert_eq!(paths.config.user, Path::new("/c/config.toml"));
    assert_eq!(paths.default_key_file, Path::new("/c/authctl.key"));
    assert_eq!(paths.sessions, Path::new("/d/sessions"));
    assert_eq!(paths.locks, Path::new("/d/locks"));
    assert_eq!(paths.agent_socket, Path::new("/d/run/agent.sock"));
    let with_run = Paths::within(Path::new("/c"), PathBuf::from("/d"), Some(PathBuf::from("/r")));
    assert_eq!(with_run.agent_socket, Path::new("/r/agent.sock"));
}

#[test]
fn machine_wide_files_are_in_the_xdg_directories_then_in_etc() {
    for (dirs, expected) in [
        (None, &["/etc/xdg/authctl/config.toml"][..]),
        (Some(""), &["/etc/xdg/authctl/config.toml"]),
        (Some("/a:/b"), &["/a/authctl/config.toml", "/b/authctl/config.toml"]),
        (Some("relative::/a:./b:/a"), &["/a/authctl/config.toml"]),
        (Some("relative"), &[]),
        (Some("/etc"), &[]),
    ] {
        let expected: Vec<PathBuf> = expected.iter().chain(&[MACHINE_CONFIG]).map(PathBuf::from).collect();
        assert_eq!(machine_wide_files(dirs.map(OsString::from)), expected, "{dirs:?}");
    }
}

#[test]
#[cfg(not(target_os = "macos"))]
fn bus_address_names_the_socket() {
    for (address, socket) in [
        ("unix:path=/run/user/1000/bus", Some("/run/user/1000/bus")),
        ("unix:path=/tmp/a,guid=12", Some("/tmp/a")),
        ("unix:path=/tmp/a%20b%2cc", Some("/tmp/a b,c")),
        ("tcp:host=localhost,port=1;unix:guid=1,path=/x", Some("/x")),
        ("unix:abstract=/tmp/x", None),
        ("autolaunch:", None),
    ] {
        assert_eq!(bus_socket(address).as_deref(), socket.map(Path::new), "{address}");
    }
}

#[test]
fn browser_is_opened_only_where_the_user_is() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("wslview"), "").expect("written");
    let helped = dir.path().as_os_str().to_owned();
    let none = Surroundings::default;
    let wsl = || Surroundings { wsl: true, ..none() };
    let container = || Surroundings { container_named: true, ..none() };
    for (what, surroundings, marked, expected) in [
        ("a desktop", Surroundings { display: true, ..none() }, false, None),
        ("nothing", none(), false, Some(Elsewhere::NoDisplay)),
        ("BROWSER alone", Surroundings { browser_named: true, ..none() }, false, None),
        ("ssh", Surroundings { ssh: true, ..none() }, false, Some(Elsewhere::Ssh)),
        ("ssh -X", Surroundings { ssh: true, display: true, ..none() }, false, Some(Elsewhere::Ssh)),
        ("ssh, BROWSER", Surroundings { ssh: true, browser_named: true, ..none() }, false, Some(Elsewhere::Ssh)),
        ("Podman's variable", container(), false, Some(Elsewhere::Container)),
        ("Docker's file", none(), true, Some(Elsewhere::Container)),
        ("a container with a display", Surroundings { display: true, ..container() }, true, None),
        ("a container, BROWSER", Surroundings { browser_named: true, ..container() }, true, None),
        ("WSL", wsl(), false, Some(Elsewhere::Wsl)),
        ("WSL with a display", Surroundings { display: true, ..wsl() }, false, None),
        ("WSL, BROWSER", Surroundings { browser_named: true, ..wsl() }, false, None),
        ("WSL with wslview", Surroundings { search_path: helped.clone(), ..wsl() }, false, None),
        (
            "wslview elsewhere",
            Surroundings { search_path: helped.clone(), ..none() },
            false,
            Some(Elsewhere::NoDisplay),
        ),
    ] {
        assert_eq!(surroundings.elsewhere_if(|| marked), expected, "{what}");
    }
    std::fs::write(dir.path().join("rundll32.exe"), "").expect("written");
    let both = Surroundings { search_path: helped, ..wsl() };
    assert_eq!(both.windows_opener().map(|(path, _)| path), Some(dir.path().join("wslview")));
    assert_eq!(Surroundings { browser_named: true, ..both }.windows_opener(), None, "BROWSER goes first");
}

#[test]
fn service_uses_the_link_in_path_that_updates_change() {
    let place = tempfile::tempdir().expect("tempdir");
    let root = place.path().canonicalize().expect("a path");
    let (cellar, bin, other) = (root.join("Cellar/authctl/0.1.0/bin"), root.join("bin"), root.join("other"));
    for dir in [&cellar, &bin, &other] {
        std::fs::create_dir_all(dir).expect("made");
    }
    let (program, link) = (cellar.join("authctl"), bin.join("authctl"));
    std::fs::write(&program, "").expect("written");
    std::fs::write(other.join("authctl"), "").expect("written");
    let search = std::env::join_paths([&other, &root, &bin]).expect("paths");
    assert_eq!(stable_link(program.clone(), &search, None), program, "another program is not used");
    std::os::unix::fs::symlink(&program, &link).expect("linked");
    assert_eq!(stable_link(program.clone(), &search, None), link);
    assert_eq!(stable_link(program.clone(), std::ffi::OsStr::new("bin:"), None), program, "relative");
    let nowhere = std::ffi::OsStr::new("");
    for (started_as, expected) in [
        (link.clone(), &link),
        (other.join("authctl"), &program),
        ("authctl".into(), &program),
        (cellar.join("keyring"), &program),
    ] {
        assert_eq!(stable_link(program.clone(), nowhere, Some(started_as)), *expected);
    }
}
