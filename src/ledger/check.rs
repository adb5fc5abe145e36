//! Consistency check: recomputes every sum from the intents. Pure.

use std::collections::HashMap;

use super::{
    entries::EntryUsage,
    event::{EntrySlot, OrderState, Sequence},
    intent::InvalidTransition,
    state::LedgerState,
};
use crate::domain::money::Amount;

impl LedgerState {
    /// Compares every running sum with the intents.
    ///
    /// # Errors
    ///
    /// The first [`InvalidTransition`] found.
    pub fn check(&self) -> Result<(), InvalidTransition> {
        let counting = || self.intents.iter().filter(|intent| intent.state.counts());
        let sum = |sum: Amount, price: Amount| sum.saturating_add(price);

        let in_budget = counting().filter(|intent| self.budget_from <= intent.sequence);
        let spent = in_budget.map(|intent| intent.price).fold(Amount::ZERO, sum);
        agree(spent == self.spent, "total")?;

        let mut used: HashMap<EntrySlot, EntryUsage> = HashMap::new();
        for intent in counting() {
            used.entry(intent.entry).or_default().add(intent.price);
        }
        let any = used.get(&EntrySlot::ANY).copied().unwrap_or_default();
        for (_key, slot, found) in self.entries.iter() {
            let mut expected = used.get(&slot).copied().unwrap_or_default();
            expected.quantity = expected.quantity.saturating_add(any.quantity);
            expected.total = expected.total.saturating_add(any.total);
            agree(found == expected, "a whitelist entry")?;
        }

        let in_flight = self.intents.iter().filter(|intent| intent.state.is_in_flight()).count();
        agree(usize::try_from(self.in_flight) == Ok(in_flight), "in flight")?;
        let open = self.intents.iter().filter(|intent| intent.state.is_open());
        agree(open.map(|intent| &intent.sequence).eq(self.open.iter()), "open intents")?;
        self.check_listings()
    }

    /// Checks that no key was requested twice under one spelling of its id. Version 0.1.0 treated
    /// two spellings of one id as two listings.
    fn check_listings(&self) -> Result<(), InvalidTransition> {
        let mut requested: HashMap<(&str, Option<Amount>), Sequence> = HashMap::new();
        for intent in self.intents.iter().filter(|intent| intent.state != OrderState::NotSent) {
            let key = (intent.id.as_str(), intent.key().price);
            if requested.insert(key, intent.sequence).is_some() {
                return Err(InvalidTransition::RequestedTwice(intent.sequence));
            }
        }
        Ok(())
    }
}

const fn agree(agree: bool, what: &'static str) -> Result<(), InvalidTransition> {
    if agree { Ok(()) } else { Err(InvalidTransition::Sum(what)) }
}
