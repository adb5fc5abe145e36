//! A straightforward bot built from the same crates: a multi-threaded runtime, `serde_json::Value`
//! and a spawned task per POST.

use std::{thread, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::oneshot};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue},
};

use crate::{
    frames::WANTED,
    run::{Client, Environment, Running},
};

/// The straightforward client.
pub(crate) struct Plain;

const JOIN: &str = "mutation JoinTrades($input: JoinTradesInput!) { joinTrades(input: $input) { trades { id status totalValue updatedAt expiresAt } } }";

impl Client for Plain {
    fn name(&self) -> &'static str {
        "simple bot"
    }

    fn start(&self, env: &Environment) -> Running {
        let (ws, http) = (env.ws, format!("http://{}/graphql", env.http));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.unwrap();
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = watch(ws, http) => {}
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(1));
        });
        Running::new(move || {
            // The task may have ended already.
            let _gone = stop.send(());
            thread.join().unwrap();
            Vec::new()
        })
    }
}

async fn watch(ws: std::net::SocketAddr, url: String) {
    let stream = TcpStream::connect(ws).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut request = format!("ws://{ws}/ws").into_client_request().unwrap();
    let protocol = HeaderValue::from_static("graphql-transport-ws");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut socket, _) = client_async(request, stream).await.unwrap();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(sniper::net::tls::Tls::new().unwrap().config().as_ref().clone())
        .no_proxy()
        .build()
        .unwrap();
    let text = |value: Value| Message::text(value.to_string());
    socket.send(text(json!({"type": "connection_init"}))).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let query = "subscription OnCreateTrades { createTrades { trades { id } } }";
    let subscribe = json!({"id": "1", "type": "subscribe", "payload": {"query": query}});
    socket.send(text(subscribe)).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let Ok(message) = serde_json::from_str::<Value>(&text) else { continue };
        let trades = message["payload"]["data"]["createTrades"]["trades"].as_array();
        for trade in trades.into_iter().flatten() {
            if is_wanted(trade) {
                let input = json!({"tradeIds": [trade["id"]], "hasCompliedToAntiRWT": true});
                let variables = json!({ "input": input });
                let body =
                    json!({"operationName": "JoinTrades", "query": JOIN, "variables": variables});
                let request = client.post(&url).header("cookie", "session=bench").json(&body);
                tokio::spawn(async move {
                    if let Ok(answer) = request.send().await {
                        drop(answer.text().await);
                    }
                });
            }
        }
    }
}

fn is_wanted(trade: &Value) -> bool {
    trade["status"] == "LISTED"
        && trade["canJoin"] == true
        && trade["tradeItems"][0]["marketName"] == WANTED
        && trade["totalValue"].as_f64().is_some_and(|price| price <= 12.5)
        && trade["markupPercent"].as_f64().is_some_and(|markup| markup <= 0.0)
}
