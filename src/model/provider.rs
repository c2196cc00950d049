//! Provider presets: what a client needs to know about well-known issuers beyond their metadata.

mod table;

use url::Url;

use super::{ClientAuth, DecidingToken, Grant, InsecureUrl, IssuerUrl, secure_url};
pub use table::PROVIDERS;

/// A preset for a login at a provider. The user's options override it.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// The value of `--provider`.
    pub name: &'static str,
    /// The provider's name as it is displayed.
    pub title: &'static str,
    /// Why a command-line client cannot log in there and what to do instead, in one sentence; `None` if it can.
    pub unsupported: Option<&'static str>,
    /// The issuer.
    pub issuer: ProviderIssuer,
    /// The endpoints that are missing from the provider's metadata.
    pub endpoints: ProviderEndpoints,
    /// How the client authenticates in the usual login: [`ClientAuth::None`] for a public client.
    pub client_auth: ClientAuth,
    /// How the client authenticates if `client_auth` is [`ClientAuth::None`] and the user gives a secret; `None` if the
    /// issuer's metadata decides.
    pub with_secret: Option<ClientAuth>,
    /// The grant of the usual login.
    pub grant: Grant,
    /// Every grant that the provider supports for a command-line client, the usual one included.
    pub grants: &'static [Grant],
    /// The scopes of the usual login, including what is needed for a refresh token.
    pub scopes: &'static [&'static str],
    /// Parameters added to the authorization request, as name and value. An option that sends the same name replaces the
    /// value.
    pub parameters: &'static [(&'static str, &'static str)],
    /// The redirect URI to register and send, if the provider refuses [`Provider::LOOPBACK`]. Without a port, a free one
    /// is added for each login (RFC 8252, section 7.3).
    pub redirect_uri: Option<&'static str>,
    /// Whether the redirect URI must be registered at all.
    pub registers_redirect: bool,
    /// Whether the usual login needs a client secret.
    pub needs_secret: bool,
    /// Other grants that need a client secret or client assertion.
    pub secret_for: &'static [Grant],
    /// Whether the audience of a client assertion is the token endpoint's URL, not the issuer (RFC 7523, section 3).
    pub assertion_for_endpoint: bool,
    /// The format of its access tokens, as far as a client can read them.
    pub access_token: AccessTokenForm,
    /// The token to verify if no audience is requested; see [`Provider::deciding_token`].
    pub token: DecidingToken,
    /// Its limitations, one sentence each, shown at login and in authctl-providers(7).
    pub notes: &'static [&'static str],
    /// How to register a client there.
    pub register: &'static str,
    /// The public pages that this preset was checked against, as title and URL.
    pub documentation: &'static [(&'static str, &'static str)],
}

/// The issuer of a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderIssuer {
    /// Always this one.
    Fixed(&'static str),
    /// This one, unless the user gives another.
    Default(&'static str),
    /// The user must give it.
    Yours {
        /// An example.
        example: &'static str,
    },
}

/// The endpoints of a preset, each a URL or a path to append to the issuer. With `token`, the provider's metadata is not
/// requested; without it, the others complete the metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderEndpoints {
    /// The authorization endpoint.
    pub authorization: Option<&'static str>,
    /// The token endpoint.
    pub token: Option<&'static str>,
    /// The device authorization endpoint (RFC 8628, section 3.1).
    pub device_authorization: Option<&'static str>,
    /// The revocation endpoint (RFC 7009).
    pub revocation: Option<&'static str>,
    /// The userinfo endpoint.
    pub userinfo: Option<&'static str>,
    /// The URL of the signing keys.
    pub jwks: Option<&'static str>,
}

/// The format of an access token, as far as a client can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTokenForm {
    /// Opaque text.
    Opaque,
    /// A JWT that can be verified, for an audience other than the client.
    Jwt,
    /// A JWT if an audience is requested, else opaque.
    JwtForAudience,
    /// Possibly a JWT, but only its API can verify it.
    ForItsApi,
    /// Depends on the issuer.
    Unknown,
}

impl AccessTokenForm {
    /// Returns a description for a table.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Jwt => "JWT",
            Self::JwtForAudience => "JWT with `--audience`, else opaque",
            Self::ForItsApi => "only its API can verify it",
            Self::Unknown => "depends on the issuer",
        }
    }
}

/// The scopes of a new profile without `--scope`: the user's ID, a name to show, and a refresh token.
pub const DEFAULT_SCOPES: [&str; 3] = ["openid", "profile", "offline_access"];

impl Provider {
    /// The redirect URI to register if a preset names no other. A free port is added to it.
    pub const LOOPBACK: &'static str = "http://127.0.0.1/callback";

    /// Returns the redirect URI to register.
    #[must_use]
    pub fn redirect(&self) -> &'static str {
        self.redirect_uri.unwrap_or(Self::LOOPBACK)
    }

    /// Returns whether this grant needs a client secret or client assertion.
    #[must_use]
    pub fn needs_secret_for(&self, grant: Grant) -> bool {
        self.needs_secret || self.secret_for.contains(&grant)
    }

    /// Returns which token is verified offline. An access token only if it is a JWT for a requested audience: without
    /// one it is opaque or for another API.
    #[must_use]
    pub fn deciding_token(&self, audience_requested: bool) -> DecidingToken {
        match self.access_token {
            AccessTokenForm::Jwt | AccessTokenForm::JwtForAudience if audience_requested => DecidingToken::AccessToken,
            _ => self.token,
        }
    }
}

impl ProviderEndpoints {
    /// Returns the URL of one of these endpoints at `issuer`.
    ///
    /// # Errors
    /// [`InsecureUrl`] if the URL is neither https nor on loopback.
    pub fn address(endpoint: &str, issuer: &IssuerUrl) -> Result<Url, InsecureUrl> {
        if endpoint.starts_with('/') {
            secure_url(&format!("{}{endpoint}", issuer.as_str().trim_end_matches('/')))
        } else {
            secure_url(endpoint)
        }
    }
}

/// Returns the preset with this name.
#[must_use]
pub fn provider(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|provider| provider.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::is_loopback;

    fn example(provider: &Provider) -> IssuerUrl {
        let text = match provider.issuer {
            ProviderIssuer::Fixed(text) | ProviderIssuer::Default(text) => text,
            ProviderIssuer::Yours { example } => example,
        };
        text.parse().unwrap_or_else(|error| panic!("{}: {error}", provider.name))
    }

    fn usable() -> impl Iterator<Item = &'static Provider> {
        PROVIDERS.iter().filter(|provider| provider.unsupported.is_none())
    }

    #[test]
    fn presets_are_found_by_their_exact_name() {
        let names: Vec<&str> = PROVIDERS.iter().map(|provider| provider.name).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{names:?}");
        for name in
            ["google", "github", "gitlab", "microsoft", "facebook", "apple", "keycloak", "auth0", "okta", "generic"]
        {
            assert_eq!(provider(name).map(|found| found.name), Some(name));
        }
        for name in ["", "Google", "goog", "google ", "azure"] {
            assert!(provider(name).is_none(), "{name}");
        }
    }

    #[test]
    fn every_endpoint_of_a_preset_uses_https() {
        for provider in PROVIDERS {
            let issuer = example(provider);
            let ProviderEndpoints { authorization, token, device_authorization, revocation, userinfo, jwks } =
                provider.endpoints;
            let endpoints = [authorization, token, device_authorization, revocation, userinfo, jwks];
            for endpoint in endpoints.into_iter().flatten() {
                let url = ProviderEndpoints::address(endpoint, &issuer).expect(endpoint);
                assert_eq!(url.scheme(), "https", "{url}");
            }
            for (title, page) in provider.documentation {
                assert_eq!(secure_url(page).expect(page).scheme(), "https");
                assert!(!title.is_empty());
            }
            let redirect = secure_url(provider.redirect()).expect("a redirect");
            assert!(is_loopback(&redirect) && redirect.path() == "/callback", "{redirect}");
        }
    }

    #[test]
    fn issuers_are_spelled_as_in_the_metadata() {
        // Compared as text with the metadata and with `iss`: one extra slash, and no login works.
        let issuer = |name| example(provider(name).expect(name)).to_string();
        assert_eq!(issuer("google"), "https://accounts.google.com");
        assert_eq!(issuer("gitlab"), "https://gitlab.com");
        assert!(issuer("auth0").ends_with(".auth0.com/"));
        assert!(issuer("okta").ends_with("/oauth2/default"));
        assert!(issuer("keycloak").contains("/realms/") && !issuer("keycloak").ends_with('/'));
        let microsoft = issuer("microsoft");
        assert!(microsoft.ends_with("/v2.0"), "{microsoft}");
        // The metadata of these names the issuer `.../{tenantid}/v2.0`, a template that no token matches.
        for tenant in ["common", "organizations", "consumers"] {
            assert!(!microsoft.contains(&format!("/{tenant}/")), "{microsoft}");
        }
    }

    #[test]
    fn preset_without_metadata_has_the_endpoints_of_its_grants() {
        for provider in usable().filter(|provider| provider.endpoints.token.is_some()) {
            let needs = |grant, endpoint: Option<_>| {
                assert!(!provider.grants.contains(&grant) || endpoint.is_some(), "{} {grant}", provider.name);
            };
            needs(Grant::Browser, provider.endpoints.authorization);
            needs(Grant::Device, provider.endpoints.device_authorization);
            assert!(matches!(provider.issuer, ProviderIssuer::Fixed(_)), "{}", provider.name);
        }
    }

    #[test]
    fn endpoint_path_is_appended_to_the_issuer() {
        let address = |endpoint, issuer: &str| {
            ProviderEndpoints::address(endpoint, &issuer.parse().expect("valid")).map(|url| url.to_string())
        };
        let device = provider("gitlab").and_then(|gitlab| gitlab.endpoints.device_authorization).expect("a path");
        for (issuer, expected) in [
            ("https://gitlab.com", "https://gitlab.com/oauth/authorize_device"),
            ("https://git.example/", "https://git.example/oauth/authorize_device"),
            ("https://a.example/gitlab", "https://a.example/gitlab/oauth/authorize_device"),
        ] {
            assert_eq!(address(device, issuer), Ok(expected.into()));
        }
        assert_eq!(address("https://b.example/x", "https://a.example"), Ok("https://b.example/x".into()));
        assert!(address("http://b.example/x", "https://a.example").is_err());
    }

    #[test]
    fn usual_grant_of_a_preset_is_supported() {
        for provider in usable() {
            assert!(provider.grants.contains(&provider.grant), "{}", provider.name);
            assert!(provider.secret_for.iter().all(|grant| provider.grants.contains(grant)), "{}", provider.name);
            assert_eq!(provider.needs_secret, provider.client_auth != ClientAuth::None, "{}", provider.name);
        }
        let github = provider("github").expect("there");
        assert!(!github.needs_secret_for(Grant::Device) && github.needs_secret_for(Grant::Browser));
        assert!(provider("google").expect("there").needs_secret_for(Grant::Device));
        assert!(!provider("microsoft").expect("there").needs_secret_for(Grant::Browser));
    }

    #[test]
    fn scopes_and_parameters_need_no_escaping() {
        let word =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        for provider in PROVIDERS {
            let mut seen = HashSet::new();
            assert!(provider.scopes.iter().all(|scope| word(scope) && seen.insert(scope)), "{}", provider.name);
            for (name, value) in provider.parameters {
                assert!(word(name) && word(value), "{name}={value}");
                // The client sets these itself.
                for own in ["state", "nonce", "client_id", "redirect_uri", "response_type", "code_challenge", "scope"] {
                    assert_ne!(*name, own);
                }
            }
            assert!(provider.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{}", provider.name);
        }
    }

    #[test]
    fn preset_that_verifies_the_id_token_requests_openid() {
        for provider in usable().filter(|provider| provider.token == DecidingToken::IdToken) {
            assert!(provider.scopes.contains(&"openid"), "{}", provider.name);
        }
    }

    #[test]
    fn access_token_that_only_its_api_can_verify_does_not_decide() {
        use AccessTokenForm::{ForItsApi, Jwt, JwtForAudience, Opaque};
        for provider in usable() {
            let notes_mention = |word: &str| provider.notes.iter().any(|note| note.to_lowercase().contains(word));
            let without = provider.deciding_token(false);
            match provider.access_token {
                // Without an ID token nothing can be verified, and a note must state it.
                Opaque => assert!(
                    notes_mention("opaque") && (without == DecidingToken::IdToken || notes_mention("no id token"))
                ),
                ForItsApi => assert!(notes_mention("access token") && without == DecidingToken::IdToken),
                Jwt | JwtForAudience => {
                    assert!(notes_mention("audience") && without == DecidingToken::IdToken, "{}", provider.name);
                    assert_eq!(provider.deciding_token(true), DecidingToken::AccessToken, "{}", provider.name);
                }
                AccessTokenForm::Unknown => {}
            }
            if matches!(provider.access_token, Opaque | ForItsApi) {
                assert_eq!(provider.deciding_token(true), without, "{}: an audience changes nothing", provider.name);
            }
        }
    }

    #[test]
    fn notes_are_short_sentences() {
        for provider in PROVIDERS {
            let sentences = provider.notes.iter().chain(&provider.unsupported);
            for sentence in sentences.chain([&provider.register]) {
                assert!(sentence.ends_with('.') && sentence.len() <= 240, "{sentence}");
                assert!(!sentence.contains(['|', '\n', '\t']), "breaks a table: {sentence}");
            }
            assert!(!provider.documentation.is_empty() || provider.name == "generic", "{}", provider.name);
        }
        let apple = provider("apple").and_then(|apple| apple.unsupported).expect("a web service only");
        assert!(apple.contains("--with-token"), "{apple}");
    }
}
