use std::time::Duration;

use super::*;
use crate::model::{DecidingToken, StoreKind};

fn parse(text: &str) -> Result<Config, String> {
    let config = Config::parse(text, Path::new("config.toml")).map_err(|e| e.to_string())?;
    let error = config.errors().next().map(|e| e.to_string());
    error.map_or(Ok(config), Err)
}

const TWO: &str = "
[profiles.work]
issuer = \"https://a.example\"
client_id = \"cli\"
scopes = [\"openid\"]
store = \"file\"
[profiles.home]
issuer = \"https://b.example/\"
client_id = \"cli\"
";

#[test]
fn profiles_are_read_by_name() {
    let config = parse(TWO).expect("valid");
    let work = config.profile(&"work".parse().expect("name")).expect("there");
    assert_eq!((work.issuer.as_str(), work.store), ("https://a.example", StoreKind::File));
    let home = config.profile(&"home".parse().expect("name")).expect("there");
    assert_eq!((home.issuer.as_str(), home.store), ("https://b.example/", StoreKind::Keychain));
}

#[test]
fn unknown_setting_names_the_nearest_one() {
    let error = parse("[profiles.a]\nisuer = \"https://a.example\"\nclient_id = \"c\"").expect_err("unknown");
    assert_eq!(error, "invalid configuration config.toml: profiles.a: unknown setting `isuer`; did you mean `issuer`?");
    let error = parse("default_profle = \"a\"").expect_err("unknown");
    assert!(error.ends_with("did you mean `default_profile`?"), "{error}");
}

#[test]
fn unknown_key_beside_the_profiles_is_ignored_unless_it_restricts_tokens() {
    for (text, key) in [
        ("zzz = 1", "zzz"),
        ("default_store = \"file\"", "default_store"),
        ("[agent]\nnotify = true\n[agent.limits]\nconnections = 5", "agent"),
        ("[[hooks]]\ncommand = \"x\"", "hooks"),
        ("version = 2", "version"),
        ("required = true", "required"),
    ] {
        let config = parse(&format!("{text}\n{TWO}")).expect("valid");
        let warnings: Vec<String> = config.warnings().collect();
        assert_eq!(warnings, [format!("unknown setting `{key}` in config.toml is ignored")]);
        assert_eq!(config.profiles.len(), 2);
    }
    for (text, word) in [
        ("required_roles = [\"admin\"]", "`required_roles` is a setting of a profile"),
        ("requird_scopes = [\"read\"]", "`requird_scopes`"),
        ("[defaults]\nmax_offline = \"1h\"", "defaults: `max_offline`"),
        ("[defaults.all]\nrequired_acr = \"2\"", "defaults: `required_acr`"),
        ("profile = \"work\"", "did you mean `profiles`?"),
    ] {
        let error = parse(&format!("{text}\n{TWO}")).expect_err("restricts");
        assert!(error.contains(word), "{text}: {error}");
    }
    let one = "[profiles.a]\nissuer = \"https://a.example\"\nclient_id = \"c\"\n";
    assert!(parse(&format!("zzz = 1\n{one}")).expect("valid").choose(None).is_ok(), "the only profile is still chosen");
}

#[test]
fn requirements_are_read_and_invalid_ones_are_named() {
    let profile = "[profiles.a]\nissuer = \"https://a.example\"\nclient_id = \"c\"\n";
    let config = parse(&format!(
        "{profile}verify_token = \"id_token\"\nmax_offline = \"7d\"\nkeys_max_age = \"1h30m\"\n\
         required_roles = [\"admin\"]\nrequired_claims = [\"tenant=a=b\"]"
    ));
    let found = config.expect("valid").profiles.into_values().next().expect("one").requirements;
    assert_eq!(found.token, DecidingToken::IdToken);
    assert_eq!(found.max_offline, Some(Duration::from_secs(7 * 24 * 3600)));
    assert_eq!(found.keys_max_age(), Duration::from_secs(5400));
    let wanted: Vec<_> = found.required_claims().collect();
    assert_eq!(wanted, [("roles".into(), "admin".into()), ("tenant".into(), "a=b".into())]);
    for (line, word) in [
        ("max_offline = \"soon\"", "soon"),
        ("max_offline = 7", "string"),
        ("verify_token = \"both\"", "both"),
        ("required_claims = [\"tenant\"]", "NAME=VALUE"),
        ("required_role = [\"a\"]", "required_roles"),
        ("required_roles = \"a\"", "expected a list of strings"),
        ("client_id = \"\"", "duplicate key"),
    ] {
        let error = parse(&format!("{profile}{line}")).expect_err("wrong");
        assert!(error.contains(word), "{line}: {error}");
    }
}

#[test]
fn issuer_without_https_is_refused() {
    let error = parse("[profiles.a]\nissuer = \"http://a.example\"\nclient_id = \"c\"").expect_err("http");
    assert!(error.contains("profiles.a: issuer: insecure URL `http://a.example`"), "{error}");
}

#[test]
fn choose_prefers_the_named_profile_then_the_default_then_the_only_one() {
    let mut config = parse(TWO).expect("valid");
    let work: ProfileName = "work".parse().expect("name");
    assert!(matches!(config.choose(None), Err(ConfigError::Ambiguous { .. })));
    assert_eq!(config.choose(Some(&work)).expect("named").name, work);
    config.default_profile = Some("home".parse().expect("name"));
    assert_eq!(config.choose(None).expect("default").name.as_str(), "home");
    assert!(matches!(Config::default().choose(None), Err(ConfigError::Empty)));
    let error = config.choose(Some(&"wrok".parse().expect("name"))).expect_err("typo").to_string();
    assert_eq!(error, "unknown profile `wrok`; did you mean `work`?");
}
