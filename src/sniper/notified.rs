//! Limits the log lines about repeated events. Reads of the account that begin to fail, change
//! their cause or succeed again, and purchases of unknown status are logged once; repeated skips
//! once per minute.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{
    OrderSender,
    alerting::ACCOUNT_FAILING_MAX,
    engine::{Engine, Executor, Now},
    trade_log,
};
use crate::{
    account::{
        FailureCause, PurchasesReading, ReadFailure, ReadHealth, ReadKind, purchases::UnknownStatus,
    },
    domain::account::{OwnPurchase, User},
    domain::time::UnixMs,
    domain::trade::{TradeId, TradeKey},
    ledger::{
        RiskRejection,
        status::{AccountFailure, LedgerStatus},
    },
    markets::EnvironmentNames,
    text::counted,
};

/// Maximum number of purchases whose unknown status is remembered, so that it is logged once.
const NAMED_MAX: usize = 1_024;

/// Maximum number of unknown statuses of purchases outside the ledger that are logged.
const FOREIGN_STATUSES_MAX: usize = 16;

/// Minimum interval of log lines for the same repeated event.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum number of repeated events that are remembered. With more, some are logged more often.
const REPEATS_MAX: usize = 4_096;

/// Name under which unreadable listings are counted.
pub(super) const UNREADABLE: &str = "unreadable";

/// Events that were logged already.
#[derive(Debug, Default)]
pub(super) struct Notified {
    has_signed_in: bool,
    pub(super) health: ReadHealth,
    statuses: HashMap<TradeId, Box<str>>,
    foreign_statuses: HashSet<Box<str>>,
    /// Cancelled orders whose refund is overdue and was logged.
    pub(super) overdue: HashSet<TradeId>,
    /// Number of overdue orders that were counted without their names.
    pub(super) overdue_unnamed: usize,
    /// Orders whose look-up has halted ordering. Further look-ups show the same and must not halt
    /// again after a resume.
    pub(super) mismatched: HashSet<TradeKey>,
    /// Per event, and per whitelist entry if it concerns one, the time of its last line and the
    /// number of events since.
    repeats: HashMap<(&'static str, Option<usize>), (Instant, u64)>,
}

impl Notified {
    /// Counts an event that may repeat often. Returns `None` if its last line is less than
    /// [`REPEAT_INTERVAL`] ago, else the number of events without a line since then.
    pub(super) fn count_repeat(&mut self, event: &'static str, now: Instant) -> Option<u64> {
        self.count(event, None, now)
    }

    fn count(&mut self, event: &'static str, entry: Option<usize>, now: Instant) -> Option<u64> {
        match self.repeats.get_mut(&(event, entry)) {
            Some((last, count)) if now.saturating_duration_since(*last) < REPEAT_INTERVAL => {
                *count = count.saturating_add(1);
                None
            }
            Some(repeats) => Some(std::mem::replace(repeats, (now, 0)).1),
            None => {
                if REPEATS_MAX <= self.repeats.len() {
                    self.repeats.clear();
                }
                self.repeats.insert((event, entry), (now, 0));
                Some(0)
            }
        }
    }

    /// Counts a rejection like [`count_repeat`](Self::count_repeat) if its cause affects every
    /// listing, or every listing of the entry. Any other rejection has its own line.
    pub(super) fn count_rejection(
        &mut self,
        rejection: &RiskRejection,
        entry: usize,
        now: Instant,
    ) -> Option<u64> {
        match rejection {
            RiskRejection::BeforePowerLoss { .. }
            | RiskRejection::NoPrice { .. }
            | RiskRejection::MaxPrice { .. }
            | RiskRejection::NoEntry
            | RiskRejection::InFlight { .. } => Some(0),
            RiskRejection::AlreadyRequested
            | RiskRejection::OrderPending
            | RiskRejection::OrderedTooOften { .. }
            | RiskRejection::EntryQuantity { .. }
            | RiskRejection::EntryTotal { .. }
            | RiskRejection::GroupQuantity { .. }
            | RiskRejection::GroupTotal { .. }
            | RiskRejection::SharedAmount { .. }
            | RiskRejection::SharedQuantity { .. } => {
                self.count(rejection.name(), Some(entry), now)
            }
            _ => self.count_repeat(rejection.name(), now),
        }
    }

    /// Returns `true` if this status of this purchase was not logged before. A status of purchases
    /// outside the ledger is logged once, because the account may list thousands of manual
    /// purchases.
    fn is_new_status(&mut self, unknown: &UnknownStatus, is_ours: bool) -> bool {
        let UnknownStatus { id, word } = unknown;
        if !is_ours {
            let has_room = self.foreign_statuses.len() < FOREIGN_STATUSES_MAX;
            return has_room && self.foreign_statuses.insert(word.clone());
        }
        let has_room = self.statuses.len() < NAMED_MAX || self.statuses.contains_key(id);
        has_room && self.statuses.insert(*id, word.clone()).as_ref() != Some(word)
    }
}

impl<B: OrderSender> Engine<B> {
    /// Handles a successful read of the user. The balance may be missing.
    pub(super) fn report_user(&mut self, user: &User, now: Now) {
        if !self.notified.has_signed_in {
            self.notified.has_signed_in = true;
            let width = self.clock().width(now.instant);
            trade_log::signed_in(user, width);
        }
        match &user.balance_error {
            Some(error) => {
                let cause = ReadFailure::Balance(error.clone()).cause(&EnvironmentNames::UNKNOWN);
                self.report_failed(ReadKind::Balance, cause, now);
            }
            None => self.report_succeeded(ReadKind::Balance, now),
        }
    }

    /// Handles a read of the own purchases, complete or not.
    pub(super) fn report_purchases(&mut self, reading: &PurchasesReading, now: Now) {
        match &reading.incomplete {
            Some(incomplete) => self.report_failed(ReadKind::Purchases, incomplete.cause(), now),
            None => self.report_succeeded(ReadKind::Purchases, now),
        }
        match reading.unpriced {
            Some((count, first)) => {
                self.report_failed(ReadKind::Prices, unpriced(count, first), now);
            }
            None => self.report_succeeded(ReadKind::Prices, now),
        }
        if let (true, Some(history)) = (reading.is_complete(), &reading.history) {
            match history.cause() {
                Some(cause) => self.report_failed(ReadKind::History, cause, now),
                None => self.report_succeeded(ReadKind::History, now),
            }
        }
        for unknown in &reading.unknown {
            let state = self.ledger.state().intent(&unknown.id).map(|intent| intent.state);
            if self.notified.is_new_status(unknown, state.is_some()) {
                let item = self.item_name(&unknown.id).unwrap_or(unknown.id.as_str());
                trade_log::unknown_status(unknown, state, item);
            }
        }
    }

    /// Handles the look-up of an order, which the market may not know.
    pub(super) fn report_order(
        &mut self,
        key: &TradeKey,
        purchase: Option<&OwnPurchase>,
        now: Now,
    ) {
        let Some(purchase) = purchase else { return self.report_succeeded(ReadKind::Orders, now) };
        if purchase.id != key.id {
            return self.report_failed(ReadKind::Orders, other_listing(key, purchase), now);
        }
        self.report_succeeded(ReadKind::Orders, now);
        if let Some(word) = &purchase.unknown_status {
            let unknown = UnknownStatus { id: key.id, word: word.clone() };
            let state = self.ledger.state().order(key).map(|intent| intent.state);
            if self.notified.is_new_status(&unknown, state.is_some()) {
                let item = self.item_name(&key.id).unwrap_or(key.id.as_str());
                trade_log::unknown_status(&unknown, state, item);
            }
        }
    }

    /// Handles a read that failed or returned incomplete data.
    pub(super) fn report_failed(&mut self, read: ReadKind, cause: FailureCause, now: Now) {
        let (text, remedy) = (cause.text().to_owned(), cause.remedy().to_owned());
        if self.notified.health.on_failure(read, cause, now.wall) {
            let consequence = self.consequence_of_failure(read, now);
            trade_log::read_failed(read, &text, consequence, &remedy);
        }
    }

    fn report_succeeded(&mut self, read: ReadKind, now: Now) {
        if let Some(duration) = self.notified.health.on_success(read, now.wall) {
            trade_log::read_succeeded(read, duration);
        }
    }

    /// Returns the consequence of a failing read for ordering.
    fn consequence_of_failure(&mut self, read: ReadKind, now: Now) -> &'static str {
        let snapshot = self.ledger.snapshot(now.wall);
        match (read, &self.executor) {
            (ReadKind::Prices, _) => "The ledger keeps its prices.",
            (ReadKind::History, _) => "The prices of older purchases are not compared.",
            (ReadKind::Orders, _) => {
                "Unknown orders stay unknown until it succeeds or the list of purchases shows them."
            }
            (ReadKind::Balance | ReadKind::Purchases, Executor::Dry) => {
                "The dry run continues without it."
            }
            (ReadKind::Balance | ReadKind::Purchases, Executor::Live(_))
                if !snapshot.reconciled =>
            {
                "No order is sent until it succeeds."
            }
            (ReadKind::Balance | ReadKind::Purchases, Executor::Live(_)) => {
                "Unknown orders stay unknown and count as spent until it succeeds."
            }
        }
    }

    /// Adds the failing reads to the status.
    pub(super) fn show_failing_reads(&self, status: &mut LedgerStatus, now: UnixMs) {
        let failing = self.notified.health.failing();
        status.account_failures = failing
            .map(|(read, failing)| AccountFailure {
                read: read.name().to_owned(),
                since: failing.since.to_string(),
                cause: failing.cause.text().to_owned(),
                remedy: failing.cause.remedy().to_owned(),
                needs_user: read.is_required() && ACCOUNT_FAILING_MAX <= now.since(failing.since),
            })
            .collect();
    }
}

fn other_listing(key: &TradeKey, purchase: &OwnPurchase) -> FailureCause {
    let text = format!(
        "the own id of the order for {} belongs to a purchase of {} at the market",
        key.id, purchase.id
    );
    let remedy = "compare your purchases at the market with `sniper ledger`";
    FailureCause::new("other listing".to_owned(), &text, remedy)
}

fn unpriced(count: u32, first: TradeId) -> FailureCause {
    let text = format!(
        "{} without a readable price, the first is {first}",
        counted(count, "purchase", "purchases")
    );
    let remedy = "compare the prices with your purchases at the market; if they are shown there, the \
                  market has changed and this version cannot read them";
    FailureCause::new("unpriced".to_owned(), &text, remedy)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex, mpsc::sync_channel},
    };

    use super::{
        super::{Sniper, engine::Candidate, queue::WaitReason},
        *,
    };
    use crate::{
        account::{
            AccountUpdate, IncompleteReason, OrderReading, RefreshRequests, UserReading,
            purchases::History,
        },
        config::Budget,
        domain::account::BalanceError,
        domain::money::Amount,
        domain::outcome::{NotSent, Outcome, Unknown},
        domain::server_clock::{ClockExchange, ServerClock},
        domain::time::UnixMs,
        domain::trade::{KeyedBy, Trade, TradeEvent, TradeNotice, TradeStatus},
        execution::response::SentRequest,
        ledger::{
            ApprovedOrder, Ledger, Operator, OrderState, OwnTrade,
            control::{ControlReply, ControlRequest, PendingRequest, Resolution},
            status::FeedStatus,
        },
        whitelist::{
            Whitelist,
            tests::{REDLINE, entry, trade},
        },
        ws::FeedMetrics,
    };

    /// Order sender that accepts every order.
    #[derive(Debug)]
    struct Yes;

    impl OrderSender for Yes {
        fn send(&self, _approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
            let now = Instant::now();
            Ok(SentRequest { ready: now, begun: now, written: now })
        }
    }

    /// Writer that captures the log output.
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
        /// Returns the lines of one level since the last call.
        fn take(&self, level: &str) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            text.lines().filter(|line| line.contains(level)).map(str::to_owned).collect()
        }
    }

    struct Session {
        engine: Engine<Yes>,
        lines: Lines,
        seconds: u64,
    }

    impl Session {
        fn live() -> Self {
            let entry = entry();
            let ledger = Ledger::in_memory(Budget::default(), std::slice::from_ref(&entry), true);
            let clock = Arc::new(Mutex::new(ServerClock::new(Instant::now())));
            let whitelist = Arc::new(Whitelist::new(vec![entry]));
            let engine = Engine::new(whitelist, ledger, Executor::Live(Yes), KeyedBy::Id, clock);
            Self { engine, lines: Lines::default(), seconds: 0 }
        }

        fn now(&self) -> Now {
            let wall = UnixMs(2_000_000).plus(Duration::from_secs(self.seconds));
            Now { instant: Instant::now(), wall }
        }

        /// Runs `action` on the engine and captures what it logs.
        fn capture_log(&mut self, action: impl FnOnce(&mut Engine<Yes>)) {
            let lines = self.lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_writer(move || lines.clone())
                .with_ansi(false)
                .without_time()
                .finish();
            tracing::subscriber::with_default(subscriber, || action(&mut self.engine));
        }

        /// Applies an update one minute after the last one.
        fn on_account_update(&mut self, update: AccountUpdate) {
            self.seconds += 60;
            let now = self.now();
            self.capture_log(|engine| engine.on_account_update(update, now));
        }

        fn on_user(&mut self, balance: Result<Amount, BalanceError>) {
            let user = User {
                id: "VXNlcjox".to_owned(),
                balance: balance.as_ref().ok().copied(),
                balance_error: balance.err(),
                ..User::default()
            };
            let at = Instant::now();
            let exchange = ClockExchange { sent: at, received: at };
            let as_of = self.now().wall;
            self.on_account_update(AccountUpdate::User(UserReading {
                user,
                as_of,
                exchange,
                date: None,
            }));
        }

        fn on_purchases(&mut self, change: impl FnOnce(&mut PurchasesReading)) {
            let mut reading = PurchasesReading::complete(Vec::new(), self.now().wall);
            change(&mut reading);
            self.on_account_update(AccountUpdate::Purchases(reading));
        }

        /// Handles a request of the operator and returns the reply.
        fn request(&mut self, request: ControlRequest) -> ControlReply {
            let (reply, answered) = sync_channel(1);
            let pending = PendingRequest { request, reply };
            let now = self.now();
            self.capture_log(|engine| {
                engine.handle_control_request(&pending, FeedStatus::default(), None, now);
            });
            answered.recv().unwrap()
        }

        /// Returns the status as `sniper status` receives it.
        fn status(&mut self) -> LedgerStatus {
            match self.request(ControlRequest::Status) {
                ControlReply::Done(status) => *status,
                other => panic!("{other:?}"),
            }
        }

        fn failing(&mut self) -> Vec<String> {
            self.status().account_failures.into_iter().map(|failing| failing.read).collect()
        }
    }

    const HUNDRED: Result<Amount, BalanceError> = Ok(Amount::from_cents(10_000));

    #[test]
    fn skips_that_affect_every_listing_or_an_entry_are_logged_once_a_minute_with_a_count() {
        let mut notified = Notified::default();
        let start = Instant::now();
        let mut count_for = |entry, rejection, seconds| {
            notified.count_rejection(&rejection, entry, start + Duration::from_secs(seconds))
        };
        let used_up = RiskRejection::EntryQuantity { bought: 1, max: 1 };
        assert_eq!(count_for(0, used_up, 0), Some(0));
        assert_eq!(count_for(0, used_up, 1), None);
        assert_eq!(count_for(1, used_up, 1), Some(0), "another entry");
        let mut count = |rejection, seconds| count_for(0, rejection, seconds);
        let amount = Amount::from_cents(1);
        let total = RiskRejection::Total { spent: amount, price: amount, max: amount };
        assert_eq!(count(total, 0), Some(0));
        assert_eq!(count(total, 1), None);
        assert_eq!(count(RiskRejection::Halted, 0), Some(0));
        assert_eq!(count(RiskRejection::Halted, 1), None);
        assert_eq!(count(RiskRejection::Halted, 59), None);
        assert_eq!(count(RiskRejection::NotReconciled, 59), Some(0));
        assert_eq!(count(RiskRejection::Halted, 60), Some(2));
        assert_eq!(count(RiskRejection::Halted, 120), Some(0));
        assert_eq!(count(RiskRejection::AlreadyRequested, 120), Some(0));
        assert_eq!(count(RiskRejection::AlreadyRequested, 121), None, "a listing that flaps");
        for second in 0..3 {
            assert_eq!(count(RiskRejection::NoEntry, second), Some(0));
        }
    }

    #[test]
    fn orders_that_cannot_be_sent_have_one_line_a_minute() {
        let mut session = Session::live();
        let (trade, now) = (trade("a", REDLINE), session.now());
        let since = now.instant;
        session.capture_log(|engine| {
            for _ in 0..3 {
                let candidate = Candidate { trade: &trade, entry: 0, since, is_queued: false };
                let reason = WaitReason::NotSent(NotSent::Stopping);
                assert!(engine.wait_or_skip(candidate, reason, now).is_none());
            }
        });
        assert_eq!(session.lines.take("NOT SENT").len(), 1);
        assert_eq!(session.engine.stats().not_sent, 3);
    }

    #[test]
    fn an_incomplete_list_is_one_warning_that_status_repeats_until_the_list_is_complete() {
        let mut session = Session::live();
        let stuck = |reading: &mut PurchasesReading| {
            reading.incomplete = Some(IncompleteReason::CursorRepeated { page: 2 });
        };
        session.on_user(HUNDRED);
        session.on_purchases(stuck);
        let lines = session.lines.take("WARN");
        let [line] = lines.as_slice() else { panic!("{lines:#?}") };
        assert!(line.contains("the pages repeat"), "{line}");
        assert!(line.contains("No order is sent until it succeeds. What to do: "), "{line}");
        for _ in 0..3 {
            session.on_user(HUNDRED);
            session.on_purchases(stuck);
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

        session.on_user(HUNDRED);
        session.on_purchases(|_| {});
        let lines = session.lines.take("INFO");
        assert!(lines.iter().any(|line| line.contains("succeeded again: own purchases")));
        assert!(session.status().account_failures.is_empty());
    }

    #[test]
    fn each_change_of_the_cause_is_one_warning() {
        let mut session = Session::live();
        let failed = |status| {
            let failure = ReadFailure::Status { status, retry_after: None };
            AccountUpdate::failed(ReadKind::Purchases, &failure, &EnvironmentNames::UNKNOWN)
        };
        let mut warnings = Vec::new();
        for status in [502, 502, 500, 500, 404] {
            session.on_user(HUNDRED);
            session.on_account_update(failed(status));
            warnings.push(session.lines.take("WARN").len());
        }
        assert_eq!(warnings, [1, 0, 1, 0, 1]);
    }

    #[test]
    fn an_unreadable_balance_stays_failing_when_purchases_are_read() {
        let mut session = Session::live();
        for warnings in [1, 0] {
            session.on_user(Err(BalanceError::new(
                "text",
                "the amount is the text '1000.0', not a number",
            )));
            session.on_purchases(|_| {});
            let lines = session.lines.take("WARN");
            assert_eq!(lines.len(), warnings, "{lines:#?}");
            assert!(lines.iter().all(|line| line.contains("is the text '1000.0', not a number")));
            assert_eq!(session.failing(), ["balance"]);
        }
        session.on_user(HUNDRED);
        assert!(session.failing().is_empty());
    }

    #[test]
    fn a_short_history_and_unreadable_prices_are_reported() {
        let mut session = Session::live();
        session.on_user(HUNDRED);
        session.on_purchases(|reading| {
            let shortfall = Some(IncompleteReason::TooManyPages { pages: 40 });
            reading.history = Some(History { shortfall, oldest: None });
            reading.unpriced = Some((3, TradeId::new("a").unwrap()));
        });
        assert_eq!(session.lines.take("WARN").len(), 2);
        assert_eq!(session.failing(), ["prices of own purchases", "history of own purchases"]);
        // A shallow read leaves the history failing.
        session.on_purchases(|_| {});
        assert_eq!(session.failing(), ["history of own purchases"]);
        session.on_purchases(|reading| {
            reading.history = Some(History { shortfall: None, oldest: None });
        });
        assert!(session.failing().is_empty());
    }

    /// Returns a session with one order of this outcome.
    fn with_order(outcome: &Outcome) -> (Session, TradeKey) {
        let mut session = Session::live();
        session.on_user(HUNDRED);
        session.on_purchases(|_| {});
        let now = session.now();
        session.engine.consider(trade("a", REDLINE), now);
        session.engine.finish_sent_orders();
        let key = KeyedBy::Id.key(TradeId::new("a").unwrap(), None);
        session.engine.update_ledger(|ledger| ledger.settle(&key, outcome, now.wall));
        (session, key)
    }

    fn with_unknown_order() -> (Session, TradeKey) {
        with_order(&Outcome::Unknown(Unknown::Cut))
    }

    #[test]
    fn every_list_reaches_far_back_while_an_order_is_unknown() {
        let (session, key) = with_unknown_order();
        let now = session.now();
        let sniper = Sniper::new(session.engine);
        let requests = RefreshRequests::default();
        let needs_history = || {
            sniper.tick(&requests, &FeedMetrics::default());
            requests.needs_history()
        };
        assert!(needs_history());
        let bought = Outcome::Bought { price: None, server_time: None };
        sniper.engine().update_ledger(|ledger| ledger.settle(&key, &bought, now.wall));
        assert!(!needs_history());
    }

    #[test]
    fn the_record_of_an_order_settles_it_unless_it_is_of_another_listing() {
        let (mut session, key) = with_unknown_order();
        assert_eq!(session.engine.unknown_orders().count(), 0, "its last report may follow");
        session.engine.pending.clear();
        let unknown = session.engine.unknown_orders().map(crate::ledger::Intent::key);
        assert_eq!(unknown.collect::<Vec<_>>(), [key]);
        let record = |id: &str| OwnPurchase::bare(TradeId::new(id).unwrap(), TradeStatus::Joined);
        for (found, failing, state) in [
            (Some(record("b")), &["orders by their own ids"][..], OrderState::Unknown),
            (None, &[], OrderState::Unknown),
            (Some(record("a")), &[], OrderState::Bought),
        ] {
            let started = session.now().wall.plus(Duration::from_secs(1));
            session.on_account_update(AccountUpdate::Order(OrderReading { key, found, started }));
            assert_eq!(session.failing(), failing);
            assert_eq!(session.engine.ledger.state().order(&key).unwrap().state, state);
        }
        assert_eq!(session.engine.stats().resolved_bought, 1);
        let lines = session.lines.take("INFO");
        assert!(lines.iter().any(|line| line.contains("resolved as bought")), "{lines:#?}");
    }

    /// The look-up shows the same again after a resume.
    #[test]
    fn a_look_up_of_another_item_halts_once() {
        let (mut session, key) = with_unknown_order();
        let now = session.now();
        let halts = |session: &mut Session| {
            let started = session.now().wall.plus(Duration::from_secs(1));
            let found = OwnPurchase::bare(TradeId::new("b").unwrap(), TradeStatus::Joined);
            let reading = OrderReading { key, found: Some(found), started };
            session.on_account_update(AccountUpdate::Order(reading));
            session.engine.ledger.snapshot(now.wall).halts.len()
        };
        assert_eq!([halts(&mut session), halts(&mut session)], [1, 1]);
        session.engine.ledger.resume(Operator::new("test"), now.wall);
        assert_eq!(halts(&mut session), 0);
        assert_eq!(session.engine.ledger.state().order(&key).unwrap().state, OrderState::Unknown);
    }

    /// Returns a session with one confirmed purchase.
    fn with_purchase() -> (Session, TradeId) {
        let (mut session, key) = with_order(&Outcome::Bought { price: None, server_time: None });
        session.seconds += 1;
        (session, key.id)
    }

    /// Returns the number of lines that contain `text` since the last call.
    fn count_lines(session: &Session, text: &str) -> usize {
        session.lines.take("INFO").iter().filter(|line| line.contains(text)).count()
    }

    #[test]
    fn a_delivery_that_the_feed_reports_first_is_one_line() {
        const DELIVERED: &str = "Purchase delivered: 10.15  AK-47 | Redline (FT)";
        let status = TradeStatus::Completed;
        for is_own_event in [true, false] {
            let (mut session, id) = with_purchase();
            session.engine.names.insert(id, REDLINE.to_owned());
            let now = session.now();
            session.capture_log(|engine| match is_own_event {
                true => engine.on_notice(TradeNotice::Purchase { id, status }, now),
                false => {
                    let event = TradeEvent::Updated;
                    engine.consider(Trade { event, status, ..trade("a", REDLINE) }, now);
                }
            });
            assert_eq!(count_lines(&session, DELIVERED), 1, "{is_own_event}");
            session.on_purchases(|reading| reading.trades = vec![OwnTrade::bare(id, status)]);
            assert_eq!(count_lines(&session, "Purchase delivered"), 0, "{is_own_event}");
        }
    }

    #[test]
    fn a_purchase_is_returned_in_one_line_once_the_balance_shows_it() {
        let (mut session, id) = with_purchase();
        for _ in 0..2 {
            session.on_user(Ok(Amount::from_cents(8_985)));
        }
        session.on_purchases(|reading| {
            reading.trades = vec![OwnTrade::bare(id, TradeStatus::Cancelled)];
        });
        assert_eq!(count_lines(&session, "Purchase returned"), 0);
        session.seconds += 1;
        session.on_user(HUNDRED);
        assert_eq!(count_lines(&session, "Purchase returned: 10.15  order a; its price is"), 1);
        assert_eq!(session.engine.stats().returned, 1);
        session.on_user(HUNDRED);
        assert_eq!(count_lines(&session, "Purchase returned"), 0);
    }

    #[test]
    fn an_order_that_the_operator_settles_is_a_line_and_counted_in_the_summary() {
        for (verdict, line, counts) in [
            (Resolution::Bought, "Unknown order resolved as bought: 10.15  order a", (1, 0)),
            (Resolution::NotBought, "Unknown order resolved as not bought: 10.15", (0, 1)),
        ] {
            let (mut session, _key) = with_unknown_order();
            let (id, by) = ("a".to_owned(), "me".to_owned());
            let reply = session.request(ControlRequest::Resolve { id, verdict, by });
            assert!(matches!(reply, ControlReply::Done(_)), "{reply:?}");
            assert_eq!(count_lines(&session, line), 1, "{verdict:?}");
            let stats = session.engine.stats();
            assert_eq!((stats.resolved_bought, stats.resolved_not_bought), counts);
        }
    }

    fn unknown(id: TradeId, word: &str) -> UnknownStatus {
        UnknownStatus { id, word: word.into() }
    }

    #[test]
    fn a_purchase_of_unknown_status_is_logged_once_per_status() {
        let mut session = Session::live();
        session.on_user(HUNDRED);
        session.on_purchases(|_| {});
        let now = session.now();
        session.engine.consider(trade("a", REDLINE), now);
        let id = TradeId::new("a").unwrap();
        assert!(session.engine.ledger.state().intent(&id).is_some(), "nothing was ordered");
        let mut lines = Vec::new();
        for word in ["AWAITING_SELLER", "AWAITING_SELLER", "ON_HOLD"] {
            session.on_purchases(|reading| {
                let status = TradeStatus::Other;
                reading.trades = vec![OwnTrade::bare(id, status)];
                reading.unknown = vec![unknown(id, word)];
            });
            lines.push(session.lines.take("WARN"));
        }
        let expected = format!(
            "Purchase listed with a status this version does not know: {id}, status \
             AWAITING_SELLER; it stays unknown and counts as spent"
        );
        assert_eq!(lines[0].len(), 1);
        assert!(lines[0][0].contains(&expected), "{lines:#?}");
        assert_eq!(lines[1], Vec::<String>::new());
        assert!(lines[2][0].contains("status ON_HOLD"), "{lines:#?}");
    }

    #[test]
    fn unknown_statuses_of_foreign_purchases_log_a_bounded_number_of_lines() {
        let mut session = Session::live();
        session.on_user(HUNDRED);
        for number in 0..100 {
            session.on_purchases(|reading| {
                let id = TradeId::new(&format!("foreign{number}")).unwrap();
                reading.unknown = vec![unknown(id, "NEW"), unknown(id, &format!("W{number}"))];
            });
        }
        let lines = session.lines.take("WARN");
        assert_eq!(lines.len(), FOREIGN_STATUSES_MAX, "{lines:#?}");
        assert!(lines[0].contains("status NEW; it is not in this ledger"), "{lines:#?}");
    }

    #[test]
    fn a_rejected_resolution_is_not_logged_as_done() {
        let mut session = Session::live();
        session.on_user(HUNDRED);
        session.on_purchases(|_| {});
        let now = session.now();
        session.engine.consider(trade("a", REDLINE), now);
        let resolve = |id: &str| ControlRequest::Resolve {
            id: id.to_owned(),
            verdict: Resolution::Bought,
            by: "me".to_owned(),
        };
        session.lines.take("INFO");
        for (id, cause) in
            [("a", "order a is in flight"), ("b", "no order"), ("lost", "--not-bought")]
        {
            let reply = session.request(resolve(id));
            let ControlReply::Rejected(why) = reply else { panic!("{reply:?}") };
            assert!(why.contains(cause), "{why}");
            assert_eq!(session.lines.take("INFO"), Vec::<String>::new());
        }
        let key = KeyedBy::Id.key(TradeId::new("a").unwrap(), None);
        let unknown = Outcome::Unknown(Unknown::Cut);
        let _effects = session.engine.ledger().settle(&key, &unknown, now.wall).unwrap();
        assert!(matches!(session.request(resolve("a")), ControlReply::Done(_)));
        let lines = session.lines.take("INFO");
        let is_done = |line: &&String| line.ends_with("Order resolved by me: a, bought");
        assert_eq!(lines.iter().filter(is_done).count(), 1, "{lines:#?}");
    }

    #[test]
    fn an_older_purchase_counts_only_where_the_ledger_holds_its_order() {
        let mut session = Session::live();
        session.on_user(HUNDRED);
        session.on_purchases(|_| {});
        let now = session.now();
        session.engine.consider(trade("a", REDLINE), now);
        let [ours, foreign] = ["a", "foreign"].map(|id| TradeId::new(id).unwrap());
        let unknown = Outcome::Unknown(Unknown::Cut);
        let effects = session
            .engine
            .ledger()
            .settle(&KeyedBy::Id.key(ours, None), &unknown, now.wall)
            .unwrap();
        assert!(effects.halts.is_empty(), "{effects:?}");
        // Only changes before the request of the list can be in the list.
        session.seconds += 1;
        session.on_purchases(|reading| {
            let status = TradeStatus::Joined;
            let own = |id| OwnTrade::bare(id, status);
            reading.older = vec![own(ours), own(foreign)];
        });
        let state = session.engine.ledger.state().intent(&ours).map(|intent| intent.state);
        assert_eq!(state, Some(OrderState::Bought));
        assert_eq!(session.status().halts, [], "a purchase older than the ledger is no surprise");
    }
}
