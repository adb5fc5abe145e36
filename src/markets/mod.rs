//! Wire format, requests and answers of each market, one module each. Pure.

pub mod csgoroll;
