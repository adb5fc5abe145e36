//! The commands of the program, one module each: arguments, run and output. `main.rs` dispatches to
//! them.
//!
//! - [`cli`]: the command line.
//! - [`run`], [`practice`], [`demo`]: a trading session, on the market or against the simulator.
//! - [`dashboard`]: sign-in of a browser to the page of a running bot.
//! - [`sim`]: the simulator alone. [`capture`]: records feeds to disk. [`replay`]: a recording
//!   through the decision engine.
//! - [`init`]: the first settings. [`config`]: the effective settings. [`doctor`], [`check`]:
//!   diagnostics, online and offline.
//! - [`markets`]: the markets. [`prices`]: the price sources.
//! - [`whitelist`]: lists, imports, exports, edits and pauses entries.
//! - [`profit`]: today's value of the purchases.
//! - [`alert`]: test messages.
//! - [`ledger`]: `ledger`, `halt` and `resume`. [`status`]: state of the bot and the ledger.
//! - [`reload`]: applies changed settings to the running bot.
//! - `shared_group`: `sniper shared`, the budget of several bots.
//! - [`health`]: whether a bot answers. [`completions`], [`man`]: files of a package.
//!
//! Shared by the commands:
//!
//! - [`session`]: start and end of a trading session, and the tasks beside the feed.
//! - [`background`]: thread for account reads and back-filling.
//! - [`progress`]: progress of long work on a terminal.
//! - [`summary`]: results of a session. [`report`]: output to stdout and stderr. [`exit_code`]:
//!   exit codes.
//! - [`known_names`]: items of the whitelist, compared with the names in prices and recordings.
//! - [`simulated_market`]: the simulators behind one type.

pub mod alert;
pub mod background;
pub mod capture;
pub mod check;
pub mod cli;
pub mod completions;
pub mod config;
pub mod dashboard;
pub mod demo;
pub mod doctor;
pub mod exit_code;
pub mod health;
pub mod init;
pub mod known_names;
pub mod ledger;
pub mod man;
pub mod markets;
pub mod practice;
pub mod prices;
pub mod profit;
pub mod progress;
pub mod reload;
pub mod replay;
pub mod report;
pub mod run;
pub mod session;
#[cfg(feature = "shared")]
pub mod shared_group;
mod sharing;
pub mod sim;
pub mod simulated_market;
pub mod status;
pub mod summary;
pub mod whitelist;

use std::{error::Error, path::Path, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use self::{
    capture::CaptureError, cli::GlobalArgs, init::InitError, ledger::LedgerCommandError,
    report::Output, whitelist::edit::EditCommandError,
};
use crate::{
    config::{
        Config, ConfigErrors, Loaded, Market, Sources,
        load::{BotPaths, process_environment},
    },
    domain::{money::Decimals, unit},
    ledger::{
        LedgerError,
        control::{BotLocation, SettingsPaths},
    },
    log::LogError,
    sim::SimServerError,
    threads::affinity,
};

/// Maximum time to wait for blocking tasks at the end of the program.
const RUNTIME_END_MAX: Duration = Duration::from_millis(100);

/// Input of every command that reads the settings.
#[derive(Clone, Copy, Debug)]
pub struct CommandContext<'a> {
    pub global: &'a GlobalArgs,
    pub output: Output,
    /// Returns the number of decimals of a market's amounts.
    pub decimals: fn(Market) -> Decimals,
}

impl<'a> CommandContext<'a> {
    pub const fn new(global: &'a GlobalArgs, decimals: fn(Market) -> Decimals) -> Self {
        Self { global, output: Output::new(global.json), decimals }
    }

    /// Loads the settings of this process for a command that dials the feed, or checks that one
    /// can.
    ///
    /// # Errors
    ///
    /// Returns all errors at once.
    pub fn load_for_feed(&self, live: bool) -> Result<Loaded, ConfigErrors> {
        let loaded = Config::load(&self.sources(live))?;
        unit::set(loaded.config.market.settings().unit);
        Ok(loaded)
    }

    /// Returns the sources of the settings of this process.
    pub fn sources(&self, live: bool) -> Sources<'_> {
        Sources {
            lookup: &process_environment,
            directory: Path::new("."),
            config_file: self.global.config.as_deref(),
            live,
            decimals: self.decimals,
        }
    }

    /// Loads the settings of this process for a command that does not dial the feed.
    ///
    /// # Errors
    ///
    /// Returns [`AppError::Settings`] with all errors at once.
    pub fn load(&self) -> Result<Loaded, AppError> {
        let loaded = Config::load_without_feed(&self.sources(false))?;
        unit::set(loaded.config.market.settings().unit);
        Ok(loaded)
    }

    /// Returns the data directory and the state directory for a command about the running bot. If
    /// the settings that name them were edited since the bot started, these are the directories
    /// that it uses. Sets the unit of amounts to that of the bot's market, so this must be called
    /// before the settings are loaded, which may be invalid or name another market.
    pub fn data_directories(&self) -> (PathBuf, Option<PathBuf>) {
        let BotPaths { market, settings, data, state } = BotPaths::of(&self.sources(false));
        let paths = |state| SettingsPaths { state_dir: state, settings: &settings };
        let bot = state.as_deref().and_then(|state| BotLocation::find(&data, paths(state)));
        // `SNIPER_DATA` in the environment names the directory for this command.
        let bot =
            bot.filter(|bot| process_environment("SNIPER_DATA").is_none() || bot.is_in(&data));
        unit::set(bot.as_ref().and_then(|bot| bot.market).unwrap_or(market).settings().unit);
        let elsewhere = bot.filter(|bot| !bot.is_in(&data));
        (elsewhere.map_or(data, |bot| bot.data), state)
    }

    /// Loads like [`load`](Self::load), and adds warnings about items of the whitelist that the
    /// stored prices do not have.
    ///
    /// # Errors
    ///
    /// Returns [`AppError::Settings`] with all errors at once.
    pub fn load_and_check_names(&self) -> Result<Loaded, AppError> {
        let mut loaded = self.load()?;
        known_names::apply(&mut loaded);
        Ok(loaded)
    }
}

/// Failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("{}", check::format_errors(.0).trim_end())]
    Settings(Box<ConfigErrors>),
    /// The whitelist has settings that the market cannot honor.
    #[error("this market cannot honor these whitelist settings: {0}; remove them")]
    Unsupported(String),
    #[error("cannot start the log")]
    Log(#[from] LogError),
    #[error("cannot start the simulated market")]
    Simulator(#[from] SimServerError),
    #[error("cannot use the ledger")]
    Ledger(#[from] LedgerError),
    /// The ledger belongs to another account, or another bot uses it.
    #[error("cannot use the ledger for this account")]
    LedgerRejected(#[source] Arc<LedgerError>),
    /// A command on the ledger failed.
    #[error(transparent)]
    LedgerCommand(#[from] LedgerCommandError),
    #[error(transparent)]
    Capture(#[from] CaptureError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    Edit(#[from] EditCommandError),
    /// A part of the program could not be started, for a cause other than the settings.
    #[error("cannot start {what}")]
    Start { what: &'static str, source: Box<dyn Error + Send + Sync> },
    /// The command could not be carried out, for a cause that the user can remove.
    #[error("{0}")]
    Failed(String),
    #[cfg(feature = "shared")]
    #[error(transparent)]
    SharedGroup(#[from] shared_group::SharedGroupError),
    #[error("cannot write the output")]
    Print(#[from] std::io::Error),
}

impl AppError {
    /// Creates an [`AppError::Start`].
    pub fn start(what: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Start { what, source: source.into() }
    }

    /// Creates an [`AppError::Failed`]: `cannot <what>: <error>`.
    pub fn failed(what: &str, error: &dyn Error) -> Self {
        Self::Failed(format!("cannot {what}: {}", crate::text::error_chain(error)))
    }

    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_)
            | Self::Unsupported(_)
            | Self::Simulator(_)
            | Self::Log(LogError::Filter | LogError::Misspelled { .. } | LogError::Quoted) => {
                exit_code::CONFIG
            }
            Self::Capture(error) => error.exit_code(),
            Self::Init(error) => error.exit_code(),
            Self::Edit(error) => error.exit_code(),
            #[cfg(feature = "shared")]
            Self::SharedGroup(error) => error.exit_code(),
            Self::Log(_) | Self::Start { .. } => exit_code::OS,
            Self::Ledger(_) | Self::LedgerRejected(_) => exit_code::CANNOT_CREATE,
            Self::LedgerCommand(_) | Self::Failed(_) => exit_code::FAILURE,
            Self::Print(_) => exit_code::IO,
        }
    }

    /// Formats the error with its causes.
    pub fn chain(&self) -> String {
        crate::text::error_chain(self)
    }
}

impl From<ConfigErrors> for AppError {
    fn from(problems: ConfigErrors) -> Self {
        Self::Settings(Box::new(problems))
    }
}

impl From<&AppError> for ExitCode {
    fn from(error: &AppError) -> Self {
        Self::from(error.exit_code())
    }
}

/// Runs a future to completion on this thread, together with the tasks that it spawns.
///
/// # Errors
///
/// Returns the same as [`block_on_busy_polling`].
pub fn block_on<T>(future: impl Future<Output = Result<T, AppError>>) -> Result<T, AppError> {
    block_on_busy_polling(false, future)
}

/// Does the same as [`block_on`]; `spin` configures the runtime for a dedicated core.
///
/// With `spin`, the runtime polls for I/O events after each task poll, for a task that never yields
/// idle time: see [`Sniper::spin`](crate::sniper::Sniper::spin).
///
/// # Errors
///
/// Returns the error of the future, or [`AppError::Start`] if the runtime cannot be created.
pub fn block_on_busy_polling<T>(
    spin: bool,
    future: impl Future<Output = Result<T, AppError>>,
) -> Result<T, AppError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    if spin {
        builder.event_interval(1);
    }
    // A DNS look-up has a thread of its own, which must not use the CPU of the feed.
    let runtime = builder.enable_all().on_thread_start(affinity::unpin).build();
    let runtime = runtime.map_err(|error| AppError::start("the event loop", error))?;
    let done = runtime.block_on(future);
    // A DNS look-up cannot be cancelled and may block for a long time.
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_the_runtime_starts_does_not_stay_on_the_cpu_of_the_feed() {
        use rustix::thread::sched_getaffinity;

        let all = sched_getaffinity(None).unwrap();
        let cpu = (0..=affinity::CPU_MAX).find(|cpu| affinity::is_available(*cpu)).unwrap();
        // A thread of its own, because it stays pinned.
        let session = std::thread::spawn(move || {
            block_on(async {
                affinity::pin(cpu).unwrap();
                let blocking = || sched_getaffinity(None).unwrap();
                Ok((blocking(), tokio::task::spawn_blocking(blocking).await.unwrap()))
            })
        });
        let (feed, blocking) = session.join().unwrap().unwrap();
        assert_eq!((feed.count(), blocking.count()), (1, all.count()));
    }
}
