//! Minimal blocking HTTP and WebSocket clients for the simulated market, without code of the bot.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sniper::sim::{SimServer, SimSettings};
use tokio_tungstenite::tungstenite::{
    Error, Message, WebSocket,
    client::IntoClientRequest,
    handshake::client::Request,
    http::{HeaderName, HeaderValue},
    protocol::CloseFrame,
};

pub(crate) use crate::session::{quiet, redline};

/// Maximum duration of a step of a test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) const A: &str = "subscription OnCreateTrade($userId: ID) { createTrade(userId: $userId) { trade { id status totalValue markupPercent tradeItems { marketName itemVariant { value } } } } }";
pub(crate) const B: &str = "subscription OnCreateTrades { createTrades { trades { id status totalValue markupPercent canJoin tradeItems { marketName itemVariant { value } } } } }";
pub(crate) const JOIN: &str = "mutation JoinTrades($input: JoinTradesInput!) { joinTrades(input: $input) { trades { id status totalValue updatedAt expiresAt } } }";

pub(crate) fn open(settings: SimSettings) -> SimServer {
    SimServer::start(settings).unwrap()
}

/// Waits until the condition holds, at most [`DEADLINE`].
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "timed out waiting until {what}");
        std::thread::yield_now();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// An HTTP connection with a session cookie.
pub(crate) struct Http {
    stream: TcpStream,
    cookie: String,
    rest: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = |line: &str| line.to_lowercase().starts_with(&format!("{name}: "));
        self.head
            .lines()
            .find(|one| line(one))
            .and_then(|one| one.split_once(": "))
            .map(|two| two.1)
    }
}

impl Http {
    pub(crate) fn new(market: &SimServer) -> Self {
        let cookie = format!("a=b; session={}", market.session());
        Self { stream: connect(market.address()), cookie, rest: Vec::new() }
    }

    pub(crate) fn signed_out(market: &SimServer) -> Self {
        Self { cookie: "session=s%3Awrong".to_owned(), ..Self::new(market) }
    }

    /// Connects without credentials.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self { stream: connect(address), cookie: String::new(), rest: Vec::new() }
    }

    /// Sends a request with these header lines and reads its answer.
    pub(crate) fn request(&mut self, head: &str, headers: &str, body: &str) -> Option<Answer> {
        let length = body.len();
        self.send(&format!(
            "{head} HTTP/1.1\r\nHost: market\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ));
        self.answer()
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn post(&mut self, body: &Value) {
        let body = body.to_string();
        let head = format!(
            "POST /graphql HTTP/1.1\r\nHost: market\r\nCookie: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.cookie,
            body.len()
        );
        self.send(&(head + &body));
    }

    /// Reads an answer. Returns `None` if the connection ends before it is complete.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let mut chunk = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&self.rest).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let answer = Answer {
                    status: head.split(' ').nth(1).unwrap().parse().unwrap(),
                    head: head.to_owned(),
                    body: body.to_owned(),
                };
                let length: usize = answer.header("content-length").unwrap().parse().unwrap();
                if body.len() >= length {
                    self.rest.drain(..head.len() + 4 + length);
                    return Some(Answer { body: body[..length].to_owned(), ..answer });
                }
            }
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.rest.extend_from_slice(&chunk[..count]),
            }
        }
    }

    pub(crate) fn query(&mut self, query: &str, variables: Value) -> Value {
        self.post(&json!({"operationName": null, "query": query, "variables": variables}));
        self.answer().unwrap().json()
    }

    pub(crate) fn post_join(&mut self, id: &str) {
        let input = json!({"tradeIds": [id], "hasCompliedToAntiRWT": true});
        self.post(
            &json!({"operationName": "JoinTrades", "query": JOIN, "variables": {"input": input}}),
        );
    }

    pub(crate) fn join(&mut self, id: &str) -> Option<Answer> {
        self.post_join(id);
        self.answer()
    }

    pub(crate) fn set_read_limit(&self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).unwrap();
    }
}

/// A WebSocket connection to the feed.
pub(crate) struct Feed(WebSocket<TcpStream>);

impl Feed {
    pub(crate) fn request(market: &SimServer, headers: &[(&'static str, &str)]) -> Request {
        let mut request = market.ws_url().into_client_request().unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_static(name);
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        request
    }

    /// Upgrades a connection to this URL with these headers.
    pub(crate) fn connect(
        address: SocketAddr,
        url: &str,
        headers: &[(&'static str, &str)],
    ) -> Self {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_static(name);
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        let (socket, _) =
            tokio_tungstenite::tungstenite::client(request, connect(address)).unwrap();
        Self(socket)
    }

    /// Returns the next text message as it is, or `None` at the end of the connection.
    pub(crate) fn text(&mut self) -> Option<String> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Some(text.to_string()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Upgrades the connection without sending a message.
    pub(crate) fn raw(market: &SimServer) -> Self {
        let cookie = format!("session={}", market.session());
        let headers = [("sec-websocket-protocol", "graphql-transport-ws"), ("cookie", &*cookie)];
        let request = Self::request(market, &headers);
        let stream = connect(market.address());
        let (socket, response) = tokio_tungstenite::tungstenite::client(request, stream).unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "graphql-transport-ws");
        Self(socket)
    }

    pub(crate) fn acknowledged(market: &SimServer) -> Self {
        let mut feed = Self::raw(market);
        feed.send(&json!({"type": "connection_init"}));
        assert_eq!(feed.next().unwrap(), json!({"type": "connection_ack"}));
        feed
    }

    pub(crate) fn subscribed(market: &SimServer, query: &str) -> Self {
        let mut feed = Self::acknowledged(market);
        let before = market.stats().feeds_subscribed;
        feed.subscribe("1", query);
        until("the feed is subscribed", || market.stats().feeds_subscribed > before);
        feed
    }

    pub(crate) fn subscribe(&mut self, id: &str, query: &str) {
        self.send(&json!({"id": id, "type": "subscribe", "payload": {"query": query}}));
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string());
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    pub(crate) fn frame(&mut self) -> Result<Message, Error> {
        self.0.read()
    }

    /// Returns the next text message. Otherwise returns the close frame, if there was one.
    pub(crate) fn next(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(frame)) => return Err(frame),
                Ok(_) => {}
                Err(_) => return Err(None),
            }
        }
    }

    pub(crate) fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.next() {
                Ok(_) => {}
                Err(frame) => return frame.map(|frame| frame.code.into()),
            }
        }
    }

    pub(crate) fn set_read_limit(&self, time: Duration) {
        self.0.get_ref().set_read_timeout(Some(time)).unwrap();
    }

    pub(crate) fn ping(&mut self) {
        self.0.send(Message::Ping("x".into())).unwrap();
    }
}
