//! Property test against a market that sends false and outdated reports and keeps its own books.
//!
//! The feed may report anything at any time. A response may be lost, late or repeated, belong to
//! another request, or contain any price; a response that the executor attributes to its order is
//! true, and until it is attributed, any rejection may arrive. A list, or the record of an order
//! that is looked up by its own id, may be up to [`SETTLE`] old, incomplete, omit purchases
//! indefinitely, or contain unknown statuses; a balance may be up to [`SETTLE`] old. The market may
//! charge more than was approved. In some histories, the lists understate prices, the market
//! changes the price of a listing and shows an order only after ten minutes, or it has no list;
//! then a look-up omits no purchase. In some histories, coins arrive that could be taken for a
//! refund; then nothing is cancelled, and lists omit no purchase.
//!
//! Reads take time, and any other step may happen before a reading arrives. The wall clock may be
//! set forward and back, and the machine suspended (see [`reads`]).
//!
//! *Safety*: by the market's books no limit is ever exceeded at the approved prices. While the
//! clock is unreliable, ages are those of the time at which it became so, and after a jump forward
//! nothing is ordered. *Liveness*: after [`TRUE_READINGS`] true readings of balance and list, the
//! exposure equals the market's books, and an order is approved where the limits permit it.
//!
//! In some histories, the market keeps a commission of cancelled orders, and each list or look-up
//! that shows such a cancellation reports it.
//!
//! If the lists understate prices, the exposure is at least that of the books. A refund that is not
//! listed yet may confirm such a price and is then not available to its own order, so only the
//! limits that apply to the sum of all orders are checked.
//!
//! Each limit of a history is either tight or loose, so that each is the only tight one in some
//! histories.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use proptest::prelude::*;

use self::{
    reads::{MachineClocks, PendingRead, Read},
    steps::*,
};
use super::{T0, histories};
use crate::{
    config::Budget,
    domain::outcome::{NotSent, RejectReason, Unknown},
    domain::own_order_id::{OwnOrderId, StartId},
    domain::trade::{KeyedBy, TradeStatus},
    ledger::{
        account::SETTLE,
        entries::tests::entry,
        event::{BootId, LedgerEvent},
        *,
    },
};

mod checks;
mod reads;
mod steps;

const START: Amount = Amount::from_cents(40_000);
/// More listings than the limits allow to buy.
const LISTINGS: u32 = 400;
const PENDING_MAX: usize = 3;
/// True readings that settle every order. One more is needed if the first list showed something
/// new: the balances before it cannot exclude that a refund hides the charge of an unknown order.
const TRUE_READINGS: usize = 2;

/// One order in the market's books.
#[derive(Clone, Debug)]
struct MarketOrder {
    id: TradeId,
    own_id: Option<OwnOrderId>,
    approved: Amount,
    /// Price that the market charges.
    price: Amount,
    entry: usize,
    reserved_at: UnixMs,
    /// The executor waits for the response.
    waiting: bool,
    /// The executor waits for the confirmation of a rejection.
    unconfirmed: bool,
    /// The request can still arrive at the market.
    pending: bool,
    unsent: bool,
    charged_at: Option<UnixMs>,
    completed_at: Option<UnixMs>,
    cancelled_at: Option<UnixMs>,
    /// Part of the price that the market does not refund.
    commission: Amount,
    refunded_at: Option<UnixMs>,
    hidden: Hidden,
    /// Price in the lists, if it is not the one that was charged.
    misprice: Option<Amount>,
}

impl MarketOrder {
    /// Returns the order as a list or a look-up shows it.
    fn trade_at(&self, moment: UnixMs) -> Option<OwnTrade> {
        let status = self.status_at(moment)?;
        let is_hidden = self.hidden == Hidden::UnknownStatus;
        let status = if is_hidden { TradeStatus::Other } else { status };
        let price = Some(self.misprice.unwrap_or(self.price));
        let commission = (status == TradeStatus::Cancelled && Amount::ZERO < self.commission)
            .then_some(self.commission);
        let (id, own_id) = (self.id, self.own_id);
        Some(OwnTrade { id, status, price, joined_at: None, commission, own_id })
    }

    /// Returns this price if the order was charged and not refunded, or can still be charged, and
    /// otherwise its commission.
    fn cost(&self, price: Amount) -> Amount {
        let is_whole = self.pending || (self.charged_at.is_some() && self.refunded_at.is_none());
        if is_whole { price } else { self.commission.min(price) }
    }

    /// Returns `true` if the order is a purchase or can still become one. A cancelled order is not,
    /// even before its refund: a refund does not identify the cancelled order to which it belongs.
    const fn is_purchase(&self) -> bool {
        self.pending || (self.charged_at.is_some() && self.cancelled_at.is_none())
    }

    fn status_at(&self, moment: UnixMs) -> Option<TradeStatus> {
        let is_past = |at: Option<UnixMs>| at.is_some_and(|at| at <= moment);
        is_past(self.charged_at).then(|| {
            if is_past(self.cancelled_at) {
                TradeStatus::Cancelled
            } else if is_past(self.completed_at) {
                TradeStatus::Completed
            } else {
                TradeStatus::Joined
            }
        })
    }
}

struct AdversaryMarket {
    kind: MarketKind,
    ledger: Ledger,
    orders: Vec<MarketOrder>,
    /// True time. The ledger's clock may differ.
    now: UnixMs,
    clocks: MachineClocks,
    /// Reads that have not arrived, in the order of their arrival.
    reads: VecDeque<PendingRead>,
    /// A balance was read since the last list.
    has_read_balance: bool,
    limits: TestLimits,
    /// The lists may understate prices.
    understates: bool,
    keeps_commissions: bool,
    /// Power losses may remove orders.
    loses_orders: bool,
    /// Coins arrive from another source.
    has_deposits: bool,
    deposits: Vec<(UnixMs, Amount)>,
    budget: Budget,
    created: HashMap<u32, UnixMs>,
    /// Own ids of all orders.
    own_ids: HashSet<OwnOrderId>,
    /// Orders were lost in a power loss.
    has_lost: bool,
    /// Purchases that a list may have left out.
    left_out: HashSet<TradeId>,
}

fn coins(whole: i64) -> Amount {
    Amount::from_cents(whole * 100)
}

impl AdversaryMarket {
    fn new(kind: MarketKind, limits: TestLimits) -> Self {
        let budget = limits.budget();
        let mut market = Self {
            kind,
            ledger: Ledger::in_memory(budget.clone(), &limits.whitelist(), true),
            orders: Vec::new(),
            now: T0,
            clocks: MachineClocks::new(),
            reads: VecDeque::new(),
            has_read_balance: false,
            limits,
            understates: false,
            keeps_commissions: false,
            loses_orders: true,
            has_deposits: false,
            deposits: Vec::new(),
            budget,
            created: HashMap::new(),
            own_ids: HashSet::new(),
            has_lost: false,
            left_out: HashSet::new(),
        };
        market.ledger.state.look_ups_min = kind.look_ups_min;
        market.ledger.state.has_own_ids = true;
        market.ledger.state.set_list(kind.has_list.then_some(kind.listed_within));
        let started = LedgerEvent::Started { boot: BootId(market.clocks.boot), start: None };
        let _effects = market.ledger.record_infallible(market.now, started);
        market.read_now(Read::List { complete: true });
        market
    }

    const fn key(&self, order: &MarketOrder) -> TradeKey {
        self.kind.keyed_by.key(order.id, Some(order.approved))
    }

    fn step(&mut self, step: &AdversaryStep) {
        match *step {
            AdversaryStep::Match { listing, entry } => self.on_match(listing, entry),
            AdversaryStep::Arrive { accept, extra_cents } => self.arrive(accept, extra_cents),
            AdversaryStep::Answer { which, lost, price } => self.answer(which, lost, price),
            AdversaryStep::Unconfirmed { which } => self.reject_unconfirmed(which),
            AdversaryStep::Confirm { which, lost, price } => self.confirm(which, lost, price),
            AdversaryStep::Repeat { which, price } => self.repeat(which, price),
            AdversaryStep::Unsent { which } => self.unsend(which),
            AdversaryStep::Finish { which, kept_percent } => self.finish(which, kept_percent),
            AdversaryStep::Refund { which } => {
                let now = self.now;
                let owed = |order: &MarketOrder| {
                    order.cancelled_at.is_some() && order.refunded_at.is_none()
                };
                if let Some(order) = pick(&mut self.orders, which, owed) {
                    order.refunded_at = Some(now);
                }
            }
            AdversaryStep::Deposit { cents } => {
                let deposit = (self.now, Amount::from_cents(cents));
                self.deposits.extend(self.has_deposits.then_some(deposit));
            }
            AdversaryStep::Hide { how: Hidden::LeftOut, .. } if self.has_deposits => {}
            AdversaryStep::Hide { which, how } => {
                if let Some(order) = pick(&mut self.orders, which, |_any| true) {
                    order.hidden = how;
                    self.left_out.extend((how == Hidden::LeftOut).then_some(order.id));
                }
            }
            AdversaryStep::Misprice { which, percent } => {
                let understates = self.understates;
                if let Some(order) = pick(&mut self.orders, which, |_any| understates) {
                    let part = |percent| Amount::from_cents(order.price.cents() * percent / 100);
                    order.misprice = percent.map(part);
                }
            }
            AdversaryStep::Feed { which, status } => {
                if let Some(order) = pick(&mut self.orders, which, |_any| true) {
                    let id = order.id;
                    let _needs_read = self.ledger.observe(&id, status, self.clock());
                }
            }
            AdversaryStep::Push { cents } => self.ledger.push_balance(Amount::from_cents(cents)),
            AdversaryStep::Limits { total, minute } => {
                self.budget.total = coins(total);
                self.budget.max_buys_per_minute = minute;
                self.ledger.state.set_budget(self.budget.clone(), 0);
            }
            AdversaryStep::Resume => self.ledger.resume(Operator::new("me"), self.clock()),
            AdversaryStep::Wait { seconds } => {
                self.now = self.now.plus(Duration::from_secs(seconds));
                // The executor has stopped waiting by now.
                for order in self.orders.iter_mut().filter(|order| order.unconfirmed) {
                    (order.unconfirmed, order.pending) = (false, false);
                }
            }
            _ => self.step_of_machine(step),
        }
    }

    /// Carries out a step of the reader of the account, of the machine or of its clocks.
    fn step_of_machine(&mut self, step: &AdversaryStep) {
        match *step {
            AdversaryStep::Balance { age } => self.begin_read(Read::Balance, age, false),
            // Without a list, the program reads the balance alone.
            AdversaryStep::List { age, .. } if !self.kind.has_list => {
                self.begin_read(Read::Balance, age, false);
            }
            AdversaryStep::List { age, complete } => {
                self.begin_read(Read::List { complete }, age, false);
            }
            AdversaryStep::LookUp { which, age, in_list } => {
                let keys = self.looked_up();
                if let Some(nth) = which.checked_rem(keys.len()) {
                    self.begin_read(Read::LookUp(keys[nth]), age, in_list);
                }
            }
            AdversaryStep::Deliver { recent } => self.deliver(recent),
            AdversaryStep::FailRead => drop(self.reads.pop_front()),
            AdversaryStep::Restart => self.restart(0, true),
            AdversaryStep::PowerLoss { events } => {
                self.restart(if self.loses_orders { events } else { 0 }, false);
            }
            AdversaryStep::ClockSet { seconds } => self.set_clock(seconds),
            AdversaryStep::Suspend { seconds } => {
                self.now = self.now.plus(Duration::from_secs(seconds));
                // The request of an order without a response was received before, or never.
                for order in self.orders.iter_mut().filter(|order| order.unconfirmed) {
                    order.pending = false;
                }
            }
            _ => {}
        }
    }

    /// Delivers the oldest pending request to the market, which sells an item only once.
    fn arrive(&mut self, accept: bool, extra_cents: i64) {
        let now = self.now;
        // An order to a market without a list names the highest price.
        let extra_cents = if self.kind.has_list { extra_cents } else { 0 };
        let charged = self.orders.iter().filter(|order| order.charged_at.is_some());
        let sold: Vec<TradeId> = charged.map(|order| order.id).collect();
        if let Some(order) = self.orders.iter_mut().find(|order| order.pending) {
            order.pending = false;
            order.charged_at = (accept && !sold.contains(&order.id)).then_some(now);
            order.price = order.price.saturating_add(Amount::from_cents(extra_cents));
        }
    }

    fn settle(
        &mut self,
        order: &MarketOrder,
        outcome: &Outcome,
    ) -> Result<Effects, InvalidTransition> {
        let before = self.ledger.state.order(&self.key(order)).copied();
        let effects = self.ledger.settle(&self.key(order), outcome, self.clock())?;
        let before = before.filter(|before| before.state != OrderState::Returned);
        if let (Some(before), Outcome::Bought { price: Some(paid), .. }) = (before, outcome) {
            self.check_reported(&before, *paid);
        }
        Ok(effects)
    }

    /// Delivers a rejection that may belong to another order.
    fn reject_unconfirmed(&mut self, which: usize) {
        let Some(order) = pick(&mut self.orders, which, |order| order.waiting) else { return };
        (order.waiting, order.unconfirmed) = (false, true);
        let order = order.clone();
        let rejected = Outcome::Unknown(Unknown::Unconfirmed(RejectReason::Taken));
        let in_a_row = self.ledger.state.unknowns_in_a_row;
        let _effects = self.settle(&order, &rejected).unwrap();
        assert_eq!(self.ledger.state.unknowns_in_a_row, in_a_row, "it is not one of five");
    }

    /// Delivers the response of an order whose rejection was not confirmed. The list may have
    /// settled the order meanwhile; the executor ignores the error.
    fn confirm(&mut self, which: usize, lost: bool, reported: ReportedPrice) {
        let Some(order) = pick(&mut self.orders, which, |order| order.unconfirmed) else { return };
        (order.unconfirmed, order.pending) = (false, false);
        let outcome =
            if lost { Outcome::Unknown(Unknown::Foreign) } else { outcome_of(order, reported) };
        let order = order.clone();
        let _is_new = self.settle(&order, &outcome).is_ok();
    }

    fn unsend(&mut self, which: usize) {
        let unsent = |order: &MarketOrder| order.waiting && order.pending;
        if let Some(order) = pick(&mut self.orders, which, unsent) {
            (order.waiting, order.pending, order.unsent) = (false, false, true);
            let order = order.clone();
            let _effects = self.settle(&order, &Outcome::NotSent(NotSent::Closed)).unwrap();
        }
    }

    fn finish(&mut self, which: usize, kept_percent: Option<i64>) {
        let (now, keeps) = (self.now, self.keeps_commissions && self.kind.has_list);
        let joined =
            |order: &MarketOrder| order.charged_at.is_some() && order.cancelled_at.is_none();
        if let Some(order) = pick(&mut self.orders, which, joined) {
            if let Some(percent) = kept_percent {
                if self.has_deposits {
                    return;
                }
                let percent = if keeps { percent } else { 0 };
                order.cancelled_at = Some(now);
                order.commission = Amount::from_cents(order.price.cents() * percent / 100);
            } else {
                order.completed_at = order.completed_at.or(Some(now));
            }
        }
    }

    fn on_match(&mut self, listing: u32, entry: usize) {
        if self.orders.iter().filter(|order| order.pending).count() >= PENDING_MAX {
            return;
        }
        let keyed_by = self.kind.keyed_by;
        // The listings are so few that some are ordered again at other prices.
        let listing = if keyed_by == KeyedBy::Id { listing } else { listing % 20 };
        let id = TradeId::new(&format!("listing-{listing}")).unwrap();
        let earlier = self.orders.iter().filter(|order| order.id == id).count();
        // The market changes the price after each order.
        let change = if keyed_by == KeyedBy::Id { 0 } else { 5 * (earlier % 3) };
        let price = coins(1 + (i64::from(listing) * 7 + i64::try_from(change).unwrap()) % 29);
        let created_at = Some(*self.created.entry(listing).or_insert(self.now));
        let order_request = OrderRequest { id, keyed_by, price, entry, created_at };
        let Ok(approved) = self.ledger.reserve(order_request, self.clock()) else { return };
        assert_eq!(self.clocks.read_from, None, "no order before the account is read");
        let is_new = approved.own_id().is_none_or(|own_id| self.own_ids.insert(own_id));
        assert!(is_new, "no own id is used twice, even after lost events");
        self.orders.retain(|order| !(order.id == id && order.approved == price && order.unsent));
        let is_same = |order: &MarketOrder| order.id == id && order.approved == price;
        assert!(!self.orders.iter().any(is_same), "no listing is ordered twice");
        let order = MarketOrder {
            id: *approved.id(),
            // As a list may state none.
            own_id: approved.own_id().filter(|_own_id| listing % 3 > 0),
            approved: approved.price(),
            price: approved.price(),
            entry,
            reserved_at: self.now,
            waiting: true,
            unconfirmed: false,
            pending: true,
            unsent: false,
            charged_at: None,
            completed_at: None,
            cancelled_at: None,
            commission: Amount::ZERO,
            refunded_at: None,
            hidden: Hidden::No,
            misprice: None,
        };
        self.ledger.sent(&self.key(&order), self.clock()).unwrap();
        self.orders.push(order);
        self.check_limits();
    }

    fn answer(&mut self, which: usize, lost: bool, reported: ReportedPrice) {
        let Some(order) = pick(&mut self.orders, which, |order| order.waiting) else { return };
        order.waiting = false;
        let outcome = if lost {
            // A request that has not arrived by the time its response is given up never arrives.
            order.pending = false;
            Outcome::Unknown(Unknown::Timeout)
        } else if order.pending {
            order.pending = false;
            Outcome::Rejected(RejectReason::Taken)
        } else {
            outcome_of(order, reported)
        };
        let order = order.clone();
        let _effects = self.settle(&order, &outcome).unwrap();
    }

    /// Delivers a late or repeated response. The ledger may have settled the order differently.
    fn repeat(&mut self, which: usize, reported: ReportedPrice) {
        let settled = |order: &MarketOrder| !order.waiting && !order.unsent && !order.pending;
        if let Some(order) = pick(&mut self.orders, which, settled) {
            let (order, outcome) = (order.clone(), outcome_of(order, reported));
            // An answer without new information is an error, which the executor ignores.
            let _is_new = self.settle(&order, &outcome).is_ok();
        }
    }

    fn balance_at(&self, moment: UnixMs) -> Amount {
        let is_past = |at: Option<UnixMs>| at.is_some_and(|at| at <= moment);
        let deposits = self.deposits.iter().filter(|(at, _coins)| *at <= moment);
        let start = deposits.fold(START, |sum, (_at, coins)| sum.saturating_add(*coins));
        self.orders.iter().fold(start, |balance, order| {
            let kept = if is_past(order.refunded_at) { order.commission } else { order.price };
            if is_past(order.charged_at) { balance.saturating_sub(kept) } else { balance }
        })
    }

    /// Removes the last events, at most up to the first order. Returns the lost orders.
    fn lose_events(&mut self, events: usize) -> Option<LedgerEvent> {
        let all = &mut self.ledger.events_for_tests;
        let is_order = |event: &LedgerEvent| matches!(event, LedgerEvent::Reserved { .. });
        let first = all.iter().position(|(_at, event)| is_order(event))?;
        // A start makes an earlier loss durable before the first order.
        let is_loss = |(_at, event): &(UnixMs, LedgerEvent)| {
            matches!(event, LedgerEvent::Lost { count: 1.., .. })
        };
        let durable = all.iter().rposition(is_loss).map_or(0, |at| at + 1).max(first);
        let lost = all.split_off(all.len().saturating_sub(events).max(durable));
        let (mut coins, mut count) = (Amount::ZERO, 0);
        for (_at, event) in lost {
            if let LedgerEvent::Reserved { price, .. } = event {
                (coins, count) = (coins.saturating_add(price), count + 1);
            }
        }
        self.has_lost |= 0 < count;
        // The local clock may be wrong at the start.
        let barrier = if count % 2 == 0 { UnixMs(0) } else { UnixMs(i64::MAX) };
        (0 < count).then_some(LedgerEvent::Lost { coins, count, barrier })
    }

    /// Returns the state that the recorded events give.
    fn replayed(&self) -> LedgerState {
        let mut state = LedgerState::new(self.budget.clone(), true);
        state.set_entries(&self.limits.whitelist());
        for (at, event) in &self.ledger.events_for_tests {
            state.apply(*at, event).unwrap();
        }
        state
    }

    /// Replays the events, which must give the same state if none is lost, and makes orders in
    /// flight unknown.
    fn restart(&mut self, lost_events: usize, is_same_boot: bool) {
        let lost = (0 < lost_events).then(|| self.lose_events(lost_events)).flatten();
        if lost_events == 0 {
            assert_eq!(self.replayed().intents, self.ledger.state.intents, "replay");
        }
        self.start_clock(is_same_boot);
        let mut state = self.replayed();
        state.look_ups_min = self.kind.look_ups_min;
        state.has_own_ids = true;
        state.set_list(self.kind.has_list.then_some(self.kind.listed_within));
        self.ledger.state = state;
        if let Some(lost) = lost {
            let _effects = self.ledger.record_infallible(self.clock(), lost);
        }
        // No earlier start with an order had these bits.
        let start =
            Some(StartId::from_bits(u128::try_from(self.own_ids.len()).unwrap().to_be_bytes()));
        let started = LedgerEvent::Started { boot: BootId(self.clocks.boot), start };
        let _effects = self.ledger.record_infallible(self.clock(), started);
        // The market's clock is right.
        self.ledger.confirm_barrier(self.now, self.clock());
        for order in &mut self.orders {
            (order.waiting, order.unconfirmed, order.pending) = (false, false, false);
        }
    }

    fn purchases_of(&self, entry: usize) -> impl Iterator<Item = &MarketOrder> {
        self.orders.iter().filter(move |order| order.is_purchase() && order.entry == entry)
    }

    /// Returns the sum of the purchases of the second entry, and of the commissions of the others.
    fn total_of_second(&self, price: impl Fn(&MarketOrder) -> Amount) -> Amount {
        let orders = self.orders.iter().filter(|order| order.entry == 1);
        orders.fold(coins(0), |sum, order| {
            let kept = order.commission.min(price(order));
            sum.saturating_add(if order.is_purchase() { price(order) } else { kept })
        })
    }

    /// Checks safety, by the market's books.
    fn check_limits(&self) {
        let age_now = self.clocks.frozen_at.map_or(self.now, |frozen| frozen.min(self.now));
        let is_within = |order: &MarketOrder, seconds: u64| {
            age_now < order.reserved_at.plus(Duration::from_secs(seconds))
        };
        let sum = |within_s: u64| -> i64 {
            let recent = self.orders.iter().filter(|order| is_within(order, within_s));
            recent.map(|order| order.cost(order.approved).cents()).sum()
        };
        let total = sum(u64::MAX / 2_000);
        assert!(total <= self.budget.total.cents(), "total");
        if !self.understates {
            assert!(sum(3_600) <= self.budget.per_hour.unwrap().cents(), "per_hour");
            assert!(sum(86_400) <= self.budget.per_day.unwrap().cents(), "per_day");
            let second = self.total_of_second(|order| order.approved);
            assert!(second <= coins(self.limits.max_total), "max_total of the second entry");
        }
        let deposits: i64 = self.deposits.iter().map(|(_at, coins)| coins.cents()).sum();
        let left = START.cents() + deposits - total;
        assert!(self.budget.min_balance.cents() <= left, "min_balance");
        let recent = self.orders.iter().filter(|order| !order.unsent && is_within(order, 60));
        let minute = usize::try_from(self.budget.max_buys_per_minute).unwrap();
        assert!(recent.count() <= minute, "max_buys_per_minute");
        assert!(self.orders.iter().filter(|order| order.waiting).count() <= 3, "max_in_flight");
        let quantity = usize::try_from(self.limits.max_quantity).unwrap();
        assert!(self.purchases_of(0).count() <= quantity, "max_quantity of the first entry");
        let mut seen = HashSet::new();
        for order in &self.orders {
            assert!(seen.insert(self.key(order)), "one request for a listing");
        }
    }

    /// Runs a history, and checks the books and the ledger.
    fn run(mut self, steps: &[AdversaryStep]) {
        for step in steps {
            let before = self.before_step();
            self.step(step);
            self.ledger.state.check().unwrap();
            self.check_step(*step, &before);
            self.check_absences();
        }
        self.turn_honest();
        self.ledger.state.check().unwrap();
    }

    /// Checks that no purchase counts as not bought.
    fn check_absences(&self) {
        let bought = self.orders.iter().filter(|order| {
            order.charged_at.is_some() && order.cancelled_at.is_none() && !self.understates
        });
        for order in bought {
            let state = self.ledger.state.order(&self.key(order)).map(|intent| intent.state);
            assert_ne!(state, Some(OrderState::NotBought), "{order:#?}");
        }
    }

    /// Checks liveness: [`TRUE_READINGS`] true readings settle every order.
    fn turn_honest(&mut self) {
        // Reads that began before arrive first.
        while !self.reads.is_empty() {
            self.deliver(0);
        }
        self.ledger.resume(Operator::new("me"), self.clock());
        for which in 0..self.orders.len() {
            if self.orders.iter().any(|order| order.waiting) {
                self.answer(which, false, ReportedPrice::True);
            }
            self.confirm(which, false, ReportedPrice::True);
        }
        let now = self.now;
        for order in &mut self.orders {
            order.hidden = Hidden::No;
            order.misprice = None;
            if order.cancelled_at.is_some() {
                order.refunded_at = order.refunded_at.or(Some(now));
            }
        }
        let known = |ledger: &Ledger| -> Vec<(OrderState, Option<Amount>, Amount, bool)> {
            let LedgerState { intents, commissions, .. } = &ledger.state;
            let is_kept_known = |intent: &Intent| commissions.contains_key(&intent.sequence);
            let known = |intent: &Intent| {
                (intent.state, intent.listed, intent.charged, is_kept_known(intent))
            };
            intents.iter().map(known).collect()
        };
        let (before, mut is_new) = (known(&self.ledger), false);
        for reading in 0..=TRUE_READINGS {
            if reading == TRUE_READINGS && !is_new {
                break;
            }
            self.now = self.now.plus(self.kind.listed_within + Duration::from_secs(1));
            self.read_truly();
            is_new |= reading == 0 && known(&self.ledger) != before;
        }
        let sum = |amounts: &mut dyn Iterator<Item = Amount>| {
            amounts.fold(coins(0), Amount::saturating_add)
        };
        let books = sum(&mut self.orders.iter().map(|order| order.cost(order.price)));
        let counted = sum(&mut self.ledger.state.intents.iter().map(Intent::counted));
        // Without a list, a lost purchase is not found.
        let lost = self.ledger.state.loss.coins;
        let counted = counted.saturating_add(lost);
        let is_settled = self.kind.has_list || !self.has_lost;
        if is_settled && !self.understates {
            let intents = &self.ledger.state.intents;
            let account = &self.ledger.state.account;
            assert_eq!(counted, books, "exposure: {intents:#?} {account:#?} {:#?}", self.orders);
            let halts = &self.ledger.state.halts;
            if !self.has_lost && !halts.iter().any(|halt| self.is_justified(halt.reason)) {
                assert_eq!(*halts, [], "{account:#?} {:#?}", self.orders);
                self.order_where_permitted(books);
            }
        }
        assert!(books <= counted, "the ledger counts less than the market");
    }

    /// Reads balance, list and unknown orders. Each read takes a second.
    fn read_truly(&mut self) {
        let second = Duration::from_secs(1);
        self.begin_read(Read::Balance, 0, false);
        self.now = self.now.plus(second);
        self.deliver(0);
        for key in self.looked_up() {
            for _look_up in 0..self.kind.look_ups_min {
                self.begin_read(Read::LookUp(key), 0, false);
                self.now = self.now.plus(second);
                self.deliver(0);
            }
        }
        if self.kind.has_list {
            self.begin_read(Read::List { complete: true }, 0, false);
            self.now = self.now.plus(second);
            self.deliver(0);
        }
    }

    /// Returns `true` for a halt because the market has charged more than the price limit, or shows
    /// a purchase that it left out before.
    fn is_justified(&self, halt: HaltReason) -> bool {
        match halt {
            HaltReason::Price { .. } | HaltReason::ImplausiblePrice { .. } => {
                self.orders.iter().any(|order| order.approved < order.price)
            }
            HaltReason::Contradiction { id } => self.left_out.contains(&id),
            _ => false,
        }
    }

    /// Asserts that an order is approved if the limits of an entry and the balance permit it.
    fn order_where_permitted(&mut self, books: Amount) {
        let first = u32::try_from(self.purchases_of(0).count()).unwrap();
        let second = self.total_of_second(|order| order.price).saturating_add(coins(1));
        let entry = if first < self.limits.max_quantity {
            0
        } else if second <= coins(self.limits.max_total) {
            1
        } else {
            return;
        };
        if START < books.saturating_add(coins(1)) {
            return;
        }
        let loose = TestLimits { total: LOOSE, per_hour: LOOSE, per_day: LOOSE, ..self.limits };
        let budget =
            Budget { max_buys_per_minute: u32::MAX, min_balance: coins(0), ..loose.budget() };
        self.ledger.state.set_budget(budget, 1);
        let id = TradeId::new("another").unwrap();
        let (keyed_by, created_at) = (self.kind.keyed_by, Some(self.now));
        let request = OrderRequest { id, keyed_by, price: coins(1), entry, created_at };
        let approved = self.ledger.reserve(request, self.clock()).map(|order| order.price());
        assert_eq!(approved, Ok(coins(1)), "{:#?}", self.ledger.state.account);
    }
}

/// Builds an attributed response: its outcome is true, its price may be any.
fn outcome_of(order: &MarketOrder, reported: ReportedPrice) -> Outcome {
    let price = match reported {
        ReportedPrice::Nothing => None,
        ReportedPrice::True => Some(order.price),
        ReportedPrice::Any(cents) => Some(Amount::from_cents(cents)),
    };
    match order.charged_at {
        Some(_bought) => Outcome::Bought { price, server_time: None },
        None => Outcome::Rejected(RejectReason::Taken),
    }
}

fn pick(
    orders: &mut [MarketOrder],
    which: usize,
    fits: impl Fn(&MarketOrder) -> bool,
) -> Option<&mut MarketOrder> {
    let count = orders.iter().filter(|order| fits(order)).count();
    let nth = which.checked_rem(count)?;
    orders.iter_mut().filter(|order| fits(order)).nth(nth)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(histories()))]

    #[test]
    fn no_false_report_exceeds_a_limit_and_true_readings_settle_every_order(
        kind in market_kind(),
        limits in limits(),
        understates in prop::bool::weighted(0.2),
        (keeps_commissions, loses_orders) in (prop::bool::weighted(0.4), any::<bool>()),
        has_deposits in prop::bool::weighted(0.25),
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let market = AdversaryMarket::new(kind, limits);
        let understates = understates && !has_deposits;
        let market = AdversaryMarket { understates, keeps_commissions, ..market };
        let market = AdversaryMarket { loses_orders, has_deposits, ..market };
        market.run(&steps);
    }

    #[test]
    fn no_refund_hides_a_purchase(
        kind in market_kind(),
        limits in limits(),
        has_deposits in prop::bool::weighted(0.3),
        steps in refund_history(),
    ) {
        AdversaryMarket { has_deposits, ..AdversaryMarket::new(kind, limits) }.run(&steps);
    }
}

#[test]
fn a_refund_that_no_list_shows_hides_no_purchase() {
    use AdversaryStep::{
        Answer, Arrive, Balance, Deliver, Finish, Hide, List, Match, Refund, Wait,
    };
    let price = ReportedPrice::True;
    let order = |listing, lost| {
        [
            Match { listing, entry: 1 },
            Arrive { accept: true, extra_cents: 0 },
            Answer { which: 0, lost, price },
        ]
    };
    let (keyed_by, has_list, listed_within) = (KeyedBy::Id, true, SETTLE);
    let kind = MarketKind { keyed_by, has_list, look_ups_min: 0, listed_within };
    let loose = TestLimits {
        total: LOOSE,
        per_hour: LOOSE,
        per_day: LOOSE,
        min_balance: 0,
        max_quantity: u32::MAX,
        max_total: LOOSE,
    };
    for how in [Hidden::LeftOut, Hidden::UnknownStatus] {
        // The first order is dearer than the second.
        let mut steps = [order(1, false), order(0, true)].concat();
        steps.extend([Hide { which: 0, how }, Hide { which: 1, how: Hidden::LeftOut }]);
        steps.extend([Finish { which: 0, kept_percent: Some(0) }, Refund { which: 0 }]);
        steps.extend([Wait { seconds: 61 }, Balance { age: 0 }, Deliver { recent: 0 }]);
        steps.extend([Wait { seconds: 61 }, List { age: 0, complete: true }]);
        steps.push(Deliver { recent: 0 });
        AdversaryMarket::new(kind, loose).run(&steps);
    }
}
