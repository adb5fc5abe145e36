//! Tests of the slices of a shared budget, compared with separate books, and of power losses.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::ledger::{
    allowance::{Allowance, EntrySlice, OrderPermit, SharedLimit},
    entries::tests::grouped,
    intent::CrashLoss,
};

/// Returns two named entries in a group, and one without a name.
fn entries() -> Vec<WhitelistEntry> {
    let limits = (Some(1_000), Some(coins(1_000)));
    let limited = |name| WhitelistEntry { max_total: Some(coins(1_000)), ..entry(Some(name)) };
    let bounded = |entry| grouped(entry, "both", limits);
    vec![bounded(limited("first")), bounded(limited("second")), entry(None)]
}

fn windows() -> Budget {
    Budget { per_hour: Some(coins(100_000)), per_day: Some(coins(100_000)), ..budget() }
}

fn shared() -> Ledger {
    let mut ledger = Ledger::in_memory(windows(), &entries(), false);
    ledger.share("main", T0);
    ledger
}

const UNLIMITED: EntrySlice = EntrySlice { quantity: 1_000, total: Amount::MAX };

/// Returns slices that no test reaches unless it lowers them.
fn allowance(ledger: &mut Ledger) -> Allowance {
    let mut allowance = Allowance {
        permit: OrderPermit::Until(after(1_000_000)),
        total: Amount::MAX,
        per_hour: Amount::MAX,
        per_day: Amount::MAX,
        groups: vec![("both".into(), UNLIMITED)],
        ..Allowance::default()
    };
    for entry in ledger.shared_usage(T0).entries {
        allowance.set_entry(entry.slot, UNLIMITED);
    }
    allowance
}

fn allow(ledger: &mut Ledger, change: impl FnOnce(&mut Allowance)) {
    let mut allowance = allowance(ledger);
    change(&mut allowance);
    assert!(ledger.set_allowance(Box::new(allowance)).is_some());
}

#[test]
fn nothing_is_approved_without_a_permit_or_after_its_end() {
    let mut ledger = shared();
    assert_rejected(&mut ledger, order_request(1, 1), T0, RiskRejection::NoSlice);
    for (permit, expected) in [
        (OrderPermit::Standby, RiskRejection::Standby),
        (OrderPermit::Rejected("why"), RiskRejection::SharedRejected("why")),
        (OrderPermit::Until(T0), RiskRejection::NoContact { until: T0 }),
    ] {
        allow(&mut ledger, |allowance| allowance.permit = permit);
        assert_rejected(&mut ledger, order_request(1, 1), T0, expected);
    }
    allow(&mut ledger, |allowance| {
        allowance.permit = OrderPermit::Until(T0.plus(Duration::from_millis(1)));
    });
    let _approved = ledger.reserve(order_request(1, 1), T0).unwrap();
}

#[test]
fn a_limit_without_a_slice_allows_nothing() {
    let rejected = |change: fn(&mut Allowance)| {
        let mut ledger = shared();
        allow(&mut ledger, change);
        ledger.reserve(order_request(1, 1), T0).map(drop).unwrap_err().name()
    };
    assert_eq!(rejected(|it| it.total = Amount::ZERO), "shared_total");
    assert_eq!(rejected(|it| it.per_hour = Amount::ZERO), "shared_per_hour");
    assert_eq!(rejected(|it| it.per_day = Amount::ZERO), "shared_per_day");
    assert_eq!(rejected(|it| it.entries.clear()), "shared_max_quantity");
    assert_eq!(rejected(|it| it.groups.clear()), "shared_group_max_quantity");
    let no_total = |slices: &mut EntrySlice| slices.total = Amount::ZERO;
    let mut ledger = shared();
    allow(&mut ledger, |it| it.entries.iter_mut().for_each(no_total));
    let rejection = RiskRejection::SharedAmount {
        limit: SharedLimit::EntryTotal,
        spent: Amount::ZERO,
        price: coins(1),
        slice: Amount::ZERO,
    };
    assert_rejected(&mut ledger, order_request(1, 1), T0, rejection);
    assert_eq!(
        rejection.to_string(),
        "1.00 does not fit into this bot's slice of its entry's max_total: 0.00 of 0.00 spent"
    );
    let unnamed = OrderRequest { entry: 2, ..order_request(1, 1) };
    let _approved = ledger.reserve(unnamed, T0).unwrap();
}

#[test]
fn lost_orders_count_against_every_slice() {
    fn two(slice: &mut EntrySlice) {
        slice.quantity = 2;
    }
    fn sixty(slice: &mut EntrySlice) {
        slice.total = coins(60);
    }
    let rejected = |change: fn(&mut Allowance)| {
        let mut ledger = shared();
        lose(&mut ledger, 2, 60, T0, T0);
        allow(&mut ledger, change);
        let request = OrderRequest { created_at: Some(after(1)), ..order_request(1, 1) };
        ledger.reserve(request, after(1)).map(drop).map_err(|rejection| rejection.name())
    };
    assert_eq!(rejected(|_unlimited| {}), Ok(()));
    assert_eq!(rejected(|it| it.total = coins(60)), Err("shared_total"));
    assert_eq!(rejected(|it| it.per_hour = coins(60)), Err("shared_per_hour"));
    assert_eq!(rejected(|it| it.per_day = coins(60)), Err("shared_per_day"));
    assert_eq!(rejected(|it| it.entries.iter_mut().for_each(two)), Err("shared_max_quantity"));
    assert_eq!(rejected(|it| it.entries.iter_mut().for_each(sixty)), Err("shared_max_total"));
    assert_eq!(rejected(|it| two(&mut it.groups[0].1)), Err("shared_group_max_quantity"));
    assert_eq!(rejected(|it| sixty(&mut it.groups[0].1)), Err("shared_group_max_total"));
}

#[test]
fn a_ledger_that_does_not_share_has_no_slices() {
    let mut ledger = ledger(budget());
    assert!(ledger.set_allowance(Box::default()).is_none());
    let _effects = place_order(&mut ledger, order_request(1, 5), &BOUGHT, T0);
    assert!(ledger.permit().is_none());
}

#[test]
fn the_shared_total_counts_since_the_ledger_joined_and_a_new_budget_changes_nothing() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(Some("first"))], false);
    let _effects = place_order(&mut ledger, order_request(1, 5), &UNKNOWN, T0);
    let used = |ledger: &mut Ledger| ledger.shared_usage(T0).total.used;
    ledger.share("main", T0);
    assert_eq!(used(&mut ledger), coins(0));
    allow(&mut ledger, |_unlimited| {});
    let _effects = place_order(&mut ledger, order_request(2, 7), &BOUGHT, T0);
    ledger.new_budget(operator(), T0);
    assert_eq!(used(&mut ledger), coins(7));
    let evidence = Evidence::NotBought;
    let _effects = ledger.resolve(&id(1), evidence, operator(), T0).unwrap();
    assert_eq!(used(&mut ledger), coins(7), "an order from before does not free what came after");
    ledger.share("other", T0);
    assert_eq!(used(&mut ledger), coins(0));
    ledger.share("main", T0);
    assert_eq!(used(&mut ledger), coins(7), "the group is joined once");
    ledger.state().check().unwrap();
}

#[test]
fn a_restart_keeps_what_counts_against_the_shared_total() {
    let folder = tempfile::tempdir().unwrap();
    let used = |ledger: &mut Ledger| ledger.shared_usage(T0).total.used;
    let mut ledger = disk::open(folder.path(), "boot", T0);
    let approved = disk::reserve(&mut ledger, order_request(1, 1), T0);
    let _effects = ledger.settle(approved.key(), &BOUGHT, T0).unwrap();
    ledger.share("main", T0);
    let mut allowance = allowance(&mut ledger);
    allowance.groups.clear();
    ledger.set_allowance(Box::new(allowance)).unwrap();
    let approved = disk::reserve(&mut ledger, order_request(2, 2), T0);
    let _effects = ledger.settle(approved.key(), &BOUGHT, T0).unwrap();
    assert_eq!(used(&mut ledger), coins(2));
    let image = disk::crash_image(folder.path());
    drop(ledger);
    for folder in [folder.path(), image.path()] {
        let mut ledger = disk::open(folder, "boot", T0);
        ledger.share("main", T0);
        assert_eq!(used(&mut ledger), coins(2));
        let rejection = ledger.reserve(order_request(3, 1), T0).unwrap_err();
        assert_eq!(rejection, RiskRejection::NoSlice, "until the database has confirmed a slice");
        ledger.state().check().unwrap();
    }
}

fn set_slice(ledger: &mut Ledger, permit: OrderPermit, total: i64) {
    let mut allowance = Allowance { permit, total: coins(total), ..allowance(ledger) };
    allowance.groups.clear();
    ledger.set_allowance(Box::new(allowance)).unwrap();
}

/// Returns what a power loss at this moment would count as lost.
fn loss_now(folder: &Path) -> CrashLoss {
    let image = disk::crash_image(folder);
    disk::lose_power(image.path(), || false);
    let location = disk::location(image.path(), "another");
    let again = Ledger::open(&location, disk::limits(), &disk::entries(), after(1)).unwrap();
    again.state().loss()
}

#[test]
fn a_power_loss_counts_the_rest_of_the_slice_and_nothing_on_standby() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = disk::open(folder.path(), "boot", T0);
    ledger.share("main", T0);
    let until = OrderPermit::Until(after(1_000));
    let mut spent = 0;
    for (permit, slice, lost) in [
        (until, 60, 50),
        (until, 30, 20),
        (until, 190, 180),
        (OrderPermit::Standby, 190, 0),
        (until, 100, 90),
        (OrderPermit::Rejected("why"), 100, 0),
        (until, 5, 0),
        (OrderPermit::Starting, 100, 0),
    ] {
        set_slice(&mut ledger, permit, slice);
        disk::wait_until(|| ledger.is_allowance_durable() && ledger.is_limit_durable());
        if spent == 0 {
            // An unknown order that uses 10 coins of the slice.
            let _effects = disk::place_order_when_ready(&mut ledger, 1, &UNKNOWN);
            disk::wait_until(|| ledger.is_durable() && ledger.is_limit_durable());
            spent = 10;
        }
        let loss = loss_now(folder.path());
        assert_eq!(loss.coins, coins(lost), "{permit:?} {slice}");
        assert_eq!(loss.count > 0, lost > 0, "{permit:?} {slice}");
    }
}

#[test]
fn a_member_that_was_started_again_makes_nothing_durable_before_its_first_slice() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = disk::open(folder.path(), "boot", T0);
    ledger.share("main", T0);
    drop(ledger);
    let location = disk::location(folder.path(), "boot");
    let mut again = Ledger::open(&location, disk::limits(), &disk::entries(), after(1)).unwrap();
    assert_eq!(loss_now(folder.path()).count, 0, "opened");
    again.share("main", after(1));
    disk::ready(&mut again, after(1));
    disk::wait_until(|| again.is_durable() && again.is_limit_durable());
    assert_eq!(loss_now(folder.path()).count, 0, "bound");
}

#[test]
fn a_lower_slice_is_obeyed_only_once_the_lower_limit_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = disk::open(folder.path(), "boot", T0);
    ledger.share("main", T0);
    set_slice(&mut ledger, OrderPermit::Until(after(1_000)), 100);
    disk::wait_until(|| ledger.is_allowance_durable() && ledger.is_limit_durable());
    let database = folder.path().join(open::DATABASE);
    let mut foreign = rusqlite::Connection::open(database).unwrap();
    let hold = foreign.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    set_slice(&mut ledger, OrderPermit::Standby, 100);
    assert!(!ledger.is_allowance_durable(), "nothing can be written");
    hold.rollback().unwrap();
    disk::wait_until(|| ledger.is_allowance_durable());
}

#[test]
fn a_start_reports_the_orders_that_were_settled_without_contact() {
    let mut ledger = shared();
    allow(&mut ledger, |_unlimited| {});
    for number in 0..300 {
        let _effects = place_order(&mut ledger, order_request(number, 1), &BOUGHT, T0);
    }
    ledger.share("main", T0);
    assert_eq!(ledger.shared_usage(T0).changed.len(), 300);
}

#[test]
fn changed_orders_are_reported_once() {
    let mut ledger = shared();
    allow(&mut ledger, |_unlimited| {});
    let _effects = place_order(&mut ledger, order_request(1, 5), &BOUGHT, T0);
    let states = |ledger: &mut Ledger| -> Vec<OrderState> {
        ledger.shared_usage(T0).changed.iter().map(|order| order.state).collect()
    };
    assert_eq!(states(&mut ledger), [OrderState::Bought]);
    assert_eq!(states(&mut ledger), []);
    ledger.share("main", T0);
    assert_eq!(states(&mut ledger), [OrderState::Bought], "a start reports the newest ones");
}

#[test]
fn spending_of_another_bot_of_the_account_does_not_halt_while_it_may_spend() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(Some("first"))], true);
    let bought = OwnTrade {
        price: Some(coins(5)),
        joined_at: Some(T0),
        ..OwnTrade::bare(id(9), TradeStatus::Completed)
    };
    let read = |ledger: &mut Ledger, trades: &[OwnTrade], balance, at| {
        let reading = AccountReading { trades, complete: true, started: at };
        ledger.reconcile(&reading, Some(coins(balance)), at).halts
    };
    assert_eq!(read(&mut ledger, &[], 100, T0), []);
    ledger.set_account_shared(true, T0);
    assert_eq!(read(&mut ledger, &[bought], 50, after(100)), []);
    ledger.set_account_shared(false, T0);
    assert_eq!(read(&mut ledger, &[bought], 50, after(200)), [], "it was accepted");
    let other = OwnTrade { id: id(10), ..bought };
    assert_eq!(read(&mut ledger, &[bought, other], 40, after(300)).len(), 2);
}

#[test]
fn an_unknown_order_stays_unknown_after_a_takeover_if_another_bot_may_have_spent_its_coins() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(Some("first"))], true);
    let bought = OwnTrade {
        price: Some(coins(50)),
        joined_at: Some(after(50)),
        ..OwnTrade::bare(id(9), TradeStatus::Completed)
    };
    let read = |ledger: &mut Ledger, trades: &[OwnTrade], balance, at| {
        let reading = AccountReading { trades, complete: true, started: at };
        ledger.reconcile(&reading, Some(coins(balance)), at).halts.len()
    };
    assert_eq!(read(&mut ledger, &[], 100, T0), 0);
    let _effects = place_order(&mut ledger, order_request(1, 20), &UNKNOWN, T0);
    ledger.set_account_shared(true, T0);
    assert_eq!(read(&mut ledger, &[bought], 50, after(100)), 0);
    ledger.set_account_shared(false, after(100));
    assert_eq!(read(&mut ledger, &[bought], 50, after(200)), 0);
    let state = |ledger: &Ledger| ledger.state().intent(&id(1)).unwrap().state;
    assert_eq!(state(&ledger), OrderState::Unknown, "its coins may be among the missing ones");
    let _effects = ledger.resolve(&id(1), Evidence::NotBought, operator(), after(201)).unwrap();
    assert_eq!(read(&mut ledger, &[bought], 50, after(300)), 0);
    // Coins that are missing later are not of the other bot.
    let _effects = place_order(&mut ledger, order_request(2, 20), &UNKNOWN, after(301));
    assert_eq!(read(&mut ledger, &[bought], 20, after(400)), 2);
}

#[test]
fn a_purchase_of_another_bot_after_a_power_loss_is_none_of_the_lost_orders() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(Some("first"))], true);
    let purchase = |number, at| OwnTrade {
        price: Some(coins(5)),
        joined_at: Some(at),
        ..OwnTrade::bare(id(number), TradeStatus::Completed)
    };
    let read = |ledger: &mut Ledger, trades: &[OwnTrade], at| {
        let reading = AccountReading { trades, complete: true, started: at };
        assert_eq!(ledger.reconcile(&reading, Some(coins(100)), at).halts, []);
    };
    read(&mut ledger, &[], T0);
    lose(&mut ledger, 2, 20, after(70), after(10));
    ledger.set_account_shared(true, after(10));
    let [lost, later] = [purchase(1, after(60)), purchase(2, after(71))];
    read(&mut ledger, &[lost, later], after(75));
    let is_counted = |number| ledger.state().intent(&id(number)).is_some();
    assert_eq!([1, 2].map(is_counted), [true, false]);
}

/// The time of a loss is by the local clock, which may have been behind.
#[test]
fn an_order_that_a_power_loss_removed_is_counted_up_to_the_confirmed_end_of_the_loss() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(Some("first"))], true);
    let read = |ledger: &mut Ledger, trades: &[OwnTrade], at| {
        let reading = AccountReading { trades, complete: true, started: at };
        assert_eq!(ledger.reconcile(&reading, Some(coins(100)), at).halts, []);
    };
    read(&mut ledger, &[], T0);
    lose(&mut ledger, 2, 20, after(70), after(10));
    ledger.confirm_barrier(after(500), after(500));
    ledger.set_account_shared(true, after(500));
    let lost = OwnTrade {
        price: Some(coins(5)),
        joined_at: Some(after(450)),
        ..OwnTrade::bare(id(1), TradeStatus::Completed)
    };
    let later = OwnTrade { id: id(2), joined_at: Some(after(501)), ..lost };
    read(&mut ledger, &[lost, later], after(510));
    let is_counted = |number| ledger.state().intent(&id(number)).is_some();
    assert_eq!([1, 2].map(is_counted), [true, false]);
}

#[derive(Clone, Debug)]
enum Step {
    /// An order for an entry at a price.
    Order(usize, i64),
    /// The outcome of an order.
    Settle(usize, bool),
    Wait(u64),
    Slices {
        permitted: bool,
        amounts: [i64; 3],
        entry: (u32, i64),
        group: (u32, i64),
    },
    NewBudget,
}

fn step() -> impl Strategy<Value = Step> {
    let slice = || (0_u32..8, 0_i64..30);
    prop_oneof![
        8 => (0_usize..3, 1_i64..6).prop_map(|(entry, price)| Step::Order(entry, price)),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, bought)| Step::Settle(which, bought)),
        2 => (0_u64..50_000).prop_map(Step::Wait),
        4 => (prop::bool::weighted(0.9), prop::array::uniform3(0_i64..60), slice(), slice()).prop_map(
            |(permitted, amounts, entry, group)| Step::Slices { permitted, amounts, entry, group }
        ),
        1 => Just(Step::NewBudget),
    ]
}

/// Order in the books of the test.
struct Booked {
    entry: usize,
    price: i64,
    at: UnixMs,
    counts: bool,
    is_open: bool,
}

/// Slices in force.
struct Slices {
    permitted: bool,
    amounts: [i64; 3],
    entry: (u32, i64),
    group: (u32, i64),
}

impl Slices {
    /// Decides by recomputing every sum.
    fn permit(&self, books: &[Booked], (entry, price): (usize, i64), now: UnixMs) -> bool {
        let sum = |of: &dyn Fn(&Booked) -> bool| -> i64 {
            books.iter().filter(|it| it.counts && of(it)).map(|it| it.price).sum()
        };
        let count =
            |of: &dyn Fn(&Booked) -> bool| books.iter().filter(|it| it.counts && of(it)).count();
        let within = |s: u64, it: &Booked| now < it.at.plus(Duration::from_secs(s));
        let [total, hour, day] = self.amounts;
        let mut permitted = self.permitted
            && sum(&|_all| true) + price <= total
            && sum(&|it| within(3_600, it)) + price <= hour
            && sum(&|it| within(86_400, it)) + price <= day;
        if entry < 2 {
            let own = |it: &Booked| it.entry == entry;
            let both = |it: &Booked| it.entry < 2;
            permitted &= count(&own) < usize::try_from(self.entry.0).unwrap()
                && sum(&own) + price <= self.entry.1
                && count(&both) < usize::try_from(self.group.0).unwrap()
                && sum(&both) + price <= self.group.1;
        }
        permitted
    }

    fn apply(&self, ledger: &mut Ledger) {
        let slice = |(quantity, total)| EntrySlice { quantity, total: coins(total) };
        allow(ledger, |it| {
            it.permit = if self.permitted { it.permit } else { OrderPermit::Standby };
            [it.total, it.per_hour, it.per_day] = self.amounts.map(coins);
            it.entries.iter_mut().for_each(|entry| *entry = slice(self.entry));
            it.groups = vec![("both".into(), slice(self.group))];
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(histories() * 4))]

    /// An order is approved if and only if separate books permit it: every slice is obeyed, and no
    /// other order is rejected.
    #[test]
    fn an_order_is_approved_exactly_within_every_slice(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (mut ledger, mut now, mut books) = (shared(), T0, Vec::<Booked>::new());
        let mut slices = Slices { permitted: true, amounts: [40; 3], entry: (5, 20), group: (9, 30) };
        slices.apply(&mut ledger);
        for (n, step) in (1..).zip(steps) {
            match step {
                Step::Order(entry, price) => {
                    let request = OrderRequest { entry, ..order_request(n, price) };
                    let expected = slices.permit(&books, (entry, price), now);
                    let found = ledger.reserve(request, now).map(drop);
                    prop_assert_eq!(found.is_ok(), expected, "{:?}", found);
                    let (counts, is_open) = (expected, expected);
                    books.push(Booked { entry, price, at: now, counts, is_open });
                    continue;
                }
                Step::Settle(which, is_bought) => {
                    let open: Vec<usize> = (0..books.len()).filter(|it| books[*it].is_open).collect();
                    if let Some(index) = open.get(which % open.len().max(1)) {
                        let outcome = if is_bought { BOUGHT } else { TAKEN };
                        let number = ledger.state().intents().iter().filter(|it| it.state.is_in_flight());
                        let position = open.iter().position(|it| it == index).unwrap();
                        let key = number.map(Intent::key).nth(position).unwrap();
                        let _effects = ledger.settle(&key, &outcome, now).unwrap();
                        books[*index].is_open = false;
                        books[*index].counts = is_bought;
                    }
                }
                Step::Wait(seconds) => now = now.plus(Duration::from_secs(seconds)),
                Step::Slices { permitted, amounts, entry, group } => {
                    slices = Slices { permitted, amounts, entry, group };
                    slices.apply(&mut ledger);
                }
                Step::NewBudget => ledger.new_budget(operator(), now),
            }
            let usage = ledger.shared_usage(now);
            let sum: i64 = books.iter().filter(|it| it.counts).map(|it| it.price).sum();
            prop_assert_eq!(usage.total.used, coins(sum));
            ledger.state().check().unwrap();
            // What a power loss may count fits into each slice, and is enough for the next orders.
            let (state, [total, hour, day]) = (ledger.state(), slices.amounts.map(coins));
            let limit = state.limit_to_request(Duration::ZERO);
            let lost = limit.wanted.coins.saturating_sub(state.approved_totals().coins);
            let windows = [(usage.per_hour, hour), (usage.per_day, day)];
            let windows = windows.map(|(used, slice)| slice.saturating_sub(used.unwrap().used));
            let left = windows.into_iter().fold(total.saturating_sub(usage.total.used), Amount::min);
            let left = if slices.permitted { left.max(Amount::ZERO) } else { Amount::ZERO };
            prop_assert_eq!(lost, left);
            prop_assert_eq!(limit.max.unwrap().coins, state.approved_totals().coins.saturating_add(left));
        }
    }
}
