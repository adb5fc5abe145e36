//! From an address to a session whose subscriptions are written, under one deadline.
//!
//! DNS, TCP, TLS, the upgrade, the greeting, its acknowledgement and the subscriptions share
//! `connect_timeout`; a server that dribbles a byte now and then gains nothing by it. How a
//! connection is made is a [`Dial`]: [`TcpDial`] for the network, anything else for a test.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU8, Ordering},
    task::{Context, Poll},
    time::Duration,
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
    policy::ReconnectionLimits,
    protocol::{FeedProtocol, SubscriptionState},
    session::{Session, WRITE_BYTES_MAX},
    socket::Socket,
    upgrade::{self, UpgradeRequest},
};
use crate::{
    clock,
    config::{Config, endpoint::Endpoint},
    net::{
        busy_poll::BusyPollStream,
        deadline::{self, Late},
        dial,
        tls::{self, Tls},
    },
};

/// How long the connections of a feed that never sleep ask their sockets, all together, before
/// others get a turn.
const TURN: Duration = Duration::from_micros(10);

/// How far an attempt has got. Shared by whoever connects and whoever watches the time.
#[derive(Debug, Default)]
pub struct ConnectProgress(AtomicU8);

impl ConnectProgress {
    /// The step has begun.
    pub fn reach(&self, step: ConnectStep) {
        let number = match step {
            ConnectStep::Connect => 0,
            ConnectStep::Tls => 1,
            ConnectStep::Upgrade => 2,
            ConnectStep::Ack => 3,
            ConnectStep::Subscribe => 4,
        };
        self.0.store(number, Ordering::Relaxed);
    }

    /// The step that is under way.
    pub fn step(&self) -> ConnectStep {
        match self.0.load(Ordering::Relaxed) {
            0 => ConnectStep::Connect,
            1 => ConnectStep::Tls,
            2 => ConnectStep::Upgrade,
            3 => ConnectStep::Ack,
            _ => ConnectStep::Subscribe,
        }
    }
}

/// How a connection is made.
pub trait Dial: Send + Sync {
    /// What bytes travel over.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Connects once, from scratch: nothing of an earlier attempt is reused.
    ///
    /// # Errors
    ///
    /// A [`FeedError`] that says how far it got.
    fn dial(
        &self,
        progress: &ConnectProgress,
    ) -> impl Future<Output = Result<Self::Stream, FeedError>> + Send;

    /// The host, by which connections share a circuit breaker.
    fn host(&self) -> String;

    /// How long whoever reads asks again and again before others get a turn, where reading never
    /// sleeps.
    fn turn(&self) -> Option<Duration> {
        None
    }
}

/// Dials an address over TCP, with TLS where it says so: DNS every time, addresses raced, no Nagle.
#[derive(Clone, Debug)]
pub struct TcpDial {
    endpoint: Endpoint,
    tls: Option<Tls>,
    turn: Option<Duration>,
}

impl TcpDial {
    /// Dials this address; `tls` is how TLS is spoken where the address asks for it, Mozilla's roots
    /// if there is none.
    ///
    /// # Errors
    ///
    /// [`FeedError::TlsSetUp`] in a broken build.
    pub fn new(endpoint: Endpoint, tls: Option<Tls>) -> Result<Self, FeedError> {
        let tls = match tls {
            None if endpoint.is_tls() => Some(Tls::new().map_err(FeedError::TlsSetUp)?),
            tls => tls,
        };
        Ok(Self { endpoint, tls, turn: None })
    }

    /// Dials the feed of these settings; reading never sleeps where a core is given to it.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub(super) fn of(config: &Config) -> Result<Self, FeedError> {
        let dial = Self::new(config.endpoints.ws.clone(), config.tls.clone())?;
        let connections = u32::try_from(config.feed.connections.max(1)).unwrap_or(1);
        let turn = config.speed.spin.then(|| TURN.checked_div(connections)).flatten();
        Ok(Self { turn, ..dial })
    }
}

impl Dial for TcpDial {
    type Stream = MaybeTlsStream;

    async fn dial(&self, progress: &ConnectProgress) -> Result<MaybeTlsStream, FeedError> {
        progress.reach(ConnectStep::Connect);
        let host = self.endpoint.host();
        let tcp = dial::tcp(&self.endpoint).await.map_err(FeedError::Dial)?;
        let tcp = BusyPollStream::new(tcp, self.turn.is_some());
        match &self.tls {
            Some(tls) if self.endpoint.is_tls() => {
                progress.reach(ConnectStep::Tls);
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

    fn turn(&self) -> Option<Duration> {
        self.turn
    }
}

/// A connection with or without TLS.
#[derive(Debug)]
pub enum MaybeTlsStream {
    /// Without: loopback only.
    Plain(BusyPollStream),
    /// With.
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

/// Connects, upgrades, greets and subscribes, all within `connect_timeout`.
///
/// # Cancel safety
///
/// Safe: whatever was under way is closed.
pub(super) async fn open<D: Dial, L: FeedProtocol>(
    dial: &D,
    request: &UpgradeRequest<'_>,
    machine: SubscriptionState<L>,
    limits: &ReconnectionLimits,
) -> Result<Session<D::Stream, L>, FeedError> {
    let progress = ConnectProgress::default();
    let opening = async {
        let stream = dial.dial(&progress).await?;
        progress.reach(ConnectStep::Upgrade);
        let socket = upgrade(stream, request).await?.asking_for(dial.turn());
        let mut session = Session::new(socket, machine, limits);
        progress.reach(ConnectStep::Ack);
        session.greet().await?;
        progress.reach(ConnectStep::Subscribe);
        session.subscribe().await?;
        Ok(session)
    };
    match deadline::timeout(limits.connect_timeout, opening).await {
        Ok(result) => result,
        Err(Late) => {
            Err(FeedError::Deadline { step: progress.step(), after: limits.connect_timeout })
        }
    }
}

/// Turns a connection into a WebSocket. What came in behind the answer is kept for it.
pub(super) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    request: &UpgradeRequest<'_>,
) -> Result<Socket<S>, FeedError> {
    let broken = |source| FeedError::Broken { step: ConnectStep::Upgrade, source };
    let key = generate_key();
    stream.write_all(&request.to_bytes(&key)).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut bytes = Vec::with_capacity(1_024);
    let head = loop {
        if stream.read_buf(&mut bytes).await.map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let read = upgrade::read_head(&bytes, &key, request.subprotocol, clock::now())?;
        if let Some(len) = read {
            break len;
        }
    };
    let rest = bytes.split_off(head);
    // It only writes.
    let config = WebSocketConfig::default()
        .read_buffer_size(0)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BYTES_MAX);
    let library = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    Ok(Socket::new(library, &rest))
}
