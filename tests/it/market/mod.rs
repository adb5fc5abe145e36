//! The simulated market over real sockets, tested with minimal clients.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up fails, and so does an answer of another shape"
)]

mod agreement;
mod client;
mod command;
mod feed;
mod http;
mod lis_skins;
mod tls;
mod waxpeer;
