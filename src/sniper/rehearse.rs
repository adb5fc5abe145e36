//! Keeping the way of an approval warm, where a core is given to the feed.
//!
//! Minutes may pass between two buys, and by then nothing of their way is left in the caches: the
//! ledger's write alone takes ten times as long. A core that has nothing else to do goes that way
//! now and then, without approving anything.

use super::{Buys, core::Core};
use crate::{ledger::Want, money::Coins, time::UnixMs, trade::TradeId};

impl<B: Buys> Core<B> {
    /// Goes the way of an approval; nothing is approved, counted or kept.
    pub(super) fn rehearse(&mut self, now: UnixMs) {
        if let Some(id) = TradeId::new("rehearsal") {
            let price = Coins::from_cents(1);
            self.ledger.rehearse(&Want { id, price, entry: 0, created_at: None }, now);
        }
    }
}
