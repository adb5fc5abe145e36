//! Why a source has recorded nothing.
//!
//! A [`CaptureMonitor`] stands between a feed and its recording, and remembers what came instead of
//! messages. It looks into messages only until the first one that is worth recording.

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

/// The longest message that is taken for a server's error, in bytes.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// How many characters of a server's error are shown.
const ERROR_CHARS_MAX: usize = 200;

/// Why nothing of a source was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDataReason {
    /// No connection was made; the last failure, if an attempt has ended yet.
    NeverConnected(Option<String>),
    /// Connected, and not one message came; how the last connection ended, if one has.
    Silent(Option<String>),
    /// The server answered with an error, and with nothing else; its words, made harmless.
    Error(String),
    /// Only binary messages came, which are not recorded: so many.
    Binary(u64),
    /// Only messages came that are longer than may be: so many.
    TooLong(u64),
}

impl NoDataReason {
    /// A number for the kind of cause, to warn of each once.
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
            Self::Error(words) => write!(f, "the server answered with an error: {words}"),
            Self::Binary(count) => {
                write!(f, "only binary messages came ({count}), which are not recorded")
            }
            Self::TooLong(count) => {
                write!(f, "only messages over the size limit came ({count})")
            }
        }
    }
}

/// Records one source, and knows why nothing was recorded while that is so.
#[derive(Debug)]
pub(super) struct CaptureMonitor {
    recorder: SourceRecorder,
    has_recorded: AtomicBool,
    has_connected: AtomicBool,
    binary: AtomicU64,
    too_long: AtomicU64,
    words: Mutex<ReasonText>,
}

#[derive(Debug, Default)]
struct ReasonText {
    error: Option<String>,
    /// How the last attempt or connection ended.
    ended: Option<String>,
    /// The causes that were warned of.
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
            words: Mutex::default(),
        }
    }

    /// Why nothing was recorded; `None`: something was.
    pub(super) fn absence(&self) -> Option<NoDataReason> {
        if self.has_recorded.load(Ordering::Relaxed) {
            return None;
        }
        let words = self.words();
        let count = |counter: &AtomicU64| Some(counter.load(Ordering::Relaxed)).filter(|n| *n > 0);
        Some(if let Some(error) = &words.error {
            NoDataReason::Error(error.clone())
        } else if let Some(count) = count(&self.too_long) {
            NoDataReason::TooLong(count)
        } else if let Some(count) = count(&self.binary) {
            NoDataReason::Binary(count)
        } else if self.has_connected.load(Ordering::Relaxed) {
            NoDataReason::Silent(words.ended.clone())
        } else {
            NoDataReason::NeverConnected(words.ended.clone())
        })
    }

    /// The same, each kind of cause once.
    pub(super) fn news(&self) -> Option<NoDataReason> {
        let absence = self.absence()?;
        let mut words = self.words();
        let is_news = words.warned & absence.bit() == 0;
        words.warned |= absence.bit();
        is_news.then_some(absence)
    }

    #[cold]
    fn look(&self, text: &str, is_data: bool) {
        match kind_of(text, is_data) {
            MessageKind::Worth => self.has_recorded.store(true, Ordering::Relaxed),
            MessageKind::Protocol => {}
            MessageKind::Error => {
                let shown: String = text.chars().take(ERROR_CHARS_MAX).collect();
                self.words().error.get_or_insert_with(|| Escaped(&shown).to_string());
            }
        }
    }

    fn words(&self) -> MutexGuard<'_, ReasonText> {
        // What is inside is whole between any two lines, whoever panicked.
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MessageRecorder for CaptureMonitor {
    fn message(&self, connection: u32, text: &str, at: Instant, is_data: bool) {
        self.recorder.message(connection, text, at, is_data);
        if !self.has_recorded.load(Ordering::Relaxed) {
            self.look(text, is_data);
        }
    }

    fn binary(&self) {
        self.binary.fetch_add(1, Ordering::Relaxed);
        self.recorder.binary();
    }

    fn too_long(&self) {
        self.too_long.fetch_add(1, Ordering::Relaxed);
        self.recorder.too_long();
    }

    fn dials(&self) {
        self.recorder.dials();
    }

    fn up(&self) {
        self.has_connected.store(true, Ordering::Relaxed);
        self.recorder.up();
    }

    fn down(&self, alive: Instant, cause: &str) {
        self.words().ended = Some(cause.to_owned());
        self.recorder.down(alive, cause);
    }

    fn unsubscribed(&self, at: Instant, cause: &str) {
        self.words().error.get_or_insert_with(|| cause.chars().take(ERROR_CHARS_MAX).collect());
        self.recorder.down(at, cause);
    }

    fn back_filled(&self) {
        self.recorder.back_filled();
    }
}

/// What a message is to somebody who wants a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageKind {
    Worth,
    /// Talk of the protocol: an acknowledgement, a ping.
    Protocol,
    /// The server says that something is wrong, and nothing else.
    Error,
}

fn kind_of(text: &str, is_data: bool) -> MessageKind {
    if text.len() > ERROR_BYTES_MAX {
        return MessageKind::Worth;
    }
    // What is no JSON object is recorded as it is.
    let Ok(Value::Object(message)) = serde_json::from_str::<Value>(text) else {
        return MessageKind::Worth;
    };
    let word = |key: &str| message.get(key).and_then(Value::as_str);
    let is_said = |key: &str| message.get(key).is_some_and(is_something);
    let is_named_error = ["type", "event", "status"].iter().any(|key| word(key) == Some("error"));
    let has_failed = message.get("success") == Some(&Value::Bool(false));
    let has_code = message.get("code").is_some_and(|code| code.is_number() && is_something(code))
        && (word("msg").is_some() || word("message").is_some());
    let payload = message.get("payload");
    let has_errors = payload.is_some_and(|payload| {
        payload.get("errors").is_some_and(is_something)
            && !payload.get("data").is_some_and(is_something)
    });
    if is_said("error") || is_named_error || has_failed || has_code || has_errors {
        return MessageKind::Error;
    }
    match word("type") {
        Some("ping" | "pong" | "ka" | "connection_ack" | "complete") if !is_data => {
            MessageKind::Protocol
        }
        _ => MessageKind::Worth,
    }
}

/// Whether a value says anything: neither null nor false nor zero nor empty.
fn is_something(value: &Value) -> bool {
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
    fn an_error_object_is_told_from_data_and_from_talk_of_the_protocol() {
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
            check(data, true, MessageKind::Worth);
        }
        check(r#"{"type":"pong"}"#, false, MessageKind::Protocol);
        check(r#"{"type":"connection_ack"}"#, false, MessageKind::Protocol);
        check(
            r#"{"type":"next","payload":{"data":{"updateTrade":{}}}}"#,
            false,
            MessageKind::Worth,
        );
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(ERROR_BYTES_MAX));
        check(&long, true, MessageKind::Worth);
    }
}
