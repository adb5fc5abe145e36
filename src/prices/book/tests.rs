//! Tests of [`super`].

use super::*;
use crate::{
    domain::{money::Percent, percent_rule::QuoteSide},
    prices::value::{PriceUnit, RefPrice},
    whitelist::tests::{REDLINE, trade},
};

const NOW: UnixMs = UnixMs(1_772_352_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
const HALF: CoinUsd = match CoinUsd::from_ten_thousandths(5_000) {
    Some(coin) => coin,
    None => CoinUsd::ONE,
};

fn offer(price: &str) -> Offer {
    Offer::new(RefPrice::parse(price, PriceUnit::Whole).unwrap())
}

fn table(rows: &[(&str, Option<Offer>, Option<Offer>)]) -> PriceTable {
    let mut table = PriceTable::default();
    for (name, ask, bid) in rows {
        table.add(name, None, Quote { ask: *ask, bid: *bid });
    }
    table
}

fn of(table: &PriceTable) -> BookTable<'_> {
    BookTable { table: Some(table), at: NOW, max_age: HOUR, coin: Some(CoinUsd::ONE) }
}

fn rule(references: &[(usize, Option<QuoteSide>)], rule: ReferenceRule) -> PercentRule {
    let reference = |(index, side): &(usize, Option<QuoteSide>)| PriceReference {
        source: format!("s{index}"),
        index: *index,
        side: *side,
    };
    PercentRule {
        max_percent: Percent::from_hundredths(8_800),
        references: references.iter().map(reference).collect(),
        rule,
        min_count: None,
        min_reference: None,
    }
}

const ASK: Option<QuoteSide> = Some(QuoteSide::Ask);
const BID: Option<QuoteSide> = Some(QuoteSide::Bid);

/// The reference in coins, or the reason without one.
#[track_caller]
fn check(book: &PriceBook, rule: &PercentRule, now: UnixMs, expected: Result<&str, (usize, &str)>) {
    let found = book.reference(rule, &trade("a", REDLINE), now);
    let found = found.map(|found| found.in_coins().to_string());
    let found = found.map_err(|(position, reason)| (position, reason.to_string()));
    let found = found.as_ref().map(String::as_str).map_err(|(at, reason)| (*at, reason.as_str()));
    assert_eq!(found, expected);
}

#[test]
fn each_variant_has_its_own_price_or_none() {
    let table = table(&[
        (REDLINE, Some(offer("30")), Some(offer("28"))),
        ("StatTrak™ AK-47 | Redline (Field-Tested)", Some(offer("60")), None),
    ]);
    let book = PriceBook::new(&[of(&table)]);
    assert_eq!((book.len(), book.variants("AK-47 | Redline").count()), (2, 2));
    check(&book, &rule(&[(0, ASK)], ReferenceRule::Lowest), NOW, Ok("30.00"));
    check(&book, &rule(&[(0, BID)], ReferenceRule::Lowest), NOW, Ok("28.00"));
    let none = rule(&[(0, ASK)], ReferenceRule::Lowest);
    for name in [
        "Souvenir AK-47 | Redline (Field-Tested)",
        "AK-47 | Redline (Minimal Wear)",
        "AK-47 | Redline",
        "AK-47 | Slate (Field-Tested)",
    ] {
        let found = book.reference(&none, &trade("a", name), NOW);
        assert_eq!(found, Err((0, NoReference::NoPrice)), "{name}");
    }
    let stattrak = trade("a", "StatTrak™ AK-47 | Redline (Field-Tested)");
    assert_eq!(
        book.reference(&none, &stattrak, NOW).unwrap().in_coins(),
        Amount::from_cents(6_000)
    );
}

#[test]
fn a_listing_in_decomposed_form_finds_the_price_of_the_composed_name() {
    let table = table(&[("Desert Eagle | J\u{f6}rmungandr (Factory New)", Some(offer("9")), None)]);
    let book = PriceBook::new(&[of(&table)]);
    let rule = rule(&[(0, ASK)], ReferenceRule::Lowest);
    for name in ["J\u{f6}rmungandr", "Jo\u{308}rmungandr"] {
        let listing = trade("a", &format!("Desert Eagle | {name} (Factory New)"));
        let found = book.reference(&rule, &listing, NOW).unwrap();
        assert_eq!(found.in_coins(), Amount::from_cents(900), "{name}");
    }
    let other = trade("a", "Desert Eagle | Jormungandr (Factory New)");
    assert_eq!(book.reference(&rule, &other, NOW), Err((0, NoReference::NoPrice)));
}

#[test]
fn the_default_side_is_the_bid_of_a_source_that_has_any() {
    let rule = rule(&[(0, None)], ReferenceRule::Lowest);
    let asks = table(&[(REDLINE, Some(offer("30")), None)]);
    check(&PriceBook::new(&[of(&asks)]), &rule, NOW, Ok("30.00"));
    let bids = table(&[(REDLINE, Some(offer("30")), None), ("x", None, Some(offer("1")))]);
    let none = (0, "has no price for this item");
    check(&PriceBook::new(&[of(&bids)]), &rule, NOW, Err(none));
}

#[test]
fn of_several_references_the_rule_chooses_and_each_must_have_a_price() {
    let dear = table(&[(REDLINE, Some(offer("30")), None)]);
    let cheap = table(&[(REDLINE, Some(offer("20")), None)]);
    let empty = table(&[("x", Some(offer("1")), None)]);
    let book = PriceBook::new(&[of(&dear), of(&cheap), of(&empty)]);
    let both = [(0, ASK), (1, ASK)];
    check(&book, &rule(&both, ReferenceRule::Lowest), NOW, Ok("20.00"));
    check(&book, &rule(&both, ReferenceRule::Highest), NOW, Ok("30.00"));
    check(&book, &rule(&both, ReferenceRule::First), NOW, Ok("30.00"));
    let with_empty = [(2, ASK), (1, ASK), (0, ASK)];
    let none = (0, "has no price for this item");
    check(&book, &rule(&with_empty, ReferenceRule::Lowest), NOW, Err(none));
    check(&book, &rule(&with_empty, ReferenceRule::Highest), NOW, Err(none));
    check(&book, &rule(&with_empty, ReferenceRule::First), NOW, Ok("20.00"));
    check(&book, &rule(&[(2, ASK), (9, ASK)], ReferenceRule::First), NOW, Err(none));
}

#[test]
fn references_in_coins_and_in_dollars_are_compared_by_their_value() {
    let usd = table(&[(REDLINE, Some(offer("10")), None)]);
    let coins = table(&[(REDLINE, Some(offer("15")), None)]);
    let book = PriceBook::new(&[BookTable { coin: Some(HALF), ..of(&usd) }, of(&coins)]);
    check(&book, &rule(&[(0, ASK)], ReferenceRule::Lowest), NOW, Ok("20.00"));
    check(&book, &rule(&[(0, ASK), (1, ASK)], ReferenceRule::Lowest), NOW, Ok("15.00"));
    check(&book, &rule(&[(0, ASK), (1, ASK)], ReferenceRule::Highest), NOW, Ok("20.00"));
}

#[test]
fn a_price_beyond_its_maximum_age_is_none() {
    let stated = offer("20").with_time(Some(NOW.minus(HOUR / 2)));
    let table = table(&[(REDLINE, Some(offer("30")), Some(stated))]);
    let book = PriceBook::new(&[of(&table)]);
    let (ask, bid) =
        (rule(&[(0, ASK)], ReferenceRule::First), rule(&[(0, BID)], ReferenceRule::First));
    check(&book, &ask, NOW.plus(HOUR), Ok("30.00"));
    let late = NOW.plus(HOUR + Duration::from_secs(60));
    check(&book, &ask, late, Err((0, "is 1 h 1 min old, more than 1 h 0 min")));
    check(&book, &bid, NOW.plus(HOUR / 2), Ok("20.00"));
    assert!(book.reference(&bid, &trade("a", REDLINE), NOW.plus(HOUR)).is_err());
    let source = book.sources()[0];
    assert!(!source.is_stale(NOW.plus(HOUR / 2)) && source.is_stale(NOW.plus(HOUR)));
    let before = NOW.minus(HOUR);
    check(&book, &ask, before, Err((0, "has prices from the future; check the clock")));
    assert!(book.sources()[0].is_stale(before) && book.sources()[0].is_ahead(before));
}

#[test]
fn a_source_is_as_old_as_the_newest_price_of_its_older_side() {
    let at = |minutes: u32| offer("20").with_time(Some(NOW.minus(HOUR * minutes / 60)));
    let rows = [(REDLINE, Some(at(5)), Some(at(50))), ("x", Some(at(30)), Some(at(40)))];
    let table = table(&rows);
    let source = BookSource::of(&of(&table));
    assert_eq!((source.at, source.newest), (NOW, NOW.minus(HOUR * 40 / 60)));
    assert!(!source.is_stale(NOW.plus(HOUR / 3)), "the bids are an hour old");
    assert!(source.is_stale(NOW.plus(HOUR / 3 + Duration::from_millis(1))));
    let mixed = self::table(&[rows[0], ("y", None, Some(offer("1")))]);
    assert_eq!(BookSource::of(&of(&mixed)).newest, NOW.minus(HOUR * 5 / 60));
}

#[test]
fn prices_in_dollars_are_no_reference_without_the_value_of_a_coin() {
    let table = table(&[(REDLINE, Some(offer("30")), None)]);
    let book = PriceBook::new(&[BookTable { coin: None, ..of(&table) }]);
    let book = book.with_resale(Some(Resale { source: 0, fee: Percent::default() }));
    let rule = rule(&[(0, ASK)], ReferenceRule::Lowest);
    let reason = "has prices in USD; add `coin_usd` below [prices]";
    check(&book, &rule, NOW, Err((0, reason)));
    assert_eq!(book.margin(&trade("a", REDLINE), NOW), None);
    let quotes = book.quotes(&ItemKey::of_trade(&trade("a", REDLINE))).unwrap();
    assert_eq!(book.max_price(&rule, quotes, NOW), None);
}

#[test]
fn a_source_without_a_table_gives_no_reference() {
    let missing = BookTable { table: None, at: NOW, max_age: HOUR, coin: Some(CoinUsd::ONE) };
    let book = PriceBook::new(&[missing]);
    let none = (0, "has no prices yet");
    check(&book, &rule(&[(0, ASK)], ReferenceRule::Lowest), NOW, Err(none));
    check(&PriceBook::default(), &rule(&[(0, ASK)], ReferenceRule::Lowest), NOW, Err(none));
}

#[test]
fn offers_and_references_below_their_minimum_give_no_reference() {
    let counted = offer("20").with_count(Some(4));
    let table = table(&[(REDLINE, Some(counted), Some(offer("18")))]);
    let book = PriceBook::new(&[of(&table)]);
    let min = |side, count| PercentRule {
        min_count: Some(count),
        ..rule(&[(0, side)], ReferenceRule::First)
    };
    check(&book, &min(ASK, 4), NOW, Ok("20.00"));
    check(&book, &min(ASK, 5), NOW, Err((0, "has 4 offers, fewer than 5")));
    let unknown = "states no number of offers, which `min_count` needs";
    check(&book, &min(BID, 1), NOW, Err((0, unknown)));
    let at_least = |cents| PercentRule {
        min_reference: Some(Amount::from_cents(cents)),
        ..rule(&[(0, ASK)], ReferenceRule::Lowest)
    };
    check(&book, &at_least(2_000), NOW, Ok("20.00"));
    check(&book, &at_least(2_001), NOW, Err((0, "is 20.00, below 20.01")));
}

#[test]
fn a_book_of_a_whole_market_with_five_sources_stays_within_its_memory() {
    let name = |number: usize| format!("Sticker | Example Number {number} (Holo) | Somewhere 2026");
    let mut whole = PriceTable::default();
    for number in 0..30_000 {
        whole.add(&name(number), None, Quote { ask: Some(offer("2")), bid: Some(offer("1")) });
    }
    let info = allocation_counter::measure(|| {
        let book = PriceBook::new(&[of(&whole); 5]);
        std::mem::forget(book);
    });
    let bytes = info.bytes_current;
    assert!((1 << 20..24 << 20).contains(&bytes), "{bytes} bytes");
}
