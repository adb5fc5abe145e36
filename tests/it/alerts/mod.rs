//! Alerts, heartbeat and notifications of systemd, over loopback and from whole programs.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod delivery;
mod heartbeat;
mod program;
pub(crate) mod receiver;
