//! One listing as it stands on the practice market, and how the marketplace writes it. Pure.
//!
//! The fields are those of recorded listings of 2023–2025 (generation A) and of client code of 2026
//! (B); the names are the same but where the table of wire facts marks a difference.

use std::{sync::Arc, time::Duration};

use super::{
    dice::Dice,
    offer::{ListedItem, ListingDefect, Sticker},
    value::JsonValue,
};
use crate::{
    config::Generation,
    domain::money::{Amount, Percent},
    domain::time::UnixMs,
    domain::trade::TradeStatus,
};

/// How long before listing something its seller was last seen.
const ACTIVE_BEFORE: Duration = Duration::from_millis(2_114);
/// How long an icon's address is, as on the real site, in characters after the host.
const ICON_CHARS: usize = 180;

/// A listing, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Its number; the id says the same in base64.
    pub number: u64,
    /// What is offered.
    pub offer: Arc<ListedItem>,
    /// Where it stands.
    pub status: TradeStatus,
    /// The server's clock when it was created.
    pub created_at: UnixMs,
    /// The server's clock when it last changed.
    pub updated_at: UnixMs,
    /// The server's clock when it was joined.
    pub joined_at: Option<UnixMs>,
    /// Who joined it; `None`: nobody.
    pub buyer: Option<ListingBuyer>,
    /// The account's id, for one's own listings and purchases.
    pub user_id: Arc<str>,
}

/// Who joined a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingBuyer {
    /// The account.
    User,
    /// Somebody else.
    Rival,
}

impl Listing {
    /// Its id, as the marketplace writes it.
    pub fn id(&self) -> String {
        global_id("Trade", self.number)
    }

    /// The same listing at another price.
    #[must_use]
    pub fn priced(&self, total: Amount) -> Self {
        let offer = Arc::new(ListedItem { total, ..ListedItem::clone(&self.offer) });
        Self { offer, ..self.clone() }
    }

    /// Nobody can join it before this moment of the server's clock.
    pub fn can_join_after(&self) -> Option<UnixMs> {
        self.offer.can_join_after.map(|wait| self.created_at.plus(wait))
    }

    /// A flagged account cannot join it before this moment of the server's clock.
    pub fn suspected_can_join_after(&self) -> UnixMs {
        self.created_at.plus(self.offer.suspected_can_join_after)
    }

    /// When it runs out, by the server's clock.
    pub fn expires_at(&self) -> UnixMs {
        self.created_at.plus(self.offer.open_for)
    }

    /// The whole listing, as this generation of the feed writes it.
    pub fn json(&self, generation: Generation) -> JsonValue {
        let all = self.all(generation);
        match generation {
            Generation::A => all.without(&["canJoin", "avgPaintWearRange"]),
            Generation::B => all,
        }
    }

    fn all(&self, generation: Generation) -> JsonValue {
        let offer = &*self.offer;
        let user = || user(&self.user_id);
        let moment = |moment: Option<UnixMs>| {
            moment.map_or(JsonValue::Null, |moment| JsonValue::text(moment.to_string()))
        };
        let (wear, range) = self.wear(generation);
        let cancelled = matches!(self.status, TradeStatus::Cancelled | TradeStatus::Cooldown);
        JsonValue::Object(
            "Trade",
            vec![
                ("id", JsonValue::text(self.id())),
                ("depositorLastActiveAt", moment(Some(before(self.created_at, ACTIVE_BEFORE)))),
                ("markupPercent", JsonValue::percent(offer.markup)),
                ("totalValue", JsonValue::coins(offer.total)),
                ("avgPaintWear", wear),
                ("hasStickers", JsonValue::Bool(!offer.stickers.is_empty())),
                ("tradeItems", self.items()),
                ("trackingType", JsonValue::text("API_KEY_DEPOSITOR")),
                ("avgPaintWearRange", range),
                ("canJoinAfter", moment(self.can_join_after())),
                (
                    "depositor",
                    if offer.oddity == Some(ListingDefect::Own) { user() } else { JsonValue::Null },
                ),
                ("suspectedTraderCanJoinAfter", moment(Some(self.suspected_can_join_after()))),
                ("status", JsonValue::text(self.status.as_str())),
                ("steamAppName", JsonValue::text("CSGO")),
                ("customValue", JsonValue::Bool(offer.markup != Percent::default())),
                ("createdAt", moment(Some(self.created_at))),
                ("updatedAt", moment(Some(self.updated_at))),
                ("canJoin", JsonValue::Bool(self.can_join())),
                ("expiresAt", moment(Some(self.expires_at()))),
                (
                    "withdrawer",
                    if self.buyer == Some(ListingBuyer::User) { user() } else { JsonValue::Null },
                ),
                ("joinedAt", moment(self.joined_at)),
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
            && !matches!(self.offer.oddity, Some(ListingDefect::CannotJoin))
    }

    /// The float, and the range that newer answers may give instead.
    fn wear(&self, generation: Generation) -> (JsonValue, JsonValue) {
        match &self.offer.float {
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
        match self.offer.oddity {
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
        let offer = &*self.offer;
        let no_variant = offer.oddity == Some(ListingDefect::NoVariant);
        JsonValue::Object(
            "TradeItem",
            vec![
                ("id", JsonValue::text(global_id("TradeItem", number))),
                ("marketName", JsonValue::text(&*offer.market_name)),
                ("value", JsonValue::coins(offer.total)),
                ("markupPercent", JsonValue::percent(offer.markup)),
                ("customValue", JsonValue::Bool(offer.markup != Percent::default())),
                ("itemVariant", if no_variant { JsonValue::Null } else { variant(offer) }),
                ("stickers", JsonValue::List(offer.stickers.iter().map(sticker).collect())),
                ("steamExternalAssetId", JsonValue::text(global_id("SteamExternalAsset", number))),
                ("patternPercentage", JsonValue::Null),
            ],
        )
    }
}

/// A listing in which nothing is missing: what can be asked for at all is asked of it.
pub fn specimen() -> Listing {
    let price = Amount::from_cents(1_000);
    let mut offer = ListedItem::plain("AK-47 | Redline (Field-Tested)", price, price);
    offer.stickers =
        vec![Sticker { name: "Nobody".to_owned(), color: "Holo", wear: 0, value: price }];
    offer.oddity = Some(ListingDefect::Own);
    if let Some(float) = &mut offer.float {
        float.only_range = Some((15, 18));
    }
    Listing {
        number: 1,
        offer: Arc::new(offer),
        status: TradeStatus::Listed,
        created_at: UnixMs(0),
        updated_at: UnixMs(0),
        joined_at: None,
        buyer: Some(ListingBuyer::User),
        user_id: Arc::from("VXNlcjox"),
    }
}

/// The moment this much earlier.
pub fn before(moment: UnixMs, wait: Duration) -> UnixMs {
    UnixMs(moment.0.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
}

/// The account, as listings name it.
pub fn user(id: &str) -> JsonValue {
    let fields = vec![
        ("id", JsonValue::text(id)),
        ("name", JsonValue::text("practice")),
        ("displayName", JsonValue::text("practice")),
    ];
    JsonValue::Object("User", fields)
}

fn variant(offer: &ListedItem) -> JsonValue {
    let seed = offer
        .market_name
        .bytes()
        .fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut dice = Dice::new(seed);
    let item = dice.between(1_000, 99_999);
    let color = offer.color.as_deref().map_or(JsonValue::Null, JsonValue::text);
    JsonValue::Object(
        "ItemVariant",
        vec![
            ("id", JsonValue::text(global_id("ItemVariant", item.saturating_mul(3)))),
            ("itemId", JsonValue::text(global_id("Item", item))),
            ("name", JsonValue::text(&*offer.name)),
            ("brand", JsonValue::text(&*offer.brand)),
            ("iconUrl", JsonValue::Text(icon(&mut dice))),
            ("value", JsonValue::coins(offer.base)),
            ("displayValue", JsonValue::coins(offer.base)),
            ("currency", JsonValue::text("TKN")),
            ("externalId", JsonValue::text(&*offer.market_name)),
            ("color", color),
            ("rarity", JsonValue::text(offer.rarity)),
            ("depositable", JsonValue::Bool(true)),
        ],
    )
}

fn sticker(sticker: &Sticker) -> JsonValue {
    let mut dice = Dice::new(sticker.name.len().try_into().unwrap_or(0));
    let wear = Amount::from_cents(i64::try_from(sticker.wear).unwrap_or(0));
    JsonValue::Object(
        "Sticker",
        vec![
            ("id", JsonValue::text(global_id("Sticker", dice.between(1, 9_999)))),
            ("value", JsonValue::coins(sticker.value)),
            ("imageUrl", JsonValue::Text(icon(&mut dice))),
            ("brand", JsonValue::text("Sticker")),
            ("name", JsonValue::text(&*sticker.name)),
            ("color", JsonValue::text(sticker.color)),
            ("wear", JsonValue::coins(wear)),
        ],
    )
}

fn icon(dice: &mut Dice) -> String {
    let letter = |dice: &mut Dice| {
        let index = usize::try_from(dice.below(64)).unwrap_or(0);
        BASE64.get(index).map_or('A', |byte| char::from(*byte))
    };
    let path: String = (0..ICON_CHARS).map(|_| letter(dice)).collect();
    format!("https://example.invalid/economy/image/{}", path.replace('/', "_"))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// An id as the marketplace makes them: unpadded base64 of `Trade:32993472`.
pub fn global_id(of: &str, number: u64) -> String {
    base64(format!("{of}:{number}").as_bytes())
}

/// The number of an id of this type.
pub fn number_of(of: &str, id: &str) -> Option<u64> {
    let text = String::from_utf8(from_base64(id)?).ok()?;
    let number = text.strip_prefix(of)?.strip_prefix(':')?.parse().ok()?;
    (global_id(of, number) == id).then_some(number)
}

/// Unpadded base64.
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
    fn ids_are_those_of_the_real_market() {
        assert_eq!(global_id("Trade", 90_000_001), "VHJhZGU6OTAwMDAwMDE");
        assert_eq!(number_of("Trade", "VHJhZGU6OTAwMDAwMDE"), Some(90_000_001));
        for id in ["", "VHJhZGU6", "VXNlcjox", "%%%", "VHJhZGU6OTAwMDAwMDE=", "ä"] {
            assert_eq!(number_of("Trade", id), None, "{id}");
        }
    }

    fn listing(offer: ListedItem) -> Listing {
        Listing { offer: Arc::new(offer), buyer: None, ..specimen() }
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
    fn frames_are_as_long_as_recorded_ones() {
        let offers = Catalogue::new(&SimSettings { odd_permille: 0, ..SimSettings::default() });
        let mut sizes: Vec<usize> =
            offers.take(2_000).map(|offer| frame(Generation::B, &listing(offer)).len()).collect();
        sizes.sort_unstable();
        let (least, median, most) = (sizes[0], sizes[1_000], sizes[1_999]);
        assert!(1_300 <= least && most <= 2_900, "{least} {median} {most}");
        assert!((1_350..1_700).contains(&median), "{median}");
    }

    #[test]
    fn a_frame_is_json_with_the_fields_of_its_generation() {
        for offer in Catalogue::new(&SimSettings::default()).take(500) {
            let listing = listing(offer);
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
        fn base64_is_undone(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(from_base64(&base64(&bytes)), Some(bytes));
        }
    }
}
