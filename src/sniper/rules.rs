//! Replaces whitelist, limits and prices while the bot runs.
//!
//! Another thread prepares them. The engine replaces its own ones between two listings, and returns
//! the old ones to that thread, which frees them.

use std::{
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use tokio::sync::mpsc;
use tracing::warn;

use super::{Engine, Now, OrderSender, pauses::PreparedPauses, view::EntryScan};
use crate::{
    domain::{trade::Trade, wanted_items::WantedItems},
    ledger::rules::LedgerRules,
    prices::{PriceBook, PriceSnapshot},
    whitelist::{Decision, PriceView, Whitelist},
    ws::WantedSender,
};

/// Rules that apply from one moment on.
#[derive(Debug)]
pub struct Rules {
    pub whitelist: Arc<Whitelist>,
    pub pauses: PreparedPauses,
    pub ledger: LedgerRules,
    /// Reference prices, and the wanted items of the whitelist.
    pub prices: PriceSnapshot,
    /// Names of the price sources, if they have changed.
    pub other_sources: Option<Vec<String>>,
    pub max_wait: Duration,
}

/// New rules, and the sender for the old ones.
#[derive(Debug)]
pub struct RulesChange {
    pub rules: Rules,
    /// Receives later snapshots of the prices; `None` without price sources. They contain the
    /// wanted items of the new whitelist, so it replaces the receiver before.
    pub later: Option<mpsc::Receiver<PriceSnapshot>>,
    pub replaced: SyncSender<ReplacedRules>,
}

/// Rules that are no longer used.
#[derive(Debug)]
pub struct ReplacedRules {
    /// Number of held and queued listings that no entry matches any more.
    pub dropped: usize,
    _whitelist: Arc<Whitelist>,
    _ledger: LedgerRules,
    _prices: Arc<PriceBook>,
    /// The feed may use it until its next message.
    pub wanted: Option<Arc<WantedItems>>,
}

impl<B: OrderSender> Engine<B> {
    /// Uses other rules from now on, and passes the wanted items to the feed. Held and queued
    /// listings are decided again. Returns the old rules.
    ///
    /// Apart from a pause since the rules were prepared, nothing takes longer with more entries:
    /// a listing may be waiting.
    pub fn replace_rules(
        &mut self,
        rules: Rules,
        now: Now,
        wanted: Option<&WantedSender>,
    ) -> ReplacedRules {
        let Rules { whitelist, mut pauses, ledger, prices, other_sources, max_wait } = rules;
        if pauses.version != self.pause_version {
            pauses = self.current_pauses().prepare(&whitelist);
        }
        self.finish_sent_orders();
        self.activity.clear_near_misses();
        self.entry_scan = EntryScan::default();
        self.max_wait = max_wait;
        if let Some(sources) = other_sources {
            self.set_alert_sources(sources);
            if self.price_recorder.take().is_some() {
                warn!(
                    "Prices no longer recorded: the recording knows the sources of its start only"
                );
            }
        }
        if let Some(recorder) = &self.price_recorder {
            recorder.record(&prices.book);
        }
        let mut replaced = ReplacedRules {
            dropped: 0,
            _whitelist: std::mem::replace(&mut self.whitelist, whitelist),
            _ledger: self.ledger.replace_rules(ledger),
            _prices: std::mem::replace(&mut self.prices, prices.book),
            wanted: wanted.map(|sender| sender.send_replace(prices.wanted)),
        };
        self.prices_drift_ms = self.wall_drift_ms;
        self.absent_pauses = pauses.absent;
        self.pauses.record(|| pauses.names);
        let view = PriceView::new(&self.prices, self.price_time(now.wall));
        let entry_of = |trade: &Trade<'_>| match self.whitelist.decide_with(trade, view) {
            Decision::Matched(entry) => Some(entry),
            _ => None,
        };
        let dropped = self.held.reassign(entry_of).saturating_add(self.queue.reassign(entry_of));
        for _listing in 0..dropped {
            self.stats.skip("no longer on the whitelist");
        }
        replaced.dropped = dropped;
        replaced
    }
}
