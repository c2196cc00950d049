//! The composition root: builds each part of authctl when a command first asks for it, and runs what waits.

mod agent;
mod agent_store;
mod api;
mod credentials;
mod passphrase;
mod proof;
mod signals;
mod token;

pub use agent_store::StoreAccess;
pub use credentials::{Answering, ApiCredentials, ApiToken, answer};
pub use signals::{Signals, receive_blocked, with_blocked};

use std::future::{Future, pending};
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cli::{Color, Common, argument_positions};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::error::{Error, ErrorCode, Format, Hint};
use crate::fs::FileLock;
use crate::model::{InvalidProfileName, Profile, ProfileName, StoreKind};
use crate::paths::{Environment, Paths};
use crate::secret::Secret;
use crate::session::{LockDirectories, MAX_REFRESH, SessionService, Settled, Stores, UNSAVED_LIMIT, UnsavedSession};
use crate::store::{FileStore, KeySource, Keychain, MemoryStore, RevocationFiles};
use crate::text::without_error_numbers;
use crate::ui::{self, Ui};

/// The time limit for a call to the keychain, so that a command ends within five seconds if the keychain hangs.
const KEYCHAIN_LIMIT: Duration = Duration::from_secs(4);

/// How long to wait before a progress message.
const PATIENCE: Duration = Duration::from_secs(2);

/// The maximum number of threads for blocking calls: stores, name lookups and prompts.
const MAX_THREADS: usize = 512;

/// How long an idle thread of the agent stays. Threads are woken in turn: with tokio's default of ten seconds none would ever
/// exit, and the C library keeps memory for each.
const THREAD_KEEP_ALIVE: Duration = Duration::from_millis(200);

/// The same for a command, which ends soon: the thread that has prepared the store for a refreshed session still exists when the
/// issuer replies.
const COMMAND_THREAD_KEEP_ALIVE: Duration = Duration::from_secs(60);

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
    sessions: OnceLock<Arc<SessionService>>,
    /// The source of the profile's name if it is not the command line: `AUTHCTL_PROFILE`, or the directory's file.
    named_by: OnceLock<String>,
    /// Set when the warnings about the configuration have been printed.
    warned: OnceLock<()>,
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
            sessions: OnceLock::new(),
            named_by: OnceLock::new(),
            warned: OnceLock::new(),
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
        let config = self.common.config.as_deref().or(self.environment.config.as_deref());
        Ok(Paths::locate(config)?)
    }

    /// Returns the configuration. Warns of unknown keys once.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] if the file is invalid.
    pub fn config(&self) -> Result<Config, Error> {
        let config = Config::load(&self.paths()?.config)?;
        self.warned.get_or_init(|| {
            self.warn_of_missing_config();
            config.warnings().for_each(|text| self.ui.notice(&format!("warning: {text}")));
        });
        Ok(config)
    }

    /// Warns of a configuration that the user named and that does not exist, except before a login, which creates it.
    fn warn_of_missing_config(&self) {
        let named = self.common.config.as_ref().or(self.environment.config.as_ref());
        let command: Vec<&str> = argument_positions(&self.args).take(2).map(|at| self.args[at].as_str()).collect();
        let creates_it = matches!(command[..], ["login", ..] | ["profile", "import"]);
        if let Some(file) = named.filter(|file| !creates_it && !file.exists()) {
            self.ui.notice(&format!("warning: the configuration {} does not exist", file.display()));
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

    /// Returns the profile's name from the command line, else from `AUTHCTL_PROFILE`, else from the directory's `.authctl.toml`.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] if the variable or the file does not contain a valid name.
    pub fn profile_name(&self, argument: Option<&ProfileName>) -> Result<Option<ProfileName>, Error> {
        match self.requested_profile(argument)? {
            None => self.directory_profile(),
            requested => Ok(requested),
        }
    }

    /// Returns the profile that the command line names, as an argument or with `--profile`.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if they name two.
    pub fn typed_profile<'a>(&'a self, argument: Option<&'a ProfileName>) -> Result<Option<&'a ProfileName>, Error> {
        match (argument, self.common.profile.as_ref()) {
            (Some(one), Some(other)) if one != other => {
                let message = format!("two profiles are named: `{one}` and `{other}`");
                let hint = Hint::command("profile list").or_correction(other.as_str(), one.as_str());
                Err(Error::msg(ErrorCode::Usage, message, hint))
            }
            (argument, option) => Ok(argument.or(option)),
        }
    }

    /// Returns the profile that the command line names, for a command that changes no other.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if it names none, or two.
    pub fn required_profile(&self, argument: Option<&ProfileName>) -> Result<ProfileName, Error> {
        let missing = || Error::msg(ErrorCode::Usage, "the profile is missing", Hint::command("profile list"));
        self.typed_profile(argument)?.cloned().ok_or_else(missing)
    }

    /// Refuses `--profile` beside `--all`.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if it is given.
    pub fn refuse_profile_with_all(&self, command: &'static str) -> Result<(), Error> {
        let Some(name) = &self.common.profile else { return Ok(()) };
        let message = format!("--all is for every profile, and --profile for `{name}` only");
        let hint = Hint::profile_command(command).without_typed_options().about(name);
        Err(Error::msg(ErrorCode::Usage, message, hint))
    }

    /// Returns the profile that the caller requests: on the command line, else by `AUTHCTL_PROFILE`.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if the command line names two, [`ErrorCode::Configuration`] if the variable does not contain a
    /// valid name.
    pub fn requested_profile(&self, argument: Option<&ProfileName>) -> Result<Option<ProfileName>, Error> {
        let variable = || {
            let text = self.environment.profile.as_deref()?;
            let _ = self.named_by.set("AUTHCTL_PROFILE".to_owned());
            Some(text.parse().map_err(|e: InvalidProfileName| {
                let error = anyhow::Error::new(e).context("AUTHCTL_PROFILE");
                Error::new(ErrorCode::Configuration, error, Hint::shell("unset AUTHCTL_PROFILE"))
            }))
        };
        self.typed_profile(argument)?.map(|name| Ok(name.clone())).or_else(variable).transpose()
    }

    /// Returns the profile that the directory's `.authctl.toml` names.
    ///
    /// # Errors
    /// [`ErrorCode::Configuration`] if it contains something else.
    pub fn directory_profile(&self) -> Result<Option<ProfileName>, Error> {
        let Some(directory) = &self.environment.directory else { return Ok(None) };
        Ok(config::directory_profile(directory)?.map(|(name, file)| {
            let _ = self.named_by.set(file.display().to_string());
            name
        }))
    }

    /// Returns the profile that commands use if none is named, and why; `None` if there is none.
    ///
    /// # Errors
    /// As [`App::profile_name`].
    pub fn effective_profile(&self, config: &Config) -> Result<Option<(ProfileName, String)>, Error> {
        if let Some(name) = self.profile_name(None)? {
            let source = self.named_by.get().cloned().unwrap_or_else(|| "--profile".to_owned());
            return Ok(Some((name, source)));
        }
        if let Some(default) = &config.default_profile {
            return Ok(Some((default.clone(), "default".to_owned())));
        }
        let source = "only profile";
        Ok(config.choose(None).ok().map(|profile| (profile.name.clone(), source.to_owned())))
    }

    /// Returns the text of a hint with the options that the user typed, as an error shows it.
    #[must_use]
    pub fn next_command(&self, hint: Hint) -> String {
        self.with_typed_options(hint).to_string()
    }

    /// Adds to the error about an unknown profile where its name comes from.
    #[must_use]
    pub fn with_profile_source(&self, failure: Error) -> Error {
        match self.named_by.get() {
            Some(what) if failure.code == ErrorCode::UnknownProfile => {
                let error = failure.error.context(what.clone());
                Error { error, ..failure }
            }
            _ => failure,
        }
    }

    /// Returns the token in `AUTHCTL_TOKEN`. An existing profile named on the command line takes precedence, so that a command
    /// run by `authctl exec` can request another profile's token.
    ///
    /// # Errors
    /// As [`App::config`], if both are given.
    pub fn supplied_token(&self, argument: Option<&ProfileName>) -> Result<Option<&Secret>, Error> {
        let Some(token) = &self.environment.token else { return Ok(None) };
        let named = match self.typed_profile(argument)? {
            Some(name) => self.config()?.existing(name)?.is_some(),
            None => false,
        };
        Ok(if named { None } else { Some(token) })
    }

    /// Returns the selected profile: argument, else `AUTHCTL_PROFILE`, else the directory's, else the default, else the only one.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`], or [`ErrorCode::LoginRequired`] if there is no profile.
    pub fn profile(&self, argument: Option<&ProfileName>) -> Result<Profile, Error> {
        let named = self.profile_name(argument)?;
        let config = self.config()?;
        let profile = config.choose(named.as_ref())?.clone();
        self.logged.get_or_init(|| {
            let source = match (named, &config.default_profile) {
                (Some(_), _) => self.named_by.get().map_or("the command line", String::as_str),
                (None, Some(_)) => "default_profile",
                (None, None) => "the only profile",
            };
            tracing::info!("profile {} ({source}), store {}", profile.name, profile.store);
        });
        // The command goes on: the user's profile is complete without it.
        for error in config.machine_errors() {
            self.ui.notice(&format!("warning: {}", Error::from(error).message()));
        }
        Ok(profile)
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
            built.name_config(config);
        }
        Ok(Arc::clone(self.sessions.get_or_init(|| built)))
    }

    /// Runs `work` on a single-threaded runtime. Ctrl-C, SIGTERM and SIGHUP end it after a refresh in flight; a second signal
    /// ends it at once.
    ///
    /// # Errors
    /// The error of `work`, or [`ErrorCode::Interrupted`].
    pub fn run<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.run_then(work, async |_| ())
    }

    /// Does the same, and calls `end` with the result, also after a signal. Another signal ends that.
    ///
    /// # Errors
    /// As [`App::run`].
    pub fn run_then<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
        end: impl AsyncFnOnce(&Result<T, Error>),
    ) -> Result<T, Error> {
        self.block_on(COMMAND_THREAD_KEEP_ALIVE, |mut signals| async move {
            let result = tokio::select! {
                result = work => result,
                _ = signals.next() => {
                    ui::restore_terminal();
                    Err(self.finish_refresh(&mut signals).await)
                }
            };
            tokio::select! {
                () = end(&result) => {}
                _ = signals.next() => {}
            }
            result
        })
    }

    /// Runs `work` on a single-threaded runtime, and leaves the handling of signals to it.
    ///
    /// # Errors
    /// The error of `work`.
    pub fn run_with_signals<T, F: Future<Output = Result<T, Error>>>(
        &self,
        work: impl FnOnce(Signals) -> F,
    ) -> Result<T, Error> {
        self.block_on(THREAD_KEEP_ALIVE, work)
    }

    fn block_on<T, F: Future<Output = Result<T, Error>>>(
        &self,
        thread_keep_alive: Duration,
        work: impl FnOnce(Signals) -> F,
    ) -> Result<T, Error> {
        let unexpected =
            |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::advice("close some programs and try again"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_THREADS)
            .thread_keep_alive(thread_keep_alive)
            .build()
            .map_err(unexpected)?;
        let result =
            runtime.block_on(async { work(Signals::listen(&signals::TERMINATION).map_err(unexpected)?).await });
        for (path, reason) in self.sessions.get().into_iter().flat_map(|sessions| sessions.failed_token_files()) {
            let path = path.display();
            self.ui().notice(&format!("warning: the token file {path} is not up to date: {reason}"));
        }
        // An unanswered prompt blocks its thread; the process exits without it.
        runtime.shutdown_background();
        result
    }

    /// Waits for a refresh in flight, and returns the error that describes the interruption.
    async fn finish_refresh(&self, signals: &mut Signals) -> Error {
        let Some(sessions) = self.sessions.get() else { return Error::interrupted() };
        let settled = async {
            match sessions.settled().await {
                Settled::Idle => Error::interrupted(),
                Settled::Finished => Error::interrupted_after_change(),
                Settled::Failed => Error::interrupted_during_refresh(),
            }
        };
        tokio::pin!(settled);
        let error = tokio::select! {
            error = &mut settled => error,
            () = self.clock.sleep(Duration::from_millis(200)) => {
                self.ui().notice("Finishing the refresh; press Ctrl-C again to abort, which may lose the session");
                tokio::select! {
                    error = settled => error,
                    _ = signals.next() => Error::interrupted_during_refresh(),
                    () = self.clock.sleep(MAX_REFRESH) => Error::interrupted_during_refresh(),
                }
            }
        };
        let unsaved = sessions.unsaved();
        match unsaved.borrow().iter().next() {
            Some((name, unsaved)) => {
                let lost = Error::from(unsaved.given_up()).about(name);
                Error::msg(ErrorCode::Interrupted, format!("interrupted; {}", lost.message()), lost.hint)
            }
            None => error,
        }
    }

    /// Awaits `work`, and shows what is waited for if it takes long and the terminal is interactive. A store that does not
    /// take a refreshed session is always reported: the user may be able to unlock it.
    pub async fn with_progress<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let progress = async {
            self.clock.sleep(PATIENCE).await;
            if self.ui().is_interactive() {
                self.ui().notice(&format!("Waiting for {what}; press Ctrl-C to abort"));
            }
        };
        let report_unsaved = async {
            let mut unsaved = self.sessions().ok()?.unsaved();
            let unsaved = unsaved.wait_for(|unsaved| !unsaved.is_empty()).await.ok()?;
            let (name, UnsavedSession { error, .. }) = unsaved.iter().next()?;
            let (limit, reason) = (UNSAVED_LIMIT.as_secs(), without_error_numbers(&error.to_string()));
            self.ui().instruct(&format!("Waiting up to {limit} s to store the refreshed session of {name}: {reason}"));
            Some(())
        };
        tokio::select! {
            done = work => done,
            never = async { tokio::join!(progress, report_unsaved); pending().await } => never,
        }
    }

    /// Takes the configuration lock, waiting at most [`CONFIG_LOCK_LIMIT`].
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] if another process holds it, [`ErrorCode::StoreUnavailable`] if it cannot be created.
    pub async fn lock_config(&self) -> Result<FileLock, Error> {
        Ok(config::lock(&self.paths()?.config, &self.paths()?.data, self.clock(), CONFIG_LOCK_LIMIT).await?)
    }

    /// Prompts for a line of text without blocking the runtime; returns `None` without an answer.
    pub async fn ask(&self, prompt: &str) -> Option<String> {
        let ui = self.ui;
        ui.prompt(prompt);
        let mut typed = self.typed.lock().await;
        let line = typed.get_or_insert_with(|| tokio::task::spawn_blocking(move || ui.read_line()));
        let line = line.await.ok().flatten();
        *typed = None;
        line
    }

    /// Reads a line from stdin, typed or piped; the prompt is shown only on a terminal.
    pub async fn ask_line(&self, prompt: &str) -> Option<String> {
        if self.ui().is_interactive() {
            return self.ask(prompt).await;
        }
        tokio::task::spawn_blocking(ui::read_stdin_line).await.ok().flatten()
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

    /// Prompts for a secret without blocking the runtime.
    pub async fn ask_secret(&self, prompt: &str) -> Option<Secret> {
        let (ui, prompt) = (self.ui, prompt.to_owned());
        tokio::task::spawn_blocking(move || ui.ask_secret(&prompt)).await.ok().flatten()
    }

    /// Asks a yes-or-no question; the default is no.
    pub async fn confirm(&self, question: &str) -> Option<bool> {
        let answer = self.ask(&format!("{question} [y/N] ")).await?;
        Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}
