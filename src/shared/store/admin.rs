//! Commands of the user: create, show and change a group, and release a member.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::{
    ATTEMPTS_MAX, COMMAND_MAX, Store, StoreError,
    plan::{MemberRecord, RoleRecord},
    rows::{READ_MEMBERS, group_record, limit, member_record, role_record},
    schema, wait_before,
};
use crate::{
    domain::money::Amount,
    net::deadline::timeout,
    shared::{
        database::{LimitRow, SILENT_MS},
        exchange::{Limit, MemberName, Role},
    },
};

/// Maximum number of orders of a member in its status.
const ORDERS_SHOWN_MAX: i64 = 100;

/// Result of `sniper shared init`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialized {
    Created,
    /// The group exists already, and keeps its total.
    Exists,
}

/// State of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    pub unit: String,
    pub total: i64,
    pub term_ms: i64,
    pub sequence: i64,
    pub is_restored: bool,
    /// Sorted by name.
    pub members: Vec<MemberStatus>,
    pub roles: Vec<RoleStatus>,
}

/// State of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    pub name: MemberName,
    pub market: String,
    pub account: String,
    pub standby: Option<String>,
    pub version: i64,
    pub silent_ms: i64,
    pub is_released: bool,
    /// `true` if it gave everything back in its last exchange. A mark of the group ends it.
    pub has_stopped: bool,
    /// It takes part in the split of the listings.
    pub can_order: bool,
    pub limits: BTreeMap<Limit, LimitRow>,
}

/// Role of a standby name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleStatus {
    pub standby: String,
    pub role: Role,
    /// Time since the last renewal.
    pub renewed_ago_ms: i64,
}

/// Reported order of a member. The amount is in the unit of the member's market.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderStatus {
    pub number: i64,
    pub listing: String,
    pub state: String,
    pub price: i64,
}

/// Reason why a command of the user was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the group has no member {0}; `sniper shared status` lists them")]
    NoMember(String),
    #[error("the member was in contact {} ago and may still order; stop it and add --stopped, or wait until it has been silent for {}", minutes(*.0), minutes(SILENT_MS))]
    NotSilent(i64),
    #[error(
        "{} is less than the {} that the member has reported as used of {limit} itself; if money came \
         back since, start the member again", stated(limit, *.spent), stated(limit, *.used)
    )]
    LessThanReported { limit: Limit, spent: i64, used: i64 },
    #[error(
        "these members have not reported since the database was restored: {0}; start them, or release them"
    )]
    NotReported(String),
}

/// Formats a number of a limit as `sniper shared release` reads it.
fn stated(limit: &Limit, number: i64) -> String {
    match limit {
        Limit::Total => Amount::from_thousandths(number).to_string(),
        _ => number.to_string(),
    }
}

fn minutes(ms: i64) -> String {
    let minutes = ms.max(0).checked_div(60_000).unwrap_or(0);
    if minutes == 0 { "less than a minute".to_owned() } else { format!("{minutes} min") }
}

impl Store {
    /// Creates the tables and the group, unless they exist.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written, or has tables of a newer version.
    ///
    /// # Cancel safety
    ///
    /// The change may be made or not.
    pub async fn initialize(
        &mut self,
        total: i64,
        term_ms: i64,
    ) -> Result<Initialized, StoreError> {
        let (group, unit) = (self.group.clone(), self.unit_name());
        let create = async {
            let connection = self.connect().await?;
            schema::migrate(&connection.client).await?;
            let sql = "INSERT INTO sniper_groups (name, unit, total, term_ms, sequence, is_restored) \
                       VALUES ($1, $2, $3, $4, 0, FALSE) ON CONFLICT (name) DO NOTHING";
            let created =
                connection.client.execute(sql, &[&group, &unit, &total, &term_ms]).await?;
            if created == 1 {
                return Ok(Initialized::Created);
            }
            let sql = "SELECT unit FROM sniper_groups WHERE name = $1";
            let theirs: String = connection.client.query_one(sql, &[&group]).await?.try_get(0)?;
            if theirs != unit {
                return Err(StoreError::Unit { ours: unit.clone(), theirs });
            }
            Ok(Initialized::Exists)
        };
        within_command(create).await
    }

    /// Reads the state of the group.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read, or the group does not exist.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn status(&mut self) -> Result<GroupStatus, StoreError> {
        let group = self.group.clone();
        within_command(self.in_transaction(async |client| read_status(client, &group).await)).await
    }

    /// Sets the total of the group.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written, or the group does not exist.
    ///
    /// # Cancel safety
    ///
    /// The change may be made or not.
    pub async fn set_total(&mut self, total: i64) -> Result<(), SetError> {
        let (group, unit) = (self.group.clone(), self.unit_name());
        let set = self.in_transaction(async |client| {
            check_unit(client, &group, &unit).await?;
            let sql =
                "UPDATE sniper_groups SET total = $2, sequence = sequence + 1 WHERE name = $1";
            client.execute(sql, &[&group, &total]).await?;
            Ok(())
        });
        Ok(within_command(set).await?)
    }

    /// Ends the mark of a restored group and sets its total, at once: no member may be given a
    /// slice of the total before.
    ///
    /// # Errors
    ///
    /// Fails if a member that is not released has not stopped and reported since, or the database
    /// cannot be written.
    ///
    /// # Cancel safety
    ///
    /// The change may be made or not.
    pub async fn end_restored(&mut self, total: i64) -> Result<(), SetError> {
        let (group, unit) = (self.group.clone(), self.unit_name());
        let end = self.in_transaction(async |client| {
            check_unit(client, &group, &unit).await?;
            let status = read_status(client, &group).await?;
            let missing = status.members.iter().filter(|it| !it.is_released && !it.has_stopped);
            let missing: Vec<&str> = missing.map(|it| it.name.0.as_str()).collect();
            if status.is_restored && !missing.is_empty() {
                return Ok(Err(SetError::NotReported(missing.join(", "))));
            }
            let sql = "UPDATE sniper_groups SET is_restored = FALSE, total = $2, \
                       sequence = sequence + 1 WHERE name = $1";
            client.execute(sql, &[&group, &total]).await?;
            Ok(Ok(()))
        });
        within_command(end).await?
    }

    /// Releases a member that is gone. Its slices become `spent`; a limit that `spent` does not
    /// mention keeps its slice.
    ///
    /// # Errors
    ///
    /// Fails if the member does not exist, or may still order and `is_stopped` does not declare
    /// that its process does not run, or has reported more than `spent`, or the database cannot be
    /// written.
    ///
    /// # Cancel safety
    ///
    /// The change may be made or not.
    pub async fn release(
        &mut self,
        member: &str,
        spent: &BTreeMap<Limit, i64>,
        is_stopped: bool,
    ) -> Result<(), SetError> {
        let group = self.group.clone();
        let release = self.in_transaction(async |client| {
            let status = read_status(client, &group).await?;
            let found = status.members.iter().find(|it| it.name.0 == member);
            let Some(MemberStatus { silent_ms, limits, .. }) = found else {
                return Ok(Err(SetError::NoMember(member.to_owned())));
            };
            if !is_stopped && *silent_ms < SILENT_MS {
                return Ok(Err(SetError::NotSilent(*silent_ms)));
            }
            let used = |limit| limits.get(limit).map_or(0, |row| row.used);
            if let Some((limit, spent)) = spent.iter().find(|(limit, spent)| **spent < used(limit))
            {
                let (limit, spent, used) = (limit.clone(), *spent, used(limit));
                return Ok(Err(SetError::LessThanReported { limit, spent, used }));
            }
            let sql = "UPDATE sniper_members SET is_released = TRUE, version = version + 1 \
                       WHERE group_name = $1 AND name = $2";
            client.execute(sql, &[&group, &member]).await?;
            for (limit, spent) in spent {
                let sql = "INSERT INTO sniper_slices (group_name, member, limit_name, slice, used) \
                           VALUES ($1, $2, $3, $4, $4) \
                           ON CONFLICT (group_name, member, limit_name) \
                           DO UPDATE SET slice = EXCLUDED.slice, used = EXCLUDED.used";
                let values = (limit.to_string(), (*spent).max(0));
                client.execute(sql, &[&group, &member, &values.0, &values.1]).await?;
            }
            let sql = "UPDATE sniper_groups SET sequence = sequence + 1 WHERE name = $1";
            client.execute(sql, &[&group]).await?;
            Ok(Ok(()))
        });
        within_command(release).await?
    }

    /// Returns the newest reported orders of a member that count as spent.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn member_orders(&mut self, member: &str) -> Result<Vec<OrderStatus>, SetError> {
        let group = self.group.clone();
        let read = self.in_transaction(async |client| {
            let sql = "SELECT number, listing, state, price FROM sniper_orders \
                       WHERE group_name = $1 AND member = $2 \
                       AND state NOT IN ('refused', 'not_sent', 'returned', 'not_bought') \
                       ORDER BY number DESC LIMIT $3";
            let rows = client.query(sql, &[&group, &member, &ORDERS_SHOWN_MAX]).await?;
            let order = |row: &tokio_postgres::Row| {
                Ok(OrderStatus {
                    number: row.try_get(0)?,
                    listing: row.try_get(1)?,
                    state: row.try_get(2)?,
                    price: row.try_get(3)?,
                })
            };
            rows.iter().map(order).collect()
        });
        Ok(within_command(read).await?)
    }

    /// Runs a serializable transaction, and repeats it after a conflict with another one.
    async fn in_transaction<T>(
        &mut self,
        run: impl AsyncFn(&Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction = self.open().await?;
        let client = transaction.client();
        for attempt in 0..ATTEMPTS_MAX {
            transaction.lock(&self.group).await?;
            client.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE").await?;
            let done = match run(client).await {
                Ok(value) => {
                    client.batch_execute("COMMIT").await.map(|()| value).map_err(Into::into)
                }
                Err(error) => {
                    client.batch_execute("ROLLBACK").await?;
                    Err(error)
                }
            };
            transaction.unlock().await?;
            match done {
                Err(error) if error.is_retryable() => wait_before(attempt).await,
                done => return done,
            }
        }
        Err(StoreError::Contention)
    }
}

async fn within_command<T>(
    command: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(COMMAND_MAX, command).await.unwrap_or(Err(StoreError::Timeout(COMMAND_MAX)))
}

async fn check_unit(client: &Client, group: &str, ours: &str) -> Result<(), StoreError> {
    let sql = "SELECT unit FROM sniper_groups WHERE name = $1";
    let row = client.query_opt(sql, &[&group]).await?.ok_or(StoreError::NoGroup)?;
    let theirs: String = row.try_get(0)?;
    if theirs == ours { Ok(()) } else { Err(StoreError::Unit { ours: ours.to_owned(), theirs }) }
}

async fn read_status(client: &Client, group: &str) -> Result<GroupStatus, StoreError> {
    let sql = "SELECT unit, total, term_ms, sequence, is_restored, \
               CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) \
               FROM sniper_groups WHERE name = $1";
    let row = client.query_opt(sql, &[&group]).await?.ok_or(StoreError::NoGroup)?;
    let (unit, row, now_ms) = group_record(&row)?;
    let members = client.query(READ_MEMBERS, &[&group]).await?;
    let members = members.iter().map(member_record).collect::<Result<Vec<_>, StoreError>>()?;
    let sql = "SELECT limit_name, slice, used, member FROM sniper_slices WHERE group_name = $1";
    let mut slices: BTreeMap<String, BTreeMap<Limit, LimitRow>> = BTreeMap::new();
    for row in client.query(sql, &[&group]).await? {
        let (slice, used) = (row.try_get(1)?, row.try_get(2)?);
        let slice = LimitRow { slice, used, ..LimitRow::default() };
        slices.entry(row.try_get(3)?).or_default().insert(limit(&row, 0)?, slice);
    }
    let mut members: Vec<MemberStatus> =
        members.into_iter().map(|member| member_status(member, now_ms, &mut slices)).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(GroupStatus {
        unit,
        total: row.total,
        term_ms: row.term_ms,
        sequence: row.sequence,
        is_restored: row.is_restored,
        members,
        roles: read_roles(client, group, now_ms).await?,
    })
}

fn member_status(
    member: MemberRecord,
    now_ms: i64,
    slices: &mut BTreeMap<String, BTreeMap<Limit, LimitRow>>,
) -> MemberStatus {
    MemberStatus {
        limits: slices.remove(&member.name.0).unwrap_or_default(),
        name: member.name,
        market: member.market,
        account: member.account,
        standby: member.standby,
        version: member.version,
        silent_ms: now_ms.saturating_sub(member.seen_ms).max(0),
        is_released: member.is_released,
        has_stopped: member.has_stopped,
        can_order: member.can_order,
    }
}

async fn read_roles(
    client: &Client,
    group: &str,
    now_ms: i64,
) -> Result<Vec<RoleStatus>, StoreError> {
    let sql = "SELECT active, epoch, renewals, since_ms, is_resigned, renewed_ms, standby \
               FROM sniper_roles WHERE group_name = $1 ORDER BY standby";
    let rows = client.query(sql, &[&group]).await?;
    let role = |row: &tokio_postgres::Row| {
        let RoleRecord { role, renewed_ms } = role_record(row)?;
        let renewed_ago_ms = now_ms.saturating_sub(renewed_ms).max(0);
        Ok(RoleStatus { standby: row.try_get(6)?, role, renewed_ago_ms })
    };
    rows.iter().map(role).collect()
}

impl GroupStatus {
    /// Returns the part of the total that is in no slice. It is negative after the total was
    /// lowered, or if a member used more than its slice.
    pub fn free(&self) -> i64 {
        self.total.saturating_sub(self.sum(|limit| limit.slice))
    }

    /// Returns the usage of the total, as reported by the members.
    pub fn used(&self) -> i64 {
        self.sum(|limit| limit.used)
    }

    fn sum(&self, value: impl Fn(&LimitRow) -> i64) -> i64 {
        let totals = self.members.iter().filter_map(|member| member.limits.get(&Limit::Total));
        totals.fold(0, |sum, limit| sum.saturating_add(value(limit)))
    }
}
