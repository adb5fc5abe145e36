//! Phases of Dopplers. The market names the finish only; the paint index shows the phase.

use std::{borrow::Cow, sync::LazyLock};

use crate::{
    domain::item_name::ItemName,
    prices::item_key::{KNIVES, Phase},
};

/// The two finishes with phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DopplerFinish {
    Doppler,
    Gamma,
}

/// Base names that end with a finish, each with its names by [`Phase::ALL`]. They are made once, so
/// that naming a phase does not allocate.
static NAMES: LazyLock<Vec<(String, PhaseNames)>> = LazyLock::new(|| {
    let weapons = KNIVES.into_iter().chain(["Glock-18"]);
    let bases = weapons.flat_map(|weapon| {
        ["Doppler", "Gamma Doppler"].map(|finish| format!("{weapon} | {finish}"))
    });
    bases.map(|base| (base.clone(), Phase::ALL.map(|phase| name(&base, phase)))).collect()
});

type PhaseNames = [Option<String>; Phase::ALL.len()];

/// Returns a base name with a phase; `None` if the finish has no such phase.
fn name(base: &str, phase: Phase) -> Option<String> {
    let mut name = ItemName::parse(base);
    name.add_phase(phase.as_str()).ok()?;
    Some(name.base.into_owned())
}

/// Returns the base name of an item with its phase, such as `Karambit | Doppler Phase 2`. A name
/// without a finish that has phases, or with an index that is not one of its phases, is returned
/// unchanged: it then matches no entry for a phase.
pub(super) fn with_phase<'a>(base: Cow<'a, str>, paint_index: Option<u32>) -> Cow<'a, str> {
    let Some(finish) = finish_of(&base) else { return base };
    let found = paint_index.and_then(|index| phase_of(index, finish));
    let Some(phase) = found else { return base };
    let Some((_, names)) = NAMES.iter().find(|(known, _)| *known == base) else {
        return name(&base, phase).map_or(base, Cow::Owned);
    };
    let mut names = Phase::ALL.into_iter().zip(names);
    let named = names.find(|(other, _)| *other == phase).and_then(|(_, name)| name.as_deref());
    named.map_or(base, Cow::Borrowed)
}

/// Returns `true` for a name whose phase its paint index shows.
pub(super) fn may_have_phase(name: &str) -> bool {
    memchr::memmem::find(name.as_bytes(), b"Doppler").is_some()
}

fn finish_of(base: &str) -> Option<DopplerFinish> {
    let before = base.strip_suffix("Doppler")?;
    match before.strip_suffix("Gamma ") {
        Some(weapon) if weapon.ends_with("| ") => Some(DopplerFinish::Gamma),
        _ if before.ends_with("| ") => Some(DopplerFinish::Doppler),
        _ => None,
    }
}

/// Returns the phase by the paint index of the game (source: public item databases).
const fn phase_of(paint_index: u32, finish: DopplerFinish) -> Option<Phase> {
    Some(match (finish, paint_index) {
        (DopplerFinish::Doppler, 415) => Phase::Ruby,
        (DopplerFinish::Doppler, 416 | 619) => Phase::Sapphire,
        (DopplerFinish::Doppler, 417 | 617) => Phase::BlackPearl,
        (DopplerFinish::Doppler, 418 | 852) => Phase::One,
        (DopplerFinish::Doppler, 419 | 618 | 853) => Phase::Two,
        (DopplerFinish::Doppler, 420 | 854) => Phase::Three,
        (DopplerFinish::Doppler, 421 | 855) => Phase::Four,
        (DopplerFinish::Gamma, 568 | 1_119) => Phase::Emerald,
        (DopplerFinish::Gamma, 569 | 1_120) => Phase::One,
        (DopplerFinish::Gamma, 570 | 1_121) => Phase::Two,
        (DopplerFinish::Gamma, 571 | 1_122) => Phase::Three,
        (DopplerFinish::Gamma, 572 | 1_123) => Phase::Four,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(base: &str, paint_index: Option<u32>, expected: &str) {
        assert_eq!(
            with_phase(Cow::Borrowed(base), paint_index),
            expected,
            "{base} {paint_index:?}"
        );
    }

    #[test]
    fn the_paint_index_of_a_doppler_names_its_phase() {
        for (index, named) in [
            (415, "Ruby"),
            (416, "Sapphire"),
            (417, "Black Pearl"),
            (418, "Doppler Phase 1"),
            (419, "Doppler Phase 2"),
            (420, "Doppler Phase 3"),
            (421, "Doppler Phase 4"),
            (617, "Black Pearl"),
            (618, "Doppler Phase 2"),
            (619, "Sapphire"),
            (852, "Doppler Phase 1"),
            (855, "Doppler Phase 4"),
        ] {
            check("Karambit | Doppler", Some(index), &format!("Karambit | {named}"));
            check("New Knife | Doppler", Some(index), &format!("New Knife | {named}"));
            check("Karambit | Gamma Doppler", Some(index), "Karambit | Gamma Doppler");
        }
        for (index, named) in [
            (568, "Emerald"),
            (569, "Gamma Doppler Phase 1"),
            (572, "Gamma Doppler Phase 4"),
            (1_119, "Emerald"),
            (1_121, "Gamma Doppler Phase 2"),
        ] {
            check("Glock-18 | Gamma Doppler", Some(index), &format!("Glock-18 | {named}"));
            check("Glock-18 | Doppler", Some(index), "Glock-18 | Doppler");
        }
    }

    #[test]
    fn other_names_and_indices_are_unchanged() {
        for (base, index) in [
            ("Karambit | Doppler", None),
            ("Karambit | Doppler", Some(0)),
            ("Karambit | Doppler Phase 3", Some(419)),
            ("AK-47 | Redline", Some(415)),
            ("Doppler", Some(415)),
            ("Sticker | Gamma Dopplers", Some(568)),
        ] {
            check(base, index, base);
        }
    }

    #[test]
    fn a_phase_of_a_known_weapon_is_named_without_allocation() {
        let name = with_phase(Cow::Borrowed("Talon Knife | Doppler"), Some(852));
        assert!(matches!(name, Cow::Borrowed("Talon Knife | Doppler Phase 1")), "{name:?}");
    }
}
