//! Server side of graphql-transport-ws for one connection: messages in, messages out. Pure.
//!
//! It enforces the protocol's rules: exactly one `connection_init`, only ping and pong before it,
//! unique ids of live operations, and the specified close code for each violation.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    coins,
    listing::{Listing, ListingBuyer, complete_listing},
    market::MarketEvent,
    operations::{OperationKind, QueryField, parse_query},
    wallet_json,
};
use crate::{
    config::Generation,
    domain::money::{Amount, Decimals, Percent},
    domain::trade::PaintWear,
    sim::{
        faults::FaultKind,
        model::{FeedOutput, FeedSession},
    },
};

/// Maximum number of live operations of a connection.
const OPERATIONS_MAX: usize = 64;
/// Maximum time until the client sends `connection_init`.
const INIT_TIME_MAX: Duration = Duration::from_secs(10);
/// Maximum length of an operation's id.
const ID_BYTES_MAX: usize = 256;

/// Protocol state of one connection.
#[derive(Clone, Debug)]
pub struct ProtocolSession {
    is_signed_in: bool,
    acknowledged: bool,
    operations: BTreeMap<String, RequestedOperation>,
}

#[derive(Clone, Debug)]
struct RequestedOperation {
    topic: FeedTopic,
    field: QueryField,
}

#[derive(Clone, Debug)]
enum FeedTopic {
    Created(Generation, ListingFilter),
    Updated { status: Option<String>, user_id: Option<String> },
    Wallet,
}

/// Server-side filter of a subscription of generation B.
#[derive(Clone, Debug, Default)]
struct ListingFilter {
    market_name: Option<String>,
    markup_max: Option<Percent>,
    price_max: Option<Amount>,
    price_min: Option<Amount>,
    wear_max: Option<PaintWear>,
    wear_min: Option<PaintWear>,
}

impl ProtocolSession {
    pub fn new(is_signed_in: bool) -> Self {
        Self { is_signed_in, acknowledged: false, operations: BTreeMap::new() }
    }

    /// Returns `true` once the client has sent `connection_init`.
    pub const fn is_acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// Returns `true` if there is a live subscription.
    pub fn is_subscribed(&self) -> bool {
        !self.operations.is_empty()
    }

    /// Handles a message of the client. Returns the replies.
    pub fn receive(&mut self, text: &str) -> Vec<FeedOutput> {
        let message: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        match message.get("type").and_then(Value::as_str) {
            Some("connection_init") if self.acknowledged => {
                vec![FeedOutput::close(4429, "Too many initialisation requests")]
            }
            Some("connection_init") => {
                self.acknowledged = true;
                vec![FeedOutput::Text(r#"{"type":"connection_ack"}"#.to_owned())]
            }
            Some("ping") => vec![FeedOutput::Text(match message.get("payload") {
                Some(payload) => format!(r#"{{"type":"pong","payload":{payload}}}"#),
                None => r#"{"type":"pong"}"#.to_owned(),
            })],
            Some("pong") => Vec::new(),
            Some("subscribe") => match self.subscribe(&message) {
                Ok(()) => Vec::new(),
                Err(reply) => vec![reply],
            },
            Some("complete") => {
                if let Some(id) = message.get("id").and_then(Value::as_str) {
                    self.operations.remove(id);
                }
                Vec::new()
            }
            _ => vec![FeedOutput::close(4400, "Invalid message received")],
        }
    }

    fn subscribe(&mut self, message: &Value) -> Result<(), FeedOutput> {
        let id = message.get("id").and_then(Value::as_str);
        let id = id.filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX);
        let text = message.pointer("/payload/query").and_then(Value::as_str);
        let (Some(id), Some(text)) = (id, text) else {
            return Err(FeedOutput::close(4400, "Invalid message received"));
        };
        if !self.acknowledged {
            return Err(FeedOutput::close(4401, "Unauthorized"));
        }
        if self.operations.contains_key(id) {
            return Err(FeedOutput::close(4409, format!("Subscriber for {id} already exists")));
        }
        if self.operations.len() >= OPERATIONS_MAX {
            return Err(error(id, "Too many operations"));
        }
        let variables = message.pointer("/payload/variables").unwrap_or(&Value::Null);
        let operation = self.operation(text, variables).map_err(|text| error(id, &text))?;
        self.operations.insert(id.to_owned(), operation);
        Ok(())
    }

    fn operation(&self, text: &str, variables: &Value) -> Result<RequestedOperation, String> {
        let (kind, field) = parse_query(text, variables).map_err(|error| error.to_string())?;
        if kind != OperationKind::Subscription {
            return Err("Only subscriptions are served over WebSocket".to_owned());
        }
        let string = |name| field.arg(name).as_str().map(str::to_owned);
        let topic = match &*field.name {
            "createTrade" => FeedTopic::Created(Generation::A, ListingFilter::default()),
            "createTrades" => FeedTopic::Created(Generation::B, ListingFilter::read(&field)),
            "updateTrade" => {
                FeedTopic::Updated { status: string("status"), user_id: string("userId") }
            }
            "updateWallet" if !self.is_signed_in => return Err("unauthenticated".to_owned()),
            "updateWallet" => FeedTopic::Wallet,
            name => return Err(format!("Cannot query field \"{name}\" on type \"Subscription\".")),
        };
        let fits = field.select(&topic.sample_payload(), &mut String::new());
        fits.map_err(|error| error.to_string())?;
        Ok(RequestedOperation { topic, field })
    }

    /// Returns the messages that an event causes on this connection.
    pub fn event_messages(&self, event: &MarketEvent) -> Vec<FeedOutput> {
        let mut replies = Vec::new();
        for (id, operation) in &self.operations {
            for payload in operation.topic.payloads(event) {
                let (id, key) = (json!(id), &operation.field.key);
                let mut text =
                    format!(r#"{{"id":{id},"type":"next","payload":{{"data":{{"{key}":"#);
                // The selection was validated against a complete listing of the same shape.
                if operation.field.select(&payload, &mut text).is_ok() {
                    text.push_str("}}}");
                    replies.push(FeedOutput::Text(text));
                }
            }
        }
        replies
    }

    /// Ends all operations with an error.
    pub fn fail(&mut self) -> Vec<FeedOutput> {
        let operations = std::mem::take(&mut self.operations);
        operations.keys().map(|id| error(id, "Internal server error")).collect()
    }

    /// Completes all operations.
    pub fn complete(&mut self) -> Vec<FeedOutput> {
        let operations = std::mem::take(&mut self.operations);
        let message = |id: &String| format!(r#"{{"id":{},"type":"complete"}}"#, json!(id));
        operations.keys().map(|id| FeedOutput::Text(message(id))).collect()
    }
}

/// The protocol with its timers.
#[derive(Clone, Debug)]
pub struct GraphqlFeed {
    protocol: ProtocolSession,
    init_by: Duration,
    ping_every: Duration,
    next_ping: Duration,
    /// Set by [`FaultKind::FeedSilence`]: no pings are sent either.
    is_silent: bool,
}

impl GraphqlFeed {
    /// Creates the state of a connection that was opened at `now`.
    pub fn new(is_signed_in: bool, ping_every: Duration, now: Duration) -> Self {
        Self {
            protocol: ProtocolSession::new(is_signed_in),
            init_by: now.saturating_add(INIT_TIME_MAX),
            ping_every,
            next_ping: now.saturating_add(ping_every),
            is_silent: false,
        }
    }
}

impl FeedSession for GraphqlFeed {
    type Event = MarketEvent;
    const BINARY: (u16, &'static str) = (4400, "Invalid message received");
    const TOO_SLOW: (u16, &'static str) = (1013, "Too far behind");

    fn receive(&mut self, text: &str, _now: Duration) -> Vec<FeedOutput> {
        self.protocol.receive(text)
    }

    fn send_events(&mut self, events: &[Arc<MarketEvent>]) -> Vec<FeedOutput> {
        events.iter().flat_map(|event| self.protocol.event_messages(event)).collect()
    }

    fn fail(&mut self, kind: FaultKind) -> Vec<FeedOutput> {
        match kind {
            FaultKind::FeedClose => vec![FeedOutput::close(1001, "Going away")],
            FaultKind::FeedError => self.protocol.fail(),
            FaultKind::FeedComplete => self.protocol.complete(),
            _ => Vec::new(),
        }
    }

    fn set_silent(&mut self, is_silent: bool) {
        self.is_silent = is_silent;
    }

    fn next_due(&self) -> Option<Duration> {
        if !self.protocol.is_acknowledged() {
            return Some(self.init_by);
        }
        (!self.is_silent).then_some(self.next_ping)
    }

    fn advance(&mut self, now: Duration) -> Vec<FeedOutput> {
        if !self.protocol.is_acknowledged() {
            return vec![FeedOutput::close(4408, "Connection initialisation timeout")];
        }
        self.next_ping = now.saturating_add(self.ping_every);
        vec![FeedOutput::Text(r#"{"type":"ping"}"#.to_owned())]
    }

    fn is_subscribed(&self) -> bool {
        self.protocol.is_subscribed()
    }
}

impl FeedTopic {
    /// Returns a payload of this topic with all fields, to validate selections.
    fn sample_payload(&self) -> Value {
        match self {
            Self::Created(Generation::A, _) => {
                one_trade("CreateTradePayload", &complete_listing(), Generation::A)
            }
            Self::Created(Generation::B, _) => trades(&[complete_listing().json(Generation::B)]),
            Self::Updated { .. } => {
                one_trade("UpdateTradePayload", &complete_listing(), Generation::B)
            }
            Self::Wallet => wallet(Amount::ZERO, Amount::ZERO, ""),
        }
    }

    /// Returns the payloads of an event for this topic.
    fn payloads(&self, event: &MarketEvent) -> Vec<Value> {
        match (self, event) {
            (Self::Created(Generation::A, _), MarketEvent::Created(listings)) => listings
                .iter()
                .map(|listing| one_trade("CreateTradePayload", listing, Generation::A))
                .collect(),
            (Self::Created(Generation::B, filter), MarketEvent::Created(listings)) => {
                let batch = listings.iter().filter(|listing| filter.fits(listing));
                let batch: Vec<_> = batch.map(|listing| listing.json(Generation::B)).collect();
                if batch.is_empty() { Vec::new() } else { vec![trades(&batch)] }
            }
            (Self::Updated { status, user_id }, MarketEvent::Updated(listing)) => {
                let status_fits =
                    status.as_deref().is_none_or(|status| status == listing.status_name());
                let user_fits = user_id.as_deref().is_none_or(|id| {
                    id == &*listing.user_id && listing.buyer == Some(ListingBuyer::User)
                });
                if status_fits && user_fits {
                    vec![one_trade("UpdateTradePayload", listing, Generation::B)]
                } else {
                    Vec::new()
                }
            }
            (Self::Wallet, MarketEvent::Wallet { balance, change, cause }) => {
                vec![wallet(*balance, *change, cause)]
            }
            _ => Vec::new(),
        }
    }
}

impl ListingFilter {
    fn read(field: &QueryField) -> Self {
        let number = |name| match field.arg(name) {
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let coins =
            |name| number(name).and_then(|text| Amount::parse_floor(&text, Decimals::Two).ok());
        let wear = |name| number(name).and_then(|text| PaintWear::parse(&text));
        let markup = number("maxMarkupPercent").and_then(|text| Percent::parse(&text).ok());
        let market_name = field.arg("marketName").as_str().map(str::to_lowercase);
        Self {
            market_name,
            markup_max: markup,
            price_max: coins("maxPrice"),
            price_min: coins("minPrice"),
            wear_max: wear("maxAvgPaintWear"),
            wear_min: wear("minAvgPaintWear"),
        }
    }

    fn fits(&self, listing: &Listing) -> bool {
        let item = &listing.item;
        let wear = item.float.as_ref().and_then(|float| PaintWear::parse(&float.text));
        let named = |part: &String| item.market_name.to_lowercase().contains(part.as_str());
        self.market_name.as_ref().is_none_or(named)
            && self.markup_max.is_none_or(|max| item.markup <= max)
            && self.price_max.is_none_or(|max| item.total <= max)
            && self.price_min.is_none_or(|min| min <= item.total)
            && self.wear_max.is_none_or(|max| wear.is_some_and(|wear| wear <= max))
            && self.wear_min.is_none_or(|min| wear.is_some_and(|wear| min <= wear))
    }
}

fn one_trade(of: &'static str, listing: &Listing, generation: Generation) -> Value {
    json!({"__typename": of, "trade": listing.json(generation)})
}

fn trades(batch: &[Value]) -> Value {
    json!({"__typename": "CreateTradesPayload", "trades": batch})
}

fn wallet(balance: Amount, change: Amount, cause: &str) -> Value {
    let change = json!({
        "__typename": "WalletChange",
        "id": "V2FsbGV0Q2hhbmdlOjE",
        "type": "TRADE",
        "externalId": cause,
        "valueChange": coins(change),
    });
    json!({
        "__typename": "UpdateWalletPayload",
        "wallet": wallet_json(balance),
        "walletChange": change,
    })
}

fn error(id: &str, message: &str) -> FeedOutput {
    let (id, message) = (json!(id), json!(message));
    FeedOutput::Text(format!(r#"{{"id":{id},"type":"error","payload":[{{"message":{message}}}]}}"#))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        domain::time::UnixMs,
        sim::{
            catalogue::ListedItem,
            csgoroll::market::MarketState,
            model::MarketModel as _,
            settings::{Rate, SimSettings},
        },
    };

    const A: &str = "subscription OnCreateTrade($userId: ID) { createTrade(userId: $userId) { trade { id totalValue } } }";
    const B: &str = "subscription OnCreateTrades($maxPrice: UnsignedFloat) { createTrades(maxPrice: $maxPrice) { trades { id canJoin } } }";
    const UPDATES: &str = "subscription OnUpdateTrade($status: TradeStatus, $userId: ID) { updateTrade(status: $status, userId: $userId) { trade { id status } } }";
    const WALLET: &str = "subscription OnUpdateWallet { updateWallet { wallet { id amount name } walletChange { id type externalId valueChange } } }";

    fn session() -> ProtocolSession {
        let mut session = ProtocolSession::new(true);
        session.receive(r#"{"type":"connection_init"}"#);
        session
    }

    fn subscribe(id: &str, query: &str, variables: Value) -> String {
        json!({"id": id, "type": "subscribe", "payload": {"query": query, "variables": variables}})
            .to_string()
    }

    /// Returns the messages that a client receives for two listings and a purchase.
    fn received(session: &ProtocolSession) -> Vec<Value> {
        let settings = SimSettings { rate: Rate::NONE, ..SimSettings::default() };
        let mut market = MarketState::new(&settings, UnixMs(0));
        let item = |cents| {
            let price = Amount::from_cents(cents);
            ListedItem::plain("AK-47 | Redline (Field-Tested)", price, price)
        };
        let mut events = Vec::new();
        let ids = market.list_items(Duration::ZERO, vec![item(1_000), item(2_000)], &mut events);
        market.join(Duration::from_secs(1), &ids[0], &mut events).unwrap();
        let replies = events.iter().flat_map(|event| session.event_messages(event));
        replies.map(|reply| serde_json::from_str(reply.text().unwrap()).unwrap()).collect()
    }

    #[test]
    fn a_protocol_violation_closes_with_its_code() {
        let check = |messages: &[&str], expected: u16| {
            let mut session = ProtocolSession::new(false);
            let replies: Vec<FeedOutput> =
                messages.iter().flat_map(|text| session.receive(text)).collect();
            let code = replies.iter().find_map(|reply| match reply {
                FeedOutput::Close(code, _) => Some(*code),
                FeedOutput::Text(_) => None,
            });
            assert_eq!(code, Some(expected), "{messages:?}");
        };
        let init = r#"{"type":"connection_init"}"#;
        let one = subscribe("1", B, Value::Null);
        check(&[&one], 4401);
        check(&[init, init], 4429);
        check(&[init, &one, &one], 4409);
        for nonsense in ["", "{}", "[]", "{\"type\":\"nonsense\"}", "{\"type\":7}"] {
            check(&[init, nonsense], 4400);
        }
        check(&[init, r#"{"type":"subscribe","id":"1"}"#], 4400);
        check(&[init, r#"{"type":"subscribe","payload":{"query":"{a}"}}"#], 4400);
    }

    #[test]
    fn a_ping_is_answered_with_its_payload_also_before_the_acknowledgement() {
        let mut session = ProtocolSession::new(false);
        let pong = |text: &str| vec![FeedOutput::Text(text.to_owned())];
        assert_eq!(session.receive(r#"{"type":"ping"}"#), pong(r#"{"type":"pong"}"#));
        let answer = session.receive(r#"{"type":"ping","payload":{"a":[1]}}"#);
        assert_eq!(answer, pong(r#"{"type":"pong","payload":{"a":[1]}}"#));
        assert_eq!(session.receive(r#"{"type":"pong","payload":{}}"#), []);
        assert!(!session.is_acknowledged());
    }

    #[test]
    fn listings_are_sent_in_the_format_of_each_generation() {
        let mut session = session();
        assert_eq!(session.receive(&subscribe("a", A, json!({}))), []);
        let received_a = received(&session);
        assert_eq!(received_a.len(), 2);
        assert_eq!(received_a[0]["payload"]["data"]["createTrade"]["trade"]["totalValue"], 10);
        session.receive(r#"{"id":"a","type":"complete"}"#);
        session.receive(&subscribe("b", B, Value::Null));
        let received_b = received(&session);
        assert_eq!(received_b.len(), 1);
        assert_eq!(received_b[0]["id"], "b");
        let trades = received_b[0]["payload"]["data"]["createTrades"]["trades"].as_array().unwrap();
        assert_eq!((trades.len(), &trades[0]["canJoin"]), (2, &json!(true)));
    }

    #[test]
    fn a_subscription_filter_excludes_other_listings() {
        let mut session = session();
        session.receive(&subscribe("b", B, json!({"maxPrice": 10.5})));
        let trades = received(&session)[0]["payload"]["data"]["createTrades"]["trades"].clone();
        assert_eq!(trades.as_array().map(Vec::len), Some(1));
        session.receive(r#"{"id":"b","type":"complete"}"#);
        session.receive(&subscribe("b", B, json!({"maxPrice": 5})));
        assert_eq!(received(&session), Vec::<Value>::new());
    }

    #[test]
    fn updates_are_sent_only_to_matching_subscriptions() {
        let mut session = session();
        session.receive(&subscribe("u", UPDATES, json!({"status": "JOINED"})));
        session.receive(&subscribe("w", WALLET, Value::Null));
        session.receive(&subscribe("x", UPDATES, json!({"status": "COMPLETED"})));
        session.receive(&subscribe("y", UPDATES, json!({"userId": "another user"})));
        let received = received(&session);
        assert_eq!(received.len(), 2);
        assert_eq!(received[0]["payload"]["data"]["updateTrade"]["trade"]["status"], "JOINED");
        let wallet = &received[1]["payload"]["data"]["updateWallet"];
        assert_eq!(
            (&wallet["wallet"]["amount"], &wallet["walletChange"]["valueChange"]),
            (&json!(490), &json!(-10))
        );
    }

    #[test]
    fn an_invalid_subscription_is_an_error_of_that_operation_only() {
        let mut session = session();
        for query in [
            "nonsense",
            "query { currentUser { id } }",
            "subscription { createTrades { trades { price } } }",
            "subscription { createTrade { trade { canJoin } } }",
            "subscription { createTrades }",
            "subscription { everything { id } }",
        ] {
            let replies = session.receive(&subscribe("1", query, Value::Null));
            let [FeedOutput::Text(text)] = &replies[..] else { panic!("{query}: {replies:?}") };
            let message: Value = serde_json::from_str(text).unwrap();
            assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("1")));
            assert!(message["payload"][0]["message"].is_string());
        }
        assert!(!session.is_subscribed());
        let mut unauthenticated = ProtocolSession::new(false);
        unauthenticated.receive(r#"{"type":"connection_init"}"#);
        let replies = unauthenticated.receive(&subscribe("1", WALLET, Value::Null));
        assert!(
            matches!(&replies[..], [FeedOutput::Text(text)] if text.contains("unauthenticated"))
        );
    }

    #[test]
    fn subscriptions_end_with_an_error_or_a_complete() {
        let mut session = session();
        session.receive(&subscribe("1", B, Value::Null));
        let ended = session.complete();
        assert_eq!(ended, [FeedOutput::Text(r#"{"id":"1","type":"complete"}"#.to_owned())]);
        session.receive(&subscribe("1", B, Value::Null));
        assert!(matches!(&session.fail()[..], [FeedOutput::Text(text)] if text.contains("error")));
        assert_eq!(received(&session), Vec::<Value>::new());
    }

    proptest! {
        #[test]
        fn handling_a_message_never_panics(texts in prop::collection::vec("\\PC{0,60}", 0..4)) {
            let mut session = session();
            for text in texts {
                let wrapped = json!({"id": text, "type": "subscribe", "payload": {"query": text}});
                session.receive(&text);
                session.receive(&wrapped.to_string());
            }
            prop_assert!(session.is_acknowledged());
        }
    }
}
