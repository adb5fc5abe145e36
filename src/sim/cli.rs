//! `sniper sim`: the practice market alone, for rehearsal from another terminal.

use std::{fmt, net::SocketAddr, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::info;

use super::{
    Fault, MarketBooks, Rate, Rivals, ServerStats, SimServer, SimServerError, SimSettings, demo,
    market_books::JoinDecision, settings::parse_seed,
};
use crate::{domain::money::Amount, shutdown::Shutdown};

/// How often a line says how the market is doing.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// What `sim` takes.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SimArgs {
    /// Where to listen; port 0 for any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8099")]
    pub listen: SocketAddr,
    /// Listings a second, on average
    #[arg(long, value_name = "NUMBER", default_value = "20")]
    pub rate: Rate,
    /// What decides the listings and the rivals: the same seed is the same market
    #[arg(long, value_name = "NUMBER", default_value_t = 7, value_parser = parse_seed)]
    pub seed: u64,
    /// Something that goes wrong, maybe only now and then: hang, 429:0.1, cut-after-commit:1/5,
    /// feed-cut:2%; may be given several times, and a wrong name is answered with all there are
    #[arg(long = "fault", value_name = "NAME[:CHANCE]")]
    pub faults: Vec<Fault>,
    /// What the practice account holds at first, in coins
    #[arg(long, value_name = "COINS", default_value = "500.00", value_parser = balance)]
    pub balance: Amount,
    /// Close after this long, like 60s, 5m or 8h [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::shutdown::parse_duration)]
    pub lasting: Option<Duration>,
    /// Nobody else buys
    #[arg(long)]
    pub no_rivals: bool,
    /// The practice account is flagged, so it may join each listing a little later
    #[arg(long)]
    pub suspected_trader: bool,
    /// Print a sniper.toml that finds something on this market, and end
    #[arg(long)]
    pub print_whitelist: bool,
}

fn balance(text: &str) -> Result<Amount, &'static str> {
    let coins = Amount::parse(text).ok().filter(|coins| Amount::ZERO <= *coins);
    coins.ok_or("is not an amount of coins from 0 to 1000000000000, such as 500 or 499.99")
}

impl SimArgs {
    /// The market that is asked for.
    pub fn settings(&self) -> SimSettings {
        SimSettings {
            listen: self.listen,
            seed: self.seed,
            rate: self.rate,
            faults: self.faults.clone(),
            balance: self.balance,
            rivals: if self.no_rivals { None } else { Some(Rivals::default()) },
            suspected_trader: self.suspected_trader,
            ..SimSettings::default()
        }
    }
}

/// What a practice market came to.
#[derive(Clone, Debug)]
pub struct SimSummary {
    /// How long it was open.
    pub lasted: Duration,
    /// What happened on it.
    pub books: MarketBooks,
    /// How often it was visited.
    pub visits: ServerStats,
    /// Why it closed, in words.
    pub ended: String,
}

/// Opens the market that is asked for.
///
/// # Errors
///
/// A [`SimServerError`] where it cannot be opened.
pub fn open(args: &SimArgs) -> Result<SimServer, SimServerError> {
    if !args.listen.ip().is_loopback() {
        return Err(SimServerError::NotHere { address: args.listen });
    }
    SimServer::start(args.settings())
}

/// Keeps a market open until told to stop, and says now and then how it is doing.
///
/// # Cancel safety
///
/// Safe: the market closes when it is dropped.
pub async fn run(args: &SimArgs, market: SimServer, stop: &mut Shutdown) -> SimSummary {
    let started = Instant::now();
    info!(
        "Practice market open at {}: {} listings a second, seed {}",
        market.address(),
        args.rate,
        args.seed
    );
    for fault in &args.faults {
        info!("Fails on purpose: {fault}");
    }
    let mut status = interval_at(started + STATUS_EVERY, STATUS_EVERY);
    status.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let why = loop {
        tokio::select! {
            biased;
            why = stop.wait() => break why,
            _ = status.tick() => {
                let visits = market.visits();
                info!("{}", market.look(|books| SimStatus { books, visits }.to_string()));
            }
        }
    };
    let (books, visits) = (market.books(), market.visits());
    SimSummary { lasted: started.elapsed(), books, visits, ended: why.to_string() }
}

/// The lines to put into `.env` to trade on a market.
pub fn env_lines(market: &SimServer, seed: u64) -> String {
    format!(
        "# The practice market. Put these lines into .env, and the output of
# `sniper sim --print-whitelist` into sniper.toml; then, in another terminal: sniper run --live
CSGOROLL_WS_URL={}
CSGOROLL_HTTP_URL={}
CSGOROLL_SESSION={}
# Of its own, so that practice and earnest are never mixed up. A market that is started anew with
# the same seed lists the same things again: delete this folder, and start with --new-ledger.
SNIPER_DATA=data/practice-{seed}
",
        market.ws_url(),
        market.http_url(),
        market.session()
    )
}

/// What [`SimArgs::print_whitelist`] prints.
pub const fn whitelist() -> &'static str {
    demo::WHITELIST
}

/// How a market is doing, in one line.
struct SimStatus<'a> {
    books: &'a MarketBooks,
    visits: ServerStats,
}

impl fmt::Display for SimStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (books, counts) = (self.books, SimCounts::of(self.books));
        write!(
            f,
            "{} listed, {} of them for the demo's whitelist; {} bought for {}, {} refused, {} failed on purpose; balance {}; {} feeds",
            books.offered,
            books.wanted,
            counts.bought,
            books.spent(),
            counts.refused,
            counts.failed,
            books.balance,
            self.visits.feeds_subscribed,
        )
    }
}

/// What became of the requests to buy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SimCounts {
    bought: u64,
    refused: u64,
    failed: u64,
}

impl SimCounts {
    fn of(books: &MarketBooks) -> Self {
        let mut counts = Self::default();
        let stray = books.stray().iter().map(|(_, request)| request);
        for request in books.requests().map(|(_, request)| request).chain(stray) {
            let count = match (&request.decision, request.fault) {
                (_, Some(_)) => &mut counts.failed,
                (JoinDecision::Sold, None) => &mut counts.bought,
                (JoinDecision::Refused(_) | JoinDecision::Ignored, None) => &mut counts.refused,
            };
            *count = count.saturating_add(1);
        }
        // Some of what failed on purpose was sold all the same.
        counts.bought = u64::try_from(books.purchases().count()).unwrap_or(u64::MAX);
        counts
    }
}

impl SimSummary {
    /// The summary as one JSON object, with the fields that every command has.
    pub fn to_json(&self) -> Value {
        let counts = SimCounts::of(&self.books);
        json!({
            "mode": "sim",
            "seconds": self.lasted.as_secs(),
            "listings": self.books.offered,
            "matched": self.books.wanted,
            "bought": counts.bought,
            "refused": counts.refused,
            "failed_on_purpose": counts.failed,
            "unknown": 0,
            "skipped": 0,
            "doubled": self.books.doubled().count(),
            "wanted_and_never_asked_for": self.books.missed().count(),
            "unwanted_and_asked_for": self.books.unwanted().count(),
            "cold": self.books.cold().count(),
            "spent": self.books.spent().to_string(),
            "balance": self.books.balance.to_string(),
            "feeds": self.visits.feeds,
            "requests": self.visits.requests,
            "reconnects": 0,
            "gaps": 0,
            "errors": 0,
            "latency_us": { "count": 0, "p50": null, "p90": null, "p99": null, "max": null },
            "ended": self.ended,
        })
    }
}

impl fmt::Display for SimSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = SimStatus { books: &self.books, visits: self.visits };
        let seconds = self.lasted.as_secs();
        writeln!(f, "\nThe practice market was open for {seconds} s and closed: {}.", self.ended)?;
        writeln!(f, "{status}")?;
        match self.books.doubled().count() {
            0 => writeln!(f, "No listing was asked for twice."),
            count => writeln!(f, "{count} listings were asked for more than once."),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        sim: SimArgs,
    }

    fn read(words: &[&str]) -> Result<SimArgs, clap::Error> {
        Ok(Line::try_parse_from(std::iter::once(&"sim").chain(words))?.sim)
    }

    #[test]
    fn the_defaults_are_those_that_are_documented() {
        let args = read(&[]).unwrap();
        assert_eq!(args.listen.to_string(), "127.0.0.1:8099");
        assert_eq!((args.rate, args.seed), (Rate::per_second(20), 7));
        assert_eq!(args.balance.to_string(), "500.00");
    }

    #[test]
    fn faults_may_be_given_several_times() {
        let args = read(&["--fault", "hang", "--fault", "429:10%"]).unwrap();
        let shown: Vec<String> = args.faults.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["hang", "429:0.1"]);
        assert_eq!(args.settings().faults.len(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_answered_with_what_does() {
        let error = |words: &[&str]| {
            let error = read(words).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        };
        assert!(error(&["--fault", "explode"]).contains("cut-after-commit"));
        assert!(error(&["--fault", "hang:often"]).contains("10%"));
        assert!(error(&["--rate", "many"]).contains("such as 20"));
        assert!(error(&["--balance=-1"]).contains("such as 500"));
        assert!(error(&["--listen", "8099"]).contains("--listen"));
    }

    #[test]
    fn the_status_counts_what_happened() {
        let settings = SimSettings { rate: Rate::NONE, ..SimSettings::default() };
        let market = SimServer::start(settings).unwrap();
        let price = Amount::from_cents(1_000);
        market.foist(super::super::ListedItem::plain("Glove Case", price, price)).unwrap();
        let status = SimStatus { books: &market.books(), visits: market.visits() }.to_string();
        assert!(status.contains("1 listed") && status.contains("1 bought for 10.00"), "{status}");
        assert!(status.contains("balance 490.00"), "{status}");
    }
}
