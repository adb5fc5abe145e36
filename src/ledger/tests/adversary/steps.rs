//! What a hostile market does, and the limits of a history.

use super::*;

#[derive(Clone, Debug)]
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
    /// The balance is read. The reading is `age` seconds old.
    Balance {
        age: u64,
    },
    /// The list is read. It is `age` seconds old.
    List {
        age: u64,
        complete: bool,
    },
    /// An order is looked up by its own id. The record is `age` seconds old.
    LookUp {
        which: usize,
        age: u64,
    },
    Restart,
    /// The machine loses power, and the ledger its last events.
    PowerLoss {
        events: usize,
    },
    /// The wall clock is set.
    ClockSet,
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
        2 => (any::<usize>(), hidden()).prop_map(|(which, how)| AdversaryStep::Hide { which, how }),
        1 => (any::<usize>(), prop::option::of(5_i64..100))
            .prop_map(|(which, percent)| AdversaryStep::Misprice { which, percent }),
        4 => (any::<usize>(), status()).prop_map(|(which, status)| AdversaryStep::Feed { which, status }),
        1 => (-100_i64..100_000).prop_map(|cents| AdversaryStep::Push { cents }),
        5 => age().prop_map(|age| AdversaryStep::Balance { age }),
        5 => (age(), prop::bool::weighted(0.85))
            .prop_map(|(age, complete)| AdversaryStep::List { age, complete }),
        5 => (any::<usize>(), age()).prop_map(|(which, age)| AdversaryStep::LookUp { which, age }),
        1 => Just(AdversaryStep::Restart),
        1 => (1_usize..20).prop_map(|events| AdversaryStep::PowerLoss { events }),
        1 => Just(AdversaryStep::ClockSet),
        1 => (0_i64..200, 0_u32..8).prop_map(|(total, minute)| AdversaryStep::Limits { total, minute }),
        3 => Just(AdversaryStep::Resume),
        8 => prop_oneof![0_u64..10, 30_u64..70, 60_u64..62, 3_590_u64..3_601]
            .prop_map(|seconds| AdversaryStep::Wait { seconds }),
    ]
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
        1 => Just(AdversaryStep::Wait { seconds: 61 }),
    ];
    let orders = prop::collection::vec((0_u32..10, 0_usize..2, any::<bool>()), 2..5);
    let changes = prop::collection::vec(change, 0..15);
    (orders, changes, age(), age()).prop_map(|(orders, changes, balance_age, list_age)| {
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
            AdversaryStep::Wait { seconds: 61 },
            AdversaryStep::Balance { age: balance_age },
            AdversaryStep::Wait { seconds: 61 },
            AdversaryStep::List { age: list_age, complete: true },
        ]);
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
    let floor = prop_oneof![Just(280), Just(0)];
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
}

pub(super) fn market_kind() -> impl Strategy<Value = MarketKind> {
    use KeyedBy::{Id, IdAndPrice};
    let kinds = [(Id, true, 0), (Id, true, 2), (IdAndPrice, true, 2), (IdAndPrice, false, 2)];
    prop::sample::select(kinds.to_vec()).prop_map(|(keyed_by, has_list, look_ups_min)| MarketKind {
        keyed_by,
        has_list,
        look_ups_min,
    })
}
