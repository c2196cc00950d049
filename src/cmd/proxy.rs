//! `authctl proxy`: passes requests on to an API, with a token that the caller never has.

mod arguments;
mod credentials;
mod install;
mod key_file;
mod registry;
mod report;

use std::future::{Future, pending};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::output;
use crate::agent::protocol::{ListenError, Listening as Socket, listen};
use crate::app::App;
use crate::cli::{Proxy as ProxyArgs, ProxyCommand, ProxyRules, ProxyRun};
use crate::clock::{Clock, UnixTime};
use crate::error::{Error, ErrorCode, Hint};
use crate::fs::UntrustedFile;
use crate::model::{ApiUrl, ProfileName};
use crate::oauth::{LatestNonce, random};
use crate::proxy::{ApiProxy, Listener, ProxyAddress, ProxyEvent, RequestOutcome, Target, raise_limits, serve};
use crate::secret::Secret;
use crate::ui::Background;
pub(super) use arguments::ListenAddress;
use arguments::check;
use credentials::ProxyCredentials;
pub(super) use install::installed_service;
use registry::RunningProxy;
use report::{Reports, shown};

/// Runs the command.
pub fn run(app: &App, args: ProxyArgs) -> Result<u8, Error> {
    match args.command {
        Some(ProxyCommand::List) => registry::list(app),
        Some(ProxyCommand::Stop { address }) => registry::stop(app, address.as_deref()),
        Some(ProxyCommand::Install(args)) => install::install(app, &args.0),
        Some(ProxyCommand::Uninstall { profile }) => install::uninstall(app, profile.as_ref()),
        None => run_in_foreground(app, &args.run),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct ProxyOutput<'a> {
    url: &'a str,
    socket: Option<&'a str>,
    /// `None` if it is in a file.
    key: Option<&'a str>,
}

fn run_in_foreground(app: &App, args: &ProxyRun) -> Result<u8, Error> {
    raise_limits();
    let key = args.key_file.as_deref().map(key_file::read_or_create).transpose()?;
    let mut prepared = Prepared::new(app, args.profile.as_ref(), &args.rules, ListenAddress::parse(&args.listen)?)?;
    let is_printed = key.is_none();
    prepared.key = key.unwrap_or(prepared.key);
    let started_at = app.clock().now();
    // The clock shows whole seconds: one more, or it would end up to a second early.
    let ends_at = args.ttl.map(|ttl| started_at.plus(ttl.saturating_add(Duration::from_secs(1))));
    let (url, socket) = (prepared.url(), prepared.socket());
    let _registered = registry::register(app, &prepared.description(started_at, ends_at))?;
    if app.common.json {
        let key = is_printed.then(|| prepared.key.expose());
        output::json(&ProxyOutput { url: &url, socket: socket.as_deref(), key })?;
    } else {
        let address = socket.as_ref().map_or_else(|| url.clone(), |socket| format!("unix:{socket}"));
        output::line(&address)?;
        if is_printed {
            output::line(prepared.key.expose())?;
        }
    }
    app.run_with_signals(|mut signals| async move {
        let stop = async {
            let end = async {
                let Some(at) = ends_at else { return pending().await };
                while app.clock().now() < at {
                    app.clock().until(at).await;
                }
            };
            tokio::select! {
                _ = signals.next() => {}
                () = end => {}
            }
        };
        prepared.serve(app, stop).await?;
        Ok(0)
    })
}

/// A proxy that listens, before it accepts connections.
pub(super) struct Prepared {
    profile: ProfileName,
    api: ApiUrl,
    target: Target,
    rules: ProxyRules,
    max_requests: Option<u64>,
    listener: BoundListener,
    /// The origin by which the callers of a socket know it.
    pub(super) origin: String,
    /// The caller's key.
    pub(super) key: Secret,
}

/// Returns the error of a socket: the agent's, which has sockets too, would be about another one.
fn not_listening(app: &App, error: ListenError) -> Error {
    match error {
        ListenError::Running(path) if app.agent_socket().is_ok_and(|agent| agent == path) => {
            let message = format!("{} is the agent's socket", path.display());
            Error::msg(ErrorCode::Usage, message, Hint::command("proxy").with_flag("--help"))
        }
        ListenError::Running(path) => {
            let message = format!("a proxy is already running at {}", path.display());
            Error::msg(ErrorCode::Usage, message, Hint::command("proxy list"))
        }
        ListenError::Untrusted(UntrustedFile::Writable { .. }) | ListenError::Occupied(_) => {
            Error { code: ErrorCode::Usage, ..error.into() }
        }
        error => Error::new(ErrorCode::Usage, error, Hint::command("proxy").with_flag("--help")),
    }
}

enum BoundListener {
    Tcp(TcpListener, SocketAddr),
    Unix(std::os::unix::net::UnixListener, Socket),
}

impl Prepared {
    /// Checks the arguments, and listens.
    ///
    /// # Errors
    /// [`ErrorCode::Usage`] if an argument is invalid; if the session has no token; if the address is in use.
    pub(super) fn new(
        app: &App,
        profile: Option<&ProfileName>,
        rules: &ProxyRules,
        address: ListenAddress,
    ) -> Result<Self, Error> {
        let (profile, api, target) = check(app, profile, rules)?;
        // Each restricts the other.
        let max_requests = rules.max_requests.into_iter().chain(profile.proxy.max_requests).min();
        let busy = |error: std::io::Error| Error::new(ErrorCode::Usage, error, Hint::command("proxy list"));
        let listener = match address {
            ListenAddress::Tcp(address) => {
                let listener = TcpListener::bind(address).map_err(|error| {
                    let error = anyhow::Error::new(error).context(format!("cannot listen at {address}"));
                    Error::new(ErrorCode::Usage, error, Hint::command("proxy list"))
                })?;
                listener.set_nonblocking(true).map_err(busy)?;
                let address = listener.local_addr().map_err(busy)?;
                BoundListener::Tcp(listener, address)
            }
            ListenAddress::Unix(path) => {
                let (listener, socket) = listen(&path, None).map_err(|error| not_listening(app, error))?;
                listener.set_nonblocking(true).map_err(busy)?;
                BoundListener::Unix(listener, socket)
            }
        };
        let key = Secret::new(random()?);
        // Clients of a Unix socket may use any host.
        let origin = "http://localhost".to_owned();
        let (api, rules) = (api.clone(), rules.clone());
        Ok(Self { profile: profile.name, api, target, rules, max_requests, listener, origin, key })
    }

    /// Returns the URL that callers use in place of the API's.
    pub(super) fn url(&self) -> String {
        format!("{}{}", self.base(), self.target.path())
    }

    /// Returns the path of the API, without a slash at its end.
    pub(super) fn path(&self) -> &str {
        self.target.path()
    }

    /// Returns the path of the socket, if it is one.
    pub(super) fn socket(&self) -> Option<String> {
        match &self.listener {
            BoundListener::Tcp(..) => None,
            BoundListener::Unix(_, socket) => Some(socket.path.display().to_string()),
        }
    }

    /// Returns the proxy's own origin.
    fn base(&self) -> String {
        match &self.listener {
            BoundListener::Tcp(_, address) => format!("http://{address}"),
            BoundListener::Unix(..) => self.origin.clone(),
        }
    }

    fn description(&self, started_at: UnixTime, ends_at: Option<UnixTime>) -> RunningProxy {
        RunningProxy {
            pid: std::process::id(),
            address: self.socket().map_or_else(|| self.url(), |socket| format!("unix:{socket}")),
            profile: self.profile.clone(),
            api: self.target.to_string(),
            started_at,
            ends_at,
        }
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub(super) async fn serve(self, app: &App, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let unexpected = |e: std::io::Error| Error::new(ErrorCode::Unexpected, e, Hint::command("proxy list"));
        let base = self.base();
        // The socket is removed when this ends.
        let (listener, listening, _socket) = match self.listener {
            BoundListener::Tcp(listener, address) => {
                let listener = tokio::net::TcpListener::from_std(listener).map_err(unexpected)?;
                (Listener::Tcp(listener), ProxyAddress::Tcp(address), None)
            }
            BoundListener::Unix(listener, socket) => {
                let listener = tokio::net::UnixListener::from_std(listener).map_err(unexpected)?;
                (Listener::Unix(listener), ProxyAddress::Unix, Some(socket))
            }
        };
        let _printing = Background::start();
        let reports = Arc::new(Reports::new(self.profile.clone()));
        let provider = ProxyCredentials::new(app, self.profile, self.api, Arc::clone(&reports));
        let (credentials, answering) = provider.start();
        let (ui, taking) = (app.ui(), Arc::clone(&reports));
        let clock = app.shared_clock();
        let proxy = ApiProxy {
            target: self.target,
            rules: self.rules.rules(),
            nonce: LatestNonce::default(),
            max_requests: self.max_requests,
            listening,
            base,
            key: self.key,
            credentials: Arc::new(credentials),
            on_event: Box::new(move |event| {
                if let Some(line) = line_of(&*clock, event) {
                    ui.notice(&line);
                }
                taking.take(event);
            }),
            passed_on: 0.into(),
        };
        tokio::select! {
            () = serve(Arc::new(proxy), listener, app.clock(), stop) => {}
            () = answering => {}
            () = reports.deliver(app) => {}
        }
        reports.deliver_last(app).await;
        Ok(())
    }
}

/// Returns the line of what was refused or has failed; with -v every request is logged.
fn line_of(clock: &dyn Clock, event: &ProxyEvent<'_>) -> Option<String> {
    let ProxyEvent { method, path, status, outcome } = event;
    let status = status.as_u16();
    let result = match outcome {
        RequestOutcome::Refused(rule) => format!("(refused: {rule})"),
        RequestOutcome::Failed(code) => format!("(failed: {code})"),
        RequestOutcome::PassedOn if status == 401 || status == 403 => "(from the API)".to_owned(),
        RequestOutcome::PassedOn => {
            tracing::info!("{} -> {status}", shown(method, path));
            return None;
        }
    };
    Some(format!("{} {} -> {status} {result}", clock.now(), shown(method, path)))
}
