//! The feed: sockets kept alive, listings handed out as they come.
//!
//! [`connect_once`] is one connection from beginning to end; [`run_with_reconnect`] loops over it and
//! never gives up unless it was told when to. Both call a closure for each listing, on the thread
//! and in the task that they run in, as soon as the frame is read; the closure needs neither `Send`
//! nor `'static`, must not wait, and knows nothing of sockets.
//!
//! Two pure cores decide: [`policy`] when to dial, [`protocol`] what to say; [`watchdog`] whether a
//! connection still lives. What can be seen from elsewhere is in [`FeedMetrics`].

mod backfill;
pub mod connect;
pub(crate) mod deduplicator;
mod error;
mod feed;
pub mod frames;
mod gap_tracker;
pub mod handle;
pub mod host_cooldown;
mod message_recorder;
mod metrics;
pub mod policy;
pub mod probe;
pub mod protocol;
mod reconnector;
mod recording_loop;
mod rotation;
mod session;
mod socket;
pub mod source;
mod supervisor;
mod upgrade;
pub mod watchdog;

pub use self::{
    backfill::{BACKFILL_QUEUED_MAX, Backfill, BackfillRequest, BackfillSender, backfill},
    deduplicator::SEEN_MAX,
    error::{ConnectStep, FeedError, ProtocolViolation, SettingNames, UpgradeRejection},
    feed::connect_once,
    frames::MESSAGE_BYTES_MAX,
    message_recorder::MessageRecorder,
    metrics::{CONNECTIONS_MAX, ConnectionMetrics, Downtime, FeedMetrics, GAPS_MAX, Gap},
    recording_loop::{RecordedFeed, listen},
    session::{FAREWELL_MAX, OUTBOX_MAX, WriteProgress},
    supervisor::{RetriesExhausted, run_over, run_with_reconnect},
};
