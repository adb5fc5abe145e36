//! What a session's manifest says. Pure: numbers in, JSON out.
//!
//! `complete` is `true` only when the session ended as it was asked to, something was recorded, and
//! not one line was lost on the way to the disk; times in which the server could not be heard are in `connection_gaps`. What
//! stands in it never holds a query string or a subscription: keys travel in those.

use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::time::UnixMs;

/// What the manifest is called.
pub const MANIFEST_FILE: &str = "session_manifest.json";

/// How many gaps of one source are listed; later ones are only counted.
pub const GAPS_MAX: usize = 4_096;

/// The version of this form.
const FORMAT: u32 = 1;

/// The longest cause that is kept of a gap, in characters.
const CAUSE_CHARS_MAX: usize = 300;

const NS_PER_MS: u64 = 1_000_000;

/// A time in which one source could not be heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedGap {
    /// The last proof of life before it, in nanoseconds since 1970.
    pub from_ns: u64,
    /// The first data after it; `None` while it lasts.
    pub to_ns: Option<u64>,
    /// How many dials it took so far.
    pub attempts: u32,
    /// What ended the connection before it.
    pub cause: String,
    /// How many events were fetched afterwards that it had hidden.
    pub back_filled: u64,
}

impl RecordedGap {
    /// How long it lasted, or has lasted so far.
    pub fn lasted(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(self.to_ns.unwrap_or(now_ns).saturating_sub(self.from_ns))
    }
}

/// The connections of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// How often it was up again after it had been down.
    pub reconnects: u64,
    /// The first [`GAPS_MAX`] gaps, oldest first, and the last one, which may be open.
    pub gaps: Vec<RecordedGap>,
    /// How many gaps are not listed.
    pub gaps_unlisted: u64,
    has_been_up: bool,
    /// Dials that led to nothing before it was ever up, and belong to no gap yet.
    first_dials: u32,
}

impl ConnectionCounts {
    /// How many gaps there were.
    pub fn gap_count(&self) -> u64 {
        u64::try_from(self.gaps.len()).unwrap_or(u64::MAX).saturating_add(self.gaps_unlisted)
    }

    /// The gap that still lasts.
    pub fn open(&mut self) -> Option<&mut RecordedGap> {
        self.gaps.last_mut().filter(|gap| gap.to_ns.is_none())
    }

    /// Whether a gap still lasts.
    pub fn is_down(&self) -> bool {
        self.gaps.last().is_some_and(|gap| gap.to_ns.is_none())
    }

    /// Somebody dials.
    pub fn dials(&mut self) {
        if let Some(gap) = self.open() {
            gap.attempts = gap.attempts.saturating_add(1);
        } else if !self.has_been_up {
            self.first_dials = self.first_dials.saturating_add(1);
        }
    }

    /// It is up. A gap lasts until data comes all the same.
    pub fn up(&mut self) {
        if std::mem::replace(&mut self.has_been_up, true) {
            self.reconnects = self.reconnects.saturating_add(1);
        }
        self.first_dials = 0;
    }

    pub(super) fn take_first_dials(&mut self) -> u32 {
        std::mem::take(&mut self.first_dials)
    }

    /// A gap begins. One that still lasts goes on instead.
    pub fn begin(&mut self, gap: RecordedGap) {
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

/// What of a stream is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Messages.
    pub messages: u64,
    /// Bytes of these messages, without what a line adds.
    pub bytes: u64,
    /// When the first was received.
    pub first_ns: Option<u64>,
    /// When the last was received.
    pub last_ns: Option<u64>,
    /// How many files hold them.
    pub parts: u32,
    /// Messages in which a credential of ours was replaced.
    pub redacted: u64,
}

/// One source's entry.
#[derive(Clone, Debug)]
pub struct SourceEntry<'a> {
    /// What was asked for, as on the command line.
    pub name: &'a str,
    /// The address, without its query.
    pub address: &'a str,
    /// The symbol.
    pub symbol: &'a str,
    /// The stream.
    pub stream: &'a str,
    /// Its first file, below the session's directory.
    pub file: String,
    /// What is on disk.
    pub counts: StreamCounts,
    /// Messages that did not fit into the queue, or came after the disk had failed.
    pub lost: u64,
    /// Binary messages, which are not recorded.
    pub binary_skipped: u64,
    /// Messages that were longer than may be.
    pub too_long: u64,
    /// Its connections.
    pub connections: ConnectionCounts,
}

/// Everything that a manifest says.
#[derive(Clone, Debug)]
pub struct Manifest<'a> {
    /// The session's name.
    pub session: &'a str,
    /// When it began.
    pub began_ns: u64,
    /// When this was written.
    pub now_ns: u64,
    /// Why it ended, and whether it got what it was asked to; `None` while it runs.
    pub ended: Option<(&'a str, bool)>,
    /// Its sources.
    pub sources: Vec<SourceEntry<'a>>,
}

impl Manifest<'_> {
    /// Whether the session is over, was not cut short, has recorded anything, and lost nothing.
    pub fn is_complete(&self) -> bool {
        let lost_any = self.sources.iter().any(|source| source.lost != 0);
        let has_any = self.sources.iter().any(|source| source.counts.messages != 0);
        matches!(self.ended, Some((_, true))) && has_any && !lost_any
    }

    /// The manifest as it is written.
    pub fn to_json(&self) -> Vec<u8> {
        let now_ns = self.now_ns;
        let gaps = self.sources.iter().flat_map(|source| source.gaps(now_ns));
        let gaps: Vec<Value> = gaps.collect();
        let sources = self.sources.iter().map(|source| source.to_json(now_ns));
        let sources: Vec<Value> = sources.collect();
        let reconnects = self.sources.iter().map(|source| source.connections.reconnects);
        let ended_ns = self.ended.map(|_why| self.now_ns);
        let manifest = json!({
            "format": FORMAT,
            "program": concat!("sniper ", env!("CARGO_PKG_VERSION")),
            "session": self.session,
            "started_ns": self.began_ns,
            "started": shown(self.began_ns),
            "updated_ns": self.now_ns,
            "ended_ns": ended_ns,
            "ended": ended_ns.map(shown),
            "ended_because": self.ended.map(|(why, _)| why),
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
            let ms = u64::try_from(gap.lasted(now_ns).as_millis()).unwrap_or(u64::MAX);
            let cause: String = gap.cause.chars().take(CAUSE_CHARS_MAX).collect();
            json!({
                "symbol": self.symbol,
                "stream": self.stream,
                "from_ns": gap.from_ns,
                "from": shown(gap.from_ns),
                "to_ns": gap.to_ns,
                "to": gap.to_ns.map(shown),
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
            "first_time": first_ns.map(shown),
            "last_time": last_ns.map(shown),
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

/// A moment for a person.
fn shown(ns: u64) -> String {
    UnixMs(i64::try_from(ns / NS_PER_MS).unwrap_or(i64::MAX)).to_string()
}
