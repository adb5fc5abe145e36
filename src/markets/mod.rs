//! Wire format, requests and answers of each marketplace, one module each. Pure.

pub mod csgoroll;
mod marketplace;

pub use self::marketplace::{
    Capabilities, DecodeError, DecodeInput, Decoded, DialPlan, EnvironmentNames, MarketEvent,
    MarketSubscription, Marketplace, PrepareError,
};
