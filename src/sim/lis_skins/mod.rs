//! Simulator of LIS-SKINS: its wire formats over a market of [`repricing`].
//!
//! - [`feed`]: server side of the Centrifugo protocol in JSON. Pure.
//! - [`answers`]: HTTP answers to orders and reads. Pure.
//! - [`token`]: tokens of the feed. Pure.
//!
//! Wire formats and units are written a second time here, without code of the client modules, so
//! that a misreading on one side cannot be repeated on the other. `tests/it/structure.rs` checks
//! that.
//!
//! An order buys one listing. Codes of Centrifugo and values that no document states are those that
//! Centrifugo itself uses.

pub mod answers;
pub mod feed;
pub mod token;

use serde_json::Value;

use super::{
    faults::{COMMON_FAULTS, FaultKind},
    repricing::{
        self,
        purchase::{Purchase, PurchaseStage, ReturnReason},
        server::RepricingServer,
    },
};
use crate::domain::money::Amount;

/// Wire formats of LIS-SKINS.
#[derive(Clone, Copy, Debug)]
pub struct LisSkinsWire;

/// A running simulator of LIS-SKINS.
pub type LisSkinsSim = RepricingServer<LisSkinsWire>;

/// The faults that only this re-pricing market can inject.
const OWN_FAULTS: [FaultKind; 8] = [
    FaultKind::TradeBan,
    FaultKind::CannotTrade,
    FaultKind::PrivateInventory,
    FaultKind::InventoryFull,
    FaultKind::FailedAttempts,
    FaultKind::InvalidValue,
    FaultKind::ReturnedAtOnce,
    FaultKind::FeedToken,
];

/// The faults that this market can inject.
pub const FAULTS: &[&[FaultKind]] = &[&COMMON_FAULTS, &repricing::FAULTS, &OWN_FAULTS];

/// Returns an amount as this market writes it: dollars with at most two decimals.
fn dollars(amount: Amount) -> Value {
    let cents = amount.cents();
    if cents % 100 == 0 {
        return (cents / 100).into();
    }
    let text = format!("{}.{:02}", cents / 100, cents.unsigned_abs() % 100);
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

/// Returns the status of a purchase and the reason of its return.
fn status(purchase: &Purchase) -> (&'static str, Option<&'static str>) {
    let (is_locked, is_odd) = (purchase.listing.unlock_at.is_some(), purchase.number % 2 == 1);
    match purchase.stage {
        PurchaseStage::Created => ("processing", None),
        PurchaseStage::Sent if is_locked && is_odd => ("wait_withdraw", None),
        PurchaseStage::Sent if is_locked => ("wait_unlock", None),
        PurchaseStage::Sent => ("wait_accept", None),
        PurchaseStage::Accepted => ("accepted", None),
        PurchaseStage::Returned(reason) => {
            let reason = match reason {
                ReturnReason::CreateError => "trade_create_error",
                ReturnReason::Timeout if is_locked => "wait_withdraw_timeout",
                ReturnReason::Timeout => "trade_timeout",
                ReturnReason::Canceled if is_odd => "manual_cancel",
                ReturnReason::Canceled => "trade_canceled",
                ReturnReason::RolledBackByBuyer => "rollback_user",
                ReturnReason::RolledBackBySupplier => "rollback_supplier",
            };
            ("return", Some(reason))
        }
        PurchaseStage::Unheard => ("wait_review", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_at_most_two_decimals() {
        for (cents, expected) in [(2_744, "27.44"), (1_000, "10"), (150, "1.5"), (5, "0.05")] {
            assert_eq!(dollars(Amount::from_cents(cents)).to_string(), expected);
        }
    }
}
