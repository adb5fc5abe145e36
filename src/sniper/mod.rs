//! The decision: a listing comes in, and leaves as a buy, a reason, or nothing.

pub mod eligibility;
pub mod held;
pub mod seen;
pub mod tally;
