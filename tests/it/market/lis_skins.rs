//! The simulated market of LIS-SKINS, tested with minimal clients.

use std::{collections::VecDeque, time::Duration};

use serde_json::{Value, json};
use sniper::{
    domain::money::Amount,
    sim::{
        Delivery, LisSkinsSim, ListedItem, RepricingSettings, SimServerError, SimSettings,
        faults::FaultKind, repricing::purchase::ReturnReason,
    },
};

use super::client::{Answer, Feed, Http, quiet, redline, until};

const LISTINGS: &str = "public:obtained-skins";
const VISIBLE: (Duration, Duration) = (Duration::ZERO, Duration::ZERO);

/// Settings of a market on which nothing happens by itself, and a look-up finds a purchase at once.
fn still() -> SimSettings {
    let repricing = RepricingSettings {
        visible_after: VISIBLE,
        rollback_permille: 0,
        ..RepricingSettings::default()
    };
    SimSettings { repricing, ..quiet() }
}

fn open(settings: SimSettings) -> LisSkinsSim {
    LisSkinsSim::start(settings).unwrap()
}

fn failing(fault: &str) -> LisSkinsSim {
    open(SimSettings { faults: vec![fault.parse().unwrap()], ..still() })
}

/// Sends a request with the key of the account.
fn request(market: &LisSkinsSim, head: &str, body: &str) -> Option<Answer> {
    let headers = format!("Authorization: Bearer {}\r\n", market.account().key);
    Http::connect(market.address()).request(head, &headers, body)
}

fn get(market: &LisSkinsSim, target: &str) -> Value {
    request(market, &format!("GET /v1{target}"), "").unwrap().json()
}

fn order(id: u64, max_price: f64, own_id: &str) -> Value {
    json!({
        "ids": [id],
        "partner": "123456789",
        "token": "AbCdEf12",
        "max_price": max_price,
        "custom_id": own_id,
        "skip_unavailable": false,
    })
}

fn send_order(market: &LisSkinsSim, body: &Value) -> Option<Answer> {
    request(market, "POST /v1/market/buy", &body.to_string())
}

pub(crate) fn buy(market: &LisSkinsSim, id: u64, own_id: &str) -> Option<Answer> {
    send_order(market, &order(id, 10.15, own_id))
}

pub(crate) fn list_one(market: &LisSkinsSim) -> u64 {
    market.list_items(vec![redline(1_015)]).remove(0)
}

fn look_up(market: &LisSkinsSim, own_id: &str) -> Value {
    get(market, &format!("/market/info?custom_ids[]={own_id}"))["data"].clone()
}

#[track_caller]
fn error(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

/// A feed whose frames are split into objects.
struct Objects {
    feed: Feed,
    queue: VecDeque<Value>,
}

impl Objects {
    fn open(market: &LisSkinsSim) -> Self {
        let feed = Feed::connect(market.address(), &market.ws_url(), &[]);
        Self { feed, queue: VecDeque::new() }
    }

    /// Connects with a new token. Returns the reply.
    fn connect(&mut self, market: &LisSkinsSim) -> Value {
        let token = get(market, "/user/get-ws-token")["data"]["token"].clone();
        self.feed.send(&json!({"id": 1, "connect": {"token": token, "name": "test"}}));
        self.next().unwrap()
    }

    fn subscribed(market: &LisSkinsSim) -> Self {
        let mut objects = Self::open(market);
        objects.connect(market);
        let own = format!("private:purchase-skins#{}", market.account().user_id);
        for (id, channel) in [(2, LISTINGS), (3, &*own)] {
            objects.feed.send(&json!({"id": id, "subscribe": {"channel": channel}}));
            // Publications of the first channel may arrive before the second reply.
            let reply = loop {
                let object = objects.next().unwrap();
                if object["id"].is_number() {
                    break object;
                }
            };
            assert_eq!((&reply["id"], reply["subscribe"].is_object()), (&json!(id), true));
        }
        objects
    }

    fn next(&mut self) -> Option<Value> {
        while self.queue.is_empty() {
            let text = self.feed.text()?;
            self.queue.extend(text.lines().map(|line| serde_json::from_str(line).unwrap()));
        }
        self.queue.pop_front()
    }

    /// Returns the data of the next publication.
    fn data(&mut self) -> Value {
        loop {
            let object = self.next().unwrap();
            if let Some(data) = object.pointer("/push/pub/data") {
                return data.clone();
            }
        }
    }
}

#[test]
fn the_feed_reports_listings_their_prices_and_their_removal() {
    let market = open(still());
    let mut objects = Objects::subscribed(&market);
    let item = ListedItem::plain(
        "★ Karambit | Doppler Phase 3 (Factory New)",
        Amount::from_cents(90_000),
        Amount::from_cents(91_234),
    );
    let ids = market.list_items(vec![item]);
    let added = objects.data();
    assert_eq!(added["event"], "obtained_skin_added");
    assert_eq!((&added["id"], &added["price"]), (&json!(ids[0]), &json!(912.34)));
    assert_eq!(added["name"], "★ Karambit | Doppler (Factory New)");
    assert_eq!(added["item_paint_index"], 420);
    assert!(added["item_float"].is_string() && added["unlock_at"].is_null(), "{added}");
    assert!(ids[0] > u64::from(u32::MAX));
    for cents in [90_000, 95_050] {
        assert!(market.reprice(ids[0], Amount::from_cents(cents)));
        let changed = objects.data();
        assert_eq!(changed["event"], "obtained_skin_price_changed");
        assert_eq!(
            (&changed["id"], changed["price"].as_f64()),
            (&json!(ids[0]), Some(f64::from(i32::try_from(cents).unwrap()) / 100.0))
        );
    }
    assert!(market.delist(ids[0]));
    let deleted = objects.data();
    assert_eq!(
        (&deleted["event"], &deleted["id"]),
        (&json!("obtained_skin_deleted"), &json!(ids[0]))
    );
    assert!(market.relist(ids[0]));
    assert_eq!(objects.data()["id"], ids[0]);
    market.list_locked(redline(100), Duration::from_secs(86_400));
    assert!(objects.data()["unlock_at"].is_string());
}

#[test]
fn generated_listings_include_other_games_locks_and_several_objects_per_frame() {
    let market = open(SimSettings { rate: "400".parse().unwrap(), ..SimSettings::default() });
    let mut feed = Objects::subscribed(&market).feed;
    let (mut events, mut shared_frames) = (Vec::new(), 0);
    while events.len() < 2_000 {
        let text = feed.text().unwrap();
        let objects: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        shared_frames += usize::from(objects.len() > 1);
        events.extend(objects.iter().filter_map(|one| one.pointer("/push/pub/data").cloned()));
    }
    let count = |fits: &dyn Fn(&Value) -> bool| events.iter().filter(|one| fits(one)).count();
    assert!(shared_frames > 10, "{shared_frames}");
    assert!(count(&|one| one["game_id"].as_u64().is_some_and(|game| game > 1)) > 50);
    assert!(count(&|one| one["unlock_at"].is_string()) > 10);
    assert!(count(&|one| one["event"] == "obtained_skin_price_changed") > 200);
    assert!(count(&|one| one["event"] == "obtained_skin_deleted") > 20);
    assert!(count(&|one| one["event"] == "obtained_skin_deleted" && one["price"].is_null()) > 5);
}

#[test]
fn the_feed_pings_and_closes_without_a_pong() {
    let repricing = RepricingSettings {
        pong_timeout: Duration::from_millis(300),
        ..RepricingSettings::default()
    };
    let market = open(SimSettings { ping_every: Duration::from_secs(1), repricing, ..still() });
    let mut objects = Objects::open(&market);
    assert_eq!(objects.connect(&market)["connect"]["ping"], 1);
    assert_eq!(objects.next(), Some(json!({})));
    objects.feed.send_text("{}");
    assert_eq!(objects.next(), Some(json!({})));
    assert_eq!(objects.feed.close_code(), Some(3_012));
}

#[test]
fn an_expired_token_is_an_error_and_an_invalid_one_closes_the_connection() {
    let repricing =
        RepricingSettings { token_valid_for: Duration::ZERO, ..RepricingSettings::default() };
    let market = open(SimSettings { repricing, ..still() });
    let mut objects = Objects::open(&market);
    assert_eq!(objects.connect(&market)["error"]["code"], 109);
    objects.feed.send(&json!({"id": 1, "connect": {"token": "nonsense"}}));
    assert_eq!(objects.feed.close_code(), Some(3_500));
}

#[test]
fn each_fault_of_the_feed_ends_it_in_its_way() {
    let market = open(still());
    for (fault, code) in [
        (FaultKind::FeedClose, 3_001),
        (FaultKind::FeedToken, 3_500),
        (FaultKind::FeedDisconnect, 3_004),
    ] {
        let mut objects = Objects::subscribed(&market);
        market.inject_feed_fault(fault);
        assert_eq!(objects.feed.close_code(), Some(code), "{fault}");
        until("the feed is gone", || market.stats().feeds_open == 0);
    }
    let mut objects = Objects::subscribed(&market);
    market.inject_feed_fault(FaultKind::FeedError);
    let push = objects.next().unwrap();
    assert_eq!(push.pointer("/push/unsubscribe/code"), Some(&json!(2_500)));
    let _other_channel = objects.next();
    until("nothing is subscribed", || market.stats().feeds_subscribed == 0);
}

#[test]
fn an_order_buys_at_the_current_price_and_can_be_looked_up() {
    let market = open(still());
    let mut objects = Objects::subscribed(&market);
    let id = list_one(&market);
    objects.data();
    market.reprice(id, Amount::from_cents(950));
    objects.data();
    let answer = buy(&market, id, "own-1").unwrap();
    assert!([200, 201].contains(&answer.status));
    let data = &answer.json()["data"];
    assert_eq!((&data["custom_id"], &data["skins"][0]["price"]), (&json!("own-1"), &json!(9.5)));
    assert_eq!(
        (&data["skins"][0]["id"], &data["skins"][0]["status"]),
        (&json!(id), &json!("processing"))
    );
    assert_eq!(get(&market, "/user/balance")["data"]["balance"], 490.5);
    assert_eq!(objects.data()["event"], "obtained_skin_deleted");
    let update = objects.data();
    assert_eq!(
        (&update["event"], &update["id"]),
        (&json!("purchase_skin_info_updated"), &json!(id))
    );
    assert_eq!(look_up(&market, "own-1")[0]["purchase_id"], data["purchase_id"]);
    assert_eq!(look_up(&market, "own-2"), json!([]));
    assert_eq!(get(&market, "/market/history?page=1")["meta"]["total"], 1);
    let books = market.books();
    let sale = books.sales().next().unwrap();
    assert_eq!((&*sale.own_id, &*sale.partner, sale.price.cents()), ("own-1", "123456789", 950));
    assert_eq!((sale.limit.cents(), sale.listing), (1_015, id));
    assert!(books.to_string().contains("1 sales; 0 own ids ordered more than once, 0 booked"));
}

#[test]
fn both_statuses_of_success_occur() {
    let market = open(still());
    let statuses: Vec<u16> = (0..4)
        .map(|number| {
            let id = list_one(&market);
            buy(&market, id, &format!("own-{number}")).unwrap().status
        })
        .collect();
    assert!(statuses.contains(&200) && statuses.contains(&201), "{statuses:?}");
}

#[test]
fn an_own_id_never_books_twice() {
    let market = open(still());
    let (first, second) = (list_one(&market), list_one(&market));
    buy(&market, first, "own").unwrap();
    for id in [second, first, second] {
        let (status, code) = error(&buy(&market, id, "own").unwrap());
        let is_gone = id == first && code == "skins_unavailable";
        assert!(status == 400 && (is_gone || code == "custom_id_already_exists"), "{code}");
    }
    let books = market.books();
    assert_eq!((books.sales().count(), books.booked_twice().count()), (1, 0));
    assert_eq!(books.ordered_twice().collect::<Vec<_>>(), ["own"]);
    assert_eq!(market.history().balance.cents(), 48_985);
}

#[test]
fn an_order_that_cannot_be_executed_is_rejected_with_its_code() {
    let market = open(still());
    let id = list_one(&market);
    let mut sent = 0;
    let mut check = |body: Value, status: u16, code: &str| {
        sent += 1;
        let answer = send_order(&market, &body).unwrap();
        assert_eq!(error(&answer), (status, code.to_owned()), "{body}");
    };
    check(order(id + 1, 10.15, "a"), 400, "skins_unavailable");
    check(order(id, 10.14, "b"), 400, "skins_price_higher_than_max_price");
    let expensive = market.list_items(vec![redline(50_001)]).remove(0);
    check(order(expensive, 600.0, "c"), 400, "insufficient_funds");
    let with = |key: &str, value: Value| {
        let mut body = order(id, 10.15, "d");
        body[key] = value;
        body
    };
    check(with("ids", json!([])), 422, "invalid_ids_value");
    check(with("max_price", json!("10.15")), 422, "invalid_max_price_value");
    check(with("custom_id", json!("x".repeat(37))), 422, "invalid_custom_id_value");
    check(with("partner", json!("abc")), 422, "invalid_partner_value");
    check(with("token", json!("short")), 422, "invalid_token_value");
    check(with("token", json!("ZZZZZZZZ")), 400, "invalid_trade_url");
    assert_eq!((sent, market.history().purchases().count()), (9, 0));
}

#[test]
fn each_fault_of_an_order_has_its_answer_and_effect() {
    let check = |fault: FaultKind, status: u16, contains: &str, bought: bool| {
        let market = failing(&fault.name());
        let answer = buy(&market, list_one(&market), "own").unwrap();
        assert_eq!(answer.status, status, "{fault}: {}", answer.body);
        assert!(answer.body.contains(contains), "{fault}: {}", answer.body);
        assert_eq!(market.history().purchases().count() == 1, bought, "{fault}");
        assert_eq!(fault.commits(), bought, "{fault}");
    };
    check(FaultKind::TradeBan, 400, "user_trade_ban", false);
    check(FaultKind::TradeUrl, 400, "invalid_trade_url", false);
    check(FaultKind::CannotTrade, 400, "user_cant_trade", false);
    check(FaultKind::PrivateInventory, 400, "private_inventory", false);
    check(FaultKind::InventoryFull, 400, "user_inventory_full", false);
    check(FaultKind::FailedAttempts, 400, "too_many_failed_attempts_for_user", false);
    check(FaultKind::UnknownError, 400, "unknown_error", false);
    check(FaultKind::InvalidValue, 422, "_value", false);
    check(FaultKind::PriceMoves, 400, "skins_price_higher_than_max_price", false);
    check(FaultKind::Unauthenticated, 401, "", false);
    check(FaultKind::AddressNotBound, 403, "", false);
    check(FaultKind::ServerErrorBeforeCommit, 503, "<html>", false);
    check(FaultKind::ServerErrorAfterCommit, 502, "<html>", true);
    check(FaultKind::RequestTimeout, 408, "", true);
    check(FaultKind::PageInsteadOfAnswer, 200, "<html>", true);
    let market = failing("429");
    let answer = buy(&market, list_one(&market), "own").unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("3")));
}

#[test]
fn a_purchase_can_be_returned_in_the_answer_itself() {
    let market = failing("returned-at-once");
    let answer = buy(&market, list_one(&market), "own").unwrap();
    let skin = &answer.json()["data"]["skins"][0];
    assert_eq!(skin["status"], "return");
    assert_eq!(skin["return_reason"], "trade_create_error");
    until("the money is back", || market.history().balance.cents() == 50_000);
}

#[test]
fn a_purchase_whose_answer_is_lost_can_be_looked_up_after_a_while() {
    let wait = Duration::from_millis(300);
    let repricing =
        RepricingSettings { visible_after: (wait, wait), ..RepricingSettings::default() };
    let faults = vec!["cut-after-commit".parse().unwrap()];
    let market = open(SimSettings { repricing, faults, ..still() });
    let id = list_one(&market);
    assert!(buy(&market, id, "own").is_none());
    assert_eq!(look_up(&market, "own"), json!([]));
    // Slow enough for the limit of requests per minute.
    let found = std::cell::RefCell::new(json!([]));
    until("the look-up finds it", || {
        std::thread::park_timeout(Duration::from_millis(20));
        *found.borrow_mut() = look_up(&market, "own");
        found.borrow()[0]["custom_id"] == "own"
    });
    assert_eq!(found.borrow()[0]["skins"][0]["id"], id);
    assert_eq!(market.books().sales().count(), 1);
    for fault in ["cut-before-commit", "half-body"] {
        let market = failing(fault);
        assert!(buy(&market, list_one(&market), "own").is_none());
        assert_eq!(market.books().sales().count(), usize::from(fault == "half-body"));
    }
}

#[test]
fn the_market_may_keep_a_commission_of_a_returned_purchase() {
    let soon = (Duration::from_millis(20), Duration::from_millis(20));
    let later = (Duration::from_secs(1), Duration::from_secs(1));
    let delivery = Delivery { confirm: later, deliver: soon, fail_permille: 1_000, refund: soon };
    let repricing =
        RepricingSettings { commission_permille: 100, limits_requests: false, ..still().repricing };
    let market = open(SimSettings { delivery, repricing, ..still() });
    buy(&market, list_one(&market), "own").unwrap();
    let balance = get(&market, "/user/balance")["data"].clone();
    assert_eq!(balance["balance_locked"], 10.15, "{balance}");
    until("it is returned", || look_up(&market, "own")[0]["skins"][0]["status"] == "return");
    let skin = look_up(&market, "own")[0]["skins"][0].clone();
    assert_eq!((&skin["price"], &skin["return_charged_commission"]), (&json!(10.15), &json!(1.01)));
    until("the rest is back", || market.history().balance.cents() == 50_000 - 101);
    let balance = get(&market, "/user/balance")["data"].clone();
    assert_eq!((&balance["balance_locked"], &balance["balance"]), (&json!(0), &json!(498.99)));
}

#[test]
fn a_purchase_passes_through_its_stages_and_may_be_returned() {
    let soon = (Duration::from_millis(20), Duration::from_millis(20));
    let run = |fail_permille: u32, rollback_permille: u32| {
        let delivery = Delivery { confirm: soon, deliver: soon, fail_permille, refund: soon };
        let repricing = RepricingSettings {
            visible_after: VISIBLE,
            rollback_permille,
            rollback_after: soon,
            ..RepricingSettings::default()
        };
        let market = open(SimSettings { delivery, repricing, ..still() });
        let mut objects = Objects::subscribed(&market);
        buy(&market, list_one(&market), "own").unwrap();
        let mut statuses = Vec::new();
        while !statuses.last().is_some_and(|status| {
            status == "return" || (status == "accepted" && rollback_permille == 0)
        }) {
            let data = objects.data();
            statuses.extend(data["status"].as_str().map(str::to_owned));
        }
        (statuses, market)
    };
    let (statuses, market) = run(0, 0);
    assert_eq!(statuses, ["processing", "wait_accept", "accepted"]);
    assert_eq!(look_up(&market, "own")[0]["skins"][0]["status"], "accepted");
    let (statuses, market) = run(0, 1_000);
    assert_eq!(statuses, ["processing", "wait_accept", "accepted", "return"]);
    let reason = look_up(&market, "own")[0]["skins"][0]["return_reason"].clone();
    assert!(reason.as_str().unwrap().starts_with("rollback_"));
    until("the money is back", || market.history().balance.cents() == 50_000);
    let skin = look_up(&market, "own")[0]["skins"][0].clone();
    assert_eq!(skin["return_charged_commission"], Value::Null);
    let (statuses, market) = run(1_000, 0);
    assert_eq!(statuses.last().map(String::as_str), Some("return"));
    until("the money is back", || market.history().balance.cents() == 50_000);
    assert!(market.books().to_string().contains(", refunded"));
}

#[test]
fn reads_of_the_account_can_be_faulty() {
    let read = |fault: &str| {
        let market = open(still());
        for number in 0..8 {
            let id = list_one(&market);
            buy(&market, id, &format!("own-{number}")).unwrap();
        }
        market.set_faults(&[fault.parse().unwrap()]);
        get(&market, "/market/history")["data"].as_array().unwrap().clone()
    };
    assert!(read("list-null").iter().any(|one| one["purchase_id"].is_null()));
    assert!(read("list-foreign").iter().any(|one| one["skins"][0]["name"] == "Glove Case Key"));
    assert!(
        read("list-unknown-status").iter().any(|one| one["skins"][0]["status"] == "wait_review")
    );
    assert!(read("list-short").len() < 8);
}

#[test]
fn a_search_is_filtered_paged_and_behind() {
    let repricing =
        RepricingSettings { search_behind: Duration::ZERO, ..RepricingSettings::default() };
    let market = open(SimSettings { repricing, ..still() });
    let id = list_one(&market);
    market.list_locked(redline(500), Duration::from_secs(86_400));
    let search = |query: &str| get(&market, &format!("/market/search?game=csgo&{query}"));
    let newest = search("sort_by=newest&per_page=1");
    assert_eq!(
        (&newest["data"][0]["price"], &newest["meta"]["next_cursor"]),
        (&json!(5), &json!("1"))
    );
    let next = search("sort_by=newest&per_page=1&cursor=1");
    assert_eq!((&next["data"][0]["id"], &next["meta"]["next_cursor"]), (&json!(id), &Value::Null));
    assert_eq!(search("only_unlocked=1")["data"].as_array().unwrap().len(), 1);
    assert_eq!(search("price_to=6")["data"].as_array().unwrap().len(), 1);
    let behind = open(still());
    list_one(&behind);
    assert_eq!(get(&behind, "/market/search?game=csgo")["data"], json!([]));
}

#[test]
fn a_wrong_key_and_too_many_reads_are_rejected() {
    let market = open(still());
    let mut http = Http::connect(market.address());
    let answer = http.request("GET /v1/user/balance", "Authorization: Bearer no\r\n", "");
    assert_eq!(answer.unwrap().status, 401);
    let id = list_one(&market);
    let body = order(id, 10.15, "own").to_string();
    assert_eq!(http.request("POST /v1/market/buy", "", &body).unwrap().status, 401);
    let headers = format!("Authorization: Bearer {}\r\n", market.account().key);
    let statuses: Vec<u16> = (0..201)
        .map(|_| http.request("GET /v1/user/balance", &headers, "").unwrap().status)
        .collect();
    assert_eq!((statuses[199], statuses[200]), (200, 429));
    assert!(http.request("POST /v1/market/buy", &headers, &body).unwrap().status < 300);
}

#[test]
fn a_fault_of_another_market_is_rejected_at_the_start() {
    for fault in ["captcha", "system-busy"] {
        let faults = vec![fault.parse().unwrap()];
        let started = LisSkinsSim::start(SimSettings { faults, ..still() });
        assert!(matches!(started.err(), Some(SimServerError::Fault(kind)) if kind.name() == fault));
    }
}

#[test]
fn a_return_can_be_made_by_hand() {
    let market = open(still());
    buy(&market, list_one(&market), "own").unwrap();
    let number = market.books().sales().next().unwrap().number;
    market.return_purchase(number, ReturnReason::RolledBackBySupplier);
    assert_eq!(look_up(&market, "own")[0]["skins"][0]["return_reason"], "rollback_supplier");
}
