//! The commands `sniper ledger …`, `halt`, `resume` and `status`.
//!
//! Reads work with or without a running bot. Changes are sent to the running bot. Without one they
//! are applied directly to the ledger, which is locked for that time. All output goes to the given
//! writer; this module does not depend on a terminal.

mod list;
mod orders;

use std::{
    io::{self, IsTerminal as _, Write},
    path::Path,
    process::{ExitCode, Termination},
    time::Duration,
};

use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;

use self::{
    list::OrderList,
    orders::{ExportRow, LedgerTable},
};
use super::{
    AppError, CommandContext,
    progress::{Progress, ProgressCount, ProgressCounter},
    report::{self, escape_controls},
    status::{DataDirStatus, StatusProblems, request_status, stopped_status},
};
use crate::{
    account::prices::PriceStore,
    clock,
    config::Loaded,
    domain::{time::UnixMs, trade::TradeId},
    ledger::{
        Ledger, LedgerError, LedgerLocation,
        control::{
            self, ControlAddress, ControlError, ControlRequest, Instance, LOST_ID, Resolution,
        },
        event::{OPERATOR_BYTES_MAX, Sequence},
        price_status::PriceStatus,
        reader::LedgerReader,
        status::{HaltStatus, LedgerStatus},
    },
    secret::Masking,
    shutdown::parse_duration,
    text::{Escaped, counted, error_chain, truncated},
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper ledger
  sniper ledger list --since 7d
  sniper ledger verify
  sniper ledger export > orders.csv";

/// Examples in the help.
pub(super) const HALT_EXAMPLES: &str = "\
Examples:
  sniper halt              stop ordering
  sniper status            show the halt
  sniper resume            order again";

/// Examples in the help.
pub(super) const RESUME_EXAMPLES: &str = "\
Examples:
  sniper status            show the halts
  sniper resume            clear them
  sniper run --live --resume";

/// `sniper ledger …`
#[derive(Clone, Debug, Default, Args)]
pub struct LedgerArgs {
    /// Without a subcommand, a table of the orders and the limits is printed.
    #[command(subcommand)]
    pub command: Option<LedgerCommand>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum LedgerCommand {
    /// Print one line per order: time, state, price, item, float, entry, reference
    List {
        /// Only orders of the last days or hours, such as 7d or 12h [default: all]
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        since: Option<Duration>,
        /// Print CSV, even with --json
        #[arg(long)]
        csv: bool,
    },
    /// Show everything recorded about one order
    Show {
        /// Listing id or number, as in `sniper ledger export`
        id: String,
    },
    /// Print every approved order as CSV, or as JSON with --json
    Export {
        /// Print CSV (the default), even with --json
        #[arg(long)]
        csv: bool,
    },
    /// Check every record and every total; exits with 0 only if the ledger is consistent
    Verify,
    /// Record the outcome of an unknown or returning order, after checking the market
    Resolve(ResolveArgs),
    /// Start a new budget: `total` counts from 0 again
    NewBudget {
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}

/// Arguments of `sniper ledger resolve`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("verdict").required(true).args(["bought", "not_bought", "returned"])))]
pub struct ResolveArgs {
    /// Listing id, or `lost` for orders that a power loss may have hidden
    pub id: String,
    /// The order was bought
    #[arg(long)]
    pub bought: bool,
    /// The order was not bought; its coins are available again
    #[arg(long)]
    pub not_bought: bool,
    /// The purchase was cancelled, and its coins are back
    #[arg(long)]
    pub returned: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
}

/// Cause of a failed command.
#[derive(Debug, thiserror::Error)]
pub enum LedgerCommandError {
    #[error("cannot use the ledger")]
    Ledger(#[from] LedgerError),
    #[error("cannot reach the running bot")]
    Control(#[from] ControlError),
    /// The bot or the ledger rejected the request; the text is the reason.
    #[error("{0}")]
    Rejected(String),
    #[error(
        "no order with listing or number {0:?} in the ledger; list both with: sniper ledger export"
    )]
    NoSuchListing(String),
    /// The user did not confirm the question.
    #[error("not confirmed, nothing was changed; --yes skips the question")]
    NotConfirmed,
    #[error("cannot print")]
    Print(#[from] io::Error),
}

impl LedgerCommandError {
    /// Names the bot, because one beside it has another result.
    #[must_use]
    pub(super) fn of(&self, bot: &str) -> Self {
        Self::Rejected(format!("{bot}: {}", error_chain(self)))
    }

    /// Adds the error of another bot.
    #[must_use]
    pub(super) fn and(&self, other: &Self) -> Self {
        Self::Rejected(format!("{self}\n{other}"))
    }
}

/// Executes the commands on the ledger of one data directory.
pub struct LedgerCommands<'a> {
    /// `SNIPER_DATA`.
    pub folder: &'a Path,
    /// State directory with the second control socket and the saved copy of a lost ledger.
    pub state: Option<&'a Path>,
    /// Prints one JSON object instead of text.
    pub as_json: bool,
    /// Name of the operator, recorded with every change.
    pub who: &'a str,
    pub now: UnixMs,
    pub out: &'a mut dyn Write,
    /// Returns the ages of the stored prices.
    pub stored_prices: &'a dyn Fn() -> Vec<PriceStatus>,
    /// Asks the user a question; returns `true` if the response is yes.
    pub confirm: &'a mut dyn FnMut(&str) -> bool,
}

impl std::fmt::Debug for LedgerCommands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerCommands").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Runs a command on the ledger of this `SNIPER_DATA` and returns its exit code. The other settings
/// may be invalid, because a running bot must be reachable also while they are being edited.
///
/// # Errors
///
/// Returns an [`AppError`] if the command fails.
pub fn at<T: Termination>(
    context: CommandContext<'_>,
    command: impl FnOnce(&mut LedgerCommands<'_>) -> Result<T, LedgerCommandError>,
) -> Result<ExitCode, AppError> {
    let (data, state) = context.data_directories();
    let (data, state) = (&*data, state.as_deref());
    let loaded = context.load();
    if loaded.is_err() {
        // The command also runs if stderr is closed.
        drop(writeln!(io::stderr().lock(), "The settings are invalid; see: sniper check"));
    }
    if loaded.as_ref().is_ok_and(|loaded| loaded.config.data_dir != data) {
        let note = "The running bot started with another `market` or SNIPER_DATA; its data is in";
        drop(writeln!(io::stderr().lock(), "{note} {data:?}"));
    }
    if let Some(copy) = LedgerReader::copy_of(data, state) {
        let note = "No ledger in SNIPER_DATA; showing the copy that was saved when it was lost";
        // The note is optional: the command also runs if stderr is closed.
        drop(writeln!(io::stderr().lock(), "{note}: {copy:?}"));
    }
    let mut out = Masking::new(io::stdout().lock());
    let stored_prices = || match &loaded {
        Ok(Loaded { config, .. }) => {
            let book = PriceStore::new(data).book(&config.prices);
            PriceStatus::all(&book, &config.whitelist, clock::now())
        }
        Err(_invalid) => Vec::new(),
    };
    let mut commands = LedgerCommands {
        folder: data,
        state,
        as_json: context.output.is_json(),
        who: &operator_name(),
        now: clock::now(),
        out: &mut out,
        stored_prices: &stored_prices,
        confirm: &mut confirm,
    };
    let result = command(&mut commands);
    match result.and_then(|done| Ok(out.flush().map(|()| done)?)) {
        // The reader closed the pipe, as `head` does.
        Err(LedgerCommandError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        result => Ok(result?.report()),
    }
}

/// Asks the user to confirm. Returns `false` if stdin is not a terminal.
fn confirm(question: &str) -> bool {
    let mut answer = String::new();
    let asked = write!(io::stderr().lock(), "{question} [y/N] ");
    let is_answered =
        asked.is_ok() && io::stdin().is_terminal() && io::stdin().read_line(&mut answer).is_ok();
    is_answered && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}

/// Returns the login name from the environment, or "the operator" if there is none, as in cron jobs
/// and containers.
pub fn operator_name() -> String {
    let names = ["USER", "LOGNAME", "USERNAME"];
    let name = names.iter().find_map(|name| std::env::var(name).ok());
    truncated(name.as_deref().unwrap_or("the operator"), OPERATOR_BYTES_MAX).to_owned()
}

impl LedgerCommands<'_> {
    /// Runs `sniper ledger …`.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerCommandError`] if the bot or the ledger is unavailable or rejects the
    /// request.
    pub fn ledger(&mut self, args: &LedgerArgs) -> Result<(), LedgerCommandError> {
        match &args.command {
            None => self.overview(),
            Some(LedgerCommand::List { since, csv }) => self.list(*since, *csv),
            Some(LedgerCommand::Show { id }) => self.show(id),
            Some(LedgerCommand::Export { csv }) => self.export(*csv),
            Some(LedgerCommand::Verify) => self.verify(),
            Some(LedgerCommand::Resolve(args)) => self.resolve(args),
            Some(LedgerCommand::NewBudget { yes }) => {
                let question = self.new_budget_question();
                self.require_confirmation(*yes, &question)?;
                let by = self.who.to_owned();
                let done = "New budget started: `total` counts from 0 again.";
                self.apply(&ControlRequest::NewBudget { by }, done)
            }
        }
    }

    /// Runs `sniper halt`.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerCommandError`] if the bot or the ledger is unavailable or rejects the
    /// request.
    pub fn halt(&mut self) -> Result<(), LedgerCommandError> {
        let by = self.who.to_owned();
        let done = match self.current_halts().first() {
            Some(halt) => format!("Ordering was halted already, {}.", halt.started()),
            None => "Ordering halted.".to_owned(),
        };
        self.apply(&ControlRequest::Halt { by }, &format!("{done} Resume with: sniper resume"))
    }

    /// Runs `sniper resume`.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerCommandError`] if the bot or the ledger is unavailable or rejects the
    /// request.
    pub fn resume(&mut self) -> Result<(), LedgerCommandError> {
        let by = self.who.to_owned();
        let done = if self.current_halts().is_empty() {
            "Nothing to resume: ordering was not halted."
        } else {
            "Ordering resumed."
        };
        self.apply(&ControlRequest::Resume { by }, done)
    }

    /// Returns the halts of the bots and of the ledger. A status that cannot be read counts as one
    /// without halts, because the request itself reports the error.
    fn current_halts(&self) -> Vec<HaltStatus> {
        let mut status = DataDirStatus::read(self.folder, self.state, self.now).unwrap_or_default();
        status.format_times();
        let all = [status.live, status.stopped, status.dry];
        all.into_iter().flatten().flat_map(|status| status.halts).collect()
    }

    /// Runs `sniper status`, and returns the problems that need the user.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerCommandError`] if the bot or the ledger is unavailable or rejects the
    /// request.
    pub fn status(&mut self) -> Result<StatusProblems, LedgerCommandError> {
        let mut status = DataDirStatus::read(self.folder, self.state, self.now)?;
        // A running bot reports the prices that it uses.
        if status.live.is_none() && status.dry.is_none() {
            let stopped = status.stopped.iter_mut();
            stopped.for_each(|stopped| stopped.prices = (self.stored_prices)());
        }
        let value = status.to_json().map_err(io::Error::other)?;
        status.format_times();
        self.print(&value, &status.to_string())?;
        Ok(StatusProblems(status.problems()))
    }

    pub(super) fn control_address(&self, instance: Instance) -> ControlAddress {
        ControlAddress::new(self.folder, self.state, instance)
    }

    fn open_reader(&self) -> Result<LedgerReader, LedgerError> {
        LedgerReader::open_or_copy(self.folder, self.state)
    }

    fn show_status(&mut self, status: &LedgerStatus) -> Result<(), LedgerCommandError> {
        let value = serde_json::to_value(status).map_err(io::Error::other)?;
        self.print(&value, &status.to_string())
    }

    fn overview(&mut self) -> Result<(), LedgerCommandError> {
        let mut reader = self.open_reader()?;
        let offset_s: fn(UnixMs) -> i32 =
            if self.as_json { |_at| 0 } else { |at| clock::local(at).offset_s };
        let overview = LedgerTable::of(&mut reader, self.now, offset_s);
        self.print(&overview.to_json(), &overview.to_string())
    }

    fn list(&mut self, since: Option<Duration>, as_csv: bool) -> Result<(), LedgerCommandError> {
        let reader = self.open_reader()?;
        let list = OrderList::of(&reader, since.map(|since| self.now.minus(since)))?;
        if as_csv {
            self.out.write_all(list.to_csv().as_bytes())?;
            return Ok(());
        }
        self.print(&list.to_json(), &list.to_string())
    }

    fn show(&mut self, id: &str) -> Result<(), LedgerCommandError> {
        let reader = self.open_reader()?;
        let no_such = || LedgerCommandError::NoSuchListing(id.to_owned());
        let (listing, number) = (TradeId::new(id), id.parse().ok().map(Sequence));
        let all = reader.state().intents().iter();
        let has_listing = all.clone().any(|intent| Some(intent.id) == listing);
        let intents = all.filter(|intent| match number {
            Some(number) if !has_listing => intent.sequence == number,
            _ => Some(intent.id) == listing,
        });
        let mut lines = Vec::new();
        for intent in intents {
            lines.push(ExportRow::of(&reader, intent)?);
        }
        let last = lines.last().ok_or_else(no_such)?;
        let corrections = reader.corrections()?;
        let corrections = corrections.iter().filter(|correction| {
            correction.intent.is_some_and(|sequence| lines.iter().any(|line| line.is(sequence)))
        });
        let corrections: Vec<String> = corrections
            .map(|correction| {
                let at = if self.as_json {
                    correction.at.to_string()
                } else {
                    clock::format_local(correction.at)
                };
                format!("{at} {}: {}", Escaped(&correction.operator), correction.verdict)
            })
            .collect();
        let mut value = last.to_json();
        if let Some(object) = value.as_object_mut() {
            object.insert("corrections".to_owned(), json!(corrections));
        }
        let mut text: String = lines.iter().map(ExportRow::to_text).collect();
        for correction in corrections {
            text.push_str(&format!("corrected       {correction}\n"));
        }
        self.print(&value, &text)
    }

    fn export(&mut self, as_csv: bool) -> Result<(), LedgerCommandError> {
        let reader = self.open_reader()?;
        let lines = reader.state().intents().iter();
        let as_rows = as_csv || !self.as_json;
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let counter = ProgressCounter::default();
        let start =
            || Progress::start("Exporting", &ProgressCount::UpTo(count, "orders"), counter.clone());
        // On the same terminal, the rows show it.
        let progress = (!as_rows || !io::stdout().is_terminal()).then(start);
        let lines = lines.inspect(|_intent| counter.add(1));
        if !as_rows {
            let lines = lines.map(|intent| Ok(ExportRow::of(&reader, intent)?.to_json()));
            let lines = lines.collect::<Result<Vec<_>, LedgerError>>()?;
            drop(progress);
            return self.print(&json!({ "intents": lines }), "");
        }
        writeln!(self.out, "{}", orders::header())?;
        for intent in lines {
            writeln!(self.out, "{}", ExportRow::of(&reader, intent)?.to_csv())?;
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), LedgerCommandError> {
        let reader = self.open_reader()?;
        reader.verify()?;
        let count = reader.state().intents().len();
        let orders = counted(count, "order", "orders");
        self.print(
            &json!({ "ok": true, "intents": count }),
            &format!("OK: {orders} verified, every record and every total checked.\n"),
        )
    }

    fn resolve(&mut self, args: &ResolveArgs) -> Result<(), LedgerCommandError> {
        let verdict = if args.bought {
            Resolution::Bought
        } else if args.returned {
            Resolution::Returned
        } else {
            Resolution::NotBought
        };
        let outcome = verdict.as_str();
        let what = if args.id == LOST_ID {
            "the orders that a power loss may have hidden".to_owned()
        } else {
            format!("order {}", Escaped(&args.id))
        };
        let (warning, effect) = match verdict {
            Resolution::NotBought => (
                " Its coins then count as free because you declared it.",
                "\nIts coins count as free again, because you declared it.",
            ),
            Resolution::Bought | Resolution::Returned => ("", ""),
        };
        let question = format!("Record {what} as {outcome}? Check the market first.{warning}");
        self.require_confirmation(args.yes, &question)?;
        let (id, by) = (args.id.clone(), self.who.to_owned());
        let done = format!("Recorded {what} as {outcome}.{effect}");
        self.apply(&ControlRequest::Resolve { id, verdict, by }, &done)
    }

    fn new_budget_question(&self) -> String {
        let again = "`total` starts at 0 again.";
        let Ok(mut reader) = self.open_reader() else {
            return format!("Start a new budget? {again}");
        };
        let snapshot = reader.state_mut().snapshot(self.now);
        let (spent, total) = (snapshot.spent, snapshot.budget.total);
        format!("Start a new budget? {spent} of {total} is used; {again}")
    }

    fn require_confirmation(
        &mut self,
        is_confirmed: bool,
        question: &str,
    ) -> Result<(), LedgerCommandError> {
        if is_confirmed || (self.confirm)(question) {
            Ok(())
        } else {
            Err(LedgerCommandError::NotConfirmed)
        }
    }

    /// Sends the request to the live bot. Without one, applies it to the ledger on disk. A halt or
    /// resume is then also sent to a dry run, which keeps its ledger in memory.
    fn apply(&mut self, request: &ControlRequest, done: &str) -> Result<(), LedgerCommandError> {
        if let Some(status) = request_status(&self.control_address(Instance::Live), request)? {
            return self.print_change(&status, done);
        }
        let resting = self.apply_at_rest(request);
        let is_halt_or_resume =
            matches!(request, ControlRequest::Halt { .. } | ControlRequest::Resume { .. });
        let dry = if is_halt_or_resume {
            request_status(&self.control_address(Instance::Dry), request)
        } else {
            Ok(None)
        };
        match (resting, dry) {
            (Ok(status), dry @ (Ok(None) | Err(_))) if is_halt_or_resume => {
                let scope = "No live bot is running: this applies to the next live run.";
                self.print_change(&status, &format!("{done}\n{scope}"))?;
                dry.map(drop).map_err(|error| error.of("dry run"))
            }
            (Err(ledger), Err(dry)) if is_halt_or_resume => {
                Err(ledger.of("ledger").and(&dry.of("dry run")))
            }
            (_, Err(error)) => Err(error),
            (Ok(status), Ok(None)) => self.print_change(&status, done),
            (Ok(_ledger), Ok(Some(dry))) => {
                let scope = "No live bot is running: this applies to the next live run and to the \
                             dry run.";
                self.print_change(&dry, &format!("{done}\n{scope}"))
            }
            (Err(LedgerCommandError::Ledger(LedgerError::Missing { .. })), Ok(Some(dry))) => {
                let scope = "This applies to the dry run: there is no ledger of a live bot yet.";
                self.print_change(&dry, &format!("{done}\n{scope}"))
            }
            (Err(error), _) => Err(error),
        }
    }

    pub(super) fn print_change(
        &mut self,
        status: &LedgerStatus,
        done: &str,
    ) -> Result<(), LedgerCommandError> {
        if self.as_json {
            return self.show_status(status);
        }
        writeln!(self.out, "{done}")?;
        Ok(())
    }

    fn apply_at_rest(&self, request: &ControlRequest) -> Result<LedgerStatus, LedgerCommandError> {
        let reader = LedgerReader::open(self.folder)?;
        let host = reader.owner().0.unwrap_or_default().to_owned();
        let place = LedgerLocation::new(self.folder, host);
        let budget = reader.state().budget().clone();
        drop(reader);
        let mut ledger = Ledger::open(&place, budget, &[], self.now)?;
        control::apply_request(&mut ledger, request, self.now)
            .1
            .map_err(LedgerCommandError::Rejected)?;
        drop(ledger);
        Ok(stopped_status(&mut LedgerReader::open(self.folder)?, self.now))
    }

    /// Prints the value as JSON, or the text.
    pub(super) fn print(
        &mut self,
        value: &serde_json::Value,
        text: &str,
    ) -> Result<(), LedgerCommandError> {
        if self.as_json {
            writeln!(self.out, "{}", escape_controls(&value.to_string()))?;
        } else {
            self.out.write_all(report::colored(text).as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
