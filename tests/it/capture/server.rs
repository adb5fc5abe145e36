//! A server of plain JSON that plays a script anew for each connection.
#![expect(clippy::result_large_err, reason = "the library wants to be answered so")]

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
    tungstenite::{Message, handshake::server::Request, handshake::server::Response},
};

/// How long anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// One connection, as its server sees it.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    /// The path that was asked for.
    pub(crate) path: String,
    /// Which connection it is, counted from 1.
    pub(crate) number: usize,
}

impl Peer {
    pub(crate) async fn say(&mut self, text: &str) {
        // Whoever has gone hears nothing.
        drop(self.socket.send(Message::text(text)).await);
    }

    pub(crate) async fn say_bytes(&mut self, bytes: &'static [u8]) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    /// The next text; `None` when the client has gone.
    pub(crate) async fn hear(&mut self) -> Option<String> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Text(text)) => return Some(text.to_string()),
                Ok(_other) => {}
                Err(_gone) => return None,
            }
        }
    }

    /// Stays until the client goes.
    pub(crate) async fn stay(&mut self) {
        while self.hear().await.is_some() {}
    }
}

/// A server on a port of its own, until it is dropped.
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
