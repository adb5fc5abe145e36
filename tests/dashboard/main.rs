//! The dashboard over loopback: who is answered, controls, streams, metrics, and a real browser.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot be set up fails"
)]

mod access;
mod browser;
mod controls;
mod harness;
mod metrics;
mod streams;
mod webdriver;
