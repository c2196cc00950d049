//! Responses as real issuers write them.

use super::*;
use crate::secret::SecretBytes;

fn sent() -> [Secret; 2] {
    [Secret::new("hunter2".into()), Secret::new("grant".into())]
}

fn response(status: u16, content_type: &str, body: &str) -> HttpResponse {
    HttpResponse {
        host: "a.example".into(),
        status,
        content_type: Some(content_type.into()),
        retry_after: None,
        location: None,
        content_coding: None,
        challenges: Vec::new(),
        date: None,
        dpop_nonce: None,
        body: SecretBytes::new(body.as_bytes().to_vec()),
    }
}

fn read(status: u16, content_type: &str, body: &str) -> Result<TokenEndpointResponse, IssuerError> {
    parse_token_response(&response(status, content_type, body), &sent(), UnixTime(1000))
}

fn tokens(body: &str) -> TokenSet {
    match read(200, "application/json", body) {
        Ok(TokenEndpointResponse::Tokens(tokens)) => tokens,
        Ok(TokenEndpointResponse::Error(response)) => panic!("{body}: {}", response.error),
        Err(error) => panic!("{body}: {error}"),
    }
}

fn refused(status: u16, content_type: &str, body: &str) -> OAuthError {
    match read(status, content_type, body) {
        Ok(TokenEndpointResponse::Error(response)) => response.error,
        Ok(TokenEndpointResponse::Tokens(_)) => panic!("{body}: tokens"),
        Err(error) => panic!("{body}: {error}"),
    }
}

#[test]
fn lifetime_is_accepted_in_any_form() {
    for (written, expected) in [
        ("3600", Some(4600)),
        ("\"3600\"", Some(4600)),
        ("\" 60 \"", Some(1060)),
        ("3599.9", Some(4599)),
        ("3.6e3", Some(4600)),
        ("0.5", Some(1000)),
        ("0", None),
        ("-5", None),
        ("\"-5\"", None),
        ("\"0\"", None),
        ("18446744073709551615", Some(1000 + 3_155_760_000)),
        ("1e300", Some(1000 + 3_155_760_000)),
        ("\"inf\"", Some(1000 + 3_155_760_000)),
        ("\"nan\"", None),
        ("\"soon\"", None),
        ("null", None),
        ("true", None),
        ("[3600]", None),
        ("{\"s\":1}", None),
    ] {
        let found = tokens(&format!(r#"{{"access_token":"AT","token_type":"bearer","expires_in":{written}}}"#));
        assert_eq!(found.expires_at, expected.map(UnixTime), "{written}");
        assert_eq!(found.obtained_at, UnixTime(1000));
    }
    assert_eq!(tokens(r#"{"access_token":"AT"}"#).expires_at, None);
}

#[test]
fn members_may_be_missing_or_written_differently() {
    let found = tokens("\u{feff} {\"access_token\":\"AT\",\"refresh_token\":\"\",\"id_token\":null,\"x\":{\"y\":[1]}}");
    assert_eq!((found.access_token.expose(), found.token_type.as_str()), ("AT", "Bearer"));
    assert!(found.refresh_token.is_none() && found.id_token.is_none() && found.scope.is_none());
    assert_eq!(tokens(r#"{"access_token":"AT","token_type":"bEaReR"}"#).token_type, "bEaReR");
    for scope in [r#"["a","b"]"#, r#""a b""#] {
        assert_eq!(tokens(&format!(r#"{{"access_token":"AT","scope":{scope}}}"#)).scope.as_deref(), Some("a b"));
    }
    assert_eq!(tokens(r#"{"access_token":"AT","scope":"","error":null}"#).scope, None);
    let form = read(200, "application/x-www-form-urlencoded", "access_token=a%2Fb&token_type=bearer&expires_in=9");
    let Ok(TokenEndpointResponse::Tokens(found)) = form else { panic!("a form") };
    assert_eq!((found.access_token.expose(), found.expires_at), ("a/b", Some(UnixTime(1009))));
}

#[test]
fn members_of_a_form_are_those_of_the_object() {
    let form = "refresh_token=RT&id_token=ID&token_type=mac&expires_in=9&scope=a+b&access_token=AT&x=y";
    let Ok(TokenEndpointResponse::Tokens(found)) = read(200, "application/x-www-form-urlencoded", form) else {
        panic!("tokens")
    };
    let text = |token: &Option<Secret>| token.as_ref().map(|token| token.expose().to_owned());
    assert_eq!((text(&found.refresh_token), text(&found.id_token)), (Some("RT".into()), Some("ID".into())));
    assert_eq!((found.token_type.as_str(), found.scope.as_deref()), ("mac", Some("a b")));
    let error = refused(400, "application/x-www-form-urlencoded", "error=access_denied&error_description=not+now");
    assert_eq!((error.code.as_str(), error.description.as_deref()), ("access_denied", Some("not now")));
}

#[test]
fn empty_scope_and_empty_error_count_as_absent() {
    for empty in ["\"\"", "[]"] {
        assert_eq!(tokens(&format!(r#"{{"scope":{empty},"access_token":"AT"}}"#)).scope, None, "{empty}");
    }
    assert_eq!(tokens(r#"{"error":"","access_token":"AT"}"#).access_token.expose(), "AT");
}

#[test]
fn odd_member_does_not_drop_the_access_token() {
    for name in ["token_type", "expires_in", "refresh_token", "id_token", "scope", "error_description", "mfa_token"] {
        for odd in
            ["null", "true", "4711", "1e300", "[]", "[1,\"a\"]", "{\"a\":{}}", "\"\"", "\"\\u0000\"", "\"a\\r\\nb: c\""]
        {
            let found = tokens(&format!(r#"{{"{name}":{odd},"access_token":"AT"}}"#));
            assert_eq!((found.access_token.expose(), found.token_type.as_str()), ("AT", "Bearer"), "{name}: {odd}");
            assert!(found.refresh_token.is_none() && found.id_token.is_none(), "{name}: {odd}");
        }
    }
    // A valid one is used, however invalid the others are.
    let found = tokens(r#"{"id_token":[7],"access_token":"AT","refresh_token":"RT","token_type":" Bearer "}"#);
    assert_eq!(found.refresh_token.as_ref().map(Secret::expose), Some("RT"));
    assert_eq!(found.token_type, "Bearer");
    assert_eq!(tokens(r#"{"access_token":"AT","token_type":" DPoP"}"#).token_type, "DPoP");
}

#[test]
fn type_and_scope_that_repeat_a_secret_count_as_absent() {
    // The last two repeat a secret that was sent.
    for echo in [
        "refresh-token-hunter2",
        "refresh-toke",
        "access-token-hunter2",
        "x/refresh-token-hunter2/x",
        "hunter2",
        "x.hunter2",
    ] {
        let found = tokens(&format!(
            r#"{{"access_token":"access-token-hunter2","refresh_token":"refresh-token-hunter2","token_type":"{echo}","scope":"{echo}"}}"#
        ));
        assert_eq!((found.token_type.as_str(), found.scope), ("Bearer", None), "{echo}");
    }
    // A short part of a token and a long text are no echoes.
    let found = tokens(r#"{"access_token":"at+jwt.openid.4711","token_type":"at+jwt","scope":"openid"}"#);
    assert_eq!(found.scope.as_deref(), Some("openid"));
    let found = tokens(r#"{"access_token":"AT","token_type":"urn:example:type","scope":"openid profile email"}"#);
    assert_eq!((found.token_type.as_str(), found.scope.as_deref()), ("urn:example:type", Some("openid profile email")));
}

#[test]
fn response_that_was_cut_off_is_a_lost_reply() {
    for body in ["", " \r\n", "\0\0\0", "{", r#"{"access_token":"hunter2"#, r#"{"access_token":"hunter2","scope":["a""#]
    {
        let error = read(200, "application/json", body).err().unwrap_or_else(|| panic!("{body}: taken"));
        assert!(error.is_response_lost() && !format!("{error:?}").contains("hunter2"), "{error:?}");
        let refusal = read(400, "application/json", body).err().unwrap_or_else(|| panic!("{body}: taken"));
        assert!(!refusal.is_response_lost(), "{refusal:?}");
    }
}

#[test]
fn json_without_tokens_is_a_refusal_with_status_200_if_it_says_so() {
    for (body, is_refusal) in [
        (r#"{"errcode":40030,"errmsg":"invalid refresh_token hunter2"}"#, true),
        (r#"{"code":20026,"msg":"hunter2: the Refresh Token is invalid"}"#, true),
        (r#"{"errors":[{"message":"expired"}]}"#, true),
        (r#"{"message":"maintenance"}"#, false),
        (r#"{"success":false,"message":"hunter2"}"#, false),
        (r#"{"ok":false}"#, false),
        ("\u{feff} {\"a\": null}", false),
    ] {
        let error = read(200, "application/json", body).err().unwrap_or_else(|| panic!("{body}: taken"));
        assert_eq!(error.is_refusal(), is_refusal, "{body}");
        assert!(!error.is_in_doubt() && !error.ends_session(), "{body}: {error:?}");
        assert_eq!(
            error.to_string(),
            "a.example refused the request: HTTP 200 with JSON that is not a token response",
            "{body}"
        );
    }
    // What was sent may be redeemed for these.
    for body in [r#"{"refresh_token":"hunter2"}"#, r#"{"access_token":{"value":"hunter2"}}"#, r#"{"id_token":""}"#] {
        let error = read(200, "application/json", body).err().unwrap_or_else(|| panic!("{body}: taken"));
        assert!(!error.is_refusal() && error.is_in_doubt(), "{body}: {error:?}");
    }
}

#[test]
fn members_that_cannot_be_read_drop_no_token() {
    let nested = "[".repeat(200) + &"]".repeat(200);
    for name in ["scope", "token_type", "expires_in", "refresh_token", "id_token", "error_description"] {
        for value in [r#""\ud800""#, "1e400", "-1e999", &nested, r#"{"type":"\udc00"}"#] {
            let found = tokens(&format!(r#"{{"access_token":"AT","{name}":{value}}}"#));
            assert_eq!(found.access_token.expose(), "AT", "{name}: {value}");
        }
    }
    // An `error` beside a token is ignored.
    for error in
        [r#""0""#, r#""none""#, r#"{}"#, r#"{"code":0}"#, r#"{"message":null}"#, r#""invalid_grant""#, r#""\ud800""#]
    {
        let found = tokens(&format!(r#"{{"access_token":"AT","error":{error}}}"#));
        assert_eq!(found.access_token.expose(), "AT", "{error}");
        let alone = read(200, "application/json", &format!(r#"{{"access_token":"","error":{error}}}"#));
        assert!(!matches!(alone, Ok(TokenEndpointResponse::Tokens(_))), "{error}");
    }
}

#[test]
fn invalid_response_is_reported_without_its_text() {
    for body in [
        "{}",
        " { } ",
        "null",
        "[]",
        "hunter2",
        "<html>hunter2</html>",
        r#"["hunter2"]"#,
        r#"{"access_token":""}"#,
        r#"{"access_token":4711}"#,
        r#"{"access_token":["hunter2"]}"#,
        r#"{"access_token":"hunter2","access_token":"b"}"#,
        r#"{"access_token":"a","expires_in":1,"expires_in":2}"#,
        r#"{"access_token":"hunter2"} hunter2"#,
        r#"{"access_token":"hunter2\r\nx: y"}"#,
        r#"{"access_token":"hünter2"}"#,
    ] {
        let error = read(200, "application/json", body).err().unwrap_or_else(|| panic!("{body}: taken"));
        assert!(matches!(error, IssuerError::InvalidResponse { .. }), "{body}: {error:?}");
        assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
        assert!(!error.ends_session() && error.is_in_doubt(), "{body}");
    }
}

#[test]
fn expected_kind_of_response_is_part_of_the_error() {
    let twice = r#"{"scope":"a","scope":"b"}"#;
    for (status, body, expected) in [
        (200, "<p>", "instead of a token response"),
        (404, "<p>", "instead of an OAuth error response"),
        (200, twice, "a token response with a duplicate or mistyped member"),
        (400, twice, "refused the request: HTTP 400 with other JSON"),
    ] {
        let error = read(status, "text/html", body).err().expect("neither").to_string();
        assert!(error.contains(expected), "{status}: {error}");
    }
}

#[test]
fn error_response_of_any_endpoint_is_parsed() {
    let parsed = |body: &str| parse_error_response(&response(401, "application/json", body), &sent());
    let error = parsed(r#"{"error":"invalid_token","error_description":"expired"}"#).expect("an error");
    assert_eq!((error.code.as_str(), error.description.as_deref()), ("invalid_token", Some("expired")));
    let echo = parsed(r#"{"error":"invalid_token","error_description":"no hunter2"}"#).expect("an error");
    assert_eq!(echo.description, None);
    assert!(parsed(r#"{"sub":"1"}"#).is_none() && parsed("<p>invalid_token</p>").is_none());
}

#[test]
fn error_responses_are_accepted_in_any_form() {
    let invalid_grant = r#"{"error":"invalid_grant","error_description":"expired"}"#;
    for status in [400, 401, 403] {
        let error = refused(status, "application/json", invalid_grant);
        assert!(error.ends_session());
        assert_eq!(error.to_string(), "invalid_grant: expired");
    }
    assert!(refused(400, "text/html", invalid_grant).ends_session(), "JSON whatever its label");
    let error = refused(200, "application/json", r#"{"error":"bad_refresh_token"}"#);
    assert_eq!((error.code.as_str(), error.ends_session()), ("bad_refresh_token", false));
    assert_eq!(refused(400, "application/x-www-form-urlencoded", "error=invalid_scope").code, "invalid_scope");
    let object = r#"{"error":{"message":"Bad","type":"OAuthException","code":190}}"#;
    assert_eq!(refused(400, "application/json", object).to_string(), "OAuthException: Bad");
    let object = r#"{"error":{"code":403,"message":"Bad","status":"PERMISSION_DENIED"}}"#;
    assert_eq!(refused(400, "application/json", object).to_string(), "PERMISSION_DENIED: Bad");
}

#[test]
fn token_for_a_second_factor_counts_only_with_a_value() {
    for (written, expected) in [(r#""m""#, Some("m")), (r#""""#, None), ("null", None), ("7", None)] {
        let body = format!(r#"{{"error":"mfa_required","mfa_token":{written}}}"#);
        let Ok(TokenEndpointResponse::Error(response)) = read(403, "application/json", &body) else {
            panic!("{body}: no error")
        };
        assert_eq!(response.mfa_token.as_ref().map(Secret::expose), expected, "{body}");
    }
}

#[test]
fn only_a_parsed_error_response_is_one() {
    let invalid_grant = r#"{"error":"invalid_grant"}"#;
    for (status, content_type, body) in [
        (400, "text/html", "<p>invalid_grant</p>"),
        (400, "text/plain", "error=invalid_grant"),
        (400, "application/x-www-form-urlencoded", "error=invalid_grant&error=invalid_grant"),
        (400, "application/json", ""),
        (400, "application/json", "{}"),
        (400, "application/json", r#""invalid_grant""#),
        (400, "application/json", r#"["invalid_grant"]"#),
        (400, "application/json", r#"{"error":"invalid_grant","error":"invalid_grant"}"#),
        (400, "application/json", r#"{"error":"invalid_grant""#),
        (429, "application/json", invalid_grant),
        (500, "application/json", invalid_grant),
        (503, "application/json", invalid_grant),
        (302, "application/json", invalid_grant),
        (400, "application/json", r#"{"access_token":"a"}"#),
    ] {
        let error = read(status, content_type, body).err().unwrap_or_else(|| panic!("{status} {body}: taken"));
        assert!(!error.ends_session(), "{status} {body}");
        assert!(
            matches!(
                error,
                IssuerError::InvalidResponse { .. } | IssuerError::Rejected { .. } | IssuerError::Unavailable { .. }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn secret_in_an_error_response_is_not_shown() {
    let error = refused(400, "application/json", r#"{"error":"x","error_description":"no token hunter2 here"}"#);
    assert_eq!(error.to_string(), "x");
    assert_eq!(refused(400, "application/json", r#"{"error":"hunter2"}"#).to_string(), "error");
    let own = r#"{"error":"x","error_description":"no mfa for m4x","mfa_token":"m4x"}"#;
    assert_eq!(refused(400, "application/json", own).to_string(), "x");
    for echo in ["access-t", "access-to", "refresh-toke", "ACCESS TOKEN HUNTER", "a.c.c.e.s.s.t.o.k.e.n.h.u.n.t.e.r"] {
        let own = format!(
            r#"{{"error":"x","error_description":"{echo}","access_token":"access-token-hunter2","mfa_token":"refresh-token-hunter2"}}"#
        );
        let expected = if echo == "access-t" { "x: access-t" } else { "x" };
        assert_eq!(refused(400, "application/json", &own).to_string(), expected, "{echo}");
    }
}

#[test]
fn form_with_many_unknown_names_is_parsed_quickly() {
    // As many names as fit into a response: comparing each with all others would take minutes.
    let body: String = (0..200_000).map(|n| format!("{n:x}&")).collect();
    let read = read(200, "application/x-www-form-urlencoded", &format!("{body}access_token=a"));
    assert!(matches!(read, Ok(TokenEndpointResponse::Tokens(_))));
}
