//! Model check of the protocol: every order of messages, losses, crashes, clock steps and restores
//! within a [`Scope`].

use stateright::{Chooser, Model, Property};

use super::world::{Action, Scope, World};

/// World in which a check starts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// No member has had an exchange.
    Cold,
    /// Both are in contact, and the first has all slices, or the role.
    Settled,
    /// Both are in contact without slices, and the first has the role.
    Idle,
    /// The actions of [`Scope::start`] were carried out.
    Prepared,
}

impl Origin {
    pub(super) fn world(self, scope: &Scope) -> World {
        match self {
            Self::Cold => scope.world(),
            Self::Settled => scope.settled_world(true),
            Self::Idle => scope.settled_world(false),
            Self::Prepared => {
                let mut world = scope.settled_world(scope.start_needs);
                for action in scope.start {
                    assert!(scope.actions(&world).contains(action), "{action:?}");
                    world.act(scope, *action).unwrap();
                }
                world
            }
        }
    }
}

impl Model for Scope {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let origins = [Origin::Cold, Origin::Settled, Origin::Idle, Origin::Prepared];
        let needed = if self.start.is_empty() { 3 } else { 4 };
        origins[..needed].iter().map(|origin| origin.world(self)).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend(Scope::actions(self, world));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(self, action)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the limit", |scope: &Self, world: &World| world.is_within(scope)),
            Property::always("one active member", |scope: &Self, world: &World| {
                world.has_one_active(scope)
            }),
        ]
    }
}

/// Chooses random actions, rarely a fault, so that a walk gets far before its faults are used up.
#[derive(Clone)]
pub(super) struct RareFaults;

/// State of a walk.
pub(super) struct Walk {
    random: fastrand::Rng,
    /// Weight of other actions relative to a fault.
    rarity: u32,
}

impl Chooser<Scope> for RareFaults {
    type State = Walk;

    fn new_state(&self, seed: u64) -> Walk {
        let mut random = fastrand::Rng::with_seed(seed);
        let rarity = *random.choice(&[1, 1, 3, 10]).unwrap();
        Walk { random, rarity }
    }

    fn choose_initial_state(&self, walk: &mut Walk, worlds: &[World]) -> usize {
        walk.random.usize(..worlds.len())
    }

    fn choose_action(&self, walk: &mut Walk, _: &World, actions: &[Action]) -> usize {
        let weight = |action: &Action| match action {
            Action::Tick | Action::Exchange(_) => 4 * walk.rarity,
            action if action.is_fault() => 1,
            _ => 2 * walk.rarity,
        };
        let mut point = walk.random.u32(..actions.iter().map(weight).sum::<u32>());
        for (index, action) in actions.iter().enumerate() {
            match point.checked_sub(weight(action)) {
                Some(rest) => point = rest,
                None => return index,
            }
        }
        unreachable!("the weights sum up")
    }
}
