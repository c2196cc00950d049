use super::*;

#[test]
fn issuers_own_name_is_put_into_a_command_only_at_the_same_host() {
    for (expected, found, hint) in [
        ("https://a.example/", "https://a.example", "authctl login --issuer https://a.example"),
        ("https://a.example", "https://a.example/", "authctl login --issuer https://a.example/"),
        ("https://a.example/T", "https://a.example/t", "authctl login --issuer https://a.example/t"),
        ("https://a.example", "https://evil.example", "use exactly `https://evil.example`; if not, do not sign in"),
        ("https://a.example", "https://a.example.evil.example", "use exactly"),
        ("https://a.example", "https://a.example/$(rm -rf .)", "use exactly"),
        ("https://a.example", "no `iss` from the browser", "RFC 9207"),
        ("https://a.example", "a.example", "an issuer that is not a URL"),
    ] {
        let text = mismatch_hint(expected, found).to_string();
        assert!(text.contains(hint), "{expected} {found}: {text}");
    }
}
