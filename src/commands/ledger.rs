//! `sniper ledger`, `halt`, `resume` and `status`: commands on the ledger, directly or through the
//! running bot.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::{ExitCode, Termination},
};

use super::{
    AppError,
    report::{self, Output},
};
use crate::{
    cli::SharedArgs,
    clock,
    ledger::{
        cli::{LedgerCommandError, LedgerCommands, operator_name},
        reader::LedgerReader,
    },
    secret::Masking,
};

/// Runs a command on the ledger of this `SNIPER_DATA` and returns its exit code.
///
/// # Errors
///
/// Returns an [`AppError`] if the settings are invalid or the command fails.
pub fn at<T: Termination>(
    shared: &SharedArgs,
    output: Output,
    command: impl FnOnce(&mut LedgerCommands<'_>) -> Result<T, LedgerCommandError>,
) -> Result<ExitCode, AppError> {
    let loaded = report::load(shared, false)?;
    let (data, state) = (&loaded.config.data_dir, loaded.config.state_dir.as_deref());
    if let Some(copy) = LedgerReader::copy_of(data, state) {
        let note = "No ledger in SNIPER_DATA; showing the copy that was saved when it was lost";
        // The note is optional: the command also runs if stderr is closed.
        drop(writeln!(io::stderr().lock(), "{note}: {copy:?}"));
    }
    let mut out = Masking::new(io::stdout().lock());
    let mut commands = LedgerCommands {
        folder: data,
        state,
        as_json: output.is_json(),
        who: &operator_name(),
        now: clock::now(),
        out: &mut out,
        confirm: &mut confirm,
    };
    let result = command(&mut commands);
    match result.and_then(|done| Ok(out.flush().map(|()| done)?)) {
        // The reader closed the pipe, as `head` does.
        Err(LedgerCommandError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        result => Ok(result?.report()),
    }
}

/// Asks the user to confirm. Returns `false` if stdin is not a terminal.
fn confirm(question: &str) -> bool {
    let mut answer = String::new();
    let asked = write!(io::stderr().lock(), "{question} [y/N] ");
    let is_answered =
        asked.is_ok() && io::stdin().is_terminal() && io::stdin().read_line(&mut answer).is_ok();
    is_answered && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}
