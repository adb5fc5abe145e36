//! Everything that crosses a border.

mod account;
mod buyer;
mod config;
mod documents;
mod feed;
mod market;
mod tidy;
