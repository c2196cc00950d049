//! The configuration file: named profiles and which of them is the default. It never holds a secret.

mod directory;
mod edit;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml_edit::{DocumentMut, Item, TableLike};

pub use directory::directory_profile;
pub use edit::{probe, remove, rename, save, set_default};

use crate::model::{
    ClientAuth, DecidingToken, Grant, InsecureUrl, InvalidProfileName, InvalidSetting, IssuerUrl, Profile, ProfileName,
    Requirements, Server, StoreKind, duration,
};

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read or written.
    #[error("cannot use the configuration {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, or a value has the wrong type.
    #[error("the configuration {} is not valid: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where, and what was expected.
        message: String,
    },
    /// A key that nobody knows.
    #[error("the configuration {} has an unknown key `{key}`{}", path.display(), nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key, with its table.
        key: String,
        /// The known one most like it.
        nearest: Option<String>,
    },
    /// A directory's `.authctl.toml` says something else than a profile's name, or cannot be read.
    #[error("cannot use {}: {what}", path.display())]
    Directory {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
    /// A profile's name is not one.
    #[error(transparent)]
    Name(#[from] InvalidProfileName),
    /// A profile's issuer is not https.
    #[error("profile `{profile}`: {source}")]
    Issuer {
        /// Whose.
        profile: ProfileName,
        /// Why.
        source: InsecureUrl,
    },
    /// A setting of a profile's server cannot be that.
    #[error("profile `{profile}`: {key}: {source}")]
    Setting {
        /// Whose.
        profile: ProfileName,
        /// Which.
        key: String,
        /// Why.
        source: InvalidSetting,
    },
    /// No profile of that name.
    #[error("there is no profile `{name}`{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownProfile {
        /// The name asked for.
        name: ProfileName,
        /// The known one most like it.
        nearest: Option<ProfileName>,
    },
    /// None named, no default, and more than one there.
    #[error("there are {} profiles and none was named: {}", names.len(), joined(names))]
    Ambiguous {
        /// All of them.
        names: Vec<ProfileName>,
    },
    /// No profile at all.
    #[error("there is no profile yet")]
    Empty,
    /// A profile of that name is there already.
    #[error("there is a profile `{0}` already")]
    Exists(ProfileName),
}

fn joined(names: &[ProfileName]) -> String {
    names.iter().map(ProfileName::as_str).collect::<Vec<_>>().join(", ")
}

/// The profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The one meant where none is named.
    pub default_profile: Option<ProfileName>,
    /// All of them, by name.
    pub profiles: BTreeMap<ProfileName, Profile>,
}

/// The keys of the file itself and of a profile in it.
const TOP_KEYS: [&str; 2] = ["default_profile", "profiles"];
const PROFILE_KEYS: [&str; 19] = [
    "issuer",
    "client_id",
    "client_auth",
    "grant",
    "scopes",
    "audience",
    "resources",
    "store",
    "ca_cert",
    "verify_token",
    "optional_claims",
    "max_offline",
    "keys_max_age",
    "max_auth_age",
    "required_scopes",
    "required_roles",
    "required_claims",
    "required_acr",
    "required_amr",
];

/// A configuration larger than this was not written for authctl.
const MAX_BYTES: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct File {
    default_profile: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    issuer: String,
    client_id: String,
    #[serde(default)]
    client_auth: ClientAuth,
    #[serde(default)]
    grant: Grant,
    #[serde(default)]
    scopes: Vec<String>,
    audience: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    store: StoreKind,
    ca_cert: Option<PathBuf>,
    #[serde(default)]
    verify_token: DecidingToken,
    #[serde(default, deserialize_with = "optional")]
    optional_claims: Vec<String>,
    #[serde(default, deserialize_with = "written")]
    max_offline: Option<Duration>,
    #[serde(default, deserialize_with = "written")]
    keys_max_age: Option<Duration>,
    #[serde(default, deserialize_with = "written")]
    max_auth_age: Option<Duration>,
    #[serde(default)]
    required_scopes: Vec<String>,
    #[serde(default)]
    required_roles: Vec<String>,
    #[serde(default, deserialize_with = "claims")]
    required_claims: Vec<String>,
    #[serde(default)]
    required_acr: Vec<String>,
    #[serde(default)]
    required_amr: Vec<String>,
    /// The settings of the server, each a text.
    #[serde(flatten)]
    server: BTreeMap<String, String>,
}

/// A duration as it is written on the command line.
fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

fn claims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let claims = Vec::<String>::deserialize(deserializer)?;
    match claims.iter().find(|claim| claim.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
        Some(wrong) => Err(D::Error::custom(format!("`{wrong}` is no claim; write it as NAME=VALUE"))),
        None => Ok(claims),
    }
}

fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let claims = Vec::<String>::deserialize(deserializer)?;
    match claims.iter().find(|claim| !Requirements::OPTIONAL.contains(&claim.as_str())) {
        Some(wrong) => Err(D::Error::custom(format!("`{wrong}` cannot be optional; `iss` and `aud` can"))),
        None => Ok(claims),
    }
}

impl Config {
    /// Reads the configuration; a file that is not there is an empty one.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, path)
    }

    /// Parses the configuration's text; `path` is for the messages.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| syntax(path, &e.to_string()))?;
        refuse_unknown_keys(&document, path)?;
        let file: File = toml_edit::de::from_document(document).map_err(|e| syntax(path, &e.to_string()))?;
        let mut config = Self {
            default_profile: file.default_profile.map(|name| name.parse()).transpose()?,
            profiles: BTreeMap::new(),
        };
        let plain = Arc::new(Server::default());
        for (name, entry) in file.profiles {
            let name: ProfileName = name.parse()?;
            let issuer = IssuerUrl::parse(&entry.issuer)
                .map_err(|source| ConfigError::Issuer { profile: name.clone(), source })?;
            let mut server = Arc::clone(&plain);
            for (key, text) in &entry.server {
                Arc::make_mut(&mut server).set(key, text).map_err(|source| ConfigError::Setting {
                    profile: name.clone(),
                    key: key.clone(),
                    source,
                })?;
            }
            let profile = Profile {
                name: name.clone(),
                issuer,
                client_id: entry.client_id,
                client_auth: entry.client_auth,
                grant: entry.grant,
                scopes: entry.scopes,
                audience: entry.audience,
                resources: entry.resources,
                store: entry.store,
                ca_cert: entry.ca_cert,
                server,
                requirements: Requirements {
                    token: entry.verify_token,
                    optional_claims: entry.optional_claims,
                    max_offline: entry.max_offline,
                    keys_max_age: entry.keys_max_age,
                    max_auth_age: entry.max_auth_age,
                    scopes: entry.required_scopes,
                    roles: entry.required_roles,
                    claims: entry.required_claims,
                    acr: entry.required_acr,
                    amr: entry.required_amr,
                },
            };
            config.profiles.insert(name, profile);
        }
        Ok(config)
    }

    /// The profile of that name.
    ///
    /// # Errors
    /// [`ConfigError::UnknownProfile`], with the nearest name.
    pub fn profile(&self, name: &ProfileName) -> Result<&Profile, ConfigError> {
        self.profiles.get(name).ok_or_else(|| ConfigError::UnknownProfile {
            name: name.clone(),
            nearest: nearest(name.as_str(), self.profiles.keys().map(ProfileName::as_str)).and_then(|n| n.parse().ok()),
        })
    }

    /// The profile meant: the one named, else the default, else the only one.
    ///
    /// # Errors
    /// [`ConfigError::UnknownProfile`], [`ConfigError::Ambiguous`] or [`ConfigError::Empty`].
    pub fn choose(&self, named: Option<&ProfileName>) -> Result<&Profile, ConfigError> {
        if let Some(name) = named.or(self.default_profile.as_ref()) {
            return self.profile(name);
        }
        let mut all = self.profiles.values();
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(ConfigError::Empty),
            (Some(_), Some(_)) => Err(ConfigError::Ambiguous { names: self.profiles.keys().cloned().collect() }),
        }
    }
}

/// The file's text; empty where there is none.
fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Io { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(about) if about.len() > MAX_BYTES => Err(failed(io::Error::other("it is larger than 1 MiB"))),
        Ok(_) => std::fs::read_to_string(path).map_err(failed),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(failed(e)),
    }
}

fn syntax(path: &Path, message: &str) -> ConfigError {
    ConfigError::Syntax { path: path.to_owned(), message: message.trim_end().to_owned() }
}

fn refuse_unknown_keys(document: &DocumentMut, path: &Path) -> Result<(), ConfigError> {
    let check = |table: &dyn TableLike, known: &[&str], prefix: &str| {
        for (key, _) in table.iter() {
            if !known.contains(&key) {
                return Err(ConfigError::UnknownKey {
                    path: path.to_owned(),
                    key: format!("{prefix}{key}"),
                    nearest: nearest(key, known.iter().copied()),
                });
            }
        }
        Ok(())
    };
    check(document.as_table(), &TOP_KEYS, "")?;
    let profile_keys: Vec<&str> = PROFILE_KEYS.into_iter().chain(Server::KEYS).collect();
    if let Some(profiles) = document.get("profiles").and_then(Item::as_table_like) {
        for (name, item) in profiles.iter() {
            if let Some(table) = item.as_table_like() {
                check(table, &profile_keys, &format!("profiles.{name}."))?;
            }
        }
    }
    Ok(())
}

/// The setting of a profile that `key` may have meant, as a question to put after what was wrong; empty where none is alike.
#[must_use]
pub fn nearest_setting(key: &str) -> String {
    let near = nearest(key, PROFILE_KEYS.into_iter().chain(Server::KEYS));
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// The known word most like `word`, if any is alike at all.
fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|k| (strsim::jaro_winkler(word, k), k))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("config.toml")).map_err(|e| e.to_string())
    }

    const TWO: &str = "
[profiles.work]
issuer = \"https://a.example\"
client_id = \"cli\"
scopes = [\"openid\"]
store = \"file\"
[profiles.home]
issuer = \"https://b.example/\"
client_id = \"cli\"
";

    #[test]
    fn reads_profiles() {
        let config = parse(TWO).expect("valid");
        let work = config.profile(&"work".parse().expect("name")).expect("there");
        assert_eq!((work.issuer.as_str(), work.store), ("https://a.example", StoreKind::File));
        let home = config.profile(&"home".parse().expect("name")).expect("there");
        assert_eq!((home.issuer.as_str(), home.store), ("https://b.example/", StoreKind::Keychain));
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let error = parse("[profiles.a]\nisuer = \"https://a.example\"\nclient_id = \"c\"").expect_err("unknown");
        assert_eq!(
            error,
            "the configuration config.toml has an unknown key `profiles.a.isuer`; did you mean `issuer`?"
        );
        let error = parse("default_profle = \"a\"").expect_err("unknown");
        assert!(error.ends_with("did you mean `default_profile`?"), "{error}");
        let error = parse("zzz = 1").expect_err("unknown");
        assert!(error.ends_with("unknown key `zzz`"), "{error}");
    }

    #[test]
    fn requirements_are_read_and_wrong_ones_are_named() {
        let profile = "[profiles.a]\nissuer = \"https://a.example\"\nclient_id = \"c\"\n";
        let config = parse(&format!(
            "{profile}verify_token = \"id_token\"\nmax_offline = \"7d\"\nkeys_max_age = \"1h30m\"\n\
             required_roles = [\"admin\"]\nrequired_claims = [\"tenant=a=b\"]"
        ));
        let found = config.expect("valid").profiles.into_values().next().expect("one").requirements;
        assert_eq!(found.token, DecidingToken::IdToken);
        assert_eq!(found.max_offline, Some(Duration::from_secs(7 * 24 * 3600)));
        assert_eq!(found.keys_max_age(), Duration::from_secs(5400));
        let wanted: Vec<_> = found.wanted_claims().collect();
        assert_eq!(wanted, [("roles".into(), "admin".into()), ("tenant".into(), "a=b".into())]);
        for (line, word) in [
            ("max_offline = \"soon\"", "soon"),
            ("max_offline = 7", "string"),
            ("verify_token = \"both\"", "both"),
            ("required_claims = [\"tenant\"]", "NAME=VALUE"),
            ("required_role = [\"a\"]", "required_roles"),
        ] {
            let error = parse(&format!("{profile}{line}")).expect_err("wrong");
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn an_issuer_without_https_is_refused() {
        let error = parse("[profiles.a]\nissuer = \"http://a.example\"\nclient_id = \"c\"").expect_err("http");
        assert!(error.contains("profile `a`: `http://a.example` is not https"), "{error}");
    }

    #[test]
    fn chooses_named_then_default_then_only() {
        let mut config = parse(TWO).expect("valid");
        let work: ProfileName = "work".parse().expect("name");
        assert!(matches!(config.choose(None), Err(ConfigError::Ambiguous { .. })));
        assert_eq!(config.choose(Some(&work)).expect("named").name, work);
        config.default_profile = Some("home".parse().expect("name"));
        assert_eq!(config.choose(None).expect("default").name.as_str(), "home");
        assert!(matches!(Config::default().choose(None), Err(ConfigError::Empty)));
        let error = config.choose(Some(&"wrok".parse().expect("name"))).expect_err("typo").to_string();
        assert_eq!(error, "there is no profile `wrok`; did you mean `work`?");
    }
}
