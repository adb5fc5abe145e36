//! The SQL of the store does the same as the pure transaction.

use std::collections::BTreeMap;

use sniper::{
    clock,
    domain::{
        money::Amount,
        trade::{TradeId, TradeKey},
    },
    ledger::OrderState,
    shared::{
        database::{Denial, GroupDatabase},
        exchange::{
            Confirmed, Demand, Exchange, Limit, MemberName, Reply, ReportedOrder, RoleRequest,
        },
        store::{SetError, Store},
    },
};

use crate::database::database;

/// Number of exchanges of a history.
const STEPS: usize = 200;

/// Number of histories, unless `SNIPER_TEST_HISTORIES` gives another one.
const HISTORIES: u64 = 3;

/// So short that some takeovers find it ended, and some do not.
const TERM_MS: i64 = 8;

const TOTAL: i64 = 1_000;

/// Knowledge of a member, which may be wrong on purpose.
#[derive(Clone, Debug, Default)]
struct Knowledge {
    version: u64,
    seen: u64,
    epoch: u64,
    renewals: u64,
}

struct History {
    random: fastrand::Rng,
    store: Store,
    model: GroupDatabase,
    client: tokio_postgres::Client,
    known: BTreeMap<&'static str, Knowledge>,
    attempts: u64,
    /// Number of replies and rejections of each kind.
    kinds: BTreeMap<String, usize>,
}

const MEMBERS: [(&str, Option<&str>); 4] =
    [("a", Some("s")), ("b", Some("s")), ("c", None), ("d", Some("t"))];

impl History {
    fn demand(&mut self) -> Demand {
        let used = self.random.i64(0..=300);
        let wanted = if self.random.u8(..4) == 0 { 0 } else { used + self.random.i64(-50..=300) };
        let (max, is_denied) = (self.random.i64(1..=4) * 200, self.random.bool());
        Demand { used, wanted, max, is_denied }
    }

    fn exchange(&mut self) -> Exchange {
        let (name, standby) = MEMBERS[self.random.usize(..MEMBERS.len())];
        let known = self.known.entry(name).or_default().clone();
        let limits = [
            Limit::Total,
            Limit::PerHour,
            Limit::EntryQuantity("AK-47 | Redline".to_owned()),
            Limit::GroupTotal("knives 'x'".to_owned()),
        ];
        let mut demands = BTreeMap::new();
        for limit in limits {
            if self.random.u8(..4) > 0 {
                demands.insert(limit, self.demand());
            }
        }
        let (epoch, renewals) = match self.random.u8(..6) {
            0 => (known.epoch + 1, known.renewals),
            1 => (known.epoch, known.renewals + 1),
            _ => (known.epoch, known.renewals),
        };
        let role = match (standby, self.random.u8(..6)) {
            (None, _) => RoleRequest::None,
            (_, 0) => RoleRequest::Watch,
            (_, 1) => RoleRequest::Resign { epoch },
            (_, 2 | 3) => RoleRequest::Renew { epoch },
            _ => RoleRequest::TakeOver { epoch, renewals },
        };
        let version = match self.random.u8(..24) {
            0 => known.version.saturating_sub(1),
            _ => known.version,
        };
        self.attempts += 1;
        Exchange {
            member: MemberName(name.to_owned()),
            // "d" has the ledger of "c", whose slices end if it was released.
            ledger: format!(
                "{} {}",
                if name == "d" { "c" } else { name },
                usize::from(self.random.u8(..60) == 0)
            ),
            market: "waxpeer".to_owned(),
            account: if name == "c" { "c's" } else { "one" }.to_owned(),
            standby: standby.map(str::to_owned),
            attempt: self.attempts,
            version,
            seen: known.seen + u64::from(self.random.u8(..200) == 0) * 5,
            can_order: self.random.bool(),
            whitelist: self.attempts % 4,
            approved: self.attempts
                - if self.random.u8(..20) == 0 { self.attempts.min(30) } else { 0 },
            demands,
            orders: self.orders(),
            role,
        }
    }

    fn orders(&mut self) -> Vec<ReportedOrder> {
        let states =
            [OrderState::Sent, OrderState::Bought, OrderState::Rejected, OrderState::Unknown];
        let count = self.random.usize(..4);
        let order = |_| {
            let number = self.random.u64(1..20);
            ReportedOrder {
                sequence: u32::try_from(number).unwrap(),
                key: TradeKey {
                    id: TradeId::from_number(number),
                    price: self.random.bool().then_some(Amount::from_cents(100)),
                },
                state: states[self.random.usize(..states.len())],
                price: Amount::from_thousandths(self.random.i64(1..5_000)),
            }
        };
        (0..count).map(order).collect()
    }

    async fn step(&mut self) {
        let exchange = self.exchange();
        let reply = self.store.exchange(&exchange).await.unwrap();
        // The clock that the transaction has read.
        let sql = "SELECT seen_ms FROM sniper_members WHERE name = $1";
        let row = self.client.query_opt(sql, &[&exchange.member.0]).await.unwrap();
        let now_ms = row.map_or(0, |row| row.get(0));
        let expected = self.model.apply(now_ms, &exchange);
        assert_eq!(reply, expected, "{exchange:?}");
        let kind = match &reply {
            Reply::Done(_) => "done".to_owned(),
            Reply::Stale(_) => "stale".to_owned(),
            Reply::Rejected(rejection) => format!("{rejection:?}"),
        };
        *self.kinds.entry(kind).or_default() += 1;
        if let Reply::Done(confirmed) | Reply::Stale(confirmed) = reply {
            self.learn(&exchange, &confirmed);
        }
    }

    fn learn(&mut self, exchange: &Exchange, confirmed: &Confirmed) {
        let known = self.known.values_mut();
        known.for_each(|known| known.seen = known.seen.min(confirmed.sequence));
        let (name, _) = MEMBERS.iter().find(|(name, _)| *name == exchange.member.0).unwrap();
        let role = confirmed.role.as_ref().map_or((0, 0), |role| (role.epoch, role.renewals));
        let known = Knowledge {
            version: confirmed.version,
            seen: confirmed.sequence,
            epoch: role.0,
            renewals: role.1,
        };
        self.known.insert(name, known);
    }

    /// Action of the user.
    async fn command(&mut self) {
        let (name, _) = MEMBERS[self.random.usize(..MEMBERS.len())];
        match self.random.u8(..10) {
            0 => {
                let total = self.random.i64(200..2_000);
                self.store.set_total(total).await.unwrap();
                self.model.set_total(total);
            }
            1 if self.random.u8(..4) == 0 => self.release(name).await,
            2 | 3 => {
                let total = self.random.i64(200..2_000);
                let done = self.store.end_restored(total).await;
                match self.model.end_restored(total) {
                    Ok(()) => done.unwrap(),
                    Err(denial) => {
                        let shown = done.unwrap_err().to_string();
                        let Denial::NotReported(missing) = denial else { panic!("{denial:?}") };
                        let missing: Vec<&str> =
                            missing.iter().map(|name| name.0.as_str()).collect();
                        assert!(shown.contains(&missing.join(", ")), "{shown}: {missing:?}");
                    }
                }
            }
            _ => {}
        }
    }

    async fn release(&mut self, name: &str) {
        let spent = BTreeMap::from([(Limit::Total, self.random.i64(0..200)), (Limit::PerDay, 7)]);
        let is_stopped = self.random.bool();
        let done = self.store.release(name, &spent, is_stopped).await;
        let (now, member) = (clock::wall(), MemberName(name.to_owned()));
        let expected = self.model.release(now.0, &member, &spent, is_stopped);
        match (done, expected) {
            (Ok(()), Ok(()))
            | (Err(SetError::NoMember(_)), Err(Denial::NoMember))
            | (Err(SetError::NotSilent(_)), Err(Denial::NotSilent))
            | (Err(SetError::LessThanReported { .. }), Err(Denial::LessThanReported)) => {}
            other => panic!("{other:?}"),
        }
    }

    async fn compare(&mut self) {
        let status = self.store.status().await.unwrap();
        let group = (status.total, u64::try_from(status.sequence).unwrap(), status.is_restored);
        let model = &self.model;
        assert_eq!(group, (model.total(), model.sequence(), model.is_restored()));
        let found = status.members.iter().map(|member| {
            let limits = member.limits.iter();
            let limits = limits.map(|(limit, row)| (limit.clone(), (row.slice, row.used)));
            let flags = (member.is_released, member.has_stopped, member.can_order);
            (member.name.clone(), (member.version, flags, limits.collect::<BTreeMap<_, _>>()))
        });
        let expected = model.members().iter().map(|(name, row)| {
            let limits = row.limits.iter();
            let limits = limits.map(|(limit, row)| (limit.clone(), (row.slice, row.used)));
            let version = i64::try_from(row.version).unwrap();
            let flags = (row.is_released, row.has_stopped, row.can_order);
            (name.clone(), (version, flags, limits.collect()))
        });
        let (found, expected): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (found.collect(), expected.collect());
        assert_eq!(found, expected);
        let rows =
            self.client.query("SELECT name, seen_ms FROM sniper_members", &[]).await.unwrap();
        let found: BTreeMap<_, _> =
            rows.iter().map(|row| (MemberName(row.get(0)), row.get(1))).collect();
        let expected = model.members().iter().map(|(name, row)| (name.clone(), row.seen_ms));
        assert_eq!(found, expected.collect());
        self.compare_limits().await;
        for account in ["one", "c's", "none"] {
            let mut found = self.store.orders(account, i64::MAX).await.unwrap();
            let expected = model.orders(account).map(|(name, order)| (name.clone(), order.clone()));
            let expected: Vec<_> = expected.collect();
            found.sort_by_key(|(name, order)| (name.clone(), order.sequence));
            assert_eq!(found, expected, "{account}");
        }
    }
}

impl History {
    /// Compares what the other members read of the limits of those that are not released.
    async fn compare_limits(&self) {
        let sql = "SELECT member, limit_name, has_rest, is_short FROM sniper_slices s \
                   JOIN sniper_members m ON m.name = s.member WHERE NOT is_released";
        let rows = self.client.query(sql, &[]).await.unwrap();
        let row = |row: &tokio_postgres::Row| {
            let limit = Limit::from_text(row.get(1)).unwrap();
            ((MemberName(row.get(0)), limit), (row.get::<_, bool>(2), row.get::<_, bool>(3)))
        };
        let found: BTreeMap<_, _> = rows.iter().map(row).collect();
        let members = self.model.members().iter().filter(|(_, member)| !member.is_released);
        let expected = members.flat_map(|(name, member)| {
            let limits = member.limits.iter();
            limits.map(|(limit, it)| ((name.clone(), limit.clone()), (it.has_rest, it.is_short)))
        });
        assert_eq!(found, expected.collect());
    }
}

async fn check(seed: u64, url: &crate::database::TestDatabase) -> BTreeMap<String, usize> {
    let client = url.client().await;
    let mut store = url.store();
    store.initialize(TOTAL, TERM_MS).await.unwrap();
    let mut history = History {
        random: fastrand::Rng::with_seed(seed),
        store,
        model: GroupDatabase::new(TOTAL, TERM_MS),
        client,
        known: BTreeMap::new(),
        attempts: 0,
        kinds: BTreeMap::new(),
    };
    for _ in 0..STEPS {
        history.command().await;
        history.step().await;
    }
    history.compare().await;
    history.kinds
}

#[tokio::test]
async fn the_sql_gives_the_replies_and_rows_of_the_pure_transaction() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let histories = std::env::var("SNIPER_TEST_HISTORIES").ok();
    let histories = histories.map_or(HISTORIES, |count| count.parse().unwrap());
    for seed in 0..histories {
        let test = "the_sql_gives_the_replies_and_rows_of_the_pure_transaction";
        let Some(database) = database(test).await else { return };
        for (kind, count) in check(seed, &database).await {
            *kinds.entry(kind).or_default() += count;
        }
    }
    println!("{kinds:?}");
    for kind in ["done", "stale", "OtherLedger", "OlderLedger", "Released", "Restored"] {
        assert!(kinds.get(kind).is_some_and(|count| *count > 3), "{kind}: {kinds:?}");
    }
}
