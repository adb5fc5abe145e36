//! Integration tests: sockets, files, processes, and the repository itself.

mod account;
mod address_latency;
mod alerts;
mod buyer;
mod capture;
mod max_prices;
mod certificate;
mod command;
mod config;
mod decide;
mod dial;
mod doctor;
mod documents;
mod echo;
mod feed;
mod filters;
mod init;
mod market;
mod market_settings;
mod other_market;
mod packages;
mod practice;
mod price_cuts;
mod prices;
mod readme;
mod session;
mod structure;
#[cfg(target_os = "linux")]
mod terminal;
mod tidy;
mod whitelist;
mod without_list;
