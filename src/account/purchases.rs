//! Assembles the pages of own purchases into one list. Pure.
//!
//! Only the absence from a complete list is evidence that the account did not buy a listing. A list
//! is complete only if every page back to the oldest open order was read without a fault. Older
//! pages, which are sometimes read to compare prices, can fail without making the list incomplete.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::failure::{FailureCause, ReadFailure};
use crate::{
    domain::account::{NextPage, OwnPurchase, Page},
    domain::time::UnixMs,
    domain::trade::TradeId,
    ledger::OwnTrade,
    markets::EnvironmentNames,
    text::counted,
};

/// Maximum number of pages of own purchases. The largest pages have 250 purchases, so it is at most
/// ten thousand purchases.
pub const PURCHASE_PAGES_MAX: u32 = 40;

/// Maximum time by which a purchase may be newer than the one before it in a list that counts as
/// sorted, newest first.
const DISORDER_MAX: Duration = Duration::from_secs(60);

/// Number of successive pages without a new purchase after which the walk ends.
const STALLED_PAGES_MAX: u32 = 3;

/// Maximum length of [`PurchasesReading::unknown`]. The lists of trades contain all purchases.
const UNKNOWN_NAMED_MAX: usize = 64;

/// Maximum age of a listing at its purchase, where a list states it. Listings expire after two days
/// (source: recordings); the third day is a margin.
const LISTING_LIFE_MS_MAX: i64 = 3 * 86_400_000;

/// Time range of a read of the own purchases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookBack {
    /// Time back to which the list must reach to be complete, on the local wall clock.
    pub needed: UnixMs,
    /// Time at which the walk ends, not after `needed`.
    pub wanted: UnixMs,
    /// Maximum number of pages.
    pub pages_max: u32,
}

impl LookBack {
    /// Creates a range in which all purchases are needed.
    pub const fn back_to(moment: UnixMs) -> Self {
        Self { needed: moment, wanted: moment, pages_max: PURCHASE_PAGES_MAX }
    }
}

/// Reason for which a list of purchases is incomplete. Pages are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncompleteReason {
    /// A page contains the cursor of an earlier page.
    CursorRepeated { page: u32 },
    /// Successive pages, up to this one, list no new purchase.
    Stalled { page: u32 },
    /// The list continues after the maximum number of pages.
    TooManyPages { pages: u32 },
    /// A page does not show whether another one follows.
    NextPageUnknown { page: u32 },
    /// Purchases could not be read. `message` is untrusted text of the market.
    Unreadable { count: u32, message: Option<String> },
    /// The market reports an error beside a readable list. `message` is untrusted text of the
    /// market.
    Error { message: String },
    /// A later page could not be read.
    Failed(FailureCause),
}

impl IncompleteReason {
    /// Returns the cause for the user.
    pub fn cause(&self) -> FailureCause {
        let (key, text) = match self {
            Self::CursorRepeated { page } => (
                "cursor repeated",
                format!("the pages repeat: page {page} has the cursor of an earlier page"),
            ),
            Self::Stalled { page } => (
                "stalled",
                format!(
                    "the list does not end: page {page} and the {} before it list nothing new, and \
                     more follow",
                    STALLED_PAGES_MAX.saturating_sub(1)
                ),
            ),
            Self::TooManyPages { pages } => (
                "too many pages",
                format!("the list does not end: {pages} pages were read, and more follow"),
            ),
            Self::NextPageUnknown { page } => {
                ("unclear", format!("page {page} does not show whether another page follows"))
            }
            Self::Unreadable { count, message } => {
                let message =
                    message.as_deref().map(|text| format!("; the market reports: {text}"));
                let message = message.unwrap_or_default();
                (
                    "unreadable",
                    format!(
                        "{} of the list could not be read{message}",
                        counted(*count, "entry", "entries")
                    ),
                )
            }
            Self::Error { message } => {
                ("error", format!("the market reports an error beside the list: {message}"))
            }
            Self::Failed(cause) => return cause.clone(),
        };
        let remedy = match self {
            Self::TooManyPages { .. } => {
                "check older purchases at the market; the bot reads only these pages"
            }
            Self::Unreadable { .. } | Self::Error { .. } => {
                "compare with your purchases at the market; if they are listed there, the market \
                 has changed and this version cannot read them"
            }
            _ => {
                "the bot reads the list again; if this persists, the market has changed and this \
                 version cannot read its pages"
            }
        };
        FailureCause::new(key.to_owned(), &text, remedy)
    }
}

/// Purchase of a status that this version does not know. It is in the list like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownStatus {
    pub id: TradeId,
    /// Status on the wire: untrusted text of bounded length.
    pub word: Box<str>,
}

/// Result of the walk from [`LookBack::needed`] back to [`LookBack::wanted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Reason for which the list does not reach back to [`LookBack::wanted`].
    pub shortfall: Option<IncompleteReason>,
    /// Server time at which the oldest purchase in the list was listed.
    pub oldest: Option<UnixMs>,
}

impl History {
    /// Returns the cause of the shortfall for the user.
    pub fn cause(&self) -> Option<FailureCause> {
        let cause = self.shortfall.as_ref()?.cause();
        Some(match self.oldest {
            Some(oldest) => cause.with_detail(&format!("; the oldest read was listed {oldest}")),
            None => cause,
        })
    }
}

/// Own purchases at a point in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurchasesReading {
    /// Trades that may have been bought after [`LookBack::needed`], in the order of the market's
    /// list, without duplicates.
    pub trades: Vec<OwnTrade>,
    /// Earlier trades, back to [`LookBack::wanted`]. They are evidence for orders in the ledger
    /// only. A purchase that is not in the ledger may be older than the ledger.
    pub older: Vec<OwnTrade>,
    /// Reason for which `trades` may lack a purchase.
    pub incomplete: Option<IncompleteReason>,
    /// `None` if [`LookBack::wanted`] is not before [`LookBack::needed`].
    pub history: Option<History>,
    /// The first purchases of unknown status, at most [`UNKNOWN_NAMED_MAX`].
    pub unknown: Vec<UnknownStatus>,
    /// Number of purchases without a readable price, and the first of them.
    pub unpriced: Option<(u32, TradeId)>,
    pub pages: u32,
    /// Start of the read, on [`clock::now`](crate::clock::now).
    pub started: UnixMs,
}

impl PurchasesReading {
    /// Returns `true` if the absence of a purchase from `trades` is evidence.
    pub const fn is_complete(&self) -> bool {
        self.incomplete.is_none()
    }

    /// Creates a complete list without a fault.
    #[cfg(test)]
    pub(crate) const fn complete(trades: Vec<OwnTrade>, started: UnixMs) -> Self {
        Self {
            trades,
            older: Vec::new(),
            incomplete: None,
            history: None,
            unknown: Vec::new(),
            unpriced: None,
            pages: 1,
            started,
        }
    }
}

/// Order of the purchases of a list, as far as it was read.
#[derive(Debug, Default)]
struct ListOrder {
    first: Option<UnixMs>,
    last: Option<UnixMs>,
    is_unsorted: bool,
}

impl ListOrder {
    fn add(&mut self, at: UnixMs) {
        self.first.get_or_insert(at);
        let last = self.last.replace(at);
        self.is_unsorted |= last.is_some_and(|last| last.plus(DISORDER_MAX) < at);
    }

    /// Returns `true` if the list certainly begins with the newest purchases.
    fn is_newest_first(&self) -> bool {
        let falls = |(first, last): (UnixMs, UnixMs)| last.plus(DISORDER_MAX) < first;
        !self.is_unsorted && self.first.zip(self.last).is_some_and(falls)
    }
}

/// Walk over the pages, in the order of the market's list.
#[derive(Debug)]
pub(super) struct PageWalk {
    look_back: LookBack,
    /// Trades, with `true` for those listed before the needed time.
    trades: Vec<(OwnTrade, bool)>,
    index_by_id: HashMap<TradeId, usize>,
    cursors: HashSet<String>,
    pages: u32,
    /// Number of successive pages without a new purchase.
    stalled: u32,
    reached_needed: bool,
    order: ListOrder,
    oldest: Option<UnixMs>,
    incomplete: Option<IncompleteReason>,
    shortfall: Option<IncompleteReason>,
    unknown: Vec<UnknownStatus>,
    unpriced: Option<(u32, TradeId)>,
    /// Time by which the local wall clock is ahead of the server's.
    ahead: Duration,
}

impl PageWalk {
    pub(super) fn new(look_back: LookBack) -> Self {
        Self {
            look_back,
            trades: Vec::new(),
            index_by_id: HashMap::new(),
            cursors: HashSet::new(),
            pages: 0,
            stalled: 0,
            reached_needed: false,
            order: ListOrder::default(),
            oldest: None,
            incomplete: None,
            shortfall: None,
            unknown: Vec::new(),
            unpriced: None,
            ahead: Duration::ZERO,
        }
    }

    /// Converts between the server's times and a local wall clock that is ahead of them by `ahead`.
    /// Otherwise the walk would end too early, and purchases would look too old.
    #[must_use]
    pub(super) fn with_clock_ahead(self, ahead: Duration) -> Self {
        let LookBack { needed, wanted, pages_max } = self.look_back;
        let (needed, wanted) = (needed.minus(ahead), wanted.minus(ahead));
        Self { look_back: LookBack { needed, wanted, pages_max }, ahead, ..self }
    }

    /// Adds a page. Returns the cursor of the next page to read; `None` at the end of the walk.
    pub(super) fn add_page(&mut self, page: Page<OwnPurchase>) -> Option<String> {
        self.pages = self.pages.saturating_add(1);
        let Page { nodes, unreadable, next, error } = page;
        match (unreadable, error) {
            (0, None) => {}
            (0, Some(message)) => self.record_fault(IncompleteReason::Error { message }),
            (count, message) => self.record_fault(IncompleteReason::Unreadable { count, message }),
        }
        let known = self.trades.len();
        // A list may be ordered by the time of the listing, not of the purchase.
        nodes.iter().filter_map(|purchase| purchase.created_at).for_each(|at| self.order.add(at));
        let last = nodes.last().and_then(|purchase| purchase.created_at);
        let last = last.filter(|_last| self.order.is_newest_first());
        if self.order.is_unsorted {
            // Later pages, and purchases that could not be read, may be newer than the needed time.
            self.reached_needed = false;
            self.incomplete = self.incomplete.take().or_else(|| self.shortfall.take());
        }
        for purchase in nodes {
            self.add(purchase);
        }
        self.stalled = if self.trades.len() > known { 0 } else { self.stalled.saturating_add(1) };
        self.reached_needed |= last.is_some_and(|last| had_expired_by(last, self.look_back.needed));
        if last.is_some_and(|last| had_expired_by(last, self.look_back.wanted)) {
            return None;
        }
        match next {
            NextPage::End => {
                self.reached_needed = true;
                None
            }
            NextPage::Unclear => {
                self.end_with(IncompleteReason::NextPageUnknown { page: self.pages })
            }
            NextPage::After(cursor) if self.cursors.contains(&cursor) => {
                self.end_with(IncompleteReason::CursorRepeated { page: self.pages })
            }
            NextPage::After(_) if STALLED_PAGES_MAX <= self.stalled => {
                self.end_with(IncompleteReason::Stalled { page: self.pages })
            }
            NextPage::After(_) if self.look_back.pages_max <= self.pages => {
                self.end_with(IncompleteReason::TooManyPages { pages: self.pages })
            }
            NextPage::After(cursor) => {
                self.cursors.insert(cursor.clone());
                Some(cursor)
            }
        }
    }

    /// Handles a page that could not be read. Returns the failure if the list is unusable without
    /// it.
    pub(super) fn on_page_error(
        &mut self,
        failure: ReadFailure,
        names: &EnvironmentNames,
    ) -> Result<(), ReadFailure> {
        if !self.reached_needed {
            return Err(failure);
        }
        self.record_fault(IncompleteReason::Failed(failure.cause(names)));
        Ok(())
    }

    /// Returns the result. `started` is the time of the request for the first page.
    pub(super) fn finish(self, started: UnixMs) -> PurchasesReading {
        let is_deep = self.look_back.wanted < self.look_back.needed;
        let history = History { shortfall: self.shortfall, oldest: self.oldest };
        let (mut trades, mut older) = (Vec::new(), Vec::new());
        for (trade, is_older) in self.trades {
            if is_older { older.push(trade) } else { trades.push(trade) }
        }
        PurchasesReading {
            trades,
            older,
            incomplete: self.incomplete,
            history: is_deep.then_some(history),
            unknown: self.unknown,
            unpriced: self.unpriced,
            pages: self.pages,
            started,
        }
    }

    fn add(&mut self, purchase: OwnPurchase) {
        let OwnPurchase { id, status, price, created_at, joined_at, commission, own_id, .. } =
            purchase;
        // Older purchases on the last page are outside of the range.
        if created_at.is_some_and(|created| had_expired_by(created, self.look_back.wanted)) {
            return;
        }
        self.oldest = self.oldest.into_iter().chain(created_at).min();
        let joined_at = joined_at.map(|at| at.plus(self.ahead));
        let trade = OwnTrade { id, status, price, joined_at, commission, own_id };
        match self.index_by_id.get(&id).and_then(|index| self.trades.get_mut(*index)) {
            Some((known, _is_older)) => merge(known, trade),
            None => {
                let is_older =
                    created_at.is_some_and(|at| had_expired_by(at, self.look_back.needed));
                self.index_by_id.insert(id, self.trades.len());
                self.trades.push((trade, is_older));
            }
        }
        if let Some(word) = purchase.unknown_status
            && self.unknown.len() < UNKNOWN_NAMED_MAX
        {
            self.unknown.push(UnknownStatus { id, word });
        }
        if price.is_none() {
            let (count, first) = self.unpriced.unwrap_or((0, id));
            self.unpriced = Some((count.saturating_add(1), first));
        }
    }

    fn end_with(&mut self, fault: IncompleteReason) -> Option<String> {
        self.record_fault(fault);
        None
    }

    /// Records a fault. Only the first one is kept, because later ones often follow from it.
    fn record_fault(&mut self, fault: IncompleteReason) {
        let slot = if self.reached_needed { &mut self.shortfall } else { &mut self.incomplete };
        slot.get_or_insert(fault);
    }
}

/// Returns `true` if a listing created at `created` had certainly expired at `moment`.
fn had_expired_by(created: UnixMs, moment: UnixMs) -> bool {
    created.0 < moment.0.saturating_sub(LISTING_LIFE_MS_MAX)
}

/// Merges two entries of one purchase: the pages shifted between two reads, or contradict each
/// other. A status that returns no coins has precedence, then the later status. The higher price is
/// kept. Two own ids are no evidence of either.
fn merge(known: &mut OwnTrade, later: OwnTrade) {
    if known.status.gives_back() || !later.status.gives_back() {
        known.status = later.status;
    }
    known.price = known.price.into_iter().chain(later.price).max();
    known.commission = known.commission.into_iter().chain(later.commission).max();
    known.own_id = known.own_id.filter(|own_id| Some(*own_id) == later.own_id);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{money::Amount, own_order_id::OwnOrderId, trade::TradeStatus};

    const DAY_MS: i64 = 86_400_000;
    const NOW: UnixMs = UnixMs(1_000 * DAY_MS);

    fn days_ago(days: i64) -> UnixMs {
        UnixMs(NOW.0 - days * DAY_MS)
    }

    fn purchase(id: &str, days: i64) -> OwnPurchase {
        OwnPurchase {
            price: Some(Amount::from_cents(100)),
            created_at: Some(days_ago(days)),
            ..OwnPurchase::bare(TradeId::new(id).unwrap(), TradeStatus::Joined)
        }
    }

    fn page(nodes: Vec<OwnPurchase>, next: NextPage) -> Page<OwnPurchase> {
        Page { nodes, unreadable: 0, next, error: None }
    }

    fn after(cursor: &str) -> NextPage {
        NextPage::After(cursor.to_owned())
    }

    fn deep() -> LookBack {
        LookBack { needed: days_ago(0), wanted: days_ago(8), pages_max: 5 }
    }

    /// Walks over pages until the end. Returns the number of pages.
    fn walk(walk: &mut PageWalk, mut at: impl FnMut(u32) -> Page<OwnPurchase>) -> u32 {
        let mut taken = 0;
        loop {
            let next = walk.add_page(at(taken));
            taken += 1;
            if next.is_none() {
                return taken;
            }
            assert!(taken <= PURCHASE_PAGES_MAX, "the walk does not end");
        }
    }

    #[test]
    fn a_local_clock_that_is_ahead_hides_no_purchase_and_makes_none_look_older() {
        const HOUR: Duration = Duration::from_secs(3_600);
        for ahead in [Duration::ZERO, 23 * HOUR, 4 * 24 * HOUR] {
            let local_now = NOW.plus(ahead);
            let mut read = PageWalk::new(LookBack::back_to(local_now)).with_clock_ahead(ahead);
            let hour_ago = Some(NOW.minus(HOUR));
            let bought = OwnPurchase { joined_at: hour_ago, ..purchase("a", 0) };
            walk(&mut read, |_| page(vec![bought.clone()], NextPage::End));
            let reading = read.finish(local_now);
            assert!(reading.is_complete());
            let joined: Vec<_> = reading.trades.iter().map(|trade| trade.joined_at).collect();
            assert_eq!(joined, [Some(local_now.minus(HOUR))], "{ahead:?}");
        }
    }

    #[test]
    fn a_cursor_that_does_not_move_ends_the_walk_at_the_second_page() {
        let mut stuck = PageWalk::new(LookBack::back_to(NOW));
        assert_eq!(walk(&mut stuck, |_| page(Vec::new(), after("same"))), 2);
        let reading = stuck.finish(NOW);
        assert_eq!(reading.incomplete, Some(IncompleteReason::CursorRepeated { page: 2 }));
        assert!(!reading.is_complete());
    }

    #[test]
    fn a_cursor_of_any_earlier_page_ends_the_walk() {
        let mut circle = PageWalk::new(LookBack::back_to(NOW));
        let taken = walk(&mut circle, |number| {
            let node = purchase(&format!("t{number}"), 0);
            page(vec![node], after(&format!("c{}", number % 3)))
        });
        assert_eq!(taken, 4);
        let reading = circle.finish(NOW);
        assert_eq!(reading.incomplete, Some(IncompleteReason::CursorRepeated { page: 4 }));
    }

    #[test]
    fn three_pages_without_new_purchases_end_the_walk() {
        let mut stalled = PageWalk::new(LookBack::back_to(NOW));
        let taken = walk(&mut stalled, |number| {
            page(vec![purchase("same", 0)], after(&number.to_string()))
        });
        assert_eq!(taken, 4, "the first page is new");
        let reading = stalled.finish(NOW);
        assert_eq!(reading.incomplete, Some(IncompleteReason::Stalled { page: 4 }));
        assert_eq!(reading.trades.len(), 1);
    }

    #[test]
    fn too_many_pages_make_the_list_incomplete() {
        let mut endless = PageWalk::new(LookBack::back_to(NOW));
        let taken = walk(&mut endless, |number| {
            page(vec![purchase(&format!("t{number}"), 0)], after(&number.to_string()))
        });
        assert_eq!(taken, PURCHASE_PAGES_MAX);
        let expected = IncompleteReason::TooManyPages { pages: PURCHASE_PAGES_MAX };
        assert_eq!(endless.finish(NOW).incomplete, Some(expected));
    }

    #[test]
    fn the_last_page_or_an_older_listing_makes_the_list_complete() {
        let mut short = PageWalk::new(deep());
        assert_eq!(short.add_page(page(vec![purchase("a", 0)], NextPage::End)), None);
        let reading = short.finish(NOW);
        let history = History { shortfall: None, oldest: Some(days_ago(0)) };
        assert!(reading.is_complete());
        assert_eq!(reading.history, Some(history));

        let mut older = PageWalk::new(LookBack::back_to(days_ago(1)));
        assert_eq!(older.add_page(page(vec![purchase("a", 4)], after("x"))), Some("x".to_owned()));
        assert_eq!(older.add_page(page(vec![purchase("b", 5)], after("y"))), None);
        let reading = older.finish(NOW);
        assert!(reading.is_complete() && reading.history.is_none());
        let ids: Vec<&str> = reading.trades.iter().map(|trade| trade.id.as_str()).collect();
        assert_eq!(ids, ["a"], "older purchases are outside the range");
    }

    #[test]
    fn a_list_that_is_not_newest_first_is_read_to_its_end() {
        // The first list has the newest purchase last; the pages of the second one do not show an
        // order.
        for pages in [vec![vec![9, 8, 9], vec![7, 0]], vec![vec![9], vec![9], vec![0]]] {
            let mut unsorted = PageWalk::new(LookBack::back_to(days_ago(1)));
            let last = pages.len() - 1;
            let taken = walk(&mut unsorted, |number| {
                let number = usize::try_from(number).unwrap();
                let id = |place: usize| format!("t{number}.{place}");
                let nodes = pages[number].iter().enumerate();
                let nodes = nodes.map(|(place, days)| purchase(&id(place), *days)).collect();
                page(nodes, if number == last { NextPage::End } else { after(&id(9)) })
            });
            assert_eq!(usize::try_from(taken).unwrap(), pages.len());
            let reading = unsorted.finish(NOW);
            assert!(reading.is_complete(), "{reading:?}");
            let newest = format!("t{last}.{}", pages[last].len() - 1);
            let ids: Vec<&str> = reading.trades.iter().map(|trade| trade.id.as_str()).collect();
            assert_eq!(ids, [newest]);
        }
        // A fault before its end makes it incomplete.
        let mut unsorted = PageWalk::new(LookBack::back_to(days_ago(1)));
        let nodes = vec![purchase("a", 8), purchase("b", 9)];
        assert_eq!(unsorted.add_page(page(nodes, after("x"))), None);
        let mut unsorted = PageWalk::new(LookBack::back_to(days_ago(1)));
        let nodes = vec![purchase("a", 9), purchase("b", 8)];
        assert_eq!(unsorted.add_page(page(nodes, after("x"))), Some("x".to_owned()));
        let failure = ReadFailure::Status { status: 502, retry_after: None };
        assert!(unsorted.on_page_error(failure, &EnvironmentNames::UNKNOWN).is_err());
    }

    #[test]
    fn one_purchase_with_two_own_ids_has_none() {
        let foreign = Some(OwnOrderId::of_record("4711"));
        let other = Some(OwnOrderId::of_record(&"0".repeat(36)));
        for (own_ids, expected) in [
            ([foreign, foreign], foreign),
            ([other, foreign], None),
            ([foreign, None], None),
            ([None, other], None),
        ] {
            let mut walk = PageWalk::new(LookBack::back_to(NOW));
            let nodes = own_ids.map(|own_id| OwnPurchase { own_id, ..purchase("a", 0) });
            walk.add_page(page(nodes.to_vec(), NextPage::End));
            let listed: Vec<_> = walk.finish(NOW).trades.iter().map(|it| it.own_id).collect();
            assert_eq!(listed, [expected], "{own_ids:?}");
        }
    }

    #[test]
    fn purchases_before_the_needed_moment_are_separate() {
        let mut walk = PageWalk::new(deep());
        let undated = OwnPurchase { created_at: None, ..purchase("undated", 0) };
        let nodes = vec![purchase("new", 2), undated, purchase("old", 4), purchase("older", 10)];
        assert_eq!(walk.add_page(page(nodes, NextPage::End)), None);
        let reading = walk.finish(NOW);
        let ids = |trades: &[OwnTrade]| -> Vec<String> {
            trades.iter().map(|trade| trade.id.to_string()).collect()
        };
        assert_eq!(ids(&reading.trades), ["new", "undated"]);
        assert_eq!(ids(&reading.older), ["old", "older"]);
    }

    #[test]
    fn a_fault_before_the_walk_reaches_the_needed_moment_makes_the_list_incomplete() {
        for broken in [
            Page { unreadable: 1, ..page(Vec::new(), NextPage::End) },
            Page { error: Some("no".to_owned()), ..page(vec![purchase("a", 0)], NextPage::End) },
            page(vec![purchase("a", 0)], NextPage::Unclear),
        ] {
            let mut walk = PageWalk::new(deep());
            assert_eq!(walk.add_page(broken), None);
            let reading = walk.finish(NOW);
            assert!(!reading.is_complete() && reading.incomplete.is_some(), "{reading:?}");
        }
        let mut first = PageWalk::new(deep());
        assert!(first.on_page_error(ReadFailure::SignedOut, &EnvironmentNames::UNKNOWN).is_err());
    }

    #[test]
    fn a_fault_after_the_needed_moment_is_a_history_shortfall() {
        let faults: [fn(&mut PageWalk); 4] = [
            |walk| drop(walk.add_page(Page { unreadable: 1, ..page(Vec::new(), NextPage::End) })),
            |walk| drop(walk.add_page(page(vec![purchase("c", 5)], after("x")))),
            |walk| drop(walk.add_page(page(Vec::new(), NextPage::Unclear))),
            |walk| {
                let failure = ReadFailure::Status { status: 502, retry_after: None };
                walk.on_page_error(failure, &EnvironmentNames::UNKNOWN).unwrap();
            },
        ];
        for fault in faults {
            let mut walk = PageWalk::new(deep());
            assert!(walk.add_page(page(vec![purchase("a", 0)], after("w"))).is_some());
            assert!(walk.add_page(page(vec![purchase("b", 4)], after("x"))).is_some());
            fault(&mut walk);
            let reading = walk.finish(NOW);
            assert!(reading.is_complete(), "{reading:?}");
            assert!(reading.history.unwrap().shortfall.is_some());
        }
    }

    #[test]
    fn an_unreadable_purchase_of_a_list_that_turns_out_to_be_unsorted_makes_it_incomplete() {
        let mut walk = PageWalk::new(deep());
        assert!(walk.add_page(page(vec![purchase("a", 0)], after("w"))).is_some());
        assert!(walk.add_page(page(vec![purchase("b", 4)], after("x"))).is_some());
        let unreadable = page(vec![purchase("c", 5)], after("y"));
        assert!(walk.add_page(Page { unreadable: 1, ..unreadable }).is_some());
        assert_eq!(walk.add_page(page(vec![purchase("d", 1)], NextPage::End)), None);
        let fault = IncompleteReason::Unreadable { count: 1, message: None };
        assert_eq!(walk.finish(NOW).incomplete, Some(fault));
    }

    #[test]
    fn the_page_limit_after_the_needed_moment_shortens_only_the_history() {
        let mut cut = PageWalk::new(deep());
        let taken = walk(&mut cut, |number| {
            let node = purchase(&format!("t{number}"), i64::from(number) + 1);
            page(vec![node], after(&number.to_string()))
        });
        assert_eq!(taken, 5);
        let reading = cut.finish(NOW);
        assert!(reading.is_complete());
        let shortfall = Some(IncompleteReason::TooManyPages { pages: 5 });
        let history = History { shortfall, oldest: Some(days_ago(5)) };
        let cause = history.cause().unwrap();
        assert!(cause.text().ends_with(&days_ago(5).to_string()), "{cause:?}");
        assert_eq!(reading.history, Some(history));
    }

    #[test]
    fn a_purchase_of_unknown_status_is_in_the_list_and_named() {
        let mut walk = PageWalk::new(LookBack::back_to(NOW));
        let unknown = OwnPurchase {
            status: TradeStatus::Other,
            unknown_status: Some("AWAITING_SELLER".into()),
            ..purchase("a", 0)
        };
        let id = unknown.id;
        assert_eq!(walk.add_page(page(vec![unknown], NextPage::End)), None);
        let reading = walk.finish(NOW);
        assert!(reading.is_complete());
        let trades: Vec<_> = reading.trades.iter().map(|trade| (trade.id, trade.status)).collect();
        assert_eq!(trades, [(id, TradeStatus::Other)]);
        assert_eq!(reading.unknown, [UnknownStatus { id, word: "AWAITING_SELLER".into() }]);
    }

    #[test]
    fn purchases_without_a_price_are_counted() {
        let mut walk = PageWalk::new(LookBack::back_to(NOW));
        let unpriced = |id| OwnPurchase { price: None, ..purchase(id, 0) };
        let nodes = vec![purchase("a", 0), unpriced("b"), unpriced("c")];
        assert_eq!(walk.add_page(page(nodes, NextPage::End)), None);
        let reading = walk.finish(NOW);
        assert_eq!(reading.unpriced, Some((2, TradeId::new("b").unwrap())));
        assert!(reading.is_complete(), "the status of a purchase counts without its price");
    }

    #[test]
    fn every_cause_has_a_remedy() {
        for incomplete in [
            IncompleteReason::CursorRepeated { page: 2 },
            IncompleteReason::Stalled { page: 3 },
            IncompleteReason::TooManyPages { pages: 40 },
            IncompleteReason::NextPageUnknown { page: 1 },
            IncompleteReason::Unreadable {
                count: 2,
                message: Some("Cannot return null".to_owned()),
            },
            IncompleteReason::Error { message: "no".to_owned() },
        ] {
            let cause = incomplete.cause();
            assert!(!cause.text().is_empty() && !cause.remedy().is_empty(), "{cause:?}");
        }
        let unreadable = |count| IncompleteReason::Unreadable { count, message: None }.cause();
        assert_eq!(unreadable(1).key, unreadable(2).key);
    }

    fn status() -> impl Strategy<Value = TradeStatus> {
        prop::sample::select(vec![
            TradeStatus::Joined,
            TradeStatus::Completed,
            TradeStatus::Cooldown,
            TradeStatus::Cancelled,
            TradeStatus::Expired,
            TradeStatus::Listed,
            TradeStatus::Other,
        ])
    }

    proptest! {
        /// For any shifting and contradicting pages, no purchase is listed twice, and coins are
        /// returned only if every entry of a purchase returns them.
        #[test]
        fn a_purchase_is_listed_once_with_its_most_cautious_status(
            mentions in prop::collection::vec((0_u8..4, status(), 0_i64..300), 1..20),
            per_page in 1_usize..5,
        ) {
            let mut walk = PageWalk::new(LookBack::back_to(NOW));
            for (number, chunk) in mentions.chunks(per_page).enumerate() {
                let nodes = chunk.iter().map(|(id, status, cents)| OwnPurchase {
                    status: *status,
                    price: Some(Amount::from_cents(*cents)),
                    ..purchase(&format!("t{id}"), 0)
                });
                // The cursor of the next page is not used.
                drop(walk.add_page(page(nodes.collect(), after(&number.to_string()))));
            }
            let reading = walk.finish(NOW);
            let gives_back = |status: TradeStatus| {
                matches!(status, TradeStatus::Cooldown | TradeStatus::Cancelled | TradeStatus::Expired)
            };
            let ids: HashSet<TradeId> = reading.trades.iter().map(|trade| trade.id).collect();
            prop_assert_eq!(ids.len(), reading.trades.len());
            for trade in &reading.trades {
                let entries = || mentions.iter().filter(|(id, ..)| trade.id.as_str() == format!("t{id}"));
                let all_give_back = entries().all(|(_, status, _)| gives_back(*status));
                prop_assert_eq!(gives_back(trade.status), all_give_back);
                let highest = entries().map(|(_, _, cents)| Amount::from_cents(*cents)).max();
                prop_assert_eq!(trade.price, highest);
            }
        }
    }
}
