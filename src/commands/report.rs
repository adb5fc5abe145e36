//! Output of the commands.
//!
//! Without `--json`, the log goes to stdout and the summary follows it. With `--json`, the log goes
//! to stderr, and the last line of stdout is one JSON object.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;
use tracing::warn;

use super::{AppError, check, exit_code, summary::Summary};
use crate::{
    config::Loaded,
    log::{self, ALWAYS_SHOWN, Finished, Log, LogFilter, OutputStream, print_within},
    secret::Masking,
    text::is_safe_to_print,
};

/// Maximum time to write the last output of a command.
pub const PRINT_MAX: Duration = Duration::from_secs(2);

/// Output mode of a command: text or JSON.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    as_json: bool,
}

impl Output {
    pub const fn new(as_json: bool) -> Self {
        Self { as_json }
    }

    pub const fn is_json(self) -> bool {
        self.as_json
    }

    /// Starts the log and logs the warnings about the settings.
    ///
    /// # Errors
    ///
    /// Returns [`AppError::Log`] if the log cannot start or `RUST_LOG` is invalid.
    pub fn log(self, loaded: &Loaded) -> Result<Log, AppError> {
        let log = self.log_filtered(loaded.log_filter.as_deref())?;
        // The warning about `RUST_LOG` has been logged, and passes every filter.
        let warnings =
            loaded.warnings.iter().filter(|warning| !warning.message.starts_with("RUST_LOG "));
        for warning in warnings {
            // Foreign text in it is escaped already.
            warn!("{warning}");
        }
        Ok(log)
    }

    /// Starts the log of a command without settings.
    ///
    /// # Errors
    ///
    /// Returns [`AppError::Log`] if the log cannot start or `filter` (`RUST_LOG`) is invalid.
    pub fn log_filtered(self, filter: Option<&str>) -> Result<Log, AppError> {
        let to = if self.as_json { OutputStream::Stderr } else { OutputStream::Stdout };
        let filter = LogFilter::parse(filter)?;
        let unknown = filter.unknown_words();
        let log = log::start(filter, to)?;
        if let Some(unknown) = unknown {
            let remedy = LogFilter::known_words();
            warn!(target: ALWAYS_SHOWN, "RUST_LOG {unknown}, ignored; {remedy}");
        }
        Ok(log)
    }

    /// Flushes the log and prints the summary.
    ///
    /// # Errors
    ///
    /// Returns [`AppError::Print`] if the summary cannot be printed.
    pub fn summary(self, mut summary: Summary, log: Log) -> Result<ExitCode, AppError> {
        let finished = log.finish();
        summary.log_lines_dropped = finished.lost;
        let code = if summary.is_given_up { exit_code::UNAVAILABLE } else { 0 };
        let json = || summary.to_json();
        self.result(finished, &summary, json, code)
    }

    /// Prints the result of a command after its log has ended, within [`PRINT_MAX`]. If the reader
    /// of the log has closed it, text goes to stderr, and the exit code is [`exit_code::IO`].
    ///
    /// # Errors
    ///
    /// Returns [`AppError::Print`] if the result cannot be printed.
    pub fn result(
        self,
        finished: Finished,
        text: &impl fmt::Display,
        json: impl FnOnce() -> Value,
        code: u8,
    ) -> Result<ExitCode, AppError> {
        let text = if self.as_json {
            format!("{}\n", escape_controls(&json().to_string()))
        } else {
            colored(&text.to_string()).into_owned()
        };
        if finished.is_reader_gone && !self.as_json {
            // The exit code reports the failed output.
            drop(print_within(OutputStream::Stderr, &text, PRINT_MAX));
        } else {
            print_within(OutputStream::Stdout, &text, PRINT_MAX)?;
        }
        Ok(ExitCode::from(if finished.is_reader_gone { exit_code::IO } else { code }))
    }

    /// Prints the result of a command without a log.
    ///
    /// # Errors
    ///
    /// Returns [`AppError::Print`] if it cannot be printed.
    pub fn print(
        self,
        text: &impl fmt::Display,
        json: impl FnOnce() -> Value,
    ) -> Result<(), AppError> {
        if self.as_json { self.json(&json()) } else { print(&text.to_string()) }
    }

    /// Prints one JSON object as a line of stdout.
    ///
    /// # Errors
    ///
    /// Returns [`AppError::Print`] if it cannot be printed.
    pub fn json(self, value: &Value) -> Result<(), AppError> {
        print(&format!("{}\n", escape_controls(&value.to_string())))
    }

    /// Prints the error and returns its exit code.
    pub fn error(self, error: &AppError) -> ExitCode {
        // A failure to print the error cannot be reported.
        let text = match error {
            AppError::Settings(_) => format!("{}\n", error.chain()),
            other => format!("error: {}\n", other.chain()),
        };
        drop(print_within(OutputStream::Stderr, &text, PRINT_MAX));
        if self.as_json {
            let json = match error {
                AppError::Settings(problems) => check::errors_json(problems),
                other => check::failure_json(&other.chain()),
            };
            let text = format!("{}\n", escape_controls(&json.to_string()));
            drop(print_within(OutputStream::Stdout, &text, PRINT_MAX));
        }
        ExitCode::from(error)
    }
}

/// Escapes all characters of a JSON text that could control a terminal. They occur only inside
/// strings.
pub(super) fn escape_controls(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for char in json.chars() {
        if is_safe_to_print(char) {
            safe.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            safe.push_str(&format!("\\u{unit:04x}"));
        }
    }
    safe
}

/// First words of lines that are colored on a terminal, with the color.
const COLORED: [(&str, &str); 7] = [
    ("PROBLEM ", "31"),
    ("halted  ", "31"),
    ("Ordering halted", "31"),
    ("Warnings:", "33"),
    ("paused  ", "33"),
    ("settings        changed", "33"),
    ("The settings are valid.", "32"),
];

/// Colors the lines that need attention, if stdout shows colors.
pub(super) fn colored(text: &str) -> Cow<'_, str> {
    if OutputStream::Stdout.has_colors() { color_lines(text).into() } else { text.into() }
}

fn color_lines(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let found = COLORED.iter().find(|(word, _)| line.starts_with(word));
        match (found, line.trim_end_matches('\n')) {
            (Some((_, color)), content) => format!("\u{1b}[{color}m{content}\u{1b}[0m\n"),
            (None, _) => line.to_owned(),
        }
    });
    lines.collect()
}

/// Prints a text to stdout without a time limit, for commands that are killed by a signal. A closed
/// pipe is not an error.
///
/// # Errors
///
/// Returns [`AppError::Print`] for any other failure.
pub fn print(text: &str) -> Result<(), AppError> {
    let mut out = Masking::new(io::stdout().lock());
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `head` leaves a closed pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_that_need_attention_are_colored_and_keep_their_text() {
        let plain = "mode            live\nPROBLEM         halted\n\nOrdering halted: x";
        let text = color_lines(plain);
        assert_eq!(
            text,
            "mode            live\n\u{1b}[31mPROBLEM         halted\u{1b}[0m\n\n\u{1b}[31mOrdering \
             halted: x\u{1b}[0m\n"
        );
        assert_eq!(color_lines("mode\n"), "mode\n");
    }

    #[test]
    fn escaped_json_contains_no_control_characters_and_the_same_values() {
        let value = json!({"item": "★ a\u{1b}[2J\u{9b}\u{202e}\u{10ffff}\"\\"});
        let text = escape_controls(&value.to_string());
        assert!(text.chars().all(is_safe_to_print), "{text}");
        assert!(text.contains("★ a\\u001b[2J\\u009b\\u202e\\udbff\\udfff"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
