//! `sniper`.
fn main() {}
