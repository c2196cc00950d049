//! The composition root: builds each part of authctl when a command first asks for it.

mod agent;
mod agent_store;
mod api;
mod api_credentials;
mod passphrase;
mod profile_choice;
mod prompts;
mod proof;
mod runtime;
mod signals;
mod token;
mod token_files;

pub use agent_store::StoreAccess;
pub use api_credentials::{Answering, ApiCredentials, ApiToken, ReuseLimit, answer};
pub use signals::{ReceivedSignal, Signals, receive_blocked, stop_for_shell, with_blocked};

use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cli::{Color, Common, argument_positions};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::error::{Error, ErrorCode, Format, Hint};
use crate::fs::FileLock;
use crate::model::StoreKind;
use crate::paths::{Environment, Paths};
use crate::secret::Secret;
use crate::session::{LockDirectories, SessionService, Stores};
use crate::store::{FileStore, KeySource, Keychain, MemoryStore, RevocationFiles};
use crate::ui::{self, Ui};

/// The time limit for a call to the keychain, so that a command ends within five seconds if the keychain hangs.
const KEYCHAIN_LIMIT: Duration = Duration::from_secs(4);

/// How long a command waits for the configuration lock.
const CONFIG_LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Everything a command needs, built on demand.
pub struct App {
    /// The environment variables.
    pub environment: Environment,
    /// The options that every command has.
    pub common: Common,
    /// The command line, with the program's name first.
    args: Vec<String>,
    /// Options that the user has answered at the terminal instead of typing them.
    answered: OnceLock<Vec<String>>,
    clock: Arc<dyn Clock>,
    ui: Ui,
    paths: OnceLock<Paths>,
    sessions: OnceLock<Arc<SessionService>>,
    /// The source of the profile's name if it is not the command line: `AUTHCTL_PROFILE`, or the directory's file.
    named_by: OnceLock<String>,
    /// Set when the warnings about the configuration have been printed.
    warned: OnceLock<()>,
    /// Whether the agent did not respond to the last request of a command that goes on.
    agent_hangs: AtomicBool,
    /// Set when the chosen profile has been logged.
    logged: OnceLock<()>,
    /// The pending read of a line. A canceled prompt leaves it to the next one: a read from a terminal cannot be canceled, and
    /// would swallow the next line.
    typed: tokio::sync::Mutex<Option<tokio::task::JoinHandle<Option<String>>>>,
    /// The passphrase that was piped in.
    piped_passphrase: OnceLock<Option<Secret>>,
    /// How this command uses the stores; set before the first use.
    store_access: OnceLock<StoreAccess>,
    /// What a login stores in memory, until it is given to the agent.
    handover: Arc<MemoryStore>,
}

impl App {
    /// Creates an application for these options and this environment.
    #[must_use]
    pub fn new(common: Common, environment: Environment, args: Vec<String>) -> Self {
        Self {
            ui: Ui::open(common.no_input || environment.no_input, common.quiet),
            environment,
            common,
            args,
            answered: OnceLock::new(),
            clock: Arc::new(SystemClock),
            paths: OnceLock::new(),
            sessions: OnceLock::new(),
            named_by: OnceLock::new(),
            warned: OnceLock::new(),
            agent_hangs: AtomicBool::new(false),
            logged: OnceLock::new(),
            typed: tokio::sync::Mutex::default(),
            piped_passphrase: OnceLock::new(),
            store_access: OnceLock::new(),
            handover: Arc::default(),
        }
    }

    /// Returns the clock.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Returns the clock, for what outlives a call.
    #[must_use]
    pub fn shared_clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Returns the user's terminal.
    #[must_use]
    pub fn ui(&self) -> Ui {
        self.ui
    }

    /// Adds options that the user has answered, so that hints repeat them too.
    pub fn add_answers(&self, options: Vec<String>) {
        let _ = self.answered.set(options);
    }

    fn typed_args(&self) -> Vec<String> {
        self.args.iter().chain(self.answered.get().into_iter().flatten()).cloned().collect()
    }

    /// Prints an error on stderr, with the options that the user typed in its hint.
    pub fn report(&self, error: &Error) {
        ui::restore_terminal();
        let format =
            if self.common.json { Format::Json } else { Format::Text { color: self.has_color(&std::io::stderr()) } };
        error.report(format, &self.typed_args());
    }

    /// Prints a hint on stderr, with the options that the user typed.
    pub fn report_hint(&self, hint: &Hint) {
        for line in self.with_typed_options(hint.clone()).lines(self.has_color(&std::io::stderr())) {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Returns a hint with the options that the user typed, as an error shows it.
    #[must_use]
    pub fn with_typed_options(&self, hint: Hint) -> Hint {
        hint.repeating(&self.typed_args())
    }

    /// Returns the locations of the files.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] without a home directory.
    pub fn paths(&self) -> Result<Paths, Error> {
        if let Some(paths) = self.paths.get() {
            return Ok(paths.clone());
        }
        let config = self.common.config.as_deref().or(self.environment.config.as_deref());
        let paths = Paths::locate(config)?;
        Ok(self.paths.get_or_init(|| paths).clone())
    }

    /// Returns the configuration. Warns of unknown keys once.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] if the file is invalid.
    pub fn config(&self) -> Result<Config, Error> {
        let config = Config::load(&self.paths()?.config)?;
        self.warned.get_or_init(|| {
            self.warn_of_missing_config();
            config.warnings().for_each(|text| self.ui.warn(&text));
        });
        Ok(config)
    }

    /// Warns of a configuration that the user named and that does not exist, except before a login, which creates it.
    fn warn_of_missing_config(&self) {
        let named = self.common.config.as_ref().or(self.environment.config.as_ref());
        let command: Vec<&str> = argument_positions(&self.args).take(2).map(|at| self.args[at].as_str()).collect();
        let creates_it = matches!(command[..], ["login", ..] | ["profile", "import"]);
        if let Some(file) = named.filter(|file| !creates_it && !file.exists()) {
            self.ui.warn(&format!("the configuration {} does not exist", file.display()));
        }
    }

    /// Reports each invalid profile. Returns the exit code: 0 without one.
    pub fn report_invalid_profiles(&self, config: &Config) -> u8 {
        let mut code = 0;
        for error in config.errors().map(Error::from) {
            self.report(&error);
            code = error.code.exit_code();
        }
        code
    }

    /// Returns the text of a hint with the options that the user typed, as an error shows it.
    #[must_use]
    pub fn next_command(&self, hint: Hint) -> String {
        self.with_typed_options(hint).to_string()
    }

    /// Returns the store for profiles that do not name one: `AUTHCTL_STORE`, else the keychain.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] if the variable is invalid.
    pub fn default_store(&self) -> Result<StoreKind, Error> {
        let Some(text) = self.environment.store.as_deref() else { return Ok(StoreKind::default()) };
        text.parse().map_err(|_| {
            let message = format!("invalid store `{text}` in AUTHCTL_STORE ({})", StoreKind::WORDS.join(", "));
            Error::msg(ErrorCode::Configuration, message, Hint::shell("unset AUTHCTL_STORE"))
        })
    }

    /// Returns the key file of the `file` store that the environment names.
    #[must_use]
    pub fn provided_key_file(&self) -> Option<PathBuf> {
        let credential = || Some(self.environment.credentials_directory.as_ref()?.join("authctl.key"));
        self.environment.key_file.clone().or_else(|| credential().filter(|file| file.exists()))
    }

    /// Builds the stores.
    fn stores(&self) -> Result<Stores, Error> {
        let paths = self.paths()?;
        let key = match self.provided_key_file() {
            Some(file) => KeySource::Path(file),
            None => KeySource::Default(paths.default_key_file.clone()),
        };
        let access = self.store_access.get().copied().unwrap_or_default();
        Ok(Stores {
            keychain: Arc::new(Keychain::new(KEYCHAIN_LIMIT).with_queue(paths.data.join("keychain.queue"))),
            file: match access {
                StoreAccess::Agent | StoreAccess::NoPrompt => Arc::new(FileStore::new(paths.sessions, key)),
                StoreAccess::Full | StoreAccess::Login => {
                    Arc::new(FileStore::asking(paths.sessions, key, self.passphrase_prompt()))
                }
            },
            memory: match access {
                StoreAccess::Agent => Arc::new(MemoryStore::default()),
                _ => Arc::new(self.agent_store(access)?),
            },
        })
    }

    /// Returns the session service, built on first use.
    ///
    /// # Errors
    /// As [`App::paths`].
    pub fn sessions(&self) -> Result<Arc<SessionService>, Error> {
        if let Some(sessions) = self.sessions.get() {
            return Ok(Arc::clone(sessions));
        }
        let paths = self.paths()?;
        let shared = paths.shared();
        let locks = LockDirectories { keychain: shared.join("locks"), file: paths.locks };
        let (file, in_data) = (shared.join("revoked"), paths.data.join("revoked"));
        let revoked = RevocationFiles { in_data: Some(in_data).filter(|in_data| *in_data != file), file };
        let built = SessionService::new(Arc::clone(&self.clock), self.stores()?, locks, revoked);
        if let Some(config) = self.common.config.as_ref().and_then(|config| std::path::absolute(config).ok()) {
            built.set_config_file(config);
        }
        Ok(Arc::clone(self.sessions.get_or_init(|| built)))
    }

    /// Takes the configuration lock, waiting at most [`CONFIG_LOCK_LIMIT`].
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] if another process holds it, [`ErrorCode::StoreUnavailable`] if it cannot be created.
    pub async fn lock_config(&self) -> Result<FileLock, Error> {
        Ok(config::lock(&self.paths()?.config, &self.paths()?.data, self.clock(), CONFIG_LOCK_LIMIT).await?)
    }

    /// Returns whether this stream shows colours and weights.
    #[must_use]
    pub fn has_color(&self, stream: &impl IsTerminal) -> bool {
        match self.common.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if self.environment.no_color => false,
            Color::Auto => self.environment.force_color || stream.is_terminal(),
        }
    }
}
