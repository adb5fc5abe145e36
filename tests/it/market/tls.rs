//! The practice market over TLS.

use std::{net::TcpStream, sync::Arc};

use rustls::{ClientConnection, ServerConfig, StreamOwned, pki_types::PrivateKeyDer};
use sniper::{
    money::Coins,
    net::tls::Tls,
    sim::{Offer, Settings},
};
use tokio_tungstenite::tungstenite::Message;

use super::client::{B, DEADLINE, Feed, open, quiet, until};

#[test]
fn the_feed_is_served_over_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let market = open(Settings { tls: Some(Arc::new(tls)), ..quiet() });
    assert!(market.ws_url().starts_with("wss://") && market.http_url().starts_with("https://"));

    let stream = TcpStream::connect(market.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let config = Tls::trusting(made.cert.der()).unwrap().config();
    let name = "localhost".try_into().unwrap();
    let stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream);
    let headers = [("sec-websocket-protocol", "graphql-transport-ws")];
    let request = Feed::request(&market, &headers);
    let (mut socket, _) = tokio_tungstenite::tungstenite::client(request, stream).unwrap();
    socket.send(Message::text(r#"{"type":"connection_init"}"#)).unwrap();
    let subscribe = serde_json::json!({"id": "1", "type": "subscribe", "payload": {"query": B}});
    socket.send(Message::text(subscribe.to_string())).unwrap();
    until("the feed is subscribed", || market.visits().feeds_subscribed == 1);
    let price = Coins::from_cents(100);
    let id = market.offer(vec![Offer::plain("Glove Case", price, price)]).remove(0);
    assert!(socket.read().unwrap().to_text().unwrap().contains("connection_ack"));
    assert!(socket.read().unwrap().to_text().unwrap().contains(&id));
}
