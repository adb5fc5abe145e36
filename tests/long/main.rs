//! Tests that take ten seconds or more: crashes, hours of feed time, waits for deadlines, and many
//! orders. `.ci/run` runs them; `cargo test` does not.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod buyer;
#[path = "../it/certificate.rs"]
mod certificate;
#[cfg(feature = "shared")]
#[path = "../shared/database.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod database;
mod feed;
mod kills;
mod session;
#[cfg(feature = "shared")]
mod shared;
