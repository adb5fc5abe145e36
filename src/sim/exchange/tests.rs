//! The market's rules, one by one, and the invariants whatever happens.

use proptest::prelude::*;

use super::*;
use crate::sim::settings::{Rate, Rivals};

const NOON: UnixMs = UnixMs(1_772_366_400_000);

fn quiet() -> Settings {
    Settings { rate: Rate::NONE, rivals: None, ..Settings::default() }
}

fn open(settings: &Settings) -> Exchange {
    Exchange::new(settings, NOON)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn redline(cents: i64) -> Offer {
    let price = Coins::from_cents(cents);
    Offer::plain("AK-47 | Redline (Field-Tested)", price, price)
}

/// Offers one thing and tries to join it so many seconds later.
#[track_caller]
fn check(settings: &Settings, offer: Offer, after: u64, expected: Result<(), Refusal>) {
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
    assert_eq!((sold.status, sold.buyer), (Status::Joined, Some(Buyer::User)));
    assert_eq!(exchange.balance().cents(), 49_000);
    assert_eq!(exchange.join(seconds(2), &ids[0], &mut events), Err(Refusal::NotJoinable));
    assert_eq!(exchange.join(seconds(3), &ids[0], &mut events), Err(Refusal::NoLongerAvailable));
    assert_eq!(exchange.balance().cents(), 49_000);
    assert!(matches!(&events[..], [Event::Created(_), Event::Updated(_), Event::Wallet { .. }]));
}

#[test]
fn what_cannot_be_had_is_refused_in_the_markets_words() {
    check(&quiet(), redline(1_000), 1, Ok(()));
    check(&quiet(), redline(50_000), 1, Ok(()));
    check(&quiet(), redline(50_001), 1, Err(Refusal::Balance));
    let limited = Settings { daily_limit: Some(Coins::from_cents(999)), ..quiet() };
    check(&limited, redline(1_000), 1, Err(Refusal::DailyLimit));
    for oddity in [Oddity::Own, Oddity::CannotJoin, Oddity::NotListed] {
        let odd = Offer { oddity: Some(oddity), ..redline(1_000) };
        check(&quiet(), odd, 1, Err(Refusal::NotJoinable));
    }
    let short = Offer { open_for: seconds(5), ..redline(1_000) };
    check(&quiet(), short.clone(), 4, Ok(()));
    check(&quiet(), short, 8, Err(Refusal::NoLongerAvailable));
}

#[test]
fn a_held_listing_can_be_joined_from_its_moment_on() {
    let held = Offer { can_join_after: Some(seconds(3)), ..redline(1_000) };
    check(&quiet(), held.clone(), 2, Err(Refusal::NotJoinable));
    check(&quiet(), held, 3, Ok(()));
}

#[test]
fn a_flagged_account_waits_longer_than_others() {
    let offer = Offer { suspected_can_join_after: seconds(2), ..redline(1_000) };
    let flagged = Settings { suspected_trader: true, ..quiet() };
    check(&quiet(), offer.clone(), 0, Ok(()));
    check(&flagged, offer.clone(), 1, Err(Refusal::NotJoinable));
    check(&flagged, offer, 2, Ok(()));
}

#[test]
fn a_rival_takes_a_listing_when_its_time_has_come_and_not_before() {
    let contested = Offer { rival_after: Some(Duration::from_millis(2_600)), ..redline(1_000) };
    check(&quiet(), contested.clone(), 2, Ok(()));
    check(&quiet(), contested.clone(), 3, Err(Refusal::NotJoinable));
    check(&quiet(), contested, 4, Err(Refusal::NoLongerAvailable));
}

#[test]
fn what_was_never_listed_is_not_found() {
    let mut exchange = open(&quiet());
    for id in ["", "nonsense", "VHJhZGU6MQ"] {
        assert_eq!(exchange.join(seconds(1), id, &mut Vec::new()), Err(Refusal::NotFound), "{id}");
    }
}

#[test]
fn purchases_are_delivered_or_the_coins_come_back() {
    let settings = Settings {
        delivery: Delivery { fail_permille: 300, ..Delivery::default() },
        balance: Coins::from_cents(1_000_000),
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
        exchange.bought().all(|one| !matches!(one.status, Status::Joined | Status::Processing))
    );
}

#[test]
fn the_same_seed_is_the_same_market() {
    let history = |seed| {
        let mut exchange = open(&Settings { seed, ..Settings::default() });
        let mut events = Vec::new();
        while let Some(due) = exchange.next_due().filter(|due| *due < seconds(20)) {
            exchange.advance(due, &mut events);
        }
        events
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
    let taken =
        |event: &&Event| matches!(event, Event::Updated(one) if one.buyer == Some(Buyer::Rival));
    assert!(history(7).iter().filter(taken).count() > 50);
}

#[test]
fn rivals_can_be_left_out() {
    let settings = Settings { rivals: None, ..Settings::default() };
    let mut exchange = open(&settings);
    let mut events = Vec::new();
    exchange.advance(seconds(20), &mut events);
    assert!(events.iter().all(|event| matches!(event, Event::Created(_))));
    let eager = Rivals { share_permille: 1_000, ..Rivals::default() };
    let mut exchange = open(&Settings { rivals: Some(eager), ..Settings::default() });
    exchange.advance(seconds(20), &mut Vec::new());
    exchange.advance(seconds(20) + eager.delay_max + seconds(40), &mut events);
    assert!(exchange.open().count() < exchange.books().entries().count());
}

#[test]
fn old_listings_make_room_for_new_ones() {
    let mut exchange = open(&Settings { rivals: None, rate: Rate::per_second(50_000), ..quiet() });
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
        let balance = Coins::from_cents(balance);
        let mut exchange = open(&Settings { balance, delivery, ..quiet() });
        let mut events = Vec::new();
        let rival = |after: u64| Some(Duration::from_millis(after)).filter(|_| after.is_multiple_of(2));
        let offers = (0..12_u64).map(|n| Offer { rival_after: rival(n * 700), ..redline(1_000) });
        let ids = exchange.offer(Duration::ZERO, offers.collect(), &mut events);
        let mut now = Duration::ZERO;
        for (which, wait) in steps {
            now += Duration::from_millis(wait);
            let result = exchange.join(now, &ids[which], &mut events);
            prop_assert!(result.is_err() || exchange.bought().any(|one| one.id() == ids[which]));
            prop_assert!(Coins::ZERO <= exchange.balance());
            let spent = exchange.books().spent();
            prop_assert_eq!(exchange.balance().saturating_add(spent), balance);
        }
        let mut owners = BTreeMap::new();
        for event in &events {
            if let Event::Updated(listing) = event {
                let before = owners.insert(listing.number, listing.buyer);
                prop_assert!(before.is_none_or(|before| before == listing.buyer));
            }
        }
    }
}
