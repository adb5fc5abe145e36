//! The simulated market over real sockets, tested with minimal clients.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot be set up fails, and so does an answer of another shape"
)]

mod agreement;
pub(crate) mod client;
mod command;
mod feed;
mod http;
pub(crate) mod lis_skins;
mod tls;
pub(crate) mod waxpeer;
