//! Tests of the driver without its task, so that no data is read in between.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use super::*;
use crate::{
    config::{Endpoints, Generation},
    execution::request::PreparedOrder,
    markets::{
        csgoroll::Csgoroll,
        order_template::{OrderTemplate, Part},
    },
    net::dial::AddressOrder,
    net::http_message::HttpRequest,
};

/// The runtime polled the socket before the data arrived, so the driver has not read it.
#[tokio::test]
async fn no_keep_warm_request_is_written_after_unread_data() {
    for has_data in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (ws, http) = (format!("ws://{address}/ws"), format!("http://{address}/graphql"));
        let endpoints = Endpoints::new(&ws, &http).unwrap();
        let (endpoint, tls) = (endpoints.http.clone(), Tls::new().unwrap());
        let connection = Connection::open(&endpoint, &tls, AddressOrder::System).await;
        let connection = Arc::new(connection.unwrap());
        let (mut peer, _address) = listener.accept().unwrap();

        let authority = endpoint.authority();
        let template = OrderTemplate::post_json("/graphql", vec![Part::Text("buy".into())]);
        let request = PreparedOrder::new(&template, &authority).unwrap();
        let warm = HttpRequest::post_json("/graphql", "keep-warm");
        let (reports, _receiver) = mpsc::channel(1);
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
        let mut session = DriverSession::new(Arc::clone(&connection));
        driver.context.shared.pool().insert_connection(0, Arc::clone(&connection));
        driver.context.shared.pool().mark_idle(0);
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
