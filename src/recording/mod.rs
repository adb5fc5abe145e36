//! Records a feed to disk and replays it.
//!
//! An [`ActiveRecording`] writes one session: a directory with a file for each stream and a
//! manifest with counts, gaps and completeness.
//!
//! ```text
//! DIR/2026-03-01T10-00-00Z/session_manifest.json
//! DIR/2026-03-01T10-00-00Z/BTCUSDT/bookTicker.jsonl      {"ns":…,"conn":1,"raw":"…"}
//! DIR/2026-03-01T10-00-00Z/prices/index.jsonl            reference prices of a trading session
//! ```
//!
//! A feed appends its messages to a buffer in memory ([`SourceRecorder`]); a separate thread writes
//! them (`writer`). Files are written through a [`Disk`], so that tests can simulate a full one. A
//! [`Recording`] returns the messages unchanged and in the order of arrival, and [`replay`] runs
//! the decision engine over them.
//!
//! [`replay`]: crate::commands::replay::replay
//!
//! # Invariants
//!
//! 1. Recording a message never waits for a disk. Messages that do not fit into the buffer are
//!    dropped whole and counted.
//! 2. No existing file is overwritten, except the manifest, which is replaced atomically.
//! 3. The manifest counts only messages that are on disk; both are synced at least every second.
//! 4. Files contain whole lines; a crash leaves at most one torn line at the end, which is not
//!    read.
//! 5. The reference prices of a trading session are recorded with the time from which they were
//!    used, so that a replay decides by the same ones.
//! 6. A credential of the bot is never written: in messages and in the manifest it is replaced, at
//!    the same length.

pub mod disk;
pub mod format;
pub mod manifest;
mod prices;
mod queue;
mod reader;
mod steam_ids;
#[cfg(test)]
mod tests;
mod writer;

pub use self::{
    disk::{Disk, DiskFile, RealDisk},
    manifest::{GAPS_MAX, MANIFEST_FILE},
    prices::{PriceChange, PriceHistory, PriceRecorder, RecordedPrices, RecordedTable},
    queue::{QUEUE_BYTES_MAX, RecordingStatus, SourceRecorder},
    reader::{LINE_BYTES_MAX, RecordedMessage, Recording, RecordingReadError},
    writer::{
        ActiveRecording, RecordingConfig, RecordingEnd, RecordingError, RecordingObserver,
        SOURCES_MAX, SYNC_EVERY, StreamSource,
    },
};
