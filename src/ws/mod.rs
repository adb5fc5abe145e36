//! WebSocket feeds: connections that are kept up, with listings delivered as they arrive.
//!
//! [`connect_once`] runs one connection; [`run_with_reconnect`] reconnects, without end unless
//! `max_retries` is set. Both call a closure for each listing as soon as its frame is read, on the
//! thread and in the task of the caller. The closure needs neither `Send` nor `'static` and must
//! not block.
//!
//! The decisions are pure state machines: [`policy`] for reconnecting,
//! [`protocol`](crate::protocol) for subscriptions, [`watchdog`] for liveness, `lateness` for
//! the slowest of several connections. [`FeedMetrics`] exposes the counters to other threads.

pub mod connect;
pub(crate) mod deduplicator;
mod error;
mod feed;
pub mod frames;
mod gaps;
pub mod handle;
mod lateness;
mod metrics;
pub mod policy;
pub mod probe;
mod reconnector;
mod renewal;
mod session;
pub mod source;
mod supervisor;
mod upgrade;
pub mod watchdog;

pub use self::{
    connect::MESSAGES_PER_READ_MAX,
    deduplicator::SEEN_MAX,
    error::{ConnectStep, FeedError, ProtocolViolation, SettingNames},
    feed::{Feed, Notices, WantedSender, connect_once},
    frames::MESSAGE_BYTES_MAX,
    gaps::{BACKFILL_QUEUED_MAX, Backfill, BackfillRequest, BackfillSender, backfill},
    metrics::{
        ConnectionCounts, ConnectionMetrics, Downtime, FeedCondition, FeedMetrics, GAPS_MAX, Gap,
        HandledMessage, MessageRecorder,
    },
    reconnector::{Host, Hosts},
    renewal::FeedSubscriptions,
    session::{BATCH_BYTES_MIN, CLOSE_TIMEOUT, OUTBOX_MAX, WriteProgress},
    supervisor::{RetriesExhausted, run_with_dial, run_with_reconnect},
};
pub use crate::config::CONNECTIONS_MAX;
