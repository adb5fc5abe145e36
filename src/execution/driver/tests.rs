//! Tests of the driver without its task, so that no data is read in between.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use super::*;
use crate::{
    config::{Config, Endpoints, Generation},
    domain::{
        money::Amount,
        trade::{KeyedBy, TradeId},
    },
    execution::{request::PreparedOrder, response::SentRequest},
    markets::{
        csgoroll::Csgoroll,
        lis_skins::LisSkins,
        order_template::{OrderFields, OrderTemplate, Part},
        waxpeer::Waxpeer,
    },
    net::dial::AddressOrder,
    net::{http_head::ResponseHead, http_message::HttpRequest},
};

/// A driver with a connection to `peer`, whose reports go to a receiver.
struct Driven<M> {
    driver: ConnectionDriver<M>,
    session: DriverSession,
    connection: Arc<Connection>,
    peer: std::net::TcpStream,
    reports: mpsc::Receiver<OrderReport>,
}

async fn driven() -> Driven<Csgoroll> {
    driven_on(|endpoints| Csgoroll::at(endpoints, Generation::B)).await
}

async fn driven_on<M: MarketApi>(market: impl FnOnce(&Endpoints) -> M) -> Driven<M> {
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
            market: market(&endpoints),
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

fn in_flight() -> InFlightRequest {
    let (now, id) = (Instant::now(), TradeId::from_number(1));
    let order = OrderFields { id, price_limit: Amount::from_cents(100), own_id: None };
    let sent = SentRequest { ready: now, begun: now, written: now };
    InFlightRequest { key: KeyedBy::Id.key(id, None), order, sent }
}

#[tokio::test]
async fn a_rate_limited_order_pauses_the_other_requests_to_the_host() {
    for (status, retry_after, seconds) in [(429, Some("30"), 25), (429, None, 3), (400, None, 0)] {
        let Driven { driver, mut session, mut reports, .. } = driven().await;
        let (now, order) = (Instant::now(), in_flight());
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

/// A rejection that was received this long ago.
fn confirmation(received: Duration) -> Confirmation {
    let head = ResponseHead::parse(400, std::iter::empty());
    Confirmation {
        order: in_flight(),
        reason: RejectReason::Taken,
        response: HttpResponse { head, body: vec![] },
        received: Instant::now().checked_sub(received).unwrap(),
        request_sent: None,
        postponed_until: None,
    }
}

#[tokio::test]
async fn at_the_hosts_limit_orders_are_sent_confirmations_wait_and_keep_warm_requests_are_left_out()
{
    let on_lis_skins = |endpoints: &Endpoints| LisSkins::new(&Config::new(endpoints.clone(), ""));
    let Driven { driver, mut session, connection: _connection, peer: _peer, reports: _reports } =
        driven_on(on_lis_skins).await;
    tokio::time::pause();
    while driver.try_acquire_quota().is_ok() {}
    let idle_since = session.idle_since;
    assert_eq!(driver.on_deadline(&mut session, SlotState::Idle), Flow::Continue);
    assert_eq!(session.keep_warm_sent, None);
    assert!(idle_since < session.idle_since, "its next turn is an interval later");

    let InFlightRequest { key, order, .. } = in_flight();
    assert!(driver.context.shared.send(key, order).is_ok());

    session.confirming = Some(confirmation(Duration::ZERO));
    assert_eq!(driver.send_confirmation_request(&mut session), Flow::Continue);
    let sent = |session: &DriverSession| session.confirming.as_ref().unwrap().request_sent;
    let wait = driver.try_acquire_quota().unwrap_err();
    for (wait, is_sent) in [(wait / 2, false), (wait, true)] {
        assert_eq!(sent(&session), None);
        let deadline = driver.next_deadline(&session, SlotState::Idle);
        assert!(deadline < Instant::now() + 2 * wait, "it is not tried again in time");
        tokio::time::advance(wait).await;
        assert_eq!(driver.on_deadline(&mut session, SlotState::Idle), Flow::Continue);
        assert_eq!(sent(&session).is_some(), is_sent);
    }

    let timeout = driver.context.connection_config.response_timeout;
    session.confirming = Some(confirmation(timeout));
    assert_eq!(driver.send_confirmation_request(&mut session), Flow::Continue);
    assert_eq!(sent(&session), None);
    let timed_out = Flow::Close(ResponseError::Timeout);
    assert_eq!(driver.on_deadline(&mut session, SlotState::Idle), timed_out);
}

#[tokio::test]
async fn without_a_documented_limit_every_confirmation_is_sent_at_once() {
    let Driven { driver, mut session, connection: _connection, peer: _peer, reports: _reports } =
        driven().await;
    for _ in 0..500 {
        session.confirming = Some(confirmation(Duration::ZERO));
        assert_eq!(driver.send_confirmation_request(&mut session), Flow::Continue);
        assert!(session.confirming.as_ref().unwrap().request_sent.is_some());
    }
}
