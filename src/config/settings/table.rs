//! The table itself: a new setting is a row here and a field in the profile.

use super::value::SettingType;
use super::{Field, Section, Setting, Value, change_issuer};
use crate::model::{ClientRegistration, Profile, Provider, Requirements};

/// A row of the table: section, key, field of the profile, value name and help.
macro_rules! setting {
    ($section:ident, $key:literal, server.$($path:ident).+, $value_name:literal, $help:literal) => {
        Setting::new(Section::$section, $key, $value_name, $help, Field::of(
            |profile| &profile.server.$($path).+,
            |profile| profile.server.$($path).+.value(),
            |profile, items| {
                profile.server_mut().$($path).+ = SettingType::parse(items)?;
                Ok(())
            },
        ))
    };
    ($section:ident, $key:literal, $($path:ident).+, $value_name:literal, $help:literal) => {
        Setting::new(Section::$section, $key, $value_name, $help, Field::of(
            |profile| &profile.$($path).+,
            |profile| profile.$($path).+.value(),
            |profile, items| {
                profile.$($path).+ = SettingType::parse(items)?;
                Ok(())
            },
        ))
    };
}

/// Every setting, in the order in which it is shown and written.
pub const SETTINGS: &[Setting] = &[
    setting!(Login, "issuer", issuer, "URL", "Use this issuer, https except on loopback")
        .option("issuer")
        .required()
        .on_set(set_issuer),
    setting!(Login, "client_id", client_id, "ID", "Use this client ID, as registered at the issuer")
        .option("client-id")
        .required()
        .on_set(set_client_id),
    setting!(Login, "client_auth", client_auth, "METHOD", "Authenticate the client with this method")
        .option("client-auth")
        .default("none"),
    setting!(Login, "grant", grant, "GRANT", "Log in with this grant unless an option names another")
        .default("browser"),
    setting!(Login, "scopes", scopes, "SCOPE", "Request this scope").option("scope"),
    setting!(Login, "audience", audience, "AUDIENCE", "Request tokens for this audience").option("audience"),
    setting!(Login, "resources", resources, "URL", "Request tokens for this resource (RFC 8707)").option("resource"),
    setting!(Login, "store", store, "STORE", "Store the session here").option("store").required().login_only(),
    setting!(Login, "hosts", hosts, "HOST", "Let helpers give tokens to tools for this host"),
    setting!(Login, "token_file", token_file, "FILE", "Write the access token to this file, for programs that read it")
        .check(absolute_path),
    setting!(
        Login,
        "id_token_file",
        id_token_file,
        "FILE",
        "Write the ID token to this file, for programs that read it"
    )
    .check(absolute_path),
    setting!(
        Login,
        "ca_cert",
        ca_cert,
        "FILE",
        "Trust the certificate authorities in this PEM file, besides the platform's"
    )
    .option("ca-cert"),
    setting!(Server, "provider", server.provider, "NAME", "Start from the preset of this provider")
        .option("provider")
        .login_only()
        .issuer_bound(),
    setting!(
        Server,
        "token_endpoint",
        server.endpoints.token,
        "URL",
        "Use this token endpoint, and request no metadata"
    )
    .option("token-endpoint")
    .issuer_bound(),
    setting!(
        Server,
        "authorization_endpoint",
        server.endpoints.authorization,
        "URL",
        "Use this authorization endpoint"
    )
    .option("authorization-endpoint")
    .issuer_bound(),
    setting!(
        Server,
        "device_authorization_endpoint",
        server.endpoints.device_authorization,
        "URL",
        "Use this device authorization endpoint"
    )
    .option("device-authorization-endpoint")
    .issuer_bound(),
    setting!(Server, "revocation_endpoint", server.endpoints.revocation, "URL", "Use this revocation endpoint")
        .option("revocation-endpoint")
        .issuer_bound(),
    setting!(Server, "end_session_endpoint", server.endpoints.end_session, "URL", "Use this end session endpoint")
        .option("end-session-endpoint")
        .issuer_bound(),
    setting!(Server, "userinfo_endpoint", server.endpoints.userinfo, "URL", "Use this userinfo endpoint")
        .option("userinfo-endpoint")
        .issuer_bound(),
    setting!(Server, "jwks_uri", server.endpoints.jwks, "URL", "Fetch the issuer's keys from this address")
        .option("jwks-uri")
        .issuer_bound(),
    setting!(Server, "redirect_uri", server.redirect_uri, "URL", "Redirect the browser to this loopback address")
        .option("redirect-uri")
        .default(Provider::LOOPBACK),
    setting!(
        Server,
        "authorization_parameters",
        server.authorization_parameters,
        "NAME=VALUE",
        "Add this parameter to the authorization request"
    )
    .option("authorization-parameter")
    .check(authorization_parameter),
    setting!(
        Server,
        "client_registration",
        server.client_registration,
        "HOW",
        "Register the client ID by hand, or dynamically at a login (RFC 7591)"
    )
    .default("manual")
    .issuer_bound(),
    setting!(
        Server,
        "client_key",
        server.client_key.file,
        "FILE",
        "Sign as the client with this private key, PEM or JWK"
    )
    .option("client-key"),
    setting!(Server, "client_key_id", server.client_key.id, "KID", "Name the client's key by this ID (`kid`)")
        .option("client-key-id"),
    setting!(
        Server,
        "client_assertion_audience",
        server.client_key.audience,
        "AUDIENCE",
        "Sign client assertions for this audience: issuer, token_endpoint, or any text"
    )
    .option("client-assertion-audience")
    .default("issuer")
    .issuer_bound(),
    setting!(Server, "dpop", server.dpop, "WHEN", "Bind tokens to a key of the session (DPoP): auto, always or never")
        .option("dpop")
        .default("auto"),
    setting!(Server, "par", server.par, "WHEN", "Push authorization requests to the issuer (PAR): auto or always")
        .option("par")
        .default("auto"),
    setting!(
        Server,
        "workload",
        server.workload,
        "SOURCE",
        "Log in with the identity token of this platform: github, gitlab, kubernetes, file:PATH or command:CMD"
    )
    .option("workload"),
    setting!(
        Server,
        "identity_provider",
        server.identity_provider,
        "URL",
        "Exchange the workload's ID token at this identity provider for an assertion for the issuer (ID-JAG)"
    )
    .option("identity-provider"),
    setting!(
        Server,
        "identity_client_id",
        server.identity_client_id,
        "ID",
        "Use this client ID at the identity provider"
    )
    .option("identity-client-id"),
    setting!(
        LoginApi,
        "login_endpoint",
        server.api.login,
        "URL",
        "Log in at this API with user name and password as JSON"
    )
    .option("login-endpoint")
    .issuer_bound(),
    setting!(LoginApi, "refresh_endpoint", server.api.refresh, "URL", "Refresh at this address of the API")
        .option("refresh-endpoint")
        .issuer_bound(),
    setting!(LoginApi, "logout_endpoint", server.api.logout, "URL", "Report a logout to this address of the API")
        .option("logout-endpoint")
        .issuer_bound(),
    setting!(LoginApi, "username_field", server.api.username_field, "NAME", "Send the user name in this field")
        .option("username-field")
        .default("username")
        .issuer_bound(),
    setting!(LoginApi, "password_field", server.api.password_field, "NAME", "Send the password in this field")
        .option("password-field")
        .default("password")
        .issuer_bound(),
    setting!(LoginApi, "access_token_field", server.api.access_token_field, "PATH", "Read the JWT from this field")
        .option("access-token-field")
        .check(member_path)
        .issuer_bound(),
    setting!(
        LoginApi,
        "refresh_token_field",
        server.api.refresh_token_field,
        "PATH",
        "Read and send the refresh token in this field"
    )
    .option("refresh-token-field")
    .check(member_path)
    .issuer_bound(),
    setting!(
        LoginApi,
        "expires_in_field",
        server.api.expires_in_field,
        "PATH",
        "Read the lifetime of the JWT, in seconds, from this field"
    )
    .option("expires-in-field")
    .check(member_path)
    .issuer_bound(),
    setting!(Requirements, "verify_token", requirements.token, "TOKEN", "Verify this token of the session")
        .default("access_token"),
    setting!(
        Requirements,
        "optional_claims",
        requirements.optional_claims,
        "CLAIM",
        "Accept access tokens without this claim, `iss` or `aud`"
    )
    .check(optional_claim),
    setting!(
        Requirements,
        "max_offline",
        requirements.max_offline,
        "DURATION",
        "Reject tokens once the issuer has not answered for this long"
    ),
    setting!(
        Requirements,
        "keys_max_age",
        requirements.keys_max_age,
        "DURATION",
        "Reject tokens once the issuer's keys were fetched this long ago"
    )
    .default("30d")
    .shown_as(|profile| Value::Duration(profile.requirements.keys_max_age())),
    setting!(
        Requirements,
        "max_auth_age",
        requirements.max_auth_age,
        "DURATION",
        "Reject tokens once the user signed in this long ago"
    ),
    setting!(Requirements, "required_scopes", requirements.scopes, "SCOPE", "Require this scope"),
    setting!(Requirements, "required_roles", requirements.roles, "ROLE", "Require this value in the claim `roles`"),
    setting!(Requirements, "required_claims", requirements.claims, "NAME=VALUE", "Require this value of the claim"),
    setting!(
        Requirements,
        "required_acr",
        requirements.acr,
        "ACR",
        "Require one of these authentication context classes"
    ),
    setting!(Requirements, "required_amr", requirements.amr, "AMR", "Require this authentication method"),
    setting!(
        Proxy,
        "proxy_allow",
        proxy.rules.allowed,
        "RULE",
        "Let proxies pass on these requests and no others, such as `GET /v1/*`"
    ),
    setting!(
        Proxy,
        "proxy_read_only",
        proxy.rules.read_only,
        "WHETHER",
        "Let proxies pass on only requests that change nothing: GET, HEAD, OPTIONS"
    )
    .default("false"),
    setting!(
        Proxy,
        "proxy_max_requests",
        proxy.max_requests,
        "NUMBER",
        "Let each proxy pass on no more than this number of requests"
    ),
    setting!(Hooks, "on_refresh", hooks.on_refresh, "COMMAND", "Run this command after a refresh"),
    setting!(
        Hooks,
        "on_login_required",
        hooks.on_login_required,
        "COMMAND",
        "Run this command when the session has ended and a login is required"
    ),
];

fn set_issuer(profile: &mut Profile, items: &[String]) -> Result<(), String> {
    change_issuer(profile, SettingType::parse(items)?);
    Ok(())
}

/// Sets a client ID. Registering it dynamically is set after it, where it is.
fn set_client_id(profile: &mut Profile, items: &[String]) -> Result<(), String> {
    profile.client_id = SettingType::parse(items)?;
    if profile.server.client_registration != ClientRegistration::default() {
        profile.server_mut().client_registration = ClientRegistration::default();
    }
    Ok(())
}

/// Checks the path of a file that the agent writes, which runs in another directory.
fn absolute_path(path: &str) -> Result<(), String> {
    match path.starts_with('/') && !path.ends_with('/') {
        true => Ok(()),
        false => Err(format!("`{path}` is not the absolute path of a file")),
    }
}

/// Checks a path of members in a JSON response.
fn member_path(path: &str) -> Result<(), String> {
    match path.split('.').any(str::is_empty) {
        true => Err(format!("invalid path `{path}` (example: data.token)")),
        false => Ok(()),
    }
}

fn optional_claim(claim: &str) -> Result<(), String> {
    let possible = Requirements::OPTIONAL_CLAIMS;
    match possible.contains(&claim) {
        true => Ok(()),
        false => Err(format!("`{claim}` cannot be optional (possible values: {})", possible.join(", "))),
    }
}

/// The parameters that authctl sets in the authorization request. Replacing one would break the check of the response.
pub(super) const RESERVED_PARAMETERS: [&str; 12] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
    "response_mode",
    "dpop_jkt",
];

fn authorization_parameter(parameter: &str) -> Result<(), String> {
    match parameter.split_once('=') {
        Some((name, _)) if RESERVED_PARAMETERS.contains(&name) => {
            Err(format!("`{name}` is set by authctl in every authorization request"))
        }
        _ => Ok(()),
    }
}
