//! Matches responses to orders, and decides whether their connection can be reused.
//!
//! Pure. HTTP/1.1 responses do not identify their request; only their order does. One surplus
//! response shifts every later one to the wrong request. A rejection, which releases coins, is
//! therefore final only if it names its order or if the connection is shown to be in sync
//! afterwards: the keep-warm request is written next, and its response, which no order can cause,
//! arrives next.

use super::{answer::ExchangeResult, pool::InFlightRequest};
use crate::{
    domain::outcome::{Outcome, RejectReason, Unknown},
    domain::trade::TradeId,
    markets::csgoroll::answer::{self, Attribution, TransportResult},
};

/// Consequence of the response to an order, or of its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Conclusion {
    /// This connection yields no further evidence about the order.
    Final {
        outcome: Outcome,
        /// `true` if the connection is in sync and may carry the next order.
        in_sync: bool,
    },
    /// A rejection that does not name the order: the next response on the connection decides.
    Confirm(RejectReason),
}

/// Evaluates the first response after the order for `id` was written.
pub(super) fn classify_response(id: &TradeId, answer: &ExchangeResult) -> Conclusion {
    let exchange = answer.as_transport_result();
    let outcome = answer::outcome(id, &exchange);
    let TransportResult::Answered(parts) = exchange else {
        return Conclusion::Final { outcome, in_sync: false };
    };
    let attribution = answer::attribution(&outcome, parts);
    match (outcome, attribution) {
        (Outcome::Rejected(reason), Attribution::Unnamed) => Conclusion::Confirm(reason),
        (Outcome::Rejected(reason), Attribution::Blocked) => {
            Conclusion::Final { outcome: unconfirmed(reason), in_sync: false }
        }
        (outcome, attribution) => {
            Conclusion::Final { outcome, in_sync: attribution == Attribution::Named }
        }
    }
}

/// Evaluates the response after the rejection of the order for `id`. `is_next` is `true` if nothing
/// arrived before the confirming request was written, nor after this response.
pub(super) fn classify_confirmation(
    id: &TradeId,
    reason: RejectReason,
    answer: &ExchangeResult,
    is_next: bool,
) -> Outcome {
    let exchange = match answer.as_transport_result() {
        // Nothing contradicts the rejection, but there was no time to confirm it.
        TransportResult::Stopped => return unconfirmed(reason),
        exchange => exchange,
    };
    let TransportResult::Answered(parts) = exchange else { return answer::outcome(id, &exchange) };
    if is_next && answer::is_current_user(parts) {
        return Outcome::Rejected(reason);
    }
    let outcome = answer::outcome(id, &exchange);
    let attribution = answer::attribution(&outcome, parts);
    match (outcome, attribution) {
        // The rejection belonged to another request, and this response names the order.
        (bought, Attribution::Named) => bought,
        // The confirming request may have been blocked itself; the ledger must react to that.
        (Outcome::Rejected(reason), Attribution::Blocked) => unconfirmed(reason),
        (Outcome::Unknown(unknown @ (Unknown::Status { .. } | Unknown::Unreadable)), _) => {
            Outcome::Unknown(unknown)
        }
        _ => Outcome::Unknown(Unknown::Foreign),
    }
}

/// Returns `true` for the 408 response with which servers close an idle connection.
pub(super) fn is_idle_timeout(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 408") || bytes.starts_with(b"HTTP/1.0 408")
}

/// Returns the rejected order that unrequested data names. A purchase that is confirmed late, after
/// a rejection that belonged to another request, looks like that.
pub(super) fn find_late_response<'a>(
    rejected: impl IntoIterator<Item = &'a InFlightRequest>,
    bytes: &[u8],
) -> Option<&'a InFlightRequest> {
    rejected.into_iter().find(|order| {
        let id = format!("\"{}\"", order.id);
        bytes.windows(id.len()).any(|part| part == id.as_bytes())
    })
}

/// Returns the outcome of an order whose connection ended before its response, or before its
/// rejection was confirmed.
pub(super) fn classify_failure(
    id: &TradeId,
    reason: Option<RejectReason>,
    answer: &ExchangeResult,
) -> Outcome {
    match reason {
        Some(reason) => classify_confirmation(id, reason, answer, false),
        None => answer::outcome(id, &answer.as_transport_result()),
    }
}

/// Returns `true` for the response to the keep-warm request, which differs from every response to
/// an order.
pub(super) fn is_keep_warm_response(answer: &ExchangeResult) -> bool {
    match answer.as_transport_result() {
        TransportResult::Answered(parts) => answer::is_current_user(parts),
        _ => false,
    }
}

pub(super) const fn unconfirmed(reason: RejectReason) -> Outcome {
    Outcome::Unknown(Unknown::Unconfirmed(reason))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        execution::answer::ResponseError,
        net::{http_head::ResponseHead, http_message::HttpResponse},
    };

    const ACCOUNT: &str = r#"{"data":{"currentUser":{"id":"u"}}}"#;
    const TAKEN: &str = r#"{"data":null,"errors":[{"message":"no longer available"}]}"#;
    const CAPTCHA: &str = r#"{"data":null,"errors":[{"message":"captcha"}]}"#;
    const OURS: &str = r#"{"data":{"joinTrades":{"trades":[{"id":"ours"}]}}}"#;
    const OTHER: &str = r#"{"data":{"joinTrades":{"trades":[{"id":"other"}]}}}"#;

    fn ours() -> TradeId {
        TradeId::new("ours").unwrap()
    }

    fn answer(status: u16, body: &str) -> ExchangeResult {
        let head =
            ResponseHead { status, retry_after: None, mitigated: false, html: false, date: None };
        ExchangeResult::Complete(HttpResponse { head, body: body.as_bytes().to_vec() })
    }

    fn any_response() -> impl Strategy<Value = ExchangeResult> {
        let status = prop::sample::select(vec![200, 200, 200, 400, 401, 403, 408, 429, 502]);
        let body = prop::sample::select(vec![ACCOUNT, TAKEN, CAPTCHA, OURS, OTHER, "", "{}", "<"]);
        let broken = [
            ResponseError::Timeout,
            ResponseError::Cut,
            ResponseError::Stopped,
            ResponseError::Malformed,
        ];
        prop_oneof![
            8 => (status, body).prop_map(|(status, body)| answer(status, body)),
            1 => prop::sample::select(broken.to_vec())
                .prop_map(|error| ExchangeResult::Broken { error, head: None }),
        ]
    }

    proptest! {
        /// Only the first response is evaluated here, and it can belong to an earlier request.
        #[test]
        fn no_first_response_releases_the_coins_of_an_order(first in any_response()) {
            let conclusion = classify_response(&ours(), &first);
            let is_released = matches!(&conclusion, Conclusion::Final { outcome: Outcome::Rejected(_), .. });
            prop_assert!(!is_released, "{conclusion:?}");
            let is_named = first == answer(200, OURS);
            let in_sync = matches!(conclusion, Conclusion::Final { in_sync: true, .. });
            prop_assert_eq!(in_sync, is_named, "only a response that names its order is in sync");
        }

        #[test]
        fn only_the_keep_warm_response_releases_coins(
            next in any_response(),
            is_next in any::<bool>(),
        ) {
            let outcome = classify_confirmation(&ours(), RejectReason::Taken, &next, is_next);
            let is_account = is_next && next == answer(200, ACCOUNT);
            prop_assert_eq!(outcome == Outcome::Rejected(RejectReason::Taken), is_account);
            prop_assert_eq!(matches!(outcome, Outcome::Rejected(_)), is_account);
        }
    }

    #[test]
    fn a_408_response_on_an_idle_connection_is_an_idle_timeout() {
        assert!(is_idle_timeout(b"HTTP/1.1 408 Request Timeout\r\n"));
        assert!(!is_idle_timeout(b"HTTP/1.1 200 OK\r\n"));
        assert!(!is_idle_timeout(b"HTTP/1.1 40"));
    }
}
