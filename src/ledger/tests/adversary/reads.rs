//! Reads that take time, and the clocks of the machine.
//!
//! Reads happen as the account's reader makes them: one request at a time, and the results reach
//! the ledger through a queue, so they arrive in the order in which they ended. A balance precedes
//! each list. A list has pages, between which orders are looked up. Orders, responses and events
//! happen between the begin of a read and its arrival.
//!
//! The market's books are kept in true time, which goes on during a suspend. The ledger's clock is
//! the wall clock of the start, advanced by true time; setting the wall clock changes it at the
//! next start only.

use super::*;
use crate::ledger::record::{Record, Timeline};

/// Capacity of the queue through which readings reach the ledger.
const READS_MAX: usize = 16;
/// As in `Engine::watch_clock`.
const CLOCK_MOVED_MS_MAX: i64 = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Balance,
    List { complete: bool },
    LookUp(TradeKey),
}

/// Read that has begun and has not arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingRead {
    read: Read,
    begun: UnixMs,
    /// `None` while its request may be on its way.
    ended: Option<UnixMs>,
    /// Oldest moment of its data.
    oldest: UnixMs,
    /// Orders that were charged up to this moment are shown.
    visible: UnixMs,
}

/// Clocks of the machine, and what the program remembers of them.
#[derive(Clone, Debug)]
pub(super) struct MachineClocks {
    pub(super) boot: u64,
    /// The ledger's clock less true time, in this run.
    offset_ms: i64,
    /// Time by which the wall clock was set since the start, and at the last comparison that the
    /// program remembers.
    set_ms: i64,
    noted_ms: i64,
    /// Events of the ledger as they were recorded, up to the last start.
    records: Vec<Record>,
    /// Time from which nothing is released by age, because the wall clock was set.
    pub(super) frozen_at: Option<UnixMs>,
    /// Last time at which the program noticed that the wall clock was set.
    set_at: UnixMs,
    /// Time after which the account must be read before an order: of the start, or of a jump
    /// forward.
    pub(super) read_from: Option<UnixMs>,
    /// Begin of the last balance.
    balance_at: UnixMs,
}

impl MachineClocks {
    pub(super) const fn new() -> Self {
        Self {
            boot: 1,
            offset_ms: 0,
            set_ms: 0,
            noted_ms: 0,
            records: Vec::new(),
            frozen_at: None,
            set_at: UnixMs(i64::MIN),
            read_from: None,
            balance_at: UnixMs(i64::MIN),
        }
    }
}

impl AdversaryMarket {
    /// Returns this time on the ledger's clock.
    const fn ledger_time(&self, moment: UnixMs) -> UnixMs {
        UnixMs(moment.0 + self.clocks.offset_ms)
    }

    /// Returns the present time on the ledger's clock.
    pub(super) const fn clock(&self) -> UnixMs {
        self.ledger_time(self.now)
    }

    /// Returns the read that is delivered next, and its begin on the ledger's clock.
    pub(super) fn next_read(&self) -> Option<(Read, UnixMs)> {
        self.reads.front().map(|pending| (pending.read, self.ledger_time(pending.begun)))
    }

    /// Begins a read whose data is up to `age` seconds old. `in_list` makes a look-up end before
    /// the last page of a list that has begun.
    pub(super) fn begin_read(&mut self, read: Read, age: u64, in_list: bool) {
        if self.reads.len() >= READS_MAX {
            return;
        }
        let now = self.now;
        if matches!(read, Read::List { .. }) && !std::mem::take(&mut self.has_read_balance) {
            self.begin_read(Read::Balance, age, false);
            self.has_read_balance = false;
        }
        self.has_read_balance |= read == Read::Balance;
        let is_in_list = in_list
            && matches!(read, Read::LookUp(_))
            && self
                .reads
                .back()
                .is_some_and(|last| matches!(last.read, Read::List { .. }) && last.ended.is_none());
        let place = self.reads.len() - usize::from(is_in_list);
        for earlier in self.reads.range_mut(..place) {
            earlier.ended = earlier.ended.or(Some(now));
        }
        let oldest = now.minus(Duration::from_secs(age));
        let lateness = self.kind.listed_within.as_secs() / SETTLE.as_secs();
        let visible = now.minus(Duration::from_secs(age * lateness));
        self.reads.insert(place, PendingRead { read, begun: now, ended: None, oldest, visible });
    }

    /// Returns the orders that the program looks up: unknown ones, and without a list, bought ones
    /// too.
    pub(super) fn looked_up(&self) -> Vec<TradeKey> {
        let state = |order: &MarketOrder| {
            self.ledger.state.order(&self.key(order)).map(|intent| intent.state)
        };
        let is_looked_up = |order: &&MarketOrder| {
            0 < self.kind.look_ups_min
                && !order.waiting
                && !order.unconfirmed
                && state(order).is_some_and(|state| {
                    state == OrderState::Unknown || !self.kind.has_list && state.is_followed_up()
                })
        };
        self.orders.iter().filter(is_looked_up).map(|order| self.key(order)).collect()
    }

    /// Delivers the result of the oldest read. Each bit of `recent` makes the reading, or a
    /// purchase in it, as recent as the end of the read.
    pub(super) fn deliver(&mut self, recent: u64) {
        let Some(pending) = self.reads.pop_front() else { return };
        let PendingRead { read, begun, ended, oldest, visible } = pending;
        let ended = ended.unwrap_or(self.now);
        let is_recent = |index: usize| recent >> (index % 64) & 1 == 1;
        let moment = |index| if is_recent(index) { ended } else { oldest };
        let shown = |index, order: &MarketOrder| {
            let is_visible = order.charged_at.is_some_and(|charged| charged <= visible);
            order.trade_at(moment(index)).filter(|_trade| is_visible || is_recent(index))
        };
        match read {
            Read::Balance => self.on_balance(self.balance_at(moment(0)), begun),
            Read::List { complete } => {
                let listed = self.orders.iter().enumerate().filter(|(index, order)| {
                    order.hidden != Hidden::LeftOut && (complete || index % 2 == 0)
                });
                let trades: Vec<OwnTrade> =
                    listed.filter_map(|(index, order)| shown(index, order)).collect();
                let started = self.ledger_time(begun);
                let reading = AccountReading { trades: &trades, complete, started };
                let _effects = self.ledger.reconcile(&reading, None, self.clock());
                if complete {
                    self.on_complete_read(begun);
                }
            }
            Read::LookUp(key) => {
                let order = self.orders.iter().find(|order| self.key(order) == key).cloned();
                let trade = order.as_ref().and_then(|order| {
                    let is_omitted = self.kind.has_list && order.hidden == Hidden::LeftOut;
                    shown(0, order).filter(|_trade| !is_omitted)
                });
                self.on_look_up(&key, trade, begun);
            }
        }
    }

    /// Reads at once, and without old data.
    pub(super) fn read_now(&mut self, read: Read) {
        self.begin_read(read, 0, false);
        while !self.reads.is_empty() {
            self.deliver(0);
        }
    }

    fn on_balance(&mut self, balance: Amount, begun: UnixMs) {
        let _effects = self.ledger.set_balance(balance, self.ledger_time(begun), self.clock());
        self.clocks.balance_at = self.clocks.balance_at.max(begun);
        if !self.kind.has_list {
            self.ledger.reconcile_without_list(self.ledger_time(begun), self.clock());
            self.on_complete_read(begun);
        }
    }

    fn on_look_up(&mut self, key: &TradeKey, trade: Option<OwnTrade>, begun: UnixMs) {
        let (begun, now) = (self.ledger_time(begun), self.clock());
        if let Some(trade) = trade {
            let _effects = self.ledger.reconcile_order(key, &trade, begun, now);
            return;
        }
        self.ledger.order_absent(key, begun);
        if !self.kind.has_list {
            let _effects = self.ledger.absent_without_list(key, begun, now);
        }
    }

    fn on_complete_read(&mut self, begun: UnixMs) {
        let clocks = &mut self.clocks;
        clocks.noted_ms = clocks.set_ms;
        clocks.read_from = clocks.read_from.filter(|from| clocks.balance_at < *from);
        let is_read = clocks.set_at < begun && clocks.set_at <= clocks.balance_at;
        clocks.frozen_at = clocks.frozen_at.filter(|_frozen| !is_read);
    }

    /// Sets the wall clock, which the program notices as `Engine::watch_clock` does.
    pub(super) fn set_clock(&mut self, seconds: i64) {
        let (clock, clocks) = (self.clock(), &mut self.clocks);
        clocks.set_ms += seconds * 1_000;
        let moved = clocks.set_ms - clocks.noted_ms;
        if moved.abs() <= CLOCK_MOVED_MS_MAX {
            return;
        }
        clocks.noted_ms = clocks.set_ms;
        clocks.set_at = self.now;
        clocks.frozen_at = clocks.frozen_at.or(Some(self.now));
        self.ledger.mark_clock_unreliable(clock);
        if 0 < moved {
            clocks.read_from = Some(self.now);
            self.ledger.require_reading(clock);
        }
    }

    /// Starts the ledger's clock at the wall clock, and converts the recorded events as the start
    /// of the program does. After another boot, it is not ahead of the clock of the last start and
    /// the last event that were recorded, because nothing shows that it was set forward.
    pub(super) fn start_clock(&mut self, is_same_boot: bool) {
        let clocks = &mut self.clocks;
        let events = &mut self.ledger.events_for_tests;
        clocks.records.truncate(events.len());
        clocks.records.extend(events.iter().skip(clocks.records.len()).map(|&(at, event)| {
            let uptime_ms = u64::try_from(at.0 - clocks.offset_ms).ok();
            Record { position: 0, at, uptime_ms, event }
        }));
        clocks.boot += u64::from(!is_same_boot);
        clocks.offset_ms += clocks.set_ms;
        if !is_same_boot {
            let is_start = |record: &&Record| matches!(record.event, LedgerEvent::Started { .. });
            let start = clocks.records.iter().rfind(is_start);
            for last in start.into_iter().chain(clocks.records.last()) {
                let offset_ms = last.at.0 - i64::try_from(last.uptime_ms.unwrap()).unwrap();
                clocks.offset_ms = clocks.offset_ms.min(offset_ms);
            }
        }
        let (uptime, now) = (u64::try_from(self.now.0).ok(), UnixMs(self.now.0 + clocks.offset_ms));
        let mut timeline = Timeline::new(BootId(clocks.boot), uptime, now);
        clocks.records.iter().for_each(|record| timeline.note_start(record));
        *events = clocks.records.iter().map(|record| timeline.convert(record)).collect();
        let (boot, offset_ms, read_from) = (clocks.boot, clocks.offset_ms, Some(self.now));
        let records = std::mem::take(&mut clocks.records);
        *clocks = MachineClocks { boot, offset_ms, records, read_from, ..MachineClocks::new() };
        self.reads.clear();
        self.has_read_balance = false;
    }
}
