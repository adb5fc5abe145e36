//! Network access: dialing, TLS, deadlines, the latency of addresses, and the HTTP client for
//! reads.
//!
//! The protocols spoken over a connection belong to its owner: the feed, the order client, the
//! account reads.

pub mod address_latency;
pub mod busy_poll;
pub mod content_encoding;
pub(crate) mod deadline;
pub mod dial;
pub mod http_client;
pub mod http_head;
pub mod http_message;
pub mod tls;
