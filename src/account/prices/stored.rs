//! The stored tables of all sources, without a network.

use super::store::{PriceStore, StoredAs, StoredTable};
use crate::{
    config::prices::PricesConfig,
    domain::time::UnixMs,
    prices::{
        BookTable, PriceBook,
        book::{Resale, SourceLabel},
    },
};

/// Combines the last good tables of all sources. A table that cannot be read counts as absent.
pub fn stored_book(config: &PricesConfig, store: &PriceStore) -> PriceBook {
    let load = |source| store.load(source, StoredAs::Current).ok().flatten();
    let stored: Vec<Option<StoredTable>> = config.sources.iter().map(load).collect();
    let tables: Vec<BookTable<'_>> = config
        .sources
        .iter()
        .zip(&stored)
        .map(|(source, stored)| BookTable {
            table: stored.as_ref().map(|stored| &stored.table),
            at: stored.as_ref().map_or(UnixMs(0), |stored| stored.at),
            max_age: source.max_age,
            coin: config.coin(source),
        })
        .collect();
    let labels = config.sources.iter().map(|source| SourceLabel {
        name: source.name.as_str().into(),
        currency: source.currency.currency(),
    });
    let fee = config.sell_fee.unwrap_or_default();
    let resale = config.sell_on.map(|source| Resale { source, fee });
    PriceBook::new(&tables).with_labels(labels).with_resale(resale)
}
