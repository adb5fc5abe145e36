//! What is reported of the account's reads: when one begins to fail, when its cause changes, when it
//! succeeds again, and which purchases have a status that this version does not know.

use std::collections::{HashMap, HashSet};

use super::{
    OrderSender,
    engine::{Engine, Executor, Now},
    trade_log,
};
use crate::{
    account::{
        FailureCause, PurchasesReading, ReadFailure, ReadHealth, ReadKind, purchases::UnknownStatus,
    },
    domain::trade::TradeId,
    ledger::status::{AccountFailure, LedgerStatus},
    markets::csgoroll::account::User,
};

/// How many purchases of unknown status are remembered, so that each is named once.
const NAMED_MAX: usize = 1_024;

/// How many unknown statuses are named of purchases that the ledger does not hold.
const FOREIGN_WORDS_MAX: usize = 16;

/// What has been reported of the account already, so that nothing is reported twice.
#[derive(Debug, Default)]
pub(super) struct Notified {
    has_signed_in: bool,
    pub(super) health: ReadHealth,
    statuses: HashMap<TradeId, Box<str>>,
    foreign_words: HashSet<Box<str>>,
    /// Cancelled orders whose coins are overdue.
    pub(super) overdue: HashSet<TradeId>,
}

impl Notified {
    /// Whether this word about this purchase is new. Of what the ledger does not hold only the word
    /// counts: the account may hold thousands of purchases that were made by hand.
    fn is_news(&mut self, unknown: &UnknownStatus, is_ours: bool) -> bool {
        let UnknownStatus { id, word } = unknown;
        if !is_ours {
            let has_room = self.foreign_words.len() < FOREIGN_WORDS_MAX;
            return has_room && self.foreign_words.insert(word.clone());
        }
        let has_room = self.statuses.len() < NAMED_MAX || self.statuses.contains_key(id);
        has_room && self.statuses.insert(*id, word.clone()).as_ref() != Some(word)
    }
}

impl<B: OrderSender> Engine<B> {
    /// The account was read. Its balance may be missing all the same.
    pub(super) fn report_user(&mut self, user: &User, now: Now) {
        if !self.reported.has_signed_in {
            self.reported.has_signed_in = true;
            let width = self.clock().width(now.instant);
            trade_log::signed_in(user, width);
        }
        match &user.balance_error {
            Some(error) => {
                let cause = ReadFailure::Balance(error.clone()).cause();
                self.report_failed(ReadKind::Balance, cause, now);
            }
            None => self.report_succeeded(ReadKind::Balance, now),
        }
    }

    /// The list of own purchases was read, completely or not.
    pub(super) fn report_purchases(&mut self, reading: &PurchasesReading, now: Now) {
        match &reading.incomplete {
            Some(incomplete) => self.report_failed(ReadKind::Purchases, incomplete.cause(), now),
            None => self.report_succeeded(ReadKind::Purchases, now),
        }
        match reading.unpriced {
            Some((count, first)) => {
                self.report_failed(ReadKind::Prices, unpriced(count, first), now)
            }
            None => self.report_succeeded(ReadKind::Prices, now),
        }
        if let (true, Some(history)) = (reading.complete, &reading.history) {
            match history.cause() {
                Some(cause) => self.report_failed(ReadKind::History, cause, now),
                None => self.report_succeeded(ReadKind::History, now),
            }
        }
        for unknown in &reading.unknown {
            let state = self.ledger.book().intent(&unknown.id).map(|intent| intent.state);
            if self.reported.is_news(unknown, state.is_some()) {
                trade_log::unknown_status(unknown, state);
            }
        }
    }

    /// A read failed, or did not bring what it should.
    pub(super) fn report_failed(&mut self, read: ReadKind, cause: FailureCause, now: Now) {
        let (text, remedy) = (cause.text().to_owned(), cause.remedy());
        if self.reported.health.failed(read, cause, now.wall) {
            let follows = self.follows_from_failed(read, now);
            trade_log::read_failed(read, &text, follows, remedy);
        }
    }

    fn report_succeeded(&mut self, read: ReadKind, now: Now) {
        if let Some(lasted) = self.reported.health.succeeded(read, now.wall) {
            trade_log::read_succeeded(read, lasted);
        }
    }

    /// What a failing read means for ordering.
    fn follows_from_failed(&mut self, read: ReadKind, now: Now) -> &'static str {
        let snapshot = self.ledger.snapshot(now.wall);
        match (read, &self.hand) {
            (ReadKind::Prices, _) => "The ledger keeps the prices that it has.",
            (ReadKind::History, _) => "The prices of older purchases are not compared.",
            (ReadKind::Balance | ReadKind::Purchases, Executor::Dry) => {
                "The dry run continues without it."
            }
            (ReadKind::Balance | ReadKind::Purchases, Executor::Live(_))
                if !snapshot.reconciled =>
            {
                "No order is sent until it succeeds."
            }
            (ReadKind::Balance | ReadKind::Purchases, Executor::Live(_)) => {
                "What is unknown stays unknown and counts as spent until it succeeds."
            }
        }
    }

    /// Adds the reads that fail to what `status` shows.
    pub(super) fn show_failing_reads(&self, status: &mut LedgerStatus) {
        let failing = self.reported.health.failing();
        status.account_failures = failing
            .map(|(read, failing)| AccountFailure {
                read: read.name().to_owned(),
                since: failing.since.to_string(),
                cause: failing.cause.text().to_owned(),
                remedy: failing.cause.remedy().to_owned(),
            })
            .collect();
    }
}

fn unpriced(count: u32, first: TradeId) -> FailureCause {
    let text = format!("{count} purchases have no price that can be read, the first is {first}");
    let remedy = "compare the prices with your purchases at the site; if they are shown there, the \
                  site has changed and this version cannot read them";
    FailureCause::new("unpriced".to_owned(), &text, remedy)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex, mpsc::sync_channel},
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        account::{AccountUpdate, IncompleteReason, UserReading, purchases::History},
        config::Budget,
        domain::money::Amount,
        domain::outcome::{NotSent, Outcome, Unknown},
        domain::server_clock::{ClockExchange, ServerClock},
        domain::time::UnixMs,
        execution::answer::SentRequest,
        ledger::{
            ApprovedOrder, Ledger, OrderState, OwnTrade,
            control::{ControlReply, ControlRequest, PendingRequest},
            status::FeedStatus,
        },
        markets::csgoroll::account::BalanceError,
        whitelist::{
            Whitelist,
            tests::{REDLINE, entry, trade},
        },
    };

    /// Says that every order was written.
    #[derive(Debug)]
    struct Yes;

    impl OrderSender for Yes {
        fn send(&self, _approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
            let now = Instant::now();
            Ok(SentRequest { ready: now, begun: now, written: now })
        }
    }

    /// The lines that were logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// Those of one level since the last call.
        fn take(&self, level: &str) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            text.lines().filter(|line| line.contains(level)).map(str::to_owned).collect()
        }
    }

    struct Session {
        core: Engine<Yes>,
        lines: Lines,
        seconds: u64,
    }

    impl Session {
        fn live() -> Self {
            let entry = entry();
            let ledger = Ledger::in_memory(Budget::default(), std::slice::from_ref(&entry), true);
            let clock = Arc::new(Mutex::new(ServerClock::new(Instant::now())));
            let whitelist = Arc::new(Whitelist::new(vec![entry]));
            let core = Engine::new(whitelist, ledger, Executor::Live(Yes), clock);
            Self { core, lines: Lines::default(), seconds: 0 }
        }

        fn now(&self) -> Now {
            let wall = UnixMs(2_000_000).plus(Duration::from_secs(self.seconds));
            Now { instant: Instant::now(), wall }
        }

        /// Takes news in, a minute after the last.
        fn hear(&mut self, news: AccountUpdate) {
            self.seconds += 60;
            let (now, lines) = (self.now(), self.lines.clone());
            let subscriber = tracing_subscriber::fmt()
                .with_writer(move || lines.clone())
                .with_ansi(false)
                .without_time()
                .finish();
            tracing::subscriber::with_default(subscriber, || self.core.hear(news, now));
        }

        fn hear_user(&mut self, balance: Result<Amount, BalanceError>) {
            let user = User {
                id: "VXNlcjox".to_owned(),
                balance: balance.as_ref().ok().copied(),
                balance_error: balance.err(),
                ..User::default()
            };
            let at = Instant::now();
            let exchange = ClockExchange { sent: at, received: at };
            let as_of = self.now().wall;
            self.hear(AccountUpdate::User(UserReading { user, as_of, exchange, date: None }));
        }

        fn hear_purchases(&mut self, change: impl FnOnce(&mut PurchasesReading)) {
            let mut reading = PurchasesReading::complete(Vec::new(), self.now().wall);
            change(&mut reading);
            reading.complete = reading.incomplete.is_none();
            self.hear(AccountUpdate::Purchases(reading));
        }

        /// What `sniper status` shows.
        fn status(&mut self) -> LedgerStatus {
            let (reply, answered) = sync_channel(1);
            let ask = PendingRequest { request: ControlRequest::Status, reply };
            self.core.answer(&ask, FeedStatus::default(), None, self.now().wall);
            match answered.recv().unwrap() {
                ControlReply::Done(status) => *status,
                ControlReply::Cannot(why) => panic!("{why}"),
            }
        }

        fn failing(&mut self) -> Vec<String> {
            self.status().account_failures.into_iter().map(|failing| failing.read).collect()
        }
    }

    const HUNDRED: Result<Amount, BalanceError> = Ok(Amount::from_cents(10_000));

    #[test]
    fn an_incomplete_list_is_one_warning_that_status_repeats_until_the_list_is_complete() {
        let mut session = Session::live();
        let stuck = |reading: &mut PurchasesReading| {
            reading.incomplete = Some(IncompleteReason::CursorRepeated { page: 2 });
        };
        session.hear_user(HUNDRED);
        session.hear_purchases(stuck);
        let lines = session.lines.take("WARN");
        let [line] = lines.as_slice() else { panic!("{lines:#?}") };
        assert!(line.contains("the page cursor does not move"), "{line}");
        assert!(line.contains("No order is sent until it succeeds. What to do: "), "{line}");
        for _ in 0..3 {
            session.hear_user(HUNDRED);
            session.hear_purchases(stuck);
        }
        assert_eq!(session.lines.take("WARN"), Vec::<String>::new(), "reported twice");

        let status = session.status();
        assert_eq!(status.buying, "not reconciled");
        let [failing] = status.account_failures.as_slice() else { panic!("{status:?}") };
        assert_eq!(failing.read, "own purchases");
        assert!(failing.cause.contains("cursor") && !failing.remedy.is_empty(), "{failing:?}");
        assert_eq!(failing.since, UnixMs(2_120_000).to_string());
        assert!(status.to_string().contains(&format!(
            "account read    own purchases failing since {}: {}\n                what to do: {}\n",
            failing.since, failing.cause, failing.remedy
        )));

        session.hear_user(HUNDRED);
        session.hear_purchases(|_| {});
        let lines = session.lines.take("INFO");
        assert!(lines.iter().any(|line| line.contains("succeeded again: own purchases")));
        assert!(session.status().account_failures.is_empty());
    }

    #[test]
    fn each_change_of_the_cause_is_one_warning() {
        let mut session = Session::live();
        let failed = |status| AccountUpdate::Failed {
            read: ReadKind::Purchases,
            failure: ReadFailure::Status { status },
        };
        let mut warnings = Vec::new();
        for status in [502, 502, 500, 500, 404] {
            session.hear_user(HUNDRED);
            session.hear(failed(status));
            warnings.push(session.lines.take("WARN").len());
        }
        assert_eq!(warnings, [1, 0, 1, 0, 1]);
    }

    #[test]
    fn a_balance_that_cannot_be_read_is_not_healed_by_a_list_that_can() {
        let mut session = Session::live();
        for warnings in [1, 0] {
            session.hear_user(Err(BalanceError::Text("1000.0".to_owned())));
            session.hear_purchases(|_| {});
            let lines = session.lines.take("WARN");
            assert_eq!(lines.len(), warnings, "{lines:#?}");
            assert!(
                lines.iter().all(|line| line.contains("is the text '1000.0' and not a number"))
            );
            assert_eq!(session.failing(), ["balance"]);
        }
        session.hear_user(HUNDRED);
        assert!(session.failing().is_empty());
    }

    #[test]
    fn a_history_that_falls_short_and_prices_that_cannot_be_read_are_named() {
        let mut session = Session::live();
        session.hear_user(HUNDRED);
        session.hear_purchases(|reading| {
            let shortfall = Some(IncompleteReason::TooManyPages { pages: 40 });
            reading.history = Some(History { shortfall, oldest: None });
            reading.unpriced = Some((3, TradeId::new("a").unwrap()));
        });
        assert_eq!(session.lines.take("WARN").len(), 2);
        assert_eq!(
            session.failing(),
            ["prices of own purchases", "own purchases of the last 8 days"]
        );
        // A read that does not go that far back says nothing about it.
        session.hear_purchases(|_| {});
        assert_eq!(session.failing(), ["own purchases of the last 8 days"]);
        session.hear_purchases(|reading| {
            reading.history = Some(History { shortfall: None, oldest: None });
        });
        assert!(session.failing().is_empty());
    }

    fn unknown(id: TradeId, word: &str) -> UnknownStatus {
        UnknownStatus { id, word: word.into() }
    }

    #[test]
    fn a_purchase_of_unknown_status_is_named_once_for_each_word() {
        let mut session = Session::live();
        session.hear_user(HUNDRED);
        session.hear_purchases(|_| {});
        let now = session.now();
        session.core.consider(trade("a", REDLINE), now);
        let id = TradeId::new("a").unwrap();
        assert!(session.core.ledger.book().intent(&id).is_some(), "nothing was ordered");
        let mut lines = Vec::new();
        for word in ["AWAITING_SELLER", "AWAITING_SELLER", "ON_HOLD"] {
            session.hear_purchases(|reading| {
                let status = crate::domain::trade::TradeStatus::Other;
                reading.trades = vec![OwnTrade { id, status, price: None, joined_at: None }];
                reading.unknown = vec![unknown(id, word)];
            });
            lines.push(session.lines.take("WARN"));
        }
        let expected = format!(
            "Purchase listed with a status this version does not know: {id}, status \
             AWAITING_SELLER; it stays unknown and counts as spent"
        );
        assert_eq!(lines[0].len(), 1);
        assert!(lines[0][0].ends_with(&expected), "{lines:#?}");
        assert_eq!(lines[1], Vec::<String>::new());
        assert!(lines[2][0].contains("status ON_HOLD"), "{lines:#?}");
    }

    #[test]
    fn thousands_of_foreign_purchases_of_unknown_status_are_few_lines() {
        let mut session = Session::live();
        session.hear_user(HUNDRED);
        for number in 0..100 {
            session.hear_purchases(|reading| {
                let id = TradeId::new(&format!("foreign{number}")).unwrap();
                reading.unknown = vec![unknown(id, "NEW"), unknown(id, &format!("W{number}"))];
            });
        }
        let lines = session.lines.take("WARN");
        assert_eq!(lines.len(), FOREIGN_WORDS_MAX, "{lines:#?}");
        assert!(lines[0].ends_with("status NEW; it is not in this ledger"), "{lines:#?}");
    }

    #[test]
    fn an_older_purchase_counts_only_where_the_ledger_holds_its_order() {
        let mut session = Session::live();
        session.hear_user(HUNDRED);
        session.hear_purchases(|_| {});
        let now = session.now();
        session.core.consider(trade("a", REDLINE), now);
        let [ours, foreign] = ["a", "foreign"].map(|id| TradeId::new(id).unwrap());
        let unknown = Outcome::Unknown(Unknown::Cut);
        let aftermath = session.core.ledger().settle(&ours, &unknown, now.wall).unwrap();
        assert!(aftermath.halts.is_empty(), "{aftermath:?}");
        // What changed before the list was asked for can be in it.
        session.seconds += 1;
        session.hear_purchases(|reading| {
            let status = crate::domain::trade::TradeStatus::Joined;
            let own = |id| OwnTrade { id, status, price: None, joined_at: None };
            reading.older = vec![own(ours), own(foreign)];
        });
        let state = session.core.ledger.book().intent(&ours).map(|intent| intent.state);
        assert_eq!(state, Some(OrderState::Bought));
        assert_eq!(session.status().halts, [], "a purchase older than the ledger is no surprise");
    }
}
