//! A company network: an issuer behind a proxy, with a certificate of a private authority.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use authctl::dev_issuer::{Algorithm, DevIssuer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;

use crate::support::kill_on_drop::KillOnDrop;
use crate::support::parts;
use crate::support::process::wait_until;
use crate::support::{CommandOutput, PASSWORD, Sandbox, USER, free_port, issuer};

/// The issuer's host name, which resolves only with [`CompanyNetwork::names`].
pub const NAME: &str = "issuer.test";

/// A library that resolves names from a file, without root.
pub const NAMES_LIBRARY: &str = "libnss_wrapper.so";

/// An issuer at `https://issuer.test:PORT`, and a home.
pub struct CompanyNetwork {
    pub home: Sandbox,
    pub issuer: DevIssuer,
    front: TlsFront,
}

impl CompanyNetwork {
    pub fn new() -> Self {
        let home = Sandbox::new();
        certify(home.path(), &[NAME]);
        let (listener, port) = listener();
        let url = format!("https://{NAME}:{port}");
        let issuer = issuer(|options| {
            options.algorithm = Algorithm::ES256;
            options.public_url = Some(url);
        });
        let front = TlsFront::serve(listener, home.path(), issuer.address());
        std::fs::write(home.agent_readable("hosts"), format!("127.0.0.1 {NAME} localhost\n")).expect("written");
        Self { home, issuer, front }
    }

    /// Returns the issuer's port.
    pub fn port(&self) -> u16 {
        url::Url::parse(self.issuer.issuer()).expect("valid").port().expect("a port")
    }

    /// Starts another TLS proxy for `to` under the issuer's name.
    pub fn front(&self, listener: TcpListener, to: SocketAddr) -> TlsFront {
        TlsFront::serve(listener, self.home.path(), to)
    }

    /// Returns the certificate file of the company's authority.
    pub fn authority(&self) -> PathBuf {
        self.home.path().join("ca.pem")
    }

    /// Returns the environment variables that make `issuer.test` resolve.
    pub fn names(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", parts::library(NAMES_LIBRARY)), ("NSS_WRAPPER_HOSTS", self.home.agent_readable("hosts"))]
    }

    /// Stops the TLS proxy at the issuer's address.
    pub fn stop_issuer(&mut self) {
        self.front.stop();
    }

    /// Logs in under the profile `work` with the authority's certificate.
    pub fn log_in(&self) -> CommandOutput {
        let authority = self.authority();
        self.login(&["--ca-cert", authority.to_str().expect("text"), "-vvv"])
    }

    pub fn login(&self, more: &[&str]) -> CommandOutput {
        log_in(&self.home, self.issuer.issuer(), more)
    }

    /// Advances time and checks that the token is refreshed.
    pub fn refreshes(&self) {
        let before = self.home.token("work");
        self.home.advance_time("work", 301);
        assert_ne!(self.home.token("work"), before);
    }
}

/// Logs in with a password under the profile `work`.
pub fn log_in(home: &Sandbox, issuer: &str, more: &[&str]) -> CommandOutput {
    let args = ["login", "work", "--issuer", issuer, "--client-id", "authctl", "--password", "--password-stdin"];
    home.run_with(&[&args[..], &["--username", USER], more].concat(), &format!("{PASSWORD}\n"))
}

pub fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

/// Generates an authority, `ca.pem`, and its certificate for these host names, `cert.pem` with `key.pem`.
pub fn certify(dir: &Path, names: &[&str]) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        let ran = command.args(["req", "-x509"]).args(key).args(args).current_dir(dir).output().expect("openssl");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    openssl(&["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=The company's authority"]);
    let names = format!("subjectAltName=DNS:{}", names.join(",DNS:"));
    let no_authority = "basicConstraints=critical,CA:FALSE";
    let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=issuer"];
    openssl(&[&signed[..], &["-addext", &names, "-addext", no_authority]].concat());
}

/// A TLS proxy in front of a plain HTTP server; stops when dropped.
pub struct TlsFront {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsFront {
    /// Passes what arrives at `listener` on to `to`, with the certificate in `dir`.
    pub fn serve(listener: TcpListener, dir: &Path, to: SocketAddr) -> Self {
        let chain = CertificateDer::pem_file_iter(dir.join("cert.pem")).expect("a file").flatten().collect();
        let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        listener.set_nonblocking(true).expect("set");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (stop, stopped) = oneshot::channel();
        let serving = async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("taken");
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut near) = acceptor.accept(stream).await else { return };
                    let Ok(mut far) = tokio::net::TcpStream::connect(to).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        };
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serving => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("served");
        }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A third-party proxy server; stops when dropped.
pub struct Proxy {
    _process: KillOnDrop,
    log: PathBuf,
    /// The address with the port.
    pub at: String,
}

impl Proxy {
    /// Starts tinyproxy (HTTP CONNECT).
    pub fn http(company: &CompanyNetwork, user: Option<(&str, &str)>) -> Self {
        let (port, dir) = (free_port(), company.home.path());
        let (settings, log) = (dir.join("tinyproxy.conf"), dir.join("proxy.log"));
        let user = user.map(|(name, password)| format!("BasicAuth {name} {password}\n")).unwrap_or_default();
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nLogLevel Connect\nLogFile \"{}\"\n{user}",
            log.display()
        );
        std::fs::write(&settings, text).expect("written");
        let mut command = Command::new(parts::program("tinyproxy"));
        command.arg("-d").arg("-c").arg(&settings).stdout(Stdio::null()).stderr(Stdio::null());
        Self::start(company, command, log, port)
    }

    /// Starts microsocks (SOCKS 5).
    pub fn socks(company: &CompanyNetwork, user: Option<(&str, &str)>) -> Self {
        let (port, log) = (free_port(), company.home.path().join("proxy.log"));
        let mut command = Command::new(parts::program("microsocks"));
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null());
        command.stderr(File::create(&log).expect("a log"));
        if let Some((name, password)) = user {
            command.args(["-u", name, "-P", password]);
        }
        Self::start(company, command, log, port)
    }

    fn start(company: &CompanyNetwork, mut command: Command, log: PathBuf, port: u16) -> Self {
        let process = KillOnDrop(command.envs(company.names()).stdin(Stdio::null()).spawn().expect("spawned"));
        let proxy = Self { _process: process, log, at: format!("127.0.0.1:{port}") };
        wait_until("the proxy", || TcpStream::connect(&proxy.at).ok());
        proxy
    }

    /// Returns the number of connections to the issuer.
    pub fn used(&self) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("CONNECT issuer.test") || line.contains("connected to")).count()
    }
}
