//! Connecting, up to the point where the subscriptions are written.
//!
//! DNS, TCP, TLS, the upgrade, `connection_init`, its acknowledgment and the subscriptions share
//! one deadline, `connect_timeout`, so a slow server cannot extend it byte by byte. Connections are
//! made by a [`Dial`]: [`TcpDial`] for the network, other implementations for tests.
//!
//! The resulting [`Socket`] reads with [`FrameDecoder`] and writes with tungstenite. Reading is on
//! the hot path: tungstenite zeroes the rest of its buffer before each read and receives about
//! every eleventh frame in two reads; [`FrameDecoder`] does neither. Writing is not on the hot
//! path, so tungstenite handles masks, closing and partial writes.

use std::{
    collections::{VecDeque, vec_deque},
    io, iter,
    net::IpAddr,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::client::generate_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    error::{ConnectStep, FeedError},
    frames::{DecodedMessage, FrameDecoder, ProtocolError, READ_BYTES, WsMessage},
    metrics::HandledMessage,
    policy::ReconnectionLimits,
    session::{Session, WRITE_BYTES_MAX, now},
    upgrade,
};
use crate::{
    clock,
    config::{Config, endpoint::Endpoint},
    domain::latency::RxTimestamps,
    markets::ReadRate,
    net::{
        busy_poll::BusyPollStream,
        deadline::{self, Late},
        dial::{self, AddressOrder},
        http_client::{HttpClient, PAUSE_DEFAULT, acquire_quota, pause_host, pause_of_host},
        http_head::ResponseHead,
        http_message::{HttpRequest, HttpResponse},
        tls::{self, Tls},
    },
    protocol::{FeedMessage, FeedProtocol, SubscriptionState},
    threads::lock,
};

/// Maximum time that the connections of a busy-polling feed spin, in total, before other tasks run.
const SPIN_BUDGET: Duration = Duration::from_micros(10);

/// Step that an attempt has reached. Shared between the attempt and its deadline.
#[derive(Debug, Default)]
pub struct ConnectProgress(Mutex<ConnectStep>);

impl ConnectProgress {
    pub fn set(&self, step: ConnectStep) {
        *lock(&self.0) = step;
    }

    /// Returns the current step.
    pub fn step(&self) -> ConnectStep {
        *lock(&self.0)
    }
}

/// Transport that connects to a server.
pub trait Dial: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Makes one new connection; nothing is reused from an earlier attempt.
    ///
    /// # Errors
    ///
    /// Returns a [`FeedError`] that identifies the failed step.
    fn dial(
        &self,
        progress: &ConnectProgress,
    ) -> impl Future<Output = Result<Self::Stream, FeedError>> + Send;

    /// Does the same as [`dial`](Self::dial), with this order of the addresses of the host. A
    /// transport without addresses ignores it.
    fn dial_in_order(
        &self,
        progress: &ConnectProgress,
        _order: AddressOrder,
    ) -> impl Future<Output = Result<Self::Stream, FeedError>> + Send {
        self.dial(progress)
    }

    /// Returns the server's address of a connection, if it has one.
    fn peer(_stream: &Self::Stream) -> Option<IpAddr> {
        None
    }

    /// Returns the host; connections to the same host share a circuit breaker.
    fn host(&self) -> String;

    /// Returns the maximum time that a read spins before other tasks run. `None` disables busy
    /// polling.
    fn spin_budget(&self) -> Option<Duration> {
        None
    }
}

/// Dials an endpoint over TCP, with TLS if its URL requires it. Each dial resolves the name again,
/// races the addresses and sets `TCP_NODELAY`.
#[derive(Clone, Debug)]
pub struct TcpDial {
    endpoint: Endpoint,
    tls: Option<Tls>,
    spin_budget: Option<Duration>,
}

impl TcpDial {
    /// Dials this endpoint. If `tls` is `None` and the endpoint requires TLS, Mozilla's roots are
    /// used.
    ///
    /// # Errors
    ///
    /// Returns [`FeedError::TlsSetUp`] if the TLS configuration cannot be built.
    pub fn new(endpoint: Endpoint, tls: Option<Tls>) -> Result<Self, FeedError> {
        let tls = match tls {
            None if endpoint.is_tls() => Some(Tls::new().map_err(FeedError::TlsSetUp)?),
            tls => tls,
        };
        Ok(Self { endpoint, tls, spin_budget: None })
    }

    /// Dials the configured feed, with busy polling if a core is reserved for it.
    ///
    /// # Errors
    ///
    /// Same as [`new`](Self::new).
    pub(super) fn from_config(config: &Config) -> Result<Self, FeedError> {
        let tls = Tls::from_config(config).map_err(FeedError::TlsSetUp)?;
        let dial = Self::new(config.endpoints.ws.clone(), Some(tls))?;
        let connections = u32::try_from(config.feed.connections.max(1)).unwrap_or(1);
        let spin_budget = config.speed.spin.then(|| SPIN_BUDGET.checked_div(connections)).flatten();
        Ok(Self { spin_budget, ..dial })
    }
}

impl Dial for TcpDial {
    type Stream = MaybeTlsStream;

    async fn dial(&self, progress: &ConnectProgress) -> Result<MaybeTlsStream, FeedError> {
        self.dial_in_order(progress, AddressOrder::System).await
    }

    fn peer(stream: &MaybeTlsStream) -> Option<IpAddr> {
        match stream {
            MaybeTlsStream::Plain(stream) => stream.peer(),
            MaybeTlsStream::Tls(stream) => stream.get_ref().0.peer(),
        }
    }

    async fn dial_in_order(
        &self,
        progress: &ConnectProgress,
        order: AddressOrder,
    ) -> Result<MaybeTlsStream, FeedError> {
        progress.set(ConnectStep::Connect);
        let host = self.endpoint.host();
        let tcp = dial::tcp_in_order(&self.endpoint, order).await.map_err(FeedError::Dial)?;
        let tcp = BusyPollStream::new(tcp, self.spin_budget.is_some());
        match &self.tls {
            Some(tls) if self.endpoint.is_tls() => {
                progress.set(ConnectStep::Tls);
                let name = tls::server_name(host).map_err(FeedError::TlsSetUp)?;
                let stream = TlsConnector::from(tls.config()).connect(name, tcp).await;
                Ok(MaybeTlsStream::Tls(Box::new(stream.map_err(FeedError::Tls)?)))
            }
            _ => Ok(MaybeTlsStream::Plain(tcp)),
        }
    }

    fn host(&self) -> String {
        self.endpoint.authority()
    }

    fn spin_budget(&self) -> Option<Duration> {
        self.spin_budget
    }
}

/// A connection with or without TLS.
#[derive(Debug)]
pub enum MaybeTlsStream {
    /// Without TLS; loopback only.
    Plain(BusyPollStream),
    Tls(Box<TlsStream<BusyPollStream>>),
}

impl AsyncRead for MaybeTlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for MaybeTlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Connects, upgrades, initializes the session and subscribes, all within `connect_timeout`.
///
/// # Cancel safety
///
/// Cancel safe: the connection is closed.
pub(super) async fn open<D: Dial, P: FeedProtocol>(
    dial: &D,
    authority: &str,
    request: &HttpRequest,
    subscriptions: SubscriptionState<P>,
    limits: &ReconnectionLimits,
) -> Result<Session<D::Stream, P>, FeedError> {
    let progress = ConnectProgress::default();
    let open = async {
        let stream = dial.dial(&progress).await?;
        progress.set(ConnectStep::Upgrade);
        let socket = upgrade(stream, authority, request, subscriptions.subprotocol()).await?;
        let socket = socket.with_spin_budget(dial.spin_budget());
        let mut session = Session::new(socket, subscriptions, limits);
        progress.set(ConnectStep::Ack);
        session.init().await?;
        progress.set(ConnectStep::Subscribe);
        session.subscribe().await?;
        Ok(session)
    };
    match deadline::timeout(limits.connect_timeout, open).await {
        Ok(result) => result,
        Err(Late) => {
            Err(FeedError::Deadline { step: progress.step(), after: limits.connect_timeout })
        }
    }
}

/// Upgrades a connection to a WebSocket, which receives the bytes after the response head.
pub(super) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    authority: &str,
    request: &HttpRequest,
    subprotocol: Option<&'static str>,
) -> Result<Socket<S>, FeedError> {
    let io_error = |source| FeedError::Broken { step: ConnectStep::Upgrade, source };
    let key = generate_key();
    let sent = upgrade::request_bytes(authority, request, subprotocol, &key)?;
    stream.write_all(&sent).await.map_err(io_error)?;
    drop(sent);
    stream.flush().await.map_err(io_error)?;
    let mut bytes = Vec::with_capacity(1_024);
    let head_len = loop {
        if stream.read_buf(&mut bytes).await.map_err(io_error)? == 0 {
            return Err(io_error(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Some(len) = upgrade::read_head(&bytes, &key, subprotocol, clock::wall())? {
            break len;
        }
    };
    let rest = bytes.split_off(head_len);
    // Only writes go through it, so it needs no read buffer.
    let config = WebSocketConfig::default()
        .read_buffer_size(0)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BYTES_MAX);
    let writer = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    Ok(Socket::new(writer, &rest))
}

/// Maximum number of messages that are taken from one read, so that a removal is seen behind its
/// listing: as many of at least 64 bytes as a read returns.
pub const MESSAGES_PER_READ_MAX: usize = READ_BYTES / 64;
/// Maximum number of messages that wait until others are handled.
const MESSAGES_WAITING_MAX: usize = 4_096;
/// Maximum number of bytes that are read after a close.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Socket<S> {
    /// Used for writing only.
    writer: WebSocketStream<S>,
    decoder: FrameDecoder,
    /// Messages that are not handled yet, and handled ones behind them, in the order of arrival.
    messages: VecDeque<ReceivedMessage>,
    /// Violation behind the last message.
    violation: Option<ProtocolError>,
    /// Start of the read that returned the latest bytes, and its end.
    polled: Instant,
    read: Instant,
    /// Maximum time that a read spins before other tasks run; `None` disables busy polling.
    spin_budget: Option<Duration>,
}

/// A message in the receive buffer.
#[derive(Debug)]
pub(super) struct ReceivedMessage {
    message: DecodedMessage,
    /// Start of the read that returned its last bytes.
    polled: Instant,
    /// Time at which they were read and decrypted.
    read: Instant,
    /// `true` if the next message was returned by the same read.
    has_successor: bool,
    handled: Option<HandledMessage>,
}

/// A handled message, with its bytes.
#[derive(Debug)]
pub(super) struct HandledBytes<'a> {
    decoder: &'a FrameDecoder,
    message: DecodedMessage,
    pub(super) handled: HandledMessage,
}

impl HandledBytes<'_> {
    /// Returns the message. A text is validated once more, so only a recording asks for it.
    pub(super) fn message(&self) -> WsMessage<'_> {
        // A text that is not UTF-8 has ended the session.
        self.decoder.message(&self.message).unwrap_or(WsMessage::Pong)
    }
}

/// Times at which a message arrived, and what arrived in the same read behind it.
#[derive(Clone, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) at: RxTimestamps,
    pub(super) behind: MessagesBehind<'a>,
}

impl<'a> Arrival<'a> {
    /// Returns the arrival of a part of the message that has further parts behind it.
    pub(super) fn of_part(&self, rest: FeedMessage<'a>) -> Self {
        let parts = rest.text().ok().map(str::as_bytes);
        Self { at: self.at, behind: MessagesBehind { parts, ..self.behind.clone() } }
    }
}

/// What arrived in one read behind a message, or behind one part of it.
#[derive(Clone, Debug, Default)]
pub(super) struct MessagesBehind<'a> {
    /// Further parts of the same message.
    parts: Option<&'a [u8]>,
    messages: Option<(&'a FrameDecoder, vec_deque::Iter<'a, ReceivedMessage>)>,
}

impl<'a> Iterator for MessagesBehind<'a> {
    type Item = &'a [u8];

    /// Returns the bytes of the next text.
    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(parts) = self.parts.take() {
            return Some(parts);
        }
        let (decoder, messages) = self.messages.as_mut()?;
        messages.find_map(|received| decoder.unchecked_text(&received.message))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Creates a socket. `rest` contains the bytes after the response to the upgrade.
    pub(super) fn new(writer: WebSocketStream<S>, rest: &[u8]) -> Self {
        let now = now();
        Self {
            writer,
            decoder: FrameDecoder::with_bytes(rest),
            messages: VecDeque::with_capacity(MESSAGES_PER_READ_MAX),
            violation: None,
            polled: now,
            read: now,
            spin_budget: None,
        }
    }

    /// Sets the maximum time that a read spins.
    pub(super) fn with_spin_budget(self, spin_budget: Option<Duration>) -> Self {
        Self { spin_budget, ..self }
    }

    /// Polls for the next message, if no message waits.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<WsMessage<'_>, FeedError>> {
        while ready!(self.poll_messages(cx, 1))? == 0 {}
        match self.messages.pop_back() {
            Some(received) => Poll::Ready(Ok(self.decoder.message(&received.message)?)),
            None => Poll::Pending,
        }
    }

    /// Polls for messages and appends at most `max` of them, all from one read, to those that wait.
    /// Returns their number. It is zero if the buffer is full of waiting messages.
    #[inline]
    pub(super) fn poll_messages(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<Result<usize, FeedError>> {
        loop {
            if self.messages.is_empty() {
                self.decoder.release();
                // The queue starts again at its first slot, which is cached.
                self.messages.clear();
            }
            let count = self.decode(max);
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            if let Some(violation) = self.violation.take() {
                return Poll::Ready(Err(violation.into()));
            }
            if self.messages.len() >= MESSAGES_WAITING_MAX || !ready!(self.poll_read(cx))? {
                return Poll::Ready(Ok(0));
            }
        }
    }

    /// Appends the complete messages in the buffer.
    #[inline]
    fn decode(&mut self, max: usize) -> usize {
        let Self { polled, read, .. } = *self;
        let mut count = 0_usize;
        while count < max && self.violation.is_none() {
            match self.decoder.advance() {
                Ok(Some(message)) => {
                    if count > 0
                        && let Some(last) = self.messages.back_mut()
                    {
                        last.has_successor = true;
                    }
                    self.messages.push_back(ReceivedMessage {
                        message,
                        polled,
                        read,
                        has_successor: false,
                        handled: None,
                    });
                    count = count.saturating_add(1);
                }
                Ok(None) => break,
                Err(violation) => self.violation = Some(violation),
            }
        }
        count
    }

    /// Returns the number of messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.messages.len()
    }

    /// Returns the bytes of a waiting text.
    #[inline]
    pub(super) fn unchecked_text(&self, index: usize) -> Option<&[u8]> {
        self.decoder.unchecked_text(&self.messages.get(index)?.message)
    }

    /// Returns a waiting message; see [`FrameDecoder::message`].
    #[inline]
    pub(super) fn message(&self, index: usize) -> Result<WsMessage<'_>, FeedError> {
        let received = self.messages.get(index);
        received.map_or(Ok(WsMessage::Pong), |received| {
            self.decoder.message(&received.message).map_err(FeedError::from)
        })
    }

    /// Returns the times at which a waiting message arrived, and the messages behind it.
    #[inline]
    pub(super) fn arrival(&self, index: usize, framed: Instant) -> Arrival<'_> {
        let Some(received) = self.messages.get(index) else {
            return Arrival { at: RxTimestamps::at(framed), behind: MessagesBehind::default() };
        };
        let ReceivedMessage { polled, read, .. } = *received;
        let behind = match index.checked_add(1) {
            Some(next) if received.has_successor => {
                let messages = Some((&self.decoder, self.messages.range(next..)));
                MessagesBehind { parts: None, messages }
            }
            _ => MessagesBehind::default(),
        };
        Arrival { at: RxTimestamps { polled, read, framed }, behind }
    }

    #[inline]
    pub(super) fn mark_handled(&mut self, index: usize, handled: HandledMessage) {
        if let Some(received) = self.messages.get_mut(index) {
            received.handled = Some(handled);
        }
    }

    /// Removes the messages behind one that ends the session.
    pub(super) fn discard_behind(&mut self, index: usize) {
        self.messages.truncate(index.saturating_add(1));
    }

    /// Removes the first message if it was handled.
    #[inline]
    pub(super) fn pop_handled(&mut self) -> Option<HandledBytes<'_>> {
        let mut handled = self.messages.front()?.handled?;
        let ReceivedMessage { message, has_successor, .. } = self.messages.pop_front()?;
        handled.has_successor = has_successor;
        Some(HandledBytes { decoder: &self.decoder, message, handled })
    }

    /// Reads once. Returns `false` if there is no space.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, FeedError>> {
        let started = now();
        let mut polled = started;
        // While messages wait, they are handled instead of spinning.
        let spin_budget = self.spin_budget.filter(|_| self.messages.is_empty());
        let mut bytes = ReadBuf::new(self.decoder.space());
        if bytes.capacity() == 0 {
            return Poll::Ready(Ok(false));
        }
        let mut stream = Pin::new(self.writer.get_mut());
        let read = loop {
            let read = stream.as_mut().poll_read(cx, &mut bytes);
            let spins_on = |budget| polled.saturating_duration_since(started) < budget;
            if read.is_ready() || !spin_budget.is_some_and(spins_on) {
                break read;
            }
            polled = now();
        };
        ready!(read).map_err(read_error)?;
        let count = bytes.filled().len();
        if count == 0 {
            return Poll::Ready(Err(FeedError::Cut));
        }
        self.decoder.filled(count);
        (self.polled, self.read) = (polled, now());
        Poll::Ready(Ok(true))
    }

    pub(super) const fn writer(&mut self) -> &mut WebSocketStream<S> {
        &mut self.writer
    }

    /// Reads until the server has closed, up to [`DRAIN_BYTES_MAX`]. A socket that is dropped with
    /// unread bytes is reset, and the last written message would be lost.
    pub(super) async fn drain(&mut self) {
        let mut drained = 0_usize;
        let mut buffer = vec![0_u8; READ_BYTES];
        while drained < DRAIN_BYTES_MAX {
            match self.writer.get_mut().read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => drained = drained.saturating_add(count),
            }
        }
    }
}

fn read_error(error: io::Error) -> FeedError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FeedError::Cut,
        _ => FeedError::Lost(error),
    }
}

impl From<ProtocolError> for FeedError {
    fn from(error: ProtocolError) -> Self {
        Self::Violation { violation: error.violation, source: error.into() }
    }
}

/// Sends a token request and returns its response, which has status 200. The client bounds the
/// time and the size.
///
/// # Cancel safety
///
/// Cancel safe: the request may have been sent; the next connection requests another token.
pub(super) async fn fetch_token(
    config: &Config,
    request: &HttpRequest,
    rate: ReadRate,
) -> Result<HttpResponse, FeedError> {
    let tls = Tls::from_config(config).map_err(FeedError::TlsSetUp)?;
    let client = HttpClient::new(&config.endpoints.http, &tls).map_err(FeedError::Token)?;
    let paused = pause_of_host(client.origin());
    if !paused.is_zero() {
        // As if the host had repeated its response to the request that it rejected.
        let head = ResponseHead::parse_at(429, iter::empty(), clock::wall());
        return Err(FeedError::TokenRejected(ResponseHead { retry_after: Some(paused), ..head }));
    }
    acquire_quota(client.origin(), rate.other_quota()).await;
    let reply = client.send(request).await.map_err(FeedError::Token)?;
    let head = reply.response.head;
    if head.status == 429 {
        pause_host(client.origin(), head.retry_after.unwrap_or(PAUSE_DEFAULT));
    }
    if head.status != 200 || head.page().is_some() {
        return Err(FeedError::TokenRejected(head));
    }
    Ok(reply.response)
}
