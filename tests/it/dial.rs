//! TCP connects over real sockets: an unresponsive address costs a short head start and not the
//! whole deadline.
#![expect(clippy::unwrap_used, reason = "an unexpected value fails the test")]

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    time::Instant,
};

use sniper::{
    config::endpoint::{Endpoint, Scheme},
    execution::DIAL_TIMEOUT,
    net::{
        dial::{AllowedAddresses, DialError, HEAD_START, race, tcp},
        http_client::HttpClient,
        http_message::HttpRequest,
        tls::Tls,
    },
};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// An address where a connect never completes, because its accept queue is full.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl BlackHole {
    pub(crate) fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let queued = (0..8)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                // The connect is in progress or already queued.
                let _in_progress = socket.connect(&address);
                socket
            })
            .collect();
        Self { address: address.as_socket().unwrap(), _listener: listener, _queued: queued }
    }
}

/// Returns an address without a listener.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_unresponsive_address_delays_the_connect_by_a_head_start_only() {
    let dead = BlackHole::open();
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = alive.local_addr().unwrap();
    let began = Instant::now();
    let stream = race(VecDeque::from([dead.address, address])).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
    assert!(stream.nodelay().unwrap());
    let took = began.elapsed();
    assert!(HEAD_START <= took && took < DIAL_TIMEOUT, "{took:?}");
}

#[tokio::test]
async fn a_rejected_connect_causes_no_delay() {
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = alive.local_addr().unwrap();
    let began = Instant::now();
    // A head start for each would sum up to more than twenty seconds.
    let mut addresses = VecDeque::from([closed_port(); 100]);
    addresses.push_back(address);
    let stream = race(addresses).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
    assert!(began.elapsed() < DIAL_TIMEOUT);
}

#[tokio::test]
async fn if_every_address_fails_the_last_error_is_returned() {
    let failed = race(VecDeque::from([closed_port(), closed_port()])).await;
    assert!(matches!(failed, Err(DialError::Connect(_))), "{failed:?}");
    let nowhere = race(VecDeque::new()).await;
    assert!(matches!(nowhere, Err(DialError::NoAddress)), "{nowhere:?}");
}

#[tokio::test]
async fn a_host_name_is_resolved_and_connected() {
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = alive.local_addr().unwrap().port();
    // `localhost` may also resolve to an address of the other family, without a listener.
    let url = format!("ws://localhost:{port}/");
    let stream = tcp(&Endpoint::parse(&url, Scheme::WebSocket).unwrap()).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().port(), port);
}

/// The HTTP client resolves names with the same code as the feed, and keeps the URL's port.
#[tokio::test]
async fn http_requests_reach_localhost_by_name() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://localhost:{port}/");
    let endpoint = Endpoint::parse(&url, Scheme::Http).unwrap();
    let client = HttpClient::new(&endpoint, &Tls::new().unwrap()).unwrap();
    let request = HttpRequest::post_json("/", "{}");
    let server = async {
        let (mut stream, _peer) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").await.unwrap();
        request
    };
    let (request, reply) = tokio::join!(server, client.send(&request));
    let request = String::from_utf8(request).unwrap();
    assert!(request.contains(&format!("host: localhost:{port}\r\n")), "{request}");
    assert_eq!(reply.unwrap().response.body, b"[]");
}

/// Without TLS, a name that resolves to another machine is rejected before any packet is sent.
#[test]
fn without_tls_a_remote_address_is_rejected_with_a_remedy() {
    let remote = SocketAddr::from(([192, 0, 2, 1], 80));
    let allowed = |address| {
        AllowedAddresses::of_endpoint(&Endpoint::parse(address, Scheme::WebSocket).unwrap())
    };
    let rejected = allowed("ws://localhost/").permitted([remote].into_iter()).unwrap_err();
    let message = rejected.to_string();
    assert!(message.contains("192.0.2.1") && message.contains("wss://"), "{message}");
    assert_eq!(allowed("wss://localhost/").permitted([remote].into_iter()).unwrap(), [remote]);
}
