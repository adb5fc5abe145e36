//! Tests of [`super`], and the listing and entry that tests of other modules use.

use std::{borrow::Cow, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    config::prices::{PricesConfig, SourceCurrency},
    domain::item_filter::{CategorySet, NamePattern},
    domain::item_name::{ItemName, Wear},
    domain::money::{Amount, Percent},
    domain::percent_rule::{CoinUsd, PriceReference, QuoteSide, ReferenceRule},
    domain::time::UnixMs,
    domain::trade::{Defect, Defects, PaintWear, TradeEvent, TradeId, TradeStatus},
    prices::{
        BookTable, Offer, PriceTable, PriceUnit, Quote, RefPrice, SourceKind, book::Resale,
        parse::parse,
    },
};

/// Returns an eligible listing at 10.15 coins, 1.5 % over 10.00.
pub(crate) fn trade(id: &str, market_name: &str) -> Trade<'static> {
    let name = ItemName::parse(market_name);
    Trade {
        id: TradeId::new(id).unwrap(),
        event: TradeEvent::Listed,
        status: TradeStatus::Listed,
        item: Cow::Owned(name.base.into_owned()),
        is_stattrak: name.is_stattrak,
        is_souvenir: name.is_souvenir,
        wear: name.wear,
        rarity: None,
        market_name: Cow::Owned(market_name.to_owned()),
        items: 1,
        markup_percent: Some(Percent::from_hundredths(150)),
        total_value: Some(Amount::from_cents(1_015)),
        base_value: Some(Amount::from_cents(1_000)),
        can_join: Some(true),
        can_join_after: None,
        suspected_trader_can_join_after: None,
        created_at: Some(UnixMs(1_000_000)),
        expires_at: Some(UnixMs(1_000_000 + 172_800_000)),
        float: PaintWear::parse("0.2"),
        float_range: None,
        is_own: false,
        defects: Defects::NONE,
        arrival: None,
    }
}

/// Returns an entry for the Redline of any wear, up to 12.50 coins and 2 % markup.
pub(crate) fn entry() -> WhitelistEntry {
    WhitelistEntry {
        item: ItemPattern::Named("AK-47 | Redline".to_owned()),
        max_price: Amount::from_cents(1_250),
        max_markup: Some(Percent::from_hundredths(200)),
        max_quantity: 1,
        ..WhitelistEntry::default()
    }
}

pub(crate) const REDLINE: &str = "AK-47 | Redline (Field-Tested)";

#[track_caller]
fn check(entry: WhitelistEntry, trade: &Trade<'_>, expected: Option<&str>) {
    let reason = match Whitelist::new(vec![entry]).decide(trade) {
        Decision::Matched(0) => None,
        Decision::Mismatched { entry: 0, mismatch } => Some(mismatch.to_string()),
        other => Some(format!("{other:?}")),
    };
    assert_eq!(reason.as_deref(), expected);
}

fn float(text: &str) -> Option<PaintWear> {
    Some(PaintWear::parse(text).unwrap())
}

#[test]
fn a_listing_that_meets_every_condition_matches() {
    check(entry(), &trade("a", REDLINE), None);
    let bounds = WhitelistEntry {
        wears: WearSet::ANY.with(Wear::FieldTested),
        float_min: float("0.2"),
        float_max: float("0.2"),
        min_price: Amount::from_cents(1_015),
        max_price: Amount::from_cents(1_015),
        max_markup: Some(Percent::from_hundredths(150)),
        ..entry()
    };
    check(bounds, &trade("a", REDLINE), None);
}

#[test]
fn each_mismatch_names_its_value_and_bound() {
    let redline = trade("a", REDLINE);
    let expensive = WhitelistEntry { max_price: Amount::from_cents(1_014), ..entry() };
    check(expensive, &redline, Some("price 10.15 is above 10.14"));
    let cheap = WhitelistEntry { min_price: Amount::from_cents(1_016), ..entry() };
    check(cheap, &redline, Some("price 10.15 is below 10.16"));
    let markup = WhitelistEntry { max_markup: Some(Percent::from_hundredths(149)), ..entry() };
    check(markup, &redline, Some("markup 1.50% is above 1.49%"));
    let wear = WhitelistEntry { wears: WearSet::ANY.with(Wear::FactoryNew), ..entry() };
    check(wear, &redline, Some("wear Field-Tested is not among FN"));
    check(entry(), &trade("a", "StatTrak™ AK-47 | Redline (Field-Tested)"), Some("is StatTrak™"));
    check(entry(), &trade("a", "Souvenir AK-47 | Redline (Field-Tested)"), Some("is a Souvenir"));
    let stattrak = WhitelistEntry { stattrak: true, ..entry() };
    check(stattrak, &redline, Some("is not StatTrak™"));
}

#[test]
fn a_market_without_markup_matches_only_entries_without_a_bound_on_it() {
    let listing = || Trade { markup_percent: None, base_value: None, ..trade("a", REDLINE) };
    check(entry(), &listing(), Some("this market states no markup"));
    check(WhitelistEntry { max_markup: None, ..entry() }, &listing(), None);
    check(WhitelistEntry { max_markup: None, ..entry() }, &trade("a", REDLINE), None);
}

#[test]
fn a_float_bound_rejects_unknown_floats_and_ranges_that_cross_it() {
    let bound = || WhitelistEntry { float_min: float("0.15"), float_max: float("0.22"), ..entry() };
    let with = |float, float_range| Trade { float, float_range, ..trade("a", REDLINE) };
    check(bound(), &with(float("0.15"), None), None);
    check(bound(), &with(float("0.221"), None), Some("float 0.221 is above 0.22"));
    check(bound(), &with(float("0.149"), None), Some("float 0.149 is below 0.15"));
    check(bound(), &with(None, None), Some("float is unknown"));
    check(bound(), &with(None, float("0.15").zip(float("0.22"))), None);
    check(bound(), &with(None, float("0.15").zip(float("0.23"))), Some("float 0.23 is above 0.22"));
    check(bound(), &with(None, float("0.14").zip(float("0.20"))), Some("float 0.14 is below 0.15"));
    check(entry(), &with(None, None), None);
}

#[test]
fn an_item_without_wear_needs_an_entry_for_any_wear() {
    let knife = || WhitelistEntry { item: ItemPattern::Named("Ursus Knife".to_owned()), ..entry() };
    check(knife(), &trade("a", "★ Ursus Knife"), None);
    let worn = WhitelistEntry { wears: WearSet::ANY.with(Wear::FieldTested), ..knife() };
    check(worn, &trade("a", "★ Ursus Knife"), Some("wear none is not among FT"));
}

#[test]
fn only_back_filled_listings_can_be_too_old() {
    let fresh = || WhitelistEntry { max_age: Some(Duration::from_secs(30)), ..entry() };
    let aged = |seconds| Trade {
        event: TradeEvent::BackFilled { age: Duration::from_secs(seconds) },
        ..trade("a", REDLINE)
    };
    check(fresh(), &trade("a", REDLINE), None);
    check(fresh(), &aged(30), None);
    check(fresh(), &aged(31), Some("age 31s is above 30s"));
    check(entry(), &aged(1_000_000), None);
}

#[test]
fn the_first_matching_entry_wins_wildcards_included() {
    let any = || WhitelistEntry { item: ItemPattern::Any, ..entry() };
    let too_cheap = || WhitelistEntry { max_price: Amount::from_cents(1), ..entry() };
    let decide = |entries| Whitelist::new(entries).decide(&trade("a", REDLINE));
    assert_eq!(decide(vec![entry(), entry()]), Decision::Matched(0));
    assert_eq!(decide(vec![too_cheap(), any(), entry()]), Decision::Matched(1));
    assert_eq!(decide(vec![too_cheap(), entry(), any()]), Decision::Matched(1));
    let other = Whitelist::new(vec![entry(), any()]).decide(&trade("a", "Fracture Case"));
    assert_eq!(other, Decision::Matched(1));
}

#[test]
fn an_item_that_no_entry_names_is_not_listed() {
    let verdict = Whitelist::new(vec![entry()]).decide(&trade("a", "Fracture Case"));
    assert_eq!(verdict, Decision::NoEntry);
}

#[test]
fn an_unreadable_listing_never_matches() {
    let whitelist = Whitelist::new(vec![WhitelistEntry { item: ItemPattern::Any, ..entry() }]);
    for defect in Defect::ALL {
        let mut listing = trade("a", REDLINE);
        listing.defects.add(defect);
        assert!(matches!(whitelist.decide(&listing), Decision::Unreadable(_)), "{defect:?}");
    }
    let without_price = Trade { total_value: None, ..trade("a", REDLINE) };
    assert!(matches!(whitelist.decide(&without_price), Decision::Unreadable(_)));
}

/// Decides as a reference implementation that compares every entry in turn.
fn linear_scan(entries: &[WhitelistEntry], trade: &Trade<'_>) -> Option<usize> {
    entries.iter().position(|entry| {
        let about = match &entry.item {
            ItemPattern::Any => true,
            ItemPattern::Named(item) => *item == trade.item,
        };
        about && mismatch(entry, trade, trade.total_value.unwrap(), PriceView::NONE).is_none()
    })
}

proptest! {
    #[test]
    fn the_index_agrees_with_a_linear_scan(
        entries in prop::collection::vec(
            (prop::sample::select(vec!["*", "a", "b", "c"]), 0_i64..4, any::<bool>()),
            0..12,
        ),
        item in prop::sample::select(vec!["a", "b", "d"]),
        price in 0_i64..4,
    ) {
        let entries: Vec<WhitelistEntry> = entries.into_iter().map(|(item, max, stattrak)| WhitelistEntry {
            item: if item == "*" { ItemPattern::Any } else { ItemPattern::Named(item.to_owned()) },
            max_price: Amount::from_cents(max),
            stattrak,
            ..entry()
        }).collect();
        let trade = Trade { total_value: Some(Amount::from_cents(price)), ..trade("x", item) };
        let found = match Whitelist::new(entries.clone()).decide(&trade) {
            Decision::Matched(index) => Some(index),
            _ => None,
        };
        prop_assert_eq!(found, linear_scan(&entries, &trade));
    }
}

fn book() -> PriceBook {
    book_at(UnixMs(0))
}

/// Returns a book with one source: 10 dollars for the Redline as ask, and 9 as bid, at this time. A
/// coin is worth half a dollar.
pub(crate) fn book_at(at: UnixMs) -> PriceBook {
    let offer = |micros| Offer::new(RefPrice::from_micros(micros).unwrap()).with_count(Some(3));
    let mut table = PriceTable::default();
    let quote = Quote { ask: Some(offer(10_000_000)), bid: Some(offer(9_000_000)) };
    table.add(REDLINE, None, quote);
    table.add("★ Karambit | Doppler (Factory New)", None, quote);
    let coin = CoinUsd::from_ten_thousandths(5_000);
    let max_age = Duration::from_secs(60);
    PriceBook::new(&[BookTable { table: Some(&table), at, max_age, coin }])
}

/// Returns an entry for every item that allows 80 % of the ask, which is 16 coins, up to 50 coins.
pub(crate) fn percent_entry() -> WhitelistEntry {
    let reference =
        PriceReference { source: "buff".to_owned(), index: 0, side: Some(QuoteSide::Ask) };
    let rule = PercentRule {
        max_percent: Percent::from_hundredths(8_000),
        references: vec![reference],
        rule: ReferenceRule::Lowest,
        min_count: None,
        min_reference: None,
    };
    WhitelistEntry {
        item: ItemPattern::Any,
        max_price: Amount::from_cents(5_000),
        max_markup: None,
        percent: Some(rule),
        ..entry()
    }
}

/// Decides about a listing at this price and time; `None` is a match.
#[track_caller]
fn check_percent(
    entry: &WhitelistEntry,
    (name, cents, now): (&str, i64, i64),
    expected: Option<&str>,
) {
    let whitelist = Whitelist::new(vec![entry.clone()]);
    let mut trade = trade("a", name);
    trade.total_value = Some(Amount::from_cents(cents));
    let book = book();
    let reason = match whitelist.decide_with(&trade, PriceView::new(&book, UnixMs(now))) {
        Decision::Matched(0) => None,
        Decision::Mismatched { entry, mismatch } => Some(whitelist.reason(entry, &mismatch)),
        other => Some(format!("{other:?}")),
    };
    assert_eq!(reason.as_deref(), expected);
}

#[test]
fn a_percent_rule_matches_up_to_its_bound_and_no_further() {
    let entry = percent_entry();
    check_percent(&entry, (REDLINE, 1_599, 0), None);
    check_percent(&entry, (REDLINE, 1_600, 0), None);
    let above = "16.01 = 80.1 % of buff.ask 20.00, above 80.00 %";
    check_percent(&entry, (REDLINE, 1_601, 0), Some(above));
}

/// Parses the same price in the unit of each source, and decides just below and above the bound:
/// 88 % of 4.35 dollars at 0.65 dollars a coin are 5.8892… coins.
#[test]
fn each_source_s_own_unit_is_decided_exactly_beside_the_bound() {
    let item = r#""AK-47 | Redline (Field-Tested)""#;
    let buff = SourceKind::parse("csgotrader-buff163").unwrap();
    let files = [
        (
            buff,
            PriceUnit::Whole,
            format!(
                r#"{{{item}:{{"starting_at":{{"price":4.35}},"highest_order":{{"price":null}}}}}}"#
            ),
        ),
        (
            SourceKind::CsFloat,
            PriceUnit::Cents,
            format!(r#"[{{"market_hash_name":{item},"min_price":435,"quantity":9}}]"#),
        ),
        (
            SourceKind::Waxpeer,
            PriceUnit::Mills,
            format!(r#"{{"success":true,"items":[{{"name":{item},"count":12,"min":4350}}]}}"#),
        ),
        (
            SourceKind::LisSkins,
            PriceUnit::Whole,
            format!(r#"[{{"name":{item},"price":4.35,"unlocked_price":null,"count":7}}]"#),
        ),
        (
            SourceKind::MarketCsgo,
            PriceUnit::Whole,
            format!(
                r#"{{"success":true,"time":1772352000,"currency":"USD","items":[{{"market_hash_name":{item},"volume":"4","price":"4.350"}}]}}"#
            ),
        ),
        (
            SourceKind::Skinport,
            PriceUnit::Whole,
            format!(
                r#"[{{"market_hash_name":{item},"currency":"USD","min_price":4.35,"quantity":9}}]"#
            ),
        ),
        (
            SourceKind::Pricempire,
            PriceUnit::Cents,
            format!(
                r#"[{{"market_hash_name":{item},"prices":[{{"provider_key":"buff163","price":435}}]}}]"#
            ),
        ),
        (SourceKind::File, PriceUnit::Cents, format!("name,ask\n{item},435\n")),
        (SourceKind::File, PriceUnit::Whole, format!("name,ask\n{item},4.35\n")),
    ];
    for (kind, unit, text) in files {
        let table = parse(kind, unit, text.as_bytes()).unwrap();
        let coin = CoinUsd::from_ten_thousandths(6_500);
        let max_age = Duration::from_secs(60);
        let at = UnixMs(0);
        let book = PriceBook::new(&[BookTable { table: Some(&table), at, max_age, coin }]);
        check_bound(&book, &format!("{kind:?} {unit:?}"));
    }
}

/// Decides beside the bound of 88 % of the Redline's ask, which is 5.889 coins.
#[track_caller]
fn check_bound(book: &PriceBook, what: &str) {
    let mut entry = percent_entry();
    entry.percent.as_mut().unwrap().max_percent = Percent::from_hundredths(8_800);
    let whitelist = Whitelist::new(vec![entry]);
    for (thousandths, expected) in
        [(5_880, true), (5_889, true), (5_890, false), (5_899, false), (5_900, false)]
    {
        let total_value = Some(Amount::from_thousandths(thousandths));
        let listing = Trade { total_value, ..trade("a", REDLINE) };
        let decision = whitelist.decide_with(&listing, PriceView::new(book, UnixMs(0)));
        let is_match = matches!(decision, Decision::Matched(0));
        assert_eq!(is_match, expected, "{thousandths} by {what}: {decision:?}");
    }
}

/// 88 % of 6.693 coins are 5.8898… coins, too.
#[test]
fn each_unit_of_an_own_file_is_decided_exactly_beside_the_bound() {
    for (currency, price) in [
        (SourceCurrency::Usd, "4.35"),
        (SourceCurrency::UsdCents, "435"),
        (SourceCurrency::Coins, "6.693"),
    ] {
        let coin_usd = CoinUsd::from_ten_thousandths(6_500);
        let prices = PricesConfig { coin_usd, is_in_coins: true, ..PricesConfig::default() };
        let prices = prices.with_file("p.csv".into(), currency);
        let text = format!("name,ask\n{REDLINE},{price}\n");
        let unit = prices.sources[0].unit();
        let table = parse(SourceKind::File, unit, text.as_bytes()).unwrap();
        check_bound(&prices.book(&[Some((&table, UnixMs(0)))]), currency.as_str());
    }
}

#[test]
fn the_absolute_maximum_price_is_honored_before_the_percent_rule() {
    let entry = WhitelistEntry { max_price: Amount::from_cents(1_000), ..percent_entry() };
    check_percent(&entry, (REDLINE, 1_001, 0), Some("price 10.01 is above 10.00"));
    // The maximum price is named although the item has no price either.
    check_percent(&entry, ("Fracture Case", 1_001, 0), Some("price 10.01 is above 10.00"));
    check_percent(&entry, (REDLINE, 1_000, 0), None);
}

#[test]
fn each_reason_about_such_an_item_shows_the_share_of_its_reference() {
    let entry = WhitelistEntry { max_price: Amount::from_cents(1_000), ..percent_entry() };
    let whitelist = Whitelist::new(vec![entry.clone()]);
    let book = book();
    let prices = PriceView::new(&book, UnixMs(0));
    let reason = |cents, mismatch| {
        let listing = Trade { total_value: Some(Amount::from_cents(cents)), ..trade("a", REDLINE) };
        let share = prices.compared_reference(&entry, &listing).map(|decided| decided.share);
        whitelist.reason_with_share(0, &mismatch, share)
    };
    let (actual, max) = (Amount::from_cents(1_001), Amount::from_cents(1_000));
    let above = reason(1_001, Mismatch::PriceAbove { actual, max });
    assert_eq!(above, "price 10.01 is above 10.00; 10.01 = 50.1 % of reference 20.00");
    let other = reason(1_001, Mismatch::StatTrak { actual: false });
    assert!(!other.contains("reference"), "{other}");
    let Decision::Mismatched { mismatch, .. } = Whitelist::new(vec![percent_entry()]).decide_with(
        &Trade { total_value: Some(Amount::from_cents(1_601)), ..trade("a", REDLINE) },
        prices,
    ) else {
        panic!("it matches")
    };
    let above = reason(1_601, mismatch);
    assert_eq!(above, "16.01 = 80.1 % of buff.ask 20.00, above 80.00 %");
}

#[test]
fn without_a_fresh_price_of_this_very_item_a_percent_rule_matches_nothing() {
    let entry = percent_entry();
    let none = Some("buff.ask has no price for this item");
    check_percent(&entry, ("Fracture Case", 1, 0), none);
    check_percent(&entry, ("AK-47 | Redline (Well-Worn)", 1, 0), none);
    check_percent(&entry, ("★ Karambit | Doppler Phase 2 (Factory New)", 1, 0), none);
    check_percent(&entry, ("★ Karambit | Ruby (Factory New)", 1, 0), none);
    check_percent(&entry, ("★ Karambit | Doppler (Factory New)", 1, 0), none);
    check_percent(&entry, (REDLINE, 1, 60_000), None);
    check_percent(
        &entry,
        (REDLINE, 1, 61_000),
        Some("buff.ask is 1 min 1 s old, more than 1 min 0 s"),
    );
    let whitelist = Whitelist::new(vec![entry]);
    let decision = whitelist.decide(&trade("a", REDLINE));
    let mismatch = Mismatch::NoReference { reference: 0, reason: NoReference::NoTable };
    assert_eq!(decision, Decision::Mismatched { entry: 0, mismatch });
}

#[test]
fn an_unlimited_markup_is_no_condition_and_a_set_one_is() {
    let entry = percent_entry();
    check_percent(&entry, (REDLINE, 1_015, 0), None);
    let bounded = WhitelistEntry { max_markup: Some(Percent::from_hundredths(100)), ..entry };
    check_percent(&bounded, (REDLINE, 1_015, 0), Some("markup 1.50% is above 1.00%"));
}

#[test]
fn an_item_filter_accepts_its_categories_and_rarities_without_the_excluded_names() {
    let filter = ItemFilter {
        categories: CategorySet::default().with(ItemCategory::Rifle),
        rarities: vec![RarityWord::new("covert").unwrap()],
        exclude: vec![NamePattern::parse("AWP | *").unwrap()],
    };
    let entry =
        WhitelistEntry { item: ItemPattern::Any, filter: Some(Box::new(filter)), ..entry() };
    let of = |name: &str, rarity: &str| {
        let rarity = RarityWord::new(rarity);
        Trade { rarity, ..trade("a", name) }
    };
    check(entry.clone(), &of(REDLINE, "covert"), None);
    check(entry.clone(), &of(REDLINE, "classified"), Some("rarity is classified"));
    check(entry.clone(), &of(REDLINE, ""), Some("rarity is unknown"));
    check(entry.clone(), &of("AWP | Asiimov (Field-Tested)", "covert"), Some("it is excluded"));
    let knife = of("★ Karambit", "covert");
    check(entry, &knife, Some("category is knife"));
}

#[test]
fn a_share_and_a_margin_are_those_of_the_listing() {
    let book = book().with_resale(Some(Resale { source: 0, fee: Percent::from_hundredths(250) }));
    let view = PriceView::new(&book, UnixMs(0));
    let mut trade = trade("a", REDLINE);
    trade.total_value = Some(Amount::from_cents(1_500));
    let decided = view.compared_reference(&percent_entry(), &trade);
    let share = decided.map(|decided| decided.share.to_string());
    assert_eq!(share.as_deref(), Some("15.00 = 75.0 % of reference 20.00"));
    assert_eq!(view.margin(&trade).map(|margin| margin.to_string()).as_deref(), Some("30.00"));
    assert_eq!(view.compared_reference(&entry(), &trade), None);
    assert_eq!(PriceView::NONE.margin(&trade), None);
}

#[test]
fn an_entry_is_about_other_items_also_if_the_price_was_compared_first() {
    let entry = WhitelistEntry { max_price: Amount::from_cents(1), ..entry() };
    let whitelist = Whitelist::new(vec![entry]);
    let is_other = |trade: &Trade<'_>| match whitelist.decide(trade) {
        Decision::Mismatched { entry, mismatch } => {
            assert!(matches!(mismatch, Mismatch::PriceAbove { .. }), "{mismatch}");
            whitelist.is_about_other_items(entry, &mismatch, trade)
        }
        other => panic!("{other:?}"),
    };
    let mut trade = trade("a", REDLINE);
    assert!(!is_other(&trade));
    trade.is_stattrak = true;
    assert!(is_other(&trade));
}
