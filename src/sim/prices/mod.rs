//! Price files of every source over HTTP, with faults by name. Used by tests.
//!
//! The files are written here in the shapes of the sources and share no code with their parsers.

mod coding;
mod fixtures;
mod server;

pub use self::{
    fixtures::{PriceFile, PriceItem, default_items},
    server::{PriceFault, PriceServer},
};
