//! A server whose bytes and timing are controlled by the test.
//!
//! No task runs beside the test: bytes that a peer writes are in the client's socket before the
//! client's runtime polls again, and bytes that the client wrote can be read immediately.
#![expect(clippy::unwrap_used, reason = "a server that cannot be set up fails the test")]

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection};
use sniper::{config::Endpoints, net::tls::Tls};
use tokio::time::{Instant, sleep};

use super::market::WAIT_MAX;
use crate::certificate::self_signed;

/// The listener and the client settings that match it.
pub(crate) struct Script {
    pub(crate) endpoints: Endpoints,
    pub(crate) tls: Tls,
    listener: TcpListener,
    config: Option<Arc<ServerConfig>>,
}

/// The server's side of one connection.
pub(crate) struct Peer {
    stream: TcpStream,
    tls: Option<ServerConnection>,
    /// Bytes that were read and belong to the next request.
    bytes: Vec<u8>,
}

impl Script {
    pub(crate) fn plain() -> Self {
        Self::start(None, Tls::new().unwrap())
    }

    pub(crate) fn tls() -> Self {
        let (config, certificate) = self_signed();
        Self::start(Some(config), Tls::with_root(&certificate).unwrap())
    }

    fn start(config: Option<Arc<ServerConfig>>, tls: Tls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if config.is_some() { "https" } else { "http" };
        let ws = format!("ws://{address}/ws");
        let endpoints = Endpoints::new(&ws, &format!("{scheme}://{address}/graphql")).unwrap();
        Self { endpoints, tls, listener, config }
    }

    /// Accepts the next connection. With TLS the handshake is done, but no session ticket is sent.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _address) = retry_until_ready(|| self.listener.accept()).await;
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        let tls = self.config.clone().map(|config| ServerConnection::new(config).unwrap());
        let mut peer = Peer { stream, tls, bytes: Vec::new() };
        peer.handshake().await;
        peer
    }
}

impl Peer {
    async fn handshake(&mut self) {
        let Self { stream, tls: Some(tls), .. } = self else { return };
        while tls.is_handshaking() {
            if tls.wants_write() {
                tls.write_tls(stream).unwrap();
            } else {
                retry_until_ready(|| tls.read_tls(stream)).await;
                tls.process_new_packets().unwrap();
            }
        }
    }

    /// Sends the session tickets that follow a TLS 1.3 handshake. Returns the number of bytes.
    pub(crate) fn send_tickets(&mut self) -> usize {
        self.tls.as_mut().map_or(0, |tls| tls.write_tls(&mut self.stream).unwrap())
    }

    /// Writes this text, encrypted if the connection uses TLS.
    pub(crate) fn write(&mut self, text: &str) {
        let bytes = self.encrypt(text);
        self.write_raw(&bytes);
    }

    /// Writes these bytes unencrypted.
    pub(crate) fn write_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Returns the bytes on the wire for this text.
    pub(crate) fn encrypt(&mut self, text: &str) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return text.as_bytes().to_vec() };
        let mut bytes = Vec::new();
        tls.writer().write_all(text.as_bytes()).unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Returns `true` if the client has written bytes that were not read yet.
    pub(crate) fn has_request(&self) -> bool {
        self.stream.peek(&mut [0]).is_ok_and(|count| count > 0)
    }

    /// Returns the body of the next request.
    pub(crate) async fn request(&mut self) -> String {
        loop {
            let text = String::from_utf8(self.bytes.clone()).unwrap();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split_once("Content-Length: ").unwrap().1;
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if let Some(body) = body.get(..length) {
                    self.bytes.drain(..head.len() + 4 + length);
                    return body.to_owned();
                }
            }
            let mut piece = [0; 4_096];
            let count = retry_until_ready(|| self.try_read(&mut piece)).await;
            assert!(count > 0, "the client has closed the connection");
            self.bytes.extend_from_slice(piece.get(..count).unwrap());
        }
    }

    /// Waits until the client closes the connection, and asserts that it wrote nothing more.
    pub(crate) async fn wait_for_close(mut self) {
        let mut piece = [0; 4_096];
        let read = retry_until_ready(|| match self.try_read(&mut piece) {
            // Bytes that the client did not read reset the connection.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Ok(0),
            read => read,
        });
        let count = read.await;
        let rest = String::from_utf8_lossy(piece.get(..count).unwrap());
        assert_eq!((rest.as_ref(), self.bytes.len()), ("", 0), "another request");
    }

    /// Closes the connection from the server's side.
    pub(crate) fn close(self) {
        drop(self);
    }

    fn try_read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(piece) };
        loop {
            match tls.reader().read(piece) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            tls.read_tls(&mut self.stream)?;
            tls.process_new_packets().unwrap();
        }
    }
}

/// Retries a non-blocking operation until it is ready, and lets the client run in between.
async fn retry_until_ready<T>(mut attempt: impl FnMut() -> io::Result<T>) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done.unwrap(),
        }
        assert!(Instant::now() < deadline, "the client did nothing");
        sleep(Duration::from_millis(1)).await;
    }
}
