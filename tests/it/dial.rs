//! Dialling over real sockets: one dead address costs a head start and not the deadline.
#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use sniper::net::dial::{DialError, HEAD_START, race, tcp};
use socket2::{Domain, Socket, Type};

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
    let stream = tcp("localhost", port).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().port(), port);
}
