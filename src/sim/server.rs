//! The simulator on a real socket. It has its own thread and runtime, so that it does not disturb
//! the client under test.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::yield_now,
    time::{sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::{
    faults::{Fault, FaultKind},
    history::MarketHistory,
    http_head::read_head,
    http_server::{self, ClientConnection},
    offer::ListedItem,
    random,
    server_state::{FeedCommand, ServerState, ServerStats},
    settings::SimSettings,
    ws_server,
};
use crate::domain::money::Amount;

/// Maximum number of open connections; further ones are dropped.
pub const CONNECTIONS_MAX: usize = 256;
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
    /// The thread or its runtime could not be created.
    #[error("cannot start the simulator's thread; check the limit of threads and of open files")]
    Thread(#[source] io::Error),
}

/// A running simulator. It stops when it is dropped.
pub struct SimServer {
    shared: Arc<ServerState>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SimServer {
    /// Starts the simulator on its own thread.
    ///
    /// # Errors
    ///
    /// Returns a [`SimServerError`] if the address cannot be bound or no thread can be started.
    pub fn start(settings: SimSettings) -> Result<Self, SimServerError> {
        let address = settings.listen;
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
        let shared = Arc::new(ServerState::new(settings));
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("simulator".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    result = serve(listener, &served) => {
                        if let Err(error) = result {
                            debug!(%error, "Simulator failed: cannot use its listener");
                        }
                    }
                }
            });
        });
        let thread = Some(thread.map_err(SimServerError::Thread)?);
        Ok(Self { shared, address, stop: Some(stop), thread })
    }

    /// Returns the address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of the feed.
    pub fn ws_url(&self) -> String {
        let scheme = if self.shared.settings.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}/ws", self.address)
    }

    /// Returns the URL for reads and orders.
    pub fn http_url(&self) -> String {
        let scheme = if self.shared.settings.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/graphql", self.address)
    }

    /// Returns the `session` cookie of the signed-in account. It is valid for this simulator only.
    pub fn session(&self) -> String {
        self.shared.with(|state, _, _| state.session.clone())
    }

    /// Returns a copy of the history up to now.
    pub fn history(&self) -> MarketHistory {
        self.with_history(MarketHistory::clone)
    }

    /// Reads the history without copying it. The market is locked meanwhile.
    pub fn with_history<T>(&self, read: impl FnOnce(&MarketHistory) -> T) -> T {
        self.shared.with(|state, now, events| {
            state.market.advance(now, events);
            read(state.market.history())
        })
    }

    /// Returns the counts of connections and requests.
    pub fn stats(&self) -> ServerStats {
        self.shared.with(|state, _, _| state.stats)
    }

    /// Returns the start time, which is the origin of the times in the history.
    pub fn opened_at(&self) -> Instant {
        self.shared.opened_at
    }

    /// Lists these items now, as one group, in addition to the generated listings. Returns the ids.
    pub fn list_items(&self, items: Vec<ListedItem>) -> Vec<String> {
        self.shared.with(|state, now, events| state.market.list_items(now, items, events))
    }

    /// Cancels an open listing, as its seller may. Returns `false` if no such listing is open.
    pub fn delist(&self, id: &str) -> bool {
        self.shared.with(|state, now, events| state.market.delist(now, id, events))
    }

    /// Sends a text message to all feeds, unchanged.
    pub fn send_raw(&self, text: &str) {
        self.shared.with(|state, _, _| state.broadcast(&FeedCommand::SendRaw(Arc::from(text))));
    }

    /// Injects a fault into all feeds now.
    pub fn inject_feed_fault(&self, kind: FaultKind) {
        self.shared.with(|state, _, _| state.broadcast(&FeedCommand::Inject(kind)));
    }

    /// Replaces the enabled faults; none disables them. Effects of earlier faults stay, except that
    /// silent feeds send again.
    pub fn set_faults(&self, faults: &[Fault]) {
        let rng = random::stream(self.shared.settings.seed, 7);
        self.shared.with(|state, _, _| state.set_faults(faults, rng));
    }

    /// Closes all feeds with a close frame.
    pub fn close_feeds(&self, code: u16, reason: &str) {
        self.shared
            .with(|state, _, _| state.broadcast(&FeedCommand::Close(code, Arc::from(reason))));
    }

    /// Replaces the valid session, which signs out clients with the previous one.
    pub fn replace_session(&self, session: &str) {
        self.shared.with(|state, _, _| session.clone_into(&mut state.session));
    }

    /// Changes the account's balance without a purchase.
    pub fn adjust_balance(&self, change: Amount) {
        self.shared.with(|state, now, events| state.market.adjust_balance(now, change, events));
    }

    /// Makes a purchase without an order. Returns its id.
    pub fn inject_purchase(&self, item: ListedItem) -> Option<String> {
        self.shared.with(|state, now, events| state.market.inject_purchase(now, item, events))
    }

    /// Stops the simulator: cuts all connections and frees the port.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for SimServer {
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

async fn serve(listener: std::net::TcpListener, shared: &Arc<ServerState>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let tls = shared.settings.tls.clone().map(TlsAcceptor::from);
    tokio::join!(accept(&listener, tls, shared), run_schedule(shared));
    Ok(())
}

/// Applies scheduled changes as they become due. Never returns.
async fn run_schedule(shared: &ServerState) {
    loop {
        // Under overload, connections and the shutdown must still make progress.
        yield_now().await;
        let Some(due) = shared.tick() else {
            shared.wake.notified().await;
            continue;
        };
        tokio::select! {
            () = sleep_until(due.into()) => {}
            () = shared.wake.notified() => {}
        }
    }
}

async fn accept(listener: &TcpListener, tls: Option<TlsAcceptor>, shared: &Arc<ServerState>) {
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
        let number = shared.with(|state, _, _| {
            state.stats.connections = state.stats.connections.saturating_add(1);
            state.stats.connections
        });
        let connection = ClientConnection { number, opened_at: http_server::elapsed(shared) };
        let (shared, tls) = (Arc::clone(shared), tls.clone());
        tokio::spawn(async move {
            if let Err(error) = serve_stream(stream, tls, &shared, connection).await {
                debug!(connection = number, %error, "Connection failed");
            }
            drop(permit);
        });
    }
}

async fn serve_stream(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: &Arc<ServerState>,
    connection: ClientConnection,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => dispatch(stream, shared, connection).await,
        Some(tls) => {
            let stream = timeout(TLS_TIME_MAX, tls.accept(stream)).await;
            let stream = stream.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
            dispatch(stream, shared, connection).await
        }
    }
}

/// Serves a connection as WebSocket or HTTP, depending on its first request head.
async fn dispatch<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    shared: &Arc<ServerState>,
    connection: ClientConnection,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let idle = shared.settings.http_idle;
    match read_head(&mut stream, &mut buffer, idle).await? {
        None => Ok(()),
        Some(head) if head.is_upgrade => {
            // The handshake reads the head again.
            let (read, write) = tokio::io::split(stream);
            let read = io::Cursor::new(buffer).chain(read);
            let served = ws_server::serve(tokio::io::join(read, write), shared).await;
            served.map_err(io::Error::other)
        }
        Some(_) => http_server::serve(&mut stream, buffer, shared, connection).await,
    }
}
