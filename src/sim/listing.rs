//! A listing with its state, and its JSON form on the wire. Pure.
//!
//! The fields are those of recorded listings of 2023–2025 (generation A) and of client code of 2026
//! (generation B).

use std::{sync::Arc, time::Duration};

use super::{
    offer::{ListedItem, ListingDefect, Sticker},
    random::Rng,
    value::JsonValue,
};
use crate::{
    config::Generation,
    domain::money::{Amount, Percent},
    domain::time::UnixMs,
    domain::trade::TradeStatus,
};

/// Time from the seller's last activity to the listing.
const ACTIVE_BEFORE: Duration = Duration::from_millis(2_114);
/// Length of an icon's path, about that of the real site.
const ICON_CHARS: usize = 180;

/// A listing with its state. Times are of the server's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Number from which the id is derived.
    pub number: u64,
    pub item: Arc<ListedItem>,
    pub status: TradeStatus,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
    pub joined_at: Option<UnixMs>,
    pub buyer: Option<ListingBuyer>,
    /// Id of the account, which is written for its own listings and purchases.
    pub user_id: Arc<str>,
}

/// The buyer of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingBuyer {
    /// The account of the bot.
    User,
    Rival,
}

impl Listing {
    pub fn id(&self) -> String {
        global_id("Trade", self.number)
    }

    /// Returns the listing at another price.
    #[must_use]
    pub fn with_price(&self, total: Amount) -> Self {
        let item = Arc::new(ListedItem { total, ..ListedItem::clone(&self.item) });
        Self { item, ..self.clone() }
    }

    /// Returns the time before which it cannot be joined, if it is held back.
    pub fn can_join_after(&self) -> Option<UnixMs> {
        self.item.can_join_after.map(|wait| self.created_at.plus(wait))
    }

    /// Returns the time before which a flagged account cannot join it.
    pub fn suspected_can_join_after(&self) -> UnixMs {
        self.created_at.plus(self.item.suspected_can_join_after)
    }

    pub fn expires_at(&self) -> UnixMs {
        self.created_at.plus(self.item.open_for)
    }

    /// Returns all fields of the listing, in the format of a generation of the feed.
    pub fn json(&self, generation: Generation) -> JsonValue {
        let all = self.all_fields(generation);
        match generation {
            Generation::A => all.without(&["canJoin", "avgPaintWearRange"]),
            Generation::B => all,
        }
    }

    fn all_fields(&self, generation: Generation) -> JsonValue {
        let item = &*self.item;
        let user = || user(&self.user_id);
        let time = |time: Option<UnixMs>| {
            time.map_or(JsonValue::Null, |time| JsonValue::text(time.to_string()))
        };
        let (wear, range) = self.wear(generation);
        let cancelled = matches!(self.status, TradeStatus::Cancelled | TradeStatus::Cooldown);
        JsonValue::Object(
            "Trade",
            vec![
                ("id", JsonValue::text(self.id())),
                ("depositorLastActiveAt", time(Some(before(self.created_at, ACTIVE_BEFORE)))),
                ("markupPercent", JsonValue::percent(item.markup)),
                ("totalValue", JsonValue::coins(item.total)),
                ("avgPaintWear", wear),
                ("hasStickers", JsonValue::Bool(!item.stickers.is_empty())),
                ("tradeItems", self.items()),
                ("trackingType", JsonValue::text("API_KEY_DEPOSITOR")),
                ("avgPaintWearRange", range),
                ("canJoinAfter", time(self.can_join_after())),
                (
                    "depositor",
                    if item.defect == Some(ListingDefect::Own) { user() } else { JsonValue::Null },
                ),
                ("suspectedTraderCanJoinAfter", time(Some(self.suspected_can_join_after()))),
                ("status", JsonValue::text(self.status.as_str())),
                ("steamAppName", JsonValue::text("CSGO")),
                ("customValue", JsonValue::Bool(item.markup != Percent::default())),
                ("createdAt", time(Some(self.created_at))),
                ("updatedAt", time(Some(self.updated_at))),
                ("canJoin", JsonValue::Bool(self.can_join())),
                ("expiresAt", time(Some(self.expires_at()))),
                (
                    "withdrawer",
                    if self.buyer == Some(ListingBuyer::User) { user() } else { JsonValue::Null },
                ),
                ("joinedAt", time(self.joined_at)),
                (
                    "cancelReason",
                    if cancelled { JsonValue::text("SELLER_DECLINED") } else { JsonValue::Null },
                ),
                ("withdrawerSteamTradeUrl", JsonValue::Null),
            ],
        )
    }

    fn can_join(&self) -> bool {
        matches!(self.status, TradeStatus::Listed)
            && !matches!(self.item.defect, Some(ListingDefect::CannotJoin))
    }

    /// Returns the float and its range, of which generation B may send the range only.
    fn wear(&self, generation: Generation) -> (JsonValue, JsonValue) {
        match &self.item.float {
            None => (JsonValue::Null, JsonValue::Null),
            Some(float) => match float.only_range.filter(|_| generation == Generation::B) {
                None => (JsonValue::Number(float.text.clone()), JsonValue::Null),
                Some((low, high)) => {
                    let bound = |hundredths: u64| {
                        JsonValue::coins(Amount::from_cents(i64::try_from(hundredths).unwrap_or(0)))
                    };
                    let fields = vec![("min", bound(low)), ("max", bound(high))];
                    (JsonValue::Null, JsonValue::Object("PaintWearRange", fields))
                }
            },
        }
    }

    fn items(&self) -> JsonValue {
        let item = |number| self.item(number);
        match self.item.defect {
            Some(ListingDefect::NullItems) => JsonValue::Null,
            Some(ListingDefect::NoItems) => JsonValue::List(Vec::new()),
            Some(ListingDefect::TwoItems) => JsonValue::List(vec![
                item(self.number),
                item(self.number.saturating_add(500_000_000)),
            ]),
            _ => JsonValue::List(vec![item(self.number)]),
        }
    }

    fn item(&self, number: u64) -> JsonValue {
        let item = &*self.item;
        let no_variant = item.defect == Some(ListingDefect::NoVariant);
        JsonValue::Object(
            "TradeItem",
            vec![
                ("id", JsonValue::text(global_id("TradeItem", number))),
                ("marketName", JsonValue::text(&*item.market_name)),
                ("value", JsonValue::coins(item.total)),
                ("markupPercent", JsonValue::percent(item.markup)),
                ("customValue", JsonValue::Bool(item.markup != Percent::default())),
                ("itemVariant", if no_variant { JsonValue::Null } else { variant(item) }),
                ("stickers", JsonValue::List(item.stickers.iter().map(sticker).collect())),
                ("steamExternalAssetId", JsonValue::text(global_id("SteamExternalAsset", number))),
                ("patternPercentage", JsonValue::Null),
            ],
        )
    }
}

/// Returns a listing in which every optional field is present, to validate selections.
pub fn complete_listing() -> Listing {
    let price = Amount::from_cents(1_000);
    let mut item = ListedItem::plain("AK-47 | Redline (Field-Tested)", price, price);
    item.stickers =
        vec![Sticker { name: "Example".to_owned(), color: "Holo", wear: 0, value: price }];
    item.defect = Some(ListingDefect::Own);
    if let Some(float) = &mut item.float {
        float.only_range = Some((15, 18));
    }
    Listing {
        number: 1,
        item: Arc::new(item),
        status: TradeStatus::Listed,
        created_at: UnixMs(0),
        updated_at: UnixMs(0),
        joined_at: None,
        buyer: Some(ListingBuyer::User),
        user_id: Arc::from("VXNlcjox"),
    }
}

/// Returns the time this much earlier.
pub fn before(time: UnixMs, duration: Duration) -> UnixMs {
    UnixMs(time.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
}

/// Returns the account, as listings contain it.
pub fn user(id: &str) -> JsonValue {
    let fields = vec![
        ("id", JsonValue::text(id)),
        ("name", JsonValue::text("practice")),
        ("displayName", JsonValue::text("practice")),
    ];
    JsonValue::Object("User", fields)
}

fn variant(item: &ListedItem) -> JsonValue {
    let seed = item
        .market_name
        .bytes()
        .fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut rng = Rng::with_seed(seed);
    let item_id = rng.u64(1_000..=99_999);
    let color = item.color.as_deref().map_or(JsonValue::Null, JsonValue::text);
    JsonValue::Object(
        "ItemVariant",
        vec![
            ("id", JsonValue::text(global_id("ItemVariant", item_id.saturating_mul(3)))),
            ("itemId", JsonValue::text(global_id("Item", item_id))),
            ("name", JsonValue::text(&*item.name)),
            ("brand", JsonValue::text(&*item.brand)),
            ("iconUrl", JsonValue::Text(icon(&mut rng))),
            ("value", JsonValue::coins(item.base)),
            ("displayValue", JsonValue::coins(item.base)),
            ("currency", JsonValue::text("TKN")),
            ("externalId", JsonValue::text(&*item.market_name)),
            ("color", color),
            ("rarity", JsonValue::text(item.rarity)),
            ("depositable", JsonValue::Bool(true)),
        ],
    )
}

fn sticker(sticker: &Sticker) -> JsonValue {
    let mut rng = Rng::with_seed(sticker.name.len().try_into().unwrap_or(0));
    let wear = Amount::from_cents(i64::try_from(sticker.wear).unwrap_or(0));
    JsonValue::Object(
        "Sticker",
        vec![
            ("id", JsonValue::text(global_id("Sticker", rng.u64(1..=9_999)))),
            ("value", JsonValue::coins(sticker.value)),
            ("imageUrl", JsonValue::Text(icon(&mut rng))),
            ("brand", JsonValue::text("Sticker")),
            ("name", JsonValue::text(&*sticker.name)),
            ("color", JsonValue::text(sticker.color)),
            ("wear", JsonValue::coins(wear)),
        ],
    )
}

fn icon(rng: &mut Rng) -> String {
    let path: String = (0..ICON_CHARS).map(|_| rng.alphanumeric()).collect();
    format!("https://example.invalid/economy/image/{path}")
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Returns an id in the marketplace's format: unpadded base64 of, say, `Trade:32993472`.
pub fn global_id(of: &str, number: u64) -> String {
    base64(format!("{of}:{number}").as_bytes())
}

/// Returns the number of an id of this type, or `None` for any other text.
pub fn number_of(of: &str, id: &str) -> Option<u64> {
    let text = String::from_utf8(from_base64(id)?).ok()?;
    let number = text.strip_prefix(of)?.strip_prefix(':')?.parse().ok()?;
    (global_id(of, number) == id).then_some(number)
}

/// Encodes bytes as unpadded base64.
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_mul(4).div_ceil(3));
    for chunk in bytes.chunks(3) {
        let mut word = [0_u8; 4];
        for (to, from) in word.iter_mut().skip(1).zip(chunk) {
            *to = *from;
        }
        let word = u32::from_be_bytes(word);
        for place in 0..=u32::try_from(chunk.len()).unwrap_or(0) {
            let index = (word >> (18_u32.saturating_sub(place.saturating_mul(6)))) & 63;
            let letter = usize::try_from(index).ok().and_then(|index| BASE64.get(index));
            out.push(letter.map_or('A', |byte| char::from(*byte)));
        }
    }
    out
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let (mut word, mut bits) = (0_u32, 0_u32);
    for byte in text.bytes() {
        let index = BASE64.iter().position(|letter| *letter == byte)?;
        word = ((word << 6) | u32::try_from(index).ok()?) & 0xffff;
        bits = bits.saturating_add(6);
        if let Some(left) = bits.checked_sub(8) {
            bits = left;
            out.push(u8::try_from((word >> left) & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sim::{catalogue::Catalogue, settings::SimSettings};

    #[test]
    fn ids_have_the_format_of_the_marketplace() {
        assert_eq!(global_id("Trade", 90_000_001), "VHJhZGU6OTAwMDAwMDE");
        assert_eq!(number_of("Trade", "VHJhZGU6OTAwMDAwMDE"), Some(90_000_001));
        for id in ["", "VHJhZGU6", "VXNlcjox", "%%%", "VHJhZGU6OTAwMDAwMDE=", "ä"] {
            assert_eq!(number_of("Trade", id), None, "{id}");
        }
    }

    fn listing(item: ListedItem) -> Listing {
        Listing { item: Arc::new(item), buyer: None, ..complete_listing() }
    }

    fn frame(generation: Generation, listing: &Listing) -> String {
        let mut trade = String::new();
        listing.json(generation).write(&mut trade);
        match generation {
            Generation::A => {
                format!(
                    r#"{{"id":"1","type":"next","payload":{{"data":{{"createTrade":{{"trade":{trade}}}}}}}}}"#
                )
            }
            Generation::B => {
                format!(
                    r#"{{"id":"1","type":"next","payload":{{"data":{{"createTrades":{{"trades":[{trade}]}}}}}}}}"#
                )
            }
        }
    }

    #[test]
    fn frame_sizes_are_those_of_recorded_frames() {
        let items = Catalogue::new(&SimSettings { defect_permille: 0, ..SimSettings::default() });
        let mut sizes: Vec<usize> =
            items.take(2_000).map(|item| frame(Generation::B, &listing(item)).len()).collect();
        sizes.sort_unstable();
        let (min, median, max) = (sizes[0], sizes[1_000], sizes[1_999]);
        assert!(1_300 <= min && max <= 2_900, "{min} {median} {max}");
        assert!((1_350..1_700).contains(&median), "{median}");
    }

    #[test]
    fn each_frame_is_json_with_the_fields_of_its_generation() {
        for item in Catalogue::new(&SimSettings::default()).take(500) {
            let listing = listing(item);
            let read = |generation| -> serde_json::Value {
                serde_json::from_str(&frame(generation, &listing)).unwrap()
            };
            let a = read(Generation::A)["payload"]["data"]["createTrade"]["trade"].clone();
            let b = read(Generation::B)["payload"]["data"]["createTrades"]["trades"][0].clone();
            assert_eq!(a["id"], listing.id());
            assert_eq!((a.get("canJoin"), b["canJoin"].is_boolean()), (None, true));
            assert_eq!(a["totalValue"], b["totalValue"]);
            assert_eq!(b["status"], "LISTED");
        }
    }

    proptest! {
        #[test]
        fn decoding_reverses_encoding(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(from_base64(&base64(&bytes)), Some(bytes));
        }
    }
}
