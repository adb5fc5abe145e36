//! Reference parser: `serde_json` builds a tree, and the listings are read from the tree.
//!
//! It is written for correctness and not for speed. It shares only the value types (amounts, times,
//! names) with the production parser, which must agree with it. A number is kept as text, since
//! `1e400` is valid JSON and money is not a float.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sniper::{
    config::Generation,
    domain::item_name::ItemName,
    domain::money::{Amount, Decimals},
    domain::time::UnixMs,
    domain::trade::{Defect, Defects, PaintWear, Trade, TradeEvent, TradeId, TradeStatus},
};

/// Maximum nesting of arrays and objects, the same as for `serde_json::Value`.
const DEPTH_MAX: u32 = 127;

/// A JSON value. An object keeps all entries in order, including repeated keys.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JsonTree {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<JsonTree>),
    Object(Vec<(String, JsonTree)>),
}

/// Entries of an object, with unparsed values.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<'a>(PhantomData<&'a ()>);
        impl<'de> Visitor<'de> for EntriesVisitor<'de> {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

impl JsonTree {
    /// Parses a whole text. Returns `None` if it is not JSON.
    pub(crate) fn read(text: &str) -> Option<Self> {
        Self::of(serde_json::from_str(text).ok()?, DEPTH_MAX)
    }

    fn of(raw: &RawValue, depth: u32) -> Option<Self> {
        let text = raw.get();
        Some(match text.as_bytes().first()? {
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            b'[' => {
                let inside = depth.checked_sub(1)?;
                let values: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let values = values.into_iter().map(|value| Self::of(value, inside));
                Self::List(values.collect::<Option<_>>()?)
            }
            b'{' => {
                let inside = depth.checked_sub(1)?;
                let Entries(entries) = serde_json::from_str(text).ok()?;
                let entries =
                    entries.into_iter().map(|(key, value)| Some((key, Self::of(value, inside)?)));
                Self::Object(entries.collect::<Option<_>>()?)
            }
            _ => Self::Number(text.to_owned()),
        })
    }

    fn entries(&self) -> &[(String, Self)] {
        if let Self::Object(entries) = self { entries } else { &[] }
    }

    /// Returns all values of a key.
    fn values(&self, key: &str) -> impl DoubleEndedIterator<Item = &Self> {
        self.entries().iter().filter(move |(found, _)| found == key).map(|(_, value)| value)
    }

    /// Returns the last value of a key.
    fn get(&self, key: &str) -> Option<&Self> {
        self.values(key).next_back()
    }

    /// Returns `true` if one of these keys is repeated.
    fn repeats(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.values(key).count() > 1)
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn number(&self) -> Option<&str> {
        if let Self::Number(text) = self { Some(text) } else { None }
    }
}

/// Content of one message.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ParsedMessage {
    /// Listings in the order of the message.
    pub(crate) trades: Vec<Trade<'static>>,
    /// Number of dropped listings.
    pub(crate) unreadable: u32,
}

/// Reads one message of a connection with a single subscription of id 1. Returns `None` if the
/// whole message is unreadable.
pub(crate) fn read(text: &str) -> Option<ParsedMessage> {
    let message = JsonTree::read(text)?;
    let is_object = matches!(message, JsonTree::Object(_));
    if !is_object || message.repeats(&["type", "id", "payload"]) {
        return None;
    }
    if message.get("type").and_then(JsonTree::text) != Some("next") {
        return Some(ParsedMessage::default());
    }
    let payload = message.get("payload")?;
    let id = message.get("id").and_then(JsonTree::text).and_then(|id| id.parse::<u64>().ok());
    Some(if id == Some(1) { parse_payload(payload) } else { ParsedMessage::default() })
}

fn parse_payload(payload: &JsonTree) -> ParsedMessage {
    const EVENTS: [(&str, &str, TradeEvent, Generation); 3] = [
        ("createTrade", "trade", TradeEvent::Listed, Generation::A),
        ("createTrades", "trades", TradeEvent::Listed, Generation::B),
        ("updateTrade", "trade", TradeEvent::Updated, Generation::A),
    ];
    let mut parsed = ParsedMessage::default();
    let (mut events, mut is_repeated) = (0, payload.repeats(&["data"]));
    for (key, value) in payload.values("data").flat_map(JsonTree::entries) {
        let Some((_, list, event, generation)) = EVENTS.into_iter().find(|(name, ..)| name == key)
        else {
            continue;
        };
        events += 1;
        is_repeated |= value.repeats(&[list]);
        parsed.unreadable += u32::from(!matches!(value, JsonTree::Null | JsonTree::Object(_)));
        for listings in value.values(list) {
            let listings = match listings {
                JsonTree::Null => &[],
                JsonTree::List(listings) => &listings[..],
                one => std::slice::from_ref(one),
            };
            for listing in listings {
                match trade(listing, event, generation) {
                    Some(trade) => parsed.trades.push(trade),
                    None => parsed.unreadable += 1,
                }
            }
        }
    }
    // Listings with the same id and different content are all unbuyable.
    let read = parsed.trades.clone();
    for trade in &mut parsed.trades {
        if read.iter().any(|other| other.id == trade.id && other != trade) {
            trade.defects.add(Defect::Conflict);
        }
    }
    if is_repeated || events > 1 {
        parsed.trades.iter_mut().for_each(|trade| trade.defects.add(Defect::RepeatedKey));
    }
    parsed
}

/// Reads a required field.
fn required<T>(
    defects: &mut Defects,
    defect: Defect,
    value: Option<&JsonTree>,
    read: impl Fn(&JsonTree) -> Option<T>,
) -> Option<T> {
    let value = value.and_then(read);
    if value.is_none() {
        defects.add(defect);
    }
    value
}

/// Reads a field that may be null, and may be absent if `or_absent` is set.
fn nullable<T>(
    defects: &mut Defects,
    (defect, or_absent): (Defect, bool),
    value: Option<&JsonTree>,
    read: impl Fn(&JsonTree) -> Option<T>,
) -> Option<T> {
    let is_valid = match value {
        None => or_absent,
        Some(JsonTree::Null) => true,
        Some(value) => read(value).is_some(),
    };
    if !is_valid {
        defects.add(defect);
    }
    value.and_then(read)
}

fn timestamp(value: &JsonTree) -> Option<UnixMs> {
    UnixMs::parse(value.text()?)
}

fn amount(value: &JsonTree) -> Option<Amount> {
    Amount::parse(value.number()?, Decimals::Two).ok().filter(|amount| *amount > Amount::ZERO)
}

fn float(value: &JsonTree) -> Option<PaintWear> {
    PaintWear::parse(value.number()?)
}

fn range(value: &JsonTree) -> Option<(PaintWear, PaintWear)> {
    let bound = |key| value.get(key).and_then(float);
    bound("min").zip(bound("max")).filter(|(min, max)| min <= max)
}

fn items(value: &JsonTree) -> Option<&[JsonTree]> {
    let JsonTree::List(items) = value else { return None };
    items.first().is_none_or(|first| matches!(first, JsonTree::Object(_))).then_some(items)
}

/// Returns `true` if a listing repeats a key that affects the decision.
fn repeats(listing: &JsonTree) -> bool {
    const DECIDING: [&str; 13] = [
        "id",
        "status",
        "markupPercent",
        "totalValue",
        "canJoin",
        "canJoinAfter",
        "suspectedTraderCanJoinAfter",
        "createdAt",
        "expiresAt",
        "avgPaintWear",
        "avgPaintWearRange",
        "depositor",
        "tradeItems",
    ];
    listing.repeats(&DECIDING)
        || listing.values("avgPaintWearRange").any(|range| range.repeats(&["min", "max"]))
        || listing.values("tradeItems").filter_map(first_item).any(|first| {
            first.repeats(&["marketName", "itemVariant"])
                || first.values("itemVariant").any(|variant| variant.repeats(&["value", "rarity"]))
        })
}

fn can_join(
    defects: &mut Defects,
    value: Option<&JsonTree>,
    generation: Generation,
) -> Option<bool> {
    let flag = |value: &JsonTree| match value {
        JsonTree::Bool(is) => Some(*is),
        _ => None,
    };
    match generation {
        Generation::A => nullable(defects, (Defect::CanJoin, true), value, flag),
        Generation::B => required(defects, Defect::CanJoin, value, flag),
    }
}

/// Reads one listing. Returns `None` if it has no usable id.
fn trade(listing: &JsonTree, event: TradeEvent, generation: Generation) -> Option<Trade<'static>> {
    let id = TradeId::new(listing.get("id")?.text()?)?;
    let get = |key| listing.get(key);
    let mut found = Defects::NONE;
    let defects = &mut found;
    let status = required(defects, Defect::Status, get("status"), |value| {
        value.text().map(TradeStatus::from_market)
    });
    let items = required(defects, Defect::TradeItems, get("tradeItems"), |value| {
        items(value).map(<[JsonTree]>::to_vec)
    });
    let first = items.as_ref().and_then(|items| items.first());
    let name = first.and_then(|first| first.get("marketName")?.text());
    if first.is_some() && name.is_none() {
        defects.add(Defect::MarketName);
    }
    let name = name.unwrap_or_default();
    let base_value = first.and_then(|first| amount(first.get("itemVariant")?.get("value")?));
    if first.is_some() && base_value.is_none() {
        defects.add(Defect::BaseValue);
    }
    let own = nullable(defects, (Defect::Depositor, false), get("depositor"), |value| {
        (*value != JsonTree::Null).then_some(())
    });
    let parts = ItemName::parse(name);
    let trade = Trade {
        id,
        event,
        status: status.unwrap_or(TradeStatus::Other),
        market_name: Cow::Owned(name.to_owned()),
        item: Cow::Owned(parts.base.clone().into_owned()),
        is_stattrak: parts.is_stattrak,
        is_souvenir: parts.is_souvenir,
        wear: parts.wear,
        rarity: first.and_then(rarity),
        items: u32::try_from(items.as_ref().map_or(0, Vec::len)).ok()?,
        markup_percent: required(defects, Defect::MarkupPercent, get("markupPercent"), |value| {
            sniper::domain::money::Percent::parse(value.number()?).ok()
        }),
        total_value: required(defects, Defect::TotalValue, get("totalValue"), amount),
        base_value,
        can_join: can_join(defects, get("canJoin"), generation),
        can_join_after: nullable(
            defects,
            (Defect::CanJoinAfter, false),
            get("canJoinAfter"),
            timestamp,
        ),
        suspected_trader_can_join_after: nullable(
            defects,
            (Defect::SuspectedTraderCanJoinAfter, false),
            get("suspectedTraderCanJoinAfter"),
            timestamp,
        ),
        created_at: required(defects, Defect::CreatedAt, get("createdAt"), timestamp),
        expires_at: required(defects, Defect::ExpiresAt, get("expiresAt"), timestamp),
        float: nullable(defects, (Defect::PaintWear, true), get("avgPaintWear"), float),
        float_range: nullable(defects, (Defect::PaintWear, true), get("avgPaintWearRange"), range),
        is_own: own.is_some(),
        defects: Defects::NONE,
        arrival: None,
    };
    if repeats(listing) {
        defects.add(Defect::RepeatedKey);
    }
    Some(Trade { defects: found, ..trade })
}

fn rarity(item: &JsonTree) -> Option<sniper::domain::trade::RarityWord> {
    sniper::domain::trade::RarityWord::new(item.get("itemVariant")?.get("rarity")?.text()?)
}

fn first_item(value: &JsonTree) -> Option<&JsonTree> {
    if let JsonTree::List(items) = value { items.first() } else { None }
}
