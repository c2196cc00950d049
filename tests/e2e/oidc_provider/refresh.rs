//! Refreshes at a provider that rotates refresh tokens and revokes the session on reuse.

use serde_json::json;

use super::provider;
use crate::agent_support::agent;
use crate::support::Sandbox;
use crate::webdriver::BrowserSandbox;

fn refresh_token(home: &Sandbox) -> String {
    home.session("work").tokens.refresh_token.expect("one").expose().to_owned()
}

#[test]
fn refresh_rotates_and_reuse_ends_the_session() {
    let mut provider = provider();
    let browser = BrowserSandbox::new();
    provider.sign_in(&browser, &[]);
    let home = &browser.home;
    let mut seen = vec![refresh_token(home)];
    for refreshes in 1..=3 {
        home.run(&["refresh", "work"]).exits(0);
        let new = refresh_token(home);
        assert!(!seen.contains(&new), "another one each time");
        seen.push(new);
        assert_eq!(provider.counts().refreshes, refreshes);
    }
    let counts = provider.counts();
    assert_eq!((counts.refused.len(), counts.revoked_grants), (0, 0), "{counts:?}");

    // Reuse of an old refresh token.
    let form = [("grant_type", "refresh_token"), ("refresh_token", &seen[0]), ("client_id", "native")];
    let (status, answer) = provider.post("token", &form);
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")), "{answer}");
    assert_eq!(provider.counts().revoked_grants, 1);

    // The access token is valid until it expires. A login is required once the provider refuses a refresh.
    home.run(&["token", "work"]).exits(0);
    home.run(&["status", "work", "--check"]).exits(0);
    let refused = home.run(&["refresh", "work", "--json"]).exits(3).error();
    assert_eq!(refused["code"], "login_required", "{refused}");
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("authctl login work")), "{refused}");
    home.expire("work");
    home.run(&["status", "work", "--check"]).exits(3);
    home.run(&["token", "work"]).exits(3).reports("authctl login work");
    // A refused refresh token is not sent again.
    assert_eq!(provider.counts().refused.len(), 2);
}

#[test]
fn refresh_token_is_sent_once_more_after_a_lost_reply() {
    let mut provider = provider();
    let browser = BrowserSandbox::new();
    provider.sign_in(&browser, &[]);
    let home = &browser.home;
    provider.command("lose");
    // This provider accepts none twice, so the session was lost with the reply.
    home.run(&["refresh", "work"]).exits(3).reports("authctl login work");
    let counts = provider.counts();
    assert_eq!((counts.refreshes, counts.refused.len(), counts.revoked_grants), (1, 1, 1), "{counts:?}");
    home.run(&["token", "work"]).exits(3);
    assert_eq!(provider.counts().refused.len(), 1, "it is not sent a third time");
}

#[test]
fn twenty_token_commands_share_one_refresh() {
    let mut provider = provider();
    let browser = BrowserSandbox::new();
    provider.sign_in(&browser, &[]);
    let home = &browser.home;
    let first = home.token("work");
    home.expire("work");
    let args = ["token", "work"];
    let started: Vec<_> = (0..20).map(|_| home.start(&args, "")).collect();
    let tokens: Vec<String> =
        started.into_iter().map(|one| home.finish(one, &args).exits(0).line().to_owned()).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]) && tokens[0] != first, "one new token for all");
    let counts = provider.counts();
    assert_eq!((counts.refreshes, counts.refused.len(), counts.revoked_grants), (1, 0, 0), "{counts:?}");
    assert!(provider.is_active(&tokens[0]));
    // The agent refreshes the same session.
    home.run(&["refresh", "work"]).exits(0);
    let third = home.token("work");
    home.expire("work");
    let _agent = agent(home, &[]);
    let started: Vec<_> = (0..20).map(|_| home.start(&args, "")).collect();
    for one in started {
        assert_ne!(home.finish(one, &args).exits(0).line(), third);
    }
    assert_eq!(provider.counts().refreshes, 3);
}
