//! Everything that crosses a border.

mod buyer;
mod config;
mod documents;
mod market;
mod tidy;
