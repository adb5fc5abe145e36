//! What a close code or an HTTP status says about trying again.
//!
//! Source: the WebSocket registry, the graphql-transport-ws document, and what public clients of
//! the marketplace were seen to do with them.

use std::time::Duration;

/// The longest `Retry-After` that is obeyed: three days, the longest ban that a public exchange
/// documents. A longer one is cut to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// What to do about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again with backoff.
    Retry,
    /// Try again after the longest ordinary wait: the server said that it is overloaded.
    RetryLater,
    /// Try again with backoff, but no sooner than the server asks.
    RetryAfter(Duration),
    /// Try again with backoff, with the credential read anew.
    RenewCredential,
    /// Haste cannot heal it: a bug, a setting or a block. Stay away for the long cooldown, say so
    /// once and loudly, and read the credential anew before the next try.
    Park,
    /// As [`Park`](Self::Park), but no sooner than the server asks.
    ParkAtLeast(Duration),
}

/// What a close code says; `None` where the connection ended without one.
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
        ) => RetryDecision::Park,
        Some(_) | None => RetryDecision::Retry,
    }
}

/// What an HTTP status other than 101 on the upgrade says.
///
/// A `Retry-After` is obeyed with every status, up to [`RETRY_AFTER_MAX`]: where a retry is due
/// sooner it is put off, and nothing that is parked is retried sooner because of it.
pub fn of_status(status: u16, retry_after: Option<Duration>) -> RetryDecision {
    let asked = retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
    match (status, asked) {
        // 418 is how Binance bans an address; it says with `Retry-After` until when.
        (408 | 418 | 425 | 429 | 500..=599, Some(wait)) => RetryDecision::RetryAfter(wait),
        (429, None) => RetryDecision::RetryLater,
        (408 | 425 | 500..=599, None) => RetryDecision::Retry,
        (_, Some(wait)) => RetryDecision::ParkAtLeast(wait),
        (_, None) => RetryDecision::Park,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_haste_cannot_heal_are_parked() {
        for code in [
            4400, 4401, 4406, 4409, 4429, 4004, 4005, 4500, 1002, 1003, 1007, 1008, 1009, 1010,
            1015,
        ] {
            assert_eq!(of_close(Some(code)), RetryDecision::Park, "{code}");
        }
    }

    #[test]
    fn codes_that_may_heal_are_retried() {
        for code in [1000, 1001, 1005, 1006, 1011, 1012, 1014, 4408, 4504, 4410, 4999, 3000] {
            assert_eq!(of_close(Some(code)), RetryDecision::Retry, "{code}");
        }
        assert_eq!(of_close(None), RetryDecision::Retry);
        assert_eq!(of_close(Some(1013)), RetryDecision::RetryLater);
        assert_eq!(of_close(Some(4403)), RetryDecision::RenewCredential);
    }

    #[test]
    fn every_code_has_a_verdict() {
        for code in 0..=u16::MAX {
            let verdict = of_close(Some(code));
            assert!(!matches!(verdict, RetryDecision::RetryAfter(_)), "{code}");
        }
    }

    #[test]
    fn statuses_are_classified() {
        let wait = Duration::from_secs(7);
        for status in [401, 403, 404, 426, 302, 200, 400, 418, 451] {
            assert_eq!(of_status(status, None), RetryDecision::Park, "{status}");
        }
        for status in [401, 403, 404, 426, 302, 200, 400, 451] {
            assert_eq!(of_status(status, Some(wait)), RetryDecision::ParkAtLeast(wait), "{status}");
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
        let asked = Duration::from_secs(u64::MAX);
        assert_eq!(of_status(503, Some(asked)), RetryDecision::RetryAfter(RETRY_AFTER_MAX));
        assert_eq!(of_status(403, Some(asked)), RetryDecision::ParkAtLeast(RETRY_AFTER_MAX));
        let ban = Duration::from_secs(7_200);
        assert_eq!(of_status(418, Some(ban)), RetryDecision::RetryAfter(ban));
    }
}
