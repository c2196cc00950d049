//! Provider presets: what a client has to know about well-known issuers beyond their metadata.

mod table;

use url::Url;

use super::{ClientAuth, DecidingToken, Grant, InsecureUrl, IssuerUrl, secure_url};
pub use table::PROVIDERS;

/// A preset for a login at a provider. The user's options override it.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// The word for `--provider`.
    pub name: &'static str,
    /// The provider's own name, for people.
    pub title: &'static str,
    /// Why a command line cannot log in there and what to do instead, in one sentence; `None` where it can.
    pub unsupported: Option<&'static str>,
    /// The issuer.
    pub issuer: ProviderIssuer,
    /// The endpoints that the provider's metadata lacks.
    pub endpoints: ProviderEndpoints,
    /// How the client proves itself in the usual login: [`ClientAuth::None`] for a public client.
    pub client_auth: ClientAuth,
    /// How it proves itself where `client_auth` is [`ClientAuth::None`] and there is a secret all the same; `None` where
    /// the issuer's metadata has it.
    pub with_secret: Option<ClientAuth>,
    /// The usual login.
    pub grant: Grant,
    /// Every login that the provider has for a command line, the usual one among them.
    pub grants: &'static [Grant],
    /// The scopes of a usual login, with what a refresh token takes.
    pub scopes: &'static [&'static str],
    /// Parameters added to the authorization request, as name and value. An option that sends the same name replaces the
    /// value.
    pub parameters: &'static [(&'static str, &'static str)],
    /// The redirect that is registered and sent, where [`Provider::LOOPBACK`] would be refused. One with a port is sent
    /// as it is; one without gets whatever port is free (RFC 8252, section 7.3).
    pub redirect_uri: Option<&'static str>,
    /// Whether the redirect has to be registered at all.
    pub registers_redirect: bool,
    /// Whether the usual login needs a client secret.
    pub needs_secret: bool,
    /// Logins that need a client secret, or another proof of the client, where the usual one does not.
    pub secret_for: &'static [Grant],
    /// Whether a client assertion is for the token endpoint's address rather than for the issuer (RFC 7523, section 3).
    pub assertion_for_endpoint: bool,
    /// The form of its access tokens for anyone but the API.
    pub access_token: AccessTokenForm,
    /// Which token decides where no audience is asked for; see [`Provider::deciding_token`].
    pub token: DecidingToken,
    /// Its limitations, one sentence each, shown at login and in authctl-providers(7).
    pub notes: &'static [&'static str],
    /// How to register a client there.
    pub register: &'static str,
    /// The public pages that this preset was checked against, as title and address.
    pub documentation: &'static [(&'static str, &'static str)],
}

/// Where a preset's issuer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderIssuer {
    /// There is only this one.
    Fixed(&'static str),
    /// This one, unless the user names another.
    Default(&'static str),
    /// The user has to name it.
    Yours {
        /// What one looks like.
        example: &'static str,
    },
}

/// Endpoints that a preset knows. Each is an address, or a path to append to the issuer. Where `token` is among them the
/// provider is not asked for metadata; where it is not, the rest fill what its metadata leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProviderEndpoints {
    /// Where a browser signs in.
    pub authorization: Option<&'static str>,
    /// Where grants become tokens.
    pub token: Option<&'static str>,
    /// Where a device login starts (RFC 8628, section 3.1).
    pub device_authorization: Option<&'static str>,
    /// Where tokens are revoked (RFC 7009).
    pub revocation: Option<&'static str>,
    /// Where claims about the user are had.
    pub userinfo: Option<&'static str>,
    /// Where the signing keys are.
    pub jwks: Option<&'static str>,
}

/// The form of an access token for anyone but the API that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTokenForm {
    /// Opaque text.
    Opaque,
    /// A JWT that can be verified, for an audience that is not the client.
    Jwt,
    /// A JWT where an audience is asked for, else opaque.
    JwtForAudience,
    /// Perhaps a JWT, and only its API can say whether it is valid.
    ForItsApi,
    /// What the issuer makes of it.
    Unknown,
}

impl AccessTokenForm {
    /// The form in words, for a table.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Jwt => "JWT",
            Self::JwtForAudience => "JWT with `--audience`, else opaque",
            Self::ForItsApi => "only its API can verify it",
            Self::Unknown => "what the issuer makes of it",
        }
    }
}

impl Provider {
    /// The redirect to register where a preset names no other. The port that is added to it is a free one.
    pub const LOOPBACK: &'static str = "http://127.0.0.1/callback";

    /// The redirect to register.
    #[must_use]
    pub fn redirect(&self) -> &'static str {
        self.redirect_uri.unwrap_or(Self::LOOPBACK)
    }

    /// Whether the provider is asked for its metadata.
    #[must_use]
    pub fn has_discovery(&self) -> bool {
        self.endpoints.token.is_none()
    }

    /// Whether this login needs a client secret, or another proof of the client.
    #[must_use]
    pub fn needs_secret_for(&self, grant: Grant) -> bool {
        self.needs_secret || self.secret_for.contains(&grant)
    }

    /// Which token decides offline. An access token does only where it is a JWT for an audience that was asked for:
    /// without one it is for another API, or opaque.
    #[must_use]
    pub fn deciding_token(&self, audience_asked_for: bool) -> DecidingToken {
        match self.access_token {
            AccessTokenForm::Jwt | AccessTokenForm::JwtForAudience if audience_asked_for => DecidingToken::AccessToken,
            _ => self.token,
        }
    }
}

impl ProviderEndpoints {
    /// The address of one of these endpoints at `issuer`.
    ///
    /// # Errors
    /// [`InsecureUrl`] where the result is neither https nor on loopback.
    pub fn address(endpoint: &str, issuer: &IssuerUrl) -> Result<Url, InsecureUrl> {
        if endpoint.starts_with('/') {
            secure_url(&format!("{}{endpoint}", issuer.as_str().trim_end_matches('/')))
        } else {
            secure_url(endpoint)
        }
    }

    /// Those that are known.
    pub fn known(&self) -> impl Iterator<Item = &'static str> {
        let all =
            [self.authorization, self.token, self.device_authorization, self.revocation, self.userinfo, self.jwks];
        all.into_iter().flatten()
    }
}

/// The preset of this name.
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
    fn each_is_found_by_its_name_and_nothing_else_is() {
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
    fn every_address_is_one_that_secrets_may_go_to() {
        for provider in PROVIDERS {
            let issuer = example(provider);
            for endpoint in provider.endpoints.known() {
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
    fn issuers_are_as_the_providers_spell_them() {
        // Compared as text with the discovery document and with `iss`: a slash too many, and no login works.
        let issuer = |name| example(provider(name).expect(name)).to_string();
        assert_eq!(issuer("google"), "https://accounts.google.com");
        assert_eq!(issuer("gitlab"), "https://gitlab.com");
        assert!(issuer("auth0").ends_with(".auth0.com/"));
        assert!(issuer("okta").ends_with("/oauth2/default"));
        assert!(issuer("keycloak").contains("/realms/") && !issuer("keycloak").ends_with('/'));
        let microsoft = issuer("microsoft");
        assert!(microsoft.ends_with("/v2.0"), "{microsoft}");
        // The documents of these name the issuer `.../{tenantid}/v2.0`, which is no issuer.
        for tenant in ["common", "organizations", "consumers"] {
            assert!(!microsoft.contains(&format!("/{tenant}/")), "{microsoft}");
        }
    }

    #[test]
    fn without_discovery_a_login_still_finds_its_way() {
        for provider in usable().filter(|provider| !provider.has_discovery()) {
            let needs = |grant, endpoint: Option<_>| {
                assert!(!provider.grants.contains(&grant) || endpoint.is_some(), "{} {grant}", provider.name);
            };
            needs(Grant::Browser, provider.endpoints.authorization);
            needs(Grant::Device, provider.endpoints.device_authorization);
            assert!(matches!(provider.issuer, ProviderIssuer::Fixed(_)), "{}", provider.name);
        }
    }

    #[test]
    fn a_path_is_appended_to_whatever_issuer_was_named() {
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
    fn the_usual_login_is_among_those_that_work() {
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
    fn scopes_and_parameters_are_words() {
        let word =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        for provider in PROVIDERS {
            let mut seen = HashSet::new();
            assert!(provider.scopes.iter().all(|scope| word(scope) && seen.insert(scope)), "{}", provider.name);
            for (name, value) in provider.parameters {
                assert!(word(name) && word(value), "{name}={value}");
                // What makes a sign-in this one is not a preset's to say.
                for own in ["state", "nonce", "client_id", "redirect_uri", "response_type", "code_challenge", "scope"] {
                    assert_ne!(*name, own);
                }
            }
            assert!(provider.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{}", provider.name);
        }
    }

    #[test]
    fn where_the_id_token_decides_one_is_asked_for() {
        for provider in usable().filter(|provider| provider.token == DecidingToken::IdToken) {
            assert!(provider.scopes.contains(&"openid"), "{}", provider.name);
        }
    }

    #[test]
    fn access_token_for_its_api_alone_does_not_decide() {
        use AccessTokenForm::{ForItsApi, Jwt, JwtForAudience, Opaque};
        for provider in usable() {
            let told = |word: &str| provider.notes.iter().any(|note| note.to_lowercase().contains(word));
            let without = provider.deciding_token(false);
            match provider.access_token {
                // Where there is no ID token either, nothing can be decided, and that is said.
                Opaque => assert!(told("opaque") && (without == DecidingToken::IdToken || told("no id token"))),
                ForItsApi => assert!(told("access token") && without == DecidingToken::IdToken),
                Jwt | JwtForAudience => {
                    assert!(told("audience") && without == DecidingToken::IdToken, "{}", provider.name);
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
    fn notes_are_short_sentences_and_the_unusable_say_what_to_do() {
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
