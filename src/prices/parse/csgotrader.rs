//! Files of csgotrader.app: an object of names. Prices are in whole dollars.

use super::{PriceUnit, TableError, check_size, members, price, read_json};
use crate::{
    json::{Cursor, JsonError, ValueKind},
    prices::{
        item_key::Phase,
        source::CsgoTraderFile,
        table::{Offer, PriceTable, Quote},
        value::RefPrice,
    },
};

/// Price of a name without its phases, and those of its phases.
#[derive(Default)]
struct PhasedPrices {
    price: Option<RefPrice>,
    phases: Vec<(Phase, RefPrice)>,
}

pub(super) fn parse(text: &str, file: CsgoTraderFile) -> Result<PriceTable, TableError> {
    let mut table = PriceTable::default();
    read_json(text, |cursor| {
        cursor.object(|name, cursor| {
            let [ask, bid] = entry(cursor, file)?;
            add(&mut table, &name.decode(), &ask, &bid);
            Ok(())
        })?;
        check_size(&table)
    })?;
    Ok(table)
}

fn add(table: &mut PriceTable, name: &str, ask: &PhasedPrices, bid: &PhasedPrices) {
    let offer = |price: Option<RefPrice>| price.map(Offer::new);
    table.add(name, None, Quote { ask: offer(ask.price), bid: offer(bid.price) });
    for (phase, price) in &ask.phases {
        table.add(name, Some(*phase), Quote { ask: Some(Offer::new(*price)), bid: None });
    }
    for (phase, price) in &bid.phases {
        table.add(name, Some(*phase), Quote { ask: None, bid: Some(Offer::new(*price)) });
    }
}

/// Reads the value of one name: the ask and the bid.
fn entry(cursor: &mut Cursor<'_>, file: CsgoTraderFile) -> Result<[PhasedPrices; 2], JsonError> {
    let mut sides = [PhasedPrices::default(), PhasedPrices::default()];
    let [ask, bid] = &mut sides;
    match file {
        CsgoTraderFile::Buff163 => members(cursor, |key, cursor| match key {
            "starting_at" => phased(cursor, ask),
            "highest_order" => phased(cursor, bid),
            _ => cursor.skip().map(drop),
        })?,
        CsgoTraderFile::Skinport => members(cursor, |key, cursor| match key {
            "starting_at" => phased(cursor, ask),
            _ => cursor.skip().map(drop),
        })?,
        CsgoTraderFile::BitSkins => members(cursor, |key, cursor| match key {
            "price" => phased(cursor, ask),
            "instant_sale_price" => phased(cursor, bid),
            _ => cursor.skip().map(drop),
        })?,
        CsgoTraderFile::CsFloat
        | CsgoTraderFile::CsMoney
        | CsgoTraderFile::CsgoTrader
        | CsgoTraderFile::CsTrade
        | CsgoTraderFile::LisSkins
        | CsgoTraderFile::LootFarm
        | CsgoTraderFile::CsgoTm
        | CsgoTraderFile::CsgoEmpire
        | CsgoTraderFile::SwapGg
        | CsgoTraderFile::Youpin => phased(cursor, ask)?,
    }
    Ok(sides)
}

/// Reads a bare number, or `{"price": n, "doppler": {phase: n}}`. No other member is a price of
/// this side.
fn phased(cursor: &mut Cursor<'_>, into: &mut PhasedPrices) -> Result<(), JsonError> {
    if cursor.peek()? != ValueKind::Object {
        into.price = price(cursor, PriceUnit::Whole)?;
        return Ok(());
    }
    members(cursor, |key, cursor| match key {
        "price" => {
            into.price = price(cursor, PriceUnit::Whole)?;
            Ok(())
        }
        "doppler" => members(cursor, |name, cursor| {
            let price = price(cursor, PriceUnit::Whole)?;
            into.phases.extend(Phase::parse(name).zip(price));
            Ok(())
        }),
        _ => cursor.skip().map(drop),
    })
}
