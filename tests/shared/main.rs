//! The shared budget on a real PostgreSQL: a server of this machine that the tests start, or the
//! one that `SNIPER_TEST_DATABASE_URL` names. Without either, each test says that it was skipped.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod command;
mod database;
mod differential;
mod store;
