//! From a command to an exit code: the parts that `main.rs` puts together.
//!
//! - [`session`]: a session's beginning and end; what runs beside the feed.
//! - [`background`]: cold reads, on a thread of their own.
//! - [`capture`]: feeds, recorded to disk.
//! - [`demo`]: a session against the practice market.
//! - [`ledger`]: what a person asks of a ledger.
//! - [`doctor`]: what works and what does not.
//! - [`sim`]: the practice market alone.
//! - [`record`]: the feed, recorded beside trading.
//! - [`report`]: what is printed, and where.

pub mod background;
pub mod capture;
pub mod demo;
pub mod doctor;
pub mod ledger;
pub mod record;
pub mod report;
pub mod session;
pub mod sim;

use std::{error::Error, process::ExitCode, sync::Arc, time::Duration};

use crate::{
    capture::CaptureError,
    config::ConfigErrors,
    config::check,
    ledger::{LedgerError, cli::LedgerCommandError},
    log::LogError,
    sim::SimServerError,
};

/// How long what still runs in the background may hold up the end.
const RUNTIME_END_MAX: Duration = Duration::from_millis(100);

/// The program could not do what it was asked to, for one of these reasons.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A setting is wrong.
    #[error("{}", check::wrong(.0).trim_end())]
    Settings(Box<ConfigErrors>),
    /// The log cannot be set up.
    #[error("cannot log")]
    Log(#[from] LogError),
    /// The practice market cannot be opened.
    #[error("cannot open the practice market")]
    Market(#[from] SimServerError),
    /// The ledger cannot be used.
    #[error("the ledger cannot be used")]
    Ledger(#[from] LedgerError),
    /// The ledger may not be used for the account.
    #[error("the ledger cannot be used for this account")]
    Refused(#[source] Arc<LedgerError>),
    /// What a person asked of the ledger was not done.
    #[error(transparent)]
    Desk(#[from] LedgerCommandError),
    /// A capture cannot begin.
    #[error("cannot capture")]
    Capture(#[from] CaptureError),
    /// Something could not be set up that has nothing to do with settings.
    #[error("cannot start {what}")]
    Start {
        /// What.
        what: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// What should be printed could not be.
    #[error("cannot print")]
    Print(#[from] std::io::Error),
}

impl AppError {
    /// Something could not be set up.
    pub fn start(what: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Start { what, source: source.into() }
    }

    /// The exit code, after `sysexits.h`.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_)
            | Self::Market(_)
            | Self::Log(LogError::Filter | LogError::Misspelt { .. } | LogError::Quoted) => {
                check::EXIT_CONFIG
            }
            Self::Capture(error) => error.exit_code(),
            Self::Log(_) | Self::Start { .. } => 71,
            Self::Ledger(_) | Self::Refused(_) => 73,
            Self::Desk(_) => 1,
            Self::Print(_) => 74,
        }
    }

    /// The error with everything that led to it, for a person.
    pub fn chain(&self) -> String {
        crate::text::error_chain(self)
    }
}

impl From<&AppError> for ExitCode {
    fn from(error: &AppError) -> Self {
        Self::from(error.exit_code())
    }
}

/// Runs a future to its end on this thread, with everything that it spawns.
///
/// # Errors
///
/// As for [`block_on_core`].
pub fn block_on<T>(future: impl Future<Output = Result<T, AppError>>) -> Result<T, AppError> {
    block_on_core(false, future)
}

/// The same, and with `spin` for a core of its own.
///
/// With `spin` the system is asked for news after every turn of every task, which is for who has a
/// task that never rests: see [`Sniper::spin`](crate::sniper::Sniper::spin).
///
/// # Errors
///
/// What the future says, or [`AppError::Start`] if the system gives no event loop.
pub fn block_on_core<T>(
    spin: bool,
    future: impl Future<Output = Result<T, AppError>>,
) -> Result<T, AppError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    if spin {
        builder.event_interval(1);
    }
    let runtime = builder.enable_all().build();
    let runtime = runtime.map_err(|error| AppError::start("the event loop", error))?;
    let done = runtime.block_on(future);
    // A look-up of a name cannot be cancelled, and may take as long as the name server likes.
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    done
}
