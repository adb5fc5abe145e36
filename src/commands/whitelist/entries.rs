//! `sniper whitelist list`, `pause` and `enable`: the entries with what they have bought, and their
//! pause in a running bot.

use std::{fmt, process::ExitCode};

use serde_json::{Value, json};

use super::super::{
    AppError, CommandContext,
    ledger::{self, LedgerCommandError, LedgerCommands},
    report,
    status::request_status,
};
use crate::{
    config::Config,
    domain::{money::Amount, whitelist_entry::WhitelistEntry},
    ledger::{
        LedgerError,
        control::{ControlError, ControlRequest, Instance},
        entries::{EntryKey, EntryUsage},
        reader::LedgerReader,
    },
    text::Escaped,
};

/// Maximum width of the column with the names.
const NAME_MAX: usize = 40;

/// One entry with its usage.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ListedEntry {
    label: String,
    has_name: bool,
    max_price: Amount,
    bought: u32,
    max_quantity: u32,
    spent: Amount,
    max_total: Option<Amount>,
}

impl ListedEntry {
    fn new(entry: &WhitelistEntry, used: EntryUsage) -> Self {
        Self {
            label: entry.label().to_owned(),
            has_name: entry.name.is_some(),
            max_price: entry.max_price,
            bought: used.quantity,
            max_quantity: entry.max_quantity,
            spent: used.total,
            max_total: entry.max_total,
        }
    }

    const fn left(&self) -> u32 {
        self.max_quantity.saturating_sub(self.bought)
    }

    fn to_json(&self) -> Value {
        json!({
            "entry": self.label,
            "has_name": self.has_name,
            "max_price": self.max_price.to_string(),
            "bought": self.bought,
            "left": self.left(),
            "spent": self.spent.to_string(),
            "max_total": self.max_total.map(|total| total.to_string()),
        })
    }
}

/// The whitelist of the settings with the usage of the ledger.
struct EntryListing(Vec<ListedEntry>);

impl EntryListing {
    fn new(config: &Config) -> Result<Self, LedgerCommandError> {
        let state = config.state_dir.as_deref();
        let reader = match LedgerReader::open_or_copy(&config.data_dir, state) {
            Ok(reader) => Some(reader),
            Err(LedgerError::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let used: std::collections::HashMap<&EntryKey, EntryUsage> =
            reader.iter().flat_map(|reader| reader.state().entries()).collect();
        let listed = |entry: &WhitelistEntry| {
            let used = used.get(&EntryKey::of(entry)).copied().unwrap_or_default();
            ListedEntry::new(entry, used)
        };
        Ok(Self(config.whitelist.iter().map(listed).collect()))
    }
}

impl fmt::Display for EntryListing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.0.iter().map(|entry| Escaped(&entry.label).to_string());
        let labels: Vec<String> =
            labels.map(|label| label.chars().take(NAME_MAX).collect()).collect();
        let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(5);
        writeln!(
            f,
            "{:<width$} {:>10} {:>7} {:>10} {:>12}",
            "entry", "max price", "bought", "left", "spent"
        )?;
        for (entry, label) in self.0.iter().zip(&labels) {
            let ListedEntry { max_price, bought, spent, .. } = entry;
            write!(
                f,
                "{label:<width$} {max_price:>10} {bought:>7} {:>10} {spent:>12}",
                entry.left()
            )?;
            match entry.max_total {
                Some(total) => writeln!(f, " of {total}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// Prints the entries with what they have bought and may still buy.
pub(super) fn list(context: CommandContext<'_>, config: &Config) -> Result<ExitCode, AppError> {
    let listing = EntryListing::new(config)?;
    if context.output.is_json() {
        let entries: Vec<Value> = listing.0.iter().map(ListedEntry::to_json).collect();
        context.output.json(&json!({ "entries": entries }))?;
    } else {
        report::print(&listing.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Pauses or enables the entries with this label in each running bot.
pub(super) fn set_paused(
    context: CommandContext<'_>,
    entry: &str,
    is_paused: bool,
) -> Result<ExitCode, AppError> {
    ledger::at(context, |commands| commands.set_entry_paused(entry, is_paused))
}

impl LedgerCommands<'_> {
    fn set_entry_paused(&mut self, entry: &str, is_paused: bool) -> Result<(), LedgerCommandError> {
        let (entry, by) = (entry.to_owned(), self.who.to_owned());
        let request = match is_paused {
            true => ControlRequest::PauseEntry { entry, by },
            false => ControlRequest::EnableEntry { entry, by },
        };
        let mut last = None;
        for instance in [Instance::Live, Instance::Dry] {
            last = request_status(&self.control_address(instance), &request)?.or(last);
        }
        let status = last.ok_or(ControlError::NotRunning)?;
        let done = match is_paused {
            true => "Entry paused until it is enabled or the bot is restarted.",
            false => "Entry enabled.",
        };
        self.print_change(&status, done)
    }
}
