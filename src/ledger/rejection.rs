//! Why a buy was not approved: the limit by name, with its value and its bound.

use crate::{domain::money::Amount, domain::time::UnixMs};

/// The limit that stands against a buy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RiskRejection {
    /// Buying is halted until a person has looked.
    #[error("buying is halted")]
    Halted,
    /// What the account holds has not been compared with the ledger since the start.
    #[error("the ledger is not yet reconciled with the marketplace")]
    NotReconciled,
    /// The marketplace asked for a pause.
    #[error("buying is paused until {until}")]
    Paused {
        /// Until when.
        until: UnixMs,
    },
    /// The ledger cannot be written, so nothing may be bought.
    #[error("the ledger cannot be written")]
    Unwritable,
    /// So much has happened that the disk has not yet caught up.
    #[error("the ledger's disk has not caught up")]
    Behind,
    /// The ledger holds as many intents as it can.
    #[error("the ledger is full with {max} intents")]
    Full {
        /// How many it can hold.
        max: u32,
    },
    /// This listing was requested before. No listing ever is twice.
    #[error("this listing was requested before")]
    AlreadyRequested,
    /// It may have been requested before the machine lost power.
    #[error("created before {barrier}, so it may have been requested before power was lost")]
    BeforePowerLoss {
        /// What it would have to be younger than.
        barrier: UnixMs,
    },
    /// A price of nothing, or less.
    #[error("a price of {price} is none")]
    NoPrice {
        /// The price.
        price: Amount,
    },
    /// Above `max_price`.
    #[error("price {price} is above max_price {max}")]
    MaxPrice {
        /// The price.
        price: Amount,
        /// The bound.
        max: Amount,
    },
    /// The whitelist has no such entry.
    #[error("the ledger knows no such whitelist entry")]
    NoEntry,
    /// Its entry's `max_quantity` is reached.
    #[error("{bought} of its entry's max_quantity {max} are bought or reserved")]
    EntryQuantity {
        /// How many are.
        bought: u32,
        /// The bound.
        max: u32,
    },
    /// It would exceed its entry's `max_total`.
    #[error("{spent} spent and {price} more would exceed its entry's max_total {max}")]
    EntryTotal {
        /// What is spent or reserved for the entry.
        spent: Amount,
        /// The price.
        price: Amount,
        /// The bound.
        max: Amount,
    },
    /// It would exceed `total`.
    #[error("{spent} spent and {price} more would exceed total {max}")]
    Total {
        /// What is spent or reserved.
        spent: Amount,
        /// The price.
        price: Amount,
        /// The bound.
        max: Amount,
    },
    /// It would exceed `per_hour`.
    #[error("{spent} spent within an hour and {price} more would exceed per_hour {max}")]
    PerHour {
        /// What was spent or reserved within the hour.
        spent: Amount,
        /// The price.
        price: Amount,
        /// The bound.
        max: Amount,
    },
    /// It would exceed `per_day`.
    #[error("{spent} spent within a day and {price} more would exceed per_day {max}")]
    PerDay {
        /// What was spent or reserved within the day.
        spent: Amount,
        /// The price.
        price: Amount,
        /// The bound.
        max: Amount,
    },
    /// The balance is not known.
    #[error("the balance is not known")]
    BalanceUnknown,
    /// It would take the balance below `min_balance`.
    #[error("balance {balance} less {price} would fall below min_balance {min}")]
    MinBalance {
        /// What surely is left now.
        balance: Amount,
        /// The price.
        price: Amount,
        /// The bound.
        min: Amount,
    },
    /// `max_buys_per_minute` is reached.
    #[error("{sent} buys within a minute reach max_buys_per_minute {max}")]
    PerMinute {
        /// How many were sent.
        sent: u32,
        /// The bound.
        max: u32,
    },
    /// `max_in_flight` is reached. It may be tried again while the listing is still wanted.
    #[error("{in_flight} buys in flight reach max_in_flight {max}")]
    InFlight {
        /// How many are.
        in_flight: u32,
        /// The bound.
        max: u32,
    },
}

impl RiskRejection {
    /// The limit's name, for counters and log lines.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::NotReconciled => "not_reconciled",
            Self::Paused { .. } => "paused",
            Self::Unwritable => "ledger_unwritable",
            Self::Behind => "ledger_behind",
            Self::Full { .. } => "ledger_full",
            Self::AlreadyRequested => "already_requested",
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

    /// Whether the same buy may be approved a moment later, without anybody doing anything.
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::InFlight { .. } | Self::Behind)
    }
}
