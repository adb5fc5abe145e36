//! `sniper config show`: the effective settings, where each of them is set, and whether the
//! running bot uses them. Offline.

use std::{
    fmt, fs,
    path::Path,
    process::ExitCode,
    time::{Duration, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{AppError, CommandContext, health::Health};
use crate::{
    clock,
    config::{
        Loaded, SourceLocation,
        in_force::{self, SettingValue},
        load::DOTENV_FILE,
    },
    domain::time::{UnixMs, format_duration},
    ledger::status::LedgerStatus,
    text::{Escaped, counted, error_chain},
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper config show
  sniper config show --json
  sniper check             are the settings valid?";

/// Place of a setting that is not set.
const DEFAULT: &str = "default";

/// Arguments of `config`.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print each effective setting with the line that sets it, and when `.env` was changed; shows
    /// no secret
    Show,
}

/// Runs `sniper config`.
///
/// # Errors
///
/// Returns an [`AppError`] if the settings are invalid or the output cannot be printed.
pub fn run(context: CommandContext<'_>, args: &ConfigArgs) -> Result<ExitCode, AppError> {
    let ConfigCommand::Show = args.command;
    let loaded = context.load()?;
    let (data, state) = context.data_directories();
    let bot = Health::of(&data, state.as_deref()).map(|health| health.0);
    let bot = bot.map_err(|error| error_chain(&error));
    let shown = ShownConfig::new(&loaded, dotenv_age(Path::new(DOTENV_FILE)), bot);
    context.output.print(&shown, || shown.to_json())?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the time since the file was changed.
fn dotenv_age(file: &Path) -> Option<Duration> {
    let changed = fs::metadata(file).and_then(|data| data.modified()).ok()?;
    let since_1970 = changed.duration_since(UNIX_EPOCH).ok()?;
    let changed = UnixMs(i64::try_from(since_1970.as_millis()).ok()?);
    Some(clock::now().since(changed))
}

/// The effective settings.
#[derive(Clone, Debug)]
struct ShownConfig<'l> {
    loaded: &'l Loaded,
    settings: Vec<(SettingValue, Option<&'l SourceLocation>)>,
    variables: Vec<ShownVariable<'l>>,
    dotenv_age: Option<Duration>,
    /// Status of the running bot, whose settings may be others, or the error of one that does not
    /// answer.
    bot: Result<Option<LedgerStatus>, String>,
}

/// A value of the environment, which is not secret.
#[derive(Clone, Debug)]
struct ShownVariable<'l> {
    what: &'static str,
    value: String,
    place: Option<(&'static str, &'l SourceLocation)>,
}

impl<'l> ShownConfig<'l> {
    fn new(
        loaded: &'l Loaded,
        dotenv_age: Option<Duration>,
        bot: Result<Option<LedgerStatus>, String>,
    ) -> Self {
        let settings = in_force::values(&loaded.config).into_iter().map(|setting| {
            let same = loaded.set_at.iter().find(|set| {
                let set = (set.section.as_str(), set.key.as_str());
                // Lists of tables are recorded by their own names.
                match (setting.section, setting.key) {
                    ("alerts", _) => set == ("", "alerts"),
                    ("groups", _) => set.0 == "groups",
                    own => set == own,
                }
            });
            (setting, same.map(|set| &set.place))
        });
        let (settings, variables) = (settings.collect(), variables(loaded));
        Self { loaded, settings, variables, dotenv_age, bot }
    }

    /// Returns the location of the credential; if that is `.env`, with the time since its last
    /// change, which may have been another line.
    fn credential(&self) -> Option<(&'static str, &SourceLocation, Option<Duration>)> {
        let (name, place) = self.loaded.credential_source.as_ref()?;
        let age = match place {
            SourceLocation::Environment | SourceLocation::CommandLine => None,
            _ => self.dotenv_age,
        };
        Some((name, place, age))
    }

    fn to_json(&self) -> Value {
        let place = |place: Option<&SourceLocation>| place.map(ToString::to_string);
        let settings = self.settings.iter().map(|(setting, set_at)| {
            json!({
                "section": setting.section,
                "key": setting.key,
                "value": setting.value,
                "set_at": place(*set_at),
            })
        });
        let variables = self.variables.iter().map(|variable| {
            json!({
                "what": variable.what,
                "value": variable.value,
                "variable": variable.place.map(|(name, _)| name),
                "set_at": place(variable.place.map(|(_, place)| place)),
            })
        });
        let credential = self.credential().map(|(name, place, age)| {
            json!({
                "variable": name,
                "set_at": place.to_string(),
                "dotenv_changed_seconds_ago": age.map(|age| age.as_secs()),
            })
        });
        let entries = &self.loaded.entry_places;
        let bot = match &self.bot {
            Ok(bot) => bot
                .as_ref()
                .map(|bot| json!({ "mode": bot.mode, "settings_changed": bot.settings_changed })),
            Err(error) => Some(json!({ "error": error })),
        };
        json!({
            "bot": bot,
            "settings": settings.collect::<Vec<_>>(),
            "environment": variables.collect::<Vec<_>>(),
            "credential": credential,
            "files": self.loaded.files.iter().map(|(file, _)| file.display().to_string()).collect::<Vec<_>>(),
            "whitelist_entries": entries.len(),
        })
    }
}

/// Returns the values of the environment. The credential is shown separately.
fn variables(loaded: &Loaded) -> Vec<ShownVariable<'_>> {
    let config = &loaded.config;
    let endpoints = &config.endpoints;
    let find = |suffix: &str| {
        let found = loaded.variables.iter().find(|(name, _)| name.ends_with(suffix));
        found.map(|(name, place)| (*name, place))
    };
    let shown = |what, value: String, suffix| ShownVariable { what, value, place: find(suffix) };
    vec![
        shown("feed", endpoints.ws.to_string(), "_WS_URL"),
        shown("orders", endpoints.http.to_string(), "_HTTP_URL"),
        shown("origin", endpoints.origin.clone(), "_ORIGIN"),
        shown("user agent", endpoints.user_agent.clone(), "_USER_AGENT"),
        shown("data", config.data_dir.display().to_string(), "SNIPER_DATA"),
        shown(
            "log filter",
            loaded.log_filter.clone().unwrap_or_else(|| "info".to_owned()),
            "RUST_LOG",
        ),
    ]
}

impl fmt::Display for ShownConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bot {
            Err(error) => writeln!(f, "The running bot may use earlier settings: {error}\n")?,
            Ok(Some(LedgerStatus { mode, settings_changed: true, .. })) => writeln!(
                f,
                "The running bot ({mode}) uses earlier settings; apply these with: sniper reload\n"
            )?,
            Ok(Some(bot)) => writeln!(f, "The running bot ({}) has read these files\n", bot.mode)?,
            Ok(None) => {
                writeln!(f, "No bot is running: these settings are those of the next run\n")?;
            }
        }
        let mut section = None;
        for (setting, set_at) in &self.settings {
            if section != Some(setting.section) {
                section = Some(setting.section);
                if !setting.section.is_empty() {
                    writeln!(f, "\n[{}]", setting.section)?;
                }
            }
            let place = set_at.map_or_else(|| DEFAULT.to_owned(), ToString::to_string);
            writeln!(f, "{:<28} {:<24} {place}", setting.key, Escaped(&setting.value).to_string())?;
        }
        writeln!(f, "\nEnvironment:")?;
        for variable in &self.variables {
            let place = match variable.place {
                Some((name, place)) => format!("{name}, {place}"),
                None => DEFAULT.to_owned(),
            };
            writeln!(
                f,
                "{:<28} {:<24} {place}",
                variable.what,
                Escaped(&variable.value).to_string()
            )?;
        }
        match self.credential() {
            Some((name, place, Some(age))) => {
                let age = format_duration(age);
                writeln!(
                    f,
                    "{:<28} {:<24} {name}, {place}; {DOTENV_FILE} was changed {age} ago",
                    "credential", "set"
                )?;
            }
            Some((name, place, None)) => {
                writeln!(f, "{:<28} {:<24} {name}, {place}", "credential", "set")?;
            }
            None => writeln!(f, "{:<28} {:<24}", "credential", "none")?,
        }
        let files = self.loaded.files.iter().map(|(file, _)| file.display().to_string());
        let entries = counted(self.loaded.entry_places.len(), "entry", "entries");
        writeln!(
            f,
            "\nWhitelist: {entries}, from {}",
            Escaped(&files.collect::<Vec<_>>().join(", "))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Sources},
        domain::money::Decimals,
        secret,
    };

    const SETTINGS: &str = "\
[budget]
max_price = 10.00
total = 55.00
min_balance = 1.00
max_buys_per_minute = 3

[[whitelist]]
item = \"AK-47 | Redline\"
max_price = 9.00
max_quantity = 1
group = \"rifles\"

[[alerts]]
kind = \"ntfy\"
url_env = \"HOOK_URL\"

[groups.rifles]
max_quantity = 9
";

    #[test]
    fn each_setting_has_its_value_and_the_line_that_sets_it() {
        let directory = tempfile::tempdir().unwrap();
        let session = "session-of-the-test-of-config-show";
        fs::write(directory.path().join("sniper.toml"), SETTINGS).unwrap();
        fs::write(directory.path().join(".env"), format!("\nCSGOROLL_SESSION={session}\n"))
            .unwrap();
        let lookup = |name: &str| match name {
            "SNIPER_DATA" => Some("elsewhere".to_owned()),
            "HOOK_URL" => Some("https://ntfy.example/topic-of-the-test".to_owned()),
            _ => None,
        };
        let sources = Sources {
            lookup: &lookup,
            directory: directory.path(),
            config_file: None,
            live: false,
            decimals: |_| Decimals::Two,
        };
        let loaded = Config::load(&sources).unwrap();
        assert!(secret::is_masked(session));
        let config = ShownConfig::new(&loaded, Some(Duration::from_secs(7_200)), Ok(None));
        let text = config.to_string();
        let line = |start: &str| {
            let line = text.lines().find(|line| line.starts_with(start)).expect(start);
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("total"), "total 55.00 sniper.toml:3:1");
        assert!(text.starts_with("No bot is running"), "{text}");
        assert_eq!(line("source"), "source none default");
        assert_eq!(line("per_hour"), "per_hour none default");
        assert_eq!(line("kind"), "kind ntfy sniper.toml:13:3");
        assert_eq!(line("name"), "name rifles sniper.toml:17:9");
        assert_eq!(line("max_wait_ms"), "max_wait_ms 5000 default");
        assert!(line("data").ends_with("elsewhere SNIPER_DATA, environment"), "{text}");
        let credential = "credential set CSGOROLL_SESSION, .env:2; .env was changed 2 h 0 min ago";
        assert_eq!(line("credential"), credential);
        assert!(line("Whitelist").starts_with("Whitelist: 1 entry, from "), "{text}");
        let json = config.to_json();
        assert_eq!(json["credential"]["dotenv_changed_seconds_ago"], 7_200);
        let total = json["settings"].as_array().unwrap().iter().find(|one| one["key"] == "total");
        assert_eq!(total.unwrap()["set_at"], "sniper.toml:3:1");
        for text in [text, json.to_string()] {
            assert!(!text.contains("session-of-the-test"), "{text}");
        }
        // A bot that does not answer is not shown as absent.
        let config = ShownConfig::new(&loaded, None, Err("cannot exchange".to_owned()));
        let line = "The running bot may use earlier settings: cannot exchange\n";
        assert!(config.to_string().starts_with(line), "{config}");
        assert_eq!(config.to_json()["bot"]["error"], "cannot exchange");
    }
}
