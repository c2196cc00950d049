//! Classifies requests without a complete response: the phase in which they failed, and whether they may have arrived.

use std::error::Error;
use std::io;

use rustls::{CertificateError, InvalidMessage};

use super::error::{Delivery, IssuerError, Phase};
use super::resolver::ResolveError;
use crate::model::InsecureUrl;
use crate::text::excerpt;

/// Where a request goes, as error messages name it.
#[derive(Clone, Copy)]
pub(super) struct Destination<'a> {
    /// The host, with its port unless it is the scheme's default.
    pub(super) host: &'a str,
    /// The same for the proxy in front of it.
    pub(super) proxy: Option<&'a str>,
}

impl Destination<'_> {
    /// Classifies a failure to send a request or to receive its response. Only a request for which no connection was made is
    /// certain not to have arrived.
    pub(super) fn error(&self, error: &reqwest::Error) -> IssuerError {
        let Self { host, .. } = self;
        if error.is_builder() {
            let detail = causes(error).last().map(ToString::to_string).unwrap_or_default();
            let message = format!("cannot build a request to {host}: {detail}");
            return self.unreachable(Phase::Connect, Delivery::NotSent, message);
        }
        if error.is_connect() {
            return self.connection_error(error);
        }
        // hyper still had the whole request when the connection closed.
        if causes(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>()).any(hyper::Error::is_canceled) {
            let message = format!("connection to {host} closed before the request was sent");
            return self.unreachable(Phase::Connect, Delivery::NotSent, message);
        }
        if error.is_timeout() {
            return self.timed_out();
        }
        if let Some(reason) = causes(error).find_map(invalid_response) {
            let message = format!("invalid response from {host}: {reason}");
            return self.unreachable(Phase::InvalidResponse, Delivery::ResponseLost, message);
        }
        if causes(error).any(is_refused_stream) {
            let message = format!("{host} refused the HTTP/2 stream");
            return self.unreachable(Phase::Exchange, Delivery::NotSent, message);
        }
        if let Some(reason) = causes(error).find_map(stream_reset) {
            let message = format!("{host} reset the HTTP/2 stream: {reason}");
            return self.unreachable(Phase::Exchange, Delivery::ResponseLost, message);
        }
        let message = format!("connection to {host} closed before the response was complete");
        self.unreachable(Phase::Exchange, Delivery::ResponseLost, message)
    }

    /// Returns the error of a request whose response did not arrive in time.
    pub(super) fn timed_out(&self) -> IssuerError {
        let message = format!("{} did not respond in time", self.host);
        self.unreachable(Phase::Exchange, Delivery::MaybeSent, message)
    }

    fn connection_error(&self, error: &reqwest::Error) -> IssuerError {
        let Self { host, proxy } = self;
        if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<InsecureUrl>()) {
            return error.clone().into();
        }
        if let Some(ResolveError { name, .. }) = causes(error).find_map(|cause| cause.downcast_ref()) {
            // A proxy may also leave the server's own name to be resolved here (socks5).
            let of_proxy = proxy.filter(|proxy| proxy.split(':').next() == Some(name));
            let message = match of_proxy {
                Some(proxy) => format!("cannot resolve the proxy {proxy} to reach {host}"),
                None => format!("cannot resolve {name}"),
            };
            let destination = Self { proxy: of_proxy, ..*self };
            return destination.unreachable(Phase::Dns, Delivery::NotSent, message);
        }
        if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
            // The first byte of the response is not that of a TLS record.
            if matches!(error, rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) {
                let message = format!("{host} does not use TLS; its port may be for http, not https");
                return self.unreachable(Phase::NoTls, Delivery::NotSent, message);
            }
            let message = format!("TLS connection to {host} failed: {}", tls_reason(error));
            let phase = match error {
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Phase::UnknownAuthority,
                _ => Phase::Tls,
            };
            return self.unreachable(phase, Delivery::NotSent, message);
        }
        if let Some(proxy) = proxy
            && let Some(refusal) = causes(error).find_map(proxy_refusal)
        {
            return self.unreachable(Phase::Proxy, Delivery::NotSent, format!("proxy {proxy} {refusal} {host}"));
        }
        let through = proxy.map(|proxy| format!(" through proxy {proxy}")).unwrap_or_default();
        let kind = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last().map(io::Error::kind);
        let reason = match kind {
            _ if error.is_timeout() => "timed out".to_owned(),
            Some(io::ErrorKind::ConnectionRefused) => "refused".to_owned(),
            Some(kind) => format!("failed: {kind}"),
            None => "failed".to_owned(),
        };
        let message = format!("connection to {host}{through} {reason}");
        self.unreachable(Phase::Connect, Delivery::NotSent, message)
    }

    fn unreachable(&self, phase: Phase, delivery: Delivery, message: String) -> IssuerError {
        let proxy = self.proxy.map(ToOwned::to_owned);
        IssuerError::Unreachable { message: excerpt(&message, 400), proxy, phase, delivery }
    }
}

/// Returns what a connected proxy did instead of connecting to the server. These errors have no public type, only a text.
fn proxy_refusal(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    let text = cause.to_string();
    match text.strip_prefix("tunnel error: ").or_else(|| text.strip_prefix("SOCKS error: "))? {
        // The proxy itself was not connected.
        "failed to create underlying connection" => None,
        "proxy authorization required"
        | "credentials not accepted"
        | "server does not support user/pass authentication"
        | "server implements authentication incorrectly" => Some("requires another user name and password to reach"),
        _ => Some("did not connect to"),
    }
}

/// Returns why a response is not valid HTTP.
fn invalid_response(cause: &(dyn Error + 'static)) -> Option<String> {
    let error = cause.downcast_ref::<hyper::Error>().filter(|error| error.is_parse())?;
    Some(error.to_string().replace(" parsed", ""))
}

/// Returns whether the server has not processed the request: it refused its stream (RFC 9113, section 8.7), or its last message on
/// the connection, GOAWAY, named an earlier one as the last (section 6.8). See [`stream_reset`].
fn is_refused_stream(cause: &(dyn Error + 'static)) -> bool {
    let text = cause.to_string();
    text.starts_with("connection error received: ") || text.starts_with("stream error received: refused stream")
}

/// Returns why the server ended an HTTP/2 stream. The error's type is not one that this crate names.
fn stream_reset(cause: &(dyn Error + 'static)) -> Option<String> {
    cause.to_string().strip_prefix("stream error received: ").map(ToOwned::to_owned)
}

fn tls_reason(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => "certificate signed by an unknown authority",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate not yet valid",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "certificate is for another host"
            }
            CertificateError::Revoked => "certificate revoked",
            _ => "invalid certificate",
        },
        _ => "handshake failed",
    }
}

/// Returns the causes of an error, including those that an [`io::Error`] wraps.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| {
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use url::Url;

    use super::super::http::Http;
    use super::super::reqwest_clients::Limits;
    use super::super::resolver::{Lookup, system_lookup};
    use super::*;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(250);
    const LONG_LIMITS: Limits = Limits { connect: LONG, read: LONG, total: LONG };
    const SHORT_CONNECT: Limits = Limits { connect: SHORT, ..LONG_LIMITS };

    fn no_lookup(_: &str) -> io::Result<Vec<SocketAddr>> {
        panic!("an address needs no lookup")
    }

    /// Sends a request to `url`, which must fail, and returns the phase, the delivery and the message of its error.
    async fn failure(limits: Limits, lookup: Lookup, url: &str) -> (Phase, Delivery, String) {
        let url = Url::parse(url).expect("valid");
        let error = Http::with_limits(Vec::new(), limits, lookup).get(&url, "*/*", None).await.err().expect("it fails");
        match error {
            IssuerError::Unreachable { message, phase, delivery, .. } => (phase, delivery, message),
            other => panic!("{other:?}"),
        }
    }

    /// Returns an address that does not respond to connection attempts: the listener's backlog is full.
    fn unresponsive_address() -> (SocketAddr, impl Sized) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        rustix::net::listen(&listener, 0).expect("a short queue");
        let address = listener.local_addr().expect("bound");
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, SHORT) {
            queued.push(stream);
        }
        (address, (listener, queued))
    }

    #[test]
    fn reason_of_a_failed_handshake_is_the_certificates() {
        for (error, expected) in [
            (CertificateError::UnknownIssuer, "certificate signed by an unknown authority"),
            (CertificateError::Expired, "certificate expired"),
            (CertificateError::NotValidYet, "certificate not yet valid"),
            (CertificateError::NotValidForName, "certificate is for another host"),
            (CertificateError::Revoked, "certificate revoked"),
            (CertificateError::BadSignature, "invalid certificate"),
        ] {
            assert_eq!(tls_reason(&rustls::Error::InvalidCertificate(error)), expected);
        }
        assert_eq!(tls_reason(&rustls::Error::DecryptError), "handshake failed");
    }

    #[test]
    fn refusal_of_a_connected_proxy_is_recognized() {
        let credentials = Some("requires another user name and password to reach");
        for (text, expected) in [
            ("tunnel error: proxy authorization required", credentials),
            ("SOCKS error: credentials not accepted", credentials),
            ("tunnel error: unsuccessful", Some("did not connect to")),
            ("SOCKS error: connection refused", Some("did not connect to")),
            ("tunnel error: failed to create underlying connection", None),
            ("connection refused", None),
        ] {
            let cause: Box<dyn Error> = text.into();
            assert_eq!(proxy_refusal(&*cause), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn unknown_host_name_is_reported_as_not_sent() {
        let (phase, delivery, message) = failure(LONG_LIMITS, system_lookup, "https://issuer.invalid/").await;
        assert_eq!((phase, delivery), (Phase::Dns, Delivery::NotSent));
        assert_eq!(message, "cannot resolve issuer.invalid");
    }

    #[tokio::test]
    async fn name_server_without_reply_is_limited_by_the_connect_timeout() {
        let never = |_: &str| -> io::Result<Vec<SocketAddr>> {
            loop {
                std::thread::park();
            }
        };
        let (phase, delivery, message) = failure(SHORT_CONNECT, never, "https://issuer.test/").await;
        assert_eq!((phase, delivery), (Phase::Connect, Delivery::NotSent));
        assert_eq!(message, "connection to issuer.test timed out");
    }

    #[tokio::test]
    async fn refused_connection_is_reported_as_not_sent() {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = address.expect("a port");
        let (phase, delivery, message) = failure(LONG_LIMITS, no_lookup, &format!("https://{address}/")).await;
        assert_eq!((phase, delivery), (Phase::Connect, Delivery::NotSent));
        assert_eq!(message, format!("connection to {address} refused"));
    }

    #[tokio::test]
    async fn connection_attempt_without_reply_is_reported_as_not_sent() {
        let (address, _listener) = unresponsive_address();
        for scheme in ["http", "https"] {
            let (phase, delivery, message) = failure(SHORT_CONNECT, no_lookup, &format!("{scheme}://{address}/")).await;
            assert_eq!((phase, delivery), (Phase::Connect, Delivery::NotSent));
            assert_eq!(message, format!("connection to {address} timed out"));
        }
    }

    #[tokio::test]
    async fn unresponsive_address_leaves_time_for_the_next_one() {
        let (address, _listener) = unresponsive_address();
        // The same port of another address of this machine.
        let other = (Ipv4Addr::new(127, 0, 0, 2), address.port());
        let other = tokio::net::TcpListener::bind(other).await.expect("the port");
        let served = tokio::spawn(async move { other.accept().await.map(drop) });
        let both = |_: &str| Ok(vec![([127, 0, 0, 1], 0).into(), ([127, 0, 0, 2], 0).into()]);
        // Each address gets half of it, enough for the second one on a busy machine.
        let limits = Limits { connect: 16 * SHORT, ..LONG_LIMITS };
        let (_, delivery, message) = failure(limits, both, &format!("https://issuer.test:{}/", address.port())).await;
        assert_eq!(delivery, Delivery::NotSent, "{message}");
        let served = tokio::time::timeout(LONG, served).await.expect("the second address was tried");
        served.expect("served").expect("accepted");
    }

    #[tokio::test]
    async fn silence_in_the_tls_handshake_is_reported_as_not_sent() {
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = silent.local_addr().expect("bound");
        let (phase, delivery, message) = failure(SHORT_CONNECT, no_lookup, &format!("https://{address}/")).await;
        assert_eq!((phase, delivery), (Phase::Connect, Delivery::NotSent));
        assert_eq!(message, format!("connection to {address} timed out"));
    }

    #[tokio::test]
    async fn http_port_is_named_where_https_was_expected() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            assert!(stream.read(&mut [0; 4096]).await.expect("a handshake") > 0);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("sent");
        });
        let (phase, delivery, message) = failure(LONG_LIMITS, no_lookup, &format!("https://{address}/")).await;
        assert_eq!((phase, delivery), (Phase::NoTls, Delivery::NotSent));
        assert_eq!(message, format!("{address} does not use TLS; its port may be for http, not https"));
    }

    #[tokio::test]
    async fn invalid_response_is_reported_with_the_reason() {
        for (response, reason) in [
            ("garbage\r\n\r\n", "invalid HTTP version"),
            ("HTTP/1.1 99 x\r\n\r\n", "invalid HTTP status-code"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok", "invalid content-length"),
            ("HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\n\r\n", "invalid HTTP header"),
        ] {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            let address = listener.local_addr().expect("bound");
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
                stream.write_all(response.as_bytes()).await.expect("sent");
                // Until the client closes it.
                let _ = stream.read(&mut [0; 1]).await;
            });
            let (phase, delivery, message) = failure(LONG_LIMITS, no_lookup, &format!("http://{address}/")).await;
            assert_eq!((phase, delivery), (Phase::InvalidResponse, Delivery::ResponseLost), "{response}: {message}");
            assert_eq!(message, format!("invalid response from {address}: {reason}"));
        }
    }

    #[tokio::test]
    async fn missing_or_incomplete_response_is_reported_as_maybe_sent() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut open = Vec::new();
            loop {
                for response in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"] {
                    let (mut stream, _) = listener.accept().await.expect("a connection");
                    assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
                    stream.write_all(response.as_bytes()).await.expect("sent");
                    open.push(stream);
                }
            }
        });
        let late = (Phase::Exchange, Delivery::MaybeSent, format!("{address} did not respond in time"));
        for limits in [Limits { read: SHORT, ..LONG_LIMITS }, Limits { total: SHORT, ..LONG_LIMITS }] {
            for _ in 0..2 {
                assert_eq!(failure(limits, no_lookup, &format!("http://{address}/")).await, late);
            }
        }
    }
}
