//! When to dial again, decided without a clock, a socket or a random number.
//!
//! Four answers, each in a file of its own: what may be set ([`Limits`], checked into a
//! [`Policy`]); how long to wait after an ending ([`Backoff`]); when to stop dialling a host at all
//! ([`Breaker`]); what a close code or an HTTP status says about trying again ([`Verdict`]). Time
//! and randomness are arguments. Whoever sleeps, logs and dials is [`crate::ws::supervisor`].

mod backoff;
mod breaker;
mod limits;
mod verdict;

pub use self::{
    backoff::{Backoff, Ending, FLAPS_MAX, Next, Why},
    breaker::{Admission, Breaker, Change},
    limits::{DELAY_MIN, DURATION_MAX, Limits, Policy, PolicyError, Thousandths},
    verdict::{RETRY_AFTER_MAX, Verdict, of_close, of_status},
};
