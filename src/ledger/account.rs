//! The balance: a lower bound of what is available, and what the readings prove about orders.
//!
//! Pure. A reading never says which orders it includes. It was true at some moment between
//! [`SETTLE`] before its request was sent and its arrival, so a charge is surely in it only if the
//! charge was confirmed a whole [`SETTLE`] before the request. Two things follow from the readings:
//!
//! - `available`: what is left at least. Every order is deducted when it is reserved; a reading
//!   raises the bound only by what it shows beyond every order that it may not include.
//! - `base`: what a reading should show by the charges that it surely includes. Coins above it came
//!   in since (a refund, or a deposit); they are kept as inflows until a returned order claims them.
//!   Coins below the highest surplus seen are missing: some order was charged that is not confirmed.
//!
//! # Invariants
//!
//! 1. [`AccountBalance::available_min`] is never above what the account holds, while only this ledger
//!    spends from it.
//! 2. No coin that came in is claimed twice: a claim raises `base` by what it takes.
//! 3. A pushed balance only lowers what is available, and only until the next reading.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{collections::VecDeque, time::Duration};

use super::event::Sequence;
use crate::{domain::money::Amount, domain::time::UnixMs};

/// How long the marketplace may take to show an order in its lists and balances.
pub const SETTLE: Duration = Duration::from_secs(60);
/// How many inflows are kept apart; beyond them the two oldest are joined.
const INFLOWS_MAX: usize = 1_024;
/// How many readings without missing coins are remembered. More than fit into [`SETTLE`] at the
/// least distance between two readings.
const AGREEMENTS_MAX: usize = 32;

/// A balance, and when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceReading {
    /// How much.
    pub coins: Amount,
    /// When its request was sent.
    pub as_of: UnixMs,
    /// When it was taken into account, which is after it arrived.
    pub at: UnixMs,
}

/// What an order costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// What counts against the limits: the most that it can have cost.
    pub(super) counted: Amount,
    /// The least that it can have cost.
    pub(super) charged: Amount,
}

/// When an order was reserved, and what is deducted for it; `None` where nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) at: UnixMs,
    pub(super) price: Option<Amount>,
}

/// A confirmed charge that the readings so far may not include.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Charge {
    sequence: Sequence,
    at: UnixMs,
    cost: Cost,
    /// Whether the order was reserved before the first reading, which may include it already.
    is_in_base: bool,
}

/// Coins that came in and no returned order has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inflow {
    at: UnixMs,
    coins: Amount,
}

/// A balance that fell further than every order together explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BalanceDrop {
    /// The least that can be explained.
    pub(super) expected: Amount,
    /// What was read.
    pub(super) actual: Amount,
}

/// A balance that the feed has pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BalanceHint {
    coins: Amount,
    /// What was ever deducted, when it came.
    deducted: Amount,
}

/// The account's balance as the ledger knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AccountBalance {
    first_at: Option<UnixMs>,
    last: Option<BalanceReading>,
    hint: Option<BalanceHint>,
    /// Less every order that may not be in a reading; meaningless before the first reading.
    available: Amount,
    /// The prices of what is in flight or unknown.
    open: Amount,
    /// What may have been spent that is not on record.
    lost: Amount,
    charges: VecDeque<Charge>,
    /// The sum of `charges`, as counted.
    pending: Amount,
    base: Amount,
    /// By how much `base` was lowered without a charge that explains it.
    unexplained: Amount,
    inflows: VecDeque<Inflow>,
    /// When coins last came in, claimed since or not.
    received_at: Option<UnixMs>,
    /// The sum of `inflows`.
    surplus: Amount,
    /// Coins that the last reading lacks.
    missing: Amount,
    /// Readings in a row that lacked nothing, the oldest first.
    agreements: VecDeque<(UnixMs, UnixMs)>,
    /// All that was ever deducted from `available`.
    deducted: Amount,
}

impl AccountBalance {
    /// The last reading, if there was one.
    pub(super) const fn last_reading(&self) -> Option<BalanceReading> {
        self.last
    }

    /// The last balance read, if there was one.
    pub(super) fn balance(&self) -> Option<Amount> {
        self.last.map(|reading| reading.coins)
    }

    /// What is available at least; `None` before the first reading.
    pub(super) fn available_min(&self) -> Option<Amount> {
        let _read = self.last?;
        let pushed = self
            .hint
            .map(|hint| hint.coins.saturating_sub(self.deducted.saturating_sub(hint.deducted)));
        Some(pushed.map_or(self.available, |pushed| pushed.min(self.available)))
    }

    /// The prices of what is in flight or unknown.
    pub(super) const fn open_coins(&self) -> Amount {
        self.open
    }

    /// Whether a reading of this amount would change nothing.
    pub(super) fn is_unchanged(&self, coins: Amount) -> bool {
        self.balance() == Some(coins)
            && self.hint.is_none()
            && self.unsure() == Amount::ZERO
            && self.available == coins
            && self.missing == Amount::ZERO
            && self.base.saturating_add(self.surplus) == coins
    }

    /// Coins that the last reading lacks and that neither `others` nor a charge confirmed lately
    /// explains.
    pub(super) fn missing_beyond(&self, others: Amount) -> Amount {
        let explained = others.saturating_add(self.pending);
        self.missing.saturating_sub(explained).max(Amount::ZERO)
    }

    /// Whether the last reading lacks no coins, and was asked for after `moment`.
    pub(super) fn agrees_since(&self, moment: UnixMs) -> bool {
        !self.agreements.is_empty() && self.last.is_some_and(|last| moment < last.as_of)
    }

    /// Whether a reading that surely includes what was charged at `moment` lacks nothing, and the
    /// last one lacks nothing either. With `before`, the reading must have arrived by then.
    pub(super) fn agrees_about(&self, moment: UnixMs, before: Option<UnixMs>) -> bool {
        let shows = |as_of: UnixMs| moment.plus(SETTLE) <= as_of;
        self.agreements
            .iter()
            .any(|(as_of, at)| shows(*as_of) && before.is_none_or(|before| *at <= before))
    }

    /// Whether a reading surely includes what was charged at `moment`.
    pub(super) fn shows(&self, moment: UnixMs) -> bool {
        self.last.is_some_and(|last| moment.plus(SETTLE) <= last.as_of)
    }

    /// Whether the charge of this order may be missing from the last reading.
    pub(super) fn is_charge_pending(&self, sequence: Sequence) -> bool {
        self.charges.iter().any(|charge| charge.sequence == sequence)
    }

    /// Sets what may have been spent that is not on record.
    pub(super) fn set_lost(&mut self, coins: Amount) {
        let more = coins.saturating_sub(self.lost);
        self.deduct(more);
        self.lost = coins;
    }

    /// Deducts an order that is about to be sent.
    pub(super) fn reserve(&mut self, price: Amount) {
        self.open = self.open.saturating_add(price);
        self.deduct(price);
    }

    /// An open order ended without being charged.
    pub(super) fn cancel(&mut self, price: Amount) {
        self.open = self.open.saturating_sub(price);
        self.deduct(Amount::ZERO.saturating_sub(price));
    }

    /// The charge of an order is confirmed at `at`.
    pub(super) fn charge(
        &mut self,
        sequence: Sequence,
        cost: Cost,
        reserved: Reservation,
        at: UnixMs,
    ) {
        let price = reserved.price.unwrap_or_default();
        self.open = self.open.saturating_sub(price);
        self.deduct(cost.counted.saturating_sub(price));
        let is_in_base = self.first_at.is_none_or(|first| reserved.at < first);
        self.charges.push_back(Charge { sequence, at, cost, is_in_base });
        self.pending = self.pending.saturating_add(cost.counted);
    }

    /// What a charged order cost is known better.
    pub(super) fn reprice(&mut self, sequence: Sequence, from: Cost, to: Cost) {
        let more = to.counted.saturating_sub(from.counted);
        self.deduct(more.max(Amount::ZERO));
        if let Some(charge) = self.charges.iter_mut().find(|charge| charge.sequence == sequence) {
            charge.cost = to;
            self.pending = self.pending.saturating_add(more);
            return;
        }
        // It is in `base` already.
        let less = from.charged.saturating_sub(to.charged);
        // A charge that was understated may be what `base` was lowered by before.
        let explained = Amount::ZERO.saturating_sub(less).min(self.unexplained).max(Amount::ZERO);
        self.unexplained = self.unexplained.saturating_sub(explained);
        self.base = self.base.saturating_add(less).saturating_add(explained);
        if Amount::ZERO < less {
            // What the old price made look like an inflow was none, and a reading that lacked
            // nothing by the old price may lack something by the new one.
            self.trim(self.surplus.saturating_sub(less));
            self.agreements.clear();
        }
    }

    /// Whether coins that came in since `reserved_at` cover a returned order of this price.
    pub(super) fn covers(&self, price: Amount, reserved_at: UnixMs) -> bool {
        let since = self.inflows.iter().filter(|inflow| reserved_at <= inflow.at);
        price <= since.fold(Amount::ZERO, |sum, inflow| sum.saturating_add(inflow.coins))
    }

    /// A returned order claims the coins that came in, the oldest first.
    pub(super) fn claim(&mut self, price: Amount, reserved_at: UnixMs) {
        let mut left = price;
        for inflow in self.inflows.iter_mut().filter(|inflow| reserved_at <= inflow.at) {
            let taken = inflow.coins.min(left);
            inflow.coins = inflow.coins.saturating_sub(taken);
            left = left.saturating_sub(taken);
        }
        self.inflows.retain(|inflow| Amount::ZERO < inflow.coins);
        self.surplus = self.surplus.saturating_sub(price.saturating_sub(left));
        self.base = self.base.saturating_add(price);
    }

    /// Takes a balance that the feed has pushed. It only lowers what is available.
    pub(super) fn push(&mut self, coins: Amount) {
        self.hint = Some(BalanceHint { coins, deducted: self.deducted });
    }

    /// Takes a reading. One that is older than the last is ignored.
    pub(super) fn read(&mut self, reading: BalanceReading) -> Option<BalanceDrop> {
        let BalanceReading { coins, as_of, at } = reading;
        if self.last.is_some_and(|last| as_of < last.as_of) {
            return None;
        }
        self.include(as_of);
        self.hint = None;
        let unsure = self.unsure();
        let surely = coins.saturating_sub(unsure);
        if self.last.replace(reading).is_none() {
            self.first_at = Some(at);
            (self.base, self.available) = (coins, surely);
            self.agree(as_of, at);
            return None;
        }
        self.weigh(reading, unsure == Amount::ZERO);
        if self.available <= coins {
            self.available = self.available.max(surely);
            return None;
        }
        let drop = BalanceDrop { expected: self.available, actual: coins };
        self.available = surely;
        Some(drop)
    }

    /// Moments that lie after `now` are taken to be now, as after a start with a clock that stood
    /// ahead before it.
    pub(super) fn clamp(&mut self, now: UnixMs) {
        if let Some(last) = &mut self.last {
            last.as_of = last.as_of.min(now);
            last.at = last.at.min(now);
        }
        self.first_at = self.first_at.map(|at| at.min(now));
        self.received_at = self.received_at.map(|at| at.min(now));
        self.charges.iter_mut().for_each(|charge| charge.at = charge.at.min(now));
        self.inflows.iter_mut().for_each(|inflow| inflow.at = inflow.at.min(now));
        self.agreements.clear();
    }

    /// Compares a reading with what it should show.
    fn weigh(&mut self, reading: BalanceReading, is_complete: bool) {
        let BalanceReading { coins, as_of, at } = reading;
        let surplus = coins.saturating_sub(self.base);
        self.missing = self.surplus.saturating_sub(surplus).max(Amount::ZERO);
        if self.missing == Amount::ZERO {
            let more = surplus.saturating_sub(self.surplus);
            self.receive(Inflow { at, coins: more });
            return self.agree(as_of, at);
        }
        self.agreements.clear();
        // With nothing unsure, and everything that came in surely in the reading, the rest left the
        // account in another way. What a returned order may claim is less from now on.
        let shows_inflows = self.received_at.is_none_or(|newest| newest.plus(SETTLE) <= as_of);
        if is_complete && shows_inflows {
            self.trim(surplus.max(Amount::ZERO));
            let lowered = self.base.saturating_sub(coins).max(Amount::ZERO);
            self.base = self.base.saturating_sub(lowered);
            self.unexplained = self.unexplained.saturating_add(lowered);
            self.missing = Amount::ZERO;
        }
    }

    /// Moves the charges that a reading of this moment surely includes into `base`.
    fn include(&mut self, as_of: UnixMs) {
        let (mut counted, mut charged) = (Amount::ZERO, Amount::ZERO);
        self.charges.retain(|charge| {
            let is_included = charge.at.plus(SETTLE) <= as_of;
            if is_included {
                counted = counted.saturating_add(charge.cost.counted);
                if !charge.is_in_base {
                    charged = charged.saturating_add(charge.cost.charged);
                }
            }
            !is_included
        });
        self.pending = self.pending.saturating_sub(counted);
        self.base = self.base.saturating_sub(charged);
    }

    fn receive(&mut self, inflow: Inflow) {
        if inflow.coins <= Amount::ZERO {
            return;
        }
        if self.inflows.len() >= INFLOWS_MAX
            && let Some(oldest) = self.inflows.pop_front()
            && let Some(next) = self.inflows.front_mut()
        {
            // The earlier moment: fewer orders may claim it.
            next.at = oldest.at;
            next.coins = next.coins.saturating_add(oldest.coins);
        }
        self.received_at = Some(inflow.at);
        self.surplus = self.surplus.saturating_add(inflow.coins);
        self.inflows.push_back(inflow);
    }

    /// Gives up inflows, the newest first, until so much is left.
    fn trim(&mut self, left: Amount) {
        while left < self.surplus {
            let Some(newest) = self.inflows.back_mut() else { break };
            let taken = newest.coins.min(self.surplus.saturating_sub(left));
            newest.coins = newest.coins.saturating_sub(taken);
            self.surplus = self.surplus.saturating_sub(taken);
            if newest.coins <= Amount::ZERO {
                self.inflows.pop_back();
            }
        }
    }

    fn agree(&mut self, as_of: UnixMs, at: UnixMs) {
        if self.agreements.len() >= AGREEMENTS_MAX {
            self.agreements.pop_front();
        }
        self.agreements.push_back((as_of, at));
    }

    /// What may or may not be in a reading.
    const fn unsure(&self) -> Amount {
        self.open.saturating_add(self.pending).saturating_add(self.lost)
    }

    fn deduct(&mut self, coins: Amount) {
        self.available = self.available.saturating_sub(coins);
        self.deducted = self.deducted.saturating_add(coins);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coins(cents: i64) -> Amount {
        Amount::from_cents(cents)
    }

    fn account(cents: i64) -> AccountBalance {
        let mut account = AccountBalance::default();
        assert_eq!(read(&mut account, cents, 0), None);
        account
    }

    /// A reading whose request left at this second and was answered at once.
    fn read(account: &mut AccountBalance, cents: i64, second: i64) -> Option<BalanceDrop> {
        let at = UnixMs(second * 1_000);
        account.read(BalanceReading { coins: coins(cents), as_of: at, at })
    }

    fn cost(cents: i64) -> Cost {
        Cost { counted: coins(cents), charged: coins(cents) }
    }

    /// An order that was reserved, and confirmed as charged.
    fn bought(account: &mut AccountBalance, number: u64, cents: i64, second: i64) {
        account.reserve(coins(cents));
        confirmed(account, number, cents, second);
    }

    fn confirmed(account: &mut AccountBalance, number: u64, cents: i64, second: i64) {
        let at = UnixMs(second * 1_000);
        let reserved = Reservation { at, price: Some(coins(cents)) };
        account.charge(Sequence(number), cost(cents), reserved, at);
    }

    fn available(account: &AccountBalance) -> Amount {
        account.available_min().unwrap()
    }

    const T: UnixMs = UnixMs(0);

    #[test]
    fn a_reserved_order_is_deducted_at_once_and_a_cancelled_one_given_back() {
        let mut account = account(1_000);
        account.reserve(coins(300));
        assert_eq!(available(&account), coins(700));
        account.cancel(coins(300));
        assert_eq!(available(&account), coins(1_000));
    }

    #[test]
    fn a_reading_taken_while_an_order_is_in_flight_neither_halts_nor_deducts_it_twice() {
        let mut account = account(1_000);
        account.reserve(coins(300));
        assert_eq!(read(&mut account, 700, 10), None);
        assert_eq!(available(&account), coins(700));
        confirmed(&mut account, 1, 300, 20);
        assert_eq!(available(&account), coins(700));
        assert_eq!(read(&mut account, 700, 30), None);
        assert_eq!(available(&account), coins(700));
    }

    #[test]
    fn a_charge_that_shows_late_is_no_drop() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        assert_eq!(read(&mut account, 1_000, 20), None);
        assert_eq!(available(&account), coins(700));
        assert_eq!(read(&mut account, 700, 30), None);
        assert_eq!(available(&account), coins(700));
    }

    #[test]
    fn a_balance_from_before_a_charge_never_frees_what_was_charged() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        // Read 59 seconds later, and true before the charge.
        assert_eq!(read(&mut account, 1_000, 69), None);
        assert_eq!(available(&account), coins(700));
    }

    #[test]
    fn coins_that_came_back_are_available_once_a_reading_surely_includes_the_charge() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        assert_eq!(read(&mut account, 1_000, 30), None);
        assert_eq!(available(&account), coins(700));
        assert_eq!(read(&mut account, 1_000, 100), None);
        assert_eq!(available(&account), coins(1_000));
    }

    #[test]
    fn coins_that_vanish_without_an_order_are_a_drop_of_exactly_that_much() {
        let mut account = account(1_000);
        account.reserve(coins(300));
        let drop = read(&mut account, 650, 10);
        assert_eq!(drop, Some(BalanceDrop { expected: coins(700), actual: coins(650) }));
        assert_eq!(read(&mut account, 650, 20), None, "said once");
    }

    #[test]
    fn a_charge_for_an_order_that_was_rejected_is_a_drop_at_the_next_reading() {
        let mut account = account(1_000);
        account.reserve(coins(300));
        assert_eq!(read(&mut account, 700, 10), None);
        account.cancel(coins(300));
        assert!(read(&mut account, 700, 20).is_some());
    }

    #[test]
    fn coins_that_come_in_hide_no_later_drop() {
        let mut account = account(1_000);
        assert_eq!(read(&mut account, 5_000, 10), None);
        assert!(read(&mut account, 4_999, 100).is_some());
    }

    #[test]
    fn an_older_reading_changes_nothing() {
        let mut account = account(1_000);
        assert_eq!(read(&mut account, 900, 50).map(|drop| drop.actual), Some(coins(900)));
        assert_eq!(read(&mut account, 10, 49), None);
        assert_eq!(available(&account), coins(900));
    }

    #[test]
    fn a_pushed_balance_only_lowers_and_only_until_the_next_reading() {
        let mut account = account(1_000);
        account.push(coins(5_000));
        assert_eq!(available(&account), coins(1_000));
        account.push(coins(400));
        assert_eq!(available(&account), coins(400));
        account.reserve(coins(300));
        assert_eq!(available(&account), coins(100));
        assert_eq!(read(&mut account, 1_000, 10), None);
        assert_eq!(available(&account), coins(700));
    }

    #[test]
    fn a_refund_is_claimed_once() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        bought(&mut account, 2, 300, 11);
        assert_eq!(read(&mut account, 400, 100), None);
        assert!(!account.covers(coins(300), T));
        assert_eq!(read(&mut account, 700, 200), None);
        assert!(account.covers(coins(300), T) && !account.covers(coins(301), T));
        account.claim(coins(300), T);
        assert!(!account.covers(coins(1), T));
        // A reading from before the refund, and then one from after it, show nothing new.
        assert!(read(&mut account, 400, 220).is_some());
        assert_eq!(read(&mut account, 700, 300), None);
        assert!(!account.covers(coins(1), T));
    }

    #[test]
    fn coins_that_came_in_before_an_order_was_reserved_are_not_its_refund() {
        let mut account = account(1_000);
        assert_eq!(read(&mut account, 1_500, 10), None);
        assert!(account.covers(coins(500), UnixMs(10_000)));
        assert!(!account.covers(coins(1), UnixMs(10_001)));
    }

    #[test]
    fn coins_spent_elsewhere_are_not_held_against_later_refunds() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        assert_eq!(read(&mut account, 700, 100), None);
        assert!(read(&mut account, 500, 200).is_some());
        assert_eq!(read(&mut account, 800, 300), None);
        assert!(account.covers(coins(300), T));
    }

    #[test]
    fn an_unknown_order_that_was_charged_is_missing_until_it_is_confirmed() {
        let mut account = account(1_000);
        account.reserve(coins(300));
        assert_eq!(read(&mut account, 700, 100), None);
        assert_eq!(account.missing_beyond(coins(0)), coins(300));
        assert_eq!(account.missing_beyond(coins(300)), coins(0));
        assert!(!account.agrees_about(T, None));
        confirmed(&mut account, 1, 300, 110);
        assert_eq!(account.missing_beyond(coins(0)), coins(0));
        assert_eq!(read(&mut account, 700, 200), None);
        assert!(account.agrees_about(T, None));
    }

    #[test]
    fn an_answer_that_names_too_much_makes_no_refund() {
        let mut account = account(1_000);
        account.reserve(coins(300));
        let cost = Cost { counted: coins(900), charged: coins(300) };
        let reserved = Reservation { at: UnixMs(10_000), price: Some(coins(300)) };
        account.charge(Sequence(1), cost, reserved, UnixMs(10_000));
        assert_eq!(read(&mut account, 700, 100), None);
        assert!(!account.covers(coins(1), T));
    }
}
