//! Tests of the limits on groups of entries, across outcomes, reloads and restarts.

use std::{collections::HashMap, path::Path, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    disk::{crash_image, location, lose_power, ready, reserve, wait_until},
    *,
};
use crate::ledger::{entries::tests::grouped, reader::LedgerReader};

const KNIVES: (Option<u32>, Option<Amount>) = (Some(4), Some(Amount::from_cents(1_500)));

fn in_group(label: &str, group: &str) -> WhitelistEntry {
    let limits = if group == "knives" { KNIVES } else { (None, Some(coins(10))) };
    grouped(entry(Some(label)), group, limits)
}

fn limits() -> Budget {
    Budget { max_price: coins(10), ..budget() }
}

fn for_entry(n: u32, price: i64, entry: usize) -> OrderRequest {
    OrderRequest { entry, ..order_request(n, price) }
}

#[test]
fn a_group_limits_its_entries_together_and_no_other() {
    let entries = [in_group("a", "knives"), in_group("b", "knives"), entry(Some("c"))];
    let mut ledger = Ledger::in_memory(limits(), &entries, false);
    let _effects = place_order(&mut ledger, for_entry(1, 6, 0), &BOUGHT, T0);
    let _effects = place_order(&mut ledger, for_entry(2, 6, 1), &UNKNOWN, T0);
    let total = RiskRejection::GroupTotal { spent: coins(12), price: coins(4), max: coins(15) };
    assert_rejected(&mut ledger, for_entry(3, 4, 0), T0, total);
    let _effects = place_order(&mut ledger, for_entry(4, 1, 1), &TAKEN, T0);
    let _effects = place_order(&mut ledger, for_entry(5, 1, 1), &BOUGHT, T0);
    let _reserved = ledger.reserve(for_entry(6, 1, 0), T0).unwrap();
    let quantity = RiskRejection::GroupQuantity { bought: 4, max: 4 };
    assert_rejected(&mut ledger, for_entry(7, 1, 0), T0, quantity);
    assert!(!quantity.is_transient());
    let _effects = place_order(&mut ledger, for_entry(8, 9, 2), &BOUGHT, T0);
    let (group, used) = ledger.state().groups().next().unwrap();
    assert_eq!((&*group.name, used.quantity, used.total), ("knives", 4, coins(14)));
    ledger.state().check().unwrap();
}

fn reload(ledger: &mut Ledger, old: &[WhitelistEntry], new: &[WhitelistEntry]) {
    let mut plan = ledger.entry_plan();
    plan.set(old, new, false);
    let rules = ledger.rules_recorder().record(plan, limits(), T0).unwrap();
    let _old = ledger.replace_rules(rules);
}

#[test]
fn a_removed_entry_stays_in_its_group_and_a_moved_one_takes_its_count_along() {
    let folder = tempfile::tempdir().unwrap();
    let old = [in_group("a", "knives"), in_group("b", "knives"), in_group("c", "gloves")];
    let mut ledger = Ledger::open(&location(folder.path(), "boot"), limits(), &old, T0).unwrap();
    ready(&mut ledger, T0);
    for (n, entry) in [(1, 0), (2, 1), (3, 2)] {
        let approved = reserve(&mut ledger, for_entry(n, 5, entry), T0);
        let _effects = ledger.settle(approved.key(), &BOUGHT, T0).unwrap();
    }
    let used = |state: &LedgerState| -> Vec<(String, i64)> {
        let all = state.groups();
        let mut used: Vec<(String, i64)> =
            all.map(|(group, used)| (group.name.to_string(), used.total.cents())).collect();
        used.sort();
        used
    };
    let pairs = |pairs: &[(&str, i64)]| -> Vec<(String, i64)> {
        pairs.iter().map(|(name, cents)| ((*name).to_owned(), *cents)).collect()
    };
    // `a` is removed, and `c` changes its group.
    let new = [in_group("b", "gloves"), in_group("c", "knives")];
    reload(&mut ledger, &old, &new);
    assert_eq!(used(ledger.state()), pairs(&[("gloves", 500), ("knives", 1_000)]));
    let full = RiskRejection::GroupTotal { spent: coins(10), price: coins(6), max: coins(15) };
    assert_rejected(&mut ledger, for_entry(4, 6, 1), T0, full);
    ledger.state().check().unwrap();
    // A killed process reads the same groups, and so does a reader.
    let image = crash_image(folder.path());
    let mut reader = LedgerReader::open(image.path()).unwrap();
    reader.state_mut().set_entries(&new[1..]);
    assert_eq!(used(reader.state()), pairs(&[("knives", 1_000)]));
    drop(reader);
    let location = location(image.path(), "boot");
    let mut ledger = Ledger::open(&location, limits(), &new, after(1)).unwrap();
    ready(&mut ledger, after(1));
    assert_eq!(used(ledger.state()), pairs(&[("gloves", 500), ("knives", 1_000)]));
    assert_rejected(&mut ledger, for_entry(4, 6, 1), after(1), full);
}

/// Group of an entry in a whitelist: `None` if the whitelist does not have the entry.
type Membership = Option<&'static str>;

#[derive(Clone, Debug)]
enum GroupStep {
    Order {
        which: usize,
        price: i64,
    },
    Answer {
        which: usize,
        outcome: usize,
    },
    /// Uses another whitelist, or only prepares it.
    Reload {
        whitelist: [Membership; 3],
        given_up: bool,
        order_between: bool,
    },
    /// `Some` is a power loss, in which each record survives if its bit is set.
    Restart {
        fate: Option<u64>,
        is_clean: bool,
    },
}

const LABELS: [&str; 3] = ["a", "b", "c"];
const NO_GROUP: &str = "";

fn membership() -> impl Strategy<Value = Membership> {
    prop::sample::select(vec![None, Some(NO_GROUP), Some("knives"), Some("knives"), Some("gloves")])
}

fn step() -> impl Strategy<Value = GroupStep> {
    prop_oneof![
        12 => (0_usize..3, 1_i64..5).prop_map(|(which, price)| GroupStep::Order { which, price }),
        6 => (any::<usize>(), 0_usize..4)
            .prop_map(|(which, outcome)| GroupStep::Answer { which, outcome }),
        3 => ([membership(), membership(), membership()], prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(whitelist, given_up, order_between)| {
                GroupStep::Reload { whitelist, given_up, order_between }
            }),
        2 => (prop::option::weighted(0.2, any::<u64>()), any::<bool>())
            .prop_map(|(fate, is_clean)| GroupStep::Restart { fate, is_clean }),
    ]
}

/// An order as the market knows it.
#[derive(Clone, Debug)]
struct BookedOrder {
    key: TradeKey,
    label: &'static str,
    price: Amount,
    is_open: bool,
    may_cost: bool,
}

struct GroupHistory {
    folder: TempDir,
    ledger: Ledger,
    whitelist: [Membership; 3],
    /// Last group of each entry, in force and as recorded.
    in_force: HashMap<&'static str, Membership>,
    recorded: HashMap<&'static str, Membership>,
    orders: Vec<BookedOrder>,
    now: UnixMs,
    is_lossless: bool,
}

fn entries_of(whitelist: &[Membership; 3]) -> Vec<WhitelistEntry> {
    let present = LABELS.into_iter().zip(whitelist);
    let entry = |(label, group): (&str, &Membership)| match (*group)? {
        NO_GROUP => Some(entry(Some(label))),
        group => Some(in_group(label, group)),
    };
    present.filter_map(entry).collect()
}

fn open(folder: &Path, boot: &str, whitelist: &[Membership; 3], now: UnixMs) -> Ledger {
    let entries = entries_of(whitelist);
    let mut ledger = Ledger::open(&location(folder, boot), limits(), &entries, now).unwrap();
    ready(&mut ledger, now);
    ledger
}

impl GroupHistory {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let whitelist = [Some("knives"), Some("knives"), Some("gloves")];
        let ledger = open(folder.path(), "boot", &whitelist, T0);
        let groups: HashMap<_, _> = LABELS.into_iter().zip(whitelist).collect();
        let (in_force, recorded) = (groups.clone(), groups);
        let orders = Vec::new();
        Self { folder, ledger, whitelist, in_force, recorded, orders, now: T0, is_lossless: true }
    }

    fn step(&mut self, step: &GroupStep) {
        self.now = self.now.plus(Duration::from_millis(10));
        match step {
            GroupStep::Order { which, price } => self.order(*which, *price),
            GroupStep::Answer { which, outcome } => self.answer(*which, *outcome),
            GroupStep::Reload { whitelist, given_up, order_between } => {
                self.reload(*whitelist, *given_up, *order_between);
            }
            GroupStep::Restart { fate, is_clean } => self.restart(*fate, *is_clean),
        }
        self.ledger.state().check().unwrap();
    }

    /// Returns the number and the price of the orders of a group that may cost something.
    fn exposure(&self, group: &str) -> (usize, i64) {
        let is_in = |order: &&BookedOrder| self.in_force[order.label] == Some(group);
        let counted = self.orders.iter().filter(|order| order.may_cost).filter(is_in);
        let prices: Vec<i64> = counted.map(|order| order.price.cents()).collect();
        (prices.len(), prices.iter().sum())
    }

    fn order(&mut self, which: usize, price: i64) {
        let Some(group) = self.whitelist[which] else { return };
        let before = self.whitelist[..which].iter().flatten().count();
        let n = u32::try_from(self.orders.len()).unwrap() + 1;
        let created_at = Some(self.now);
        let request = OrderRequest { created_at, ..for_entry(n, price, before) };
        self.ledger.resume(operator(), self.now);
        let mut answer = self.ledger.reserve(request, self.now);
        if matches!(answer, Err(RiskRejection::Behind)) {
            wait_until(|| self.ledger.is_durable() && self.ledger.is_limit_durable());
            answer = self.ledger.reserve(request, self.now);
        }
        let (max_count, max_total) = match group {
            "knives" => (4, 1_500),
            "gloves" => (usize::MAX, 1_000),
            _ => (usize::MAX, i64::MAX),
        };
        match answer {
            Ok(approved) => {
                let (key, label) = (*approved.key(), LABELS[which]);
                let price = approved.price();
                let order = BookedOrder { key, label, price, is_open: true, may_cost: true };
                self.orders.push(order);
                let (count, total) = self.exposure(group);
                assert!(group == NO_GROUP || count <= max_count, "{count} in {group}");
                assert!(group == NO_GROUP || total <= max_total, "{total} in {group}");
            }
            Err(RiskRejection::GroupQuantity { .. }) if self.is_lossless => {
                assert!(max_count <= self.exposure(group).0);
            }
            Err(RiskRejection::GroupTotal { .. }) if self.is_lossless => {
                assert!(max_total < self.exposure(group).1 + price * 100);
            }
            Err(_other) => assert!(!self.is_lossless, "{_other}"),
        }
    }

    fn answer(&mut self, which: usize, outcome: usize) {
        let open = self.orders.iter().filter(|order| order.is_open).count();
        let Some(nth) = which.checked_rem(open) else { return };
        let order = self.orders.iter_mut().filter(|order| order.is_open).nth(nth).unwrap();
        let not_sent = Outcome::NotSent(NotSent::Closed);
        let (outcome, may_cost) =
            [(BOUGHT, true), (UNKNOWN, true), (TAKEN, false), (not_sent, false)][outcome].clone();
        let key = order.key;
        (order.is_open, order.may_cost) = (false, may_cost);
        let _effects = self.ledger.settle(&key, &outcome, self.now).unwrap();
    }

    fn reload(&mut self, whitelist: [Membership; 3], given_up: bool, order_between: bool) {
        let (old, new) = (entries_of(&self.whitelist), entries_of(&whitelist));
        let mut plan = self.ledger.entry_plan();
        plan.set(&old, &new, false);
        let rules = self.ledger.rules_recorder().record(plan, limits(), self.now).unwrap();
        // An entry that is removed keeps the group that is recorded in the same transaction.
        self.recorded = self.in_force.clone();
        overlay(&mut self.recorded, &whitelist);
        if order_between {
            self.order(0, 1);
        }
        if !given_up {
            let _old = self.ledger.replace_rules(rules);
            self.whitelist = whitelist;
            self.in_force = self.recorded.clone();
        }
    }

    fn restart(&mut self, fate: Option<u64>, is_clean: bool) {
        let image = match (fate, is_clean) {
            (None, true) => None,
            _ => Some(crash_image(self.folder.path())),
        };
        if let (Some(mut fate), Some(image)) = (fate, &image) {
            lose_power(image.path(), || {
                fate = fate.rotate_left(1);
                fate & 1 == 1
            });
            self.is_lossless = false;
        }
        let boot = if fate.is_some() { "another" } else { "boot" };
        let other = Ledger::in_memory(limits(), &[], false);
        drop(std::mem::replace(&mut self.ledger, other));
        if let Some(image) = image {
            self.folder = image;
        }
        if fate.is_some() {
            drop(open(self.folder.path(), boot, &self.whitelist, self.now));
        }
        self.ledger = open(self.folder.path(), "boot", &self.whitelist, self.now);
        overlay(&mut self.recorded, &self.whitelist);
        self.in_force = self.recorded.clone();
        self.orders.iter_mut().for_each(|order| order.is_open = false);
    }
}

/// Moves the entries of a whitelist into its groups. The others stay in theirs.
fn overlay(groups: &mut HashMap<&'static str, Membership>, whitelist: &[Membership; 3]) {
    for (label, group) in LABELS.into_iter().zip(whitelist) {
        if group.is_some() {
            groups.insert(label, *group);
        }
    }
}

proptest! {
    // Each case opens real files several times.
    #![proptest_config(ProptestConfig::with_cases(histories_on_disk() * 4))]

    #[test]
    fn no_history_with_reloads_and_restarts_exceeds_the_limits_of_a_group(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut history = GroupHistory::new();
        for step in &steps {
            history.step(step);
        }
    }
}
