//! Watches a marketplace's live listings, checks each against a person's whitelist, and buys.
//!
//! A listing walks through in one direction, on one thread:
//!
//! ```text
//!  bytes ──► ws ──► Trade ──► whitelist ──► ledger ──► buyer ──► bytes
//!                      │ verdict       │ approval    │ outcome
//!                      └── why         └── settle ◄──┘
//! ```
//!
//! # The rooms, in reading order
//!
//! | room | answers | kind |
//! |---|---|---|
//! | [`domain::money`], [`domain::time`], [`domain::item_name`], [`domain::trade`], [`domain::outcome`] | what the words mean | pure |
//! | [`json`], [`text`], [`secret`] | how foreign text is read, shown, and kept from being shown | pure |
//! | [`threads`] | which thread has ended, and that ordering stops then | edge |
//! | [`cli`], [`config`] | what a person asked for and has set | edge around pure checks |
//! | [`markets::csgoroll`] | how this marketplace speaks; the only room that knows it | pure |
//! | [`ws`] | the feed: when to dial, what to say, whether it still lives | edge around pure cores |
//! | [`whitelist`] | is it wanted, and why not | pure |
//! | [`sniper`] | may it be bought, now or later; what became of it | pure, with a handle |
//! | [`ledger`] | may it be afforded; what was intended, what happened | pure core |
//! | [`domain::server_clock`] | what time it can be at the server | pure |
//! | [`execution`] | one request, one answer, over a warm connection | edge |
//! | [`account`] | balance, purchases and open listings, read seldom and never on the way to a buy | edge |
//! | [`net`], [`http_head`] | TLS, dialling, the client for reads | edge |
//! | [`recording`] | what was heard, recorded with its gaps and played back | edge around pure lines |
//! | [`capture`] | any feed, recorded to disk | edge |
//! | [`doctor`] | what works, what does not, and what to do | edge around a pure report |
//! | [`sim`] | the practice market | edge around a pure market |
//! | [`cache`] | what came by last, remembered where asking costs nothing | pure |
//! | [`latency`], [`summary`], [`log`], [`shutdown`], [`clock`], [`commands`] | what a person sees, and when it ends | edge |
//!
//! # What must always be true, and is mostly seen by what is absent
//!
//! 1. Everything reserved, spent and unknown together never exceeds a limit.
//! 2. At most one request per listing, and none is sent again by anybody.
//! 3. A missing or unreadable limit, price or field means no buy.
//! 4. In a dry run nothing that could send a buy is built.
//! 5. No secret reaches a log, an error or a report: see [`secret`].
//! 6. Every queue, frame and wait has a bound with a name.
//! 7. Between frame and order there is no wait, no other thread, no disk and no log line.
//! 8. Pure rooms import no runtime, no clock and no randomness; time is an argument.

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
