//! `sniper whitelist`: imports entries from a file of another tool, and exports the whitelist.
//!
//! - [`edit`]: `sniper whitelist add` and `remove`.
//! - [`entries`]: `sniper whitelist list`, `pause` and `enable`.
//! - [`suggest`]: `sniper whitelist suggest`.

pub mod edit;
pub mod entries;
mod suggest;

use std::{
    error::Error,
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json, value::RawValue};

use self::{edit::AddArgs, entries::PausedArgs, suggest::SuggestArgs};
use super::{AppError, CommandContext, capture::MarketSource, prices, report};
use crate::{
    config::{
        Config, ConfigErrors, Loaded, Problem,
        load::{WhitelistText, parse_entry},
    },
    domain::{
        item_filter::{ItemCategory, NamePattern},
        item_name::Wear,
        money::Amount,
        whitelist_entry::{ItemPattern, WhitelistEntry},
    },
    prices::known_names::KnownNames,
    text::{Escaped, counted},
    whitelist::import::{self, EntryObject, ImportPlan, json_number, json_text},
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper whitelist import items.csv
  sniper whitelist import items.csv --write whitelist.json
  sniper whitelist export
  sniper whitelist add \"AK-47 | Redline\" --wear FT --max-price 12.50
  sniper whitelist remove ak-47-redline
  sniper whitelist list
  sniper whitelist pause redline
  sniper whitelist pause --group knives
  sniper whitelist suggest --percent 85 --budget 500 --write items.csv";

/// Maximum number of names to show for each kind of change.
const NAMES_MAX: usize = 20;

/// Title of the rows about the listings of an entry of the settings file.
const IN_SETTINGS: &str = "also in sniper.toml, whose entry is tried first: the row applies to what it \
                           does not accept; remove the entry there to use the row alone";

/// Maximum size of an imported file, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Arguments of `whitelist`.
#[derive(Clone, Debug, Args)]
pub struct WhitelistArgs {
    #[command(subcommand)]
    pub command: WhitelistCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub enum WhitelistCommand {
    /// Read entries from a CSV or JSON file; without --write, only show what would change
    Import {
        /// File with the columns name, price or percent, wear, float and quantity
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// JSON whitelist that receives the entries, which `whitelist_file` can name
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
        /// `max_price` of rows without a price
        #[arg(long, value_name = "AMOUNT", value_parser = import::parse_max_price)]
        max_price: Option<Box<RawValue>>,
    },
    /// Print the whitelist as JSON
    Export,
    /// Add an entry to sniper.toml, whose comments stay
    Add(Box<AddArgs>),
    /// Remove an entry from sniper.toml
    Remove {
        /// Name of the entry, or its item if it has none
        #[arg(value_name = "NAME")]
        entry: String,
    },
    /// Show each entry and group with what it has bought and may still buy
    List,
    /// Stop buying by an entry or a group, now or in the next run; it buys nothing until it is
    /// enabled
    Pause {
        #[command(flatten)]
        what: PausedArgs,
    },
    /// Buy by a paused entry or group again
    Enable {
        #[command(flatten)]
        what: PausedArgs,
    },
    /// Show which items a recording listed below a share of their reference, how often, and at what
    /// expected margin
    Suggest(SuggestArgs),
}

/// Runs `sniper whitelist`.
///
/// # Errors
///
/// Returns an [`AppError`] if the settings or the file are invalid, or the result cannot be
/// printed.
pub fn run(
    context: CommandContext<'_>,
    args: &WhitelistArgs,
    market: impl FnOnce(&Config) -> MarketSource,
    check_supported: fn(&Config) -> Result<(), AppError>,
) -> Result<ExitCode, AppError> {
    let load = || Ok::<_, AppError>(context.load_and_check_names()?.config);
    match &args.command {
        WhitelistCommand::Pause { what } => entries::set_paused(context, what, true),
        WhitelistCommand::Enable { what } => entries::set_paused(context, what, false),
        WhitelistCommand::Add(args) => edit::add(context, args, check_supported),
        WhitelistCommand::Remove { entry } => edit::remove(context, entry, check_supported),
        WhitelistCommand::List => entries::list(context, &load()?),
        WhitelistCommand::Suggest(args) => {
            suggest::run(context, &load()?, args, market)?;
            Ok(ExitCode::SUCCESS)
        }
        WhitelistCommand::Export => {
            let entries: Vec<EntryObject> = load()?.whitelist.iter().map(entry_object).collect();
            report::print(&format_entries(&entries))?;
            Ok(ExitCode::SUCCESS)
        }
        WhitelistCommand::Import { file, write, max_price } => {
            let loaded = context.load_and_check_names()?;
            let import = Import { context, loaded: &loaded, write: write.as_deref() };
            import.run((file, max_price.as_deref()), check_supported)
        }
    }
}

/// An import into the target, by default only compared with the whitelist of the settings.
#[derive(Clone, Copy)]
struct Import<'i> {
    context: CommandContext<'i>,
    loaded: &'i Loaded,
    write: Option<&'i Path>,
}

impl Import<'_> {
    fn run(
        self,
        rows: (&Path, Option<&RawValue>),
        check_supported: fn(&Config) -> Result<(), AppError>,
    ) -> Result<ExitCode, AppError> {
        let plan = self.plan(rows)?;
        let text = format_entries(&plan.entries);
        let (problems, warnings) = self.check(&text, check_supported);
        let is_ok = problems.is_empty();
        let conflicts = match self.load_with(&text, false) {
            Err(errors) if is_ok => lines(errors.list()),
            _ => Vec::new(),
        };
        if let (Some(target), true) = (self.write, is_ok) {
            edit::replace_file(target, None, &text)?;
        }
        let unknown = self.unknown_names(&plan);
        let written = self.write.map(|target| (target, self.is_in_use(target)));
        let shown = ImportReport { plan: &plan, problems, conflicts, warnings, unknown, written };
        self.context.output.print(&shown.to_text(), || shown.to_json())?;
        Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Returns the file whose entries are merged with the rows: the target, or `whitelist_file`.
    fn merged_file(&self) -> Option<&Path> {
        self.write.or_else(|| self.loaded.files.get(1).map(|(file, _checksum)| file.as_path()))
    }

    /// Returns `true` for the file that `whitelist_file` names.
    fn is_in_use(&self, file: &Path) -> bool {
        let own = self.loaded.files.get(1);
        own.is_some_and(|(own, _checksum)| is_same_file(file, own))
    }

    /// Compares the rows of a file with the whitelist.
    ///
    /// # Errors
    ///
    /// Returns [`AppError::Failed`] if a file cannot be read.
    fn plan(self, (file, max_price): (&Path, Option<&RawValue>)) -> Result<ImportPlan, AppError> {
        let failed = |file: &Path, error: &dyn Error| {
            AppError::failed(&format!("import {}", file.display()), error)
        };
        let text = read_at_most(file).map_err(|error| failed(file, &error))?;
        let rows = import::read(&text, max_price).map_err(|error| failed(file, &error))?;
        let existing = match self.merged_file().map(|file| (file, fs::read_to_string(file))) {
            None => Vec::new(),
            Some((_, Err(error))) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Some((file, text)) => {
                let text = text.map_err(|error| failed(file, &error))?;
                import::read_entries(&text).map_err(|error| failed(file, &error))?
            }
        };
        // The entries of the settings file, which decide before those of `whitelist_file`.
        let settings = self.load_with("[]", false).map(|own| own.config.whitelist);
        let settings = settings.iter().flat_map(|own| own.iter()).map(entry_object).collect();
        let plan = import::plan(existing, rows.entries, settings, |entry| self.parse(entry));
        Ok(ImportPlan { ignored: rows.ignored, ..plan })
    }

    fn parse(self, entry: &EntryObject) -> Option<WhitelistEntry> {
        let decimals = (self.context.decimals)(self.loaded.config.market);
        parse_entry(&format_entries(std::slice::from_ref(entry)), decimals)
    }

    /// Returns the problems and the new warnings of the settings with the whitelist after the
    /// import.
    fn check(
        self,
        text: &str,
        check_supported: fn(&Config) -> Result<(), AppError>,
    ) -> (Vec<String>, Vec<String>) {
        // The settings must be valid with any other file in place of the whole whitelist.
        let is_whole = self.merged_file().is_none_or(|file| !self.is_in_use(file));
        match self.load_with(text, is_whole) {
            Err(errors) => (lines(errors.list()), Vec::new()),
            Ok(new) => match edit::new_warnings(new, &self.loaded.warnings, check_supported) {
                Ok(warnings) => (Vec::new(), lines(&warnings)),
                Err(unsupported) => (vec![unsupported.chain()], Vec::new()),
            },
        }
    }

    /// Loads the settings with the result, which replaces the content of `whitelist_file`, or with
    /// `is_whole` the whole whitelist.
    fn load_with(self, text: &str, is_whole: bool) -> Result<Loaded, ConfigErrors> {
        let file = self.merged_file();
        let name = file.map_or_else(|| "whitelist".to_owned(), |file| file.display().to_string());
        let whitelist = WhitelistText { name: &name, text, is_whole };
        Config::load_with_whitelist(&self.context.sources(false), whitelist)
    }

    /// Returns the new names that no price source has, the first ones with a similar name. Empty
    /// without the prices of all items.
    fn unknown_names(self, plan: &ImportPlan) -> Vec<(String, Option<String>)> {
        let known = KnownNames::of(&prices::stored_book(&self.loaded.config));
        if !known.are_all() {
            return Vec::new();
        }
        let mut unknown = Vec::new();
        for name in &plan.added {
            let keys = [("item", json_text(name.as_str())), ("max_price", json_text(1))];
            let entry = keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
            let entry = entry.collect();
            let item = self.parse(&entry).map(|entry| entry.item);
            if let Some(ItemPattern::Named(item)) = item
                && !known.is_known(&item)
            {
                // The search compares all known names.
                let is_shown = unknown.len() < NAMES_MAX;
                let similar = if is_shown { known.nearest(&item) } else { None };
                unknown.push((name.clone(), similar.map(str::to_owned)));
            }
        }
        unknown
    }
}

fn read_at_most(file: &Path) -> io::Result<String> {
    match fs::metadata(file)?.len() > FILE_BYTES_MAX {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => fs::read_to_string(file),
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let real = |path| fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|one| Some(one) == real(other))
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// Formats entries as a JSON list with one entry per line.
fn format_entries(entries: &[EntryObject]) -> String {
    let lines: Vec<String> =
        entries.iter().map(|entry| format!("  {}", import::format_entry(entry))).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// Result of an import.
struct ImportReport<'p> {
    plan: &'p ImportPlan,
    problems: Vec<String>,
    /// Problems once the settings name the target but keep their own entries.
    conflicts: Vec<String>,
    warnings: Vec<String>,
    unknown: Vec<(String, Option<String>)>,
    /// Target, and whether the settings name it.
    written: Option<(&'p Path, bool)>,
}

impl ImportReport<'_> {
    fn to_text(&self) -> String {
        let Self { plan, problems, conflicts, warnings, unknown, written } = self;
        let mut text = String::new();
        for (title, names) in [
            ("new", &plan.added),
            ("changed", &plan.changes()),
            ("repeated in the file, left out", &plan.duplicates),
            (IN_SETTINGS, &plan.in_settings),
        ] {
            if title == IN_SETTINGS && names.is_empty() {
                continue;
            }
            text.push_str(&format!("{} {title}\n", names.len()));
            for name in names.iter().take(NAMES_MAX) {
                text.push_str(&format!("  {}\n", Escaped(name)));
            }
            if names.len() > NAMES_MAX {
                let more = names.len().saturating_sub(NAMES_MAX);
                text.push_str(&format!("  … and {more} more\n"));
            }
        }
        if !plan.ignored.is_empty() {
            let shown = plan.ignored.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
            let more = if plan.ignored.len() > NAMES_MAX { ", …" } else { "" };
            text.push_str(&format!("Ignored columns: {}{more}\n", Escaped(&shown)));
        }
        text.push_str(&format!("{} unchanged\n", plan.unchanged));
        if unknown.len() > NAMES_MAX {
            text.push_str(&format!("No price source knows {} of the new names:\n", unknown.len()));
        }
        for (name, similar) in unknown.iter().take(NAMES_MAX) {
            let hint = similar.as_ref().map(|name| format!("; did you mean {}?", Escaped(name)));
            let hint = hint.unwrap_or_default();
            text.push_str(&format!("No price source knows {}{hint}\n", Escaped(name)));
        }
        for warning in warnings.iter().take(NAMES_MAX) {
            text.push_str(&format!("Warning: {warning}\n"));
        }
        for problem in problems {
            text.push_str(&format!("{problem}\n"));
        }
        for conflict in conflicts.iter().take(NAMES_MAX) {
            text.push_str(&format!("Invalid with the entries of sniper.toml: {conflict}\n"));
        }
        text.push_str(&match (problems.is_empty(), written) {
            (false, _) => "Nothing was written.\n".to_owned(),
            (true, None) => "Nothing was written; add --write whitelist.json.\n".to_owned(),
            (true, Some((target, is_in_use))) => {
                let entries = counted(plan.entries.len(), "entry", "entries");
                let named = "; it is used once sniper.toml names it as whitelist_file";
                let hint = match is_in_use {
                    true => "",
                    false if plan.in_settings.is_empty() && conflicts.is_empty() => named,
                    false => &format!("{named}; remove the [[whitelist]] entries named above then"),
                };
                format!("{entries} written to {}{hint}\n", target.display())
            }
        });
        text
    }

    fn to_json(&self) -> Value {
        let unknown = self.unknown.iter();
        let unknown: Vec<Value> =
            unknown.map(|(name, similar)| json!({"name": name, "similar": similar})).collect();
        let changed: Vec<&String> = self.plan.changed.iter().map(|(name, _)| name).collect();
        json!({
            "added": self.plan.added,
            "changed": changed,
            "changes": self.plan.changes(),
            "ignored_columns": self.plan.ignored,
            "unchanged": self.plan.unchanged,
            "duplicates": self.plan.duplicates,
            "in_settings": self.plan.in_settings,
            "conflicts": self.conflicts,
            "unknown": unknown,
            "problems": self.problems,
            "warnings": self.warnings,
            "written": self.problems.is_empty() && self.written.is_some(),
        })
    }
}

/// Returns an entry with the keys of a JSON whitelist.
fn entry_object(entry: &WhitelistEntry) -> EntryObject {
    let item = entry.item.as_str();
    let text = |text: Option<&str>| text.and_then(json_text);
    let whole = |whole: Option<u64>| whole.and_then(json_text);
    let flag = |flag: bool| json_text(true).filter(|_true| flag);
    let min_price = Some(entry.min_price).filter(|price| *price != Amount::ZERO);
    let (rule, filter) = (entry.percent.as_ref(), entry.filter.as_deref());
    let excluded = filter.iter().flat_map(|filter| &filter.exclude);
    let categories = filter.iter().flat_map(|filter| filter.categories.iter());
    // A reference without a side is the default, which no text names.
    let references = rule.map(|rule| rule.references.as_slice()).unwrap_or_default();
    let references = references.iter().filter(|reference| reference.side.is_some());
    let values = [
        ("name", text(entry.name.as_deref())),
        ("item", text(Some(item))),
        ("wear", list(entry.wears.iter().map(Wear::short))),
        ("stattrak", flag(entry.stattrak)),
        ("souvenir", flag(entry.souvenir)),
        ("float_min", number(entry.float_min)),
        ("float_max", number(entry.float_max)),
        ("min_price", number(min_price)),
        ("max_price", number(Some(entry.max_price))),
        ("max_markup_percent", number(entry.max_markup)),
        ("max_quantity", whole(Some(entry.max_quantity.into()))),
        ("max_total", number(entry.max_total)),
        ("max_age_s", whole(entry.max_age.map(|age| age.as_secs()))),
        ("max_percent", number(rule.map(|rule| rule.max_percent))),
        ("reference", list(references)),
        ("reference_rule", text(rule.map(|rule| rule.rule.as_str()))),
        ("min_count", whole(rule.and_then(|rule| Some(rule.min_count?.into())))),
        ("min_reference", number(rule.and_then(|rule| rule.min_reference))),
        ("category", list(categories.map(ItemCategory::as_str))),
        ("rarity", list(filter.iter().flat_map(|filter| &filter.rarities))),
        ("exclude", list(excluded.map(NamePattern::as_str))),
        ("group", text(entry.group_name())),
    ];
    values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Returns a decimal number as JSON.
fn number(number: Option<impl Display>) -> Option<Box<RawValue>> {
    json_number(&number?.to_string())
}

/// Returns the texts of a list that is not empty.
fn list(items: impl Iterator<Item = impl Display>) -> Option<Box<RawValue>> {
    let items: Vec<Value> = items.map(|item| item.to_string().into()).collect();
    json_text(items).filter(|json| json.get() != "[]")
}
