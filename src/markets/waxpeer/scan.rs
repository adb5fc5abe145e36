//! Decides from the name alone whether an event can wait until messages that arrived with it are read.
//!
//! # Invariants
//!
//! 1. [`Scan::CanWait`] is returned only for a listing or a removal of an item that no entry wants. All
//!    events of a wanted item are read in their order, because a price may change under one id.
//! 2. If in doubt, the message is read in its turn.

use memchr::{memchr, memmem};

use crate::{
    domain::trade::{TradeId, TradeStatus},
    domain::wanted_items::WantedItems,
    markets::Scan,
};

const NAME_KEY: &[u8] = br#""name":""#;
const REMOVED: &[u8] = br#"42["removed",{"#;

/// Scans the rest of a message from the event's name on.
#[inline]
pub fn scan(payload: &[u8], wanted: &WantedItems) -> Scan {
    let events = [&br#""update",{"#[..], br#""new",{"#, br#""removed",{"#];
    let listing = events.iter().find_map(|event| payload.strip_prefix(*event));
    match listing.and_then(|listing| is_wanted(listing, wanted)) {
        Some(false) => Scan::CanWait,
        Some(true) | None => Scan::ReadNow,
    }
}

/// Returns `true` if an entry may want the item. Fails if its name is not written as usual.
#[inline]
fn is_wanted(listing: &[u8], wanted: &WantedItems) -> Option<bool> {
    // An escape could hide a name or its end.
    if memchr(b'\\', listing).is_some() {
        return None;
    }
    let mut names = memmem::find_iter(listing, NAME_KEY);
    let name = listing.get(names.next()?.checked_add(NAME_KEY.len())?..)?;
    let name = str::from_utf8(name.get(..memchr(b'"', name)?)?).ok()?;
    // A second name may be that of the listing. The phase may be outside of the name.
    names.next().is_none().then(|| wanted.ceiling(name).is_some() || name.contains("Doppler"))
}

/// Returns the status of a listing if a message says that it was removed.
#[inline]
pub fn removal(message: &[u8], id: &TradeId) -> Option<TradeStatus> {
    let listing = message.strip_prefix(REMOVED)?;
    let at = memmem::find(listing, id.as_str().as_bytes())?;
    let (before, after) = (listing.get(..at)?, listing.get(at.checked_add(id.as_str().len())?)?);
    (before.ends_with(br#""item_id":""#) && *after == b'"').then_some(TradeStatus::Cancelled)
}
