//! Watches live listings of a market, checks each against a whitelist, and sends orders.
//!
//! A listing passes through in one direction, on one thread:
//!
//! ```text
//!  bytes ──► ws ──► Trade ──► sniper ──► ledger ──► execution ──► bytes
//!            │                  │ decision  │ approval   │ outcome
//!            └─► recording      └─► why     └─ settle ◄──┘
//! ```
//!
//! # Modules
//!
//! A module imports only from modules above it in this list; `tests/it/structure.rs` checks that.
//!
//! | module | responsibility | kind |
//! |---|---|---|
//! | [`domain`] | amounts, timestamps, items, listings, whitelist entries, outcomes, the server's clock, latency | pure |
//! | [`json`], [`secret`], [`text`] | hot-path JSON cursor; redaction; escaping | pure |
//! | [`clock`], [`threads`], [`log`], [`shutdown`], [`cache`] | clocks; detection of ended threads; log; stop signals; cache of recent keys | small edges |
//! | [`prices`] | reference prices: parsers of each source, item keys, acceptance, look-up, percent rules | pure |
//! | [`config`] | `.env` and `sniper.toml` → [`Config`](config::Config), plain data | pure, file reads |
//! | [`backoff`] | exponential backoff and jitter | pure |
//! | [`net`] | dialing, TLS, HTTP client for reads, HTTP headers, busy polling | edge |
//! | [`protocol`] | subscription protocols: messages in, messages out | pure |
//! | [`markets`] | one folder per market: operations, messages, responses | pure |
//! | [`ws`] | connections, sessions, reconnecting, watchdog, gaps, metrics, deduplication, managed handle | edge around pure cores |
//! | [`recording`] | recordings: write and read | pure format, edge |
//! | [`whitelist`] | listing → decision | pure |
//! | [`ledger`] | write-ahead log, limits, balance, reconciliation, recovery | pure core, durable edge |
//! | [`shared`] | budget and active role that several bots share in a database | pure, edge |
//! | [`execution`] | order → request on a warm connection → outcome | edge |
//! | [`account`] | balance, purchases, open listings, rate limiter | edge |
//! | [`alerts`] | alerts, heartbeat, notifications of systemd | pure core, edge |
//! | [`sniper`] | decision engine: eligibility, held listings, settlement, trade log | pure, with a handle |
//! | [`dashboard`] | web page, controls and metrics of a session | pure rendering, edge |
//! | [`sim`] | simulated market, used by `demo`, `sim` and tests | pure engine, edge |
//! | [`commands`] | one module per command: arguments, run and output | edge |
//!
//! # Invariants
//!
//! 1. Reserved + spent + unknown + returning never exceeds any limit, across crashes, restarts,
//!    reloads and parallel orders. Exposure falls only by the ledger's four rules.
//! 2. At most one order per trade key, ever, per ledger. The key is the id; where a market
//!    re-prices under one id, it is id and price. A further order for an id needs every earlier one
//!    to be rejected, not sent or not bought.
//! 3. Nothing resends an order whose outcome is unknown; unknown counts as spent until it is known.
//! 4. A missing or unreadable limit, price or field means no order. Of a batch, this concerns the
//!    ordered listing; the others are validated afterwards. A missing limit in the configuration
//!    means no start.
//! 5. Dry run is the default; nothing that could send an order is constructed in it.
//! 6. No secret reaches a log, error, panic, recording, report, page, alert or metric, nor any host
//!    but its own: see [`secret`].
//! 7. Every queue, message, wait and file has a named bound.
//! 8. No log line, disk sync, alert, page or metric delays an order; between message and order
//!    there is no await and no allocation for unwanted trades.
//! 9. The same recording with the same configuration gives the same decisions.
//! 10. Feed content is hostile: bounded on input, escaped on output.

#[cfg(not(unix))]
compile_error!("sniper needs Linux or another Unix system; on Windows, build it in WSL");

pub mod domain;
pub mod json;
pub mod secret;
pub mod text;
pub mod clock;
pub mod threads;
pub mod log;
pub mod shutdown;
pub mod cache;
pub mod prices;
pub mod config;
pub mod backoff;
pub mod net;
pub mod protocol;
pub mod markets;
pub mod ws;
pub mod recording;
pub mod whitelist;
pub mod ledger;
pub mod shared;
pub mod execution;
pub mod account;
pub mod alerts;
pub mod sniper;
pub mod dashboard;
pub mod sim;
pub mod commands;
