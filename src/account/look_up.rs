//! Looks up orders by their own ids.
//!
//! An order of unknown outcome is looked up at once and then with growing delays, until it is no
//! longer unknown: the market may show an order some time after its response was lost.
//!
//! On a market without a list of the account's purchases, what was bought is looked up too, for
//! [`BOUGHT_FOR`]: with growing delays until it is delivered, and then once an hour, because Steam
//! can roll back a trade for about a week. After a start, what was delivered before is looked up
//! soon, because no run may last an hour. Bought orders that are due are looked up together.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc},
    time::sleep_until,
};
use tracing::warn;

use super::{
    failure::ReadKind,
    poller::{AccountUpdate, RefreshRequests},
    reader::AccountReader,
};
use crate::{
    backoff::ExponentialBackoff,
    clock,
    domain::account::OwnPurchase,
    domain::own_order_id::OwnOrderId,
    domain::time::UnixMs,
    domain::trade::TradeKey,
    markets::{MarketApi, OrderReference},
};

/// Maximum number of unknown orders that are looked up. Others follow once these are resolved, or
/// are resolved by a list of purchases.
const LOOK_UPS_MAX: usize = 1_024;

/// Maximum number of bought orders that are looked up.
const BOUGHT_MAX: usize = 1_024;

/// Time for which a bought order is looked up.
pub const BOUGHT_FOR: Duration = Duration::from_secs(8 * 86_400);

/// Delays between the look-ups of an unknown order.
const DELAYS: ExponentialBackoff =
    ExponentialBackoff::doubling(Duration::from_secs(2), Duration::from_secs(300));

/// Delays between the look-ups of a bought order.
const BOUGHT_DELAYS: ExponentialBackoff =
    ExponentialBackoff::doubling(Duration::from_secs(60), Duration::from_secs(3_600));

/// Time after [`visible_within`](crate::markets::OwnOrderIdSupport::visible_within) at which an
/// unknown order is looked up regardless of the growing delays.
const VISIBLE_MARGIN: Duration = Duration::from_secs(1);

/// Delay between the look-ups of a completed order.
const COMPLETED_DELAY: Duration = Duration::from_secs(3_600);

/// Delay of the first look-up of the orders that were completed before the start.
const COMPLETED_START_DELAY: Duration = Duration::from_secs(3);

/// State for which an order is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookUpReason {
    Unknown,
    /// The order is bought and not delivered yet.
    Bought,
    /// The item is delivered; Steam may still roll the trade back.
    Completed,
}

/// Order to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LookedUpOrder {
    pub(super) key: TradeKey,
    pub(super) own_id: OwnOrderId,
    pub(super) reason: LookUpReason,
    /// Time after which it is not looked up any more, on [`clock::now`].
    pub(super) until: UnixMs,
}

/// Result of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderReading {
    pub key: TradeKey,
    /// `None` if the market does not know the order.
    pub found: Option<OwnPurchase>,
    /// Start of the read, on [`clock::now`].
    pub started: UnixMs,
}

/// The orders to look up, as set by the thread that decides.
#[derive(Debug, Default)]
pub(super) struct OrderLookUps {
    orders: Mutex<Vec<LookedUpOrder>>,
    /// `true` if there are more than [`BOUGHT_MAX`] bought orders.
    has_more_bought: AtomicBool,
    changed: Notify,
}

impl OrderLookUps {
    /// Replaces the orders by the first [`LOOK_UPS_MAX`] of the unknown and the first
    /// [`BOUGHT_MAX`] of the bought ones, the latter with the time of their approval and `true` if
    /// completed. Never waits; returns `false` if the orders are being read at this moment.
    pub(super) fn replace(
        &self,
        unknown: impl Iterator<Item = (TradeKey, OwnOrderId)>,
        bought: impl Iterator<Item = ((TradeKey, OwnOrderId), UnixMs, bool)>,
    ) -> bool {
        let unknown = unknown.take(LOOK_UPS_MAX).map(|(key, own_id)| LookedUpOrder {
            key,
            own_id,
            reason: LookUpReason::Unknown,
            until: UnixMs(i64::MAX),
        });
        let mut all_bought = bought;
        let bought =
            all_bought.by_ref().take(BOUGHT_MAX).map(|((key, own_id), at, is_completed)| {
                let reason =
                    if is_completed { LookUpReason::Completed } else { LookUpReason::Bought };
                LookedUpOrder { key, own_id, reason, until: at.plus(BOUGHT_FOR) }
            });
        let Ok(mut orders) = self.orders.try_lock() else { return false };
        orders.clear();
        orders.extend(unknown.chain(bought));
        drop(orders);
        self.has_more_bought.store(all_bought.next().is_some(), Ordering::Relaxed);
        self.changed.notify_one();
        true
    }

    /// Returns the orders to look up: without the bought ones if the market lists purchases.
    fn orders(&self, has_list: bool) -> Vec<LookedUpOrder> {
        let mut orders = self.orders.lock().map(|orders| orders.clone()).unwrap_or_default();
        orders.retain(|order| !has_list || order.reason == LookUpReason::Unknown);
        orders
    }
}

/// Looks up orders until the receiver of the updates is dropped. Begins after the first read of the
/// account, because ordering waits for that read. Returns at once on a market without own order
/// ids.
///
/// Two look-ups are at least the [`interval`](crate::markets::ReadRate::interval) of the reads
/// apart, so that they leave the burst to the other reads.
///
/// # Cancel safety
///
/// Safe: it only reads.
pub async fn look_up_orders<M: MarketApi>(
    reader: &AccountReader<M>,
    requests: &RefreshRequests,
    updates: &mpsc::Sender<AccountUpdate>,
) {
    let Some(look_ups) = requests.order_look_ups() else { return };
    tokio::select! {
        () = updates.closed() => return,
        () = requests.first_read_ended() => {}
    }
    let has_list = reader.has_purchases();
    let Some(support) = M::CAPABILITIES.own_order_ids else { return };
    let mut times = LookUpTimes::new(support.visible_within.saturating_add(VISIBLE_MARGIN));
    let (mut free_at, mut is_logged): (Option<Instant>, bool) = (None, false);
    loop {
        let next = times.next(Instant::now(), clock::now());
        tokio::select! {
            biased;
            () = updates.closed() => return,
            () = look_ups.changed.notified() => {
                times.set(&look_ups.orders(has_list), Instant::now());
                let has_more = !has_list && look_ups.has_more_bought.load(Ordering::Relaxed);
                if has_more && !std::mem::replace(&mut is_logged, true) {
                    warn!(
                        "More than {BOUGHT_MAX} purchases in 8 days: only the newest are compared \
                         with the market. Check older ones there: a roll-back of theirs is not \
                         noticed, and they count as spent"
                    );
                }
            }
            () = wait_until(next.map(|next| next.due).max(next.and(free_at))) => {
                let Some(next) = next else { continue };
                let orders = times.together_with(next, support.look_ups_per_request, Instant::now());
                let (readings, is_failed) = look_up(reader, &orders).await;
                let now = Instant::now();
                times.on_look_up(&orders, is_failed, now);
                free_at = now.checked_add(M::CAPABILITIES.reads.interval);
                for update in readings {
                    if updates.send(update).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Looks up orders in one request. Returns the updates, and `true` if it failed.
async fn look_up<M: MarketApi>(
    reader: &AccountReader<M>,
    orders: &[LookedUpOrder],
) -> (Vec<AccountUpdate>, bool) {
    let is_alone = orders.len() == 1;
    let references: Vec<OrderReference<'_>> = orders
        .iter()
        .map(|LookedUpOrder { key, own_id, .. }| OrderReference { id: &key.id, own_id, is_alone })
        .collect();
    match reader.orders(&references).await {
        Ok((found, started)) => {
            (readings(orders, found, started).map(AccountUpdate::Order).collect(), false)
        }
        Err(failure) => {
            let names = &M::CAPABILITIES.environment;
            (vec![AccountUpdate::failed(ReadKind::Orders, &failure, names)], true)
        }
    }
}

/// Returns the results of a request in the order of its orders. An absence from a response for
/// several orders is no evidence and has no result.
fn readings(
    orders: &[LookedUpOrder],
    found: impl IntoIterator<Item = Option<OwnPurchase>>,
    started: UnixMs,
) -> impl Iterator<Item = OrderReading> {
    let is_alone = orders.len() == 1;
    let pairs = orders.iter().zip(found);
    pairs
        .filter(move |(_, found)| is_alone || found.is_some())
        .map(move |(order, found)| OrderReading { key: order.key, found, started })
}

/// Waits until a moment; never completes without one.
async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Next look-up of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ScheduledLookUp {
    order: LookedUpOrder,
    due: Instant,
    /// Number of look-ups so far.
    count: u32,
    /// Time from which its absence is evidence. It is looked up at this time.
    visible_at: Instant,
    /// `true` if it is looked up alone, because the last look-up failed: its entry may be the one
    /// that cannot be read.
    is_alone: bool,
}

/// Times of the next look-ups. Pure.
#[derive(Debug)]
struct LookUpTimes {
    orders: Vec<ScheduledLookUp>,
    /// Longest time until the market shows an executed order.
    visible_within: Duration,
    /// `true` if an unknown order that is due comes next, which it does every second time.
    is_turn_of_unknown: bool,
}

impl LookUpTimes {
    const fn new(visible_within: Duration) -> Self {
        Self { orders: Vec::new(), visible_within, is_turn_of_unknown: false }
    }

    /// Replaces the orders. A new one of unknown outcome is due at once.
    fn set(&mut self, orders: &[LookedUpOrder], now: Instant) {
        let known: HashMap<(TradeKey, LookUpReason), ScheduledLookUp> = self
            .orders
            .drain(..)
            .map(|known| ((known.order.key, known.order.reason), known))
            .collect();
        // A new order became unknown shortly before.
        let visible_at = now.checked_add(self.visible_within).unwrap_or(now);
        let is_followed = |order: &LookedUpOrder| {
            let mut earlier = [LookUpReason::Unknown, LookUpReason::Bought].into_iter();
            earlier.any(|reason| known.contains_key(&(order.key, reason)))
        };
        // One request is sent for the orders that are due at the same time.
        let completed = known.values().filter(|one| one.order.reason == LookUpReason::Completed);
        let hourly = completed.map(|one| one.due.saturating_duration_since(now)).min();
        let schedule = |order: &LookedUpOrder| {
            let first = match order.reason {
                LookUpReason::Unknown => Duration::ZERO,
                LookUpReason::Bought => BOUGHT_DELAYS.first,
                LookUpReason::Completed if is_followed(order) => hourly.unwrap_or(COMPLETED_DELAY),
                LookUpReason::Completed => COMPLETED_START_DELAY,
            };
            let due = now.checked_add(first).unwrap_or(now);
            let known = known.get(&(order.key, order.reason)).copied();
            let (order, count, is_alone) = (*order, 0, false);
            known.unwrap_or(ScheduledLookUp { order, due, count, visible_at, is_alone })
        };
        self.orders = orders.iter().map(schedule).collect();
    }

    /// Returns the next look-up: every second time that of an unknown order if one is due, and
    /// otherwise the earliest of all. Removes orders whose time is over.
    fn next(&mut self, now: Instant, wall: UnixMs) -> Option<ScheduledLookUp> {
        self.orders.retain(|scheduled| wall <= scheduled.order.until);
        let is_urgent = |scheduled: &&ScheduledLookUp| {
            scheduled.order.reason == LookUpReason::Unknown && scheduled.due <= now
        };
        let first = |scheduled: &&ScheduledLookUp| scheduled.due;
        let urgent = self.orders.iter().filter(|_| self.is_turn_of_unknown).filter(is_urgent);
        let urgent = urgent.min_by_key(first);
        urgent.or_else(|| self.orders.iter().min_by_key(first)).copied()
    }

    /// Returns this order, and the other bought ones that are due, at most `max` in all. An unknown
    /// order is looked up alone, because its absence may be evidence.
    fn together_with(
        &self,
        first: ScheduledLookUp,
        max: usize,
        now: Instant,
    ) -> Vec<LookedUpOrder> {
        let may_join = |one: &ScheduledLookUp| {
            one.order.reason != LookUpReason::Unknown && !one.is_alone && one.due <= now
        };
        let others = self.orders.iter().filter(|one| may_join(&first) && may_join(one));
        let others = others.filter(|one| one.order.key != first.order.key);
        let others = others.take(max.saturating_sub(1)).map(|one| one.order);
        std::iter::once(first.order).chain(others).collect()
    }

    /// Records that these orders were looked up in one request.
    fn on_look_up(&mut self, orders: &[LookedUpOrder], is_failed: bool, now: Instant) {
        self.is_turn_of_unknown = !self.is_turn_of_unknown;
        let done: HashSet<TradeKey> = orders.iter().map(|order| order.key).collect();
        for done in self.orders.iter_mut().filter(|one| done.contains(&one.order.key)) {
            let count = done.count;
            done.count = count.saturating_add(1);
            done.is_alone = is_failed;
            let delay = match done.order.reason {
                LookUpReason::Unknown => DELAYS.wait(count),
                LookUpReason::Bought => BOUGHT_DELAYS.wait(done.count),
                LookUpReason::Completed => COMPLETED_DELAY,
            };
            let due = now.checked_add(delay).unwrap_or(now);
            let is_unknown = done.order.reason == LookUpReason::Unknown;
            let is_early = is_unknown && now < done.visible_at;
            done.due = if is_early { due.min(done.visible_at) } else { due };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        own_order_id::StartId,
        trade::{KeyedBy, TradeId, TradeStatus},
    };

    fn key(number: u64) -> TradeKey {
        KeyedBy::Id.key(TradeId::from_number(number), None)
    }

    fn order(number: u64) -> (TradeKey, OwnOrderId) {
        (key(number), StartId::from_bits([7; 16]).order_id(number.try_into().unwrap()))
    }

    const WALL: UnixMs = UnixMs(1_000 * 86_400_000);

    #[test]
    fn an_absence_is_a_result_only_if_the_order_was_looked_up_alone() {
        let of = |number| {
            let (key, own_id) = order(number);
            let reason = LookUpReason::Bought;
            LookedUpOrder { key, own_id, reason, until: WALL }
        };
        let found = OwnPurchase::bare(key(1).id, TradeStatus::Completed);
        let results = |orders: &[LookedUpOrder], found: &[Option<OwnPurchase>]| {
            let results = readings(orders, found.iter().cloned(), WALL);
            results.map(|it| (it.key, it.found.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(results(&[of(1)], &[None]), [(key(1), false)]);
        let several = results(&[of(1), of(2), of(3)], &[None, Some(found), None]);
        assert_eq!(several, [(key(2), true)]);
    }

    fn look_up_one(times: &mut LookUpTimes, number: u64, now: Instant) {
        let scheduled = times.orders.iter().find(|one| one.order.key == key(number));
        let order = scheduled.map(|one| one.order);
        times.on_look_up(order.as_slice(), false, now);
    }

    fn set(times: &mut LookUpTimes, look_ups: &OrderLookUps, numbers: &[u64], now: Instant) {
        assert!(look_ups.replace(numbers.iter().copied().map(order), std::iter::empty()));
        times.set(&look_ups.orders(true), now);
    }

    #[test]
    fn an_order_is_looked_up_at_once_and_then_with_growing_delays() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        let start = Instant::now();
        assert_eq!(times.next(start, WALL), None);
        set(&mut times, &look_ups, &[7], start);
        let mut now = start;
        let mut delays = Vec::new();
        for _ in 0..9 {
            let next = times.next(now, WALL).unwrap();
            assert_eq!((next.order.key, next.order.own_id), order(7));
            delays.push(next.due.duration_since(now).as_secs());
            now = next.due;
            times.on_look_up(&[next.order], false, now);
        }
        assert_eq!(delays, [0, 2, 4, 8, 16, 32, 64, 128, 256]);
        look_up_one(&mut times, 7, now);
        assert_eq!(times.next(now, WALL).unwrap().due.duration_since(now), DELAYS.max);
    }

    #[test]
    fn a_new_order_is_due_at_once_and_a_known_one_keeps_its_delay() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        let start = Instant::now();
        set(&mut times, &look_ups, &[7], start);
        look_up_one(&mut times, 7, start);
        set(&mut times, &look_ups, &[7, 8], start);
        assert_eq!(times.next(start, WALL).unwrap().order.key, key(8));
        look_up_one(&mut times, 8, start + Duration::from_secs(1));
        assert_eq!(times.next(start, WALL).unwrap().due, start + DELAYS.first);
        set(&mut times, &look_ups, &[8], start);
        assert_eq!(
            times.next(start, WALL).unwrap().order.key,
            key(8),
            "the other is no longer unknown"
        );
        set(&mut times, &look_ups, &[], start);
        assert_eq!(times.next(start, WALL), None);
    }

    #[test]
    fn a_bought_order_is_looked_up_until_it_can_no_longer_be_rolled_back() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        let replace = |is_completed| {
            assert!(
                look_ups.replace(std::iter::empty(), [(order(7), WALL, is_completed)].into_iter())
            );
        };
        let delays = |times: &mut LookUpTimes, start: Instant| {
            let mut now = start;
            let mut next_delay = || {
                let next = times.next(now, WALL).unwrap();
                let delay = next.due.duration_since(now);
                now = next.due;
                times.on_look_up(&[next.order], false, now);
                delay.as_secs()
            };
            [next_delay(), next_delay(), next_delay()]
        };
        let start = Instant::now();
        replace(false);
        times.set(&look_ups.orders(false), start);
        assert_eq!(delays(&mut times, start), [60, 120, 240]);
        // During trade protection there is at most one request an hour.
        replace(true);
        times.set(&look_ups.orders(false), start);
        assert_eq!(delays(&mut times, start), [3_600; 3]);
        assert!(times.next(start, WALL.plus(BOUGHT_FOR)).is_some());
        assert_eq!(times.next(start, WALL.plus(BOUGHT_FOR).plus(Duration::from_millis(1))), None);
        // A list of the purchases shows a roll-back without look-ups.
        times.set(&look_ups.orders(true), start);
        assert_eq!(times.next(start, WALL), None);
    }

    /// Runs that are all shorter than an hour must find a roll-back too.
    #[test]
    fn an_order_that_was_delivered_before_the_start_is_looked_up_soon_and_then_hourly() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        let two_days_ago = WALL.minus(Duration::from_secs(2 * 86_400));
        let delivered = (0..40).map(|number| (order(number), two_days_ago, true));
        assert!(look_ups.replace(std::iter::empty(), delivered));
        let start = Instant::now();
        times.set(&look_ups.orders(false), start);
        assert!(times.orders.iter().all(|it| it.due == start + COMPLETED_START_DELAY));
        for number in 0..40 {
            look_up_one(&mut times, number, start);
            times.set(&look_ups.orders(false), start);
        }
        assert!(times.orders.iter().all(|it| it.due == start + COMPLETED_DELAY));
    }

    /// Looks up what is next, and returns the number of orders in the request.
    fn look_up_next(times: &mut LookUpTimes, is_failed: bool, now: Instant) -> usize {
        let next = times.next(now, WALL).unwrap();
        let together = times.together_with(next, 100, now);
        times.on_look_up(&together, is_failed, now);
        together.len()
    }

    fn completed(count: u64) -> impl Iterator<Item = ((TradeKey, OwnOrderId), UnixMs, bool)> {
        (0..count).map(|number| (order(number), WALL, true))
    }

    #[test]
    fn bought_orders_that_are_due_are_looked_up_in_one_request_and_unknown_ones_alone() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        let unknown = [order(900), order(901)].into_iter();
        assert!(look_ups.replace(unknown, completed(250)));
        let start = Instant::now();
        times.set(&look_ups.orders(false), start);
        let now = start + COMPLETED_START_DELAY;
        let sizes = [false; 5].map(|is_failed| look_up_next(&mut times, is_failed, now));
        assert_eq!(sizes, [1, 1, 100, 100, 50]);
        assert!(times.orders.iter().all(|one| now < one.due), "one was looked up twice");
    }

    #[test]
    fn a_delivered_order_joins_the_hourly_request_of_the_others() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        let start = Instant::now();
        for (is_completed, minutes) in [(false, 10), (true, 20)] {
            let seventh = (order(7), WALL, is_completed);
            assert!(look_ups.replace(std::iter::empty(), completed(3).chain([seventh])));
            times.set(&look_ups.orders(false), start + Duration::from_secs(60 * minutes));
            while times.next(start, WALL).unwrap().due < start + COMPLETED_DELAY {
                let due = times.next(start, WALL).unwrap().due;
                look_up_next(&mut times, false, due);
            }
        }
        let dues: HashSet<Instant> = times.orders.iter().map(|one| one.due).collect();
        assert_eq!((times.orders.len(), dues.len()), (4, 1), "{dues:?}");
    }

    #[test]
    fn after_a_failed_request_each_order_is_looked_up_alone_until_it_succeeds() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        assert!(look_ups.replace(std::iter::empty(), completed(3)));
        let mut now = Instant::now();
        times.set(&look_ups.orders(false), now);
        for (is_failed, sizes) in [(true, vec![3]), (false, vec![1, 1, 1]), (false, vec![3])] {
            now += COMPLETED_DELAY;
            for size in sizes {
                assert_eq!(look_up_next(&mut times, is_failed, now), size);
            }
        }
    }

    #[test]
    fn it_is_known_whether_bought_orders_were_left_out() {
        let look_ups = OrderLookUps::default();
        let max = u64::try_from(BOUGHT_MAX).unwrap();
        for (count, expected) in [(max, false), (max + 1, true), (1, false)] {
            let bought = (0..count).map(|number| (order(number), WALL, false));
            assert!(look_ups.replace(std::iter::empty(), bought));
            assert_eq!(look_ups.has_more_bought.load(Ordering::Relaxed), expected, "{count}");
        }
    }

    #[test]
    fn an_unknown_order_that_is_due_precedes_the_bought_ones() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        let bought = (1..100).map(|number| (order(number), WALL, false));
        assert!(look_ups.replace([order(200)].into_iter(), bought));
        let start = Instant::now();
        times.set(&look_ups.orders(false), start);
        let later = start + Duration::from_secs(3_600);
        look_up_one(&mut times, 200, later - DELAYS.first);
        assert_eq!(times.next(later, WALL).unwrap().order.key, key(200));
        look_up_one(&mut times, 200, later);
        assert_ne!(times.next(later, WALL).unwrap().order.key, key(200));
    }

    /// Each delay doubles, and none skips the time from which an absence is evidence.
    #[test]
    fn an_unknown_order_is_looked_up_as_soon_as_its_absence_is_evidence() {
        let look_ups = OrderLookUps::default();
        let mut times = LookUpTimes::new(Duration::from_secs(601));
        let start = Instant::now();
        set(&mut times, &look_ups, &[1], start);
        let mut looked_up = Vec::new();
        for _ in 0..12 {
            let next = times.next(start, WALL).unwrap();
            looked_up.push((next.due - start).as_secs());
            look_up_one(&mut times, 1, next.due);
        }
        assert_eq!(looked_up, [0, 2, 6, 14, 30, 62, 126, 254, 510, 601, 901, 1_201]);
    }

    #[test]
    fn no_unknown_order_waits_for_the_end_of_a_hundred_others() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        let (numbers, mut now) = ((0..100).collect::<Vec<u64>>(), Instant::now());
        set(&mut times, &look_ups, &numbers, now);
        let mut looked_up = HashSet::new();
        for _ in 0..1_000 {
            now += Duration::from_secs(1);
            let next = times.next(now, WALL).unwrap();
            times.on_look_up(&[next.order], false, now);
            looked_up.insert(next.order.key);
        }
        assert_eq!(looked_up.len(), numbers.len());
    }

    #[test]
    fn many_unknown_orders_do_not_prevent_the_look_up_of_a_bought_one() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        let bought = [(order(1_000), WALL, false)].into_iter();
        assert!(look_ups.replace((0..400).map(order), bought));
        let mut now = Instant::now();
        times.set(&look_ups.orders(false), now);
        let mut counts = HashMap::new();
        for _ in 0..2_000 {
            now += Duration::from_secs(1);
            let next = times.next(now, WALL).unwrap();
            times.on_look_up(&[next.order], false, now);
            *counts.entry(next.order.key).or_insert(0) += 1;
        }
        assert!(counts.len() == 401 && counts[&key(1_000)] >= 3, "{}", counts.len());
    }

    #[test]
    fn the_number_of_orders_is_bounded() {
        let (look_ups, mut times) = (OrderLookUps::default(), LookUpTimes::new(Duration::ZERO));
        let numbers: Vec<u64> = (0..2_000).collect();
        set(&mut times, &look_ups, &numbers, Instant::now());
        assert_eq!(times.orders.len(), LOOK_UPS_MAX);
    }
}
