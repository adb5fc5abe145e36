//! Text form of the prices of one item, as stored tables and recordings have it: a line of JSON.

use super::{
    item_key::{ItemKey, ItemVariant},
    table::{Offer, Quote},
    value::RefPrice,
};
use crate::domain::time::UnixMs;

/// Price in millionths, number of offers, time.
type OfferRow = (u64, Option<u32>, Option<i64>);

/// Formats the prices of an item: base name, variant, ask and bid.
pub fn format_row(key: &ItemKey<'_>, quote: &Quote) -> String {
    let offer = |offer: Option<Offer>| -> Option<OfferRow> {
        offer.map(|offer| (offer.price.micros(), offer.count(), offer.at().map(|at| at.0)))
    };
    let row = (key.base.as_ref(), key.variant.bits(), offer(quote.ask), offer(quote.bid));
    // Text and numbers can always be written.
    serde_json::to_string(&row).unwrap_or_default()
}

/// Reads a line of [`format_row`]. Returns `None` for any other text.
pub fn parse_row(line: &str) -> Option<(ItemKey<'static>, Quote)> {
    let (base, variant, ask, bid): (String, u16, Option<OfferRow>, Option<OfferRow>) =
        serde_json::from_str(line).ok()?;
    let key = ItemKey { base: base.into(), variant: ItemVariant::from_bits(variant)? };
    Some((key, Quote { ask: parse_offer(ask), bid: parse_offer(bid) }))
}

fn parse_offer(row: Option<OfferRow>) -> Option<Offer> {
    let (micros, count, at) = row?;
    let offer = Offer::new(RefPrice::from_micros(micros)?);
    Some(offer.with_count(count).with_time(at.map(UnixMs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let offer = Offer::new(RefPrice::from_micros(1_500_000).unwrap());
        let dated = offer.with_count(Some(7)).with_time(Some(UnixMs(1_772_352_000_000)));
        let key = ItemKey::parse("★ StatTrak™ Karambit | Ruby (Factory New)").unwrap();
        for quote in [
            Quote { ask: Some(offer), bid: None },
            Quote { ask: None, bid: Some(dated) },
            Quote { ask: Some(dated), bid: Some(offer) },
        ] {
            let row = format_row(&key, &quote);
            assert_eq!(parse_row(&row), Some((key.clone(), quote)), "{row}");
            assert_eq!(parse_row(&row[..row.len() - 1]), None);
        }
        assert_eq!(parse_row(r#"["x",65535,null,null]"#), None, "no variant has this number");
    }
}
