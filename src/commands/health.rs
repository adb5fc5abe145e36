//! `sniper health`: whether a bot runs and answers.
//!
//! The thread of the feed answers, so a bot that hangs does not. A bot that is halted or cannot
//! reach the market is healthy: a restart would change neither.

use std::{fmt, path::Path, process::ExitCode};

use serde_json::{Value, json};

use super::{AppError, CommandContext, ledger::LedgerCommandError, status::request_status};
use crate::ledger::{
    control::{ControlAddress, ControlRequest, Instance},
    status::{LedgerStatus, NOT_RUNNING},
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper health            is a bot running with this SNIPER_DATA?
  sniper status            is it halted, and what to do?";

/// Status of the bot that answered: of the live one if there are two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health(pub(super) Option<LedgerStatus>);

impl Health {
    /// Asks the live bot, then the dry run.
    ///
    /// # Errors
    ///
    /// Returns a [`LedgerCommandError`] if a bot runs and does not answer in time.
    pub(super) fn of(data: &Path, state: Option<&Path>) -> Result<Self, LedgerCommandError> {
        let ask = |instance| {
            request_status(&ControlAddress::new(data, state, instance), &ControlRequest::Status)
        };
        let live = ask(Instance::Live)?;
        Ok(Self(if live.is_some() { live } else { ask(Instance::Dry)? }))
    }

    fn to_json(&self) -> Value {
        let mode = self.0.as_ref().map_or(NOT_RUNNING, |status| &status.mode);
        json!({ "healthy": self.0.is_some(), "mode": mode })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(status) => writeln!(f, "A bot is running: {}", status.mode),
            None => writeln!(f, "No bot is running with this SNIPER_DATA"),
        }
    }
}

/// Asks the bot of this `SNIPER_DATA`. Reads no other setting, because they may have become invalid
/// since the bot started.
///
/// # Errors
///
/// Returns an [`AppError`] if the bot does not answer in time.
pub fn run(context: CommandContext<'_>) -> Result<ExitCode, AppError> {
    let (data, state) = context.data_directories();
    let health = Health::of(&data, state.as_deref())?;
    context.output.print(&health, || health.to_json())?;
    Ok(if health.0.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
