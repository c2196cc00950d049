//! The presets, according to the public documentation of the providers.

use super::{AccessTokenForm, DEFAULT_SCOPES, Provider, ProviderEndpoints, ProviderIssuer};
use crate::model::{ClientAuth, DecidingToken, Grant};

/// A redirect URI for providers that compare the port too. The port is below the ephemeral ports of common systems and not
/// assigned by IANA; its last digits are the number of the RFC.
const FIXED_PORT: &str = "http://127.0.0.1:18252/callback";

const NO_ENDPOINTS: ProviderEndpoints = ProviderEndpoints {
    authorization: None,
    token: None,
    device_authorization: None,
    revocation: None,
    userinfo: None,
    jwks: None,
};

/// An issuer that follows the standards. The other presets list their differences from it.
const GENERIC: Provider = Provider {
    name: "generic",
    title: "Any other issuer",
    unsupported: None,
    issuer: ProviderIssuer::Yours { example: "https://issuer.example" },
    endpoints: NO_ENDPOINTS,
    client_auth: ClientAuth::None,
    with_secret: None,
    grant: Grant::Browser,
    grants: &[Grant::Browser, Grant::Device, Grant::Password, Grant::ClientCredentials, Grant::Workload],
    scopes: &DEFAULT_SCOPES,
    parameters: &[],
    redirect_uri: None,
    registers_redirect: true,
    needs_secret: false,
    secret_for: &[Grant::ClientCredentials],
    assertion_for_endpoint: false,
    access_token: AccessTokenForm::Unknown,
    token: DecidingToken::AccessToken,
    notes: &[],
    register: "Register a public or native client, with the device flow if you want it.",
    documentation: &[],
};

/// Every preset, in the order of authctl-providers(7).
pub const PROVIDERS: &[Provider] =
    &[GOOGLE, GITHUB, GITLAB, MICROSOFT, FACEBOOK, APPLE, KEYCLOAK, AUTH0, OKTA, GENERIC];

const GOOGLE: Provider = Provider {
    name: "google",
    title: "Google",
    issuer: ProviderIssuer::Fixed("https://accounts.google.com"),
    client_auth: ClientAuth::ClientSecretPost,
    grants: &[Grant::Browser, Grant::Device],
    // Google refuses `offline_access`; the parameters request a refresh token. Desktop clients get one without them.
    scopes: &["openid", "profile", "email"],
    parameters: &[("access_type", "offline"), ("prompt", "consent")],
    registers_redirect: false,
    needs_secret: true,
    secret_for: &[],
    access_token: AccessTokenForm::Opaque,
    token: DecidingToken::IdToken,
    notes: &[
        "Access tokens are opaque; the ID token is verified instead.",
        "The device login needs a client of its own type and allows few scopes.",
        "In a project in testing, refresh tokens for scopes other than openid, email and profile expire after 7 days.",
    ],
    register: "Google Cloud console, Clients: an OAuth client of type Desktop app (for `--device`, of type TVs and Limited \
               Input devices); its secret is required, although Google does not treat it as one.",
    documentation: &[
        ("OpenID Connect reference", "https://developers.google.com/identity/openid-connect/reference"),
        ("desktop apps", "https://developers.google.com/identity/protocols/oauth2/native-app"),
        ("limited-input devices", "https://developers.google.com/identity/protocols/oauth2/limited-input-device"),
        ("refresh tokens", "https://developers.google.com/identity/protocols/oauth2"),
    ],
    ..GENERIC
};

const GITHUB: Provider = Provider {
    name: "github",
    title: "GitHub",
    issuer: ProviderIssuer::Fixed("https://github.com/login/oauth"),
    endpoints: ProviderEndpoints {
        authorization: Some("https://github.com/login/oauth/authorize"),
        token: Some("https://github.com/login/oauth/access_token"),
        device_authorization: Some("https://github.com/login/device/code"),
        ..NO_ENDPOINTS
    },
    with_secret: Some(ClientAuth::ClientSecretPost),
    grant: Grant::Device,
    grants: &[Grant::Device, Grant::Browser],
    scopes: &["read:user"],
    secret_for: &[Grant::Browser],
    access_token: AccessTokenForm::Opaque,
    notes: &[
        "Tokens are opaque and there is no ID token: nothing can be verified offline, and `exec` refuses.",
        "The token of an OAuth app does not expire and is not refreshed; that of a GitHub App expires after 8 hours and is \
         refreshed.",
        "There is no revocation endpoint: after `logout`, revoke the grant at https://github.com/settings/applications.",
    ],
    register: "Settings, Developer settings: a GitHub App or an OAuth app, with Enable Device Flow checked.",
    documentation: &[
        (
            "authorizing OAuth apps",
            "https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps",
        ),
        (
            "refreshing user access tokens",
            "https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/refreshing-user-access-tokens",
        ),
    ],
    ..GENERIC
};

const GITLAB: Provider = Provider {
    name: "gitlab",
    title: "GitLab",
    issuer: ProviderIssuer::Default("https://gitlab.com"),
    // The metadata lists the device grant but not its endpoint.
    endpoints: ProviderEndpoints { device_authorization: Some("/oauth/authorize_device"), ..NO_ENDPOINTS },
    grants: &[Grant::Browser, Grant::Device, Grant::Password],
    // Every login returns a refresh token. Scopes that the application does not have are refused.
    scopes: &["openid", "profile", "email"],
    secret_for: &[],
    access_token: AccessTokenForm::Opaque,
    token: DecidingToken::IdToken,
    notes: &[
        "Access tokens are opaque; the ID token is verified instead.",
        "The API needs another scope: `--scope 'openid read_api'`, or `api` for write access.",
        "The password login does not work for users with two-factor authentication.",
    ],
    register: "User settings, Applications: Confidential unchecked, with the scopes openid, profile, email and any others \
               that you request.",
    documentation: &[
        ("OAuth 2.0 identity provider API", "https://docs.gitlab.com/api/oauth2"),
        (
            "redirect comparison",
            "https://github.com/doorkeeper-gem/doorkeeper/blob/main/lib/doorkeeper/oauth/helpers/uri_checker.rb",
        ),
    ],
    ..GENERIC
};

const MICROSOFT: Provider = Provider {
    name: "microsoft",
    title: "Microsoft Entra ID",
    issuer: ProviderIssuer::Yours { example: "https://login.microsoftonline.com/TENANT_ID/v2.0" },
    scopes: &["openid", "profile", "email", "offline_access"],
    redirect_uri: Some("http://localhost/callback"),
    assertion_for_endpoint: true,
    access_token: AccessTokenForm::ForItsApi,
    token: DecidingToken::IdToken,
    notes: &[
        "Only its API can verify an access token, in particular one for Microsoft Graph; the ID token is verified instead.",
        "The issuer must contain the tenant ID: the metadata of `common`, of `organizations` and of a domain name does not \
         match it.",
        "There is no revocation endpoint: `logout` only deletes the tokens.",
        "For a client with a certificate, give `--client-key FILE`, a PEM file with the key and the certificate.",
    ],
    register: "Entra admin center, App registrations: platform Mobile and desktop applications, and Allow public client \
               flows for `--device` and `--password`; the tenant ID of personal accounts is \
               9188040d-6c67-4c5b-b112-36a304b66dad.",
    documentation: &[
        ("redirect URIs", "https://learn.microsoft.com/en-us/entra/identity-platform/reply-url"),
        ("access tokens", "https://learn.microsoft.com/en-us/entra/identity-platform/access-tokens"),
        ("device code", "https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-device-code"),
        (
            "certificate credentials",
            "https://learn.microsoft.com/en-us/entra/identity-platform/certificate-credentials",
        ),
    ],
    ..GENERIC
};

const FACEBOOK: Provider = Provider {
    name: "facebook",
    title: "Facebook",
    issuer: ProviderIssuer::Fixed("https://www.facebook.com"),
    // Its metadata has no token endpoint. URLs without a version use the version that the app is set to.
    endpoints: ProviderEndpoints {
        authorization: Some("https://www.facebook.com/dialog/oauth"),
        token: Some("https://graph.facebook.com/oauth/access_token"),
        jwks: Some("https://www.facebook.com/.well-known/oauth/openid/jwks/"),
        ..NO_ENDPOINTS
    },
    client_auth: ClientAuth::ClientSecretPost,
    grants: &[Grant::Browser],
    scopes: &["openid", "public_profile", "email"],
    redirect_uri: Some("http://localhost:18252/callback"),
    needs_secret: true,
    secret_for: &[],
    access_token: AccessTokenForm::Opaque,
    token: DecidingToken::IdToken,
    notes: &[
        "Access tokens are opaque and there are no refresh tokens: the ID token is verified instead, and a session lasts \
         only as long as its token.",
        "A redirect to this machine is accepted only while the app is in development mode, so only its developers and \
         testers can log in.",
        "The device login does not follow RFC 8628, there is no revocation endpoint, and Facebook calls its OpenID Connect \
         support a test.",
    ],
    register: "App Dashboard: an app with Facebook Login, in development mode; the secret is the app secret.",
    documentation: &[
        (
            "OIDC code flow with PKCE",
            "https://developers.facebook.com/documentation/facebook-login/guides/advanced/oidc-token",
        ),
        ("manual flow", "https://developers.facebook.com/documentation/facebook-login/guides/advanced/manual-flow"),
        (
            "long-lived tokens",
            "https://developers.facebook.com/documentation/facebook-login/guides/access-tokens/get-long-lived",
        ),
        ("redirects", "https://developers.facebook.com/blog/post/2018/06/08/enforce-https-facebook-login/"),
    ],
    ..GENERIC
};

const APPLE: Provider = Provider {
    name: "apple",
    title: "Apple",
    unsupported: Some(
        "Apple redirects only to https URLs with a domain name, never to this machine: log in through an identity broker \
         such as Keycloak, Auth0 or Okta, or supply a token with `--with-token`.",
    ),
    issuer: ProviderIssuer::Fixed("https://appleid.apple.com"),
    client_auth: ClientAuth::ClientSecretPost,
    grants: &[],
    scopes: &["openid", "email", "name"],
    needs_secret: true,
    secret_for: &[],
    access_token: AccessTokenForm::Opaque,
    token: DecidingToken::IdToken,
    register: "Not for a command line.",
    documentation: &[(
        "request an authorization",
        "https://developer.apple.com/documentation/signinwithapplerestapi/request-an-authorization-to-the-sign-in-with-apple-server.",
    )],
    ..GENERIC
};

const KEYCLOAK: Provider = Provider {
    name: "keycloak",
    title: "Keycloak",
    issuer: ProviderIssuer::Yours { example: "https://keycloak.example/realms/REALM" },
    scopes: &["openid", "profile", "email", "offline_access"],
    access_token: AccessTokenForm::Jwt,
    token: DecidingToken::IdToken,
    notes: &[
        "Access tokens do not name the client in `aud`: without `--audience` the ID token is verified instead; with it, \
         an audience mapper must add the API.",
    ],
    register: "Clients, OpenID Connect: Client authentication off, Standard flow and, for `--device`, OAuth 2.0 Device \
               Authorization Grant on.",
    documentation: &[
        ("endpoints", "https://www.keycloak.org/securing-apps/oidc-layers"),
        ("protocol mappers", "https://www.keycloak.org/nightly/admin-api/protocol-mappers"),
        (
            "redirect comparison",
            "https://github.com/keycloak/keycloak/blob/main/services/src/main/java/org/keycloak/protocol/oidc/utils/RedirectUtils.java",
        ),
    ],
    ..GENERIC
};

const AUTH0: Provider = Provider {
    name: "auth0",
    title: "Auth0",
    // With the slash, as in `iss`.
    issuer: ProviderIssuer::Yours { example: "https://TENANT.auth0.com/" },
    scopes: &["openid", "profile", "email", "offline_access"],
    redirect_uri: Some(FIXED_PORT),
    access_token: AccessTokenForm::JwtForAudience,
    token: DecidingToken::IdToken,
    notes: &[
        "Access tokens are opaque without `--audience`; the ID token is verified instead.",
        "With `--audience`, a refresh token is issued only if the API allows offline access.",
        "The port of the redirect URI is compared too, so only one browser login can run at a time.",
    ],
    register: "Applications: type Native, grant types Authorization Code, Refresh Token and, for `--device`, Device Code.",
    documentation: &[
        ("access token formats", "https://auth0.com/docs/tokens/access-token-formats"),
        ("device flow", "https://auth0.com/docs/quickstart/native/device/interactive"),
        ("revocation", "https://auth0.com/docs/secure/tokens/refresh-tokens/revoke-refresh-tokens"),
        ("redirect comparison", "https://github.com/openid/AppAuth-iOS/issues/357"),
        (
            "private key JWT",
            "https://auth0.com/docs/get-started/authentication-and-authorization-flow/authenticate-with-private-key-jwt",
        ),
    ],
    ..GENERIC
};

const OKTA: Provider = Provider {
    name: "okta",
    title: "Okta",
    issuer: ProviderIssuer::Yours { example: "https://DOMAIN.okta.com/oauth2/default" },
    scopes: &["openid", "profile", "email", "offline_access"],
    redirect_uri: Some(FIXED_PORT),
    assertion_for_endpoint: true,
    access_token: AccessTokenForm::Jwt,
    token: DecidingToken::IdToken,
    notes: &[
        "Access tokens do not name the client in `aud`: without `--audience` (for `/oauth2/default`, usually \
         api://default) the ID token is verified instead.",
        "Only Okta can verify access tokens of the org authorization server (an issuer without `/oauth2/`).",
        "The port of the redirect URI is compared too, so only one browser login can run at a time.",
    ],
    register: "Applications, OIDC: Native Application, grant types Authorization Code, Refresh Token and, for `--device`, \
               Device Authorization.",
    documentation: &[
        ("authorization servers", "https://developer.okta.com/docs/concepts/auth-servers/"),
        ("redirects", "https://developer.okta.com/docs/reference/api/oidc/"),
        ("org server's tokens", "https://support.okta.com/help/s/article/Signature-Validation-Failed-on-Access-Token"),
        ("device flow", "https://developer.okta.com/docs/guides/device-authorization-grant/main"),
        ("client assertions", "https://developer.okta.com/docs/guides/build-self-signed-jwt/main"),
    ],
    ..GENERIC
};
