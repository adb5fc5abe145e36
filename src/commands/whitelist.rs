//! `sniper whitelist`: imports entries from a file of another tool, and exports the whitelist.
//!
//! - [`edit`]: `sniper whitelist add` and `remove`.
//! - [`suggest`]: `sniper whitelist suggest`.

pub mod edit;
pub mod entries;
mod suggest;

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use self::{edit::AddArgs, entries::PausedArgs, suggest::SuggestArgs};
use super::{AppError, CommandContext, capture::MarketSource, prices, report};
use crate::{
    config::{Config, load::check_whitelist},
    domain::{
        item_name::{ItemName, Wear},
        money::Amount,
        whitelist_entry::{ItemPattern, WhitelistEntry},
    },
    text::{Escaped, counted, nearest},
    whitelist::import::{self, EntryObject, ImportPlan},
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
        /// Ceiling of rows without a price
        #[arg(long, value_name = "AMOUNT")]
        max_price: Option<String>,
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
    /// Stop buying by an entry or a group, now or in the next run; it matches nothing until it is enabled
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
/// Returns an [`AppError`] if the settings or the file are invalid, or the result cannot be printed.
pub fn run(
    context: CommandContext<'_>,
    args: &WhitelistArgs,
    market: impl FnOnce(&Config) -> MarketSource,
    check_supported: fn(&Config) -> Result<(), AppError>,
) -> Result<ExitCode, AppError> {
    let load = || Ok::<_, AppError>(context.load_with_names(false)?.config);
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
            let config = load()?;
            let plan = read_plan(file, write.as_deref(), max_price.as_deref())
                .map_err(|error| AppError::start("the import", error))?;
            let text = format_entries(&plan.entries);
            let problems = check_whitelist(&text, (context.decimals)(config.market));
            if let (Some(target), true) = (write, problems.is_empty()) {
                write_file(target, &text)?;
            }
            let unknown = unknown_names(&config, &plan);
            let is_ok = problems.is_empty();
            let shown = ImportReport { plan: &plan, problems, unknown, write: write.as_deref() };
            match context.output.is_json() {
                true => context.output.json(&shown.to_json())?,
                false => report::print(&shown.to_text())?,
            }
            Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

fn read_plan(file: &Path, write: Option<&Path>, ceiling: Option<&str>) -> io::Result<ImportPlan> {
    let invalid = |error: import::ImportError| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", file.display()))
    };
    if fs::metadata(file)?.len() > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let rows = import::read(&fs::read_to_string(file)?, ceiling).map_err(invalid)?;
    let existing = match write.map(fs::read_to_string) {
        None => Vec::new(),
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Some(text) => read_entries(&text?)?,
    };
    Ok(import::plan(existing, rows))
}

/// Reads a JSON whitelist: a list of entries, or an object with such a list.
fn read_entries(text: &str) -> io::Result<Vec<EntryObject>> {
    let value: Value = serde_json::from_str(text)?;
    let list = match value {
        Value::Object(mut object) => object.remove("whitelist").unwrap_or_default(),
        list => list,
    };
    Ok(serde_json::from_value(list)?)
}

/// Formats entries as a JSON list with one entry per line.
fn format_entries(entries: &[EntryObject]) -> String {
    let lines: Vec<String> =
        entries.iter().map(|entry| format!("  {}", Value::Object(entry.clone()))).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// Replaces a file as a whole. An existing file keeps its mode, and a link stays a link.
fn write_file(target: &Path, text: &str) -> io::Result<()> {
    let existing = fs::canonicalize(target).ok();
    let target = existing.as_deref().unwrap_or(target);
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = match fs::metadata(target) {
        Ok(metadata) => {
            let file = NamedTempFile::new_in(folder)?;
            file.as_file().set_permissions(metadata.permissions())?;
            file
        }
        // The umask limits it, as for any new file.
        Err(_absent) => tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)?,
    };
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    Ok(())
}

/// Returns the new names that no price source has, the first ones with a similar name. Empty without
/// prices.
fn unknown_names(config: &Config, plan: &ImportPlan) -> Vec<(String, Option<String>)> {
    let book = prices::stored_book(config);
    if book.is_empty() {
        return Vec::new();
    }
    let known: Vec<&str> = book.bases().collect();
    let mut unknown = Vec::new();
    for name in plan.added.iter().filter(|name| name.trim() != "*") {
        let base = ItemName::parse(name).base;
        if book.variants(&base).next().is_none() {
            // The search compares all known names.
            let similar = if unknown.len() < NAMES_MAX { nearest(&base, &known) } else { None };
            unknown.push((name.clone(), similar.map(str::to_owned)));
        }
    }
    unknown
}

/// Result of an import.
struct ImportReport<'p> {
    plan: &'p ImportPlan,
    problems: Vec<String>,
    unknown: Vec<(String, Option<String>)>,
    write: Option<&'p Path>,
}

impl ImportReport<'_> {
    fn to_text(&self) -> String {
        let Self { plan, problems, unknown, write } = self;
        let mut text = String::new();
        for (title, names) in [
            ("new", &plan.added),
            ("changed", &plan.changed),
            ("repeated in the file, left out", &plan.duplicates),
        ] {
            text.push_str(&format!("{} {title}\n", names.len()));
            for name in names.iter().take(NAMES_MAX) {
                text.push_str(&format!("  {}\n", Escaped(name)));
            }
            if names.len() > NAMES_MAX {
                let more = names.len().saturating_sub(NAMES_MAX);
                text.push_str(&format!("  … and {more} more\n"));
            }
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
        for problem in problems {
            text.push_str(&format!("{problem}\n"));
        }
        text.push_str(&match (problems.is_empty(), write) {
            (false, _) => "Nothing was written.\n".to_owned(),
            (true, None) => "Nothing was written; add --write whitelist.json.\n".to_owned(),
            (true, Some(target)) => {
                let entries = counted(plan.entries.len(), "entry", "entries");
                format!("{entries} written to {}\n", target.display())
            }
        });
        text
    }

    fn to_json(&self) -> Value {
        let unknown = self.unknown.iter();
        let unknown: Vec<Value> =
            unknown.map(|(name, similar)| json!({"name": name, "similar": similar})).collect();
        json!({
            "added": self.plan.added,
            "changed": self.plan.changed,
            "unchanged": self.plan.unchanged,
            "duplicates": self.plan.duplicates,
            "unknown": unknown,
            "problems": self.problems,
            "written": self.problems.is_empty() && self.write.is_some(),
        })
    }
}

/// Returns an entry with the keys of a JSON whitelist.
fn entry_object(entry: &WhitelistEntry) -> EntryObject {
    let mut object = Map::new();
    let mut set = |key: &str, value: Value| object.insert(key.to_owned(), value);
    let number = |text: String| serde_json::from_str(&text).unwrap_or(Value::Null);
    if let Some(name) = &entry.name {
        set("name", name.as_str().into());
    }
    let item = match &entry.item {
        ItemPattern::Any => "*",
        ItemPattern::Named(item) => item,
    };
    set("item", item.into());
    let wears: Vec<Value> = entry.wears.iter().map(Wear::short).map(Value::from).collect();
    if !wears.is_empty() {
        set("wear", wears.into());
    }
    for (key, flag) in [("stattrak", entry.stattrak), ("souvenir", entry.souvenir)] {
        if flag {
            set(key, flag.into());
        }
    }
    for (key, float) in [("float_min", entry.float_min), ("float_max", entry.float_max)] {
        if let Some(float) = float {
            set(key, number(float.to_string()));
        }
    }
    if entry.min_price != Amount::ZERO {
        set("min_price", number(entry.min_price.to_string()));
    }
    set("max_price", number(entry.max_price.to_string()));
    if let Some(markup) = entry.max_markup {
        set("max_markup_percent", number(markup.to_string()));
    }
    set("max_quantity", entry.max_quantity.into());
    if let Some(total) = entry.max_total {
        set("max_total", number(total.to_string()));
    }
    if let Some(age) = entry.max_age {
        set("max_age_s", age.as_secs().into());
    }
    set_rule(entry, &mut object);
    if let Some(group) = entry.group_name() {
        object.insert("group".to_owned(), group.into());
    }
    object
}

/// Adds the keys of the percent rule and of the item filter.
fn set_rule(entry: &WhitelistEntry, object: &mut EntryObject) {
    let number = |text: String| serde_json::from_str(&text).unwrap_or(Value::Null);
    let mut set = |key: &str, value: Value| object.insert(key.to_owned(), value);
    if let Some(rule) = &entry.percent {
        set("max_percent", number(rule.max_percent.to_string()));
        // A reference without a side is the default, which no text names.
        if rule.references.iter().all(|reference| reference.side.is_some()) {
            set("reference", rule.references.iter().map(ToString::to_string).collect());
        }
        set("reference_rule", rule.rule.as_str().into());
        if let Some(count) = rule.min_count {
            set("min_count", count.into());
        }
        if let Some(min) = rule.min_reference {
            set("min_reference", number(min.to_string()));
        }
    }
    if let Some(filter) = &entry.filter {
        let lists: [(&str, Vec<Value>); 3] = [
            ("category", filter.categories.iter().map(|it| it.as_str().into()).collect()),
            ("rarity", filter.rarities.iter().map(|it| it.as_str().into()).collect()),
            ("exclude", filter.exclude.iter().map(|it| it.as_str().into()).collect()),
        ];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            set(key, list.into());
        }
    }
}
