use super::table::RESERVED_PARAMETERS;
use super::*;

fn profile() -> Profile {
    let mut profile = Profile::new("a".parse().expect("a name"), "https://a.example".parse().expect("an issuer"));
    profile.client_id = "cli".to_owned();
    profile
}

/// Returns a valid text that is not the default.
fn example(setting: &Setting) -> &'static str {
    match (setting.key, setting.value_name) {
        ("optional_claims", _) => "iss aud",
        ("redirect_uri", _) => "http://localhost:8400/back",
        ("client_assertion_audience", _) => "token_endpoint",
        ("workload", _) => "gitlab",
        (_, "HOST") => "git.example localhost:5000",
        (_, "URL") => "https://b.example/x/",
        (_, "NAME=VALUE") => "tenant=a=b prompt=consent",
        (_, "DURATION") => "90m",
        (_, "FILE") => "/etc/key.pem",
        (_, "PATH") => "data.token",
        (_, "RULE") => "'GET /v1/*' 'GET,POST /v1/search/**'",
        (_, "NUMBER") => "7",
        _ => setting.choices().last().copied().unwrap_or("word"),
    }
}

#[test]
fn every_setting_reads_back_what_was_set_and_can_be_removed() {
    for setting in SETTINGS {
        let mut profile = profile();
        let text = example(setting);
        setting.items(text).and_then(|items| setting.set(&mut profile, &items)).expect(setting.key);
        assert_eq!(setting.value(&profile).to_text(), text, "{}", setting.key);
        for other in SETTINGS.iter().filter(|other| other.key != setting.key) {
            assert_eq!(other.value(&profile), other.value(&self::profile()), "{} set {}", setting.key, other.key);
        }
        assert_eq!(setting.set(&mut profile, &[]).is_ok(), setting.removable, "{}", setting.key);
        if setting.removable {
            assert_eq!(profile, self::profile(), "{}", setting.key);
        }
    }
}

#[test]
fn every_default_is_what_an_unset_setting_shows() {
    for setting in SETTINGS {
        let shown = setting.value(&profile());
        if !shown.is_empty() && setting.removable {
            assert_eq!(setting.default, Some(shown.to_text().as_str()), "{}", setting.key);
        }
        if let Some(default) = setting.default {
            setting.items(default).and_then(|items| setting.check_items(&items)).expect(setting.key);
        }
    }
}

#[test]
fn keys_and_options_are_unique_and_help_is_one_phrase() {
    let mut keys: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    let mut options: Vec<&str> = SETTINGS.iter().filter_map(|setting| setting.option).collect();
    for names in [&mut keys, &mut options] {
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
    for setting in SETTINGS {
        assert!(setting.help.starts_with(char::is_uppercase) && !setting.help.ends_with('.'), "{}", setting.help);
    }
    let sections: Vec<Section> = SETTINGS.iter().map(|setting| setting.section).collect();
    assert!(sections.is_sorted_by_key(|section| Section::ALL.iter().position(|known| known == section)));
}

#[test]
fn invalid_value_is_rejected_and_changes_nothing() {
    for (key, text) in [
        ("issuer", "http://a.example"),
        ("issuer", ""),
        ("client_id", ""),
        ("client_auth", "magic"),
        ("store", "cloud"),
        ("provider", "gogle"),
        ("token_endpoint", "http://a.example/token"),
        ("jwks_uri", "keys"),
        ("access_token_field", "data..token"),
        ("redirect_uri", "https://a.example/callback"),
        ("max_offline", "soon"),
        ("verify_token", "both"),
        ("optional_claims", "iss exp"),
        ("on_refresh", "./hook"),
        ("on_login_required", "bin/hook --now"),
        ("on_refresh", "sh -c \"date"),
        ("on_refresh", "[\"sh\", \"-c\", \"date\"]"),
        ("hosts", "git.example http://git.example"),
        ("required_claims", "tenant"),
        ("required_claims", "=x"),
        ("proxy_allow", "GET"),
        ("proxy_allow", "GET /v1 POST"),
        ("proxy_read_only", "yes"),
        ("proxy_max_requests", "-1"),
        ("authorization_parameters", "prompt"),
    ] {
        let (mut changed, setting) = (profile(), setting(key).expect(key));
        let error = setting.items(text).and_then(|items| setting.set(&mut changed, &items)).expect_err(text);
        assert_eq!((error.key, &changed), (key, &profile()), "{key}={text}");
    }
}

#[test]
fn parameters_of_the_authorization_request_are_reserved() {
    let parameters = setting("authorization_parameters").expect("there");
    for name in RESERVED_PARAMETERS {
        let error = parameters.check_items(&["x=1".to_owned(), format!("{name}=y")]).expect_err(name);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn issuer_bound_settings_are_removed_at_another_origin_only() {
    let mut full = profile();
    for setting in SETTINGS.iter().filter(|setting| setting.key != "issuer") {
        setting.items(example(setting)).and_then(|items| setting.set(&mut full, &items)).expect(setting.key);
    }
    for (issuer, removes) in [("https://a.example/tenant", false), ("https://a.example:444", true)] {
        let mut moved = full.clone();
        change_issuer(&mut moved, issuer.parse().expect("an issuer"));
        for setting in SETTINGS.iter().filter(|setting| setting.key != "issuer") {
            let removed = setting.value(&moved) != setting.value(&full);
            assert_eq!(removed, removes && setting.issuer_bound, "{issuer}: {}", setting.key);
        }
    }
}
