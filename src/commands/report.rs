//! What is printed, and where.
//!
//! Without `--json` the log goes to stdout and the summary follows it. With `--json` the log goes
//! to stderr, and stdout carries one JSON object as its last line.

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use serde_json::Value;
use tracing::{info, warn};

use super::AppError;
use crate::{
    cli::SharedArgs,
    config::{Config, Generation, Loaded, Mode, Sources, check, load::process_environment},
    log::{self, ALWAYS_SHOWN, Finished, Log, LogFilter, OutputStream, print_within},
    secret::Masking,
    summary::Summary,
    text::is_harmless,
};

/// The exit code of a feed that was given up (`EX_UNAVAILABLE` of `sysexits.h`).
pub const EXIT_GIVEN_UP: u8 = 69;

/// The exit code of what could not be printed (`EX_IOERR`).
pub const EXIT_PRINT: u8 = 74;

/// How long the last thing that a command prints may take to be taken.
pub const PRINT_MAX: Duration = Duration::from_secs(2);

/// Where a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    as_json: bool,
}

impl Output {
    /// As `--json` says.
    pub const fn new(as_json: bool) -> Self {
        Self { as_json }
    }

    /// Whether the result is wanted as JSON.
    pub const fn is_json(self) -> bool {
        self.as_json
    }

    /// Sets the log up, and logs what is odd about the settings.
    ///
    /// # Errors
    ///
    /// [`AppError::Log`] if it cannot be, or `RUST_LOG` is no filter.
    pub fn log(self, loaded: &Loaded) -> Result<Log, AppError> {
        let log = self.log_filtered(loaded.log_filter.as_deref())?;
        // That of the log's filter has been said, and passes the filter.
        let warnings =
            loaded.warnings.iter().filter(|warning| !warning.message.starts_with("RUST_LOG "));
        for warning in warnings {
            // Its foreign parts are escaped already.
            warn!("{warning}");
        }
        Ok(log)
    }

    /// Sets the log up for a command that needs no settings.
    ///
    /// # Errors
    ///
    /// [`AppError::Log`] if it cannot be, or `filter` (`RUST_LOG`) is none.
    pub fn log_filtered(self, filter: Option<&str>) -> Result<Log, AppError> {
        let to = if self.as_json { OutputStream::Stderr } else { OutputStream::Stdout };
        let filter = LogFilter::parse(filter)?;
        let unknown = filter.unknown_words();
        let log = log::start(filter, to)?;
        if let Some(unknown) = unknown {
            let remedy = LogFilter::known_words();
            warn!(target: ALWAYS_SHOWN, "RUST_LOG {unknown}; it selects nothing: {remedy}");
        }
        Ok(log)
    }

    /// Writes the log out, and then the summary.
    ///
    /// # Errors
    ///
    /// [`AppError::Print`] if it cannot be printed.
    pub fn summary(self, mut summary: Summary, log: Log) -> Result<ExitCode, AppError> {
        let finished = log.finish();
        summary.log_lines_dropped = finished.lost;
        let code = if summary.is_given_up { EXIT_GIVEN_UP } else { 0 };
        let json = || summary.to_json();
        self.result(finished, &summary, json, code)
    }

    /// Prints the last thing of a command whose log has ended, within [`PRINT_MAX`]. Where the
    /// reader of the log has gone, a text goes to standard error, and the exit code is
    /// [`EXIT_PRINT`].
    ///
    /// # Errors
    ///
    /// [`AppError::Print`] if it cannot be printed.
    pub fn result(
        self,
        finished: Finished,
        text: &impl fmt::Display,
        json: impl FnOnce() -> Value,
        code: u8,
    ) -> Result<ExitCode, AppError> {
        let text = if self.as_json {
            format!("{}\n", harmless(&json().to_string()))
        } else {
            text.to_string()
        };
        if finished.is_reader_gone && !self.as_json {
            // The exit code says that something could not be printed.
            drop(print_within(OutputStream::Stderr, &text, PRINT_MAX));
        } else {
            print_within(OutputStream::Stdout, &text, PRINT_MAX)?;
        }
        Ok(ExitCode::from(if finished.is_reader_gone { EXIT_PRINT } else { code }))
    }

    /// Prints one JSON object as a line of stdout.
    ///
    /// # Errors
    ///
    /// [`AppError::Print`] if it cannot be printed.
    pub fn json(self, value: &Value) -> Result<(), AppError> {
        print(&format!("{}\n", harmless(&value.to_string())))
    }

    /// Says what went wrong, and with which exit code that ends.
    pub fn error(self, error: &AppError) -> ExitCode {
        // There is nowhere left to say that this could not be said.
        let text = format!("{}\n", error.chain());
        drop(print_within(OutputStream::Stderr, &text, PRINT_MAX));
        if self.as_json {
            let json = match error {
                AppError::Settings(problems) => check::wrong_json(problems),
                other => check::failed_json(&other.chain()),
            };
            let text = format!("{}\n", harmless(&json.to_string()));
            drop(print_within(OutputStream::Stdout, &text, PRINT_MAX));
        }
        ExitCode::from(error)
    }
}

/// The same JSON, with every character that could do something to a terminal written as an escape.
/// Outside its strings JSON has none of them.
fn harmless(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for char in json.chars() {
        if is_harmless(char) {
            safe.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            safe.push_str(&format!("\\u{unit:04x}"));
        }
    }
    safe
}

/// Prints a text to stdout, and waits for as long as it is read: for commands that a signal still
/// kills. A reader that went away is no error of ours.
///
/// # Errors
///
/// [`AppError::Print`] for any other failure.
pub fn print(text: &str) -> Result<(), AppError> {
    let mut out = Masking::new(io::stdout().lock());
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

/// Reads every setting of this process.
///
/// # Errors
///
/// [`AppError::Settings`] with every mistake at once.
pub fn load(shared: &SharedArgs, live: bool) -> Result<Loaded, AppError> {
    let loaded = with_sources(shared, live, Config::load);
    loaded.map_err(|problems| AppError::Settings(Box::new(problems)))
}

/// `sniper check`.
///
/// # Errors
///
/// [`AppError::Print`] if what came of it cannot be printed.
pub fn check(shared: &SharedArgs, live: bool, output: Output) -> Result<ExitCode, AppError> {
    let mut out = Masking::new(io::stdout().lock());
    let mut err = Masking::new(io::stderr().lock());
    let code = with_sources(shared, live, |sources| {
        check::run(sources, output.is_json(), &mut out, &mut err)
    })?;
    out.flush().and_then(|()| err.flush())?;
    Ok(ExitCode::from(code))
}

fn with_sources<T>(shared: &SharedArgs, live: bool, read: impl FnOnce(&Sources<'_>) -> T) -> T {
    read(&Sources {
        lookup: &process_environment,
        directory: Path::new("."),
        config_file: shared.config.as_deref(),
        live,
    })
}

/// The lines at the start of a session: mode, feed, whitelist, limits.
pub fn announce(config: &Config) {
    let generation = match config.feed.generation {
        Generation::A => "A",
        Generation::B => "B",
    };
    let mode = match config.mode {
        Mode::Dry => "DRY RUN: nothing is bought",
        Mode::Live if config.endpoints.http.is_loopback() => {
            "LIVE on a market on this machine: buys are sent, with play money"
        }
        Mode::Live => "LIVE: buys are sent and cost real money",
    };
    info!("Mode: {mode}");
    info!("Feed: {} (generation {generation})", config.endpoints.ws);
    let budget = &config.budget;
    match config.whitelist.entries().len() {
        0 => {
            info!("Whitelist: empty, so every listing is shown and none is wanted");
            info!(
                "To begin: copy sniper.example.toml to sniper.toml, say what you want, run `sniper check`"
            );
        }
        count => {
            info!("Whitelist: {count} entries");
            info!(
                "Limits: {} a buy, {} in all, at least {} left in the account, {} buys a minute",
                budget.max_price, budget.total, budget.min_balance, budget.max_buys_per_minute
            );
        }
    }
    if config.credential.is_none() {
        info!("No credential: the balance and account are not visible, and the site may show less");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_made_harmless_and_means_the_same() {
        let value = json!({"item": "★ a\u{1b}[2J\u{9b}\u{202e}\u{10ffff}\"\\"});
        let text = harmless(&value.to_string());
        assert!(text.chars().all(is_harmless), "{text}");
        assert!(text.contains("★ a\\u001b[2J\\u009b\\u202e\\udbff\\udfff"), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
