//! The simulated market of Waxpeer, tested with minimal clients.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sniper::{
    domain::money::Amount,
    sim::{Delivery, ListedItem, RepricingSettings, SimSettings, WaxpeerSim, faults::FaultKind},
};

use super::client::{Answer, Feed, Http, quiet, redline, until};

/// Settings of a market on which nothing happens by itself, and a look-up finds a purchase at once.
fn still() -> SimSettings {
    let visible_after = (Duration::ZERO, Duration::ZERO);
    let repricing =
        RepricingSettings { visible_after, rollback_permille: 0, ..RepricingSettings::default() };
    SimSettings { repricing, ..quiet() }
}

fn open(settings: SimSettings) -> WaxpeerSim {
    WaxpeerSim::start(settings).unwrap()
}

fn failing(fault: &str) -> WaxpeerSim {
    open(SimSettings { faults: vec![fault.parse().unwrap()], ..still() })
}

/// Sends a GET with the key of the account.
fn send(market: &WaxpeerSim, path: &str, query: &str) -> Option<Answer> {
    let key = &market.account().key;
    let head = format!("GET /v1/{path}?api={key}{query}");
    Http::connect(market.address()).request(&head, "", "")
}

fn get(market: &WaxpeerSim, path: &str, query: &str) -> Value {
    send(market, path, query).unwrap().json()
}

fn order(market: &WaxpeerSim, id: u64, price: i64, own_id: &str) -> Option<Answer> {
    let query =
        format!("&item_id={id}&price={price}&partner=123456789&token=AbCdEf12&project_id={own_id}");
    send(market, "buy-one-p2p", &query)
}

pub(crate) fn buy(market: &WaxpeerSim, id: u64, own_id: &str) -> Option<Answer> {
    order(market, id, 10_150, own_id)
}

pub(crate) fn list_one(market: &WaxpeerSim) -> u64 {
    market.list_items(vec![redline(1_015)]).remove(0)
}

fn look_up(market: &WaxpeerSim, own_id: &str) -> Value {
    get(market, "check-many-project-id", &format!("&id={own_id}"))["trades"].clone()
}

fn feed(market: &WaxpeerSim, key: Option<&str>) -> Feed {
    let headers: Vec<(&'static str, &str)> =
        key.map(|key| ("authorization", key)).into_iter().collect();
    let mut feed = Feed::connect(market.address(), &market.ws_url(), &headers);
    assert!(feed.text().unwrap().starts_with("0{"));
    feed.send_text("40");
    assert!(feed.text().unwrap().starts_with("40{"));
    feed
}

fn subscribed(market: &WaxpeerSim) -> Feed {
    let mut feed = feed(market, Some(&market.account().key));
    feed.send_text(r#"42["sub",{"name":"csgo"}]"#);
    for _ in 0..2 {
        let text = feed.text().unwrap();
        assert!(text.contains("subscribed") || text.contains("handshake"), "{text}");
    }
    feed
}

/// Returns the next event and its payload.
fn event(feed: &mut Feed) -> (String, Value) {
    loop {
        let text = feed.text().unwrap();
        if text == "2" {
            feed.send_text("3");
        } else if let Some(packet) = text.strip_prefix("42") {
            let packet: Value = serde_json::from_str(packet).unwrap();
            return (packet[0].as_str().unwrap().to_owned(), packet[1].clone());
        }
    }
}

#[test]
fn the_feed_reports_listings_their_prices_and_their_removal() {
    let market = open(still());
    let mut feed = subscribed(&market);
    let price = Amount::from_thousandths(912_340);
    let item = ListedItem::plain("★ M9 Bayonet | Ruby (Factory New)", price, price);
    let id = market.list_items(vec![item]).remove(0);
    let (name, listing) = event(&mut feed);
    assert_eq!(
        (&*name, &listing["item_id"], &listing["price"]),
        ("new", &json!(id.to_string()), &json!(912_340))
    );
    assert_eq!(listing["name"], "★ M9 Bayonet | Doppler Ruby (Factory New)");
    assert_eq!(
        (&listing["phase"], &listing["paint_index"], &listing["game"]),
        (&json!("Ruby"), &json!(415), &json!("csgo"))
    );
    assert!(market.reprice(id, Amount::from_thousandths(912_339)));
    let (name, listing) = event(&mut feed);
    assert_eq!((&*name, &listing["price"]), ("update", &json!(912_339)));
    assert!(market.delist(id));
    let (name, listing) = event(&mut feed);
    assert_eq!((&*name, &listing["item_id"]), ("removed", &json!(id.to_string())));
    assert!(listing["float"].is_null() && listing["auto"].is_null());
    assert!(market.relist(id));
    let (name, listing) = event(&mut feed);
    assert_eq!((&*name, &listing["item_id"]), ("new", &json!(id.to_string())));
}

#[test]
fn a_feed_without_a_key_has_the_listings_and_not_the_account() {
    let market = open(still());
    let mut feed = feed(&market, None);
    feed.send_text(r#"42["subscribe",{"name":"csgo"}]"#);
    let greeting = [feed.text().unwrap(), feed.text().unwrap()].concat();
    assert!(greeting.contains("No authentication or session"), "{greeting}");
    let mut own = subscribed(&market);
    let id = list_one(&market);
    buy(&market, id, "own").unwrap();
    let names = |feed: &mut Feed, count: usize| -> Vec<String> {
        (0..count).map(|_| event(feed).0).collect()
    };
    assert_eq!(names(&mut own, 4), ["new", "removed", "steamTrade", "change_user"]);
    assert_eq!(names(&mut feed, 2), ["new", "removed"]);
    list_one(&market);
    assert_eq!(names(&mut feed, 1), ["new"]);
}

#[test]
fn the_server_pings_at_its_own_pace_and_closes_without_a_pong() {
    let repricing = RepricingSettings {
        pong_timeout: Duration::from_millis(300),
        ..RepricingSettings::default()
    };
    let market = open(SimSettings { ping_every: Duration::from_millis(500), repricing, ..still() });
    let mut feed = Feed::connect(market.address(), &market.ws_url(), &[]);
    let opening = feed.text().unwrap();
    let opening: Value = serde_json::from_str(&opening[1..]).unwrap();
    assert_eq!((&opening["pingInterval"], &opening["pingTimeout"]), (&json!(500), &json!(300)));
    feed.send_text("40");
    assert!(feed.text().unwrap().starts_with("40"));
    for _ in 0..2 {
        assert_eq!(feed.text().as_deref(), Some("2"));
        feed.send_text("3");
    }
    assert_eq!(feed.text().as_deref(), Some("2"));
    assert_eq!(feed.text(), None);
}

#[test]
fn each_fault_of_the_feed_has_its_message() {
    let market = open(still());
    for (fault, expected) in [
        (FaultKind::FeedClose, "1"),
        (FaultKind::FeedDisconnect, "41"),
        (FaultKind::FeedError, "44{\"message\":\"Server is overloaded\"}"),
    ] {
        let mut feed = subscribed(&market);
        market.inject_feed_fault(fault);
        assert_eq!(feed.text().as_deref(), Some(expected), "{fault}");
        drop(feed);
        until("the feed is gone", || market.stats().feeds_open == 0);
    }
}

#[test]
fn the_full_rate_has_hundreds_of_events_per_second() {
    let repricing = RepricingSettings { price_changes: 32, ..RepricingSettings::default() };
    let market =
        open(SimSettings { rate: "12.5".parse().unwrap(), repricing, ..SimSettings::default() });
    // While few listings are open, fewer prices change.
    market.list_items(vec![redline(10_000); 40]);
    let mut feed = subscribed(&market);
    let (began, mut events, mut updates) = (Instant::now(), 0, 0);
    while began.elapsed() < Duration::from_secs(4) {
        let (name, _) = event(&mut feed);
        events += 1;
        updates += usize::from(name == "update");
    }
    // 430 per second on average, and a burst may occur.
    assert!((800..12_000).contains(&events), "{events}");
    assert!(updates * 10 > events * 8, "{updates} of {events}");
    assert_eq!(market.stats().feeds_dropped, 0);
}

#[test]
fn an_order_buys_at_the_current_price_and_can_be_looked_up() {
    let market = open(still());
    let id = list_one(&market);
    market.reprice(id, Amount::from_thousandths(9_501));
    let answer = buy(&market, id, "own-1").unwrap().json();
    assert_eq!((&answer["success"], &answer["price"]), (&json!(true), &json!(9_501)));
    assert_eq!(get(&market, "user", "")["user"]["wallet"], 490_499);
    let trade = look_up(&market, "own-1")[0].clone();
    assert_eq!((&trade["id"], &trade["project_id"]), (&answer["id"], &json!("own-1")));
    assert_eq!((&trade["price"], &trade["status"]), (&json!(9_501), &json!(0)));
    assert!(trade["send_until"].as_str().unwrap().parse::<u64>().is_ok());
    assert_eq!(look_up(&market, "own-2"), json!([]));
    let books = market.books();
    let sale = books.sales().next().unwrap();
    assert_eq!(
        (&*sale.own_id, sale.price.thousandths(), sale.limit.cents()),
        ("own-1", 9_501, 1_015)
    );
}

#[test]
fn an_own_id_never_books_twice() {
    let market = open(still());
    let (first, second) = (list_one(&market), list_one(&market));
    buy(&market, first, "own").unwrap();
    let answer = buy(&market, second, "own").unwrap();
    assert_eq!((answer.status, &answer.json()["msg"]), (200, &json!("projectId already exists")));
    let books = market.books();
    assert_eq!((books.sales().count(), books.booked_twice().count()), (1, 0));
    assert_eq!(market.history().balance.cents(), 48_985);
}

#[test]
fn a_rejection_is_a_response_with_status_200() {
    let market = open(still());
    let id = list_one(&market);
    let rejection = |answer: Option<Answer>| {
        let answer = answer.unwrap();
        let body = answer.json();
        assert_eq!((answer.status, &body["success"]), (200, &json!(false)));
        body
    };
    let low = rejection(order(&market, id, 10_149, "a"));
    assert!(low["msg"].as_str().unwrap().starts_with("Price"), "{low}");
    let new_price = low["new_price"].as_i64().or_else(|| low["new_price"].as_str()?.parse().ok());
    assert_eq!(new_price, Some(10_150));
    let gone = rejection(buy(&market, id + 1, "b"));
    assert!(gone["msg"].as_str().unwrap().contains("sold"), "{gone}");
    let expensive = market.list_items(vec![redline(50_001)]).remove(0);
    let poor = rejection(order(&market, expensive, 600_000, "c"));
    assert!(poor["msg"].as_str().unwrap().to_lowercase().contains("balance"), "{poor}");
    assert_eq!(market.history().purchases().count(), 0);
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
    check(FaultKind::PriceMoves, 200, "new_price", false);
    check(FaultKind::SystemBusy, 200, "System busy", false);
    check(FaultKind::BuyingOff, 200, "buy_csgo", false);
    check(FaultKind::TradeUrl, 200, "trade link", false);
    check(FaultKind::UnknownError, 200, "unexpected", false);
    check(FaultKind::AddressNotBound, 403, "whitelist your IP", false);
    check(FaultKind::MsBeforeNext, 429, r#"{"msBeforeNext":1500}"#, false);
    check(FaultKind::PageInsteadOfAnswer, 200, "<html>", true);
    check(FaultKind::ServerErrorAfterCommit, 502, "<html>", true);
    check(FaultKind::Empty, 200, r#"{"success":true}"#, true);
    let market = failing("cut-after-commit");
    assert!(buy(&market, list_one(&market), "own").is_none());
    assert_eq!(look_up(&market, "own")[0]["project_id"], "own");
}

#[test]
fn a_failed_purchase_has_status_6_and_its_money_comes_back() {
    let soon = (Duration::from_millis(20), Duration::from_millis(20));
    let delivery = Delivery { confirm: soon, deliver: soon, fail_permille: 1_000, refund: soon };
    let market = open(SimSettings { delivery, ..still() });
    let id = list_one(&market);
    buy(&market, id, "own").unwrap();
    until("it has failed", || look_up(&market, "own")[0]["status"] == 6);
    assert!(look_up(&market, "own")[0]["reason"].is_string());
    until("the money is back", || market.history().balance.cents() == 50_000);
    let delivered =
        open(SimSettings { delivery: Delivery { fail_permille: 0, ..delivery }, ..still() });
    buy(&delivered, list_one(&delivered), "own").unwrap();
    until("it is done", || look_up(&delivered, "own")[0]["status"] == 5);
    let trade = look_up(&delivered, "own")[0].clone();
    assert!(trade["done"] == true && trade["release_date"].is_string(), "{trade}");
}

#[test]
fn a_look_up_can_have_an_unreadable_entry() {
    let market = open(still());
    for number in 0..8 {
        buy(&market, list_one(&market), &format!("own-{number}")).unwrap();
    }
    market.set_faults(&["list-null".parse().unwrap()]);
    let ids: String = (0..8).map(|number| format!("&id=own-{number}")).collect();
    let trades = get(&market, "check-many-project-id", &ids)["trades"].clone();
    let trades = trades.as_array().unwrap();
    assert_eq!(trades.len(), 8);
    assert!(trades.iter().any(|trade| trade["project_id"].is_null()), "{trades:?}");
    market.set_faults(&["read-html".parse().unwrap()]);
    let answer = send(&market, "user", "").unwrap();
    assert_eq!((answer.status, answer.body.starts_with('<')), (200, true));
}

#[test]
fn the_trade_link_can_be_checked_and_a_wrong_key_is_rejected() {
    let market = open(still());
    let check = |link: &str| {
        let head = format!("POST /v1/check-tradelink?api={}", market.account().key);
        let body = json!({"tradelink": link}).to_string();
        Http::connect(market.address()).request(&head, "", &body).unwrap().json()["success"].clone()
    };
    let own = sniper::sim::repricing::server::AccountKeys::trade_url();
    assert_eq!((check(&own), check("https://example.invalid")), (json!(true), json!(false)));
    let wrong = Http::connect(market.address()).request("GET /v1/user?api=wrong", "", "");
    assert_eq!(wrong.unwrap().status, 403);
}
