//! Points at which a test can abort this process, as if by `kill -9`.
//!
//! `SNIPER_TEST_CRASH=recorded:3` aborts at the third hit of `recorded`. Release builds contain
//! none of this.

#[cfg(debug_assertions)]
use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

/// Steps of an order, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderStep {
    /// Approved; not recorded.
    Decided,
    /// Recorded; not sent.
    Recorded,
    /// Sent; that is not recorded.
    Sent,
    /// Sent, and that is recorded.
    SentRecorded,
    /// Answered; the response is not recorded.
    Answered,
    /// Answered, and the response is recorded.
    AnsweredRecorded,
    /// The writer has read the events and not written them.
    Staged,
    /// The database contains the events; the writer has not published that.
    Committed,
}

#[cfg(debug_assertions)]
impl OrderStep {
    const fn name(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Recorded => "recorded",
            Self::Sent => "left",
            Self::SentRecorded => "left-recorded",
            Self::Answered => "answered",
            Self::AnsweredRecorded => "answered-recorded",
            Self::Staged => "staged",
            Self::Committed => "committed",
        }
    }
}

/// Aborts the process if this is the requested hit of the step.
#[cfg(debug_assertions)]
pub(super) fn hit(step: OrderStep) {
    static REQUESTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static HITS: AtomicU32 = AtomicU32::new(0);
    let requested = REQUESTED.get_or_init(|| {
        let text = std::env::var("SNIPER_TEST_CRASH").ok()?;
        let (name, times) = text.split_once(':')?;
        Some((name.to_owned(), times.parse().ok()?))
    });
    if let Some((name, times)) = requested
        && name == step.name()
        && HITS.fetch_add(1, Ordering::Relaxed).saturating_add(1) == *times
    {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
#[inline]
pub(super) const fn hit(_step: OrderStep) {}
