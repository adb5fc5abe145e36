//! Keeps the data and code of the approval path in the CPU caches.
//!
//! Minutes may pass between two orders, after which the caches no longer contain the approval path:
//! the ledger's write alone then takes ten times as long. So the path is run without side effects
//! after listings that did not match, or continuously where a CPU core is reserved.

use std::time::Duration;

use super::{
    OrderSender,
    engine::{Engine, Now},
};
use crate::{
    domain::money::Amount,
    domain::trade::{KeyedBy, TradeId},
    ledger::OrderRequest,
};

/// Minimum interval after listings, which may arrive in bursts.
pub(super) const AFTER_LISTINGS_INTERVAL: Duration = Duration::from_millis(1);
/// Interval where a CPU core is reserved for the feed. The first write to a file in each tick of the
/// system clock (1 to 10 ms) takes three times as long as later ones. The interval is shorter than a
/// tick, so that the write of an order is not the first one.
pub(super) const SPINNING_INTERVAL: Duration = Duration::from_micros(100);
/// Duration above which a run indicates a busy disk.
const SLOW_RUN: Duration = Duration::from_micros(500);
/// Pause after a slow run.
const SLOW_DISK_PAUSE: Duration = Duration::from_secs(5);

impl<B: OrderSender> Engine<B> {
    /// Requests cache warming once every received listing was handled.
    #[inline]
    pub(super) fn request_cache_warming(&mut self, now: Now) {
        self.needs_cache_warming |= self.is_cache_warming_due(now);
    }

    /// Runs the approval path without side effects, to keep it in the CPU cache, if the last run was
    /// long enough ago.
    #[inline]
    pub(super) fn warm_caches(&mut self, every: Duration, now: Now) {
        self.needs_cache_warming = false;
        if self.is_cache_warming_due(now) {
            self.run_approval_path(now);
            let took = now.instant.elapsed();
            let wait = if took < SLOW_RUN { every } else { SLOW_DISK_PAUSE };
            self.next_cache_warming = now.instant.checked_add(wait);
        }
    }

    fn is_cache_warming_due(&self, now: Now) -> bool {
        self.next_cache_warming.is_none_or(|from| from <= now.instant)
    }

    fn run_approval_path(&mut self, now: Now) {
        if let Some(id) = TradeId::new("rehearsal") {
            let (price, created_at) = (Amount::from_cents(1), Some(now.wall));
            let keyed_by = KeyedBy::Id;
            let request = OrderRequest { id, keyed_by, price, entry: 0, created_at };
            self.ledger.warm_caches(&request, now.wall);
        }
    }
}
