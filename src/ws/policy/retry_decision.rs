//! Classification of close codes and HTTP statuses for the next attempt.
//!
//! Source: the WebSocket registry, the graphql-transport-ws document, and the observed behavior of
//! public clients of the market.

use std::time::Duration;

/// Maximum `Retry-After` that is respected: three days, the longest ban that a public exchange
/// documents. Longer ones are cut to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3 * 24 * 60 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    Retry,
    /// Retry after `max_delay`: the server is overloaded.
    RetryLater,
    /// Retry with backoff, but no sooner than the server requests.
    RetryAfter(Duration),
    /// Retry with backoff and a reloaded credential.
    RenewCredential,
    /// A bug, a setting or a block that retries cannot fix. Wait for the cooldown, log it once at
    /// `error`, and reload the credential before the next attempt.
    Suspend,
    /// Like [`Suspend`](Self::Suspend), but no sooner than the server requests.
    SuspendAtLeast(Duration),
}

/// Classifies a close code; `None` if there was no close frame.
pub const fn of_close(code: Option<u16>) -> RetryDecision {
    match code {
        Some(4403) => RetryDecision::RenewCredential,
        Some(1013) => RetryDecision::RetryLater,
        Some(
            1002
            | 1003
            | 1007..=1010
            | 1015
            | 4004
            | 4005
            | 4400
            | 4401
            | 4406
            | 4409
            | 4429
            | 4500,
        ) => RetryDecision::Suspend,
        Some(_) | None => RetryDecision::Retry,
    }
}

/// Classifies an HTTP status other than 101.
///
/// A `Retry-After` is respected with every status, up to [`RETRY_AFTER_MAX`]: it can only delay the
/// next attempt, also a suspended one.
pub fn of_status(status: u16, retry_after: Option<Duration>) -> RetryDecision {
    let requested = retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
    match (status, requested) {
        // Binance bans an address with 418 and a `Retry-After`.
        (408 | 418 | 425 | 429 | 500..=599, Some(wait)) => RetryDecision::RetryAfter(wait),
        (429, None) => RetryDecision::RetryLater,
        (408 | 425 | 500..=599, None) => RetryDecision::Retry,
        (_, Some(wait)) => RetryDecision::SuspendAtLeast(wait),
        (_, None) => RetryDecision::Suspend,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_close_codes_suspend_retries() {
        for code in [
            4400, 4401, 4406, 4409, 4429, 4004, 4005, 4500, 1002, 1003, 1007, 1008, 1009, 1010,
            1015,
        ] {
            assert_eq!(of_close(Some(code)), RetryDecision::Suspend, "{code}");
        }
    }

    #[test]
    fn transient_close_codes_are_retried() {
        for code in [1000, 1001, 1005, 1006, 1011, 1012, 1014, 4408, 4504, 4410, 4999, 3000] {
            assert_eq!(of_close(Some(code)), RetryDecision::Retry, "{code}");
        }
        assert_eq!(of_close(None), RetryDecision::Retry);
        assert_eq!(of_close(Some(1013)), RetryDecision::RetryLater);
        assert_eq!(of_close(Some(4403)), RetryDecision::RenewCredential);
    }

    #[test]
    fn every_close_code_has_a_decision() {
        for code in 0..=u16::MAX {
            let decision = of_close(Some(code));
            assert!(!matches!(decision, RetryDecision::RetryAfter(_)), "{code}");
        }
    }

    #[test]
    fn statuses_are_classified() {
        let wait = Duration::from_secs(7);
        for status in [401, 403, 404, 426, 302, 200, 400, 418, 451] {
            assert_eq!(of_status(status, None), RetryDecision::Suspend, "{status}");
        }
        for status in [401, 403, 404, 426, 302, 200, 400, 451] {
            assert_eq!(
                of_status(status, Some(wait)),
                RetryDecision::SuspendAtLeast(wait),
                "{status}"
            );
        }
        for status in [408, 418, 425, 429, 500, 502, 503, 504] {
            assert_eq!(of_status(status, Some(wait)), RetryDecision::RetryAfter(wait), "{status}");
        }
        assert_eq!(of_status(429, None), RetryDecision::RetryLater);
        for status in [500, 502, 503, 504, 520, 408, 425] {
            assert_eq!(of_status(status, None), RetryDecision::Retry, "{status}");
        }
    }

    #[test]
    fn a_server_cannot_ask_for_more_than_three_days() {
        let requested = Duration::from_secs(u64::MAX);
        assert_eq!(of_status(503, Some(requested)), RetryDecision::RetryAfter(RETRY_AFTER_MAX));
        assert_eq!(of_status(403, Some(requested)), RetryDecision::SuspendAtLeast(RETRY_AFTER_MAX));
        let ban = Duration::from_secs(7_200);
        assert_eq!(of_status(418, Some(ban)), RetryDecision::RetryAfter(ban));
    }
}
