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
mod feed;
mod kills;
mod session;
#[cfg(target_os = "linux")]
mod soak;
