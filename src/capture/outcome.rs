//! Progress and outcome of a capture. Pure.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::no_data::NoDataReason;
use crate::{
    recording::{RecordingError, RecordingStatus},
    summary::{decimal, format_duration},
    ws::RetriesExhausted,
};

/// Cause of the end of a capture.
#[derive(Clone, Debug)]
pub enum CaptureEndReason {
    /// Shutdown by a signal or `--for`; contains the reason.
    Stopped(String),
    /// Every source reached its retry limit.
    NothingLeft,
    Disk(Arc<RecordingError>),
}

impl fmt::Display for CaptureEndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(reason) => f.write_str(reason),
            Self::NothingLeft => f.write_str("every source was given up"),
            Self::Disk(error) => error.fmt(f),
        }
    }
}

/// Outcome of a capture.
#[derive(Debug)]
pub struct CaptureOutcome {
    /// Directory of the recording.
    pub directory: PathBuf,
    pub status: RecordingStatus,
    pub duration: Duration,
    /// `true` if the capture was stopped as requested, is not empty, and no message was lost on the
    /// way to the disk.
    pub is_complete: bool,
    /// `true` if nothing was recorded except error messages of servers.
    pub is_empty: bool,
    pub ending: CaptureEndReason,
    /// Sources that reached their retry limit.
    pub gave_up: Vec<(String, RetriesExhausted)>,
    /// Sources without recorded messages, with the cause.
    pub empty: Vec<(String, NoDataReason)>,
}

impl CaptureOutcome {
    /// Returns the exit code, as defined by `sysexits.h`: 69 if a source was given up or nothing
    /// was recorded, 74 if the disk failed or was too slow.
    pub const fn exit_code(&self) -> u8 {
        match self.ending {
            CaptureEndReason::Disk(_) => 74,
            CaptureEndReason::Stopped(_) | CaptureEndReason::NothingLeft
                if self.is_empty || !self.gave_up.is_empty() =>
            {
                69
            }
            CaptureEndReason::Stopped(_) | CaptureEndReason::NothingLeft if !self.is_complete => 74,
            CaptureEndReason::Stopped(_) | CaptureEndReason::NothingLeft => 0,
        }
    }

    /// Returns the outcome as one JSON object.
    pub fn to_json(&self) -> Value {
        let status = &self.status;
        let empty: Vec<&str> = self.empty.iter().map(|(name, _reason)| name.as_str()).collect();
        let gave_up: Vec<&str> = self.gave_up.iter().map(|(name, _reason)| name.as_str()).collect();
        json!({
            "mode": "capture",
            "seconds": decimal(self.duration.as_millis(), 3),
            "directory": self.directory.display().to_string(),
            "complete": self.is_complete,
            "messages": status.messages,
            "bytes": status.bytes,
            "disk_bytes": status.disk_bytes,
            "lost": status.lost,
            "binary_skipped": status.binary_skipped,
            "too_long": status.too_long,
            "gaps": status.gaps,
            "open_gaps": status.open_gaps,
            "reconnects": status.reconnects,
            "gave_up": gave_up,
            "empty": empty,
            "ended": self.ending.to_string(),
        })
    }
}

impl fmt::Display for CaptureOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordingStatus { messages, disk_bytes, lost, gaps, reconnects, .. } = self.status;
        let what = if self.is_complete { "Captured" } else { "INCOMPLETE, captured" };
        writeln!(f)?;
        writeln!(f, "{what} {messages} messages in {}.", format_duration(self.duration))?;
        writeln!(f, "  on disk     {}", ByteSize(disk_bytes))?;
        writeln!(f, "  gaps        {gaps} ({reconnects} reconnects)")?;
        writeln!(f, "  skipped     {}", skipped(&self.status))?;
        writeln!(f, "  lost        {lost}")?;
        for (name, reason) in &self.empty {
            writeln!(f, "  empty       {name}: {reason}")?;
        }
        for (name, reason) in &self.gave_up {
            writeln!(f, "  given up    {name}: {reason}")?;
        }
        writeln!(f, "  ended       {}", self.ending)?;
        writeln!(f, "  recording   {}", self.directory.display())
    }
}

/// Formats the number of messages that were received and not recorded.
fn skipped(status: &RecordingStatus) -> String {
    let RecordingStatus { binary_skipped, too_long, .. } = *status;
    match binary_skipped.saturating_add(too_long) {
        0 => "0".to_owned(),
        all => format!("{all} ({binary_skipped} binary, {too_long} too long)"),
    }
}

/// Formats a number of bytes with a decimal unit.
struct ByteSize(u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |unit: u64| (self.0 / unit, self.0 % unit / (unit / 10));
        let ((whole, tenth), unit) = match self.0 {
            0..1_000 => return write!(f, "{} B", self.0),
            1_000..1_000_000 => (tenths(1_000), "kB"),
            1_000_000..1_000_000_000 => (tenths(1_000_000), "MB"),
            _ => (tenths(1_000_000_000), "GB"),
        };
        write!(f, "{whole}.{tenth} {unit}")
    }
}

/// Formatter of the progress lines.
#[derive(Debug)]
pub(super) struct CaptureProgress {
    at: Instant,
    messages: u64,
}

impl CaptureProgress {
    pub(super) const fn new(started: Instant) -> Self {
        Self { at: started, messages: 0 }
    }

    /// Returns a progress line with the rate since the previous one.
    pub(super) fn line(&mut self, status: &RecordingStatus, now: Instant) -> String {
        let span = now.saturating_duration_since(self.at).as_millis().max(1);
        let count = status.messages.saturating_sub(self.messages);
        let per_second_tenths = u128::from(count).saturating_mul(10_000) / span;
        self.at = now;
        self.messages = status.messages;
        let (whole, tenth) = (per_second_tenths / 10, per_second_tenths % 10);
        let RecordingStatus { messages, disk_bytes, lost, gaps, open_gaps, .. } = *status;
        let skipped = match status.binary_skipped.saturating_add(status.too_long) {
            0 => String::new(),
            _ => format!(", {} skipped", skipped(status)),
        };
        let now = match open_gaps {
            0 => String::new(),
            open => format!(" ({open} open)"),
        };
        format!(
            "Recorded {messages} messages ({whole}.{tenth}/s), {} on disk, {gaps} gaps{now}, {lost} lost{skipped}",
            ByteSize(disk_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_line_contains_rate_size_and_gaps() {
        let started = Instant::now();
        let mut progress = CaptureProgress::new(started);
        let status = RecordingStatus {
            messages: 261,
            disk_bytes: 3_412_345,
            gaps: 2,
            open_gaps: 1,
            ..RecordingStatus::default()
        };
        assert_eq!(
            progress.line(&status, started + Duration::from_secs(5)),
            "Recorded 261 messages (52.2/s), 3.4 MB on disk, 2 gaps (1 open), 0 lost"
        );
        let still = progress.line(&status, started + Duration::from_secs(10));
        assert!(still.contains("(0.0/s)"), "{still}");
    }

    #[test]
    fn an_incomplete_or_empty_capture_has_a_nonzero_exit_code() {
        let outcome = |ending, gave_up: &[&str], is_complete| CaptureOutcome {
            directory: PathBuf::from("x"),
            status: RecordingStatus::default(),
            duration: Duration::ZERO,
            is_complete,
            is_empty: false,
            ending,
            empty: Vec::new(),
            gave_up: gave_up
                .iter()
                .map(|name| ((*name).to_owned(), RetriesExhausted { attempts: 1, last: None }))
                .collect(),
        };
        let stopped = || CaptureEndReason::Stopped("Ctrl-C".to_owned());
        assert_eq!(outcome(stopped(), &[], true).exit_code(), 0);
        assert_eq!(outcome(stopped(), &[], false).exit_code(), 74);
        assert_eq!(outcome(stopped(), &["a"], false).exit_code(), 69);
        assert_eq!(outcome(CaptureEndReason::NothingLeft, &["a"], false).exit_code(), 69);
        let disk = CaptureEndReason::Disk(Arc::new(RecordingError::Late));
        assert_eq!(outcome(disk, &[], false).exit_code(), 74);
        let nothing = CaptureOutcome {
            is_empty: true,
            empty: vec![("a".to_owned(), NoDataReason::Binary(3))],
            status: RecordingStatus {
                binary_skipped: 3,
                too_long: 1,
                lost: 2,
                ..RecordingStatus::default()
            },
            ..outcome(stopped(), &[], false)
        };
        assert_eq!(nothing.exit_code(), 69);
        let shown = nothing.to_string();
        for line in ["  skipped     4 (3 binary, 1 too long)\n", "  lost        2\n"] {
            assert!(shown.contains(line), "{shown}");
        }
        assert!(shown.contains("  empty       a: only binary messages arrived (3)"), "{shown}");
        let json = nothing.to_json();
        assert_eq!((&json["binary_skipped"], &json["too_long"]), (&3.into(), &1.into()));
        assert_eq!((&json["lost"], &json["empty"]), (&2.into(), &json!(["a"])));
        let shown = outcome(stopped(), &["a"], false).to_string();
        assert!(shown.contains("INCOMPLETE") && shown.contains("given up    a"), "{shown}");
    }
}
