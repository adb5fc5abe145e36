//! Tests of the number of approvals that are made durable in advance.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::{sync::Notify, time::timeout};

use super::{
    disk::{entries, location, open, ready, reserve},
    *,
};
use crate::ledger::{
    intent::{ApprovedTotals, LimitRequest},
    private::LedgerLock,
    state::LedgerState,
    writer::WriterState,
};
use crate::threads::Alarm;

fn ahead(state: &LedgerState, sync_time: Duration) -> (Amount, u64) {
    let (limit, approved) = (state.limit_to_request(sync_time).wanted, state.approved_totals());
    (limit.coins.saturating_sub(approved.coins), limit.count - approved.count)
}

#[test]
fn the_orders_ahead_follow_the_rate_and_the_sync_time() {
    let mut ledger = ledger(budget());
    assert_eq!(ahead(ledger.state(), Duration::ZERO), (coins(64_000), 64));
    for n in 0..40 {
        let now = T0.plus(Duration::from_millis(u64::from(n) * 20));
        let _effects = place_order(&mut ledger, order_request(n, 10), &TAKEN, now);
    }
    for (ms, orders) in [(0, 64), (300, 64), (500, 80), (2_000, 320), (60_000, 1_000)] {
        assert_eq!(ahead(ledger.state(), Duration::from_millis(ms)).1, orders, "{ms} ms");
    }
    let _rejected = ledger.reserve(order_request(40, 10), after(62));
    assert_eq!(ahead(ledger.state(), Duration::from_secs(2)).1, 64, "a minute later");
}

proptest! {
    /// At any rate, no more is made durable than the limits allow, and at least as much as the
    /// next order needs.
    #[test]
    fn the_orders_ahead_never_exceed_a_limit(
        orders in prop::collection::vec((1_i64..60, 0_u64..3, 0_u64..400), 0..80),
        (total, per_hour, balance) in (1_i64..2_000, prop::option::of(1_i64..900), 0_i64..3_000),
        max_buys_per_minute in 1_u32..200,
        sync_ms in 0_u64..5_000,
    ) {
        let limits = Budget {
            max_price: coins(50),
            total: coins(total),
            per_hour: per_hour.map(coins),
            min_balance: coins(5),
            max_buys_per_minute,
            ..budget()
        };
        let mut ledger = ledger(limits.clone());
        let _effects = ledger.set_balance(coins(balance), T0, T0);
        let (sync_time, mut now) = (Duration::from_millis(sync_ms), T0);
        for (number, (price, outcome, wait)) in (1..).zip(orders) {
            now = now.plus(Duration::from_millis(wait));
            let before = ledger.state().limit_to_request(sync_time).wanted;
            if let Ok(approved) = ledger.reserve(order_request(number, price), now) {
                prop_assert!(ledger.state().approved_totals().is_within(before));
                let key = *approved.key();
                let outcome = [BOUGHT, TAKEN, UNKNOWN][usize::try_from(outcome).unwrap()].clone();
                ledger.sent(&key, now).unwrap();
                let _effects = ledger.settle(&key, &outcome, now).unwrap();
            }
            let (more, count) = ahead(ledger.state(), sync_time);
            let snapshot = ledger.snapshot(now);
            let open = ledger.state().account.open_coins();
            let left = |bound: Amount, used| bound.saturating_sub(used).max(Amount::ZERO);
            prop_assert!(more <= left(limits.total, snapshot.spent).saturating_add(open));
            let available = left(snapshot.available_min.unwrap(), limits.min_balance);
            prop_assert!(more <= available.saturating_add(open));
            prop_assert!(limits.per_hour.is_none_or(|bound| more <= bound));
            prop_assert!(more <= limits.max_price.saturating_mul(i64::try_from(count).unwrap()));
            prop_assert!(count <= u64::from(max_buys_per_minute));
            prop_assert!(count >= u64::from(max_buys_per_minute.min(64)));
        }
    }
}

#[test]
fn a_long_sync_is_remembered_and_slowly_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let shared = ledger.journal.as_ref().unwrap().shared_for_tests();
    let long = Duration::from_secs(3_600);
    shared.record_sync(long);
    let remembered = |ledger: &Ledger| ledger.journal.as_ref().unwrap().sync_time();
    assert_eq!(remembered(&ledger), long);
    let _approved = reserve(&mut ledger, order_request(1, 1), T0);
    disk::wait_until(|| ledger.is_durable());
    assert!(remembered(&ledger) <= long && long / 2 < remembered(&ledger));
    for _ in 0..1_000 {
        shared.record_sync(Duration::from_millis(1));
    }
    assert_eq!(remembered(&ledger), Duration::from_millis(1));
}

/// The writer polls every 10 ms, so a thousand orders are approved faster than it makes durable.
#[tokio::test]
async fn an_order_beyond_the_durable_limit_is_announced_when_it_may_be_approved() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Budget { max_buys_per_minute: 100_000, max_in_flight: 100_000, ..budget() };
    let location = location(folder.path(), "boot");
    let mut ledger = Ledger::open(&location, limits, &entries(), T0).unwrap();
    let waker = Arc::new(Notify::new());
    ledger.wake_on_progress(Arc::clone(&waker));
    ready(&mut ledger, T0);
    disk::wait_until(|| ledger.is_durable() && ledger.is_limit_durable());
    assert_eq!(ledger.journal.as_ref().unwrap().shared_for_tests().durable_limit().count, 64);
    let mut announced = 0;
    for n in 1..=1_000 {
        while let Err(rejection) = ledger.reserve(order_request(n, 1), T0) {
            assert_eq!(rejection, RiskRejection::Behind);
            timeout(Duration::from_secs(20), waker.notified()).await.unwrap();
            announced += 1;
        }
        ledger.sent(&key(n), T0).unwrap();
    }
    assert!(0 < announced, "the durable limit was never reached");
}

/// Step of the thread that approves, or of the writer.
#[derive(Clone, Copy, Debug)]
enum LimitStep {
    /// A request for this many more coins, and the maximum above them.
    Request(i64, i64),
    Approve(i64),
    Load,
    Commit,
    PublishLimit,
    PublishNumber,
}

fn limit_step() -> impl Strategy<Value = LimitStep> {
    prop_oneof![
        3 => (0_i64..20, 0_i64..10).prop_map(|(more, above)| LimitStep::Request(more, above)),
        3 => (1_i64..10).prop_map(LimitStep::Approve),
        2 => Just(LimitStep::Load),
        2 => Just(LimitStep::Commit),
        2 => Just(LimitStep::PublishLimit),
        2 => Just(LimitStep::PublishNumber),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Regardless of the order of the steps of both threads, no approval exceeds the limit on the
    /// disk, and that is not above the maximum once the request is fulfilled.
    #[test]
    fn a_limit_is_lowered_only_after_approvals_obey_it(
        steps in prop::collection::vec(limit_step(), 1..80),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let lock = LedgerLock::take(folder.path()).unwrap();
        let shared = WriterState::new(lock, Alarm::default(), 0);
        let totals = |amount: i64| ApprovedTotals { coins: coins(amount), count: amount.unsigned_abs() };
        let (mut approved, mut disk, mut max) = (0, totals(0), totals(0));
        // The writer carries out its steps in their order.
        let (mut loaded, mut done) = (None, 0);
        for step in steps {
            match step {
                LimitStep::Request(more, above) => {
                    let (wanted, most) = (totals(approved + more), totals(approved + more + above));
                    if !shared.is_lowering() {
                        max = most;
                    }
                    shared.request_limit(LimitRequest { wanted, max: Some(most) });
                }
                LimitStep::Approve(price)
                    if totals(approved + price).is_within(shared.limit_in_force()) =>
                {
                    approved += price;
                    prop_assert!(totals(approved).is_within(max), "{step:?}");
                }
                LimitStep::Load if loaded.is_none() => {
                    (loaded, done) = (Some(shared.limit_to_commit()), 0);
                }
                LimitStep::Commit if done == 0 => {
                    if let Some((limit, _number)) = loaded {
                        (disk, done) = (limit, 1);
                    }
                }
                LimitStep::PublishLimit if done == 1 => {
                    shared.set_durable_limit(disk);
                    done = 2;
                }
                LimitStep::PublishNumber if done == 2 => {
                    shared.on_durable(loaded.take().unwrap().1);
                    done = 3;
                }
                _ => {}
            }
            prop_assert!(totals(approved).is_within(disk), "{step:?}");
            prop_assert!(shared.is_lowering() || disk.is_within(max), "{step:?}");
        }
    }
}
