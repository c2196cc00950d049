use super::*;

fn args(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn command_names_the_profile_where_it_is_known() {
    let work = "work".parse().expect("a name");
    assert_eq!(Hint::login().to_string(), "authctl login");
    assert_eq!(Hint::login().about(&work).to_string(), "authctl login work");
    assert_eq!(Hint::command("agent start").about(&work).to_string(), "authctl agent start");
}

#[test]
fn advice_ends_with_a_complete_command() {
    let hint = Hint::login().after_advice("try again, or log in again").about(&"work".parse().expect("a name"));
    let hint = hint.repeating(&args("authctl token --config c.toml"));
    assert_eq!(hint.to_string(), "try again, or log in again: authctl login work --config c.toml");
}

#[test]
fn same_command_repeats_the_typed_options() {
    let hint = Hint::login().with_option("--issuer", "https://a.example/").with_flag("--device");
    for (typed, expected) in [
        ("authctl token", "authctl login work --issuer https://a.example/ --device"),
        (
            "authctl login work --issuer https://a.example --client-id x --browser",
            "authctl login work --client-id x --issuer https://a.example/ --device",
        ),
        (
            "authctl login --issuer=https://a.example --scope openid",
            "authctl login work --scope openid --issuer https://a.example/ --device",
        ),
        (
            "authctl login work --issuer=https://a.example --password --password-stdin --username me --scope openid",
            "authctl login work --scope openid --issuer https://a.example/ --device",
        ),
        (
            "authctl login work --workload file:/run/token --scope openid",
            "authctl login work --scope openid --issuer https://a.example/ --device",
        ),
        (
            "authctl -q --config c.toml login --client-id x",
            "authctl login work -q --config c.toml --client-id x --issuer https://a.example/ --device",
        ),
        ("authctl token --config c.toml", "authctl login work --config c.toml --issuer https://a.example/ --device"),
    ] {
        let hint = hint.clone().about(&"work".parse().expect("a name")).repeating(&args(typed));
        assert_eq!(hint.to_string(), expected, "{typed}");
    }
}

#[test]
fn options_between_the_words_of_a_command_are_repeated() {
    let hint = Hint::profile_command("profile show").about(&"work".parse().expect("a name"));
    for (typed, expected) in [
        ("authctl profile -q show work --color never", "authctl profile show -q work --color never"),
        ("authctl --profile show profile --verbose show", "authctl profile show work --profile show --verbose"),
        ("authctl exec profile show -q", "authctl profile show work"),
    ] {
        assert_eq!(hint.clone().repeating(&args(typed)).to_string(), expected, "{typed}");
    }
}

#[test]
fn correction_replaces_the_word_that_was_typed() {
    for (typed, expected) in [
        ("authctl token wrok --min-ttl 5m", "authctl token work --min-ttl 5m"),
        ("authctl --config wrok exec wrok -- wrok", "authctl --config wrok exec work -- wrok"),
        ("authctl wrok wrok", "authctl wrok work"),
        ("authctl token", "authctl profile list"),
        ("authctl exec -- wrok", "authctl profile list"),
        ("authctl token wrok --audience wrok", "authctl profile list"),
        ("authctl token --audience wrok", "authctl profile list"),
        ("authctl verify - --profile wrok", "authctl profile list"),
        ("authctl verify --profile wrok", "authctl verify --profile work"),
    ] {
        let hint = Hint::command("profile list").or_correction("wrok", "work").repeating(&args(typed));
        assert_eq!(hint.to_string(), expected, "{typed}");
    }
}

/// Every hint without a command: how it begins, and why no command helps.
const ADVICE: [(&str, &str); 50] = [
    ("check the command before the pipe", "the command is part of a line that authctl does not know"),
    ("register a client at the new issuer", "only the issuer registers clients"),
    ("seal the key again with `age", "another tool does it"),
    ("ask the operator of the server for access", "only the operator grants it"),
    ("install the package bubblewrap", "package managers differ"),
    ("set AUTHCTL_CONFIG for this command", "the tool needs the variable too, in whatever starts it"),
    ("add an entry {} to `id_tokens`", "the definition of the job is in its repository"),
    ("give the job the permission", "the definition of the job is in its repository"),
    ("run this where the platform provides", "only the platform has the file"),
    ("run the command by itself", "the user named the command"),
    ("check the platform's status", "the platform is of another operator"),
    ("name a source of a JWT", "the documentation of the platform names it"),
    ("have the platform issue it", "the definition of the job is in its repository"),
    ("run this where the platform issues", "only the platform has a new one"),
    ("answer the keychain's prompt", "the desktop's own window asks for the password"),
    ("ask the issuer's operator to allow", "the operator decides what the client may exchange"),
    ("ask the issuer's operator what", "the operator decides what the client may do"),
    ("ask the issuer's operator which", "the operator decides which grants the client may use"),
    ("ask the operator of the API", "the operator decides who may do what"),
    ("check where the output goes", "the command is part of a line that authctl does not know"),
    ("choose a profile name that differs", "the user chooses the name"),
    ("close some programs", "only the user knows which"),
    ("give a --scope that the issuer grants", "the operator decides which scopes the client gets"),
    ("give an --audience or --resource", "the issuer's documentation names them"),
    ("give the URL of the API", "the documentation of the API has it"),
    ("give the endpoint with", "the issuer's documentation has the address"),
    ("give the member that contains it", "the documentation of the login API names it"),
    ("give with --client-key", "only the user has the key"),
    ("have the client registered for bearer", "the operator registers clients"),
    ("if it is your company's", "only the user has the file"),
    ("if others may have the tokens", "the issuer's web page revokes them"),
    ("if that is the issuer you mean", "an address that a stranger may have sent is not put into a command"),
    ("if the issuer has new keys", "only the user knows where the keys come from"),
    ("if its tokens are JWTs", "the issuer's documentation has the address"),
    ("leave that setting out", "an administrator decided it"),
    ("let programs open a port", "an administrator decided it"),
    ("let the API decide", "only the issuer can read an opaque token"),
    ("mount the directory of the file", "mounts are set where the container is started"),
    ("name an age identity file", "only the user has the key"),
    ("rename the file", "the name has control characters, which no terminal shows"),
    ("report it to the issuer's operator", "the operator has to correct the metadata"),
    ("report to the issuer's operator that its metadata has", "the operator has to correct the metadata"),
    ("report to the issuer's operator that its metadata promises", "the operator has to correct the metadata"),
    ("report to the issuer's operator which", "the operator has to correct the keys"),
    ("see /v1/openapi.json", "the caller is a program, with a request that is wrong"),
    ("set {variable} to a URL", "only the user knows the proxy and its password"),
    ("check that the role trusts", "only the account's administrator can change the role"),
    ("split the job", "the operator decides how long a session lasts"),
    ("try again in", "the issuer is unavailable for some time"),
    ("unlock the keychain", "the desktop's own window asks for the password"),
];

#[test]
fn every_hint_without_a_command_is_listed_with_its_reason() {
    let mut unused: Vec<&str> = ADVICE.iter().map(|(begin, _)| *begin).collect();
    let mut directories = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("readable");
            if path.ends_with("tests.rs") || path.ends_with("error/hint.rs") {
                continue;
            }
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for call in source.split("Hint::advice(").skip(1) {
                let text = call.split('"').nth(1).unwrap_or_default();
                let listed = ADVICE.iter().find(|(begin, reason)| text.starts_with(begin) && !reason.is_empty());
                let (begin, _) = listed.unwrap_or_else(|| {
                    panic!("{}: `{text}` has no command; suggest one, or list it with the reason", path.display())
                });
                unused.retain(|one| one != begin);
            }
        }
    }
    assert_eq!(unused, [""; 0], "listed and not in the sources");
}

#[test]
fn doctor_is_suggested_where_it_helps() {
    let hint = Hint::doctor("check the network").about(&"work".parse().expect("a name"));
    for (typed, expected) in [
        ("authctl token", "authctl doctor work"),
        ("authctl refresh --config c.toml", "authctl doctor work --config c.toml"),
        ("authctl doctor work", "check the network"),
        // The same line again would not help.
        ("authctl login work --issuer https://a.example --json", "check the network; then log in again"),
        (
            "authctl login work --password-stdin --issuer https://a.example",
            "check the network; then log in again: authctl login work --issuer https://a.example",
        ),
    ] {
        assert_eq!(hint.clone().repeating(&args(typed)).to_string(), expected, "{typed}");
    }
    assert!(hint.is_command());
}

#[test]
fn value_that_begins_like_an_option_stays_a_value() {
    let hint =
        Hint::login().with_option("--scope", "-a").with_option("--acr-values", "--b").with_option("--scope", "c");
    assert_eq!(hint.to_string(), "authctl login --scope=-a --acr-values=--b --scope c");
}

#[test]
fn option_that_was_read_from_stdin_is_not_repeated() {
    for typed in ["authctl login --json --challenge - work --scope a", "authctl login --challenge=- work --scope a"] {
        let hint = Hint::login().with_flag("--browser").repeating(&args(typed));
        assert_eq!(hint.to_string(), "authctl login work --scope a --browser", "{typed}");
    }
}

#[test]
fn command_of_two_words_repeats_its_options() {
    let hint = Hint::command("agent lock").with_typed_options();
    let typed = args("authctl agent lock --after 10m --passphrase-stdin --no-input");
    assert_eq!(hint.repeating(&typed).to_string(), "authctl agent lock --after 10m");
}
