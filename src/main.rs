//! `sniper`: runs the command of the command line and returns its exit code.
//!
//! [`trade`] contains the only call that connects the feed to the trading logic: its closure is
//! invoked for each listing.

use std::process::ExitCode;

use sniper::{
    commands::{
        AppError, block_on, block_on_core, capture, check,
        cli::{Cli, Command, SharedArgs},
        demo::{Demo, DemoArgs},
        doctor, ledger,
        report::{self, Output},
        run::{RunArgs, SessionRecording},
        session::{SessionEnd, SessionStart, TradingSession},
        sim,
        summary::Summary,
    },
    config::{Config, Market},
    log::ReaderGone,
    markets::{Marketplace, csgoroll::Csgoroll},
    shutdown::{SecondSignal, Shutdown},
    threads,
    ws::{self, Feed},
};

type Traded = Result<Summary, AppError>;

fn main() -> ExitCode {
    threads::stop_ordering_on_panic();
    let cli = Cli::read();
    let shared = &cli.shared;
    let output = Output::new(shared.json);
    let done = match cli.command() {
        Command::Run(args) => run(shared, &args, output),
        Command::Demo(args) => demo(&args, output),
        Command::Sim(args) => sim::run(&args, output),
        Command::Capture(args) => capture::run(shared, &args, output),
        Command::Doctor => doctor::run(shared, output),
        Command::Check(args) => check::run::<Csgoroll>(shared, &args, output),
        Command::Ledger(args) => ledger::at(shared, output, |commands| commands.ledger(&args)),
        Command::Status => ledger::at(shared, output, |commands| commands.status()),
        Command::Halt => ledger::at(shared, output, |commands| commands.halt()),
        Command::Resume => ledger::at(shared, output, |commands| commands.resume()),
    };
    done.unwrap_or_else(|error| output.error(&error))
}

fn run(shared: &SharedArgs, args: &RunArgs, output: Output) -> Result<ExitCode, AppError> {
    let loaded = report::load(shared, args.live)?;
    let log = output.log(&loaded)?;
    let spin = loaded.config.speed.spin;
    let summary = block_on_core(spin, trade_on_market(loaded.config, args, log.reader_gone()))?;
    output.summary(summary, log)
}

fn demo(args: &DemoArgs, output: Output) -> Result<ExitCode, AppError> {
    let demo = Demo::open(args)?;
    let log = output.log(demo.loaded())?;
    demo.announce();
    let args = RunArgs { duration: Some(args.duration), ..RunArgs::default() };
    let config = demo.loaded().config.clone();
    let summary = block_on(trade_on_market(config, &args, log.reader_gone()))?;
    output.summary(demo.close(summary), log)
}

async fn trade_on_market(config: Config, args: &RunArgs, gone: ReaderGone) -> Traded {
    match config.market {
        Market::Csgoroll => trade(Feed::new(Csgoroll::new(&config), config), args, gone).await,
    }
}

/// Runs one trading session, which evaluates every listing of the feed until it is stopped.
async fn trade<M: Marketplace>(mut feed: Feed<M>, args: &RunArgs, gone: ReaderGone) -> Traded {
    let quit = SecondSignal::watch()?;
    let mut shutdown = Shutdown::from_signals(&quit, args.duration).or_reader_gone(gone);
    let backfill = feed.fill_gaps();
    let mut session = TradingSession::start_with(&feed, backfill, SessionStart::of(args))?;
    let recording = SessionRecording::start(&feed, args.record)?;
    if args.resume {
        session.resume();
    }
    session.announce();
    quit.set_unresolved_report(session.unresolved());
    let sniper = session.sniper();
    let ended = tokio::select! {
        // The feed has priority: everything else can wait until an order is written.
        biased;
        gave_up = ws::run_with_reconnect(&feed, |trade| sniper.consider(trade)) => SessionEnd::GaveUp(gave_up),
        ended = session.run(&mut shutdown) => ended,
    };
    quit.stopping();
    let (reason, is_success, error) = (ended.to_string(), ended.is_success(), ended.error());
    let summary = session.finish(ended).await;
    recording.finish(reason, is_success);
    error.map_or(Ok(summary), Err)
}
