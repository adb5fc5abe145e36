//! The database of a shared budget in PostgreSQL. [`Store::exchange`] is one serializable
//! transaction, usually in two round trips, which is repeated after a conflict with that of another
//! member.
//!
//! Standard SQL with `INSERT … ON CONFLICT` only, so that databases that speak PostgreSQL's
//! protocol can be used. If the database has advisory locks, the members of a group take one in
//! turn, so that their transactions do not conflict. Only the speed depends on it.
//!
//! # Invariants
//!
//! 1. An exchange whose result is not known is an error. Repeating it is safe, because of its
//!    version.
//! 2. A connection whose transaction did not end is dropped.

mod admin;
mod connect;
mod plan;
mod rows;
pub mod schema;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use tokio_postgres::error::SqlState;

pub use self::admin::{GroupStatus, Initialized, MemberStatus, OrderStatus, RoleStatus, SetError};
use self::{
    connect::DatabaseConnection,
    rows::{StoredRowError, Transaction},
};
use super::database::LimitRow;
use super::exchange::{Exchange, Limit, MemberName, MemberRejection, Reply, ReportedOrder};
use super::exchanger::{ExchangeError, Exchanger};
use crate::{
    config::shared::{DatabaseUrl, GroupUnit, SharedConfig},
    net::{deadline::timeout, dial::DialError, tls::TlsError},
    text::error_chain,
};

/// Maximum time of an exchange, with a new connection and all repetitions.
pub const EXCHANGE_MAX: Duration = Duration::from_secs(3);

/// Maximum time to connect to one server.
pub const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Maximum time of a command of the user.
pub const COMMAND_MAX: Duration = Duration::from_secs(15);

/// Maximum age of the failed orders that a takeover reads. Listings older than this are not ordered
/// anyway.
const TAKEOVER_ORDERS_MS: i64 = 24 * 60 * 60 * 1_000;

/// Number of exchanges after which old orders are deleted.
const DELETE_INTERVAL: u32 = 100;

/// Maximum time for which a reply waits for the deletion of old orders.
const DELETE_WAIT_MAX: Duration = Duration::from_millis(100);

/// Maximum number of attempts of a transaction that conflicts with others.
const ATTEMPTS_MAX: u32 = 40;

/// Unit of the random wait between two attempts.
const RETRY_MICROS: u64 = 1_000;

/// Number of attempts up to which the wait grows.
const RETRY_GROWTH_MAX: u32 = 32;

/// Failure of an access to the database. A transaction that failed may have been carried out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("TLS could not be set up")]
    Tls(#[from] TlsError),
    /// The file of `sslrootcert` cannot be used.
    #[error("the certificate of sslrootcert could not be read: {0}")]
    Root(String),
    #[error("the database could not be reached")]
    Dial(#[from] DialError),
    #[error("the database did not answer within {}", crate::domain::time::format_duration(*.0))]
    Timeout(Duration),
    #[error("the database failed")]
    Database(#[from] tokio_postgres::Error),
    #[error("the server is read-only, such as a replica")]
    ReadOnly,
    /// This is an error and not repeated, because the next connection may be to a server that lacks
    /// the last commits, after which a standby must restart its observation.
    #[error("the connection to the database was lost")]
    ConnectionLost,
    /// Every attempt conflicted with another member.
    #[error("the database was busy with other members")]
    Contention,
    #[error(
        "the tables in the database are of version {version}, and this program knows {}; update sniper",
        schema::VERSION
    )]
    NewerSchema { version: i64 },
    #[error(
        "the tables in the database are of version {version}, and this program needs {}; run \
         `sniper shared init`",
        schema::VERSION
    )]
    OlderSchema { version: i64 },
    #[error("the database has no tables of sniper; run `sniper shared init`")]
    NoSchema,
    #[error("the group does not exist; run `sniper shared init`")]
    NoGroup,
    #[error("the group's unit is {theirs}, and `unit` in [shared] is {ours}")]
    Unit { ours: String, theirs: String },
    #[error("the database has a row that cannot be read: {0}")]
    Row(#[from] StoredRowError),
}

impl StoreError {
    /// Returns `true` if the transaction conflicted with another one and had no effect.
    fn is_retryable(&self) -> bool {
        let codes = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
        ];
        self.code().is_some_and(|code| codes.contains(code))
    }

    /// Returns `true` if the server can no longer write.
    fn is_read_only(&self) -> bool {
        self.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Database(error) => {
                let codes = [
                    SqlState::ADMIN_SHUTDOWN,
                    SqlState::CRASH_SHUTDOWN,
                    SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                ];
                error.is_closed()
                    || error.code().map_or_else(
                        || {
                            std::error::Error::source(error)
                                .is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
                        },
                        |code| codes.contains(code),
                    )
            }
            _ => false,
        }
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) => error.code(),
            _ => None,
        }
    }
}

/// The database of one group. It connects when it is used first, and again after an error.
pub struct Store {
    url: DatabaseUrl,
    group: String,
    unit: GroupUnit,
    market: Option<String>,
    /// `true` if a lost connection must be reported before another one is used (rule M7 of
    /// `docs/shared.md`).
    has_standby: bool,
    tls: Option<Arc<ClientConfig>>,
    /// Index into `url.hosts`, modulo its length.
    host: usize,
    open: Option<Transaction>,
    /// Slices after the last exchange, to guess which limits the next one raises. Empty before the
    /// first one.
    slices: BTreeMap<Limit, LimitRow>,
    /// Number of exchanges that were carried out, modulo 2^32.
    exchanges: u32,
}

impl Store {
    /// Creates the store without a connection. `market` is part of the unit of a group in coins.
    ///
    /// # Errors
    ///
    /// Fails if the certificate of the address cannot be read.
    pub fn new(config: &SharedConfig, market: &str) -> Result<Self, StoreError> {
        let coins = config.unit == GroupUnit::Coins;
        Ok(Self {
            url: config.url.clone(),
            group: config.group.clone(),
            unit: config.unit,
            market: coins.then(|| market.to_owned()),
            has_standby: config.standby.is_some(),
            tls: connect::tls_config(&config.url)?,
            host: 0,
            open: None,
            slices: BTreeMap::new(),
            exchanges: 0,
        })
    }

    /// Carries out an exchange.
    ///
    /// # Errors
    ///
    /// After an error it is not known whether it was carried out, and the next exchange connects
    /// again.
    ///
    /// # Cancel safety
    ///
    /// Safe, with the same effect as an error.
    pub async fn exchange(&mut self, exchange: &Exchange) -> Result<Reply, StoreError> {
        let done = timeout(EXCHANGE_MAX, self.repeat_exchange(exchange)).await;
        match done.unwrap_or(Err(StoreError::Timeout(EXCHANGE_MAX))) {
            Err(StoreError::NoSchema | StoreError::NoGroup) => {
                Ok(Reply::Rejected(MemberRejection::NoGroup))
            }
            Err(StoreError::OlderSchema { .. }) => {
                Ok(Reply::Rejected(MemberRejection::OlderTables))
            }
            done => done,
        }
    }

    async fn repeat_exchange(&mut self, exchange: &Exchange) -> Result<Reply, StoreError> {
        let mut is_reused = self.open.is_some() && !self.has_standby;
        for attempt in 0..ATTEMPTS_MAX {
            let transaction = self.open().await?;
            let unit = self.unit_name();
            match transaction.exchange(&self.group, &unit, exchange, &self.slices).await {
                Ok((reply, slices)) => {
                    self.slices = slices;
                    self.exchanges = self.exchanges.wrapping_add(1);
                    if self.exchanges.is_multiple_of(DELETE_INTERVAL) {
                        let deletion = transaction.delete_orders(&self.group, exchange);
                        // The database goes on with it before the next exchange.
                        let _done = timeout(DELETE_WAIT_MAX, deletion).await;
                    }
                    self.open = Some(transaction);
                    return Ok(reply);
                }
                Err(error) if error.is_retryable() => {
                    transaction.roll_back().await?;
                    self.open = Some(transaction);
                    wait_before(attempt).await;
                }
                // The server has closed the idle connection. COMMIT was not sent, so the exchange
                // is repeated once on a new connection.
                Err(error) if is_reused && error.is_closed() => is_reused = false,
                Err(error) => {
                    if error.is_read_only() {
                        self.host = self.host.saturating_add(1);
                    }
                    return Err(error);
                }
            }
        }
        Err(StoreError::Contention)
    }

    /// Returns the newest orders of all members with this account, as far as they were reported:
    /// those that count against the limits, and the others whose report is at most this old.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only reads.
    pub async fn orders(
        &mut self,
        account: &str,
        failed_within_ms: i64,
    ) -> Result<Vec<(MemberName, ReportedOrder)>, StoreError> {
        let read = async {
            let transaction = self.open().await?;
            let orders = transaction.orders(&self.group, account, failed_within_ms).await?;
            self.open = Some(transaction);
            Ok(orders)
        };
        let done = timeout(COMMAND_MAX, read).await;
        done.unwrap_or(Err(StoreError::Timeout(COMMAND_MAX)))
    }

    /// Returns the name of the unit in the database.
    fn unit_name(&self) -> String {
        match &self.market {
            Some(market) => format!("{} of {market}", self.unit.name()),
            None => self.unit.name().to_owned(),
        }
    }

    /// Returns the open connection, or connects to the first server that can write.
    async fn open(&mut self) -> Result<Transaction, StoreError> {
        match self.open.take() {
            Some(open) if !open.is_closed() => return Ok(open),
            Some(_) if self.has_standby => return Err(StoreError::ConnectionLost),
            _ => {}
        }
        let connection = self.connect().await?;
        schema::check(schema::version(&connection.client).await?)?;
        Transaction::prepare(connection).await
    }

    async fn connect(&mut self) -> Result<DatabaseConnection, StoreError> {
        let mut last = StoreError::Timeout(CONNECT_MAX);
        for _ in &self.url.hosts {
            let at = self.host.checked_rem(self.url.hosts.len()).unwrap_or(0);
            let Some(host) = self.url.hosts.get(at) else { break };
            // If the caller's deadline ends this attempt, the next call starts with the next
            // server.
            self.host = at.saturating_add(1);
            let connected = connect::connect(&self.url, host, self.tls.as_ref());
            match timeout(CONNECT_MAX, connected).await {
                Ok(Ok(connection)) => {
                    self.host = at;
                    return Ok(connection);
                }
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = StoreError::Timeout(CONNECT_MAX),
            }
        }
        Err(last)
    }
}

impl Exchanger for Store {
    fn exchange<'a>(
        &'a mut self,
        exchange: &'a Exchange,
    ) -> BoxFuture<'a, Result<Reply, ExchangeError>> {
        Box::pin(async {
            Self::exchange(self, exchange).await.map_err(|error| exchange_error(&error))
        })
    }

    fn orders<'a>(
        &'a mut self,
        account: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(MemberName, ReportedOrder)>, ExchangeError>> {
        let orders = Self::orders(self, account, TAKEOVER_ORDERS_MS);
        Box::pin(async { orders.await.map_err(|error| exchange_error(&error)) })
    }
}

fn exchange_error(error: &StoreError) -> ExchangeError {
    ExchangeError(error_chain(error))
}

/// Waits a random time, which grows with the number of attempts.
async fn wait_before(attempt: u32) {
    let most =
        RETRY_MICROS.saturating_mul(u64::from(attempt.min(RETRY_GROWTH_MAX).saturating_add(1)));
    tokio::time::sleep(Duration::from_micros(fastrand::u64(0..=most))).await;
}
