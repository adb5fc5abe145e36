//! Property test of arbitrary histories against a market that keeps its own books: the market never
//! receives requests beyond the limits.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    disk::{crash_image, location, lose_power, wait_until},
    histories, histories_on_disk,
};

use crate::{
    config::Budget,
    domain::outcome::{NotSent, RejectReason, Unknown},
    domain::own_order_id::StartId,
    domain::trade::{KeyedBy, TradeStatus},
    ledger::{entries::tests::entry, event::LedgerEvent, *},
};

#[derive(Clone, Debug)]
enum ModelStep {
    /// A listing matches an entry.
    Match {
        listing: u32,
        entry: usize,
        /// Number of the price, on a market that changes prices.
        price: i64,
    },
    /// The market receives the oldest pending request and accepts or rejects it.
    Arrive {
        accept: bool,
    },
    /// A request in flight gets its true response, or its response is lost.
    Answer {
        which: usize,
        lost: bool,
    },
    /// A request was never sent.
    Unsent {
        which: usize,
    },
    /// The market delivers a purchase, or cancels and refunds it.
    Finish {
        which: usize,
        deliver: bool,
    },
    /// The program ends and restarts from its files.
    Restart(ProgramEnd),
    /// The operator changes the limits.
    Limits {
        total: i64,
        minute: u32,
    },
    /// The account is read and reconciled.
    Reconcile,
    Resume,
    Wait {
        seconds: u64,
    },
}

/// The way in which the program ends.
#[derive(Clone, Copy, Debug)]
enum ProgramEnd {
    Clean,
    /// The process is killed by `kill -9`.
    Killed,
    /// The machine loses power. Each record that is not durable survives if its bit is set.
    PowerLost(u64),
}

fn program_end() -> impl Strategy<Value = ProgramEnd> {
    prop_oneof![
        1 => Just(ProgramEnd::Clean),
        2 => Just(ProgramEnd::Killed),
        2 => any::<u64>().prop_map(ProgramEnd::PowerLost),
    ]
}

fn step() -> impl Strategy<Value = ModelStep> {
    prop_oneof![
        8 => (0_u32..40, 0_usize..2, 0_i64..4)
            .prop_map(|(listing, entry, price)| ModelStep::Match { listing, entry, price }),
        6 => prop::bool::weighted(0.7).prop_map(|accept| ModelStep::Arrive { accept }),
        6 => (any::<usize>(), prop::bool::weighted(0.3))
            .prop_map(|(which, lost)| ModelStep::Answer { which, lost }),
        1 => any::<usize>().prop_map(|which| ModelStep::Unsent { which }),
        2 => (any::<usize>(), any::<bool>())
            .prop_map(|(which, deliver)| ModelStep::Finish { which, deliver }),
        1 => program_end().prop_map(ModelStep::Restart),
        1 => (0_i64..150, 0_u32..6).prop_map(|(total, minute)| ModelStep::Limits { total, minute }),
        3 => Just(ModelStep::Reconcile),
        1 => Just(ModelStep::Resume),
        3 => (0_u64..100).prop_map(|seconds| ModelStep::Wait { seconds }),
    ]
}

/// A request in the market's books.
#[derive(Clone, Debug)]
struct ModelRequest {
    key: TradeKey,
    price: Amount,
    entry: usize,
    left_at: UnixMs,
    /// `None` until the request has arrived at the market.
    accepted: Option<bool>,
    status: TradeStatus,
    waiting: bool,
    unsent: bool,
}

impl ModelRequest {
    /// Returns `true` if the request was charged and not refunded, or can still be charged.
    fn may_cost(&self) -> bool {
        !self.unsent
            && self.accepted != Some(false)
            && !matches!(self.status, TradeStatus::Cancelled)
    }
}

struct ModelMarket {
    keyed_by: KeyedBy,
    ledger: Ledger,
    events: Vec<(UnixMs, LedgerEvent)>,
    requests: Vec<ModelRequest>,
    balance: Amount,
    now: UnixMs,
    budget: Budget,
    /// Creation time of each listing.
    created: HashMap<u32, UnixMs>,
    /// The listing that was ordered with each own id.
    own_ids: HashMap<OwnOrderId, TradeKey>,
    /// Incremented by a power loss; each era has its own listings.
    era: u32,
    /// Directory of the ledger; `None` for a ledger in memory.
    folder: Option<TempDir>,
}

const START: Amount = Amount::from_cents(40_000);

fn coins(whole: i64) -> Amount {
    Amount::from_cents(whole * 100)
}

fn whitelist() -> [WhitelistEntry; 2] {
    let mut first = entry(Some("first"));
    first.max_quantity = 3;
    let mut second = entry(None);
    second.max_total = Some(coins(60));
    [first, second]
}

impl ModelMarket {
    fn new(keyed_by: KeyedBy, folder: Option<TempDir>) -> Self {
        let budget = Budget {
            max_price: coins(25),
            total: coins(120),
            min_balance: coins(300),
            max_buys_per_minute: 5,
            per_hour: Some(coins(90)),
            per_day: Some(coins(100)),
            max_in_flight: 3,
        };
        let now = UnixMs(1_000_000_000);
        let ledger = match &folder {
            Some(folder) => open(folder.path(), &budget, "boot", now),
            None => Ledger::in_memory(budget.clone(), &whitelist(), true),
        };
        let mut market = Self {
            keyed_by,
            ledger,
            events: Vec::new(),
            requests: Vec::new(),
            balance: START,
            now,
            budget,
            created: HashMap::new(),
            own_ids: HashMap::new(),
            era: 0,
            folder,
        };
        market.reconcile();
        market
    }

    fn step(&mut self, step: &ModelStep) {
        match *step {
            ModelStep::Match { listing, entry, price } => self.on_match(listing, entry, price),
            ModelStep::Arrive { accept } => {
                let mut arriving = self.requests.iter_mut();
                let Some(request) =
                    arriving.find(|request| request.accepted.is_none() && !request.unsent)
                else {
                    return;
                };
                request.accepted = Some(accept);
                if accept {
                    request.status = TradeStatus::Joined;
                    self.balance = self.balance.saturating_sub(request.price);
                }
            }
            ModelStep::Answer { which, lost } => self.answer(which, lost),
            ModelStep::Unsent { which } => {
                let unsent = |request: &ModelRequest| request.waiting && request.accepted.is_none();
                if let Some(request) = pick(&mut self.requests, which, unsent) {
                    request.waiting = false;
                    request.unsent = true;
                    let key = request.key;
                    let never = Outcome::NotSent(NotSent::Closed);
                    let _effects = self.ledger.settle(&key, &never, self.now).unwrap_or_default();
                }
            }
            ModelStep::Finish { which, deliver } => {
                let joined = |request: &ModelRequest| request.status == TradeStatus::Joined;
                if let Some(request) = pick(&mut self.requests, which, joined) {
                    if deliver {
                        request.status = TradeStatus::Completed;
                    } else {
                        request.status = TradeStatus::Cancelled;
                        self.balance = self.balance.saturating_add(request.price);
                    }
                }
            }
            ModelStep::Restart(end) => self.restart(end),
            ModelStep::Limits { total, minute } => {
                self.budget.total = coins(total);
                self.budget.max_buys_per_minute = minute;
                self.ledger.state.set_budget(self.budget.clone(), 1);
            }
            ModelStep::Reconcile => self.reconcile(),
            ModelStep::Resume => self.ledger.resume(Operator::new("me"), self.now),
            ModelStep::Wait { seconds } => self.now = self.now.plus(Duration::from_secs(seconds)),
        }
    }

    fn on_match(&mut self, listing: u32, entry: usize, price: i64) {
        let listing = listing + self.era * 1_000;
        let id = TradeId::new(&format!("listing-{listing}")).unwrap();
        let change = if self.keyed_by == KeyedBy::Id { 0 } else { price };
        let price = coins(1 + i64::from(listing) * 7 % 29 + change);
        let created_at = Some(*self.created.entry(listing).or_insert(self.now));
        let keyed_by = self.keyed_by;
        let order_request = OrderRequest { id, keyed_by, price, entry, created_at };
        if let Ok(approved) = self.reserve(order_request) {
            let key = *approved.key();
            let reused = approved.own_id().and_then(|own_id| self.own_ids.insert(own_id, key));
            assert_eq!(reused, None, "no own id is used twice");
            self.requests.retain(|request| !(request.key == key && request.unsent));
            self.requests.push(ModelRequest {
                key,
                price: approved.price(),
                entry,
                left_at: self.now,
                accepted: None,
                status: TradeStatus::Listed,
                waiting: true,
                unsent: false,
            });
            self.check_limits();
        }
    }

    /// Reserves an order, and retries once after the disk has caught up.
    fn reserve(&mut self, order_request: OrderRequest) -> Result<ApprovedOrder, RiskRejection> {
        let answer = self.ledger.reserve(order_request, self.now);
        if !matches!(answer, Err(RiskRejection::Behind)) {
            return answer;
        }
        wait_until(|| self.ledger.is_durable() && self.ledger.is_limit_durable());
        let answer = self.ledger.reserve(order_request, self.now);
        assert!(!matches!(answer, Err(RiskRejection::Behind)), "the disk has caught up");
        answer
    }

    fn answer(&mut self, which: usize, lost: bool) {
        let Some(request) = pick(&mut self.requests, which, |request| request.waiting) else {
            return;
        };
        let outcome = match request.accepted {
            Some(true) if !lost => {
                Outcome::Bought { price: Some(request.price), server_time: None }
            }
            Some(false) if !lost => Outcome::Rejected(RejectReason::Taken),
            _ => Outcome::Unknown(Unknown::Timeout),
        };
        request.waiting = false;
        let key = request.key;
        let _effects = self.ledger.settle(&key, &outcome, self.now).unwrap();
    }

    fn reconcile(&mut self) {
        // A request that was sent a whole window ago has arrived by now, or never will.
        for request in self.requests.iter_mut().filter(|request| request.accepted.is_none()) {
            if request.left_at.plus(Duration::from_secs(30)) <= self.now {
                request.accepted = Some(false);
            }
        }
        let trades: Vec<OwnTrade> = self
            .requests
            .iter()
            .filter(|request| request.status != TradeStatus::Listed)
            .map(|request| OwnTrade {
                price: Some(request.price),
                joined_at: Some(request.left_at),
                ..OwnTrade::bare(request.key.id, request.status)
            })
            .collect();
        let reading = AccountReading { trades: &trades, complete: true, started: self.now };
        let effects = self.ledger.reconcile(&reading, Some(self.balance), self.now);
        assert_eq!(effects.halts, [], "no halt");
    }

    fn restart(&mut self, end: ProgramEnd) {
        match self.folder.take() {
            Some(folder) => self.reopen(folder, end),
            None => self.replay(),
        }
        for request in &mut self.requests {
            request.waiting = false;
        }
        for Halt { reason, .. } in self.ledger.state().halts() {
            assert!(matches!(reason, HaltReason::Unknowns { .. }), "no other halt: {reason:?}");
        }
        for order in self.ledger.state().intents() {
            let ordered = order.own_id.map(|own_id| self.own_ids.get(&own_id).copied());
            assert_eq!(ordered.unwrap_or(Some(order.key())), Some(order.key()), "its own id");
        }
        self.reconcile();
    }

    fn reopen(&mut self, folder: TempDir, end: ProgramEnd) {
        let (folder, boot) = match end {
            ProgramEnd::Clean => (folder, "another"),
            ProgramEnd::Killed => (crash_image(folder.path()), "boot"),
            ProgramEnd::PowerLost(mut fate) => {
                let image = crash_image(folder.path());
                lose_power(image.path(), || {
                    fate = fate.rotate_left(1);
                    fate & 1 == 1
                });
                self.era += 1;
                (image, "another")
            }
        };
        // The old ledger keeps writing to its own directory, which no longer matters.
        let other = Ledger::in_memory(self.budget.clone(), &whitelist(), true);
        drop(std::mem::replace(&mut self.ledger, other));
        drop(open(folder.path(), &self.budget, boot, self.now));
        self.ledger = open(folder.path(), &self.budget, "boot", self.now);
        self.folder = Some(folder);
    }

    /// Replays the events, which must give the same state.
    fn replay(&mut self) {
        let mut state = LedgerState::new(self.budget.clone(), true);
        state.set_entries(&whitelist());
        std::mem::swap(&mut self.events, &mut self.ledger.events_for_tests);
        for (at, event) in &self.events {
            state.apply(*at, event).unwrap();
        }
        std::mem::swap(&mut self.events, &mut self.ledger.events_for_tests);
        state.reconciled = self.ledger.state.reconciled;
        assert_eq!(state.intents, self.ledger.state.intents, "replay");
        assert_eq!(state.snapshot(self.now), self.ledger.state.snapshot(self.now));
        state.has_own_ids = true;
        self.ledger.state = state;
        // No earlier start with an order had these bits.
        let bits = u128::try_from(self.own_ids.len()).unwrap().to_be_bytes();
        let (boot, start) = (event::BootId::default(), Some(StartId::from_bits(bits)));
        let started = LedgerEvent::Started { boot, start };
        let _effects = self.ledger.record_infallible(self.now, started);
    }

    /// Checks invariants 1 and 2, by the market's books.
    fn check_limits(&self) {
        let may_cost = || self.requests.iter().filter(|request| request.may_cost());
        let sum = |within: u64| {
            let left = |request: &&ModelRequest| {
                self.now < request.left_at.plus(Duration::from_secs(within))
            };
            may_cost().filter(left).map(|request| request.price.cents()).sum::<i64>()
        };
        assert!(sum(u64::MAX / 2_000) <= self.budget.total.cents());
        assert!(sum(3_600) <= self.budget.per_hour.unwrap().cents());
        assert!(sum(86_400) <= self.budget.per_day.unwrap().cents());
        let uncharged: i64 = may_cost()
            .filter(|request| request.accepted.is_none())
            .map(|request| request.price.cents())
            .sum();
        assert!(self.budget.min_balance.cents() <= self.balance.cents() - uncharged);
        let recent = self.requests.iter().filter(|request| {
            !request.unsent && self.now < request.left_at.plus(Duration::from_secs(60))
        });
        assert!(recent.count() <= usize::try_from(self.budget.max_buys_per_minute).unwrap());
        assert!(self.requests.iter().filter(|request| request.waiting).count() <= 3);
        let first = may_cost().filter(|request| request.entry == 0);
        assert!(first.count() <= 3, "max_quantity of the first entry");
        let second = may_cost().filter(|request| request.entry == 1);
        assert!(second.map(|request| request.price.cents()).sum::<i64>() <= 6_000);
        let (mut keys, mut ids) = (HashSet::new(), HashSet::new());
        for request in &self.requests {
            assert!(keys.insert(request.key), "one request for a key");
            if !request.unsent && request.accepted != Some(false) {
                assert!(ids.insert(request.key.id), "one request for a listing may be accepted");
            }
        }
    }
}

fn open(folder: &Path, budget: &Budget, boot: &str, now: UnixMs) -> Ledger {
    let mut ledger =
        Ledger::open(&location(folder, boot), budget.clone(), &whitelist(), now).unwrap();
    ledger.bind("account-1").unwrap();
    ledger.state.has_own_ids = true;
    ledger
}

fn pick(
    requests: &mut [ModelRequest],
    which: usize,
    fits: impl Fn(&ModelRequest) -> bool,
) -> Option<&mut ModelRequest> {
    let count = requests.iter().filter(|request| fits(request)).count();
    let nth = which.checked_rem(count)?;
    requests.iter_mut().filter(|request| fits(request)).nth(nth)
}

fn run(mut market: ModelMarket, steps: &[ModelStep]) {
    for step in steps {
        market.step(step);
        market.ledger.state.check().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(histories()))]

    #[test]
    fn no_history_exceeds_a_limit_or_requests_a_listing_twice(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        run(ModelMarket::new(KeyedBy::Id, None), &steps);
    }

    #[test]
    fn no_history_with_changing_prices_requests_a_listing_that_may_have_been_bought(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        run(ModelMarket::new(KeyedBy::IdAndPrice, None), &steps);
    }
}

proptest! {
    // Each case opens real files several times.
    #![proptest_config(ProptestConfig::with_cases(histories_on_disk()))]

    #[test]
    fn no_history_with_kills_and_power_loss_exceeds_a_limit_or_requests_a_listing_twice(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        run(ModelMarket::new(KeyedBy::Id, Some(tempfile::tempdir().unwrap())), &steps);
    }

    #[test]
    fn no_history_with_changing_prices_and_kills_requests_a_listing_that_may_have_been_bought(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        run(ModelMarket::new(KeyedBy::IdAndPrice, Some(tempfile::tempdir().unwrap())), &steps);
    }
}
