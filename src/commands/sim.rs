//! `sniper sim`: the simulated market alone, for a bot that runs in another terminal.

use std::{fmt, net::SocketAddr, process::ExitCode, str::FromStr, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::info;

use super::{
    AppError, block_on,
    report::{Output, print},
    simulated_market::{AnySimulator, fault_table, parse_market, settings_file},
};
use crate::{
    config::{Market, load::process_environment},
    domain::{
        money::{Amount, Decimals},
        unit,
    },
    shutdown::{SecondSignal, Shutdown, parse_duration},
    sim::{
        Fault, MarketHistory, Rate, Rivals, ServerStats, SimServerError, SimSettings,
        faults::FaultError, history::OrderDecision, settings::parse_seed,
    },
};

/// Examples in the help.
pub(super) const EXAMPLES: &str = "\
Examples:
  sniper sim               print the settings for .env, then serve the market
  sniper sim --print-whitelist > sniper.toml
  sniper sim --market lis-skins --fault list
  sniper sim --listen 127.0.0.1:8099 --for 1h";

/// Interval of the status line.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Arguments of `sniper sim`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SimArgs {
    /// Simulated market; `sniper markets` lists them
    #[arg(long, value_name = "NAME", default_value = Market::default().name(), value_parser = parse_market)]
    pub market: Market,
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8099", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// Average number of listings per second
    #[arg(long, value_name = "NUMBER", default_value = "20", allow_negative_numbers = true)]
    pub rate: Rate,
    /// Seed of the listings and the rival buyers; the same seed gives the same market
    #[arg(long, value_name = "NUMBER", default_value_t = 7, value_parser = parse_seed, allow_negative_numbers = true)]
    pub seed: u64,
    /// Inject a fault, always or with a chance: hang, 429:0.1, cut-after-commit:1/5, feed-cut:2%.
    /// May be repeated; `--fault list` describes all faults
    #[arg(long = "fault", value_name = "NAME[:CHANCE]")]
    pub faults: Vec<FaultArg>,
    /// Initial balance of the account
    #[arg(long, value_name = "AMOUNT", default_value = "500.00", value_parser = parse_balance, allow_negative_numbers = true)]
    pub balance: Amount,
    /// Stop after this time, such as 60s, 5m or 8h [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Run without rival buyers
    #[arg(long)]
    pub no_rivals: bool,
    /// Flag the account as a suspected trader, which may join each listing only a little later
    #[arg(long)]
    pub suspected_trader: bool,
    /// Print a sniper.toml whose whitelist matches listings of this market, and exit
    #[arg(long)]
    pub print_whitelist: bool,
}

/// A value of `--fault`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultArg {
    /// Requests the list of all faults.
    List,
    /// A fault to inject.
    Inject(Fault),
}

impl FromStr for FaultArg {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        if text == "list" { Ok(Self::List) } else { text.parse().map(Self::Inject) }
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_not_an_address| "must be HOST:PORT, such as 127.0.0.1:8099")
}

fn parse_balance(text: &str) -> Result<Amount, &'static str> {
    let coins = Amount::parse(text, Decimals::Two).ok().filter(|coins| Amount::ZERO <= *coins);
    coins.ok_or("must be an amount from 0 to 1000000000000, such as 500 or 499.99")
}

impl SimArgs {
    /// Returns `true` if the list of faults was requested.
    pub fn lists_faults(&self) -> bool {
        self.faults.contains(&FaultArg::List)
    }

    fn injected_faults(&self) -> impl Iterator<Item = Fault> {
        self.faults.iter().filter_map(|arg| match arg {
            FaultArg::Inject(fault) => Some(*fault),
            FaultArg::List => None,
        })
    }

    /// Returns the settings of the simulator.
    pub fn settings(&self) -> SimSettings {
        SimSettings {
            listen: self.listen,
            seed: self.seed,
            rate: self.rate,
            faults: self.injected_faults().collect(),
            balance: self.balance,
            rivals: if self.no_rivals { None } else { Some(Rivals::default()) },
            suspected_trader: self.suspected_trader,
            ..SimSettings::default()
        }
    }
}

/// Runs the simulated market until shutdown.
///
/// # Errors
///
/// Returns an [`AppError`] if it cannot start or its output cannot be printed.
pub fn run(args: &SimArgs, output: Output) -> Result<ExitCode, AppError> {
    if args.print_whitelist {
        print(&settings_file(args.market))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.lists_faults() {
        print(&fault_table(args.market))?;
        return Ok(ExitCode::SUCCESS);
    }
    let log = output.log_filtered(process_environment("RUST_LOG").as_deref())?;
    unit::set(args.market.settings().unit);
    let market = open(args)?;
    // Printed before signals are handled, so that a signal ends the process if the output blocks.
    print(&env_lines(&market, args))?;
    let quit = SecondSignal::watch()?;
    let summary = block_on(async {
        let mut shutdown = Shutdown::from_signals(&quit, args.duration);
        let summary = serve(args, market, &mut shutdown).await;
        quit.stopping();
        Ok(summary)
    })?;
    output.result(log.finish(), &summary, || summary.to_json(), 0)
}

/// Summary of a finished `sniper sim`.
#[derive(Clone, Debug)]
pub struct SimSummary {
    pub elapsed: Duration,
    pub history: MarketHistory,
    pub stats: ServerStats,
    /// Sales and own order ids, on a market with own order ids.
    pub books: Option<String>,
    /// Reason of the shutdown, as text.
    pub reason: String,
}

/// Starts the simulator with the settings of the command line.
///
/// # Errors
///
/// Returns a [`SimServerError`] if the address is not a loopback address or the server cannot be
/// started.
pub fn open(args: &SimArgs) -> Result<AnySimulator, SimServerError> {
    if !args.listen.ip().is_loopback() {
        return Err(SimServerError::NotLoopback { address: args.listen });
    }
    AnySimulator::start(args.market, args.settings())
}

/// Runs the simulator until a shutdown is requested, and logs a status line every 10 s.
///
/// # Cancel safety
///
/// Cancel safe: dropping the future stops the simulator.
pub async fn serve(args: &SimArgs, market: AnySimulator, stop: &mut Shutdown) -> SimSummary {
    let started = Instant::now();
    info!(
        "Simulator listening: {}, {}, {} listings per second, seed {}",
        market.address(),
        args.market.title(),
        args.rate,
        args.seed
    );
    for fault in args.injected_faults() {
        info!("Fault enabled: {fault} ({})", fault.kind.description());
    }
    let mut status = interval_at(started + STATUS_EVERY, STATUS_EVERY);
    status.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reason = loop {
        tokio::select! {
            biased;
            reason = stop.wait() => break reason,
            _ = status.tick() => {
                let stats = market.stats();
                info!("{}", market.with_history(|history| SimStatus { history, stats }.to_string()));
            }
        }
    };
    let (history, stats) = (market.history(), market.stats());
    let (books, reason) = (market.books(), reason.to_string());
    SimSummary { elapsed: started.elapsed(), history, stats, books, reason }
}

/// Returns the lines of `.env` that connect a bot to this simulator.
fn env_lines(market: &AnySimulator, args: &SimArgs) -> String {
    let seed = args.seed;
    let (option, folder) = if args.market == Market::default() {
        (String::new(), "practice".to_owned())
    } else {
        (format!(" --market {}", args.market.name()), format!("practice-{}", args.market.name()))
    };
    let mut lines = format!(
        "# The simulated market. Put these lines into .env, and the output of
# `sniper sim{option} --print-whitelist` into sniper.toml; then, in another terminal: sniper run --live
"
    );
    for (variable, value) in market.environment() {
        lines.push_str(&format!("{variable}={value}\n"));
    }
    lines.push_str(&format!(
        "# A separate data folder, so practice never mixes with real trades. A restart with the same seed
# lists the same items again: delete this folder first, and run with --new-ledger --not-counted.
SNIPER_DATA=data/{folder}-{seed}
"
    ));
    lines
}

/// One-line status of the simulator.
struct SimStatus<'a> {
    history: &'a MarketHistory,
    stats: ServerStats,
}

impl fmt::Display for SimStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (history, counts) = (self.history, SimCounts::new(self.history));
        write!(
            f,
            "{} listings, {} match the demo whitelist, {} bought for {}, {} rejected, {} hit by a fault, balance {}, {} clients",
            history.listed,
            history.wanted_count,
            counts.bought,
            history.spent(),
            counts.rejected,
            counts.faulted,
            history.balance,
            self.stats.feeds_subscribed,
        )
    }
}

/// Counts of orders by their result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SimCounts {
    bought: u64,
    rejected: u64,
    faulted: u64,
}

impl SimCounts {
    fn new(history: &MarketHistory) -> Self {
        let mut counts = Self::default();
        let unmatched = history.unmatched_orders().iter().map(|(_, order)| order);
        for order in history.orders().map(|(_, order)| order).chain(unmatched) {
            let count = match (&order.decision, order.fault) {
                (_, Some(_)) => &mut counts.faulted,
                (OrderDecision::Sold, None) => &mut counts.bought,
                (OrderDecision::Rejected(_) | OrderDecision::Ignored, None) => &mut counts.rejected,
            };
            *count = count.saturating_add(1);
        }
        // Purchases of orders that were hit by a fault count as bought too.
        counts.bought = u64::try_from(history.purchases().count()).unwrap_or(u64::MAX);
        counts
    }
}

impl SimSummary {
    /// Returns the summary as a JSON object that has the common fields of all commands.
    pub fn to_json(&self) -> Value {
        let counts = SimCounts::new(&self.history);
        json!({
            "mode": "sim",
            "books": self.books,
            "seconds": self.elapsed.as_secs(),
            "listings": self.history.listed,
            "matched": self.history.wanted_count,
            "bought": counts.bought,
            "refused": counts.rejected,
            "failed_on_purpose": counts.faulted,
            "unknown": 0,
            "skipped": 0,
            "doubled": self.history.ordered_twice().count(),
            "wanted_and_never_asked_for": self.history.missed().count(),
            "unwanted_and_asked_for": self.history.unwanted().count(),
            "cold": self.history.cold_orders().count(),
            "spent": self.history.spent().to_string(),
            "balance": self.history.balance.to_string(),
            "feeds": self.stats.feeds,
            "requests": self.stats.requests,
            "reconnects": 0,
            "gaps": 0,
            "errors": 0,
            "latency_us": { "count": 0, "p50": null, "p90": null, "p99": null, "max": null },
            "ended": self.reason,
        })
    }
}

impl fmt::Display for SimSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = SimStatus { history: &self.history, stats: self.stats };
        let seconds = self.elapsed.as_secs();
        writeln!(f, "\nSimulator stopped after {seconds} s: {}.", self.reason)?;
        writeln!(f, "{status}")?;
        if let Some(books) = &self.books {
            f.write_str(books)?;
        }
        match self.history.ordered_twice().count() {
            0 => writeln!(f, "No listing was ordered twice."),
            count => writeln!(f, "{count} listings were ordered more than once."),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        sim: SimArgs,
    }

    fn parse(words: &[&str]) -> Result<SimArgs, clap::Error> {
        Ok(CommandLine::try_parse_from(std::iter::once(&"sim").chain(words))?.sim)
    }

    #[test]
    fn the_default_arguments_are_those_of_the_documentation() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.listen.to_string(), "127.0.0.1:8099");
        assert_eq!((args.rate, args.seed), (Rate::per_second(20), 7));
        assert_eq!(args.balance.to_string(), "500.00");
    }

    #[test]
    fn the_fault_option_may_be_repeated() {
        let args = parse(&["--fault", "hang", "--fault", "429:10%"]).unwrap();
        let shown: Vec<String> = args.settings().faults.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["hang", "429:0.1"]);
        assert!(!args.lists_faults());
    }

    #[test]
    fn the_fault_list_has_a_line_for_each_fault() {
        assert!(parse(&["--fault", "list"]).unwrap().lists_faults());
        let list = fault_table(Market::default());
        for kind in crate::sim::csgoroll::FAULTS.concat() {
            let line =
                list.lines().find(|line| line.split_whitespace().next() == Some(&*kind.name()));
            assert!(line.is_some_and(|line| line.ends_with(&kind.description())), "{kind}");
        }
    }

    #[test]
    fn the_error_for_an_invalid_argument_shows_a_valid_one() {
        let error = |words: &[&str]| {
            let error = parse(words).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        assert!(error(&["--fault", "explode"]).contains("cut-after-commit"));
        assert!(error(&["--fault", "hang:often"]).contains("10%"));
        assert!(error(&["--rate", "many"]).contains("such as 20"));
        assert!(error(&["--rate", "-5"]).contains("from 0 to 100000"));
        assert!(error(&["--seed", "-1"]).contains("from 0 to"));
        assert!(error(&["--balance", "-1"]).contains("such as 500"));
        assert!(error(&["--listen", "8099"]).contains("127.0.0.1:8099"));
    }

    #[test]
    fn the_status_line_counts_listings_and_purchases() {
        let settings = SimSettings { rate: Rate::NONE, ..SimSettings::default() };
        let market = crate::sim::SimServer::start(settings).unwrap();
        let price = Amount::from_cents(1_000);
        market.inject_purchase(crate::sim::ListedItem::plain("Glove Case", price, price)).unwrap();
        let status = SimStatus { history: &market.history(), stats: market.stats() }.to_string();
        assert!(status.contains("1 listings") && status.contains("1 bought for 10.00"), "{status}");
        assert!(status.contains("balance 490.00"), "{status}");
    }
}
