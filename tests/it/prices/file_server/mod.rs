//! Price files of every source over HTTP, with faults by name.
//!
//! The files are written in the shapes of the sources and share no code with their parsers.

mod coding;
mod fixtures;
mod server;

pub(super) use self::{
    fixtures::{PriceFile, default_items},
    server::{PriceFault, PriceServer},
};
