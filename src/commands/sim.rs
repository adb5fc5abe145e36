//! `sniper sim`: runs the simulated market without the bot.

use std::process::ExitCode;

use super::{
    AppError, block_on,
    report::{Output, print},
};
use crate::{
    config::load::process_environment,
    shutdown::{SecondSignal, Shutdown},
    sim::cli::{self, SimArgs},
};

/// Runs the simulated market until shutdown.
///
/// # Errors
///
/// Returns an [`AppError`] if it cannot start or its output cannot be printed.
pub fn run(args: &SimArgs, output: Output) -> Result<ExitCode, AppError> {
    if args.print_whitelist {
        print(cli::whitelist())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.lists_faults() {
        print(&cli::fault_list())?;
        return Ok(ExitCode::SUCCESS);
    }
    let log = output.log_filtered(process_environment("RUST_LOG").as_deref())?;
    let market = cli::open(args)?;
    // Printed before signals are handled, so that a signal ends the process if the output blocks.
    print(&cli::env_lines(&market, args.seed))?;
    let quit = SecondSignal::watch()?;
    let summary = block_on(async {
        let mut shutdown = Shutdown::from_signals(&quit, args.duration);
        let summary = cli::run(args, market, &mut shutdown).await;
        quit.stopping();
        Ok(summary)
    })?;
    output.result(log.finish(), &summary, || summary.to_json(), 0)
}
