//! Latency from the first byte of a listing to the last byte of the order, measured by the market:
//! the sniper compared with a lower bound and with a straightforward bot.
//!
//! ```text
//! cargo bench --bench wire_to_wire -- [--market waxpeer] [--case quiet]… [--rounds 5] [--quick]
//! ```
//!
//! The clients take turns within each round, so that other load on the machine affects all alike.
//! The results are ratios within a round, as median and spread. `--quick` is a short functional
//! run.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot be set up ends"
)]

mod bare;
mod bot;
#[path = "../../tests/it/certificate.rs"]
mod certificate;
#[path = "../../tests/shared/database.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod database;
mod figures;
mod frames;
mod hindrance;
mod market;
mod observers;
mod plain;
mod run;
mod waterfall;
mod wire;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use sniper::{
    config::Market as MarketName,
    log::{self, LineFormat, LogFilter},
};

use crate::{
    bare::Bare,
    bot::{Bot, SharedBudget},
    figures::Table,
    frames::{Content, Frames},
    hindrance::{Hindrance, Sink},
    plain::Plain,
    run::{Client, Schedule, run},
};

/// A benchmark case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Case {
    /// 400 listings per second, one in four matches
    Quiet,
    /// The same, with clients that spin instead of sleeping
    Spin,
    /// Bursts of 200 at 20,000 per second, one in fifty matches
    Burst,
    /// Bursts of 200 without a pause between the messages, one in fifty matches
    BurstBackToBack,
    /// The same, without and with an entry for every item at 80 % of a reference above which the
    /// others are listed
    BurstBackToBackStar,
    /// 50,000 listings per second, one in 2,000 matches, and the CPU time per listing
    Volume,
    /// Messages of 200 listings, four of which match
    Batch,
    /// Quiet, with and without TLS
    Tls,
    /// Quiet, with a whitelist of ten and of many entries
    Whitelist,
    /// One listing per second, all match, and the market closes connections idle for 300 ms
    Idle,
    /// Quiet, without and with a slow log, a busy disk or a slow recording
    Hindrances,
    /// Quiet, without and with an open page, metrics read each second, and alerts
    Observed,
    /// Quiet, without a shared budget, with one in memory and with one in PostgreSQL
    Shared,
}

#[derive(Debug, Parser)]
struct Args {
    /// Case to measure, repeatable [default: all]
    #[arg(long = "case", value_enum)]
    cases: Vec<Case>,
    /// Market whose protocol and orders are used; those other than csgoroll have the cases quiet,
    /// burst and burst-back-to-back
    #[arg(long, default_value = "csgoroll", value_parser = market)]
    market: MarketName,
    /// Number of rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Listings per run
    #[arg(long, default_value_t = 2_000)]
    listings: usize,
    /// Entries of the large whitelist
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// Measure the case `shared`
    #[arg(long)]
    shared: bool,
    /// Run all threads of each client on one core, and the market on the others
    #[arg(long)]
    one_core: bool,
    /// Short functional run
    #[arg(long)]
    quick: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let mut args = Args::parse();
    if args.quick {
        (args.rounds, args.listings, args.entries) = (1, 200, 1_000);
    }
    if args.shared {
        args.cases.push(Case::Shared);
    }
    if args.cases.is_empty() {
        args.cases = match args.market {
            MarketName::Csgoroll => Case::value_variants().to_vec(),
            MarketName::LisSkins | MarketName::Waxpeer => REPRICING_CASES.to_vec(),
        };
    }
    let is_listing = args.market != MarketName::Csgoroll;
    assert!(
        !is_listing || args.cases.iter().all(|case| REPRICING_CASES.contains(case)),
        "this market has no such case"
    );
    let (_log, lines) = log::spawn(Sink).unwrap();
    let subscriber = log::subscriber(LogFilter::parse(None).unwrap(), lines, LineFormat::default());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut frames = Frames::new(args.market);
    let mut failed = false;
    for case in &args.cases {
        let table = measure(*case, &args, &mut frames);
        writeln!(io::stdout().lock(), "{table}").unwrap();
        failed |= table.has_failed();
    }
    if failed {
        writeln!(io::stdout().lock(), "The sniper missed a listing or ordered one twice.").unwrap();
        std::process::exit(1);
    }
}

/// Cases of markets other than CSGORoll.
const REPRICING_CASES: [Case; 3] = [Case::Quiet, Case::Burst, Case::BurstBackToBack];

fn market(text: &str) -> Result<MarketName, String> {
    let all = [MarketName::Csgoroll, MarketName::LisSkins, MarketName::Waxpeer];
    let found = all.into_iter().find(|market| market.name() == text);
    found.ok_or_else(|| "csgoroll, lis-skins or waxpeer".to_owned())
}

fn bot(name: &'static str) -> Bot {
    let (settings, prices, hindrance) = ("", None, None);
    Bot {
        tls: false,
        whitelist: 10,
        settings,
        prices,
        hindrance,
        shared: None,
        settling_time: Duration::from_millis(300),
        is_observed: false,
        name,
    }
}

fn measure(case: Case, args: &Args, frames: &mut Frames) -> Table {
    let Plan { title, mut schedule, clients } = plan(case, args, frames);
    let Content { listings, wanted_every, .. } = &mut schedule.content;
    *listings = (*listings).min(wire::orders_max(args.market).saturating_mul(*wanted_every));
    schedule.one_core = args.one_core;
    let place = if args.one_core { ", on one core" } else { "" };
    let has_cpu_time = case == Case::Volume;
    let has_bursts = schedule.burst > 1 && !has_cpu_time;
    let mut table = Table::new(format!("{title}{place}"), has_bursts, has_cpu_time);
    for round in 1..=args.rounds {
        for client in &clients {
            let outcome = run(&**client, frames, schedule);
            table.add(round, client.name(), outcome);
        }
    }
    table
}

/// The clients of a case and the schedule of listings. The first client is the baseline.
struct Plan {
    title: &'static str,
    schedule: Schedule,
    clients: Vec<Box<dyn Client>>,
}

/// Returns every client of a market; the simple bot knows CSGORoll only.
fn all_clients(market: MarketName) -> Vec<Box<dyn Client>> {
    let mut clients: Vec<Box<dyn Client>> =
        vec![Box::new(Bare { spins: false }), Box::new(Bare { spins: true })];
    if market == MarketName::Csgoroll {
        clients.push(Box::new(Plain));
    }
    clients.push(Box::new(bot("the sniper")));
    clients
}

fn plan(case: Case, args: &Args, frames: &Frames) -> Plan {
    let content =
        Content { listings: args.listings, wanted_every: 4, is_random: false, per_message: 1 };
    let quiet = Schedule {
        market: args.market,
        content,
        burst: 1,
        step: Duration::ZERO,
        pause: Duration::from_micros(2_500),
        http_idle: None,
        one_core: false,
    };
    let spinning = || -> Box<dyn Client> { Box::new(Bare { spins: true }) };
    let sniper = |name| -> Box<dyn Client> { Box::new(bot(name)) };
    let all = || all_clients(args.market);
    let (title, schedule, clients) = match case {
        Case::Quiet => ("quiet: 400 listings per second, 1 in 4 matches", quiet, all()),
        Case::Spin => {
            let settings = "[speed]\nspin = true\n";
            let ours = Box::new(Bot { settings, ..bot("the sniper, spinning") });
            ("spinning, quiet", quiet, vec![spinning(), ours])
        }
        Case::Burst => {
            let listings = args.listings.max(200) * 5;
            let (step, pause) = (Duration::from_micros(50), Duration::from_millis(50));
            let content = Content { listings, wanted_every: 50, ..content };
            let burst = Schedule { content, burst: 200, step, pause, ..quiet };
            ("bursts of 200 at 20,000 per second, 1 in 50 matches", burst, all())
        }
        Case::BurstBackToBack | Case::Batch => return burst_plan(case, args, quiet),
        Case::Volume => return volume_plan(args, quiet),
        Case::BurstBackToBackStar => {
            let mut plan = burst_plan(case, args, quiet);
            let star = Bot { prices: Some(frames.prices()), ..bot("the sniper, any item") };
            plan.clients.push(Box::new(star));
            return plan;
        }
        Case::Tls => {
            let tls = Box::new(Bot { tls: true, ..bot("the sniper, TLS") });
            ("TLS on both sides, quiet", quiet, vec![sniper("the sniper, plain"), tls])
        }
        Case::Whitelist => {
            let many = Box::new(Bot { whitelist: args.entries, ..bot("the sniper, many entries") });
            let few = sniper("the sniper, 10 entries");
            ("size of the whitelist, quiet", quiet, vec![few, many])
        }
        Case::Idle => {
            let (pause, http_idle) = (Duration::from_secs(1), Some(Duration::from_millis(300)));
            let content = Content { listings: args.listings / 100, wanted_every: 1, ..content };
            let idle = Schedule { content, pause, http_idle, ..quiet };
            ("a market that closes idle connections", idle, vec![sniper("the sniper")])
        }
        Case::Hindrances => {
            ("slow log, busy disk or slow recording, quiet", quiet, hindered_clients())
        }
        Case::Observed => {
            let observed = Box::new(Bot { is_observed: true, ..bot("the sniper, observed") });
            ("page, metrics and alerts, quiet", quiet, vec![sniper("the sniper"), observed])
        }
        Case::Shared => ("shared budget, quiet", quiet, sharing_clients()),
    };
    Plan { title, schedule, clients }
}

/// A slice of a shared budget follows the rate of orders within the time after the warm-up. The bot
/// without one waits as long.
fn sharing_clients() -> Vec<Box<dyn Client>> {
    let settled = |shared, name| -> Box<dyn Client> {
        Box::new(Bot { shared, settling_time: Duration::from_secs(5), ..bot(name) })
    };
    let sharing = |shared, name| settled(Some(shared), name);
    let mut clients: Vec<Box<dyn Client>> = vec![
        settled(None, "the sniper"),
        sharing(SharedBudget::InMemory, "the sniper, shared in memory"),
    ];
    match SharedBudget::in_database() {
        Ok(shared) => clients.push(sharing(shared, "the sniper, shared in PostgreSQL")),
        Err(reason) => {
            writeln!(io::stdout().lock(), "SKIPPED a budget in PostgreSQL: {reason}").unwrap();
        }
    }
    clients
}

fn hindered_clients() -> Vec<Box<dyn Client>> {
    let hindered = |hindrance, name| -> Box<dyn Client> {
        Box::new(Bot { hindrance: Some(hindrance), ..bot(name) })
    };
    vec![
        Box::new(bot("the sniper")),
        hindered(Hindrance::SlowLog, "the sniper, slow log"),
        hindered(Hindrance::BusyDisk, "the sniper, busy disk"),
        hindered(Hindrance::SlowRecording, "the sniper, recording"),
    ]
}

/// About 50,000 listings per second: the writes take what the pause leaves of each millisecond.
fn volume_plan(args: &Args, quiet: Schedule) -> Plan {
    let listings = args.listings * 100;
    let content = Content { listings, wanted_every: 2_000, ..quiet.content };
    let pause = Duration::from_micros(600);
    Plan {
        title: "50,000 listings per second, 1 in 2,000 matches",
        schedule: Schedule { content, burst: 50, pause, ..quiet },
        clients: vec![Box::new(Bare { spins: false }), Box::new(bot("the sniper"))],
    }
}

/// Cases with 200 listings at once, four of which match at random places.
fn burst_plan(case: Case, args: &Args, quiet: Schedule) -> Plan {
    let is_batch = case == Case::Batch;
    let content = Content {
        listings: args.listings.max(200) * 10,
        wanted_every: 50,
        is_random: true,
        per_message: if is_batch { 200 } else { 1 },
    };
    let burst = if is_batch { 1 } else { 200 };
    let schedule = Schedule { content, burst, pause: Duration::from_millis(10), ..quiet };
    let title = if is_batch {
        "messages of 200 listings, 4 match"
    } else {
        "bursts of 200 back to back, 1 in 50 matches"
    };
    Plan {
        title,
        schedule,
        clients: vec![Box::new(Bare { spins: false }), Box::new(bot("the sniper"))],
    }
}
