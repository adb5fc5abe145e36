//! Cost of reference prices: the look-up for a listing of a wanted item, and the scan and the
//! decision with an entry for every item, whose price no listing meets.

use std::{
    hint::black_box,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use sniper::{
    config::Generation,
    domain::{
        money::{Amount, Percent},
        percent_rule::{CoinUsd, PercentRule, PriceReference, QuoteSide, ReferenceRule},
        time::UnixMs,
        trade::Trade,
    },
    prices::{BookTable, Offer, PriceBook, PriceTable, Quote, RefPrice, wanted_items},
    whitelist::{Decision, ItemPattern, PriceView, Whitelist, WhitelistEntry},
};

use super::{
    FRAMES,
    frames::{NAMES, frame, named},
    measure::{Times, allocations},
    memory, ns,
    subject::{Subject, entry, whitelist},
};

/// Names with a price.
const ITEMS: usize = 30_000;
const SOURCES: usize = 5;
/// Listings of different items, so that the look-ups are not all cached.
const DIFFERENT: usize = 4_096;
const BYTES: usize = 1_450;
/// Entries beside the one for every item.
const ENTRIES: usize = 10;
const NOW: UnixMs = UnixMs(1_772_359_200_000);

fn name(number: usize) -> String {
    format!("AK-47 | Example {number} (Field-Tested)")
}

/// Half a coin for each item; the cheapest listing costs 1.02.
fn book() -> PriceBook {
    let ask = RefPrice::from_micros(500_000).map(Offer::new);
    let mut table = PriceTable::default();
    let names = NAMES.iter().map(|name| (*name).to_owned());
    for name in names.chain((0..).map(name)).take(ITEMS) {
        table.add(&name, None, Quote { ask, bid: None });
    }
    let max_age = Duration::from_secs(3_600);
    let table = BookTable { table: Some(&table), at: NOW, max_age, coin: Some(CoinUsd::ONE) };
    PriceBook::new(&[table; SOURCES])
}

/// A rule of 80 % of the lowest ask of these sources.
fn rule(sources: usize) -> PercentRule {
    let reference = |index| PriceReference {
        source: format!("source{index}"),
        index,
        side: Some(QuoteSide::Ask),
    };
    PercentRule {
        max_percent: Percent::from_hundredths(8_000),
        references: (0..sources).map(reference).collect(),
        rule: ReferenceRule::Lowest,
        min_count: None,
        min_reference: None,
    }
}

fn percent_entry(item: ItemPattern) -> WhitelistEntry {
    WhitelistEntry { item, percent: Some(rule(1)), max_markup: None, ..entry("*") }
}

/// Ten entries that match none of the listings, with or without one for every item.
fn subject(book: &PriceBook, with_star: bool) -> (Subject, Whitelist) {
    let mut entries = whitelist(ENTRIES).entries().to_vec();
    if with_star {
        entries.push(percent_entry(ItemPattern::Any));
    }
    let wanted = wanted_items(&entries, book, NOW);
    let subject = Subject::with(Whitelist::new(entries.clone()), wanted);
    (subject, Whitelist::new(entries))
}

/// One line of the result.
fn line(out: &mut impl Write, what: &str, times: &Times) -> io::Result<()> {
    let (median, fastest) = (ns(times.percentile(50)), ns(times.percentile(0)));
    writeln!(out, "{what:<58} {median:>8} ({fastest:>8})")
}

/// Measures with a table of 30,000 names and five sources.
pub(crate) fn run(rounds: usize, is_quick: bool, out: &mut impl Write) -> io::Result<()> {
    let book = book();
    let view = PriceView::new(&book, NOW);
    writeln!(out, "reference prices: {ITEMS} names, {SOURCES} sources; {BYTES} bytes a message")?;
    for generation in [Generation::A, Generation::B] {
        let texts: Vec<String> = (0..FRAMES)
            .map(|number| frame(generation, number.try_into().unwrap(), BYTES))
            .collect();
        for with_star in [false, true] {
            let (mut subject, whitelist) = subject(&book, with_star);
            let mut trades: Vec<Trade<'_>> = Vec::new();
            texts.iter().for_each(|text| subject.read(text, |trade| trades.push(trade)));
            assert!(texts.iter().all(|text| subject.scan(text)), "a listing is wanted");
            let decide = |trade| whitelist.decide_with(trade, view);
            let is_unwanted = |trade| !matches!(decide(trade), Decision::Matched(_));
            assert!(trades.iter().all(is_unwanted), "a listing matches");
            let allocations = allocations(|| {
                for (text, trade) in texts.iter().zip(&trades) {
                    black_box((subject.scan(text), decide(trade)));
                }
            });
            assert_eq!(allocations, 0, "an unwanted listing allocates");
            if is_quick {
                continue;
            }
            let star = if with_star { "with" } else { "without" };
            let scan = Times::of(rounds, FRAMES, || {
                for text in &texts {
                    black_box(subject.scan(black_box(text)));
                }
            });
            line(out, &format!("{generation:?}, scan {star} an entry for every item"), &scan)?;
            let decide = Times::of(rounds, FRAMES, || {
                for trade in &trades {
                    black_box(decide(black_box(trade)));
                }
            });
            line(out, &format!("{generation:?}, decision {star} it"), &decide)?;
        }
    }
    look_ups(&book, (rounds, is_quick), out)?;
    refreshes(book, (rounds, is_quick), out)
}

/// Measures the replacement of all prices by the thread that orders. The thread that downloads them
/// keeps the old ones, so the replacement must free nothing.
fn refreshes(
    old: PriceBook,
    (rounds, is_quick): (usize, bool),
    out: &mut impl Write,
) -> io::Result<()> {
    let books = [Arc::new(old), Arc::new(book())];
    let mut engine = memory::engine(vec![percent_entry(ItemPattern::Any)]);
    engine.set_prices(Arc::clone(&books[0]));
    let mut replace_twice = || {
        for book in books.iter().rev() {
            engine.set_prices(black_box(Arc::clone(book)));
        }
    };
    let counted = allocation_counter::measure(&mut replace_twice);
    assert_eq!(
        (counted.count_total, counted.count_current),
        (0, 0),
        "a refresh allocates or frees"
    );
    if is_quick {
        return Ok(());
    }
    line(out, "replacement of all prices", &Times::of(rounds, books.len(), replace_twice))
}

/// Measures the look-up of a reference, and decisions about listings of items that entries name.
fn look_ups(
    book: &PriceBook,
    (rounds, is_quick): (usize, bool),
    out: &mut impl Write,
) -> io::Result<()> {
    let view = PriceView::new(book, NOW);
    let texts: Vec<String> = (0..DIFFERENT)
        .map(|number| named(Generation::B, number.try_into().unwrap(), &name(number), BYTES))
        .collect();
    let mut trades: Vec<Trade<'_>> = Vec::new();
    let mut subject = Subject::new(0);
    texts.iter().for_each(|text| subject.read(text, |trade| trades.push(trade)));
    let named = |number: usize| ItemPattern::Named(format!("AK-47 | Example {number}"));
    let all = 0..DIFFERENT;
    let plain = Whitelist::new(
        all.clone()
            .map(|number| WhitelistEntry { percent: None, ..percent_entry(named(number)) })
            .collect(),
    );
    let percent = Whitelist::new(all.map(|number| percent_entry(named(number))).collect());
    let few = trades.get(..FRAMES).unwrap();
    let is_named = |trade: &Trade<'_>| {
        let decision = percent.decide_with(trade, view);
        matches!(decision, Decision::Mismatched { .. }) && trade.total_value > Some(Amount::ZERO)
    };
    assert!(trades.iter().all(is_named), "the percent rule decides");
    let allocations = allocations(|| {
        for trade in &trades {
            black_box(percent.decide_with(trade, view));
        }
    });
    assert_eq!(allocations, 0, "a look-up allocates");
    if is_quick {
        return writeln!(out, "not timed | {allocations}");
    }
    for (sources, sample, what) in [
        (1, few, "look-up of one reference, 64 items"),
        (1, trades.as_slice(), "look-up of one reference, 4,096 items"),
        (SOURCES, few, "look-up of the lowest of five references, 64 items"),
    ] {
        let rule = rule(sources);
        let times = Times::of(rounds, sample.len(), || {
            for trade in sample {
                black_box(book.reference(&rule, black_box(trade), NOW).is_ok());
            }
        });
        line(out, what, &times)?;
    }
    for (whitelist, what) in [(&plain, "without"), (&percent, "with")] {
        let times = Times::of(rounds, few.len(), || {
            for trade in few {
                black_box(whitelist.decide_with(black_box(trade), view));
            }
        });
        line(out, &format!("decision for a named item {what} a percent rule, 64 items"), &times)?;
    }
    Ok(())
}
