//! Wire format, requests and responses of each market, one module each. Pure.

pub mod csgoroll;
