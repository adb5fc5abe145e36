//! A scripted WebSocket server.
//!
//! It binds port 0, runs the script once per connection, records the connect times, and stops on
//! drop. Frames are encoded and decoded here, so that tests can also send invalid ones.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// An event on the server's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The connection ended without a close frame.
    End,
}

/// The server's side of one connection.
pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    bytes: Vec<u8>,
    /// Head of the upgrade request.
    pub(crate) head: String,
}

/// Returns a listing of generation B with this id.
pub(crate) fn listing(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","status":"LISTED","markupPercent":1.5,"totalValue":10.15,"canJoin":true,"canJoinAfter":null,"createdAt":"2026-03-01T10:00:00.300Z","expiresAt":"2026-03-03T10:00:00.301Z","depositor":null,"avgPaintWear":0.2,"tradeItems":[{{"marketName":"AK-47 | Redline (Field-Tested)","value":10.15,"itemVariant":{{"value":10}}}}]}}"#
    )
}

/// Returns a `next` message of generation B with these listings.
pub(crate) fn batch(subscription: &str, ids: &[&str]) -> String {
    let trades: Vec<String> = ids.iter().map(|id| listing(id)).collect();
    let trades = trades.join(",");
    format!(
        r#"{{"id":"{subscription}","type":"next","payload":{{"data":{{"createTrades":{{"trades":[{trades}]}}}}}}}}"#
    )
}

/// Returns a `next` message of generation A with this listing.
pub(crate) fn single(subscription: &str, id: &str) -> String {
    let trade = listing(id);
    format!(
        r#"{{"id":"{subscription}","type":"next","payload":{{"data":{{"createTrade":{{"trade":{trade}}}}}}}}}"#
    )
}

/// Encodes an unmasked frame.
pub(crate) fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    match payload.len() {
        len @ 0..126 => bytes.push(u8::try_from(len).unwrap()),
        len @ 126..65_536 => {
            bytes.push(126);
            bytes.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend(u64::try_from(len).unwrap().to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

pub(crate) fn text(message: &str) -> Vec<u8> {
    frame(0x81, message.as_bytes())
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, bytes: Vec::new(), head: String::new() }
    }

    /// Reads the upgrade request.
    pub(crate) async fn read_head(&mut self) {
        while !self.bytes.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(self.stream.read_buf(&mut self.bytes).await.unwrap(), 0, "no upgrade");
        }
        let at = self.bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        self.head = String::from_utf8(self.bytes.drain(..at).collect()).unwrap();
    }

    /// Returns a header of the upgrade request.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines();
        lines.find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }

    /// Returns the response that grants the upgrade.
    pub(crate) fn grant(&self) -> String {
        let accept = derive_accept_key(self.header("Sec-WebSocket-Key").unwrap().as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\
             Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        )
    }

    /// Reads the upgrade request and grants it.
    pub(crate) async fn upgrade(&mut self) {
        self.read_head().await;
        self.write(self.grant().as_bytes()).await;
    }

    /// Grants the upgrade, sends the ack and reads the subscriptions. Returns their ids, with that
    /// of the listings first.
    pub(crate) async fn subscribed(&mut self) -> Vec<String> {
        self.upgrade().await;
        assert_eq!(self.text().await, r#"{"type":"connection_init"}"#);
        self.send_text(r#"{"type":"connection_ack"}"#).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(self.subscription().await.0);
        }
        ids
    }

    /// Reads one `subscribe` message. Returns its id and its operation name.
    pub(crate) async fn subscription(&mut self) -> (String, String) {
        let text = self.text().await;
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(message["type"], "subscribe", "{text}");
        let name = message["payload"]["operationName"].as_str().unwrap();
        (message["id"].as_str().unwrap().to_owned(), name.to_owned())
    }

    /// Writes bytes. A closed connection is not an error.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).await.is_ok() {
            let _gone = self.stream.flush().await;
        }
    }

    pub(crate) async fn send_text(&mut self, message: &str) {
        self.write(&text(message)).await;
    }

    /// Sends a close frame and waits for the reply. Dropping a socket with unread bytes would reset
    /// the connection.
    pub(crate) async fn close(&mut self, code: u16, reason: &str) -> Frame {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend(reason.as_bytes());
        self.write(&frame(0x88, &payload)).await;
        self.read_until_close().await
    }

    /// Returns the next message, which must be a text.
    pub(crate) async fn text(&mut self) -> String {
        match self.frame().await {
            Frame::Text(text) => text,
            other => panic!("{other:?} instead of a text"),
        }
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        loop {
            if let Some((frame, len)) = parse(&self.bytes) {
                self.bytes.drain(..len);
                return frame;
            }
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return Frame::End,
                Ok(_) => {}
            }
        }
    }

    /// Reads until the client closes or disconnects, and answers its pings.
    pub(crate) async fn read_until_close(&mut self) -> Frame {
        loop {
            match self.frame().await {
                Frame::Text(text) if text.contains(r#""ping""#) => {
                    self.send_text(r#"{"type":"pong"}"#).await;
                }
                frame @ (Frame::Close(_) | Frame::End) => return frame,
                _ => {}
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (len, at) = match second & 0x7F {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
        127 => {
            let len = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            (usize::try_from(len).unwrap(), 10)
        }
        len => (usize::from(len), 2),
    };
    assert_ne!(second & 0x80, 0, "a client must mask its frames");
    let mask = bytes.get(at..at + 4)?;
    let masked = bytes.get(at + 4..at + 4 + len)?;
    let payload: Vec<u8> =
        masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let frame = match first & 0x0F {
        1 => Frame::Text(String::from_utf8(payload).unwrap()),
        8 => {
            Frame::Close(payload.get(..2).map(|code| u16::from_be_bytes(code.try_into().unwrap())))
        }
        9 => Frame::Ping(payload),
        10 => Frame::Pong(payload),
        other => panic!("a frame of kind {other}"),
    };
    Some((frame, at + 4 + len))
}

/// A scripted server on loopback.
pub(crate) struct Server {
    pub(crate) address: String,
    dials: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Runs `script` for each connection. Its first argument counts the connections from 0.
    pub(crate) async fn play<F, Fut>(script: F) -> Self
    where
        F: Fn(usize, Peer) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("ws://{}/ws", listener.local_addr().unwrap());
        let dials: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let connect_times = Arc::clone(&dials);
        let task = tokio::spawn(async move {
            let mut playing = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let number = {
                    let mut dials = connect_times.lock().unwrap();
                    dials.push(Instant::now());
                    dials.len() - 1
                };
                playing.spawn(script(number, Peer::new(stream)));
            }
        });
        Self { address, dials, task }
    }

    /// Sends the listing `before` and closes the first connection, and sends the listing `after` on
    /// each later one.
    pub(crate) async fn closing_once() -> Self {
        Self::play(|number, mut peer| async move {
            let ids = peer.subscribed().await;
            peer.send_text(&batch(&ids[0], &[if number == 0 { "before" } else { "after" }])).await;
            if number == 0 {
                peer.close(1_001, "").await;
            } else {
                peer.read_until_close().await;
            }
        })
        .await
    }

    /// Returns the number of connections so far.
    pub(crate) fn dials(&self) -> usize {
        self.dials.lock().unwrap().len()
    }

    /// Returns the intervals between consecutive connections.
    pub(crate) fn intervals(&self) -> Vec<Duration> {
        let dials = self.dials.lock().unwrap();
        dials.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Waits until there were `times` connections.
    pub(crate) async fn wait_for_dials(&self, times: usize) {
        while self.dials() < times {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
