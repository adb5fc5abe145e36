//! HTTP answers to orders and reads. Pure.
//!
//! A rejection is a response with status 200 and a message in prose, of which several wordings
//! exist.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{WaxpeerWire, feed, mills, status};
use crate::{
    domain::{
        money::{Amount, Decimals},
        time::UnixMs,
    },
    sim::{
        faults::{FaultChannel, FaultKind},
        model::{FeedOutput, MarketModel as _},
        random::Rng,
        repricing::{
            names,
            purchase::{BuyRejection, Purchase, PurchaseStage, SimOrder},
            server::{
                AccountKeys, FeedOpening, ServerAnswer, SimRead, SimRequest, SimRoute,
                TRADE_PARTNER, TRADE_TOKEN, WireFormat, WireState,
            },
        },
    },
};

/// Maximum number of ids in a look-up.
const LOOK_UP_MAX: usize = 100;
/// Maximum length of an own order id.
const PROJECT_ID_BYTES_MAX: usize = 50;
/// Time for which an accepted trade is protected.
const PROTECTED: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Time within which an offer must be accepted.
const SEND_WITHIN: Duration = Duration::from_secs(1_800);

impl WireFormat for WaxpeerWire {
    const FAULTS: &'static [&'static [FaultKind]] = super::FAULTS;
    const DECIMALS: Decimals = Decimals::Three;
    const FIRST_ID: u64 = 40_000_000_000;
    // No limit is documented for these endpoints.
    const READS_PER_MINUTE: usize = 6_000;
    const ORDERS_PER_MINUTE: Option<usize> = None;
    const FEED_PATH: &'static str = "/socket.io/?EIO=4&transport=websocket";
    const HTTP_PATH: &'static str = "/v1";

    type Feed = feed::SocketIoSession;

    fn open_feed(opening: FeedOpening<'_>, now: Duration) -> Option<(Self::Feed, Vec<FeedOutput>)> {
        Self::Feed::open(opening, now)
    }

    fn environment(account: &AccountKeys, ws: String, http: String) -> Vec<(&'static str, String)> {
        vec![
            ("WAXPEER_WS_URL", ws),
            ("WAXPEER_HTTP_URL", http),
            ("WAXPEER_KEY", account.key.clone()),
            ("STEAM_TRADE_URL", AccountKeys::trade_url()),
        ]
    }

    fn is_authorized(account: &AccountKeys, request: &SimRequest<'_>) -> bool {
        request.query.get("api") == Some(&*account.key)
    }

    fn unauthorized() -> ServerAnswer {
        rejection_with(403, "Wrong api key, or whitelist your IP")
    }

    fn route(request: &SimRequest<'_>) -> Option<SimRoute> {
        Some(match (request.method, request.path) {
            ("GET", "/v1/buy-one-p2p") => SimRoute::Order,
            ("GET", "/v1/user") => SimRoute::Read(&[FaultChannel::Reads, FaultChannel::Account]),
            ("GET", "/v1/check-many-project-id") => {
                SimRoute::Read(&[FaultChannel::Reads, FaultChannel::Purchases])
            }
            ("POST", "/v1/check-tradelink") => SimRoute::Read(&[FaultChannel::Reads]),
            _ => return None,
        })
    }

    fn parse_order(request: &SimRequest<'_>) -> Result<SimOrder, ServerAnswer> {
        let text = |key: &str| request.query.get(key).unwrap_or_default();
        let limit = text("price").parse::<i64>().ok().filter(|price| *price > 0);
        let own_id = text("project_id");
        let is_valid_id = !own_id.is_empty() && own_id.len() <= PROJECT_ID_BYTES_MAX;
        let (Some(limit), true) = (limit, is_valid_id) else {
            return Err(rejection_answer("Wrong parameters"));
        };
        let partner = text("partner");
        if (partner, text("token")) != (TRADE_PARTNER, TRADE_TOKEN) {
            return Err(rejection_answer("Your trade link is invalid"));
        }
        Ok(SimOrder {
            id: text("item_id").parse().ok(),
            limit: Amount::from_thousandths(limit),
            own_id: Arc::from(own_id),
            partner: Arc::from(partner),
        })
    }

    fn sold(purchase: &Purchase, price: Amount, kind: Option<FaultKind>) -> ServerAnswer {
        let body = match kind {
            Some(FaultKind::Empty) => json!({"success": true}),
            _ => json!({"success": true, "id": purchase.number, "price": mills(price)}),
        };
        ServerAnswer::new(200, body)
    }

    fn rejected(_order: &SimOrder, rejection: BuyRejection, rng: &mut Rng) -> ServerAnswer {
        let mut one_of = |messages: [&'static str; 3]| {
            rejection_answer(rng.choice(messages).unwrap_or("Item sold"))
        };
        match rejection {
            BuyRejection::Unavailable => {
                one_of(["Item sold", "Item is already sold", "Item sold or delisted"])
            }
            BuyRejection::PriceAbove(price) => {
                let price = mills(price);
                // Seen as a number and as digits.
                let price =
                    if rng.bool() { Value::from(price) } else { Value::from(price.to_string()) };
                let message = rng.choice(["Price changed", "Price has changed"]);
                let body = json!({"success": false, "msg": message, "new_price": price});
                ServerAnswer::new(200, body)
            }
            BuyRejection::OwnIdKnown => rejection_answer("projectId already exists"),
            BuyRejection::Funds => {
                one_of(["Low balance", "Not enough balance", "Insufficient balance"])
            }
        }
    }

    fn not_executed(kind: FaultKind, rng: &mut Rng) -> ServerAnswer {
        match kind {
            FaultKind::TooMany => {
                let headers = &[("Retry-After", "3")];
                ServerAnswer { headers, ..rejection_with(429, "Too many requests") }
            }
            FaultKind::MsBeforeNext => ServerAnswer::new(429, r#"{"msBeforeNext":1500}"#),
            FaultKind::Unauthenticated => Self::unauthorized(),
            FaultKind::AddressNotBound => rejection_with(403, "Please whitelist your IP"),
            FaultKind::TradeUrl => rejection_answer("Your trade link is invalid"),
            FaultKind::SystemBusy => rejection_answer("System busy, try again later"),
            FaultKind::BuyingOff => rejection_answer("buy_csgo is disabled"),
            _ => {
                let number = rng.u32(1..=99);
                rejection_answer(&format!("Something unexpected happened ({number})"))
            }
        }
    }

    fn read(state: &mut WireState<Self>, request: &SimRequest<'_>, read: SimRead) -> ServerAnswer {
        match request.path {
            "/v1/user" => {
                let wallet = mills(state.market.read_balance(read.now, read.fault));
                let user = json!({
                    "wallet": wallet,
                    "id": format!("{:0>8}-0000-4000-8000-000000000000", state.site.account.user_id),
                    "name": "practice",
                    "tradelink": AccountKeys::trade_url(),
                });
                ServerAnswer::new(200, json!({"success": true, "user": user}))
            }
            "/v1/check-many-project-id" => look_up(state, request, read),
            _ => check_trade_link(request.body),
        }
    }

    fn too_many_requests() -> ServerAnswer {
        ServerAnswer::new(429, r#"{"msBeforeNext":3000}"#)
    }
}

fn rejection_with(status: u16, message: &str) -> ServerAnswer {
    ServerAnswer::new(status, json!({"success": false, "msg": message}))
}

fn rejection_answer(message: &str) -> ServerAnswer {
    rejection_with(200, message)
}

fn trade_json(purchase: &Purchase, now: UnixMs) -> Value {
    let (status, reason) = status(purchase, now);
    let release = purchase.accepted_at.map(|at| at.plus(PROTECTED));
    let has_offer = !matches!(purchase.stage, PurchaseStage::Created);
    let seconds = |time: UnixMs| time.0.div_euclid(1_000).to_string();
    json!({
        "id": purchase.number,
        "project_id": &*purchase.own_id,
        "name": names::split(&purchase.market_name).with_phase,
        "price": mills(purchase.price),
        "status": status,
        "trade_id": has_offer.then(|| format!("9{:09}", purchase.number)),
        "done": status == 5,
        "reason": reason,
        "release_date": release.as_ref().map(UnixMs::to_string),
        "is_released": release.is_some_and(|release| release <= now),
        "send_until": seconds(purchase.created_at.plus(SEND_WITHIN)),
        "last_updated": seconds(purchase.changed_at),
        "counter": "564",
        "for_steamid64": "76561198000000000",
        "seller_name": "seller",
    })
}

/// Returns trades as a list. One that is unreadable has nothing that a client can read.
fn trades_json(purchases: &[Option<Purchase>], now: UnixMs) -> Vec<Value> {
    let unreadable = || json!({"id": "?", "project_id": null, "price": null, "status": null});
    let trade = |one: &Option<Purchase>| {
        one.as_ref().map_or_else(unreadable, |purchase| trade_json(purchase, now))
    };
    purchases.iter().map(trade).collect()
}

/// Answers a look-up by own ids. Unknown ids are absent.
fn look_up(
    state: &WireState<WaxpeerWire>,
    request: &SimRequest<'_>,
    read: SimRead,
) -> ServerAnswer {
    let ids: BTreeSet<&str> = request.query.all("id").collect();
    if ids.len() > LOOK_UP_MAX {
        return rejection_answer("Too many ids");
    }
    let is_requested = |purchase: &Purchase| ids.contains(&*purchase.own_id);
    let found = state.market.read_purchases(read.now, read.fault, is_requested);
    let trades = trades_json(&found, state.market.clock(read.now));
    ServerAnswer::new(200, json!({"success": true, "trades": trades}))
}

fn check_trade_link(body: &[u8]) -> ServerAnswer {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let link = body.get("tradelink").and_then(Value::as_str);
    if link == Some(&*AccountKeys::trade_url()) {
        ServerAnswer::new(200, json!({"success": true, "link": link, "token": TRADE_TOKEN}))
    } else {
        rejection_answer("Your trade link is invalid")
    }
}
