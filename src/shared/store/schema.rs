//! Tables of the shared budget, as migrations, in standard SQL.

use tokio_postgres::{Client, error::SqlState};

use super::StoreError;

/// Each is applied once, in order, and never changed. The table `sniper_schema` has the numbers of
/// those that were applied.
pub const MIGRATIONS: [&str; 5] = [
    // 1: initial schema. Amounts are thousandths of the group's unit; times are milliseconds of the
    // database's clock.
    "
CREATE TABLE sniper_groups (
    name TEXT NOT NULL PRIMARY KEY,
    unit TEXT NOT NULL,
    total BIGINT NOT NULL,
    term_ms BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    is_restored BOOLEAN NOT NULL
);
CREATE TABLE sniper_members (
    group_name TEXT NOT NULL,
    name TEXT NOT NULL,
    ledger TEXT NOT NULL,
    market TEXT NOT NULL,
    account TEXT NOT NULL,
    standby TEXT,
    version BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL,
    is_released BOOLEAN NOT NULL,
    has_stopped BOOLEAN NOT NULL,
    PRIMARY KEY (group_name, name)
);
CREATE TABLE sniper_slices (
    group_name TEXT NOT NULL,
    member TEXT NOT NULL,
    limit_name TEXT NOT NULL,
    slice BIGINT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (group_name, member, limit_name)
);
CREATE INDEX sniper_slices_of_limit ON sniper_slices (group_name, limit_name);
CREATE TABLE sniper_roles (
    group_name TEXT NOT NULL,
    standby TEXT NOT NULL,
    active TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    renewals BIGINT NOT NULL,
    since_ms BIGINT NOT NULL,
    renewed_ms BIGINT NOT NULL,
    is_resigned BOOLEAN NOT NULL,
    PRIMARY KEY (group_name, standby)
);
CREATE TABLE sniper_orders (
    group_name TEXT NOT NULL,
    member TEXT NOT NULL,
    number BIGINT NOT NULL,
    listing TEXT NOT NULL,
    key_price BIGINT,
    state TEXT NOT NULL,
    price BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    PRIMARY KEY (group_name, member, number)
);
",
    // 2: whether a member takes part in the split of the listings.
    "ALTER TABLE sniper_members ADD COLUMN can_order BOOLEAN NOT NULL DEFAULT TRUE;",
    // 3: number of approved orders of a member, by which an older copy of its ledger is recognized.
    "ALTER TABLE sniper_members ADD COLUMN approved BIGINT NOT NULL DEFAULT 0;",
    // 4: hash of a member's whitelist. Only members with equal ones split the listings.
    "ALTER TABLE sniper_members ADD COLUMN whitelist BIGINT NOT NULL DEFAULT 0;",
    // 5: whether a limit has a rest for a member, and whether the member lacks a part of it.
    "ALTER TABLE sniper_slices ADD COLUMN has_rest BOOLEAN NOT NULL DEFAULT FALSE;
     ALTER TABLE sniper_slices ADD COLUMN is_short BOOLEAN NOT NULL DEFAULT FALSE;",
];

/// Schema that this program uses.
pub const VERSION: i64 = 5;

/// Maximum number of attempts while other programs apply the same migrations.
const ATTEMPTS_MAX: u32 = 5;

/// Checks that the tables are of this program's version.
pub(super) const fn check(version: i64) -> Result<(), StoreError> {
    match version {
        VERSION => Ok(()),
        0 => Err(StoreError::NoSchema),
        _ if version < VERSION => Err(StoreError::OlderSchema { version }),
        _ => Err(StoreError::NewerSchema { version }),
    }
}

/// Returns the version of the schema; 0 if there are no tables.
pub(super) async fn version(client: &Client) -> Result<i64, StoreError> {
    match client.query_one("SELECT MAX(version) FROM sniper_schema", &[]).await {
        Ok(row) => Ok(row.try_get::<_, Option<i64>>(0)?.unwrap_or(0)),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Applies the migrations that are missing.
pub(super) async fn migrate(client: &Client) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS_MAX {
        match migrate_once(client).await {
            Err(StoreError::Database(error)) if is_concurrent(&error) => {
                client.batch_execute("ROLLBACK").await?;
            }
            done => return done,
        }
    }
    Err(StoreError::Contention)
}

async fn migrate_once(client: &Client) -> Result<(), StoreError> {
    let create = "CREATE TABLE IF NOT EXISTS sniper_schema (version BIGINT NOT NULL PRIMARY KEY)";
    client.batch_execute(create).await?;
    let applied = version(client).await?;
    if applied > VERSION {
        return check(applied);
    }
    for (migration, number) in MIGRATIONS.iter().zip(1_i64..).filter(|(_, it)| *it > applied) {
        let insert = format!("INSERT INTO sniper_schema (version) VALUES ({number})");
        let transaction = format!("BEGIN; {migration} {insert}; COMMIT;");
        client.batch_execute(&transaction).await?;
    }
    Ok(())
}

/// Returns `true` if another program has applied the same migration at the same time.
fn is_concurrent(error: &tokio_postgres::Error) -> bool {
    let codes = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_COLUMN,
        SqlState::DUPLICATE_OBJECT,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}
