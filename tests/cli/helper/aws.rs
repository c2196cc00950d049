use std::fs;

use crate::support::stub_server::StubServer;
use crate::support::{CommandOutput, Sandbox};

use super::logged_in;

pub(super) const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";

pub(super) const CREDENTIALS: &str = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
    <AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>secret+/=</SecretAccessKey><SessionToken>session</SessionToken>\
    <Expiration>2030-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
    </AssumeRoleWithWebIdentityResponse>";

fn helper(home: &Sandbox, words: &[&str]) -> CommandOutput {
    home.run(&[&["helper", "aws", "--profile", "work"][..], words].concat())
}

#[test]
fn role_is_assumed_with_the_token() {
    let (mut home, _idp) = logged_in("");
    let token = home.token("work");
    let sts = StubServer::start(|_, _| (200, CREDENTIALS.to_owned()));
    home.set("AWS_ENDPOINT_URL_STS", &sts.url);
    let ran = helper(&home, &["--role-arn", ROLE]).exits(0);
    let expected = "{\"Version\":1,\"AccessKeyId\":\"ASIAEXAMPLE\",\"SecretAccessKey\":\"secret+/=\",\
                    \"SessionToken\":\"session\",\"Expiration\":\"2030-01-01T00:00:00Z\"}";
    let members = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(members(&ran.stdout), members(expected));
    assert_eq!(ran.stderr, "");
    let [request] = &sts.requests()[..] else { panic!("one request") };
    assert_eq!(
        request.body,
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fdeploy\
         &RoleSessionName=authctl-work&WebIdentityToken="
            .to_owned()
            + &token
    );
    helper(&home, &["--role-arn", ROLE, "--role-session-name", "ann@work", "--id-token"]).exits(0);
    let id_token = home.session("work").tokens.id_token.clone().unwrap();
    let request = sts.requests().pop().unwrap();
    assert!(request.body.ends_with(id_token.expose()) && request.body.contains("RoleSessionName=ann%40work"));
    for (given, seconds) in [("15m", "900"), ("12h", "43200"), ("5400", "5400")] {
        helper(&home, &["--role-arn", ROLE, "--role-duration", given]).exits(0);
        assert!(sts.requests().pop().unwrap().body.contains(&format!("&DurationSeconds={seconds}&")), "{given}");
    }
    for invalid in ["899", "14m", "43201", "1d"] {
        for mode in [&[][..], &["--setup"], &["--write"]] {
            let words = [&["--role-arn", ROLE, "--role-duration", invalid], mode].concat();
            helper(&home, &words).exits(2).reports("15m to 12h");
        }
    }
}

#[test]
fn refused_role_is_reported_without_the_token() {
    let (mut home, _idp) = logged_in("");
    let token = home.token("work");
    for (status, reply, code, words) in [
        (
            400,
            "<E><Error><Code>InvalidIdentityToken</Code><Message>a &lt;b&gt;</Message></Error></E>".to_owned(),
            5,
            "InvalidIdentityToken: a <b>",
        ),
        (400, format!("<Error><Code>Bad</Code><Message>no {token}</Message></Error>"), 5, "refused the role: Bad"),
        (503, "<Error><Code>Busy</Code></Error>".to_owned(), 6, "HTTP 503"),
        (400, "<E><Error><Code>Throttling</Code></Error></E>".to_owned(), 6, "HTTP 400"),
        (400, "<Error><Code>ThrottlingException</Code></Error>".to_owned(), 6, "HTTP 400"),
        (400, "<Error><Code>RequestLimitExceeded</Code></Error>".to_owned(), 6, "HTTP 400"),
        (400, "<Error><Code>IDPCommunicationError</Code></Error>".to_owned(), 6, "HTTP 400"),
        (200, "<html></html>".to_owned(), 6, "instead of credentials"),
        (200, CREDENTIALS.replace("session", ""), 6, "instead of credentials"),
        (200, CREDENTIALS[..CREDENTIALS.len() / 2].to_owned(), 6, "instead of credentials"),
        (200, CREDENTIALS.replace("</SecretAccessKey>", "<SecretAccessKey>"), 6, "instead of credentials"),
        (200, "\u{0}\u{fffd}".to_owned(), 6, "instead of credentials"),
        (200, format!("{}{CREDENTIALS}", " ".repeat(3 << 20)), 6, "a response of more than 1 MiB"),
        (400, "\u{0}\u{1}".to_owned(), 6, "HTTP 400"),
        (400, "\u{0}".to_owned(), 5, "HTTP 400 with an empty body"),
        (400, String::new(), 5, "HTTP 400 with an empty body"),
    ] {
        let sts = StubServer::start(move |_, _| (status, reply.clone()));
        home.set("AWS_ENDPOINT_URL_STS", &sts.url);
        let ran = helper(&home, &["--role-arn", ROLE]).exits(code).reports(words);
        assert_eq!(ran.stdout, "");
    }
    home.set("AWS_ENDPOINT_URL_STS", "http://sts.example");
    helper(&home, &["--role-arn", ROLE]).exits(2).reports("https");
    for words in [
        &[][..],
        &["--role-arn", "deploy"],
        &["--role-arn", "arn:aws:iam::123456789012:user/ann"],
        &["--role-arn", ROLE, "--role-session-name", "a b"],
        &["--role-arn", ROLE, "more"],
    ] {
        helper(&home, words).exits(2);
    }
    home.unset("AWS_ENDPOINT_URL_STS");
    helper(&home, &["--role-arn", ROLE, "--region", "evil.example/"]).exits(2).reports("invalid region");
    home.run(&["logout", "work"]).exits(0);
    helper(&home, &["--role-arn", ROLE]).exits(3).reports("authctl login work");
}

#[test]
fn aws_configuration_is_set_up_once_and_undone() {
    let (home, _idp) = logged_in("");
    let file = home.path().join(".aws/config");
    let before = "[default]\nregion = eu-central-1\n\n[profile other]\nrole_arn = x\n";
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, before).unwrap();
    let read = || fs::read_to_string(&file).unwrap();
    let shown = helper(&home, &["--setup", "--role-arn", ROLE]).exits(0).stdout;
    assert!(shown.contains("[profile work]:\ncredential_process = "), "{shown}");
    assert!(shown.contains("work.token\n#   role_arn = arn:aws:iam::123456789012:role/deploy"), "{shown}");
    helper(&home, &["--write"]).exits(2).reports("--role-arn");
    for region in ["EU west", "", "x.example/"] {
        helper(&home, &["--write", "--role-arn", ROLE, "--region", region]).exits(2).reports("invalid region");
    }
    helper(&home, &["--write", "--role-arn", ROLE, "--region", "eu-west-1"]).exits(0);
    let written = read();
    let line = written.strip_prefix(&format!("{before}\n[profile work]\ncredential_process = ")).expect("added");
    assert!(line.ends_with(&format!(" helper aws --profile work --role-arn {ROLE} --region eu-west-1\n")), "{line}");
    helper(&home, &["--write", "--role-arn", ROLE, "--region", "eu-west-1"]).exits(0).reports("already set up");
    helper(&home, &["--write", "--role-arn", ROLE]).exits(0);
    assert!(read().ends_with(&format!("--role-arn {ROLE}\n")), "{}", read());
    helper(&home, &["--write", "--role-arn", ROLE, "--aws-profile", "other"]).exits(2).reports("has role_arn");
    helper(&home, &["--write", "--role-arn", ROLE, "--aws-profile", "a]"]).exits(2);
    helper(&home, &["--write", "--role-arn", ROLE, "--role-duration", "7200"]).exits(0);
    assert!(read().ends_with(&format!("--role-arn {ROLE} --role-duration 2h\n")), "{}", read());
    // The tool still names a profile that was renamed.
    home.run(&["profile", "rename", "work", "renamed"]).exits(0);
    helper(&home, &["--remove"]).exits(0);
    assert_eq!(read(), before);
    helper(&home, &["--remove"]).exits(0).reports("not set up");
}

#[test]
fn azure_is_set_up_with_a_token_file() {
    let (home, _idp) = logged_in("");
    let file = home.path().join("run/authctl/work.token");
    let helper = |mode: &str| home.run(&["helper", "azure", mode, "--profile", "work"]).exits(0);
    assert!(helper("--setup").stdout.contains(&format!("AZURE_FEDERATED_TOKEN_FILE={}\n", file.display())));
    helper("--write").reports("AZURE_CLIENT_ID=");
    assert_eq!(fs::read_to_string(&file).unwrap(), home.token("work"));
    helper("--remove");
    assert!(!file.exists());
}

#[test]
fn keys_in_the_credentials_file_of_aws_are_reported() {
    let (mut home, _idp) = logged_in("");
    let (file, config) = (home.path().join(".aws/credentials"), home.path().join(".aws/config"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "[default]\naws_access_key_id = AKIA\n[my  deploy]\naws_access_key_id=AKIA\n[work]\nregion = x\n")
        .unwrap();
    let write = |home: &Sandbox, name: &str| helper(home, &["--write", "--role-arn", ROLE, "--aws-profile", name]);
    for name in ["default", "my deploy"] {
        let ran = write(&home, name).exits(2);
        ran.reports(&format!("{} has aws_access_key_id in [{name}], which AWS clients use instead", file.display()));
    }
    assert!(!config.exists());
    write(&home, "work").exits(0);
    // What was set up before can be undone.
    fs::write(&config, "[default]\ncredential_process = authctl helper aws --profile work\n").unwrap();
    helper(&home, &["--remove", "--aws-profile", "default"]).exits(0);
    assert_eq!(fs::read_to_string(&config).unwrap(), "");
    home.set("AWS_SHARED_CREDENTIALS_FILE", home.path().join("none"));
    write(&home, "default").exits(0);
}
