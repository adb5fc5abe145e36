//! The feed against scripted servers: correct, faulty, slow and silent ones.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod bursts;
mod gaps;
pub(crate) mod harness;
mod hours;
mod listings;
mod managed;
pub(crate) mod memory;
mod modes;
pub(crate) mod peer;
mod reconnecting;
mod rejections;
mod wire;

pub(crate) use self::harness::{
    Log, WAIT_MAX, config, during, feed_of, once, quick, until, until_given_up,
};
