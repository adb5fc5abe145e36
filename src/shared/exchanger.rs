//! Access to the database of a shared budget, and one in memory.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;

use super::{
    database::GroupDatabase,
    exchange::{Exchange, MemberName, Reply, ReportedOrder},
};
use crate::{clock, threads::lock};

/// Message of a failed access to the database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExchangeError(pub String);

/// Carries out exchanges.
///
/// # Cancel safety
///
/// A future that is dropped may have carried out its exchange, or may do so later. The next access
/// works nevertheless.
pub trait Exchanger: Send {
    /// Carries out one exchange, in one transaction.
    fn exchange<'a>(
        &'a mut self,
        exchange: &'a Exchange,
    ) -> BoxFuture<'a, Result<Reply, ExchangeError>>;

    /// Reads the orders that the members with this account have reported and that a member must
    /// know when it becomes active.
    fn orders<'a>(
        &'a mut self,
        account: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(MemberName, ReportedOrder)>, ExchangeError>>;
}

/// Group in memory, for tests and measurements. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryGroup(Arc<Mutex<GroupDatabase>>);

impl MemoryGroup {
    /// Creates a group without members. `total` is in thousandths of its unit.
    pub fn new(total: i64, term_ms: i64) -> Self {
        Self(Arc::new(Mutex::new(GroupDatabase::new(total, term_ms))))
    }
}

impl Exchanger for MemoryGroup {
    fn exchange<'a>(
        &'a mut self,
        exchange: &'a Exchange,
    ) -> BoxFuture<'a, Result<Reply, ExchangeError>> {
        Box::pin(async { Ok(lock(&self.0).apply(clock::now().0, exchange)) })
    }

    fn orders<'a>(
        &'a mut self,
        account: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(MemberName, ReportedOrder)>, ExchangeError>> {
        let group = lock(&self.0);
        let orders = group.orders(account).map(|(name, order)| (name.clone(), order.clone()));
        let orders = orders.collect();
        Box::pin(async { Ok(orders) })
    }
}
