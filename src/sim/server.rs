//! HTTP/1.1 server of a simulated market, with the upgrade to its feed: kept-alive connections,
//! limits, and faults that need control of the bytes. It has its own thread and runtime, so that it
//! does not disturb the client under test.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, UNIX_EPOCH},
};

use bytes::{Buf as _, BytesMut};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tracing::debug;

use super::{
    faults::{self, CHALLENGE_PAGE, FaultKind},
    feed_connection,
    history::{OrderDecision, OrderRecord},
    model::MarketModel as _,
    state::{SharedState, SimulatedMarket},
};
use crate::domain::time::UnixMs;

/// Maximum number of open connections; further ones are closed at once.
const CONNECTIONS_MAX: usize = 256;
const SIM_HEAD_BYTES_MAX: usize = 16 * 1024;
const SIM_BODY_BYTES_MAX: usize = 256 * 1024;
const SIM_HEADERS_MAX: usize = 64;
/// Maximum time to read a request head from its first byte on, and as long again for its body.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Timeout of a TLS handshake.
const TLS_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause after a failed `accept`, such as with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Cause of a failed start of the simulator.
#[derive(Debug, thiserror::Error)]
pub enum SimServerError {
    #[error(
        "cannot listen on {address}: the port is in use; choose another with --listen, or port 0 for a free one"
    )]
    AddressInUse { address: SocketAddr, source: io::Error },
    #[error("cannot listen on {address}; choose an address of this machine with --listen")]
    Listen { address: SocketAddr, source: io::Error },
    /// The address is reachable from other machines, and the traffic is not encrypted.
    #[error(
        "cannot listen on {address}: the simulator serves this machine only; use 127.0.0.1 or [::1] with --listen"
    )]
    NotLoopback { address: SocketAddr },
    /// The simulated market does not have this fault.
    #[error("this market has no fault \"{0}\"; `--fault list` describes its faults")]
    Fault(FaultKind),
    /// The thread or its runtime could not be created.
    #[error("cannot start the simulator's thread; check the limit of threads and of open files")]
    Thread(#[source] io::Error),
}

/// Counts of connections and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Accepted connections, HTTP and WebSocket.
    pub connections: u64,
    /// Feeds opened since the start.
    pub feeds: u64,
    pub feeds_open: u64,
    /// Open feeds with at least one subscription.
    pub feeds_subscribed: u64,
    /// Feeds that were closed because their queue was full.
    pub feeds_dropped: u64,
    /// HTTP requests with a complete body that the market handled, valid or not.
    pub requests: u64,
}

/// Identity of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ClientConnection {
    pub(super) number: u64,
    /// Time from the start of the simulator to the `accept`.
    pub(super) opened_at: Duration,
}

impl ClientConnection {
    /// Returns the record of an order over this connection.
    pub(super) const fn order_record(
        self,
        at: Duration,
        fault: Option<FaultKind>,
        decision: OrderDecision,
    ) -> OrderRecord {
        let (connection, connected_at) = (self.number, self.opened_at);
        OrderRecord { at, connection, connected_at, fault, decision, answered_at: None }
    }
}

/// A thread that serves a market. It stops when this is dropped.
#[derive(Debug)]
pub(super) struct ServerThread {
    pub(super) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ServerThread {
    /// Listens on the address of the market's settings and starts the thread.
    ///
    /// # Errors
    ///
    /// Returns a [`SimServerError`] if the market does not have one of the faults of its settings,
    /// the address cannot be bound, or no thread can be started.
    pub(super) fn start<M: SimulatedMarket>(
        market: Arc<SharedState<M>>,
    ) -> Result<Self, SimServerError> {
        let faults = &market.settings.faults;
        let is_known = |kind| M::FAULTS.iter().any(|kinds| kinds.contains(kind));
        if let Some(fault) = faults.iter().find(|fault| !is_known(&fault.kind)) {
            return Err(SimServerError::Fault(fault.kind));
        }
        let address = market.settings.listen;
        let listening = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = listening.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => SimServerError::AddressInUse { address, source },
            _ => SimServerError::Listen { address, source },
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(SimServerError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("simulator".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    result = serve(listener, market) => {
                        if let Err(error) = result {
                            debug!(%error, "Simulator failed: cannot use its listener");
                        }
                    }
                }
            });
        });
        let thread = Some(thread.map_err(SimServerError::Thread)?);
        Ok(Self { address, stop: Some(stop), thread })
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take()
            && stop.send(()).is_err()
        {
            debug!("Simulator had already stopped");
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            debug!("Simulator thread had panicked");
        }
    }
}

async fn serve<M: SimulatedMarket>(
    listener: std::net::TcpListener,
    market: Arc<SharedState<M>>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    tokio::join!(accept(&listener, &market), market.run_schedule());
    Ok(())
}

async fn accept<M: SimulatedMarket>(listener: &TcpListener, market: &Arc<SharedState<M>>) {
    let tls = market.settings.tls.clone().map(TlsAcceptor::from);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "Accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let connection = market.open_connection();
        let (market, tls) = (Arc::clone(market), tls.clone());
        tokio::spawn(async move {
            if let Err(error) = serve_stream(stream, tls, &*market, connection).await {
                debug!(connection = connection.number, %error, "Connection failed");
            }
            drop(permit);
        });
    }
}

async fn serve_stream(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    market: &SharedState<impl SimulatedMarket>,
    connection: ClientConnection,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => dispatch(stream, market, connection).await,
        Some(tls) => {
            let stream = timeout(TLS_TIME_MAX, tls.accept(stream)).await;
            let stream = stream.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
            dispatch(stream, market, connection).await
        }
    }
}

/// Serves a connection as a feed or as HTTP, depending on its first request head.
async fn dispatch(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    market: &SharedState<impl SimulatedMarket>,
    connection: ClientConnection,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    match read_head(&mut stream, &mut buffer, market.settings.http_idle).await? {
        None => Ok(()),
        Some(head) if head.is_upgrade => {
            // The handshake reads the head again.
            let (read, write) = tokio::io::split(stream);
            let read = AsyncReadExt::chain(io::Cursor::new(buffer), read);
            let served = feed_connection::serve(tokio::io::join(read, write), market).await;
            served.map_err(io::Error::other)
        }
        Some(_) => serve_http(&mut stream, buffer, market, connection).await,
    }
}

/// Serves requests until the connection ends.
async fn serve_http(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mut buffer: BytesMut,
    market: &SharedState<impl SimulatedMarket>,
    connection: ClientConnection,
) -> io::Result<()> {
    let idle = market.settings.http_idle;
    while let Some(head) = read_head(stream, &mut buffer, idle).await? {
        let reply = if let Some(rejection) = head.rejection() {
            rejection
        } else {
            buffer.advance(head.bytes);
            let body = timeout(REQUEST_TIME_MAX, read_body(stream, &mut buffer, head.body_bytes));
            let body = body.await.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
            market.with(|state, now, events| {
                SimulatedMarket::answer(state, (&head, &body), connection, now, events)
            })
        };
        let closes = reply.closes || head.closes;
        if !reply.write(stream, market, connection).await? || closes {
            break;
        }
    }
    stream.shutdown().await
}

/// The fields of a request head that a simulated market uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// Length of the head in bytes.
    bytes: usize,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) cookie: Option<String>,
    pub(super) authorization: Option<String>,
    /// Set for an upgrade to WebSocket.
    is_upgrade: bool,
    /// `Content-Length`.
    body_bytes: usize,
    /// Set for a chunked body, which is not supported.
    is_chunked: bool,
    /// Set if the client requests that the connection closes after the response.
    closes: bool,
}

impl RequestHead {
    /// Parses the head at the start of the bytes. Returns `None` while it is incomplete.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; SIM_HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_malformed) => return Err(invalid("malformed request head")),
        };
        let mut head = Self {
            bytes: length,
            method: request.method.unwrap_or_default().to_owned(),
            path: request.path.unwrap_or_default().to_owned(),
            closes: request.version == Some(0),
            ..Self::default()
        };
        for header in request.headers.iter() {
            let value = str::from_utf8(header.value).unwrap_or_default().trim();
            match &*header.name.to_ascii_lowercase() {
                "content-length" => {
                    head.body_bytes =
                        value.parse().map_err(|_not_a_number| invalid("invalid Content-Length"))?;
                }
                "transfer-encoding" => head.is_chunked = true,
                "connection" => head.closes |= value.eq_ignore_ascii_case("close"),
                "upgrade" => head.is_upgrade = value.eq_ignore_ascii_case("websocket"),
                "cookie" => head.cookie = Some(value.to_owned()),
                "authorization" => head.authorization = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(Some(head))
    }

    /// Returns the response to an unsupported head. The body is not read, so the connection closes.
    fn rejection(&self) -> Option<ServerReply> {
        let (status, message) = if self.is_chunked {
            (411, "a Content-Length is required")
        } else if self.body_bytes > SIM_BODY_BYTES_MAX {
            (413, "the body is too long")
        } else {
            return None;
        };
        let body = json!({"errors": [{ "message": message }]}).to_string();
        Some(ServerReply { closes: true, ..ServerReply::json(status, body) })
    }
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads a whole request head, which stays in the buffer. Returns `None` if the client closed the
/// connection before the first byte, or took too long.
///
/// # Cancel safety
///
/// Cancel safe: bytes already read stay in the buffer.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    idle: Duration,
) -> io::Result<Option<RequestHead>> {
    let mut until = Instant::now() + idle;
    loop {
        if let Some(head) = RequestHead::parse(buffer)? {
            return Ok(Some(head));
        }
        if buffer.len() > SIM_HEAD_BYTES_MAX {
            return Err(invalid("request head too long"));
        }
        let was_empty = buffer.is_empty();
        match timeout_at(until, stream.read_buf(buffer)).await {
            Err(_elapsed) => return Ok(None),
            Ok(Ok(0)) if was_empty => return Ok(None),
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) if was_empty => until = Instant::now() + REQUEST_TIME_MAX,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    length: usize,
) -> io::Result<BytesMut> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(buffer.split_to(length))
}

/// A response and the way to send it.
#[derive(Debug)]
pub struct ServerReply {
    pub(super) status: u16,
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) body: String,
    pub(super) fault: Option<FaultKind>,
    /// Set if the connection closes after the response.
    pub(super) closes: bool,
    /// Id of the listing, if this is the response to an order.
    pub(super) order_id: Option<String>,
    /// Delay, status and body of the second response under [`FaultKind::LateRejection`].
    pub(super) late: (Duration, u16, String),
}

impl ServerReply {
    pub(super) fn json(status: u16, body: String) -> Self {
        let late = (Duration::ZERO, status, String::new());
        Self { status, headers: &[], body, fault: None, closes: false, order_id: None, late }
    }

    /// Returns the response of a fault of the connection or of a proxy, which all markets have in
    /// common, under which an order is not executed.
    pub(super) fn not_executed(kind: FaultKind) -> Option<Self> {
        match kind {
            FaultKind::CutBeforeCommit | FaultKind::HangBeforeCommit => {
                Some(Self::json(200, String::new()))
            }
            FaultKind::ServerErrorBeforeCommit => {
                let page = "<html><body>Service Unavailable</body></html>";
                Some(Self::json(503, page.to_owned()))
            }
            FaultKind::Challenge => Some(Self {
                headers: &[("cf-mitigated", "challenge")],
                ..Self::json(403, CHALLENGE_PAGE.to_owned())
            }),
            _ => None,
        }
    }

    fn bytes(&self, clock: UnixMs) -> Vec<u8> {
        let since = Duration::from_millis(u64::try_from(clock.0).unwrap_or(0));
        let date = httpdate::fmt_http_date(UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH));
        let kind = if self.body.starts_with('<') { "text/html" } else { "application/json" };
        let connection = if self.closes { "close" } else { "keep-alive" };
        let reason = StatusCode::from_u16(self.status).ok().and_then(|one| one.canonical_reason());
        let mut out = format!(
            "HTTP/1.1 {} {}\r\nDate: {date}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: {connection}\r\n",
            self.status,
            reason.unwrap_or("Unknown"),
            self.body.len()
        );
        for (name, value) in self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str("\r\n");
        out.push_str(&self.body);
        out.into_bytes()
    }

    /// Writes the response under its fault. Returns `true` if the connection stays open.
    async fn write(
        mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        market: &SharedState<impl SimulatedMarket>,
        connection: ClientConnection,
    ) -> io::Result<bool> {
        match self.fault {
            Some(FaultKind::Hang | FaultKind::HangBeforeCommit) => until_closed(stream).await,
            Some(FaultKind::Slow | FaultKind::ReadSlow) => sleep(faults::SLOW_ANSWER).await,
            _ => {}
        }
        if let Some(id) = &self.order_id {
            // Before the write: the client may send its next order as soon as it has the response.
            market.with(|state, now, _| {
                state.market.record_response(id, connection.number, now);
            });
        }
        match self.fault {
            Some(
                FaultKind::CutBeforeCommit
                | FaultKind::CutAfterCommit
                | FaultKind::Hang
                | FaultKind::HangBeforeCommit,
            ) => return Ok(false),
            Some(FaultKind::ServerErrorAfterCommit | FaultKind::ReadServerError) => {
                self.status = 502;
                self.body = "<html><body>Bad Gateway</body></html>".to_owned();
            }
            Some(FaultKind::RequestTimeout) => {
                self.status = 408;
                self.body.clear();
            }
            Some(FaultKind::PageInsteadOfAnswer | FaultKind::ReadPage) => {
                self.status = 200;
                self.body = "<html><body>Please wait...</body></html>".to_owned();
            }
            _ => {}
        }
        let bytes = self.bytes(market.clock());
        match self.fault {
            Some(FaultKind::HalfBody | FaultKind::ReadCut) => {
                let half = bytes.len().saturating_sub(self.body.len() / 2);
                stream.write_all(bytes.get(..half).unwrap_or_default()).await?;
                stream.flush().await?;
                return Ok(false);
            }
            Some(FaultKind::Doubled) => {
                stream.write_all(&bytes).await?;
                stream.write_all(&bytes).await?;
            }
            Some(FaultKind::LateRejection) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                let (delay, status, body) = self.late;
                sleep(delay).await;
                stream.write_all(&Self::json(status, body).bytes(market.clock())).await?;
            }
            _ => stream.write_all(&bytes).await?,
        }
        stream.flush().await?;
        Ok(true)
    }
}

/// Reads until the client closes or resets the connection.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut ignored = [0; 1_024];
    while stream.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
}
