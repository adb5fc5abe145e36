//! `sniper whitelist add` and `remove`: entries of `sniper.toml`. The result is checked as
//! `sniper check` does before it replaces the file.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;

use super::super::{AppError, CommandContext, check, exit_code, known_names};
use crate::{
    config::{
        Config, ConfigErrors, Loaded, Problem,
        first_settings::entry_name,
        load::{BotPaths, FILE_BYTES_MAX},
        whitelist_edit::{self, EditError, EntryValue},
    },
    text::Escaped,
};

/// Arguments of `whitelist add`: the item and the keys of a `[[whitelist]]` entry.
#[derive(Clone, Debug, Args)]
pub struct AddArgs {
    /// Item: its name without wear, such as "AK-47 | Redline", a complete market name, or *
    #[arg(value_name = "ITEM")]
    pub item: String,
    /// Name of the entry; by default the words of the item, such as ak-47-redline
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Wears, such as FN,MW
    #[arg(long, value_name = "WEARS", value_delimiter = ',')]
    pub wear: Vec<String>,
    /// Buy StatTrak items instead of those without it
    #[arg(long)]
    pub stattrak: bool,
    /// Buy Souvenir items instead of others
    #[arg(long)]
    pub souvenir: bool,
    /// Minimum float
    #[arg(long, value_name = "FLOAT")]
    pub float_min: Option<String>,
    /// Maximum float
    #[arg(long, value_name = "FLOAT")]
    pub float_max: Option<String>,
    /// Minimum price, against faulty listings
    #[arg(long, value_name = "COINS")]
    pub min_price: Option<String>,
    /// Maximum price
    #[arg(long, value_name = "COINS")]
    pub max_price: String,
    /// Maximum markup over the market's own price
    #[arg(long, value_name = "PERCENT")]
    pub max_markup_percent: Option<String>,
    /// Maximum number bought in all [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub max_quantity: Option<String>,
    /// Maximum spent on this entry in all
    #[arg(long, value_name = "COINS")]
    pub max_total: Option<String>,
    /// Maximum age of a listing from before the bot was connected
    #[arg(long, value_name = "SECONDS")]
    pub max_age_s: Option<String>,
    /// Maximum share of the reference price
    #[arg(long, value_name = "PERCENT")]
    pub max_percent: Option<String>,
    /// Reference prices, such as buff.bid
    #[arg(long, value_name = "SOURCES", value_delimiter = ',')]
    pub reference: Vec<String>,
    /// Which of several reference prices counts
    #[arg(long, value_name = "RULE")]
    pub reference_rule: Option<String>,
    /// Minimum number of offers behind a reference price
    #[arg(long, value_name = "NUMBER")]
    pub min_count: Option<String>,
    /// Minimum reference price
    #[arg(long, value_name = "COINS")]
    pub min_reference: Option<String>,
    /// Categories, such as knife,gloves
    #[arg(long, value_name = "CATEGORIES", value_delimiter = ',')]
    pub category: Vec<String>,
    /// Rarities as the market names them
    #[arg(long, value_name = "RARITIES", value_delimiter = ',')]
    pub rarity: Vec<String>,
    /// Names to leave out, such as "* | Safari Mesh"; repeat the option for several
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Group, which [groups.GROUP] of sniper.toml limits
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
}

impl AddArgs {
    fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| entry_name(&self.item))
    }

    /// Returns the keys of the entry, in the order of the example settings.
    fn values(&self) -> Vec<(&'static str, EntryValue)> {
        let text = |text: &str| Some(EntryValue::Text(text.trim().to_owned()));
        let texts = |texts: &[String]| {
            let trimmed: Vec<String> = texts.iter().map(|text| text.trim().to_owned()).collect();
            (!trimmed.is_empty()).then_some(EntryValue::Texts(trimmed))
        };
        let number = |text: &Option<String>| text.clone().map(EntryValue::Number);
        let flag = |flag: bool| flag.then_some(EntryValue::True);
        let values = [
            ("name", text(&self.name())),
            ("item", text(&self.item)),
            ("wear", texts(&self.wear)),
            ("stattrak", flag(self.stattrak)),
            ("souvenir", flag(self.souvenir)),
            ("float_min", number(&self.float_min)),
            ("float_max", number(&self.float_max)),
            ("min_price", number(&self.min_price)),
            ("max_price", Some(EntryValue::Number(self.max_price.clone()))),
            ("max_markup_percent", number(&self.max_markup_percent)),
            ("max_quantity", number(&self.max_quantity)),
            ("max_total", number(&self.max_total)),
            ("max_age_s", number(&self.max_age_s)),
            ("max_percent", number(&self.max_percent)),
            ("reference", texts(&self.reference)),
            ("reference_rule", self.reference_rule.as_deref().and_then(text)),
            ("min_count", number(&self.min_count)),
            ("min_reference", number(&self.min_reference)),
            ("category", texts(&self.category)),
            ("rarity", texts(&self.rarity)),
            ("exclude", texts(&self.exclude)),
            ("group", self.group.as_deref().and_then(text)),
        ];
        values.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// Failure of `whitelist add` or `remove`. The settings file is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum EditCommandError {
    #[error("there is no {}; write one with: sniper init", Escaped(.0))]
    Missing(String),
    #[error("{} is unchanged: {error}{}", Escaped(.path), elsewhere(.whitelist_file.as_deref()))]
    Edit { path: String, error: EditError, whitelist_file: Option<String> },
    #[error(
        "{} is unchanged, because the settings would be invalid:\n{}",
        Escaped(.path),
        check::format_errors(.problems).trim_end()
    )]
    Invalid { path: String, problems: Box<ConfigErrors> },
    #[error("{} is unchanged: {}", Escaped(.path), .error.chain())]
    Unsupported { path: String, error: Box<AppError> },
    #[error("{} was changed by another program at the same time; run the command again", Escaped(.0))]
    ChangedMeanwhile(String),
    #[error("cannot {action} {}; it is unchanged", Escaped(.path))]
    File { action: &'static str, path: String, source: io::Error },
}

impl EditCommandError {
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Edit { error: EditError::NotANumber { .. }, .. } => exit_code::USAGE,
            Self::Missing(_) | Self::Invalid { .. } | Self::Unsupported { .. } => exit_code::CONFIG,
            Self::Edit { .. } | Self::ChangedMeanwhile(_) => exit_code::FAILURE,
            Self::File { .. } => exit_code::OS,
        }
    }
}

fn elsewhere(whitelist_file: Option<&str>) -> String {
    let note = |file| format!("; entries of {} are edited there", Escaped(file));
    whitelist_file.map(note).unwrap_or_default()
}

/// Adds an entry to the settings file.
///
/// # Errors
///
/// Returns [`AppError::Edit`] if the file stays unchanged.
pub(super) fn add(
    context: CommandContext<'_>,
    args: &AddArgs,
    check_supported: fn(&Config) -> Result<(), AppError>,
) -> Result<ExitCode, AppError> {
    let file = SettingsFile::read(context)?;
    let edited = whitelist_edit::add(&file.text, &args.values());
    let edited = edited.map_err(|error| file.edit_error(error, None))?;
    let warnings = file.replace(&edited, check_supported)?;
    file.report("added", &args.name(), &warnings)
}

/// Removes an entry from the settings file.
///
/// # Errors
///
/// Returns [`AppError::Edit`] if the file stays unchanged.
pub(super) fn remove(
    context: CommandContext<'_>,
    entry: &str,
    check_supported: fn(&Config) -> Result<(), AppError>,
) -> Result<ExitCode, AppError> {
    let file = SettingsFile::read(context)?;
    let edited = whitelist_edit::remove(&file.text, entry);
    let edited = edited.map_err(|error| {
        let is_elsewhere = matches!(error, EditError::NoSuchEntry { .. });
        let other = is_elsewhere.then(|| whitelist_edit::whitelist_file(&file.text)).flatten();
        file.edit_error(error, other)
    })?;
    let warnings = file.replace(&edited, check_supported)?;
    file.report("removed", entry, &warnings)
}

/// The settings file as it was read.
struct SettingsFile<'c> {
    context: CommandContext<'c>,
    path: PathBuf,
    text: String,
}

impl<'c> SettingsFile<'c> {
    fn read(context: CommandContext<'c>) -> Result<Self, EditCommandError> {
        let path = BotPaths::of(&context.sources(false)).settings;
        let shown = path.display().to_string();
        let failed =
            |source| EditCommandError::File { action: "read", path: shown.clone(), source };
        let metadata = fs::metadata(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => EditCommandError::Missing(shown.clone()),
            _ => failed(error),
        })?;
        if FILE_BYTES_MAX < metadata.len() {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        Ok(Self { context, path, text })
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    fn edit_error(&self, error: EditError, whitelist_file: Option<String>) -> EditCommandError {
        EditCommandError::Edit { path: self.shown(), error, whitelist_file }
    }

    /// Checks the new text and replaces the file. Returns the warnings that the old text did not
    /// have.
    fn replace(
        &self,
        edited: &str,
        check_supported: fn(&Config) -> Result<(), AppError>,
    ) -> Result<Vec<Problem>, EditCommandError> {
        let sources = self.context.sources(false);
        let named = |mut loaded: Loaded| {
            known_names::apply(&mut loaded);
            loaded
        };
        let before = Config::load_edited(&sources, &self.text).map(named);
        let loaded = Config::load_edited(&sources, edited).map(named);
        let loaded = loaded.map_err(|problems| EditCommandError::Invalid {
            path: self.shown(),
            problems: Box::new(problems),
        })?;
        let before = before.map(|before| before.warnings).unwrap_or_default();
        let warnings = new_warnings(loaded, &before, check_supported);
        let warnings = warnings.map_err(|error| EditCommandError::Unsupported {
            path: self.shown(),
            error: Box::new(error),
        })?;
        let failed =
            |source| EditCommandError::File { action: "write", path: self.shown(), source };
        if !replace_file(&self.path, Some(&self.text), edited).map_err(failed)? {
            return Err(EditCommandError::ChangedMeanwhile(self.shown()));
        }
        Ok(warnings)
    }

    fn report(&self, done: &str, entry: &str, warnings: &[Problem]) -> Result<ExitCode, AppError> {
        let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let direction = if done == "added" { "to" } else { "from" };
        let mut text = format!(
            "Entry \"{}\" {done} {direction} {}. Apply it to a running bot with: sniper reload\n",
            Escaped(entry),
            Escaped(&self.shown())
        );
        for line in &lines {
            text.push_str(&format!("Warning: {line}\n"));
        }
        self.context.output.print(
            &text,
            || json!({"entry": entry, "done": done, "file": self.shown(), "warnings": lines}),
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns the warnings of changed settings that those before did not have.
///
/// # Errors
///
/// Returns the error of `check_supported`.
pub(super) fn new_warnings(
    Loaded { config, mut warnings, .. }: Loaded,
    before: &[Problem],
    check_supported: fn(&Config) -> Result<(), AppError>,
) -> Result<Vec<Problem>, AppError> {
    check_supported(&config)?;
    warnings.retain(|new| !before.iter().any(|old| old.message == new.message));
    Ok(warnings)
}

/// Replaces a file as a whole, with the same mode and owner; a symbolic link stays one. Returns
/// `false`, and changes nothing, if it no longer has the old content.
pub(super) fn replace_file(path: &Path, old: Option<&str>, new: &str) -> io::Result<bool> {
    let path = fs::canonicalize(path).unwrap_or_else(|_absent| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // The umask limits the mode of a new file, as for any other.
    let mode = Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().permissions(mode).tempfile_in(folder)?;
    if let Ok(metadata) = fs::metadata(&path) {
        let written = file.as_file().metadata()?;
        if (written.uid(), written.gid()) != (metadata.uid(), metadata.gid()) {
            fchown(file.as_file(), Some(metadata.uid()), Some(metadata.gid()))?;
        }
        file.as_file().set_permissions(metadata.permissions())?;
    }
    file.write_all(new.as_bytes())?;
    file.as_file().sync_all()?;
    if let Some(old) = old
        && fs::read(&path)? != old.as_bytes()
    {
        return Ok(false);
    }
    file.persist(&path).map_err(|error| error.error)?;
    // The file is in place; a file system that cannot sync a folder does so by itself.
    drop(File::open(folder).and_then(|folder| folder.sync_all()));
    Ok(true)
}
