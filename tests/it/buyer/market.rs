//! A marketplace that does what it is told: answers, keeps silent, hangs up, dribbles.
//!
//! It binds port 0, notes every request and every connection, and stops when it is dropped.
#![expect(clippy::unwrap_used, reason = "a market that cannot be set up fails the test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use sniper::{config::Endpoints, net::tls::Tls};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_rustls::TlsAcceptor;

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the market does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    /// Answers and keeps the connection.
    Answer(String),
    /// Answers in these pieces, with a pause between two.
    Dribble(Vec<String>, Duration),
    /// Sends these bytes and closes.
    AnswerAndClose(Vec<u8>),
    /// Never answers.
    Silence,
    /// Sends the same bytes for ever.
    Flood(Vec<u8>),
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Request {
    /// The listing that it is about, if it is a buy.
    pub(crate) fn id(&self) -> Option<&str> {
        self.body.strip_prefix("buy ")
    }
}

#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    requests: Vec<Request>,
}

type React = Arc<dyn Fn(&Request) -> Reaction + Send + Sync>;

pub(crate) struct Market {
    pub(crate) endpoints: Endpoints,
    pub(crate) tls: Tls,
    seen: Arc<Mutex<Seen>>,
    /// Each new value closes every connection that is idle.
    hang_up: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Market {
    pub(crate) async fn plain(
        react: impl Fn(&Request) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, Tls::new().unwrap(), Arc::new(react)).await
    }

    /// With a certificate of its own, which the bot trusts if `trusted`.
    pub(crate) async fn tls(
        trusted: bool,
        react: impl Fn(&Request) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let (config, certificate) = certified();
        let tls = if trusted { Tls::trusting(&certificate) } else { Tls::new() };
        let acceptor = TlsAcceptor::from(config);
        Self::start(Some(acceptor), tls.unwrap(), Arc::new(react)).await
    }

    async fn start(acceptor: Option<TlsAcceptor>, tls: Tls, react: React) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let ws = format!("ws://{address}/ws");
        let endpoints = Endpoints::new(&ws, &format!("{scheme}://{address}/graphql")).unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (hang_up, hung_up) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let all = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut conversations = JoinSet::new();
            while let Ok((stream, _peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                all.lock().unwrap().connections += 1;
                let (react, all, hung_up) = (Arc::clone(&react), Arc::clone(&all), hung_up.clone());
                let acceptor = acceptor.clone();
                conversations.spawn(async move {
                    let conversation = Conversation { react, seen: all, hung_up };
                    match acceptor {
                        None => conversation.run(stream).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => conversation.run(stream).await,
                            Err(_refused) => {}
                        },
                    }
                });
            }
        });
        Self { endpoints, tls, seen, hang_up, _tasks: tasks }
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// The listings that were asked for, in order.
    pub(crate) fn bought(&self) -> Vec<String> {
        self.requests().iter().filter_map(|request| request.id().map(str::to_owned)).collect()
    }

    /// Closes every connection that waits for a request.
    pub(crate) fn hang_up_idle(&self) {
        self.hang_up.send_modify(|count| *count += 1);
    }

    /// Waits until something can be seen.
    #[track_caller]
    pub(crate) fn sees(&self, what: impl Fn(&Self) -> bool) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + PATIENCE;
            while !what(self) {
                assert!(Instant::now() < deadline, "never seen: {caller}");
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// A certificate for this machine, and a server that has it.
pub(super) fn certified() -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    (Arc::new(config), certificate)
}

struct Conversation {
    react: React,
    seen: Arc<Mutex<Seen>>,
    hung_up: watch::Receiver<u64>,
}

impl Conversation {
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
            self.seen.lock().unwrap().requests.push(request.clone());
            let reaction = (self.react)(&request);
            if perform(&mut stream, reaction).await.is_none() {
                return;
            }
        }
    }
}

/// `None` once the connection is over.
async fn perform(
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
            // Until the other side gives up.
            let _end = stream.read(&mut [0]).await;
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
            let length: usize = length.unwrap().parse().unwrap();
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

/// A proper answer with this body.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The answer that says that this listing was bought.
pub(crate) fn bought(id: &str) -> String {
    answer(200, "", &format!(r#"{{"data":{{"joinTrades":{{"trades":[{{"id":"{id}"}}]}}}}}}"#))
}

/// The answer to an order that says no with this message. It names no order.
pub(crate) fn rejected(message: &str) -> String {
    answer(200, "", &format!(r#"{{"data":null,"errors":[{{"message":"{message}"}}]}}"#))
}

/// The answer to the harmless request.
pub(crate) fn account() -> String {
    answer(200, "", r#"{"data":{"currentUser":{"id":"u"}}}"#)
}

/// Sells everything.
pub(crate) fn agree(request: &Request) -> Reaction {
    Reaction::Answer(request.id().map_or_else(account, bought))
}
