//! The library behind `sniper`.

pub mod buyer;
pub mod clock;
pub mod config;
pub mod csgoroll;
pub mod http_head;
pub mod item_name;
pub mod json;
pub mod latency;
pub mod ledger;
pub mod log;
pub mod money;
pub mod net;
pub mod outcome;
pub mod secret;
pub mod server_clock;
pub mod sim;
pub mod sniper;
pub mod stop;
pub mod summary;
pub mod text;
pub mod time;
pub mod trade;
pub mod whitelist;
pub mod ws;
