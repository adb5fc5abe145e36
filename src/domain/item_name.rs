//! Parser of market names such as `★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)`.
//!
//! Only the name shows StatTrak, Souvenir and wear. Special cases (source: recordings of the
//! market):
//!
//! - StatTrak guns begin with `StatTrak™ `, StatTrak knives with `★ StatTrak™ `.
//! - Souvenir weapons begin with `Souvenir `. Names that end in `Souvenir Package` are cases.
//! - The wear is the *last* parenthesis: `M4A4 | 龍王 (Dragon King) (Factory New)`. Vanilla knives,
//!   cases, agents and stickers have none, but stickers may end in another parenthesis.
//! - Doppler phases are part of the name; gems replace the finish. Where a market writes both
//!   (`Karambit | Doppler Ruby`), the finish is removed, so that an item has one name on all
//!   markets.
//! - Doubled and trailing spaces are insignificant.

use std::{borrow::Cow, fmt};

/// Exterior category of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wear {
    /// FN, float below 0.07.
    FactoryNew,
    /// MW, float below 0.15.
    MinimalWear,
    /// FT, float below 0.38.
    FieldTested,
    /// WW, float below 0.45.
    WellWorn,
    /// BS, float from 0.45.
    BattleScarred,
}

impl Wear {
    /// All wears, best first.
    pub const ALL: [Self; 5] = [
        Self::FactoryNew,
        Self::MinimalWear,
        Self::FieldTested,
        Self::WellWorn,
        Self::BattleScarred,
    ];

    /// Returns the wear as in market names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FactoryNew => "Factory New",
            Self::MinimalWear => "Minimal Wear",
            Self::FieldTested => "Field-Tested",
            Self::WellWorn => "Well-Worn",
            Self::BattleScarred => "Battle-Scarred",
        }
    }

    /// Returns the usual two-letter code.
    pub const fn short(self) -> &'static str {
        match self {
            Self::FactoryNew => "FN",
            Self::MinimalWear => "MW",
            Self::FieldTested => "FT",
            Self::WellWorn => "WW",
            Self::BattleScarred => "BS",
        }
    }

    /// Returns the bounds of its floats in hundredths: the lowest float, and the first one above.
    pub const fn float_hundredths(self) -> (u64, u64) {
        match self {
            Self::FactoryNew => (0, 7),
            Self::MinimalWear => (7, 15),
            Self::FieldTested => (15, 38),
            Self::WellWorn => (38, 45),
            Self::BattleScarred => (45, 100),
        }
    }

    /// Parses the exact name as in market names.
    pub fn from_market(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wear| wear.as_str() == text)
    }

    /// Parses the full name or the two-letter code, in upper or lower case.
    pub fn parse_user_input(text: &str) -> Option<Self> {
        let text = text.trim();
        Self::ALL.into_iter().find(|wear| {
            wear.as_str().eq_ignore_ascii_case(text) || wear.short().eq_ignore_ascii_case(text)
        })
    }
}

/// Finish whose items have a phase or a gem.
const DOPPLER: &str = "Doppler";

/// Phases of a Doppler finish other than gems.
const PHASES: [&str; 4] = ["Phase 1", "Phase 2", "Phase 3", "Phase 4"];

/// Gems, and the finish that each of them replaces in a name.
const GEMS: [(&str, &str); 4] = [
    ("Ruby", DOPPLER),
    ("Sapphire", DOPPLER),
    ("Black Pearl", DOPPLER),
    ("Emerald", "Gamma Doppler"),
];

/// A phase that the market states beside a name with another phase, or with none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the phase contradicts the name")]
pub struct PhaseConflict;

/// Parsed market name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemName<'a> {
    /// Name without star, StatTrak, Souvenir and wear, single-spaced: `AK-47 | Redline`.
    pub base: Cow<'a, str>,
    /// `true` for names that begin with `★`: knives and gloves.
    pub is_star: bool,
    pub is_stattrak: bool,
    /// `true` for Souvenir weapons, but not for souvenir *packages*.
    pub is_souvenir: bool,
    pub wear: Option<Wear>,
}

impl<'a> ItemName<'a> {
    /// Parses a market name. A name without any of the parts is its own base. Allocates only to
    /// remove redundant spaces, or the finish before a gem.
    #[inline]
    pub fn parse(name: &'a str) -> Self {
        let mut rest = name.trim_matches(' ');
        let is_star = strip(&mut rest, "★");
        let is_stattrak = strip(&mut rest, "StatTrak™ ");
        let is_souvenir = strip(&mut rest, "Souvenir ");
        let wear = strip_wear(&mut rest);
        let base = without_finish_of_gem(single_spaced(rest));
        Self { base, is_star, is_stattrak, is_souvenir, wear }
    }

    /// Parses a market name. The base borrows from the text if `name` is borrowed.
    #[inline]
    pub fn parse_cow(name: &Cow<'a, str>) -> Self {
        match name {
            Cow::Borrowed(text) => Self::parse(text),
            Cow::Owned(text) => {
                let ItemName { base, is_star, is_stattrak, is_souvenir, wear } =
                    ItemName::parse(text);
                let base = Cow::Owned(base.into_owned());
                Self { base, is_star, is_stattrak, is_souvenir, wear }
            }
        }
    }

    /// Adds a phase that a market states beside the name, which may contain it, too. An unknown
    /// phase changes nothing.
    ///
    /// # Errors
    ///
    /// Returns [`PhaseConflict`] if the name contains another phase or has none.
    pub fn add_phase(&mut self, phase: &str) -> Result<(), PhaseConflict> {
        let phase = phase.trim_matches(' ');
        let gem = GEMS.into_iter().find(|(gem, _)| *gem == phase);
        if gem.is_none() && !PHASES.contains(&phase) {
            return Ok(());
        }
        match phase_of(&self.base) {
            Some(within) if within == phase => return Ok(()),
            Some(_) => return Err(PhaseConflict),
            None => {}
        }
        let with_phase = match gem {
            Some((gem, finish)) => {
                before_finish(&self.base, finish).map(|before| [before, "", gem])
            }
            None => self.base.ends_with(DOPPLER).then_some([&*self.base, " ", phase]),
        };
        self.base = Cow::Owned(with_phase.ok_or(PhaseConflict)?.concat());
        Ok(())
    }
}

/// As in market names: `★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)`.
impl fmt::Display for ItemName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_star { "★ " } else { "" })?;
        f.write_str(if self.is_stattrak { "StatTrak™ " } else { "" })?;
        f.write_str(if self.is_souvenir { "Souvenir " } else { "" })?;
        f.write_str(&self.base)?;
        self.wear.map_or(Ok(()), |wear| write!(f, " ({})", wear.as_str()))
    }
}

/// Returns the part of a base name before its gem, the finish that the gem replaces, and the gem:
/// `Karambit | `, `Doppler` and `Ruby` of `Karambit | Ruby`.
pub fn split_gem(base: &str) -> Option<(&str, &'static str, &'static str)> {
    GEMS.into_iter().find_map(|(gem, finish)| Some((before_finish(base, gem)?, finish, gem)))
}

/// Returns the part of a base name before its finish: `Karambit | ` of `Karambit | Doppler`.
fn before_finish<'b>(base: &'b str, finish: &str) -> Option<&'b str> {
    base.strip_suffix(finish).filter(|before| before.ends_with("| "))
}

/// Returns the phase within a base name.
pub fn phase_of(base: &str) -> Option<&'static str> {
    let mut phases = PHASES.into_iter();
    let is_phase = |phase: &&str| {
        let before = base.strip_suffix(*phase).and_then(|before| before.strip_suffix(' '));
        before.is_some_and(|before| before.ends_with(DOPPLER))
    };
    phases.find(is_phase).or_else(|| split_gem(base).map(|(_, _, gem)| gem))
}

/// Removes the finish before a gem: `Karambit | Ruby` for `Karambit | Doppler Ruby`.
#[inline]
fn without_finish_of_gem(base: Cow<'_, str>) -> Cow<'_, str> {
    // These are the last characters of the gems' names, so most other names return here.
    if !matches!(base.as_bytes().last(), Some(b'y' | b'e' | b'l' | b'd')) {
        return base;
    }
    let shortened = GEMS.into_iter().find_map(|(gem, finish)| {
        let before = base.strip_suffix(gem)?.strip_suffix(' ')?;
        Some([before_finish(before, finish)?, gem].concat())
    });
    shortened.map_or(base, Cow::Owned)
}

fn strip(rest: &mut &str, prefix: &str) -> bool {
    match rest.strip_prefix(prefix) {
        Some(after) => {
            *rest = after.trim_start_matches(' ');
            true
        }
        None => false,
    }
}

fn strip_wear(rest: &mut &str) -> Option<Wear> {
    let in_parentheses = rest.strip_suffix(')')?;
    let (before, wear) = Wear::ALL.into_iter().find_map(|wear| {
        let before = in_parentheses.strip_suffix(wear.as_str())?.strip_suffix('(')?;
        Some((before, wear))
    })?;
    *rest = before.trim_end_matches(' ');
    Some(wear)
}

/// Replaces runs of spaces by one space. Borrows the text if there are none.
fn single_spaced(text: &str) -> Cow<'_, str> {
    // Without an early exit, so that the loop is vectorized.
    let bytes = text.as_bytes();
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    if !pairs.fold(false, |any, (first, second)| any | ((*first == b' ') & (*second == b' '))) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checks a parsed name. `flags` contains `*` for the star, `T` for StatTrak and `S` for
    /// Souvenir.
    #[track_caller]
    fn check(name: &str, base: &str, flags: &str, wear: Option<Wear>) {
        let item = ItemName::parse(name);
        let mut found = String::new();
        for (is, flag) in [(item.is_star, '*'), (item.is_stattrak, 'T'), (item.is_souvenir, 'S')] {
            if is {
                found.push(flag);
            }
        }
        assert_eq!(
            (item.base.as_ref(), found.as_str(), item.wear),
            (base, flags, wear),
            "{name:?}"
        );
    }

    #[test]
    fn guns_lose_prefix_and_wear() {
        check("AK-47 | Redline (Field-Tested)", "AK-47 | Redline", "", Some(Wear::FieldTested));
        check(
            "StatTrak™ AWP | Neo-Noir (Minimal Wear)",
            "AWP | Neo-Noir",
            "T",
            Some(Wear::MinimalWear),
        );
        check(
            "Souvenir AWP | Dragon Lore (Well-Worn)",
            "AWP | Dragon Lore",
            "S",
            Some(Wear::WellWorn),
        );
    }

    #[test]
    fn stattrak_knives_carry_the_star_first() {
        check(
            "★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)",
            "Karambit | Doppler Phase 3",
            "*T",
            Some(Wear::FactoryNew),
        );
        check(
            "★ Karambit | Sapphire (Factory New)",
            "Karambit | Sapphire",
            "*",
            Some(Wear::FactoryNew),
        );
    }

    #[test]
    fn vanilla_knives_cases_agents_and_stickers_have_no_wear() {
        check("★ Ursus Knife", "Ursus Knife", "*", None);
        check("★ StatTrak™ Ursus Knife", "Ursus Knife", "*T", None);
        check("Fracture Case", "Fracture Case", "", None);
        check("Paris 2023 Nuke Souvenir Package", "Paris 2023 Nuke Souvenir Package", "", None);
        check(
            "Sticker | Example (Holo) | 2020 RMR",
            "Sticker | Example (Holo) | 2020 RMR",
            "",
            None,
        );
        check("Sticker | Example (Holo)", "Sticker | Example (Holo)", "", None);
    }

    #[test]
    fn the_wear_is_the_last_parenthesis() {
        check(
            "M4A4 | 龍王 (Dragon King) (Factory New)",
            "M4A4 | 龍王 (Dragon King)",
            "",
            Some(Wear::FactoryNew),
        );
        check("M4A4 | 龍王 (Dragon King)", "M4A4 | 龍王 (Dragon King)", "", None);
    }

    #[test]
    fn doubled_and_trailing_spaces_mean_nothing() {
        check("Michael Syfers  | FBI Sniper", "Michael Syfers | FBI Sniper", "", None);
        check(
            " ★  StatTrak™ Bayonet  | Doppler Phase 1 (Factory New) ",
            "Bayonet | Doppler Phase 1",
            "*T",
            Some(Wear::FactoryNew),
        );
    }

    #[test]
    fn a_gem_replaces_the_finish_in_every_spelling() {
        let fresh = Some(Wear::FactoryNew);
        check("★ Karambit | Doppler Ruby (Factory New)", "Karambit | Ruby", "*", fresh);
        check(
            "★ StatTrak™ Gut Knife | Gamma Doppler Emerald (Factory New)",
            "Gut Knife | Emerald",
            "*T",
            fresh,
        );
        check("★ Karambit  | Doppler Black Pearl", "Karambit | Black Pearl", "*", None);
        for other in ["Karambit | Gamma Doppler Ruby", "Karambit | Doppler Emerald", "Doppler Ruby"]
        {
            check(other, other, "", None);
        }
    }

    #[test]
    fn a_phase_beside_the_name_is_added_once_and_must_agree() {
        let with = |name: &str, phase: &str| {
            let mut item = ItemName::parse(name);
            item.add_phase(phase).map(|()| item.base.into_owned())
        };
        for (name, phase, expected) in [
            ("★ Karambit | Doppler (Factory New)", "Phase 3", "Karambit | Doppler Phase 3"),
            ("★ Karambit | Doppler Phase 3 (Factory New)", "Phase 3", "Karambit | Doppler Phase 3"),
            ("★ Karambit | Doppler Phase 3 (Factory New)", "", "Karambit | Doppler Phase 3"),
            (
                "★ Karambit | Gamma Doppler (Factory New)",
                "Phase 1",
                "Karambit | Gamma Doppler Phase 1",
            ),
            ("★ Karambit | Doppler (Factory New)", "Sapphire", "Karambit | Sapphire"),
            ("★ Karambit | Gamma Doppler (Factory New)", "Emerald", "Karambit | Emerald"),
            ("★ Karambit | Doppler Ruby (Factory New)", " Ruby ", "Karambit | Ruby"),
            ("★ Karambit | Ruby (Factory New)", "Ruby", "Karambit | Ruby"),
            ("★ Karambit | Fade (Factory New)", "Tier 1", "Karambit | Fade"),
        ] {
            assert_eq!(with(name, phase).as_deref(), Ok(expected), "{name} {phase}");
        }
        for (name, phase) in [
            ("★ Karambit | Doppler Phase 3 (Factory New)", "Phase 2"),
            ("★ Karambit | Doppler Phase 3 (Factory New)", "Ruby"),
            ("★ Karambit | Ruby (Factory New)", "Sapphire"),
            ("★ Karambit | Gamma Doppler (Factory New)", "Ruby"),
            ("AK-47 | Redline (Field-Tested)", "Phase 1"),
            ("AK-47 | Redline (Field-Tested)", "Ruby"),
        ] {
            assert_eq!(with(name, phase), Err(PhaseConflict), "{name} {phase}");
        }
    }

    #[test]
    fn user_input_may_use_two_letter_wear_codes() {
        assert_eq!(Wear::parse_user_input("ft"), Some(Wear::FieldTested));
        assert_eq!(Wear::parse_user_input("factory new"), Some(Wear::FactoryNew));
        assert_eq!(Wear::parse_user_input("mint"), None);
    }

    proptest! {
        #[test]
        fn any_text_can_be_parsed(name in "\\PC{0,60}") {
            let item = ItemName::parse(&name);
            prop_assert!(item.base.len() <= name.len());
            prop_assert!(!item.base.contains("  "));
        }
    }
}
