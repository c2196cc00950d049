//! The reference server: bare hyper in its own process, with the same reply to every request.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use super::http::Reply;
use super::{Home, Running};

/// The argument that makes the bench run as the server; the socket and the file with the reply follow.
const SERVE: &str = "--serve-constant";

/// Runs as the server and never returns, if the arguments select it.
pub fn run_as_server_if_requested() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == SERVE) {
        serve(Path::new(&args[2]), Path::new(&args[3]));
    }
}

/// The running server; killed when dropped.
pub struct Constant {
    running: Running,
    pub socket: PathBuf,
}

impl Constant {
    /// Starts a server that sends `reply`: the same headers, the same body.
    pub fn start(home: &Home, reply: &Reply) -> Self {
        let (socket, file) = (home.path().join("constant.sock"), home.path().join("constant.reply"));
        fs::write(&file, [reply.head.as_bytes(), b"\r\n\r\n", &reply.body].concat()).expect("written");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg(SERVE).arg(&socket).arg(&file).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = Running::start(&mut command);
        assert_eq!(running.line(), "ready");
        Self { running, socket }
    }

    pub fn id(&self) -> u32 {
        self.running.0.id()
    }
}

fn serve(socket: &Path, file: &Path) -> ! {
    let bytes = fs::read(file).expect("the reply");
    let reply = super::http::read(&mut bytes.as_slice()).expect("a reply");
    let mut headers = HeaderMap::new();
    for (name, value) in reply.headers() {
        headers.insert(HeaderName::try_from(name).expect("a name"), value.parse().expect("a value"));
    }
    // hyper writes these two itself.
    let dated = headers.remove(DATE).is_some();
    headers.remove(CONTENT_LENGTH);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(accept(socket, StatusCode::from_u16(reply.status).expect("a status"), headers, reply.body, dated))
}

async fn accept(socket: &Path, status: StatusCode, headers: HeaderMap, body: Vec<u8>, dated: bool) -> ! {
    let listener = tokio::net::UnixListener::bind(socket).expect("a socket");
    let (body, released) = (Bytes::from(body), watch::Sender::new(false));
    println!("ready");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (headers, body, released) = (headers.clone(), body.clone(), released.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let mut response = Response::new(Full::new(body.clone()));
            *response.status_mut() = status;
            *response.headers_mut() = headers.clone();
            let released = released.clone();
            async move {
                match request.uri().path() {
                    // Waits for `/go`.
                    "/held" => {
                        let _ = released.subscribe().wait_for(|released| *released).await;
                    }
                    "/go" => {
                        released.send_replace(true);
                    }
                    _ => {}
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut server = http1::Builder::new();
        server.auto_date_header(dated);
        tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
    }
}
