//! A market that does nothing but stamp: each listing as it is written, each buy as it has arrived.
//!
//! Blocking sockets and a thread for each, since nothing else adds so little of its own. It keeps
//! the account's books as far as a bot looks at them: balance and own purchases.

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
use serde_json::Value;
use sniper::{clock, domain::money::Amount};
use tokio_tungstenite::tungstenite::{
    self, Message,
    handshake::server::{Request, Response},
    http::HeaderValue,
};

/// What the account holds at first.
pub(crate) const BALANCE: Amount = Amount::from_cents(10_000_000_000);
/// What everything costs that is wanted.
pub(crate) const PRICE: Amount = Amount::from_cents(1_000);
/// The longest request that is read, in bytes.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// How many of one's own purchases a page shows.
const PAGE: usize = 250;

/// A connection, encrypted or not.
pub(crate) trait Wire: Read + Write + Send {}

impl<T: Read + Write + Send> Wire for T {}

/// A buy as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Buy {
    pub(crate) id: String,
    pub(crate) at: Instant,
    /// When its connection was accepted.
    pub(crate) connected: Instant,
}

/// A feed that has subscribed to the listings.
pub(crate) struct Feed {
    pub(crate) wire: Box<dyn Wire>,
    /// What it calls its subscription.
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
    buys: Mutex<Vec<Buy>>,
    stopping: AtomicBool,
    setup: Setup,
}

/// What kind of market to open.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    /// Speak TLS.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Close connections for requests that are idle for so long.
    pub(crate) http_idle: Option<Duration>,
}

impl Market {
    pub(crate) fn open(setup: Setup) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (ws, http) = (bind(), bind());
        let addresses = (ws.local_addr().unwrap(), http.local_addr().unwrap());
        let state = Arc::new(State { setup, ..State::default() });
        let (sender, feeds) = sync_channel(4);
        accept(ws, &state, None, move |wire, _, _| greet_feed(wire, &sender));
        accept(http, &state, state.setup.http_idle, serve_http);
        Self { ws: addresses.0, http: addresses.1, feeds, state }
    }

    /// Every buy so far, in the order in which they arrived.
    pub(crate) fn buys(&self) -> Vec<Buy> {
        self.state.buys.lock().unwrap().clone()
    }

    pub(crate) fn buy_count(&self) -> usize {
        self.state.buys.lock().unwrap().len()
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Release);
        // Wakes the threads that accept, so that they see it.
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

/// Upgrades, acknowledges, and hands the feed over once it has subscribed to the listings.
fn greet_feed(wire: Box<dyn Wire>, feeds: &SyncSender<Feed>) {
    #[expect(clippy::result_large_err, reason = "the callback's type is not ours")]
    let choose = |_: &Request, mut response: Response| {
        let chosen = HeaderValue::from_static("graphql-transport-ws");
        response.headers_mut().insert("sec-websocket-protocol", chosen);
        Ok(response)
    };
    let Ok(mut socket) = tungstenite::accept_hdr(wire, choose) else { return };
    loop {
        let Ok(Message::Text(text)) = socket.read() else { return };
        let message: Value = serde_json::from_str(&text).unwrap_or_default();
        let answer = match message["type"].as_str() {
            Some("connection_init") => r#"{"type":"connection_ack"}"#,
            Some("ping") => r#"{"type":"pong"}"#,
            Some("subscribe") if text.contains("createTrades") => {
                let id = message["id"].as_str().unwrap_or_default().to_owned();
                let wire = take_wire(socket);
                drop(feeds.send(Feed { wire, id }));
                return;
            }
            _ => continue,
        };
        if socket.send(Message::text(answer)).is_err() {
            return;
        }
    }
}

/// The connection beneath a WebSocket; what the client says from here on is not read.
fn take_wire(socket: tungstenite::WebSocket<Box<dyn Wire>>) -> Box<dyn Wire> {
    socket.into_inner()
}

/// Answers requests, and stamps those that buy.
fn serve_http(mut wire: Box<dyn Wire>, state: &State, connected: Instant) {
    let mut buffer = Vec::with_capacity(REQUEST_BYTES_MAX);
    loop {
        let Some((at, body)) = read_request(&mut wire, &mut buffer) else { return };
        let answer = match between(&body, b"\"tradeIds\":[\"", b'"') {
            Some(id) => {
                state.buys.lock().unwrap().push(Buy { id: id.clone(), at, connected });
                let now = clock::now();
                let later = now.plus(Duration::from_secs(48 * 3_600));
                format!(
                    r#"{{"data":{{"joinTrades":{{"trades":[{{"id":"{id}","status":"JOINED","totalValue":10,"updatedAt":"{now}","expiresAt":"{later}"}}]}}}}}}"#
                )
            }
            None if memmem::find(&body, b"currentUser").is_some() => user(state),
            None if memmem::find(&body, b"userId").is_some() => purchases(state, &body),
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

/// Reads one request: when its last byte had been read, and its body.
fn read_request(wire: &mut Box<dyn Wire>, buffer: &mut Vec<u8>) -> Option<(Instant, Vec<u8>)> {
    let mut chunk = [0; 16 * 1024];
    let mut at = Instant::now();
    loop {
        if let Some(head) = memmem::find(buffer, b"\r\n\r\n") {
            let length = content_length(&buffer[..head]);
            let end = head + 4 + length;
            if end <= buffer.len() {
                let body = buffer[head + 4..end].to_vec();
                buffer.drain(..end);
                return Some((at, body));
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

/// What stands between a mark and the next of a byte.
fn between(text: &[u8], mark: &[u8], end: u8) -> Option<String> {
    let from = memmem::find(text, mark)? + mark.len();
    let length = memchr::memchr(end, &text[from..])?;
    Some(String::from_utf8_lossy(&text[from..from + length]).into_owned())
}

fn user(state: &State) -> String {
    let count = i64::try_from(state.buys.lock().unwrap().len()).unwrap();
    let balance = Amount::from_cents(BALANCE.cents() - count * PRICE.cents());
    format!(
        r#"{{"data":{{"currentUser":{{"id":"VXNlcjox","name":"bench","suspectedTrader":false,"dailyWithdrawLimit":null,"wallets":[{{"id":"V2FsbGV0OjE","name":"MAIN","amount":{balance}}}]}}}}}}"#
    )
}

/// One's own purchases, newest first.
fn purchases(state: &State, body: &[u8]) -> String {
    let after = between(body, b"\"after\":\"", b'"').and_then(|cursor| cursor.parse().ok());
    let start = after.unwrap_or(0_usize);
    let buys = state.buys.lock().unwrap();
    let now = clock::now();
    let nodes = buys.iter().rev().skip(start).take(PAGE).map(|buy| {
        format!(
            r#"{{"node":{{"id":"{}","status":"JOINED","totalValue":10,"createdAt":"{now}","updatedAt":"{now}","joinedAt":"{now}"}}}}"#,
            buy.id
        )
    });
    let nodes = nodes.collect::<Vec<_>>().join(",");
    let end = start + PAGE;
    page(&nodes, end < buys.len(), Some(end))
}

fn page(edges: &str, has_next: bool, end: Option<usize>) -> String {
    let end = end.map_or("null".to_owned(), |end| format!("\"{end}\""));
    format!(
        r#"{{"data":{{"trades":{{"edges":[{edges}],"pageInfo":{{"hasNextPage":{has_next},"endCursor":{end}}}}}}}}}"#
    )
}
