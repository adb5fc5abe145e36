//! Tests of paused entries, and of the snapshot for other threads.

use std::{
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::sync_channel,
    },
    thread,
};

use super::*;
use crate::{
    ledger::{
        control::{ControlReply, ControlRequest, PendingRequest},
        entries::tests::grouped,
        pauses::{PauseRecorder, PausedNames},
        status::FeedStatus,
    },
    sniper::{
        Sniper,
        activity::{MatchResult, OrderProgress},
        pauses::Pauses,
        view::{ENTRIES_MAX, SessionView},
    },
};

/// Returns a session with two entries for the same item. The second one has the lower limit.
fn two_entries() -> TestSession {
    let named = |name: &str, cents: i64| WhitelistEntry {
        name: Some(name.to_owned()),
        max_price: Amount::from_cents(cents),
        max_quantity: 1_000,
        ..entry()
    };
    let entries = vec![named("first", 1_250), named("second", 1_100)];
    let mut session =
        TestSession::new(Executor::Live(FakeOrderSender::default()), ample_budget(), entries);
    session.engine.activity.observe();
    session
}

impl TestSession {
    fn view(&mut self) -> SessionView {
        let now = self.now();
        self.engine.view(FeedStatus::default(), self.after, now)
    }

    pub(super) fn request(&mut self, request: ControlRequest) -> ControlReply {
        let (reply, answered) = sync_channel(1);
        let (pending, now) = (PendingRequest { request, reply }, self.now());
        self.engine.handle_control_request(&pending, FeedStatus::default(), None, now);
        answered.recv().unwrap()
    }

    fn set_paused(&mut self, entry: &str, is_paused: bool) -> ControlReply {
        let (entry, by) = (entry.to_owned(), "me".to_owned());
        self.request(match is_paused {
            true => ControlRequest::PauseEntry { entry, by },
            false => ControlRequest::EnableEntry { entry, by },
        })
    }
}

#[test]
fn a_paused_entry_matches_nothing_until_it_is_enabled() {
    let mut session = two_entries();
    assert!(matches!(session.set_paused("first", true), ControlReply::Done(_)));
    session.consider(trade("a", REDLINE));
    assert_eq!(&*session.view().matches[0].entry, "second");
    session.set_paused("second", true);
    session.consider(trade("b", REDLINE));
    assert_eq!(session.sent(), ["a"]);
    assert_eq!(session.view().whitelist.paused().collect::<Vec<_>>(), [0, 1]);
    session.set_paused("first", false);
    session.consider(trade("c", REDLINE));
    assert_eq!(session.sent(), ["a", "c"]);
    assert_eq!(&*session.view().matches[0].entry, "first");
}

#[test]
fn an_unknown_entry_is_not_paused() {
    let ControlReply::Rejected(why) = two_entries().set_paused("third", true) else { panic!() };
    assert_eq!(why, "no whitelist entry is named \"third\"");
}

#[test]
fn a_held_listing_of_an_entry_that_was_paused_meanwhile_is_skipped() {
    let mut session = two_entries();
    session.sync_clock();
    session.consider(Trade { can_join_after: Some(UnixMs(2_003_000)), ..trade("a", REDLINE) });
    assert_eq!(session.view().matches[0].result, MatchResult::Waiting);
    session.set_paused("first", true);
    session.after = Duration::from_secs(10);
    session.run_timers();
    assert_eq!((session.sent().len(), session.skipped("entry paused")), (0, 1));
}

#[test]
fn a_snapshot_has_orders_matches_near_misses_and_counts() {
    let mut session = two_entries();
    session.consider(trade("a", REDLINE));
    session.consider(Trade { is_own: true, ..trade("b", REDLINE) });
    let mut dear = trade("c", REDLINE);
    dear.total_value = Some(Amount::from_cents(1_200));
    session.engine.whitelist.set_paused("first", true);
    session.consider(dear);
    let view = session.view();
    assert_eq!((view.is_live, view.counts.listings, view.counts.matched), (true, 3, 2));
    assert_eq!(view.counts.skipped, [("own listing", 1)]);
    let [order] = view.orders.as_slice() else { panic!("{:?}", view.orders) };
    assert_eq!((&*order.item, &order.result), (REDLINE, &OrderProgress::Sent));
    assert!(order.latency.is_some());
    let results: Vec<MatchResult> = view.matches.iter().map(|found| found.result).collect();
    assert_eq!(results, [MatchResult::Skipped("it is your own listing"), MatchResult::Ordered]);
    let [miss] = view.near_misses.as_slice() else { panic!("{:?}", view.near_misses) };
    assert_eq!((miss.entry, miss.mismatch.to_string().as_str()), (1, "price 12.00 is above 11.00"));
    assert_eq!((view.entries[0].matched, view.entries[0].used.quantity), (2, 1));
    assert_eq!(view.latency.read().count(), 1);
}

/// Prepares the rules of a reload that keeps the entries in their order.
fn prepared(engine: &mut Engine<FakeOrderSender>, pauses: &Pauses) -> Rules {
    let entries = engine.whitelist.entries().to_vec();
    let mut plan = engine.ledger().entry_plan();
    assert_eq!(plan.set(&entries, &entries, false), []);
    let recorder = engine.ledger().rules_recorder();
    let whitelist = Arc::new(Whitelist::new(entries));
    Rules {
        pauses: pauses.prepare(&whitelist),
        whitelist,
        ledger: recorder.record(plan, ample_budget(), UnixMs(0)).unwrap(),
        prices: PriceSnapshot::default(),
        other_sources: None,
        max_wait: Duration::from_secs(1),
    }
}

#[test]
fn a_pause_while_a_reload_is_prepared_is_kept() {
    let mut session = two_entries();
    session.set_paused("second", true);
    let pauses = session.engine.current_pauses();
    let rules = prepared(&mut session.engine, &pauses);
    session.set_paused("first", true);
    session.set_paused("second", false);
    let now = session.now();
    let _old = session.engine.replace_rules(rules, now, None);
    assert_eq!(session.view().whitelist.paused().collect::<Vec<_>>(), [0]);
}

#[test]
fn a_paused_group_stays_paused_in_the_next_whitelist() {
    let named = |name: &str| WhitelistEntry { name: Some(name.to_owned()), ..entry() };
    let knife = |name: &str| grouped(named(name), "knives", (None, None));
    let executor = Executor::Live(FakeOrderSender::default());
    let entries = vec![knife("a"), knife("b"), named("c")];
    let mut session = TestSession::new(executor, ample_budget(), entries);
    let (group, by) = ("knives".to_owned(), "me".to_owned());
    let done = session.request(ControlRequest::PauseGroup { group, by });
    assert!(matches!(done, ControlReply::Done(_)));
    // `a` leaves the group and stays paused; `c` joins it, and `d` is new.
    let paused = |session: &TestSession| {
        let new = Whitelist::new(vec![named("a"), knife("c"), knife("d"), named("e")]);
        session.engine.current_pauses().prepare(&new);
        new.paused().collect::<Vec<_>>()
    };
    assert_eq!(paused(&session), [0, 1, 2]);
    // With one entry enabled, the group is not paused as a whole.
    session.set_paused("b", false);
    assert_eq!(paused(&session), [0]);
    // Its entries are paused, but not the group.
    session.set_paused("b", true);
    assert_eq!(paused(&session), [0]);
    assert!(session.view().whitelist.paused_groups().is_empty());
}

#[test]
fn a_paused_name_that_the_whitelist_does_not_have_is_paused_once_it_is_added() {
    let mut session = two_entries();
    let entries = ["first", "third"].map(str::to_owned).to_vec();
    let names = PausedNames { entries, groups: Vec::new() };
    assert_eq!(session.engine.restore_pauses(&names, PauseRecorder::default()), ["third"]);
    let named = |name: &str| WhitelistEntry { name: Some(name.to_owned()), ..entry() };
    let next = Whitelist::new(["second", "third"].map(named).to_vec());
    let prepared = session.engine.current_pauses().prepare(&next);
    assert_eq!(next.paused().collect::<Vec<_>>(), [1]);
    assert_eq!(prepared.absent.entries, ["first"]);
}

/// A time under the lock would depend on the machine. A copy of something per entry would allocate.
#[test]
fn a_reload_of_100_000_entries_loses_no_listing_and_keeps_10_000_pauses() {
    const ENTRIES: usize = 100_000;
    const PAUSED: usize = 10_000;
    /// Maximum number of bytes that are allocated under the lock.
    const LOCKED_BYTES: u64 = 16 * 1024;
    let item =
        |n: usize| if n == 0 { entry().item } else { ItemPattern::Named(format!("Item {n}")) };
    let named = |n: usize| WhitelistEntry {
        name: Some(format!("entry {n}")),
        item: item(n),
        max_quantity: 1_000_000,
        ..entry()
    };
    let mut session =
        TestSession::new(Executor::Dry, ample_budget(), (0..ENTRIES).map(named).collect());
    let entries = (1..=PAUSED).map(|n| format!("entry {n}")).collect();
    let names = PausedNames { entries, groups: Vec::new() };
    assert!(session.engine.restore_pauses(&names, PauseRecorder::default()).is_empty());
    let pauses = session.engine.current_pauses();
    let rules = prepared(&mut session.engine, &pauses);
    let (sniper, is_done) = (Sniper::new(session.engine), AtomicBool::new(false));
    let seen = AtomicU64::new(0);
    let (listings, allocated) = thread::scope(|scope| {
        let feed = scope.spawn(|| {
            let mut listings = 0_u64;
            while !is_done.load(Ordering::Acquire) || listings < 100 {
                sniper.consider(trade(&format!("{listings}"), REDLINE));
                listings += 1;
                seen.store(listings, Ordering::Release);
                thread::yield_now();
            }
            listings
        });
        while seen.load(Ordering::Acquire) < 10 {
            thread::yield_now();
        }
        // The lock is taken for the plan, and then for the change.
        let (mut plan, mut old) = (None, None);
        let planned = sniper.with_engine(|engine| {
            let measured = || plan = Some((engine.ledger().entry_plan(), engine.current_pauses()));
            allocation_counter::measure(measured)
        });
        let changed = sniper.with_engine(|engine| {
            let measured = || old = Some(engine.replace_rules(rules, Now::read(), None));
            allocation_counter::measure(measured)
        });
        is_done.store(true, Ordering::Release);
        (feed.join().unwrap(), [planned, changed].map(|info| info.bytes_total))
    });
    assert!(allocated.iter().sum::<u64>() < LOCKED_BYTES, "{allocated:?} bytes under the lock");
    sniper.with_engine(|engine| {
        assert_eq!((engine.stats().listings, engine.stats().matched), (listings, listings));
        assert_eq!(engine.whitelist.paused().count(), PAUSED);
    });
}

#[tokio::test]
async fn a_snapshot_is_built_only_on_request_and_a_reader_is_woken() {
    let session = TestSession::live(ample_budget());
    let sniper = Sniper::new(session.engine);
    let watch = sniper.watch();
    let never = watch.next(Duration::from_millis(1)).await;
    assert!(never.is_none(), "nothing runs the session");
    let mut inputs = EngineInputs::default();
    let metrics = FeedMetrics::default();
    let view = tokio::select! {
        error = sniper.run(&mut inputs, &metrics) => panic!("{error}"),
        view = watch.next(Duration::from_secs(10)) => view.unwrap(),
    };
    assert_eq!(view.counts.listings, 0);
    assert_eq!(view.status.feed.as_ref().unwrap().state, "connecting");
}

#[test]
fn a_snapshot_of_many_entries_has_those_that_matched() {
    let named = |index: usize| WhitelistEntry {
        item: ItemPattern::Named(format!("Item {index}")),
        ..entry()
    };
    let last = ENTRIES_MAX + 49;
    let executor = Executor::Live(FakeOrderSender::default());
    let mut session = TestSession::new(executor, ample_budget(), (0..=last).map(named).collect());
    session.consider(trade("a", &format!("Item {last}")));
    let view = session.view();
    let shown: Vec<usize> = view.entries.iter().map(|entry| entry.index).collect();
    assert_eq!(shown, (0..ENTRIES_MAX - 1).chain([last]).collect::<Vec<_>>());
    assert_eq!(view.entries.last().map(|entry| (entry.matched, entry.used.quantity)), Some((1, 1)));
}

#[test]
fn a_snapshot_begins_with_the_purchases_before_its_reader() {
    let named = WhitelistEntry { name: Some("first".to_owned()), max_quantity: 1_000, ..entry() };
    let executor = Executor::Live(FakeOrderSender::default());
    let mut session = TestSession::new(executor, ample_budget(), vec![named]);
    session.consider(trade("a", REDLINE));
    session.settle(BOUGHT, true);
    session.consider(trade("b", REDLINE));
    for _ in 0..2 {
        session.engine.observe();
    }
    let orders = session.view().orders;
    let [order] = orders.as_slice() else { panic!("{orders:?}") };
    assert_eq!((&*order.item, &*order.entry), (REDLINE, "first"));
    assert_eq!(order.result, OrderProgress::Resolved(OrderState::Bought));
}
