//! HTTP answers to orders and reads. Pure.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{LisSkinsWire, dollars, feed, status, token};
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
            listing::SimListing,
            names,
            purchase::{BuyRejection, Purchase, PurchaseStage, ReturnReason, SimOrder},
            server::{
                AccountKeys, FeedOpening, ServerAnswer, SimRead, SimRequest, SimRoute,
                TRADE_PARTNER, TRADE_TOKEN, WireFormat, WireState,
            },
        },
    },
};

/// Maximum number of ids in a look-up.
const LOOK_UP_MAX: usize = 200;
/// Maximum number of listings of a page of the search.
const SEARCH_PAGE_MAX: usize = 200;
/// Number of purchases of a page of the history.
const HISTORY_PAGE: usize = 50;
/// Maximum length of an own order id.
const CUSTOM_ID_BYTES_MAX: usize = 36;

impl WireFormat for LisSkinsWire {
    const FAULTS: &'static [&'static [FaultKind]] = super::FAULTS;
    const DECIMALS: Decimals = Decimals::Two;
    // Beyond 32 bits.
    const FIRST_ID: u64 = 5_000_000_000;
    const READS_PER_MINUTE: usize = 200;
    const ORDERS_PER_MINUTE: Option<usize> = Some(500);
    const FEED_PATH: &'static str = "/connection/websocket";
    const HTTP_PATH: &'static str = "/v1";

    type Feed = feed::CentrifugoSession;

    fn open_feed(opening: FeedOpening<'_>, now: Duration) -> Option<(Self::Feed, Vec<FeedOutput>)> {
        Self::Feed::open(opening, now)
    }

    fn environment(account: &AccountKeys, ws: String, http: String) -> Vec<(&'static str, String)> {
        vec![
            ("LIS_SKINS_WS_URL", ws),
            ("LIS_SKINS_HTTP_URL", http),
            ("LIS_SKINS_KEY", account.key.clone()),
            ("LIS_SKINS_USER_ID", account.user_id.clone()),
            ("STEAM_TRADE_URL", AccountKeys::trade_url()),
        ]
    }

    fn is_authorized(account: &AccountKeys, request: &SimRequest<'_>) -> bool {
        let key = request.authorization.and_then(|value| value.strip_prefix("Bearer "));
        key == Some(&*account.key)
    }

    fn unauthorized() -> ServerAnswer {
        ServerAnswer::new(401, r#"{"message":"Unauthenticated."}"#)
    }

    fn route(request: &SimRequest<'_>) -> Option<SimRoute> {
        Some(match (request.method, request.path) {
            ("POST", "/v1/market/buy") => SimRoute::Order,
            ("GET", "/v1/user/balance") => {
                SimRoute::Read(&[FaultChannel::Reads, FaultChannel::Account])
            }
            ("GET", "/v1/market/info" | "/v1/market/history") => {
                SimRoute::Read(&[FaultChannel::Reads, FaultChannel::Purchases])
            }
            ("GET", "/v1/user/get-ws-token" | "/v1/market/search") => {
                SimRoute::Read(&[FaultChannel::Reads])
            }
            _ => return None,
        })
    }

    fn parse_order(request: &SimRequest<'_>) -> Result<SimOrder, ServerAnswer> {
        let body: Value = serde_json::from_slice(request.body).unwrap_or(Value::Null);
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let invalid = |code: &str| Err(error(422, code));
        let ids = body.get("ids").and_then(Value::as_array);
        let ids: Vec<u64> = ids.into_iter().flatten().filter_map(Value::as_u64).collect();
        let [id] = &ids[..] else { return invalid("invalid_ids_value") };
        let limit = match body.get("max_price") {
            Some(Value::Number(number)) => Amount::parse(&number.to_string(), Decimals::Two).ok(),
            _ => None,
        };
        let Some(limit) = limit.filter(|limit| Amount::ZERO < *limit) else {
            return invalid("invalid_max_price_value");
        };
        let own_id = text("custom_id");
        if own_id.is_empty() || own_id.len() > CUSTOM_ID_BYTES_MAX || !own_id.is_ascii() {
            return invalid("invalid_custom_id_value");
        }
        let (partner, trade_token) = (text("partner"), text("token"));
        if partner.is_empty() || !partner.bytes().all(|byte| byte.is_ascii_digit()) {
            return invalid("invalid_partner_value");
        }
        if trade_token.len() != 8 {
            return invalid("invalid_token_value");
        }
        if (partner, trade_token) != (TRADE_PARTNER, TRADE_TOKEN) {
            return Err(error(400, "invalid_trade_url"));
        }
        let (own_id, partner) = (Arc::from(own_id), Arc::from(partner));
        Ok(SimOrder { id: Some(*id), limit, own_id, partner })
    }

    fn sold(purchase: &Purchase, price: Amount, kind: Option<FaultKind>) -> ServerAnswer {
        let mut sold = purchase.clone();
        sold.price = price;
        if kind == Some(FaultKind::ReturnedAtOnce) {
            sold.stage = PurchaseStage::Returned(ReturnReason::CreateError);
        }
        let mut data = purchase_json(&sold);
        let skins = data.get_mut("skins").and_then(Value::as_array_mut);
        match (kind, skins) {
            (Some(FaultKind::Empty), Some(skins)) => skins.clear(),
            (Some(FaultKind::Foreign), Some(skins)) => {
                if let Some(id) = skins.first_mut().and_then(|skin| skin.get_mut("id")) {
                    *id = purchase.listing.id.saturating_add(1).into();
                }
            }
            _ => {}
        }
        // The market was seen to answer with either status.
        let status = if purchase.number.is_multiple_of(2) { 200 } else { 201 };
        ServerAnswer::new(status, json!({"data": data}))
    }

    fn rejected(order: &SimOrder, rejection: BuyRejection, _rng: &mut Rng) -> ServerAnswer {
        let code = match rejection {
            BuyRejection::Unavailable => {
                let ids: Vec<u64> = order.id.into_iter().collect();
                let body = json!({"error": "skins_unavailable", "unavailable_ids": ids});
                return ServerAnswer::new(400, body);
            }
            BuyRejection::PriceAbove(_) => "skins_price_higher_than_max_price",
            BuyRejection::OwnIdKnown => "custom_id_already_exists",
            BuyRejection::Funds => "insufficient_funds",
        };
        error(400, code)
    }

    fn not_executed(kind: FaultKind, rng: &mut Rng) -> ServerAnswer {
        let code = match kind {
            FaultKind::TooMany => return Self::too_many_requests(),
            FaultKind::Unauthenticated => return Self::unauthorized(),
            FaultKind::AddressNotBound => {
                return ServerAnswer::new(403, r#"{"message":"Forbidden"}"#);
            }
            FaultKind::InvalidValue => {
                let codes = [
                    "invalid_ids_value",
                    "invalid_max_price_value",
                    "invalid_custom_id_value",
                    "invalid_partner_value",
                    "invalid_token_value",
                ];
                return error(422, rng.choice(codes).unwrap_or("invalid_ids_value"));
            }
            FaultKind::TradeUrl => "invalid_trade_url",
            FaultKind::TradeBan => "user_trade_ban",
            FaultKind::CannotTrade => "user_cant_trade",
            FaultKind::PrivateInventory => "private_inventory",
            FaultKind::InventoryFull => "user_inventory_full",
            FaultKind::FailedAttempts => "too_many_failed_attempts_for_user",
            _ => "unknown_error",
        };
        error(400, code)
    }

    fn read(state: &mut WireState<Self>, request: &SimRequest<'_>, read: SimRead) -> ServerAnswer {
        let data = match request.path {
            "/v1/user/balance" => {
                let balance = dollars(state.market.read_balance(read.now, read.fault));
                let all = state.market.read_purchases(read.now, None, |_purchase| true);
                let sum_of = |is_in: fn(PurchaseStage) -> bool| {
                    let found = all.iter().flatten().filter(|purchase| is_in(purchase.stage));
                    let prices = found.map(|purchase| purchase.price);
                    dollars(prices.fold(Amount::ZERO, Amount::saturating_add))
                };
                let is_open = |stage| matches!(stage, PurchaseStage::Created | PurchaseStage::Sent);
                json!({
                    "balance": balance,
                    "balance_locked": sum_of(is_open),
                    "trade_protection_balance": sum_of(|stage| stage == PurchaseStage::Accepted),
                })
            }
            "/v1/user/get-ws-token" => {
                let AccountKeys { seed, user_id, .. } = &state.site.account;
                let valid_for = state.market.repricing.token_valid_for;
                let expires_at = state.market.clock(read.now).plus(valid_for);
                json!({"token": token::issue(*seed, user_id, expires_at)})
            }
            "/v1/market/info" => return info(state, request, read),
            "/v1/market/history" => return history(state, request, read),
            _ => return search(state, request, read.now),
        };
        ServerAnswer::new(200, json!({"data": data}))
    }

    fn too_many_requests() -> ServerAnswer {
        let body = r#"{"message":"Too Many Attempts."}"#;
        ServerAnswer { headers: &[("retry-after", "3")], ..ServerAnswer::new(429, body) }
    }
}

fn error(status: u16, code: &str) -> ServerAnswer {
    ServerAnswer::new(status, json!({"error": code}))
}

/// Returns a purchase, as orders, look-ups and the history contain it.
fn purchase_json(purchase: &Purchase) -> Value {
    let (status, reason) = status(purchase);
    let is_charged = Amount::ZERO < purchase.commission;
    let has_offer = !matches!(purchase.stage, PurchaseStage::Created);
    let offer = has_offer.then(|| format!("6{:09}", purchase.number));
    let time = |time: UnixMs| time.to_string();
    let sent_at = has_offer.then(|| time(purchase.created_at));
    let skin = json!({
        "id": purchase.listing.id,
        "name": names::split(&purchase.market_name).without_phase,
        "price": dollars(purchase.price),
        "status": status,
        "return_reason": reason,
        "return_charged_commission": is_charged.then(|| dollars(purchase.commission)),
        "error": null,
        "steam_trade_offer_id": offer,
        "steam_trade_offer_created_at": sent_at,
        "steam_trade_offer_expiry_at": null,
        "steam_trade_offer_finished_at": purchase.accepted_at.map(time),
    });
    json!({
        "purchase_id": purchase.number,
        "steam_id": "76561198000000000",
        "created_at": purchase.created_at.to_string(),
        "custom_id": &*purchase.own_id,
        "skins": [skin],
    })
}

/// Returns purchases as a list. `None` stands for one whose fields a client cannot read.
fn purchases_json(purchases: &[Option<Purchase>]) -> Vec<Value> {
    let unreadable = || json!({"purchase_id": null, "skins": null});
    purchases.iter().map(|one| one.as_ref().map_or_else(unreadable, purchase_json)).collect()
}

/// Answers a look-up by own ids. Unknown ids are absent.
fn info(state: &WireState<LisSkinsWire>, request: &SimRequest<'_>, read: SimRead) -> ServerAnswer {
    let own_ids: BTreeSet<&str> = request.query.all("custom_ids[]").collect();
    if own_ids.len() > LOOK_UP_MAX {
        return error(422, "invalid_custom_ids_value");
    }
    let is_requested = |purchase: &Purchase| own_ids.contains(&*purchase.own_id);
    let found = state.market.read_purchases(read.now, read.fault, is_requested);
    ServerAnswer::new(200, json!({"data": purchases_json(&found)}))
}

fn history(
    state: &WireState<LisSkinsWire>,
    request: &SimRequest<'_>,
    read: SimRead,
) -> ServerAnswer {
    let mut found = state.market.read_purchases(read.now, read.fault, |_purchase| true);
    found.reverse();
    let page = request.query.get("page").and_then(|page| page.parse::<usize>().ok());
    let page = page.unwrap_or(1).max(1);
    let first = page.saturating_sub(1).saturating_mul(HISTORY_PAGE).min(found.len());
    let last = first.saturating_add(HISTORY_PAGE).min(found.len());
    let meta = json!({
        "current_page": page,
        "last_page": found.len().div_ceil(HISTORY_PAGE).max(1),
        "per_page": HISTORY_PAGE,
        "total": found.len(),
    });
    let data = purchases_json(found.get(first..last).unwrap_or_default());
    ServerAnswer::new(200, json!({"data": data, "meta": meta}))
}

/// Answers a search, which is behind by some time. The cursor is the number of listings before it.
fn search(
    state: &WireState<LisSkinsWire>,
    request: &SimRequest<'_>,
    now: Duration,
) -> ServerAnswer {
    let query = &request.query;
    let amount = |key| query.get(key).and_then(|text| Amount::parse(text, Decimals::Two).ok());
    let price_max = amount("price_to");
    let names: BTreeSet<&str> = query.all("names[]").collect();
    let until = state.market.clock(now).minus(state.market.repricing.search_behind);
    let name_of = |listing: &SimListing| names::split(&listing.item.market_name).without_phase;
    let fits = |listing: &&SimListing| {
        listing.created_at <= until
            && price_max.is_none_or(|price_max| listing.price <= price_max)
            && (query.get("only_unlocked") != Some("1") || listing.unlock_at.is_none())
            && (names.is_empty() || names.contains(&*name_of(listing)))
    };
    let mut found: Vec<&SimListing> = state.market.open().filter(fits).collect();
    match query.get("sort_by") {
        Some("lowest_price") => found.sort_by_key(|listing| listing.price),
        _ => found.reverse(),
    }
    let number = |key| query.get(key).and_then(|text| text.parse::<usize>().ok());
    let per_page = number("per_page").unwrap_or(SEARCH_PAGE_MAX).clamp(1, SEARCH_PAGE_MAX);
    let first = number("cursor").unwrap_or(0).min(found.len());
    let last = first.saturating_add(per_page).min(found.len());
    let page = found.get(first..last).unwrap_or_default();
    let data: Vec<Value> = page.iter().map(|listing| feed::skin_json(listing)).collect();
    let next = (last < found.len()).then(|| last.to_string());
    let meta = json!({"next_cursor": next, "per_page": per_page});
    ServerAnswer::new(200, json!({"data": data, "meta": meta}))
}
