//! A Python package index: pip and uv.

use std::fs;
use std::process::Command;

use super::{Setup, fails, python, succeeds};

/// What makes a wheel.
const WHEEL: &str = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.writestr("greeting.py", "def hello():\n    return 'hello'\n")
    about = "greeting-1.0.dist-info/"
    wheel.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(about + "RECORD", "")
"#;

/// Returns the installation of the package from the index into a new directory.
fn install(setup: &Setup, program: &str, index: &str, directory: &str) -> Command {
    let mut command = setup.command(python(program));
    match program {
        "pip" => command.args(["install", "-q", "--no-input", "--disable-pip-version-check"]),
        _ => command.args(["pip", "install", "-q", "--no-cache"]).arg("--python").arg(python("python")),
    };
    command.args(["--keyring-provider", "subprocess", "--index-url", index, "--target", directory, "greeting"]);
    // What this machine configures.
    command.env("PIP_CONFIG_FILE", "/dev/null").env("UV_NO_CONFIG", "1").env("UV_HTTP_RETRIES", "0");
    command
}

#[test]
fn pip_and_uv_install_from_a_private_index() {
    let setup = Setup::new();
    let directory = setup.root().join("simple/greeting");
    fs::create_dir_all(&directory).unwrap();
    succeeds(setup.command("python3").args(["-c", WHEEL]).arg(directory.join("greeting-1.0-py3-none-any.whl")));
    let index = format!("http://oauth2@{}/simple", setup.host);
    for program in ["pip", "uv"] {
        fails(&mut install(&setup, program, &index, "none"));
    }
    setup.set_up("keyring");
    let token = setup.home.token("work");
    for program in ["pip", "uv"] {
        setup.home.expire("work");
        succeeds(&mut install(&setup, program, &index, program));
        assert!(fs::read_to_string(setup.home.path().join(program).join("greeting.py")).unwrap().contains("hello"));
    }
    // pip asks for a user name too.
    succeeds(&mut install(&setup, "pip", &index.replace("oauth2@", ""), "asked"));
    let requests = setup.requests();
    let granted = requests.iter().filter(|request| request[..2] == ["200", "Basic"] && request[4].ends_with(".whl"));
    assert!(granted.count() >= 3, "{requests:?}");
    setup.assert_no_token_in_files(&token);

    setup.home.run(&["logout", "work"]).exits(0);
    for program in ["pip", "uv"] {
        let error = fails(&mut install(&setup, program, &index, "none"));
        // pip does not show why there is no password.
        assert!(program == "pip" || error.contains("authctl login work"), "{error}");
    }
}

#[test]
fn pip_and_uv_send_no_token_without_encryption() {
    let setup = Setup::new();
    setup.set_up_for("keyring", "index.example");
    // As a proxy, the server sees what goes to the index.
    let proxy = format!("http://{}", setup.host);
    for index in ["http://oauth2@index.example/simple", "http://index.example/simple"] {
        for program in ["pip", "uv"] {
            let mut command = install(&setup, program, index, "none");
            if program == "pip" {
                command.args(["--trusted-host", "index.example"]);
            }
            fails(command.envs([("http_proxy", &proxy), ("HTTP_PROXY", &proxy)]));
        }
    }
    let requests = setup.requests();
    let is_bare = |request: &Vec<String>| request[2] == "-" && request[4].starts_with("http://index.example/");
    assert!(requests.len() >= 4 && requests.iter().all(is_bare), "{requests:?}");
}
