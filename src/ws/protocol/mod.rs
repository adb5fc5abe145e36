//! What is said over a socket: messages in, messages out, and nothing else.
//!
//! A [`Dialect`] knows words, the [`Machine`] knows when to say which: the greeting first, nothing
//! but pings before it is acknowledged, an id of its own for each subscription, a new subscription
//! under backoff for one that ended. No sockets, no clocks; the payload of an event is read in the
//! same pass as its envelope.

mod dialect;
mod envelope;
mod machine;

pub use self::{
    dialect::{Dialect, GraphqlTransportWs, GraphqlWs, PlainJson},
    envelope::Incoming,
    machine::{Event, Machine, OPTIONAL_FAILURES_MAX, OperationId, Wanted},
};
