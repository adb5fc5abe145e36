//! Keeping the way of an approval warm.
//!
//! Minutes may pass between two buys, and by then nothing of their way is left in the caches: the
//! ledger's write alone takes ten times as long. So when everything that came has been dealt with,
//! and something did that nobody wants, or where there is a core to spare, that way is gone now and
//! then without approving anything.

use std::time::Duration;

use super::{
    OrderSender,
    engine::{Engine, Now},
};
use crate::{domain::money::Amount, domain::trade::TradeId, ledger::OrderRequest};

/// How often at most behind listings, which come in bursts at times.
pub(super) const BEHIND_LISTINGS: Duration = Duration::from_millis(1);
/// How often where a core is given to the feed. A file's first write in each tick of the system's
/// clock, of 1 to 10 ms, costs three times as much as those after it; rehearsed less often, a buy
/// would be that one.
pub(super) const ALL_THE_TIME: Duration = Duration::from_micros(100);
/// One that takes longer than this is no help: the disk has other things to do.
const TOO_LONG: Duration = Duration::from_micros(500);
/// How long the disk is left alone then.
const LEFT_ALONE: Duration = Duration::from_secs(5);

impl<B: OrderSender> Engine<B> {
    /// Asks for a rehearsal once everything that came has been dealt with.
    #[inline]
    pub(super) fn wish_to_rehearse(&mut self, now: Now) {
        self.wishes_to_rehearse |= self.may_rehearse(now);
    }

    /// Goes the way of an approval, if that was long enough ago; nothing is approved, counted or
    /// kept.
    #[inline]
    pub(super) fn rehearse(&mut self, every: Duration, now: Now) {
        self.wishes_to_rehearse = false;
        if self.may_rehearse(now) {
            self.go_the_way(now);
            let took = now.instant.elapsed();
            let wait = if took < TOO_LONG { every } else { LEFT_ALONE };
            self.rehearse_from = now.instant.checked_add(wait);
        }
    }

    fn may_rehearse(&self, now: Now) -> bool {
        self.rehearse_from.is_none_or(|from| from <= now.instant)
    }

    fn go_the_way(&mut self, now: Now) {
        if let Some(id) = TradeId::new("rehearsal") {
            let (price, created_at) = (Amount::from_cents(1), Some(now.wall));
            self.ledger.rehearse(&OrderRequest { id, price, entry: 0, created_at }, now.wall);
        }
    }
}
