//! Whole sessions against the simulated market over real sockets: feed, decision, ledger, orders
//! and summary.
//!
//! Most tests assemble a session as `main.rs` does. Exit codes and output are tested with the
//! binary. The market's history is the reference: they record each order with its time, its
//! connection and its cost.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod buying;
mod clock;
mod dry;
pub(crate) mod harness;
mod history;
mod hostile;
mod limits;
mod losses;
pub(crate) mod process;
mod program;
mod rejections;
mod reload;
mod shared;
mod status;
mod unknown;
mod waiting;

pub(crate) use self::harness::{
    AMPLE_LIMITS, REDLINE, TestBot, assert_adds_up, assert_agrees, cents, is_reconciled, quiet,
    ready, redline, skipped, until, wait_for_stats,
};
