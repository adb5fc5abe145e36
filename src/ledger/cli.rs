//! The commands `sniper ledger …`, `halt`, `resume` and `status`.
//!
//! Reads work with or without a running bot. Changes are sent to the running bot. Without one they
//! are applied directly to the ledger, which is locked for that time. All output goes to the given
//! writer; this module does not depend on a terminal.

use std::{
    fmt,
    io::{self, Write},
    path::Path,
};

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Ledger, LedgerLocation,
    control::{self, ControlAddress, ControlError, ControlRequest, Instance, LOST_ID, Resolution},
    error::LedgerError,
    event::{OPERATOR_BYTES_MAX, Sequence},
    intent::Intent,
    reader::{LedgerReader, OrderDetails},
    standing::{self, Standing, StandingProblems},
    state::OrderTotals,
    status::{HaltStatus, LedgerStatus, LimitTable},
};
use crate::{domain::money::Amount, domain::time::UnixMs, domain::trade::TradeId, text::Escaped};

/// `sniper ledger …`
#[derive(Clone, Debug, Default, Args)]
pub struct LedgerArgs {
    /// Without a subcommand, a table of the orders and the limits is printed.
    #[command(subcommand)]
    pub command: Option<LedgerCommand>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum LedgerCommand {
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
    /// Asks the user a question; returns `true` if the response is yes.
    pub confirm: &'a mut dyn FnMut(&str) -> bool,
}

impl fmt::Debug for LedgerCommands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerCommands").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Returns the login name from the environment, or "the operator" if there is none, as in cron jobs
/// and containers.
pub fn operator_name() -> String {
    let names = ["USER", "LOGNAME", "USERNAME"];
    let name = names.iter().find_map(|name| std::env::var(name).ok());
    let name = name.unwrap_or_else(|| "the operator".to_owned());
    name.chars().take(OPERATOR_BYTES_MAX).collect()
}

impl LedgerCommands<'_> {
    /// `sniper ledger …`
    ///
    /// # Errors
    ///
    /// Fails if the bot or the ledger is unavailable or rejects the request.
    pub fn ledger(&mut self, args: &LedgerArgs) -> Result<(), LedgerCommandError> {
        match &args.command {
            None => self.overview(),
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

    /// `sniper halt`
    ///
    /// # Errors
    ///
    /// Fails if the bot or the ledger is unavailable or rejects the request.
    pub fn halt(&mut self) -> Result<(), LedgerCommandError> {
        let by = self.who.to_owned();
        let done = match self.current_halts().first() {
            Some(halt) => format!("Ordering was halted already, {}.", halt.started()),
            None => "Ordering halted.".to_owned(),
        };
        self.apply(&ControlRequest::Halt { by }, &format!("{done} Resume with: sniper resume"))
    }

    /// `sniper resume`
    ///
    /// # Errors
    ///
    /// Fails if the bot or the ledger is unavailable or rejects the request.
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
        let standing = Standing::of(self.folder, self.state, self.now).unwrap_or_default();
        let all = [standing.live, standing.stopped, standing.dry];
        all.into_iter().flatten().flat_map(|status| status.halts).collect()
    }

    /// `sniper status`. Returns the problems that need the user.
    ///
    /// # Errors
    ///
    /// Fails if the bot or the ledger is unavailable or rejects the request.
    pub fn status(&mut self) -> Result<StandingProblems, LedgerCommandError> {
        let standing = Standing::of(self.folder, self.state, self.now)?;
        let value = standing.to_json().map_err(io::Error::other)?;
        self.print(&value, &standing.to_string())?;
        Ok(StandingProblems(standing.problems()))
    }

    fn control_address(&self, instance: Instance) -> ControlAddress {
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
        let overview = LedgerTable::of(&mut reader, self.now);
        self.print(&overview.to_json(), &overview.to_string())
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
                format!(
                    "{} {}: {}",
                    correction.at,
                    Escaped(&correction.operator),
                    correction.verdict
                )
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
        if self.as_json && !as_csv {
            let lines = lines.map(|intent| Ok(ExportRow::of(&reader, intent)?.to_json()));
            let lines = lines.collect::<Result<Vec<_>, LedgerError>>()?;
            return self.print(&json!({ "intents": lines }), "");
        }
        writeln!(self.out, "{}", HEADER)?;
        for intent in lines {
            writeln!(self.out, "{}", ExportRow::of(&reader, intent)?.to_csv())?;
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), LedgerCommandError> {
        let reader = self.open_reader()?;
        reader.verify()?;
        let count = reader.state().intents().len();
        let orders = if count == 1 { "order" } else { "orders" };
        self.print(
            &json!({ "ok": true, "intents": count }),
            &format!("OK: {count} {orders} verified, every record and every total checked.\n"),
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
        let question = format!("Record {what} as {outcome}? Check the market first.");
        self.require_confirmation(args.yes, &question)?;
        let (id, by) = (args.id.clone(), self.who.to_owned());
        let done = format!("Recorded {what} as {outcome}.");
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

    /// Sends the request to the live bot. Without one, applies it to the ledger at rest, and halts
    /// and resumes also to a dry run, which keeps its ledger in memory.
    fn apply(&mut self, request: &ControlRequest, done: &str) -> Result<(), LedgerCommandError> {
        if let Some(status) =
            standing::request_status(&self.control_address(Instance::Live), request)?
        {
            return self.print_change(&status, done);
        }
        let resting = self.apply_at_rest(request);
        let is_halt_or_resume =
            matches!(request, ControlRequest::Halt { .. } | ControlRequest::Resume { .. });
        let dry = if is_halt_or_resume {
            standing::request_status(&self.control_address(Instance::Dry), request)?
        } else {
            None
        };
        match (resting, dry) {
            (Ok(status), None) if is_halt_or_resume => {
                let scope = "No live bot is running: this applies to the next live run.";
                self.print_change(&status, &format!("{done}\n{scope}"))
            }
            (Ok(status), None) => self.print_change(&status, done),
            (Ok(_ledger), Some(dry)) => {
                let scope = "No live bot is running: this applies to the next live run and to the \
                             dry run.";
                self.print_change(&dry, &format!("{done}\n{scope}"))
            }
            (Err(LedgerCommandError::Ledger(LedgerError::Missing { .. })), Some(dry)) => {
                let scope = "This applies to the dry run: there is no ledger of a live bot yet.";
                self.print_change(&dry, &format!("{done}\n{scope}"))
            }
            (Err(error), _) => Err(error),
        }
    }

    fn print_change(
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
            .map_err(LedgerCommandError::Rejected)?;
        drop(ledger);
        Ok(standing::stopped_status(&mut LedgerReader::open(self.folder)?, self.now))
    }

    /// Prints the value as JSON, or the text.
    fn print(&mut self, value: &Value, text: &str) -> Result<(), LedgerCommandError> {
        if self.as_json {
            writeln!(self.out, "{value}")?;
        } else {
            self.out.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

pub(super) const HEADER: &str = "number,listing,entry,approved,price,state,reserved_at,sent_at,\
answered_at,settled_at,limits,answer,words";

/// An intent with its details.
#[derive(Debug)]
pub(super) struct ExportRow {
    intent: Intent,
    entry: String,
    details: OrderDetails,
}

impl ExportRow {
    pub(super) fn of(reader: &LedgerReader, intent: &Intent) -> Result<Self, LedgerError> {
        let details = reader.details(intent.sequence)?;
        Ok(Self { intent: *intent, entry: reader.label(intent).to_owned(), details })
    }

    pub(super) fn is(&self, sequence: Sequence) -> bool {
        self.intent.sequence == sequence
    }

    pub(super) fn to_json(&self) -> Value {
        let timestamp = |at: Option<UnixMs>| at.map(|at| at.to_string());
        json!({
            "number": self.intent.sequence.0,
            "listing": self.intent.id.as_str(),
            "entry": self.entry,
            "approved": self.intent.approved.to_string(),
            "price": self.intent.price.to_string(),
            "state": self.intent.state.as_str(),
            "reserved_at": self.intent.reserved_at.to_string(),
            "sent_at": timestamp(self.details.sent_at),
            "answered_at": timestamp(self.details.answered_at),
            "settled_at": timestamp(self.details.settled_at),
            "limits": self.intent.limits,
            "answer": self.details.answer,
            "words": self.details.response,
        })
    }

    pub(super) fn to_csv(&self) -> String {
        let timestamp = |at: Option<UnixMs>| at.map(|at| at.to_string()).unwrap_or_default();
        let columns = [
            self.intent.sequence.to_string(),
            self.intent.id.to_string(),
            self.entry.clone(),
            self.intent.approved.to_string(),
            self.intent.price.to_string(),
            self.intent.state.to_string(),
            self.intent.reserved_at.to_string(),
            timestamp(self.details.sent_at),
            timestamp(self.details.answered_at),
            timestamp(self.details.settled_at),
            self.intent.limits.to_string(),
            self.details.answer.clone().unwrap_or_default(),
            self.details.response.clone().unwrap_or_default(),
        ];
        columns.map(|column| cell(&column)).join(",")
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            text.push_str(&format!("{name:<15} {}\n", Escaped(value)));
        };
        line("listing", self.intent.id.as_str());
        line("state", self.intent.state.as_str());
        line("entry", &self.entry);
        line("approved price", &self.intent.approved.to_string());
        line("price", &self.intent.price.to_string());
        line("approved at", &self.intent.reserved_at.to_string());
        let times = [
            ("sent at", self.details.sent_at),
            ("response at", self.details.answered_at),
            ("settled at", self.details.settled_at),
        ];
        for (name, at) in times {
            if let Some(at) = at {
                line(name, &at.to_string());
            }
        }
        for (name, value) in
            [("response", &self.details.answer), ("market message", &self.details.response)]
        {
            if let Some(value) = value {
                line(name, value);
            }
        }
        text
    }
}

/// Quotes a CSV cell. Neutralizes text that a spreadsheet would evaluate as a formula, and
/// replaces characters that a terminal would interpret.
fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text: String = text
        .chars()
        .map(|char| if crate::text::is_safe_to_print(char) { char } else { '\u{fffd}' })
        .collect();
    let text = if is_formula { format!("'{text}") } else { text };
    if text.contains([',', '"']) || is_formula {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

const DAY_MS: i64 = 86_400_000;

fn totals_to_json(totals: &OrderTotals) -> Value {
    json!({
        "bought": totals.bought,
        "spent": totals.spent.to_string(),
        "not_bought": totals.rejected.saturating_add(totals.not_bought),
        "returning": totals.returning,
        "returned": totals.returned,
        "unknown": totals.unknown,
        "unknown_coins": totals.unknown_coins.to_string(),
        "in_flight": totals.in_flight,
    })
}

#[derive(Clone, Debug)]
pub(super) struct LedgerTable {
    today: OrderTotals,
    week: OrderTotals,
    all_time: OrderTotals,
    status: LedgerStatus,
    /// Label, quantity and spent coins of each whitelist entry with orders that count.
    entries: Vec<(String, u32, Amount)>,
}

impl LedgerTable {
    pub(super) fn of(reader: &mut LedgerReader, now: UnixMs) -> Self {
        let day = now.0.div_euclid(DAY_MS);
        // The first of January 1970 was a Thursday.
        let monday = day.saturating_sub(day.saturating_add(3).rem_euclid(7));
        let begin = |day: i64| UnixMs(day.saturating_mul(DAY_MS));
        let state = reader.state();
        let mut entries: Vec<_> = state
            .entries()
            .filter(|(_key, used)| used.quantity > 0)
            .map(|(key, used)| (key.label().to_owned(), used.quantity, used.total))
            .collect();
        entries.sort();
        let since = |begin: UnixMs| {
            let orders = state.intents().iter();
            OrderTotals::of(orders.filter(|order| begin <= order.reserved_at))
        };
        let (today, week) = (since(begin(day)), since(begin(monday)));
        let all_time = since(UnixMs(i64::MIN));
        let status = LedgerStatus::from_snapshot(&reader.state_mut().snapshot(now), "", None, now);
        Self { today, week, all_time, status, entries }
    }

    pub(super) fn to_json(&self) -> Value {
        let entries = self.entries.iter().map(|(entry, quantity, total)| {
            json!({ "entry": entry, "quantity": quantity, "total": total.to_string() })
        });
        json!({
            "today": totals_to_json(&self.today),
            "week": totals_to_json(&self.week),
            "everything": totals_to_json(&self.all_time),
            "limits": self.status.limits,
            "halts": self.status.halts,
            "lost_coins": self.status.lost_coins,
            "lost_buys": self.status.lost_buys,
            "entries": entries.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for LedgerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>14} {:>14} {:>14}", "(UTC)", "today", "this week", "all time")?;
        let columns = [self.today, self.week, self.all_time];
        let mut row = |name: &str, value: fn(&OrderTotals) -> String| {
            let [today, week, all_time] = columns.each_ref().map(value);
            writeln!(f, "{name:<20} {today:>14} {week:>14} {all_time:>14}")
        };
        row("bought", |totals| totals.bought.to_string())?;
        row("spent", |totals| totals.spent.to_string())?;
        row("  returning", |totals| totals.returning.to_string())?;
        row("not bought", |totals| totals.rejected.saturating_add(totals.not_bought).to_string())?;
        row("returned", |totals| totals.returned.to_string())?;
        row("unknown", |totals| totals.unknown.to_string())?;
        row("  counted as spent", |totals| totals.unknown_coins.to_string())?;
        row("in flight", |totals| totals.in_flight.to_string())?;
        write!(f, "\n{}", LimitTable(&self.status.limits))?;
        if self.status.lost_buys > 0 {
            let (count, coins) = (self.status.lost_buys, &self.status.lost_coins);
            writeln!(
                f,
                "\nA power loss may have hidden up to {count} orders for {coins}: they count as \
                 spent. If the market shows none, run `sniper ledger resolve lost --not-bought`."
            )?;
        }
        if !self.entries.is_empty() {
            writeln!(f, "\n{:<42} {:>7} {:>14}", "whitelist entry", "bought", "spent")?;
        }
        for (entry, quantity, total) in &self.entries {
            let entry: String = Escaped(entry).to_string().chars().take(42).collect();
            writeln!(f, "{entry:<42} {quantity:>7} {total:>14}")?;
        }
        for halt in &self.status.halts {
            let HaltStatus { reason, remedy, .. } = halt;
            let started = halt.started();
            writeln!(f, "\nOrdering halted {started}: {reason}. What to do: {remedy}.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
