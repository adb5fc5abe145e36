//! Reads all sources at their intervals, and publishes a snapshot after each new table.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::sleep};
use tracing::{info, warn};

use super::reader::{PriceFailure, PriceReader, PriceReading};
use crate::{
    clock,
    domain::time::{UnixMs, format_duration},
    domain::whitelist_entry::WhitelistEntry,
    prices::{PriceBook, PriceSnapshot},
    text::counted,
};

/// Interval at which the ages of the tables are checked.
const AGE_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Time after the start within which ages are reported only while no source is being read.
const START_GRACE: Duration = Duration::from_secs(120);

/// Maximum number of sources that are read at the same time: a site that hangs must not delay the
/// others, and each download may be in memory as a whole.
const READS_MAX: usize = 4;

/// State of one source.
#[derive(Clone, Debug, Default)]
struct SourceState {
    /// Time of the next reading on [`clock::now`], which counts the time in suspend; `None` means
    /// at once.
    next: Option<UnixMs>,
    is_reading: bool,
    /// Text of the last failure. A repeated failure is not logged again.
    failure: Option<String>,
    is_stale: bool,
    /// Time at which the table in use was written, perhaps by another process.
    written_at: Option<SystemTime>,
}

/// Publishes snapshots, and keeps each one while another thread uses it, so that no memory is freed
/// on a thread that handles listings.
#[derive(Debug)]
pub struct PricePublisher {
    entries: Arc<[WhitelistEntry]>,
    snapshots: mpsc::Sender<PriceSnapshot>,
    /// Oldest first.
    published: Vec<PriceSnapshot>,
}

/// Publishes the stored tables, then reads each source at its interval. Returns when the receiver
/// is closed.
///
/// # Cancel safety
///
/// Safe: tables are stored as a whole.
pub async fn refresh_prices(reader: PriceReader, mut publisher: PricePublisher) {
    let count = reader.config().sources.len();
    let mut states = vec![SourceState::default(); count];
    update_written_at(&reader, &mut states);
    if count == 0 || !publisher.publish(reader.book()).await {
        return;
    }
    schedule_stored(&reader, &mut states);
    let started = Instant::now();
    let reader = &reader;
    let read = |index| async move { (index, reader.read(index, false).await) };
    let mut readings = FuturesUnordered::new();
    loop {
        let now = clock::now();
        while readings.len() < READS_MAX
            && let Some(index) = start_next(&mut states, now)
        {
            readings.push(read(index));
        }
        if readings.is_empty() || START_GRACE <= started.elapsed() {
            report_ages(reader, &publisher, &mut states);
        }
        // At the maximum number of readings, the next one starts when one of them ends.
        let waiting = states.iter().filter(|state| readings.len() < READS_MAX && !state.is_reading);
        let next = waiting.filter_map(|state| state.next).min();
        let wait = next.map_or(AGE_CHECK_INTERVAL, |next| next.since(now));
        let mut is_changed = false;
        tokio::select! {
            Some((index, result)) = readings.next() => {
                let Some(state) = states.get_mut(index) else { return };
                is_changed = finish_reading(reader, index, result, state);
            }
            () = sleep(wait.min(AGE_CHECK_INTERVAL)) => {}
            () = publisher.snapshots.closed() => return,
        }
        let is_written = update_written_at(reader, &mut states);
        if (is_changed || is_written) && !publisher.publish(reader.book()).await {
            return;
        }
    }
}

/// Updates the times at which the tables were written. Returns `true` if one was written since the
/// last call, perhaps by `sniper prices update`.
fn update_written_at(reader: &PriceReader, states: &mut [SourceState]) -> bool {
    let mut is_written = false;
    for (source, state) in reader.config().sources.iter().zip(states) {
        let written_at = reader.store().written_at(source);
        is_written |= std::mem::replace(&mut state.written_at, written_at) != written_at;
    }
    is_written
}

/// Marks the source that is due for the longest time as being read; `None` if none is due.
fn start_next(states: &mut [SourceState], now: UnixMs) -> Option<usize> {
    let is_due =
        |state: &SourceState| !state.is_reading && state.next.is_none_or(|next| next <= now);
    let due = states.iter_mut().enumerate().filter(|(_, state)| is_due(state));
    let (index, state) = due.min_by_key(|(_, state)| state.next)?;
    state.is_reading = true;
    Some(index)
}

/// Schedules the sources whose stored tables were read recently, perhaps by an earlier run.
fn schedule_stored(reader: &PriceReader, states: &mut [SourceState]) {
    let (now, wall) = (clock::now(), clock::wall());
    for (source, state) in reader.config().sources.iter().zip(states) {
        let stored = reader.store().load(source, super::StoredAs::Current).ok().flatten();
        let Some(stored) = stored.filter(|stored| stored.checked_at <= wall) else { continue };
        let ago = wall.since(stored.checked_at);
        let wait = reader.config().interval(source).saturating_sub(ago);
        state.next = Some(now.plus(wait));
    }
}

/// Logs the result of a reading and schedules the next one. Returns `true` if the snapshot has to
/// be built again.
fn finish_reading(
    reader: &PriceReader,
    index: usize,
    result: Result<PriceReading, PriceFailure>,
    state: &mut SourceState,
) -> bool {
    state.is_reading = false;
    let Some(source) = reader.config().sources.get(index) else { return false };
    let (name, interval) = (&source.name, reader.config().interval(source));
    let wait = match &result {
        Ok(_) => interval,
        Err(PriceFailure::TooSoon { ago, interval }) => interval.saturating_sub(*ago),
        Err(failure) => reader.delay_after(failure, index, Instant::now()),
    };
    state.next = Some(clock::now().plus(wait));
    match result {
        Ok(reading) => {
            let was_failing = state.failure.take().is_some();
            match reading {
                PriceReading::New { items, at } => {
                    let items = counted(items, "item", "items");
                    info!("Prices updated: {name}, {items}, {} old", age(at));
                }
                PriceReading::Unchanged { at } if was_failing => {
                    info!("Prices confirmed: {name}, {} old", age(at));
                }
                PriceReading::Unchanged { .. } => {}
            }
            true
        }
        Err(PriceFailure::TooSoon { .. }) => false,
        Err(failure) => {
            // The time that is left differs at each attempt.
            let text = match failure {
                PriceFailure::Waiting { .. } if state.failure.is_some() => return false,
                failure => failure.to_string(),
            };
            if state.failure.as_ref() != Some(&text) {
                warn!("Prices not updated: {name}, {text}. The last good table stays in use.");
                state.failure = Some(text);
            }
            false
        }
    }
}

/// Logs each source whose table became too old, or usable again.
fn report_ages(reader: &PriceReader, publisher: &PricePublisher, states: &mut [SourceState]) {
    let now = clock::wall();
    let Some(PriceSnapshot { book, .. }) = publisher.published.last() else { return };
    let sources = reader.config().sources.iter().zip(book.sources());
    for ((source, table), state) in sources.zip(states) {
        let is_stale = table.is_stale(now);
        if is_stale && !state.is_stale {
            let (name, limit) = (&source.name, format_duration(source.max_age));
            if !table.has_table() {
                warn!("Prices missing: {name}. Entries that need it send no orders.");
            } else if table.is_ahead(now) {
                warn!(
                    "Prices from the future: {name}, {}; check the clock. Entries that need it \
                     send no orders.",
                    table.newest
                );
            } else {
                warn!(
                    "Prices too old: {name}, {} (limit {limit}). Entries that need it send no \
                     orders.",
                    age(table.newest)
                );
            }
        } else if !is_stale && state.is_stale {
            info!("Prices usable again: {}, {} old", source.name, age(table.newest));
        }
        state.is_stale = is_stale;
    }
}

fn age(at: UnixMs) -> String {
    format_duration(clock::wall().since(at))
}

impl PricePublisher {
    /// Creates a publisher of prices with the maximum prices of these entries.
    pub const fn new(
        entries: Arc<[WhitelistEntry]>,
        snapshots: mpsc::Sender<PriceSnapshot>,
    ) -> Self {
        Self { entries, snapshots, published: Vec::new() }
    }

    /// Builds a snapshot and keeps a handle of it.
    pub fn snapshot(&mut self, book: PriceBook) -> PriceSnapshot {
        let snapshot = PriceSnapshot::new(book, &self.entries, clock::wall());
        self.published.retain(|published| !published.is_unused());
        self.published.push(snapshot.clone());
        snapshot
    }

    /// Sends a snapshot of the prices. Returns `false` if the receiver is closed.
    async fn publish(&mut self, book: PriceBook) -> bool {
        let snapshot = self.snapshot(book);
        self.snapshots.send(snapshot).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_due_after_its_interval_also_if_most_of_it_was_a_suspend() {
        let (now, interval) = (clock::now(), Duration::from_secs(3_600));
        let mut states = vec![SourceState::default(); 2];
        states[0].next = Some(now.plus(interval));
        states[1].next = Some(now.plus(interval * 2));
        assert_eq!(start_next(&mut states, now.plus(interval - Duration::from_millis(1))), None);
        // As after a suspend: `clock::now` has advanced by the interval, `Instant` has not.
        assert_eq!(start_next(&mut states, now.plus(interval)), Some(0));
        assert_eq!(
            start_next(&mut states, now.plus(interval)),
            None,
            "the other source is not due"
        );
    }
}
