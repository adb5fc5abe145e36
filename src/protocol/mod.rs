//! Subscription protocols as state machines, without sockets and clocks.
//!
//! A [`FeedProtocol`] builds and parses messages. [`SubscriptionState`] decides their order: the
//! opening first, nothing but replies before its acknowledgement, a unique id per subscription, and
//! a new subscription with backoff after one has ended. The payload of an event is decoded by the
//! marketplace in the same pass as its envelope.

mod feed_protocol;
mod graphql;
mod message;
mod plain_json;
mod subscriptions;

pub use self::{
    feed_protocol::{FeedProtocol, Heartbeat, Incoming, Opening, Topic},
    graphql::{GraphqlTransportWs, GraphqlWs},
    message::{ClientMessage, FeedMessage, MessageError, MessageKinds},
    plain_json::PlainJson,
    subscriptions::{
        OPTIONAL_FAILURES_MAX, OperationId, ProtocolEvent, Subscription, SubscriptionState,
    },
};
