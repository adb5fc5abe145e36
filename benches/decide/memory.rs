//! Resident memory while millions of listings pass through the engine.

use std::{
    fs,
    io::{self, Write},
    iter,
    sync::{Arc, Mutex},
    time::Instant,
};

use sniper::{
    config::{Budget, Generation},
    domain::money::Amount,
    domain::outcome::NotSent,
    domain::server_clock::ServerClock,
    domain::trade::KeyedBy,
    execution::response::SentRequest,
    ledger::{ApprovedOrder, Ledger},
    sniper::{Engine, Executor, Now, OrderSender},
    whitelist::{Whitelist, WhitelistEntry},
};

use super::{
    frames::{OPENING, frame, named},
    subject::{Subject, entry},
};

/// Default number of listings.
pub(crate) const LISTINGS: u64 = 10_000_000;
/// Number of listings of a functional run.
pub(crate) const QUICK_LISTINGS: u64 = 200_000;
/// One of this many listings matches the whitelist.
const WANTED_EVERY: u64 = 50;
/// Item of the whitelist.
const WANTED: &str = "AK-47 | Redline";
/// Number of entries. All but the first match nothing.
const ENTRIES: usize = 100_000;
/// Number of measurements of the memory.
const SAMPLES: u64 = 10;
/// Maximum growth of the resident memory from the first measurement to the last.
const GROWTH_KIB_MAX: u64 = 16 * 1_024;

/// A sender that cannot be constructed: the engine runs dry.
pub(crate) enum NoSender {}

impl OrderSender for NoSender {
    fn send(&self, _approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
        match *self {}
    }
}

/// Creates an engine that sends no orders.
pub(crate) fn engine(entries: Vec<WhitelistEntry>) -> Engine<NoSender> {
    let budget = Budget {
        max_price: Amount::from_cents(100_000),
        total: Amount::from_cents(1_000_000),
        ..Budget::default()
    };
    let ledger = Ledger::in_memory(budget, &entries, false);
    let clock = Arc::new(Mutex::new(ServerClock::new(Instant::now())));
    let whitelist = Arc::new(Whitelist::new(entries));
    Engine::new(whitelist, ledger, Executor::Dry, KeyedBy::Id, clock)
}

/// Passes listings through the engine and prints the resident memory. Fails if it grows.
pub(crate) fn run(listings: u64, out: &mut impl Write) -> io::Result<()> {
    let wanted = WhitelistEntry { max_quantity: u32::MAX, ..entry(WANTED) };
    let others = (1..ENTRIES).map(|number| entry(&format!("Glock-18 | Item {number}")));
    let entries: Vec<WhitelistEntry> = iter::once(wanted).chain(others).collect();
    let mut engine = engine(entries);
    let mut subject = Subject::new(0);
    writeln!(out, "listings resident_kib wanted would_buy")?;
    let mut resident = Vec::new();
    for number in 0..=listings {
        let text = if number % WANTED_EVERY == 0 {
            named(Generation::B, number, "AK-47 | Redline (Field-Tested)", 1_450)
        } else {
            frame(Generation::B, number, 1_450)
        };
        subject.read(&text, |trade| {
            let wall = trade.created_at.unwrap_or(OPENING);
            engine.consider(trade, Now { instant: Instant::now(), wall });
        });
        if number % (listings / SAMPLES).max(1) == 0 {
            let (matched, would_buy) = (engine.stats().matched, engine.stats().would_buy);
            let kib = resident_kib()?;
            writeln!(out, "{number:>8} {kib:>12} {matched:>6} {would_buy:>9}")?;
            resident.push(kib);
        }
    }
    match (resident.first(), resident.last()) {
        (Some(first), Some(last)) if *last <= first + GROWTH_KIB_MAX => Ok(()),
        _ => Err(io::Error::other(format!("the memory grew by more than {GROWTH_KIB_MAX} KiB"))),
    }
}

/// Reads the resident memory of this process.
fn resident_kib() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other("/proc/self/status has no VmRSS"))
}
