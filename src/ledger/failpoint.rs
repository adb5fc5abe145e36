//! Places at which a test can make this process die, as if by `kill -9`.
//!
//! `SNIPER_TEST_CRASH=recorded:3` dies the third time that `recorded` is passed. Release builds
//! have none of this.

#[cfg(debug_assertions)]
use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

/// A step of a buy, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderStep {
    /// Decided; nothing is on record.
    Decided,
    /// On record; nothing has left.
    Recorded,
    /// The request has left; that is not on record.
    Left,
    /// That is on record.
    LeftRecorded,
    /// The answer came; it is not on record.
    Answered,
    /// That is on record.
    AnsweredRecorded,
    /// The writer has read events and not written them.
    Staged,
    /// The database has them; nobody else knows.
    Committed,
}

#[cfg(debug_assertions)]
impl OrderStep {
    const fn name(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Recorded => "recorded",
            Self::Left => "left",
            Self::LeftRecorded => "left-recorded",
            Self::Answered => "answered",
            Self::AnsweredRecorded => "answered-recorded",
            Self::Staged => "staged",
            Self::Committed => "committed",
        }
    }
}

/// Passes a step, or dies there.
#[cfg(debug_assertions)]
pub(super) fn pass(step: OrderStep) {
    static ASKED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("SNIPER_TEST_CRASH").ok()?;
        let (name, times) = text.split_once(':')?;
        Some((name.to_owned(), times.parse().ok()?))
    });
    if let Some((name, times)) = asked
        && name == step.name()
        && PASSED.fetch_add(1, Ordering::Relaxed).saturating_add(1) == *times
    {
        std::process::abort();
    }
}

/// Passes a step.
#[cfg(not(debug_assertions))]
#[inline]
pub(super) const fn pass(_step: OrderStep) {}
