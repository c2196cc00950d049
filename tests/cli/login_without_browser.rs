//! `authctl login` without a browser: over SSH, in a container, in WSL; and the values of `BROWSER`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::login::{browser, device, login, opened_address, plain};
use crate::support::login_pages::{LoginPages, user_code};
use crate::support::stub_server::StubServer;
use crate::support::{Sandbox, USER, issuer};

#[test]
fn device_code_is_used_without_a_browser() {
    let issuer = issuer(device);
    for (variable, value, why) in [
        ("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22", "Connected over SSH, so no browser"),
        ("container", "podman", "Running in a container without a display, so no browser"),
        ("WSL_DISTRO_NAME", "Debian", "Running in WSL without"),
    ] {
        let mut home = Sandbox::new();
        // A display over SSH is that of another machine.
        if variable == "SSH_CONNECTION" {
            browser(&mut home);
            home.set("DISPLAY", "localhost:10.0");
        }
        // The only program is the one that the test needs, so none can open the browser of Windows.
        let programs = home.path().join("programs");
        fs::create_dir(&programs).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let setsid = std::env::split_paths(&path).map(|dir| dir.join("setsid")).find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(setsid, programs.join("setsid")).unwrap();
        home.set("PATH", &programs);
        home.set(variable, value);
        let waiting = home.spawn_in_terminal(&login(&issuer, &[]));
        waiting.reports(why);
        waiting.reports("--browser opens one");
        let code = waiting.wait_until("a user code", user_code);
        assert!(issuer.approve_device(&code, USER), "{code}");
        waiting.wait().exits(0);
        assert!(!home.path().join("opened").exists(), "a browser was opened: {variable}");
        // With an explicit grant no reason is printed.
        let named = home.spawn(&login(&issuer, &["--device"]));
        named.reports("enter the code");
        named.wait_until("nothing about a browser", |text| (!text.contains("so no browser")).then_some(()));
    }
}

#[test]
fn pasted_address_is_used_without_browser_and_device_codes() {
    let server = StubServer::without_device_grant();
    let mut home = Sandbox::new();
    home.set("SSH_TTY", "/dev/pts/7");
    let mut waiting = home.spawn_in_terminal(&["login", "work", "--issuer", &server.url, "--client-id", "authctl"]);
    waiting.wait_until("the reason", |text| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        text.contains("Connected over SSH, so no browser is opened here, and the issuer offers no device login")
            .then_some(())
    });
    waiting.reports(&format!("Logging in to work at {}\r\n", server.url));
    waiting.reports("Paste the address: ");
    waiting.type_text("\u{4}");
    waiting.reports("\nInput is closed");
}

#[test]
fn pasted_address_may_be_longer_than_a_line_of_the_terminal() {
    let issuer = plain();
    let home = Sandbox::new();
    let mut waiting = home.spawn_in_terminal(&login(&issuer, &["--no-browser"]));
    let url = waiting.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    waiting.reports("Paste the address: ");
    let person = LoginPages::sign_in(&issuer, &url, USER);
    let pasted = person.location.trim_start_matches("http://");
    waiting.type_text(&format!("mistyped\u{15}{pasted}&session={}\u{7f}\n", "x".repeat(6000)));
    waiting.wait().exits(0);
    home.token("work");
}

#[test]
fn pasted_address_may_be_broken_into_lines() {
    let issuer = plain();
    let home = Sandbox::new();
    let mut waiting = home.spawn_in_terminal(&login(&issuer, &["--no-browser"]));
    let url = waiting.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    waiting.reports("Paste the address: ");
    let address = LoginPages::sign_in(&issuer, &url, USER).location;
    let (first, rest) = address.split_at(address.find("state=").unwrap() + 10);
    waiting.type_text(&format!("mistyped\n\u{1b}[200~{first}\n{rest}\u{1b}[201~\n"));
    waiting.wait().exits(0);
    home.token("work");
}

#[test]
fn pasted_address_that_is_broken_within_its_code_is_refused() {
    let issuer = plain();
    let home = Sandbox::new();
    // The code is last, so that the first line is a whole response to the login.
    let code_last = |location: &str| {
        let (address, query) = location.split_once('?').unwrap();
        let mut parameters: Vec<&str> = query.split('&').collect();
        parameters.sort_by_key(|parameter| parameter.starts_with("code="));
        format!("{address}?{}", parameters.join("&"))
    };
    let mut waiting = home.spawn_in_terminal(&login(&issuer, &["--no-browser"]));
    let url = waiting.wait_for_line(&format!("{}/authorize", issuer.issuer()));
    waiting.reports("Paste the address: ");
    let address = code_last(&LoginPages::sign_in(&issuer, &url, USER).location);
    let (first, rest) = address.split_at(address.len() - 5);
    waiting.type_text(&format!("{first}\n{rest}\n"));
    waiting.reports("broken into lines, so a part of its code may be missing; paste it again as one line");
    waiting.type_text(&format!("\u{1b}[200~{address}\r\n\u{1b}[201~\n"));
    waiting.wait().exits(0);
    home.token("work");

    // A pipe.
    for (broken, code) in [(true, 2), (false, 0)] {
        let mut piping = home.spawn(&login(&issuer, &["--no-browser"]));
        let url = piping.wait_for_line(&format!("{}/authorize", issuer.issuer()));
        let address = code_last(&LoginPages::sign_in(&issuer, &url, USER).location);
        let (first, rest) = address.split_at(address.len() - 5);
        let between = if broken { "\n" } else { "" };
        piping.type_text(&format!("{first}{between}{rest}\r\n\n"));
        piping.wait().exits(code);
    }
}

#[test]
fn browser_variable_takes_arguments_and_wsl_uses_windows() {
    let issuer = plain();
    for (variables, program) in [
        // The first browser is missing; the second takes the address between its arguments.
        (&[("BROWSER", "no-such-browser:DIR/opener --url=%s last"), ("container", "podman")][..], "opener"),
        (&[("BROWSER", "DIR/opener --new-window"), ("WSL_DISTRO_NAME", "Debian")], "opener"),
        (&[("WSL_DISTRO_NAME", "Debian"), ("PATH", "DIR:/usr/bin:/bin")], "wslview"),
        (&[("WSL_INTEROP", "/run/WSL/1"), ("PATH", "DIR:/usr/bin:/bin")], "rundll32.exe"),
    ] {
        let mut home = Sandbox::new();
        let (dir, arguments) = (home.path().join("programs"), home.path().join("arguments"));
        fs::create_dir(&dir).unwrap();
        let script = dir.join(program);
        let text = format!("#!/bin/sh\nprintf '%s\\n' \"$*\" > '{0}.part'\nmv '{0}.part' '{0}'\n", arguments.display());
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        for (name, value) in variables {
            home.set(name, value.replace("DIR", dir.to_str().unwrap()));
        }
        let waiting = home.spawn_in_terminal(&login(&issuer, &[]));
        let line = opened_address(&arguments);
        let address = format!("{}/authorize?", issuer.issuer());
        let (before, rest) = line.split_once(&address).expect("the address");
        let after = rest.split_once(' ').map_or("", |(_, after)| after);
        let expected = match (variables[0].1, program) {
            (value, _) if value.contains("%s") => ("--url=", "last"),
            (value, "opener") if value.contains("--new") => ("--new-window ", ""),
            (_, "wslview") => ("", ""),
            _ => ("url.dll,FileProtocolHandler ", ""),
        };
        assert_eq!((before, after), expected, "{variables:?}");
        let mut person = LoginPages::sign_in(&issuer, &format!("{address}{}", rest.split(' ').next().unwrap()), USER);
        assert_eq!(person.follow_redirect(), 200);
        waiting.wait().exits(0);
    }
}
