//! A container registry with token authentication: Skopeo and Docker's command line.

use std::fs;
use std::process::{Command, Stdio};

use super::{Setup, fails, succeeds};
use crate::agent_support::KillOnDrop;
use crate::support::parts;
use crate::support::process::Lines;

/// Starts a registry that takes the tokens of the set-up's server; returns its address too.
fn registry(setup: &Setup) -> (KillOnDrop, String) {
    let (file, root) = (setup.home.path().join("registry.yml"), setup.root());
    let configuration = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {0}/images}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\nauth: \
         {{token: {{realm: \"http://{1}/token\", service: registry, issuer: test, rootcertbundle: {0}/cert.pem}}}}\n",
        root.display(),
        setup.host
    );
    fs::write(&file, configuration).unwrap();
    let mut command = Setup::in_home(&setup.home, parts::program("docker-registry"));
    command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut registry = command.spawn().expect("docker-registry");
    let mut lines = Lines::of(registry.stderr.take().expect("piped"));
    let registry = KillOnDrop(registry);
    let address = lines.find_map(|line| {
        let (_, address) = line.split_once("listening on ")?;
        Some(address.split('"').next()?.to_owned())
    });
    (registry, address.expect("the registry listens"))
}

fn skopeo(setup: &Setup, words: &[&str]) -> Command {
    let mut skopeo = setup.command(parts::program("skopeo"));
    skopeo.arg("--insecure-policy").args(words);
    skopeo
}

#[test]
fn skopeo_and_docker_reach_a_registry_while_tokens_expire() {
    let setup = Setup::new();
    let (_registry, address) = registry(&setup);
    let (file, image) = (setup.home.path().join("layer.tar"), format!("{address}/team/app:1"));
    fs::write(setup.home.path().join("hello"), "hello").unwrap();
    succeeds(setup.command("tar").arg("cf").arg(&file).arg("hello"));
    let (source, target) = (format!("tarball:{}", file.display()), format!("docker://{image}"));
    let push = || skopeo(&setup, &["copy", "-q", "--format", "v2s2", "--dest-tls-verify=false", &source, &target]);
    let inspect = || skopeo(&setup, &["inspect", "--tls-verify=false", &target]);
    let docker = |words: &[&str]| {
        let mut docker = setup.command(parts::program("docker"));
        docker.args(words).env("DOCKER_HOST", "unix:///does/not/exist");
        docker
    };
    let manifest = || docker(&["manifest", "inspect", "--insecure", &image]);
    fails(&mut push());
    fails(&mut manifest());
    setup.set_up_for("docker", &address);
    let first = setup.home.token("work");
    succeeds(&mut push());
    setup.home.expire("work");
    assert!(succeeds(&mut inspect()).contains(&format!("{address}/team/app")));
    setup.home.expire("work");
    assert!(succeeds(&mut manifest()).contains("schemaVersion"));
    let requests = setup.requests();
    let granted = requests.iter().filter(|request| request[..2] == ["200", "Basic"]);
    let mut tokens: Vec<&str> = granted.map(|request| request[2].as_str()).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 3, "each has a token of its own: {requests:?}");
    setup.assert_no_token_in_files(&first);

    // What `docker login` got from the helper or from a pipe it stores again.
    let mut login = docker(&["login", "-u", "oauth2", "--password-stdin", &address]);
    let token = fs::File::create_new(setup.home.path().join("data/token")).unwrap();
    succeeds(setup.command(crate::support::AUTHCTL).args(["token", "work"]).stdout(token));
    login.stdin(fs::File::open(setup.home.path().join("data/token")).unwrap());
    assert!(succeeds(&mut login).contains("Login Succeeded"));
    succeeds(&mut docker(&["logout", &address]));
    succeeds(&mut inspect());

    setup.home.run(&["logout", "work"]).exits(0);
    let error = fails(&mut inspect());
    assert!(error.contains("authctl login work"), "{error}");
    fails(&mut manifest());
    setup.home.run(&["helper", "docker", "--remove", "--profile", "work", "--host", &address]).exits(0);
    let error = fails(&mut inspect());
    assert!(!error.contains("authctl"), "{error}");
}
