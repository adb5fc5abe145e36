//! Tests of [`super`]: each maximum price, and no listing that would be ordered is above its own.

use std::{ops::Range, time::Duration};

use proptest::{prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner};

use super::*;
use crate::{
    domain::item_filter::{CategorySet, ItemCategory, ItemFilter, NamePattern},
    domain::item_name::{ItemName, Wear},
    domain::money::{Amount, Percent},
    domain::percent_rule::{CoinUsd, PercentRule, PriceReference, QuoteSide, ReferenceRule},
    domain::trade::{RarityWord, Trade},
    json,
    markets::{
        Scan,
        csgoroll::{feed::NextPayload, scan::scan},
    },
    prices::{BookTable, Offer, PriceTable, RefPrice},
    whitelist::{
        Decision, PriceView, WearSet, Whitelist,
        tests::{REDLINE, entry, percent_entry},
    },
};

const NOW: UnixMs = UnixMs(1_772_352_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
const NAMES: [&str; 16] = [
    REDLINE,
    "AK-47 | Redline (Minimal Wear)",
    "StatTrak™ AK-47 | Redline (Field-Tested)",
    "Souvenir AK-47 | Redline (Field-Tested)",
    "★ Karambit | Doppler Phase 2 (Factory New)",
    "★ Karambit | Doppler (Factory New)",
    "★ Karambit | Sapphire (Factory New)",
    "★ Karambit | Doppler Sapphire (Factory New)",
    "★ StatTrak™ Karambit | Sapphire (Factory New)",
    "★ Bayonet | Gamma Doppler Emerald (Factory New)",
    "★ Karambit",
    "★ Driver Gloves | Lunar Weave (Well-Worn)",
    "Fracture Case",
    "Michael Syfers  | FBI Sniper",
    "M4A4 | 龍王 (Dragon King) (Factory New)",
    "Sticker | Example (Holo)",
];

fn offer(micros: u64) -> Offer {
    Offer::new(RefPrice::from_micros(micros).unwrap())
}

/// A table with these asks in dollars.
fn asks(rows: &[(&str, u64)]) -> PriceTable {
    let mut table = PriceTable::default();
    for (name, dollars) in rows {
        table.add(name, None, Quote { ask: Some(offer(dollars * 1_000_000)), bid: None });
    }
    table
}

fn of(table: &PriceTable) -> BookTable<'_> {
    BookTable { table: Some(table), at: NOW, max_age: HOUR, coin: Some(CoinUsd::ONE) }
}

fn rule() -> PercentRule {
    percent_entry().percent.unwrap()
}

fn star(rule: PercentRule) -> WhitelistEntry {
    let max_price = Amount::from_cents(10_000_000);
    WhitelistEntry { percent: Some(rule), max_price, ..percent_entry() }
}

fn references(indices: &[usize], rule: ReferenceRule) -> PercentRule {
    let reference = |index: &usize| PriceReference {
        source: format!("s{index}"),
        index: *index,
        side: Some(QuoteSide::Ask),
    };
    let references = indices.iter().map(reference).collect();
    PercentRule { references, rule, ..self::rule() }
}

#[track_caller]
fn check(entry: &WhitelistEntry, book: &PriceBook, name: &str, cents: Option<i64>) {
    let wanted = wanted_items(std::slice::from_ref(entry), book, NOW);
    assert_eq!(wanted.max_price(name), cents.map(Amount::from_cents), "{name}");
}

#[test]
fn a_maximum_price_is_the_greatest_price_of_the_variants_that_the_entry_accepts() {
    let table = asks(&[
        (REDLINE, 10),
        ("AK-47 | Redline (Minimal Wear)", 20),
        ("StatTrak™ AK-47 | Redline (Field-Tested)", 60),
        ("★ Karambit | Doppler Phase 2 (Factory New)", 700),
        ("★ Karambit | Doppler Sapphire (Factory New)", 5_000),
    ]);
    let book = PriceBook::new(&[of(&table)]);
    let any = star(rule());
    check(&any, &book, REDLINE, Some(1_600));
    check(&any, &book, "★ Karambit | Doppler Phase 2 (Factory New)", Some(56_000));
    check(&any, &book, "★ Karambit | Sapphire (Factory New)", Some(400_000));
    check(&any, &book, "★ Karambit | Doppler Sapphire (Factory New)", Some(400_000));
    for name in ["Fracture Case", "★ Karambit | Doppler (Factory New)", "★ Karambit"] {
        check(&any, &book, name, None);
    }
    let field_tested = WearSet::ANY.with(Wear::FieldTested);
    check(&WhitelistEntry { wears: field_tested, ..any.clone() }, &book, REDLINE, Some(800));
    check(&WhitelistEntry { stattrak: true, ..any.clone() }, &book, REDLINE, Some(4_800));
    check(&WhitelistEntry { souvenir: true, ..any.clone() }, &book, REDLINE, None);
    let max_price = Amount::from_cents(900);
    check(&WhitelistEntry { max_price, ..any.clone() }, &book, REDLINE, Some(900));
    let min_price = Amount::from_cents(1_601);
    check(&WhitelistEntry { min_price, ..any.clone() }, &book, REDLINE, None);
    let named =
        |item: &str| WhitelistEntry { item: ItemPattern::Named(item.into()), ..any.clone() };
    check(&named("AK-47 | Redline"), &book, REDLINE, Some(1_600));
    check(&named("AK-47 | Slate"), &book, REDLINE, None);
    let sapphire = "★ Karambit | Sapphire (Factory New)";
    check(&named("Karambit | Sapphire"), &book, sapphire, Some(400_000));
}

#[test]
fn a_filter_of_the_entry_applies_where_the_name_decides() {
    let table = asks(&[(REDLINE, 10), ("★ Karambit", 500), ("★ Gut Knife", 90)]);
    let book = PriceBook::new(&[of(&table)]);
    let filter = ItemFilter {
        categories: CategorySet::default().with(ItemCategory::Knife),
        rarities: vec![RarityWord::new("covert").unwrap()],
        exclude: vec![NamePattern::parse("Gut Knife").unwrap()],
    };
    let entry = WhitelistEntry { filter: Some(Box::new(filter)), ..star(rule()) };
    check(&entry, &book, "★ Karambit", Some(40_000));
    check(&entry, &book, "★ Gut Knife", None);
    check(&entry, &book, REDLINE, None);
}

#[test]
fn a_maximum_price_follows_the_references_their_minimums_and_the_value_of_a_coin() {
    let [one, two] = [asks(&[(REDLINE, 10)]), asks(&[(REDLINE, 20), ("Fracture Case", 1)])];
    let half = CoinUsd::from_ten_thousandths(5_000).unwrap();
    let book = PriceBook::new(&[of(&one), BookTable { coin: Some(half), ..of(&two) }]);
    for (kind, cents) in [
        (ReferenceRule::Lowest, 800),
        (ReferenceRule::Highest, 3_200),
        // The second one decides once the first one is too old.
        (ReferenceRule::First, 3_200),
    ] {
        check(&star(references(&[0, 1], kind)), &book, REDLINE, Some(cents));
    }
    let cases = |kind| star(references(&[0, 1], kind));
    check(&cases(ReferenceRule::Lowest), &book, "Fracture Case", None);
    check(&cases(ReferenceRule::Highest), &book, "Fracture Case", None);
    check(&cases(ReferenceRule::First), &book, "Fracture Case", Some(160));
    let min_reference = |cents| PercentRule {
        min_reference: Some(Amount::from_cents(cents)),
        ..references(&[0], ReferenceRule::Lowest)
    };
    check(&star(min_reference(1_000)), &book, REDLINE, Some(800));
    check(&star(min_reference(1_001)), &book, REDLINE, None);
    let counted = PercentRule { min_count: Some(1), ..references(&[0], ReferenceRule::Lowest) };
    check(&star(counted), &book, REDLINE, None);
    check(&star(references(&[9], ReferenceRule::Lowest)), &book, REDLINE, None);
}

#[test]
fn a_stale_price_has_no_maximum_price_once_no_correction_of_the_clock_makes_it_fresh() {
    let table = asks(&[(REDLINE, 10)]);
    for (age, cents) in [(2 * HOUR, Some(800)), (25 * HOUR, Some(800)), (26 * HOUR, None)] {
        let at = NOW.minus(age);
        check(&star(rule()), &PriceBook::new(&[BookTable { at, ..of(&table) }]), REDLINE, cents);
    }
    let ahead = BookTable { at: NOW.plus(HOUR), ..of(&table) };
    check(&star(rule()), &PriceBook::new(&[ahead]), REDLINE, Some(800));
}

#[test]
fn an_entry_without_a_percent_rule_has_its_own_price_and_one_without_prices_none() {
    let own = WhitelistEntry { item: ItemPattern::Any, ..entry() };
    check(&own, &PriceBook::default(), "Fracture Case", Some(1_250));
    check(&star(rule()), &PriceBook::default(), "Fracture Case", None);
}

#[test]
fn the_maximum_prices_of_a_whole_market_take_little_memory() {
    let names =
        |number: usize| format!("Sticker | Example Number {number} (Holo) | Somewhere 2026");
    let mut table = PriceTable::default();
    for number in 0..30_000 {
        table.add(&names(number), None, Quote { ask: Some(offer(1_000_000)), bid: None });
    }
    let book = PriceBook::new(&[of(&table)]);
    let info = allocation_counter::measure(|| {
        std::mem::forget(wanted_items(&[star(rule())], &book, NOW));
    });
    let bytes = info.bytes_current;
    assert!((1 << 20..7 << 20).contains(&bytes), "{bytes} bytes");
}

#[test]
fn a_snapshot_is_unused_once_no_other_handle_of_either_part_is_left() {
    let snapshot = PriceSnapshot::default();
    assert!(snapshot.is_unused());
    let PriceSnapshot { book, wanted } = snapshot.clone();
    drop(book);
    assert!(!snapshot.is_unused());
    drop(wanted);
    assert!(snapshot.is_unused());
}

/// One source: its table, the hours since its time, its maximum age and the value of a coin.
type Source = (PriceTable, i64, u64, u32);

fn offers() -> impl Strategy<Value = Option<Offer>> {
    let count = prop::option::of(0_u32..4);
    let hours = prop::option::of(-2_i64..60);
    let of = |(micros, count, hours): (u64, Option<u32>, Option<i64>)| {
        offer(micros).with_count(count).with_time(hours.map(hours_ago))
    };
    prop::option::weighted(0.8, (1_u64..60_000_000, count, hours).prop_map(of))
}

fn hours_ago(hours: i64) -> UnixMs {
    UnixMs(NOW.0 - hours * 3_600_000)
}

fn source() -> impl Strategy<Value = Source> {
    let rows = prop::collection::vec((select(&NAMES[..]), offers(), offers()), 4..24);
    let table = rows.prop_map(|rows| {
        let mut table = PriceTable::default();
        for (name, ask, bid) in rows {
            table.add(name, None, Quote { ask, bid });
        }
        table
    });
    (table, -1_i64..60, 1_u64..48, select(vec![10_000_u32, 6_500, 12_345]))
}

fn book_of(sources: &[Source]) -> PriceBook {
    let tables: Vec<_> = sources
        .iter()
        .map(|(table, hours, max_age, coin)| BookTable {
            table: Some(table),
            at: hours_ago(*hours),
            max_age: HOUR * u32::try_from(*max_age).unwrap(),
            coin: CoinUsd::from_ten_thousandths(*coin),
        })
        .collect();
    PriceBook::new(&tables)
}

fn percent_rule() -> impl Strategy<Value = PercentRule> {
    let side = select(vec![None, Some(QuoteSide::Ask), Some(QuoteSide::Bid)]);
    let reference = (0_usize..3, side).prop_map(|(index, side)| PriceReference {
        source: format!("s{index}"),
        index,
        side,
    });
    (
        0_i64..12_000,
        prop::collection::vec(reference, 1..4),
        select(ReferenceRule::ALL.to_vec()),
        prop::option::weighted(0.2, 0_u32..3),
        prop::option::weighted(0.2, 0_i64..3_000),
    )
        .prop_map(|(max_percent, references, rule, min_count, min_reference)| PercentRule {
            max_percent: Percent::from_hundredths(max_percent),
            references,
            rule,
            min_count,
            min_reference: min_reference.map(Amount::from_cents),
        })
}

fn filters() -> impl Strategy<Value = Option<Box<ItemFilter>>> {
    let category = select(ItemCategory::ALL.to_vec());
    let categories = prop::option::of(category).prop_map(|category| {
        category.map_or(CategorySet::default(), |category| CategorySet::default().with(category))
    });
    let exclude = select(vec![
        "AK-47 | *",
        "StatTrak™*",
        "*(Field-Tested)",
        "Karambit",
        "*Doppler*",
        REDLINE,
        "*Case",
    ]);
    let exclude = prop::collection::vec(exclude, 0..2);
    let filter = (categories, exclude).prop_map(|(categories, exclude)| {
        let exclude = exclude.into_iter().map(|text| NamePattern::parse(text).unwrap()).collect();
        Box::new(ItemFilter { categories, rarities: Vec::new(), exclude })
    });
    prop::option::weighted(0.3, filter)
}

fn entries() -> impl Strategy<Value = Vec<WhitelistEntry>> {
    let item = prop_oneof![
        2 => Just(ItemPattern::Any),
        1 => select(&NAMES[..])
            .prop_map(|name| ItemPattern::Named(ItemName::parse(name).base.into_owned())),
    ];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    let wears = select(vec![WearSet::ANY, WearSet::ANY, WearSet::ANY.with(Wear::FieldTested)]);
    let prices = (0_i64..1_000, 0_i64..6_000);
    let percent = prop::option::weighted(0.8, percent_rule());
    let entry = (item, flags, wears, prices, percent, filters()).prop_map(
        |(item, (stattrak, souvenir), wears, (min, more), percent, filter)| WhitelistEntry {
            item,
            stattrak,
            souvenir,
            wears,
            min_price: Amount::from_cents(min / 2),
            max_price: Amount::from_cents(min / 2 + more),
            max_markup: None,
            percent,
            filter,
            ..entry()
        },
    );
    prop::collection::vec(entry, 1..4)
}

/// Where the price of a listing lies, relative to the maximum price of its name.
fn offset() -> impl Strategy<Value = i64> {
    prop_oneof![4 => -1_i64..2, 2 => -500_i64..0, 1 => -4_000_i64..4_000]
}

#[derive(Clone, Debug)]
struct Situation {
    entries: Vec<WhitelistEntry>,
    sources: Vec<Source>,
    /// Name, and offset of the price in cents.
    listings: Vec<(&'static str, i64)>,
    /// Hours from the time at which the maximum prices were built to the decision.
    later: i64,
}

fn situation() -> impl Strategy<Value = Situation> {
    (
        entries(),
        prop::collection::vec(source(), 1..4),
        prop::collection::vec((select(&NAMES[..]), offset()), 1..5),
        prop_oneof![2 => 0_i64..2, 1 => -20_i64..60],
    )
        .prop_map(|(entries, sources, listings, later)| Situation {
            entries,
            sources,
            listings,
            later,
        })
}

fn listing(number: usize, name: &str, price: Amount) -> String {
    format!(
        r#"{{"id":"t{number}","depositorLastActiveAt":"2026-03-01T10:00:00.300Z","markupPercent":0,"totalValue":{price},"avgPaintWear":0.2,"hasStickers":false,"tradeItems":[{{"id":"x","marketName":"{name}","value":{price},"itemVariant":{{"value":{price},"name":"Redline"}},"stickers":[]}}],"avgPaintWearRange":null,"canJoinAfter":null,"depositor":null,"suspectedTraderCanJoinAfter":null,"status":"LISTED","createdAt":"2026-03-01T10:00:00.300Z","canJoin":true,"expiresAt":"2026-03-03T10:00:00.301Z"}}"#
    )
}

fn payload(listings: &[String]) -> String {
    match listings {
        [one] => format!(r#"{{"data":{{"createTrade":{{"trade":{one}}}}}}}}}"#),
        all => format!(r#"{{"data":{{"createTrades":{{"trades":[{}]}}}}}}}}"#, all.join(",")),
    }
}

/// Results of the scan and of the full decision for each listing of a message.
struct Compared {
    is_matched: bool,
    /// Not left for later by the scan.
    is_early: bool,
    wants: bool,
}

fn compare(situation: &Situation) -> Vec<Compared> {
    let Situation { entries, sources, listings, later } = situation;
    let book = book_of(sources);
    let wanted = wanted_items(entries, &book, NOW);
    let priced = |(number, (name, offset)): (usize, &(&str, i64))| {
        let max_price = wanted.max_price(name).filter(|max_price| *max_price < Amount::MAX);
        let cents = max_price.map_or(1_000, Amount::cents).saturating_add(*offset).max(1);
        listing(number, name, Amount::from_cents(cents))
    };
    let texts: Vec<String> = listings.iter().enumerate().map(priced).collect();
    let text = payload(&texts);
    // Without the protocol's frame, which closes one more object.
    let inner = text.strip_suffix('}').unwrap();
    let mut early = Vec::new();
    let class = scan(text.as_bytes(), &wanted, &mut |trade: Trade<'_>| early.push(trade.id));
    let whitelist = Whitelist::new(entries.clone());
    let view = PriceView::new(&book, hours_ago(-later));
    let read: NextPayload<'_> = json::read(inner).unwrap();
    let trades: Vec<Trade<'_>> = read.into_trades().collect();
    assert_eq!(trades.len(), listings.len());
    let compared = |trade: &Trade<'_>| {
        assert!(trade.defects.is_empty(), "{text}");
        Compared {
            is_matched: matches!(whitelist.decide_with(trade, view), Decision::Matched(_)),
            is_early: class == Scan::ReadNow || early.contains(&trade.id),
            wants: wanted.wants(trade),
        }
    };
    trades.iter().map(compared).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn no_listing_that_would_be_ordered_is_left_for_later(situation in situation()) {
        for compared in compare(&situation) {
            prop_assert!(!compared.is_matched || (compared.is_early && compared.wants));
            prop_assert!(!compared.wants || compared.is_early);
        }
    }
}

#[test]
fn the_generated_situations_reach_every_result() {
    let mut runner = TestRunner::deterministic();
    let (mut matched, mut early, mut unwanted) = (0_u32, 0_u32, 0_u32);
    for _ in 0..1_000 {
        let situation = situation().new_tree(&mut runner).unwrap().current();
        for compared in compare(&situation) {
            match compared {
                Compared { is_matched: true, .. } => matched += 1,
                Compared { is_early: true, .. } => early += 1,
                _ => unwanted += 1,
            }
        }
    }
    let enough: Range<u32> = 150..u32::MAX;
    assert!(
        [matched, early, unwanted].iter().all(|count| enough.contains(count)),
        "{matched} {early} {unwanted}"
    );
}
