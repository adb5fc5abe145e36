//! The scan for candidates with reference prices, on messages of the simulated market in the shape
//! of each query: it reads every price, and leaves no listing for later that would be ordered.
#![expect(clippy::unwrap_used, clippy::panic, reason = "an unexpected value fails the test")]

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::json;
use sniper::{
    config::Generation,
    domain::{
        money::{Amount, Percent},
        percent_rule::{CoinUsd, PercentRule, PriceReference, QuoteSide, ReferenceRule},
        time::UnixMs,
        trade::{Trade, TradeId},
        wanted_items::WantedItems,
        whitelist_entry::WhitelistEntry,
    },
    json::FromCursor as _,
    markets::{
        Scan,
        csgoroll::{feed::NextPayload, operations::subscriptions, scan::scan},
    },
    prices::{BookTable, Offer, PriceBook, PriceTable, Quote, RefPrice, wanted_items},
    protocol::{FeedMessage, FeedProtocol as _, GraphqlTransportWs, Incoming},
    sim::{
        ListedItem, SimSettings,
        catalogue::Catalogue,
        csgoroll::{
            feed::ProtocolSession,
            listing::{ALL_FIELDS, Listing, complete_listing},
            market::MarketEvent,
        },
    },
    whitelist::{Decision, PriceView, Whitelist},
};

const NOW: UnixMs = UnixMs(1_772_352_000_000);

/// An entry for every item at a share of the ask.
fn star(percent: i64) -> WhitelistEntry {
    let reference = PriceReference { source: "s".to_owned(), index: 0, side: Some(QuoteSide::Ask) };
    let rule = PercentRule {
        max_percent: Percent::from_hundredths(percent * 100),
        references: vec![reference],
        rule: ReferenceRule::Lowest,
        min_count: None,
        min_reference: None,
    };
    WhitelistEntry {
        max_price: Amount::from_cents(100_000_000),
        max_quantity: 1_000,
        percent: Some(rule),
        ..WhitelistEntry::default()
    }
}

fn items(defect_permille: u32) -> Vec<ListedItem> {
    let settings = SimSettings { defect_permille, ..SimSettings::default() };
    Catalogue::new(&settings).take(2_000).collect()
}

/// The price of the first listing of each item, in dollars of one coin each.
fn book(items: &[ListedItem]) -> PriceBook {
    let mut table = PriceTable::default();
    let mut seen = HashSet::new();
    for item in items.iter().filter(|item| seen.insert(&item.market_name)) {
        let micros = u64::try_from(item.total.thousandths()).unwrap() * 1_000;
        let ask = RefPrice::from_micros(micros).map(Offer::new);
        table.add(&item.market_name, None, Quote { ask, bid: None });
    }
    let max_age = Duration::from_secs(3_600);
    PriceBook::new(&[BookTable { table: Some(&table), at: NOW, max_age, coin: Some(CoinUsd::ONE) }])
}

/// The messages of these items for a subscription, with this number of listings in each event.
fn messages(items: &[ListedItem], query: &str, per_event: usize) -> Vec<String> {
    let mut session = ProtocolSession::new(false);
    session.receive(r#"{"type":"connection_init"}"#);
    let subscribe = json!({"id": "1", "type": "subscribe", "payload": { "query": query }});
    assert_eq!(session.receive(&subscribe.to_string()), []);
    let listing = |(number, item): (usize, &ListedItem)| {
        Arc::new(Listing {
            number: 500_000_000 + u64::try_from(number).unwrap(),
            item: Arc::new(item.clone()),
            created_at: NOW,
            updated_at: NOW,
            buyer: None,
            ..complete_listing()
        })
    };
    let listings: Vec<_> = items.iter().enumerate().map(listing).collect();
    let events = listings.chunks(per_event).map(|all| MarketEvent::Created(all.to_vec()));
    let replies = events.flat_map(|event| session.event_messages(&event));
    replies.map(|reply| reply.text().unwrap().to_owned()).collect()
}

/// The queries of the bot, and one for all fields as the site's own.
fn queries() -> Vec<String> {
    let [a, b] = [Generation::A, Generation::B]
        .map(|generation| subscriptions(generation).swap_remove(0).query);
    vec![a, b, format!("subscription {{ createTrades {{ trades {ALL_FIELDS} }} }}")]
}

fn read(text: &str) -> Vec<Trade<'_>> {
    match GraphqlTransportWs.read(FeedMessage::Text(text), NextPayload::from_cursor).unwrap() {
        Incoming::Data { payload, .. } => payload.into_trades().collect(),
        _ => panic!("not an event: {text}"),
    }
}

/// The result of a scan, and the listings that it found.
fn scanned(text: &str, wanted: &WantedItems) -> (Scan, Vec<TradeId>) {
    let (_, payload) = GraphqlTransportWs.peek_event(text.as_bytes()).unwrap();
    let mut found = Vec::new();
    let class = scan(payload, wanted, &mut |trade| found.push(trade.id));
    (class, found)
}

#[test]
fn each_price_is_read_and_a_listing_above_its_maximum_price_is_left_for_later() {
    let items = items(0);
    let book = book(&items);
    for percent in [80, 100] {
        let entries = [star(percent)];
        let wanted = wanted_items(&entries, &book, NOW);
        let whitelist = Whitelist::new(entries.to_vec());
        for query in queries() {
            let (mut matched, mut unwanted) = (0, 0);
            for text in messages(&items, &query, 1) {
                let [trade] = &read(&text)[..] else { panic!("not one listing: {text}") };
                let (class, _) = scanned(&text, &wanted);
                let decision = whitelist.decide_with(trade, PriceView::new(&book, NOW));
                // The base of a name with redundant spaces is not a part of the text.
                let is_early = wanted.wants(trade) || trade.market_name.contains("  ");
                let expected = if is_early { Scan::ReadNow } else { Scan::CanWait };
                assert_eq!(class, expected, "{text}");
                let is_matched = matches!(decision, Decision::Matched(_));
                assert!(is_early || !is_matched, "{text}");
                matched += usize::from(is_matched);
                unwanted += usize::from(!is_early);
            }
            assert!(matched > 100 && unwanted > 100, "{percent} %: {matched}, {unwanted}");
        }
    }
}

#[test]
fn of_batches_with_defects_each_listing_that_would_be_ordered_is_found_first() {
    let items = items(50);
    let book = book(&items);
    let entries = [star(90)];
    let wanted = wanted_items(&entries, &book, NOW);
    let whitelist = Whitelist::new(entries.to_vec());
    let (mut matched, mut found_first) = (0, 0);
    for text in queries().iter().skip(1).flat_map(|query| messages(&items, query, 20)) {
        let (class, found) = scanned(&text, &wanted);
        for trade in read(&text) {
            let decision = whitelist.decide_with(&trade, PriceView::new(&book, NOW));
            if let Decision::Matched(_) = decision {
                assert!(class == Scan::ReadNow || found.contains(&trade.id), "{text}");
                matched += 1;
            }
        }
        found_first += usize::from(class == Scan::CanWait && !found.is_empty());
    }
    assert!(matched > 100 && found_first > 20, "{matched}, {found_first}");
}

#[test]
fn nothing_is_allocated_for_unwanted_listings_with_an_entry_for_every_item() {
    let items = items(0);
    let book = book(&items);
    let entries = vec![star(1)];
    let wanted = wanted_items(&entries, &book, NOW);
    let whitelist = Whitelist::new(entries);
    let mut unwanted = 0;
    let texts = messages(&items, &queries()[1], 1);
    // The first use of the scan builds its tables.
    scanned(&texts[0], &wanted);
    for text in &texts {
        let trades = read(text);
        let single_spaced = !trades[0].market_name.contains("  ");
        let info = allocation_counter::measure(|| {
            let (_, payload) = GraphqlTransportWs.peek_event(text.as_bytes()).unwrap();
            let class = scan(payload, &wanted, &mut |trade| panic!("wanted: {trade:?}"));
            let decision = whitelist.decide_with(&trades[0], PriceView::new(&book, NOW));
            assert!(!matches!(decision, Decision::Matched(_)));
            assert_eq!(class == Scan::CanWait, single_spaced);
        });
        // The base of a name with redundant spaces is built, here and when the listing is read.
        assert!(info.count_total == 0 || !single_spaced, "{text}");
        unwanted += usize::from(single_spaced);
    }
    assert!(unwanted > 1_500, "{unwanted}");
}
