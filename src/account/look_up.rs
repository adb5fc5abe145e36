//! Looks up orders of unknown outcome by their own ids.
//!
//! An order is looked up at once and then with growing delays, until it is no longer unknown: the
//! market may show an order some time after its response was lost.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc},
    time::sleep_until,
};

use super::{
    failure::ReadKind,
    poller::{AccountUpdate, RefreshRequests},
    reader::AccountReader,
};
use crate::{
    backoff::ExponentialBackoff,
    domain::account::OwnPurchase,
    domain::own_order_id::{OwnOrderId, OwnOrderIds},
    domain::time::UnixMs,
    domain::trade::TradeKey,
    markets::{MarketApi, OrderReference},
};

/// Maximum number of orders that are looked up at a time. The list of purchases resolves the others.
pub const LOOK_UPS_MAX: usize = 64;

/// Delays between the look-ups of one order.
const DELAYS: ExponentialBackoff =
    ExponentialBackoff::doubling(Duration::from_secs(2), Duration::from_secs(300));

/// Order to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnknownOrder {
    pub(super) key: TradeKey,
    pub(super) own_id: OwnOrderId,
}

/// Result of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderReading {
    pub key: TradeKey,
    /// `None` if the market does not know the order.
    pub found: Option<OwnPurchase>,
    /// Start of the read, on the local wall clock.
    pub started: UnixMs,
}

/// The orders to look up, as set by the thread that decides.
#[derive(Debug)]
pub(super) struct OrderLookUps {
    own_ids: OwnOrderIds,
    orders: Mutex<Vec<UnknownOrder>>,
    changed: Notify,
}

impl OrderLookUps {
    pub(super) fn new(own_ids: OwnOrderIds) -> Self {
        Self { own_ids, orders: Mutex::default(), changed: Notify::new() }
    }

    /// Replaces the orders by the first [`LOOK_UPS_MAX`] of `keys`. Never waits; returns `false` if
    /// the orders are being read at this moment.
    pub(super) fn replace(&self, keys: impl Iterator<Item = TradeKey>) -> bool {
        let order = |key| UnknownOrder { key, own_id: self.own_ids.id(&key) };
        let Ok(mut orders) = self.orders.try_lock() else { return false };
        orders.clear();
        orders.extend(keys.take(LOOK_UPS_MAX).map(order));
        drop(orders);
        self.changed.notify_one();
        true
    }

    fn orders(&self) -> Vec<UnknownOrder> {
        self.orders.lock().map(|orders| orders.clone()).unwrap_or_default()
    }
}

/// Looks up unknown orders until the receiver of the updates is dropped. Returns at once on a market
/// without own order ids.
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
    let mut times = LookUpTimes::default();
    loop {
        let next = times.next();
        tokio::select! {
            biased;
            () = updates.closed() => return,
            () = look_ups.changed.notified() => times.set(&look_ups.orders(), Instant::now()),
            () = wait_until(next.map(|next| next.due)) => {
                let Some(ScheduledLookUp { order, .. }) = next else { continue };
                let reference = OrderReference { id: &order.key.id, own_id: &order.own_id };
                let update = match reader.order(reference).await {
                    Ok((found, started)) => {
                        AccountUpdate::Order(OrderReading { key: order.key, found, started })
                    }
                    Err(failure) => {
                        let names = &M::CAPABILITIES.environment;
                        AccountUpdate::failed(ReadKind::Orders, &failure, names)
                    }
                };
                times.on_look_up(&order.key, Instant::now());
                if updates.send(update).await.is_err() {
                    return;
                }
            }
        }
    }
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
    order: UnknownOrder,
    due: Instant,
    /// Number of look-ups so far.
    count: u32,
}

/// Times of the next look-ups. Pure.
#[derive(Debug, Default)]
struct LookUpTimes {
    orders: Vec<ScheduledLookUp>,
}

impl LookUpTimes {
    /// Replaces the orders. One that is not known yet is due at once.
    fn set(&mut self, orders: &[UnknownOrder], now: Instant) {
        let known = std::mem::take(&mut self.orders);
        let schedule = |order: &UnknownOrder| {
            let known = known.iter().find(|known| known.order == *order).copied();
            known.unwrap_or(ScheduledLookUp { order: *order, due: now, count: 0 })
        };
        self.orders = orders.iter().map(schedule).collect();
    }

    fn next(&self) -> Option<ScheduledLookUp> {
        self.orders.iter().min_by_key(|scheduled| scheduled.due).copied()
    }

    fn on_look_up(&mut self, key: &TradeKey, now: Instant) {
        if let Some(done) = self.orders.iter_mut().find(|scheduled| scheduled.order.key == *key) {
            done.due = now.checked_add(DELAYS.wait(done.count)).unwrap_or(now);
            done.count = done.count.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::trade::{KeyedBy, TradeId};

    fn key(number: u64) -> TradeKey {
        KeyedBy::Id.key(TradeId::from_number(number), None)
    }

    fn set(times: &mut LookUpTimes, look_ups: &OrderLookUps, numbers: &[u64], now: Instant) {
        assert!(look_ups.replace(numbers.iter().copied().map(key)));
        times.set(&look_ups.orders(), now);
    }

    #[test]
    fn an_order_is_looked_up_at_once_and_then_with_growing_delays() {
        let (look_ups, mut times) =
            (OrderLookUps::new(OwnOrderIds::new("a1")), LookUpTimes::default());
        let start = Instant::now();
        assert_eq!(times.next(), None);
        set(&mut times, &look_ups, &[7], start);
        let mut now = start;
        let mut delays = Vec::new();
        for _ in 0..9 {
            let next = times.next().unwrap();
            assert_eq!(next.order.own_id, OwnOrderIds::new("a1").id(&key(7)));
            delays.push(next.due.duration_since(now).as_secs());
            now = next.due;
            times.on_look_up(&next.order.key, now);
        }
        assert_eq!(delays, [0, 2, 4, 8, 16, 32, 64, 128, 256]);
        times.on_look_up(&key(7), now);
        assert_eq!(times.next().unwrap().due.duration_since(now), DELAYS.max);
    }

    #[test]
    fn a_new_order_is_due_at_once_and_a_known_one_keeps_its_delay() {
        let (look_ups, mut times) =
            (OrderLookUps::new(OwnOrderIds::new("a1")), LookUpTimes::default());
        let start = Instant::now();
        set(&mut times, &look_ups, &[7], start);
        times.on_look_up(&key(7), start);
        set(&mut times, &look_ups, &[7, 8], start);
        assert_eq!(times.next().unwrap().order.key, key(8));
        times.on_look_up(&key(8), start + Duration::from_secs(1));
        assert_eq!(times.next().unwrap().due, start + DELAYS.first);
        set(&mut times, &look_ups, &[8], start);
        assert_eq!(times.next().unwrap().order.key, key(8), "the other is no longer unknown");
        set(&mut times, &look_ups, &[], start);
        assert_eq!(times.next(), None);
    }

    #[test]
    fn the_number_of_orders_is_bounded() {
        let (look_ups, mut times) =
            (OrderLookUps::new(OwnOrderIds::new("a1")), LookUpTimes::default());
        let numbers: Vec<u64> = (0..1_000).collect();
        set(&mut times, &look_ups, &numbers, Instant::now());
        assert_eq!(times.orders.len(), LOOK_UPS_MAX);
    }
}
