//! Statements of an exchange, and their rows.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Row, Statement, error::SqlState, types::ToSql};

use super::{
    StoreError,
    connect::DatabaseConnection,
    plan::{
        ExchangePlan, Found, GroupRow, MemberRecord, RoleRecord, number, plan, summed, unsigned,
    },
    schema,
};
use crate::{
    domain::{
        money::Amount,
        trade::{TradeId, TradeKey},
    },
    ledger::OrderState,
    shared::database::{LIVE_MS, LimitRow, outdated_ms},
    shared::exchange::{
        Exchange, Limit, MemberName, MemberRejection, OtherMembers, REPORTS_MAX, Reply,
        ReportedOrder, Role,
    },
    text::error_chain,
};

/// Maximum number of orders that a takeover reads.
const ORDERS_READ_MAX: usize = 65_536;

/// Age after which settled orders are deleted. Their listings are gone long before.
const ORDERS_KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

const STATES: [OrderState; 10] = [
    OrderState::Reserved,
    OrderState::Sent,
    OrderState::Bought,
    OrderState::Rejected,
    OrderState::Unknown,
    OrderState::NotSent,
    OrderState::Completed,
    OrderState::Returning,
    OrderState::Returned,
    OrderState::NotBought,
];

const BEGIN: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE";

/// Waits for the advisory lock of a group before the transaction begins. A transaction that waited
/// for a row would fail afterwards, because its snapshot is older than the change of the row.
const LOCK: &str = "SELECT pg_advisory_lock($1)";
const UNLOCK: &str = "SELECT pg_advisory_unlock_all()";

/// Locks the group, so that the transactions of its members wait for each other. The clock is read
/// after the request was sent, so a term never begins earlier in the database than at the member.
/// The tables may have been changed since the connection was opened.
const READ_GROUP: &str = "\
SELECT unit, total, term_ms, sequence, is_restored, \
CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT), \
(SELECT MAX(version) FROM sniper_schema) \
FROM sniper_groups WHERE name = $1 FOR UPDATE";

pub(super) const READ_MEMBERS: &str = "\
SELECT m.name, m.ledger, m.market, m.account, m.standby, m.version, m.seen_ms, m.is_released, \
m.has_stopped, COALESCE(s.slice, 0), COALESCE(s.used, 0), m.can_order, m.approved, m.whitelist FROM sniper_members m \
LEFT JOIN sniper_slices s ON s.group_name = m.group_name AND s.member = m.name \
AND s.limit_name = 'total' WHERE m.group_name = $1";

const READ_SLICES: &str = "\
SELECT limit_name, slice, used, has_rest, is_short FROM sniper_slices \
WHERE group_name = $1 AND member = $2";

const READ_SUMS: &str = "\
SELECT s.limit_name, CAST(LEAST(SUM(s.slice), 9223372036854775807) AS BIGINT) FROM sniper_slices s \
JOIN sniper_members m ON m.group_name = s.group_name AND m.name = s.member \
WHERE s.group_name = $1 AND s.limit_name = ANY($2) AND s.member <> $5 \
AND NOT ((m.is_released OR m.has_stopped) AND \
CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - m.seen_ms >= \
CASE s.limit_name WHEN 'per_hour' THEN $3::BIGINT WHEN 'per_day' THEN $4 ELSE 9223372036854775807 END) \
GROUP BY s.limit_name";

const READ_OTHERS: &str = "\
SELECT s.limit_name, COUNT(*), BOOL_OR(s.is_short) FROM sniper_slices s \
JOIN sniper_members m ON m.group_name = s.group_name AND m.name = s.member \
WHERE s.group_name = $1 AND s.limit_name = ANY($2) AND s.member <> $3 AND s.has_rest \
AND NOT m.is_released \
AND CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - m.seen_ms < $4 \
GROUP BY s.limit_name";

const READ_ROLE: &str = "\
SELECT active, epoch, renewals, since_ms, is_resigned, renewed_ms \
FROM sniper_roles WHERE group_name = $1 AND standby = $2";

const WRITE_GROUP: &str =
    "UPDATE sniper_groups SET sequence = $2, is_restored = $3 WHERE name = $1";

const MARK_MEMBERS: &str =
    "UPDATE sniper_members SET has_stopped = FALSE, seen_ms = $2 WHERE group_name = $1";

const WRITE_MEMBER: &str = "\
INSERT INTO sniper_members (group_name, name, ledger, market, account, standby, version, seen_ms, \
is_released, has_stopped, can_order, approved, whitelist) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
ON CONFLICT (group_name, name) DO UPDATE SET ledger = EXCLUDED.ledger, market = EXCLUDED.market, \
account = EXCLUDED.account, standby = EXCLUDED.standby, version = EXCLUDED.version, \
seen_ms = EXCLUDED.seen_ms, is_released = EXCLUDED.is_released, \
has_stopped = EXCLUDED.has_stopped, can_order = EXCLUDED.can_order, \
approved = EXCLUDED.approved, whitelist = EXCLUDED.whitelist";

const WRITE_SLICES: &str = "\
INSERT INTO sniper_slices (group_name, member, limit_name, slice, used, has_rest, is_short) \
SELECT $1, $2, new.limit_name, new.slice, new.used, new.has_rest, new.is_short \
FROM unnest($3::TEXT[], $4::BIGINT[], $5::BIGINT[], $6::BOOLEAN[], $7::BOOLEAN[]) \
AS new (limit_name, slice, used, has_rest, is_short) \
ON CONFLICT (group_name, member, limit_name) \
DO UPDATE SET slice = EXCLUDED.slice, used = EXCLUDED.used, has_rest = EXCLUDED.has_rest, \
is_short = EXCLUDED.is_short";

const CLEAR_SLICES: &str = "\
UPDATE sniper_slices SET slice = 0, used = 0 \
WHERE group_name = $1 AND member = ANY($2) AND limit_name = ANY($3) AND (slice <> 0 OR used <> 0)";

const WRITE_ROLE: &str = "\
INSERT INTO sniper_roles (group_name, standby, active, epoch, renewals, since_ms, is_resigned, \
renewed_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
ON CONFLICT (group_name, standby) DO UPDATE SET active = EXCLUDED.active, \
epoch = EXCLUDED.epoch, renewals = EXCLUDED.renewals, since_ms = EXCLUDED.since_ms, \
is_resigned = EXCLUDED.is_resigned, renewed_ms = EXCLUDED.renewed_ms";

const WRITE_ORDERS: &str = "\
INSERT INTO sniper_orders (group_name, member, number, listing, key_price, state, price, changed_ms) \
SELECT $1, $2, new.number, new.listing, new.key_price, new.state, new.price, $8 \
FROM unnest($3::BIGINT[], $4::TEXT[], $5::BIGINT[], $6::TEXT[], $7::BIGINT[]) \
AS new (number, listing, key_price, state, price) \
ON CONFLICT (group_name, member, number) DO UPDATE SET listing = EXCLUDED.listing, \
key_price = EXCLUDED.key_price, state = EXCLUDED.state, price = EXCLUDED.price, \
changed_ms = EXCLUDED.changed_ms";

pub(super) const READ_ORDERS: &str = "\
SELECT o.member, o.number, o.listing, o.key_price, o.state, o.price FROM sniper_orders o \
JOIN sniper_members m ON m.group_name = o.group_name AND m.name = o.member \
WHERE o.group_name = $1 AND m.account = $2 AND (o.state NOT IN ('refused', 'not_sent', 'returned', 'not_bought') \
OR o.changed_ms > CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - $4) ORDER BY o.changed_ms DESC LIMIT $3";

/// The time is short, because the next exchange waits for the end.
const BEGIN_DELETE: &str = "BEGIN; SET LOCAL lock_timeout = 100; SET LOCAL statement_timeout = 400";

/// The bound is one number, because a planner without statistics joins a list in quadratic time.
const DELETE_ORDERS: &str = "\
DELETE FROM sniper_orders WHERE group_name = $1 AND member = $2 \
AND changed_ms < CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - $3 \
AND state IN ('refused', 'not_sent', 'completed', 'returned', 'not_bought') AND number <= (\
SELECT MAX(number) FROM (SELECT number FROM sniper_orders \
WHERE group_name = $1 AND member = $2 \
AND changed_ms < CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - $3 \
AND state IN ('refused', 'not_sent', 'completed', 'returned', 'not_bought') \
ORDER BY number LIMIT 1000) AS oldest)";

/// Row that this program cannot have written.
#[derive(Debug, thiserror::Error)]
pub enum StoredRowError {
    #[error("unknown limit {0:?}")]
    Limit(String),
    #[error("unknown state of an order {0:?}")]
    State(String),
    #[error("invalid listing {0:?}")]
    Listing(String),
}

/// Connection with the prepared statements of an exchange.
pub(super) struct Transaction {
    connection: DatabaseConnection,
    /// `None` if the database has no advisory locks.
    advisory_lock: Option<AdvisoryLock>,
    read_group: Statement,
    read_members: Statement,
    read_slices: Statement,
    read_sums: Statement,
    read_others: Statement,
    read_role: Statement,
    write_group: Statement,
    write_member: Statement,
    write_slices: Statement,
    clear_slices: Statement,
    write_role: Statement,
    write_orders: Statement,
    delete_orders: Statement,
}

/// Statements that take and release an advisory lock.
type AdvisoryLock = (Statement, Statement);

/// Number of rows that a statement has written.
type Written = Result<u64, tokio_postgres::Error>;

/// Reply, and the slices of the member after the transaction.
type Done = (Reply, BTreeMap<Limit, LimitRow>);

impl Transaction {
    pub(super) async fn prepare(connection: DatabaseConnection) -> Result<Self, StoreError> {
        let client = &connection.client;
        let (read_group, read_members, read_slices, read_sums, read_others, read_role) = tokio::try_join!(
            client.prepare(READ_GROUP),
            client.prepare(READ_MEMBERS),
            client.prepare(READ_SLICES),
            client.prepare(READ_SUMS),
            client.prepare(READ_OTHERS),
            client.prepare(READ_ROLE),
        )?;
        let (write_group, write_member, write_slices, clear_slices, write_role, write_orders) = tokio::try_join!(
            client.prepare(WRITE_GROUP),
            client.prepare(WRITE_MEMBER),
            client.prepare(WRITE_SLICES),
            client.prepare(CLEAR_SLICES),
            client.prepare(WRITE_ROLE),
            client.prepare(WRITE_ORDERS),
        )?;
        Ok(Self {
            delete_orders: client.prepare(DELETE_ORDERS).await?,
            advisory_lock: prepare_advisory_lock(client).await?,
            connection,
            read_group,
            read_members,
            read_slices,
            read_sums,
            read_others,
            read_role,
            write_group,
            write_member,
            write_slices,
            clear_slices,
            write_role,
            write_orders,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.client.is_closed()
    }

    pub(super) const fn client(&self) -> &Client {
        &self.connection.client
    }

    pub(super) async fn roll_back(&self) -> Result<(), StoreError> {
        let client = &self.connection.client;
        tokio::try_join!(biased; client.batch_execute("ROLLBACK"), self.unlock())?;
        Ok(())
    }

    /// Waits for the other members of the group, at most for the lock timeout.
    pub(super) async fn lock(&self, group: &str) -> Result<(), tokio_postgres::Error> {
        let Some((lock, _)) = &self.advisory_lock else { return Ok(()) };
        match self.connection.client.execute(lock, &[&lock_key(group)]).await {
            // The exchange continues without the lock, because a member that hangs must not block
            // the others.
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(()),
            done => done.map(drop),
        }
    }

    pub(super) async fn unlock(&self) -> Result<(), tokio_postgres::Error> {
        let Some((_, unlock)) = &self.advisory_lock else { return Ok(()) };
        self.connection.client.execute(unlock, &[]).await.map(drop)
    }

    /// Carries out an exchange. After an error the transaction may be open.
    pub(super) async fn exchange(
        &self,
        group: &str,
        unit: &str,
        exchange: &Exchange,
        known: &BTreeMap<Limit, LimitRow>,
    ) -> Result<Done, StoreError> {
        let Some((mut found, theirs)) = self.read(group, exchange, known).await? else {
            self.roll_back().await?;
            return Ok((Reply::Rejected(MemberRejection::NoGroup), BTreeMap::new()));
        };
        if theirs != unit {
            return Err(StoreError::Unit { ours: unit.to_owned(), theirs });
        }
        let plan = plan(&mut found, exchange);
        let written = self.write(group, &plan, exchange, found.now_ms).await;
        // COMMIT may have been carried out. A repetition would find a version that the member takes
        // for that of another process.
        written.map_err(
            |error| {
                if error.is_closed() { StoreError::ConnectionLost } else { error }
            },
        )?;
        let mut slices = found.slices;
        slices.extend(plan.slices);
        Ok((plan.reply, slices))
    }

    /// Begins the transaction and reads, in one round trip, or in two if `known` is outdated.
    /// Returns the rows and the group's unit; `None` if the group does not exist.
    async fn read(
        &self,
        group: &str,
        exchange: &Exchange,
        known: &BTreeMap<Limit, LimitRow>,
    ) -> Result<Option<(Found, String)>, StoreError> {
        let client = &self.connection.client;
        let member = &exchange.member.0;
        let standby = exchange.standby.clone().unwrap_or_default();
        let guessed = names(&summed(exchange, known));
        let of_member: [&(dyn ToSql + Sync); 2] = [&group, member];
        let [hour, day] = [Limit::PerHour, Limit::PerDay].map(|limit| outdated_ms(&limit));
        let of_limits: [&(dyn ToSql + Sync); 5] = [&group, &guessed, &hour, &day, member];
        let limits: Vec<String> = exchange.demands.keys().map(Limit::to_string).collect();
        let of_others: [&(dyn ToSql + Sync); 4] = [&group, &limits, member, &LIVE_MS];
        let of_role: [&(dyn ToSql + Sync); 2] = [&group, &standby];
        let of_group: [&(dyn ToSql + Sync); 1] = [&group];
        // `biased` sends the requests in this order, so that the lock is taken first.
        let ((), (), group_row, members, slices, sums, others, role) = tokio::try_join!(
            biased;
            self.lock(group),
            client.batch_execute(BEGIN),
            client.query_opt(&self.read_group, &of_group),
            client.query(&self.read_members, &of_group),
            client.query(&self.read_slices, &of_member),
            client.query(&self.read_sums, &of_limits),
            client.query(&self.read_others, &of_others),
            client.query_opt(&self.read_role, &of_role),
        )?;
        let Some(row) = group_row else { return Ok(None) };
        schema::check(row.try_get::<_, Option<i64>>(6)?.unwrap_or(0))?;
        let slices = slices.iter().map(slice).collect::<Result<BTreeMap<_, _>, StoreError>>()?;
        let mut sums = sums.iter().map(sum).collect::<Result<BTreeMap<_, _>, _>>()?;
        let needed = names(&summed(exchange, &slices));
        if needed.iter().any(|limit| !guessed.contains(limit)) {
            let rows =
                client.query(&self.read_sums, &[&group, &needed, &hour, &day, member]).await?;
            sums = rows.iter().map(sum).collect::<Result<BTreeMap<_, _>, _>>()?;
        }
        let members = members.iter().map(member_record).collect::<Result<Vec<_>, StoreError>>()?;
        let others = others.iter().map(other_members).collect::<Result<BTreeMap<_, _>, _>>()?;
        let role = role.as_ref().map(role_record).transpose()?;
        let (unit, group, now_ms) = group_record(&row)?;
        Ok(Some((Found { now_ms, group, members, slices, sums, others, role }, unit)))
    }

    /// Writes and commits, in one round trip.
    async fn write(
        &self,
        group: &str,
        plan: &ExchangePlan,
        exchange: &Exchange,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let client = &self.connection.client;
        if plan.is_marked {
            // The mark concerns all members, so it is written before the row of this one.
            client.execute(MARK_MEMBERS, &[&group, &now_ms]).await?;
        }
        let group_row = async {
            let Some(row) = &plan.group else { return Ok(0) };
            let row: [&(dyn ToSql + Sync); 3] = [&group, &row.sequence, &row.is_restored];
            client.execute(&self.write_group, &row).await
        };
        tokio::try_join!(
            biased;
            group_row,
            self.write_member(group, plan),
            self.write_slices(group, plan, exchange),
            self.clear_slices(group, plan, exchange),
            self.write_role(group, plan, exchange),
            self.write_orders(group, plan, exchange, now_ms),
            client.batch_execute("COMMIT"),
            self.unlock(),
        )?;
        Ok(())
    }

    async fn write_member(&self, group: &str, plan: &ExchangePlan) -> Written {
        let Some(row) = &plan.member else { return Ok(0) };
        let (approved, whitelist) = (number(row.approved), number(row.whitelist));
        let row: [&(dyn ToSql + Sync); 13] = [
            &group,
            &row.name.0,
            &row.ledger,
            &row.market,
            &row.account,
            &row.standby,
            &row.version,
            &row.seen_ms,
            &row.is_released,
            &row.has_stopped,
            &row.can_order,
            &approved,
            &whitelist,
        ];
        self.connection.client.execute(&self.write_member, &row).await
    }

    async fn write_slices(&self, group: &str, plan: &ExchangePlan, exchange: &Exchange) -> Written {
        if plan.slices.is_empty() {
            return Ok(0);
        }
        let limits: Vec<String> = plan.slices.keys().map(ToString::to_string).collect();
        let slices: Vec<i64> = plan.slices.values().map(|row| row.slice).collect();
        let used: Vec<i64> = plan.slices.values().map(|row| row.used).collect();
        let has_rest: Vec<bool> = plan.slices.values().map(|row| row.has_rest).collect();
        let is_short: Vec<bool> = plan.slices.values().map(|row| row.is_short).collect();
        let member = &exchange.member.0;
        let rows: [&(dyn ToSql + Sync); 7] =
            [&group, member, &limits, &slices, &used, &has_rest, &is_short];
        self.connection.client.execute(&self.write_slices, &rows).await
    }

    async fn clear_slices(&self, group: &str, plan: &ExchangePlan, exchange: &Exchange) -> Written {
        if plan.superseded.is_empty() {
            return Ok(0);
        }
        let limits: Vec<String> = exchange.demands.keys().map(ToString::to_string).collect();
        self.connection
            .client
            .execute(&self.clear_slices, &[&group, &plan.superseded, &limits])
            .await
    }

    async fn write_role(&self, group: &str, plan: &ExchangePlan, exchange: &Exchange) -> Written {
        let Some((RoleRecord { role, renewed_ms }, standby)) =
            plan.role.as_ref().zip(exchange.standby.as_ref())
        else {
            return Ok(0);
        };
        let (epoch, renewals) = (number(role.epoch), number(role.renewals));
        let row: [&(dyn ToSql + Sync); 8] = [
            &group,
            standby,
            &role.active.0,
            &epoch,
            &renewals,
            &role.since_ms,
            &role.is_resigned,
            renewed_ms,
        ];
        self.connection.client.execute(&self.write_role, &row).await
    }

    async fn write_orders(
        &self,
        group: &str,
        plan: &ExchangePlan,
        exchange: &Exchange,
        now_ms: i64,
    ) -> Written {
        if !plan.has_orders {
            return Ok(0);
        }
        // One statement must not write a row twice, so only the last report of an order is kept.
        let orders = exchange.orders.iter().take(REPORTS_MAX);
        let orders: BTreeMap<u32, &ReportedOrder> = orders.map(|it| (it.sequence, it)).collect();
        let orders: Vec<&ReportedOrder> = orders.into_values().collect();
        let numbers: Vec<i64> = orders.iter().map(|order| i64::from(order.sequence)).collect();
        let listings: Vec<&str> = orders.iter().map(|order| order.key.id.as_str()).collect();
        let key_prices: Vec<Option<i64>> =
            orders.iter().map(|order| order.key.price.map(Amount::thousandths)).collect();
        let states: Vec<&str> = orders.iter().map(|order| order.state.as_str()).collect();
        let prices: Vec<i64> = orders.iter().map(|order| order.price.thousandths()).collect();
        let rows: [&(dyn ToSql + Sync); 8] = [
            &group,
            &exchange.member.0,
            &numbers,
            &listings,
            &key_prices,
            &states,
            &prices,
            &now_ms,
        ];
        self.connection.client.execute(&self.write_orders, &rows).await
    }

    /// Deletes some old orders of a member. A failure costs nothing: later calls delete them. The
    /// first poll sends all statements, so a future that is dropped later leaves no transaction
    /// open.
    pub(super) async fn delete_orders(&self, group: &str, exchange: &Exchange) {
        let client = &self.connection.client;
        let row: [&(dyn ToSql + Sync); 3] = [&group, &exchange.member.0, &ORDERS_KEPT_MS];
        // COMMIT ends a transaction that failed, too.
        let done = tokio::try_join!(
            biased;
            client.batch_execute(BEGIN_DELETE),
            client.execute(&self.delete_orders, &row),
            client.batch_execute("COMMIT"),
        );
        if let Err(error) = done {
            tracing::warn!("Old orders stay in the shared database: {}", error_chain(&error));
        }
    }

    pub(super) async fn orders(
        &self,
        group: &str,
        account: &str,
        failed_within_ms: i64,
    ) -> Result<Vec<(MemberName, ReportedOrder)>, StoreError> {
        let most = i64::try_from(ORDERS_READ_MAX).unwrap_or(i64::MAX);
        let of_account: [&(dyn ToSql + Sync); 4] = [&group, &account, &most, &failed_within_ms];
        let rows = self.connection.client.query(READ_ORDERS, &of_account).await?;
        rows.iter().map(order).collect()
    }
}

/// Prepares the advisory lock. Returns `None` if the database has none.
async fn prepare_advisory_lock(client: &Client) -> Result<Option<AdvisoryLock>, StoreError> {
    let prepare = async {
        let (lock, unlock) = (client.prepare(LOCK).await?, client.prepare(UNLOCK).await?);
        client.execute(&unlock, &[]).await?;
        Ok::<AdvisoryLock, tokio_postgres::Error>((lock, unlock))
    };
    match prepare.await {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the key of a group's advisory lock: FNV-1a of its name. Groups with the same key only
/// wait longer.
fn lock_key(group: &str) -> i64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash =
        group.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    i64::from_ne_bytes(hash.to_ne_bytes())
}

fn names(limits: &[Limit]) -> Vec<String> {
    limits.iter().map(Limit::to_string).collect()
}

pub(super) fn limit(row: &Row, at: usize) -> Result<Limit, StoreError> {
    let text: &str = row.try_get(at)?;
    Ok(Limit::from_text(text).ok_or_else(|| StoredRowError::Limit(text.to_owned()))?)
}

fn slice(row: &Row) -> Result<(Limit, LimitRow), StoreError> {
    let (slice, used) = (row.try_get(1)?, row.try_get(2)?);
    let (has_rest, is_short) = (row.try_get(3)?, row.try_get(4)?);
    Ok((limit(row, 0)?, LimitRow { slice, used, has_rest, is_short }))
}

fn other_members(row: &Row) -> Result<(Limit, OtherMembers), StoreError> {
    Ok((limit(row, 0)?, OtherMembers { count: row.try_get(1)?, is_short: row.try_get(2)? }))
}

fn sum(row: &Row) -> Result<(Limit, i64), StoreError> {
    Ok((limit(row, 0)?, row.try_get(1)?))
}

/// Returns the unit, the row and the clock of the database.
pub(super) fn group_record(row: &Row) -> Result<(String, GroupRow, i64), StoreError> {
    let group = GroupRow {
        total: row.try_get(1)?,
        term_ms: row.try_get(2)?,
        sequence: row.try_get(3)?,
        is_restored: row.try_get(4)?,
    };
    Ok((row.try_get(0)?, group, row.try_get(5)?))
}

pub(super) fn member_record(row: &Row) -> Result<MemberRecord, StoreError> {
    Ok(MemberRecord {
        name: MemberName(row.try_get(0)?),
        ledger: row.try_get(1)?,
        market: row.try_get(2)?,
        account: row.try_get(3)?,
        standby: row.try_get(4)?,
        version: row.try_get(5)?,
        seen_ms: row.try_get(6)?,
        is_released: row.try_get(7)?,
        has_stopped: row.try_get(8)?,
        total: LimitRow { slice: row.try_get(9)?, used: row.try_get(10)?, ..LimitRow::default() },
        can_order: row.try_get(11)?,
        approved: unsigned(row.try_get(12)?),
        whitelist: unsigned(row.try_get(13)?),
    })
}

pub(super) fn role_record(row: &Row) -> Result<RoleRecord, StoreError> {
    let role = Role {
        active: MemberName(row.try_get(0)?),
        epoch: unsigned(row.try_get(1)?),
        renewals: unsigned(row.try_get(2)?),
        since_ms: row.try_get(3)?,
        is_resigned: row.try_get(4)?,
    };
    Ok(RoleRecord { role, renewed_ms: row.try_get(5)? })
}

fn order(row: &Row) -> Result<(MemberName, ReportedOrder), StoreError> {
    let sequence: i64 = row.try_get(1)?;
    let (listing, state): (&str, &str) = (row.try_get(2)?, row.try_get(4)?);
    let id = TradeId::new(listing).ok_or_else(|| StoredRowError::Listing(listing.to_owned()))?;
    let key_price: Option<i64> = row.try_get(3)?;
    let record = ReportedOrder {
        sequence: u32::try_from(sequence).unwrap_or(u32::MAX),
        key: TradeKey { id, price: key_price.map(Amount::from_thousandths) },
        state: STATES
            .into_iter()
            .find(|known| known.as_str() == state)
            .ok_or_else(|| StoredRowError::State(state.to_owned()))?,
        price: Amount::from_thousandths(row.try_get(5)?),
    };
    Ok((MemberName(row.try_get(0)?), record))
}
