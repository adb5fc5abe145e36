//! `sniper whitelist list`, `pause` and `enable`: the entries with what they have bought, and their
//! pause in a running bot.

use std::{fmt, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};

use super::super::{
    AppError, CommandContext,
    ledger::{self, LedgerCommandError, LedgerCommands},
    report,
    status::request_status,
};
use crate::{
    config::Config,
    domain::{
        money::Amount,
        whitelist_entry::{EntryGroup, WhitelistEntry},
    },
    ledger::{
        LedgerError, LedgerState,
        control::{ControlAddress, ControlRequest, Instance},
        entries::{EntryKey, EntryUsage},
        pauses::{PauseError, PauseFile},
        reader::LedgerReader,
    },
    sniper::pauses,
    text::{Escaped, error_chain},
    whitelist::Whitelist,
};

/// Maximum width of the column with the names.
const NAME_MAX: usize = 40;

/// Line below a list that is not that of the running bot.
const NOT_RELOADED: &str =
    "\nThese are the settings on disk, which the running bot does not use yet: sniper reload\n";
/// Line below the list while a dry run is running, which has no ledger on disk.
const DRY_NOT_COUNTED: &str =
    "\nA dry run is running; what it bought is not counted here: sniper status\n";

/// Entry or group that `whitelist pause` and `enable` change.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct PausedArgs {
    /// Name of the entry, or its item if it has none
    #[arg(value_name = "NAME")]
    pub entry: Option<String>,
    /// Every entry of this group
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
}

impl PausedArgs {
    fn request(&self, by: String, is_paused: bool) -> ControlRequest {
        let entry = self.entry.clone().unwrap_or_default();
        match (self.group.clone(), is_paused) {
            (Some(group), true) => ControlRequest::PauseGroup { group, by },
            (Some(group), false) => ControlRequest::EnableGroup { group, by },
            (None, true) => ControlRequest::PauseEntry { entry, by },
            (None, false) => ControlRequest::EnableEntry { entry, by },
        }
    }

    fn done(&self, is_paused: bool) -> String {
        let what = if self.group.is_some() { "Group" } else { "Entry" };
        if is_paused {
            format!("{what} paused until it is enabled, also after a restart.")
        } else {
            format!("{what} enabled.")
        }
    }
}

/// One entry with its usage.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ListedEntry {
    label: String,
    has_name: bool,
    group: Option<String>,
    max_price: Amount,
    bought: u32,
    max_quantity: u32,
    spent: Amount,
    max_total: Option<Amount>,
    state: &'static str,
}

impl ListedEntry {
    fn new(entry: &WhitelistEntry, used: EntryUsage, state: &'static str) -> Self {
        Self {
            state,
            label: entry.label().to_owned(),
            has_name: entry.name.is_some(),
            group: entry.group_name().map(str::to_owned),
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
            "state": self.state,
            "has_name": self.has_name,
            "group": self.group,
            "max_price": self.max_price.to_string(),
            "bought": self.bought,
            "left": self.left(),
            "spent": self.spent.to_string(),
            "max_total": self.max_total.map(|total| total.to_string()),
        })
    }
}

/// One group with the usage of all its entries, including removed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ListedGroup {
    name: String,
    used: EntryUsage,
    max_quantity: Option<u32>,
    max_total: Option<Amount>,
}

impl ListedGroup {
    fn new(group: &EntryGroup, used: EntryUsage) -> Self {
        let EntryGroup { name, max_quantity, max_total } = group;
        let (max_quantity, max_total) = (*max_quantity, *max_total);
        Self { name: name.to_string(), used, max_quantity, max_total }
    }

    fn left(&self) -> Option<u32> {
        self.max_quantity.map(|max| max.saturating_sub(self.used.quantity))
    }

    fn left_coins(&self) -> Option<Amount> {
        self.max_total.map(|max| max.saturating_sub(self.used.total).max(Amount::ZERO))
    }

    fn to_json(&self) -> Value {
        json!({
            "group": self.name,
            "bought": self.used.quantity,
            "left": self.left(),
            "spent": self.used.total.to_string(),
            "max_total": self.max_total.map(|total| total.to_string()),
            "left_coins": self.left_coins().map(|left| left.to_string()),
        })
    }
}

/// The whitelist of the settings with the usage of the ledger.
struct EntryListing {
    entries: Vec<ListedEntry>,
    groups: Vec<ListedGroup>,
}

impl EntryListing {
    /// Reads the pauses of the dry run if only that is running.
    fn new(config: &Config, is_dry: bool) -> Result<Self, LedgerCommandError> {
        let state = config.state_dir.as_deref();
        let mut reader = match LedgerReader::open_or_copy(&config.data_dir, state) {
            Ok(reader) => Some(reader),
            Err(LedgerError::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let used: std::collections::HashMap<&EntryKey, EntryUsage> =
            reader.iter().flat_map(|reader| reader.state().entries()).collect();
        // Without a ledger there were dry runs only.
        let is_live = !is_dry && reader.is_some();
        let instance = if is_live { Instance::Live } else { Instance::Dry };
        let names = PauseFile::new(&config.data_dir, instance).load().map_err(rejected)?;
        let whitelist = Whitelist::new(config.whitelist.to_vec());
        pauses::pause_all(&whitelist, names);
        let listed = |(index, entry): (usize, &WhitelistEntry)| {
            let used = used.get(&EntryKey::of(entry)).copied().unwrap_or_default();
            ListedEntry::new(entry, used, if whitelist.is_paused(index) { "paused" } else { "on" })
        };
        let entries = whitelist.entries().iter().enumerate().map(listed).collect();
        let mut empty = LedgerState::new(config.budget.clone(), false);
        let state = reader.as_mut().map_or(&mut empty, LedgerReader::state_mut);
        // New entries get slots in memory only.
        state.set_entries(&config.whitelist);
        let groups = state.groups().map(|(group, used)| ListedGroup::new(group, used)).collect();
        Ok(Self { entries, groups })
    }

    fn write_groups(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.groups.is_empty() {
            return Ok(());
        }
        let name = |group: &ListedGroup| Escaped(&group.name).to_string();
        let names: Vec<String> = self.groups.iter().map(name).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
        let (group, bought, left, spent) = ("group", "bought", "left", "spent");
        writeln!(f, "\n{group:<width$} {bought:>7} {left:>10} {spent:>12}")?;
        for (group, name) in self.groups.iter().zip(&names) {
            let EntryUsage { quantity, total } = group.used;
            let left = group.left().map_or_else(|| "any".to_owned(), |left| left.to_string());
            write!(f, "{name:<width$} {quantity:>7} {left:>10} {total:>12}")?;
            match (group.max_total, group.left_coins()) {
                (Some(max), Some(left)) => writeln!(f, " of {max}, {left} left")?,
                _ => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for EntryListing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.entries.iter().map(|entry| Escaped(&entry.label).to_string());
        let labels: Vec<String> =
            labels.map(|label| label.chars().take(NAME_MAX).collect()).collect();
        let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(5);
        writeln!(
            f,
            "{:<width$} {:>10} {:>7} {:>10} {:<26} state",
            "entry", "max price", "bought", "left", "       spent"
        )?;
        for (entry, label) in self.entries.iter().zip(&labels) {
            let ListedEntry { max_price, bought, spent, state, .. } = entry;
            let total = entry.max_total.map(|total| format!(" of {total}")).unwrap_or_default();
            writeln!(
                f,
                "{label:<width$} {max_price:>10} {bought:>7} {:>10} {spent:>12}{total:14} {state}",
                entry.left()
            )?;
        }
        self.write_groups(f)
    }
}

fn rejected(error: PauseError) -> LedgerCommandError {
    LedgerCommandError::Rejected(error_chain(&error))
}

/// Prints the entries with what they have bought and may still buy.
pub(super) fn list(context: CommandContext<'_>, config: &Config) -> Result<ExitCode, AppError> {
    let (folder, state) = context.data_directories();
    let status = |instance| {
        let address = ControlAddress::new(&folder, state.as_deref(), instance);
        request_status(&address, &ControlRequest::Status)
    };
    let (live, dry) = (status(Instance::Live), status(Instance::Dry));
    let listing = EntryListing::new(config, matches!((&live, &dry), (Ok(None), Ok(Some(_)))))?;
    let bots = [&live, &dry];
    let is_changed =
        bots.iter().any(|bot| matches!(bot, Ok(Some(status)) if status.settings_changed));
    // The list does not depend on an answer.
    let failure = bots.iter().find_map(|bot| bot.as_ref().err());
    if context.output.is_json() {
        let entries: Vec<Value> = listing.entries.iter().map(ListedEntry::to_json).collect();
        let groups: Vec<Value> = listing.groups.iter().map(ListedGroup::to_json).collect();
        context.output.json(&json!({
            "entries": entries,
            "groups": groups,
            "settings_changed": (is_changed || failure.is_none()).then_some(is_changed),
            "dry_run": dry.as_ref().ok().map(Option::is_some),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = listing.to_string();
    if is_changed {
        text.push_str(NOT_RELOADED);
    }
    if let Some(error) = failure {
        text.push_str(&format!("\nA running bot may use other settings: {}\n", error_chain(error)));
    }
    if matches!(dry, Ok(Some(_))) {
        text.push_str(DRY_NOT_COUNTED);
    }
    report::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Pauses or enables the entries with this label, or of this group, in each running bot. Without
/// one, in the next run.
pub(super) fn set_paused(
    context: CommandContext<'_>,
    what: &PausedArgs,
    is_paused: bool,
) -> Result<ExitCode, AppError> {
    ledger::at(context, |commands| {
        let request = what.request(commands.who.to_owned(), is_paused);
        let live = request_status(&commands.control_address(Instance::Live), &request);
        let dry = request_status(&commands.control_address(Instance::Dry), &request);
        let done = what.done(is_paused);
        match (live, dry) {
            (Ok(None), Ok(None)) => {}
            (Ok(Some(live)), Ok(_)) => return commands.print_change(&live, &done),
            // As without a bot, a name that only the live one has is no error.
            (Ok(Some(live)), Err(LedgerCommandError::Rejected(why))) => {
                let text = format!("{done}\nThe dry run stays as it was: {why}");
                return commands.print_change(&live, &text);
            }
            (Ok(Some(live)), Err(error)) => {
                commands.print_change(&live, &done)?;
                return Err(error.of("dry run"));
            }
            (Ok(None), Ok(Some(dry))) => {
                let text = format!("{done}\nNo live bot is running: this applies to the dry run.");
                return commands.print_change(&dry, &text);
            }
            (Err(error), Ok(Some(dry))) => {
                let text = format!("{done}\nThis applies to the dry run only.");
                commands.print_change(&dry, &text)?;
                return Err(error.of("live bot"));
            }
            (Err(error), Ok(None)) | (Ok(None), Err(error)) => return Err(error),
            (Err(live), Err(dry)) => return Err(live.of("live bot").and(&dry.of("dry run"))),
        }
        let load = context.load_and_check_names();
        let config = load.map_err(|error| LedgerCommandError::Rejected(error.chain()))?.config;
        commands.apply_to_pauses(&config.whitelist, &request)?;
        let text = format!("{done}\nNo bot is running: this applies to the next run.\n");
        commands.print(&json!({ "running": false, "paused": is_paused }), &text)
    })
}

impl LedgerCommands<'_> {
    /// Changes the stored pauses of the next live run and the next dry run, as a running bot would.
    /// A name that only one of them has is no error.
    fn apply_to_pauses(
        &self,
        entries: &[WhitelistEntry],
        request: &ControlRequest,
    ) -> Result<(), LedgerCommandError> {
        let apply = |instance| {
            let file = PauseFile::new(self.folder, instance);
            let whitelist = Whitelist::new(entries.to_vec());
            let mut absent = pauses::pause_all(&whitelist, file.load().map_err(rejected)?);
            if let Some(Err(unknown)) = pauses::apply_request(&whitelist, &mut absent, request) {
                return Ok(Some(unknown));
            }
            file.store(&pauses::paused_names(&whitelist, &absent)).map_err(rejected)?;
            Ok::<_, LedgerCommandError>(None)
        };
        match (apply(Instance::Live)?, apply(Instance::Dry)?) {
            (Some(unknown), Some(_)) => Err(LedgerCommandError::Rejected(unknown)),
            _ => Ok(()),
        }
    }
}
