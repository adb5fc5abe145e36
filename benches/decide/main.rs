//! Cost of a decision: from a message of the feed to the decision of the whitelist.
//!
//! ```text
//! cargo bench --bench decide                    # time and allocations, for every case
//! cargo bench --bench decide -- --instructions  # instruction counts (needs valgrind)
//! cargo bench --bench decide -- --memory [N]    # memory over N listings, by default 10 million
//! cargo bench --bench decide -- --prices        # reference prices only
//! cargo bench --bench decide -- --readers       # WebSocket readers
//! cargo bench --bench decide -- --waxpeer       # events of Waxpeer only
//! cargo bench --bench decide -- --counters      # counters behind /metrics only
//! cargo bench --bench decide -- --quick         # functional run and allocations, for CI
//! ```
//!
//! `--generation A|B`, `--bytes N`, `--entries N` and `--rounds N` select cases.
//! `docs/performance.md` explains the results.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be taken ends with the reason")]

mod frames;
mod instructions;
mod lis_skins;
mod measure;
mod memory;
mod prices;
mod readers;
mod subject;
mod waxpeer;

use std::{
    env,
    hint::black_box,
    io::{self, Write},
    sync::atomic::Ordering,
    time::Duration,
};

use sniper::{
    config::Generation,
    domain::{latency::LatencyHistogram, trade::Trade},
    whitelist::Decision,
    ws::FeedMetrics,
};

use self::{
    frames::frame,
    measure::{Times, allocations},
    subject::Subject,
};

/// Number of different frames, so that the branch predictor does not learn a single one.
const FRAMES: usize = 64;
/// Default number of rounds.
const ROUNDS: usize = 1_000;

/// Maximum time of an increment in the fastest round, in picoseconds.
const INCREMENT_MAX_PS: u128 = 10_000;

/// A combination of parameters that is measured.
#[derive(Clone, Copy)]
struct Case {
    generation: Generation,
    bytes: usize,
    entries: usize,
}

/// Parsed command line.
struct Options {
    cases: Vec<Case>,
    rounds: usize,
    is_quick: bool,
    instructions: bool,
    listings: Option<u64>,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--work") {
        let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap();
        let generation = generation(arguments.get(1).unwrap());
        let [bytes, entries, frames] = [2, 3, 4].map(number);
        instructions::work(generation, bytes, entries, frames);
        return Ok(());
    }
    let options = parse_options(&arguments);
    let mut out = io::stdout().lock();
    if let Some(listings) = options.listings {
        return memory::run(listings, &mut out);
    }
    if arguments.iter().any(|argument| argument == "--readers") {
        return readers::run(options.rounds, &mut out);
    }
    if arguments.iter().any(|argument| argument == "--waxpeer") {
        return waxpeer::run(options.rounds, options.is_quick, &mut out);
    }
    if arguments.iter().any(|argument| argument == "--counters") && !options.is_quick {
        return counters(options.rounds, &mut out);
    }
    if options.instructions {
        return count(&options, &mut out);
    }
    if !arguments.iter().any(|argument| argument == "--prices") {
        time(&options, &mut out)?;
        lis_skins::run(options.rounds, options.is_quick, &mut out)?;
        waxpeer::run(options.rounds, options.is_quick, &mut out)?;
    }
    if options.is_quick {
        memory::run(memory::QUICK_LISTINGS, &mut out)?;
    }
    prices::run(options.rounds, options.is_quick, &mut out)
}

fn generation(text: &str) -> Generation {
    if text == "A" { Generation::A } else { Generation::B }
}

fn parse_options(arguments: &[String]) -> Options {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)
    };
    let number = |flag: &str| after(flag).map(|text| text.parse::<usize>().unwrap());
    let one_or = |flag: &str, all: &[usize]| number(flag).map_or(all.to_vec(), |one| vec![one]);
    let generations = after("--generation")
        .map_or(vec![Generation::A, Generation::B], |text| vec![generation(text)]);
    let sizes = one_or("--bytes", &[1_450, 2_900]);
    let entries = one_or("--entries", &[10, 100_000]);
    let mut cases = Vec::new();
    for generation in generations {
        for &bytes in &sizes {
            cases.extend(entries.iter().map(|&entries| Case { generation, bytes, entries }));
        }
    }
    Options {
        cases,
        rounds: number("--rounds").unwrap_or(ROUNDS),
        is_quick: has("--quick"),
        instructions: has("--instructions"),
        listings: has("--memory").then(|| {
            let listings = after("--memory").and_then(|text| text.parse().ok());
            listings.unwrap_or(memory::LISTINGS)
        }),
    }
}

/// Formats picoseconds as nanoseconds with two decimals.
fn ns(ps: u128) -> String {
    format!("{}.{:02}", ps / 1_000, ps % 1_000 / 10)
}

/// Returns the average length of the frames of a case.
fn size(generation: Generation, bytes: usize) -> usize {
    let length = |number: usize| frame(generation, number.try_into().unwrap(), bytes).len();
    (0..FRAMES).map(length).sum::<usize>() / FRAMES
}

fn time(options: &Options, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "ns per listing, median of {} rounds (fastest); nothing matches",
        options.rounds
    )?;
    writeln!(
        out,
        "generation bytes entries |             scan |             read |           decide |             both | serde_json::Value | allocations"
    )?;
    for &Case { generation, bytes, entries } in &options.cases {
        let texts: Vec<String> = (0..FRAMES)
            .map(|number| frame(generation, number.try_into().unwrap(), bytes))
            .collect();
        let mut subject = Subject::new(entries);
        for text in &texts {
            assert_eq!(subject.read_and_decide(text), Some(Decision::NoEntry), "{text}");
        }
        let allocations = allocations(|| {
            for text in &texts {
                black_box(subject.read_and_decide(text));
            }
        });
        assert_eq!(allocations, 0, "a decision for an unlisted item allocates");
        let size = size(generation, bytes);
        write!(out, "{:>10} {size:>5} {entries:>7} |", format!("{generation:?}"))?;
        if options.is_quick {
            writeln!(out, " not timed | {allocations}")?;
            continue;
        }
        let mut trades: Vec<Trade<'_>> = Vec::new();
        texts.iter().for_each(|text| subject.read(text, |trade| trades.push(trade)));
        assert!(texts.iter().all(|text| subject.scan(text)), "the scan found a wanted listing");
        let scan = Times::of(options.rounds, FRAMES, || {
            for text in &texts {
                black_box(subject.scan(black_box(text)));
            }
        });
        let read = Times::of(options.rounds, FRAMES, || {
            for text in &texts {
                subject.read(black_box(text), |trade| drop(black_box(trade)));
            }
        });
        let decide = Times::of(options.rounds, FRAMES, || {
            for trade in &trades {
                black_box(subject.decide(black_box(trade)));
            }
        });
        let both = Times::of(options.rounds, FRAMES, || {
            for text in &texts {
                black_box(subject.read_and_decide(black_box(text)));
            }
        });
        let tree = Times::of(options.rounds, FRAMES, || {
            for text in &texts {
                black_box(serde_json::from_str::<serde_json::Value>(black_box(text)).is_ok());
            }
        });
        for times in [scan, read, decide, both, tree] {
            write!(out, " {:>7} ({:>7})|", ns(times.percentile(50)), ns(times.percentile(0)))?;
        }
        writeln!(out, " {allocations}")?;
    }
    if options.is_quick { Ok(()) } else { counters(options.rounds, out) }
}

/// Measures an increment of the counters behind `/metrics`: one of the feed, and the histogram of
/// order latencies. Then a listing that is read and decided, without and with its counters.
///
/// # Panics
///
/// Panics if the fastest increment takes longer than promised.
fn counters(rounds: usize, out: &mut impl Write) -> io::Result<()> {
    let metrics = FeedMetrics::default();
    let mut histogram = LatencyHistogram::new();
    let counter = Times::of(rounds, 64, || {
        for _ in 0..64 {
            black_box(&metrics).listings.fetch_add(1, Ordering::Relaxed);
        }
    });
    let latency = Times::of(rounds, 64, || {
        for microseconds in 0..64 {
            black_box(&mut histogram).record(Duration::from_micros(black_box(microseconds)));
        }
    });
    for (name, times) in [("counter", counter), ("order latency", latency)] {
        let (middle, fastest) = (ns(times.percentile(50)), ns(times.percentile(0)));
        writeln!(out, "ns per increment, {name}: {middle} ({fastest})")?;
        assert!(times.percentile(0) <= INCREMENT_MAX_PS, "{name}: {fastest} ns");
    }
    let texts: Vec<String> =
        (0..FRAMES).map(|number| frame(Generation::A, number.try_into().unwrap(), 1_450)).collect();
    let mut subject = Subject::new(10);
    let FeedMetrics { frames, bytes, listings, .. } = &metrics;
    for (name, has_counters) in [("without counters", false), ("with its three", true)] {
        let times = Times::of(rounds, FRAMES, || {
            for text in &texts {
                if black_box(has_counters) {
                    frames.fetch_add(1, Ordering::Relaxed);
                    bytes.fetch_add(text.len().try_into().unwrap(), Ordering::Relaxed);
                    listings.fetch_add(1, Ordering::Relaxed);
                }
                black_box(subject.read_and_decide(black_box(text)));
            }
        });
        let (middle, fastest) = (ns(times.percentile(50)), ns(times.percentile(0)));
        writeln!(out, "ns per listing, read and decided, {name}: {middle} ({fastest})")?;
    }
    Ok(())
}

fn count(options: &Options, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "instructions per listing, read and decided; nothing matches")?;
    writeln!(out, "generation bytes entries | instructions")?;
    for &Case { generation, bytes, entries } in &options.cases {
        let size = size(generation, bytes);
        match instructions::tenths(generation, bytes, entries) {
            Some(tenths) => writeln!(
                out,
                "{:>10} {size:>5} {entries:>7} | {}.{}",
                format!("{generation:?}"),
                tenths / 10,
                tenths % 10
            )?,
            None => {
                return writeln!(
                    out,
                    "valgrind could not be run: install it, or omit --instructions"
                );
            }
        }
    }
    Ok(())
}
