//! `sniper doctor`: runs all checks and prints their results.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use super::{
    AppError, block_on,
    report::{self, Output, print},
};
use crate::{
    cli::SharedArgs,
    config::load::process_environment,
    doctor::{self, LISTING_WAIT, step::DoctorStep},
    markets::csgoroll::Csgoroll,
    ws::Feed,
};

/// Runs all checks and prints each result. The exit code is 0 only if every check passes.
///
/// # Errors
///
/// Returns [`AppError::Print`] if a result cannot be printed.
pub fn run(shared: &SharedArgs, output: Output) -> Result<ExitCode, AppError> {
    let no_color = process_environment("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colors = io::stdout().is_terminal() && !no_color;
    let mut printed = Ok(());
    let show = |step: &DoctorStep| {
        if !output.is_json() && printed.is_ok() {
            printed = print(&step.line(colors).to_string());
        }
    };
    let report = match report::load(shared, false) {
        Ok(loaded) => {
            let feed = Feed::new(Csgoroll::new(&loaded.config), loaded.config);
            block_on(async { Ok(doctor::run_checks(&feed, LISTING_WAIT, show).await) })?
        }
        Err(AppError::Settings(problems)) => {
            doctor::invalid_settings(&AppError::Settings(problems).to_string(), show)
        }
        Err(error) => return Err(error),
    };
    printed?;
    if output.is_json() {
        output.json(&report.to_json())?;
    } else {
        print(&report.conclusion())?;
    }
    Ok(ExitCode::from(report.exit_code()))
}
