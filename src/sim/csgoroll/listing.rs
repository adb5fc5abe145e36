//! A listing with its state, and its JSON form on the wire. Pure.
//!
//! The fields are those of recorded listings of 2023–2025 (generation A) and of client code of 2026
//! (generation B).

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{coins, decimal, global_id, hundredths, percent, user_json};
use crate::{
    config::Generation,
    domain::{
        money::{Amount, Percent},
        time::UnixMs,
        trade::TradeStatus,
    },
    sim::{
        catalogue::{ListedItem, ListingDefect, Sticker},
        random::Rng,
    },
};

/// Time from the seller's last activity to the listing.
const ACTIVE_BEFORE: Duration = Duration::from_millis(2_114);

/// Selection of all fields of a listing of generation B, in the order of recorded frames.
pub const ALL_FIELDS: &str = "{ id depositorLastActiveAt markupPercent totalValue avgPaintWear \
    hasStickers tradeItems { id marketName value markupPercent customValue itemVariant { id itemId \
    name brand iconUrl value displayValue currency externalId color rarity depositable } stickers { \
    id value imageUrl brand name color wear } steamExternalAssetId patternPercentage } trackingType \
    avgPaintWearRange { min max } canJoinAfter depositor { id name displayName } \
    suspectedTraderCanJoinAfter status steamAppName customValue createdAt updatedAt canJoin \
    expiresAt withdrawer { id name displayName } joinedAt cancelReason withdrawerSteamTradeUrl }";

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

    /// Returns the status as the marketplace writes it.
    pub const fn status_name(&self) -> &'static str {
        match self.status {
            TradeStatus::Listed => "LISTED",
            TradeStatus::Joined => "JOINED",
            TradeStatus::Processing => "PROCESSING",
            TradeStatus::Completed => "COMPLETED",
            TradeStatus::CompletedProtected => "COMPLETED_PROTECTED",
            TradeStatus::Cooldown => "COOLDOWN",
            TradeStatus::Cancelled => "CANCELLED",
            TradeStatus::Expired => "EXPIRED",
            // A status that no client handles.
            TradeStatus::Other => "OTHER",
        }
    }

    /// Returns all fields of the listing, in the format of a generation of the feed.
    pub fn json(&self, generation: Generation) -> Value {
        let item = &*self.item;
        let user = |is_user: bool| is_user.then(|| user_json(&self.user_id));
        let time = |time: Option<UnixMs>| time.map(|time| time.to_string());
        let (wear, range) = self.wear(generation);
        let cancelled = matches!(self.status, TradeStatus::Cancelled | TradeStatus::Cooldown);
        let mut json = json!({
            "__typename": "Trade",
            "id": self.id(),
            "depositorLastActiveAt": time(Some(before(self.created_at, ACTIVE_BEFORE))),
            "markupPercent": percent(item.markup),
            "totalValue": coins(item.total),
            "avgPaintWear": wear,
            "hasStickers": !item.stickers.is_empty(),
            "tradeItems": self.items(),
            "trackingType": "API_KEY_DEPOSITOR",
            "canJoinAfter": time(self.can_join_after()),
            "depositor": user(item.defect == Some(ListingDefect::Own)),
            "suspectedTraderCanJoinAfter": time(Some(self.suspected_can_join_after())),
            "status": self.status_name(),
            "steamAppName": "CSGO",
            "customValue": item.markup != Percent::default(),
            "createdAt": time(Some(self.created_at)),
            "updatedAt": time(Some(self.updated_at)),
            "expiresAt": time(Some(self.expires_at())),
            "withdrawer": user(self.buyer == Some(ListingBuyer::User)),
            "joinedAt": time(self.joined_at),
            "cancelReason": cancelled.then_some("SELLER_DECLINED"),
            "withdrawerSteamTradeUrl": null,
        });
        if let (Generation::B, Some(fields)) = (generation, json.as_object_mut()) {
            fields.insert("canJoin".to_owned(), self.can_join().into());
            fields.insert("avgPaintWearRange".to_owned(), range);
        }
        json
    }

    fn can_join(&self) -> bool {
        matches!(self.status, TradeStatus::Listed)
            && !matches!(self.item.defect, Some(ListingDefect::CannotJoin))
    }

    /// Returns the float and its range, of which generation B may send the range only.
    fn wear(&self, generation: Generation) -> (Value, Value) {
        let Some(float) = &self.item.float else { return (Value::Null, Value::Null) };
        match float.only_range.filter(|_| generation == Generation::B) {
            None => (decimal(&float.text), Value::Null),
            Some((low, high)) => {
                let [min, max] =
                    [low, high].map(|bound| hundredths(i64::try_from(bound).unwrap_or(0)));
                (Value::Null, json!({"__typename": "PaintWearRange", "min": min, "max": max}))
            }
        }
    }

    fn items(&self) -> Value {
        let item = |number| self.item(number);
        match self.item.defect {
            Some(ListingDefect::NullItems) => Value::Null,
            Some(ListingDefect::NoItems) => json!([]),
            Some(ListingDefect::TwoItems) => {
                json!([item(self.number), item(self.number.saturating_add(500_000_000))])
            }
            _ => json!([item(self.number)]),
        }
    }

    fn item(&self, id: u64) -> Value {
        let item = &*self.item;
        let has_variant = item.defect != Some(ListingDefect::NoVariant);
        json!({
            "__typename": "TradeItem",
            "id": global_id("TradeItem", id),
            "marketName": item.market_name,
            "value": coins(item.total),
            "markupPercent": percent(item.markup),
            "customValue": item.markup != Percent::default(),
            "itemVariant": has_variant.then(|| variant(item)),
            "stickers": item.stickers.iter().map(sticker).collect::<Vec<_>>(),
            "steamExternalAssetId": global_id("SteamExternalAsset", id),
            "patternPercentage": null,
        })
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

fn variant(item: &ListedItem) -> Value {
    let seed = item
        .market_name
        .bytes()
        .fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut rng = Rng::with_seed(seed);
    let item_id = rng.u64(1_000..=99_999);
    let value = coins(item.base);
    json!({
        "__typename": "ItemVariant",
        "id": global_id("ItemVariant", item_id.saturating_mul(3)),
        "itemId": global_id("Item", item_id),
        "name": item.name,
        "brand": item.brand,
        "iconUrl": icon(&mut rng),
        "value": value,
        "displayValue": value,
        "currency": "TKN",
        "externalId": item.market_name,
        "color": item.color,
        "rarity": item.rarity,
        "depositable": true,
    })
}

fn sticker(sticker: &Sticker) -> Value {
    let mut rng = Rng::with_seed(sticker.name.len().try_into().unwrap_or(0));
    json!({
        "__typename": "Sticker",
        "id": global_id("Sticker", rng.u64(1..=9_999)),
        "value": coins(sticker.value),
        "imageUrl": icon(&mut rng),
        "brand": "Sticker",
        "name": sticker.name,
        "color": sticker.color,
        "wear": hundredths(i64::try_from(sticker.wear).unwrap_or(0)),
    })
}

/// Returns a URL that is about as long as those of the real site.
fn icon(rng: &mut Rng) -> String {
    let path = format!("{:016x}", rng.u64(..)).repeat(11);
    format!("https://example.invalid/economy/image/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{
        catalogue::Catalogue,
        csgoroll::{feed::ProtocolSession, market::MarketEvent},
        settings::SimSettings,
    };

    fn listing(item: ListedItem) -> Listing {
        Listing { item: Arc::new(item), buyer: None, ..complete_listing() }
    }

    #[test]
    fn frame_sizes_are_those_of_recorded_frames() {
        let mut session = ProtocolSession::new(false);
        session.receive(r#"{"type":"connection_init"}"#);
        let query = format!("subscription {{ createTrades {{ trades {ALL_FIELDS} }} }}");
        let payload = json!({ "query": query });
        let subscribe = json!({"id": "1", "type": "subscribe", "payload": payload});
        assert_eq!(session.receive(&subscribe.to_string()), []);
        let size = |item| {
            let event = MarketEvent::Created(vec![Arc::new(listing(item))]);
            let messages = session.event_messages(&event);
            assert_eq!(messages.len(), 1);
            messages[0].text().unwrap().len()
        };
        let items = Catalogue::new(&SimSettings { defect_permille: 0, ..SimSettings::default() });
        let mut sizes: Vec<usize> = items.take(2_000).map(size).collect();
        sizes.sort_unstable();
        let (min, median, max) = (sizes[0], sizes[1_000], sizes[1_999]);
        assert!(1_300 <= min && max <= 2_900, "{min} {median} {max}");
        assert!((1_350..1_700).contains(&median), "{median}");
    }

    #[test]
    fn a_listing_has_the_fields_of_its_generation() {
        for item in Catalogue::new(&SimSettings::default()).take(500) {
            let listing = listing(item);
            let [a, b] = [Generation::A, Generation::B].map(|generation| listing.json(generation));
            assert_eq!(a["id"], listing.id());
            assert_eq!((a.get("canJoin"), b["canJoin"].is_boolean()), (None, true));
            assert_eq!(a["totalValue"], b["totalValue"]);
            assert_eq!(b["status"], "LISTED");
        }
    }
}
