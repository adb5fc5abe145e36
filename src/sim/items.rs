//! Table of the items on the simulated market: real items of the game with made-up prices, with
//! every kind of name that is difficult to parse. Pure.

use crate::domain::item_name::Wear;

/// Kind of an item, which determines the format of its market name and whether it has a wear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A weapon: `[StatTrak™ |Souvenir ]AK-47 | Redline (Field-Tested)`.
    Gun,
    /// A knife with a finish: `★ [StatTrak™ ]Karambit | Sapphire (Factory New)`.
    Knife,
    /// A knife without a finish: `★ [StatTrak™ ]Ursus Knife`.
    Vanilla,
    /// A pair of gloves: `★ Sport Gloves | Vice (Field-Tested)`.
    Gloves,
    /// A sticker, with its finish in parentheses: `Sticker | Crown (Foil)`.
    Sticker,
    /// An agent: `Michael Syfers  | FBI Sniper`, with two spaces.
    Agent,
    /// A case, package, music kit or patch, with a name only.
    Plain,
}

/// An item of the table.
#[derive(Clone, Copy, Debug)]
pub struct CatalogueItem {
    pub kind: ItemKind,
    /// The part of the name before the bar, such as the weapon; empty without a bar.
    pub brand: &'static str,
    /// The part of the name after the bar, such as the finish; empty for vanilla knives.
    pub name: &'static str,
    pub rarity: &'static str,
    /// Price in hundredths of a coin; of the Field-Tested item if it has a wear.
    pub cents: i64,
    /// Existing wears, from best to worst.
    pub wears: &'static [Wear],
    pub variants: Variants,
}

/// The special variant of an item, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variants {
    None,
    StatTrak,
    Souvenir,
}

use ItemKind::{Agent, Gloves, Gun, Knife, Plain, Sticker, Vanilla};
use Variants::{None as No, Souvenir as Sv, StatTrak as St};
use Wear::{BattleScarred, FactoryNew, FieldTested, MinimalWear, WellWorn};

const ALL: &[Wear] = &[FactoryNew, MinimalWear, FieldTested, WellWorn, BattleScarred];
const FRESH: &[Wear] = &[FactoryNew, MinimalWear];
const WORN: &[Wear] = &[MinimalWear, FieldTested, WellWorn, BattleScarred];
const USED: &[Wear] = &[FieldTested, WellWorn, BattleScarred];
const NONE: &[Wear] = &[];

const fn item(
    kind: ItemKind,
    names: (&'static str, &'static str),
    rarity: &'static str,
    cents: i64,
    made_as: (&'static [Wear], Variants),
) -> CatalogueItem {
    let (brand, name) = names;
    let (wears, variants) = made_as;
    CatalogueItem { kind, brand, name, rarity, cents, wears, variants }
}

/// All items of the simulated market.
pub const ITEMS: [CatalogueItem; 64] = [
    item(Gun, ("AK-47", "Redline"), "classified", 1_120, (WORN, St)),
    item(Gun, ("AK-47", "Slate"), "restricted", 310, (ALL, St)),
    item(Gun, ("AK-47", "Vulcan"), "covert", 14_500, (ALL, St)),
    item(Gun, ("AK-47", "Fire Serpent"), "covert", 61_000, (ALL, St)),
    item(Gun, ("AK-47", "Safari Mesh"), "industrial", 115, (ALL, Sv)),
    item(Gun, ("AWP", "Asiimov"), "covert", 9_400, (USED, St)),
    item(Gun, ("AWP", "Neo-Noir"), "covert", 2_640, (ALL, St)),
    item(Gun, ("AWP", "Dragon Lore"), "covert", 690_000, (ALL, Sv)),
    item(Gun, ("AWP", "Atheris"), "restricted", 420, (ALL, St)),
    item(Gun, ("M4A4", "龍王 (Dragon King)"), "classified", 780, (ALL, St)),
    item(Gun, ("M4A4", "Howl"), "contraband", 310_000, (ALL, St)),
    item(Gun, ("M4A4", "Desolate Space"), "classified", 1_350, (ALL, St)),
    item(Gun, ("M4A1-S", "Printstream"), "covert", 7_900, (ALL, St)),
    item(Gun, ("M4A1-S", "Decimator"), "classified", 960, (ALL, St)),
    item(Gun, ("Desert Eagle", "Blaze"), "restricted", 48_000, (FRESH, No)),
    item(Gun, ("Desert Eagle", "Code Red"), "covert", 2_150, (ALL, St)),
    item(Gun, ("Glock-18", "Water Elemental"), "classified", 510, (ALL, St)),
    item(Gun, ("Glock-18", "Fade"), "restricted", 132_000, (FRESH, No)),
    item(Gun, ("USP-S", "Kill Confirmed"), "covert", 4_200, (ALL, St)),
    item(Gun, ("USP-S", "Cortex"), "classified", 440, (ALL, St)),
    item(Gun, ("P250", "Sand Dune"), "consumer", 104, (ALL, Sv)),
    item(Gun, ("P90", "Asiimov"), "covert", 890, (ALL, St)),
    item(Gun, ("MP9", "Hot Rod"), "mil-spec", 9_100, (FRESH, No)),
    item(Gun, ("MAC-10", "Neon Rider"), "covert", 620, (ALL, St)),
    item(Gun, ("SSG 08", "Dragonfire"), "covert", 1_480, (ALL, St)),
    item(Gun, ("Galil AR", "Chatterbox"), "covert", 1_260, (USED, St)),
    item(Gun, ("FAMAS", "Roll Cage"), "covert", 830, (ALL, St)),
    item(Gun, ("MP7", "Nemesis"), "classified", 390, (ALL, St)),
    item(Gun, ("Five-SeveN", "Case Hardened"), "restricted", 1_090, (ALL, St)),
    item(Gun, ("Tec-9", "Fuel Injector"), "classified", 570, (ALL, St)),
    item(Knife, ("Karambit", "Doppler Phase 3"), "covert", 96_000, (FRESH, St)),
    item(Knife, ("Karambit", "Sapphire"), "covert", 820_000, (FRESH, No)),
    item(Knife, ("Karambit", "Gamma Doppler Phase 1"), "covert", 118_000, (FRESH, St)),
    item(Knife, ("M9 Bayonet", "Ruby"), "covert", 540_000, (FRESH, No)),
    item(Knife, ("M9 Bayonet", "Lore"), "covert", 71_000, (ALL, St)),
    item(Knife, ("Butterfly Knife", "Black Pearl"), "covert", 610_000, (FRESH, No)),
    item(Knife, ("Butterfly Knife", "Tiger Tooth"), "covert", 152_000, (FRESH, St)),
    item(Knife, ("Bayonet", "Emerald"), "covert", 430_000, (FRESH, No)),
    item(Knife, ("Gut Knife", "Doppler Phase 2"), "covert", 9_800, (FRESH, St)),
    item(Knife, ("Navaja Knife", "Ultraviolet"), "covert", 7_300, (ALL, St)),
    item(Knife, ("Falchion Knife", "Marble Fade"), "covert", 21_000, (FRESH, St)),
    item(Vanilla, ("Ursus Knife", ""), "covert", 23_500, (NONE, St)),
    item(Vanilla, ("Navaja Knife", ""), "covert", 8_200, (NONE, St)),
    item(Vanilla, ("Karambit", ""), "covert", 104_000, (NONE, St)),
    item(Vanilla, ("Classic Knife", ""), "covert", 18_700, (NONE, St)),
    item(Gloves, ("Sport Gloves", "Vice"), "covert", 88_000, (ALL, No)),
    item(Gloves, ("Driver Gloves", "King Snake"), "covert", 36_000, (ALL, No)),
    item(Gloves, ("Hydra Gloves", "Case Hardened"), "covert", 8_900, (ALL, No)),
    item(Sticker, ("Sticker", "Crown (Foil)"), "exotic", 64_000, (NONE, No)),
    item(Sticker, ("Sticker", "Battle Scarred (Holo)"), "remarkable", 690, (NONE, No)),
    item(
        Sticker,
        ("Sticker", "Example Five (Holo) | Katowice 2019"),
        "remarkable",
        880,
        (NONE, No),
    ),
    item(Sticker, ("Sticker", "Nobody (Gold) | Boston 2018"), "exotic", 1_900, (NONE, No)),
    item(Agent, ("Michael Syfers ", "FBI Sniper"), "superior", 640, (NONE, No)),
    item(Agent, ("Sir Bloody Miami Darryl", "The Professionals"), "master", 5_400, (NONE, No)),
    item(Agent, ("'The Doctor' Romanov", "Sabre"), "superior", 590, (NONE, No)),
    item(Agent, ("Cmdr. Mae 'Dead Cold' Jamison", "SWAT"), "master", 3_100, (NONE, No)),
    item(Plain, ("", "Glove Case"), "base", 870, (NONE, No)),
    item(Plain, ("", "Operation Bravo Case"), "base", 4_600, (NONE, No)),
    item(Plain, ("", "Clutch Case"), "base", 108, (NONE, No)),
    item(Plain, ("", "eSports 2013 Winter Case"), "base", 1_450, (NONE, No)),
    item(Plain, ("", "Cologne 2014 Cobblestone Souvenir Package"), "base", 37_000, (NONE, No)),
    item(Plain, ("", "Boston 2018 Mirage Souvenir Package"), "base", 1_180, (NONE, No)),
    item(Plain, ("Music Kit", "Example Band, Loud"), "high", 410, (NONE, No)),
    item(Plain, ("Patch", "Metal Chicken"), "high", 230, (NONE, No)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_difficult_kind_of_name() {
        for kind in [Gun, Knife, Vanilla, Gloves, Sticker, Agent, Plain] {
            assert!(ITEMS.iter().any(|item| item.kind == kind), "{kind:?}");
        }
        for part in ["Phase 3", "Sapphire", "Ruby", "Emerald", "Black Pearl", "(Dragon King)"] {
            assert!(ITEMS.iter().any(|item| item.name.contains(part)), "{part}");
        }
        assert!(ITEMS.iter().any(|item| item.brand.ends_with(' ')));
        assert!(ITEMS.iter().any(|item| item.name.ends_with("Souvenir Package")));
    }

    #[test]
    fn only_weapons_finished_knives_and_gloves_have_a_wear() {
        for item in ITEMS {
            let has_wear = matches!(item.kind, Gun | Knife | Gloves);
            assert_eq!(has_wear, !item.wears.is_empty(), "{item:?}");
            assert!(item.cents >= 102, "{item:?}");
        }
    }
}
