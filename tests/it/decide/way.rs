//! The hot path from the bytes of a frame to the order: it neither allocates nor logs. The order
//! client is tested separately (`sending_an_order_allocates_nothing`).
#![expect(clippy::panic, clippy::indexing_slicing, reason = "an unexpected value fails the test")]

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
    domain::trade::KeyedBy,
    execution::response::SentRequest,
    ledger::{AccountReading, ApprovedOrder, Ledger, LedgerLocation},
    sniper::{Engine, Executor, Now, OrderSender},
    whitelist::{Whitelist, WhitelistEntry},
    ws::frames::{FrameDecoder, WsMessage},
};
use tracing::subscriber::NoSubscriber;

use super::{LISTING_B, fast};
use crate::feed::Log;

/// Maximum wait for the ledger to renew its durable limit.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Counts orders without sending them, and records how many lines were logged before each order.
#[derive(Default)]
struct CountingSender {
    orders: AtomicU32,
    log: Option<Log>,
    lines: AtomicUsize,
}

impl CountingSender {
    fn lines_so_far(&self) -> usize {
        self.log.as_ref().map_or(0, |log| log.lines().len())
    }
}

impl OrderSender for CountingSender {
    fn send(&self, _approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
        self.orders.fetch_add(1, Relaxed);
        self.lines.store(self.lines_so_far(), Relaxed);
        // Final: with another reason the listing would wait, and later ones behind it.
        Err(NotSent::Stopping)
    }
}

/// The components on the path of a listing, with a ledger on disk.
struct Bot {
    decoder: FrameDecoder,
    reader: fast::Reader,
    engine: Engine<Arc<CountingSender>>,
    sender: Arc<CountingSender>,
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
        let sender = Arc::new(CountingSender { log, ..CountingSender::default() });
        let engine =
            Engine::new(whitelist, ledger, Executor::Live(Arc::clone(&sender)), KeyedBy::Id, clock);
        Self { decoder: FrameDecoder::default(), reader: fast::Reader::default(), engine, sender }
    }

    /// Waits until the ledger has renewed its durable limit.
    fn wait_for_limit(&mut self) {
        let begun = Instant::now();
        while !self.engine.ledger().is_limit_durable() {
            assert!(begun.elapsed() < WAIT_MAX, "the durable limit was never renewed");
            std::thread::yield_now();
        }
    }

    /// Processes a frame up to the order and the handling of its result.
    fn process_frame(&mut self, frame: &[u8]) {
        self.decoder.release();
        self.decoder.space()[..frame.len()].copy_from_slice(frame);
        self.decoder.filled(frame.len());
        let message = self.decoder.advance().unwrap().unwrap();
        let WsMessage::Text(text) = self.decoder.message(&message).unwrap() else {
            panic!("no text")
        };
        self.reader.each(text, |trade| self.engine.consider(trade, Now::read())).unwrap();
    }
}

/// Returns the frame of a wanted listing with a unique id, which expires in an hour.
fn frame(number: u32) -> Vec<u8> {
    let id = format!("\"VHJhZGU6{number:012}");
    let (now, later) = (clock::now(), clock::now().plus(Duration::from_secs(3_600)));
    let text = LISTING_B
        .replacen("\"VHJhZGU6OTAwMDAwMDI", &id, 1)
        .replacen("2026-03-01T10:00:00.300Z", &now.to_string(), 1)
        .replacen("2026-03-03T10:00:00.301Z", &later.to_string(), 1);
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[0x81, 126], &length[..], text.as_bytes()].concat()
}

#[test]
fn the_path_to_an_order_does_not_allocate() {
    let folder = tempfile::tempdir().unwrap();
    // Formatting log lines allocates. It happens after the order and is tested separately.
    tracing::subscriber::with_default(NoSubscriber::default(), || {
        let mut bot = Bot::new(folder.path(), None);
        for number in 0..1_000 {
            let frame = frame(number);
            if number % 8 == 0 {
                bot.wait_for_limit();
            }
            let counted = allocation_counter::measure(|| bot.process_frame(&frame));
            assert_eq!(bot.sender.orders.load(Relaxed), number + 1, "no order was sent");
            // The first order allocates the buffers for all others.
            assert!(counted.count_total == 0 || number == 0, "{counted:?} at {number}");
        }
    });
}

#[test]
fn nothing_is_logged_before_an_order_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut bot = Bot::new(folder.path(), Some(Log::capture()));
    for number in 0..10 {
        bot.wait_for_limit();
        let before = bot.sender.lines_so_far();
        bot.process_frame(&frame(number));
        assert_eq!(bot.sender.orders.load(Relaxed), number + 1, "no order was sent");
        assert_eq!(bot.sender.lines.load(Relaxed), before, "a line was logged before the order");
        assert!(bot.sender.lines_so_far() > before, "no log line was counted");
    }
}
