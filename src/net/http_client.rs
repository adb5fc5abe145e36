//! The client for cold reads: balance, own trades, open listings, diagnosis.
//!
//! It never buys. It follows no redirect, repeats nothing, uses no proxy that a variable of the
//! environment names, and reads no more than a bounded answer within a bounded time, compressed or
//! not. What an answer means is for whoever asked.

use std::{
    error::Error,
    fmt, io, iter,
    time::{Duration, Instant},
};

use reqwest::{
    Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{
        ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue,
        ORIGIN, REFERER,
    },
    redirect, retry,
};

use super::{
    content_encoding::{self, DecodeError},
    deadline,
    dial::{DialError, Reach, lookup},
    tls::Tls,
};
use crate::{
    clock,
    config::{Credential, Endpoints},
    domain::server_clock::ClockExchange,
    http_head::ResponseHead,
};

/// The longest answer that is read, as it is sent and as it is decompressed. A page of 250 listings
/// has about 700 kB.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long one read may take, from DNS to the last byte.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// How long connecting may take.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How long an idle connection is kept for the next read.
const IDLE: Duration = Duration::from_secs(30);

/// Asks the marketplace what it may answer to anybody who is us.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client,
    url: String,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// What counts of its head.
    pub head: ResponseHead,
    /// Its body.
    pub body: String,
    /// When the request left and when the head of its answer was here.
    pub exchange: ClockExchange,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The client cannot be set up.
    #[error("the HTTP client could not be set up")]
    SetUp(#[source] reqwest::Error),
    /// A header's value holds a character that cannot stand there.
    #[error("the {header} header holds a character that cannot stand there; check the settings")]
    Header {
        /// Which header. Its value is not shown.
        header: &'static str,
    },
    /// The server could not be reached, or broke off.
    #[error("{obstacle}")]
    Unreachable {
        /// The cause, as far as it can be told.
        obstacle: RequestObstacle,
        /// What the client reported.
        source: reqwest::Error,
    },
    /// The deadline passed.
    #[error("the marketplace did not answer within {} s", DEADLINE.as_secs())]
    Timeout,
    /// No connection within its deadline.
    #[error("no connection to the marketplace within {} s", CONNECT_DEADLINE.as_secs())]
    ConnectTimeout,
    /// The answer is longer than [`BODY_BYTES_MAX`].
    #[error("the answer is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    /// The answer is compressed, and could not be decompressed.
    #[error("the answer is compressed and could not be read: {0}")]
    Encoding(DecodeError),
    /// The answer is not UTF-8.
    #[error("the answer is not text")]
    NotText(#[source] io::Error),
}

/// Why a server could not be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestObstacle {
    /// The host's name has no address.
    Dns,
    /// Without TLS, and the host's name stands for another machine.
    NotLoopback,
    /// Nothing listens on the port.
    Refused,
    /// This process has no free file descriptor.
    TooManyFiles,
    /// The server's certificate is not trusted.
    Certificate(String),
    /// TLS failed in another way.
    Tls(String),
    /// There is no route to the server.
    NoRoute,
    /// The connection broke before the whole answer was there.
    Closed,
    /// The answer is not HTTP.
    NotHttp,
    /// Anything else, as the system or a library describes it.
    Other(String),
}

impl fmt::Display for RequestObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns => f.write_str("the name of the host could not be resolved (DNS)"),
            Self::NotLoopback => f.write_str(
                "without TLS only loopback addresses are connected to, and the host has another one",
            ),
            Self::Refused => f.write_str("connection refused"),
            Self::TooManyFiles => f.write_str("too many open files"),
            Self::Certificate(why) => write!(f, "the certificate was not accepted: {why}"),
            Self::Tls(why) => write!(f, "TLS failed: {why}"),
            Self::NoRoute => f.write_str("no route to the host"),
            Self::Closed => {
                f.write_str("the connection was closed before the whole answer arrived")
            }
            Self::NotHttp => f.write_str("the server does not answer with HTTP"),
            Self::Other(why) => write!(f, "the marketplace could not be reached: {why}"),
        }
    }
}

impl RequestObstacle {
    /// Finds the cause in the chain of an error's sources.
    fn of(error: &reqwest::Error) -> Self {
        let chain = || sources(error);
        let tls = chain().find_map(tls_error);
        if let Some(tls) = tls {
            return match tls {
                rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                    Self::Certificate(tls.to_string())
                }
                other => Self::Tls(other.to_string()),
            };
        }
        let dial = chain().find_map(|cause| cause.downcast_ref::<DialError>());
        if matches!(dial, Some(DialError::NotLoopback { .. })) {
            return Self::NotLoopback;
        }
        // The errors of the resolver have no type of their own.
        let is_dns = chain().any(|cause| cause.to_string().starts_with("dns error"));
        let mut system = chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        match system.find_map(Self::of_system) {
            Some(known) if known == Self::TooManyFiles || !is_dns => return known,
            _ if is_dns => return Self::Dns,
            _ => {}
        }
        let text = chain().last().map_or_else(|| error.to_string(), ToString::to_string);
        if chain().any(|cause| cause.to_string().starts_with("invalid HTTP")) {
            Self::NotHttp
        } else if text.contains("message completed") || text.contains("end of file") {
            Self::Closed
        } else {
            Self::Other(text)
        }
    }

    /// The cause that an error of the system names.
    fn of_system(error: &io::Error) -> Option<Self> {
        /// `EMFILE` and `ENFILE` of Unix, `WSAEMFILE` of Windows. They have no `ErrorKind`.
        const TOO_MANY_FILES: [i32; 3] = [24, 23, 10_024];
        if error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code)) {
            return Some(Self::TooManyFiles);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::Refused),
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => Some(Self::NoRoute),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Some(Self::Closed),
            _ => None,
        }
    }

    /// What the user can do about it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Dns => "check the host in CSGOROLL_HTTP_URL and the network of this machine",
            Self::NotLoopback => {
                "write https:// in CSGOROLL_HTTP_URL, or correct the host's entry in the hosts file"
            }
            Self::Refused => {
                "check host and port in CSGOROLL_HTTP_URL, and whether a firewall refuses them"
            }
            Self::TooManyFiles => {
                "raise the limit of open files (`ulimit -n`, or LimitNOFILE in a systemd unit) and \
                 restart the bot"
            }
            Self::Certificate(_) => {
                "check CSGOROLL_HTTP_URL and the date of this machine; if both are right, a proxy \
                 or a virus scanner replaces the certificate, so turn it off for this host"
            }
            Self::Tls(_) => {
                "check that CSGOROLL_HTTP_URL names a port that speaks TLS, and whether a proxy \
                 stands in between"
            }
            Self::NoRoute => "check the network of this machine and the address",
            Self::Closed => {
                "it is tried again; if it stays so, check the network, and whether the site is up"
            }
            Self::NotHttp => "check host and port in CSGOROLL_HTTP_URL",
            Self::Other(_) => "check the network and CSGOROLL_HTTP_URL",
        }
    }
}

/// What rustls reported, if that is what an error wraps. An `io::Error` does not name what it wraps
/// as its source.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let mut wrapped = Some(error);
    while let Some(error) = wrapped {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped = inner.map(|inner| -> &'e (dyn Error + 'static) { inner });
    }
    None
}

fn sources<'e>(
    error: &'e (dyn Error + 'static),
) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    iter::successors(error.source(), |error: &&'e (dyn Error + 'static)| (*error).source())
}

impl HttpError {
    /// What the user can do about it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::SetUp(_) => "this build is broken; please build it again and report this",
            Self::Header { .. } => "check the settings that name this header",
            Self::Unreachable { obstacle, .. } => obstacle.remedy(),
            Self::Timeout => {
                "it is tried again; if it stays so, check the network, and whether the site is up"
            }
            Self::ConnectTimeout => {
                "check the network, host and port in CSGOROLL_HTTP_URL, and whether a firewall \
                 drops the packets"
            }
            Self::TooLong | Self::NotText(_) => {
                "check that CSGOROLL_HTTP_URL is the address of the API"
            }
            Self::Encoding(_) => {
                "check whether a proxy stands in between; if there is none, please report this"
            }
        }
    }
}

impl HttpClient {
    /// Sets it up. Without a credential it asks as anybody.
    ///
    /// # Errors
    ///
    /// [`HttpError::SetUp`] or [`HttpError::Header`].
    pub fn new(
        endpoints: &Endpoints,
        credential: Option<&Credential>,
        tls: &Tls,
    ) -> Result<Self, HttpError> {
        let value = |header, text: &str| {
            HeaderValue::from_str(text).map_err(|_invalid| HttpError::Header { header })
        };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(ORIGIN, value("Origin", &endpoints.origin)?);
        headers.insert(REFERER, value("Referer", &format!("{}/", endpoints.origin))?);
        if let Some(credential) = credential {
            let mut cookie = value("Cookie", credential.header().reveal())?;
            cookie.set_sensitive(true);
            headers.insert(COOKIE, cookie);
        }
        let client = Client::builder()
            .tls_backend_preconfigured(tls.config().as_ref().clone())
            .https_only(endpoints.http.is_tls())
            .user_agent(value("User-Agent", &endpoints.user_agent)?)
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .dns_resolver(Resolver(Reach::of(endpoints.http.is_tls())))
            .referer(false)
            .connect_timeout(CONNECT_DEADLINE)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .tcp_nodelay(true)
            .build()
            .map_err(HttpError::SetUp)?;
        Ok(Self { client, url: endpoints.http.to_string() })
    }

    /// Posts a JSON body and returns what comes back, whatever its status.
    ///
    /// # Errors
    ///
    /// An [`HttpError`] if no whole answer came.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads. The request may have left.
    pub async fn post(&self, body: String) -> Result<HttpReply, HttpError> {
        // The client's own deadline looks at the clock before it looks at the socket.
        deadline::timeout(DEADLINE, self.exchange(body)).await.unwrap_or(Err(HttpError::Timeout))
    }

    async fn exchange(&self, body: String) -> Result<HttpReply, HttpError> {
        let request = self.client.post(&self.url).header(CONTENT_TYPE, "application/json");
        let sent = Instant::now();
        let mut answer = request.body(body).send().await.map_err(failure)?;
        let exchange = ClockExchange { sent, received: Instant::now() };
        let headers = answer.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
        let head = ResponseHead::read_at(answer.status().as_u16(), headers, Some(clock::wall()));
        let codings = codings(&answer);
        let body = match read_body(&mut answer, &codings).await {
            Ok(body) => body,
            // The status says more than the page that comes with it.
            Err(_unreadable) if head.status != 200 => String::new(),
            Err(unreadable) => return Err(unreadable),
        };
        Ok(HttpReply { head, body, exchange })
    }
}

/// Looks names up as every dial does. An address that stands in the URL is not looked up:
/// [`Endpoint`](crate::config::endpoint::Endpoint) has checked it.
struct Resolver(Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            // The client replaces the port by that of the URL.
            let found = lookup(name.as_str(), 0, reach).await?;
            Ok::<Addrs, _>(Box::new(found.into_iter()))
        })
    }
}

/// The value of `Content-Encoding`, also where it is spread over several headers.
fn codings(answer: &Response) -> String {
    let values = answer.headers().get_all(CONTENT_ENCODING);
    let values = values.iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.collect::<Vec<_>>().join(",")
}

async fn read_body(answer: &mut Response, codings: &str) -> Result<String, HttpError> {
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(failure)? {
        if BODY_BYTES_MAX.saturating_sub(bytes.len()) < piece.len() {
            return Err(HttpError::TooLong);
        }
        bytes.extend_from_slice(&piece);
    }
    let bytes =
        content_encoding::decode(codings, bytes, BODY_BYTES_MAX).map_err(|error| match error {
            DecodeError::TooLong(_) => HttpError::TooLong,
            other => HttpError::Encoding(other),
        })?;
    String::from_utf8(bytes).map_err(|error| {
        HttpError::NotText(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
    })
}

fn failure(error: reqwest::Error) -> HttpError {
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => HttpError::ConnectTimeout,
        (true, false) => HttpError::Timeout,
        (false, _) => {
            let source = error.without_url();
            HttpError::Unreachable { obstacle: RequestObstacle::of(&source), source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_credential() {
        let endpoints =
            Endpoints::new("ws://127.0.0.1:1/ws", "http://127.0.0.1:1/graphql").unwrap();
        let credential = Credential::from_session("hunter2").unwrap();
        let tls = Tls::new().unwrap();
        let client = HttpClient::new(&endpoints, Some(&credential), &tls).unwrap();
        let shown = format!("{client:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_line_break_in_a_header_is_refused() {
        let endpoints =
            Endpoints::new("ws://127.0.0.1:1/ws", "http://127.0.0.1:1/graphql").unwrap();
        let endpoints = Endpoints { user_agent: "a\nX: y".to_owned(), ..endpoints };
        let refused = HttpClient::new(&endpoints, None, &Tls::new().unwrap());
        assert!(matches!(refused, Err(HttpError::Header { header: "User-Agent" })), "{refused:?}");
    }

    #[test]
    fn an_error_of_the_system_is_told_by_its_code_or_its_kind() {
        let of_code = |code| RequestObstacle::of_system(&io::Error::from_raw_os_error(code));
        if cfg!(unix) {
            assert_eq!(of_code(24), Some(RequestObstacle::TooManyFiles));
            assert_eq!(of_code(23), Some(RequestObstacle::TooManyFiles));
        }
        let of_kind = |kind: io::ErrorKind| RequestObstacle::of_system(&kind.into());
        assert_eq!(of_kind(io::ErrorKind::ConnectionRefused), Some(RequestObstacle::Refused));
        assert_eq!(of_kind(io::ErrorKind::NetworkUnreachable), Some(RequestObstacle::NoRoute));
        assert_eq!(of_kind(io::ErrorKind::ConnectionReset), Some(RequestObstacle::Closed));
        assert_eq!(of_kind(io::ErrorKind::OutOfMemory), None);
    }
}
