//! `sniper demo`: runs the simulator and the real bot in one process, over real sockets.
//!
//! The demo uses generated settings and a temporary data folder, so it neither reads nor writes
//! files of the user. The simulator runs on its own thread, so that the bot runs as in a real
//! session.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use tempfile::TempDir;
use tracing::{debug, info};

use super::{
    AppError, CommandContext, block_on,
    reload::SettingsSource,
    run::{RunArgs, SessionResult, StopSignals},
    simulated_market::{AnySimulator, parse_market, settings_file},
    summary::{SimulatedMarketCounts, Summary},
};
use crate::{
    config::{Config, Loaded, Market, Sources},
    domain::{money::Decimals, unit},
    shutdown::{SecondSignal, parse_duration},
    sim,
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper demo
  sniper demo --market waxpeer
  sniper demo --for 2m --rate 100
  sniper demo --explain
  sniper demo --seed 42 --json";

/// Address of the page: a free port.
const FREE_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Arguments of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Simulated market; `sniper markets` lists them
    #[arg(long, value_name = "NAME", default_value = Market::default().name(), value_parser = parse_market)]
    pub market: Market,
    /// Duration of the demo
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Listings per second
    #[arg(long, default_value = "20")]
    pub rate: sim::Rate,
    /// Seed of the simulated market; the same seed gives the same market
    #[arg(long, default_value_t = 7, value_parser = sim::settings::parse_seed)]
    pub seed: u64,
    /// Log each listing that an entry is about but does not match, with the reason
    #[arg(long)]
    pub explain: bool,
}

/// Trades on the simulated market for the given time, and prints the summary.
///
/// # Errors
///
/// Returns an [`AppError`] if the simulator or the session fails, or the summary cannot be printed.
pub fn run<F: Future<Output = SessionResult>>(
    context: CommandContext<'_>,
    args: &DemoArgs,
    trade: impl FnOnce(Config, RunArgs, StopSignals, Option<SettingsSource>) -> F,
) -> Result<ExitCode, AppError> {
    let quit = SecondSignal::watch()?;
    let demo = Demo::open(args, context.decimals)?;
    let log = context.output.log(&demo.loaded)?;
    let mut config = demo.loaded.config.clone();
    config.dashboard.listen = Some(FREE_PORT);
    unit::set(config.market.settings().unit);
    announce(&config);
    let (duration, explain) = (Some(args.duration), args.explain);
    let args = RunArgs { duration, explain, ..RunArgs::default() };
    let summary = block_on(trade(config, args, (log.reader_gone(), quit), None))?;
    context.output.summary(demo.close(summary), log)
}

/// Logs an introduction for new users.
fn announce(config: &Config) {
    let (data, market) = (&config.data_dir, config.market.title());
    info!(
        "DEMO: a simulated market ({market}) on this machine, with play money. Nothing real is bought."
    );
    info!("The bot is the real one. It buys the items on the demo whitelist; simulated rivals");
    info!(
        "buy them too. To use the controls of the page: SNIPER_DATA={} sniper dashboard",
        data.display()
    );
}

/// A running simulator, and the settings to connect to it.
struct Demo {
    market: AnySimulator,
    loaded: Loaded,
    directory: TempDir,
}

impl Demo {
    /// Starts the simulator and generates settings for it.
    fn open(args: &DemoArgs, decimals: fn(Market) -> Decimals) -> Result<Self, AppError> {
        let settings =
            sim::SimSettings { rate: args.rate, seed: args.seed, ..sim::SimSettings::default() };
        let market = AnySimulator::start(args.market, settings)?;
        let directory = write_settings(args.market).map_err(|error| AppError::Start {
            what: "the demo: its temporary folder cannot be created",
            source: error.into(),
        })?;
        let loaded = load(&market, directory.path(), decimals)?;
        Ok(Self { market, loaded, directory })
    }

    /// Stops the simulator and adds its counts to the summary.
    fn close(self, summary: Summary) -> Summary {
        let market = SimulatedMarketCounts::new(&self.market.history());
        if let Err(error) = self.directory.close() {
            debug!(%error, "cannot remove the temporary folder of the demo");
        }
        Summary { mode: "demo", market: Some(market), ..summary }
    }
}

/// Loads the generated settings, which are complete for a live run.
fn load(
    market: &AnySimulator,
    directory: &Path,
    decimals: fn(Market) -> Decimals,
) -> Result<Loaded, AppError> {
    let environment = market.environment();
    let lookup = |name: &str| match name {
        "RUST_LOG" => std::env::var(name).ok(),
        "XDG_STATE_HOME" => directory.to_str().map(str::to_owned),
        _ => {
            let variable = environment.iter().find(|(variable, _)| *variable == name);
            variable.map(|(_, value)| value.clone())
        }
    };
    let sources = Sources { lookup: &lookup, directory, config_file: None, live: true, decimals };
    Ok(Config::load(&sources)?)
}

/// Creates a temporary folder with the demo's settings.
fn write_settings(market: Market) -> io::Result<TempDir> {
    let directory = tempfile::Builder::new().prefix("sniper-demo-").tempdir()?;
    let unit = market.settings().unit.to_ascii_lowercase();
    let settings = sim::demo::with_prices(&settings_file(market), &unit);
    fs::write(directory.path().join("sniper.toml"), settings)?;
    fs::write(directory.path().join(sim::demo::PRICE_FILE), sim::demo::PRICES)?;
    Ok(directory)
}
