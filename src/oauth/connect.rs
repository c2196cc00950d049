//! How a connection comes about: each step has a bound of its own, and a step that fails is known by its name.
//!
//! The HTTP client makes the connection in one piece and says of a time-out nothing but that it was one. So the name
//! server is asked by our own resolver, TLS tells that it begins by asking for a kept session, and a layer around it all
//! keeps the time of the step that is under way.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, NamedGroup};
use rustls_platform_verifier::Verifier;
use tokio::sync::watch;
use tower_layer::Layer;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// To learn a host's addresses.
    pub(super) dns: Duration,
    /// For TCP to one address; through a proxy, for its way to the issuer too.
    pub(super) tcp: Duration,
    /// For the TLS handshake.
    pub(super) tls: Duration,
    /// From when the connection stands to the head of the answer.
    pub(super) answer: Duration,
    /// Between two pieces of an answer.
    pub(super) piece: Duration,
    /// For everything together.
    pub(super) exchange: Duration,
}

impl Limits {
    /// The system gives up a name server that does not answer after five seconds, and then asks the next one. TCP sends
    /// its first packet four times within eight.
    pub(super) const USUAL: Self = Self {
        dns: Duration::from_secs(7),
        tcp: Duration::from_secs(8),
        tls: Duration::from_secs(7),
        answer: Duration::from_secs(20),
        piece: Duration::from_secs(10),
        exchange: Duration::from_secs(30),
    };

    /// For the steps up to where the connection stands.
    pub(super) fn connection(&self) -> Duration {
        self.dns + self.tcp + self.tls
    }

    /// `None` where something else sees to the bound.
    fn of(&self, step: Step) -> Option<Duration> {
        match step {
            Step::Dns { .. } => Some(self.dns),
            Step::Tcp { several: false } => Some(self.tcp),
            // Each address gets its share of the whole connection's time, so that one that is dead does not use it up.
            Step::Tcp { several: true } | Step::Answer => None,
            Step::Tls => Some(self.tls),
        }
    }
}

/// What a request is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The addresses of the issuer's host, or of the proxy's, are being learned.
    Dns { of_proxy: bool },
    /// A connection to an address, or to one of several, is being made; through a proxy, its way on as well.
    Tcp { several: bool },
    /// The TLS handshake with the issuer is under way.
    Tls,
    /// The connection stands: the request is being sent, or its answer is awaited.
    Answer,
}

/// A request on its way, as those see it who make its connection.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    host: Arc<str>,
    proxy: Option<Arc<str>>,
    step: watch::Sender<Step>,
}

tokio::task_local! {
    static ATTEMPT: Attempt;
}

impl Attempt {
    /// A request to `host`, by way of the host `proxy`; both as in an address, without a port.
    pub(super) fn new(host: &str, proxy: Option<&str>) -> Self {
        let bare = |host: &str| Arc::from(host.trim_matches(['[', ']']));
        Self { host: bare(host), proxy: proxy.map(bare), step: watch::Sender::new(Step::Answer) }
    }

    /// Makes this the attempt that the connection is for which `request` may need.
    pub(super) async fn scope<F: Future>(&self, request: F) -> F::Output {
        ATTEMPT.scope(self.clone(), request).await
    }

    pub(super) fn step(&self) -> Step {
        *self.step.borrow()
    }

    /// Waits until a step has taken as long as it may, and gives it.
    async fn late(&self, limit: impl Fn(Step) -> Option<Duration>) -> Step {
        let mut steps = self.step.subscribe();
        loop {
            let step = *steps.borrow_and_update();
            let over = async {
                match limit(step) {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = steps.changed() => {}
                () = over => return step,
            }
        }
    }

    /// Waits until the answer has been awaited for as long as `limit`. The time in which a connection is made is not
    /// counted: the layer sees to that.
    pub(super) async fn unanswered(&self, limit: Duration) {
        self.late(|step| (step == Step::Answer).then_some(limit)).await;
    }
}

/// Tells the attempt that this connection is made for, where there is one, what it is at.
fn at(step: impl FnOnce(&Attempt) -> Option<Step>) {
    let _ = ATTEMPT.try_with(|attempt| {
        if let Some(step) = step(attempt) {
            attempt.step.send_replace(step);
        }
    });
}

/// A connection was not made in time: not a byte of the request was sent.
#[derive(Debug, thiserror::Error)]
#[error("nothing within {} seconds", .limit.as_secs_f32())]
pub(super) struct Late {
    pub(super) step: Step,
    limit: Duration,
}

/// Bounds each step of making a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps(pub(super) Limits);

impl<S> Layer<S> for Steps {
    type Service = Stepped<S>;

    fn layer(&self, inner: S) -> Stepped<S> {
        Stepped { inner, limits: self.0 }
    }
}

/// A connector whose steps are bounded.
#[derive(Clone, Debug)]
pub(super) struct Stepped<S> {
    inner: S,
    limits: Limits,
}

impl<S, R> Service<R> for Stepped<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let attempt = ATTEMPT.try_with(Attempt::clone).unwrap_or_else(|_| Attempt::new("", None));
        attempt.step.send_replace(Step::Tcp { several: false });
        let connection = ATTEMPT.sync_scope(attempt.clone(), || self.inner.call(request));
        let limits = self.limits;
        Box::pin(async move {
            let made = tokio::select! {
                biased;
                made = attempt.scope(connection) => made,
                step = attempt.late(|step| limits.of(step)) => {
                    let limit = limits.of(step).unwrap_or_default();
                    return Err(Late { step, limit }.into());
                }
            };
            // A step that failed stays the one that the attempt is at.
            if made.is_ok() {
                attempt.step.send_replace(Step::Answer);
            }
            made
        })
    }
}

/// Asks the system for a host's addresses.
pub(super) type Lookup = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// The system's own resolver, with all that it is configured to ask.
pub(super) fn system(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((name, 0).to_socket_addrs()?.collect())
}

/// What is known of a name: its addresses, or why there are none.
type Answer = Result<Vec<SocketAddr>, String>;

/// The names that are being looked up, and where each answer will come.
type Underway = HashMap<String, Weak<watch::Sender<Option<Answer>>>>;

/// Looks names up on a thread that nobody has to wait for: the system's resolver takes no word to stop. Who asks for a name
/// that somebody waits for already waits for the same answer; where a thousand do, a thread for each would be too many.
#[derive(Clone)]
pub(super) struct Resolver {
    lookup: Lookup,
    asked: Arc<Mutex<Underway>>,
}

impl Resolver {
    pub(super) fn new(lookup: Lookup) -> Self {
        Self { lookup, asked: Arc::default() }
    }

    /// Where the answer will come, which is asked for unless somebody waits for it. A lookup that all have given up is not
    /// joined: the network may be back.
    fn ask(&self, name: &str) -> io::Result<watch::Receiver<Option<Answer>>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let underway = asked.get(name).and_then(Weak::upgrade).filter(|sender| sender.receiver_count() > 0);
        if let Some(sender) = underway {
            return Ok(sender.subscribe());
        }
        let (sender, told) = watch::channel(None);
        let sender = Arc::new(sender);
        asked.insert(name.to_owned(), Arc::downgrade(&sender));
        let (lookup, all, name) = (self.lookup, Arc::clone(&self.asked), name.to_owned());
        std::thread::Builder::new().name("resolver".into()).spawn(move || {
            let answer = lookup(&name).map_err(|error| error.to_string());
            let own = Arc::downgrade(&sender);
            let mut asked = all.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.get(&name).is_some_and(|last| last.ptr_eq(&own)) {
                asked.remove(&name);
            }
            sender.send_replace(Some(answer));
        })?;
        Ok(told)
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        at(|attempt| Some(Step::Dns { of_proxy: attempt.proxy.as_deref() == Some(name.as_str()) }));
        let asked = self.ask(name.as_str());
        Box::pin(async move {
            let answer = asked?.wait_for(Option::is_some).await?.clone();
            let found = answer.unwrap_or_else(|| Ok(Vec::new()))?;
            if found.is_empty() {
                return Err("it has no address".into());
            }
            at(|_| Some(Step::Tcp { several: found.len() > 1 }));
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// How TLS is spoken: with servers that the platform's authorities, or one of `authorities`, vouch for.
///
/// # Errors
/// What is wrong with an authority, or that the platform has none.
pub(super) fn tls(authorities: &[CertificateDer<'static>]) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new_with_extra_roots(authorities.iter().cloned(), Arc::clone(&provider))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        // The builder's word for any verifier that is not its own; this one is the platform's.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::store(Arc::new(Handshakes));
    Ok(config)
}

/// Keeps no TLS session: requests that follow each other share a connection, and the next ones come much later. That it
/// is asked for one is how it is known that the handshake begins, so TCP has done its part.
#[derive(Debug)]
struct Handshakes;

impl ClientSessionStore for Handshakes {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        // A proxy may speak TLS itself, before.
        at(|attempt| (server.to_str() == *attempt.host).then_some(Step::Tls));
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use url::Url;

    use super::super::error::{IssuerError, Phase, Reached};
    use super::super::http::Http;
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(20);
    const PATIENT: Limits = Limits { dns: LONG, tcp: LONG, tls: LONG, answer: LONG, piece: LONG, exchange: LONG };
    const SHORT: Duration = Duration::from_millis(250);

    fn none(_: &str) -> io::Result<Vec<SocketAddr>> {
        panic!("nothing was to be looked up")
    }

    /// How a request to `url` fails: the step, whether it may have arrived, and the message.
    async fn fails(limits: Limits, lookup: Lookup, url: &str) -> (Phase, Reached, String) {
        let url = Url::parse(url).expect("valid");
        let error = Http::bounded(limits, lookup).get(&url, "*/*", None).await.err().expect("it fails");
        let message = error.to_string();
        match error {
            IssuerError::Unreachable { phase, reached, .. } => (phase, reached, message),
            other => panic!("{other:?}"),
        }
    }

    /// An address where nobody answers the first packet any more: the queue for what is not accepted is full.
    fn deaf() -> (SocketAddr, impl Sized) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        rustix::net::listen(&listener, 0).expect("a short queue");
        let at = listener.local_addr().expect("bound");
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&at, SHORT) {
            queued.push(stream);
        }
        (at, (listener, queued))
    }

    #[tokio::test]
    async fn a_name_that_there_is_not() {
        let (phase, reached, message) = fails(PATIENT, system, "https://issuer.invalid/").await;
        assert_eq!((phase, reached), (Phase::Dns, Reached::No), "{message}");
        assert!(message.starts_with("issuer.invalid cannot be reached: its name could not be resolved"), "{message}");
    }

    #[tokio::test]
    async fn a_name_that_many_wait_for_is_looked_up_once() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static ANSWERS: Mutex<()> = Mutex::new(());
        let lookup = |_: &str| {
            ASKED.fetch_add(1, Ordering::SeqCst);
            drop(ANSWERS.lock());
            Ok(vec![([127, 0, 0, 1], 0).into()])
        };
        let resolver = Resolver::new(lookup);
        let ask = |name: &str| resolver.resolve(name.parse().expect("a name"));
        let silent = ANSWERS.lock().expect("not poisoned");
        let given_up = ask("one.test");
        let started = SystemClock.monotonic();
        while ASKED.load(Ordering::SeqCst) == 0 {
            assert!(started.elapsed() < LONG, "the lookup did not start");
            std::thread::yield_now();
        }
        drop(given_up);
        let waiting: Vec<Resolving> = (0..20).map(|_| ask("one.test")).collect();
        let other = ask("two.test");
        drop(silent);
        for answer in waiting {
            assert_eq!(answer.await.expect("an answer").count(), 1);
        }
        assert_eq!(other.await.expect("an answer").count(), 1);
        assert_eq!(ASKED.load(Ordering::SeqCst), 3, "what was given up, twenty at once, and the other name");
        assert_eq!(ask("one.test").await.expect("an answer").count(), 1);
        assert_eq!(ASKED.load(Ordering::SeqCst), 4, "no answer is kept");
    }

    #[tokio::test]
    async fn a_name_server_that_never_answers() {
        let limits = Limits { dns: SHORT, ..PATIENT };
        let never = |_: &str| -> io::Result<Vec<SocketAddr>> {
            loop {
                std::thread::park();
            }
        };
        let (phase, reached, message) = fails(limits, never, "https://issuer.test/").await;
        assert_eq!((phase, reached), (Phase::Dns, Reached::No), "{message}");
        assert!(message.contains("(nothing within 0.25 seconds)"), "{message}");
    }

    #[tokio::test]
    async fn an_address_that_never_answers() {
        let (at, _open) = deaf();
        for scheme in ["http", "https"] {
            let (phase, reached, message) =
                fails(Limits { tcp: SHORT, ..PATIENT }, none, &format!("{scheme}://{at}/")).await;
            assert_eq!((phase, reached), (Phase::Connect, Reached::No), "{message}");
            assert!(message.contains("no connection (nothing within 0.25 seconds)"), "{message}");
        }
    }

    #[tokio::test]
    async fn an_address_that_never_answers_does_not_use_up_the_time_of_the_next() {
        let (at, _open) = deaf();
        // The same port of another address of this machine.
        let alive = tokio::net::TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), at.port())).await.expect("the port");
        let served = tokio::spawn(async move { alive.accept().await.map(drop) });
        let limits = Limits { dns: SHORT, tcp: 2 * SHORT, tls: SHORT, ..PATIENT };
        let both = |_: &str| Ok(vec![([127, 0, 0, 1], 0).into(), ([127, 0, 0, 2], 0).into()]);
        let (phase, reached, message) = fails(limits, both, &format!("https://issuer.test:{}/", at.port())).await;
        assert_eq!((phase, reached), (Phase::Tls, Reached::No), "{message}");
        served.await.expect("served").expect("asked");
        // And where none is alive, the whole has an end.
        let (phase, reached, message) = fails(limits, both, &format!("https://issuer.test:{}/", at.port())).await;
        assert_eq!((phase, reached), (Phase::Connect, Reached::No), "{message}");
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_never_speaks_tls() {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let url = format!("https://{}/", silent.local_addr().expect("bound"));
        let (phase, reached, message) = fails(Limits { tls: SHORT, ..PATIENT }, none, &url).await;
        assert_eq!((phase, reached), (Phase::Tls, Reached::No), "{message}");
        assert!(message.contains("no trusted TLS connection (nothing within 0.25 seconds)"), "{message}");
    }

    #[tokio::test]
    async fn a_server_that_never_answers_or_stops_in_the_middle() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let mut open = Vec::new();
            for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"] {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
                stream.write_all(answer.as_bytes()).await.expect("sent");
                open.push(stream);
            }
            std::future::pending::<()>().await;
        });
        let (phase, reached, message) = fails(Limits { answer: SHORT, ..PATIENT }, none, &url).await;
        assert_eq!((phase, reached), (Phase::Exchange, Reached::Maybe), "{message}");
        assert!(message.contains("no answer (nothing within 0.25 seconds)"), "{message}");
        let (phase, reached, message) = fails(Limits { piece: SHORT, ..PATIENT }, none, &url).await;
        assert_eq!((phase, reached), (Phase::Read, Reached::Maybe), "{message}");
        assert!(message.contains("the answer broke off (nothing within 0.25 seconds)"), "{message}");
    }
}
