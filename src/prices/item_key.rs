//! The key by which an item has the same price at every source: base name, phase, StatTrak,
//! Souvenir and wear.
//!
//! Sources write the same item in different ways. The phase of a Doppler is absent, a part of the
//! name, behind the name, or beside it; a gem may replace the finish. A variant without a price of
//! its own has none, so the key of a phase never equals the key of the name without a phase. Names
//! are compared in Unicode's composed form.

use std::{borrow::Cow, sync::LazyLock};

use crate::{
    domain::{
        item_name::{ItemName, Wear},
        trade::Trade,
    },
    text::composed,
};

/// Maximum length of the name of an item, in bytes.
const NAME_BYTES_MAX: usize = 400;

const DOPPLER: &str = "Doppler";
const GAMMA: &str = "Gamma Doppler";

/// Variant of a Doppler finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    One,
    Two,
    Three,
    Four,
    Ruby,
    Sapphire,
    BlackPearl,
    Emerald,
}

/// Everything that distinguishes items with the same base name, in one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemVariant(u16);

/// Key of an item. The base name is that of [`ItemName`], with the phase removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemKey<'a> {
    pub base: Cow<'a, str>,
    pub variant: ItemVariant,
}

impl Phase {
    pub const ALL: [Self; 8] = [
        Self::One,
        Self::Two,
        Self::Three,
        Self::Four,
        Self::Ruby,
        Self::Sapphire,
        Self::BlackPearl,
        Self::Emerald,
    ];

    /// Returns the name as sources write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::One => "Phase 1",
            Self::Two => "Phase 2",
            Self::Three => "Phase 3",
            Self::Four => "Phase 4",
            Self::Ruby => "Ruby",
            Self::Sapphire => "Sapphire",
            Self::BlackPearl => "Black Pearl",
            Self::Emerald => "Emerald",
        }
    }

    /// Parses a name, such as `Phase 2` or `Ruby`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }

    /// Returns the only phase whose name ends in this byte.
    const fn ending_in(byte: u8) -> Option<Self> {
        match byte {
            b'1' => Some(Self::One),
            b'2' => Some(Self::Two),
            b'3' => Some(Self::Three),
            b'4' => Some(Self::Four),
            b'y' => Some(Self::Ruby),
            b'e' => Some(Self::Sapphire),
            b'l' => Some(Self::BlackPearl),
            b'd' => Some(Self::Emerald),
            _ => None,
        }
    }

    /// Returns the finish that this gem belongs to; no gem exists in both finishes.
    const fn gem_finish(self) -> Option<&'static str> {
        match self {
            Self::Ruby | Self::Sapphire | Self::BlackPearl => Some(DOPPLER),
            Self::Emerald => Some(GAMMA),
            Self::One | Self::Two | Self::Three | Self::Four => None,
        }
    }

    const fn bits(self) -> u16 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
            Self::Ruby => 5,
            Self::Sapphire => 6,
            Self::BlackPearl => 7,
            Self::Emerald => 8,
        }
    }
}

impl ItemVariant {
    const STATTRAK: u16 = 1;
    const SOUVENIR: u16 = 2;
    const WEAR_SHIFT: u32 = 2;
    const PHASE_SHIFT: u32 = 5;

    pub const fn new(
        stattrak: bool,
        souvenir: bool,
        wear: Option<Wear>,
        phase: Option<Phase>,
    ) -> Self {
        let wear = match wear {
            None => 0,
            Some(Wear::FactoryNew) => 1,
            Some(Wear::MinimalWear) => 2,
            Some(Wear::FieldTested) => 3,
            Some(Wear::WellWorn) => 4,
            Some(Wear::BattleScarred) => 5,
        };
        let phase = match phase {
            None => 0,
            Some(phase) => phase.bits(),
        };
        let stattrak = if stattrak { Self::STATTRAK } else { 0 };
        let souvenir = if souvenir { Self::SOUVENIR } else { 0 };
        Self(stattrak | souvenir | (wear << Self::WEAR_SHIFT) | (phase << Self::PHASE_SHIFT))
    }

    /// Returns the number that [`from_bits`](Self::from_bits) reads.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Reads a stored number. Returns `None` if no variant has it.
    pub fn from_bits(bits: u16) -> Option<Self> {
        let (wear, phase) = ((bits >> Self::WEAR_SHIFT) & 7, bits >> Self::PHASE_SHIFT);
        (wear <= 5 && phase <= 8).then_some(Self(bits))
    }

    pub const fn is_stattrak(self) -> bool {
        self.0 & Self::STATTRAK != 0
    }

    pub const fn is_souvenir(self) -> bool {
        self.0 & Self::SOUVENIR != 0
    }

    pub fn wear(self) -> Option<Wear> {
        let index = usize::from((self.0 >> Self::WEAR_SHIFT) & 7).checked_sub(1)?;
        Wear::ALL.get(index).copied()
    }

    pub fn phase(self) -> Option<Phase> {
        let index = usize::from(self.0 >> Self::PHASE_SHIFT).checked_sub(1)?;
        Phase::ALL.get(index).copied()
    }

    fn with_phase(self, phase: Phase) -> Self {
        Self(self.0 & ((1 << Self::PHASE_SHIFT) - 1) | (phase.bits() << Self::PHASE_SHIFT))
    }
}

impl<'a> ItemKey<'a> {
    /// Returns the key of a name as a source writes it. Returns `None` for a name that no item has:
    /// an empty or overlong one, or one with control characters.
    pub fn parse(name: &'a str) -> Option<Self> {
        if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return None;
        }
        let (name, behind) = split_phase_behind(name);
        // One source writes the star behind StatTrak.
        let parsed = match name.trim_start().strip_prefix("StatTrak™ ★") {
            Some(rest) => ItemName { is_stattrak: true, ..ItemName::parse(rest) },
            None => ItemName::parse(name),
        };
        let (base, within) = match composed_base(parsed.base) {
            Cow::Borrowed(base) => {
                let (base, phase) = split_phase(base);
                (Cow::Borrowed(base), phase)
            }
            Cow::Owned(base) => {
                let (base, phase) = split_phase(&base);
                (Cow::Owned(base.to_owned()), phase)
            }
        };
        if base.is_empty() || (behind.is_some() && within.is_some() && behind != within) {
            return None;
        }
        let phase = behind.or(within);
        let variant = ItemVariant::new(parsed.is_stattrak, parsed.is_souvenir, parsed.wear, phase);
        Some(Self { base, variant })
    }

    /// Returns the key of a listing. Does not allocate.
    #[inline]
    pub fn of_trade(trade: &'a Trade<'_>) -> Self {
        let (base, phase) = split_phase(&trade.item);
        let variant = ItemVariant::new(trade.is_stattrak, trade.is_souvenir, trade.wear, phase);
        Self { base: Cow::Borrowed(base), variant }
    }

    /// Returns the key of a phase of this item, whose name contains none.
    #[must_use]
    pub fn with_phase(&self, phase: Phase) -> Self {
        Self { base: self.base.clone(), variant: self.variant.with_phase(phase) }
    }

    /// Returns `true` for a Doppler without its phase: the price of that name is the price of its
    /// cheapest phase, which may be another variant.
    pub fn lacks_phase(&self) -> bool {
        self.variant.phase().is_none()
            && self
                .base
                .strip_suffix(DOPPLER)
                .is_some_and(|before| before.ends_with("| ") || before.ends_with("| Gamma "))
    }

    pub fn into_owned(self) -> ItemKey<'static> {
        ItemKey { base: Cow::Owned(self.base.into_owned()), variant: self.variant }
    }
}

/// As in market names, without the star: `StatTrak™ Karambit | Doppler Ruby (Factory New)`.
impl std::fmt::Display for ItemKey<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let base = match self.variant.phase() {
            Some(phase) => Cow::Owned(format!("{} {}", self.base, phase.as_str())),
            None => Cow::Borrowed(self.base.as_ref()),
        };
        let name = ItemName {
            base,
            is_star: false,
            is_stattrak: self.variant.is_stattrak(),
            is_souvenir: self.variant.is_souvenir(),
            wear: self.variant.wear(),
        };
        write!(f, "{name}")
    }
}

/// Returns a base name in its composed form.
fn composed_base(base: Cow<'_, str>) -> Cow<'_, str> {
    match base {
        Cow::Borrowed(base) => composed(base),
        Cow::Owned(base) => Cow::Owned(composed(&base).into_owned()),
    }
}

/// Splits a phase behind the name: `★ Gut Knife | Gamma Doppler (Factory New) - Phase 2`.
fn split_phase_behind(name: &str) -> (&str, Option<Phase>) {
    let trimmed = name.trim_end();
    let split = trimmed.rsplit_once(" - ").and_then(|(name, phase)| {
        let phase = Phase::parse(phase)?;
        name.contains("Doppler").then_some((name, Some(phase)))
    });
    split.unwrap_or((name, None))
}

/// Splits the phase within a base name: `Karambit | Doppler Phase 3`, `Karambit | Doppler Ruby`,
/// and `Karambit | Ruby`. Does not allocate.
#[inline]
pub(super) fn split_phase(base: &str) -> (&str, Option<Phase>) {
    let phase = base.as_bytes().last().and_then(|last| Phase::ending_in(*last));
    match phase.and_then(|phase| without_phase(base, phase)) {
        Some(name) => (name, phase),
        None => (base, None),
    }
}

/// Returns a base name without this phase, if it ends in it.
fn without_phase(base: &str, phase: Phase) -> Option<&str> {
    let before = base.strip_suffix(phase.as_str())?.strip_suffix(' ')?;
    if before.ends_with(" Doppler") {
        return Some(before);
    }
    let finish = phase.gem_finish()?;
    let weapon = before.strip_suffix(" |")?;
    let finished = FINISHED.iter().find(|finished| finished.weapon == weapon)?;
    Some(if finish == GAMMA { &finished.gamma } else { &finished.doppler })
}

/// Returns the base names of listings whose key has this base and phase.
pub(super) fn listing_bases(base: &str, phase: Option<Phase>) -> Vec<String> {
    let Some(phase) = phase else { return vec![base.to_owned()] };
    let mut names = vec![format!("{base} {}", phase.as_str())];
    if let Some(finish) = phase.gem_finish()
        && let Some(weapon) = base.strip_suffix(finish)
    {
        names.push(format!("{weapon}{}", phase.as_str()));
    }
    names
}

/// The weapon with Doppler finishes that is not a knife.
const DOPPLER_PISTOL: &str = "Glock-18";

/// Knives, by their names without the star.
pub const KNIVES: [&str; 20] = [
    "Bayonet",
    "Bowie Knife",
    "Butterfly Knife",
    "Classic Knife",
    "Falchion Knife",
    "Flip Knife",
    "Gut Knife",
    "Huntsman Knife",
    "Karambit",
    "Kukri Knife",
    "M9 Bayonet",
    "Navaja Knife",
    "Nomad Knife",
    "Paracord Knife",
    "Shadow Daggers",
    "Skeleton Knife",
    "Stiletto Knife",
    "Survival Knife",
    "Talon Knife",
    "Ursus Knife",
];

/// Names of a weapon with the finishes that a gem may replace.
struct Finished {
    weapon: &'static str,
    doppler: String,
    gamma: String,
}

static FINISHED: LazyLock<Vec<Finished>> = LazyLock::new(|| {
    let weapons = KNIVES.into_iter().chain([DOPPLER_PISTOL]);
    let finished = |weapon| Finished {
        weapon,
        doppler: format!("{weapon} | {DOPPLER}"),
        gamma: format!("{weapon} | {GAMMA}"),
    };
    weapons.map(finished).collect()
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::whitelist::tests::trade;

    fn key(name: &str) -> ItemKey<'_> {
        ItemKey::parse(name).unwrap()
    }

    #[track_caller]
    fn same(names: &[&str]) {
        for name in names {
            assert_eq!(key(name), key(names[0]), "{name} and {}", names[0]);
            let trade = trade("a", name);
            if !name.contains(" - ") && !name.starts_with("StatTrak™ ★") {
                assert_eq!(ItemKey::of_trade(&trade), key(names[0]), "listing {name}");
            }
        }
    }

    #[test]
    fn each_way_to_write_a_phase_is_the_same_key() {
        let phase_less = key("★ Gut Knife | Gamma Doppler (Factory New)");
        let two = "★ Gut Knife | Gamma Doppler Phase 2 (Factory New)";
        same(&[two, "★ Gut Knife | Gamma Doppler (Factory New) - Phase 2"]);
        assert_eq!(phase_less.with_phase(Phase::Two), key(two));
        assert_ne!(phase_less, key(two), "a phase has its own price or none");
    }

    #[test]
    fn a_gem_that_replaces_the_finish_is_the_gem_of_the_finish() {
        same(&[
            "★ Karambit | Sapphire (Factory New)",
            "★ Karambit | Doppler Sapphire (Factory New)",
        ]);
        same(&[
            "★ StatTrak™ M9 Bayonet | Black Pearl (Factory New)",
            "★ StatTrak™ M9 Bayonet | Doppler Black Pearl (Factory New)",
            "StatTrak™ ★ M9 Bayonet | Doppler (Factory New) - Black Pearl",
        ]);
        same(&[
            "★ Bayonet | Emerald (Factory New)",
            "★ Bayonet | Gamma Doppler Emerald (Factory New)",
        ]);
        same(&[
            "Glock-18 | Gamma Doppler Emerald (Factory New)",
            "Glock-18 | Emerald (Factory New)",
        ]);
        assert_ne!(
            key("★ Karambit | Ruby (Factory New)"),
            key("★ Karambit | Doppler (Factory New)")
        );
    }

    #[test]
    fn other_names_that_end_like_a_phase_are_left_as_they_are() {
        for name in [
            "Sticker | Ruby",
            "Charm | Emerald",
            "Sticker | Phase 2",
            "AK-47 | Ruby",
            "Desert Eagle | Emerald Jörmungandr (Factory New)",
        ] {
            assert_eq!(key(name).variant.phase(), None, "{name}");
            assert!(name.starts_with(key(name).base.as_ref()), "{name}");
        }
    }

    #[test]
    fn the_base_names_of_a_phase_are_those_of_its_listings() {
        for name in [
            "Karambit | Doppler Phase 2",
            "Karambit | Doppler Sapphire",
            "Karambit | Sapphire",
            "Glock-18 | Emerald",
            "Bayonet | Gamma Doppler Phase 4",
            "AK-47 | Ruby",
            "Fracture Case",
        ] {
            let (base, phase) = split_phase(name);
            let names = listing_bases(base, phase);
            assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
            for found in &names {
                assert_eq!(split_phase(found), (base, phase), "{found}");
            }
        }
    }

    #[test]
    fn the_key_of_a_listing_allocates_nothing() {
        let trades = [
            trade("a", "★ Karambit | Doppler Phase 2 (Factory New)"),
            trade("a", "★ Karambit | Ruby (Factory New)"),
            trade("a", "AK-47 | Redline (Field-Tested)"),
        ];
        // The names of finishes are built once.
        drop(key("★ Karambit | Ruby (Factory New)"));
        for trade in &trades {
            let info = allocation_counter::measure(|| drop(ItemKey::of_trade(trade)));
            assert_eq!(info.count_total, 0, "{}", trade.market_name);
        }
    }

    #[test]
    fn stattrak_souvenir_wear_and_vanilla_are_told_apart() {
        let names = [
            "AK-47 | Redline (Field-Tested)",
            "AK-47 | Redline (Minimal Wear)",
            "StatTrak™ AK-47 | Redline (Field-Tested)",
            "Souvenir AK-47 | Redline (Field-Tested)",
            "AK-47 | Redline",
            "★ Karambit",
            "★ StatTrak™ Karambit",
            "★ Karambit | Doppler (Factory New)",
            "Paris 2023 Nuke Souvenir Package",
        ];
        for (index, first) in names.iter().enumerate() {
            for second in &names[index + 1..] {
                assert_ne!(key(first), key(second), "{first} and {second}");
            }
        }
        assert!(!key("Paris 2023 Nuke Souvenir Package").variant.is_souvenir());
    }

    #[test]
    fn spaces_and_the_place_of_the_star_mean_nothing() {
        same(&["AK-47 | Redline (Field-Tested)", " AK-47  |  Redline  (Field-Tested) "]);
        same(&["★ StatTrak™ Karambit", "StatTrak™ ★ Karambit", "★  StatTrak™  Karambit"]);
        same(&["Sticker | Example (Holo)", "Sticker |  Example (Holo)"]);
        assert_ne!(key("Sticker | Example (Holo)"), key("Sticker | Example (Foil)"));
    }

    #[test]
    fn composed_and_decomposed_names_are_the_same_key() {
        for (composed, decomposed) in [
            ("Desert Eagle | J\u{f6}rmungandr", "Desert Eagle | Jo\u{308}rmungandr"),
            ("Sticker | \u{439}\u{451} (Holo)", "Sticker | \u{438}\u{306}\u{435}\u{308} (Holo)"),
            // A compatibility ideograph, whose composed form is the usual one.
            ("M4A4 | \u{9f8d}\u{738b} (Dragon King)", "M4A4 | \u{f9c4}\u{738b} (Dragon King)"),
            (
                "\u{2605} StatTrak\u{2122} Karambit | \u{e9} (Factory New)",
                "\u{2605} StatTrak\u{2122} Karambit |  e\u{301} (Factory New)",
            ),
        ] {
            assert_ne!(composed, decomposed);
            assert_eq!(key(composed), key(decomposed), "{composed}");
            assert_eq!(key(composed).base, ItemName::parse(composed).base, "{composed}");
        }
        assert_ne!(key("Sticker | J\u{f6}"), key("Sticker | Jo"));
    }

    #[test]
    fn only_a_doppler_without_its_phase_lacks_one() {
        for (name, lacks) in [
            ("★ Karambit | Doppler (Factory New)", true),
            ("★ StatTrak™ Gut Knife | Gamma Doppler (Minimal Wear)", true),
            ("★ Karambit | Doppler Phase 2 (Factory New)", false),
            ("★ Karambit | Sapphire (Factory New)", false),
            ("★ Karambit | Marble Fade (Factory New)", false),
            ("Sticker | Doppler Poison Frog (Foil)", false),
        ] {
            assert_eq!(key(name).lacks_phase(), lacks, "{name}");
        }
    }

    #[test]
    fn a_key_is_shown_as_a_name_that_has_the_same_key() {
        for name in [
            "★ StatTrak™ Karambit | Sapphire (Factory New)",
            "Souvenir AWP | Dragon Lore (Well-Worn)",
            "★ Gut Knife | Gamma Doppler (Factory New) - Phase 2",
            "Fracture Case",
        ] {
            assert_eq!(key(&key(name).to_string()), key(name), "{name}");
        }
    }

    #[test]
    fn contradicting_or_unprintable_names_have_no_key() {
        for name in [
            "",
            "  ",
            "★ Karambit | Doppler Phase 1 (Factory New) - Phase 2",
            "AK-47\u{1b}[2J",
            &"x".repeat(401),
        ] {
            assert_eq!(ItemKey::parse(name), None, "{name}");
        }
    }

    #[test]
    fn each_phase_is_found_by_the_last_byte_of_its_name() {
        for phase in Phase::ALL {
            let last = phase.as_str().bytes().last().unwrap();
            assert_eq!(Phase::ending_in(last), Some(phase), "{phase:?}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_read_without_a_panic(name in "(★ )?(StatTrak™ )?[ -~|]{0,30}(Doppler)?( Phase [0-9]| Ruby)?( \\(Factory New\\))?( - Phase 2)?") {
            if let Some(key) = ItemKey::parse(&name) {
                prop_assert_eq!(ItemVariant::from_bits(key.variant.bits()), Some(key.variant));
                prop_assert!(!key.base.contains("  "));
            }
        }
    }
}
