//! Keeping the way of an approval warm.
//!
//! Minutes may pass between two buys, and by then nothing of their way is left in the caches: the
//! ledger's write alone takes ten times as long. So whoever has just dealt with a listing that
//! nobody wants, or has a core to spare, goes that way now and then without approving anything.

use std::time::Duration;

use super::{
    Buys,
    core::{Core, Now},
};
use crate::{ledger::Want, money::Coins, trade::TradeId};

/// How often at most behind listings, which come in bursts at times.
pub(super) const BEHIND_LISTINGS: Duration = Duration::from_millis(1);
/// How often where a core is given to the feed. A file's first write in each tick of the system's
/// clock, of 1 to 10 ms, costs three times as much as those after it; rehearsed less often, a buy
/// would be that one.
pub(super) const ALL_THE_TIME: Duration = Duration::from_micros(100);

impl<B: Buys> Core<B> {
    /// Goes the way of an approval, if that was long enough ago; nothing is approved, counted or
    /// kept.
    #[inline]
    pub(super) fn rehearse(&mut self, every: Duration, now: Now) {
        if every <= now.instant.saturating_duration_since(self.rehearsed) {
            self.rehearsed = now.instant;
            self.go_the_way(now);
        }
    }

    fn go_the_way(&mut self, now: Now) {
        if let Some(id) = TradeId::new("rehearsal") {
            let price = Coins::from_cents(1);
            self.ledger.rehearse(&Want { id, price, entry: 0, created_at: None }, now.wall);
        }
    }
}
