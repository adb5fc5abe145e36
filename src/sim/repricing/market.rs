//! A simulated market that changes prices under one id and knows the buyer's own order ids, as a
//! state machine. Pure: time is an argument (relative to the opening), randomness comes from the
//! seed.
//!
//! In the history, each price of a listing has a record of its own, so that an order for an earlier
//! price belongs to that price.
//!
//! # Invariants
//!
//! 1. At most one purchase is booked under an own id, for any orders.
//! 2. A listing is sold at most once, at its price at that moment, which is never above the limit.
//! 3. The balance is the initial balance minus the purchases plus the refunds, and never negative.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    iter::Peekable,
    sync::Arc,
    time::Duration,
};

use super::{
    books::{Sale, SalesBooks},
    listing::{ForeignLot, SimChange, SimEvent, SimListing},
    price_changes::PriceChanges,
    purchase::{BuyRejection, Purchase, PurchaseStage, ReturnReason, SimOrder},
};
use crate::{
    domain::{
        money::{Amount, Decimals},
        time::UnixMs,
        trade::TradeStatus,
    },
    sim::{
        catalogue::{Catalogue, ListedItem, OPEN_FOR},
        demo,
        faults::{FaultKind, STALE_MAX},
        history::{
            CloseReason, ListingRecord, MarketHistory, OrderDecision, OrderRecord, PurchaseRecord,
        },
        model::MarketModel,
        random::{self, Rng, RngExt as _},
        settings::{Delivery, RepricingSettings, SimSettings},
        undo_log::AccountUndoLog,
    },
};

/// Maximum number of open listings; beyond it the oldest are removed.
pub const OPEN_MAX: usize = 50_000;
/// Maximum number of purchases of the account.
pub const PURCHASES_MAX: usize = 100_000;
/// Maximum number of changes per [`advance`](RepricingModel::advance). Under overload the market
/// falls behind its schedule, but still responds to requests and to a shutdown.
pub const STEPS_MAX: usize = 4_096;
/// Maximum number of listings whose earlier prices are remembered.
const PRICED_MAX: usize = 200_000;
/// Maximum number of remembered prices of a listing.
const PRICES_MAX: usize = 16;
/// Maximum number of remembered own ids of rejected orders.
const TRIED_MAX: usize = 100_000;
/// Number of the newest purchases and open listings from which a false event chooses.
const NEWEST: usize = 16;
/// Number of open listings from which all price changes occur; with fewer, only a share of them.
const OPEN_FOR_ALL_CHANGES: usize = 30;
/// Price cuts per thousand price changes, as recorded.
const CUT_PERMILLE: u32 = 620;
/// Purchases per thousand on which a faulty answer is wrong.
const FALSE_PERMILLE: u32 = 500;
/// Rejected orders per thousand whose own id the market remembers.
const TRIED_PERMILLE: u32 = 500;
/// Maximum time until a removed listing returns.
const RELIST_MAX: Duration = Duration::from_secs(60);
/// Minimum and maximum lock of a locked listing.
const LOCK: (Duration, Duration) =
    (Duration::from_secs(24 * 3_600), Duration::from_secs(7 * 24 * 3_600));
/// Minimum price of a listing.
const PRICE_MIN: Amount = Amount::from_cents(102);
/// Minimum price of a listing in a practice run, whose whitelist may be about the cheapest items.
const PRACTICE_PRICE_MIN: Amount = Amount::from_cents(1);

/// State of a simulated market.
#[derive(Debug)]
pub struct RepricingModel {
    opened_at: UnixMs,
    seed: u64,
    decimals: Decimals,
    price_min: Amount,
    /// Highest price at which the demo's whitelist can match an item.
    demo_price: fn(&str) -> Option<Amount>,
    catalogue: Peekable<Catalogue>,
    price_changes: Peekable<PriceChanges>,
    rng: Rng,
    next_id: u64,
    next_number: u64,
    next_purchase: u64,
    open: BTreeMap<u64, SimListing>,
    /// Removed listings that will return.
    removed: BTreeMap<u64, SimListing>,
    /// The history's numbers of the prices of each listing, newest last.
    priced: BTreeMap<u64, Vec<(u64, Amount)>>,
    purchases: BTreeMap<u64, Purchase>,
    /// Purchases by own id.
    booked: BTreeMap<Arc<str>, u64>,
    /// Remembered own ids of rejected orders.
    tried: BTreeSet<Arc<str>>,
    scheduled: BinaryHeap<Reverse<(Duration, (u64, SimChange))>>,
    delivery: Delivery,
    pub(in crate::sim) repricing: RepricingSettings,
    balance: Amount,
    history: MarketHistory,
    books: SalesBooks,
    undo_log: AccountUndoLog<Purchase>,
}

impl RepricingModel {
    /// Creates a market whose ids start near `first_id`. `opened_at` is the time of its own clock
    /// at the opening.
    pub fn new(
        settings: &SimSettings,
        decimals: Decimals,
        first_id: u64,
        opened_at: UnixMs,
    ) -> Self {
        // Each seed has its own range of ids, so that a ledger cannot confuse two markets.
        let range = random::stream(settings.seed, 3).u64(..800);
        let changes = settings.rate.times(settings.repricing.price_changes);
        // A practice run has a whitelist of its own.
        let is_practice = settings.practice.is_some();
        Self {
            opened_at,
            seed: settings.seed,
            decimals,
            price_min: if is_practice { PRACTICE_PRICE_MIN } else { PRICE_MIN },
            demo_price: if is_practice { |_| None } else { demo::max_price },
            catalogue: Catalogue::new(settings).peekable(),
            price_changes: PriceChanges::new(settings.seed, changes).peekable(),
            rng: random::stream(settings.seed, 22),
            next_id: first_id.saturating_add(range.saturating_mul(1_000_000)),
            next_number: 1,
            next_purchase: range.saturating_mul(10_000).saturating_add(30_000_001),
            open: BTreeMap::new(),
            removed: BTreeMap::new(),
            priced: BTreeMap::new(),
            purchases: BTreeMap::new(),
            booked: BTreeMap::new(),
            tried: BTreeSet::new(),
            scheduled: BinaryHeap::new(),
            delivery: settings.delivery,
            repricing: settings.repricing,
            balance: settings.balance,
            history: MarketHistory::new(settings.balance),
            books: SalesBooks::default(),
            undo_log: AccountUndoLog::default(),
        }
    }

    pub const fn books(&self) -> &SalesBooks {
        &self.books
    }

    /// Returns the open listings, oldest first.
    pub fn open(&self) -> impl DoubleEndedIterator<Item = &SimListing> {
        self.open.values()
    }

    fn list_generated(&mut self, at: Duration, item: ListedItem, events: &mut Vec<SimEvent>) {
        let mut price = item.total;
        if item.wanted.is_none()
            && let Some(max) = (self.demo_price)(&item.market_name)
        {
            // Markets without a markup have no other way to exclude it from the demo's whitelist.
            price = price.max(max.saturating_mul(2));
        }
        if self.decimals == Decimals::Three {
            price = price.saturating_sub(Amount::from_thousandths(self.rng.i64(0..10)));
        }
        let price = price.max(self.price_min);
        let is_locked = self.rng.chance_permille(self.repricing.locked_permille);
        let item = if is_locked { ListedItem { wanted: None, ..item } } else { item };
        let lock = is_locked.then(|| self.rng.duration(LOCK));
        self.list(at, (price, lock), item, events);
        if self.rng.chance_permille(self.repricing.foreign_permille) {
            let id = self.take_id();
            let created_at = self.clock(at);
            events.push(SimEvent::Foreign(ForeignLot::random(id, created_at, &mut self.rng)));
        }
        while self.open.len() > OPEN_MAX
            && let Some((id, _)) = self.open.first_key_value()
        {
            let id = *id;
            self.remove(id, at, CloseReason::Expired, events);
        }
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id = id.saturating_add(1);
        id
    }

    /// Lists a locked item.
    pub fn list_locked(
        &mut self,
        now: Duration,
        item: ListedItem,
        lock: Duration,
        events: &mut Vec<SimEvent>,
    ) -> u64 {
        self.list(now, (item.total, Some(lock)), item, events)
    }

    fn list(
        &mut self,
        now: Duration,
        (price, lock): (Amount, Option<Duration>),
        item: ListedItem,
        events: &mut Vec<SimEvent>,
    ) -> u64 {
        let clock = self.clock(now);
        let listing = SimListing {
            id: self.take_id(),
            number: 0,
            wanted_up_to: item.wanted.map(|_entry| price),
            item: Arc::new(item),
            price,
            created_at: clock,
            unlock_at: lock.map(|lock| clock.plus(lock)),
            listed_times: 0,
        };
        let id = listing.id;
        self.open_listing(listing, now, events);
        id
    }

    /// Opens a new or returning listing.
    fn open_listing(&mut self, mut listing: SimListing, now: Duration, events: &mut Vec<SimEvent>) {
        listing.listed_times = listing.listed_times.saturating_add(1);
        listing.number = self.record_price(&listing, now);
        if let Some(after) = listing.item.rival_after {
            let change = SimChange::RivalBuys(listing.listed_times);
            self.schedule(now.saturating_add(after), listing.id, change);
        }
        if listing.item.open_for < OPEN_FOR {
            let change = SimChange::Expired(listing.listed_times);
            self.schedule(now.saturating_add(listing.item.open_for), listing.id, change);
        }
        events.push(SimEvent::Added(Arc::new(listing.clone())));
        self.open.insert(listing.id, listing);
    }

    /// Records the price of a listing in the history. Returns its number.
    fn record_price(&mut self, listing: &SimListing, now: Duration) -> u64 {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let is_wanted = listing.wanted_up_to.is_some_and(|max| listing.price <= max);
        let record = ListingRecord {
            id: listing.id.to_string(),
            market_name: listing.item.market_name.clone(),
            price: listing.price,
            wanted: listing.item.wanted.filter(|_entry| is_wanted),
            listed_at: now,
            can_join_at: now,
            closed: None,
            purchase: None,
            orders: Vec::new(),
        };
        self.history.record_listing(number, record);
        let prices = self.priced.entry(listing.id).or_default();
        prices.push((number, listing.price));
        if prices.len() > PRICES_MAX {
            prices.remove(0);
        }
        if self.priced.len() > PRICED_MAX {
            self.priced.pop_first();
        }
        number
    }

    fn schedule(&mut self, at: Duration, subject: u64, change: SimChange) {
        self.scheduled.push(Reverse((at, (subject, change))));
    }

    /// Changes the price of a random listing.
    fn change_any_price(&mut self, at: Duration, events: &mut Vec<SimEvent>) {
        let bounds = self.open.first_key_value().zip(self.open.last_key_value());
        let Some(((first, _), (last, _))) = bounds else { return };
        // While few listings are open, their prices would change many times a second.
        if self.open.len() < self.rng.usize(..OPEN_FOR_ALL_CHANGES) {
            return;
        }
        let from = self.rng.u64(*first..=*last);
        let Some(listing) = self.open.range(from..).next().map(|(_, it)| it.clone()) else {
            return;
        };
        let price = self.next_price(&listing);
        self.reprice(listing.id, price, at, events);
    }

    /// Returns the next price of a listing. One for the demo's whitelist is raised far above the
    /// price that matches, and then lowered to a price that matches.
    fn next_price(&mut self, listing: &SimListing) -> Amount {
        let is_cut = self.rng.chance_permille(CUT_PERMILLE);
        let share = |price: Amount, permille: i64| {
            let part = price.thousandths().saturating_mul(permille) / 1_000;
            Amount::from_thousandths(match self.decimals {
                Decimals::Two => part.div_euclid(10).saturating_mul(10),
                Decimals::Three => part,
            })
        };
        let price = match listing.wanted_up_to {
            Some(max) if max < listing.price => share(max, self.rng.i64(985..=1_000)),
            Some(max) if !is_cut => share(max, 1_800),
            Some(_) => share(listing.price, self.rng.i64(985..=999)),
            None if is_cut => share(listing.price, self.rng.i64(940..=999)),
            None => share(listing.price, self.rng.i64(1_002..=1_080)),
        };
        let floor = match (listing.wanted_up_to, (self.demo_price)(&listing.item.market_name)) {
            // A cut must not make an item match that was generated not to match.
            (None, Some(max)) => max.saturating_mul(3).max(PRICE_MIN),
            _ => self.price_min,
        };
        price.max(floor)
    }

    /// Changes the price of an open listing. Returns `false` if it is not open or has this price.
    pub fn reprice(
        &mut self,
        id: u64,
        price: Amount,
        now: Duration,
        events: &mut Vec<SimEvent>,
    ) -> bool {
        let Some(mut listing) = self.open.get(&id).filter(|it| it.price != price).cloned() else {
            return false;
        };
        self.history.record_close(listing.number, now, CloseReason::Expired);
        listing.price = price;
        listing.number = self.record_price(&listing, now);
        events.push(SimEvent::Repriced(Arc::new(listing.clone())));
        self.open.insert(id, listing);
        true
    }

    /// Raises the price of an open listing by a few percent.
    pub fn raise_price(&mut self, id: u64, now: Duration, events: &mut Vec<SimEvent>) {
        let Some(price) = self.open.get(&id).map(|listing| listing.price) else { return };
        let percent = self.rng.i64(1..=9);
        let extra = price.cents().saturating_mul(percent) / 100;
        let price = price.saturating_add(Amount::from_cents(extra.max(1)));
        self.reprice(id, price, now, events);
    }

    /// Removes an open listing, as its seller may. Returns `false` if no such listing is open.
    pub fn delist(&mut self, id: u64, now: Duration, events: &mut Vec<SimEvent>) -> bool {
        self.remove(id, now, CloseReason::Expired, events)
    }

    /// Lists a removed listing again under its id. Returns `false` if it is not known as removed.
    pub fn relist(&mut self, id: u64, now: Duration, events: &mut Vec<SimEvent>) -> bool {
        let Some(listing) = self.removed.remove(&id) else { return false };
        self.open_listing(listing, now, events);
        true
    }

    /// Closes an open listing, which may return later.
    fn remove(
        &mut self,
        id: u64,
        now: Duration,
        reason: CloseReason,
        events: &mut Vec<SimEvent>,
    ) -> bool {
        let Some(listing) = self.open.remove(&id) else { return false };
        self.history.record_close(listing.number, now, reason);
        events.push(SimEvent::Removed(Arc::new(listing.clone())));
        if self.rng.chance_permille(self.repricing.relisted_permille) {
            let after = self.rng.duration((Duration::ZERO, RELIST_MAX));
            self.schedule(now.saturating_add(after), id, SimChange::Relisted);
        }
        self.removed.insert(id, listing);
        if self.removed.len() > OPEN_MAX {
            self.removed.pop_first();
        }
        true
    }

    /// Executes an order.
    ///
    /// # Errors
    ///
    /// Returns a [`BuyRejection`] if nothing was bought.
    pub fn buy(
        &mut self,
        now: Duration,
        order: &SimOrder,
        events: &mut Vec<SimEvent>,
    ) -> Result<Purchase, BuyRejection> {
        self.advance(now, events);
        let is_known =
            self.booked.contains_key(&order.own_id) || self.tried.contains(&order.own_id);
        // The markets do not document which check comes first.
        let checks_own_id_first = self.rng.bool();
        let rejection = match order.id.and_then(|id| self.open.get(&id)) {
            _ if is_known && checks_own_id_first => BuyRejection::OwnIdKnown,
            None => BuyRejection::Unavailable,
            Some(_) if is_known => BuyRejection::OwnIdKnown,
            Some(listing) if order.limit < listing.price => BuyRejection::PriceAbove(listing.price),
            Some(listing) if self.balance < listing.price => BuyRejection::Funds,
            Some(_) if self.purchases.len() >= PURCHASES_MAX => BuyRejection::Unavailable,
            Some(listing) => {
                let id = listing.id;
                return self.sell(id, now, order, events).ok_or(BuyRejection::Unavailable);
            }
        };
        if !is_known && self.tried.len() < TRIED_MAX && self.rng.chance_permille(TRIED_PERMILLE) {
            self.tried.insert(Arc::clone(&order.own_id));
        }
        Err(rejection)
    }

    fn sell(
        &mut self,
        id: u64,
        now: Duration,
        order: &SimOrder,
        events: &mut Vec<SimEvent>,
    ) -> Option<Purchase> {
        let listing = Arc::new(self.open.remove(&id)?);
        let number = self.next_purchase;
        self.next_purchase = number.saturating_add(1);
        let clock = self.clock(now);
        let visible_after = self.rng.duration(self.repricing.visible_after);
        let purchase = Purchase {
            number,
            own_id: Arc::clone(&order.own_id),
            market_name: Arc::from(&*listing.item.market_name),
            price: listing.price,
            commission: Amount::ZERO,
            stage: PurchaseStage::Created,
            created_at: clock,
            changed_at: clock,
            accepted_at: None,
            visible_at: now.saturating_add(visible_after),
            listing: Arc::clone(&listing),
        };
        self.books.record_sale(Sale {
            number,
            own_id: Arc::clone(&order.own_id),
            partner: Arc::clone(&order.partner),
            listing: id,
            market_name: listing.item.market_name.clone(),
            limit: order.limit,
            price: listing.price,
            at: now,
            stage: PurchaseStage::Created,
            refunded_at: None,
        });
        self.booked.insert(Arc::clone(&order.own_id), number);
        self.history.record_close(listing.number, now, CloseReason::Bought);
        self.history.record_purchase(listing.number, PurchaseRecord::new(now, listing.price));
        self.undo_log.record_purchase(now, number, None);
        let sent = random::stream(self.seed, number).duration(self.delivery.confirm);
        self.schedule(now.saturating_add(sent), number, SimChange::Sent);
        self.purchases.insert(number, purchase.clone());
        events.push(SimEvent::Removed(listing));
        events.push(SimEvent::Purchase(Arc::new(purchase.clone())));
        self.change_balance(now, Amount::ZERO.saturating_sub(purchase.price), events);
        Some(purchase)
    }

    fn change_balance(&mut self, now: Duration, change: Amount, events: &mut Vec<SimEvent>) {
        self.undo_log.record_balance(now, self.balance);
        self.balance = self.balance.saturating_add(change);
        self.history.balance = self.balance;
        events.push(SimEvent::Balance(self.balance));
    }

    /// Raises the price of a purchase, at most by the remaining balance.
    pub fn surcharge(
        &mut self,
        number: u64,
        extra: Amount,
        now: Duration,
        events: &mut Vec<SimEvent>,
    ) -> Option<Purchase> {
        let extra = extra.min(self.balance);
        let purchase = self.purchases.get_mut(&number)?;
        purchase.price = purchase.price.saturating_add(extra);
        let purchase = purchase.clone();
        self.history
            .update_purchase(purchase.listing.number, |record| record.price = purchase.price);
        self.books.update(number, |sale| sale.price = purchase.price);
        self.change_balance(now, Amount::ZERO.saturating_sub(extra), events);
        Some(purchase)
    }

    /// Applies one scheduled change to a listing or a purchase.
    fn apply(&mut self, subject: u64, change: SimChange, at: Duration, events: &mut Vec<SimEvent>) {
        let is_same = |times| self.open.get(&subject).is_some_and(|it| it.listed_times == times);
        match change {
            SimChange::RivalBuys(times) if is_same(times) => {
                self.remove(subject, at, CloseReason::BoughtByRival, events);
            }
            SimChange::Expired(times) if is_same(times) => {
                self.remove(subject, at, CloseReason::Expired, events);
            }
            SimChange::RivalBuys(_) | SimChange::Expired(_) => {}
            SimChange::Relisted => {
                self.relist(subject, at, events);
            }
            SimChange::Sent => self.send_offer(subject, at, events),
            SimChange::Delivered => self.deliver(subject, at, events),
            SimChange::RolledBack if !self.is_at(subject, PurchaseStage::Accepted) => {}
            SimChange::RolledBack => {
                let is_own = self.rng.bool();
                let reason = if is_own {
                    ReturnReason::RolledBackByBuyer
                } else {
                    ReturnReason::RolledBackBySupplier
                };
                self.return_purchase(subject, reason, at, events);
            }
            SimChange::Refunded => self.refund(subject, at, events),
        }
    }

    /// Sends the offer of a purchase, or returns the purchase without one.
    fn send_offer(&mut self, number: u64, at: Duration, events: &mut Vec<SimEvent>) {
        if !self.is_at(number, PurchaseStage::Created) {
            return;
        }
        let mut rng = random::stream(self.seed, number.wrapping_add(1 << 40));
        // A third of the failures occur before the offer is sent.
        if rng.chance_permille(self.delivery.fail_permille / 3) {
            return self.return_purchase(number, ReturnReason::CreateError, at, events);
        }
        self.set_stage(number, PurchaseStage::Sent, at, events);
        let delivered = rng.duration(self.delivery.deliver);
        self.schedule(at.saturating_add(delivered), number, SimChange::Delivered);
    }

    /// Returns `true` if a purchase is at this stage: a test can return it at any time.
    fn is_at(&self, number: u64, stage: PurchaseStage) -> bool {
        self.purchases.get(&number).is_some_and(|purchase| purchase.stage == stage)
    }

    /// Delivers a purchase, or returns it.
    fn deliver(&mut self, number: u64, at: Duration, events: &mut Vec<SimEvent>) {
        if !self.is_at(number, PurchaseStage::Sent) {
            return;
        }
        let mut rng = random::stream(self.seed, number.wrapping_add(2 << 40));
        let left = self.delivery.fail_permille - self.delivery.fail_permille / 3;
        if rng.chance_permille(left) {
            let reasons = [ReturnReason::Timeout, ReturnReason::Canceled];
            let reason = rng.choice(reasons).unwrap_or(ReturnReason::Timeout);
            return self.return_purchase(number, reason, at, events);
        }
        self.set_stage(number, PurchaseStage::Accepted, at, events);
        if rng.chance_permille(self.repricing.rollback_permille) {
            let after = rng.duration(self.repricing.rollback_after);
            self.schedule(at.saturating_add(after), number, SimChange::RolledBack);
        }
    }

    /// Returns a purchase. Its money is credited later.
    pub fn return_purchase(
        &mut self,
        number: u64,
        reason: ReturnReason,
        at: Duration,
        events: &mut Vec<SimEvent>,
    ) {
        if let Some(purchase) = self.purchases.get_mut(&number) {
            let share =
                purchase.price.cents().saturating_mul(self.repricing.commission_permille.into());
            purchase.commission = Amount::from_cents(share / 1_000);
        }
        self.set_stage(number, PurchaseStage::Returned(reason), at, events);
        if let Some(purchase) = self.purchases.get(&number) {
            let listing = purchase.listing.number;
            self.history.update_purchase(listing, |record| record.cancelled_at = Some(at));
            let after = random::stream(self.seed, number.wrapping_add(3 << 40))
                .duration(self.delivery.refund);
            self.schedule(at.saturating_add(after), number, SimChange::Refunded);
        }
    }

    fn set_stage(
        &mut self,
        number: u64,
        stage: PurchaseStage,
        at: Duration,
        events: &mut Vec<SimEvent>,
    ) {
        let clock = self.clock(at);
        let Some(purchase) = self.purchases.get_mut(&number) else { return };
        self.undo_log.record_purchase(at, number, Some(purchase));
        purchase.stage = stage;
        purchase.changed_at = clock;
        let status = match stage {
            PurchaseStage::Created => TradeStatus::Joined,
            PurchaseStage::Sent => TradeStatus::Processing,
            PurchaseStage::Accepted => {
                purchase.accepted_at = Some(clock);
                TradeStatus::Completed
            }
            PurchaseStage::Returned(_) => TradeStatus::Cancelled,
            PurchaseStage::Unheard => TradeStatus::Other,
        };
        events.push(SimEvent::Purchase(Arc::new(purchase.clone())));
        self.history.update_purchase(purchase.listing.number, |record| record.status = status);
        self.books.update(number, |sale| sale.stage = stage);
    }

    pub(super) fn refund(&mut self, number: u64, at: Duration, events: &mut Vec<SimEvent>) {
        let Some(purchase) = self.purchases.get(&number) else { return };
        let refund = purchase.price.saturating_sub(purchase.commission);
        let listing = purchase.listing.number;
        self.history.update_purchase(listing, |record| record.refunded_at = Some(at));
        self.books.update(number, |sale| sale.refunded_at = Some(at));
        self.change_balance(at, refund, events);
    }

    /// Returns the balance as a read sees it under this fault.
    pub fn read_balance(&self, now: Duration, fault: Option<(FaultKind, Rng)>) -> Amount {
        match fault {
            Some((FaultKind::BalanceStale, mut rng)) => {
                let age = rng.duration((Duration::ZERO, STALE_MAX));
                self.undo_log.balance_at(now.saturating_sub(age), self.balance)
            }
            _ => self.balance,
        }
    }

    /// Returns the requested purchases that a read finds under this fault, oldest first. `None`
    /// stands for one that the answer makes unreadable.
    pub fn read_purchases(
        &self,
        now: Duration,
        fault: Option<(FaultKind, Rng)>,
        is_requested: impl Fn(&Purchase) -> bool,
    ) -> Vec<Option<Purchase>> {
        let (kind, mut rng) = match fault {
            Some((kind, rng)) => (Some(kind), rng),
            None => (None, Rng::with_seed(0)),
        };
        let purchases = if kind == Some(FaultKind::ListStale) {
            let age = rng.duration((Duration::ZERO, STALE_MAX));
            self.undo_log.purchases_at(now.saturating_sub(age), &self.purchases)
        } else {
            self.purchases.values().cloned().collect()
        };
        let visible = purchases
            .into_iter()
            .filter(|purchase| purchase.visible_at <= now && is_requested(purchase));
        let mut read = Vec::new();
        for purchase in visible {
            let kind = kind.filter(|_kind| rng.chance_permille(FALSE_PERMILLE));
            read.push(match kind {
                Some(FaultKind::ListShort) => continue,
                Some(FaultKind::ListNull) => None,
                Some(FaultKind::ListUnknownStatus) => {
                    Some(Purchase { stage: PurchaseStage::Unheard, ..purchase })
                }
                Some(FaultKind::ListForeign) => {
                    Some(Purchase { market_name: Arc::from("Glove Case Key"), ..purchase })
                }
                _ => Some(purchase),
            });
        }
        read
    }

    /// Records an order for a listing in the history and in the books.
    pub fn record_order(&mut self, order: &SimOrder, record: OrderRecord) {
        self.books.record_order(&order.own_id);
        // An order belongs to the price that its buyer saw.
        let prices = order.id.and_then(|id| self.priced.get(&id));
        let number = prices.and_then(|prices| {
            let seen = prices.iter().rev().find(|(_, price)| *price == order.limit);
            seen.or_else(|| prices.last()).map(|(number, _)| *number)
        });
        // A purchase is recorded at the price paid.
        let number = match record.decision {
            OrderDecision::Sold => self.sold_number(&order.own_id).or(number),
            _ => number,
        };
        let id = order.id.map_or_else(String::new, |id| id.to_string());
        self.history.record_order(number, &id, record);
    }

    fn sold_number(&self, own_id: &str) -> Option<u64> {
        let number = self.booked.get(own_id)?;
        self.purchases.get(number).map(|purchase| purchase.listing.number)
    }
}

impl MarketModel for RepricingModel {
    type Event = SimEvent;
    type Id = u64;

    fn clock(&self, now: Duration) -> UnixMs {
        self.opened_at.plus(now)
    }

    fn next_due(&mut self) -> Option<Duration> {
        let arrival = self.catalogue.peek().map(|item| item.arrival.at);
        let change = self.price_changes.peek().copied();
        let scheduled = self.scheduled.peek().map(|Reverse((at, ..))| *at);
        [arrival, change, scheduled].into_iter().flatten().min()
    }

    fn advance(&mut self, now: Duration, events: &mut Vec<SimEvent>) {
        for _ in 0..STEPS_MAX {
            let Some(at) = self.next_due().filter(|at| *at <= now) else { return };
            let is_due = |due: Option<Duration>| due == Some(at);
            if is_due(self.scheduled.peek().map(|Reverse((due, ..))| *due)) {
                if let Some(Reverse((_, (subject, change)))) = self.scheduled.pop() {
                    self.apply(subject, change, at, events);
                }
            } else if is_due(self.catalogue.peek().map(|item| item.arrival.at)) {
                if let Some(item) = self.catalogue.next() {
                    self.list_generated(at, item, events);
                }
            } else if self.price_changes.next().is_some() {
                self.change_any_price(at, events);
            }
        }
    }

    fn list_items(
        &mut self,
        now: Duration,
        items: Vec<ListedItem>,
        events: &mut Vec<SimEvent>,
    ) -> Vec<u64> {
        items.into_iter().map(|item| self.list(now, (item.total, None), item, events)).collect()
    }

    fn history(&self) -> &MarketHistory {
        &self.history
    }

    fn record_response(&mut self, id: &str, connection: u64, at: Duration) {
        let Ok(id) = id.parse::<u64>() else { return };
        for (number, _) in self.priced.get(&id).into_iter().flatten() {
            self.history.record_response(*number, connection, at);
        }
    }

    fn adjust_balance(&mut self, now: Duration, change: Amount, events: &mut Vec<SimEvent>) {
        let change = change.max(Amount::ZERO.saturating_sub(self.balance));
        self.change_balance(now, change, events);
    }

    fn false_event(&self, kind: FaultKind, _now: Duration, rng: &mut Rng) -> Option<SimEvent> {
        let newest = self.purchases.values().rev().take(NEWEST);
        match kind {
            FaultKind::FeedLie => {
                let purchase = *rng.choice(&newest.collect::<Vec<_>>())?;
                let stages = [
                    PurchaseStage::Created,
                    PurchaseStage::Accepted,
                    PurchaseStage::Returned(ReturnReason::Canceled),
                    PurchaseStage::Unheard,
                ];
                let wrong = stages.iter().filter(|stage| **stage != purchase.stage);
                let stage = **rng.choice(&wrong.collect::<Vec<_>>())?;
                Some(SimEvent::Purchase(Arc::new(Purchase { stage, ..purchase.clone() })))
            }
            FaultKind::PushLie => {
                let twice = self.balance.cents().saturating_mul(2);
                Some(SimEvent::Balance(Amount::from_cents(rng.i64(0..=twice))))
            }
            FaultKind::FeedRelist => {
                let bought = newest.map(|purchase| &*purchase.listing);
                let known = bought.chain(self.open.values().rev().take(NEWEST));
                let listing = *rng.choice(&known.collect::<Vec<_>>())?;
                Some(SimEvent::Added(Arc::new(listing.clone())))
            }
            FaultKind::FeedUnlist => {
                let open = self.open.values().rev().take(NEWEST);
                let listing = *rng.choice(&open.collect::<Vec<_>>())?;
                Some(SimEvent::Removed(Arc::new(listing.clone())))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sim::settings::Rate;

    fn open(settings: &SimSettings) -> RepricingModel {
        RepricingModel::new(settings, Decimals::Three, 1_000, UnixMs(1_772_366_400_000))
    }

    fn quiet() -> SimSettings {
        SimSettings { rate: Rate::NONE, rivals: None, ..SimSettings::default() }
    }

    fn redline(cents: i64) -> ListedItem {
        let price = Amount::from_cents(cents);
        ListedItem::plain("AK-47 | Redline (Field-Tested)", price, price)
    }

    fn order(id: u64, cents: i64, own_id: &str) -> SimOrder {
        let (own_id, partner) = (Arc::from(own_id), Arc::from("1"));
        SimOrder { id: Some(id), limit: Amount::from_cents(cents), own_id, partner }
    }

    fn events_of(settings: &SimSettings, seconds: u64) -> Vec<SimEvent> {
        let mut market = open(settings);
        let mut events = Vec::new();
        let end = Duration::from_secs(seconds);
        while let Some(due) = market.next_due().filter(|due| *due < end) {
            market.advance(due, &mut events);
        }
        events
    }

    #[test]
    fn the_same_seed_gives_the_same_events() {
        let events = |seed| events_of(&SimSettings { seed, ..SimSettings::default() }, 20);
        assert_eq!(events(7), events(7));
        assert_ne!(events(7), events(8));
    }

    #[test]
    fn most_price_changes_are_cuts_and_removed_listings_return() {
        let events = events_of(&SimSettings::default(), 120);
        let (mut prices, mut cuts, mut raises) = (BTreeMap::new(), 0, 0);
        let (mut removed, mut returned) = (BTreeSet::new(), 0);
        for event in &events {
            match event {
                SimEvent::Added(listing) => {
                    returned += u32::from(removed.contains(&listing.id));
                    prices.insert(listing.id, listing.price);
                }
                SimEvent::Repriced(listing) => {
                    let before = prices.insert(listing.id, listing.price).unwrap();
                    cuts += u32::from(listing.price < before);
                    raises += u32::from(before < listing.price);
                }
                SimEvent::Removed(listing) => {
                    removed.insert(listing.id);
                }
                _ => {}
            }
        }
        assert!(cuts > raises && raises * 3 > cuts, "{cuts} {raises}");
        assert!(returned > 20, "{returned}");
    }

    #[test]
    fn only_listings_for_the_demo_match_its_prices() {
        for event in events_of(&SimSettings::default(), 120) {
            let (SimEvent::Added(listing) | SimEvent::Repriced(listing)) = event else {
                continue;
            };
            if let Some(max) =
                demo::max_price(&listing.item.market_name).filter(|_| listing.item.wanted.is_none())
            {
                let was_wanted = listing.unlock_at.is_some();
                assert!(was_wanted || max < listing.price, "{listing:?}");
            }
        }
    }

    #[test]
    fn an_order_belongs_to_the_price_that_its_buyer_saw() {
        let mut market = open(&quiet());
        let mut events = Vec::new();
        let id = market.list_items(Duration::ZERO, vec![redline(1_000)], &mut events)[0];
        market.reprice(id, Amount::from_cents(1_100), Duration::ZERO, &mut events);
        let late = order(id, 1_000, "a");
        let result = market.buy(Duration::from_secs(1), &late, &mut events);
        assert_eq!(result, Err(BuyRejection::PriceAbove(Amount::from_cents(1_100))));
        let record = |result: &Result<Purchase, BuyRejection>| OrderRecord {
            at: Duration::ZERO,
            connection: 1,
            connected_at: Duration::ZERO,
            fault: None,
            decision: OrderDecision::from(result),
            answered_at: None,
        };
        market.record_order(&late, record(&result));
        let again = order(id, 1_100, "b");
        let result = market.buy(Duration::from_secs(2), &again, &mut events);
        market.record_order(&again, record(&result));
        let orders: Vec<(i64, bool)> = market
            .history()
            .orders()
            .map(|(listing, order)| (listing.price.cents(), order.decision == OrderDecision::Sold))
            .collect();
        assert_eq!(orders, [(1_000, false), (1_100, true)]);
        assert_eq!(market.history().ordered_twice().count(), 0);
        assert_eq!(market.history().spent().cents(), 1_100);
    }

    #[test]
    fn a_purchase_that_is_returned_after_its_offer_is_refunded_once() {
        let delivery = Delivery { fail_permille: 0, ..Delivery::default() };
        let mut market = open(&SimSettings { delivery, ..quiet() });
        let mut events = Vec::new();
        let id = market.list_items(Duration::ZERO, vec![redline(1_000)], &mut events)[0];
        let before = market.balance;
        let bought = market.buy(Duration::ZERO, &order(id, 1_000, "a"), &mut events).unwrap();
        let sent_at = market.next_due().unwrap();
        market.advance(sent_at, &mut events);
        assert!(market.is_at(bought.number, PurchaseStage::Sent));
        let reason = ReturnReason::Canceled;
        market.return_purchase(bought.number, reason, sent_at, &mut events);
        market.advance(Duration::from_secs(3_600), &mut events);
        assert!(market.is_at(bought.number, PurchaseStage::Returned(reason)));
        assert_eq!(market.balance, before);
    }

    proptest! {
        /// The invariants of the module.
        #[test]
        fn no_own_id_books_twice_and_the_balance_is_exact(
            steps in prop::collection::vec((0_usize..6, 0_u8..4, 700_i64..1_300, 0_u64..9_000), 1..60),
            fail_permille in 0_u32..1_000,
            rollback_permille in 0_u32..1_000,
        ) {
            let delivery = Delivery { fail_permille, ..Delivery::default() };
            let repricing = RepricingSettings { rollback_permille, ..RepricingSettings::default() };
            let balance = Amount::from_cents(4_000);
            let mut market = open(&SimSettings { balance, delivery, repricing, ..quiet() });
            let mut events = Vec::new();
            let ids = market.list_items(Duration::ZERO, vec![redline(1_000); 6], &mut events);
            let mut now = Duration::ZERO;
            for (which, own_id, cents, wait) in steps {
                now += Duration::from_millis(wait);
                if wait % 3 == 0 {
                    market.reprice(ids[which], Amount::from_cents(cents), now, &mut events);
                }
                let order = order(ids[which], cents, &format!("own-{own_id}"));
                if let Ok(purchase) = market.buy(now, &order, &mut events) {
                    prop_assert!(purchase.price <= order.limit);
                    prop_assert_eq!(purchase.listing.id, ids[which]);
                }
                prop_assert!(Amount::ZERO <= market.balance);
                let spent = market.history().spent();
                prop_assert_eq!(market.balance.saturating_add(spent), balance);
                prop_assert_eq!(market.books().booked_twice().count(), 0);
            }
            let sold: BTreeSet<u64> = market.books().sales().map(|sale| sale.listing).collect();
            prop_assert_eq!(sold.len(), market.books().sales().count());
        }
    }
}
