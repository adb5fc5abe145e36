//! The simulated market over TLS.

use std::net::TcpStream;

use rustls::{ClientConnection, StreamOwned};
use sniper::{
    config::endpoint::{Endpoint, Scheme},
    domain::money::Amount,
    net::tls::Tls,
    protocol::GraphqlTransportWs,
    sim::{ListedItem, SimServer, SimSettings},
    ws::handle::{Handle, HandleEvent, Options, Target},
};
use tokio_tungstenite::tungstenite::Message;

use super::client::{B, DEADLINE, Feed, open, quiet, until};
use crate::certificate::self_signed;

/// Starts a market with TLS. Returns it with the client configuration that trusts it.
fn encrypted() -> (SimServer, Tls) {
    let (tls, certificate) = self_signed();
    let market = open(SimSettings { tls: Some(tls), ..quiet() });
    (market, Tls::with_root(&certificate).unwrap())
}

#[tokio::test]
async fn the_managed_handle_runs_over_tls() {
    let (market, tls) = encrypted();
    let url = market.ws_url().replace("127.0.0.1", "localhost");
    let endpoint = Endpoint::parse(&url, Scheme::WebSocket).unwrap();
    let target = Target::tcp(endpoint, Some(tls)).unwrap();
    let handle = Handle::connect(target, GraphqlTransportWs, Options::default()).await.unwrap();
    handle.subscribe(&serde_json::json!({ "query": B }).to_string()).unwrap();
    let subscribed = async {
        while market.stats().feeds_subscribed == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, subscribed).await.unwrap();
    let price = Amount::from_cents(100);
    let id = market.list_items(vec![ListedItem::plain("Glove Case", price, price)]).remove(0);
    let event = tokio::time::timeout(DEADLINE, handle.recv()).await.unwrap();
    let Some(HandleEvent::Message(message)) = event else { panic!("{event:?}") };
    assert!(message.text.contains(&id), "{}", message.text);
    handle.stop().await;
}

#[test]
fn the_feed_is_served_over_tls() {
    let (market, tls) = encrypted();
    assert!(market.ws_url().starts_with("wss://") && market.http_url().starts_with("https://"));

    let stream = TcpStream::connect(market.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let config = tls.config();
    let name = "localhost".try_into().unwrap();
    let stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream);
    let headers = [("sec-websocket-protocol", "graphql-transport-ws")];
    let request = Feed::request(&market, &headers);
    let (mut socket, _) = tokio_tungstenite::tungstenite::client(request, stream).unwrap();
    socket.send(Message::text(r#"{"type":"connection_init"}"#)).unwrap();
    let subscribe = serde_json::json!({"id": "1", "type": "subscribe", "payload": {"query": B}});
    socket.send(Message::text(subscribe.to_string())).unwrap();
    until("the feed is subscribed", || market.stats().feeds_subscribed == 1);
    let price = Amount::from_cents(100);
    let id = market.list_items(vec![ListedItem::plain("Glove Case", price, price)]).remove(0);
    assert!(socket.read().unwrap().to_text().unwrap().contains("connection_ack"));
    assert!(socket.read().unwrap().to_text().unwrap().contains(&id));
}
