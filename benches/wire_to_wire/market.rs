//! A minimal market that timestamps each order.
//!
//! It uses blocking sockets with a thread each, which adds the least latency. Its account has just
//! the balance and the purchases that a bot reads.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use memchr::memmem;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sniper::{clock, config::Market as MarketName, domain::money::Amount};

use tokio_tungstenite::tungstenite::{
    self,
    handshake::server::{Request, Response},
    http::HeaderValue,
};

use crate::wire;

/// Initial balance of the account.
pub(crate) const BALANCE: Amount = Amount::from_cents(10_000_000_000);
/// Price of every matching listing.
pub(crate) const PRICE: Amount = Amount::from_cents(1_000);
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Purchases per page.
const PAGE: usize = 250;

/// A plain or TLS connection.
pub(crate) trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

/// An order with its arrival time.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedOrder {
    pub(crate) id: String,
    pub(crate) at: Instant,
    /// Time at which its connection was accepted.
    pub(crate) connected: Instant,
}

/// A feed that has subscribed to the listings.
pub(crate) struct Feed {
    pub(crate) wire: Box<dyn Wire>,
    /// Id of its subscription.
    pub(crate) id: String,
}

/// A market on two ports.
pub(crate) struct Market {
    pub(crate) ws: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) feeds: Receiver<Feed>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    orders: Mutex<Vec<ReceivedOrder>>,
    stopping: AtomicBool,
    setup: Setup,
}

/// Options of a market.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    /// Market whose protocol and requests are served.
    pub(crate) market: MarketName,
    /// Serves TLS on both ports if set.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Idle time after which an HTTP connection is closed.
    pub(crate) http_idle: Option<Duration>,
}

impl Market {
    pub(crate) fn open(setup: Setup) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (ws, http) = (bind(), bind());
        let addresses = (ws.local_addr().unwrap(), http.local_addr().unwrap());
        let state = Arc::new(State { setup, ..State::default() });
        let (sender, feeds) = sync_channel(4);
        accept(ws, &state, None, move |wire, state, _| {
            accept_feed(wire, state.setup.market, &sender);
        });
        accept(http, &state, state.setup.http_idle, serve_http);
        Self { ws: addresses.0, http: addresses.1, feeds, state }
    }

    /// Returns the orders so far, by arrival.
    pub(crate) fn orders(&self) -> Vec<ReceivedOrder> {
        self.state.orders.lock().unwrap().clone()
    }

    pub(crate) fn order_count(&self) -> usize {
        self.state.orders.lock().unwrap().len()
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Release);
        // Wakes the accepting threads, which then check the flag.
        for address in [self.ws, self.http] {
            drop(TcpStream::connect(address));
        }
    }
}

fn accept<F>(listener: TcpListener, state: &Arc<State>, idle: Option<Duration>, serve: F)
where
    F: Fn(Box<dyn Wire>, &State, Instant) + Send + Sync + 'static,
{
    let (state, serve) = (Arc::clone(state), Arc::new(serve));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connected = Instant::now();
            if state.stopping.load(Ordering::Acquire) {
                return;
            }
            let Ok(stream) = stream else { continue };
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(idle).unwrap();
            let (state, serve) = (Arc::clone(&state), Arc::clone(&serve));
            thread::spawn(move || {
                let wire: Box<dyn Wire> = match &state.setup.tls {
                    None => Box::new(stream),
                    Some(tls) => {
                        let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                        Box::new(StreamOwned::new(connection, stream))
                    }
                };
                serve(wire, &state, connected);
            });
        }
    });
}

/// Accepts a feed connection, and passes it on once it has subscribed to the listings.
fn accept_feed(wire: Box<dyn Wire>, market: MarketName, feeds: &SyncSender<Feed>) {
    #[expect(clippy::result_large_err, reason = "the type is that of tungstenite's callback")]
    let choose = |_: &Request, mut response: Response| {
        if market == MarketName::Csgoroll {
            let chosen = HeaderValue::from_static("graphql-transport-ws");
            response.headers_mut().insert("sec-websocket-protocol", chosen);
        }
        Ok(response)
    };
    let Ok(mut socket) = tungstenite::accept_hdr(wire, choose) else { return };
    let Some(id) = wire::accept(market, &mut socket) else { return };
    // The client may be gone.
    drop(feeds.send(Feed { wire: take_wire(socket), id }));
}

/// Returns the connection of a WebSocket. Further messages of the client are not read.
fn take_wire(socket: tungstenite::WebSocket<Box<dyn Wire>>) -> Box<dyn Wire> {
    socket.into_inner()
}

/// Answers requests, and timestamps orders.
fn serve_http(mut wire: Box<dyn Wire>, state: &State, connected: Instant) {
    let mut buffer = Vec::with_capacity(REQUEST_BYTES_MAX);
    loop {
        let Some((at, request)) = read_request(&mut wire, &mut buffer) else { return };
        let market = state.setup.market;
        let ordered = wire::ordered(market, &request);
        if let Some(id) = ordered.clone() {
            state.orders.lock().unwrap().push(ReceivedOrder { id, at, connected });
        }
        let answer = match ordered {
            _ if market != MarketName::Csgoroll => {
                let orders = state.orders.lock().unwrap();
                wire::answer(market, &request, (ordered.as_deref(), &orders))
            }
            Some(id) => {
                let now = clock::now();
                let later = now.plus(Duration::from_secs(48 * 3_600));
                format!(
                    r#"{{"data":{{"joinTrades":{{"trades":[{{"id":"{id}","status":"JOINED","totalValue":10,"updatedAt":"{now}","expiresAt":"{later}"}}]}}}}}}"#
                )
            }
            None if memmem::find(&request, b"currentUser").is_some() => user(state),
            None if memmem::find(&request, b"userId").is_some() => purchases(state, &request),
            None => page("", false, None),
        };
        let date = httpdate::fmt_http_date(wall());
        let head = format!(
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\r\n",
            answer.len()
        );
        if wire.write_all((head + &answer).as_bytes()).and_then(|()| wire.flush()).is_err() {
            return;
        }
    }
}

fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(clock::now_ns())
}

/// Reads one request. Returns it with the time after its last byte.
fn read_request(wire: &mut Box<dyn Wire>, buffer: &mut Vec<u8>) -> Option<(Instant, Vec<u8>)> {
    let mut chunk = [0; 16 * 1024];
    let mut at = Instant::now();
    loop {
        if let Some(head) = memmem::find(buffer, b"\r\n\r\n") {
            let length = content_length(&buffer[..head]);
            let end = head + 4 + length;
            if end <= buffer.len() {
                return Some((at, buffer.drain(..end).collect()));
            }
        }
        let count = wire.read(&mut chunk).ok().filter(|count| *count > 0)?;
        at = Instant::now();
        buffer.extend_from_slice(&chunk[..count]);
        if buffer.len() > REQUEST_BYTES_MAX {
            return None;
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = head.to_ascii_lowercase();
    let value = between(&head, b"content-length:", b'\r').unwrap_or_else(|| {
        let at = memmem::find(&head, b"content-length:").map_or(head.len(), |at| at + 15);
        String::from_utf8_lossy(&head[at..]).into_owned()
    });
    value.trim().parse().unwrap_or(0)
}

/// Returns the text between a mark and the next `end` byte.
pub(crate) fn between(text: &[u8], mark: &[u8], end: u8) -> Option<String> {
    let from = memmem::find(text, mark)? + mark.len();
    let length = memchr::memchr(end, &text[from..])?;
    Some(String::from_utf8_lossy(&text[from..from + length]).into_owned())
}

fn user(state: &State) -> String {
    let count = i64::try_from(state.orders.lock().unwrap().len()).unwrap();
    let balance = Amount::from_cents(BALANCE.cents() - count * PRICE.cents());
    format!(
        r#"{{"data":{{"currentUser":{{"id":"VXNlcjox","name":"bench","suspectedTrader":false,"wallets":[{{"id":"V2FsbGV0OjE","name":"MAIN","amount":{balance}}}]}}}}}}"#
    )
}

/// Returns a page of the account's purchases, newest first.
fn purchases(state: &State, body: &[u8]) -> String {
    let after = between(body, b"\"after\":\"", b'"').and_then(|cursor| cursor.parse().ok());
    let start = after.unwrap_or(0_usize);
    let orders = state.orders.lock().unwrap();
    let now = clock::now();
    let nodes = orders.iter().rev().skip(start).take(PAGE).map(|order| {
        format!(
            r#"{{"node":{{"id":"{}","status":"JOINED","totalValue":10,"createdAt":"{now}","updatedAt":"{now}","joinedAt":"{now}"}}}}"#,
            order.id
        )
    });
    let nodes = nodes.collect::<Vec<_>>().join(",");
    let end = start + PAGE;
    page(&nodes, end < orders.len(), Some(end))
}

fn page(edges: &str, has_next: bool, end: Option<usize>) -> String {
    let end = end.map_or("null".to_owned(), |end| format!("\"{end}\""));
    format!(
        r#"{{"data":{{"trades":{{"edges":[{edges}],"pageInfo":{{"hasNextPage":{has_next},"endCursor":{end}}}}}}}}}"#
    )
}
