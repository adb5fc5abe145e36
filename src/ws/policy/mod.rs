//! Reconnection policy as pure functions; time and randomness are arguments.
//!
//! [`ReconnectionLimits`] are the settings, validated into a [`ReconnectPolicy`]. [`Backoff`]
//! computes the delay before the next attempt, [`CircuitBreaker`] stops dialing a host after
//! repeated failures, and [`RetryDecision`] classifies close codes and HTTP statuses.
//! [`crate::ws::supervisor`] sleeps, logs and dials.

mod backoff;
mod breaker;
mod retry_decision;

pub use self::{
    backoff::{AttemptResult, Backoff, DelayReason, FLAPS_MAX, NextAttempt},
    breaker::{BreakerChange, CircuitBreaker, Permit},
    retry_decision::{RETRY_AFTER_MAX, RetryDecision, of_close, of_status},
};
pub use crate::config::reconnection::{
    DELAY_MIN, DURATION_MAX, PolicyError, ReconnectPolicy, ReconnectionLimits, Thousandths,
};
