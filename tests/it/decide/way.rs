//! The way of a listing, from the bytes of its frame to the buy that is handed over: what is not on
//! it. What lies before it is the socket, what lies behind it the connection for buying, which has a
//! test of its own (`sending_a_buy_allocates_nothing`).
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what is not as expected fails the test"
)]

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use sniper::{
    clock,
    config::Budget,
    domain::money::Amount,
    domain::outcome::NotSent,
    domain::server_clock::ServerClock,
    execution::answer::SentRequest,
    ledger::{AccountReading, ApprovedOrder, Ledger, LedgerLocation},
    sniper::{Engine, Executor, Now, OrderSender},
    whitelist::{Whitelist, WhitelistEntry},
    ws::frames::{FrameDecoder, WsMessage},
};
use tracing::subscriber::NoSubscriber;

use super::{OF_B, fast};
use crate::feed::Log;

/// How long the ledger gets to renew its lease.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes buys, and has no connection for them. How many lines had been logged by then is noted.
#[derive(Default)]
struct Hands {
    asked: AtomicU32,
    log: Option<Log>,
    lines: AtomicUsize,
}

impl Hands {
    fn lines_so_far(&self) -> usize {
        self.log.as_ref().map_or(0, |log| log.lines().len())
    }
}

impl OrderSender for Hands {
    fn send(&self, _approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
        self.asked.fetch_add(1, Relaxed);
        self.lines.store(self.lines_so_far(), Relaxed);
        Err(NotSent::NoConnection)
    }
}

/// A bot whose ledger is kept on disk, and everything of it that a listing passes.
struct Bot {
    decoder: FrameDecoder,
    reader: fast::Reader,
    core: Engine<Arc<Hands>>,
    hands: Arc<Hands>,
}

impl Bot {
    fn new(folder: &Path, log: Option<Log>) -> Self {
        let entries: Vec<WhitelistEntry> = fast::whitelist()
            .entries()
            .iter()
            .map(|entry| WhitelistEntry { max_quantity: u32::MAX, max_age: None, ..entry.clone() })
            .collect();
        let budget = Budget {
            max_price: Amount::from_cents(100_000),
            total: Amount::from_cents(1_000_000_000),
            min_balance: Amount::ZERO,
            max_buys_per_minute: 1_000_000,
            max_in_flight: 10,
            ..Budget::default()
        };
        let place = LedgerLocation::new(folder, "market.example");
        let now = clock::now();
        let mut ledger = Ledger::open(&place, budget, &entries, now).unwrap();
        ledger.bind("account").unwrap();
        let nothing = AccountReading { trades: &[], complete: true, started: now };
        drop(ledger.reconcile(&nothing, Some(Amount::from_cents(1_000_000_000)), now));
        let clock = Arc::new(Mutex::new(ServerClock::new(Instant::now())));
        let whitelist = Arc::new(Whitelist::new(entries));
        let hands = Arc::new(Hands { log, ..Hands::default() });
        let core = Engine::new(whitelist, ledger, Executor::Live(Arc::clone(&hands)), clock);
        Self { decoder: FrameDecoder::default(), reader: fast::Reader::default(), core, hands }
    }

    /// Waits until the ledger may approve as much as it wants to.
    fn rest(&mut self) {
        let begun = Instant::now();
        while !self.core.ledger().is_leased() {
            assert!(begun.elapsed() < PATIENCE, "the lease was never renewed");
            std::thread::yield_now();
        }
    }

    /// Takes a frame in, to the buy and what follows from it.
    fn hear(&mut self, frame: &[u8]) {
        self.decoder.space()[..frame.len()].copy_from_slice(frame);
        self.decoder.filled(frame.len());
        assert!(self.decoder.advance().unwrap());
        let WsMessage::Text(text) = self.decoder.message().unwrap() else { panic!("no text") };
        self.reader.each(text, |trade| self.core.consider(trade, Now::read())).unwrap();
    }
}

/// The frame of a listing that is wanted, with an id of its own, and good for another hour.
fn frame(number: u32) -> Vec<u8> {
    let id = format!("\"VHJhZGU6{number:012}");
    let (now, later) = (clock::now(), clock::now().plus(Duration::from_secs(3_600)));
    let text = OF_B
        .replacen("\"VHJhZGU6OTAwMDAwMDI", &id, 1)
        .replacen("2026-03-01T10:00:00.300Z", &now.to_string(), 1)
        .replacen("2026-03-03T10:00:00.301Z", &later.to_string(), 1);
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[0x81, 126], &length[..], text.as_bytes()].concat()
}

#[test]
fn the_way_to_a_buy_asks_for_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    // Who formats log lines asks for memory; that is after the buy, and another test.
    tracing::subscriber::with_default(NoSubscriber::default(), || {
        let mut bot = Bot::new(folder.path(), None);
        for number in 0..1_000 {
            let frame = frame(number);
            if number % 8 == 0 {
                bot.rest();
            }
            let counted = allocation_counter::measure(|| bot.hear(&frame));
            assert_eq!(bot.hands.asked.load(Relaxed), number + 1, "it was not bought");
            // What follows the first one makes room for all others.
            assert!(counted.count_total == 0 || number == 0, "{counted:?} at {number}");
        }
    });
}

#[test]
fn nothing_is_logged_before_a_buy_is_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut bot = Bot::new(folder.path(), Some(Log::capture()));
    for number in 0..10 {
        bot.rest();
        let before = bot.hands.lines_so_far();
        bot.hear(&frame(number));
        assert_eq!(bot.hands.asked.load(Relaxed), number + 1, "it was not bought");
        assert_eq!(bot.hands.lines.load(Relaxed), before, "a line was logged before the buy");
        assert!(bot.hands.lines_so_far() > before, "the count is blind");
    }
}
