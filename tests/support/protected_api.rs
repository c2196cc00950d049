//! A protected API with the authorization server that it names, each in a form that a test chooses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::http::get;
use super::process::wait_until;
use super::stub_server::{Reply, Request, StubServer};

/// What the servers send. `API` and `AS` stand for their URLs.
#[derive(Clone)]
pub struct Documents {
    /// The `WWW-Authenticate` of the API's 401.
    pub challenge: Option<String>,
    /// The API's metadata, by path.
    pub resource: BTreeMap<String, Value>,
    /// The metadata of the authorization server, by path.
    pub server: BTreeMap<String, Value>,
    /// The response to a registration.
    pub registration: Value,
    /// The scope of the tokens; the requested one if it is none.
    pub granted: Option<String>,
}

/// A running API and authorization server.
pub struct ProtectedApi {
    pub api: StubServer,
    pub server: StubServer,
    documents: Arc<Mutex<Documents>>,
}

const RESOURCE: &str = "/.well-known/oauth-protected-resource/mcp";
const SERVER: &str = "/.well-known/oauth-authorization-server";

impl ProtectedApi {
    /// Starts an API whose resource is `/mcp`, and a server with dynamic registration, changed by `change`.
    pub fn start(change: impl FnOnce(&mut Documents)) -> Self {
        let metadata = json!({
            "issuer": "AS",
            "authorization_endpoint": "AS/authorize",
            "token_endpoint": "AS/token",
            "registration_endpoint": "AS/register",
            "revocation_endpoint": "AS/revoke",
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
        });
        let mut documents = Documents {
            challenge: Some(format!("Bearer resource_metadata=\"API{RESOURCE}\"")),
            resource: [(RESOURCE.to_owned(), json!({ "resource": "API/mcp", "authorization_servers": ["AS"] }))].into(),
            server: [(SERVER.to_owned(), metadata)].into(),
            registration: json!({
                "client_id": "registered",
                "registration_access_token": "management-token",
                "registration_client_uri": "AS/register/registered",
            }),
            granted: None,
        };
        change(&mut documents);
        let documents = Arc::new(Mutex::new(documents));
        let urls: Arc<Mutex<(String, String)>> = Arc::default();
        let answer = |is_api: bool| {
            let (documents, urls, issued) = (Arc::clone(&documents), Arc::clone(&urls), Arc::new(Mutex::new(0)));
            let scopes: Arc<Mutex<String>> = Arc::default();
            move |_: &str, request: &Request| {
                let documents = documents.lock().unwrap().clone();
                let reply = match is_api {
                    true => api(&documents, request),
                    false => server(&documents, request, &issued, &scopes),
                };
                let (api, own) = urls.lock().unwrap().clone();
                let filled = |text: String| {
                    text.replace("API", &api)
                        .replace("AS/", &format!("{own}/"))
                        .replace("\"AS\"", &format!("\"{own}\""))
                };
                Reply { status: reply.status, headers: filled(reply.headers), body: filled(reply.body) }
            }
        };
        let (api, server) = (StubServer::start(answer(true)), StubServer::start(answer(false)));
        *urls.lock().unwrap() = (api.url.clone(), server.url.clone());
        Self { api, server, documents }
    }

    /// Changes what the servers send from now on.
    pub fn change(&self, change: impl FnOnce(&mut Documents)) {
        change(&mut self.documents.lock().unwrap());
    }

    /// Returns the URL of the API.
    pub fn url(&self) -> String {
        format!("{}/mcp", self.api.url)
    }

    /// Signs in as the user at the address that authctl wrote to `opened` as it opened the browser; returns the parameters of the
    /// authorization request.
    #[track_caller]
    pub fn sign_in(&self, opened: &std::path::Path) -> BTreeMap<String, String> {
        let address = wait_until("the browser", || std::fs::read_to_string(opened).ok());
        std::fs::remove_file(opened).unwrap();
        let address: url::Url = address.trim().parse().unwrap();
        let sent: BTreeMap<String, String> = address.query_pairs().into_owned().collect();
        let (status, redirect) = get(address.as_str(), &[]);
        assert_eq!(status, 200, "{redirect}");
        get(&redirect, &[]);
        sent
    }

    /// Returns the requests to the authorization server with this method and path.
    pub fn asked(&self, method: &str, path: &str) -> Vec<Request> {
        let is_it = |request: &Request| {
            request.method == method && request.path.split('?').next().is_some_and(|own| own == path)
        };
        self.server.requests().into_iter().filter(is_it).collect()
    }
}

fn api(documents: &Documents, request: &Request) -> Reply {
    if let Some(document) = documents.resource.get(&request.path) {
        return (200, document.to_string()).into();
    }
    if request.path.starts_with("/.well-known/") {
        return (404, "{}".to_owned()).into();
    }
    let headers = documents.challenge.iter().map(|value| format!("www-authenticate: {value}\r\n")).collect();
    Reply { status: 401, headers, body: "{}".to_owned() }
}

fn server(documents: &Documents, request: &Request, issued: &Mutex<u32>, scopes: &Mutex<String>) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default();
    if let Some(document) = documents.server.get(path) {
        return (200, document.to_string()).into();
    }
    let url = url::Url::parse(&format!("http://server{}", request.path)).unwrap();
    let sent: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    match (request.method.as_str(), path) {
        // In place of a redirect, for the test to follow.
        ("GET", "/authorize") => {
            *scopes.lock().unwrap() = sent.get("scope").cloned().unwrap_or_default();
            let mut redirect = url::Url::parse(&sent["redirect_uri"]).unwrap();
            redirect.query_pairs_mut().append_pair("code", "code").append_pair("state", &sent["state"]);
            (200, redirect.to_string()).into()
        }
        ("POST", "/token") => {
            let mut issued = issued.lock().unwrap();
            *issued += 1;
            let scope = documents.granted.clone().unwrap_or_else(|| scopes.lock().unwrap().clone());
            let token = json!({
                "access_token": format!("access-{issued}"),
                "refresh_token": format!("refresh-{issued}"),
                "token_type": "Bearer",
                "expires_in": 3600,
                "scope": scope,
            });
            (200, token.to_string()).into()
        }
        ("POST", "/register") => (201, documents.registration.to_string()).into(),
        ("GET", path)
            if path.strip_prefix("/register/").is_some_and(|id| documents.registration["client_id"] == id) =>
        {
            (200, documents.registration.to_string()).into()
        }
        ("DELETE", path) if path.starts_with("/register/") => (204, String::new()).into(),
        ("POST", "/revoke") => (200, String::new()).into(),
        _ => (404, "{}".to_owned()).into(),
    }
}
