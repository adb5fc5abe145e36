//! Reference prices of items. Pure: bytes in, tables and decisions out.
//!
//! - [`source`]: the kinds of sources. [`parse`]: the bytes of a source → [`PriceTable`].
//! - [`item_key`]: the key by which items of different sources and listings are joined.
//! - [`known_names`]: the names in the prices and in a recording, to find misspelled ones.
//! - [`acceptance`]: whether a new table may replace the last good one.
//! - [`book`]: all tables in one snapshot. [`mod@reference`]: the inequality of a percent rule.
//! - [`max_prices`]: the greatest prices that percent rules pay, by item.
//! - [`value`], [`table`]: exact prices, and the prices of one source. [`rows`]: its text form.
//!
//! # Invariants
//!
//! 1. Prices are exact integers from the text of a file to the decision; rounding is down.
//! 2. A variant without a price of its own has none. A missing, zero, null or stale price is no
//!    price, and no price means no order.
//! 3. Any bytes are read without a panic, and without more memory than their length bounds.

pub mod acceptance;
pub mod book;
pub mod max_prices;
pub mod item_key;
pub mod known_names;
pub mod parse;
pub mod reference;
pub mod rows;
pub mod source;
pub mod table;
pub mod value;

pub use self::{
    book::{BookTable, NoReference, PriceBook},
    item_key::ItemKey,
    max_prices::{PriceSnapshot, wanted_items},
    parse::TableError,
    reference::{ComparedReference, PercentOfReference, Reference},
    source::SourceKind,
    table::{Offer, PriceTable, Quote},
    value::{PriceUnit, RefPrice},
};
