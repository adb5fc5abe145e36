//! Price files in the shapes of the sources.

use serde_json::{Map, Value, json};

/// An item with made-up prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PriceItem {
    /// Market name without a phase.
    pub(crate) name: String,
    /// Phase of a Doppler.
    pub(crate) phase: Option<&'static str>,
    /// Lowest price at which it is sold, in US cents.
    pub(crate) ask_cents: u64,
    /// Highest price at which it is bought, in US cents.
    pub(crate) bid_cents: u64,
    /// Number of offers to sell it.
    pub(crate) count: u32,
}

/// A file of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PriceFile {
    /// A file of csgotrader.app, by its kind in the settings.
    CsgoTrader(&'static str),
    Skinport,
    Pricempire,
    CsFloat,
    Waxpeer,
    MarketCsgo,
    LisSkins,
}

impl PriceFile {
    pub(crate) const ALL: [Self; 19] = [
        Self::BUFF163,
        Self::CsgoTrader("csgotrader-csfloat"),
        Self::CsgoTrader("csgotrader-csmoney"),
        Self::CsgoTrader("csgotrader-csgotrader"),
        Self::CsgoTrader("csgotrader-cstrade"),
        Self::CsgoTrader("csgotrader-lisskins"),
        Self::CsgoTrader("csgotrader-skinport"),
        Self::CsgoTrader("csgotrader-bitskins"),
        Self::CsgoTrader("csgotrader-lootfarm"),
        Self::CsgoTrader("csgotrader-csgotm"),
        Self::CsgoTrader("csgotrader-csgoempire"),
        Self::CsgoTrader("csgotrader-swapgg"),
        Self::CsgoTrader("csgotrader-youpin"),
        Self::Skinport,
        Self::Pricempire,
        Self::CsFloat,
        Self::Waxpeer,
        Self::MarketCsgo,
        Self::LisSkins,
    ];

    pub(crate) const BUFF163: Self = Self::CsgoTrader("csgotrader-buff163");

    /// Returns the kind of the source in the settings, which is also the path of the file.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::CsgoTrader(kind) => kind,
            Self::Skinport => "skinport",
            Self::Pricempire => "pricempire",
            Self::CsFloat => "csfloat",
            Self::Waxpeer => "waxpeer",
            Self::MarketCsgo => "market-csgo",
            Self::LisSkins => "lis-skins",
        }
    }

    /// Returns `true` if the file states the prices of phases.
    pub(crate) fn has_phases(self) -> bool {
        self == Self::Waxpeer
            || ["buff163", "csfloat", "csmoney", "csgotrader", "cstrade", "lisskins"]
                .iter()
                .any(|name| self.kind().strip_prefix("csgotrader-") == Some(name))
    }

    pub(super) fn of_path(path: &str) -> Option<Self> {
        let path = path.split('?').next().unwrap_or_default();
        Self::ALL.into_iter().find(|file| path.strip_prefix('/') == Some(file.kind()))
    }

    /// Writes the file; all prices are multiplied by `factor`.
    pub(super) fn write(self, items: &[PriceItem], factor: u64) -> Vec<u8> {
        let without_phase = items.iter().filter(|item| item.phase.is_none());
        let cents = |cents: u64| cents.saturating_mul(factor);
        let value = match self {
            Self::CsgoTrader(kind) => csgotrader(
                items,
                |ask, bid| match kind {
                    "csgotrader-buff163" => json!({"starting_at": ask, "highest_order": bid}),
                    "csgotrader-skinport" => {
                        json!({"suggested_price": 1, "instant_price": 1, "starting_at": ask["price"]})
                    }
                    "csgotrader-bitskins" => {
                        let text = |price: Value| price["price"].to_string();
                        json!({"price": text(ask), "instant_sale_price": text(bid)})
                    }
                    "csgotrader-csgotm" => ask["price"].to_string().into(),
                    _ if self.has_phases() => ask,
                    _ => ask["price"].clone(),
                },
                factor,
            ),
            Self::Skinport => list(without_phase, |item| {
                json!({"market_hash_name": item.name, "currency": "USD", "suggested_price": 1,
                    "min_price": dollars(cents(item.ask_cents)), "max_price": 99999,
                    "quantity": item.count})
            }),
            Self::Pricempire => list(without_phase, |item| {
                json!({"market_hash_name": item.name, "prices": [
                    {"provider_key": "buff163", "price": cents(item.ask_cents), "count": item.count},
                    {"provider_key": "buff163_buy", "price": cents(item.bid_cents), "count": item.count}]})
            }),
            Self::CsFloat => list(without_phase, |item| {
                json!({"market_hash_name": item.name, "min_price": cents(item.ask_cents),
                    "quantity": item.count})
            }),
            Self::Waxpeer => {
                let items = list(items.iter(), |item| {
                    json!({"name": with_phase(item), "count": item.count,
                        "min": cents(item.ask_cents).saturating_mul(10)})
                });
                json!({"success": true, "items": items})
            }
            Self::MarketCsgo => {
                let items = list(without_phase, |item| {
                    let price = cents(item.ask_cents);
                    json!({"market_hash_name": item.name, "volume": item.count.to_string(),
                        "price": format!("{}.{:02}0", price / 100, price % 100)})
                });
                json!({"success": true, "currency": "USD", "items": items})
            }
            Self::LisSkins => {
                let items = list(without_phase, |item| {
                    json!({"name": item.name, "price": dollars(cents(item.ask_cents)),
                        "unlocked_price": null, "count": item.count})
                });
                json!({"status": "success", "items": items})
            }
        };
        value.to_string().into_bytes()
    }
}

fn list<'i>(
    items: impl Iterator<Item = &'i PriceItem>,
    row: impl Fn(&PriceItem) -> Value,
) -> Value {
    Value::Array(items.map(row).collect())
}

/// Returns a number of dollars with two decimals.
fn dollars(cents: u64) -> Value {
    let text = format!("{}.{:02}", cents / 100, cents % 100);
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Writes an object of names, with the prices of phases beside that of the name.
fn csgotrader(items: &[PriceItem], entry: impl Fn(Value, Value) -> Value, factor: u64) -> Value {
    let mut file = Map::new();
    for item in items.iter().filter(|item| item.phase.is_none()) {
        let mut ask = json!({"price": dollars(item.ask_cents.saturating_mul(factor))});
        let bid = json!({"price": dollars(item.bid_cents.saturating_mul(factor))});
        let mut phases = Map::new();
        for other in items.iter().filter(|other| other.name == item.name) {
            if let Some(phase) = other.phase {
                let price = dollars(other.ask_cents.saturating_mul(factor));
                phases.insert(phase.to_owned(), price);
            }
        }
        if let (false, Some(ask)) = (phases.is_empty(), ask.as_object_mut()) {
            ask.insert("doppler".to_owned(), phases.into());
        }
        file.insert(item.name.clone(), entry(ask, bid));
    }
    file.into()
}

/// Writes the phase before the wear.
fn with_phase(item: &PriceItem) -> String {
    match (item.phase, item.name.split_once(" (")) {
        (Some(phase), Some((name, wear))) => format!("{name} {phase} ({wear}"),
        (Some(phase), None) => format!("{} {phase}", item.name),
        (None, _) => item.name.clone(),
    }
}

/// Returns well-known items, and one of each kind that sources write differently.
pub(crate) fn default_items() -> Vec<PriceItem> {
    const ROWS: [(&str, Option<&str>, u64); 24] = [
        ("Fracture Case", None, 60),
        ("Recoil Case", None, 45),
        ("Revolution Case", None, 61),
        ("Kilowatt Case", None, 52),
        ("Glove Case", None, 890),
        ("Clutch Case", None, 93),
        ("AK-47 | Redline (Field-Tested)", None, 3_140),
        ("AK-47 | Slate (Field-Tested)", None, 503),
        ("AWP | Asiimov (Field-Tested)", None, 14_050),
        ("AWP | Neo-Noir (Field-Tested)", None, 2_635),
        ("M4A4 | Neo-Noir (Field-Tested)", None, 2_210),
        ("P250 | Asiimov (Field-Tested)", None, 451),
        ("StatTrak™ AK-47 | Redline (Field-Tested)", None, 6_900),
        ("Souvenir AWP | Pit Viper (Field-Tested)", None, 1_000),
        ("★ Karambit", None, 80_000),
        ("★ StatTrak™ Karambit", None, 95_000),
        ("★ Karambit | Doppler (Factory New)", None, 101_050),
        ("★ Karambit | Doppler (Factory New)", Some("Phase 1"), 104_000),
        ("★ Karambit | Doppler (Factory New)", Some("Phase 2"), 120_550),
        ("★ Karambit | Doppler (Factory New)", Some("Ruby"), 500_000),
        ("★ Gut Knife | Gamma Doppler (Factory New)", None, 21_000),
        ("★ Gut Knife | Gamma Doppler (Factory New)", Some("Emerald"), 90_000),
        ("Sticker | Example (Holo)", None, 333),
        ("Paris 2023 Nuke Souvenir Package", None, 210),
    ];
    let item = |(name, phase, ask_cents): (&str, Option<&'static str>, u64)| PriceItem {
        name: name.to_owned(),
        phase,
        ask_cents,
        bid_cents: ask_cents.saturating_mul(19) / 20,
        count: 12,
    };
    ROWS.into_iter().map(item).collect()
}
