//! Settings of reference prices: section `[prices]`.

use std::{path::PathBuf, time::Duration};

use super::{Credential, endpoint::Endpoint};
use crate::{
    domain::{
        money::Percent,
        percent_rule::{CoinUsd, PriceCurrency},
        time::UnixMs,
    },
    prices::{
        BookTable, PriceBook, PriceTable, PriceUnit, SourceKind,
        book::{Resale, SourceLabel},
    },
};

/// Default of `refresh_minutes`.
const REFRESH: Duration = Duration::from_secs(3_600);

/// Remedy for prices in dollars on a market with coins.
pub const COIN_USD_REMEDY: &str =
    "add below [prices] what a coin is worth in dollars, such as coin_usd = 0.65";

/// Content of `[prices]`. Without a source, no reference price exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricesConfig {
    /// Value of a coin of the market.
    pub coin_usd: Option<CoinUsd>,
    /// Interval between two downloads, which [`interval`](Self::interval) adapts to each source.
    pub refresh: Duration,
    pub sources: Vec<PriceSource>,
    /// Share of the price that is lost when an item is sold.
    pub sell_fee: Option<Percent>,
    /// Position of the source where bought items are sold.
    pub sell_on: Option<usize>,
    /// `true` on a market with coins, where prices in dollars have no value without `coin_usd`.
    pub is_in_coins: bool,
    /// Downloads nothing: only files and stored tables are used. No setting sets it; a practice run
    /// does.
    pub is_offline: bool,
}

/// One `[[prices.source]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceSource {
    /// Name in rules: ASCII letters, digits, `-` and `_`.
    pub name: String,
    pub kind: SourceKind,
    pub location: PriceLocation,
    /// Age from which its prices are not used.
    pub max_age: Duration,
    pub currency: SourceCurrency,
    /// Key of the user for this source.
    pub key: Option<Credential>,
}

/// Place of a source's prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PriceLocation {
    Url(Endpoint),
    File(PathBuf),
}

/// Currency and unit of a source's prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceCurrency {
    /// Dollars, in the unit of the kind.
    Usd,
    /// Cents of a dollar, in a local file.
    UsdCents,
    /// Coins of the market, in a local file.
    Coins,
}

impl Default for PricesConfig {
    fn default() -> Self {
        Self {
            coin_usd: None,
            refresh: REFRESH,
            sources: Vec::new(),
            sell_fee: None,
            sell_on: None,
            is_in_coins: false,
            is_offline: false,
        }
    }
}

impl PricesConfig {
    /// Returns the value of a coin in the currency of a source; `None` if it is unknown.
    pub fn coin(&self, source: &PriceSource) -> Option<CoinUsd> {
        match source.currency {
            SourceCurrency::Coins => Some(CoinUsd::ONE),
            SourceCurrency::Usd | SourceCurrency::UsdCents => {
                self.coin_usd.or((!self.is_in_coins).then_some(CoinUsd::ONE))
            }
        }
    }

    /// Returns the message that the prices of a source have no value in coins.
    pub fn without_coin(&self, source: &PriceSource) -> String {
        format!("the prices of {} are in USD; {COIN_USD_REMEDY}", source.name)
    }

    /// Combines one table per source, with the time of its prices.
    pub fn book(&self, tables: &[Option<(&PriceTable, UnixMs)>]) -> PriceBook {
        let table = |(index, source): (usize, &PriceSource)| {
            let table = tables.get(index).copied().flatten();
            BookTable {
                table: table.map(|(table, _)| table),
                at: table.map_or(UnixMs(0), |(_, at)| at),
                max_age: source.max_age,
                coin: self.coin(source),
            }
        };
        let tables: Vec<BookTable<'_>> = self.sources.iter().enumerate().map(table).collect();
        let fee = self.sell_fee.unwrap_or_default();
        let resale = self.sell_on.map(|source| Resale { source, fee });
        let labels = self.sources.iter().map(|source| SourceLabel {
            name: source.name.as_str().into(),
            currency: source.currency.currency(),
        });
        PriceBook::new(&tables).with_labels(labels).with_resale(resale)
    }

    pub fn source(&self, name: &str) -> Option<&PriceSource> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// Returns these settings with a local file as the only source, whose prices are never too old.
    pub fn with_file(&self, path: PathBuf, currency: SourceCurrency) -> Self {
        let source = PriceSource {
            name: "file".to_owned(),
            kind: SourceKind::File,
            location: PriceLocation::File(path),
            max_age: Duration::MAX,
            currency,
            key: None,
        };
        Self { sources: vec![source], sell_on: None, ..self.clone() }
    }

    /// Returns the interval between two downloads of a source: at most half of its maximum age, so
    /// that one failed download does not make its prices too old, but never below the minimum of
    /// its kind.
    pub fn interval(&self, source: &PriceSource) -> Duration {
        let half = source.max_age.checked_div(2).unwrap_or_default();
        self.refresh.min(half).max(source.kind.interval_min())
    }
}

impl PriceSource {
    /// Returns the unit of a local file's numbers.
    pub const fn unit(&self) -> PriceUnit {
        match self.currency {
            SourceCurrency::UsdCents => PriceUnit::Cents,
            SourceCurrency::Usd | SourceCurrency::Coins => PriceUnit::Whole,
        }
    }
}

impl SourceCurrency {
    pub const ALL: [Self; 3] = [Self::Usd, Self::UsdCents, Self::Coins];

    /// Returns the currency without the unit.
    pub const fn currency(self) -> PriceCurrency {
        match self {
            Self::Usd | Self::UsdCents => PriceCurrency::Usd,
            Self::Coins => PriceCurrency::Coins,
        }
    }

    /// Returns the word of the setting `unit`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usd => "usd",
            Self::UsdCents => "cents",
            Self::Coins => "coins",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|currency| currency.as_str() == word)
    }
}
