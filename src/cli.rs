//! The words of the command line.

use std::{path::PathBuf, time::Duration};

use crate::capture::cli::CaptureArgs;
use crate::ledger::cli::LedgerArgs;
use crate::sim;
use crate::sim::cli::SimArgs;
use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};

/// Watches CSGORoll's live listings and buys the ones on your whitelist before anybody else.
///
/// Dry by default: it logs what it would buy. With --live it spends real money.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    /// What to do; without a word: run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// For plain `sniper`, which is `sniper run`.
    #[command(flatten)]
    pub run: RunArgs,
    /// What every command takes.
    #[command(flatten)]
    pub shared: SharedArgs,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct SharedArgs {
    /// The policy's file [default: what `SNIPER_CONFIG` says, or sniper.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object as the last line of stdout, and log to stderr
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Watch the configured marketplace; dry unless --live
    Run(RunArgs),
    /// Watch the real bot buy on a practice market, both in this process; costs nothing
    Demo(DemoArgs),
    /// Open the practice market alone, for rehearsal from another terminal
    Sim(SimArgs),
    /// Record feeds to disk as they are; the public ones need no settings
    Capture(CaptureArgs),
    /// Try everything step by step and say what to do; never buys
    Doctor,
    /// Read every setting and say what is wrong or what the bot would do; offline
    Check(CheckArgs),
    /// What was bought, and what may still be spent; correct it, export it, check it
    Ledger(LedgerArgs),
    /// How the bot is doing: mode, budget left, in flight, unknown, halts
    Status,
    /// Stop buying at once, also in a running bot; the feed goes on
    Halt,
    /// Let buying go on after a halt, once you have looked
    Resume,
}

/// What `run` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct RunArgs {
    /// Buy, with real money
    #[arg(long)]
    pub live: bool,
    /// Lift the halts of the last run, once you have looked
    #[arg(long, requires = "live")]
    pub resume: bool,
    /// Begin a new ledger in place of one that is lost or an older copy; what the account bought in
    /// the last 24 hours counts against `total`
    #[arg(long, requires = "live")]
    pub new_ledger: bool,
    /// With --new-ledger: count nothing that was bought before
    #[arg(long, requires = "new_ledger")]
    pub not_counted: bool,
    /// Record the feed below `SNIPER_DATA`, beside trading
    #[arg(long)]
    pub record: bool,
    /// Stop cleanly after this long, like 60s, 5m or 8h [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::shutdown::parse_duration)]
    pub lasting: Option<Duration>,
}

/// What `demo` takes.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How long it takes
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = crate::shutdown::parse_duration)]
    pub lasting: Duration,
    /// Listings a second
    #[arg(long, default_value = "20")]
    pub rate: sim::Rate,
    /// The same seed makes the same market
    #[arg(long, default_value_t = 7, value_parser = sim::settings::parse_seed)]
    pub seed: u64,
}

/// What `check` takes.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Check as for `run --live`
    #[arg(long)]
    pub live: bool,
}

impl Cli {
    /// Reads the command line of this process. Ends the process with exit code 2, and what to
    /// write instead, when it makes no sense.
    pub fn read() -> Self {
        let cli = Self::parse();
        if let Err(error) = cli.check() {
            error.exit();
        }
        cli
    }

    /// The command. Without a word: run.
    pub fn command(&self) -> Command {
        self.command.clone().unwrap_or_else(|| Command::Run(self.run.clone()))
    }

    /// `sniper --live demo` would silently drop the `--live`.
    fn check(&self) -> Result<(), clap::Error> {
        if self.command.is_some() && self.run != RunArgs::default() {
            let message =
                "--live, --for and the like belong behind the command, as in `sniper run --live`";
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
    fn the_command_line_is_well_formed() {
        Cli::command_line().debug_assert();
    }

    #[test]
    fn plain_sniper_is_a_dry_run_for_ever() {
        assert_eq!(run(&[]), RunArgs::default());
        assert_eq!(run(&[]), run(&["run"]));
    }

    #[test]
    fn live_and_for_are_understood_with_and_without_the_word_run() {
        let live =
            RunArgs { live: true, lasting: Some(Duration::from_secs(60)), ..RunArgs::default() };
        assert_eq!(run(&["--live", "--for", "60s"]), live);
        assert_eq!(run(&["run", "--live", "--for", "60s"]), live);
    }

    #[test]
    fn a_new_ledger_is_for_live_runs_and_counts_unless_said_otherwise() {
        let new = run(&["run", "--live", "--new-ledger"]);
        assert!(new.new_ledger && !new.not_counted);
        assert!(run(&["--live", "--new-ledger", "--not-counted"]).not_counted);
        assert!(read(&["run", "--new-ledger"]).is_err());
        assert!(read(&["run", "--live", "--not-counted"]).is_err());
    }

    #[test]
    fn options_before_another_command_are_not_dropped_in_silence() {
        assert!(read(&["--live", "check"]).is_err());
        assert!(read(&["--for", "1s", "run"]).is_err());
        assert!(read(&["--json", "check"]).unwrap().shared.json);
        assert!(read(&["check", "--json", "--config", "x.toml"]).unwrap().shared.json);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        for words in
            [&["--for", "soon"][..], &["--for"], &["buy"], &["run", "extra"], &["--config"]]
        {
            let error = read(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }
}
