//! Everything that crosses a border.

mod config;
mod tidy;
