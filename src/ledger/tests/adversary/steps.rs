//! What a hostile market does, and the limits of a history.

use super::*;

#[derive(Clone, Copy, Debug)]
pub(super) enum AdversaryStep {
    /// A listing matches an entry.
    Match {
        listing: u32,
        entry: usize,
    },
    /// The market receives the oldest pending request and accepts or rejects it.
    Arrive {
        accept: bool,
        /// Amount that it charges in addition to the approved price.
        extra_cents: i64,
    },
    /// The executor reports the outcome of an order, or that its response was lost.
    Answer {
        which: usize,
        lost: bool,
        price: ReportedPrice,
    },
    /// A rejection arrives whose order is not certain yet.
    Unconfirmed {
        which: usize,
    },
    /// The response of an order with such a rejection arrives, or was lost.
    Confirm {
        which: usize,
        lost: bool,
        price: ReportedPrice,
    },
    /// A second response arrives for a settled order.
    Repeat {
        which: usize,
        price: ReportedPrice,
    },
    /// The request of an order was never sent.
    Unsent {
        which: usize,
    },
    /// The market delivers a purchase, or cancels it and keeps this part of its price.
    Finish {
        which: usize,
        kept_percent: Option<i64>,
    },
    /// The market refunds a cancelled purchase.
    Refund {
        which: usize,
    },
    /// Coins arrive from another source.
    Deposit {
        cents: i64,
    },
    /// From now on, the lists omit a purchase or its status.
    Hide {
        which: usize,
        how: Hidden,
    },
    /// From now on, the lists understate the price of a purchase, or report it again as it is.
    Misprice {
        which: usize,
        percent: Option<i64>,
    },
    /// The feed reports a status of a listing.
    Feed {
        which: usize,
        status: TradeStatus,
    },
    /// The feed pushes a balance.
    Push {
        cents: i64,
    },
    /// A read of the balance begins. Its oldest data is `age` seconds old.
    Balance {
        age: u64,
    },
    /// A read of the list begins.
    List {
        age: u64,
        complete: bool,
    },
    /// The look-up of an order by its own id begins, maybe between two pages of a list.
    LookUp {
        which: usize,
        age: u64,
        in_list: bool,
    },
    /// The result of the oldest read arrives. Each bit makes one purchase in it recent.
    Deliver {
        recent: u64,
    },
    /// The oldest read fails.
    FailRead,
    Restart,
    /// The machine loses power, and the ledger its last events.
    PowerLoss {
        events: usize,
    },
    /// The wall clock is set forward or back.
    ClockSet {
        seconds: i64,
    },
    /// The machine is suspended. No program gives up waiting meanwhile.
    Suspend {
        seconds: u64,
    },
    Limits {
        total: i64,
        minute: u32,
    },
    Resume,
    Wait {
        seconds: u64,
    },
}

/// The price in a response.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReportedPrice {
    Nothing,
    True,
    Any(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hidden {
    No,
    LeftOut,
    UnknownStatus,
}

pub(super) fn reported_price() -> impl Strategy<Value = ReportedPrice> {
    prop_oneof![
        2 => Just(ReportedPrice::Nothing),
        4 => Just(ReportedPrice::True),
        1 => (-100_i64..10_000).prop_map(ReportedPrice::Any),
    ]
}

pub(super) fn status() -> impl Strategy<Value = TradeStatus> {
    prop::sample::select(vec![
        TradeStatus::Listed,
        TradeStatus::Joined,
        TradeStatus::Processing,
        TradeStatus::Completed,
        TradeStatus::Cooldown,
        TradeStatus::Cancelled,
        TradeStatus::Expired,
        TradeStatus::Other,
    ])
}

pub(super) fn hidden() -> impl Strategy<Value = Hidden> {
    prop::sample::select(vec![Hidden::No, Hidden::LeftOut, Hidden::UnknownStatus])
}

pub(super) fn step() -> impl Strategy<Value = AdversaryStep> {
    prop_oneof![
        10 => (0..LISTINGS, 0_usize..2).prop_map(|(listing, entry)| AdversaryStep::Match { listing, entry }),
        8 => (prop::bool::weighted(0.8), prop_oneof![20 => Just(0), 1 => 1_i64..500])
            .prop_map(|(accept, extra_cents)| AdversaryStep::Arrive { accept, extra_cents }),
        8 => (any::<usize>(), prop::bool::weighted(0.3), reported_price())
            .prop_map(|(which, lost, price)| AdversaryStep::Answer { which, lost, price }),
        2 => any::<usize>().prop_map(|which| AdversaryStep::Unconfirmed { which }),
        2 => (any::<usize>(), prop::bool::weighted(0.3), reported_price())
            .prop_map(|(which, lost, price)| AdversaryStep::Confirm { which, lost, price }),
        1 => (any::<usize>(), reported_price()).prop_map(|(which, price)| AdversaryStep::Repeat { which, price }),
        1 => any::<usize>().prop_map(|which| AdversaryStep::Unsent { which }),
        2 => (any::<usize>(), prop::option::weighted(0.7, prop_oneof![2 => Just(0), 1 => 1_i64..=100]))
            .prop_map(|(which, kept_percent)| AdversaryStep::Finish { which, kept_percent }),
        2 => any::<usize>().prop_map(|which| AdversaryStep::Refund { which }),
        1 => (1_i64..3_000).prop_map(|cents| AdversaryStep::Deposit { cents }),
        2 => (any::<usize>(), hidden()).prop_map(|(which, how)| AdversaryStep::Hide { which, how }),
        1 => (any::<usize>(), prop::option::of(5_i64..100))
            .prop_map(|(which, percent)| AdversaryStep::Misprice { which, percent }),
        4 => (any::<usize>(), status()).prop_map(|(which, status)| AdversaryStep::Feed { which, status }),
        1 => prop_oneof![-100_i64..200, 0_i64..100_000].prop_map(|cents| AdversaryStep::Push { cents }),
        5 => age().prop_map(|age| AdversaryStep::Balance { age }),
        5 => (age(), prop::bool::weighted(0.85))
            .prop_map(|(age, complete)| AdversaryStep::List { age, complete }),
        5 => (any::<usize>(), age(), any::<bool>())
            .prop_map(|(which, age, in_list)| AdversaryStep::LookUp { which, age, in_list }),
        16 => recent().prop_map(|recent| AdversaryStep::Deliver { recent }),
        1 => Just(AdversaryStep::FailRead),
        1 => Just(AdversaryStep::Restart),
        1 => (1_usize..20).prop_map(|events| AdversaryStep::PowerLoss { events }),
        1 => prop_oneof![-4_i64..5, Just(-3_600), Just(3_600), -90_000_i64..90_000]
            .prop_map(|seconds| AdversaryStep::ClockSet { seconds }),
        1 => waited().prop_map(|seconds| AdversaryStep::Suspend { seconds }),
        1 => (prop_oneof![0_i64..200, Just(LOOSE)], 0_u32..8)
            .prop_map(|(total, minute)| AdversaryStep::Limits { total, minute }),
        3 => Just(AdversaryStep::Resume),
        8 => waited().prop_map(|seconds| AdversaryStep::Wait { seconds }),
    ]
}

fn waited() -> impl Strategy<Value = u64> {
    prop_oneof![2 => 0_u64..10, 2 => 30_u64..70, 2 => 60_u64..62, 1 => 590_u64..602, 2 => 3_590_u64..3_601]
}

/// Which data of a reading is as recent as its end: in most readings all or none.
pub(super) fn recent() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 1 => Just(u64::MAX), 1 => any::<u64>()]
}

/// Returns a short history in which a refund may hide a charge: orders, some of unknown outcome,
/// then cancellations and refunds that the list may omit, then a balance and a list.
pub(super) fn refund_history() -> impl Strategy<Value = Vec<AdversaryStep>> {
    let which = any::<usize>;
    let change = prop_oneof![
        3 => (which(), hidden()).prop_map(|(which, how)| AdversaryStep::Hide { which, how }),
        2 => which().prop_map(|which| AdversaryStep::Finish { which, kept_percent: Some(0) }),
        2 => which().prop_map(|which| AdversaryStep::Refund { which }),
        1 => (which(), status()).prop_map(|(which, status)| AdversaryStep::Feed { which, status }),
        1 => age().prop_map(|age| AdversaryStep::List { age, complete: true }),
        2 => recent().prop_map(|recent| AdversaryStep::Deliver { recent }),
        1 => (which(), age(), any::<bool>())
            .prop_map(|(which, age, in_list)| AdversaryStep::LookUp { which, age, in_list }),
        1 => (1_i64..3_000).prop_map(|cents| AdversaryStep::Deposit { cents }),
        1 => Just(AdversaryStep::Wait { seconds: 61 }),
    ];
    let orders = prop::collection::vec((0_u32..10, 0_usize..2, any::<bool>()), 2..5);
    let changes = prop::collection::vec(change, 0..15);
    let gap = || prop_oneof![2 => Just(61_u64), 1 => 0_u64..62, 1 => Just(601)];
    let last = (gap(), age(), recent(), gap(), age(), recent());
    (orders, changes, last).prop_map(|(orders, changes, last)| {
        let (before_s, balance_age, balance_recent, between_s, list_age, list_recent) = last;
        let order = |(listing, entry, lost)| {
            [
                AdversaryStep::Match { listing, entry },
                AdversaryStep::Arrive { accept: true, extra_cents: 0 },
                AdversaryStep::Answer { which: 0, lost, price: ReportedPrice::True },
            ]
        };
        let mut steps: Vec<_> = orders.into_iter().flat_map(order).collect();
        steps.extend(changes);
        steps.extend([
            AdversaryStep::Wait { seconds: before_s },
            AdversaryStep::Balance { age: balance_age },
            AdversaryStep::Deliver { recent: balance_recent },
            AdversaryStep::Wait { seconds: between_s },
            AdversaryStep::List { age: list_age, complete: true },
        ]);
        // Those of the changes first.
        steps.extend([AdversaryStep::Deliver { recent: list_recent }; 4]);
        steps
    })
}

pub(super) fn age() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => Just(60), 1 => 0_u64..=60]
}

/// Limits of one history.
#[derive(Clone, Copy, Debug)]
pub(super) struct TestLimits {
    pub(super) total: i64,
    pub(super) per_hour: i64,
    pub(super) per_day: i64,
    pub(super) min_balance: i64,
    pub(super) max_quantity: u32,
    pub(super) max_total: i64,
}

/// More coins than a history can spend.
pub(super) const LOOSE: i64 = 100_000;

impl TestLimits {
    pub(super) fn budget(&self) -> Budget {
        Budget {
            max_price: coins(25),
            total: coins(self.total),
            min_balance: coins(self.min_balance),
            max_buys_per_minute: 5,
            per_hour: Some(coins(self.per_hour)),
            per_day: Some(coins(self.per_day)),
            max_in_flight: 3,
        }
    }

    pub(super) fn whitelist(&self) -> [WhitelistEntry; 2] {
        let mut first = entry(Some("first"));
        first.max_quantity = self.max_quantity;
        let mut second = entry(None);
        second.max_total = Some(coins(self.max_total));
        [first, second]
    }
}

pub(super) fn limits() -> impl Strategy<Value = TestLimits> {
    let limit = |tight: i64| prop_oneof![Just(tight), Just(LOOSE)];
    let quantity = prop_oneof![Just(4), Just(u32::MAX)];
    let floor = prop_oneof![Just(340), Just(280), Just(0)];
    (limit(120), limit(90), limit(110), floor, quantity, limit(60)).prop_map(
        |(total, per_hour, per_day, min_balance, max_quantity, max_total)| TestLimits {
            total,
            per_hour,
            per_day,
            min_balance,
            max_quantity,
            max_total,
        },
    )
}

/// Kind of market, by what it reports about orders.
#[derive(Clone, Copy, Debug)]
pub(super) struct MarketKind {
    pub(super) keyed_by: KeyedBy,
    pub(super) has_list: bool,
    /// Number of look-ups that prove an absence; zero without own order ids.
    pub(super) look_ups_min: u32,
    /// Longest time until a list or a look-up shows an order.
    pub(super) listed_within: Duration,
}

pub(super) fn market_kind() -> impl Strategy<Value = MarketKind> {
    use KeyedBy::{Id, IdAndPrice};
    let late = 10 * SETTLE;
    let kinds = [
        (Id, true, 0, SETTLE),
        (Id, true, 2, SETTLE),
        (IdAndPrice, true, 2, late),
        (IdAndPrice, false, 2, SETTLE),
    ];
    prop::sample::select(kinds.to_vec()).prop_map(|kind| {
        let (keyed_by, has_list, look_ups_min, listed_within) = kind;
        MarketKind { keyed_by, has_list, look_ups_min, listed_within }
    })
}
