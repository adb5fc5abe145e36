//! When to dial again, decided without a clock, a socket or a random number.
//!
//! Four answers, each in a file of its own: what may be set ([`ReconnectionLimits`], checked into a
//! [`ReconnectPolicy`]); how long to wait after an ending ([`Backoff`]); when to stop dialling a host at all
//! ([`CircuitBreaker`]); what a close code or an HTTP status says about trying again ([`RetryDecision`]). Time
//! and randomness are arguments. Whoever sleeps, logs and dials is [`crate::ws::supervisor`].

mod backoff;
mod breaker;
mod limits;
mod retry_decision;

pub use self::{
    backoff::{AttemptResult, Backoff, DelayReason, FLAPS_MAX, NextAttempt},
    breaker::{BreakerChange, CircuitBreaker, Permit},
    limits::{
        DELAY_MIN, DURATION_MAX, PolicyError, ReconnectPolicy, ReconnectionLimits, Thousandths,
    },
    retry_decision::{RETRY_AFTER_MAX, RetryDecision, of_close, of_status},
};
