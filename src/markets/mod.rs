//! Wire format, requests and responses of each market, one module each. Pure.

mod capabilities;
pub mod csgoroll;
mod market_api;
pub mod order_template;

pub use self::{
    capabilities::{Capabilities, EnvironmentNames},
    market_api::{AccountQuery, Attribution, MarketApi, ReadError},
};
