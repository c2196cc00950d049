//! A Kubernetes API: kubectl and the Python client.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Setup, fails, python, succeeds};
use crate::support::{AUTHCTL, parts};

/// A user of a cluster whose API is the set-up's server.
struct Cluster {
    setup: Setup,
}

impl Cluster {
    fn new() -> Self {
        let mut setup = Setup::new();
        find_kubectl(&mut setup);
        let cluster = Self { setup };
        cluster.helper("--write", &[]);
        let server = format!("--server=https://{}", cluster.setup.encrypted);
        let authority = format!("--certificate-authority={}", cluster.setup.root().join("cert.pem").display());
        succeeds(&mut cluster.kubectl(&["config", "set-cluster", "test", &server, &authority]));
        succeeds(&mut cluster.kubectl(&["config", "set-context", "test", "--cluster=test", "--user=authctl-work"]));
        succeeds(&mut cluster.kubectl(&["config", "use-context", "test"]));
        cluster
    }

    /// Sets kubectl up, or undoes it; returns what it reports.
    #[track_caller]
    fn helper(&self, mode: &str, more: &[&str]) -> String {
        let mut command = self.setup.command(AUTHCTL);
        succeeds(command.args(["helper", "kubernetes", mode, "--profile", "work"]).args(more))
    }

    fn kubectl(&self, words: &[&str]) -> Command {
        let mut kubectl = self.setup.command("kubectl");
        kubectl.args(words);
        kubectl
    }

    fn python(&self, calls: &str) -> Command {
        let mut command = self.setup.command(python("python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/tools/kubernetes.py")).arg(calls);
        command
    }

    /// Replaces a text in kubeconfig, which must have it.
    #[track_caller]
    fn change(&self, from: &str, to: &str) {
        let file = self.setup.home.path().join(".kube/config");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).unwrap();
    }
}

#[test]
fn kubectl_and_python_client_reach_a_cluster_in_both_versions() {
    let cluster = Cluster::new();
    let token = cluster.setup.home.token("work");
    let get = || cluster.kubectl(&["get", "--raw", "/apis/"]);
    assert!(succeeds(&mut get()).contains("APIGroupList"));
    assert_eq!(succeeds(&mut cluster.python("1")), "APIGroupList\n");
    cluster.setup.assert_no_token_in_files(&token);
    cluster.change("provideClusterInfo: false", "provideClusterInfo: true");
    assert!(succeeds(&mut get()).contains("APIGroupList"));
    cluster.change("k8s.io/v1beta1", "k8s.io/v1");
    assert_eq!(succeeds(&mut cluster.python("1")), "APIGroupList\n");
    assert!(succeeds(&mut get()).contains("APIGroupList"));
    cluster.change("k8s.io/v1\n", "k8s.io/v1beta1\n");
    // kubectl may ask for the server's version without a token.
    let mut requests = cluster.setup.requests();
    requests.retain(|request| request[4] == "/apis/");
    assert!(requests.iter().all(|request| request[..2] == ["200", "Bearer"]), "{requests:?}");

    cluster.setup.home.run(&["logout", "work"]).exits(0);
    let error = fails(&mut get());
    assert!(error.contains("authctl login work"), "{error}");
    let error = fails(&mut cluster.python("1"));
    assert!(error.contains("authctl login work"), "{error}");
}

#[test]
fn a_hundred_calls_with_an_expired_token_refresh_it_once() {
    let mut cluster = Cluster::new();
    cluster.setup.home.set("BROWSER", "touch opened; true");
    cluster.setup.home.expire("work");
    let refreshes =
        |cluster: &Cluster| cluster.setup.idp.stats().token_requests.get("refresh_token").copied().unwrap_or(0);
    let before = refreshes(&cluster);
    let groups = succeeds(&mut cluster.python("100"));
    assert_eq!(groups.split_whitespace().filter(|kind| *kind == "APIGroupList").count(), 100, "{groups}");
    assert_eq!(refreshes(&cluster) - before, 1);
    assert!(!cluster.setup.home.path().join("opened").exists());
}

#[test]
fn user_in_kubeconfig_is_changed_and_removed() {
    let cluster = Cluster::new();
    let view = || succeeds(&mut cluster.kubectl(&["config", "view", "-o", "json"]));
    assert!(cluster.helper("--write", &[]).starts_with("already set up\n"));
    cluster.helper("--write", &["--id-token"]);
    assert!(view().contains("--id-token"));
    assert!(cluster.helper("--write", &["--id-token"]).starts_with("already set up\n"));
    cluster.change("interactiveMode: IfAvailable", "interactiveMode: Never");
    cluster.helper("--write", &[]);
    assert!(!view().contains("--id-token"));
    cluster.change(AUTHCTL, "/old/authctl");
    cluster.helper("--write", &[]);
    assert!(!view().contains("/old"));
    cluster.change(AUTHCTL, "/old/authctl");
    cluster.helper("--remove", &[]);
    assert!(!view().contains("/old"));
    assert_eq!(cluster.helper("--remove", &[]), "not set up\n");
    succeeds(&mut cluster.kubectl(&["config", "set-credentials", "authctl-work", "--username=ann"]));
    let mut command = cluster.setup.command(AUTHCTL);
    let error = fails(command.args(["helper", "kubernetes", "--write", "--profile", "work"]));
    assert!(error.contains("another user authctl-work"), "{error}");
    assert_eq!(cluster.helper("--remove", &[]), "not set up\n");
    assert!(view().contains("ann"));
}

/// Puts the directory of kubectl first in `PATH`.
fn find_kubectl(setup: &mut Setup) {
    let kubectl = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kubectl/kubectl");
    let kubectl = if kubectl.is_file() { kubectl } else { parts::program("kubectl") };
    setup.search_first(kubectl.parent().unwrap());
}

#[test]
fn kubeconfig_is_changed_as_a_whole_in_the_file_that_kubectl_chooses() {
    let mut setup = Setup::new();
    find_kubectl(&mut setup);
    let (first, second) = (setup.home.path().join("first"), setup.home.path().join("real/second"));
    let link = setup.home.path().join("second");
    fs::create_dir(second.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&second, &link).unwrap();
    let config = "apiVersion: v1\nkind: Config\n# mine\nclusters:\n- name: a # near\n  cluster: {server: 'https://a.example', certificate-authority: ca.crt}\n";
    let user = "apiVersion: v1\nkind: Config\nusers:\n- name: authctl-work\n  user: {exec: {command: /old/authctl, apiVersion: client.authentication.k8s.io/v1beta1}}\n";
    fs::write(&first, config).unwrap();
    fs::write(&second, user).unwrap();
    setup.home.set("KUBECONFIG", format!("{}:{}", first.display(), link.display()));
    let helper = |mode: &str| {
        let mut command = setup.command(AUTHCTL);
        succeeds(command.args(["helper", "kubernetes", mode, "--profile", "work"]))
    };
    let copies = || {
        let names = fs::read_dir(setup.home.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains("first.before")).count()
    };
    // The file that has the user, through the link.
    helper("--write");
    let changed = fs::read_to_string(&second).unwrap();
    assert!(changed.contains(AUTHCTL) && !changed.contains("/old"), "{changed}");
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&first).unwrap(), config);
    helper("--remove");
    assert!(!fs::read_to_string(&second).unwrap().contains("authctl"));
    assert_eq!((fs::read_to_string(&first).unwrap().as_str(), copies()), (config, 0));
    // The first file, in whose text the user is added.
    let shown = helper("--write");
    let text = fs::read_to_string(&first).unwrap();
    assert!(text.starts_with(&format!("{config}users:\n- name: authctl-work\n")) && text.contains(AUTHCTL), "{text}");
    assert!(!shown.contains("warning"), "{shown}");
    assert!(helper("--write").starts_with("already set up\n"));
    helper("--remove");
    assert_eq!(fs::read_to_string(&first).unwrap(), format!("{config}users: []\n"));
    assert_eq!(copies(), 0);
    // A comment in authctl's own user is replaced with it.
    let own = "users:\n- name: authctl-work\n  user:\n    exec: # mine\n      command: /old/authctl\n      apiVersion: client.authentication.k8s.io/v1beta1\n";
    fs::write(&first, format!("{config}{own}")).unwrap();
    let shown = helper("--write");
    assert!(!shown.contains("warning") && !fs::read_to_string(&first).unwrap().contains("/old"), "{shown}");
    assert_eq!(copies(), 0);
    // One whose layout is left to kubectl, which drops each comment.
    for (number, comments) in ["# mine\n", " # near\n"].iter().enumerate() {
        let flow = "{apiVersion: v1, kind: Config, users: [{name: ann, user: {username: ann}}]}";
        let config =
            if comments.starts_with('#') { format!("{comments}{flow}\n") } else { format!("{flow}{comments}") };
        fs::write(&first, &config).unwrap();
        let shown = helper("--write");
        let copy = setup.home.path().join(format!("first.before-authctl-{}", number + 1));
        assert!(
            shown.contains(&format!("warning: kubectl drops comments; the previous {} is saved as", first.display())),
            "{shown}"
        );
        assert_eq!(fs::read_to_string(&copy).unwrap(), config);
        assert!(fs::read_to_string(&first).unwrap().contains("username: ann"));
        helper("--remove");
        assert_eq!(copies(), number + 1);
    }
    // kubectl fails, and nothing is changed.
    fs::write(&first, "users: [\n").unwrap();
    let mut command = setup.command(AUTHCTL);
    fails(command.args(["helper", "kubernetes", "--write", "--profile", "work"]));
    assert_eq!(fs::read_to_string(&first).unwrap(), "users: [\n");
}

#[test]
fn kubeconfig_loses_neither_comments_nor_layout() {
    let mut setup = Setup::new();
    find_kubectl(&mut setup);
    let file = setup.home.path().join("kubeconfig");
    setup.home.set("KUBECONFIG", &file);
    let helper = |mode: &str, more: &[&str]| {
        let mut command = setup.command(AUTHCTL);
        let shown = succeeds(command.args(["helper", "kubernetes", mode, "--profile", "work"]).args(more));
        assert!(!shown.contains("warning"), "{shown}");
        fs::read_to_string(&file).unwrap()
    };
    let users = || {
        let mut view = setup.command("kubectl");
        let view = succeeds(view.args(["config", "view", "--raw", "-o", "json"]));
        let view: serde_json::Value = serde_json::from_str(&view).unwrap();
        let users = view["users"].as_array().into_iter().flatten();
        users.map(|user| user["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let start = "# mine\napiVersion: v1\nkind: Config # the kind\nx-of-another-tool: {a: 1}\n";
    let end = "# the clusters\nclusters:\n- cluster:\n    server: https://a.example # near\n  name: a\n# end\n";
    for (users_before, names) in [
        (
            "users: # all\n# ann's\n- name: ann # she\n  user:\n    token: 'a #b' # secret\n    # more\n",
            &["ann", "authctl-work"][..],
        ),
        (
            "users:\n  - user: {token: a}\n    name: ann\n\n  # bob's\n  - name: bob\n    user: {}\n",
            &["ann", "authctl-work", "bob"],
        ),
        ("users: [] # none\n", &["authctl-work"]),
        ("users: null\n", &["authctl-work"]),
    ] {
        for before in
            [format!("{start}{users_before}{end}"), format!("{start}{users_before}{end}").replace('\n', "\r\n")]
        {
            fs::write(&file, &before).unwrap();
            let written = helper("--write", &[]);
            assert_eq!(users(), names, "{written}");
            let comments = |text: &str| text.matches('#').count();
            assert_eq!(comments(&written), comments(&before), "{written}");
            assert!(written.contains("x-of-another-tool: {a: 1}"), "{written}");
            // The user's own change to authctl's entry stays when it is set up in another way.
            let own = written.replace("interactiveMode: IfAvailable", "interactiveMode: Never");
            fs::write(&file, &own).unwrap();
            let changed = helper("--write", &["--id-token"]);
            assert!(changed.contains("--id-token") && changed.contains("interactiveMode: Never"), "{changed}");
            assert_eq!(helper("--write", &["--id-token"]), changed);
            let removed = helper("--remove", &[]);
            assert_eq!(removed, before.replace("users: null", "users: []"));
            assert_eq!(helper("--remove", &[]), removed);
        }
    }
}

#[test]
fn renamed_profile_is_repaired_in_kubeconfig_by_the_reported_command() {
    let cluster = Cluster::new();
    let run = |command: &mut Command| String::from_utf8(command.output().expect("output").stderr).expect("text");
    let renamed = run(cluster.setup.command(AUTHCTL).args(["profile", "rename", "work", "job"]));
    let kubeconfig = cluster.setup.home.path().join(".kube/config");
    let place = format!("warning: {} still names work; to change that, run: ", kubeconfig.display());
    let line = renamed.lines().find_map(|line| line.strip_prefix(&place)).unwrap_or_else(|| panic!("{renamed}"));
    // The server verifies tokens with the profile of before, and so accepts none.
    let has_token = || {
        fails(&mut cluster.kubectl(&["get", "--raw", "/apis/"]));
        cluster.setup.requests().iter().any(|request| request[1] == "Bearer")
    };
    assert!(!has_token());
    let script = format!("authctl() {{ '{AUTHCTL}' \"$@\"; }}; {line}");
    succeeds(cluster.setup.command("sh").args(["-c", &script]));
    assert!(has_token());
    let text = fs::read_to_string(&kubeconfig).unwrap();
    assert!(text.contains("authctl-job") && !text.contains("authctl-work"), "{text}");
}
