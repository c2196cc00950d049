//! Clients of AWS, Google Cloud and Azure, which exchange the token at a token service of their cloud.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use authctl::dev_issuer::DevIssuer;
use serde_json::{Value, json};

use super::{Setup, fails, succeeds};
use crate::agent_support::KillOnDrop;
use crate::support::process::Lines;
use crate::support::{Sandbox, parts, quick_issuer};

const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";

/// A logged-in user whose profile has a token file, and the token services.
struct Cloud {
    home: Sandbox,
    _idp: DevIssuer,
    _services: KillOnDrop,
    /// The address of the services for http, and for https.
    http: String,
    https: String,
    /// The token file.
    file: PathBuf,
}

/// Returns a program of the Python environment.
fn python(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/cloud/bin").join(name);
    if program.is_file() { program } else { parts::not_installed("the clients of clouds") }
}

impl Cloud {
    fn new() -> Self {
        parts::require(&["openssl"]);
        let (mut home, idp) = (Sandbox::new(), quick_issuer());
        home.log_in("work", &idp);
        let (root, file) = (home.path().join("services"), home.path().join("token"));
        fs::create_dir(&root).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/tools/cloud.py");
        let mut command = Setup::in_home(&home, python("python"));
        command.arg(script).arg(&root).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut services = command.spawn().expect("python");
        let ports = Lines::of(services.stdout.take().expect("piped")).next();
        let services = KillOnDrop(services);
        let ports = ports.expect("the services' ports");
        let [http, https] = [0, 1].map(|at| format!("127.0.0.1:{}", ports.split(' ').nth(at).expect("a port")));
        let (http, https) = (format!("http://{http}"), format!("https://{https}"));
        home.set("AWS_ENDPOINT_URL", &http);
        home.set("AWS_DEFAULT_REGION", "eu-central-1");
        home.run(&["helper", "file", file.to_str().unwrap(), "--write", "--profile", "work"]).exits(0);
        Self { home, _idp: idp, _services: services, http, https, file }
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Setup::in_home(&self.home, python(program));
        command.args(words);
        command
    }

    /// Checks that the service got the session's token, this many times.
    #[track_caller]
    fn assert_exchanged(&self, service: &str, times: usize) {
        let line = format!("{service} {}", self.home.token("work"));
        let lines = fs::read_to_string(self.home.path().join("services/tokens")).unwrap_or_default();
        assert_eq!(lines.lines().filter(|one| *one == line).count(), times, "{service}");
    }

    /// Returns the access token of google-auth with this source of the credential.
    fn google(&self, source: &Value) -> Command {
        let file = self.home.path().join("google.json");
        let configuration = json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/pool",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{}/v1/token", self.http),
            "credential_source": source,
        });
        fs::write(&file, configuration.to_string()).unwrap();
        let script = "import sys, google.auth\nfrom google.auth.transport.requests import Request\n\
                      found, _ = google.auth.load_credentials_from_file(sys.argv[1], scopes=['a'])\n\
                      found.refresh(Request())\nprint(found.token)";
        let mut command = self.command("python", &["-c", script, file.to_str().unwrap()]);
        command.env("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1");
        command
    }
}

#[test]
fn aws_clients_assume_a_role_with_the_token() {
    let cloud = Cloud::new();
    cloud.home.run(&["helper", "aws", "--write", "--role-arn", ROLE, "--profile", "work"]).exits(0);
    let identity = ["--profile", "work", "sts", "get-caller-identity"];
    assert!(succeeds(&mut cloud.command("aws", &identity)).contains("assumed-role/deploy/authctl-work"));
    cloud.assert_exchanged("aws", 1);
    cloud.home.expire("work");
    let script = "import boto3, sys\n\
                  print(boto3.Session(profile_name=sys.argv[1]).client('sts').get_caller_identity()['Arn'])";
    let boto = |words: &[&str]| cloud.command("python", &[&["-c", script][..], words].concat());
    assert!(succeeds(&mut boto(&["work"])).contains("assumed-role/deploy/authctl-work"));
    cloud.assert_exchanged("aws", 1);
    let by_file = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
    let mut by_file = cloud.command("python", &["-c", by_file]);
    by_file.env("AWS_WEB_IDENTITY_TOKEN_FILE", &cloud.file).env("AWS_ROLE_ARN", ROLE);
    assert!(succeeds(&mut by_file).contains("assumed-role/deploy/botocore-session"));
    cloud.assert_exchanged("aws", 2);

    cloud.home.run(&["logout", "work"]).exits(0);
    for mut command in [cloud.command("aws", &identity), boto(&["work"])] {
        let error = fails(&mut command);
        assert!(error.contains("authctl login work"), "{error}");
    }
    fails(&mut by_file);
}

#[test]
fn google_client_exchanges_the_token_of_the_helper_and_of_the_file() {
    let cloud = Cloud::new();
    let shown = cloud.home.run(&["helper", "google", "--setup", "--profile", "work"]).exits(0).stdout;
    let source = shown.lines().find_map(|line| line.strip_prefix("#   {")).expect("the source");
    let executable: Value = serde_json::from_str(&format!("{{{source}")).expect("JSON");
    let file = json!({"file": cloud.file});
    for (source, times) in [(&executable, 1), (&file, 2)] {
        assert_eq!(succeeds(&mut cloud.google(source)), "exchanged\n");
        cloud.assert_exchanged("google", times);
    }
    cloud.home.expire("work");
    succeeds(&mut cloud.google(&executable));
    cloud.assert_exchanged("google", 1);
    cloud.home.run(&["logout", "work"]).exits(0);
    let error = fails(&mut cloud.google(&executable));
    assert!(error.contains("authctl login work"), "{error}");
    fails(&mut cloud.google(&file));
}

#[test]
fn azure_client_exchanges_the_token_of_the_file() {
    let cloud = Cloud::new();
    let script = format!(
        "from azure.identity import WorkloadIdentityCredential\n\
         found = WorkloadIdentityCredential(authority='{}', disable_instance_discovery=True)\n\
         print(found.get_token('https://management.azure.com/.default').token)",
        cloud.https
    );
    let client = || {
        let mut client = cloud.command("python", &["-c", &script]);
        client.env("REQUESTS_CA_BUNDLE", cloud.home.path().join("services/cert.pem"));
        client.env("AZURE_FEDERATED_TOKEN_FILE", &cloud.file);
        client.env("AZURE_CLIENT_ID", "application").env("AZURE_TENANT_ID", "tenant");
        client
    };
    for _ in 0..2 {
        assert_eq!(succeeds(&mut client()), "exchanged\n");
        cloud.assert_exchanged("azure", 1);
        cloud.home.run(&["refresh", "work"]).exits(0);
    }
    cloud.home.run(&["logout", "work"]).exits(0);
    fails(&mut client());
}
