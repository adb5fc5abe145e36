//! Properties of long random histories: more members and limits than the model check, and any
//! demands.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::shared::{
    database::{GroupDatabase, SILENT_MS, is_outdated},
    exchange::{Exchange, Limit, Reply},
    member::{Member, MemberSettings, Report, Usage},
    tests::world::name,
};

const MEMBERS: usize = 4;
const TOTAL: i64 = 1_000;
const ENTRY_MAX: i64 = 7;
const HOUR_MAX: i64 = 400;
/// Length of the window of `per_hour` here.
const HOUR_MS: i64 = 5_000;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A round of the member; its reply may be lost.
    Round {
        member: usize,
        is_lost: bool,
    },
    /// An exchange without a reply arrives, possibly repeatedly.
    Late(usize),
    Obey(usize),
    Order {
        member: usize,
        price: i64,
    },
    Reject {
        member: usize,
        price: i64,
    },
    Reserve {
        member: usize,
        reserve: i64,
    },
    Wait(i64),
    /// So long that the windows of stopped members have ended.
    Silence,
    Stop(usize),
    Crash(usize),
    SetTotal,
}

fn event() -> impl Strategy<Value = Event> {
    let member = 0..MEMBERS;
    prop_oneof![
        8 => (member.clone(), prop::bool::weighted(0.2))
            .prop_map(|(member, is_lost)| Event::Round { member, is_lost }),
        1 => member.clone().prop_map(Event::Late),
        4 => member.clone().prop_map(Event::Obey),
        6 => (member.clone(), 1..200_i64).prop_map(|(member, price)| Event::Order { member, price }),
        2 => (member.clone(), 1..200_i64).prop_map(|(member, price)| Event::Reject { member, price }),
        2 => (member.clone(), 0..600_i64)
            .prop_map(|(member, reserve)| Event::Reserve { member, reserve }),
        6 => (1..1_500_i64).prop_map(Event::Wait),
        1 => Just(Event::Silence),
        1 => member.clone().prop_map(Event::Stop),
        1 => member.prop_map(Event::Crash),
        1 => Just(Event::SetTotal),
    ]
}

/// Member with its ledger.
struct Bot {
    member: Member,
    spent: i64,
    orders: i64,
    approved: u64,
    /// Times and prices of the orders, which leave the window of `per_hour` later.
    hour: Vec<(i64, i64)>,
    reserve: i64,
    slices: BTreeMap<Limit, i64>,
    until_ms: i64,
    revision: u64,
    late: Option<Exchange>,
}

fn entry() -> Limit {
    Limit::EntryQuantity("entry".to_owned())
}

fn member(index: usize) -> Member {
    Member::new(MemberSettings {
        name: name(index),
        ledger: index.to_string(),
        market: "market".to_owned(),
        account: index.to_string(),
        standby: None,
        seen: 0,
    })
}

impl Bot {
    fn new(index: usize) -> Self {
        Self {
            member: member(index),
            spent: 0,
            orders: 0,
            approved: 0,
            hour: Vec::new(),
            reserve: 100,
            slices: BTreeMap::new(),
            until_ms: 0,
            revision: 0,
            late: None,
        }
    }

    fn used(&self, limit: &Limit, now_ms: i64) -> i64 {
        match limit {
            Limit::Total => self.spent,
            Limit::PerHour => {
                let recent = self.hour.iter().filter(|(at_ms, _)| now_ms < at_ms + HOUR_MS);
                recent.map(|(_, price)| price).sum()
            }
            _ => self.orders,
        }
    }

    fn report(&self, now_ms: i64) -> Report {
        let usage = |used, max, reserve| Usage { used, max, reserve, is_denied: false };
        let total = usage(self.spent, i64::MAX, self.reserve);
        let hour = self.used(&Limit::PerHour, now_ms);
        let entry_usage = usage(self.orders, ENTRY_MAX, self.reserve.min(2));
        Report {
            usage: BTreeMap::from([
                (Limit::Total, total),
                (Limit::PerHour, usage(hour, HOUR_MAX, self.reserve)),
                (entry(), entry_usage),
            ]),
            orders: Vec::new(),
            in_force: self.revision,
            can_order: true,
            is_idle: self.reserve == 0,
            whitelist: 0,
            approved: self.approved,
        }
    }

    fn obey(&mut self, now_ms: i64) {
        let permission = self.member.usable(now_ms);
        self.revision = permission.revision;
        self.until_ms = permission.until_ms;
        self.slices = permission.slices;
    }

    fn slice(&self, limit: &Limit, now_ms: i64) -> i64 {
        let slice = self.slices.get(limit).filter(|_| now_ms < self.until_ms);
        slice.copied().unwrap_or_default()
    }
}

fn check(bots: &[Bot], database: &GroupDatabase, now_ms: i64) -> Result<(), TestCaseError> {
    for (limit, max) in [(Limit::Total, TOTAL), (Limit::PerHour, HOUR_MAX), (entry(), ENTRY_MAX)] {
        let has_ended = |seen_ms, has_stopped| has_stopped && is_outdated(&limit, now_ms - seen_ms);
        let rows = database.members().values();
        let rows = rows.filter(|row| !has_ended(row.seen_ms, row.has_stopped));
        let rows = rows.filter_map(|row| row.limits.get(&limit));
        let slices: i64 = rows.map(|row| row.slice).sum();
        prop_assert!(slices <= max, "{limit}: {slices}");
        let may = |bot: &Bot| bot.used(&limit, now_ms).max(bot.slice(&limit, now_ms));
        let may: i64 = bots.iter().map(may).sum();
        prop_assert!(may <= max, "{limit}: {may} may be used");
    }
    Ok(())
}

fn happen(bots: &mut [Bot], database: &mut GroupDatabase, now_ms: &mut i64, event: Event) {
    match event {
        Event::Round { member, is_lost } => {
            let bot = &mut bots[member];
            let report = bot.report(*now_ms);
            let Some(exchange) = bot.member.next(&report, *now_ms) else { return };
            if is_lost {
                bot.member.on_failure(&exchange);
                bot.late = Some(exchange);
            } else {
                let reply = database.apply(*now_ms, &exchange);
                assert!(!matches!(reply, Reply::Rejected(_)), "{reply:?}");
                bot.member.on_reply(&exchange, &reply, *now_ms);
            }
        }
        Event::Late(member) => {
            if let Some(exchange) = &bots[member].late {
                database.apply(*now_ms, exchange);
            }
        }
        Event::Obey(member) => bots[member].obey(*now_ms),
        Event::Order { member, price } => {
            let bot = &mut bots[member];
            let has_room = [Limit::Total, Limit::PerHour]
                .iter()
                .all(|limit| bot.used(limit, *now_ms) + price <= bot.slice(limit, *now_ms));
            if has_room && bot.orders < bot.slice(&entry(), *now_ms) {
                bot.spent += price;
                bot.orders += 1;
                bot.approved += 1;
                bot.hour.push((*now_ms, price));
            }
        }
        Event::Reject { member, price } => {
            let bot = &mut bots[member];
            if bot.orders > 0 {
                bot.spent -= price.min(bot.spent);
                bot.orders -= 1;
            }
        }
        Event::Reserve { member, reserve } => bots[member].reserve = reserve,
        Event::Wait(by_ms) => *now_ms += by_ms,
        Event::Silence => *now_ms += 2 * SILENT_MS,
        Event::Stop(member) => bots[member].member.stop(),
        Event::Crash(index) => {
            let bot = &mut bots[index];
            bot.member = member(index);
            bot.slices.clear();
            bot.revision = 0;
        }
        Event::SetTotal => database.set_total(TOTAL),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_lets_members_use_more_than_a_limit(
        events in prop::collection::vec(event(), 1..400),
    ) {
        let mut bots: Vec<Bot> = (0..MEMBERS).map(Bot::new).collect();
        let (mut database, mut now_ms) = (GroupDatabase::new(TOTAL, 5_000), 0);
        for event in events {
            happen(&mut bots, &mut database, &mut now_ms, event);
            check(&bots, &database, now_ms)?;
        }
    }
}

#[test]
fn a_calm_history_gives_every_member_what_it_wants() {
    let mut bots: Vec<Bot> = (0..MEMBERS).map(Bot::new).collect();
    let (mut database, mut now_ms) = (GroupDatabase::new(TOTAL, 5_000), 0);
    for _ in 0..30 {
        for member in 0..MEMBERS {
            happen(&mut bots, &mut database, &mut now_ms, Event::Round { member, is_lost: false });
            happen(&mut bots, &mut database, &mut now_ms, Event::Obey(member));
        }
        happen(&mut bots, &mut database, &mut now_ms, Event::Wait(200));
    }
    assert!(bots.iter().all(|bot| bot.slice(&Limit::Total, now_ms) == 100));
    assert_eq!(bots.iter().map(|bot| bot.slice(&entry(), now_ms)).sum::<i64>(), ENTRY_MAX);
}
