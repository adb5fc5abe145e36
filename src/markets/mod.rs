//! Wire format, requests and responses of each market, one module each. Pure.

mod capabilities;
pub mod csgoroll;
pub mod json_object;
pub mod lis_skins;
mod listing_field;
mod market_api;
mod marketplace;
pub mod order_template;
pub mod waxpeer;

pub use self::{
    capabilities::{Capabilities, EnvironmentNames, OwnOrderIdSupport, ReadRate},
    market_api::{
        AccountQuery, AccountQueryError, Attribution, MarketApi, OrderReference, ReadError,
    },
    marketplace::{
        DecodeError, DecodeInput, Decoded, DialPlan, MarketEvent, MarketSubscription, Marketplace,
        PrepareError, Scan, UnnamedEvent,
    },
};
