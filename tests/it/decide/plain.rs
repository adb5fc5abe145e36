//! The plain way from a message to its listings: `serde_json` builds a tree, and the tree is asked.
//!
//! It is written for being right and not for being fast, shares only the vocabulary (amounts,
//! moments, names) with the fast way, and is what the fast way must agree with. A number is kept as
//! the text that it is, since `1e400` is JSON and money is no float.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sniper::{
    config::Generation,
    domain::item_name::ItemName,
    domain::money::Amount,
    domain::time::UnixMs,
    domain::trade::{Defect, Defects, PaintWear, Trade, TradeEvent, TradeId, TradeStatus},
};

/// How deeply arrays and objects may nest, as in `serde_json`'s own values.
const DEPTH_MAX: u32 = 127;

/// A JSON value; an object keeps every entry in its order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Plain>),
    Object(Vec<(String, Plain)>),
}

/// The entries of an object, the values unread.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<'a>(PhantomData<&'a ()>);
        impl<'de> Visitor<'de> for Each<'de> {
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
        deserializer.deserialize_map(Each(PhantomData))
    }
}

impl Plain {
    /// Reads a whole text; `None` where it is not JSON.
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

    /// Every value that stands behind a key.
    fn all(&self, key: &str) -> impl DoubleEndedIterator<Item = &Self> {
        self.entries().iter().filter(move |(found, _)| found == key).map(|(_, value)| value)
    }

    /// The value behind a key; of several the last.
    fn get(&self, key: &str) -> Option<&Self> {
        self.all(key).next_back()
    }

    /// Whether one of these keys stands twice.
    fn repeats(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.all(key).count() > 1)
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn number(&self) -> Option<&str> {
        if let Self::Number(text) = self { Some(text) } else { None }
    }
}

/// What one message brings.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Brought {
    /// The listings, in the order sent.
    pub(crate) trades: Vec<Trade<'static>>,
    /// How many listings had to be dropped.
    pub(crate) unreadable: u32,
}

/// Reads one message of a socket whose only subscription has the id 1. `None`: it cannot be read
/// and is dropped whole.
pub(crate) fn read(text: &str) -> Option<Brought> {
    let message = Plain::read(text)?;
    let is_object = matches!(message, Plain::Object(_));
    if !is_object || message.repeats(&["type", "id", "payload"]) {
        return None;
    }
    if message.get("type").and_then(Plain::text) != Some("next") {
        return Some(Brought::default());
    }
    let payload = message.get("payload")?;
    let id = message.get("id").and_then(Plain::text).and_then(|id| id.parse::<u64>().ok());
    Some(if id == Some(1) { brought(payload) } else { Brought::default() })
}

fn brought(payload: &Plain) -> Brought {
    const EVENTS: [(&str, &str, TradeEvent, Generation); 3] = [
        ("createTrade", "trade", TradeEvent::Listed, Generation::A),
        ("createTrades", "trades", TradeEvent::Listed, Generation::B),
        ("updateTrade", "trade", TradeEvent::Updated, Generation::A),
    ];
    let mut brought = Brought::default();
    let (mut events, mut is_repeated) = (0, payload.repeats(&["data"]));
    for (key, value) in payload.all("data").flat_map(Plain::entries) {
        let Some((_, list, event, generation)) = EVENTS.into_iter().find(|(name, ..)| name == key)
        else {
            continue;
        };
        events += 1;
        is_repeated |= value.repeats(&[list]);
        brought.unreadable += u32::from(!matches!(value, Plain::Null | Plain::Object(_)));
        for listings in value.all(list) {
            let listings = match listings {
                Plain::Null => &[],
                Plain::List(listings) => &listings[..],
                one => std::slice::from_ref(one),
            };
            for listing in listings {
                match trade(listing, event, generation) {
                    Some(trade) => brought.trades.push(trade),
                    None => brought.unreadable += 1,
                }
            }
        }
    }
    // Of listings with one id that differ, none can be bought.
    let read = brought.trades.clone();
    for trade in &mut brought.trades {
        if read.iter().any(|other| other.id == trade.id && other != trade) {
            trade.defects.add(Defect::Conflict);
        }
    }
    if is_repeated || events > 1 {
        brought.trades.iter_mut().for_each(|trade| trade.defects.add(Defect::RepeatedKey));
    }
    brought
}

/// A field that must be there and be read.
fn required<T>(
    defects: &mut Defects,
    defect: Defect,
    value: Option<&Plain>,
    read: impl Fn(&Plain) -> Option<T>,
) -> Option<T> {
    let value = value.and_then(read);
    if value.is_none() {
        defects.add(defect);
    }
    value
}

/// A field that may be null, and absent too where `or_absent` says so.
fn nullable<T>(
    defects: &mut Defects,
    (defect, or_absent): (Defect, bool),
    value: Option<&Plain>,
    read: impl Fn(&Plain) -> Option<T>,
) -> Option<T> {
    let is_fine = match value {
        None => or_absent,
        Some(Plain::Null) => true,
        Some(value) => read(value).is_some(),
    };
    if !is_fine {
        defects.add(defect);
    }
    value.and_then(read)
}

fn moment(value: &Plain) -> Option<UnixMs> {
    UnixMs::parse(value.text()?)
}

fn coins(value: &Plain) -> Option<Amount> {
    Amount::parse(value.number()?).ok().filter(|coins| *coins > Amount::ZERO)
}

fn float(value: &Plain) -> Option<PaintWear> {
    PaintWear::parse(value.number()?)
}

fn range(value: &Plain) -> Option<(PaintWear, PaintWear)> {
    let bound = |key| value.get(key).and_then(float);
    bound("min").zip(bound("max")).filter(|(least, greatest)| least <= greatest)
}

fn items(value: &Plain) -> Option<&[Plain]> {
    let Plain::List(items) = value else { return None };
    items.first().is_none_or(|first| matches!(first, Plain::Object(_))).then_some(items)
}

/// Whether a key that decides stands twice anywhere in a listing.
fn repeats(listing: &Plain) -> bool {
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
        || listing.all("avgPaintWearRange").any(|range| range.repeats(&["min", "max"]))
        || listing.all("tradeItems").filter_map(items_of).any(|first| {
            first.repeats(&["marketName", "itemVariant"])
                || first.all("itemVariant").any(|variant| variant.repeats(&["value"]))
        })
}

/// One listing; `None` where it has no usable id.
fn trade(listing: &Plain, event: TradeEvent, generation: Generation) -> Option<Trade<'static>> {
    let id = TradeId::new(listing.get("id")?.text()?)?;
    let get = |key| listing.get(key);
    let mut defects = Defects::NONE;
    let d = &mut defects;
    let status = required(d, Defect::Status, get("status"), |value| {
        value.text().map(TradeStatus::from_market)
    });
    let items = required(d, Defect::TradeItems, get("tradeItems"), |value| {
        items(value).map(<[Plain]>::to_vec)
    });
    let first = items.as_ref().and_then(|items| items.first());
    let name = first.and_then(|first| first.get("marketName")?.text());
    if first.is_some() && name.is_none() {
        d.add(Defect::MarketName);
    }
    let name = name.unwrap_or_default();
    let base_value = first.and_then(|first| coins(first.get("itemVariant")?.get("value")?));
    if first.is_some() && base_value.is_none() {
        d.add(Defect::BaseValue);
    }
    let own = nullable(d, (Defect::Depositor, false), get("depositor"), |value| {
        (*value != Plain::Null).then_some(())
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
        items: u32::try_from(items.as_ref().map_or(0, Vec::len)).ok()?,
        markup_percent: required(d, Defect::MarkupPercent, get("markupPercent"), |value| {
            sniper::domain::money::Percent::parse(value.number()?).ok()
        }),
        total_value: required(d, Defect::TotalValue, get("totalValue"), coins),
        base_value,
        can_join: {
            let flag = |value: &Plain| match value {
                Plain::Bool(is) => Some(*is),
                _ => None,
            };
            match generation {
                Generation::A => nullable(d, (Defect::CanJoin, true), get("canJoin"), flag),
                Generation::B => required(d, Defect::CanJoin, get("canJoin"), flag),
            }
        },
        can_join_after: nullable(d, (Defect::CanJoinAfter, false), get("canJoinAfter"), moment),
        suspected_trader_can_join_after: nullable(
            d,
            (Defect::SuspectedTraderCanJoinAfter, false),
            get("suspectedTraderCanJoinAfter"),
            moment,
        ),
        created_at: required(d, Defect::CreatedAt, get("createdAt"), moment),
        expires_at: required(d, Defect::ExpiresAt, get("expiresAt"), moment),
        float: nullable(d, (Defect::PaintWear, true), get("avgPaintWear"), float),
        float_range: nullable(d, (Defect::PaintWear, true), get("avgPaintWearRange"), range),
        is_own: own.is_some(),
        defects: Defects::NONE,
        arrival: None,
    };
    if repeats(listing) {
        defects.add(Defect::RepeatedKey);
    }
    Some(Trade { defects, ..trade })
}

/// The first item of a list.
fn items_of(value: &Plain) -> Option<&Plain> {
    if let Plain::List(items) = value { items.first() } else { None }
}
