//! `sniper sim`: the practice market without the bot.

use std::process::ExitCode;

use super::{
    AppError, block_on,
    report::{Output, print},
};
use crate::{
    config::load::process_environment,
    sim::cli::{self, SimArgs},
    stop::Stop,
};

/// Opens a practice market, and keeps it open until told to stop.
///
/// # Errors
///
/// An [`AppError`] if it cannot be opened, or what it says cannot be printed.
pub fn run(args: &SimArgs, output: Output) -> Result<ExitCode, AppError> {
    if args.print_whitelist {
        print(cli::whitelist())?;
        return Ok(ExitCode::SUCCESS);
    }
    let log = output.log_filtered(process_environment("RUST_LOG").as_deref())?;
    let summary = block_on(async {
        let mut stop = Stop::listen(args.lasting)?;
        let market = cli::open(args)?;
        print(&cli::env_lines(&market, args.seed))?;
        Ok(cli::run(args, market, &mut stop).await)
    })?;
    log.finish();
    if output.is_json() {
        output.json(&summary.to_json())?;
    } else {
        print(&summary.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
