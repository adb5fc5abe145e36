//! A practice market on a real socket: a thread of its own, with a runtime of its own, so that it
//! does not disturb what it is there to measure.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::yield_now,
    time::{sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::{
    dice::Dice,
    faults::{Fault, FaultKind},
    http_head::read_head,
    http_server::{self, ClientConnection},
    market_books::MarketBooks,
    offer::ListedItem,
    prefixed_stream::PrefixedStream,
    server_state::{FeedOrder, ServerState, ServerStats},
    settings::SimSettings,
    ws_server,
};
use crate::domain::money::Amount;

/// How many connections are served at once; further ones are dropped.
pub const CONNECTIONS_MAX: usize = 256;
/// How long a TLS handshake may take.
const TLS_TIME_MAX: Duration = Duration::from_secs(10);
/// How long to wait after the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a market cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SimServerError {
    /// Somebody else listens there.
    #[error(
        "cannot listen on {address}: the port is taken; choose another with --listen, or port 0 for any that is free"
    )]
    Occupied {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; choose an address of this machine with --listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// It would be seen from other machines, unencrypted.
    #[error(
        "cannot listen on {address}: the practice market serves this machine only; use 127.0.0.1 or [::1] with --listen"
    )]
    NotHere {
        /// Where.
        address: SocketAddr,
    },
    /// The system gives no thread or no runtime.
    #[error("cannot start the practice market's thread")]
    Thread(#[source] io::Error),
}

/// A market that is open. It closes when it is dropped.
pub struct SimServer {
    floor: Arc<ServerState>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SimServer {
    /// Opens a market.
    ///
    /// # Errors
    ///
    /// A [`SimServerError`] where it cannot listen or the system has no thread to spare.
    pub fn start(settings: SimSettings) -> Result<Self, SimServerError> {
        let address = settings.listen;
        let listening = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = listening.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => SimServerError::Occupied { address, source },
            _ => SimServerError::Listen { address, source },
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(SimServerError::Thread)?;
        let floor = Arc::new(ServerState::new(settings));
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&floor);
        let thread = std::thread::Builder::new().name("practice-market".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    result = serve(listener, &served) => {
                        if let Err(error) = result {
                            debug!(%error, "the practice market cannot listen any more");
                        }
                    }
                }
            });
        });
        let thread = Some(thread.map_err(SimServerError::Thread)?);
        Ok(Self { floor, address, stop: Some(stop), thread })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The feed's address.
    pub fn ws_url(&self) -> String {
        let scheme = if self.floor.settings.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}/ws", self.address)
    }

    /// The address for reads and buys.
    pub fn http_url(&self) -> String {
        let scheme = if self.floor.settings.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/graphql", self.address)
    }

    /// The value of the `session` cookie that is signed in. It opens nothing but this market.
    pub fn session(&self) -> String {
        self.floor.with(|state, _, _| state.session.clone())
    }

    /// What truly happened so far.
    pub fn books(&self) -> MarketBooks {
        self.look(MarketBooks::clone)
    }

    /// Looks into the books without copying them. The market stands still meanwhile.
    pub fn look<T>(&self, at: impl FnOnce(&MarketBooks) -> T) -> T {
        self.floor.with(|state, now, events| {
            state.exchange.advance(now, events);
            at(state.exchange.books())
        })
    }

    /// How often it was visited.
    pub fn visits(&self) -> ServerStats {
        self.floor.with(|state, _, _| state.visits)
    }

    /// When it opened: the zero of the times in the books.
    pub fn opened(&self) -> Instant {
        self.floor.opened
    }

    /// Lists these things now, together, beside what the seed lists; returns their ids.
    pub fn offer(&self, offers: Vec<ListedItem>) -> Vec<String> {
        self.floor.with(|state, now, events| state.exchange.offer(now, offers, events))
    }

    /// Takes an open listing back, as its seller may; `false` if there is none of this id.
    pub fn take_back(&self, id: &str) -> bool {
        self.floor.with(|state, now, events| state.exchange.take_back(now, id, events))
    }

    /// Sends a text to all feeds, as it is.
    pub fn say(&self, text: &str) {
        self.floor.with(|state, _, _| state.order(&FeedOrder::Say(Arc::from(text))));
    }

    /// Makes all feeds fail in this way now.
    pub fn strike(&self, kind: FaultKind) {
        self.floor.with(|state, _, _| state.order(&FeedOrder::Fail(kind)));
    }

    /// Goes wrong in these ways from now on, and in no other; with none, the market is honest. What
    /// has gone wrong already stays so, but a feed that was silent speaks again.
    pub fn set_faults(&self, faults: &[Fault]) {
        let dice = Dice::aside(self.floor.settings.seed, 7);
        self.floor.with(|state, _, _| state.set_faults(faults, dice));
    }

    /// Closes all feeds properly, with this code and reason.
    pub fn close_feeds(&self, code: u16, reason: &str) {
        self.floor.with(|state, _, _| state.order(&FeedOrder::Close(code, Arc::from(reason))));
    }

    /// Signs the account out: only this session is known from now on.
    pub fn replace_session(&self, session: &str) {
        self.floor.with(|state, _, _| session.clone_into(&mut state.session));
    }

    /// Adds coins to the account, or takes them away, without a purchase.
    pub fn adjust(&self, change: Amount) {
        self.floor.with(|state, now, events| state.exchange.adjust(now, change, events));
    }

    /// Makes a purchase that nobody asked for; returns its id.
    pub fn foist(&self, offer: ListedItem) -> Option<String> {
        self.floor.with(|state, now, events| state.exchange.foist(now, offer, events))
    }

    /// Closes it: all connections are cut, the port is free again.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for SimServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take()
            && stop.send(()).is_err()
        {
            debug!("the practice market had stopped by itself");
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            debug!("the practice market had failed before it was stopped");
        }
    }
}

async fn serve(listener: std::net::TcpListener, floor: &Arc<ServerState>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let tls = floor.settings.tls.clone().map(TlsAcceptor::from);
    tokio::join!(accept(&listener, tls, floor), drive(floor));
    Ok(())
}

/// Lets happen what is due, for ever.
async fn drive(floor: &ServerState) {
    loop {
        // Where more is due than can be done, connections and the end get their turn all the same.
        yield_now().await;
        let Some(due) = floor.tick() else {
            floor.wake.notified().await;
            continue;
        };
        tokio::select! {
            () = sleep_until(due.into()) => {}
            () = floor.wake.notified() => {}
        }
    }
}

async fn accept(listener: &TcpListener, tls: Option<TlsAcceptor>, floor: &Arc<ServerState>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let number = floor.with(|state, _, _| {
            state.visits.connections = state.visits.connections.saturating_add(1);
            state.visits.connections
        });
        let connection = ClientConnection { number, opened: http_server::opened(floor) };
        let (floor, tls) = (Arc::clone(floor), tls.clone());
        tokio::spawn(async move {
            if let Err(error) = greet(stream, tls, &floor, connection).await {
                debug!(connection = number, %error, "a connection ended");
            }
            drop(permit);
        });
    }
}

async fn greet(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    floor: &Arc<ServerState>,
    connection: ClientConnection,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => converse(stream, floor, connection).await,
        Some(tls) => {
            let stream = timeout(TLS_TIME_MAX, tls.accept(stream)).await;
            let stream = stream.map_err(|_elapsed| io::ErrorKind::TimedOut)??;
            converse(stream, floor, connection).await
        }
    }
}

/// Finds out from the first head what is wanted, and serves it.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    floor: &Arc<ServerState>,
    connection: ClientConnection,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let idle = floor.settings.http_idle;
    match read_head(&mut stream, &mut buffer, idle).await? {
        None => Ok(()),
        Some(head) if head.is_upgrade => {
            let served = ws_server::serve(PrefixedStream::new(buffer, stream), floor).await;
            served.map_err(io::Error::other)
        }
        Some(_) => http_server::serve(&mut stream, buffer, floor, connection).await,
    }
}
