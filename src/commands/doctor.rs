//! `sniper doctor`: from its word to an exit code.

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
};

/// Examines everything, shows each step as it is done, and exits with 0 only if all is well.
///
/// # Errors
///
/// [`AppError::Print`] if what was found cannot be printed.
pub fn run(shared: &SharedArgs, output: Output) -> Result<ExitCode, AppError> {
    let no_color = process_environment("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colors = io::stdout().is_terminal() && !no_color;
    let mut printed = Ok(());
    let show = |step: &DoctorStep| {
        if !output.is_json() && printed.is_ok() {
            printed = print(&step.line(colors).to_string());
        }
    };
    let examination = match report::load(shared, false) {
        Ok(loaded) => {
            block_on(async { Ok(doctor::examine(&loaded.config, LISTING_WAIT, show).await) })?
        }
        Err(AppError::Settings(problems)) => {
            doctor::without_settings(&AppError::Settings(problems).to_string(), show)
        }
        Err(error) => return Err(error),
    };
    printed?;
    if output.is_json() {
        output.json(&examination.to_json())?;
    } else {
        print(&examination.verdict())?;
    }
    Ok(ExitCode::from(examination.exit_code()))
}
