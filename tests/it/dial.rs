//! Dialling over real sockets: one dead address costs a head start and not the deadline.
#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use sniper::{
    config::{
        Endpoints,
        endpoint::{Endpoint, Scheme},
    },
    net::{
        dial::{DialError, HEAD_START, Reach, race, tcp},
        http_client::HttpClient,
        tls::Tls,
    },
};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// An address where connecting never ends: its queue is full and nobody accepts.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl BlackHole {
    fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let queued = (0..8)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                // It is under way, or already queued.
                let _under_way = socket.connect(&address);
                socket
            })
            .collect();
        Self { address: address.as_socket().unwrap(), _listener: listener, _queued: queued }
    }
}

/// An address where nobody listens.
fn refused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_dead_address_costs_a_head_start_and_no_more() {
    let dead = BlackHole::open();
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = alive.local_addr().unwrap();
    let began = Instant::now();
    let stream = race(VecDeque::from([dead.address, address])).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
    assert!(stream.nodelay().unwrap());
    let took = began.elapsed();
    assert!(HEAD_START <= took && took < HEAD_START + Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn an_address_that_refuses_costs_nothing() {
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = alive.local_addr().unwrap();
    let began = Instant::now();
    let stream = race(VecDeque::from([refused(), refused(), address])).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), address);
    assert!(began.elapsed() < HEAD_START);
}

#[tokio::test]
async fn where_every_address_fails_the_last_reason_is_told() {
    let failed = race(VecDeque::from([refused(), refused()])).await;
    assert!(matches!(failed, Err(DialError::Connect(_))), "{failed:?}");
    let nowhere = race(VecDeque::new()).await;
    assert!(matches!(nowhere, Err(DialError::NoAddress)), "{nowhere:?}");
}

#[tokio::test]
async fn a_name_is_looked_up_and_connected_to() {
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = alive.local_addr().unwrap().port();
    // `localhost` may have an address of the other family, too, where nobody listens.
    let url = format!("ws://localhost:{port}/");
    let stream = tcp(&Endpoint::parse(&url, Scheme::WebSocket).unwrap()).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().port(), port);
}

/// The HTTP client resolves names with the same code as the feed, and keeps the URL's port.
#[tokio::test]
async fn reads_over_http_reach_localhost_by_name() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = |scheme| format!("{scheme}://localhost:{port}/");
    let endpoints = Endpoints::new(&url("ws"), &url("http")).unwrap();
    let client = HttpClient::new(&endpoints, None, &Tls::new().unwrap()).unwrap();
    let server = async {
        let (mut stream, _peer) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").await.unwrap();
        request
    };
    let (request, reply) = tokio::join!(server, client.post("{}".to_owned()));
    let request = String::from_utf8(request).unwrap();
    assert!(request.contains(&format!("host: localhost:{port}\r\n")), "{request}");
    assert_eq!(reply.unwrap().body, "[]");
}

/// A name that stands for another machine is not connected to without TLS. No packet is sent: the
/// address is refused before it is dialled.
#[test]
fn without_tls_an_address_of_another_machine_is_refused_with_the_remedy() {
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 80));
    let refused = Reach::of(false).within([elsewhere].into_iter()).unwrap_err();
    let words = refused.to_string();
    assert!(words.contains("192.0.2.1") && words.contains("wss://"), "{words}");
    assert_eq!(Reach::of(true).within([elsewhere].into_iter()).unwrap(), [elsewhere]);
}
