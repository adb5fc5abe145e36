//! One folder for each marketplace: its wire format, its requests and what its answers mean. Pure.

pub mod csgoroll;
