//! Orders, their rejections, and purchases. Pure.

use std::{fmt, sync::Arc, time::Duration};

use super::listing::SimListing;
use crate::{
    domain::{money::Amount, time::UnixMs},
    sim::history::OrderDecision,
};

/// Stage of a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurchaseStage {
    Created,
    /// The offer was sent to the buyer.
    Sent,
    Accepted,
    Returned(ReturnReason),
    /// A stage that no client knows, under a fault.
    Unheard,
}

/// Reason for which a purchase was returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnReason {
    CreateError,
    Timeout,
    Canceled,
    RolledBackByBuyer,
    RolledBackBySupplier,
}

impl fmt::Display for PurchaseStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Created => "created",
            Self::Sent => "offer sent",
            Self::Accepted => "accepted",
            Self::Returned(
                ReturnReason::RolledBackByBuyer | ReturnReason::RolledBackBySupplier,
            ) => "rolled back",
            Self::Returned(_) => "returned",
            Self::Unheard => "unknown",
        })
    }
}

/// A purchase of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    pub number: u64,
    pub own_id: Arc<str>,
    pub listing: Arc<SimListing>,
    /// Market name that the answers contain.
    pub market_name: Arc<str>,
    pub price: Amount,
    /// Part of the price that is not returned.
    pub commission: Amount,
    pub stage: PurchaseStage,
    pub created_at: UnixMs,
    pub changed_at: UnixMs,
    pub accepted_at: Option<UnixMs>,
    /// Time since the opening from which a look-up finds it.
    pub(super) visible_at: Duration,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimOrder {
    /// The requested listing, if its id is a number.
    pub id: Option<u64>,
    pub limit: Amount,
    pub own_id: Arc<str>,
    pub partner: Arc<str>,
}

/// Cause of a rejected order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuyRejection {
    /// The listing is gone or never existed.
    Unavailable,
    /// The price, which is above the limit.
    PriceAbove(Amount),
    /// The own id was used before.
    OwnIdKnown,
    Funds,
}

impl BuyRejection {
    const fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "not available",
            Self::PriceAbove(_) => "price above the limit",
            Self::OwnIdKnown => "own id known",
            Self::Funds => "balance too low",
        }
    }
}

impl From<&Result<Purchase, BuyRejection>> for OrderDecision {
    fn from(result: &Result<Purchase, BuyRejection>) -> Self {
        match result {
            Ok(_) => Self::Sold,
            Err(rejection) => Self::Rejected(rejection.name()),
        }
    }
}
