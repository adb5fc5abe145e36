//! Command-line arguments.

use std::{path::PathBuf, time::Duration};

use crate::capture::cli::CaptureArgs;
use crate::ledger::cli::LedgerArgs;
use crate::sim;
use crate::sim::cli::SimArgs;
use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};

const ROOT_EXAMPLES: &str = "\
Examples:
  sniper demo              watch the bot on a simulated market
  sniper check             validate the settings
  sniper run --live        buy with real money";

const RUN_EXAMPLES: &str = "\
Examples:
  sniper run               log what it would buy
  sniper run --live        buy with real money
  sniper run --live --for 8h --record

Times in the log are UTC. Ctrl-C stops the bot and prints a summary.";

const DEMO_EXAMPLES: &str = "\
Examples:
  sniper demo
  sniper demo --for 2m --rate 100
  sniper demo --seed 42 --json";

const SIM_EXAMPLES: &str = "\
Examples:
  sniper sim               print the settings for .env, then serve the market
  sniper sim --print-whitelist > sniper.toml
  sniper sim --listen 127.0.0.1:8099 --for 1h";

const CAPTURE_EXAMPLES: &str = "\
Examples:
  sniper capture --out recordings
  sniper capture --out recordings --for 1h --compress
  sniper capture --out recordings binance-spot:BTCUSDT@bookTicker";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  sniper doctor
  sniper doctor --config other.toml
  sniper doctor --json";

const CHECK_EXAMPLES: &str = "\
Examples:
  sniper check
  sniper check --live
  sniper check --config other.toml --json";

const LEDGER_EXAMPLES: &str = "\
Examples:
  sniper ledger
  sniper ledger verify
  sniper ledger export > orders.csv";

const STATUS_EXAMPLES: &str = "\
Examples:
  sniper status
  sniper status --json
  watch sniper status";

const HALT_EXAMPLES: &str = "\
Examples:
  sniper halt              stop ordering
  sniper status            show the halt
  sniper resume            order again";

const RESUME_EXAMPLES: &str = "\
Examples:
  sniper status            show the halts
  sniper resume            clear them
  sniper run --live --resume";

/// Watches the live listings of CSGORoll and buys the items on your whitelist.
///
/// Dry by default: logs what it would buy. With --live it spends real money.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = ROOT_EXAMPLES)]
pub struct Cli {
    /// Command; without one: run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Arguments of plain `sniper`, which is `sniper run`.
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// Arguments of every command.
#[derive(Clone, Debug, Args)]
pub struct SharedArgs {
    /// Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object as the last line of stdout, and log to stderr
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Watch the market and buy; without --live, only log what it would buy
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Watch the bot buy on a simulated market in this process; costs nothing
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Run the simulated market alone, to test the bot from another terminal
    #[command(after_help = SIM_EXAMPLES)]
    Sim(SimArgs),
    /// Record feeds to disk; public feeds need no settings
    #[command(after_help = CAPTURE_EXAMPLES)]
    Capture(CaptureArgs),
    /// Test the settings, connection, account and disk step by step; never buys
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor,
    /// Validate the settings and show them; offline
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Show, correct, export or verify the orders and the budget
    #[command(after_help = LEDGER_EXAMPLES)]
    Ledger(LedgerArgs),
    /// Show the state of the bot: mode, remaining budget, orders, halts
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// Stop ordering immediately, also in a running bot; it keeps watching
    #[command(after_help = HALT_EXAMPLES)]
    Halt,
    /// Resume ordering after a halt
    #[command(after_help = RESUME_EXAMPLES)]
    Resume,
}

/// Arguments of `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct RunArgs {
    /// Buy with real money
    #[arg(long)]
    pub live: bool,
    /// Clear halts left by the last run
    #[arg(long, requires = "live")]
    pub resume: bool,
    /// Replace a lost or outdated ledger by a new one; what the account bought in the last 24 hours
    /// counts against `total`
    #[arg(long, requires = "live")]
    pub new_ledger: bool,
    /// With --new-ledger: do not count earlier purchases
    #[arg(long, requires = "new_ledger")]
    pub not_counted: bool,
    /// Also save the raw feed below `SNIPER_DATA`, in recordings/
    #[arg(long)]
    pub record: bool,
    /// Stop after this duration, such as 60s, 5m or 1h30m [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::shutdown::parse_duration)]
    pub duration: Option<Duration>,
}

/// Arguments of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Duration of the demo
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = crate::shutdown::parse_duration)]
    pub duration: Duration,
    /// Listings per second
    #[arg(long, default_value = "20")]
    pub rate: sim::Rate,
    /// Seed of the simulated market; the same seed gives the same market
    #[arg(long, default_value_t = 7, value_parser = sim::settings::parse_seed)]
    pub seed: u64,
}

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Also check the requirements of `run --live`
    #[arg(long)]
    pub live: bool,
}

impl Cli {
    /// Parses the command line of this process. Exits with code 2 and an error message if it is
    /// invalid.
    pub fn read() -> Self {
        let cli = Self::parse();
        if let Err(error) = cli.check() {
            error.exit();
        }
        cli
    }

    /// Returns the command; without one: `run`.
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or_else(|| Command::Run(self.run.clone()))
    }

    /// Rejects options of `run` before another command, such as `sniper --live demo`, which would
    /// otherwise be ignored.
    fn check(&self) -> Result<(), clap::Error> {
        if self.command.is_some() && self.run != RunArgs::default() {
            let message = "write --live, --for and other options after the command, as in `sniper run --live`";
            return Err(Self::command_line().error(ErrorKind::ArgumentConflict, message));
        }
        Ok(())
    }

    fn command_line() -> clap::Command {
        <Self as CommandFactory>::command()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Cli, clap::Error> {
        let cli = Cli::try_parse_from(std::iter::once(&"sniper").chain(words))?;
        cli.check().map(|()| cli)
    }

    fn run(words: &[&str]) -> RunArgs {
        match read(words).unwrap().command() {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_definition_is_valid() {
        Cli::command_line().debug_assert();
    }

    #[test]
    fn without_arguments_it_is_a_dry_run_without_time_limit() {
        assert_eq!(run(&[]), RunArgs::default());
        assert_eq!(run(&[]), run(&["run"]));
    }

    #[test]
    fn live_and_for_are_accepted_with_and_without_the_run_command() {
        let live =
            RunArgs { live: true, duration: Some(Duration::from_secs(60)), ..RunArgs::default() };
        assert_eq!(run(&["--live", "--for", "60s"]), live);
        assert_eq!(run(&["run", "--live", "--for", "60s"]), live);
    }

    #[test]
    fn a_new_ledger_requires_live_and_counts_earlier_purchases_by_default() {
        let new = run(&["run", "--live", "--new-ledger"]);
        assert!(new.new_ledger && !new.not_counted);
        assert!(run(&["--live", "--new-ledger", "--not-counted"]).not_counted);
        assert!(read(&["run", "--new-ledger"]).is_err());
        assert!(read(&["run", "--live", "--not-counted"]).is_err());
    }

    #[test]
    fn options_of_run_before_another_command_are_rejected() {
        assert!(read(&["--live", "check"]).is_err());
        assert!(read(&["--for", "1s", "run"]).is_err());
        assert!(read(&["--json", "check"]).unwrap().shared.json);
        assert!(read(&["check", "--json", "--config", "x.toml"]).unwrap().shared.json);
    }

    #[test]
    fn an_invalid_command_line_exits_with_2() {
        for words in
            [&["--for", "soon"][..], &["--for"], &["buy"], &["run", "extra"], &["--config"]]
        {
            let error = read(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }
}
