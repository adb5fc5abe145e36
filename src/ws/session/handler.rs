//! The trait that receives the events of a session.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    domain::latency::RxTimestamps,
    protocol::{FeedMessage, FeedProtocol, MessageError, OperationId, Subscription},
};

/// Session events other than data.
#[derive(Debug)]
pub(in crate::ws) enum SessionNotice<'a> {
    /// A message that could not be parsed.
    Malformed { message: FeedMessage<'a>, error: MessageError },
    /// A message of a kind that the protocol does not use.
    UnusedKind(FeedMessage<'a>),
    /// A message of an unknown type.
    Unknown(FeedMessage<'a>),
    /// A subscription ended on a live connection.
    Ended {
        operation: OperationId,
        /// Error of the server, if it was one.
        error: Option<&'a str>,
        /// Time until it is subscribed to again; `None` if it is given up.
        retry_in: Option<Duration>,
    },
    /// A subscription was written again and can deliver from now on.
    Resubscribed { operation: OperationId },
    /// No data arrived for this long: everything is subscribed to again.
    Resubscribing { silent: Duration },
    /// The session has lasted for `stable_after`.
    Stable,
}

/// Requests from a handler to its session.
#[derive(Debug)]
pub(in crate::ws) enum SessionCommand {
    /// Subscribe at this time, or as soon as the session is live.
    Subscribe(Subscription, Instant),
    Unsubscribe(OperationId),
    /// Write this text unchanged.
    Send(String),
}

/// Receives the events of a session and issues commands.
pub(in crate::ws) trait SessionHandler<L: FeedProtocol> {
    /// Type of an event's decoded payload.
    type Payload<'a>;

    /// Decodes the payload of an event.
    fn decode<'a>(&self, input: &mut L::Input<'a>) -> Result<Self::Payload<'a>, L::DecodeError>;

    /// Called for each message before it is parsed.
    fn on_message(&mut self, message: FeedMessage<'_>);

    /// Called for each event. Returns `true` if it resets the data timer.
    fn on_data(
        &mut self,
        operation: Option<OperationId>,
        payload: Self::Payload<'_>,
        arrival: RxTimestamps,
    ) -> bool;

    /// Called for each message after it was handled; `is_data` is `true` if it reset the data
    /// timer. An order that the message caused has been sent by then, so recording adds no latency
    /// to it.
    fn on_handled(&mut self, _message: FeedMessage<'_>, _at: Instant, _is_data: bool) {}

    fn on_notice(&mut self, notice: SessionNotice<'_>);

    /// Polls for the next command, at each wake while the outbox has space.
    fn poll_command(&mut self, _cx: &mut Context<'_>, _now: Instant) -> Poll<SessionCommand> {
        Poll::Pending
    }

    /// Reports the operation that a [`SessionCommand::Subscribe`] created.
    fn on_subscribed(&mut self, _operation: OperationId) {}
}

/// Ignores all events: used before the subscriptions.
pub(super) struct NoopHandler;

impl<L: FeedProtocol> SessionHandler<L> for NoopHandler {
    type Payload<'a> = ();

    fn decode<'a>(&self, input: &mut L::Input<'a>) -> Result<Self::Payload<'a>, L::DecodeError> {
        L::skip(input)
    }

    fn on_message(&mut self, _message: FeedMessage<'_>) {}

    fn on_data(&mut self, _of: Option<OperationId>, _payload: (), _arrival: RxTimestamps) -> bool {
        false
    }

    fn on_notice(&mut self, _notice: SessionNotice<'_>) {}
}
