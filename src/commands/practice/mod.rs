//! `sniper run --practice`: the real bot with the user's own settings against a simulated market in
//! the same process, with play money.
//!
//! Nothing of a real run is written, and of its data only the stored price tables are read. `.env`
//! and the credentials of the environment are not read. Ledger, mark and recordings are in a
//! directory of the practice run, which begins empty.

mod items;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf, absolute},
    process::ExitCode,
};

use tracing::{info, warn};

use super::{
    AppError, CommandContext, block_on_busy_polling, known_names,
    reload::SettingsSource,
    run::{RunArgs, SessionResult, StopSignals},
    simulated_market::AnySimulator,
    summary::{SimulatedMarketCounts, Summary},
};
use crate::{
    account::prices::{PriceStore, StoredAs},
    clock,
    config::{
        Config, ConfigErrors, Loaded, Market, Problem, Sources,
        load::{CONFIG_FILE, make_directory, market_of_file, process_environment},
        prices::{PriceLocation, PricesConfig},
        problem::SourceLocation,
    },
    domain::{
        money::{Amount, Decimals},
        unit,
    },
    shutdown::SecondSignal,
    sim::SimSettings,
};

/// Folder of practice runs below `SNIPER_DATA`.
const DIRECTORY: &str = "practice";
/// Name of the file that marks the directory of a practice run, which may be emptied.
const MARK: &str = "practice.lock";
/// Content of the mark.
const MARK_TEXT: &str = "The next `sniper run --practice` removes this directory.\n";
/// Variables of the process environment that a practice run passes to the settings. They are no
/// secrets.
const VARIABLES: [&str; 1] = ["RUST_LOG"];
/// Balance of the simulated account for each coin of the budget: rejected and cancelled orders
/// cost some of it for a while.
const BALANCE_FACTOR: i64 = 2;
/// Maximum balance of the simulated account.
const BALANCE_MAX: Amount = Amount::from_cents(100_000_000_000);

/// Trades with the settings of the user on a simulated market, and prints the summary.
///
/// # Errors
///
/// Returns an [`AppError`] if there is no settings file, it is invalid, another practice run is
/// in progress, or the session fails.
pub fn run<F: Future<Output = SessionResult>>(
    context: CommandContext<'_>,
    args: RunArgs,
    quit: SecondSignal,
    trade: impl FnOnce(Config, RunArgs, StopSignals, Option<SettingsSource>) -> F,
) -> Result<ExitCode, AppError> {
    let practice = Practice::open(context)?;
    let log = context.output.log(&practice.loaded)?;
    let config = practice.loaded.config.clone();
    announce(&config);
    for warning in &practice.warnings {
        warn!("{warning}");
    }
    let source = SettingsSource::practice(practice.environment.clone(), &practice.loaded);
    let spin = config.speed.spin;
    let summary =
        block_on_busy_polling(spin, trade(config, args, (log.reader_gone(), quit), Some(source)))?;
    context.output.summary(practice.close(summary), log)
}

fn announce(config: &Config) {
    let (market, data) = (config.market.title(), config.data_dir.display());
    info!(
        "PRACTICE: a simulated market ({market}) on this machine, with play money. Nothing real is bought."
    );
    info!(
        "Data of this practice run: {data} (the next one begins anew). No real ledger or recording is used"
    );
    info!("In another terminal: SNIPER_DATA={data} sniper status");
    info!("Credentials are not read. Alerts and heartbeat are not sent in a practice run");
    if !config.prices.sources.is_empty() {
        info!("Reference prices: files and the tables that are on disk; nothing is downloaded");
    }
}

/// Source of a practice run's settings, also for reloads.
#[derive(Clone, Debug)]
pub struct PracticeEnvironment {
    config_file: PathBuf,
    data_dir: PathBuf,
    decimals: fn(Market) -> Decimals,
    /// Variables that connect to the simulated market; empty before it runs.
    variables: Vec<(&'static str, String)>,
}

impl PracticeEnvironment {
    /// Returns the number of decimals of a market's amounts.
    pub fn decimals(&self) -> fn(Market) -> Decimals {
        self.decimals
    }

    /// Reads the settings of the user, with the simulated market in place of the real one.
    ///
    /// # Errors
    ///
    /// Returns all errors at once.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let lookup = |name: &str| match name {
            "SNIPER_DATA" => self.data_dir.to_str().map(str::to_owned),
            "XDG_STATE_HOME" => self.data_dir.join("state").to_str().map(str::to_owned),
            name if VARIABLES.contains(&name) => process_environment(name),
            name => {
                let mut variables = self.variables.iter();
                variables.find(|(variable, _)| *variable == name).map(|(_, value)| value.clone())
            }
        };
        let mut loaded = Config::load_for_practice(&Sources {
            lookup: &lookup,
            directory: Path::new("."),
            config_file: Some(&self.config_file),
            live: true,
            decimals: self.decimals,
        })?;
        known_names::apply(&mut loaded);
        Ok(loaded)
    }
}

/// A running simulated market, and the settings to trade on it.
struct Practice {
    market: AnySimulator,
    loaded: Loaded,
    environment: PracticeEnvironment,
    /// For the log, which starts later.
    warnings: Vec<String>,
    /// Locked while the practice run runs.
    _mark: File,
}

impl Practice {
    fn open(context: CommandContext<'_>) -> Result<Self, AppError> {
        let variable = || process_environment("SNIPER_CONFIG").map(PathBuf::from);
        let config_file = context.global.config.clone().or_else(variable);
        let config_file = config_file.unwrap_or_else(|| CONFIG_FILE.into());
        let market = market_of_file(&config_file).ok_or_else(|| no_settings(&config_file))?;
        unit::set(market.settings().unit);
        let (data_dir, real_data) = directories(market).map_err(directory_error)?;
        let mark = empty(&data_dir).map_err(directory_error)?;
        let decimals = context.decimals;
        let mut environment =
            PracticeEnvironment { config_file, data_dir, decimals, variables: Vec::new() };
        let settings =
            |environment: &PracticeEnvironment| environment.load().map_err(AppError::from);
        let Config { prices, .. } = settings(&environment)?.config;
        let mut warnings = copy_prices(&prices, &real_data, &environment.data_dir);
        let sim = sim_settings(&settings(&environment)?.config);
        if sim.practice.as_ref().is_none_or(|items| items.is_empty()) {
            warnings.push("The simulated market has none of the items of the whitelist".to_owned());
        }
        let market = AnySimulator::start(market, sim)?;
        environment.variables = market.environment();
        let loaded = settings(&environment)?;
        let endpoints = &loaded.config.endpoints;
        if !endpoints.ws.is_loopback() || !endpoints.http.is_loopback() {
            let error = io::Error::other("its addresses are not on this machine");
            return Err(AppError::start("the practice run", error));
        }
        Ok(Self { market, loaded, environment, warnings, _mark: mark })
    }

    /// Stops the simulator and adds its counts to the summary.
    fn close(self, summary: Summary) -> Summary {
        let market = SimulatedMarketCounts::new(&self.market.history());
        Summary { mode: "practice", market: Some(market), ..summary }
    }
}

/// Returns the settings of a market whose listings are about the whitelist.
fn sim_settings(config: &Config) -> SimSettings {
    let budget = &config.budget;
    let book = PriceStore::new(&config.data_dir).book(&config.prices);
    let items = items::practice_items(config, &book, clock::wall());
    let balance = budget.total.saturating_mul(BALANCE_FACTOR).saturating_add(budget.min_balance);
    SimSettings {
        practice: Some(items.into()),
        balance: balance.min(BALANCE_MAX),
        ..SimSettings::default()
    }
}

fn no_settings(path: &Path) -> AppError {
    let place = SourceLocation::File(path.display().to_string());
    let remedy = "make it with `sniper init`, or copy sniper.example.toml to it";
    let problem =
        Problem::new(place, "file not found, and a practice run uses its settings", remedy);
    ConfigErrors::one(problem).into()
}

fn directory_error(error: io::Error) -> AppError {
    AppError::start("the practice run: its data directory cannot be used", error)
}

/// Returns the data directory of the practice run, and that of real runs on this market.
fn directories(market: Market) -> io::Result<(PathBuf, PathBuf)> {
    let named = process_environment("SNIPER_DATA").filter(|value| !value.trim().is_empty());
    let base = absolute(named.as_deref().unwrap_or("data"))?;
    let real = if named.is_some() || market == Market::default() {
        base.clone()
    } else {
        base.join(market.name())
    };
    Ok((base.join(DIRECTORY).join(market.name()), real))
}

/// Rejects a real run in the data directory of a practice run, which the next one empties.
///
/// # Errors
///
/// Returns an [`AppError`] if this is such a directory.
pub fn reject_other_runs(directory: &Path) -> Result<(), AppError> {
    if !directory.join(MARK).exists() {
        return Ok(());
    }
    let message = format!(
        "{} is the data directory of a practice run, which the next one empties; unset SNIPER_DATA",
        directory.display()
    );
    Err(AppError::start("the session", io::Error::other(message)))
}

/// Creates an empty data directory, and returns its locked mark. Only a directory of an earlier
/// practice run is emptied.
fn empty(directory: &Path) -> io::Result<File> {
    let mark = directory.join(MARK);
    make_directory(directory)?;
    let is_new = fs::read_dir(directory)?.next().is_none();
    if !is_new && !mark.exists() {
        let message = format!("{} has other files; move it away", directory.display());
        return Err(io::Error::other(message));
    }
    let file = File::options().create(true).truncate(false).write(true).open(&mark)?;
    file.try_lock().map_err(|_locked| {
        io::Error::other(format!("another practice run uses {}", directory.display()))
    })?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path == mark {
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    fs::write(&mark, MARK_TEXT)?;
    Ok(file)
}

/// Copies the stored tables of price sources, because a practice run downloads none. Returns a
/// warning for each source without one.
fn copy_prices(config: &PricesConfig, from: &Path, to: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let (from, to) = (PriceStore::new(from), PriceStore::new(to));
    for source in &config.sources {
        if matches!(source.location, PriceLocation::File(_)) {
            continue;
        }
        let copied = match from.load(source, StoredAs::Current) {
            Ok(Some(table)) => to.save(source, StoredAs::Current, &table),
            Ok(None) => Err(io::ErrorKind::NotFound.into()),
            Err(error) => Err(error),
        };
        if let Err(error) = copied {
            let cause = match error.kind() {
                io::ErrorKind::NotFound => "none are on disk".to_owned(),
                _ => error.to_string(),
            };
            let name = &source.name;
            warnings.push(format!(
                "No prices of {name}: {cause}; read them with: sniper prices update"
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_of_an_earlier_practice_run_is_emptied() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("practice");
        let mark = empty(&directory).unwrap();
        let rejected = reject_other_runs(&directory).unwrap_err();
        assert!(crate::text::error_chain(&rejected).contains("of a practice run"), "{rejected:?}");
        reject_other_runs(parent.path()).unwrap();
        fs::write(directory.join("ledger.db"), "old").unwrap();
        assert!(empty(&directory).unwrap_err().to_string().contains("another practice run"));
        drop(mark);
        drop(empty(&directory).unwrap());
        let names: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(names, [MARK]);

        let other = parent.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("ledger.db"), "real").unwrap();
        assert!(empty(&other).unwrap_err().to_string().contains("other files"));
        assert_eq!(fs::read_to_string(other.join("ledger.db")).unwrap(), "real");
    }

    #[test]
    fn the_data_directory_of_a_practice_run_is_below_that_of_real_runs() {
        for market in Market::ALL {
            let (practice, real) = directories(market).unwrap();
            assert!(practice.is_absolute() && practice != real);
            assert!(practice.ends_with(Path::new(DIRECTORY).join(market.name())), "{practice:?}");
        }
    }
}
