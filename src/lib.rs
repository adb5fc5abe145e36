//! Watches live listings of a market, checks each against a whitelist, and sends orders.
//!
//! A listing passes through in one direction, on one thread:
//!
//! ```text
//!  bytes ──► ws ──► Trade ──► sniper ──► ledger ──► execution ──► bytes
//!            │                  │ decision  │ approval   │ outcome
//!            └─► recording      └─► log     └─ settle ◄──┘
//! ```
//!
//! # Modules
//!
//! A module imports only from modules above it in this list; `tests/it/structure.rs` checks that.
//!
//! | module | responsibility | kind |
//! |---|---|---|
//! | [`json`], [`secret`], [`text`] | hot-path JSON cursor; redaction; escaping, suggestions | pure |
//! | [`domain`] | amounts, timestamps, items, listings, whitelist entries, outcomes, the server's clock, latency | pure |
//! | [`clock`], [`threads`], [`log`], [`shutdown`], [`cache`] | clocks; detection of ended threads, priorities; log; stop signals; cache of recent keys | small edges |
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
//! `docs/ARCHITECTURE.md` lists them; code, tests and documents refer to their numbers.

#[cfg(not(unix))]
compile_error!("sniper needs Linux or another Unix system; on Windows, build it in WSL");

pub mod json;
pub mod secret;
pub mod text;
pub mod domain;
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
