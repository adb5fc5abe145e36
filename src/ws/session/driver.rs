//! Whom a session serves.

use std::time::{Duration, Instant};

use crate::{
    json::{FromCursor, JsonError, Raw},
    ws::protocol::OperationId,
};

/// What a session tells its driver besides events.
#[derive(Debug)]
pub(in crate::ws) enum Notice<'a> {
    /// A message that could not be read.
    Malformed {
        /// Its text.
        text: &'a str,
        /// Why.
        error: JsonError,
    },
    /// A binary message of so many bytes.
    Binary(usize),
    /// A message of a kind that the protocol does not know.
    Unknown(&'a str),
    /// A subscription ended on the live link.
    Ended {
        /// Which.
        operation: OperationId,
        /// The server's words, where it was an error.
        error: Option<Raw<'a>>,
        /// When it is asked for again.
        again_in: Option<Duration>,
    },
    /// The data clock asked for a fresh subscription.
    Renewed,
    /// The session has lived for `stable_after`.
    Stable,
}

/// What a session serves.
pub(in crate::ws) trait Driver {
    /// What an event's payload is read as.
    type Payload<'a>: FromCursor<'a>;

    /// A message came; before it is read.
    fn arrived(&mut self, text: &str);

    /// An event. Says whether it counts for the data clock.
    fn data(
        &mut self,
        operation: Option<OperationId>,
        payload: Self::Payload<'_>,
        at: Instant,
    ) -> bool;

    /// A message was dealt with, whatever it was; `is_data` says whether it counted for the data
    /// clock. For whoever records: an order that followed from it has left already.
    fn served(&mut self, _text: &str, _at: Instant, _is_data: bool) {}

    /// Everything else.
    fn notice(&mut self, notice: Notice<'_>);
}

/// Serves nobody: for the time before the subscriptions.
pub(super) struct Nobody;

impl Driver for Nobody {
    type Payload<'a> = Raw<'a>;

    fn arrived(&mut self, _text: &str) {}

    fn data(&mut self, _of: Option<OperationId>, _payload: Raw<'_>, _at: Instant) -> bool {
        false
    }

    fn notice(&mut self, _notice: Notice<'_>) {}
}
