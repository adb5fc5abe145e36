//! Tests of the driver without its task, so that no data is read in between.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use super::*;
use crate::{
    config::{Endpoints, Generation},
    domain::{
        money::Amount,
        trade::{KeyedBy, TradeId},
    },
    execution::{request::PreparedOrder, response::SentRequest},
    markets::{
        csgoroll::Csgoroll,
        order_template::{OrderFields, OrderTemplate, Part},
        waxpeer::Waxpeer,
    },
    net::dial::AddressOrder,
    net::{http_head::ResponseHead, http_message::HttpRequest},
};

/// A driver with a connection to `peer`, whose reports go to a receiver.
struct Driven {
    driver: ConnectionDriver<Csgoroll>,
    session: DriverSession,
    connection: Arc<Connection>,
    peer: std::net::TcpStream,
    reports: mpsc::Receiver<OrderReport>,
}

async fn driven() -> Driven {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ws, http) = (format!("ws://{address}/ws"), format!("http://{address}/graphql"));
    let endpoints = Endpoints::new(&ws, &http).unwrap();
    let (endpoint, tls) = (endpoints.http.clone(), Tls::new().unwrap());
    let connection = Connection::open(&endpoint, &tls, AddressOrder::System).await;
    let connection = Arc::new(connection.unwrap());
    let (peer, _address) = listener.accept().unwrap();

    let authority = endpoint.authority();
    let template = OrderTemplate::post_json("/graphql", vec![Part::Text("buy".into())]);
    let request = PreparedOrder::new(&template, &authority).unwrap();
    let warm = HttpRequest::post_json("/graphql", "keep-warm");
    let (reports, receiver) = mpsc::channel(1);
    let driver = ConnectionDriver::new(
        Arc::new(DriverContext {
            market: Csgoroll::at(&endpoints, Generation::B),
            shared: Arc::new(PoolState::new(request, 1)),
            endpoint,
            tls,
            warm: Arc::new(WarmRequest::new(&warm, &authority).unwrap()),
            connection_config: ConnectionConfig::default(),
            reports,
            started: Instant::now(),
        }),
        0,
    );
    let session = DriverSession::new(Arc::clone(&connection));
    driver.context.shared.pool().insert_connection(0, Arc::clone(&connection));
    driver.context.shared.pool().mark_idle(0);
    Driven { driver, session, connection, peer, reports: receiver }
}

#[tokio::test]
async fn a_rate_limited_order_pauses_the_other_requests_to_the_host() {
    for (status, retry_after, seconds) in [(429, Some("30"), 25), (429, None, 3), (400, None, 0)] {
        let Driven { driver, mut session, mut reports, .. } = driven().await;
        let now = Instant::now();
        let id = TradeId::from_number(1);
        let order = OrderFields { id, price_limit: Amount::from_cents(100), own_id: None };
        let sent = SentRequest { ready: now, begun: now, written: now };
        let order = InFlightRequest { key: KeyedBy::Id.key(id, None), order, sent };
        let headers = retry_after.map(|wait| ("retry-after", wait));
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        let head = ResponseHead::parse(status, headers);
        let response = HttpResponse { head, body: b"{}".to_vec() };
        let received =
            ReceivedResponse { response, at: now, has_surplus: false, is_reusable: false };
        let _flow = driver.on_order_response(&mut session, order, received).await;
        let _report = reports.recv().await.unwrap();
        let paused = pause_of_host(&driver.context.endpoint.origin());
        assert!(Duration::from_secs(seconds) <= paused, "{status}: {paused:?}");
        assert_eq!(paused.is_zero(), status == 400);
    }
}

#[test]
fn only_a_429_and_a_wait_in_the_body_of_a_200_are_requests_to_wait() {
    let (body, seconds) = (r#"{"success":false,"msBeforeNext":7000}"#, Duration::from_secs);
    for (status, header, body, expected) in [
        (429, Some("30"), "{}", Some(seconds(30))),
        (429, None, body, Some(seconds(7))),
        (429, None, "{}", Some(PAUSE_DEFAULT)),
        (200, None, body, Some(seconds(7))),
        (200, None, "{}", None),
        (200, Some("30"), "{}", None),
        (400, Some("30"), body, None),
    ] {
        let headers = header.iter().map(|wait| ("retry-after", wait.as_bytes()));
        let head = ResponseHead::parse(status, headers);
        let response = HttpResponse { head, body: body.as_bytes().to_vec() };
        let requested = requested_pause::<Waxpeer>(&response);
        assert_eq!(requested, expected, "{status} {header:?} {body}");
    }
}

#[tokio::test]
async fn a_rate_limited_keep_warm_request_pauses_the_other_requests_to_the_host() {
    let Driven { driver, .. } = driven().await;
    let response =
        HttpResponse { head: ResponseHead::parse(429, std::iter::empty()), body: vec![] };
    let at = Instant::now();
    let received = ReceivedResponse { response, at, has_surplus: false, is_reusable: true };
    let _flow = driver.on_keep_warm_response(at, received);
    assert!(!pause_of_host(&driver.context.endpoint.origin()).is_zero());
}

/// The runtime polled the socket before the data arrived, so the driver has not read it.
#[tokio::test]
async fn no_keep_warm_request_is_written_after_unread_data() {
    for has_data in [false, true] {
        let Driven { driver, mut session, connection, mut peer, reports: _reports } =
            driven().await;
        if has_data {
            peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            while connection.pending_input() == PendingInput::Nothing {}
        }
        let flow = driver.on_deadline(&mut session, SlotState::Idle);
        assert_eq!(flow, if has_data { Flow::Close(ResponseError::Cut) } else { Flow::Continue });
        assert_eq!(session.keep_warm_sent.is_none(), has_data);
        drop((driver, session, connection));
        let mut written = String::new();
        // Closing a socket with unread data resets the connection.
        let read = peer.read_to_string(&mut written);
        assert!(read.is_ok() || has_data, "{read:?}");
        assert_eq!(written.contains("keep-warm"), !has_data, "{written:?}");
    }
}
