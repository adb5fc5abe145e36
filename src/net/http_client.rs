//! HTTP client for everything but orders: reads of the account, prices, alerts, diagnosis.
//!
//! It follows no redirect, retries nothing and ignores proxy variables of the environment. Size and
//! time of a response are bounded, compressed or not. The caller interprets the response.

pub mod download;

use std::{
    collections::BTreeMap,
    error::Error,
    fmt, io, iter,
    sync::Mutex,
    time::{Duration, Instant},
};

use reqwest::{
    Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue},
    redirect, retry,
};
use rustix::io::Errno;

use super::{
    content_encoding::{self, DecodeError},
    deadline,
    dial::{AllowedAddresses, DialError, lookup_name},
    http_head::ResponseHead,
    http_message::{HttpRequest, HttpResponse, InvalidHeader, Method},
    tls::Tls,
};
use crate::{
    clock,
    config::{USER_AGENT, endpoint::Endpoint},
    domain::server_clock::ClockExchange,
    threads::lock,
};

/// Maximum length of a response body, both as received and decompressed. A page of 250 listings has
/// about 700 kB.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Maximum time of one request, from DNS to the last byte of the response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum time to connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for which an idle connection is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Wait after a 429 that states none, and after a first failed read.
pub const PAUSE_DEFAULT: Duration = Duration::from_secs(5);

/// Longest wait that a host can request.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// Ends of the waits that hosts requested with 429, by origin. The requests of the account, the
/// tokens of the feed and keep-warm requests wait together; the ledger pauses orders.
static PAUSES: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());

/// Records that a host asked every client in this process to wait.
pub fn pause_host(origin: &str, wait: Duration) {
    let now = Instant::now();
    let mut pauses = lock(&PAUSES);
    pauses.retain(|_host, until| now < *until);
    if let Some(end) = now.checked_add(wait.min(PAUSE_MAX)) {
        let until = pauses.entry(origin.to_owned()).or_insert(end);
        *until = end.max(*until);
    }
}

/// Returns the time for which a host has asked to wait.
pub fn pause_of_host(origin: &str) -> Duration {
    let until = lock(&PAUSES).get(origin).copied();
    until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
}

/// Part of a host's documented limit that one kind of request may use. All kinds together have one
/// schedule of one request per interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostQuota {
    pub interval: Duration,
    /// Maximum lead over the schedule.
    pub ahead_max: Duration,
}

/// Time at which the requests so far would have been sent at one per interval, by origin. The
/// settings name one origin with a documented limit.
static SENT_UNTIL: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());

/// Maximum time that a request waits for the host's limit. Without it, reads might wait forever
/// while other requests use the whole limit, and the bot would not know its balance. A request that
/// is counted after this wait uses the part of the limit that no quota contains.
const QUOTA_WAIT_MAX: Duration = Duration::from_secs(30);

/// Counts a request that is sent now, in this process. Without a quota, nothing is limited.
///
/// # Errors
///
/// Returns the time until the host's limit allows the request, and counts nothing.
pub fn try_acquire_quota(origin: &str, quota: Option<HostQuota>) -> Result<(), Duration> {
    try_acquire_quota_after(origin, quota, Duration::ZERO)
}

/// Like [`try_acquire_quota`], for a request that has waited.
fn try_acquire_quota_after(
    origin: &str,
    quota: Option<HostQuota>,
    waited: Duration,
) -> Result<(), Duration> {
    let Some(HostQuota { interval, ahead_max }) = quota else { return Ok(()) };
    let now = tokio::time::Instant::now().into_std();
    let mut hosts = lock(&SENT_UNTIL);
    let until = hosts.entry(origin.to_owned()).or_insert(now);
    *until = now.max(*until);
    let wait = until.saturating_duration_since(now).saturating_sub(ahead_max);
    let wait = wait.min(QUOTA_WAIT_MAX.saturating_sub(waited));
    if !wait.is_zero() {
        return Err(wait);
    }
    *until = until.checked_add(interval).unwrap_or(*until);
    Ok(())
}

/// Waits until the host's limit allows a request, at most [`QUOTA_WAIT_MAX`], and counts it.
///
/// # Cancel safety
///
/// Safe: nothing is counted while it waits.
pub async fn acquire_quota(origin: &str, quota: Option<HostQuota>) {
    let started = tokio::time::Instant::now();
    while let Err(wait) = try_acquire_quota_after(origin, quota, started.elapsed()) {
        tokio::time::sleep(wait).await;
    }
}

/// Sends requests to one host.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client,
    /// Scheme and host.
    origin: String,
}

/// A response with any status.
#[derive(Clone, Debug)]
pub struct HttpReply {
    pub response: HttpResponse,
    /// Times at which the request was sent and the head of the response was received.
    pub exchange: ClockExchange,
}

/// Cause of a missing response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("the HTTP client could not be set up")]
    SetUp(#[source] reqwest::Error),
    #[error("the {} header contains a character that is not allowed; check the settings", .0.header)]
    Header(InvalidHeader),
    /// The server could not be reached, or the connection broke.
    #[error("{cause}")]
    Unreachable { cause: RequestObstacle, source: reqwest::Error },
    /// [`RESPONSE_TIMEOUT`] passed.
    #[error("no response from the market within {} s", RESPONSE_TIMEOUT.as_secs())]
    Timeout,
    /// [`CONNECT_TIMEOUT`] passed.
    #[error("no connection to the market within {} s", CONNECT_TIMEOUT.as_secs())]
    ConnectTimeout,
    #[error("the response is longer than {BODY_BYTES_MAX} bytes")]
    TooLong,
    #[error("the response could not be decompressed: {0}")]
    Encoding(DecodeError),
}

/// Cause of a failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestObstacle {
    /// The host name does not resolve.
    Dns,
    /// Without TLS, and the host name resolves to another machine.
    NotLoopback,
    /// No process listens on the port, or a firewall rejects the connection.
    ConnectionRefused,
    /// This process has no free file descriptor.
    TooManyFiles,
    /// The server's certificate is not trusted.
    Certificate(String),
    /// TLS failed for another reason.
    Tls(String),
    NoRoute,
    /// The connection was closed before the response was complete.
    Closed,
    NotHttp,
    /// Any other cause, as the system or a library describes it.
    Other(String),
}

impl fmt::Display for RequestObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns => f.write_str("the host name could not be resolved (DNS)"),
            Self::NotLoopback => f.write_str(
                "connections without TLS are limited to loopback addresses, but the host has another one",
            ),
            Self::ConnectionRefused => f.write_str("connection refused"),
            Self::TooManyFiles => f.write_str("too many open files"),
            Self::Certificate(why) => write!(f, "certificate rejected: {why}"),
            Self::Tls(why) => write!(f, "TLS failed: {why}"),
            Self::NoRoute => f.write_str("no route to the host"),
            Self::Closed => {
                f.write_str("the connection was closed before the response was complete")
            }
            Self::NotHttp => f.write_str("the response is not HTTP"),
            Self::Other(why) => write!(f, "the market could not be reached: {why}"),
        }
    }
}

impl RequestObstacle {
    /// Finds the cause in the source chain of an error.
    fn classify(error: &reqwest::Error) -> Self {
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
        let dial = chain().find_map(|error| error.downcast_ref::<DialError>());
        if matches!(dial, Some(DialError::NotLoopback { .. })) {
            return Self::NotLoopback;
        }
        // The resolver's errors have no public type.
        let is_dns = chain().any(|error| error.to_string().starts_with("dns error"));
        let mut system = chain().filter_map(|error| error.downcast_ref::<io::Error>());
        match system.find_map(Self::classify_io) {
            Some(known) if known == Self::TooManyFiles || !is_dns => return known,
            _ if is_dns => return Self::Dns,
            _ => {}
        }
        let text = chain().last().map_or_else(|| error.to_string(), ToString::to_string);
        if chain().any(|error| error.to_string().starts_with("invalid HTTP")) {
            Self::NotHttp
        } else if text.contains("message completed") || text.contains("end of file") {
            Self::Closed
        } else {
            Self::Other(text)
        }
    }

    /// Classifies an I/O error.
    fn classify_io(error: &io::Error) -> Option<Self> {
        // These errors have no `ErrorKind`.
        let too_many_files = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        if error.raw_os_error().is_some_and(|code| too_many_files.contains(&code)) {
            return Some(Self::TooManyFiles);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::ConnectionRefused),
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

    /// Returns the action that the user can take. `address` names the setting of the address.
    pub fn remedy(&self, address: &str) -> String {
        match self {
            Self::Dns => format!("check the host in {address} and the network of this machine"),
            Self::NotLoopback => {
                format!(
                    "write https:// in {address}, or correct the host's entry in the hosts file"
                )
            }
            Self::ConnectionRefused => {
                format!("check host and port in {address}, and whether a firewall blocks them")
            }
            Self::TooManyFiles => {
                "raise the limit of open files (`ulimit -n`, or LimitNOFILE in a \
                                   systemd unit) and restart the bot"
                    .to_owned()
            }
            Self::Certificate(_) => format!(
                "check {address} and the date of this machine; if both are right, a proxy or a \
                 virus scanner replaces the certificate, so turn it off for this host"
            ),
            Self::Tls(_) => format!(
                "check that the port in {address} serves TLS, and whether a proxy intercepts the \
                 connection"
            ),
            Self::NoRoute => {
                format!("check the network of this machine and the address in {address}")
            }
            Self::Closed => RETRIES.to_owned(),
            Self::NotHttp => format!("check host and port in {address}"),
            Self::Other(_) => format!("check the network and {address}"),
        }
    }
}

/// Remedy for a failure that may end by itself.
const RETRIES: &str =
    "the bot retries; if this persists, check the network and whether the market is up";

/// Finds a rustls error inside an error. An `io::Error` does not return its inner error as its
/// source.
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
    /// Returns the action that the user can take. `address` names the setting of the address.
    pub fn remedy(&self, address: &str) -> String {
        match self {
            Self::SetUp(_) => {
                "this build is broken; rebuild it, and report this as a bug".to_owned()
            }
            Self::Header(_) => "check the settings that name this header".to_owned(),
            Self::Unreachable { cause, .. } => cause.remedy(address),
            Self::Timeout => RETRIES.to_owned(),
            Self::ConnectTimeout => format!(
                "check the network, host and port in {address}, and whether a firewall drops the \
                 packets"
            ),
            Self::TooLong => format!("check that {address} is the address of the API"),
            Self::Encoding(_) => "check whether a proxy changes the responses; if there is none, \
                                  report this as a bug"
                .to_owned(),
        }
    }
}

impl HttpClient {
    /// Builds a client for the host of this endpoint.
    ///
    /// # Errors
    ///
    /// Returns [`HttpError::SetUp`].
    pub fn new(endpoint: &Endpoint, tls: &Tls) -> Result<Self, HttpError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = Client::builder()
            .tls_backend_preconfigured(tls.config().as_ref().clone())
            .https_only(endpoint.is_tls())
            .user_agent(USER_AGENT)
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .dns_resolver(Resolver(AllowedAddresses::of_endpoint(endpoint)))
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .tcp_nodelay(true)
            .build()
            .map_err(HttpError::SetUp)?;
        Ok(Self { client, origin: endpoint.origin() })
    }

    /// Returns scheme and host.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Sends a request and returns the response of any status. A `User-Agent` of the request
    /// replaces that of the program.
    ///
    /// # Errors
    ///
    /// Returns an [`HttpError`] if no complete response was received.
    ///
    /// # Cancel safety
    ///
    /// Safe for requests without side effects. The request may have been sent.
    pub async fn send(&self, request: &HttpRequest) -> Result<HttpReply, HttpError> {
        // The client's own deadline checks the clock before the socket.
        let exchange = self.exchange(request);
        deadline::timeout(RESPONSE_TIMEOUT, exchange).await.unwrap_or(Err(HttpError::Timeout))
    }

    async fn exchange(&self, request: &HttpRequest) -> Result<HttpReply, HttpError> {
        let HttpRequest { method, path_and_query, headers, body } = request;
        let method = match method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
        };
        let url = format!("{}{path_and_query}", self.origin);
        let request = self.client.request(method, url).headers(header_map(headers)?);
        let sent = Instant::now();
        let mut response = request.body(body.clone()).send().await.map_err(to_http_error)?;
        let exchange = ClockExchange { sent, received: Instant::now() };
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| (name.as_str(), value.as_bytes()));
        let head = ResponseHead::parse_at(response.status().as_u16(), headers, clock::wall());
        let codings = codings(&response);
        let body = match read_body(&mut response, &codings).await {
            Ok(body) => body,
            // The status is more informative than the body of an error page.
            Err(_unreadable) if head.status != 200 => Vec::new(),
            Err(unreadable) => return Err(unreadable),
        };
        Ok(HttpReply { response: HttpResponse { head, body }, exchange })
    }
}

/// Converts the headers. Their values are not logged by the client: one is the credential.
fn header_map(headers: &[(&'static str, String)]) -> Result<HeaderMap, HttpError> {
    let mut map = HeaderMap::new();
    for (header, value) in headers {
        let invalid = HttpError::Header(InvalidHeader { header });
        let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(header.as_bytes()), HeaderValue::from_str(value))
        else {
            return Err(invalid);
        };
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(map)
}

/// Resolves host names through [`lookup_name`]. A literal address in the URL is not resolved:
/// [`Endpoint`] has checked it.
struct Resolver(AllowedAddresses);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            // The client replaces the port by that of the URL.
            let found = lookup_name(name.as_str(), 0, reach).await?;
            Ok::<Addrs, _>(Box::new(found.into_iter()))
        })
    }
}

/// Joins all `Content-Encoding` headers.
fn codings(response: &Response) -> String {
    let values = response.headers().get_all(CONTENT_ENCODING);
    let values = values.iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.collect::<Vec<_>>().join(",")
}

/// Reads a body as received; returns `None` if it is longer than `bytes_max`.
async fn read_bytes(
    response: &mut Response,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, HttpError> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(to_http_error)? {
        if bytes_max.saturating_sub(bytes.len()) < piece.len() {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Some(bytes))
}

async fn read_body(response: &mut Response, codings: &str) -> Result<Vec<u8>, HttpError> {
    let bytes = read_bytes(response, BODY_BYTES_MAX).await?.ok_or(HttpError::TooLong)?;
    content_encoding::decode(codings, bytes, BODY_BYTES_MAX).map_err(|error| match error {
        DecodeError::TooLong(_) => HttpError::TooLong,
        other => HttpError::Encoding(other),
    })
}

fn to_http_error(error: reqwest::Error) -> HttpError {
    match (error.is_timeout(), error.is_connect()) {
        (true, true) => HttpError::ConnectTimeout,
        (true, false) => HttpError::Timeout,
        (false, _) => {
            let source = error.without_url();
            HttpError::Unreachable { cause: RequestObstacle::classify(&source), source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::Scheme;

    #[tokio::test(start_paused = true)]
    async fn a_read_waits_for_a_bounded_time_while_others_use_the_whole_limit_and_is_counted() {
        let origin = "http://shared.invalid";
        let interval = Duration::from_millis(300);
        let [read_quota, other_quota] =
            [9, 19].map(|ahead| Some(HostQuota { interval, ahead_max: interval * ahead }));
        let others = async {
            let mut turns = tokio::time::interval(interval / 3);
            loop {
                turns.tick().await;
                while try_acquire_quota(origin, other_quota).is_ok() {}
            }
        };
        let started = tokio::time::Instant::now();
        tokio::select! {
            biased;
            () = others => {}
            () = acquire_quota(origin, read_quota) => {}
        }
        assert_eq!(started.elapsed(), QUOTA_WAIT_MAX);
        let wait = try_acquire_quota(origin, other_quota).unwrap_err();
        assert!(interval < wait && wait <= interval * 2, "{wait:?}");
    }

    #[tokio::test]
    async fn a_line_break_in_a_header_is_rejected() {
        let endpoint = Endpoint::parse("http://127.0.0.1:1/graphql", Scheme::Http).unwrap();
        let client = HttpClient::new(&endpoint, &Tls::new().unwrap()).unwrap();
        let request = HttpRequest::get("/").with_header("User-Agent", "a\nX: y");
        let rejected = client.send(&request).await;
        let header = "User-Agent";
        assert!(
            matches!(rejected, Err(HttpError::Header(found)) if found == InvalidHeader { header }),
            "{rejected:?}"
        );
    }

    #[test]
    fn a_pause_holds_for_one_host_and_a_shorter_one_does_not_end_it() {
        let (host, other) = ("http://pause.invalid", "http://other.invalid");
        for seconds in [60, 1] {
            pause_host(host, Duration::from_secs(seconds));
            assert!(Duration::from_secs(50) < pause_of_host(host));
        }
        pause_host(host, Duration::MAX);
        assert!(pause_of_host(host) <= PAUSE_MAX);
        assert_eq!(pause_of_host(other), Duration::ZERO);
    }

    #[test]
    fn io_errors_are_classified_by_code_or_kind() {
        let classify_code =
            |code| RequestObstacle::classify_io(&io::Error::from_raw_os_error(code));
        assert_eq!(classify_code(24), Some(RequestObstacle::TooManyFiles));
        assert_eq!(classify_code(23), Some(RequestObstacle::TooManyFiles));
        let classify_kind = |kind: io::ErrorKind| RequestObstacle::classify_io(&kind.into());
        assert_eq!(
            classify_kind(io::ErrorKind::ConnectionRefused),
            Some(RequestObstacle::ConnectionRefused)
        );
        assert_eq!(
            classify_kind(io::ErrorKind::NetworkUnreachable),
            Some(RequestObstacle::NoRoute)
        );
        assert_eq!(classify_kind(io::ErrorKind::ConnectionReset), Some(RequestObstacle::Closed));
        assert_eq!(classify_kind(io::ErrorKind::OutOfMemory), None);
    }
}
