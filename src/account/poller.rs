//! Reads the account at an interval, and soon after an event that the account should reflect.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};

use super::{
    failure::ReadFailure,
    health::{FailureCause, ReadKind},
    look_back::LookBackTimes,
    look_up::{OrderLookUps, OrderReading},
    purchases::PurchasesReading,
    reader::{AccountReader, UserReading},
};
use crate::{
    clock,
    domain::{
        account::User, outcome::RejectReason, own_order_id::OwnOrderIds, time::UnixMs,
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
    /// Minimum interval, which refresh requests cannot shorten.
    pub interval_min: Duration,
    /// Reads the purchases too. A dry run has none.
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
        let (cause, reject_reason) = (failure.cause(names), failure.reject_reason());
        Self::Failed { read, cause, reject_reason }
    }
}

/// Refresh requests to the poller, from any thread, without waiting.
#[derive(Debug)]
pub struct RefreshRequests {
    soon: Notify,
    oldest_open_ms: AtomicI64,
    /// `None` on a market without own order ids.
    order_look_ups: Option<OrderLookUps>,
}

impl Default for RefreshRequests {
    fn default() -> Self {
        Self::new(None)
    }
}

impl RefreshRequests {
    /// Creates requests, with look-ups of orders by these own ids.
    pub fn new(own_ids: Option<OwnOrderIds>) -> Self {
        Self {
            soon: Notify::new(),
            oldest_open_ms: AtomicI64::new(i64::MAX),
            order_look_ups: own_ids.map(OrderLookUps::new),
        }
    }

    /// Returns `true` if orders can be looked up.
    pub const fn has_order_look_ups(&self) -> bool {
        self.order_look_ups.is_some()
    }

    /// Sets the orders of unknown outcome, the most urgent ones first. Never waits; returns `false`
    /// if it must be repeated.
    pub fn set_unknown_orders(&self, keys: impl Iterator<Item = TradeKey>) -> bool {
        self.order_look_ups.as_ref().is_none_or(|look_ups| look_ups.replace(keys))
    }

    pub(super) const fn order_look_ups(&self) -> Option<&OrderLookUps> {
        self.order_look_ups.as_ref()
    }

    /// Requests a read of the account soon.
    pub fn request_refresh(&self) {
        self.soon.notify_one();
    }

    /// Sets the time of the oldest open order, back to which purchases must be read.
    pub fn set_oldest_open(&self, moment: Option<UnixMs>) {
        let ms = moment.map_or(i64::MAX, |moment| moment.0);
        self.oldest_open_ms.store(ms, Ordering::Relaxed);
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
                let user = reading.user.clone();
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
                if updates.send(update).await.is_err() || is_final {
                    return;
                }
                None
            }
        };
        if let Some(user) = user.filter(|_user| config.reads_purchases)
            && let Some(update) =
                read_purchases(reader, &user, requests.back_to(started), &mut times).await
            && updates.send(update).await.is_err()
        {
            return;
        }
        tokio::select! {
            () = sleep(config.interval.saturating_sub(began.elapsed())) => {}
            () = requests.soon.notified() => {
                sleep(config.interval_min.saturating_sub(began.elapsed())).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purchases_are_needed_back_to_the_oldest_open_order_and_at_least_to_the_start() {
        let (requests, started) = (RefreshRequests::default(), UnixMs(1_000));
        assert_eq!(requests.back_to(started), started);
        for (oldest_open, needed) in [(Some(400), 400), (Some(2_000), 1_000), (None, 1_000)] {
            requests.set_oldest_open(oldest_open.map(UnixMs));
            assert_eq!(requests.back_to(started), UnixMs(needed), "{oldest_open:?}");
        }
    }
}
