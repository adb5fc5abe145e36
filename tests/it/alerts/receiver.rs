//! A small HTTP server on loopback that records requests and gives scripted responses.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
};

/// Response to one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// Status, one header (may be empty) and body.
    Status(u16, &'static str, &'static str),
    /// Nothing, and the connection stays open.
    Hang,
}

pub(crate) const OK: Reply = Reply::Status(200, "", "{}");

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Method and path.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(of, _)| of == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A running server, which ends with the runtime of its test.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    /// Starts a server that gives these replies in turn, the last one again and again.
    pub(crate) async fn start(script: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let (script, log) = (script.to_vec(), Arc::clone(&received));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, script.clone(), Arc::clone(&log)));
            }
        });
        Self { address, received }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Waits until this many requests have arrived, and returns all.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.received().len() < count {
            assert!(Instant::now() < deadline, "{count} expected: {:#?}", self.received());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.received()
    }
}

async fn serve(stream: TcpStream, script: Vec<Reply>, log: Arc<Mutex<Vec<Received>>>) {
    let mut stream = BufStream::new(stream);
    while let Some(request) = read(&mut stream).await {
        let reply = {
            let mut log = log.lock().unwrap();
            log.push(request);
            script[(log.len() - 1).min(script.len() - 1)]
        };
        let Reply::Status(status, header, body) = reply else {
            std::future::pending::<()>().await;
            return;
        };
        let line = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let length = body.len();
        let response =
            format!("HTTP/1.1 {status} X\r\n{line}Content-Length: {length}\r\n\r\n{body}");
        if stream.write_all(response.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut BufStream<TcpStream>) -> Option<Received> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let line = lines[0].trim_end_matches(" HTTP/1.1").to_owned();
    Some(Received { line, headers, body: String::from_utf8(body).unwrap(), at: Instant::now() })
}
