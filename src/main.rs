//! Runs the command of the command line. [`trade`] makes the call that trades on each listing.

use std::{pin::pin, process::ExitCode};

use sniper::{
    commands::{
        CommandContext, alert, capture, check,
        cli::{Cli, Command},
        completions, config, dashboard, demo, doctor, health, init, ledger, man, markets, prices,
        profit,
        reload::SettingsSource,
        replay,
        run::{self, RunArgs, SessionRecording, SessionResult, StopSignals},
        session::{SessionStart, TradingSession},
        sim, status, whitelist,
    },
    config::{Config, Market},
    markets::{
        MarketApi as _, Marketplace, csgoroll::Csgoroll, lis_skins::LisSkins, waxpeer::Waxpeer,
    },
    shutdown::Shutdown,
    ws::{self, Feed},
};

/// The allocator of musl has one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Evaluates an expression with the type of a market.
macro_rules! with_market {
    ($market:expr, $kind:ident => $run:expr) => {
        match $market {
            Market::Csgoroll => {
                type $kind = Csgoroll;
                $run
            }
            Market::LisSkins => {
                type $kind = LisSkins;
                $run
            }
            Market::Waxpeer => {
                type $kind = Waxpeer;
                $run
            }
        }
    };
}

fn main() -> ExitCode {
    sniper::threads::stop_ordering_on_panic();
    let cli = Cli::read();
    let decimals = |market| with_market!(market, M => M::CAPABILITIES.decimals);
    let context = CommandContext::new(&cli.global, decimals);
    let source = |config: &Config| with_market!(config.market, M => capture::MarketSource::new(&M::new(config), config));
    let order_size = |config: &Config| with_market!(config.market, M => check::check_market(&M::new(config), config));
    let supported =
        |config: &Config| with_market!(config.market, M => check::check_supported::<M>(config));
    let capabilities = |market| with_market!(market, M => M::CAPABILITIES);
    let done = match cli.command() {
        Command::Run(args) => run::run(context, args, trade_on_market),
        Command::Demo(args) => demo::run(context, &args, trade_on_market),
        Command::Sim(args) => sim::run(&args, context.output),
        Command::Capture(args) => capture::run(context, &args, source),
        Command::Replay(args) => replay::command::run(context, &args, source),
        Command::Doctor(args) => doctor::run(
            context,
            |config| with_market!(config.market, M => doctor::check(&Feed::new(M::new(&config), config), &args, context.output)),
        ),
        Command::Init(args) => init::run(context, &args),
        Command::Config(args) => config::run(context, &args),
        Command::Check(args) => check::run(context, &args, (order_size, source)),
        Command::Markets => markets::run(context, capabilities),
        Command::Prices(args) => prices::run(context, &args),
        Command::Alert(args) => alert::run(context, &args),
        Command::Whitelist(args) => whitelist::run(context, &args, source, supported),
        Command::Ledger(args) => ledger::at(context, |commands| commands.ledger(&args)),
        Command::Profit(args) => profit::run(context, &args),
        Command::Status(args) => status::run(context, &args),
        Command::Reload(args) => ledger::at(context, |commands| commands.reload(&args)),
        #[cfg(feature = "shared")]
        Command::Shared(args) => sniper::commands::shared_group::run(
            context,
            &args,
            async |config, member| with_market!(config.market, M => sniper::commands::shared_group::listed_purchases(M::new(config), config, member).await),
        ),
        Command::Dashboard => dashboard::run(context),
        Command::Halt => ledger::at(context, |commands| commands.halt()),
        Command::Resume => ledger::at(context, |commands| commands.resume()),
        Command::Health => health::run(context),
        Command::Completions(args) => completions::run(args, context.output),
        Command::Man => man::run(context.output),
    };
    done.unwrap_or_else(|error| context.output.error(&error))
}

async fn trade_on_market(
    config: Config,
    args: RunArgs,
    signals: StopSignals,
    source: Option<SettingsSource>,
) -> SessionResult {
    with_market!(config.market, M => trade(Feed::new(M::new(&config), config), &args, signals, source).await)
}

/// Runs one trading session, which evaluates every listing of the feed until it is stopped.
async fn trade<M: Marketplace>(
    mut feed: Feed<M>,
    args: &RunArgs,
    (gone, quit): StopSignals,
    source: Option<SettingsSource>,
) -> SessionResult {
    let mut shutdown = Shutdown::from_signals(&quit, args.duration).or_reader_gone(gone);
    let backfill = feed.fill_gaps();
    let mut session = TradingSession::start(&feed, backfill, SessionStart::of(args))?;
    if let Some(source) = source {
        quit.set_hangup_action(session.allow_reload(source)?);
    }
    let recording = SessionRecording::start(&feed, args.record)?;
    recording.record_prices(&feed.config.prices.sources, &session.sniper());
    if args.resume {
        session.resume();
    }
    session.announce();
    quit.set_unresolved_report(session.unresolved());
    let sniper = session.sniper();
    let ended = {
        let trading = pin!(ws::run_with_reconnect(&feed, |trade| sniper.consider(trade)));
        session.run_with(trading, &mut shutdown).await
    };
    quit.stopping();
    let (reason, is_success, error) = (ended.to_string(), ended.is_success(), ended.error());
    let summary = session.finish(ended).await;
    recording.finish(reason, is_success);
    error.map_or(Ok(summary), Err)
}
