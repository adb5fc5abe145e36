//! `sniper status`: state of everything that uses one `SNIPER_DATA`: a live bot, a dry run next to
//! it, and the stored ledger while no live bot runs.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::{ExitCode, Termination},
    thread,
    time::Duration,
};

use clap::Args;
use serde_json::{Value, json};

use super::{
    AppError, CommandContext,
    ledger::{self, LedgerCommandError},
    report,
};
use crate::{
    clock,
    domain::time::UnixMs,
    ledger::{
        LedgerError,
        control::{self, ControlAddress, ControlError, ControlReply, ControlRequest, Instance},
        reader::LedgerReader,
        status::{LedgerStatus, NOT_RUNNING},
    },
    log::OutputStream,
    shutdown::parse_duration,
    text::Escaped,
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper status
  sniper status --json
  sniper status --watch
  sniper status --watch 10s

Exits with 1 if something needs you.";

/// Interval of `--watch` without a value.
const WATCH_EVERY: &str = "2s";

/// Minimum interval of `--watch`.
const WATCH_EVERY_MIN: Duration = Duration::from_millis(500);

/// Moves the cursor of a terminal to the first line and clears the rest.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

/// Arguments of `status`.
#[derive(Clone, Debug, Default, Args)]
pub struct StatusArgs {
    /// Print the status again and again, every two seconds or at another interval, until Ctrl-C
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = WATCH_EVERY, value_parser = parse_duration)]
    pub watch: Option<Duration>,
}

/// Runs `sniper status`.
///
/// # Errors
///
/// Returns an [`AppError`] if a bot or the ledger cannot be queried, or the output fails.
pub fn run(context: CommandContext<'_>, args: &StatusArgs) -> Result<ExitCode, AppError> {
    let show = || ledger::at(context, |commands| commands.status());
    let Some(interval) = args.watch else { return show() };
    let clears = io::stdout().is_terminal() && !context.output.is_json();
    while !OutputStream::Stdout.is_reader_gone() {
        if clears {
            report::print(CLEAR)?;
        }
        match show() {
            // A bot that does not answer may do so later.
            Err(
                error @ AppError::LedgerCommand(
                    LedgerCommandError::Control(_)
                    | LedgerCommandError::Ledger(_)
                    | LedgerCommandError::Rejected(_),
                ),
            ) => drop(context.output.error(&error)),
            shown => drop(shown?),
        }
        thread::sleep(interval.max(WATCH_EVERY_MIN));
    }
    Ok(ExitCode::SUCCESS)
}

/// Status of everything that uses one `SNIPER_DATA`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataDirStatus {
    /// Status of the live bot, if it is running.
    pub live: Option<LedgerStatus>,
    /// Status of the dry run, if it is running.
    pub dry: Option<LedgerStatus>,
    /// Status of the stored ledger, if no live bot is running.
    pub stopped: Option<LedgerStatus>,
    /// `SNIPER_DATA`.
    folder: PathBuf,
}

impl DataDirStatus {
    /// Queries the running bots, and reads the stored ledger if no live bot runs.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerCommandError`] if a bot or the ledger cannot be queried.
    pub fn read(
        folder: &Path,
        state: Option<&Path>,
        now: UnixMs,
    ) -> Result<Self, LedgerCommandError> {
        let bot = |instance| ControlAddress::new(folder, state, instance);
        let live = request_status(&bot(Instance::Live), &ControlRequest::Status)?;
        let stopped = match live {
            Some(_) => None,
            None => match LedgerReader::open_or_copy(folder, state) {
                Ok(mut reader) => Some(stopped_status(&mut reader, now)),
                Err(LedgerError::Missing { .. }) => None,
                Err(error) => return Err(error.into()),
            },
        };
        let dry = match request_status(&bot(Instance::Dry), &ControlRequest::Status) {
            Ok(dry) => dry,
            // The status of the ledger is more important than the dry run's.
            Err(_unanswered) if live.is_some() || stopped.is_some() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { live, dry, stopped, folder: folder.to_owned() })
    }

    /// Returns the problems that require the user. `sniper status` and `sniper doctor` exit with 1
    /// if there are any.
    pub fn problems(&self) -> Vec<String> {
        let all = [&self.live, &self.dry, &self.stopped];
        all.into_iter().flatten().flat_map(LedgerStatus::problems).collect()
    }

    /// Shows times in the time zone of this machine.
    pub(super) fn format_times(&mut self) {
        let all = [&mut self.live, &mut self.dry, &mut self.stopped];
        all.into_iter().flatten().for_each(|status| status.format_times(clock::format_local));
    }

    /// Returns the status to show first, and the second one with its JSON key.
    fn parts(&self) -> (Option<&LedgerStatus>, Option<(&'static str, &LedgerStatus)>) {
        let Self { live, dry, stopped, .. } = self;
        match (live, dry, stopped) {
            (Some(live), dry, _) => (Some(live), dry.as_ref().map(|dry| ("dry", dry))),
            (None, Some(dry), stopped) => {
                (Some(dry), stopped.as_ref().map(|stopped| ("ledger", stopped)))
            }
            (None, None, stopped) => (stopped.as_ref(), None),
        }
    }

    /// Converts the status into one JSON object.
    ///
    /// # Errors
    ///
    /// Returns a [`serde_json::Error`], which plain values do not cause.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        let (first, second) = self.parts();
        let Some(first) = first else {
            return Ok(json!({ "mode": NOT_RUNNING, "ledger": null }));
        };
        let mut value = serde_json::to_value(first)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("problems".to_owned(), json!(self.problems()));
            if let Some((key, second)) = second {
                object.insert(key.to_owned(), serde_json::to_value(second)?);
            }
        }
        Ok(value)
    }
}

impl fmt::Display for DataDirStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.parts();
        let Some(first) = first else {
            return writeln!(
                f,
                "No bot is running with this SNIPER_DATA, {}, and there is no ledger yet. Start one with: \
                 sniper run",
                Escaped(&self.folder.display().to_string())
            );
        };
        for problem in self.problems() {
            writeln!(f, "PROBLEM         {problem}")?;
        }
        write!(f, "{first}")?;
        match second {
            Some(("dry", dry)) => write!(f, "\nDry run:\n\n{dry}"),
            Some((_, stopped)) => write!(f, "\nLedger of the stopped live bot:\n\n{stopped}"),
            None => Ok(()),
        }
    }
}

/// Problems that require the user. As an exit code: 1 if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is the exit code"]
pub struct StatusProblems(pub Vec<String>);

impl Termination for StatusProblems {
    fn report(self) -> ExitCode {
        if self.0.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Sends a request to one bot. Returns `None` if it is not running.
///
/// # Errors
///
/// Returns a [`LedgerCommandError`] if the bot does not carry out the request.
pub(super) fn request_status(
    address: &ControlAddress,
    request: &ControlRequest,
) -> Result<Option<LedgerStatus>, LedgerCommandError> {
    match control::send_request(address, request) {
        Ok(ControlReply::Done(status)) => Ok(Some(*status)),
        Ok(ControlReply::Reloaded(_)) => Err(ControlError::InvalidReply.into()),
        Ok(ControlReply::Rejected(reason)) => Err(LedgerCommandError::Rejected(reason)),
        Err(ControlError::NotRunning) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the status of the stored ledger while no live bot runs.
pub(super) fn stopped_status(reader: &mut LedgerReader, now: UnixMs) -> LedgerStatus {
    let snapshot = reader.state_mut().snapshot(now);
    let mut status = LedgerStatus::from_snapshot(&snapshot, NOT_RUNNING, None, now);
    for (shown, halt) in status.halts.iter_mut().zip(&snapshot.halts) {
        let order = halt.reason.listing().and_then(|id| reader.state().intent(&id));
        // Without its item, the reason has the id.
        let item = order.and_then(|order| reader.item(order.sequence).ok().flatten());
        shown.reason = halt.with_item(item.as_ref().map(|item| item.name.as_str()));
    }
    status.last_run = Some(reader.last_run(now));
    status
}
