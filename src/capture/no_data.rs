//! Detects why a source has no recorded messages.
//!
//! A [`CaptureMonitor`] forwards a feed to its recording and keeps track of errors and skipped
//! messages. It inspects messages only until the first data message.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use serde_json::Value;

use crate::{recording::SourceRecorder, text::Escaped, ws::MessageRecorder};

/// Maximum size of a message that is classified as an error, in bytes.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Maximum number of characters of a server error to show.
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
    /// Bit of the kind of cause, to warn about each kind once.
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

    /// Same as [`no_data_reason`](Self::no_data_reason), but returns each kind of cause once.
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
                let shown: String = text.chars().take(ERROR_CHARS_MAX).collect();
                self.failures().error.get_or_insert_with(|| Escaped(&shown).to_string());
            }
        }
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        // Each update is a single assignment, so the data is consistent after a panic.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MessageRecorder for CaptureMonitor {
    fn on_message(&self, connection: u32, text: &str, at: Instant, is_data: bool) {
        self.recorder.on_message(connection, text, at, is_data);
        if !self.has_recorded.load(Ordering::Relaxed) {
            self.inspect(text, is_data);
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
