//! Tests of the market's rules and invariants.

use proptest::prelude::*;

use super::*;
use crate::sim::{
    faults::FaultKind,
    random::Rng,
    settings::{Rate, Rivals},
};

const NOON: UnixMs = UnixMs(1_772_366_400_000);

fn quiet() -> SimSettings {
    SimSettings { rate: Rate::NONE, rivals: None, ..SimSettings::default() }
}

fn open(settings: &SimSettings) -> MarketState {
    MarketState::new(settings, NOON)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn redline(cents: i64) -> ListedItem {
    let price = Amount::from_cents(cents);
    ListedItem::plain("AK-47 | Redline (Field-Tested)", price, price)
}

/// Lists one item and checks the result of an order for it `after` seconds later.
#[track_caller]
fn check(
    settings: &SimSettings,
    item: ListedItem,
    after: u64,
    expected: Result<(), SaleRejection>,
) {
    let mut market = open(settings);
    let mut events = Vec::new();
    let ids = market.list_items(seconds(1), vec![item], &mut events);
    let joined = market.join(seconds(1 + after), &ids[0], &mut events);
    assert_eq!(joined.map(|_| ()), expected);
}

#[test]
fn a_listing_is_sold_and_paid_once() {
    let mut market = open(&quiet());
    let mut events = Vec::new();
    let ids = market.list_items(seconds(1), vec![redline(1_000)], &mut events);
    let sold = market.join(seconds(2), &ids[0], &mut events).unwrap();
    assert_eq!((sold.status, sold.buyer), (TradeStatus::Joined, Some(ListingBuyer::User)));
    assert_eq!(market.balance().cents(), 49_000);
    assert_eq!(market.join(seconds(2), &ids[0], &mut events), Err(SaleRejection::NotJoinable));
    assert_eq!(
        market.join(seconds(3), &ids[0], &mut events),
        Err(SaleRejection::NoLongerAvailable)
    );
    assert_eq!(market.balance().cents(), 49_000);
    assert!(matches!(
        &events[..],
        [MarketEvent::Created(_), MarketEvent::Updated(_), MarketEvent::Wallet { .. }]
    ));
}

#[test]
fn an_order_that_cannot_be_executed_is_rejected_with_its_cause() {
    check(&quiet(), redline(1_000), 1, Ok(()));
    check(&quiet(), redline(50_000), 1, Ok(()));
    check(&quiet(), redline(50_001), 1, Err(SaleRejection::Balance));
    let limited = SimSettings { daily_limit: Some(Amount::from_cents(999)), ..quiet() };
    check(&limited, redline(1_000), 1, Err(SaleRejection::DailyLimit));
    for defect in [ListingDefect::Own, ListingDefect::CannotJoin, ListingDefect::NotListed] {
        let odd = ListedItem { defect: Some(defect), ..redline(1_000) };
        check(&quiet(), odd, 1, Err(SaleRejection::NotJoinable));
    }
    let short = ListedItem { open_for: seconds(5), ..redline(1_000) };
    check(&quiet(), short.clone(), 4, Ok(()));
    check(&quiet(), short, 8, Err(SaleRejection::NoLongerAvailable));
}

#[test]
fn a_held_listing_can_be_joined_once_its_time_is_reached() {
    let held = ListedItem { can_join_after: Some(seconds(3)), ..redline(1_000) };
    check(&quiet(), held.clone(), 2, Err(SaleRejection::NotJoinable));
    check(&quiet(), held, 3, Ok(()));
}

#[test]
fn a_flagged_account_waits_longer_than_others() {
    let item = ListedItem { suspected_can_join_after: seconds(2), ..redline(1_000) };
    let flagged = SimSettings { suspected_trader: true, ..quiet() };
    check(&quiet(), item.clone(), 0, Ok(()));
    check(&flagged, item.clone(), 1, Err(SaleRejection::NotJoinable));
    check(&flagged, item, 2, Ok(()));
}

#[test]
fn a_rival_buys_a_listing_at_its_time_and_not_before() {
    let contested =
        ListedItem { rival_after: Some(Duration::from_millis(2_600)), ..redline(1_000) };
    check(&quiet(), contested.clone(), 2, Ok(()));
    check(&quiet(), contested.clone(), 3, Err(SaleRejection::NotJoinable));
    check(&quiet(), contested, 4, Err(SaleRejection::NoLongerAvailable));
}

#[test]
fn an_order_for_an_unknown_id_is_rejected_as_not_found() {
    let mut market = open(&quiet());
    for id in ["", "nonsense", "VHJhZGU6MQ"] {
        assert_eq!(
            market.join(seconds(1), id, &mut Vec::new()),
            Err(SaleRejection::NotFound),
            "{id}"
        );
    }
}

#[test]
fn each_purchase_is_delivered_or_refunded() {
    let settings = SimSettings {
        delivery: Delivery { fail_permille: 300, ..Delivery::default() },
        balance: Amount::from_cents(1_000_000),
        ..quiet()
    };
    let mut market = open(&settings);
    let mut events = Vec::new();
    let ids = market.list_items(seconds(1), vec![redline(1_000); 100], &mut events);
    for id in &ids {
        market.join(seconds(2), id, &mut events).unwrap();
    }
    assert_eq!(market.balance().cents(), 900_000);
    market.advance(seconds(60), &mut events);
    let returned = market.history().purchases().filter(|(_, one)| one.is_returned()).count();
    assert!((15..50).contains(&returned), "{returned}");
    let back = i64::try_from(returned).unwrap() * 1_000;
    assert_eq!(market.balance().cents(), 900_000 + back);
    assert_eq!(market.history().spent().cents(), 100_000 - back);
    assert!(
        market
            .bought()
            .all(|one| !matches!(one.status, TradeStatus::Joined | TradeStatus::Processing))
    );
}

/// A market on which every purchase is cancelled after 5 s and refunded after 10 s more.
fn cancelling_market() -> MarketState {
    open(&SimSettings {
        delivery: Delivery {
            confirm: (seconds(5), seconds(5)),
            refund: (seconds(10), seconds(10)),
            fail_permille: 1_000,
            ..Delivery::default()
        },
        ..quiet()
    })
}

#[test]
fn a_purchase_is_cancelled_before_it_is_refunded() {
    let mut market = cancelling_market();
    let mut events = Vec::new();
    let ids = market.list_items(seconds(1), vec![redline(1_000)], &mut events);
    market.join(seconds(2), &ids[0], &mut events).unwrap();
    market.advance(Duration::from_millis(16_999), &mut events);
    let is_cancelled = |status| {
        matches!(status, TradeStatus::Cancelled | TradeStatus::Expired | TradeStatus::Cooldown)
    };
    assert!(market.bought().all(|one| is_cancelled(one.status)));
    assert_eq!((market.balance().cents(), market.history().spent().cents()), (49_000, 1_000));
    market.advance(seconds(17), &mut events);
    let purchase = market.history().listing(&ids[0]).unwrap().purchase.unwrap();
    assert_eq!(
        (purchase.cancelled_at, purchase.refunded_at),
        (Some(seconds(7)), Some(seconds(17)))
    );
    assert_eq!((market.balance().cents(), market.history().spent().cents()), (50_000, 0));
}

#[test]
fn past_states_of_the_account_can_be_read_for_a_minute() {
    let mut market = cancelling_market();
    let mut events = Vec::new();
    let ids = market.list_items(seconds(1), vec![redline(1_000)], &mut events);
    market.join(seconds(2), &ids[0], &mut events).unwrap();
    let now = seconds(40);
    market.advance(now, &mut events);
    let state_at = |at: u64| {
        let age = now.saturating_sub(seconds(at));
        let bought = market.bought_before(now, age);
        let status = bought.first().map(|one| one.status == TradeStatus::Joined);
        (market.balance_before(now, age).cents(), status)
    };
    assert_eq!(state_at(1), (50_000, None));
    assert_eq!([state_at(2), state_at(6)], [(49_000, Some(true)); 2]);
    assert_eq!([state_at(7), state_at(16)], [(49_000, Some(false)); 2]);
    assert_eq!([state_at(17), state_at(40)], [(50_000, Some(false)); 2]);
}

#[test]
fn the_books_have_the_price_paid_if_it_is_above_the_listed_one() {
    let mut market = cancelling_market();
    let mut events = Vec::new();
    let ids = market.list_items(seconds(1), vec![redline(1_000)], &mut events);
    let sold = market.join(seconds(2), &ids[0], &mut events).unwrap();
    let repriced = market.surcharge(seconds(2), &sold, Amount::from_cents(100), &mut events);
    assert_eq!((repriced.item.total.cents(), market.balance().cents()), (1_100, 48_900));
    assert_eq!(market.history().spent().cents(), 1_100);
    assert!(market.bought().all(|one| one.item.total.cents() == 1_100));
    market.advance(seconds(60), &mut events);
    assert_eq!(market.balance().cents(), 50_000);
}

#[test]
fn false_events_are_about_existing_listings_and_change_nothing() {
    let mut market = open(&quiet());
    let mut rng = Rng::with_seed(7);
    for kind in
        [FaultKind::FeedLie, FaultKind::FeedRelist, FaultKind::FeedUnlist, FaultKind::FeedCut]
    {
        assert_eq!(market.false_event(kind, NOON, &mut rng), None, "{kind}");
    }
    let mut events = Vec::new();
    let ids = market.list_items(seconds(1), vec![redline(1_000); 2], &mut events);
    market.join(seconds(2), &ids[0], &mut events).unwrap();
    for _ in 0..100 {
        let mut false_event = |kind| market.false_event(kind, NOON, &mut rng).unwrap();
        let MarketEvent::Updated(purchase) = false_event(FaultKind::FeedLie) else {
            panic!("no update")
        };
        assert_eq!(
            (purchase.id(), purchase.status == TradeStatus::Joined),
            (ids[0].clone(), false)
        );
        let MarketEvent::Wallet { balance, .. } = false_event(FaultKind::PushLie) else {
            panic!("no balance")
        };
        assert!(balance.cents() <= 98_000);
        let MarketEvent::Created(again) = false_event(FaultKind::FeedRelist) else {
            panic!("no listing")
        };
        assert!(ids.contains(&again[0].id()) && again[0].status == TradeStatus::Listed);
        let MarketEvent::Updated(gone) = false_event(FaultKind::FeedUnlist) else {
            panic!("no update")
        };
        assert_eq!((gone.id(), gone.status == TradeStatus::Listed), (ids[1].clone(), false));
    }
    assert_eq!((market.open().count(), market.balance().cents()), (1, 49_000));
}

#[test]
fn the_same_seed_gives_the_same_market() {
    let history = |seed| {
        let mut market = open(&SimSettings { seed, ..SimSettings::default() });
        let mut events = Vec::new();
        while let Some(due) = market.next_due().filter(|due| *due < seconds(20)) {
            market.advance(due, &mut events);
        }
        events
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
    let is_rival = |event: &&MarketEvent| matches!(event, MarketEvent::Updated(one) if one.buyer == Some(ListingBuyer::Rival));
    assert!(history(7).iter().filter(is_rival).count() > 50);
}

#[test]
fn rivals_are_optional() {
    let settings = SimSettings { rivals: None, ..SimSettings::default() };
    let mut market = open(&settings);
    let mut events = Vec::new();
    market.advance(seconds(20), &mut events);
    assert!(events.iter().all(|event| matches!(event, MarketEvent::Created(_))));
    let eager = Rivals { share_permille: 1_000, ..Rivals::default() };
    let mut market = open(&SimSettings { rivals: Some(eager), ..SimSettings::default() });
    market.advance(seconds(20), &mut Vec::new());
    market.advance(seconds(20) + eager.delay_max + seconds(40), &mut events);
    assert!(market.open().count() < market.history().listings().count());
}

#[test]
fn the_oldest_listings_are_closed_beyond_the_limit() {
    let mut market = open(&SimSettings { rivals: None, ..SimSettings::default() });
    let mut events = Vec::new();
    let ids = market.list_items(seconds(0), vec![redline(1_000); OPEN_MAX], &mut events);
    let due = market.next_due().unwrap();
    market.advance(due, &mut events);
    let above = usize::try_from(market.history().listed).unwrap() - OPEN_MAX;
    assert!(above > 0);
    assert_eq!(market.open().count(), OPEN_MAX);
    let is_closed = |id: &String| market.history().listing(id).unwrap().closed.is_some();
    assert_eq!(ids.iter().filter(|id| is_closed(id)).count(), above);
    assert!(ids.iter().take(above).all(is_closed));
}

proptest! {
    /// Invariants 1 and 2.
    #[test]
    fn no_listing_is_sold_twice_and_the_balance_is_exact(
        steps in prop::collection::vec((0_usize..12, 0_u64..900), 1..60),
        fail_permille in 0_u32..1_000,
        balance in 0_i64..20_000,
    ) {
        let delivery = Delivery { fail_permille, ..Delivery::default() };
        let balance = Amount::from_cents(balance);
        let mut market = open(&SimSettings { balance, delivery, ..quiet() });
        let mut events = Vec::new();
        let rival = |after: u64| Some(Duration::from_millis(after)).filter(|_| after.is_multiple_of(2));
        let items = (0..12_u64).map(|n| ListedItem { rival_after: rival(n * 700), ..redline(1_000) });
        let ids = market.list_items(Duration::ZERO, items.collect(), &mut events);
        let mut now = Duration::ZERO;
        for (which, wait) in steps {
            now += Duration::from_millis(wait);
            let result = market.join(now, &ids[which], &mut events);
            prop_assert!(result.is_err() || market.bought().any(|one| one.id() == ids[which]));
            prop_assert!(Amount::ZERO <= market.balance());
            let spent = market.history().spent();
            prop_assert_eq!(market.balance().saturating_add(spent), balance);
        }
        let mut owners = BTreeMap::new();
        for event in &events {
            if let MarketEvent::Updated(listing) = event {
                let before = owners.insert(listing.number, listing.buyer);
                prop_assert!(before.is_none_or(|before| before == listing.buyer));
            }
        }
    }
}
