use super::super::testing::{TestServer, answer, http, json};
use super::*;

/// Fetches the metadata of the API at `path` of a server that gives `answers`, in which `ORIGIN` is replaced by the server's.
/// Returns the paths that were requested too.
async fn fetched(
    path: &str,
    challenge: &str,
    answers: &[String],
) -> (Result<Option<ProtectedResource>, IssuerError>, Vec<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    let at = |text: &str| {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let body = body.replace("ORIGIN", &origin);
        let head = head.lines().filter(|line| !line.starts_with("content-length")).collect::<Vec<_>>().join("\r\n");
        format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let server = TestServer::on(listener, answers.iter().map(|text| at(text)).collect());
    let api: ApiUrl = format!("{origin}{path}").parse().expect("an API");
    let challenge = ApiChallenge::parse([challenge.replace("ORIGIN", &origin).as_str()]);
    let found = fetch(&http().for_api(&api), &api, challenge.as_ref()).await;
    let asked = server.requests().iter().map(|r| r.split(' ').nth(1).unwrap_or_default().to_owned()).collect();
    (found, asked)
}

fn document(resource: &str, members: &str) -> String {
    json(200, &format!(r#"{{"resource":"{resource}"{members}}}"#))
}

const SERVER: &str = r#","authorization_servers":["ORIGIN"]"#;

#[tokio::test]
async fn metadata_is_at_the_address_in_the_challenge_else_at_path_or_host() {
    let found = document("ORIGIN/mcp", SERVER);
    let missing = json(404, "{}");
    let (challenge, inserted, root) =
        (r#"Bearer resource_metadata="ORIGIN/m?x=1""#, "/.well-known/oauth-protected-resource/mcp", WELL_KNOWN);
    for (path, challenge, answers, expected) in [
        ("/mcp", challenge, vec![found.clone()], vec!["/m?x=1"]),
        ("/mcp", "Bearer", vec![found.clone()], vec![inserted]),
        ("/mcp/", "", vec![found.clone()], vec![inserted]),
        ("/mcp", "", vec![missing.clone(), found.clone()], vec![inserted, root]),
        ("/mcp", "", vec![answer(302, "location: /other\r\n", ""), found.clone()], vec![inserted, root]),
        ("/mcp", "", vec![answer(200, "", "<html>"), found.clone()], vec![inserted, root]),
        ("/mcp", "", vec![json(200, "[]"), json(200, "{}")], vec![inserted, root]),
        ("/mcp?a=b", "", vec![], vec!["/.well-known/oauth-protected-resource/mcp?a=b"]),
        ("/", "", vec![missing.clone()], vec![root]),
    ] {
        let (_, asked) = fetched(path, challenge, &answers).await;
        assert_eq!(asked, expected, "{path} {challenge} {answers:?}");
    }
    let (resource, _) = fetched("/mcp", "", &[missing.clone(), missing.clone()]).await;
    assert_eq!(resource.expect("no error"), None);
    let (resource, asked) = fetched("/mcp", challenge, &[missing]).await;
    assert!(matches!(resource, Err(IssuerError::Rejected { .. })), "{resource:?}");
    assert_eq!(asked.len(), 1, "only at the address in the challenge");
}

#[tokio::test]
async fn resource_is_used_as_published_if_it_covers_the_api() {
    for (resource, covers) in [
        ("ORIGIN/mcp", true),
        ("ORIGIN", true),
        ("ORIGIN/", true),
        ("ORIGIN/mcp/", true),
        ("ORIGIN/mcp/v1", false),
        ("ORIGIN/other", false),
        ("https://evil.example/mcp", false),
        ("urn:mcp", false),
    ] {
        let (found, _) = fetched("/mcp", "", &[document(resource, SERVER)]).await;
        match found {
            Ok(found) => assert!(covers && found.expect("there").resource.ends_with(&resource[6..]), "{resource}"),
            Err(IssuerError::ResourceMismatch { found, .. }) => assert!(!covers && !found.is_empty(), "{resource}"),
            Err(other) => panic!("{resource}: {other}"),
        }
    }
}

#[tokio::test]
async fn members_of_hostile_metadata_are_checked() {
    let many = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("\"https://as{n}.example\"")).collect();
        format!(r#","authorization_servers":[{}]"#, all.join(","))
    };
    for members in [
        "".to_owned(),
        r#","authorization_servers":[]"#.into(),
        r#","authorization_servers":"ORIGIN""#.into(),
        r#","authorization_servers":[1]"#.into(),
        r#","authorization_servers":["http://as.example"]"#.into(),
        r#","authorization_servers":["file:///etc/passwd"]"#.into(),
        r#","authorization_servers":["https://u:p@as.example"]"#.into(),
        r#","authorization_servers":["https://as.example?x=1"]"#.into(),
        format!(r#"{SERVER},"bearer_methods_supported":[]"#),
        format!(r#"{SERVER},"bearer_methods_supported":["query"]"#),
        many(MAX_SERVERS + 1),
    ] {
        let (found, _) = fetched("/mcp", "", &[document("ORIGIN/mcp", &members)]).await;
        found.expect_err(&members);
    }
    let members = format!(
        r#","scopes_supported":["a","b c","a",7,"\u001b[31m","d"],"bearer_methods_supported":["body","header"],"dpop_bound_access_tokens_required":true{}"#,
        many(MAX_SERVERS)
    );
    let (found, _) = fetched("/mcp", "", &[document("ORIGIN/mcp", &members)]).await;
    let found = found.expect("valid").expect("there");
    assert_eq!((found.servers.len(), found.scopes, found.requires_dpop), (10, vec!["a".into(), "d".into()], true));
}

#[tokio::test]
async fn error_quotes_nothing_of_a_body() {
    let deep = format!(r#"{{"resource":{}"hunter2"{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let long = format!(r#"{{"resource":"ORIGIN/mcp","hunter2":"{}"}}"#, "x".repeat(1024 * 1024));
    for body in [r#"{"error":"hunter2"}"#, "hunter2", deep.as_str(), long.as_str()] {
        for status in [200, 400, 500] {
            let (found, _) = fetched("/mcp", r#"Bearer resource_metadata="ORIGIN/m""#, &[json(status, body)]).await;
            let error = found.expect_err("no metadata").to_string();
            assert!(!error.contains("hunter2") && error.len() < 300, "{error}");
        }
    }
}

#[tokio::test]
async fn api_elsewhere_names_no_address_of_this_machine() {
    let loopback = TestServer::start(vec![json(200, "{}")]).await;
    let api: ApiUrl = "https://api.example/mcp".parse().expect("an API");
    let http = http().for_api(&api);
    for text in
        [loopback.url.as_str(), "https://localhost/m", "https://[::1]/m", "https://10.0.0.1/m", "https://[fd00::1]/m"]
    {
        let challenge = ApiChallenge { resource_metadata: Some(text.into()), ..ApiChallenge::default() };
        let error = fetch(&http, &api, Some(&challenge)).await.expect_err(text);
        assert!(matches!(error, IssuerError::Insecure(_)), "{text}: {error}");
    }
    assert!(loopback.requests().is_empty());
    let response = HttpResponse::new("api.example", api.url(), 200, &reqwest::header::HeaderMap::new());
    for server in ["http://127.0.0.1:1", "https://localhost", "https://[::1]:2"] {
        let document = Document {
            resource: LenientString(Some(api.to_string())),
            authorization_servers: Some(vec![server.to_owned()]),
            ..Document::default()
        };
        let error = validate(&http, &api, &response, document).expect_err(server);
        assert!(matches!(error, IssuerError::Insecure(_)), "{server}: {error}");
    }
}

#[tokio::test]
async fn challenge_is_read_without_the_body() {
    let headers = "www-authenticate: Basic realm=\"x\"\r\nwww-authenticate: Bearer scope=\"a b\"\r\n";
    let endless = answer(401, headers, "").replace("content-length: 0", "content-length: 999999999");
    for (reply, scopes) in [(endless, Some(vec!["a".to_owned(), "b".to_owned()])), (json(200, "{}"), None)] {
        let server = TestServer::start(vec![reply]).await;
        let api: ApiUrl = server.url.as_str().parse().expect("an API");
        let found = challenge_of(&http().for_api(&api), &api).await.expect("a response");
        assert_eq!(found.is_some(), scopes.is_some());
        assert_eq!(found.map(|challenge| challenge.scopes), scopes);
    }
}
