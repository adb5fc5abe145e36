//! The vocabulary that every other module shares: amounts, time, items, listings and outcomes. Pure.

pub mod item_name;
pub mod money;
pub mod outcome;
pub mod server_clock;
pub mod time;
pub mod trade;
