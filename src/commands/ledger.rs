//! `sniper ledger`, `halt`, `resume` and `status`: what a person asks of a ledger, at rest or
//! through the running bot.

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
        cli::{LedgerCommandError, LedgerCommands, person},
        reader::LedgerReader,
    },
    secret::Masking,
};

/// Puts one question to the ledger of this `SNIPER_DATA`. What it returns is the exit code.
///
/// # Errors
///
/// An [`AppError`] that says why it was not answered.
pub fn at<T: Termination>(
    shared: &SharedArgs,
    output: Output,
    question: impl FnOnce(&mut LedgerCommands<'_>) -> Result<T, LedgerCommandError>,
) -> Result<ExitCode, AppError> {
    let loaded = report::load(shared, false)?;
    let (data, state) = (&loaded.config.data_dir, loaded.config.state_dir.as_deref());
    if let Some(copy) = LedgerReader::copy_of(data, state) {
        let note =
            "There is no ledger in SNIPER_DATA; this is the copy that was saved when it was lost";
        // It is a remark: where stderr is gone, the answer still is not.
        drop(writeln!(io::stderr().lock(), "{note}: {copy:?}"));
    }
    let mut out = Masking::new(io::stdout().lock());
    let mut desk = LedgerCommands {
        folder: data,
        state,
        as_json: output.is_json(),
        who: &person(),
        now: clock::now(),
        out: &mut out,
        confirm: &mut confirm,
    };
    let asked = question(&mut desk);
    match asked.and_then(|asked| Ok(out.flush().map(|()| asked)?)) {
        // A reader that went away has seen enough.
        Err(LedgerCommandError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        asked => Ok(asked?.report()),
    }
}

/// Asks for a yes. Where nobody can be asked, the answer is no.
fn confirm(question: &str) -> bool {
    let mut answer = String::new();
    let asked = write!(io::stderr().lock(), "{question} [y/N] ");
    let is_answered =
        asked.is_ok() && io::stdin().is_terminal() && io::stdin().read_line(&mut answer).is_ok();
    is_answered && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}
