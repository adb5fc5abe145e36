//! Wire format, requests and answers of each marketplace, one module each. Pure.

pub mod csgoroll;
pub mod order_template;
