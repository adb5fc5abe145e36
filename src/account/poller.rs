//! Reads the account at an interval, and soon after an event that the account should reflect.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep,
};

use super::{
    failure::{FailureCause, ReadFailure, ReadKind},
    look_up::{OrderLookUps, OrderReading},
    purchases::{LookBack, PURCHASE_PAGES_MAX, PurchasesReading},
    reader::{AccountReader, UserReading},
};

use crate::{
    clock,
    domain::{
        account::User, outcome::RejectReason, own_order_id::OwnOrderId, time::UnixMs,
        trade::TradeKey,
    },
    markets::{AccountQueryError, EnvironmentNames, MarketApi},
};

/// Capacity of the queue of account updates.
pub const UPDATES_QUEUED_MAX: usize = 16;

/// Intervals of reads of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollConfig {
    /// Interval without refresh requests.
    pub interval: Duration,
    /// Minimum interval, which only urgent refresh requests shorten.
    pub interval_min: Duration,
    /// `true` to read the purchases too. A dry run has none.
    pub reads_purchases: bool,
}

impl Default for PollConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            interval_min: Duration::from_secs(5),
            reads_purchases: true,
        }
    }
}

/// Result of a read of the account.
#[derive(Debug)]
pub enum AccountUpdate {
    /// User and balance of the account.
    User(UserReading),
    /// Own purchases, read within seconds after the newest [`AccountUpdate::User`].
    Purchases(PurchasesReading),
    /// The market has no list of purchases. Sent after each [`AccountUpdate::User`] with a balance,
    /// with its time.
    NoPurchases { started: UnixMs },
    /// Result of the look-up of an order.
    Order(OrderReading),
    /// A read failed. Sent for each failed read.
    Failed {
        read: ReadKind,
        cause: FailureCause,
        /// Reason for which an order would be rejected at present.
        reject_reason: Option<RejectReason>,
    },
}

impl AccountUpdate {
    pub fn failed(read: ReadKind, failure: &ReadFailure, names: &EnvironmentNames) -> Self {
        let (cause, reject_reason) = (failure.cause(names), failure.reject_reason(names));
        Self::Failed { read, cause, reject_reason }
    }
}

/// Refresh requests to the poller, from any thread, without waiting.
#[derive(Debug)]
pub struct RefreshRequests {
    soon: Notify,
    now: Notify,
    oldest_open_ms: AtomicI64,
    needs_history: AtomicBool,
    /// `None` on a market without own order ids.
    order_look_ups: Option<OrderLookUps>,
    /// `true` once the first read of the account has ended.
    has_read: watch::Sender<bool>,
}

impl Default for RefreshRequests {
    fn default() -> Self {
        Self::new(false)
    }
}

impl RefreshRequests {
    /// Creates requests, with look-ups of orders by their own ids if `looks_up_orders`.
    pub fn new(looks_up_orders: bool) -> Self {
        Self {
            soon: Notify::new(),
            now: Notify::new(),
            oldest_open_ms: AtomicI64::new(i64::MAX),
            needs_history: AtomicBool::new(false),
            order_look_ups: looks_up_orders.then(OrderLookUps::default),
            has_read: watch::Sender::new(false),
        }
    }

    /// Returns `true` if orders can be looked up.
    pub const fn has_order_look_ups(&self) -> bool {
        self.order_look_ups.is_some()
    }

    /// Sets the orders of unknown outcome, the most urgent ones first, and the bought ones with the
    /// time of their approval and `true` if completed. Never waits; returns `false` if it must be
    /// repeated.
    pub fn set_looked_up_orders(
        &self,
        unknown: impl Iterator<Item = (TradeKey, OwnOrderId)>,
        bought: impl Iterator<Item = ((TradeKey, OwnOrderId), UnixMs, bool)>,
    ) -> bool {
        self.order_look_ups.as_ref().is_none_or(|look_ups| look_ups.replace(unknown, bought))
    }

    /// Waits until the first read of balance and purchases has ended, with or without success.
    pub(super) async fn first_read_ended(&self) {
        // An error would mean that the sender, which `self` owns, is gone.
        drop(self.has_read.subscribe().wait_for(|has_read| *has_read).await);
    }

    fn on_read(&self) {
        self.has_read.send_if_modified(|has_read| !std::mem::replace(has_read, true));
    }

    pub(super) const fn order_look_ups(&self) -> Option<&OrderLookUps> {
        self.order_look_ups.as_ref()
    }

    /// Requests a read of the account soon.
    pub fn request_refresh(&self) {
        self.soon.notify_one();
    }

    /// Requests a read of the account as soon as the market's rate limit permits, because no order
    /// is sent before it.
    pub fn request_refresh_now(&self) {
        self.now.notify_one();
        self.request_refresh();
    }

    /// Sets the time of the oldest open order, back to which purchases must be read.
    pub fn set_oldest_open(&self, moment: Option<UnixMs>) {
        let ms = moment.map_or(i64::MAX, |moment| moment.0);
        self.oldest_open_ms.store(ms, Ordering::Relaxed);
    }

    /// Lets every read of the purchases go back as far as the first one, because a refund of an
    /// earlier purchase may hide the charge of an order of unknown outcome.
    pub fn set_needs_history(&self, needs_history: bool) {
        self.needs_history.store(needs_history, Ordering::Relaxed);
    }

    pub(crate) fn needs_history(&self) -> bool {
        self.needs_history.load(Ordering::Relaxed)
    }

    fn back_to(&self, started: UnixMs) -> UnixMs {
        UnixMs(self.oldest_open_ms.load(Ordering::Relaxed)).min(started)
    }
}

/// Polls the account until the receiver of the updates is dropped. Without a credential, or on a
/// market without a balance, it sends one failure and returns.
///
/// # Cancel safety
///
/// Safe: it only reads.
pub async fn poll_account<M: MarketApi>(
    reader: &AccountReader<M>,
    config: PollConfig,
    requests: &RefreshRequests,
    updates: &mpsc::Sender<AccountUpdate>,
) {
    let started = clock::now();
    let mut times = LookBackTimes::default();
    loop {
        let began = Instant::now();
        let user = match reader.current_user().await {
            Ok(reading) => {
                let user = (reading.user.clone(), reading.as_of);
                if updates.send(AccountUpdate::User(reading)).await.is_err() {
                    return;
                }
                Some(user)
            }
            Err(failure) => {
                let is_final = matches!(
                    failure,
                    ReadFailure::NoCredential | ReadFailure::Query(AccountQueryError::Unsupported)
                );
                let names = &M::CAPABILITIES.environment;
                let update = AccountUpdate::failed(ReadKind::Balance, &failure, names);
                if is_final {
                    requests.on_read();
                }
                if updates.send(update).await.is_err() || is_final {
                    return;
                }
                None
            }
        };
        if let Some((user, as_of)) = user.filter(|_user| config.reads_purchases) {
            let needed = requests.back_to(started);
            times.force_history(requests.needs_history());
            let update = if reader.has_purchases() {
                read_purchases(reader, &user, needed, &mut times).await
            } else {
                // Without a balance nothing was compared with the ledger.
                user.balance.map(|_balance| AccountUpdate::NoPurchases { started: as_of })
            };
            if let Some(update) = update
                && updates.send(update).await.is_err()
            {
                return;
            }
        }
        requests.on_read();
        tokio::select! {
            () = sleep(config.interval.saturating_sub(began.elapsed())) => {}
            () = requests.soon.notified() => {
                tokio::select! {
                    () = sleep(config.interval_min.saturating_sub(began.elapsed())) => {}
                    () = requests.now.notified() => {}
                }
            }
            () = updates.closed() => return,
        }
    }
}

/// Reads the purchases over the range that is due; returns `None` if none is.
async fn read_purchases<M: MarketApi>(
    reader: &AccountReader<M>,
    user: &User,
    needed: UnixMs,
    times: &mut LookBackTimes,
) -> Option<AccountUpdate> {
    let look_back = times.due(Instant::now(), clock::now(), needed)?;
    Some(match reader.own_purchases(user, look_back).await {
        Ok(reading) => {
            times.on_read(Instant::now(), look_back, &reading);
            AccountUpdate::Purchases(reading)
        }
        Err(failure) => {
            AccountUpdate::failed(ReadKind::Purchases, &failure, &M::CAPABILITIES.environment)
        }
    })
}

/// Age up to which purchases are read in order to correct their prices.
const HISTORY: Duration = Duration::from_secs(8 * 86_400);

/// Interval of reads over [`HISTORY`].
const HISTORY_EVERY: Duration = Duration::from_secs(3_600);

/// Time to the next read after an incomplete one that reached the maximum number of pages.
const ENDLESS_WAIT: Duration = Duration::from_secs(300);

/// Times at which the next reads are due.
#[derive(Debug, Default)]
pub(super) struct LookBackTimes {
    /// Earliest time of the next read over [`HISTORY`]; `None` means at once.
    history_from: Option<Instant>,
    /// Earliest time of the next read; `None` means at once.
    list_from: Option<Instant>,
}

impl LookBackTimes {
    /// Returns the range to read now; `None` if no read is due. `needed` is the time of the oldest
    /// open order, and `wall` the current time, both on the local wall clock.
    pub(super) fn due(&self, now: Instant, wall: UnixMs, needed: UnixMs) -> Option<LookBack> {
        let is_due = |from: Option<Instant>| from.is_none_or(|from| from <= now);
        if !is_due(self.list_from) {
            return None;
        }
        let wanted =
            if is_due(self.history_from) { needed.min(wall.minus(HISTORY)) } else { needed };
        Some(LookBack { needed, wanted, pages_max: PURCHASE_PAGES_MAX })
    }

    /// Makes the next read go back over [`HISTORY`] if it is needed.
    fn force_history(&mut self, is_needed: bool) {
        self.history_from = self.history_from.filter(|_from| !is_needed);
    }

    /// Records a read over that range.
    pub(super) fn on_read(
        &mut self,
        now: Instant,
        look_back: LookBack,
        reading: &PurchasesReading,
    ) {
        let is_deep = look_back.wanted < look_back.needed;
        // If the needed part is incomplete, the next read covers the history again.
        if is_deep && reading.is_complete() {
            self.history_from = now.checked_add(HISTORY_EVERY);
        }
        let is_endless = !reading.is_complete() && look_back.pages_max <= reading.pages;
        self.list_from = if is_endless { now.checked_add(ENDLESS_WAIT) } else { None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::purchases::{IncompleteReason, PageWalk};

    #[test]
    fn purchases_are_needed_back_to_the_oldest_open_order_and_at_least_to_the_start() {
        let (requests, started) = (RefreshRequests::default(), UnixMs(1_000));
        assert_eq!(requests.back_to(started), started);
        for (oldest_open, needed) in [(Some(400), 400), (Some(2_000), 1_000), (None, 1_000)] {
            requests.set_oldest_open(oldest_open.map(UnixMs));
            assert_eq!(requests.back_to(started), UnixMs(needed), "{oldest_open:?}");
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);
    const WALL: UnixMs = UnixMs(1_000 * 86_400_000);

    fn reading(incomplete: Option<IncompleteReason>) -> PurchasesReading {
        let empty = PageWalk::new(LookBack::back_to(WALL)).finish(WALL);
        PurchasesReading { incomplete, ..empty }
    }

    /// Returns `true` if a read at that time covers the history.
    fn is_deep(times: &LookBackTimes, now: Instant) -> bool {
        let look_back = times.due(now, WALL, WALL).unwrap();
        assert_eq!(look_back.needed, WALL);
        assert!(look_back.wanted == WALL || look_back.wanted == WALL.minus(HISTORY));
        look_back.wanted < look_back.needed
    }

    #[test]
    fn the_first_read_and_one_an_hour_go_back_eight_days() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let deep: Vec<u32> = (0..150)
            .filter(|minute| {
                let now = start + MINUTE * *minute;
                let look_back = times.due(now, WALL, WALL).unwrap();
                times.on_read(now, look_back, &reading(None));
                look_back.wanted < look_back.needed
            })
            .collect();
        assert_eq!(deep, [0, 60, 120]);
    }

    #[test]
    fn every_read_is_deep_while_the_history_is_needed() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let deep = [false, false, true, true, false].map(|is_needed| {
            times.force_history(is_needed);
            let look_back = times.due(start, WALL, WALL).unwrap();
            times.on_read(start, look_back, &reading(None));
            look_back.wanted < look_back.needed
        });
        assert_eq!(deep, [true, false, true, true, false]);
    }

    #[test]
    fn an_incomplete_deep_read_is_repeated() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let look_back = times.due(start, WALL, WALL).unwrap();
        times.on_read(
            start,
            look_back,
            &reading(Some(IncompleteReason::NextPageUnknown { page: 1 })),
        );
        assert!(is_deep(&times, start + MINUTE));
    }

    #[test]
    fn a_shallow_read_does_not_delay_the_deep_one() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let look_back = times.due(start, WALL, WALL).unwrap();
        times.on_read(start, look_back, &reading(None));
        let late = start + 59 * MINUTE;
        let look_back = times.due(late, WALL, WALL).unwrap();
        times.on_read(late, look_back, &reading(None));
        assert!(is_deep(&times, start + 60 * MINUTE));
    }

    #[test]
    fn an_open_order_that_is_older_than_the_history_is_reached_by_every_read() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let needed = WALL.minus(2 * HISTORY);
        let look_back = times.due(start, WALL, needed).unwrap();
        assert_eq!(look_back, LookBack::back_to(needed));
        times.on_read(start, look_back, &reading(None));
        assert_eq!(times.due(start + MINUTE, WALL, needed), Some(LookBack::back_to(needed)));
    }

    #[test]
    fn an_endless_list_is_not_walked_every_minute() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let look_back = times.due(start, WALL, WALL).unwrap();
        // The wait is the same for every reason.
        let endless = reading(Some(IncompleteReason::Unreadable { count: 1, message: None }));
        let endless = PurchasesReading { pages: PURCHASE_PAGES_MAX, ..endless };
        times.on_read(start, look_back, &endless);
        assert_eq!(times.due(start + MINUTE, WALL, WALL), None);
        assert!(times.due(start + ENDLESS_WAIT, WALL, WALL).is_some());
    }
}
