//! A market that accepts every order, with a thread per connection.
#![expect(clippy::unwrap_used, reason = "a market that cannot be set up ends the measurement")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use rustls::{ClientConnection, ServerConnection, StreamOwned, pki_types::ServerName};
use sniper::{config::Endpoints, net::tls::Tls};

use crate::certificate::self_signed;

/// Addresses and certificate of a running market. Its threads end with the process.
pub(crate) struct Market {
    pub(crate) address: SocketAddr,
    pub(crate) endpoints: Endpoints,
    pub(crate) tls: Tls,
}

impl Market {
    pub(crate) fn start(is_tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (config, tls) = if is_tls {
            let (config, certificate) = self_signed();
            (Some(config), Tls::with_root(&certificate).unwrap())
        } else {
            (None, Tls::new().unwrap())
        };
        thread::spawn(move || {
            while let Ok((stream, _peer)) = listener.accept() {
                stream.set_nodelay(true).unwrap();
                let config = config.clone();
                thread::spawn(move || match config {
                    None => serve(stream),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        serve(StreamOwned::new(connection, stream));
                    }
                });
            }
        });
        let scheme = if is_tls { "https" } else { "http" };
        let ws = format!("ws://{address}/ws");
        let endpoints = Endpoints::new(&ws, &format!("{scheme}://{address}/graphql")).unwrap();
        Self { address, endpoints, tls }
    }
}

impl Market {
    /// Returns the client's side of a finished TLS handshake, whose socket is closed.
    pub(crate) fn connected(&self) -> ClientConnection {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut connection = ClientConnection::new(self.tls.config(), name).unwrap();
        let mut stream = TcpStream::connect(self.address).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).unwrap();
        }
        connection
    }
}

/// Last bytes of each order, and of no other request.
const END: &[u8] = b"\"hasCompliedToAntiRWT\":true}}}";

/// Confirms every order. The response must contain the id, otherwise the client closes the
/// connection.
fn serve(mut stream: impl Read + Write) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        if bytes.ends_with(END) {
            let answer = bought(&bytes);
            bytes.clear();
            if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    }
}

fn bought(order: &[u8]) -> String {
    let order = String::from_utf8_lossy(order);
    let id = order.split_once(r#""tradeIds":[""#).unwrap().1.split_once('"').unwrap().0;
    let body = format!(r#"{{"data":{{"joinTrades":{{"trades":[{{"id":"{id}"}}]}}}}}}"#);
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
