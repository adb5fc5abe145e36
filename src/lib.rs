//! Watches live marketplace listings, checks each against a whitelist, and sends orders.
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
//! | module | responsibility | kind |
//! |---|---|---|
//! | [`domain`] | `Amount`, `UnixMs`, `Trade`, `TradeId`, `Outcome`, the server clock: the vocabulary | pure |
//! | [`json`], [`text`], [`secret`], [`shutdown`], [`clock`], [`threads`], [`cache`] | hot-path JSON cursor; escaping; redaction; stop signal; wall clock; alarm for lost threads; cache of recent keys | pure, small edges |
//! | [`config`] | `.env` and `sniper.toml` → `Config` | pure, file reads |
//! | [`net`], [`http_head`] | dialling, TLS, HTTP client for reads, HTTP header rules, busy-poll stream | edge |
//! | [`markets`] | one folder per marketplace: operations, messages, responses | pure |
//! | [`ws`] | connect, session, reconnect supervisor, watchdog, backoff, breaker, gaps, metrics, deduplication, managed handle; subscription protocols | edge around pure cores |
//! | [`recording`] | write, read and replay recordings | pure format, edge |
//! | [`ledger`] | write-ahead log, limits, balance, reconciliation, recovery | pure core, durable edge |
//! | [`whitelist`], [`sniper`] | whitelist, eligibility, decision engine, held listings, settlement | pure, with a handle |
//! | [`execution`] | order → request on a warm connection → outcome | edge |
//! | [`account`] | balance, purchases, back-fill, rate limiter | edge |
//! | [`log`], [`latency`], [`summary`] | log, latency, session summary | edge |
//! | [`sim`] | simulated market, used by `demo`, `sim` and tests | pure engine, edge |
//! | [`cli`], [`commands`], [`capture`], [`doctor`] | command line; one file per command: arguments, run, output; recording of any feed; diagnosis | edge |
//!
//! # Invariants
//!
//! 1. Reserved + spent + unknown + returning never exceeds any limit, across crashes, restarts,
//!    reloads and parallel orders. Exposure falls only by the ledger's four rules.
//! 2. At most one order per trade key, ever, per ledger. The key is the id; where a market
//!    re-prices under one id, it is id and price. A further order for an id needs every earlier one
//!    to be rejected, not sent or not bought.
//! 3. Nothing resends an order whose outcome is unknown; unknown counts as spent until it is known.
//! 4. A missing or unreadable limit, price or field means no order. A missing limit in the
//!    configuration means no start.
//! 5. Dry run is the default; nothing that could send an order is constructed in it.
//! 6. No secret reaches a log, error, panic, recording, report, page, alert or metric, nor any host
//!    but its own: see [`secret`].
//! 7. Every queue, message, wait and file has a named bound.
//! 8. No log line, disk sync, alert, page or metric delays an order; between message and order
//!    there is no await and no allocation for unwanted trades.
//! 9. The same recording with the same configuration gives the same decisions.
//! 10. Feed content is hostile: bounded on input, escaped on output.

pub mod account;
pub mod cache;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod execution;
pub mod http_head;
pub mod json;
pub mod latency;
pub mod ledger;
pub mod log;
pub mod markets;
pub mod net;
pub mod recording;
pub mod secret;
pub mod shutdown;
pub mod sim;
pub mod sniper;
pub mod summary;
pub mod text;
pub mod threads;
pub mod whitelist;
pub mod ws;
