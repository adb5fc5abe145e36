//! The walk over the pages of own purchases: from pages to one list, and whether it is complete.
//! Pure.
//!
//! Only a complete list proves that something is not in it, so a list counts as complete only if
//! every page up to the oldest order that matters was read without a fault. What lies beyond, read
//! now and then to compare prices, can fail without making the rest incomplete.

use std::collections::{HashMap, HashSet};

use super::{failure::ReadFailure, health::FailureCause};
use crate::{
    domain::time::UnixMs,
    domain::trade::{TradeId, TradeStatus},
    ledger::OwnTrade,
    markets::csgoroll::account::{NextPage, OwnPurchase, Page},
};

/// How many pages of own purchases are read at most: ten thousand purchases.
pub const PURCHASE_PAGES_MAX: u32 = 40;

/// How many pages in a row may list nothing new before the walk ends.
const STALLED_PAGES_MAX: u32 = 3;

/// How many purchases of unknown status a reading names. The others are listed all the same.
pub const UNKNOWN_NAMED_MAX: usize = 64;

/// How long before it is bought a listing may have been made. They expire after two days (source:
/// recordings); the third is for doubt.
const LISTING_LIFE_MS_MAX: i64 = 3 * 86_400_000;

/// How far back own purchases are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookBack {
    /// The list counts as complete once it reaches this moment.
    pub needed: UnixMs,
    /// The walk goes on to this moment, which is not later.
    pub wanted: UnixMs,
    /// The number of pages after which it ends in any case.
    pub pages_max: u32,
}

impl LookBack {
    /// Back to one moment.
    pub const fn back_to(moment: UnixMs) -> Self {
        Self { needed: moment, wanted: moment, pages_max: PURCHASE_PAGES_MAX }
    }
}

/// Why a list of purchases is not complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncompleteReason {
    /// A page names a cursor that an earlier page has named.
    CursorRepeated {
        /// The number of that page, from 1.
        page: u32,
    },
    /// Pages follow each other that list nothing new.
    Stalled {
        /// The number of the last page, from 1.
        page: u32,
    },
    /// More pages follow than are read.
    TooManyPages {
        /// How many were read.
        pages: u32,
    },
    /// A page does not say what follows.
    Unclear {
        /// The number of that page, from 1.
        page: u32,
    },
    /// Purchases could not be read.
    Unreadable {
        /// How many.
        count: u32,
        /// What the site says about it: foreign text.
        words: Option<String>,
    },
    /// The site reports an error beside a list that can be read.
    Error {
        /// What the site says: foreign text.
        words: String,
    },
    /// A later page could not be read.
    Failed(FailureCause),
}

impl IncompleteReason {
    /// The cause, for the user.
    pub fn cause(&self) -> FailureCause {
        const CHANGED: &str = "compare with your purchases at the site; if they are listed there, \
                               the site has changed and this version cannot read them";
        let (key, text) = match self {
            Self::CursorRepeated { page } => (
                "cursor repeated",
                format!(
                    "the page cursor does not move: page {page} names the cursor of an earlier page"
                ),
            ),
            Self::Stalled { page } => (
                "stalled",
                format!(
                    "the list does not end: page {page} and the {} before it list nothing new and \
                     say that more follow",
                    STALLED_PAGES_MAX.saturating_sub(1)
                ),
            ),
            Self::TooManyPages { pages } => (
                "too many pages",
                format!("the list does not end: {pages} pages were read, and more follow"),
            ),
            Self::Unclear { page } => {
                ("unclear", format!("page {page} does not say whether another page follows"))
            }
            Self::Unreadable { count, words } => {
                let words = words.as_deref().map(|words| format!("; the site says: {words}"));
                let words = words.unwrap_or_default();
                ("unreadable", format!("{count} entries of the list could not be read{words}"))
            }
            Self::Error { words } => {
                ("error", format!("the site reports an error beside the list: {words}"))
            }
            Self::Failed(cause) => return cause.clone(),
        };
        FailureCause::new(key.to_owned(), &text, CHANGED)
    }
}

/// A purchase whose status this version does not know. It is in the list like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownStatus {
    /// The listing.
    pub id: TradeId,
    /// The site's word: foreign text of bounded length.
    pub word: Box<str>,
}

/// How far the list reached that was read for the purchases of the last days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Why it does not reach as far as it should.
    pub shortfall: Option<IncompleteReason>,
    /// When the oldest purchase in it was listed, by the server's clock.
    pub oldest: Option<UnixMs>,
}

impl History {
    /// Why it does not reach as far as it should, for the user.
    pub fn cause(&self) -> Option<FailureCause> {
        let cause = self.shortfall.as_ref()?.cause();
        Some(match self.oldest {
            Some(oldest) => cause.with_detail(&format!("; the oldest read was listed {oldest}")),
            None => cause,
        })
    }
}

/// What we have bought, and when that was true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurchasesReading {
    /// Our own trades, newest listing first, each once, back to [`LookBack::needed`].
    pub trades: Vec<OwnTrade>,
    /// Those listed earlier, back to [`LookBack::wanted`]. They tell what became of orders that the
    /// ledger holds. They do not tell of purchases that it does not hold: how far back a ledger has
    /// ever looked differs from one to the next, so such a purchase may be older than the ledger.
    pub older: Vec<OwnTrade>,
    /// Whether `trades` are all, back to there: exactly where `incomplete` is
    /// `None`.
    pub complete: bool,
    /// Why they are not all.
    pub incomplete: Option<IncompleteReason>,
    /// How the rest of the walk went, where [`LookBack::wanted`] lies before [`LookBack::needed`].
    pub history: Option<History>,
    /// The first purchases of unknown status, at most [`UNKNOWN_NAMED_MAX`].
    pub unknown: Vec<UnknownStatus>,
    /// How many purchases have no price that can be read, and the first of them.
    pub unpriced: Option<(u32, TradeId)>,
    /// How many pages were read.
    pub pages: u32,
    /// When reading began, by our wall clock.
    pub started: UnixMs,
}

impl PurchasesReading {
    /// A complete list without a fault, read at one moment.
    pub const fn complete(trades: Vec<OwnTrade>, started: UnixMs) -> Self {
        Self {
            trades,
            older: Vec::new(),
            complete: true,
            incomplete: None,
            history: None,
            unknown: Vec::new(),
            unpriced: None,
            pages: 1,
            started,
        }
    }
}

/// A walk that is under way.
#[derive(Debug)]
pub(super) struct PageWalk {
    span: LookBack,
    /// Each with whether it was listed before the needed moment.
    trades: Vec<(OwnTrade, bool)>,
    places: HashMap<TradeId, usize>,
    cursors: HashSet<String>,
    pages: u32,
    /// How many pages in a row have listed nothing new.
    stalled: u32,
    has_needed: bool,
    oldest: Option<UnixMs>,
    incomplete: Option<IncompleteReason>,
    shortfall: Option<IncompleteReason>,
    unknown: Vec<UnknownStatus>,
    unpriced: Option<(u32, TradeId)>,
}

impl PageWalk {
    pub(super) fn new(span: LookBack) -> Self {
        Self {
            span,
            trades: Vec::new(),
            places: HashMap::new(),
            cursors: HashSet::new(),
            pages: 0,
            stalled: 0,
            has_needed: false,
            oldest: None,
            incomplete: None,
            shortfall: None,
            unknown: Vec::new(),
            unpriced: None,
        }
    }

    /// Takes a page in. Returns the cursor of the page to read next; `None`: the walk is over.
    pub(super) fn take(&mut self, page: Page<OwnPurchase>) -> Option<String> {
        self.pages = self.pages.saturating_add(1);
        let Page { nodes, unreadable, next, error } = page;
        match (unreadable, error) {
            (0, None) => {}
            (0, Some(words)) => self.fault(IncompleteReason::Error { words }),
            (count, words) => self.fault(IncompleteReason::Unreadable { count, words }),
        }
        let known = self.trades.len();
        // The list is ordered by listing and not by purchase.
        let last = nodes.last().and_then(|purchase| purchase.created_at);
        for purchase in nodes {
            self.add(purchase);
        }
        self.stalled = if self.trades.len() > known { 0 } else { self.stalled.saturating_add(1) };
        self.has_needed |= last.is_some_and(|last| is_before(last, self.span.needed));
        if last.is_some_and(|last| is_before(last, self.span.wanted)) {
            return None;
        }
        match next {
            NextPage::End => {
                self.has_needed = true;
                None
            }
            NextPage::Unclear => self.end(IncompleteReason::Unclear { page: self.pages }),
            NextPage::After(cursor) if self.cursors.contains(&cursor) => {
                self.end(IncompleteReason::CursorRepeated { page: self.pages })
            }
            NextPage::After(_) if STALLED_PAGES_MAX <= self.stalled => {
                self.end(IncompleteReason::Stalled { page: self.pages })
            }
            NextPage::After(_) if self.span.pages_max <= self.pages => {
                self.end(IncompleteReason::TooManyPages { pages: self.pages })
            }
            NextPage::After(cursor) => {
                self.cursors.insert(cursor.clone());
                Some(cursor)
            }
        }
    }

    /// The next page could not be read. Returns the failure where the walk is worth nothing then.
    pub(super) fn fail(&mut self, failure: ReadFailure) -> Result<(), ReadFailure> {
        if !self.has_needed {
            return Err(failure);
        }
        self.fault(IncompleteReason::Failed(failure.cause()));
        Ok(())
    }

    /// What the walk has found. `started`: when its first page was asked for.
    pub(super) fn finish(self, started: UnixMs) -> PurchasesReading {
        let is_deep = self.span.wanted < self.span.needed;
        let history = History { shortfall: self.shortfall, oldest: self.oldest };
        let (older, trades): (Vec<_>, Vec<_>) =
            self.trades.into_iter().partition(|(_trade, is_older)| *is_older);
        let plain = |trades: Vec<(OwnTrade, bool)>| trades.into_iter().map(|(trade, _)| trade);
        PurchasesReading {
            trades: plain(trades).collect(),
            older: plain(older).collect(),
            complete: self.incomplete.is_none(),
            incomplete: self.incomplete,
            history: is_deep.then_some(history),
            unknown: self.unknown,
            unpriced: self.unpriced,
            pages: self.pages,
            started,
        }
    }

    fn add(&mut self, purchase: OwnPurchase) {
        let OwnPurchase { id, status, unknown_status, price, created_at, joined_at, .. } = purchase;
        // What is older was not asked for, and would be there on one page and not on another.
        if created_at.is_some_and(|created| is_before(created, self.span.wanted)) {
            return;
        }
        self.oldest = self.oldest.into_iter().chain(created_at).min();
        let trade = OwnTrade { id, status, price, joined_at };
        match self.places.get(&id).and_then(|place| self.trades.get_mut(*place)) {
            Some((known, _is_older)) => merge(known, trade),
            None => {
                let is_older = created_at.is_some_and(|at| is_before(at, self.span.needed));
                self.places.insert(id, self.trades.len());
                self.trades.push((trade, is_older));
            }
        }
        if let Some(word) = unknown_status
            && self.unknown.len() < UNKNOWN_NAMED_MAX
        {
            self.unknown.push(UnknownStatus { id, word });
        }
        if price.is_none() {
            let (count, first) = self.unpriced.unwrap_or((0, id));
            self.unpriced = Some((count.saturating_add(1), first));
        }
    }

    fn end(&mut self, fault: IncompleteReason) -> Option<String> {
        self.fault(fault);
        None
    }

    /// Notes a fault. The first one is reported: later ones often follow from it.
    fn fault(&mut self, fault: IncompleteReason) {
        let slot = if self.has_needed { &mut self.shortfall } else { &mut self.incomplete };
        slot.get_or_insert(fault);
    }
}

/// Whether a listing of that moment was surely over at the other.
fn is_before(created: UnixMs, moment: UnixMs) -> bool {
    created.0 < moment.0.saturating_sub(LISTING_LIFE_MS_MAX)
}

/// The same purchase stands on two pages: the list has moved in between, or contradicts itself. Of
/// two statuses the one counts that gives no coins back, of two such the later; of two prices the
/// higher.
fn merge(known: &mut OwnTrade, later: OwnTrade) {
    let gives_back = |status| {
        matches!(status, TradeStatus::Cooldown | TradeStatus::Cancelled | TradeStatus::Expired)
    };
    if gives_back(known.status) || !gives_back(later.status) {
        known.status = later.status;
    }
    known.price = known.price.into_iter().chain(later.price).max();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::money::Amount;

    const DAY_MS: i64 = 86_400_000;
    const NOW: UnixMs = UnixMs(1_000 * DAY_MS);

    fn days_ago(days: i64) -> UnixMs {
        UnixMs(NOW.0 - days * DAY_MS)
    }

    fn purchase(id: &str, days: i64) -> OwnPurchase {
        OwnPurchase {
            id: TradeId::new(id).unwrap(),
            status: TradeStatus::Joined,
            unknown_status: None,
            price: Some(Amount::from_cents(100)),
            created_at: Some(days_ago(days)),
            updated_at: None,
            joined_at: None,
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

    /// Walks over pages, one a day, until it ends. Returns how many were taken.
    fn walk(walk: &mut PageWalk, mut at: impl FnMut(u32) -> Page<OwnPurchase>) -> u32 {
        let mut taken = 0;
        loop {
            let next = walk.take(at(taken));
            taken += 1;
            if next.is_none() {
                return taken;
            }
            assert!(taken <= PURCHASE_PAGES_MAX, "the walk does not end");
        }
    }

    #[test]
    fn a_cursor_that_does_not_move_ends_the_walk_at_the_second_page() {
        let mut stuck = PageWalk::new(LookBack::back_to(NOW));
        assert_eq!(walk(&mut stuck, |_| page(Vec::new(), after("same"))), 2);
        let reading = stuck.finish(NOW);
        assert_eq!(reading.incomplete, Some(IncompleteReason::CursorRepeated { page: 2 }));
        assert!(!reading.complete);
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
    fn ever_new_cursors_to_nothing_new_end_the_walk_after_three_pages() {
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
    fn more_pages_than_are_read_are_named() {
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
        assert_eq!(short.take(page(vec![purchase("a", 0)], NextPage::End)), None);
        let reading = short.finish(NOW);
        let history = History { shortfall: None, oldest: Some(days_ago(0)) };
        assert_eq!((reading.complete, reading.history), (true, Some(history)));

        let mut older = PageWalk::new(LookBack::back_to(days_ago(1)));
        assert_eq!(older.take(page(vec![purchase("a", 4)], after("x"))), Some("x".to_owned()));
        assert_eq!(older.take(page(vec![purchase("b", 5)], after("y"))), None);
        let reading = older.finish(NOW);
        assert!(reading.complete && reading.history.is_none());
        let ids: Vec<&str> = reading.trades.iter().map(|trade| trade.id.as_str()).collect();
        assert_eq!(ids, ["a"], "what is older was not asked for");
    }

    #[test]
    fn what_lies_beyond_the_needed_moment_is_told_apart() {
        let mut walk = PageWalk::new(deep());
        let undated = OwnPurchase { created_at: None, ..purchase("undated", 0) };
        let nodes = vec![purchase("new", 2), undated, purchase("old", 4), purchase("older", 10)];
        assert_eq!(walk.take(page(nodes, NextPage::End)), None);
        let reading = walk.finish(NOW);
        let ids = |trades: &[OwnTrade]| -> Vec<String> {
            trades.iter().map(|trade| trade.id.to_string()).collect()
        };
        assert_eq!(ids(&reading.trades), ["new", "undated"]);
        assert_eq!(ids(&reading.older), ["old", "older"]);
    }

    #[test]
    fn a_fault_before_the_needed_moment_makes_the_list_incomplete() {
        for broken in [
            Page { unreadable: 1, ..page(Vec::new(), NextPage::End) },
            Page { error: Some("no".to_owned()), ..page(vec![purchase("a", 0)], NextPage::End) },
            page(vec![purchase("a", 0)], NextPage::Unclear),
        ] {
            let mut walk = PageWalk::new(deep());
            assert_eq!(walk.take(broken), None);
            let reading = walk.finish(NOW);
            assert!(!reading.complete && reading.incomplete.is_some(), "{reading:?}");
        }
        let mut first = PageWalk::new(deep());
        assert!(first.fail(ReadFailure::SignedOut).is_err());
    }

    #[test]
    fn a_fault_beyond_the_needed_moment_leaves_the_list_complete_and_is_named() {
        let faults: [fn(&mut PageWalk); 4] = [
            |walk| drop(walk.take(Page { unreadable: 1, ..page(Vec::new(), NextPage::End) })),
            |walk| drop(walk.take(page(vec![purchase("c", 5)], after("x")))),
            |walk| drop(walk.take(page(Vec::new(), NextPage::Unclear))),
            |walk| walk.fail(ReadFailure::Status { status: 502 }).unwrap(),
        ];
        for fault in faults {
            let mut walk = PageWalk::new(deep());
            assert!(walk.take(page(vec![purchase("a", 0)], after("w"))).is_some());
            assert!(walk.take(page(vec![purchase("b", 4)], after("x"))).is_some());
            fault(&mut walk);
            let reading = walk.finish(NOW);
            assert!(reading.complete, "{reading:?}");
            assert!(reading.history.unwrap().shortfall.is_some());
        }
    }

    #[test]
    fn the_bound_of_pages_cuts_only_what_lies_beyond_the_needed_moment() {
        let mut cut = PageWalk::new(deep());
        let taken = walk(&mut cut, |number| {
            let node = purchase(&format!("t{number}"), i64::from(number) + 1);
            page(vec![node], after(&number.to_string()))
        });
        assert_eq!(taken, 5);
        let reading = cut.finish(NOW);
        assert!(reading.complete);
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
        assert_eq!(walk.take(page(vec![unknown], NextPage::End)), None);
        let reading = walk.finish(NOW);
        assert!(reading.complete);
        let trades: Vec<_> = reading.trades.iter().map(|trade| (trade.id, trade.status)).collect();
        assert_eq!(trades, [(id, TradeStatus::Other)]);
        assert_eq!(reading.unknown, [UnknownStatus { id, word: "AWAITING_SELLER".into() }]);
    }

    #[test]
    fn purchases_without_a_price_are_counted() {
        let mut walk = PageWalk::new(LookBack::back_to(NOW));
        let unpriced = |id| OwnPurchase { price: None, ..purchase(id, 0) };
        let nodes = vec![purchase("a", 0), unpriced("b"), unpriced("c")];
        assert_eq!(walk.take(page(nodes, NextPage::End)), None);
        let reading = walk.finish(NOW);
        assert_eq!(reading.unpriced, Some((2, TradeId::new("b").unwrap())));
        assert!(reading.complete, "the status of a purchase counts without its price");
    }

    #[test]
    fn every_cause_says_what_to_do() {
        for incomplete in [
            IncompleteReason::CursorRepeated { page: 2 },
            IncompleteReason::Stalled { page: 3 },
            IncompleteReason::TooManyPages { pages: 40 },
            IncompleteReason::Unclear { page: 1 },
            IncompleteReason::Unreadable { count: 2, words: Some("Cannot return null".to_owned()) },
            IncompleteReason::Error { words: "no".to_owned() },
        ] {
            let cause = incomplete.cause();
            assert!(!cause.text().is_empty() && !cause.remedy().is_empty(), "{cause:?}");
        }
        let unreadable = |count| IncompleteReason::Unreadable { count, words: None }.cause();
        assert!(unreadable(1).is_same(&unreadable(2)));
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
        /// However pages shift and contradict each other, nothing is listed twice, and coins are
        /// given back only if every mention of a purchase gives them back.
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
                // Whether it ends does not matter here.
                drop(walk.take(page(nodes.collect(), after(&number.to_string()))));
            }
            let reading = walk.finish(NOW);
            let gives_back = |status: TradeStatus| {
                matches!(status, TradeStatus::Cooldown | TradeStatus::Cancelled | TradeStatus::Expired)
            };
            let ids: HashSet<TradeId> = reading.trades.iter().map(|trade| trade.id).collect();
            prop_assert_eq!(ids.len(), reading.trades.len());
            for trade in &reading.trades {
                let said = || mentions.iter().filter(|(id, ..)| trade.id.as_str() == format!("t{id}"));
                let all_give_back = said().all(|(_, status, _)| gives_back(*status));
                prop_assert_eq!(gives_back(trade.status), all_give_back);
                let highest = said().map(|(_, _, cents)| Amount::from_cents(*cents)).max();
                prop_assert_eq!(trade.price, highest);
            }
        }
    }
}
