//! Whom a session serves.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    json::{FromCursor, JsonError, RawValue},
    latency::RxTimestamps,
    ws::protocol::{OperationId, Subscription},
};

/// What a session tells its driver besides events.
#[derive(Debug)]
pub(in crate::ws) enum SessionNotice<'a> {
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
        error: Option<RawValue<'a>>,
        /// When it is asked for again.
        again_in: Option<Duration>,
    },
    /// A subscription was asked for again on the live link: from now on it can deliver.
    Asked {
        /// Which.
        operation: OperationId,
    },
    /// The data clock asked for a fresh subscription.
    Renewed,
    /// The session has lived for `stable_after`.
    Stable,
}

/// What a driver wants of its session.
#[derive(Debug)]
pub(in crate::ws) enum SessionCommand {
    /// Subscribe, at this moment or as soon as the link is live.
    Want(Subscription, Instant),
    /// Unsubscribe.
    Unwant(OperationId),
    /// Write this as it is.
    Send(String),
}

/// What a session serves.
pub(in crate::ws) trait SessionHandler {
    /// What an event's payload is read as.
    type Payload<'a>: FromCursor<'a>;

    /// A message came; before it is read.
    fn arrived(&mut self, text: &str);

    /// An event. Says whether it counts for the data clock.
    fn data(
        &mut self,
        operation: Option<OperationId>,
        payload: Self::Payload<'_>,
        arrival: RxTimestamps,
    ) -> bool;

    /// A message was dealt with, whatever it was; `is_data` says whether it counted for the data
    /// clock. For whoever records: an order that followed from it has left already.
    fn served(&mut self, _text: &str, _at: Instant, _is_data: bool) {}

    /// Everything else.
    fn notice(&mut self, notice: SessionNotice<'_>);

    /// What it wants next, if anything; asked at each wake while there is room.
    fn poll_command(&mut self, _cx: &mut Context<'_>, _now: Instant) -> Poll<SessionCommand> {
        Poll::Pending
    }

    /// The operation that a [`SessionCommand::Want`] became.
    fn wanted(&mut self, _operation: OperationId) {}
}

/// Serves nobody: for the time before the subscriptions.
pub(super) struct NoopHandler;

impl SessionHandler for NoopHandler {
    type Payload<'a> = RawValue<'a>;

    fn arrived(&mut self, _text: &str) {}

    fn data(
        &mut self,
        _of: Option<OperationId>,
        _payload: RawValue<'_>,
        _arrival: RxTimestamps,
    ) -> bool {
        false
    }

    fn notice(&mut self, _notice: SessionNotice<'_>) {}
}
