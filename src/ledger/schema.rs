//! Database tables, as migrations. Each is applied once, in order, and never changed.

/// A database's `user_version` is the number of migrations applied to it.
pub(super) const MIGRATIONS: [&str; 2] = [
    // 1: initial schema.
    "
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT;
CREATE TABLE entries (
    slot INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE limits (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    max_price INTEGER NOT NULL,
    total INTEGER NOT NULL,
    min_balance INTEGER NOT NULL,
    max_buys_per_minute INTEGER NOT NULL,
    per_hour INTEGER,
    per_day INTEGER,
    max_in_flight INTEGER NOT NULL
) STRICT;
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    intent INTEGER,
    record BLOB NOT NULL
) STRICT;
CREATE TABLE intents (
    number INTEGER PRIMARY KEY,
    listing TEXT NOT NULL,
    entry INTEGER NOT NULL,
    limits INTEGER NOT NULL,
    approved INTEGER NOT NULL,
    price INTEGER NOT NULL,
    state TEXT NOT NULL,
    reserved_at INTEGER NOT NULL,
    sent_at INTEGER,
    answered_at INTEGER,
    settled_at INTEGER,
    answer TEXT,
    words TEXT
) STRICT;
CREATE UNIQUE INDEX one_request_for_a_listing ON intents (listing) WHERE state <> 'not_sent';
CREATE TABLE corrections (
    event INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    intent INTEGER,
    verdict TEXT NOT NULL
) STRICT;
CREATE TABLE halts (
    event INTEGER NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    ended_at INTEGER,
    ended_by TEXT
) STRICT;
",
    // 2: amounts in thousandths instead of hundredths. The records in `events` state their own
    // layout and stay. `key_price` is the price that belongs to the key of the listing, or 0 if
    // the id alone is the key.
    "
UPDATE limits SET
    max_price = max_price * 10,
    total = total * 10,
    min_balance = min_balance * 10,
    per_hour = per_hour * 10,
    per_day = per_day * 10;
UPDATE intents SET approved = approved * 10, price = price * 10;
UPDATE meta SET value = value * 10 WHERE key = 'ceiling_coins';
ALTER TABLE intents ADD COLUMN key_price INTEGER NOT NULL DEFAULT 0;
DROP INDEX one_request_for_a_listing;
CREATE UNIQUE INDEX one_request_for_a_key ON intents (listing, key_price)
    WHERE state <> 'not_sent';
",
];

/// Format that this version writes.
pub(super) const VERSION: u32 = 2;
/// First format with amounts in thousandths.
pub(super) const THOUSANDTHS_SINCE: u32 = 2;
/// First format with the column `key_price`.
pub(super) const KEY_PRICE_SINCE: u32 = 2;
