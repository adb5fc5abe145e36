//! Account balance: a lower bound of the available coins, and the conclusions that balance readings
//! allow about orders.
//!
//! Pure. A reading does not list the orders that it includes. It was true at some moment between
//! [`SETTLE`] before its request was sent and its arrival, so it certainly includes a charge only
//! if the charge was confirmed at least [`SETTLE`] before the request. The readings yield two
//! amounts:
//!
//! - `available`: lower bound of the coins that are left. Every order is deducted when it is
//!   reserved. A reading raises the bound only by the amount that exceeds all orders it may not
//!   include.
//! - `expected`: amount that a reading should show, given the charges that it certainly includes. A
//!   surplus is recorded as an inflow (a refund or a deposit) until it is assigned to a returned
//!   order. A shortfall against the highest surplus seen is missing: an order was charged and is
//!   not confirmed.
//!
//! # Invariants
//!
//! 1. [`AccountBalance::available_min`] never exceeds the account's balance while only this ledger
//!    spends from it.
//! 2. No inflow is assigned twice: assigning coins raises `expected` by the same amount.
//! 3. A pushed balance only lowers the available amount, and only until the next reading.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{collections::VecDeque, time::Duration};

use super::event::Sequence;
use crate::{domain::money::Amount, domain::time::UnixMs};

/// Maximum delay until the market shows an order in its lists and balances.
pub const SETTLE: Duration = Duration::from_secs(60);
/// Maximum number of separate inflows. Beyond it the two oldest are merged.
const INFLOWS_MAX: usize = 1_024;
/// Maximum number of remembered readings without missing coins. Exceeds the number of readings that
/// fit into [`SETTLE`] at their minimum interval.
const READINGS_WITHOUT_SHORTFALL_MAX: usize = 32;

/// Balance of the account at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceReading {
    pub coins: Amount,
    /// Time at which the request was sent.
    pub as_of: UnixMs,
    /// Time at which the reading was applied, after its arrival.
    pub at: UnixMs,
}

/// Bounds of the price that was charged for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// Upper bound; counts against the limits.
    pub(super) counted: Amount,
    /// Lower bound.
    pub(super) charged: Amount,
}

/// Time of a reservation and the amount deducted for it, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) at: UnixMs,
    pub(super) price: Option<Amount>,
}

/// Confirmed charge that the readings so far may not include.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Charge {
    sequence: Sequence,
    at: UnixMs,
    cost: Cost,
    /// `true` if the order was reserved before the first reading, which may already include it.
    may_be_in_first_reading: bool,
}

/// Coins received that are not assigned to a returned order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inflow {
    at: UnixMs,
    coins: Amount,
}

/// Drop of the balance that the recorded orders do not explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BalanceDrop {
    /// Lowest balance that the recorded orders explain.
    pub(super) expected: Amount,
    pub(super) actual: Amount,
}

/// Balance that the feed pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PushedBalance {
    coins: Amount,
    /// Value of [`AccountBalance::deducted`] when it arrived.
    deducted: Amount,
}

/// Balance of the account as derived from readings and orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AccountBalance {
    first_at: Option<UnixMs>,
    last: Option<BalanceReading>,
    pushed: Option<PushedBalance>,
    /// Balance less every order that a reading may not include; meaningless before the first
    /// reading.
    available: Amount,
    /// Sum of the prices of orders in flight or unknown.
    open: Amount,
    /// Coins that unrecorded orders may have spent before a crash.
    crash_reserve: Amount,
    /// Ordered by sequence number. An order that was charged again may be in it twice.
    charges: VecDeque<Charge>,
    /// Sum of `charges`, at their upper bounds.
    pending: Amount,
    /// Amount that a reading should show, given the charges that it certainly includes.
    expected: Amount,
    /// Sum by which `expected` was lowered without a charge that explains it.
    unexplained: Amount,
    /// Time of the last such decrease; `None` once corrected prices explain the whole sum.
    unexplained_at: Option<UnixMs>,
    inflows: VecDeque<Inflow>,
    /// Time of the last inflow, assigned or not, or of the first reading.
    received_at: Option<UnixMs>,
    /// Sum of `inflows`.
    surplus: Amount,
    /// Shortfall of the last reading.
    missing: Amount,
    /// Consecutive readings without a shortfall, oldest first.
    readings_without_shortfall: VecDeque<BalanceReading>,
    /// Sum of all deductions from `available`, less what was restored.
    deducted: Amount,
    /// Amount by which readings lowered `available` although they may precede the last inflow.
    doubtful_drop: Amount,
}

impl AccountBalance {
    pub(super) const fn last_reading(&self) -> Option<BalanceReading> {
        self.last
    }

    pub(super) fn balance(&self) -> Option<Amount> {
        self.last.map(|reading| reading.coins)
    }

    /// Returns the lower bound of the available coins; `None` before the first reading.
    pub(super) fn available_min(&self) -> Option<Amount> {
        let _read = self.last?;
        Some(self.capped_by_push(self.available))
    }

    /// Returns the lower one of this amount and what is left of the pushed balance.
    fn capped_by_push(&self, coins: Amount) -> Amount {
        self.pushed.map_or(coins, |pushed| {
            pushed.coins.saturating_sub(self.deducted.saturating_sub(pushed.deducted)).min(coins)
        })
    }

    /// Returns the sum of the prices of orders in flight or unknown.
    pub(super) const fn open_coins(&self) -> Amount {
        self.open
    }

    /// Returns `true` if a reading of this amount would change nothing.
    pub(super) fn is_unchanged(&self, coins: Amount) -> bool {
        self.balance() == Some(coins)
            && self.pushed.is_none()
            && self.unconfirmed() == Amount::ZERO
            && self.available == coins
            && self.doubtful_drop == Amount::ZERO
            && self.missing == Amount::ZERO
            && self.expected.saturating_add(self.surplus) == coins
    }

    /// Returns the shortfall of the last reading that neither `others` nor the pending charges
    /// explain.
    pub(super) fn missing_beyond(&self, others: Amount) -> Amount {
        let explained = others.saturating_add(self.pending);
        self.missing.saturating_sub(explained).max(Amount::ZERO)
    }

    /// Returns `true` if the last reading has no shortfall and was requested after `moment`.
    pub(super) fn has_no_shortfall_since(&self, moment: UnixMs) -> bool {
        !self.readings_without_shortfall.is_empty()
            && self.last.is_some_and(|last| moment < last.as_of)
    }

    /// Returns `true` if a shortfall since `moment` is not explained. `expected` follows such a
    /// shortfall, so later readings agree with `expected`, although not with the recorded charges.
    pub(super) fn has_unexplained_since(&self, moment: UnixMs) -> bool {
        self.unexplained_at.is_some_and(|lowered| moment <= lowered)
    }

    /// Returns `true` if the last reading has no shortfall, and neither has a reading that
    /// certainly includes a charge made at `moment`. With `before`, that reading must have arrived
    /// by then.
    pub(super) fn has_no_shortfall_with_charge_at(
        &self,
        moment: UnixMs,
        before: Option<UnixMs>,
    ) -> bool {
        self.readings_without_shortfall.iter().any(|reading| {
            moment.plus(SETTLE) <= reading.as_of && before.is_none_or(|before| reading.at <= before)
        })
    }

    /// Returns `true` if the last reading certainly includes a charge made at `moment`.
    pub(super) fn certainly_includes(&self, moment: UnixMs) -> bool {
        self.last.is_some_and(|last| moment.plus(SETTLE) <= last.as_of)
    }

    /// Returns `true` if the last reading may not include the charge of this order.
    pub(super) fn is_charge_pending(&self, sequence: Sequence) -> bool {
        self.charges.binary_search_by_key(&sequence, |charge| charge.sequence).is_ok()
    }

    /// Sets the coins that unrecorded orders may have spent.
    pub(super) fn set_crash_reserve(&mut self, coins: Amount) {
        let more = coins.saturating_sub(self.crash_reserve);
        self.deduct(more);
        self.crash_reserve = coins;
    }

    /// Deducts an order before it is sent.
    pub(super) fn reserve(&mut self, price: Amount) {
        self.open = self.open.saturating_add(price);
        self.deduct(price);
    }

    /// Restores the price of an open order that ended without a charge.
    pub(super) fn cancel(&mut self, price: Amount) {
        self.open = self.open.saturating_sub(price);
        self.deduct(Amount::ZERO.saturating_sub(price));
    }

    /// Records that an order was charged at `at`.
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
        let may_be_in_first_reading = self.first_at.is_none_or(|first| reserved.at < first);
        // Earlier readings have shown the charge of an order that counted as not bought, and
        // lowered `expected` by it.
        if reserved.price.is_none() && !may_be_in_first_reading {
            self.explain(cost.charged);
        }
        let place = self.charges.partition_point(|charge| charge.sequence <= sequence);
        self.charges.insert(place, Charge { sequence, at, cost, may_be_in_first_reading });
        self.pending = self.pending.saturating_add(cost.counted);
    }

    /// Corrects the cost of a charged order.
    pub(super) fn reprice(&mut self, sequence: Sequence, from: Cost, to: Cost) {
        // A delivery, the most frequent change, changes no cost and needs no search.
        if from == to {
            return;
        }
        let more = to.counted.saturating_sub(from.counted);
        self.deduct(more.max(Amount::ZERO));
        let place = self.charges.partition_point(|charge| charge.sequence < sequence);
        let charge = self.charges.get_mut(place).filter(|charge| charge.sequence == sequence);
        if let Some(charge) = charge {
            charge.cost = to;
            self.pending = self.pending.saturating_add(more);
            return;
        }
        // The charge is already part of `expected`.
        let less = from.charged.saturating_sub(to.charged);
        let before = self.expected;
        self.explain(Amount::ZERO.saturating_sub(less));
        self.expected = self.expected.saturating_add(less);
        // A higher price explains a part of the shortfall.
        let explained = before.saturating_sub(self.expected).max(Amount::ZERO);
        self.missing = self.missing.saturating_sub(explained).max(Amount::ZERO);
        if Amount::ZERO < less {
            // The old price made the difference look like an inflow, and a reading without a
            // shortfall at the old price may have one at the new price.
            self.trim_inflows(self.surplus.saturating_sub(less));
            self.readings_without_shortfall.clear();
        }
    }

    /// Undoes an earlier decrease of `expected` that was unexplained, as far as a charge of
    /// `coins`, which is known only now, explains it.
    fn explain(&mut self, coins: Amount) {
        let explained = coins.min(self.unexplained).max(Amount::ZERO);
        self.unexplained = self.unexplained.saturating_sub(explained);
        self.unexplained_at = self.unexplained_at.filter(|_at| Amount::ZERO < self.unexplained);
        self.expected = self.expected.saturating_add(explained);
    }

    /// Returns `true` if the inflows since this moment cover a returned order of this price.
    pub(super) fn inflows_cover(&self, price: Amount, refund_since: UnixMs) -> bool {
        let since = self.inflows.iter().filter(|inflow| refund_since <= inflow.at);
        price <= since.fold(Amount::ZERO, |sum, inflow| sum.saturating_add(inflow.coins))
    }

    /// Assigns inflows to a returned order, oldest first.
    pub(super) fn assign_inflows(&mut self, price: Amount, refund_since: UnixMs) {
        let mut left = price;
        for inflow in self.inflows.iter_mut().filter(|inflow| refund_since <= inflow.at) {
            let taken = inflow.coins.min(left);
            inflow.coins = inflow.coins.saturating_sub(taken);
            left = left.saturating_sub(taken);
        }
        self.inflows.retain(|inflow| Amount::ZERO < inflow.coins);
        self.surplus = self.surplus.saturating_sub(price.saturating_sub(left));
        self.expected = self.expected.saturating_add(price);
    }

    /// Stores a balance that the feed pushed, unless an earlier one is lower.
    pub(super) fn push(&mut self, coins: Amount) {
        let coins = self.capped_by_push(coins);
        self.pushed = Some(PushedBalance { coins, deducted: self.deducted });
    }

    /// Applies a reading and returns an unexplained drop. A reading older than the last one is
    /// ignored.
    pub(super) fn read(&mut self, reading: BalanceReading) -> Option<BalanceDrop> {
        let BalanceReading { coins, as_of, at } = reading;
        if self.last.is_some_and(|last| as_of < last.as_of) {
            return None;
        }
        self.absorb_charges(as_of);
        self.pushed = None;
        let unconfirmed = self.unconfirmed();
        let certain = coins.saturating_sub(unconfirmed);
        if self.last.replace(reading).is_none() {
            // A deposit that this reading shows may be absent from the next one.
            (self.first_at, self.received_at) = (Some(at), Some(at));
            (self.expected, self.available) = (coins, certain);
            self.add_reading_without_shortfall(reading);
            return None;
        }
        self.compare(reading, unconfirmed == Amount::ZERO);
        let expected = self.available.saturating_add(self.doubtful_drop);
        self.doubtful_drop = Amount::ZERO;
        if self.available <= coins {
            self.available = self.available.max(certain);
        } else {
            self.available = certain;
        }
        let is_drop = coins < expected;
        if is_drop && !self.shows_inflows(as_of) {
            self.doubtful_drop = expected.saturating_sub(self.available).max(Amount::ZERO);
            return None;
        }
        is_drop.then_some(BalanceDrop { expected, actual: coins })
    }

    /// Forgets a possible drop, for example because another bot may have spent the coins.
    pub(super) const fn forget_drop(&mut self) {
        self.doubtful_drop = Amount::ZERO;
    }

    /// Returns `true` if a reading of this moment certainly includes every inflow.
    fn shows_inflows(&self, as_of: UnixMs) -> bool {
        self.received_at.is_none_or(|newest| newest.plus(SETTLE) <= as_of)
    }

    /// Moves moments after `now` back to `now`, for a start after a run whose clock was ahead. The
    /// last reading precedes the start.
    pub(super) fn clamp(&mut self, now: UnixMs) {
        if let Some(last) = &mut self.last {
            last.as_of = last.as_of.min(now.minus(Duration::from_millis(1)));
            last.at = last.at.min(now);
        }
        self.first_at = self.first_at.map(|at| at.min(now));
        self.received_at = self.received_at.map(|at| at.min(now));
        self.unexplained_at = self.unexplained_at.map(|at| at.min(now));
        self.charges.iter_mut().for_each(|charge| charge.at = charge.at.min(now));
        self.inflows.iter_mut().for_each(|inflow| inflow.at = inflow.at.min(now));
        self.readings_without_shortfall.clear();
    }

    /// Compares a reading with the expected amount.
    fn compare(&mut self, reading: BalanceReading, is_complete: bool) {
        let BalanceReading { coins, as_of, at } = reading;
        let surplus = coins.saturating_sub(self.expected);
        self.missing = self.surplus.saturating_sub(surplus).max(Amount::ZERO);
        if self.missing == Amount::ZERO {
            let more = surplus.saturating_sub(self.surplus);
            self.add_inflow(Inflow { at, coins: more });
            return self.add_reading_without_shortfall(reading);
        }
        self.readings_without_shortfall.clear();
        // Nothing is unconfirmed and the reading includes every inflow, so the remainder left the
        // account in another way. It can no longer be assigned to returned orders.
        if is_complete && self.shows_inflows(as_of) {
            self.trim_inflows(surplus.max(Amount::ZERO));
            let lowered = self.expected.saturating_sub(coins).max(Amount::ZERO);
            self.expected = self.expected.saturating_sub(lowered);
            self.unexplained = self.unexplained.saturating_add(lowered);
            if Amount::ZERO < lowered {
                self.unexplained_at = Some(at);
            }
            self.missing = Amount::ZERO;
        }
    }

    /// Moves the charges that a reading of this moment certainly includes into `expected`.
    fn absorb_charges(&mut self, as_of: UnixMs) {
        let (mut counted, mut charged) = (Amount::ZERO, Amount::ZERO);
        self.charges.retain(|charge| {
            let is_included = charge.at.plus(SETTLE) <= as_of;
            if is_included {
                counted = counted.saturating_add(charge.cost.counted);
                if !charge.may_be_in_first_reading {
                    charged = charged.saturating_add(charge.cost.charged);
                }
            }
            !is_included
        });
        self.pending = self.pending.saturating_sub(counted);
        self.expected = self.expected.saturating_sub(charged);
    }

    fn add_inflow(&mut self, inflow: Inflow) {
        if inflow.coins <= Amount::ZERO {
            return;
        }
        if self.inflows.len() >= INFLOWS_MAX
            && let Some(oldest) = self.inflows.pop_front()
            && let Some(next) = self.inflows.front_mut()
        {
            // The merged inflow gets the earlier time, so that it can be assigned to fewer orders.
            next.at = oldest.at;
            next.coins = next.coins.saturating_add(oldest.coins);
        }
        self.received_at = Some(inflow.at);
        self.surplus = self.surplus.saturating_add(inflow.coins);
        self.inflows.push_back(inflow);
    }

    /// Drops inflows, newest first, until at most `left` coins remain.
    fn trim_inflows(&mut self, left: Amount) {
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

    fn add_reading_without_shortfall(&mut self, reading: BalanceReading) {
        if self.readings_without_shortfall.len() >= READINGS_WITHOUT_SHORTFALL_MAX {
            self.readings_without_shortfall.pop_front();
        }
        self.readings_without_shortfall.push_back(reading);
    }

    /// Returns the coins that a reading may or may not include.
    const fn unconfirmed(&self) -> Amount {
        self.open.saturating_add(self.pending).saturating_add(self.crash_reserve)
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

    /// Reads a balance that was requested and answered at this second.
    fn read(account: &mut AccountBalance, cents: i64, second: i64) -> Option<BalanceDrop> {
        let at = UnixMs(second * 1_000);
        account.read(BalanceReading { coins: coins(cents), as_of: at, at })
    }

    fn cost(cents: i64) -> Cost {
        Cost { counted: coins(cents), charged: coins(cents) }
    }

    /// Reserves an order and confirms its charge.
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
    fn a_reserved_order_is_deducted_immediately_and_a_cancelled_one_is_restored() {
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
    fn a_charge_that_appears_late_is_not_a_drop() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        assert_eq!(read(&mut account, 1_000, 20), None);
        assert_eq!(available(&account), coins(700));
        assert_eq!(read(&mut account, 700, 30), None);
        assert_eq!(available(&account), coins(700));
    }

    #[test]
    fn a_balance_from_before_a_charge_does_not_release_the_charge() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        // The reading arrived 59 seconds later and may show the balance before the charge.
        assert_eq!(read(&mut account, 1_000, 69), None);
        assert_eq!(available(&account), coins(700));
    }

    #[test]
    fn a_refund_is_available_once_a_reading_certainly_includes_the_charge() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        assert_eq!(read(&mut account, 1_000, 30), None);
        assert_eq!(available(&account), coins(700));
        assert_eq!(read(&mut account, 1_000, 100), None);
        assert_eq!(available(&account), coins(1_000));
    }

    #[test]
    fn missing_coins_without_an_order_are_a_drop_of_that_amount() {
        let mut account = account(1_000);
        account.reserve(coins(300));
        let drop = read(&mut account, 650, 60);
        assert_eq!(drop, Some(BalanceDrop { expected: coins(700), actual: coins(650) }));
        assert_eq!(read(&mut account, 650, 70), None, "reported once");
    }

    #[test]
    fn a_deposit_right_before_the_first_reading_is_no_drop_if_the_next_one_is_older() {
        let mut account = account(100);
        assert_eq!(read(&mut account, 50, 10), None);
        assert_eq!(available(&account), coins(50), "the lower one counts");
        let drop = BalanceDrop { expected: coins(100), actual: coins(50) };
        assert_eq!(read(&mut account, 50, 60), Some(drop), "it is no older one");
    }

    #[test]
    fn a_charge_for_an_order_that_was_rejected_is_a_drop_at_the_next_reading() {
        let mut account = account(1_000);
        account.reserve(coins(300));
        assert_eq!(read(&mut account, 700, 10), None);
        account.cancel(coins(300));
        assert!(read(&mut account, 700, 60).is_some());
    }

    #[test]
    fn an_inflow_does_not_hide_a_later_drop() {
        let mut account = account(1_000);
        assert_eq!(read(&mut account, 5_000, 10), None);
        assert!(read(&mut account, 4_999, 100).is_some());
    }

    #[test]
    fn an_older_reading_changes_nothing() {
        let mut account = account(1_000);
        assert_eq!(read(&mut account, 900, 60).map(|drop| drop.actual), Some(coins(900)));
        assert_eq!(read(&mut account, 10, 59), None);
        assert_eq!(available(&account), coins(900));
    }

    #[test]
    fn a_pushed_balance_only_lowers_the_available_amount_until_the_next_reading() {
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
    fn a_pushed_balance_does_not_undo_a_lower_one_before_the_next_reading() {
        let mut account = account(1_000);
        account.reserve(coins(100));
        account.push(coins(400));
        account.reserve(coins(100));
        account.push(coins(5_000));
        assert_eq!(available(&account), coins(300));
        account.push(coins(350));
        assert_eq!(available(&account), coins(300), "the first one with the order after it");
        account.push(coins(200));
        assert_eq!(available(&account), coins(200));
        account.cancel(coins(100));
        assert_eq!(available(&account), coins(300));
        assert_eq!(read(&mut account, 1_000, 10), None);
        assert_eq!(available(&account), coins(900));
    }

    #[test]
    fn a_refund_is_assigned_once() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        bought(&mut account, 2, 300, 11);
        assert_eq!(read(&mut account, 400, 100), None);
        assert!(!account.inflows_cover(coins(300), T));
        assert_eq!(read(&mut account, 700, 200), None);
        assert!(account.inflows_cover(coins(300), T) && !account.inflows_cover(coins(301), T));
        account.assign_inflows(coins(300), T);
        assert!(!account.inflows_cover(coins(1), T));
        // Neither a reading from before the refund nor one from after it adds an inflow.
        assert_eq!(read(&mut account, 400, 220), None);
        assert_eq!(read(&mut account, 700, 300), None);
        assert!(!account.inflows_cover(coins(1), T));
    }

    #[test]
    fn a_drop_after_an_inflow_is_reported_once_the_reading_certainly_includes_the_inflow() {
        let mut account = account(1_000);
        assert_eq!(read(&mut account, 1_300, 100), None);
        assert_eq!(read(&mut account, 900, 159), None);
        assert_eq!(available(&account), coins(900));
        account.reserve(coins(100));
        let drop = BalanceDrop { expected: coins(1_200), actual: coins(900) };
        assert_eq!(read(&mut account, 900, 160), Some(drop));
        assert_eq!(read(&mut account, 900, 161), None);
    }

    #[test]
    fn an_order_that_the_first_reading_may_include_is_not_subtracted_from_it() {
        let mut account = AccountBalance::default();
        account.reserve(coins(300));
        assert_eq!(read(&mut account, 700, 10), None);
        let reserved = Reservation { at: UnixMs(5_000), price: Some(coins(300)) };
        account.charge(Sequence(1), cost(300), reserved, UnixMs(20_000));
        assert_eq!(read(&mut account, 700, 100), None);
        assert!(!account.inflows_cover(coins(1), T));
    }

    #[test]
    fn an_inflow_before_a_reservation_is_not_its_refund() {
        let mut account = account(1_000);
        assert_eq!(read(&mut account, 1_500, 10), None);
        assert!(account.inflows_cover(coins(500), UnixMs(10_000)));
        assert!(!account.inflows_cover(coins(1), UnixMs(10_001)));
    }

    #[test]
    fn merged_inflows_count_from_the_earlier_time() {
        let mut account = account(0);
        let count = i64::try_from(INFLOWS_MAX).unwrap() + 1;
        for second in 1..=count {
            assert_eq!(read(&mut account, second, second), None);
        }
        assert!(account.inflows_cover(coins(count), UnixMs(1_000)));
        // The second one belongs to the first one now.
        let second = UnixMs(2_000);
        assert!(account.inflows_cover(coins(count - 2), second));
        assert!(!account.inflows_cover(coins(count - 1), second));
    }

    #[test]
    fn coins_spent_elsewhere_do_not_reduce_later_refunds() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        assert_eq!(read(&mut account, 700, 100), None);
        assert!(read(&mut account, 500, 200).is_some());
        assert_eq!(read(&mut account, 800, 300), None);
        assert!(account.inflows_cover(coins(300), T));
    }

    #[test]
    fn coins_that_were_spent_elsewhere_cover_no_later_refund() {
        let mut account = account(1_000);
        bought(&mut account, 1, 300, 10);
        assert_eq!(read(&mut account, 1_200, 100), None);
        assert!(account.inflows_cover(coins(500), T));
        assert!(read(&mut account, 800, 200).is_some());
        assert!(account.inflows_cover(coins(100), T) && !account.inflows_cover(coins(101), T));
    }

    #[test]
    fn a_charged_unknown_order_is_missing_until_it_is_confirmed() {
        let mut account = account(1_000);
        account.reserve(coins(300));
        assert_eq!(read(&mut account, 700, 100), None);
        assert_eq!(account.missing_beyond(coins(0)), coins(300));
        assert_eq!(account.missing_beyond(coins(300)), coins(0));
        assert!(!account.has_no_shortfall_with_charge_at(T, None));
        confirmed(&mut account, 1, 300, 110);
        assert_eq!(account.missing_beyond(coins(0)), coins(0));
        assert_eq!(read(&mut account, 700, 200), None);
        assert!(account.has_no_shortfall_with_charge_at(T, None));
    }

    #[test]
    fn a_response_with_too_high_a_price_is_not_a_refund() {
        let mut account = account(1_000);
        account.reserve(coins(300));
        let cost = Cost { counted: coins(900), charged: coins(300) };
        let reserved = Reservation { at: UnixMs(10_000), price: Some(coins(300)) };
        account.charge(Sequence(1), cost, reserved, UnixMs(10_000));
        assert_eq!(read(&mut account, 700, 100), None);
        assert!(!account.inflows_cover(coins(1), T));
    }
}
