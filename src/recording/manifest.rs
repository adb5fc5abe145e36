//! The manifest of a session. Pure: counters in, JSON out.
//!
//! `complete` is `true` only when the session ended as requested, at least one message was
//! recorded, and no message was lost on the way to the disk; interruptions of the feed are in
//! `connection_gaps`. The manifest contains no query string and no subscription, because those can
//! contain keys.

use std::time::Duration;

use serde_json::{Value, json};

use super::RecordingEnd;
use crate::domain::time::UnixMs;

pub const MANIFEST_FILE: &str = "session_manifest.json";

/// Maximum number of listed gaps per source; later ones are only counted.
pub const GAPS_MAX: usize = 4_096;

/// Version of the manifest format.
const FORMAT: u32 = 1;

/// Maximum length of a gap's cause, in characters.
const CAUSE_CHARS_MAX: usize = 300;

/// An interruption of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedGap {
    /// Time at which the connection last worked, in nanoseconds since 1970.
    pub from_ns: u64,
    /// Time of the first data after the gap; `None` while it is open.
    pub to_ns: Option<u64>,
    /// Number of dials so far.
    pub attempts: u32,
    /// Cause of the disconnect.
    pub cause: String,
    /// Number of missed events that were fetched afterwards.
    pub back_filled: u64,
}

impl RecordedGap {
    /// Returns the length of the gap, up to now if it is open.
    pub fn duration(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(self.to_ns.unwrap_or(now_ns).saturating_sub(self.from_ns))
    }
}

/// Connection history of one source.
///
/// Its gaps differ from those of the feed ([`Gap`](crate::ws::Gap)), because a recording shows only
/// messages: a gap ends with the first recorded message instead of a subscription, and failed dials
/// before the first connection are a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Number of connections after the first.
    pub reconnects: u64,
    /// The first [`GAPS_MAX`] gaps, oldest first, and the last one, which may be open.
    pub gaps: Vec<RecordedGap>,
    /// Number of gaps that are not listed.
    pub gaps_unlisted: u64,
    has_been_up: bool,
    /// Failed dials before the first connection, which belong to no gap yet.
    first_dials: u32,
}

impl ConnectionCounts {
    /// Returns the number of gaps, listed or not.
    pub fn gap_count(&self) -> u64 {
        u64::try_from(self.gaps.len()).unwrap_or(u64::MAX).saturating_add(self.gaps_unlisted)
    }

    /// Returns the open gap.
    pub fn open_gap(&mut self) -> Option<&mut RecordedGap> {
        self.gaps.last_mut().filter(|gap| gap.to_ns.is_none())
    }

    /// Returns `true` while a gap is open.
    pub fn is_down(&self) -> bool {
        self.gaps.last().is_some_and(|gap| gap.to_ns.is_none())
    }

    /// Counts a dial for the open gap, or for the time before the first connection.
    pub fn on_dial(&mut self) {
        if let Some(gap) = self.open_gap() {
            gap.attempts = gap.attempts.saturating_add(1);
        } else if !self.has_been_up {
            self.first_dials = self.first_dials.saturating_add(1);
        }
    }

    /// Counts a connection. A gap nevertheless lasts until data arrives.
    pub fn on_connected(&mut self) {
        if std::mem::replace(&mut self.has_been_up, true) {
            self.reconnects = self.reconnects.saturating_add(1);
        }
        self.first_dials = 0;
    }

    pub(super) fn take_first_dials(&mut self) -> u32 {
        std::mem::take(&mut self.first_dials)
    }

    /// Opens a gap. A gap that is already open continues instead.
    pub fn begin_gap(&mut self, gap: RecordedGap) {
        if self.is_down() {
            return;
        }
        if self.gaps.len() >= GAPS_MAX {
            self.gaps.pop();
            self.gaps_unlisted = self.gaps_unlisted.saturating_add(1);
        }
        self.gaps.push(gap);
    }
}

/// Counters of a stream, for the part that is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    pub messages: u64,
    /// Bytes of the messages, without the framing of a line.
    pub bytes: u64,
    /// Receive time of the first message.
    pub first_ns: Option<u64>,
    /// Receive time of the last message.
    pub last_ns: Option<u64>,
    /// Number of files.
    pub parts: u32,
    /// Messages in which a credential of the bot was replaced.
    pub redacted: u64,
}

/// Entry of one source.
#[derive(Clone, Debug)]
pub struct SourceEntry<'a> {
    /// Source as given on the command line.
    pub name: &'a str,
    /// Address without its query.
    pub address: &'a str,
    pub symbol: &'a str,
    pub stream: &'a str,
    /// First file, relative to the session's directory.
    pub file: String,
    pub counts: StreamCounts,
    /// Messages that did not fit into the queue, or arrived after a disk failure.
    pub lost: u64,
    /// Binary messages, which are not recorded.
    pub binary_skipped: u64,
    /// Messages above the size limit.
    pub too_long: u64,
    pub connections: ConnectionCounts,
}

/// Content of a manifest.
#[derive(Clone, Debug)]
pub struct Manifest<'a> {
    pub session: &'a str,
    /// Start of the session.
    pub started_ns: u64,
    /// Time of this manifest.
    pub now_ns: u64,
    /// `None` while the session runs.
    pub ended: Option<&'a RecordingEnd>,
    pub sources: Vec<SourceEntry<'a>>,
}

impl Manifest<'_> {
    /// Returns `true` if the session ended as requested, recorded at least one message, and lost
    /// none.
    pub fn is_complete(&self) -> bool {
        let lost_any = self.sources.iter().any(|source| source.lost != 0);
        let has_any = self.sources.iter().any(|source| source.counts.messages != 0);
        self.ended.is_some_and(|ended| ended.is_success) && has_any && !lost_any
    }

    /// Serializes the manifest as indented JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let now_ns = self.now_ns;
        let gaps = self.sources.iter().flat_map(|source| source.gaps(now_ns));
        let gaps: Vec<Value> = gaps.collect();
        let sources = self.sources.iter().map(|source| source.to_json(now_ns));
        let sources: Vec<Value> = sources.collect();
        let reconnects = self.sources.iter().map(|source| source.connections.reconnects);
        let ended_ns = self.ended.map(|_ended| self.now_ns);
        let manifest = json!({
            "format": FORMAT,
            "program": concat!("sniper ", env!("CARGO_PKG_VERSION")),
            "session": self.session,
            "started_ns": self.started_ns,
            "started": format_time(self.started_ns),
            "updated_ns": self.now_ns,
            "ended_ns": ended_ns,
            "ended": ended_ns.map(format_time),
            "ended_because": self.ended.map(|ended| &ended.reason),
            "running": self.ended.is_none(),
            "complete": self.is_complete(),
            "total_reconnects": reconnects.fold(0_u64, u64::saturating_add),
            "connection_gaps": gaps,
            "sources": sources,
        });
        let mut text = format!("{manifest:#}").into_bytes();
        text.push(b'\n');
        text
    }
}

impl SourceEntry<'_> {
    fn gaps(&self, now_ns: u64) -> Vec<Value> {
        let gap = |gap: &RecordedGap| {
            let ms = u64::try_from(gap.duration(now_ns).as_millis()).unwrap_or(u64::MAX);
            let cause: String = gap.cause.chars().take(CAUSE_CHARS_MAX).collect();
            json!({
                "symbol": self.symbol,
                "stream": self.stream,
                "from_ns": gap.from_ns,
                "from": format_time(gap.from_ns),
                "to_ns": gap.to_ns,
                "to": gap.to_ns.map(format_time),
                "duration_ms": ms,
                "attempts": gap.attempts,
                "cause": cause,
                "back_filled": gap.back_filled,
                "open": gap.to_ns.is_none(),
            })
        };
        self.connections.gaps.iter().map(gap).collect()
    }

    fn to_json(&self, now_ns: u64) -> Value {
        let StreamCounts { messages, bytes, first_ns, last_ns, parts, redacted } = self.counts;
        json!({
            "source": self.name,
            "address": self.address,
            "symbol": self.symbol,
            "stream": self.stream,
            "file": self.file,
            "parts": parts,
            "messages": messages,
            "bytes": bytes,
            "first_ns": first_ns,
            "last_ns": last_ns,
            "first_time": first_ns.map(format_time),
            "last_time": last_ns.map(format_time),
            "lost": self.lost,
            "binary_skipped": self.binary_skipped,
            "too_long": self.too_long,
            "redacted": redacted,
            "total_reconnects": self.connections.reconnects,
            "gaps_unlisted": self.connections.gaps_unlisted,
            "connection_gaps": self.gaps(now_ns),
        })
    }
}

/// Formats a time for display.
fn format_time(ns: u64) -> String {
    UnixMs::from_nanos(ns).to_string()
}
