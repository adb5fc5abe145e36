//! Domain types that all modules share: amounts, time, items, listings and outcomes. Pure.

pub mod account;
pub mod alert_kind;
pub mod item_filter;
pub mod item_name;
pub mod latency;
pub mod money;
pub mod outcome;
pub mod own_order_id;
pub mod percent_rule;
pub mod server_clock;
pub mod time;
pub mod trade;
pub mod unit;
pub mod wanted_items;
pub mod whitelist_entry;
