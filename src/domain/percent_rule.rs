//! A rule that bounds the price of a listing by a percentage of a reference price, and the value of
//! a coin, with which prices in coins and in dollars are compared.

use std::{fmt, num::NonZeroU32};

use crate::domain::money::{Amount, Percent};

/// One side of a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuoteSide {
    /// Lowest price at which it is sold.
    Ask,
    /// Highest price at which it is bought.
    Bid,
}

impl QuoteSide {
    pub const ALL: [Self; 2] = [Self::Ask, Self::Bid];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Bid => "bid",
        }
    }
}

/// Currency of a source's prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriceCurrency {
    #[default]
    Usd,
    /// Coins of the market.
    Coins,
}

impl PriceCurrency {
    pub const ALL: [Self; 2] = [Self::Usd, Self::Coins];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usd => "USD",
            Self::Coins => "coins",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|currency| currency.as_str() == word)
    }
}

/// Value of a coin of the market, in ten-thousandths of a dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoinUsd(NonZeroU32);

impl CoinUsd {
    /// Value for a market whose prices are in dollars.
    pub const ONE: Self = match NonZeroU32::new(10_000) {
        Some(value) => Self(value),
        None => Self(NonZeroU32::MIN),
    };

    /// Creates the value from ten-thousandths of a dollar. Returns `None` for zero.
    pub const fn from_ten_thousandths(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    pub const fn ten_thousandths(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for CoinUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0.get() / 10_000, self.0.get() % 10_000);
        let part = format!("{part:04}");
        let shown = part.trim_end_matches('0').len().max(2);
        write!(f, "{whole}.{}", part.get(..shown).unwrap_or(&part))
    }
}

/// One side of one source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PriceReference {
    /// Name of the source in the settings.
    pub source: String,
    /// Position of the source in the settings.
    pub index: usize,
    /// `None` means the bid, or the ask of a source without any bid.
    pub side: Option<QuoteSide>,
}

impl fmt::Display for PriceReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.source, self.side.map_or("bid or ask", QuoteSide::as_str))
    }
}

/// Rule that chooses one of several references.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReferenceRule {
    /// The lowest; each must have a price.
    #[default]
    Lowest,
    /// The highest; each must have a price.
    Highest,
    /// The first that has a price.
    First,
}

impl ReferenceRule {
    pub const ALL: [Self; 3] = [Self::Lowest, Self::Highest, Self::First];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lowest => "lowest",
            Self::Highest => "highest",
            Self::First => "first",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == word)
    }
}

/// Bound of a price by a percentage of a reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PercentRule {
    /// Greatest share of the reference that is paid.
    pub max_percent: Percent,
    /// Contains at least one.
    pub references: Vec<PriceReference>,
    pub rule: ReferenceRule,
    /// Minimum number of offers behind each reference.
    pub min_count: Option<u32>,
    /// Minimum reference, in the market's currency.
    pub min_reference: Option<Amount>,
}
