//! Tests of [`super`], and the listing and entry that other rooms' tests begin with.

use std::{borrow::Cow, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    domain::item_name::{ItemName, Wear},
    domain::money::{Amount, Percent},
    domain::time::UnixMs,
    domain::trade::{Defect, Defects, PaintWear, TradeEvent, TradeId, TradeStatus},
};

/// Eligible listing: 10.15 coins, 1.5 % over 10.00.
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

/// An entry that wants the Redline of any wear for up to 12.50 coins and 2 % markup.
pub(crate) fn entry() -> WhitelistEntry {
    WhitelistEntry {
        name: None,
        item: ItemPattern::Named("AK-47 | Redline".to_owned()),
        wears: WearSet::ANY,
        stattrak: false,
        souvenir: false,
        float_min: None,
        float_max: None,
        min_price: Amount::ZERO,
        max_price: Amount::from_cents(1_250),
        max_markup: Some(Percent::from_hundredths(200)),
        max_quantity: 1,
        max_total: None,
        max_age: None,
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
    assert_eq!(verdict, Decision::NotListed);
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

/// Reference implementation: compares every entry in turn.
fn linear_scan(entries: &[WhitelistEntry], trade: &Trade<'_>) -> Option<usize> {
    entries.iter().position(|entry| {
        let about = match &entry.item {
            ItemPattern::Any => true,
            ItemPattern::Named(item) => *item == trade.item,
        };
        about && mismatch(entry, trade, trade.total_value.unwrap()).is_none()
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
