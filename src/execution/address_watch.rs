//! Measures the addresses of the market every hour, and moves the order connections to a faster
//! one.
//!
//! Runs on a thread of its own, because a TLS handshake takes longer than an order may be delayed.
//! With one address nothing is measured. One connection stays on another address, so that the loss
//! of an address does not take all of them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;
use tracing::{debug, info};

use super::{address_choice::AddressChoice, pool::PoolState, request::WarmRequest};
use crate::{
    config::endpoint::Endpoint,
    domain::latency::format_latency,
    net::{
        address_latency::{LatencyTarget, SAMPLES, measure},
        dial,
        tls::Tls,
    },
};

/// Time from the start to the first measurement.
const FIRST_AFTER: Duration = Duration::from_secs(5 * 60);

/// Interval between measurements. Each has [`SAMPLES`] connections per address.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Time between two replaced connections, so that few are missing at a time.
const REPLACE_INTERVAL: Duration = Duration::from_secs(1);

/// Number of passes over the connections during a move. A pass skips a connection that carries an
/// order.
const MOVE_PASSES: u32 = 2;

/// Task that keeps the order connections on a fast address.
#[derive(Debug)]
pub struct AddressWatch {
    pub(super) shared: Arc<PoolState>,
    pub(super) endpoint: Endpoint,
    pub(super) tls: Tls,
    /// Request without side effects.
    pub(super) request: Arc<WarmRequest>,
}

impl AddressWatch {
    /// Measures and moves; never returns.
    ///
    /// # Cancel safety
    ///
    /// Safe: a move may be incomplete, and connections that are opened later complete it.
    pub async fn run(self) {
        let mut choice = AddressChoice::default();
        sleep(FIRST_AFTER).await;
        loop {
            self.look(&mut choice).await;
            sleep(INTERVAL).await;
        }
    }

    /// Looks up the addresses, and evaluates them if there is more than one. Without a comparison,
    /// the next measurement counts as the first one.
    async fn look(&self, choice: &mut AddressChoice) {
        match dial::lookup(&self.endpoint).await {
            Ok(addresses) if addresses.len() > 1 => {
                return self.evaluate(&addresses, choice, REPLACE_INTERVAL).await;
            }
            Ok(_single) => {}
            Err(error) => debug!("Order addresses not measured: {error}"),
        }
        *choice = AddressChoice::default();
    }

    /// Measures the addresses, and moves the connections if one was clearly faster twice.
    async fn evaluate(
        &self,
        addresses: &[SocketAddr],
        choice: &mut AddressChoice,
        replace_interval: Duration,
    ) {
        let Self { endpoint, tls, .. } = self;
        let target = LatencyTarget { endpoint, tls, request: self.request.bytes() };
        let measured = measure(target, addresses, SAMPLES).await;
        let round_trips = measured
            .iter()
            .filter_map(|address| Some((address.address.ip(), address.usable_round_trip()?)));
        let round_trips: Vec<(IpAddr, Duration)> = round_trips.collect();
        let Some(current) = self.shared.pool().main_address() else {
            *choice = AddressChoice::default();
            return;
        };
        let Some(to) = choice.on_measurement(current, &round_trips) else { return };
        let round_trip = |of: IpAddr| {
            let found = round_trips.iter().find(|(address, _)| *address == of);
            found.map_or_else(String::new, |(_, latency)| format_latency(*latency))
        };
        info!(
            "Order connections moving from {current} to {to}: round trip {} instead of {}",
            round_trip(to),
            round_trip(current)
        );
        self.move_to(to, replace_interval).await;
    }

    /// Prefers this address from now on, and replaces the idle connections to others one by one.
    async fn move_to(&self, address: IpAddr, interval: Duration) {
        let count = {
            let mut pool = self.shared.pool();
            pool.preferred = Some(address);
            pool.slot_count()
        };
        for _pass in 0..MOVE_PASSES {
            for index in 0..count {
                if self.shared.pool().discard_misplaced(index) {
                    self.shared.wake(index);
                    sleep(interval).await;
                }
            }
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::Ipv4Addr;

    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        task::JoinSet,
    };

    use super::*;
    use crate::{
        config::endpoint::Scheme,
        execution::{connection::Connection, pool::SlotState, request::PreparedOrder},
        markets::order_template::OrderTemplate,
        net::{dial::AddressOrder, http_message::HttpRequest},
    };

    const OLD: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const NEW: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

    /// Returns a connection to a server at this address.
    async fn connect(address: IpAddr) -> (Arc<Connection>, TcpListener) {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let endpoint = Endpoint::parse(&url, Scheme::Http).unwrap();
        let tls = Tls::new().unwrap();
        let connection = Connection::open(&endpoint, &tls, AddressOrder::System).await.unwrap();
        (Arc::new(connection), listener)
    }

    /// Returns a watch over idle connections to these addresses.
    async fn watch(peers: &[IpAddr]) -> (AddressWatch, Vec<TcpListener>) {
        let request = PreparedOrder::new(&OrderTemplate::get(Vec::new()), "localhost").unwrap();
        let shared = Arc::new(PoolState::new(request, u32::try_from(peers.len()).unwrap()));
        let mut listeners = Vec::new();
        for (index, peer) in peers.iter().enumerate() {
            let (connection, listener) = connect(*peer).await;
            shared.pool().insert_connection(index, connection);
            shared.pool().mark_idle(index);
            listeners.push(listener);
        }
        let endpoint = Endpoint::parse("http://localhost:1/", Scheme::Http).unwrap();
        let request = Arc::new(WarmRequest::new(&HttpRequest::get("/"), "localhost").unwrap());
        (AddressWatch { shared, endpoint, tls: Tls::new().unwrap(), request }, listeners)
    }

    /// Returns the indices of the connections that are in place.
    fn kept(watch: &AddressWatch) -> Vec<usize> {
        let pool = watch.shared.pool();
        let is_kept = |index: &usize| matches!(pool.slot_state(*index), SlotState::Idle);
        (0..pool.slot_count()).filter(is_kept).collect()
    }

    /// Starts a server that answers after a delay, and counts its connections.
    async fn serve(address: IpAddr, delay: Duration) -> (SocketAddr, Arc<AtomicU32>, JoinSet<()>) {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (count, mut tasks) = (Arc::new(AtomicU32::new(0)), JoinSet::new());
        let connections = Arc::clone(&count);
        tasks.spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((mut stream, _peer)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                all.spawn(async move {
                    let _request = stream.read(&mut [0; 1_024]).await;
                    sleep(delay).await;
                    let _written = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                });
            }
        });
        (address, count, tasks)
    }

    #[tokio::test]
    async fn the_connections_move_after_two_measurements_with_five_connects_per_address() {
        let (watch, _listeners) = watch(&[OLD; 3]).await;
        let (slow, of_slow, _slow_tasks) = serve(OLD, Duration::from_millis(100)).await;
        let (fast, of_fast, _fast_tasks) = serve(NEW, Duration::ZERO).await;
        let mut choice = AddressChoice::default();
        watch.evaluate(&[slow, fast], &mut choice, Duration::ZERO).await;
        assert_eq!(kept(&watch), [0, 1, 2], "one measurement may be chance");
        assert_eq!(watch.shared.pool().preferred, None);
        watch.evaluate(&[slow, fast], &mut choice, Duration::ZERO).await;
        assert_eq!((kept(&watch), watch.shared.pool().preferred), (vec![0], Some(NEW)));
        let count = |count: &AtomicU32| count.load(Ordering::Relaxed);
        assert_eq!((count(&of_slow), count(&of_fast)), (2 * SAMPLES, 2 * SAMPLES));
    }

    #[tokio::test]
    async fn with_one_address_nothing_is_measured() {
        let (mut watch, _listeners) = watch(&[OLD; 2]).await;
        let (address, connections, _tasks) = serve(OLD, Duration::ZERO).await;
        watch.endpoint = Endpoint::parse(&format!("http://{address}/"), Scheme::Http).unwrap();
        watch.look(&mut AddressChoice::default()).await;
        assert_eq!(connections.load(Ordering::Relaxed), 0);
        assert_eq!((kept(&watch), watch.shared.pool().preferred), (vec![0, 1], None));
    }

    #[tokio::test]
    async fn an_hour_without_a_comparison_separates_two_measurements() {
        let (slow, _of_slow, _slow_tasks) = serve(OLD, Duration::from_millis(100)).await;
        let (fast, _of_fast, _fast_tasks) = serve(NEW, Duration::ZERO).await;
        for is_connected in [true, false] {
            let (mut watch, _listeners) = watch(&[OLD]).await;
            watch.endpoint = Endpoint::parse("http://127.0.0.1:1/", Scheme::Http).unwrap();
            let mut choice = AddressChoice::default();
            watch.evaluate(&[slow, fast], &mut choice, Duration::ZERO).await;
            if is_connected {
                watch.look(&mut choice).await;
            } else {
                assert!(watch.shared.pool().remove_connection(0).is_none());
                watch.evaluate(&[slow, fast], &mut choice, Duration::ZERO).await;
                let (connection, _listener) = connect(OLD).await;
                watch.shared.pool().insert_connection(0, connection);
                watch.shared.pool().mark_idle(0);
            }
            watch.evaluate(&[slow, fast], &mut choice, Duration::ZERO).await;
            assert_eq!(watch.shared.pool().preferred, None, "{is_connected}");
        }
    }

    #[tokio::test]
    async fn a_move_replaces_all_idle_connections_but_one() {
        let (watch, _listeners) = watch(&[OLD; 4]).await;
        assert_eq!(watch.shared.pool().main_address(), Some(OLD));
        // As while an order is in flight.
        assert!(watch.shared.pool().take_idle(2));
        watch.move_to(NEW, Duration::ZERO).await;
        assert_eq!(kept(&watch), [0, 2], "one stays, and one was busy");
        let order = |index| watch.shared.pool().address_order(index);
        assert_eq!(order(0), AddressOrder::Avoid(NEW));
        assert_eq!([order(1), order(2), order(3)], [AddressOrder::Prefer(NEW); 3]);
    }

    #[tokio::test]
    async fn a_move_back_leaves_one_connection_elsewhere_and_orders_use_it_last() {
        let (watch, _listeners) = watch(&[OLD, NEW, NEW, OLD]).await;
        watch.move_to(OLD, Duration::ZERO).await;
        assert_eq!(kept(&watch), [3], "the first must be elsewhere, two are at the old address");
        for (index, peer) in [(1, OLD), (2, OLD), (0, NEW)] {
            let (connection, _listener) = connect(peer).await;
            watch.shared.pool().insert_connection(index, connection);
            // The most recently used connection is taken first, except for this one.
            watch.shared.pool().mark_idle(index);
        }
        assert_eq!(watch.shared.pool().main_address(), Some(OLD));
        assert_eq!(watch.shared.pool().idle_order(), [0, 3, 1, 2], "taken from the end");
        watch.move_to(OLD, Duration::ZERO).await;
        assert_eq!(kept(&watch), [0, 1, 2, 3], "all are in place");
    }

    #[tokio::test]
    async fn without_a_move_every_connection_has_the_order_of_the_system() {
        let (watch, _listeners) = watch(&[OLD, NEW]).await;
        for index in 0..2 {
            assert_eq!(watch.shared.pool().address_order(index), AddressOrder::System);
            assert!(!watch.shared.pool().discard_misplaced(index));
        }
        let shared = {
            let (single, _listeners) = self::watch(&[OLD]).await;
            single.move_to(NEW, Duration::ZERO).await;
            single.shared
        };
        assert_eq!(shared.pool().address_order(0), AddressOrder::Prefer(NEW), "a single one moves");
    }
}
