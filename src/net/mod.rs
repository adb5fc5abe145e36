//! How this program reaches other machines: one TLS set-up, one way to dial.
//!
//! Who speaks what over a connection is for the rooms that own one: the feed, the buyer, the reads.

pub mod busy_poll;
pub mod content_encoding;
pub(crate) mod deadline;
pub mod dial;
pub mod http_client;
pub mod tls;
