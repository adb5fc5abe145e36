//! Command-line arguments.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};

#[cfg(feature = "shared")]
use super::shared_group::{self, SharedGroupArgs};
use super::{
    alert::{self, AlertArgs},
    capture::{self, CaptureArgs},
    check::{self, CheckArgs},
    completions::{self, CompletionsArgs},
    config::{self, ConfigArgs},
    dashboard,
    demo::{self, DemoArgs},
    doctor::{self, DoctorArgs},
    health,
    init::{self, InitArgs},
    ledger::{self, LedgerArgs},
    markets,
    prices::{self, PricesArgs},
    profit::{self, ProfitArgs},
    reload::{self, ReloadArgs},
    replay::command::{self as replay, ReplayArgs},
    run::{self, RunArgs},
    sim::{self, SimArgs},
    status::{self, StatusArgs},
    whitelist::{self, WhitelistArgs},
};
use crate::{clock, config::Market};

const ROOT_EXAMPLES: &str = "\
Examples:
  sniper demo              watch the bot on a simulated market
  sniper check             validate the settings
  sniper run --live        buy with real money";

/// The command line of the program.
#[derive(Debug, Parser)]
#[command(version, about = about(), long_about = long_about(), max_term_width = 100, after_help = ROOT_EXAMPLES)]
pub struct Cli {
    /// Defaults to [`Command::Run`].
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`, when no command is given.
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub global: GlobalArgs,
}

fn about() -> String {
    let markets = Market::ALL.map(Market::title).join(", ");
    format!(
        "Watches the live listings of a market ({markets}) and buys the items on your whitelist"
    )
}

fn long_about() -> String {
    let about = about();
    format!("{about}.\n\nDry by default: logs what it would buy. With --live it spends real money.")
}

/// Arguments of every command.
#[derive(Clone, Debug, Args)]
pub struct GlobalArgs {
    /// Path to the settings file [default: `SNIPER_CONFIG`, or sniper.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object as the last line of stdout, and log to stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Show times in UTC, also on a terminal
    #[arg(long, global = true)]
    pub utc: bool,
    /// Colors: on terminals without `NO_COLOR`, always, or never
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: ColorWhen,
}

/// Value of `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorWhen {
    /// Applies the choice to all output of this process.
    fn apply(self) {
        let choice = match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Watch the market and buy; without --live, only log what it would buy
    #[command(after_help = run::EXAMPLES)]
    Run(RunArgs),
    /// Watch the bot buy on a simulated market in this process; costs nothing
    #[command(after_help = demo::EXAMPLES)]
    Demo(DemoArgs),
    /// Run the simulated market alone, to test the bot from another terminal
    #[command(after_help = sim::EXAMPLES)]
    Sim(SimArgs),
    /// Record feeds to disk; public feeds need no settings
    #[command(after_help = capture::EXAMPLES)]
    Capture(CaptureArgs),
    /// Show what the settings would have ordered in a recording, and why not; sends nothing
    #[command(after_help = replay::EXAMPLES)]
    Replay(ReplayArgs),
    /// Test the settings, connection, account and disk step by step; never buys
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(DoctorArgs),
    /// Ask for the first settings, and write .env and sniper.toml
    #[command(after_help = init::EXAMPLES)]
    Init(InitArgs),
    /// Validate the settings and show them; offline
    #[command(after_help = check::EXAMPLES)]
    Check(CheckArgs),
    /// Show the effective settings and where each is set; offline
    #[command(after_help = config::EXAMPLES)]
    Config(ConfigArgs),
    /// Show the markets, and what each of them supports
    #[command(after_help = markets::EXAMPLES)]
    Markets,
    /// Read the price sources now, and show prices, ages and changes
    #[command(after_help = prices::EXAMPLES)]
    Prices(PricesArgs),
    /// Add, remove, list and pause entries, import them from another tool, or export the whitelist
    #[command(after_help = whitelist::EXAMPLES)]
    Whitelist(WhitelistArgs),
    /// Send test messages to the alert channels
    #[command(after_help = alert::EXAMPLES)]
    Alert(AlertArgs),
    /// Show, correct, export or verify the orders and the budget
    #[command(after_help = ledger::EXAMPLES)]
    Ledger(LedgerArgs),
    /// Compare what was paid with today's prices; offline
    #[command(after_help = profit::EXAMPLES)]
    Profit(ProfitArgs),
    /// Show the state of the bot: mode, remaining budget, orders, halts
    #[command(after_help = status::EXAMPLES)]
    Status(StatusArgs),
    /// Apply changed settings to the running bot: whitelist, budget, prices and alerts
    #[command(after_help = reload::EXAMPLES)]
    Reload(ReloadArgs),
    /// Create, show or change the budget that several bots share in PostgreSQL
    #[cfg(feature = "shared")]
    #[command(after_help = shared_group::EXAMPLES)]
    Shared(SharedGroupArgs),
    /// Print the address of the running bot's page, with a code that signs a browser in
    #[command(after_help = dashboard::EXAMPLES)]
    Dashboard,
    /// Stop ordering immediately, also in a running bot; it keeps watching
    #[command(after_help = ledger::HALT_EXAMPLES)]
    Halt,
    /// Resume ordering after a halt
    #[command(after_help = ledger::RESUME_EXAMPLES)]
    Resume,
    /// Exit with 0 if a bot runs and answers, else with 1; for containers and monitors
    #[command(after_help = health::EXAMPLES)]
    Health,
    /// Print the script that completes commands and options in a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

impl Cli {
    /// Parses the command line of this process. Exits with code 2 and an error message if it is
    /// invalid.
    pub fn read() -> Self {
        let cli = Self::parse_from(words(std::env::args_os()));
        if let Err(error) = cli.check() {
            error.exit();
        }
        cli.global.color.apply();
        if cli.global.utc {
            clock::show_utc();
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

    /// Returns the definition of the command line.
    pub fn command_line() -> clap::Command {
        <Self as CommandFactory>::command()
    }
}

/// Returns the words of a command line. For `sniper help --help` it is `sniper help`, because clap
/// takes every word after `help` for a command.
fn words(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    if let [_program, help, flag] = words.as_slice()
        && help == "help"
        && (flag == "--help" || flag == "-h")
    {
        words.pop();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        assert!(read(&["--json", "check"]).unwrap().global.json);
        assert!(read(&["check", "--json", "--config", "x.toml"]).unwrap().global.json);
    }

    #[test]
    fn misspelled_commands_and_options_are_corrected() {
        for (line, nearest) in [
            (&["staus"][..], "'status'"),
            (&["ledger", "lst"], "'list'"),
            (&["run", "--lvie"], "'--live'"),
            (&["--lvie"], "'--live'"),
            (&["--color", "alway"], "'always'"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(nearest), "{line:?}: {error}");
        }
    }

    #[test]
    fn help_of_help_is_the_help() {
        let of = |line: &[&str]| words(line.iter().map(OsString::from));
        for flag in ["--help", "-h"] {
            let error = Cli::try_parse_from(of(&["sniper", "help", flag])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        }
        assert_eq!(of(&["sniper", "run", "--help"]).len(), 3);
        assert_eq!(of(&["sniper", "whitelist", "help", "--help"]).len(), 4);
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
