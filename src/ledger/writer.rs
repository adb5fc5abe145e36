//! The thread that carries events from the intent file into the database.
//!
//! It looks every [`PERIOD`], so that nobody has to wake it on the way from frame to order. In one
//! transaction it writes the events that are new, what follows from them, and the ceiling of the
//! lease; then it publishes how far it has come. When the disk refuses, it says so once, buying
//! stops, and it keeps trying.
//!
//! # Invariants
//!
//! 1. [`Shared::applied`] and [`Shared::ceiling`] are published after the commit that made them
//!    durable.
//! 2. Nothing is dropped: what could not be committed is tried again.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use super::{
    book::Book,
    crash,
    database::{Batch, Database},
    error::LedgerError,
    event::Sequence,
    intent::Exposure,
    ring::Ring,
    rows::Staged,
};
use crate::money::Coins;

/// How often the writer looks for events.
pub(super) const PERIOD: Duration = Duration::from_millis(10);
/// How long the writer waits after the disk has refused.
const PAUSE: Duration = Duration::from_millis(500);
/// How many events are written at once.
const BATCH_MAX: usize = 1_024;
/// How many messages to the writer may wait.
pub(super) const MESSAGES_MAX: usize = 256;

/// What the hot path and the writer tell each other, without a lock.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The last position in the intent file.
    pub(super) written: AtomicU64,
    /// The last position that the database has.
    pub(super) applied: AtomicU64,
    /// The durable ceiling.
    ceiling_coins: AtomicI64,
    ceiling_count: AtomicU64,
    /// The ceiling that is asked for.
    wanted_coins: AtomicI64,
    wanted_count: AtomicU64,
    /// Whether the ledger cannot be written.
    failed: AtomicBool,
    why: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn ceiling(&self) -> Exposure {
        Exposure {
            coins: Coins::from_cents(self.ceiling_coins.load(Ordering::Acquire)),
            count: self.ceiling_count.load(Ordering::Acquire),
        }
    }

    pub(super) fn set_ceiling(&self, ceiling: Exposure) {
        self.ceiling_coins.store(ceiling.coins.cents(), Ordering::Release);
        self.ceiling_count.store(ceiling.count, Ordering::Release);
    }

    pub(super) fn want(&self, ceiling: Exposure) {
        self.wanted_coins.store(ceiling.coins.cents(), Ordering::Release);
        self.wanted_count.store(ceiling.count, Ordering::Release);
    }

    /// The ceiling asked for, but never below the one that is durable.
    fn wanted(&self) -> Exposure {
        let now = self.ceiling();
        let coins = Coins::from_cents(self.wanted_coins.load(Ordering::Acquire));
        let count = self.wanted_count.load(Ordering::Acquire);
        Exposure { coins: coins.max(now.coins), count: count.max(now.count) }
    }

    /// Whether the ceiling that was last asked for is durable.
    pub(super) fn is_leased(&self) -> bool {
        self.wanted() == self.ceiling()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Why the ledger cannot be written, if it cannot.
    pub(super) fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops buying, and says so once.
    pub(super) fn fail(&self, why: String) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            tracing::error!("The ledger cannot be written, nothing is bought until it can: {why}");
        }
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    fn heal(&self) {
        if self.failed.swap(false, Ordering::AcqRel) {
            *self.why.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::warn!("The ledger can be written again, buying goes on");
        }
    }
}

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Message {
    /// What the marketplace said about an intent.
    Words(Sequence, String),
    /// Whose account this is.
    User(String),
}

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) ring: Ring,
    pub(super) database: Database,
    /// The book as the database has it, with what is in `batch`.
    pub(super) book: Book,
    pub(super) messages: Receiver<Message>,
    pub(super) batch: Batch,
}

impl Writer {
    /// Writes until nobody is left to tell it anything.
    pub(super) fn run(mut self) {
        let mut wait = PERIOD;
        loop {
            let is_last = match self.messages.recv_timeout(wait) {
                Ok(message) => {
                    self.take(message);
                    self.messages.try_iter().collect::<Vec<_>>().into_iter().for_each(|message| {
                        self.take(message);
                    });
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            let written = self.write(is_last);
            wait = match &written {
                Ok(()) => PERIOD,
                Err(error) => {
                    self.shared.fail(chain(error));
                    PAUSE
                }
            };
            if is_last {
                return;
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            // Words are for people; while the disk refuses, the latest of them may go.
            Message::Words(..) if self.batch.words.len() >= MESSAGES_MAX => {}
            Message::Words(sequence, words) => self.batch.words.push((sequence, words)),
            Message::User(user) => self.batch.user = Some(user),
        }
    }

    fn write(&mut self, is_last: bool) -> Result<(), LedgerError> {
        loop {
            let is_whole = self.stage()?;
            // Words are about intents that must be there first.
            let wanted =
                if is_last && is_whole { self.book.exposure() } else { self.shared.wanted() };
            let is_news = !self.batch.staged.is_empty()
                || !self.batch.words.is_empty()
                || self.batch.user.is_some()
                || wanted != self.batch.ceiling
                || is_last;
            if is_news || self.shared.has_failed() {
                self.batch.ceiling = wanted;
                self.batch.clean = is_last && is_whole;
                let is_about_events = !self.batch.staged.is_empty();
                if is_about_events {
                    crash::pass(crash::Step::Staged);
                }
                self.database.commit(&self.batch)?;
                if is_about_events {
                    crash::pass(crash::Step::Committed);
                }
                self.published();
            }
            if is_whole {
                return Ok(());
            }
        }
    }

    /// Reads what is new in the intent file; true: all of it.
    fn stage(&mut self) -> Result<bool, LedgerError> {
        let written = self.shared.written.load(Ordering::Acquire);
        while self.batch.applied < written {
            if self.batch.staged.len() >= BATCH_MAX {
                return Ok(false);
            }
            let position = self.batch.applied.saturating_add(1);
            let what = "read the intent file beside";
            let path = self.database.path().to_owned();
            let read = self.ring.read(position);
            let read = read.map_err(|source| LedgerError::File { what, path, source })?;
            let record = read.ok_or_else(|| {
                self.database.damaged(format!("record {position} of the intent file is not there"))
            })?;
            let staged = Staged::new(&mut self.book, record);
            self.batch.staged.push(staged.map_err(|source| self.database.contradiction(source))?);
            self.batch.applied = position;
        }
        Ok(true)
    }

    fn published(&mut self) {
        self.batch.staged.clear();
        self.batch.words.clear();
        self.batch.user = None;
        self.shared.applied.store(self.batch.applied, Ordering::Release);
        self.shared.set_ceiling(self.batch.ceiling);
        self.shared.heal();
    }
}

/// An error and everything behind it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
