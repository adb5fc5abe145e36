//! The market's rules, one by one, and the invariants whatever happens.

use proptest::prelude::*;

use super::*;
use crate::sim::{
    faults::FaultKind,
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

/// Offers one thing and tries to join it so many seconds later.
#[track_caller]
fn check(
    settings: &SimSettings,
    offer: ListedItem,
    after: u64,
    expected: Result<(), SaleRejection>,
) {
    let mut exchange = open(settings);
    let mut events = Vec::new();
    let ids = exchange.offer(seconds(1), vec![offer], &mut events);
    let joined = exchange.join(seconds(1 + after), &ids[0], &mut events);
    assert_eq!(joined.map(|_| ()), expected);
}

#[test]
fn a_listing_is_sold_and_paid_once() {
    let mut exchange = open(&quiet());
    let mut events = Vec::new();
    let ids = exchange.offer(seconds(1), vec![redline(1_000)], &mut events);
    let sold = exchange.join(seconds(2), &ids[0], &mut events).unwrap();
    assert_eq!((sold.status, sold.buyer), (TradeStatus::Joined, Some(ListingBuyer::User)));
    assert_eq!(exchange.balance().cents(), 49_000);
    assert_eq!(exchange.join(seconds(2), &ids[0], &mut events), Err(SaleRejection::NotJoinable));
    assert_eq!(
        exchange.join(seconds(3), &ids[0], &mut events),
        Err(SaleRejection::NoLongerAvailable)
    );
    assert_eq!(exchange.balance().cents(), 49_000);
    assert!(matches!(
        &events[..],
        [MarketEvent::Created(_), MarketEvent::Updated(_), MarketEvent::Wallet { .. }]
    ));
}

#[test]
fn what_cannot_be_had_is_refused_in_the_markets_words() {
    check(&quiet(), redline(1_000), 1, Ok(()));
    check(&quiet(), redline(50_000), 1, Ok(()));
    check(&quiet(), redline(50_001), 1, Err(SaleRejection::Balance));
    let limited = SimSettings { daily_limit: Some(Amount::from_cents(999)), ..quiet() };
    check(&limited, redline(1_000), 1, Err(SaleRejection::DailyLimit));
    for oddity in [ListingDefect::Own, ListingDefect::CannotJoin, ListingDefect::NotListed] {
        let odd = ListedItem { oddity: Some(oddity), ..redline(1_000) };
        check(&quiet(), odd, 1, Err(SaleRejection::NotJoinable));
    }
    let short = ListedItem { open_for: seconds(5), ..redline(1_000) };
    check(&quiet(), short.clone(), 4, Ok(()));
    check(&quiet(), short, 8, Err(SaleRejection::NoLongerAvailable));
}

#[test]
fn a_held_listing_can_be_joined_from_its_moment_on() {
    let held = ListedItem { can_join_after: Some(seconds(3)), ..redline(1_000) };
    check(&quiet(), held.clone(), 2, Err(SaleRejection::NotJoinable));
    check(&quiet(), held, 3, Ok(()));
}

#[test]
fn a_flagged_account_waits_longer_than_others() {
    let offer = ListedItem { suspected_can_join_after: seconds(2), ..redline(1_000) };
    let flagged = SimSettings { suspected_trader: true, ..quiet() };
    check(&quiet(), offer.clone(), 0, Ok(()));
    check(&flagged, offer.clone(), 1, Err(SaleRejection::NotJoinable));
    check(&flagged, offer, 2, Ok(()));
}

#[test]
fn a_rival_takes_a_listing_when_its_time_has_come_and_not_before() {
    let contested =
        ListedItem { rival_after: Some(Duration::from_millis(2_600)), ..redline(1_000) };
    check(&quiet(), contested.clone(), 2, Ok(()));
    check(&quiet(), contested.clone(), 3, Err(SaleRejection::NotJoinable));
    check(&quiet(), contested, 4, Err(SaleRejection::NoLongerAvailable));
}

#[test]
fn what_was_never_listed_is_not_found() {
    let mut exchange = open(&quiet());
    for id in ["", "nonsense", "VHJhZGU6MQ"] {
        assert_eq!(
            exchange.join(seconds(1), id, &mut Vec::new()),
            Err(SaleRejection::NotFound),
            "{id}"
        );
    }
}

#[test]
fn purchases_are_delivered_or_the_coins_come_back() {
    let settings = SimSettings {
        delivery: Delivery { fail_permille: 300, ..Delivery::default() },
        balance: Amount::from_cents(1_000_000),
        ..quiet()
    };
    let mut exchange = open(&settings);
    let mut events = Vec::new();
    let ids = exchange.offer(seconds(1), vec![redline(1_000); 100], &mut events);
    for id in &ids {
        exchange.join(seconds(2), id, &mut events).unwrap();
    }
    assert_eq!(exchange.balance().cents(), 900_000);
    exchange.advance(seconds(60), &mut events);
    let returned = exchange.books().purchases().filter(|(_, one)| one.is_returned()).count();
    assert!((15..50).contains(&returned), "{returned}");
    let back = i64::try_from(returned).unwrap() * 1_000;
    assert_eq!(exchange.balance().cents(), 900_000 + back);
    assert_eq!(exchange.books().spent().cents(), 100_000 - back);
    assert!(
        exchange
            .bought()
            .all(|one| !matches!(one.status, TradeStatus::Joined | TradeStatus::Processing))
    );
}

/// An exchange on which every purchase is cancelled after 5 s and refunded after 10 s more.
fn cancelling() -> MarketState {
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
fn a_cancelled_purchase_is_shown_as_such_before_its_coins_are_back() {
    let mut exchange = cancelling();
    let mut events = Vec::new();
    let ids = exchange.offer(seconds(1), vec![redline(1_000)], &mut events);
    exchange.join(seconds(2), &ids[0], &mut events).unwrap();
    exchange.advance(Duration::from_millis(16_999), &mut events);
    let is_cancelled = |status| {
        matches!(status, TradeStatus::Cancelled | TradeStatus::Expired | TradeStatus::Cooldown)
    };
    assert!(exchange.bought().all(|one| is_cancelled(one.status)));
    assert_eq!((exchange.balance().cents(), exchange.books().spent().cents()), (49_000, 1_000));
    exchange.advance(seconds(17), &mut events);
    let purchase = exchange.books().entry(&ids[0]).unwrap().purchase.unwrap();
    assert_eq!(
        (purchase.cancelled_at, purchase.refunded_at),
        (Some(seconds(7)), Some(seconds(17)))
    );
    assert_eq!((exchange.balance().cents(), exchange.books().spent().cents()), (50_000, 0));
}

#[test]
fn the_account_is_remembered_as_it_was_at_each_moment_of_the_last_minute() {
    let mut exchange = cancelling();
    let mut events = Vec::new();
    let ids = exchange.offer(seconds(1), vec![redline(1_000)], &mut events);
    exchange.join(seconds(2), &ids[0], &mut events).unwrap();
    let now = seconds(40);
    exchange.advance(now, &mut events);
    let then = |at: u64| {
        let age = now.saturating_sub(seconds(at));
        let bought = exchange.bought_before(now, age);
        let status = bought.first().map(|one| one.status == TradeStatus::Joined);
        (exchange.balance_before(now, age).cents(), status)
    };
    assert_eq!(then(1), (50_000, None));
    assert_eq!([then(2), then(6)], [(49_000, Some(true)); 2]);
    assert_eq!([then(7), then(16)], [(49_000, Some(false)); 2]);
    assert_eq!([then(17), then(40)], [(50_000, Some(false)); 2]);
}

#[test]
fn what_costs_more_than_it_was_listed_for_is_in_the_books_at_what_was_paid() {
    let mut exchange = cancelling();
    let mut events = Vec::new();
    let ids = exchange.offer(seconds(1), vec![redline(1_000)], &mut events);
    let sold = exchange.join(seconds(2), &ids[0], &mut events).unwrap();
    let told = exchange.surcharge(seconds(2), &sold, Amount::from_cents(100), &mut events);
    assert_eq!((told.offer.total.cents(), exchange.balance().cents()), (1_100, 48_900));
    assert_eq!(exchange.books().spent().cents(), 1_100);
    assert!(exchange.bought().all(|one| one.offer.total.cents() == 1_100));
    exchange.advance(seconds(60), &mut events);
    assert_eq!(exchange.balance().cents(), 50_000);
}

#[test]
fn the_feeds_lies_are_about_what_is_there_and_are_not_so() {
    let mut exchange = open(&quiet());
    let mut dice = Dice::new(7);
    for kind in
        [FaultKind::FeedLie, FaultKind::FeedRelist, FaultKind::FeedUnlist, FaultKind::FeedCut]
    {
        assert_eq!(exchange.lie(kind, NOON, &mut dice), None, "{kind}");
    }
    let mut events = Vec::new();
    let ids = exchange.offer(seconds(1), vec![redline(1_000); 2], &mut events);
    exchange.join(seconds(2), &ids[0], &mut events).unwrap();
    for _ in 0..100 {
        let mut lie = |kind| exchange.lie(kind, NOON, &mut dice).unwrap();
        let MarketEvent::Updated(purchase) = lie(FaultKind::FeedLie) else { panic!("no update") };
        assert_eq!(
            (purchase.id(), purchase.status == TradeStatus::Joined),
            (ids[0].clone(), false)
        );
        let MarketEvent::Wallet { balance, .. } = lie(FaultKind::PushLie) else {
            panic!("no balance")
        };
        assert!(balance.cents() <= 98_000);
        let MarketEvent::Created(again) = lie(FaultKind::FeedRelist) else { panic!("no listing") };
        assert!(ids.contains(&again[0].id()) && again[0].status == TradeStatus::Listed);
        let MarketEvent::Updated(gone) = lie(FaultKind::FeedUnlist) else { panic!("no update") };
        assert_eq!((gone.id(), gone.status == TradeStatus::Listed), (ids[1].clone(), false));
    }
    assert_eq!((exchange.open().count(), exchange.balance().cents()), (1, 49_000));
}

#[test]
fn the_same_seed_is_the_same_market() {
    let history = |seed| {
        let mut exchange = open(&SimSettings { seed, ..SimSettings::default() });
        let mut events = Vec::new();
        while let Some(due) = exchange.next_due().filter(|due| *due < seconds(20)) {
            exchange.advance(due, &mut events);
        }
        events
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
    let taken = |event: &&MarketEvent| matches!(event, MarketEvent::Updated(one) if one.buyer == Some(ListingBuyer::Rival));
    assert!(history(7).iter().filter(taken).count() > 50);
}

#[test]
fn rivals_can_be_left_out() {
    let settings = SimSettings { rivals: None, ..SimSettings::default() };
    let mut exchange = open(&settings);
    let mut events = Vec::new();
    exchange.advance(seconds(20), &mut events);
    assert!(events.iter().all(|event| matches!(event, MarketEvent::Created(_))));
    let eager = Rivals { share_permille: 1_000, ..Rivals::default() };
    let mut exchange = open(&SimSettings { rivals: Some(eager), ..SimSettings::default() });
    exchange.advance(seconds(20), &mut Vec::new());
    exchange.advance(seconds(20) + eager.delay_max + seconds(40), &mut events);
    assert!(exchange.open().count() < exchange.books().entries().count());
}

#[test]
fn old_listings_make_room_for_new_ones() {
    let mut exchange =
        open(&SimSettings { rivals: None, rate: Rate::per_second(50_000), ..quiet() });
    let mut events = Vec::new();
    while exchange.next_due().is_some_and(|due| due <= seconds(2)) {
        exchange.advance(seconds(2), &mut events);
    }
    assert!(exchange.books().offered > 90_000);
    assert!(exchange.open().count() <= OPEN_MAX);
}

proptest! {
    /// Invariants 1 and 2, whatever is asked for and in whatever order.
    #[test]
    fn nothing_is_sold_twice_and_the_balance_is_exact(
        steps in prop::collection::vec((0_usize..12, 0_u64..900), 1..60),
        fail_permille in 0_u32..1_000,
        balance in 0_i64..20_000,
    ) {
        let delivery = Delivery { fail_permille, ..Delivery::default() };
        let balance = Amount::from_cents(balance);
        let mut exchange = open(&SimSettings { balance, delivery, ..quiet() });
        let mut events = Vec::new();
        let rival = |after: u64| Some(Duration::from_millis(after)).filter(|_| after.is_multiple_of(2));
        let offers = (0..12_u64).map(|n| ListedItem { rival_after: rival(n * 700), ..redline(1_000) });
        let ids = exchange.offer(Duration::ZERO, offers.collect(), &mut events);
        let mut now = Duration::ZERO;
        for (which, wait) in steps {
            now += Duration::from_millis(wait);
            let result = exchange.join(now, &ids[which], &mut events);
            prop_assert!(result.is_err() || exchange.bought().any(|one| one.id() == ids[which]));
            prop_assert!(Amount::ZERO <= exchange.balance());
            let spent = exchange.books().spent();
            prop_assert_eq!(exchange.balance().saturating_add(spent), balance);
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
