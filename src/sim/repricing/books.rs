//! Sales of a market to the account, each with its price and the buyer's own order id. Pure.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use super::purchase::PurchaseStage;
use crate::domain::money::Amount;

/// Maximum number of stored own ids without a sale.
const UNSOLD_MAX: usize = 100_000;

/// A sale to the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    /// Number that the market gave to the purchase.
    pub number: u64,
    /// Own order id of the buyer.
    pub own_id: Arc<str>,
    /// Partner number of the trade URL to which the item is sent.
    pub partner: Arc<str>,
    /// Id of the listing.
    pub listing: u64,
    pub market_name: String,
    /// The price limit of the order.
    pub limit: Amount,
    /// The price paid, which a fault can raise above the limit.
    pub price: Amount,
    /// Time since the market opened.
    pub at: Duration,
    pub stage: PurchaseStage,
    /// Time at which the money was credited again.
    pub refunded_at: Option<Duration>,
}

/// Orders and sales under one own id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnIdUse {
    pub orders: u32,
    pub sales: u32,
}

/// All sales and own ids of a market.
#[derive(Clone, Debug, Default)]
pub struct SalesBooks {
    sales: BTreeMap<u64, Sale>,
    own_ids: BTreeMap<Arc<str>, OwnIdUse>,
}

impl SalesBooks {
    pub(super) fn record_order(&mut self, own_id: &Arc<str>) {
        if self.own_ids.len() < UNSOLD_MAX.saturating_add(self.sales.len()) {
            let used = self.own_ids.entry(Arc::clone(own_id)).or_default();
            used.orders = used.orders.saturating_add(1);
        }
    }

    pub(super) fn record_sale(&mut self, sale: Sale) {
        let used = self.own_ids.entry(Arc::clone(&sale.own_id)).or_default();
        used.sales = used.sales.saturating_add(1);
        self.sales.insert(sale.number, sale);
    }

    pub(super) fn update(&mut self, number: u64, change: impl FnOnce(&mut Sale)) {
        if let Some(sale) = self.sales.get_mut(&number) {
            change(sale);
        }
    }

    /// Returns all sales, oldest first.
    pub fn sales(&self) -> impl DoubleEndedIterator<Item = &Sale> {
        self.sales.values()
    }

    /// Returns the own ids with their orders and sales.
    pub fn own_ids(&self) -> impl Iterator<Item = (&str, OwnIdUse)> {
        self.own_ids.iter().map(|(own_id, used)| (&**own_id, *used))
    }

    /// Returns the own ids under which more than one sale was booked. A correct market has none.
    pub fn booked_twice(&self) -> impl Iterator<Item = &str> {
        self.own_ids().filter(|(_, used)| used.sales > 1).map(|(own_id, _)| own_id)
    }

    /// Returns the own ids with more than one order. A correct bot has none.
    pub fn ordered_twice(&self) -> impl Iterator<Item = &str> {
        self.own_ids().filter(|(_, used)| used.orders > 1).map(|(own_id, _)| own_id)
    }
}

/// One line per sale, then the own ids that were used more than once.
impl fmt::Display for SalesBooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for sale in self.sales() {
            let Sale { number, own_id, partner, listing, market_name, limit, price, stage, .. } =
                sale;
            write!(
                f,
                "sold {number}: {market_name} ({listing}) to {partner} for {price} of at most {limit}, own id {own_id}, {stage}"
            )?;
            writeln!(f, "{}", if sale.refunded_at.is_some() { ", refunded" } else { "" })?;
        }
        let (ordered, booked) = (self.ordered_twice().count(), self.booked_twice().count());
        writeln!(
            f,
            "{} sales; {ordered} own ids ordered more than once, {booked} booked more than once",
            self.sales.len()
        )
    }
}
