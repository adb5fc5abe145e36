//! A WebSocket server for plain JSON that runs a script for each connection.
#![expect(clippy::result_large_err, reason = "the callback's signature is given by tungstenite")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, handshake::server::Request, handshake::server::Response, protocol::CloseFrame,
    },
};

/// Maximum duration of a step of a test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The server's side of one connection.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    /// Path of the upgrade request.
    pub(crate) path: String,
    /// Number of the connection, counted from 1.
    pub(crate) number: usize,
}

impl Peer {
    pub(crate) async fn send_text(&mut self, text: &str) {
        // The client may have disconnected.
        drop(self.socket.send(Message::text(text)).await);
    }

    pub(crate) async fn send_binary(&mut self, bytes: &'static [u8]) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    /// Closes the connection with this code and reason, and waits for the client's close.
    pub(crate) async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.socket.close(Some(frame)).await.unwrap();
        self.wait_for_disconnect().await;
    }

    /// Returns the next text, or `None` once the client has disconnected.
    pub(crate) async fn recv_text(&mut self) -> Option<String> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Text(text)) => return Some(text.to_string()),
                Ok(_other) => {}
                Err(_gone) => return None,
            }
        }
    }

    /// Keeps the connection open until the client disconnects.
    pub(crate) async fn wait_for_disconnect(&mut self) {
        while self.recv_text().await.is_some() {}
    }
}

/// A server on a free port, stopped on drop.
pub(crate) struct Server {
    address: String,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<S, F>(script: S) -> Self
    where
        S: Fn(Peer) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let count = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn(async move {
            let script = Arc::new(script);
            while let Ok((stream, _from)) = listener.accept().await {
                let (script, count) = (Arc::clone(&script), Arc::clone(&count));
                tokio::spawn(async move {
                    let mut path = String::new();
                    let upgrade = tokio_tungstenite::accept_hdr_async(
                        stream,
                        |request: &Request, response: Response| {
                            path = request.uri().to_string();
                            Ok(response)
                        },
                    );
                    let Ok(socket) = upgrade.await else { return };
                    let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                    script(Peer { socket, path, number }).await;
                });
            }
        });
        Self { address, accepting }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
