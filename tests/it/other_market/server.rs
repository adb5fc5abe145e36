//! The server of the other marketplace: a token endpoint, a binary feed, and an API whose requests
//! are all `GET`.
//!
//! Its wire formats are written here a second time, so that a misreading by the client is found.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::broadcast,
    task::JoinHandle,
};

use crate::feed::peer::{Frame, Peer, Server, frame};

/// Key that every request must carry.
pub(super) const KEY: &str = "other-market-key";

/// Number of the item that the tests want, in a record.
pub(super) const REDLINE: u16 = 1;
/// Number of another item.
pub(super) const CASE: u16 = 2;

const BALANCE: u32 = 500_000;

/// Kind of a record.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Listed,
    Repriced,
    Removed,
    /// A kind that the client does not know.
    Future,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Listed => 1,
            Self::Repriced => 2,
            Self::Removed => 3,
            Self::Future => 9,
        }
    }
}

/// Encodes a record: its kind, the listing, the price in thousandths and the item.
pub(super) fn record(kind: Kind, id: u64, price: u32, item: u16) -> Vec<u8> {
    [&[kind.number()][..], &id.to_be_bytes(), &price.to_be_bytes(), &item.to_be_bytes()].concat()
}

/// Encodes a message with these records.
pub(super) fn message(records: &[Vec<u8>]) -> Vec<u8> {
    [b"e".to_vec(), records.concat()].concat()
}

/// Parameters of a query.
pub(super) type Query = BTreeMap<String, String>;

#[derive(Default)]
struct State {
    tokens: u32,
    /// Price of each open listing.
    listings: BTreeMap<u64, u32>,
    /// Id and price of each sale.
    sales: Vec<(u64, u32)>,
    /// Listing and price of each order that was executed, by its own id.
    executed: BTreeMap<String, (u64, u32)>,
    /// Queries of the orders.
    orders: Vec<Query>,
    /// Paths of the requests of the API except orders.
    reads: Vec<String>,
    /// Own ids that were looked up.
    look_ups: Vec<String>,
    /// The connection of the next order is closed instead of a response.
    cuts_next_response: bool,
    /// The next order is not executed, and its connection is closed.
    loses_next_order: bool,
    /// The list of purchases is empty.
    hides_purchases: bool,
    /// No order is found by its own id.
    hides_orders: bool,
}

/// The marketplace on loopback.
pub(super) struct OtherServer {
    pub(super) ws: String,
    pub(super) http: String,
    state: Arc<Mutex<State>>,
    messages: broadcast::Sender<Vec<u8>>,
    _feed: Server,
    api: JoinHandle<()>,
}

impl OtherServer {
    pub(super) async fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let (messages, _) = broadcast::channel(64);
        let (tokens, sender) = (Arc::clone(&state), messages.clone());
        let feed = Server::play(move |_number, peer| {
            let tokens = tokens.lock().unwrap().tokens;
            serve_feed(peer, tokens, sender.clone())
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = format!("http://{}/v1", listener.local_addr().unwrap());
        let shared = Arc::clone(&state);
        let api = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve_api(stream, Arc::clone(&shared)));
            }
        });
        Self { ws: feed.address.clone(), http, state, messages, _feed: feed, api }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns `true` if a client is subscribed to the listings.
    pub(super) fn has_subscriber(&self) -> bool {
        self.messages.receiver_count() > 0
    }

    pub(super) fn send(&self, message: &[u8]) {
        self.messages.send(message.to_vec()).unwrap();
    }

    /// Lists an item.
    pub(super) fn list(&self, id: u64, price: u32) {
        self.set_price(id, price);
        self.send(&message(&[record(Kind::Listed, id, price, REDLINE)]));
    }

    /// Changes the price of a listing.
    pub(super) fn reprice(&self, id: u64, price: u32) {
        self.set_price(id, price);
        self.send(&message(&[record(Kind::Repriced, id, price, REDLINE)]));
    }

    /// Changes the price of a listing without an event.
    pub(super) fn set_price(&self, id: u64, price: u32) {
        self.state().listings.insert(id, price);
    }

    /// Executes the next order, and closes its connection instead of a response.
    pub(super) fn cut_next_response(&self) {
        self.state().cuts_next_response = true;
    }

    /// Closes the connection of the next order without executing it.
    pub(super) fn lose_next_order(&self) {
        self.state().loses_next_order = true;
    }

    /// Executes an order that was lost before.
    pub(super) fn execute_late(&self, order: &Query) {
        assert!(buy(order, &mut self.state())["success"].as_bool().unwrap());
    }

    /// Shows purchases in no list from now on.
    pub(super) fn hide_purchases(&self) {
        self.state().hides_purchases = true;
    }

    /// Finds no order by its own id from now on.
    pub(super) fn hide_orders(&self) {
        self.state().hides_orders = true;
    }

    /// Returns the number of look-ups of this own id.
    pub(super) fn look_ups(&self, own_id: &str) -> usize {
        self.state().look_ups.iter().filter(|looked_up| *looked_up == own_id).count()
    }

    pub(super) fn reads(&self) -> Vec<String> {
        self.state().reads.clone()
    }

    pub(super) fn orders(&self) -> Vec<Query> {
        self.state().orders.clone()
    }

    pub(super) fn sales(&self) -> Vec<(u64, u32)> {
        self.state().sales.clone()
    }
}

impl Drop for OtherServer {
    fn drop(&mut self) {
        self.api.abort();
    }
}

/// Accepts the newest token once, and then sends each message to the client.
async fn serve_feed(mut peer: Peer, token: u32, messages: broadcast::Sender<Vec<u8>>) {
    peer.read_head().await;
    assert!(peer.head.starts_with(&format!("GET /feed?token=tok-{token} ")), "{}", peer.head);
    let accept = peer.grant().replace("Sec-WebSocket-Protocol: graphql-transport-ws\r\n", "");
    peer.write(accept.as_bytes()).await;
    peer.write(&frame(0x82, b"o\x3c")).await;
    assert_eq!(peer.text().await, format!("token tok-{token}"));
    peer.write(&frame(0x82, b"a")).await;
    assert_eq!(peer.text().await, "listings");
    let mut messages = messages.subscribe();
    loop {
        tokio::select! {
            message = messages.recv() => peer.write(&frame(0x82, &message.unwrap())).await,
            read = peer.frame() => if matches!(read, Frame::Close(_) | Frame::End) { return },
        }
    }
}

async fn serve_api(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let head = String::from_utf8(bytes.drain(..end + 4).collect()).unwrap();
        let Some((status, body)) = respond(&head, &mut state.lock().unwrap()) else { return };
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Returns the response to a request; `None` to close the connection instead.
fn respond(head: &str, state: &mut State) -> Option<(&'static str, String)> {
    let target = head.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: Query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let has_key = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .any(|(name, value)| name.eq_ignore_ascii_case("X-Api-Key") && value == KEY);
    if !head.starts_with("GET ") || !has_key {
        return Some(("401 Unauthorized", "{}".to_owned()));
    }
    if path != "/buy" {
        state.reads.push(path.to_owned());
    }
    let spent: u32 = state.sales.iter().map(|(_, price)| price).sum();
    let body = match path {
        "/v1/token" => {
            state.tokens += 1;
            return Some(("200 OK", format!("tok-{}", state.tokens)));
        }
        "/v1/balance" => json!({ "success": true, "user": 17, "balance": BALANCE - spent }),
        "/v1/purchases" => {
            assert_eq!(query["user"], "17");
            let purchase =
                |(id, price): &(u64, u32)| json!({ "id": id, "price": price, "state": "paid" });
            let listed = state.sales.iter().filter(|_sale| !state.hides_purchases);
            let purchases: Vec<Value> = listed.map(purchase).collect();
            json!({ "success": true, "purchases": purchases })
        }
        "/v1/order" => {
            let own_id = &query["own_id"];
            state.look_ups.push(own_id.clone());
            let order = state.executed.get(own_id).filter(|_order| !state.hides_orders);
            let order =
                order.map(|(id, price)| json!({ "id": id, "price": price, "state": "paid" }));
            json!({ "success": true, "order": order })
        }
        "/buy" => {
            state.orders.push(query.clone());
            if std::mem::take(&mut state.loses_next_order) {
                return None;
            }
            let bought = buy(&query, state);
            if std::mem::take(&mut state.cuts_next_response) {
                return None;
            }
            bought
        }
        _ => return Some(("404 Not Found", "{}".to_owned())),
    };
    Some(("200 OK", body.to_string()))
}

/// Sells a listing if its price is not above the limit, and its own id is new. A rejection does not
/// contain the id.
fn buy(query: &Query, state: &mut State) -> Value {
    if state.executed.contains_key(&query["own_id"]) {
        return json!({ "success": false, "msg": "own id already exists" });
    }
    let (id, limit) = (query["id"].parse().unwrap(), query["max_price"].parse::<u32>().unwrap());
    match state.listings.get(&id).copied() {
        None => json!({ "success": false, "msg": "not for sale" }),
        Some(price) if limit < price => json!({ "success": false, "msg": "above max_price" }),
        Some(price) if price < limit => json!({ "success": false, "msg": "price changed" }),
        Some(price) => {
            state.listings.remove(&id);
            state.sales.push((id, price));
            state.executed.insert(query["own_id"].clone(), (id, price));
            json!({ "success": true, "id": id, "price": price })
        }
    }
}
