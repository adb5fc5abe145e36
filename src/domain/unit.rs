//! Name of the unit of amounts, for display. A process trades on one market, so it has one unit.

use std::sync::OnceLock;

/// Unit of the default market.
const DEFAULT: &str = "coins";

static UNIT: OnceLock<&'static str> = OnceLock::new();

/// Sets the unit of this process. Only the first call has an effect.
pub fn set(unit: &'static str) {
    UNIT.get_or_init(|| unit);
}

/// Returns the unit, such as `coins` or `USD`.
pub fn name() -> &'static str {
    UNIT.get().copied().unwrap_or(DEFAULT)
}
