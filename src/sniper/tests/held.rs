//! Tests of listings that are held until they open.

use super::*;

#[test]
fn a_listing_is_held_until_it_opens_and_then_ordered() {
    let mut session = TestSession::live(ample_budget());
    session.sync_clock();
    session.consider(Trade { can_join_after: Some(UnixMs(2_003_000)), ..trade("a", REDLINE) });
    assert!(session.sent().is_empty());
    session.after = Duration::from_millis(2_998);
    let due = session.run_timers().unwrap();
    assert!(session.sent().is_empty());
    assert!(session.start + Duration::from_millis(2_999) <= due);
    session.after = due - session.start;
    assert_eq!(session.run_timers(), None);
    assert_eq!(session.sent(), ["a"]);
}

#[test]
fn a_held_listing_that_is_taken_is_dropped() {
    let mut session = TestSession::live(ample_budget());
    session.sync_clock();
    session.consider(Trade { can_join_after: Some(UnixMs(2_003_000)), ..trade("a", REDLINE) });
    session.consider(Trade {
        event: TradeEvent::Updated,
        status: TradeStatus::Joined,
        ..trade("a", REDLINE)
    });
    session.after = Duration::from_secs(60);
    assert_eq!(session.run_timers(), None);
    assert!(session.sent().is_empty());
    assert_eq!(session.skipped("taken while held"), 1);
}

#[test]
fn a_removed_listing_is_dropped_while_held_and_requests_a_read_if_it_was_ordered() {
    let mut session = TestSession::live(ample_budget());
    session.sync_clock();
    session.consider(Trade { can_join_after: Some(UnixMs(2_003_000)), ..trade("a", REDLINE) });
    session.consider(trade("b", REDLINE));
    assert_eq!(session.sent(), ["b"]);
    let id = TradeId::new("b").unwrap();
    let ordered = session.engine.ledger().state().intent(&id).copied();
    assert!(ordered.is_some());
    session.engine.take_refresh_request();
    let removed = |id: &str| TradeNotice::Removed { id: TradeId::new(id).unwrap() };
    let mut needs_read = |notice| {
        let now = session.now();
        session.engine.on_notice(notice, now);
        session.engine.take_refresh_request()
    };
    assert!(!needs_read(removed("a")));
    assert!(needs_read(removed("b")));
    let purchase = |id: &str| {
        let (id, status) = (TradeId::new(id).unwrap(), TradeStatus::Cancelled);
        TradeNotice::Purchase { id, status }
    };
    assert!(needs_read(purchase("b")));
    assert!(!needs_read(purchase("c")));
    session.after = Duration::from_secs(60);
    assert_eq!(session.run_timers(), None);
    assert_eq!(session.sent(), ["b"]);
    assert_eq!(session.skipped("removed while held"), 1);
    assert_eq!(session.engine.ledger().state().intent(&id).copied(), ordered);
}

#[test]
fn a_held_listing_whose_price_changes_is_considered_at_its_new_price() {
    let held = || Trade { can_join_after: Some(UnixMs(2_003_000)), ..trade("a", REDLINE) };
    let at = |cents| {
        let price = Some(Amount::from_cents(cents));
        let markup_percent = Some(Percent::from_hundredths(if cents == 1_015 { 150 } else { 0 }));
        Trade { total_value: price, base_value: price, markup_percent, ..held() }
    };
    let updated = |cents| Trade { event: TradeEvent::Updated, ..at(cents) };
    let old = held().total_value.unwrap().cents();
    let (base_only, expensive) = (old - 1, 90_000);
    let cases = [
        (at(expensive), None),
        (updated(expensive), None),
        (updated(old), Some(old)),
        (at(base_only), Some(base_only)),
        (updated(base_only), Some(base_only)),
    ];
    for (change, expected) in cases {
        let mut session = TestSession::live(ample_budget());
        session.sync_clock();
        session.consider(held());
        let cents = change.total_value.unwrap().cents();
        let name = format!("{:?} at {cents}", change.event);
        session.consider(change);
        session.after = Duration::from_secs(60);
        assert_eq!(session.run_timers(), None, "{name}");
        let id = TradeId::new("a").unwrap();
        let ordered =
            session.engine.ledger().state().intent(&id).map(|intent| intent.price.cents());
        assert_eq!(ordered, expected, "{name}");
        let replaced = u64::from(cents != old);
        assert_eq!(session.skipped("changed while held"), replaced, "{name}");
    }
}

#[test]
fn a_held_listing_that_returns_to_an_earlier_price_is_considered_again() {
    for keyed_by in [KeyedBy::Id, KeyedBy::IdAndPrice] {
        let mut session = TestSession::live(ample_budget());
        session.engine.keyed_by = keyed_by;
        session.sync_clock();
        for cents in [1_000, 990, 1_000] {
            session.consider(Trade { can_join_after: Some(UnixMs(2_003_000)), ..at_price(cents) });
        }
        session.after = Duration::from_secs(60);
        assert_eq!(session.run_timers(), None);
        let id = TradeId::new("a").unwrap();
        let ordered = session.engine.ledger().state().intent(&id).map(|intent| intent.price);
        assert_eq!(ordered, Some(Amount::from_cents(1_000)), "{keyed_by:?}");
        assert_eq!(session.sent(), ["a"], "{keyed_by:?}");
    }
}

#[test]
fn held_listings_are_bounded() {
    let mut session = TestSession::live(ample_budget());
    for number in 0..=HELD_MAX {
        let available_at = Some(UnixMs(2_003_000));
        session.consider(Trade {
            can_join_after: available_at,
            ..trade(&format!("t{number}"), REDLINE)
        });
    }
    assert_eq!(session.skipped("too many held"), 1);
}

#[test]
fn a_flagged_account_waits_for_its_own_opening_time() {
    let mut session = TestSession::live(ample_budget());
    session.sync_clock();
    let available_at = Some(UnixMs(2_003_000));
    let listing =
        |id| Trade { suspected_trader_can_join_after: available_at, ..trade(id, REDLINE) };
    session.consider(listing("a"));
    session.engine.is_flagged = true;
    session.consider(listing("b"));
    assert_eq!(session.sent(), ["a"]);
    session.after = Duration::from_secs(4);
    session.run_timers();
    assert_eq!(session.sent(), ["a", "b"]);
}
