//! Latency of server addresses over real sockets, within their bounds.
#![expect(clippy::unwrap_used, reason = "an unexpected value fails the test")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustls::ServerConfig;
use sniper::{
    config::endpoint::{Endpoint, Scheme},
    net::{
        address_latency::{LatencyTarget, MeasuredAddress, SAMPLES, is_faster, measure},
        tls::Tls,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::certificate::self_signed;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A server that answers each request after a delay, or closes without an answer.
struct DelayedServer {
    address: SocketAddr,
    connections: Arc<AtomicU32>,
    _tasks: JoinSet<()>,
}

impl DelayedServer {
    async fn start(delay: Option<Duration>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicU32::new(0));
        let mut tasks = JoinSet::new();
        let count = Arc::clone(&connections);
        let acceptor = tls.map(TlsAcceptor::from);
        tasks.spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((stream, _peer)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                all.spawn(serve(stream, acceptor.clone(), delay));
            }
        });
        Self { address, connections, _tasks: tasks }
    }

    fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, delay: Option<Duration>) {
    match acceptor {
        None => answer(stream, delay).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, delay).await;
            }
        }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, delay: Option<Duration>) {
    let mut request = vec![0; REQUEST.len()];
    if stream.read_exact(&mut request).await.is_ok()
        && let Some(delay) = delay
    {
        assert_eq!(request, REQUEST);
        tokio::time::sleep(delay).await;
        // The client closes after the first byte.
        let _written = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    }
}

async fn measure_all(scheme: &str, tls: &Tls, addresses: &[SocketAddr]) -> Vec<MeasuredAddress> {
    let endpoint = Endpoint::parse(&format!("{scheme}://localhost:1/"), Scheme::Http).unwrap();
    let target = LatencyTarget { endpoint: &endpoint, tls, request: REQUEST };
    measure(target, addresses, SAMPLES).await
}

#[tokio::test]
async fn each_address_is_measured_with_five_connects_and_the_faster_one_is_found() {
    let fast = DelayedServer::start(Some(Duration::ZERO), None).await;
    let slow = DelayedServer::start(Some(Duration::from_millis(100)), None).await;
    let addresses = [slow.address, fast.address];
    let measured = measure_all("http", &Tls::new().unwrap(), &addresses).await;
    let [of_slow, of_fast] = measured.as_slice() else { panic!("{measured:?}") };
    for (measured, server) in [(of_slow, &slow), (of_fast, &fast)] {
        assert_eq!(measured.address, server.address);
        assert_eq!((measured.samples.len(), server.connections()), (5, 5), "{measured:?}");
        assert!(measured.tls().is_none(), "{measured:?}");
    }
    assert!(of_slow.round_trip().unwrap().min >= Duration::from_millis(100), "{of_slow:?}");
    assert!(of_slow.connect().unwrap().p50 < Duration::from_millis(100), "{of_slow:?}");
    let [slow, fast] = [of_slow, of_fast].map(|address| address.usable_round_trip().unwrap());
    assert!(is_faster(fast, slow) && !is_faster(slow, fast));
}

#[tokio::test]
async fn an_address_that_fails_is_dialed_once_and_does_not_stop_the_others() {
    let mute = DelayedServer::start(None, None).await;
    let good = DelayedServer::start(Some(Duration::ZERO), None).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let addresses = [gone, mute.address, good.address];
    let measured = measure_all("http", &Tls::new().unwrap(), &addresses).await;
    let errors: Vec<Option<String>> =
        measured.iter().map(|address| address.error.as_ref().map(ToString::to_string)).collect();
    let expected = [Some("no connection"), Some("no response"), None];
    assert_eq!(errors, expected.map(|error| error.map(str::to_owned)));
    assert_eq!((mute.connections(), good.connections()), (1, 5));
    assert_eq!(measured.iter().filter_map(MeasuredAddress::usable_round_trip).count(), 1);
}

#[tokio::test]
async fn the_handshake_is_measured_and_the_certificate_verified() {
    let (config, certificate) = self_signed();
    let server = DelayedServer::start(Some(Duration::ZERO), Some(config)).await;
    let trusting = Tls::with_root(&certificate).unwrap();
    let measured = measure_all("https", &trusting, &[server.address]).await;
    assert!(measured[0].error.is_none() && measured[0].tls().is_some(), "{measured:?}");
    let measured = measure_all("https", &Tls::new().unwrap(), &[server.address]).await;
    let error = measured[0].error.as_ref().map(ToString::to_string);
    assert_eq!((error.as_deref(), measured[0].samples.len()), (Some("no TLS handshake"), 0));
}
