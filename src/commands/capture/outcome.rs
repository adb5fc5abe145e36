//! Progress and outcome of a capture, and why a source has no recorded messages.
//! Pure.
//!
//! A [`CaptureMonitor`] forwards a feed to its recording and keeps track of errors and skipped
//! messages. It inspects messages only until the first data message.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    commands::{exit_code, summary::decimal},
    domain::time::format_duration,
    recording::{RecordingError, RecordingStatus, SourceRecorder},
    text::{Escaped, counted},
    ws::{HandledMessage, MessageRecorder, RetriesExhausted},
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
    /// Returns [`exit_code::UNAVAILABLE`] if a source was given up or nothing was recorded, and
    /// [`exit_code::IO`] if the disk failed or was too slow.
    pub const fn exit_code(&self) -> u8 {
        if matches!(self.ending, CaptureEndReason::Disk(_)) {
            exit_code::IO
        } else if self.is_empty || !self.gave_up.is_empty() {
            exit_code::UNAVAILABLE
        } else if self.is_complete {
            0
        } else {
            exit_code::IO
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
        let captured = counted(messages, "message", "messages");
        writeln!(f, "{what} {captured} in {}.", format_duration(self.duration))?;
        writeln!(f, "  on disk     {}", ByteSize(disk_bytes))?;
        let reconnects = counted(reconnects, "reconnect", "reconnects");
        writeln!(f, "  gaps        {gaps} ({reconnects})")?;
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
            "Recorded {} ({whole}.{tenth}/s), {} on disk, {}{now}, {lost} lost{skipped}",
            counted(messages, "message", "messages"),
            ByteSize(disk_bytes),
            counted(gaps, "gap", "gaps")
        )
    }
}

/// Maximum size of a message that is classified as an error, in bytes.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Maximum number of characters of the cause of an ended subscription to show.
const ERROR_CHARS_MAX: usize = 200;

/// Cause of a source without recorded messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDataReason {
    /// No connection was established; contains the last failure, if an attempt has ended.
    NeverConnected(Option<String>),
    /// Connected, but no message arrived; contains the end of the last connection, if it has ended.
    Silent(Option<String>),
    /// The server returned only errors; contains the escaped message of the first.
    Error(String),
    /// Only binary messages arrived, which are not recorded; contains their number.
    Binary(u64),
    /// Only messages above the size limit arrived; contains their number.
    TooLong(u64),
}

impl NoDataReason {
    /// Returns the bit of the kind of cause, to warn about each kind once.
    const fn bit(&self) -> u8 {
        match self {
            Self::NeverConnected(_) => 1,
            Self::Silent(_) => 2,
            Self::Error(_) => 4,
            Self::Binary(_) => 8,
            Self::TooLong(_) => 16,
        }
    }
}

impl fmt::Display for NoDataReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverConnected(None) => f.write_str("not connected yet"),
            Self::NeverConnected(Some(last)) => write!(f, "never connected ({last})"),
            Self::Silent(None) => f.write_str("connected, but the server sent no message"),
            Self::Silent(Some(last)) => {
                write!(f, "connected, but the server sent no message ({last})")
            }
            Self::Error(message) => write!(f, "the server returned an error: {message}"),
            Self::Binary(count) => {
                write!(f, "only binary messages arrived ({count}), which are not recorded")
            }
            Self::TooLong(count) => {
                write!(f, "only messages above the size limit arrived ({count})")
            }
        }
    }
}

/// Recorder of one source that detects why nothing is recorded.
#[derive(Debug)]
pub(super) struct CaptureMonitor {
    recorder: SourceRecorder,
    has_recorded: AtomicBool,
    has_connected: AtomicBool,
    binary: AtomicU64,
    too_long: AtomicU64,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    error: Option<String>,
    /// End of the last attempt or connection.
    ended: Option<String>,
    /// Kinds of causes that a warning was logged for, as bits.
    warned: u8,
}

impl CaptureMonitor {
    pub(super) fn new(recorder: SourceRecorder) -> Self {
        Self {
            recorder,
            has_recorded: AtomicBool::new(false),
            has_connected: AtomicBool::new(false),
            binary: AtomicU64::new(0),
            too_long: AtomicU64::new(0),
            failures: Mutex::default(),
        }
    }

    /// Returns the cause of missing data, or `None` if data was recorded.
    pub(super) fn no_data_reason(&self) -> Option<NoDataReason> {
        if self.has_recorded.load(Ordering::Relaxed) {
            return None;
        }
        let failures = self.failures();
        let count = |counter: &AtomicU64| Some(counter.load(Ordering::Relaxed)).filter(|n| *n > 0);
        Some(if let Some(error) = &failures.error {
            NoDataReason::Error(error.clone())
        } else if let Some(count) = count(&self.too_long) {
            NoDataReason::TooLong(count)
        } else if let Some(count) = count(&self.binary) {
            NoDataReason::Binary(count)
        } else if self.has_connected.load(Ordering::Relaxed) {
            NoDataReason::Silent(failures.ended.clone())
        } else {
            NoDataReason::NeverConnected(failures.ended.clone())
        })
    }

    /// Returns the same as [`no_data_reason`](Self::no_data_reason), but each kind of cause only
    /// once.
    pub(super) fn new_cause(&self) -> Option<NoDataReason> {
        let cause = self.no_data_reason()?;
        let mut failures = self.failures();
        let is_new = failures.warned & cause.bit() == 0;
        failures.warned |= cause.bit();
        is_new.then_some(cause)
    }

    #[cold]
    fn inspect(&self, text: &str, is_data: bool) {
        match kind_of(text, is_data) {
            MessageKind::Data => self.has_recorded.store(true, Ordering::Relaxed),
            MessageKind::Protocol => {}
            MessageKind::Error => {
                // The whole text, because a cut credential would not be masked.
                self.failures().error.get_or_insert_with(|| Escaped(text).to_string());
            }
        }
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        // Each update is a single assignment, so the data is consistent after a panic.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MessageRecorder for CaptureMonitor {
    fn on_message(&self, connection: u32, text: &str, handled: HandledMessage) {
        self.recorder.on_message(connection, text, handled);
        if !self.has_recorded.load(Ordering::Relaxed) {
            self.inspect(text, handled.is_data);
        }
    }

    fn on_binary(&self) {
        self.binary.fetch_add(1, Ordering::Relaxed);
        self.recorder.on_binary();
    }

    fn on_oversized(&self) {
        self.too_long.fetch_add(1, Ordering::Relaxed);
        self.recorder.on_oversized();
    }

    fn on_dial(&self) {
        self.recorder.on_dial();
    }

    fn on_connected(&self) {
        self.has_connected.store(true, Ordering::Relaxed);
        self.recorder.on_connected();
    }

    fn on_disconnected(&self, alive: Instant, cause: &str) {
        self.failures().ended = Some(cause.to_owned());
        self.recorder.on_disconnected(alive, cause);
    }

    fn on_unsubscribed(&self, at: Instant, cause: &str) {
        self.failures().error.get_or_insert_with(|| cause.chars().take(ERROR_CHARS_MAX).collect());
        self.recorder.on_disconnected(at, cause);
    }

    fn on_backfilled(&self) {
        self.recorder.on_backfilled();
    }
}

/// Kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageKind {
    Data,
    /// Protocol message, such as an acknowledgment or a ping.
    Protocol,
    /// Error message of the server without data.
    Error,
}

fn kind_of(text: &str, is_data: bool) -> MessageKind {
    if text.len() > ERROR_BYTES_MAX {
        return MessageKind::Data;
    }
    // Anything but a JSON object is recorded unchanged.
    let Ok(Value::Object(message)) = serde_json::from_str::<Value>(text) else {
        return MessageKind::Data;
    };
    let word = |key: &str| message.get(key).and_then(Value::as_str);
    let is_set = |key: &str| message.get(key).is_some_and(has_content);
    let is_named_error = ["type", "event", "status"].iter().any(|key| word(key) == Some("error"));
    let has_failed = message.get("success") == Some(&Value::Bool(false));
    let has_code = message.get("code").is_some_and(|code| code.is_number() && has_content(code))
        && (word("msg").is_some() || word("message").is_some());
    let payload = message.get("payload");
    let has_errors = payload.is_some_and(|payload| {
        payload.get("errors").is_some_and(has_content)
            && !payload.get("data").is_some_and(has_content)
    });
    if is_set("error") || is_named_error || has_failed || has_code || has_errors {
        return MessageKind::Error;
    }
    match word("type") {
        Some("ping" | "pong" | "ka" | "connection_ack" | "complete") if !is_data => {
            MessageKind::Protocol
        }
        _ => MessageKind::Data,
    }
}

/// Returns `true` unless the value is null, false, zero or empty.
fn has_content(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_true) => *is_true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        recording::{ActiveRecording, RealDisk, RecordingConfig},
        secret,
    };

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
    fn a_credential_at_the_end_of_the_shown_error_is_masked() {
        let secret = "credential-of-the-test-of-captures";
        secret::register(secret);
        let directory = tempfile::tempdir().unwrap();
        let config = RecordingConfig::new(directory.path(), Vec::new());
        let recording = ActiveRecording::start(config, RealDisk).unwrap();
        let monitor = CaptureMonitor::new(recording.recorder(0));
        for beginning in 150..190 {
            monitor.failures().error = None;
            let text = format!(r#"{{"error":"{}{secret}"}}"#, "x".repeat(beginning));
            monitor.inspect(&text, true);
            let shown = monitor.failures().error.clone().unwrap();
            assert!(shown.contains("xxxx") && !shown.contains("cred"), "{shown}");
        }
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

    #[track_caller]
    fn check(text: &str, is_data: bool, expected: MessageKind) {
        assert_eq!(kind_of(text, is_data), expected, "{text}");
    }

    #[test]
    fn errors_data_and_protocol_messages_are_distinguished() {
        for error in [
            r#"{"error":{"code":2,"msg":"Invalid request: unknown stream"},"id":null}"#,
            r#"{"code":-1121,"msg":"Invalid symbol."}"#,
            r#"{"event":"error","msg":"channel does not exist","code":"60018"}"#,
            r#"{"type":"error","message":"Failed to subscribe"}"#,
            r#"{"success":false,"ret_msg":"unknown topic"}"#,
            r#"{"method":"subscribe","error":"Currency pair not supported"}"#,
            r#"{"id":"1","type":"next","payload":{"errors":[{"message":"x"}],"data":null}}"#,
        ] {
            check(error, true, MessageKind::Error);
        }
        for data in [
            r#"{"u":1,"s":"BTCUSDT","b":"1","B":"2","a":"3","A":"4"}"#,
            r#"{"error":null,"result":[1]}"#,
            r#"{"code":0,"msg":"ok","data":[]}"#,
            r#"{"result":null,"id":1}"#,
            r#"{"id":"1","type":"next","payload":{"errors":[{}],"data":{"a":1}}}"#,
            r#"[{"error":"in a list"}]"#,
            "not JSON",
        ] {
            check(data, true, MessageKind::Data);
        }
        check(r#"{"type":"pong"}"#, false, MessageKind::Protocol);
        check(r#"{"type":"connection_ack"}"#, false, MessageKind::Protocol);
        check(r#"{"type":"next","payload":{"data":{"updateTrade":{}}}}"#, false, MessageKind::Data);
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(ERROR_BYTES_MAX));
        check(&long, true, MessageKind::Data);
    }
}
