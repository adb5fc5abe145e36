//! Tests of [`super`].

use super::*;
use crate::prices::table::{Offer, Quote};

/// A table with these asks and bids in cents; zero is none.
fn table(rows: impl IntoIterator<Item = (String, u64, u64)>) -> PriceTable {
    let offer = |cents: u64| RefPrice::from_micros(cents * 10_000).map(Offer::new);
    let mut table = PriceTable::default();
    for (name, ask, bid) in rows {
        table.add(&name, None, Quote { ask: offer(ask), bid: offer(bid) });
    }
    table
}

/// `count` items whose asks are `ask` and whose bids are `bid`.
fn uniform(count: usize, ask: u64, bid: u64) -> PriceTable {
    table((0..count).map(|number| (format!("Item {number}"), ask, bid)))
}

#[test]
fn a_table_with_half_of_the_last_names_is_accepted_and_one_with_fewer_rejected() {
    let last = uniform(100, 500, 0);
    assert_eq!(check(&uniform(50, 500, 0), Some(&last), true), Ok(()));
    let rejection = check(&uniform(49, 500, 0), Some(&last), true).unwrap_err();
    assert_eq!(
        rejection.to_string(),
        "it has 49 of the 100 asks of the last table, fewer than half"
    );
    // As many names, but others.
    let others = table((0..100).map(|number| (format!("Other {number}"), 500, 0)));
    assert!(matches!(
        check(&others, Some(&last), true),
        Err(TableRejection::Collapsed { common: 0, .. })
    ));
    assert_eq!(check(&uniform(300, 500, 0), Some(&last), true), Ok(()));
}

#[test]
fn a_side_that_vanished_is_rejected() {
    let last = uniform(100, 500, 400);
    let rejection = check(&uniform(100, 500, 0), Some(&last), true).unwrap_err();
    assert_eq!(rejection, TableRejection::Collapsed { side: QuoteSide::Bid, common: 0, last: 100 });
}

#[test]
fn a_side_that_the_last_table_lacks_is_held_against_known_items_and_the_other_side() {
    let sides = |bid: u64| {
        let rows = KNOWN_CENTS.iter().take(10);
        table(rows.map(|(name, cents)| ((*name).to_owned(), *cents, cents * bid)))
    };
    assert_eq!(check(&sides(1), Some(&sides(0)), true), Ok(()));
    let implausible =
        TableRejection::Implausible { side: QuoteSide::Bid, median: MedianRatio(10_000) };
    assert_eq!(check(&sides(100), Some(&sides(0)), true), Err(implausible));
    // A file with few items, none of them well known.
    let (asks, bids) = (uniform(3, 1_000, 0), uniform(3, 0, 1_000));
    assert_eq!(check(&uniform(3, 1_000, 900), Some(&asks), false), Ok(()));
    for (last, ask, bid) in [(&asks, 1_000, 90_000), (&bids, 90_000, 1_000)] {
        let rejection = check(&uniform(3, ask, bid), Some(last), false);
        assert!(matches!(rejection, Err(TableRejection::Contradictory { .. })), "{rejection:?}");
    }
}

#[test]
fn a_few_prices_of_a_side_may_change_but_not_all_vanish() {
    let with_bids = |bids: usize, bid: u64| {
        let bid = |number| if number < bids { bid } else { 0 };
        table((0..10).map(|number| (format!("Item {number}"), 1_000, bid(number))))
    };
    let last = with_bids(4, 900);
    assert_eq!(check(&with_bids(1, 900), Some(&last), false), Ok(()));
    assert_eq!(check(&with_bids(1, 300), Some(&last), false), Ok(()));
    let vanished = check(&with_bids(0, 0), Some(&last), false);
    let side = QuoteSide::Bid;
    assert_eq!(vanished, Err(TableRejection::Collapsed { side, common: 0, last: 4 }));
    assert_eq!(check(&with_bids(0, 0), Some(&with_bids(0, 0)), false), Ok(()));
    // They are the whole side of a short file.
    let rejection = check(&uniform(2, 100_000, 0), Some(&uniform(2, 1_000, 0)), false);
    assert!(matches!(rejection, Err(TableRejection::Moved { .. })), "{rejection:?}");
}

#[test]
fn the_median_ratio_to_the_last_table_is_bounded_on_both_sides() {
    let last = uniform(10, 1_000, 0);
    let ratio = |ask| check(&uniform(10, ask, 0), Some(&last), true);
    assert_eq!((ratio(800), ratio(1_250)), (Ok(()), Ok(())));
    let moved =
        |median| Err(TableRejection::Moved { side: QuoteSide::Ask, median: MedianRatio(median) });
    assert_eq!((ratio(799), ratio(1_251)), (moved(79), moved(125)));
    // The unit is wrong by a hundred.
    assert_eq!((ratio(10), ratio(100_000)), (moved(1), moved(10_000)));
    let bids = check(&uniform(10, 1_000, 90_000), Some(&uniform(10, 1_000, 900)), true);
    assert!(matches!(bids, Err(TableRejection::Moved { side: QuoteSide::Bid, .. })), "{bids:?}");
}

#[test]
fn a_few_items_with_other_prices_do_not_move_the_median() {
    let last = uniform(11, 1_000, 0);
    let some = |moved: usize| {
        table((0..11).map(|number| {
            (format!("Item {number}"), if number < moved { 9_000 } else { 1_000 }, 0)
        }))
    };
    assert_eq!(check(&some(5), Some(&last), true), Ok(()));
    assert!(check(&some(6), Some(&last), true).is_err());
    // Of an even number, both in the middle count.
    let last = uniform(2, 1_000, 0);
    let new = table([("Item 0".to_owned(), 1_000, 0), ("Item 1".to_owned(), 9_000, 0)]);
    assert!(check(&new, Some(&last), true).is_err());
}

/// The first well-known items at `percent` of their built-in prices, at least one cent.
fn known(count: usize, percent: u64) -> PriceTable {
    let rows = KNOWN_CENTS.iter().take(count);
    table(rows.map(|(name, cents)| ((*name).to_owned(), (cents * percent).div_ceil(100), 0)))
}

#[test]
fn the_first_table_is_compared_with_well_known_items() {
    assert_eq!(check(&known(50, 100), None, true), Ok(()));
    assert_eq!(
        (check(&known(50, 25), None, true), check(&known(50, 450), None, true)),
        (Ok(()), Ok(()))
    );
    for percent in [1, 15, 600, 10_000] {
        let rejection = check(&known(50, percent), None, true);
        assert!(
            matches!(rejection, Err(TableRejection::Implausible { .. })),
            "{percent}: {rejection:?}"
        );
        let file = check(&known(5, percent), None, false);
        assert!(matches!(file, Err(TableRejection::Implausible { .. })), "{percent}: {file:?}");
    }
}

#[test]
fn only_an_own_file_may_lack_well_known_items() {
    assert_eq!(check(&known(4, 100), None, true), Err(TableRejection::Unknown { present: 4 }));
    assert_eq!(check(&known(4, 10_000), None, false), Ok(()));
    assert_eq!(check(&known(5, 100), None, true), Ok(()));
}

#[test]
fn each_well_known_name_is_the_key_of_one_item() {
    assert_eq!(known(KNOWN_CENTS.len(), 100).len(), KNOWN_CENTS.len());
}

#[test]
fn each_side_of_the_first_table_is_compared_with_well_known_items() {
    let sides = |ask: u64, bid: u64| {
        let rows = KNOWN_CENTS.iter().take(10);
        table(rows.map(|(name, cents)| ((*name).to_owned(), cents * ask, cents * bid)))
    };
    assert_eq!(check(&sides(1, 1), None, true), Ok(()));
    for (ask, bid, side) in [(1, 100, QuoteSide::Bid), (100, 1, QuoteSide::Ask)] {
        let rejection = check(&sides(ask, bid), None, true).unwrap_err();
        assert_eq!(rejection, TableRejection::Implausible { side, median: MedianRatio(10_000) });
    }
    assert_eq!(check(&sides(0, 1), None, true), Ok(()), "only bids");
}

#[test]
fn a_list_of_dopplers_alone_is_a_first_table_in_its_own_unit() {
    let dopplers = |factor: u64| {
        let rows = KNOWN_CENTS.iter().filter(|(name, _)| name.contains("Doppler"));
        table(rows.map(|(name, cents)| ((*name).to_owned(), cents * factor, 0)))
    };
    assert_eq!(check(&dopplers(1), None, true), Ok(()));
    assert!(matches!(check(&dopplers(100), None, true), Err(TableRejection::Implausible { .. })));
}
