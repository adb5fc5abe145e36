//! What a look at the account changes: the balance, what became of purchases, the server's clock;
//! and what a person asks for.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    Buys,
    core::{Core, Hand, Now},
    say,
};
use crate::{
    account::{News, PurchasesReading, ReadFailure, UserReading},
    ledger::{
        Aftermath, HaltReason, Reading,
        control::{self, Ask, Reply},
        status::{self, FeedStatus},
    },
    money::Coins,
    outcome::Consequence,
    time::UnixMs,
    ws::{Downtime, Taps},
};

/// How late a pushed balance may be. What was bought within this time before the push is
/// subtracted once more, so that a push is never read as more than there is.
const PUSH_LAG_MAX: Duration = Duration::from_secs(5);

/// How the feed stands, from what it counts.
pub(super) fn feed_status(taps: &Taps, now: Now) -> FeedStatus {
    let Downtime { gaps, total, longest, is_open } = taps.downtime(now.instant);
    let (connected, listing) = (taps.connected_since(), taps.last_listing());
    let ago = |moment: UnixMs| millis(now.wall.since(moment));
    let state = match (connected, is_open) {
        (Some(_), false) => "connected",
        (Some(_), true) => "no listings",
        (None, _) if taps.is_blocked.load(Ordering::Acquire) => "blocked",
        (None, true) => "disconnected",
        (None, false) => "connecting",
    };
    FeedStatus {
        state: state.to_owned(),
        connected_since: connected.as_ref().map(UnixMs::to_string),
        connected_ms: connected.map(ago),
        last_listing: listing.as_ref().map(UnixMs::to_string),
        last_listing_ms: listing.map(ago),
        listings: taps.listings.load(Ordering::Relaxed),
        reconnects: taps.reconnects.load(Ordering::Relaxed),
        gaps,
        gap_ms: millis(total),
        longest_gap_ms: millis(longest),
        gap_is_open: is_open,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What has been told about the account already, so that nothing is told twice.
#[derive(Debug, Default)]
pub(super) struct Told {
    signed_in: bool,
    failure: Option<String>,
}

impl<B: Buys> Core<B> {
    /// Takes in what was learned of the account.
    pub fn hear(&mut self, news: News, now: Now) {
        match news {
            News::User(reading) => self.hear_user(&reading, now),
            News::Purchases(reading) => self.hear_purchases(&reading, now),
            News::Failed(failure) => self.hear_failure(&failure, now),
        }
    }

    fn hear_user(&mut self, reading: &UserReading, now: Now) {
        let UserReading { user, as_of, exchange, date } = reading;
        if let Some(date) = date {
            self.clock().observe_date(*exchange, *date);
        }
        if let Err(error) = self.ledger.bind(&user.id) {
            say::unbound(&error);
        }
        // Where the site does not say, it has not been said that we are.
        self.is_flagged = user.suspected_trader.unwrap_or(false);
        if let Some(balance) = user.balance {
            self.note(|ledger| Ok(ledger.set_balance(balance, *as_of, now.wall)));
        }
        let width = self.clock().width(Instant::now());
        if !self.told.signed_in || self.told.failure.is_some() {
            say::signed_in(user, width);
        }
        self.told = Told { signed_in: true, failure: None };
    }

    /// Takes in a balance that the feed has pushed. Soon after a reading nobody can tell which of
    /// the two is newer; then it is read again.
    pub fn hear_push(&mut self, balance: Coins, now: Now) {
        let as_of = now.wall.minus(PUSH_LAG_MAX);
        match self.ledger.book().last_reading() {
            Some((last, read)) if as_of < read => self.wishes_to_know |= last != balance,
            _ => self.note(|ledger| Ok(ledger.set_balance(balance, as_of, now.wall))),
        }
    }

    fn hear_purchases(&mut self, reading: &PurchasesReading, now: Now) {
        let PurchasesReading { trades, complete, started, .. } = reading;
        let reading = Reading { trades, complete: *complete, started: *started };
        self.note(|ledger| Ok(ledger.reconcile(&reading, None, now.wall)));
    }

    /// A failure is told once, and again only if another came in between. Where a buy would have
    /// been refused for the same reason, buying stops before one is.
    fn hear_failure(&mut self, failure: &ReadFailure, now: Now) {
        let words = failure.to_string();
        if self.told.failure.as_ref() != Some(&words) {
            say::account_unreadable(failure);
            self.told.failure = Some(words);
        }
        let halting =
            failure.refusal().filter(|refusal| refusal.consequence() == Consequence::Halt);
        if let Some(refusal) = halting
            && !self
                .ledger
                .snapshot(now.wall)
                .halts
                .iter()
                .any(|halt| halt.reason == HaltReason::Refused(refusal))
        {
            self.note(|ledger| -> Result<Aftermath, _> {
                Ok(ledger.halt(HaltReason::Refused(refusal), now.wall))
            });
        }
    }

    /// Does what a person asks over the control channel, and answers how things stand: with the
    /// feed, and with how long the bot has run.
    pub fn answer(&mut self, ask: &Ask, feed: FeedStatus, running: Option<Duration>, now: UnixMs) {
        let halts = self.ledger.snapshot(now).halts.len();
        let mode = match self.hand {
            Hand::Dry => status::DRY,
            Hand::Live(_) => status::LIVE,
        };
        let mut reply = control::answer(&mut self.ledger, &ask.request, mode, now);
        if let Reply::Done(status) = &mut reply {
            status.feed = Some(feed);
            status.running_ms = running.map(millis);
        }
        let left = self.ledger.snapshot(now).halts;
        say::asked_for(&ask.request, halts, &left);
        // Whoever asked may have gone.
        drop(ask.reply.try_send(reply));
    }
}
