//! A marketplace that shares nothing with CSGORoll, and trades through the same engine.
//!
//! Its feed needs a token before each dial and sends binary messages with several numbered events.
//! Ids are numbers, prices are thousandths, and a price changes under the same id. Listings have
//! neither a markup nor a float. An order is a `GET` with the id, the price limit and an own id,
//! and a rejection is a response with status 200.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod feed;
mod server;
mod trading;

use std::{borrow::Cow, time::Duration};

use serde_json::Value;
use sniper::{
    config::Credential,
    domain::{
        account::{NextPage, OwnPurchase, Page, User},
        money::{Amount, Decimals},
        outcome::{Outcome, RejectReason, Unknown},
        trade::{Defects, KeyedBy, Trade, TradeEvent, TradeId, TradeNotice, TradeStatus},
        whitelist_entry::WhitelistEntry,
    },
    markets::{
        AccountQuery, AccountQueryError, Attribution, Capabilities, DecodeInput, Decoded, DialPlan,
        EnvironmentNames, MarketApi, MarketEvent, MarketSubscription, Marketplace, OrderReference,
        OwnOrderIdSupport, PrepareError, ReadError, ReadRate,
        order_template::{OrderFields, OrderTemplate, Part, PriceFormat, Slot},
    },
    net::http_message::{Auth, HttpRequest, HttpResponse},
    protocol::{
        ClientMessage, FeedMessage, FeedProtocol, Heartbeat, Incoming, MessageError, MessageKinds,
        Opening, Subscription,
    },
};

/// The server speaks first: `o`, a heartbeat interval and the maximum age of the connection in
/// seconds, if there is one, `a` as the acknowledgment of the token, then `e` with records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    token: String,
    interval: Option<u8>,
    max_age: Option<u8>,
}

impl FeedProtocol for Records {
    type Input<'a> = &'a [u8];
    type DecodeError = MessageError;

    const KINDS: MessageKinds = MessageKinds::Binary;
    const NAMES_SUBSCRIPTIONS: bool = false;

    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    fn open(&mut self) -> Opening {
        Opening::AwaitAck(None)
    }

    fn subscribe(&mut self, _id: u64, topic: &str) -> Option<ClientMessage> {
        Some(topic.into())
    }

    fn unsubscribe(&mut self, _id: u64, _topic: &str) -> Option<ClientMessage> {
        None
    }

    fn ping(&self) -> Option<ClientMessage> {
        None
    }

    fn pong(&self, _payload: Option<&str>) -> Option<ClientMessage> {
        None
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        let interval = Duration::from_secs(self.interval?.into());
        Some(Heartbeat { interval, timeout: Duration::from_secs(1) })
    }

    fn max_age(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.max_age?.into()))
    }

    fn read<'a, T>(
        &mut self,
        message: FeedMessage<'a>,
        mut decode: impl FnMut(&mut &'a [u8]) -> Result<T, MessageError>,
    ) -> Result<Incoming<'a, T>, MessageError> {
        match message.binary()? {
            [b'o', interval, max_age @ ..] => {
                (self.interval, self.max_age) = (Some(*interval), max_age.first().copied());
                Ok(Incoming::Reply(format!("token {}", self.token).into()))
            }
            [b'a'] => Ok(Incoming::Ack),
            [b'e', records @ ..] => {
                let mut records = records;
                Ok(Incoming::Data { id: None, payload: decode(&mut records)? })
            }
            _ => Ok(Incoming::Unknown),
        }
    }

    fn skip(input: &mut &[u8]) -> Result<(), MessageError> {
        *input = &[];
        Ok(())
    }
}

/// The marketplace, which has no settings.
#[derive(Clone, Debug)]
pub(crate) struct OtherMarket;

/// Reads the JSON of a response.
fn json(response: &HttpResponse) -> Result<Value, ReadError> {
    let json: Value = serde_json::from_slice(&response.body).map_err(|_error| ReadError::Shape)?;
    match json["success"].as_bool() {
        Some(true) => Ok(json),
        Some(false) => {
            Err(ReadError::MarketError(json["msg"].as_str().unwrap_or_default().to_owned()))
        }
        None => Err(ReadError::Shape),
    }
}

/// Reads a price in thousandths.
fn thousandths(value: &Value) -> Option<Amount> {
    value.as_i64().map(Amount::from_thousandths)
}

fn page<T>(nodes: &Value, read: impl Fn(&Value) -> Option<T>) -> Result<Page<T>, ReadError> {
    let listed = nodes.as_array().ok_or(ReadError::Shape)?;
    let nodes: Vec<T> = listed.iter().filter_map(read).collect();
    let unreadable = u32::try_from(listed.len() - nodes.len()).unwrap();
    Ok(Page { nodes, unreadable, next: NextPage::End, error: None })
}

/// Returns what a rejection means. After an own id that the market has seen, the order is unknown,
/// and is looked up by it.
fn rejection_outcome(message: &str) -> Outcome {
    match message {
        "not for sale" => Outcome::Rejected(RejectReason::Taken),
        "price changed" => Outcome::Rejected(RejectReason::PriceChanged),
        "above max_price" => Outcome::Rejected(RejectReason::AbovePriceLimit),
        _ => Outcome::Unknown(Unknown::UnknownError),
    }
}

fn purchase(purchase: &Value) -> Option<OwnPurchase> {
    let (status, unknown_status) = match purchase["state"].as_str()? {
        "paid" => (TradeStatus::Joined, None),
        other => (TradeStatus::Other, Some(other.into())),
    };
    Some(OwnPurchase {
        id: TradeId::from_number(purchase["id"].as_u64()?),
        name: None,
        status,
        unknown_status,
        price: thousandths(&purchase["price"]),
        created_at: None,
        updated_at: None,
        joined_at: None,
        commission: None,
        own_id: None,
    })
}

impl MarketApi for OtherMarket {
    const CAPABILITIES: Capabilities = Capabilities {
        name: "other",
        decimals: Decimals::Three,
        has_markup: false,
        has_float: false,
        has_rarity: false,
        keyed_by: KeyedBy::IdAndPrice,
        own_order_ids: Some(OwnOrderIdSupport {
            visible_within: Duration::from_secs(600),
            look_ups_min: 1,
            look_ups_per_request: 1,
        }),
        has_price_limit: true,
        has_purchases: true,
        has_open_listings: false,
        auth: Auth::ApiKeyHeader { name: "X-Api-Key" },
        environment: EnvironmentNames::UNKNOWN,
        // The server of the tests has no limit.
        reads: ReadRate {
            burst: 1_000,
            interval: Duration::from_millis(1),
            ..ReadRate::UNDOCUMENTED
        },
        listings_lag: None,
        order_timeout: Duration::from_secs(10),
    };

    fn order_template(&self) -> OrderTemplate {
        OrderTemplate::get(vec![
            Part::Text("/buy?id=".into()),
            Part::Slot(Slot::Id),
            Part::Text("&max_price=".into()),
            Part::Slot(Slot::PriceLimit(PriceFormat::Thousandths)),
            Part::Text("&own_id=".into()),
            Part::Slot(Slot::OwnId),
        ])
    }

    /// A purchase contains the id of the listing, a rejection does not.
    fn order_outcome(
        &self,
        order: &OrderFields,
        response: &HttpResponse,
    ) -> (Outcome, Attribution) {
        match response.head.status {
            200 => {}
            401 => {
                return (Outcome::Rejected(RejectReason::Unauthenticated), Attribution::Blocked);
            }
            status => return (Outcome::Unknown(Unknown::Status { status }), Attribution::Unnamed),
        }
        match json(response) {
            Ok(json) if json["id"].as_u64().map(TradeId::from_number) == Some(order.id) => {
                let price = thousandths(&json["price"]);
                (Outcome::Bought { price, server_time: None }, Attribution::Named)
            }
            Ok(_) => (Outcome::Unknown(Unknown::Foreign), Attribution::Unnamed),
            Err(ReadError::MarketError(message)) => {
                (rejection_outcome(&message), Attribution::Unnamed)
            }
            Err(_) => (Outcome::Unknown(Unknown::Unreadable), Attribution::Unnamed),
        }
    }

    fn error_message(&self, response: &HttpResponse) -> Option<String> {
        match json(response) {
            Err(ReadError::MarketError(message)) => Some(message),
            _ => None,
        }
    }

    /// There is no list of open listings.
    fn account_request(&self, query: &AccountQuery<'_>) -> Result<HttpRequest, AccountQueryError> {
        Ok(match query {
            AccountQuery::User => HttpRequest::get("/v1/balance"),
            AccountQuery::Purchases { user, .. } => {
                HttpRequest::get("/v1/purchases").with_query("user", user)
            }
            AccountQuery::OpenListings { .. } | AccountQuery::CheapestListings { .. } => {
                return Err(AccountQueryError::Unsupported);
            }
            AccountQuery::Orders { orders } => {
                HttpRequest::get("/v1/order").with_query("own_id", orders[0].own_id.as_str())
            }
        })
    }

    fn read_user(&self, response: &HttpResponse) -> Result<User, ReadError> {
        let json = json(response)?;
        let id = json["user"].as_u64().ok_or(ReadError::Shape)?.to_string();
        Ok(User { id, balance: thousandths(&json["balance"]), ..User::default() })
    }

    fn read_purchases(&self, response: &HttpResponse) -> Result<Page<OwnPurchase>, ReadError> {
        page(&json(response)?["purchases"], purchase)
    }

    fn read_order(
        &self,
        _order: OrderReference<'_>,
        response: &HttpResponse,
    ) -> Result<Option<OwnPurchase>, ReadError> {
        match &json(response)?["order"] {
            Value::Null => Ok(None),
            order => purchase(order).map(Some).ok_or(ReadError::Shape),
        }
    }

    fn read_listings<'a>(&self, _response: &'a HttpResponse) -> Result<Page<Trade<'a>>, ReadError> {
        Err(ReadError::Shape)
    }

    fn keep_warm_request(&self) -> HttpRequest {
        HttpRequest::get("/v1/balance")
    }

    fn is_keep_warm_response(&self, response: &HttpResponse) -> bool {
        self.read_user(response).is_ok()
    }
}

impl Marketplace for OtherMarket {
    type Protocol = Records;
    type Events<'a> = Vec<MarketEvent<'a>>;

    fn token_request(&self, credential: Option<&Credential>) -> Option<HttpRequest> {
        credential?;
        Some(Self::authenticated(credential, HttpRequest::get("/v1/token")))
    }

    fn dial(
        &self,
        credential: Option<&Credential>,
        token: Option<&HttpResponse>,
    ) -> Result<DialPlan<Records>, PrepareError> {
        let guest = if credential.is_none() { "guest" } else { "" };
        let token = token.and_then(|response| response.text().ok()).unwrap_or(guest);
        if token.is_empty() {
            return Err(PrepareError::Token { what: "empty" });
        }
        let upgrade = HttpRequest::get("/feed").with_query("token", token);
        Ok(DialPlan {
            upgrade,
            protocol: Records { token: token.to_owned(), ..Records::default() },
        })
    }

    fn subscriptions(&self, _wanted: Option<&[WhitelistEntry]>) -> Vec<MarketSubscription> {
        let subscription = Subscription { topic: "listings".to_owned(), is_optional: false };
        vec![MarketSubscription { name: "listings", subscription, is_private: false }]
    }

    /// Reads records of a kind, an id, a price in thousandths and the number of an item.
    fn decode<'a>(
        &self,
        input: &mut DecodeInput<'a, Self>,
    ) -> Result<Decoded<Vec<MarketEvent<'a>>>, MessageError> {
        let mut events = Vec::new();
        while let Some((record, rest)) = input.split_first_chunk::<15>() {
            let id = TradeId::from_number(u64::from_be_bytes(*record[1..].first_chunk().unwrap()));
            let price = u32::from_be_bytes(*record[9..].first_chunk().unwrap());
            let item = u16::from_be_bytes(*record[13..].first_chunk().unwrap());
            events.push(match record[0] {
                1 => MarketEvent::Trade(trade(id, TradeEvent::Listed, price, item)),
                2 => MarketEvent::Trade(trade(id, TradeEvent::Repriced, price, item)),
                3 => MarketEvent::Notice(TradeNotice::Removed { id }),
                _ => MarketEvent::Unknown,
            });
            *input = rest;
        }
        if input.is_empty() {
            return Ok(Decoded { events, is_data: true });
        }
        Err(MessageError::Malformed { what: "incomplete record" })
    }
}

/// Creates a listing. The marketplace has a number for each item, and states no expiry.
fn trade(id: TradeId, event: TradeEvent, price: u32, item: u16) -> Trade<'static> {
    let (market_name, base_name) = match item {
        1 => ("AK-47 | Redline (Field-Tested)", "AK-47 | Redline"),
        _ => ("Glove Case", "Glove Case"),
    };
    Trade {
        id,
        event,
        status: TradeStatus::Listed,
        market_name: Cow::Borrowed(market_name),
        item: Cow::Borrowed(base_name),
        is_stattrak: false,
        is_souvenir: false,
        wear: None,
        rarity: None,
        items: 1,
        markup_percent: None,
        total_value: Some(Amount::from_thousandths(price.into())),
        base_value: None,
        can_join: None,
        can_join_after: None,
        suspected_trader_can_join_after: None,
        created_at: None,
        expires_at: None,
        float: None,
        float_range: None,
        is_own: false,
        defects: Defects::NONE,
        arrival: None,
    }
}
