//! What is said over a socket: messages in, messages out, and nothing else.
//!
//! A [`FeedProtocol`] knows words, the [`SubscriptionState`] knows when to say which: the greeting first, nothing
//! but pings before it is acknowledged, an id of its own for each subscription, a new subscription
//! under backoff for one that ended. No sockets, no clocks; the payload of an event is read in the
//! same pass as its envelope.

mod envelope;
mod feed_protocol;
mod subscriptions;

pub use self::{
    envelope::Incoming,
    feed_protocol::{FeedProtocol, GraphqlTransportWs, GraphqlWs, PlainJson},
    subscriptions::{
        OPTIONAL_FAILURES_MAX, OperationId, ProtocolEvent, Subscription, SubscriptionState,
    },
};
