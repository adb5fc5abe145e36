//! From the listing's first byte to the buy's last, by the market's clock: the sniper beside the
//! least that any program could do, and beside a bot that is written plainly.
//!
//! ```text
//! cargo bench --bench wire_to_wire -- [--case quiet]… [--rounds 5] [--quick]
//! ```
//!
//! The clients take turns within each round, so that what else the machine does befalls all alike;
//! what counts are ratios within a round, and of these the median and the spread. `--quick` runs
//! everything briefly, for function alone.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot be set up ends"
)]

mod bare;
mod bot;
mod figures;
mod frames;
mod market;
mod plain;
mod run;
mod waterfall;

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use sniper::log::{self, Filter};

use crate::{
    bare::Bare,
    bot::Bot,
    figures::Table,
    frames::Frames,
    plain::Plain,
    run::{Client, Rhythm, run},
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Case {
    /// 400 listings a second, one of four wanted
    Quiet,
    /// The same, with clients that spin instead of sleeping
    Spin,
    /// Bursts of 200 at 20,000 a second, one of fifty wanted
    Burst,
    /// Quiet, over TLS and not
    Tls,
    /// Quiet, with a whitelist of ten entries and of many
    Whitelist,
    /// One listing a second, all wanted, while the market closes connections idle for 300 ms
    Idle,
    /// Quiet, with a log that takes its time and not
    SlowLog,
    /// Quiet, with a disk that has other things to do and not
    BusyDisk,
}

/// How to measure.
#[derive(Debug, Parser)]
struct Args {
    /// What to measure; everything, if nothing is said
    #[arg(long = "case", value_enum)]
    cases: Vec<Case>,
    /// How often the clients take turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many listings a run has
    #[arg(long, default_value_t = 2_000)]
    listings: usize,
    /// How many entries a whitelist of many has
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// Briefly, for function alone
    #[arg(long)]
    quick: bool,
    /// Said by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let mut args = Args::parse();
    if args.quick {
        (args.rounds, args.listings, args.entries) = (1, 200, 1_000);
    }
    if args.cases.is_empty() {
        args.cases = Case::value_variants().to_vec();
    }
    let sink = Sink::default();
    let (_log, lines) = log::spawn(sink.clone()).unwrap();
    let subscriber = log::subscriber(Filter::parse(None).unwrap(), lines, false);
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut frames = Frames::new();
    let mut failed = false;
    for case in &args.cases {
        let table = measure(*case, &args, &mut frames, &sink);
        writeln!(io::stdout().lock(), "{table}").unwrap();
        failed |= table.has_failed();
    }
    if failed {
        writeln!(io::stdout().lock(), "The sniper missed or doubled a buy.").unwrap();
        std::process::exit(1);
    }
}

fn bot(name: &'static str) -> Bot {
    Bot { tls: false, whitelist: 10, settings: "", name }
}

fn measure(case: Case, args: &Args, frames: &mut Frames, sink: &Sink) -> Table {
    let Plan { title, rhythm, clients } = plan(case, args);
    let _disk = (case == Case::BusyDisk).then(BusyDisk::start);
    sink.slow.store(case == Case::SlowLog, Ordering::Relaxed);
    let mut table = Table::new(title);
    for round in 1..=args.rounds {
        for client in &clients {
            let outcome = run(&**client, frames, rhythm);
            table.add(round, client.name(), outcome);
        }
    }
    sink.slow.store(false, Ordering::Relaxed);
    table
}

/// Who takes turns, and in which rhythm. The first is what the others are compared with.
struct Plan {
    title: &'static str,
    rhythm: Rhythm,
    clients: Vec<Box<dyn Client>>,
}

fn plan(case: Case, args: &Args) -> Plan {
    let quiet = Rhythm {
        listings: args.listings,
        wanted_every: 4,
        burst: 1,
        step: Duration::ZERO,
        pause: Duration::from_micros(2_500),
        http_idle: None,
    };
    let blocking = || -> Box<dyn Client> { Box::new(Bare { spins: false }) };
    let spinning = || -> Box<dyn Client> { Box::new(Bare { spins: true }) };
    let sniper = |name| -> Box<dyn Client> { Box::new(bot(name)) };
    let all = || vec![blocking(), spinning(), Box::new(Plain), sniper("the sniper")];
    let (title, rhythm, clients) = match case {
        Case::Quiet => ("quiet: 400 listings a second, 1 in 4 wanted", quiet, all()),
        Case::Spin => {
            let settings = "[speed]\nspin = true\n";
            let ours = Box::new(Bot { settings, ..bot("the sniper, spinning") });
            ("spinning, quiet", quiet, vec![spinning(), ours])
        }
        Case::Burst => {
            let listings = args.listings.max(200) * 5;
            let (step, pause) = (Duration::from_micros(50), Duration::from_millis(50));
            let burst = Rhythm { listings, wanted_every: 50, burst: 200, step, pause, ..quiet };
            ("bursts of 200, 20,000 a second, 1 in 50 wanted", burst, all())
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
            let listings = args.listings / 100;
            let idle = Rhythm { listings, wanted_every: 1, pause, http_idle, ..quiet };
            ("a market that closes idle connections", idle, vec![sniper("the sniper")])
        }
        Case::SlowLog => ("a slow log, quiet", quiet, vec![blocking(), sniper("the sniper")]),
        Case::BusyDisk => ("a busy disk, quiet", quiet, vec![blocking(), sniper("the sniper")]),
    };
    Plan { title, rhythm, clients }
}

/// Where the log goes: nowhere, and slowly if told so.
#[derive(Clone, Debug, Default)]
struct Sink {
    slow: Arc<AtomicBool>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.slow.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(500));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes and syncs without end, beside whatever is measured.
struct BusyDisk {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl BusyDisk {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let directory = tempfile::tempdir().unwrap();
            let path: PathBuf = directory.path().join("ballast");
            let ballast = vec![7; 4 * 1024 * 1024];
            while !stopped.load(Ordering::Relaxed) {
                let mut file = fs::File::create(&path).unwrap();
                file.write_all(&ballast).unwrap();
                file.sync_all().unwrap();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for BusyDisk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
