//! The practice marketplace: seeded, with faults on demand.

pub mod arrivals;
pub mod books;
pub mod catalogue;
pub mod demo;
pub mod dice;
pub mod exchange;
pub mod faults;
pub mod graphql;
pub mod items;
pub mod listing;
pub mod offer;
pub mod protocol;
pub mod query;
pub mod settings;
pub mod value;
