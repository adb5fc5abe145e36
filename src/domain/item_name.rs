//! Parser of market names such as `★ StatTrak™ Karambit | Doppler Phase 3 (Factory New)`.
//!
//! Only the name shows StatTrak, Souvenir and wear. Special cases (source: recordings of the
//! market):
//!
//! - StatTrak guns begin with `StatTrak™ `, StatTrak knives with `★ StatTrak™ `.
//! - Souvenir weapons begin with `Souvenir `. Names that end in `Souvenir Package` are cases.
//! - The wear is the *last* parenthesis: `M4A4 | 龍王 (Dragon King) (Factory New)`. Vanilla knives,
//!   cases, agents and stickers have none, but stickers may end in another parenthesis.
//! - Doppler phases are part of the name; gems replace it.
//! - Doubled and trailing spaces are insignificant.

use std::borrow::Cow;

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
    /// BS, the rest.
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

    /// Returns the least float and the one below which its floats are, in hundredths.
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
    /// Parses a market name. A name without any of the parts is its own base. Allocates only to remove
    /// redundant spaces.
    #[inline]
    pub fn parse(name: &'a str) -> Self {
        let mut rest = name.trim_matches(' ');
        let is_star = strip(&mut rest, "★");
        let is_stattrak = strip(&mut rest, "StatTrak™ ");
        let is_souvenir = strip(&mut rest, "Souvenir ");
        let wear = strip_wear(&mut rest);
        Self { base: single_spaced(rest), is_star, is_stattrak, is_souvenir, wear }
    }
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

    /// `flags` contains `*` for the star, `T` for StatTrak and `S` for Souvenir.
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
