//! Which order an answer belongs to, and what follows for its connection.
//!
//! Pure. HTTP/1.1 answers carry no name of their request; only their order tells. One surplus answer
//! shifts every later one to the wrong request, so a refusal, which gives coins back, is final only
//! if it names its order or if its connection is shown to be in step afterwards: the keep-warm
//! request is written next, and its answer, which no order can have, arrives next.

use super::{answer::ExchangeResult, pool::InFlightRequest};
use crate::{
    domain::outcome::{Outcome, RejectReason, Unknown},
    domain::trade::TradeId,
    markets::csgoroll::answer::{self, Attribution, TransportResult},
};

/// What follows from the answer that came for an order, or from its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Conclusion {
    /// Nothing more will be known of it from this connection.
    Final {
        /// What it means for the money.
        outcome: Outcome,
        /// Whether the connection is in step, and so may carry the next order.
        in_step: bool,
    },
    /// A refusal that names no order: the next answer on the connection decides.
    Confirm(RejectReason),
}

/// Reads the first answer that arrived after the order for `id` was written.
pub(super) fn of_order(id: &TradeId, answer: &ExchangeResult) -> Conclusion {
    let exchange = answer.as_exchange();
    let outcome = answer::outcome(id, &exchange);
    let TransportResult::Answered(parts) = exchange else {
        return Conclusion::Final { outcome, in_step: false };
    };
    let attribution = answer::attribution(&outcome, &parts);
    match (outcome, attribution) {
        (Outcome::Refused(refusal), Attribution::Unnamed) => Conclusion::Confirm(refusal),
        (Outcome::Refused(refusal), Attribution::Blocked) => {
            Conclusion::Final { outcome: unconfirmed(refusal), in_step: false }
        }
        (outcome, attribution) => {
            Conclusion::Final { outcome, in_step: attribution == Attribution::Named }
        }
    }
}

/// Reads the answer that arrived after the refusal of the order for `id`. `is_next` says that
/// nothing arrived before the confirming request was written, nor behind this answer.
pub(super) fn of_confirmation(
    id: &TradeId,
    refusal: RejectReason,
    answer: &ExchangeResult,
    is_next: bool,
) -> Outcome {
    let exchange = match answer.as_exchange() {
        // Nothing speaks against the refusal; there was no time left for what speaks for it.
        TransportResult::Stopped => return unconfirmed(refusal),
        exchange => exchange,
    };
    let TransportResult::Answered(parts) = exchange else { return answer::outcome(id, &exchange) };
    if is_next && answer::is_current_user(&parts) {
        return Outcome::Refused(refusal);
    }
    let outcome = answer::outcome(id, &exchange);
    let attribution = answer::attribution(&outcome, &parts);
    match (outcome, attribution) {
        // The refusal was another request's answer, and this one names the order.
        (bought, Attribution::Named) => bought,
        // The confirming request itself may have been turned away; that should be heeded.
        (Outcome::Refused(refusal), Attribution::Blocked) => unconfirmed(refusal),
        (Outcome::Unknown(unknown @ (Unknown::Status { .. } | Unknown::Unreadable)), _) => {
            Outcome::Unknown(unknown)
        }
        _ => Outcome::Unknown(Unknown::Foreign),
    }
}

/// Whether an answer that arrived while no request was open is how servers end an idle connection.
pub(super) fn is_idle_timeout(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 408") || bytes.starts_with(b"HTTP/1.0 408")
}

/// The rejected order that data names which no open request explains. A purchase that is answered
/// late, after a rejection that was another request's, looks like that.
pub(super) fn late_answer<'a>(
    rejected: impl IntoIterator<Item = &'a InFlightRequest>,
    bytes: &[u8],
) -> Option<&'a InFlightRequest> {
    rejected.into_iter().find(|order| {
        let id = format!("\"{}\"", order.id);
        bytes.windows(id.len()).any(|part| part == id.as_bytes())
    })
}

/// What is known of an order whose connection ended before its answer, or before its refusal was
/// confirmed.
pub(super) fn of_broken(
    id: &TradeId,
    refusal: Option<RejectReason>,
    answer: &ExchangeResult,
) -> Outcome {
    match refusal {
        Some(refusal) => of_confirmation(id, refusal, answer, false),
        None => answer::outcome(id, &answer.as_exchange()),
    }
}

/// Whether this is the answer to the harmless request, which no answer to an order looks like.
pub(super) fn is_warm_answer(answer: &ExchangeResult) -> bool {
    match answer.as_exchange() {
        TransportResult::Answered(parts) => answer::is_current_user(&parts),
        _ => false,
    }
}

pub(super) const fn unconfirmed(refusal: RejectReason) -> Outcome {
    Outcome::Unknown(Unknown::Unconfirmed(refusal))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        execution::answer::{HttpResponse, ResponseError},
        http_head::ResponseHead,
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

    fn any_answer() -> impl Strategy<Value = ExchangeResult> {
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
                .prop_map(|why| ExchangeResult::Broken { why, head: None }),
        ]
    }

    proptest! {
        /// Only the first answer is looked at here, and it can belong to an earlier request.
        #[test]
        fn no_first_answer_frees_the_coins_of_an_order(first in any_answer()) {
            let verdict = of_order(&ours(), &first);
            let is_freed = matches!(&verdict, Conclusion::Final { outcome: Outcome::Refused(_), .. });
            prop_assert!(!is_freed, "{verdict:?}");
            let is_named = first == answer(200, OURS);
            let in_step = matches!(verdict, Conclusion::Final { in_step: true, .. });
            prop_assert_eq!(in_step, is_named, "only an answer that names its order is in step");
        }

        #[test]
        fn coins_are_freed_by_the_answer_to_the_harmless_request_alone(
            next in any_answer(),
            is_next in any::<bool>(),
        ) {
            let outcome = of_confirmation(&ours(), RejectReason::Taken, &next, is_next);
            let is_account = is_next && next == answer(200, ACCOUNT);
            prop_assert_eq!(outcome == Outcome::Refused(RejectReason::Taken), is_account);
            prop_assert_eq!(matches!(outcome, Outcome::Refused(_)), is_account);
        }
    }

    #[test]
    fn a_server_that_gives_up_an_idle_connection_is_told_from_a_stray_answer() {
        assert!(is_idle_timeout(b"HTTP/1.1 408 Request Timeout\r\n"));
        assert!(!is_idle_timeout(b"HTTP/1.1 200 OK\r\n"));
        assert!(!is_idle_timeout(b"HTTP/1.1 40"));
    }
}
