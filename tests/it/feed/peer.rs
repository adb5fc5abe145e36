//! A server that plays a script, frame by frame.
//!
//! It binds port 0, plays the script anew for each connection, notes when each came, and stops when
//! it is dropped. Frames are made and read here by hand, so that wrong ones can be made too.

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

/// What came in over a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The connection is gone.
    End,
}

/// One connection, as its server sees it.
pub(crate) struct Peer<S = TcpStream> {
    pub(crate) stream: S,
    bytes: Vec<u8>,
    /// The head of the upgrade.
    pub(crate) head: String,
}

/// A listing of generation B by its id.
pub(crate) fn listing(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","status":"LISTED","markupPercent":1.5,"totalValue":10.15,"canJoin":true,"canJoinAfter":null,"createdAt":"2026-03-01T10:00:00.300Z","expiresAt":"2026-03-03T10:00:00.301Z","depositor":null,"avgPaintWear":0.2,"tradeItems":[{{"marketName":"AK-47 | Redline (Field-Tested)","value":10.15,"itemVariant":{{"value":10}}}}]}}"#
    )
}

/// An event of generation B.
pub(crate) fn batch(subscription: &str, ids: &[&str]) -> String {
    let trades: Vec<String> = ids.iter().map(|id| listing(id)).collect();
    let trades = trades.join(",");
    format!(
        r#"{{"id":"{subscription}","type":"next","payload":{{"data":{{"createTrades":{{"trades":[{trades}]}}}}}}}}"#
    )
}

/// An event of generation A.
pub(crate) fn single(subscription: &str, id: &str) -> String {
    let trade = listing(id);
    format!(
        r#"{{"id":"{subscription}","type":"next","payload":{{"data":{{"createTrade":{{"trade":{trade}}}}}}}}}"#
    )
}

/// A frame of a server.
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

    /// Reads the head of the upgrade.
    pub(crate) async fn read_head(&mut self) {
        while !self.bytes.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(self.stream.read_buf(&mut self.bytes).await.unwrap(), 0, "no upgrade");
        }
        let at = self.bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        self.head = String::from_utf8(self.bytes.drain(..at).collect()).unwrap();
    }

    /// A header of the upgrade.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines();
        lines.find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }

    /// The answer that grants the upgrade.
    pub(crate) fn grant(&self) -> String {
        let accept = derive_accept_key(self.header("Sec-WebSocket-Key").unwrap().as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\
             Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        )
    }

    /// Grants the upgrade.
    pub(crate) async fn upgrade(&mut self) {
        self.read_head().await;
        self.write(self.grant().as_bytes()).await;
    }

    /// Grants the upgrade, acknowledges, and reads the subscriptions; their ids, listings first.
    pub(crate) async fn subscribed(&mut self) -> Vec<String> {
        self.upgrade().await;
        assert_eq!(self.text().await, r#"{"type":"connection_init"}"#);
        self.say(r#"{"type":"connection_ack"}"#).await;
        let mut ids = Vec::new();
        for _ in 0..3 {
            ids.push(self.subscription().await.0);
        }
        ids
    }

    /// Reads one `subscribe`: its id and its operation's name.
    pub(crate) async fn subscription(&mut self) -> (String, String) {
        let text = self.text().await;
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(message["type"], "subscribe", "{text}");
        let name = message["payload"]["operationName"].as_str().unwrap();
        (message["id"].as_str().unwrap().to_owned(), name.to_owned())
    }

    /// Writes bytes; a client that is gone is no failure of the server's.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).await.is_ok() {
            let _gone = self.stream.flush().await;
        }
    }

    /// Sends a message.
    pub(crate) async fn say(&mut self, message: &str) {
        self.write(&text(message)).await;
    }

    /// Sends a close and waits for the reply: a socket dropped with unread bytes would be reset.
    pub(crate) async fn close(&mut self, code: u16, reason: &str) -> Frame {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend(reason.as_bytes());
        self.write(&frame(0x88, &payload)).await;
        self.drained().await
    }

    /// The next message, which must be a text.
    pub(crate) async fn text(&mut self) -> String {
        match self.frame().await {
            Frame::Text(text) => text,
            other => panic!("{other:?} instead of a text"),
        }
    }

    /// The next frame.
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

    /// Reads on until the client says goodbye or is gone, answering its pings.
    pub(crate) async fn drained(&mut self) -> Frame {
        loop {
            match self.frame().await {
                Frame::Text(text) if text.contains(r#""ping""#) => {
                    self.say(r#"{"type":"pong"}"#).await;
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

/// A server on loopback.
pub(crate) struct Server {
    pub(crate) address: String,
    dials: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Plays `script` for each connection, which gets the connection's number, from 0.
    pub(crate) async fn play<F, Fut>(script: F) -> Self
    where
        F: Fn(usize, Peer) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("ws://{}/ws", listener.local_addr().unwrap());
        let dials: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let noted = Arc::clone(&dials);
        let task = tokio::spawn(async move {
            let mut playing = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let number = {
                    let mut dials = noted.lock().unwrap();
                    dials.push(Instant::now());
                    dials.len() - 1
                };
                playing.spawn(script(number, Peer::new(stream)));
            }
        });
        Self { address, dials, task }
    }

    /// How many connections there were.
    pub(crate) fn dials(&self) -> usize {
        self.dials.lock().unwrap().len()
    }

    /// The times between one connection and the next.
    pub(crate) fn intervals(&self) -> Vec<Duration> {
        let dials = self.dials.lock().unwrap();
        dials.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Waits until there were so many connections.
    pub(crate) async fn dialled(&self, times: usize) {
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
