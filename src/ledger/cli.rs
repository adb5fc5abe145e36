//! What a person does with a ledger: `sniper ledger …`, `halt`, `resume`, `status`.
//!
//! Reads work with or without a running bot. Whatever changes something goes to the bot if one
//! runs, and else straight to the ledger, which is then locked for that moment. Everything is
//! written to a given writer; nothing here knows about terminals.

mod export;
mod table;

use std::{
    io::{self, Write},
    path::Path,
};

use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;

use super::{
    Ledger, LedgerError, LedgerLocation,
    control::{self, ControlAddress, ControlError, ControlRequest, Instance, LOST, Resolution},
    event::WHO_BYTES_MAX,
    reader::LedgerReader,
    standing::{self, Standing, StandingProblems},
    status::LedgerStatus,
};
use crate::{domain::time::UnixMs, domain::trade::TradeId, text::Escaped};

/// `sniper ledger …`
#[derive(Clone, Debug, Default, Args)]
pub struct LedgerArgs {
    /// What to do; without a word: a table of what was bought, and of every limit.
    #[command(subcommand)]
    pub command: Option<LedgerCommand>,
}

/// What can be done with a ledger.
#[derive(Clone, Debug, Subcommand)]
pub enum LedgerCommand {
    /// Everything about one buy
    Show {
        /// The listing's id
        id: String,
    },
    /// Every buy that was ever approved, as CSV, or as JSON with --json
    Export {
        /// As CSV (the default)
        #[arg(long)]
        csv: bool,
    },
    /// Check every record and every sum; exit code 0 only if all is well
    Verify,
    /// Say what became of a buy that is unknown, after looking at the site
    Resolve(ResolveArgs),
    /// Let `total` count from now
    NewBudget {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// What `resolve` takes.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("verdict").required(true).args(["bought", "not_bought", "returned"])))]
pub struct ResolveArgs {
    /// The listing's id, or `lost` for what power loss may have hidden
    pub id: String,
    /// It was bought
    #[arg(long)]
    pub bought: bool,
    /// It was not bought; its coins are free again
    #[arg(long)]
    pub not_bought: bool,
    /// It was cancelled, and its coins are back
    #[arg(long)]
    pub returned: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Why a person did not get what they asked for.
#[derive(Debug, thiserror::Error)]
pub enum LedgerCommandError {
    /// The ledger cannot be used.
    #[error("cannot use the ledger")]
    Ledger(#[from] LedgerError),
    /// The running bot cannot be asked.
    #[error("cannot ask the running bot")]
    Control(#[from] ControlError),
    /// The bot, or the ledger, said no.
    #[error("{0}")]
    Refused(String),
    /// There is no such buy.
    #[error("the ledger has no buy of a listing {0:?}")]
    NoSuchListing(String),
    /// The person did not say yes.
    #[error("nothing was changed")]
    NotConfirmed,
    /// What should be printed could not be.
    #[error("cannot print")]
    Print(#[from] io::Error),
}

/// A person's desk: where the ledger is, who they are, and how to answer them.
pub struct LedgerCommands<'a> {
    /// `SNIPER_DATA`.
    pub folder: &'a Path,
    /// The state directory, if there is one.
    pub state: Option<&'a Path>,
    /// Whether answers are one JSON object.
    pub as_json: bool,
    /// Who asks.
    pub who: &'a str,
    /// The time.
    pub now: UnixMs,
    /// Where answers go.
    pub out: &'a mut dyn Write,
    /// Asks for a yes.
    pub confirm: &'a mut dyn FnMut(&str) -> bool,
}

impl std::fmt::Debug for LedgerCommands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Who is at the terminal, as the system says.
pub fn person() -> String {
    let names = ["USER", "LOGNAME", "USERNAME"];
    let name = names.iter().find_map(|name| std::env::var(name).ok());
    let name = name.unwrap_or_else(|| "somebody".to_owned());
    name.chars().take(WHO_BYTES_MAX).collect()
}

impl LedgerCommands<'_> {
    /// `sniper ledger …`
    ///
    /// # Errors
    ///
    /// A [`LedgerCommandError`].
    pub fn ledger(&mut self, args: &LedgerArgs) -> Result<(), LedgerCommandError> {
        match &args.command {
            None => self.overview(),
            Some(LedgerCommand::Show { id }) => self.show(id),
            Some(LedgerCommand::Export { csv }) => self.export(*csv),
            Some(LedgerCommand::Verify) => self.verify(),
            Some(LedgerCommand::Resolve(args)) => self.resolve(args),
            Some(LedgerCommand::NewBudget { yes }) => {
                let question = "Count `total` from now, whatever was spent before?";
                self.ask(*yes, question)?;
                let by = self.who.to_owned();
                self.change(&ControlRequest::NewBudget { by }, "`total` counts from now.")
            }
        }
    }

    /// `sniper halt`
    ///
    /// # Errors
    ///
    /// A [`LedgerCommandError`].
    pub fn halt(&mut self) -> Result<(), LedgerCommandError> {
        let by = self.who.to_owned();
        let done = "Buying is halted. `sniper resume` lets it go on.";
        self.change(&ControlRequest::Halt { by }, done)
    }

    /// `sniper resume`
    ///
    /// # Errors
    ///
    /// A [`LedgerCommandError`].
    pub fn resume(&mut self) -> Result<(), LedgerCommandError> {
        let by = self.who.to_owned();
        self.change(&ControlRequest::Resume { by }, "Buying may go on.")
    }

    /// `sniper status`. Returns what needs the user.
    ///
    /// # Errors
    ///
    /// A [`LedgerCommandError`].
    pub fn status(&mut self) -> Result<StandingProblems, LedgerCommandError> {
        let standing = Standing::of(self.folder, self.state, self.now)?;
        let value = standing.to_json().map_err(io::Error::other)?;
        self.say(&value, &standing.to_string())?;
        Ok(StandingProblems(standing.problems()))
    }

    /// Where a running bot listens, if one runs.
    fn bot(&self, instance: Instance) -> ControlAddress {
        ControlAddress::of(self.folder, self.state, instance)
    }

    /// The ledger, to be read.
    fn archive(&self) -> Result<LedgerReader, LedgerError> {
        LedgerReader::open_or_copy(self.folder, self.state)
    }

    fn show_status(&mut self, status: &LedgerStatus) -> Result<(), LedgerCommandError> {
        let value = serde_json::to_value(status).map_err(io::Error::other)?;
        self.say(&value, &status.to_string())
    }

    fn overview(&mut self) -> Result<(), LedgerCommandError> {
        let mut archive = self.archive()?;
        let overview = table::LedgerTable::of(&mut archive, self.now);
        self.say(&overview.to_json(), &overview.to_string())
    }

    fn show(&mut self, id: &str) -> Result<(), LedgerCommandError> {
        let archive = self.archive()?;
        let no_such = || LedgerCommandError::NoSuchListing(id.to_owned());
        let listing = TradeId::new(id).ok_or_else(no_such)?;
        let intents = archive.book().intents().iter().filter(|intent| intent.id == listing);
        let mut lines = Vec::new();
        for intent in intents {
            lines.push(export::ExportRow::of(&archive, intent)?);
        }
        let last = lines.last().ok_or_else(no_such)?;
        let corrections = archive.corrections()?;
        let corrections = corrections.iter().filter(|correction| {
            correction.intent.is_some_and(|sequence| lines.iter().any(|line| line.is(sequence)))
        });
        let corrections: Vec<String> = corrections
            .map(|correction| {
                format!("{} {}: {}", correction.at, Escaped(&correction.who), correction.verdict)
            })
            .collect();
        let mut value = last.to_json();
        if let Some(object) = value.as_object_mut() {
            object.insert("corrections".to_owned(), json!(corrections));
        }
        let mut text: String = lines.iter().map(export::ExportRow::to_text).collect();
        for correction in corrections {
            text.push_str(&format!("corrected       {correction}\n"));
        }
        self.say(&value, &text)
    }

    fn export(&mut self, as_csv: bool) -> Result<(), LedgerCommandError> {
        let archive = self.archive()?;
        let lines = archive.book().intents().iter();
        if self.as_json && !as_csv {
            let lines = lines.map(|intent| Ok(export::ExportRow::of(&archive, intent)?.to_json()));
            let lines = lines.collect::<Result<Vec<_>, LedgerError>>()?;
            return self.say(&json!({ "intents": lines }), "");
        }
        writeln!(self.out, "{}", export::HEADER)?;
        for intent in lines {
            writeln!(self.out, "{}", export::ExportRow::of(&archive, intent)?.to_csv())?;
        }
        Ok(())
    }

    fn verify(&mut self) -> Result<(), LedgerCommandError> {
        let archive = self.archive()?;
        archive.verify()?;
        let count = archive.book().intents().len();
        self.say(
            &json!({ "ok": true, "intents": count }),
            &format!("All is well: {count} intents, every record and every sum checked.\n"),
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
        let words = verdict.as_str();
        let what = if args.id == LOST { "what power loss may have hidden" } else { &args.id };
        let question = format!("Record {} as {words}? Look at the site first.", Escaped(what));
        self.ask(args.yes, &question)?;
        let (id, by) = (args.id.clone(), self.who.to_owned());
        let done = format!("Recorded as {words}.");
        self.change(&ControlRequest::Resolve { id, verdict, by }, &done)
    }

    fn ask(&mut self, is_sure: bool, question: &str) -> Result<(), LedgerCommandError> {
        if is_sure || (self.confirm)(question) {
            Ok(())
        } else {
            Err(LedgerCommandError::NotConfirmed)
        }
    }

    /// Has the live bot do it. Where none runs it is done to the ledger at rest, and a halt or its
    /// end also to a dry run, which keeps its ledger in memory.
    fn change(&mut self, request: &ControlRequest, done: &str) -> Result<(), LedgerCommandError> {
        if let Some(status) = standing::ask(&self.bot(Instance::Live), request)? {
            return self.changed(&status, done);
        }
        let resting = self.change_resting(request);
        let dry = match request {
            ControlRequest::Halt { .. } | ControlRequest::Resume { .. } => {
                standing::ask(&self.bot(Instance::Dry), request)?
            }
            ControlRequest::Status
            | ControlRequest::Resolve { .. }
            | ControlRequest::NewBudget { .. } => None,
        };
        match (resting, dry) {
            (Ok(status), None) => self.changed(&status, done),
            (Ok(_ledger), Some(dry)) => {
                let both = format!("{done} This holds for the ledger and for the dry run.");
                self.changed(&dry, &both)
            }
            (Err(LedgerCommandError::Ledger(LedgerError::Missing { .. })), Some(dry)) => {
                self.changed(&dry, &format!("{done} This holds for the dry run."))
            }
            (Err(error), _) => Err(error),
        }
    }

    fn changed(&mut self, status: &LedgerStatus, done: &str) -> Result<(), LedgerCommandError> {
        if self.as_json {
            return self.show_status(status);
        }
        writeln!(self.out, "{done}")?;
        Ok(())
    }

    fn change_resting(&self, request: &ControlRequest) -> Result<LedgerStatus, LedgerCommandError> {
        let archive = LedgerReader::open(self.folder)?;
        let host = archive.owner().0.unwrap_or_default().to_owned();
        let place = LedgerLocation::new(self.folder, host);
        let budget = archive.book().budget().clone();
        drop(archive);
        let mut ledger = Ledger::open(&place, budget, &[], self.now)?;
        control::perform(&mut ledger, request, self.now).map_err(LedgerCommandError::Refused)?;
        drop(ledger);
        Ok(standing::at_rest(&mut LedgerReader::open(self.folder)?, self.now))
    }

    /// Says it in the form that was asked for.
    fn say(&mut self, value: &serde_json::Value, text: &str) -> Result<(), LedgerCommandError> {
        if self.as_json {
            writeln!(self.out, "{value}")?;
        } else {
            self.out.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
