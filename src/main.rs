//! `sniper`: the words of the command line → one command → an exit code.
//!
//! The whole bot is the one call in [`trade`]; whatever changes what happens to a listing changes
//! the closure there.

use std::{process::ExitCode, time::Duration};

use sniper::{
    app::{
        AppError, block_on,
        demo::Demo,
        practice,
        report::{self, Output},
        session::{Ended, Session},
    },
    cli::{Cli, Command, DemoArgs, RunArgs, SharedArgs},
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
        Command::Demo(args) => demo(&args, output),
        Command::Sim(args) => practice::run(&args, output),
        Command::Check(args) => report::check(shared, args.live, output),
    };
    done.unwrap_or_else(|error| output.error(&error))
}

fn run(shared: &SharedArgs, args: &RunArgs, output: Output) -> Result<ExitCode, AppError> {
    let loaded = report::load(shared, args.live)?;
    let log = output.log(&loaded)?;
    let summary = block_on(trade(loaded.config, args.lasting))?;
    output.summary(summary, log)
}

fn demo(args: &DemoArgs, output: Output) -> Result<ExitCode, AppError> {
    let demo = Demo::open(args)?;
    let log = output.log(demo.loaded())?;
    demo.announce();
    let summary = block_on(trade(demo.loaded().config.clone(), Some(args.lasting)))?;
    output.summary(demo.close(summary), log)
}

/// One session: every listing of the feed is considered, until there is a reason to stop.
async fn trade(config: Config, lasting: Option<Duration>) -> Result<Summary, AppError> {
    let mut stop = Stop::listen(lasting)?;
    let mut session = Session::start(&config)?;
    let sniper = session.sniper();
    report::announce(&config);
    let ended = tokio::select! {
        biased;
        ended = session.run(&mut stop) => ended,
        gave_up = ws::run_with_reconnect(&config, |trade| sniper.consider(trade)) => Ended::GaveUp(gave_up),
    };
    Ok(session.finish(ended).await)
}
