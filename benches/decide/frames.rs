//! Synthetic frames with one listing, in the format of both generations of the feed.
//!
//! The fields and their order are those of the market's messages. As in real frames, the size
//! varies with the length of the icon's address and the number of stickers.

use sniper::{
    config::Generation,
    domain::money::{Amount, Percent},
    domain::time::UnixMs,
};

/// Names of real listings: with and without wear, StatTrak, Souvenir, phases, and not only ASCII.
pub(crate) const NAMES: [&str; 16] = [
    "AWP | Neo-Noir (Field-Tested)",
    "AK-47 | Slate (Minimal Wear)",
    "StatTrak™ M4A1-S | Decimator (Field-Tested)",
    "★ Karambit | Doppler Phase 3 (Factory New)",
    "★ StatTrak™ Bayonet | Crimson Web (Well-Worn)",
    "★ Ursus Knife",
    "Sticker | Example (Holo) | 2020 RMR",
    "M4A4 | 龍王 (Dragon King) (Factory New)",
    "USP-S | Printstream (Field-Tested)",
    "Souvenir AWP | Pit Viper (Battle-Scarred)",
    "Glock-18 | Water Elemental (Factory New)",
    "Michael Syfers | FBI Sniper",
    "Desert Eagle | Kumicho Dragon (Minimal Wear)",
    "Fracture Case",
    "P250 | See Ya Later (Field-Tested)",
    "★ Sport Gloves | Hedge Maze (Battle-Scarred)",
];

/// 2026-03-01T10:00:00.000Z, the time of the first listing.
pub(crate) const OPENING: UnixMs = UnixMs(1_772_359_200_000);

/// Returns the `number`-th listing with about this many bytes, or more if its fields need more.
pub(crate) fn frame(generation: Generation, number: u64, bytes: usize) -> String {
    let pick = usize::try_from(number).unwrap_or(0) % NAMES.len();
    named(generation, number, NAMES.get(pick).copied().unwrap_or_default(), bytes)
}

/// Returns a listing of the named item with about this many bytes.
pub(crate) fn named(generation: Generation, number: u64, name: &str, bytes: usize) -> String {
    let mut icon = 60;
    let mut stickers = 0;
    loop {
        let text = Frame { number, name, icon, stickers }.write(generation);
        let missing = bytes.saturating_sub(text.len());
        match missing {
            0..8 => return text,
            // The icon's address grows to 240 characters, then stickers are added.
            8..200 if icon < 240 => icon += missing.min(180),
            _ if stickers < 40 => stickers += 1,
            _ => return text,
        }
    }
}

struct Frame<'a> {
    number: u64,
    name: &'a str,
    icon: usize,
    stickers: usize,
}

impl Frame<'_> {
    fn write(&self, generation: Generation) -> String {
        match generation {
            Generation::A => self.of_a(),
            Generation::B => self.of_b(),
        }
    }

    fn id(&self) -> String {
        format!("VHJhZGU6{:011}", 90_000_000 + self.number)
    }

    fn total(&self) -> Amount {
        Amount::from_cents(102 + i64::try_from(self.number * 7_919 % 900_000).unwrap_or(0))
    }

    fn markup(&self) -> Percent {
        Percent::from_hundredths(i64::try_from(self.number * 31 % 2_400).unwrap_or(0))
    }

    fn float(&self) -> u64 {
        self.number * 7_368_787 % 1_000_000_000
    }

    fn at(&self, after_ms: i64) -> UnixMs {
        UnixMs(OPENING.0 + i64::try_from(self.number * 617).unwrap_or(0) + after_ms)
    }

    fn icon(&self) -> String {
        "fWFc82js0fmoRAP-qOIPu5THSWqfSmTELLqcUywGkijVjZULUrsm1j-9xgEObwgfEh"
            .chars()
            .cycle()
            .take(self.icon)
            .collect()
    }

    fn stickers(&self) -> String {
        let one = |place: usize| {
            format!(
                r#"{{"value":0.38,"imageUrl":"https://example.invalid/stickers/rmr2020/example_{place}.png","brand":"Sticker","name":"Example {place} | 2020 RMR","color":"Holo","wear":0.1{place}}}"#
            )
        };
        (0..self.stickers).map(one).collect::<Vec<_>>().join(",")
    }

    fn of_a(&self) -> String {
        let Self { number, name, .. } = self;
        let (id, total, markup, icon, stickers) =
            (self.id(), self.total(), self.markup(), self.icon(), self.stickers());
        let (created, soon, active) = (self.at(0), self.at(1_000), self.at(-2_116));
        let (expires, float, has) = (self.at(172_800_000), self.float(), self.stickers > 0);
        format!(
            r#"{{"id":"1","type":"next","payload":{{"data":{{"createTrade":{{"trade":{{"id":"{id}","status":"LISTED","steamAppName":"CSGO","cancelReason":null,"canJoinAfter":null,"markupPercent":{markup},"createdAt":"{created}","depositor":null,"depositorLastActiveAt":"{active}","expiresAt":"{expires}","withdrawerSteamTradeUrl":null,"customValue":false,"withdrawer":null,"totalValue":{total},"updatedAt":"{created}","tradeItems":[{{"id":"VHJhZGVJdGVtOjkwMDAwMDAx","marketName":"{name}","value":{total},"customValue":false,"itemVariant":{{"id":"SXRlbVZhcmlhbnQ6MTE4OTM","itemId":"SXRlbToxMTg5Mw","name":"Neo-Noir","brand":"AWP","iconUrl":"https://example.invalid/{icon}.png","value":{total},"displayValue":{total},"externalId":"{name}","color":"Field-Tested","rarity":"covert","depositable":true}},"markupPercent":{markup},"stickers":[{stickers}],"steamExternalAssetId":"U3RlYW1FeHRlcm5hbEFzc2V0OjkwMDAwMDAx{number}"}}],"trackingType":"API_KEY_DEPOSITOR","suspectedTraderCanJoinAfter":"{soon}","joinedAt":null,"avgPaintWear":0.{float:09},"hasStickers":{has}}}}}}}}}}}"#
        )
    }

    fn of_b(&self) -> String {
        let Self { number, name, .. } = self;
        let (id, total, markup, icon, stickers) =
            (self.id(), self.total(), self.markup(), self.icon(), self.stickers());
        let (created, soon, active) = (self.at(0), self.at(1_000), self.at(-2_116));
        let (expires, float, has) = (self.at(172_800_000), self.float(), self.stickers > 0);
        format!(
            r#"{{"id":"1","type":"next","payload":{{"data":{{"createTrades":{{"trades":[{{"id":"{id}","depositorLastActiveAt":"{active}","markupPercent":{markup},"totalValue":{total},"avgPaintWear":0.{float:09},"hasStickers":{has},"tradeItems":[{{"id":"VHJhZGVJdGVtOjkwMDAwMDAy","marketName":"{name}","markupPercent":{markup},"customValue":true,"steamExternalAssetId":"U3RlYW1FeHRlcm5hbEFzc2V0OjkwMDAwMDAy{number}","itemVariant":{{"brand":"AK-47","color":"Field-Tested","name":"Redline","iconUrl":"https://example.invalid/{icon}.png","rarity":"classified","depositable":true,"itemId":"SXRlbToxMjM","id":"SXRlbVZhcmlhbnQ6MTIz","value":{total},"currency":"TKN","externalId":"{name}"}},"stickers":[{stickers}],"value":{total},"patternPercentage":null}}],"trackingType":"API_KEY_DEPOSITOR","avgPaintWearRange":null,"canJoinAfter":null,"depositor":null,"suspectedTraderCanJoinAfter":"{soon}","status":"LISTED","steamAppName":"CSGO","customValue":true,"createdAt":"{created}","updatedAt":"{created}","canJoin":true,"expiresAt":"{expires}","withdrawer":null,"joinedAt":null,"cancelReason":null,"withdrawerSteamTradeUrl":null}}]}}}}}}}}"#
        )
    }
}
