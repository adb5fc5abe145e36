//! Downloads of reference prices, off the hot path.
//!
//! - [`store`]: tables on disk. [`reader`]: reads one source and keeps its table.
//! - [`refresh`]: reads all sources at their intervals and publishes snapshots.

pub mod reader;
pub mod refresh;
pub mod store;

pub use self::{
    reader::{PriceFailure, PriceReader, PriceReading, read_table},
    refresh::{PricePublisher, refresh_prices},
    store::{PriceStore, SourceAttempt, StoredAs, StoredTable},
};
