//! Tests of the comparison with today's prices.

use super::*;
use crate::{
    domain::outcome::{Outcome, RejectReason},
    domain::trade::{Trade, TradeStatus},
    ledger::{
        AccountReading, Ledger, OwnTrade,
        entries::tests::entry,
        tests::{T0, UNKNOWN, after, budget, id, order_request},
    },
    prices::{
        BookTable, Offer, PriceTable, Quote, RefPrice,
        book::{Resale, SourceLabel},
    },
    whitelist::tests::trade,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// One source with an ask of 10 dollars for the first item, at the time 0; a coin is half a dollar.
fn book() -> PriceBook {
    let offer = Offer::new(RefPrice::from_micros(10_000_000).unwrap());
    let mut table = PriceTable::default();
    table.add("AK-47 | Redline (Field-Tested)", None, Quote { ask: Some(offer), bid: None });
    let coin = CoinUsd::from_ten_thousandths(5_000);
    let at = after(0);
    let label = SourceLabel { name: "buff".into(), currency: PriceCurrency::Usd };
    let resale = Resale { source: 0, fee: Percent::from_hundredths(250) };
    PriceBook::new(&[BookTable { table: Some(&table), at, max_age: HOUR, coin }])
        .with_labels([label].into_iter())
        .with_resale(Some(resale))
}

fn quote() -> ResaleQuote {
    ResaleQuote {
        source: "buff".to_owned(),
        index: 0,
        side: QuoteSide::Ask,
        fee: Percent::from_hundredths(250),
        coin_usd: CoinUsd::from_ten_thousandths(5_000),
        priced_at: Some(after(0)),
        max_age: HOUR,
    }
}

/// A ledger with orders of 10 coins: 1 and 2 bought, 3 delivered, 4 cancelled, 5 rejected, 6
/// unknown, 7 and 8 bought.
fn ledger() -> Ledger {
    let mut ledger = Ledger::in_memory(budget(), &[entry(None)], false);
    for n in 1..=8 {
        let outcome = match n {
            5 => Outcome::Rejected(RejectReason::Taken),
            6 => UNKNOWN,
            _ => Outcome::Bought { price: None, server_time: None },
        };
        let approved = ledger.reserve(order_request(n, 10), after(1)).unwrap();
        ledger.sent(approved.key(), after(1)).unwrap();
        let _effects = ledger.settle(approved.key(), &outcome, after(1)).unwrap();
    }
    let listed = [(3, TradeStatus::Completed), (4, TradeStatus::Cancelled)]
        .map(|(n, status)| OwnTrade { joined_at: Some(T0), ..OwnTrade::bare(id(n), status) });
    let reading = AccountReading { trades: &listed, complete: true, started: after(2) };
    let _effects = ledger.reconcile(&reading, None, after(2));
    ledger
}

fn profit(ledger: &Ledger, now: UnixMs) -> Profit {
    let item = |name: &str| OrderedItem { name: name.to_owned(), ..OrderedItem::default() };
    let items = ledger.state().intents().iter().filter_map(|order| {
        let name = match order.id.as_str() {
            "listing-7" => "Fracture\u{1b}[2J Case",
            "listing-8" => return None,
            _ => "AK-47 | Redline (Field-Tested)",
        };
        Some((order.sequence, item(name)))
    });
    let orders = ledger.state().intents().iter();
    let profit = Profit { quote: quote(), now, since: None, totals: Totals::default() };
    profit.with_orders(orders, &items.collect(), &book())
}

#[test]
fn bought_and_delivered_items_are_compared_with_the_price_after_the_fee() {
    let ledger = ledger();
    assert_eq!(ledger.state().intent(&id(3)).unwrap().state, OrderState::Completed);
    let profit = profit(&ledger, after(60));
    // An ask of 20 coins, less 2.5 %.
    let json = profit.to_json();
    assert_eq!((&json["count"], &json["paid"]), (&5.into(), &"50.00".into()));
    let compared = &json["compared"];
    assert_eq!((&compared["count"], &compared["paid"]), (&3.into(), &"30.00".into()));
    assert_eq!((&compared["worth"], &compared["difference"]), (&"58.50".into(), &"28.50".into()));
    assert_eq!(compared["difference_percent"], "95.00");
    assert_eq!(compared["bought"]["count"], 2);
    assert_eq!(compared["delivered"]["worth"], "19.50");
    assert_eq!(json["without_price"]["items"][0]["item"], "Fracture\u{1b}[2J Case");
    assert_eq!(json["without_name"]["count"], 1);
    for excluded in ["returning", "unknown"] {
        assert_eq!(json["excluded"][excluded]["count"], 1, "{excluded}");
    }
    assert_eq!(json["excluded"]["returned"]["count"], 0);
    assert_eq!((&json["coin_usd"], &json["unit"]), (&"0.50".into(), &"coins".into()));
    assert_eq!(json["prices"]["stale"], false);
    let text = profit.to_string();
    for part in [
        "Bought: 5 orders for 50.00 coins\n",
        "total               3        30.00        58.50       +28.50  +95.00 %\n",
        "Worth now: the lowest ask of buff, less a fee of 2.50 %; 1 coin = 0.50 USD.\n",
        "The prices are 1 min 0 s old.\n",
        "1 order for 10.00 coins, without a price today: \"Fracture\\u{1b}[2J Case\"\n",
        "1 order for 10.00 coins, whose items are not in the ledger\n",
        "1 order for 10.00 coins, cancelled, counted as spent until the balance shows the refund\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_doppler_is_worth_the_price_of_its_own_phase_or_has_none() {
    let ledger = ledger();
    let order = ledger.state().intent(&id(1)).unwrap();
    let name = "★ Karambit | Doppler (Factory New)";
    let trade = Trade { item: "Karambit | Ruby".into(), ..trade("a", name) };
    let item = OrderedItem { name: trade.full_name().into_owned(), ..OrderedItem::default() };
    let mut table = PriceTable::default();
    for (priced, micros, worth) in [
        (name, 1_000_000, None),
        ("★ Karambit | Doppler Phase 2 (Factory New)", 1_000_000, None),
        ("★ Karambit | Doppler Ruby (Factory New)", 10_000_000, Some("19.50")),
    ] {
        let ask = RefPrice::from_micros(micros).map(Offer::new);
        table.add(priced, None, Quote { ask, bid: None });
        let coin = CoinUsd::from_ten_thousandths(5_000);
        let table = BookTable { table: Some(&table), at: after(0), max_age: HOUR, coin };
        let now = after(60);
        let mut profit = Profit { quote: quote(), now, since: None, totals: Totals::default() };
        profit.add_bought(order, Some(&item), &PriceBook::new(&[table]));
        let valued = profit.totals.bought;
        let found = (valued.paid.count > 0).then(|| valued.market_value.to_string());
        assert_eq!(found.as_deref(), worth, "{priced}");
    }
}

#[test]
fn prices_that_are_too_old_are_reported() {
    let late = profit(&ledger(), after(3_601));
    assert_eq!((late.totals.stale, late.quote.is_stale(late.now)), (3, true));
    assert_eq!(late.to_json()["prices"]["stale"], true);
    let text = late.to_string();
    assert!(text.contains("The prices are too old: 1 h 0 min, limit 1 h 0 min; run"), "{text}");
    let quote = ResaleQuote { priced_at: None, ..quote() };
    let none = Profit { quote, ..late };
    assert!(none.to_string().contains("There are no prices of buff yet"), "{none}");
}

#[test]
fn a_doppler_of_unknown_phase_is_not_valued_at_the_price_of_another_phase() {
    const DOPPLER: &str = "★ Karambit | Doppler (Factory New)";
    let offer = Offer::new(RefPrice::from_micros(10_000_000).unwrap());
    let mut table = PriceTable::default();
    table.add(DOPPLER, None, Quote { ask: Some(offer), bid: None });
    let coin = Some(CoinUsd::ONE);
    let source = BookTable { table: Some(&table), at: after(0), max_age: HOUR, coin };
    let (ledger, book) = (ledger(), PriceBook::new(&[source]));
    let item = OrderedItem { name: DOPPLER.to_owned(), ..OrderedItem::default() };
    let orders = ledger.state().intents();
    let items = orders.iter().map(|order| (order.sequence, item.clone())).collect();
    let profit = Profit { quote: quote(), now: after(60), since: None, totals: Totals::default() };
    let profit = profit.with_orders(orders.iter(), &items, &book);
    assert_eq!((profit.totals.valued(), profit.totals.unpriced.count), (Valued::default(), 5));
    assert_eq!(profit.to_json()["without_price"]["items"][0]["phase_unknown"], true);
    let line =
        "without a price today: 5 × \"★ Karambit | Doppler (Factory New)\" (phase unknown)\n";
    assert!(profit.to_string().contains(line), "{profit}");
}

#[test]
fn the_names_of_items_without_a_price_are_bounded() {
    let mut profit = profit(&ledger(), after(60));
    for n in 0..50 {
        profit.totals.unpriced.add(Amount::ZERO);
        profit.totals.unpriced_items.insert(format!("item {n:02}"), 2);
    }
    let text = profit.to_string();
    assert!(text.contains("2 × \"item 08\" and 41 more items\n"), "{text}");
    assert!(!text.contains("item 09"), "{text}");
    assert_eq!(profit.to_json()["without_price"]["items"].as_array().unwrap().len(), NAMES_MAX);
}

#[test]
fn losses_are_negative_and_rounded_down() {
    let paid = OrderTotal { count: 1, coins: Amount::from_thousandths(30_000) };
    let of = |market_value| {
        let market_value = Amount::from_thousandths(market_value);
        let valued = Valued { paid, market_value };
        (signed(&valued.unrealized_pnl()), valued.percent().map(|percent| signed(&percent)))
    };
    assert_eq!(of(29_999), ("-0.001".to_owned(), Some("-0.01".to_owned())));
    assert_eq!(of(30_000), ("0.00".to_owned(), Some("0.00".to_owned())));
    assert_eq!(of(30_001), ("+0.001".to_owned(), Some("0.00".to_owned())));
    assert_eq!(Valued::default().percent(), None);
}
