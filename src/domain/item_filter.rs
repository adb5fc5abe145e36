//! Conditions on the kind of an item, for whitelist entries that name no single item.

use std::borrow::Cow;

use crate::domain::{
    item_name::{ItemName, phase_of, split_gem},
    trade::{RarityWord, Trade},
};

/// Kind of an item, as read from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemCategory {
    Knife,
    Gloves,
    Pistol,
    Rifle,
    Smg,
    Heavy,
    Case,
    Sticker,
    Agent,
    Charm,
    Other,
}

const PISTOLS: [&str; 10] = [
    "CZ75-Auto",
    "Desert Eagle",
    "Dual Berettas",
    "Five-SeveN",
    "Glock-18",
    "P2000",
    "P250",
    "R8 Revolver",
    "Tec-9",
    "USP-S",
];
const RIFLES: [&str; 11] = [
    "AK-47", "AUG", "AWP", "FAMAS", "G3SG1", "Galil AR", "M4A1-S", "M4A4", "SCAR-20", "SG 553",
    "SSG 08",
];
const SMGS: [&str; 7] = ["MAC-10", "MP5-SD", "MP7", "MP9", "P90", "PP-Bizon", "UMP-45"];
const HEAVY: [&str; 6] = ["M249", "MAG-7", "Negev", "Nova", "Sawed-Off", "XM1014"];
/// Factions of agents, which follow the name of the agent.
const FACTIONS: [&str; 20] = [
    "Brazilian 1st Battalion",
    "Elite Crew",
    "FBI",
    "FBI HRT",
    "FBI SWAT",
    "FBI Sniper",
    "Gendarmerie Nationale",
    "Guerrilla Warfare",
    "KSK",
    "NSWC SEAL",
    "NZSAS",
    "Phoenix",
    "SAS",
    "SEAL Frogman",
    "SWAT",
    "Sabre",
    "Sabre Footsoldier",
    "TACP Cavalry",
    "The Professionals",
    "USAF TACP",
];

impl ItemCategory {
    pub const ALL: [Self; 11] = [
        Self::Knife,
        Self::Gloves,
        Self::Pistol,
        Self::Rifle,
        Self::Smg,
        Self::Heavy,
        Self::Case,
        Self::Sticker,
        Self::Agent,
        Self::Charm,
        Self::Other,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Knife => "knife",
            Self::Gloves => "gloves",
            Self::Pistol => "pistol",
            Self::Rifle => "rifle",
            Self::Smg => "smg",
            Self::Heavy => "heavy",
            Self::Case => "case",
            Self::Sticker => "sticker",
            Self::Agent => "agent",
            Self::Charm => "charm",
            Self::Other => "other",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str().eq_ignore_ascii_case(word.trim()))
    }

    /// Reads the category from a base name; `is_star` is `true` for knives and gloves.
    pub fn of(base: &str, is_star: bool) -> Self {
        let (first, finish) = match base.split_once(" | ") {
            Some((first, finish)) => (first, Some(finish)),
            None => (base, None),
        };
        match finish {
            _ if is_star && (first.ends_with("Gloves") || first.ends_with("Wraps")) => Self::Gloves,
            _ if is_star => Self::Knife,
            Some(_) if first == "Sticker" => Self::Sticker,
            Some(_) if first == "Charm" => Self::Charm,
            Some(_) if PISTOLS.contains(&first) => Self::Pistol,
            Some(_) if RIFLES.contains(&first) => Self::Rifle,
            Some(_) if SMGS.contains(&first) => Self::Smg,
            Some(_) if HEAVY.contains(&first) => Self::Heavy,
            Some(finish) if FACTIONS.contains(&finish) => Self::Agent,
            None if is_case(base) => Self::Case,
            _ => Self::Other,
        }
    }

    const fn bit(self) -> u16 {
        match self {
            Self::Knife => 1,
            Self::Gloves => 2,
            Self::Pistol => 4,
            Self::Rifle => 8,
            Self::Smg => 16,
            Self::Heavy => 32,
            Self::Case => 64,
            Self::Sticker => 128,
            Self::Agent => 256,
            Self::Charm => 512,
            Self::Other => 1_024,
        }
    }
}

fn is_case(base: &str) -> bool {
    base.ends_with(" Case")
        || base.ends_with(" Souvenir Package")
        || base.strip_prefix("CS:GO Weapon Case").is_some_and(|rest| !rest.contains("Key"))
}

/// Set of categories. The empty set accepts any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CategorySet(u16);

impl CategorySet {
    #[must_use]
    pub const fn with(self, category: ItemCategory) -> Self {
        Self(self.0 | category.bit())
    }

    pub const fn accepts(self, category: ItemCategory) -> bool {
        self.0 == 0 || self.0 & category.bit() != 0
    }

    pub const fn is_any(self) -> bool {
        self.0 == 0
    }

    /// Iterates over the categories in the set.
    pub fn iter(self) -> impl Iterator<Item = ItemCategory> {
        ItemCategory::ALL.into_iter().filter(move |category| self.0 & category.bit() != 0)
    }
}

/// Maximum length of a name that is put together for a comparison, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// Pattern of item names: a name as in `item`, with an optional `*` at either end. ASCII case is
/// ignored, so that an exclusion never covers less than the user meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamePattern {
    /// Text as the user wrote it. It is part of the key by which the ledger identifies an entry
    /// without a name.
    text: String,
    /// Text without `*`, spaced as in market names.
    inner: String,
    is_open_start: bool,
    is_open_end: bool,
}

impl NamePattern {
    /// Parses a pattern. Returns `None` if it is empty, or has a `*` elsewhere than at its ends.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let end = text.strip_prefix('*').unwrap_or(text);
        let inner = end.strip_suffix('*').unwrap_or(end);
        (!inner.trim().is_empty() && !inner.contains('*')).then(|| Self {
            text: text.to_owned(),
            inner: spaced(inner),
            is_open_start: end.len() < text.len(),
            is_open_end: inner.len() < end.len(),
        })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the item name; `None` if the pattern has a `*`.
    pub fn name(&self) -> Option<ItemName<'_>> {
        (!self.is_open_start && !self.is_open_end).then(|| ItemName::parse(&self.inner))
    }

    /// Returns `true` if the base name or the market name of a listing matches.
    pub fn matches(&self, trade: &Trade<'_>) -> bool {
        let Trade { is_stattrak, is_souvenir, wear, .. } = *trade;
        let (base, is_star) = (Cow::Borrowed(&*trade.item), has_star(&trade.market_name));
        let item = ItemName { base, is_star, is_stattrak, is_souvenir, wear };
        self.matches_item(&item, &trade.market_name)
    }

    /// Returns `true` if an item with this market name matches.
    pub fn matches_item(&self, item: &ItemName<'_>, market_name: &str) -> bool {
        let ItemName { is_star, is_stattrak, is_souvenir, wear, .. } = item;
        let base = &*item.base;
        let Some(name) = self.name() else {
            let variant = match (is_stattrak, is_souvenir) {
                (true, _) => "StatTrak™ ",
                (false, true) => "Souvenir ",
                (false, false) => "",
            };
            // A market may write a phase beside the name, and a gem with or without its finish.
            let before = [if *is_star { "★ " } else { "" }, variant];
            let behind = wear.map_or([""; 3], |wear| [" (", wear.as_str(), ")"]);
            return self.is_part_of(market_name.as_bytes())
                || self.matches_base(base)
                || phase_of(base).is_some()
                    && [with_finish(base), [base, "", "", ""]].into_iter().any(|name| {
                        self.is_part_of_joined(before.into_iter().chain(name).chain(behind))
                    });
        };
        name.base.eq_ignore_ascii_case(base)
            && (is_bare(&name)
                || name.is_stattrak == *is_stattrak
                    && name.is_souvenir == *is_souvenir
                    && name.wear.is_none_or(|own| *wear == Some(own)))
    }

    /// Returns `true` if every listing with this base name matches.
    fn matches_base(&self, base: &str) -> bool {
        match self.name() {
            Some(name) => name.base.eq_ignore_ascii_case(base) && is_bare(&name),
            None => {
                self.is_part_of(base.as_bytes())
                    || split_gem(base).is_some() && self.is_part_of_joined(with_finish(base))
            }
        }
    }

    /// Compares a name in parts, as [`is_part_of`](Self::is_part_of). Does not allocate.
    fn is_part_of_joined<'n>(&self, parts: impl IntoIterator<Item = &'n str>) -> bool {
        let mut joined = [0; NAME_BYTES_MAX];
        let bytes = parts.into_iter().flat_map(str::bytes);
        let len = joined.iter_mut().zip(bytes).map(|(place, byte)| *place = byte).count();
        self.is_part_of(joined.get(..len).unwrap_or_default())
    }

    /// Compares a name with a pattern that has a `*` at its start, its end or both.
    fn is_part_of(&self, name: &[u8]) -> bool {
        let inner = self.inner.as_bytes();
        let mut parts = name.windows(inner.len().max(1));
        match (self.is_open_start, self.is_open_end) {
            (true, true) => parts.any(|part| part.eq_ignore_ascii_case(inner)),
            (true, false) => parts.next_back().is_some_and(|end| end.eq_ignore_ascii_case(inner)),
            (false, _) => parts.next().is_some_and(|start| start.eq_ignore_ascii_case(inner)),
        }
    }
}

/// Returns the parts of a base name with the finish that a gem replaces: `Karambit | Doppler Ruby`
/// of `Karambit | Ruby`. Any name that ends as a gem has one, because an exclusion may cover more.
fn with_finish(base: &str) -> [&str; 4] {
    split_gem(base).map_or([base, "", "", ""], |(before, finish, gem)| [before, finish, " ", gem])
}

/// Writes each `|` with one space on both sides, and single spaces elsewhere.
fn spaced(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len());
    for character in text.replace('|', " | ").chars() {
        if !character.is_whitespace() {
            spaced.push(character);
        } else if !spaced.ends_with(' ') {
            spaced.push(' ');
        }
    }
    spaced
}

/// Returns `true` if a pattern names an item in every wear and variant.
const fn is_bare(name: &ItemName<'_>) -> bool {
    name.wear.is_none() && !name.is_stattrak && !name.is_souvenir
}

/// Returns `true` if a market name begins with the star of knives and gloves.
#[inline]
pub fn has_star(market_name: &str) -> bool {
    market_name.trim_start().starts_with('★')
}

/// Conditions of an entry on the kind of its items. Empty conditions accept any item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ItemFilter {
    pub categories: CategorySet,
    /// The market's words, in lower case.
    pub rarities: Vec<RarityWord>,
    pub exclude: Vec<NamePattern>,
}

impl ItemFilter {
    pub const fn is_any(&self) -> bool {
        self.categories.is_any() && self.rarities.is_empty() && self.exclude.is_empty()
    }

    /// Returns `false` if no listing of an item can be accepted, as far as its name shows.
    pub fn may_accept(&self, base: &str, is_star: bool) -> bool {
        (self.categories.is_any() || self.categories.accepts(ItemCategory::of(base, is_star)))
            && !self.exclude.iter().any(|pattern| pattern.matches_base(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whitelist::tests::trade;

    #[test]
    fn the_category_is_read_from_the_name() {
        for (name, expected) in [
            ("★ Karambit | Doppler Phase 2 (Factory New)", ItemCategory::Knife),
            ("★ StatTrak™ Ursus Knife", ItemCategory::Knife),
            ("★ Specialist Gloves | Fade (Field-Tested)", ItemCategory::Gloves),
            ("★ Hand Wraps | Slaughter (Well-Worn)", ItemCategory::Gloves),
            ("StatTrak™ Glock-18 | Fade (Factory New)", ItemCategory::Pistol),
            ("Souvenir AWP | Dragon Lore (Well-Worn)", ItemCategory::Rifle),
            ("MAC-10 | Neon Rider (Minimal Wear)", ItemCategory::Smg),
            ("Negev | Power Loader (Field-Tested)", ItemCategory::Heavy),
            ("Fracture Case", ItemCategory::Case),
            ("CS:GO Weapon Case 2", ItemCategory::Case),
            ("Paris 2023 Nuke Souvenir Package", ItemCategory::Case),
            ("Sticker | Example (Holo)", ItemCategory::Sticker),
            ("Michael Syfers  | FBI Sniper", ItemCategory::Agent),
            ("Charm | Lil' Squirt", ItemCategory::Charm),
            ("Fracture Case Key", ItemCategory::Other),
            ("Music Kit | Somebody, Somewhere", ItemCategory::Other),
            ("Stockholm 2021 Legends Sticker Capsule", ItemCategory::Other),
        ] {
            let parsed = ItemName::parse(name);
            assert_eq!(ItemCategory::of(&parsed.base, parsed.is_star), expected, "{name}");
        }
    }

    #[test]
    fn a_set_of_categories_accepts_its_members() {
        let set = CategorySet::default().with(ItemCategory::Knife).with(ItemCategory::Other);
        assert_eq!(set.iter().collect::<Vec<_>>(), [ItemCategory::Knife, ItemCategory::Other]);
        assert!(set.accepts(ItemCategory::Knife) && !set.accepts(ItemCategory::Gloves));
        assert!(CategorySet::default().accepts(ItemCategory::Gloves));
    }

    #[test]
    fn a_pattern_matches_a_name_in_every_variant_or_a_part_of_it() {
        let matches = |pattern: &str, name: &str| {
            NamePattern::parse(pattern).unwrap().matches(&trade("a", name))
        };
        let redline = "StatTrak™ AK-47 | Redline (Field-Tested)";
        for pattern in [
            "AK-47 | Redline",
            "AK-47 | *",
            "*Redline",
            "*| Red*",
            "StatTrak™*",
            "*(Field-Tested)",
            redline,
            "StatTrak™ AK-47 | Redline",
            "AK-47|Redline",
            "ak-47  |redline",
            "AK-47|*",
            "*|Redline",
            "stattrak™*",
            "*redline (field-tested)",
        ] {
            assert!(matches(pattern, redline), "{pattern}");
        }
        for pattern in [
            "AK-47 | Redline (Field-Tested)",
            "StatTrak™ AK-47 | Redline (Well-Worn)",
            "AK-47",
            "Sticker | *",
            "sticker|*",
            "*Slate",
            "AK-47 | Redline *",
        ] {
            assert!(!matches(pattern, redline), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_finds_a_doppler_as_each_market_writes_it() {
        let matches = |pattern: &str, trade: &Trade<'_>| {
            let pattern = NamePattern::parse(pattern).unwrap();
            assert!(!pattern.matches_base(&trade.item) || pattern.matches(trade), "{pattern:?}");
            pattern.matches(trade)
        };
        let listing = |market: &str, item: &str| Trade {
            item: item.to_owned().into(),
            ..trade("a", &format!("★ StatTrak™ Karambit | {market} (Factory New)"))
        };
        let ruby =
            ["Ruby", "Doppler Ruby", "Doppler"].map(|market| listing(market, "Karambit | Ruby"));
        for pattern in [
            "* | Doppler Ruby",
            "*Doppler Ruby*",
            "*Doppler*",
            "* | Ruby",
            "*Ruby (Factory New)",
            "★ StatTrak™ Karambit | Ruby*",
            "★ StatTrak™ Karambit | Doppler Ruby*",
            "Karambit | Doppler R*",
            "*doppler ruby (factory new)",
        ] {
            for ruby in &ruby {
                assert!(matches(pattern, ruby), "{pattern}: {}", ruby.market_name);
            }
        }
        for pattern in ["*Gamma*", "*Doppler Sapphire*", "* | Doppler", "Doppler*", "*Phase*"] {
            assert!(!matches(pattern, &ruby[0]) && !matches(pattern, &ruby[1]), "{pattern}");
        }
        let phase = ["Doppler Phase 2", "Doppler"]
            .map(|market| listing(market, "Karambit | Doppler Phase 2"));
        for pattern in ["*Doppler*", "* | Doppler Phase 2", "★ StatTrak™ Karambit | Doppler Ph*"]
        {
            assert!(phase.iter().all(|phase| matches(pattern, phase)), "{pattern}");
        }
        assert!(!matches("*Doppler*", &trade("a", "Sticker | Ruby Wave")));
        let emerald = trade("a", "Glock-18 | Emerald (Factory New)");
        assert!(matches("*Gamma Doppler*", &emerald) && !matches("* | Doppler*", &emerald));
        let other = NamePattern::parse("*Sapphire*").unwrap();
        let info = allocation_counter::measure(|| assert!(!other.matches(&emerald)));
        assert_eq!(info.count_total, 0);
    }

    #[test]
    fn a_pattern_is_a_name_with_a_star_at_its_ends_only() {
        for pattern in ["", "*", "**", " * ", "AK*47"] {
            assert_eq!(NamePattern::parse(pattern), None, "{pattern}");
        }
    }
}
