//! Simulator of Waxpeer: its wire formats over a market of [`repricing`].
//!
//! - [`feed`]: server side of Engine.IO 4 with Socket.IO over one WebSocket. Pure.
//! - [`answers`]: HTTP answers to orders and reads. Pure.
//!
//! Wire formats and units are written a second time here, without code of the client modules, so
//! that a misreading on one side cannot be repeated on the other. `tests/it/structure.rs` checks
//! that.
//!
//! Its real feed carries about 430 events per second, with bursts of 2,800. A rate of 12.5 listings
//! per second with 32 price changes each gives that.

pub mod answers;
pub mod feed;

use std::time::Duration;

use super::{
    faults::{COMMON_FAULTS, FaultKind},
    repricing::{
        self,
        purchase::{Purchase, PurchaseStage, ReturnReason},
        server::RepricingServer,
    },
};
use crate::domain::{money::Amount, time::UnixMs};

/// Wire formats of Waxpeer.
#[derive(Clone, Copy, Debug)]
pub struct WaxpeerWire;

/// A running simulator of Waxpeer.
pub type WaxpeerSim = RepricingServer<WaxpeerWire>;

/// The faults that only this re-pricing market can inject.
const OWN_FAULTS: [FaultKind; 4] =
    [FaultKind::SystemBusy, FaultKind::BuyingOff, FaultKind::MsBeforeNext, FaultKind::PushLie];

/// The faults that this market can inject.
pub const FAULTS: &[&[FaultKind]] = &[&COMMON_FAULTS, &repricing::FAULTS, &OWN_FAULTS];

/// Returns an amount as this market writes it: an integer of thousandths of a dollar.
const fn mills(amount: Amount) -> i64 {
    amount.thousandths()
}

/// Time after which a new purchase is with its seller, and an accepted one is done.
const STEP: Duration = Duration::from_secs(1);

/// Returns the status of a purchase on the wire, and the reason if it failed.
fn status(purchase: &Purchase, now: UnixMs) -> (u8, Option<&'static str>) {
    let is_new = now < purchase.changed_at.plus(STEP);
    match purchase.stage {
        PurchaseStage::Created if is_new => (0, None),
        PurchaseStage::Created => (2, None),
        PurchaseStage::Sent => (4, None),
        PurchaseStage::Accepted if is_new => (4, None),
        PurchaseStage::Accepted => (5, None),
        PurchaseStage::Returned(reason) => {
            let reason = match reason {
                ReturnReason::CreateError => "Seller did not send the trade in time",
                ReturnReason::Timeout => "Trade was not accepted in time",
                ReturnReason::Canceled => "Seller canceled the trade",
                ReturnReason::RolledBackByBuyer => "Trade was reversed by the buyer",
                ReturnReason::RolledBackBySupplier => "Trade was reversed by the seller",
            };
            (6, Some(reason))
        }
        PurchaseStage::Unheard => (9, None),
    }
}
