//! Reasons for which an order is not approved: the limit, its value and its bound.

use crate::{domain::money::Amount, domain::time::UnixMs};

/// Limit that an order would violate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RiskRejection {
    /// Ordering is halted until the operator resumes it.
    #[error("ordering halted")]
    Halted,
    /// The account has not been compared with the ledger since the start.
    #[error("the account is still being checked (about 1 s after each start)")]
    NotReconciled,
    /// The market requested a pause.
    #[error("ordering is paused until {until}")]
    Paused { until: UnixMs },
    /// The ledger cannot be written.
    #[error("the ledger is not writable; the log contains the cause")]
    Unwritable,
    /// The durable limit on approvals, or the intent file, has no capacity left for the moment.
    #[error("the ledger waits for the disk")]
    Behind,
    /// The ledger has reached its maximum number of intents.
    #[error("the ledger is full: {max} orders")]
    Full { max: u32 },
    /// The listing was requested before. No listing is requested twice, nor at another price unless
    /// it was certainly not bought before.
    #[error("this listing was requested before")]
    AlreadyRequested,
    /// The listing was requested at too many prices.
    #[error("this listing was requested {max} times at other prices")]
    RepricedTooOften { max: u32 },
    /// The listing may have been requested before a power loss.
    #[error("created before {barrier}, so it may have been ordered before the power loss")]
    BeforePowerLoss {
        /// Only listings created after this moment are ordered.
        barrier: UnixMs,
    },
    /// The price is zero or negative.
    #[error("the price {price} is not positive")]
    NoPrice { price: Amount },
    #[error("price {price} is above max_price {max}")]
    MaxPrice { price: Amount, max: Amount },
    #[error("the whitelist entry is unknown to the ledger")]
    NoEntry,
    /// The entry's `max_quantity` is reached.
    #[error("{bought} bought or reserved, its entry's max_quantity is {max}")]
    EntryQuantity { bought: u32, max: u32 },
    /// The order would exceed the entry's `max_total`.
    #[error("{spent} spent and {price} more would exceed its entry's max_total {max}")]
    EntryTotal { spent: Amount, price: Amount, max: Amount },
    /// The order would exceed `total`.
    #[error("{spent} spent and {price} more would exceed total {max}")]
    Total { spent: Amount, price: Amount, max: Amount },
    /// The order would exceed `per_hour`.
    #[error("{spent} spent within an hour and {price} more would exceed per_hour {max}")]
    PerHour { spent: Amount, price: Amount, max: Amount },
    /// The order would exceed `per_day`.
    #[error("{spent} spent within a day and {price} more would exceed per_day {max}")]
    PerDay { spent: Amount, price: Amount, max: Amount },
    #[error("the balance is unknown")]
    BalanceUnknown,
    /// The order would lower the balance below `min_balance`.
    #[error("balance {balance} less {price} would fall below min_balance {min}")]
    MinBalance { balance: Amount, price: Amount, min: Amount },
    /// `max_buys_per_minute` is reached.
    #[error("{sent} orders within a minute, max_buys_per_minute is {max}")]
    PerMinute { sent: u32, max: u32 },
    /// `max_in_flight` is reached. The order may be retried while the listing is available.
    #[error("{in_flight} orders in flight, max_in_flight is {max}")]
    InFlight { in_flight: u32, max: u32 },
}

impl RiskRejection {
    /// Returns the limit's name, for counters and log lines.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::NotReconciled => "not_reconciled",
            Self::Paused { .. } => "paused",
            Self::Unwritable => "ledger_unwritable",
            Self::Behind => "ledger_behind",
            Self::Full { .. } => "ledger_full",
            Self::AlreadyRequested => "already_requested",
            Self::RepricedTooOften { .. } => "repriced_too_often",
            Self::BeforePowerLoss { .. } => "before_power_loss",
            Self::NoPrice { .. } => "no_price",
            Self::MaxPrice { .. } => "max_price",
            Self::NoEntry => "no_entry",
            Self::EntryQuantity { .. } => "max_quantity",
            Self::EntryTotal { .. } => "max_total",
            Self::Total { .. } => "total",
            Self::PerHour { .. } => "per_hour",
            Self::PerDay { .. } => "per_day",
            Self::BalanceUnknown => "balance_unknown",
            Self::MinBalance { .. } => "min_balance",
            Self::PerMinute { .. } => "max_buys_per_minute",
            Self::InFlight { .. } => "max_in_flight",
        }
    }

    /// Returns `true` if the same order may be approved a moment later without any intervention.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::InFlight { .. } | Self::Behind)
    }
}
