//! Access to the database of a shared budget, and one in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures_util::future::BoxFuture;

use super::{
    database::GroupDatabase,
    exchange::{Exchange, MemberName, Reply, ReportedOrder},
};
use crate::{clock, threads::lock};

/// Cause of a failed access.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExchangeError(pub String);

/// Carries out exchanges.
///
/// # Cancel safety
///
/// A future that is dropped may have carried out its exchange, or may do so later. The next access works
/// all the same.
pub trait Exchanger: Send {
    /// Carries out one exchange, in one transaction.
    fn exchange<'a>(
        &'a mut self,
        exchange: &'a Exchange,
    ) -> BoxFuture<'a, Result<Reply, ExchangeError>>;

    /// Reads the orders that the members with this account have reported.
    fn orders<'a>(
        &'a mut self,
        account: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(MemberName, ReportedOrder)>, ExchangeError>>;
}

/// Group in memory, for tests and measurements. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryGroup(Arc<Mutex<MemoryState>>);

#[derive(Debug)]
struct MemoryState {
    database: GroupDatabase,
    orders: BTreeMap<(MemberName, u32), (String, ReportedOrder)>,
}

impl MemoryGroup {
    /// Creates a group without members. `total` is in thousandths of its unit.
    pub fn new(total: i64, term_ms: i64) -> Self {
        let (database, orders) = (GroupDatabase::new(total, term_ms), BTreeMap::new());
        Self(Arc::new(Mutex::new(MemoryState { database, orders })))
    }

    fn apply(&self, exchange: &Exchange) -> Reply {
        let mut state = lock(&self.0);
        let reply = state.database.apply(clock::now().0, exchange);
        if matches!(reply, Reply::Done(_)) {
            for order in &exchange.orders {
                let key = (exchange.member.clone(), order.sequence);
                state.orders.insert(key, (exchange.account.clone(), order.clone()));
            }
        }
        reply
    }
}

impl Exchanger for MemoryGroup {
    fn exchange<'a>(
        &'a mut self,
        exchange: &'a Exchange,
    ) -> BoxFuture<'a, Result<Reply, ExchangeError>> {
        Box::pin(async { Ok(self.apply(exchange)) })
    }

    fn orders<'a>(
        &'a mut self,
        account: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(MemberName, ReportedOrder)>, ExchangeError>> {
        let state = lock(&self.0);
        let of_account = state.orders.iter().filter(|(_key, (owner, _))| owner == account);
        let orders = of_account.map(|((member, _), (_, order))| (member.clone(), order.clone()));
        let orders = orders.collect();
        Box::pin(async { Ok(orders) })
    }
}
