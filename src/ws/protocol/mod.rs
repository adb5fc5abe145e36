//! Subscription protocols as state machines, without sockets and clocks.
//!
//! A [`FeedProtocol`] builds and parses messages. [`SubscriptionState`] decides their order:
//! `connection_init` first, only pings before its acknowledgment, a unique id per subscription,
//! and a new subscription with backoff after one has ended. The payload of an event is parsed in
//! the same pass as its envelope.

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
