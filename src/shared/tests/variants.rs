//! Model-checks the protocol: no reachable state of a scope breaks an invariant, and without any
//! one rule some state does.

use std::time::Instant;

use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model};

use super::{
    model::{Origin, RareFaults},
    world::{Action, Faults, Scope, World},
};
use crate::shared::{
    database::SILENT_MS,
    rules::{ProtocolRules, Rule},
};

const NONE: Faults = Faults {
    failures: 0,
    crashes: 0,
    stops: 0,
    rollbacks: 0,
    restores: 0,
    clock_jumps: 0,
    releases: 0,
    rejections: 0,
    needs: 0,
    copies: 0,
    renames: 0,
    power_losses: 0,
};

/// The first member uses a slice that the restored database does not have.
const RESTORED: [Action; 11] = [
    Action::Backup,
    Action::Need(0),
    Action::Tick,
    Action::Exchange(0),
    Action::Tick,
    Action::Tick,
    Action::Exchange(0),
    Action::Spend(0),
    Action::Need(1),
    Action::Tick,
    Action::Restore,
];

/// The first member uses a slice that a backup of more than an hour ago does not have.
const RESTORED_LATE: [Action; 10] = [
    Action::Backup,
    Action::Silence,
    Action::Exchange(1),
    Action::Need(0),
    Action::Exchange(0),
    Action::Tick,
    Action::Tick,
    Action::Exchange(0),
    Action::Need(1),
    Action::Restore,
];

/// The first member gave its slice back by an exchange without a reply, the second one uses it, and
/// the restored database has neither.
const RESTORED_LARGER: [Action; 16] = [
    Action::Need(0),
    Action::Exchange(0),
    Action::Backup,
    Action::Tick,
    Action::Begin(0),
    Action::Arrive(0),
    Action::Fail(0),
    Action::Need(1),
    Action::Exchange(1),
    Action::Tick,
    Action::Tick,
    Action::Exchange(1),
    Action::Spend(1),
    Action::Spend(1),
    Action::Restore,
    Action::Need(0),
];

/// The first member has an older copy of its ledger, and has ended.
const COPIED: [Action; 5] =
    [Action::Copy(0), Action::Spend(0), Action::Tick, Action::Exchange(0), Action::Crash(0)];

fn budget(faults: Faults) -> Scope {
    Scope {
        rules: ProtocolRules::default(),
        total: 2,
        has_standby: false,
        tick_ms: 1_000,
        term_ms: 5_000,
        rates: [100, 100],
        faults,
        silence_ms: 0,
        now_max_ms: 16_000,
        start: &[],
        start_needs: false,
    }
}

fn standby(faults: Faults) -> Scope {
    Scope {
        total: 0,
        has_standby: true,
        tick_ms: 500,
        term_ms: 2_500,
        now_max_ms: 20_000,
        ..budget(faults)
    }
}

const OLDER_COPY: Faults =
    Faults { copies: 1, renames: 1, releases: 1, crashes: 2, needs: 2, ..NONE };

fn scopes() -> Vec<(&'static str, Scope)> {
    vec![
        ("messages", budget(Faults { failures: 2, rejections: 1, needs: 2, ..NONE })),
        ("processes", budget(Faults { failures: 1, crashes: 1, stops: 1, needs: 2, ..NONE })),
        ("power loss", budget(Faults { power_losses: 1, failures: 1, needs: 2, ..NONE })),
        (
            "power loss and stop",
            budget(Faults { power_losses: 1, stops: 1, rejections: 1, needs: 2, ..NONE }),
        ),
        ("rollback", budget(Faults { rollbacks: 1, failures: 1, needs: 2, ..NONE })),
        ("restore", Scope { start: &RESTORED, ..budget(Faults { restores: 1, needs: 2, ..NONE }) }),
        (
            "restore of a larger slice",
            Scope {
                start: &RESTORED_LARGER,
                start_needs: true,
                ..budget(Faults { restores: 1, failures: 1, needs: 3, ..NONE })
            },
        ),
        ("restore after a crash", budget(Faults { restores: 1, crashes: 1, needs: 2, ..NONE })),
        (
            "release",
            Scope {
                silence_ms: SILENT_MS,
                start: &[Action::Silence, Action::Release(0), Action::Need(1)],
                start_needs: true,
                now_max_ms: SILENT_MS + 16_000,
                ..budget(Faults { releases: 1, failures: 1, crashes: 1, needs: 1, ..NONE })
            },
        ),
        (
            "restore and release",
            Scope {
                silence_ms: SILENT_MS,
                start: &RESTORED_LATE,
                now_max_ms: 2 * SILENT_MS + 24_000,
                ..budget(Faults { restores: 1, releases: 1, needs: 2, ..NONE })
            },
        ),
        ("older copy", Scope { start: &COPIED, start_needs: true, ..budget(OLDER_COPY) }),
        ("standby messages", standby(Faults { failures: 2, ..NONE })),
        ("standby processes", standby(Faults { crashes: 1, stops: 1, ..NONE })),
        (
            "standby slow and fast",
            Scope { rates: [91, 110], ..standby(Faults { failures: 1, ..NONE }) },
        ),
        (
            "standby far too fast",
            Scope { rates: [100, 200], ..standby(Faults { failures: 1, ..NONE }) },
        ),
        ("standby clock of the database", standby(Faults { clock_jumps: 2, failures: 1, ..NONE })),
        (
            "standby budget",
            Scope { total: 2, ..standby(Faults { crashes: 1, stops: 1, needs: 1, ..NONE }) },
        ),
        ("standby rollback", standby(Faults { rollbacks: 1, failures: 1, ..NONE })),
        ("standby restore", standby(Faults { restores: 1, failures: 1, ..NONE })),
    ]
}

/// Reads a number that sets how exhaustive the check is.
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |given| given.parse().expect("a number"))
}

/// Returns the scopes whose name contains the value of `SNIPER_TEST_SCOPE`.
fn chosen_scopes() -> impl Iterator<Item = (&'static str, Scope)> {
    let chosen = std::env::var("SNIPER_TEST_SCOPE").unwrap_or_default();
    scopes().into_iter().filter(move |(name, _)| name.contains(&chosen))
}

fn checker(scope: Scope) -> CheckerBuilder<Scope> {
    scope.checker().threads(2).finish_when(HasDiscoveries::AnyFailures)
}

fn assert_safe(name: &str, checker: &impl Checker<Scope>) {
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        panic!("{name}: {property} is violated: {:#?}", path.into_actions());
    }
}

#[test]
fn every_state_found_breadth_first_is_safe() {
    let depth = setting("SNIPER_TEST_DEPTH", 5);
    let states_max = setting("SNIPER_TEST_STATES", 100_000);
    for (name, scope) in chosen_scopes() {
        let start = Instant::now();
        let checker = checker(scope).target_max_depth(depth).target_state_count(states_max);
        let checker = checker.spawn_bfs().join();
        assert_safe(name, &checker);
        let (states, depth) = (checker.unique_state_count(), checker.max_depth());
        assert!(states >= 100, "{name}: {states}");
        println!("{name}: {states} states, depth {depth}, {:.1?}", start.elapsed());
    }
}

#[test]
fn every_state_of_random_walks_is_safe() {
    let states_min = setting("SNIPER_TEST_STATES", 400);
    for (name, scope) in chosen_scopes() {
        let start = Instant::now();
        let checker = checker(scope).target_state_count(states_min);
        let checker = checker.spawn_simulation(7, RareFaults).join();
        assert_safe(name, &checker);
        let (states, depth) = (checker.state_count(), checker.max_depth());
        assert!(states >= states_min, "{name}: {states}");
        println!("{name}: {states} states of walks, depth {depth}, {:.1?}", start.elapsed());
    }
}

/// Actions that break an invariant once a rule is removed.
struct Counterexample {
    rule: Rule,
    scope: &'static str,
    origin: Origin,
    /// Space-separated actions with the member's number: `Begin0`.
    actions: &'static str,
}

impl Counterexample {
    fn scope(&self, broken: Option<Rule>) -> Scope {
        let (_, scope) = scopes().into_iter().find(|(name, _)| *name == self.scope).unwrap();
        Scope { rules: ProtocolRules { broken }, ..scope }
    }

    fn actions(&self) -> Vec<Action> {
        self.actions.split_whitespace().map(|text| Action::from_text(text).expect(text)).collect()
    }

    /// Carries out the actions that are possible. Returns `true` if an invariant was broken.
    fn is_unsafe(&self, broken: Option<Rule>) -> bool {
        let scope = self.scope(broken);
        let mut world: World = self.origin.world(&scope);
        for action in self.actions() {
            if scope.actions(&world).contains(&action) && world.act(&scope, action).is_some() {
                if !world.is_within(&scope) || !world.has_one_active(&scope) {
                    return true;
                }
            } else {
                assert_eq!(broken, None, "{:?}: {action:?} is not possible", self.rule);
            }
        }
        false
    }
}

#[test]
fn without_one_of_its_rules_the_protocol_is_unsafe() {
    for rule in Rule::ALL {
        let found = COUNTEREXAMPLES.iter().find(|it| it.rule == rule);
        let found = found.unwrap_or_else(|| panic!("{rule:?} has no counterexample"));
        assert!(found.is_unsafe(Some(rule)), "{rule:?} is not needed");
        assert!(!found.is_unsafe(None), "{rule:?}");
    }
}

/// One counterexample for each rule.
const COUNTEREXAMPLES: [Counterexample; 24] = [
    Counterexample {
        rule: Rule::Version,
        scope: "messages",
        origin: Origin::Idle,
        actions: "Begin0 Begin1 Tick Fail0 Need0 Arrive1 Exchange0 End1 Need1 Tick Tick Begin0 Arrive0 \
             End0 ArriveLate0 Exchange1 Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::Restored,
        scope: "restore",
        origin: Origin::Prepared,
        actions: "Begin1 Begin0 Tick Fail1 Exchange1 Fail0 Exchange0 Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::Limit,
        scope: "messages",
        origin: Origin::Settled,
        actions: "Need1 Exchange1 Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::UsedIsKept,
        scope: "processes",
        origin: Origin::Settled,
        actions: "Spend0 Stop0 Apply0 Begin0 Begin1 Arrive0 Need1 Arrive1 Tick End1 Exchange1 Tick Begin1 \
             Tick Arrive1 End1 Exchange1",
    },
    Counterexample {
        rule: Rule::TakeOverObserved,
        scope: "standby clock of the database",
        origin: Origin::Settled,
        actions: "Begin1 Arrive1 Exchange0 Tick JumpClock Tick End1 Tick Exchange1",
    },
    Counterexample {
        rule: Rule::TakeOverClock,
        scope: "standby far too fast",
        origin: Origin::Settled,
        actions: "Exchange0 Tick Begin1 Arrive1 Tick Tick End1 Tick Tick Exchange0 Exchange1 Tick Tick \
             Tick Exchange1",
    },
    Counterexample {
        rule: Rule::RenewOwn,
        scope: "standby messages",
        origin: Origin::Cold,
        actions: "Begin1 Arrive1 Begin0 End1 Arrive0 End0 Tick Begin0 Arrive0 End0 Tick Begin0 Arrive0 \
             Tick Tick Tick Exchange1 End0 Exchange0 Tick Tick Begin1 Tick Tick Tick Exchange0 \
             Arrive1 End1",
    },
    Counterexample {
        rule: Rule::AllReported,
        scope: "restore",
        origin: Origin::Prepared,
        actions: "Begin1 Begin0 Tick Fail1 Exchange1 Fail0 Exchange0 EndRestored Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::Silent,
        scope: "release",
        origin: Origin::Cold,
        actions: "Need1 Exchange0 Tick Tick Exchange0 Release0 Exchange1 Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::MarkIsContact,
        scope: "restore and release",
        origin: Origin::Prepared,
        actions: "Begin1 Tick Fail1 Exchange1 Tick Exchange1 Tick Exchange1 Release0 EndRestored Tick \
             Exchange1 Tick Exchange1 Tick Exchange1 Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::NewestLedger,
        scope: "older copy",
        origin: Origin::Prepared,
        actions: "StartCopy0 Need0 Exchange0 Tick Exchange0 Tick Exchange0 Need1 Exchange1 Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::SameLedger,
        scope: "older copy",
        origin: Origin::Prepared,
        actions: "Release0 Need1 Exchange1 Tick Exchange1 Tick Tick Exchange1 Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::Settle,
        scope: "rollback",
        origin: Origin::Idle,
        actions: "Need1 Backup Exchange1 Restore Begin0 Tick Need0 Fail0 Exchange0",
    },
    Counterexample {
        rule: Rule::LowerFirst,
        scope: "messages",
        origin: Origin::Settled,
        actions: "Begin1 Need0 Need1 Arrive1 Begin0 Arrive0 Tick End1 Exchange1 Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::OnlyConfirmed,
        scope: "messages",
        origin: Origin::Idle,
        actions: "Need1 Begin1 Need0 Fail1 Exchange0 Tick Tick Exchange0",
    },
    Counterexample {
        rule: Rule::Contact,
        scope: "release",
        origin: Origin::Prepared,
        actions: "Exchange1 Tick Begin1 Arrive1 Tick End1 Exchange1",
    },
    Counterexample {
        rule: Rule::TermEnd,
        scope: "standby messages",
        origin: Origin::Settled,
        actions: "Begin1 Arrive1 End1 Tick Tick Tick Begin1 Arrive1 End1",
    },
    Counterexample {
        rule: Rule::Observe,
        scope: "standby clock of the database",
        origin: Origin::Settled,
        actions: "JumpClock Exchange1",
    },
    Counterexample {
        rule: Rule::FailureRestarts,
        scope: "standby rollback",
        origin: Origin::Settled,
        actions: "Tick Backup Exchange0 Restore Tick Begin1 Fail1 Tick Exchange1",
    },
    Counterexample {
        rule: Rule::Lapsed,
        scope: "standby restore",
        origin: Origin::Settled,
        actions: "Begin1 Arrive1 Tick End1 Begin0 Fail0 Begin1 Arrive1 ArriveLate0 Tick End1 Exchange1 \
             Tick Tick Begin1 Arrive1 Tick Backup Tick Tick End1 Exchange1 Restore Begin0 Fail0 Tick \
             Tick Begin0 Arrive0 Tick End0 Exchange0",
    },
    Counterexample {
        rule: Rule::Restart,
        scope: "standby processes",
        origin: Origin::Cold,
        actions: "Begin0 Arrive0 Begin1 Arrive1 End0 Tick End1 Tick Tick Tick Tick Begin0 Begin1 Tick Tick \
             Arrive1 Arrive0 End1 Exchange1 Tick Tick End0 Exchange0 Tick Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::StopFirst,
        scope: "processes",
        origin: Origin::Settled,
        actions: "Stop0 Need1 Begin0 Arrive0 Begin1 Arrive1 End1 Tick Tick Exchange1",
    },
    Counterexample {
        rule: Rule::Lowered,
        scope: "restore of a larger slice",
        origin: Origin::Prepared,
        actions: "Begin0 Fail0 Tick Exchange0",
    },
    Counterexample {
        rule: Rule::DurableFirst,
        scope: "power loss",
        origin: Origin::Settled,
        actions: "Need0 Need1 Begin0 Arrive0 End0 Apply0 Tick Begin0 Arrive0 Exchange1 Tick Tick Exchange1",
    },
];
