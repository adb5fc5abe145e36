//! Phases and paint indices of items. Pure.
//!
//! The catalogue writes a phase as a part of the finish. Markets write it in different ways, so a
//! name is split here.

/// Finishes with phases: the finish and the phase in the catalogue, the finish of the skin, the
/// phase, and its paint index on most knives.
const PHASES: [(&str, &str, &str, u32); 12] = [
    ("Gamma Doppler Phase 1", "Gamma Doppler", "Phase 1", 569),
    ("Gamma Doppler Phase 2", "Gamma Doppler", "Phase 2", 570),
    ("Gamma Doppler Phase 3", "Gamma Doppler", "Phase 3", 571),
    ("Gamma Doppler Phase 4", "Gamma Doppler", "Phase 4", 572),
    ("Doppler Phase 1", "Doppler", "Phase 1", 418),
    ("Doppler Phase 2", "Doppler", "Phase 2", 419),
    ("Doppler Phase 3", "Doppler", "Phase 3", 420),
    ("Doppler Phase 4", "Doppler", "Phase 4", 421),
    ("Ruby", "Doppler", "Ruby", 415),
    ("Sapphire", "Doppler", "Sapphire", 416),
    ("Black Pearl", "Doppler", "Black Pearl", 417),
    ("Emerald", "Gamma Doppler", "Emerald", 568),
];
/// Paint index of Black Pearl on the Butterfly Knife.
const BUTTERFLY_BLACK_PEARL: u32 = 617;

/// Parts of an item's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitName {
    /// The name without the phase, such as `★ Karambit | Doppler (Factory New)`.
    pub without_phase: String,
    /// The name with the phase behind the finish, such as
    /// `★ M9 Bayonet | Doppler Ruby (Factory New)`.
    pub with_phase: String,
    /// The phase; empty without one.
    pub phase: &'static str,
    /// The paint index, if the item has a finish.
    pub paint_index: Option<u32>,
}

/// Splits a name of the catalogue.
pub fn split(market_name: &str) -> SplitName {
    let unchanged = |paint_index| SplitName {
        without_phase: market_name.to_owned(),
        with_phase: market_name.to_owned(),
        phase: "",
        paint_index,
    };
    let Some((brand, rest)) = market_name.split_once(" | ") else { return unchanged(None) };
    let Some((finish, wear)) = rest.rsplit_once(" (") else { return unchanged(None) };
    let phase = PHASES.iter().find(|(name, ..)| brand.starts_with('★') && *name == finish);
    let Some((_, base, phase, index)) = phase else {
        // A stable index that no phase has.
        let sum = finish.bytes().fold(0_u32, |sum, byte| (sum * 31 + u32::from(byte)) % 300);
        return unchanged(Some(sum + 1_000));
    };
    let is_butterfly = brand.ends_with("Butterfly Knife") && *phase == "Black Pearl";
    SplitName {
        without_phase: format!("{brand} | {base} ({wear}"),
        with_phase: format!("{brand} | {base} {phase} ({wear}"),
        phase,
        paint_index: Some(if is_butterfly { BUTTERFLY_BLACK_PEARL } else { *index }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_separated_from_the_finish() {
        let check = |name: &str, without: &str, phase: &str, index: Option<u32>| {
            let split = split(name);
            assert_eq!((&*split.without_phase, split.phase), (without, phase), "{name}");
            assert!(index.is_none() || split.paint_index == index, "{name}: {split:?}");
        };
        let (doppler, gamma) =
            ("★ Karambit | Doppler (Factory New)", "Gamma Doppler (Minimal Wear)");
        check("★ Karambit | Doppler Phase 3 (Factory New)", doppler, "Phase 3", Some(420));
        check("★ Karambit | Sapphire (Factory New)", doppler, "Sapphire", Some(416));
        check(
            "★ Bayonet | Emerald (Minimal Wear)",
            &format!("★ Bayonet | {gamma}"),
            "Emerald",
            Some(568),
        );
        let butterfly = "★ StatTrak™ Butterfly Knife | Black Pearl (Factory New)";
        let plain = "★ StatTrak™ Butterfly Knife | Doppler (Factory New)";
        check(butterfly, plain, "Black Pearl", Some(617));
        for name in [
            "★ Ursus Knife",
            "Glove Case",
            "Sticker | Crown (Foil)",
            "AK-47 | Redline (Field-Tested)",
        ] {
            check(name, name, "", None);
        }
        assert_eq!(split("★ Ursus Knife").paint_index, None);
        assert_eq!(
            split("★ M9 Bayonet | Ruby (Factory New)").with_phase,
            "★ M9 Bayonet | Doppler Ruby (Factory New)"
        );
    }
}
