//! Shares the budget with other bots: obeys the permissions from the thread that exchanges messages
//! with the database, and reports the usage to it.
//!
//! The thread sends a [`SharedUpdate`]. The engine obeys it from then on, and replies with the
//! usage at that time, a [`SharedReport`]. The engine never waits for the thread.
//!
//! # After a takeover
//!
//! The active bot before this one may have ordered any listing that was created before its role
//! ended. So a listing that was created before the takeover is not ordered. A listing without a
//! time of creation is not ordered if it arrived before the takeover, at any price. A listing whose
//! order the other bot has reported is never ordered. Nothing is ordered until the account was read
//! again. Until a read that began [`SPENDING_SETTLES`] after the takeover, orders of the other bot
//! may still change the account's purchases and its balance.

use std::{collections::HashSet, time::Duration};

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{
    OrderSender,
    engine::{Engine, Now, SEEN_MAX},
    queue::WaitReason,
    stats::CountedReason,
};
use crate::{
    cache::SetAssocCache,
    clock,
    domain::{
        time::UnixMs,
        trade::{Trade, TradeId},
    },
    ledger::{
        Allowance, OrderState, RiskRejection, SharedUsage,
        allowance::{OrderPermit, SharedLimit},
        status::SharedStatus,
    },
};

/// Time after a takeover within which the account may still show new charges of the bot that was
/// active before.
pub const SPENDING_SETTLES: Duration = Duration::from_secs(60);
/// Assumed maximum lead of the market's clock, if it is not known.
const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// Maximum number of purchases of other bots that a takeover records, so that the ledger's backlog
/// has room for all of them. The list of the account has the others.
const ACCEPTED_MAX: usize = 8_192;

/// Maximum number of denied limits that one report has. Others follow with their next denial.
const DENIED_MAX: usize = 64;

/// Function that returns `true` if this bot, and not another one of the group, orders a listing.
pub type OwnsListing = Box<dyn Fn(&TradeId) -> bool + Send>;

/// Role that this bot has taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// Rises with every takeover.
    pub epoch: u64,
    /// Listings for which other bots of the account have reported orders, the newest first.
    pub ordered: Vec<(TradeId, OrderState)>,
}

/// Permission of the engine until the next update.
pub struct SharedUpdate {
    pub allowance: Box<Allowance>,
    /// `None` if this bot orders every listing.
    pub owns: Option<OwnsListing>,
    /// `None` without standbys, and on standby.
    pub takeover: Option<Takeover>,
    pub status: SharedStatus,
    pub reply: oneshot::Sender<SharedReport>,
}

impl std::fmt::Debug for SharedUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedUpdate")
            .field("permit", &self.allowance.permit)
            .finish_non_exhaustive()
    }
}

/// Usage of the shared limits while an update is obeyed.
pub struct SharedReport {
    pub usage: SharedUsage,
    /// Id of the account, once it was read and belongs to the ledger.
    pub account: Option<String>,
    /// `false` if no listing can be ordered: because of a halt or a pause, because every entry is
    /// paused or has used up a limit, until the account was read, while the ledger is full or
    /// cannot be written, with a balance of at most `min_balance`, or without the feed or a
    /// connection for orders.
    pub can_order: bool,
    /// Like `can_order`, but also `true` without the feed or a connection for orders, which come
    /// back within seconds.
    pub needs_slice: bool,
    /// Limits of which the slice was too small for an order since the last report, each with the
    /// names of the entry and its group.
    pub denied: Vec<(SharedLimit, Option<String>, Option<String>)>,
    /// Hash of the whitelist.
    pub whitelist: u64,
    /// `true` if not even a power loss makes the ledger count more than the slices.
    pub is_durable: bool,
    /// Freed by the thread that receives it.
    _replaced: (Option<Box<Allowance>>, Option<OwnsListing>),
}

/// State of a shared budget in one engine.
#[derive(Default)]
pub(super) struct EngineSharing {
    owns: Option<OwnsListing>,
    epoch: Option<u64>,
    has_standbys: bool,
    is_feed_down: bool,
    /// Only listings created after this time of the server are ordered.
    barrier: Option<UnixMs>,
    taken_over_at: Option<UnixMs>,
    ordered: HashSet<TradeId>,
    /// Listings without a time of creation that arrived on standby; `None` without standbys.
    arrived: Option<SetAssocCache<()>>,
    /// Limits of which the slice was too small for an order, each with its whitelist entry.
    denied: Vec<(SharedLimit, usize)>,
    pub(super) account: Option<String>,
    pub(super) status: SharedStatus,
}

impl std::fmt::Debug for EngineSharing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineSharing").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

const OTHER_BOT: CountedReason =
    CountedReason { name: "other bot", text: "another bot of the group orders it" };
const BEFORE_TAKEOVER: CountedReason = CountedReason {
    name: "before takeover",
    text: "the bot that was active before may have ordered it",
};
const ORDERED_BEFORE: CountedReason = CountedReason {
    name: "ordered before takeover",
    text: "the bot that was active before has ordered it",
};

impl EngineSharing {
    /// Returns the reason for which a listing is not ordered, if there is one.
    pub(super) fn skip(&self, trade: &Trade<'_>) -> Option<CountedReason> {
        if self.owns.as_ref().is_some_and(|owns| !owns(&trade.id)) {
            return Some(OTHER_BOT);
        }
        if self.ordered.contains(&trade.id) {
            return Some(ORDERED_BEFORE);
        }
        let has_arrived = || self.arrived.as_ref().is_some_and(|it| it.get(&trade.id).is_some());
        let is_before = |barrier| trade.created_at.map_or_else(has_arrived, |at| at <= barrier);
        self.barrier.is_some_and(is_before).then_some(BEFORE_TAKEOVER)
    }
}

impl<B: OrderSender> Engine<B> {
    /// Shares the budget with other bots of a group. Nothing is ordered until an update permits it.
    /// `has_standbys`: another bot may be active for the account.
    pub fn share(&mut self, group: &str, has_standbys: bool, now: Now) {
        self.ledger.share(group, now.wall);
        self.ledger.set_account_shared(has_standbys, now.wall);
        let arrived = has_standbys.then(|| SetAssocCache::new(SEEN_MAX, ()));
        let sharing = EngineSharing { has_standbys, arrived, ..EngineSharing::default() };
        self.sharing = Some(Box::new(sharing));
    }

    /// Remembers a listing without a time of creation that arrived while another bot was active,
    /// which may have ordered it, also at another price.
    #[inline]
    pub(super) fn remember_on_standby(&mut self, trade: &Trade<'_>) {
        if let Some(sharing) = &mut self.sharing
            && sharing.epoch.is_none()
            && trade.created_at.is_none()
            && let Some(arrived) = &mut sharing.arrived
        {
            arrived.insert(&trade.id, ());
        }
    }

    /// Skips a listing that another bot orders or may have ordered.
    pub(super) fn is_for_another_bot(&mut self, trade: &Trade<'_>) -> bool {
        self.remember_on_standby(trade);
        let skip = self.sharing.as_ref().and_then(|sharing| sharing.skip(trade));
        if let Some(reason) = skip {
            self.skip_listing(trade, reason);
        }
        skip.is_some()
    }

    /// Remembers for the next report that an order was beyond a slice.
    pub(super) fn note_denied(&mut self, reason: &WaitReason, entry: usize) {
        let WaitReason::Rejected(
            RiskRejection::SharedAmount { limit, .. } | RiskRejection::SharedQuantity { limit, .. },
        ) = reason
        else {
            return;
        };
        if let Some(sharing) = &mut self.sharing
            && sharing.denied.len() < DENIED_MAX
            && !sharing.denied.contains(&(*limit, entry))
        {
            sharing.denied.push((*limit, entry));
        }
    }

    /// Records whether the feed is connected, for the next report.
    pub(crate) fn note_feed(&mut self, is_connected: bool) -> &mut Self {
        if let Some(sharing) = &mut self.sharing {
            sharing.is_feed_down = !is_connected;
        }
        self
    }

    /// Obeys an update from now on, and replies with the usage.
    pub fn on_shared_update(&mut self, update: SharedUpdate, now: Now) {
        let SharedUpdate { allowance, owns, takeover, status, reply } = update;
        let Some(sharing) = &self.sharing else { return };
        let is_feed_down = sharing.is_feed_down;
        if sharing.epoch != takeover.as_ref().map(|takeover| takeover.epoch) {
            self.change_role(takeover, now);
        }
        let replaced = self.ledger.set_allowance(allowance);
        self.retries_all = true;
        let usage = self.ledger.shared_usage(now.wall);
        let is_durable = self.ledger.is_allowance_durable();
        let state = self.ledger.state();
        let mut entries = self.whitelist.entries().iter().enumerate();
        let needs_slice = entries.any(|(index, entry)| {
            !self.whitelist.is_paused(index) && state.can_order(index, entry.min_price)
        }) && state.check_trading_state(now.wall).is_ok()
            && state.has_spendable_coins()
            && self.ledger.failure().is_none();
        let can_order = needs_slice && self.can_send() && !is_feed_down;
        let Some(sharing) = &mut self.sharing else { return };
        sharing.status = status;
        let owns = std::mem::replace(&mut sharing.owns, owns);
        let denied =
            std::mem::take(&mut sharing.denied).into_iter().filter_map(|(limit, entry)| {
                let entry = self.whitelist.entries().get(entry)?;
                Some((limit, entry.name.clone(), entry.group_name().map(str::to_owned)))
            });
        let denied = denied.collect();
        let whitelist = self.whitelist.entries_hash();
        let account = sharing.account.clone();
        // The thread may have ended.
        let _replaced = (replaced, owns);
        drop(reply.send(SharedReport {
            usage,
            account,
            can_order,
            needs_slice,
            denied,
            whitelist,
            is_durable,
            _replaced,
        }));
    }

    /// Becomes the active bot, or a standby.
    fn change_role(&mut self, takeover: Option<Takeover>, now: Now) {
        let (earliest, latest) = {
            let clock = self.clock();
            (clock.earliest(now.instant), clock.latest(now.instant))
        };
        let Some(sharing) = &mut self.sharing else { return };
        sharing.epoch = takeover.as_ref().map(|takeover| takeover.epoch);
        let Some(Takeover { ordered, .. }) = takeover else {
            sharing.taken_over_at = None;
            self.ledger.set_account_shared(sharing.has_standbys, now.wall);
            warn!("On standby: sending no orders; another bot may take over");
            return;
        };
        let barrier = latest.unwrap_or_else(|| {
            // Listings give only a lower bound.
            earliest.unwrap_or(now.wall).max(now.wall).plus(CLOCK_MARGIN)
        });
        sharing.barrier = sharing.barrier.max(Some(barrier));
        sharing.taken_over_at = Some(now.wall);
        let count = ordered.len();
        let mut accepted: usize = 0;
        for (id, state) in ordered {
            let is_purchase = state.counts() && self.ledger.state().intent(&id).is_none();
            if is_purchase && accepted < ACCEPTED_MAX {
                accepted = accepted.saturating_add(1);
                self.ledger.accept(id, now.wall);
            }
            // An own order that was rejected is no exception, because it may have been at another
            // price.
            sharing.ordered.insert(id);
        }
        self.ledger.require_reading(now.wall);
        self.needs_refresh = true;
        self.drop_deferred(BEFORE_TAKEOVER);
        let barrier = clock::format_local(barrier);
        info!("Active now: skips listings from before {barrier}, and {count} ordered by others");
    }

    /// Handles a complete read of the account that began at `started`. If that was long enough
    /// after a takeover, only this bot spends from the account.
    pub(super) fn on_account_settled(&mut self, started: UnixMs, now: Now) {
        let Some(sharing) = &self.sharing else { return };
        let is_settled =
            sharing.taken_over_at.is_some_and(|at| at.plus(SPENDING_SETTLES) <= started);
        if is_settled || !sharing.has_standbys {
            self.ledger.set_account_shared(false, now.wall);
        }
    }

    /// Returns the state of the shared budget; `None` without sharing.
    pub fn shared_status(&self) -> Option<SharedStatus> {
        self.sharing.as_ref().map(|sharing| sharing.status.clone())
    }

    /// Returns the permission of the last update; `None` without sharing.
    pub fn permit(&self) -> Option<OrderPermit> {
        self.ledger.permit()
    }
}
