//! Recording what a feed says, and playing it back.
//!
//! A [`ActiveRecording`] is one session on disk: a directory with a file for each stream and a manifest that
//! says what is in it, what is missing and whether it is complete.
//!
//! ```text
//! DIR/2026-03-01T10-00-00Z/session_manifest.json
//! DIR/2026-03-01T10-00-00Z/BTCUSDT/bookTicker.jsonl      {"ns":…,"conn":1,"raw":"…"}
//! ```
//!
//! Whoever hears the feed appends to a buffer in memory ([`SourceRecorder`]) and goes on; a thread of its
//! own writes ([`writer`]). Which disk it is, is a [`Disk`], so that a full one can be had in a
//! test. What was recorded comes back as it went in, in the order in which it came
//! ([`Recording`]), and can be decided upon again ([`play`](fn@play)).
//!
//! # Invariants
//!
//! 1. Nobody who records waits for a disk. What does not fit into the buffer is dropped whole and
//!    counted.
//! 2. Nothing that exists is overwritten, but for the manifest, which is replaced in one step.
//! 3. The manifest counts only what is on disk already, and both are there at least every second.
//! 4. Files hold whole lines; a crash leaves at most one torn line at the end, which is not read.
//! 5. A credential of ours is never written: in messages and in the manifest it is replaced, at the
//!    same length.

pub mod disk;
mod error;
pub mod line;
pub mod manifest;
pub mod names;
mod play;
mod queue;
mod reader;
mod stream;
#[cfg(test)]
mod tests;
mod writer;

pub use self::{
    disk::{Disk, DiskFile, RealDisk},
    error::RecordingError,
    manifest::{GAPS_MAX, MANIFEST_FILE},
    play::{ReplayDecision, ReplayResult, ReplayRules, play},
    queue::{QUEUE_BYTES_MAX, RecordingStatus, SourceRecorder},
    reader::{LINE_BYTES_MAX, RecordedMessage, Recording, RecordingReadError},
    writer::{
        ActiveRecording, RecordingConfig, RecordingEnd, RecordingObserver, SOURCES_MAX, SYNC_EVERY,
        StreamSource,
    },
};
