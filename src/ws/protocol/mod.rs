//! What is said over a socket: messages in, messages out, and nothing else.
//!
//! A [`FeedProtocol`] knows words, the [`SubscriptionState`] knows when to say which: the greeting first, nothing
//! but pings before it is acknowledged, an id of its own for each subscription, a new subscription
//! under backoff for one that ended. No sockets, no clocks; the payload of an event is read in the
//! same pass as its envelope.

mod dialect;
mod envelope;
mod machine;

pub use self::{
    dialect::{FeedProtocol, GraphqlTransportWs, GraphqlWs, PlainJson},
    envelope::Incoming,
    machine::{OPTIONAL_FAILURES_MAX, OperationId, ProtocolEvent, Subscription, SubscriptionState},
};
