//! Which order an answer belongs to, and what follows for its connection.
//!
//! Pure. HTTP/1.1 answers carry no name of their request; only their order tells. One surplus answer
//! shifts every later one to the wrong request, so a refusal, which gives coins back, is final only
//! if it names its order or if its connection is shown to be in step afterwards: the keep-warm
//! request is written next, and its answer, which no order can have, arrives next.

use super::answer::Answer;
use crate::{
    csgoroll::answer::{self, Attribution, Exchange},
    outcome::{Outcome, Refusal, Unknown},
    trade::TradeId,
};

/// What follows from the answer that came for an order, or from its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing more will be known of it from this connection.
    Final {
        /// What it means for the money.
        outcome: Outcome,
        /// Whether the connection is in step, and so may carry the next order.
        in_step: bool,
    },
    /// A refusal that names no order: the next answer on the connection decides.
    Confirm(Refusal),
}

/// Reads the first answer that arrived after the order for `id` was written.
pub(super) fn of_order(id: &TradeId, answer: &Answer) -> Verdict {
    let exchange = answer.as_exchange();
    let outcome = answer::outcome(id, &exchange);
    let Exchange::Answered(parts) = exchange else {
        return Verdict::Final { outcome, in_step: false };
    };
    let attribution = answer::attribution(&outcome, &parts);
    match (outcome, attribution) {
        (Outcome::Refused(refusal), Attribution::Unnamed) => Verdict::Confirm(refusal),
        (Outcome::Refused(refusal), Attribution::Blocked) => {
            Verdict::Final { outcome: unconfirmed(refusal), in_step: false }
        }
        (outcome, attribution) => {
            Verdict::Final { outcome, in_step: attribution == Attribution::Named }
        }
    }
}

/// Reads the answer that arrived after the refusal of the order for `id`. `is_next` says that
/// nothing arrived before the confirming request was written, nor behind this answer.
pub(super) fn of_confirmation(
    id: &TradeId,
    refusal: Refusal,
    answer: &Answer,
    is_next: bool,
) -> Outcome {
    let exchange = match answer.as_exchange() {
        // Nothing speaks against the refusal; there was no time left for what speaks for it.
        Exchange::Stopped => return unconfirmed(refusal),
        exchange => exchange,
    };
    let Exchange::Answered(parts) = exchange else { return answer::outcome(id, &exchange) };
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

/// What is known of an order whose connection ended before its answer, or before its refusal was
/// confirmed.
pub(super) fn of_broken(id: &TradeId, refusal: Option<Refusal>, answer: &Answer) -> Outcome {
    match refusal {
        Some(refusal) => of_confirmation(id, refusal, answer, false),
        None => answer::outcome(id, &answer.as_exchange()),
    }
}

/// Whether this is the answer to the harmless request, which no answer to an order looks like.
pub(super) fn is_warm_answer(answer: &Answer) -> bool {
    match answer.as_exchange() {
        Exchange::Answered(parts) => answer::is_current_user(&parts),
        _ => false,
    }
}

pub(super) const fn unconfirmed(refusal: Refusal) -> Outcome {
    Outcome::Unknown(Unknown::Unconfirmed(refusal))
}
