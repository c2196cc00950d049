//! Errors in network settings, which are reported before anything is sent: proxies and CA files.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{AUTHCTL, CommandOutput, Sandbox, quick_issuer};

/// A login at an issuer that does not exist.
const LOGIN: [&str; 8] =
    ["login", "work", "--issuer", "https://issuer.invalid", "--client-id", "c", "--device", "--json"];

/// Fails unless the command reported a configuration error with these words.
#[track_caller]
fn wrong(ran: CommandOutput, words: &[&str]) {
    let error = ran.exits(2).error();
    assert_eq!(error["code"], "configuration", "{error}");
    let text = format!("{} {}", error["message"], error["hint"]);
    assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
}

#[test]
fn invalid_proxy_address_is_a_configuration_error() {
    let mut home = Sandbox::new();
    home.register_secret("hunter2");
    for (variable, value) in [
        ("HTTPS_PROXY", "::::"),
        ("HTTPS_PROXY", "http://"),
        ("https_proxy", "ftp://clerk:hunter2@proxy.example:3128"),
        ("ALL_PROXY", "socks://clerk:hunter2@proxy.example:1080"),
        ("all_proxy", "http://clerk:hunter2@proxy.example:port"),
        ("HTTPS_PROXY", "http://clerk:hunter2/@proxy.example"),
        ("HTTPS_PROXY", "http://clerk:12#hunter2@proxy.example"),
        ("HTTPS_PROXY", "http://clerk:x@hunter2@proxy.example"),
        ("HTTPS_PROXY", "http://hunter2 proxy.example"),
    ] {
        home.set(variable, value);
        let message = format!("invalid proxy address in {variable}");
        wrong(home.run_offline(&[&LOGIN[..], &["-vvv"]].concat(), ""), &[&message, "http://proxy.example:3128"]);
        home.unset(variable);
    }
    home.set("HTTPS_PROXY", std::ffi::OsStr::from_bytes(b"http://proxy\xff"));
    wrong(home.run_offline(&LOGIN, ""), &["invalid proxy address in HTTPS_PROXY"]);
}

#[test]
fn invalid_proxy_is_ignored_for_hosts_that_need_none() {
    let mut home = Sandbox::new();
    home.set("HTTPS_PROXY", "::::");
    let issuer = quick_issuer();
    home.log_in("work", &issuer);
    home.run(&["refresh", "work"]).exits(0);
    home.set("NO_PROXY", ".invalid");
    home.run(&LOGIN).exits(6).reports("cannot resolve issuer.invalid");
    // The first that is set counts.
    home.unset("NO_PROXY");
    home.set("HTTPS_PROXY", "http://proxy.invalid:3128");
    home.set("ALL_PROXY", "::::");
    let by_proxy = "cannot resolve the proxy proxy.invalid:3128";
    home.run(&LOGIN).exits(6).reports(by_proxy);
    // Also as a CGI program, where a request cannot set this variable.
    home.set("REQUEST_METHOD", "GET");
    home.run(&LOGIN).exits(6).reports(by_proxy);
    home.set("NO_PROXY", ".invalid");
    home.run(&LOGIN).exits(6).reports("cannot resolve issuer.invalid");
}

#[test]
fn unusable_ca_file_is_a_configuration_error() {
    let mut home = Sandbox::new();
    for (name, why) in [
        ("missing", "No such file"),
        ("empty", "it contains no PEM certificate"),
        ("text", "it contains no PEM certificate"),
        ("junk", "it contains an invalid certificate"),
        ("directory", "not a regular file"),
        ("pipe", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("huge", "larger than 8192 KiB"),
    ] {
        let path = home.path().join(name);
        match name {
            "empty" => fs::write(&path, "").unwrap(),
            "text" => fs::write(&path, "not a certificate\n").unwrap(),
            "junk" => fs::write(&path, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap(),
            "directory" => fs::create_dir(&path).unwrap(),
            "pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
            "huge" => fs::File::create(&path).unwrap().set_len(1 << 40).unwrap(),
            _ => {}
        }
        let text = path.to_str().unwrap();
        // If it blocks, it may not even end on SIGTERM.
        let program = [&["--signal=KILL", "20", AUTHCTL][..], &LOGIN].concat();
        let with_option = [&program[..], &["--ca-cert", text]].concat();
        wrong(home.run_command(&mut home.command_for("timeout", &with_option)), &[text, why, "--ca-cert"]);
        home.set("SSL_CERT_FILE", &path);
        wrong(home.run_command(&mut home.command_for("timeout", &program)), &[text, why, "SSL_CERT_FILE"]);
        home.unset("SSL_CERT_FILE");
    }
}

#[test]
fn files_that_others_can_write_are_not_trusted() {
    let (home, issuer) = (Sandbox::new(), quick_issuer());
    let dir = home.path().join("shared");
    let file = dir.join("own.pem");
    fs::create_dir(&dir).unwrap();
    fs::write(&file, "nothing").unwrap();
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let login = ["login", "ci", "--issuer", issuer.issuer(), "--client-id", "authctl"];
    for (grant, option, why) in
        [("--device", "--ca-cert", "no PEM certificate"), ("--client-credentials", "--client-key", "no private key")]
    {
        let args = [&login[..], &[grant, option, file.to_str().unwrap()]].concat();
        for (file_mode, dir_mode, found) in [(0o666, 0o700, &file), (0o602, 0o700, &file), (0o600, 0o777, &dir)] {
            set(&file, file_mode);
            set(&dir, dir_mode);
            let path = found.display();
            home.run(&args)
                .exits(2)
                .reports(&format!("error: other users can write to {path} (mode "))
                .reports(&format!("hint:  chmod go-w {path}\n"));
        }
        set(&dir, 0o755);
        set(&file, 0o644);
        home.run(&args).exits(2).reports(why);
    }
    assert_eq!(issuer.stats().access_tokens, 0);
}
