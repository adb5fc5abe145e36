//! Everything that crosses a border.

mod config;
mod documents;
mod tidy;
