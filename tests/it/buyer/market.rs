//! A mock market over HTTP, which answers, stays silent, hangs up or sends slowly.
//!
//! It binds port 0, records every request, counts connections, and stops when dropped.
#![expect(clippy::unwrap_used, reason = "a market that cannot be set up fails the test")]

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use sniper::{config::Endpoints, net::tls::Tls};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_rustls::TlsAcceptor;

use crate::certificate::self_signed;

/// Maximum wait for an expected event.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// Reaction of the market to one request.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    /// Answers and keeps the connection.
    Answer(String),
    /// Answers in these pieces, with a pause after each.
    Dribble(Vec<String>, Duration),
    /// Sends these bytes and closes.
    AnswerAndClose(Vec<u8>),
    Silence,
    /// Sends the same bytes until the client disconnects.
    Flood(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Request {
    /// Returns the id of the ordered listing, if the request is an order.
    pub(crate) fn id(&self) -> Option<&str> {
        self.body.strip_prefix("buy ")
    }
}

#[derive(Debug, Default)]
struct Recorded {
    connections: usize,
    requests: Vec<Request>,
}

type React = Arc<dyn Fn(&Request) -> Reaction + Send + Sync>;

pub(crate) struct Market {
    pub(crate) endpoints: Endpoints,
    pub(crate) tls: Tls,
    recorded: Arc<Mutex<Recorded>>,
    /// Each new value closes every idle or silent connection.
    hang_up: watch::Sender<u64>,
    tasks: JoinSet<()>,
}

impl Market {
    pub(crate) async fn plain(
        react: impl Fn(&Request) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, Tls::new().unwrap(), Arc::new(react)).await
    }

    /// Starts a market with a self-signed certificate, which the bot trusts if `trusted`.
    pub(crate) async fn tls(
        trusted: bool,
        react: impl Fn(&Request) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let (config, certificate) = self_signed();
        let tls = if trusted { Tls::with_root(&certificate) } else { Tls::new() };
        let acceptor = TlsAcceptor::from(config);
        Self::start(Some(acceptor), tls.unwrap(), Arc::new(react)).await
    }

    async fn start(acceptor: Option<TlsAcceptor>, tls: Tls, react: React) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let ws = format!("ws://{address}/ws");
        let endpoints = Endpoints::new(&ws, &format!("{scheme}://{address}/graphql")).unwrap();
        let recorded = Arc::new(Mutex::new(Recorded::default()));
        let (hang_up, hung_up) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let all = Arc::clone(&recorded);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                all.lock().unwrap().connections += 1;
                let (react, all, hung_up) = (Arc::clone(&react), Arc::clone(&all), hung_up.clone());
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let connection = ClientConnection { react, recorded: all, hung_up };
                    match acceptor {
                        None => connection.run(stream).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => connection.run(stream).await,
                            Err(_error) => {}
                        },
                    }
                });
            }
        });
        Self { endpoints, tls, recorded, hang_up, tasks }
    }

    pub(crate) fn connections(&self) -> usize {
        self.recorded.lock().unwrap().connections
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.recorded.lock().unwrap().requests.clone()
    }

    /// Returns the ids of the ordered listings, in the order of the requests.
    pub(crate) fn ordered_ids(&self) -> Vec<String> {
        self.requests().iter().filter_map(|request| request.id().map(str::to_owned)).collect()
    }

    /// Closes every connection that is waiting for a request or stays silent.
    pub(crate) fn close_idle(&self) {
        self.hang_up.send_modify(|count| *count += 1);
    }

    /// Closes all connections and the listener.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    /// Waits until the condition holds, at most [`WAIT_MAX`].
    #[track_caller]
    pub(crate) fn wait_until(&self, condition: impl Fn(&Self) -> bool) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + WAIT_MAX;
            while !condition(self) {
                assert!(Instant::now() < deadline, "never recorded: {caller}");
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

struct ClientConnection {
    react: React,
    recorded: Arc<Mutex<Recorded>>,
    hung_up: watch::Receiver<u64>,
}

impl ClientConnection {
    async fn run(mut self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut bytes = Vec::new();
        self.hung_up.mark_unchanged();
        loop {
            let request = tokio::select! {
                request = read_request(&mut stream, &mut bytes) => request,
                _changed = self.hung_up.changed() => None,
            };
            let Some(request) = request else {
                let _closed = stream.shutdown().await;
                return;
            };
            self.recorded.lock().unwrap().requests.push(request.clone());
            let reaction = (self.react)(&request);
            let is_silent = matches!(reaction, Reaction::Silence);
            let is_open = tokio::select! {
                answered = respond(&mut stream, reaction) => answered.is_some(),
                _changed = self.hung_up.changed(), if is_silent => false,
            };
            if !is_open {
                return;
            }
        }
    }
}

/// Returns `None` once the connection is closed.
async fn respond(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    reaction: Reaction,
) -> Option<()> {
    match reaction {
        Reaction::Answer(answer) => stream.write_all(answer.as_bytes()).await.ok(),
        Reaction::Dribble(pieces, pause) => {
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.ok()?;
                stream.flush().await.ok()?;
                sleep(pause).await;
            }
            Some(())
        }
        Reaction::AnswerAndClose(bytes) => {
            stream.write_all(&bytes).await.ok()?;
            let _closed = stream.shutdown().await;
            None
        }
        Reaction::Silence => {
            // Further requests must not end the connection.
            while stream.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {}
            None
        }
        Reaction::Flood(bytes) => {
            while stream.write_all(&bytes).await.is_ok() {}
            None
        }
    }
}

async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Option<Request> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then_some(value)
            });
            // A read may be a request without a body.
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if let Some(body) = rest.get(..length) {
                let body = body.to_owned();
                bytes.drain(..head.len() + 4 + length);
                return Some(Request { head: head.to_owned(), body });
            }
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(piece.get(..count)?);
    }
}

/// Formats a complete HTTP response.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Returns the answer that confirms the purchase of this listing.
pub(crate) fn bought(id: &str) -> String {
    answer(200, "", &format!(r#"{{"data":{{"joinTrades":{{"trades":[{{"id":"{id}"}}]}}}}}}"#))
}

/// Returns the answer that rejects an order with this message. It contains no listing id.
pub(crate) fn rejected(message: &str) -> String {
    answer(200, "", &format!(r#"{{"data":null,"errors":[{{"message":"{message}"}}]}}"#))
}

/// Returns the answer to the keep-warm request.
pub(crate) fn account() -> String {
    answer(200, "", r#"{"data":{"currentUser":{"id":"u"}}}"#)
}

/// Compresses the body of an answer with gzip.
pub(crate) fn gzipped(answer: &str) -> Vec<u8> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, _) = head.split_once("\r\n").unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body.as_bytes()).unwrap();
    let body = encoder.finish().unwrap();
    let length = body.len();
    let head = format!("{status}\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), &body].concat()
}

/// Confirms every order.
pub(crate) fn confirm_all(request: &Request) -> Reaction {
    Reaction::Answer(request.id().map_or_else(account, bought))
}
