//! `sniper`: the words of the command line → one command → an exit code.
//!
//! The whole bot is the one call in [`trade`]; whatever changes what happens to a listing changes
//! the closure there.

use std::process::ExitCode;

use sniper::{
    app::{
        AppError, block_on,
        report::{self, Output},
        session::{Ended, Session},
    },
    cli::{Cli, Command, RunArgs, SharedArgs},
    config::Config,
    stop::Stop,
    summary::Summary,
    ws,
};

fn main() -> ExitCode {
    let cli = Cli::read();
    let shared = &cli.shared;
    let output = Output::new(shared.json);
    let done = match cli.command() {
        Command::Run(args) => run(shared, &args, output),
        Command::Check(args) => report::check(shared, args.live, output),
    };
    done.unwrap_or_else(|error| output.error(&error))
}

fn run(shared: &SharedArgs, args: &RunArgs, output: Output) -> Result<ExitCode, AppError> {
    let loaded = report::load(shared, args.live)?;
    let log = output.log(loaded.log_filter.as_deref())?;
    report::warnings(&loaded);
    report::announce(&loaded.config);
    let summary = block_on(async {
        let stop = Stop::listen(args.lasting)?;
        trade(loaded.config, stop).await
    })?;
    output.summary(summary, log)
}

/// One session: every listing of the feed is considered, until there is a reason to stop.
async fn trade(config: Config, mut stop: Stop) -> Result<Summary, AppError> {
    let mut session = Session::start(&config)?;
    let sniper = session.sniper();
    let ended = tokio::select! {
        biased;
        ended = session.run(&mut stop) => ended,
        gave_up = ws::run_with_reconnect(&config, |trade| sniper.consider(trade)) => Ended::GaveUp(gave_up),
    };
    Ok(session.finish(ended).await)
}
