//! `sniper sim`: the practice market without the bot.

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
    let market = cli::open(args)?;
    // Before signals are waited for: until then they kill, also where nobody reads this.
    print(&cli::env_lines(&market, args.seed))?;
    let quit = SecondSignal::watch()?;
    let summary = block_on(async {
        let mut stop = Shutdown::counted(&quit, args.lasting);
        let summary = cli::run(args, market, &mut stop).await;
        quit.stopping();
        Ok(summary)
    })?;
    output.result(log.finish(), &summary, || summary.to_json(), 0)
}
