//! Common code of simulated markets that change prices under one id and store the buyer's own order
//! ids.
//!
//! - [`listing`], [`purchase`]: listed items, and their orders and purchases. Pure.
//! - [`market`]: listings, price changes, purchases and the account as a state machine. Pure.
//! - [`books`]: each sale with its buyer and own id. Pure.
//! - [`names`]: phases and paint indices of items, which such markets write in different ways.
//!   Pure.
//! - [`query`]: query strings of requests. Pure.
//! - [`server`]: answers to HTTP requests.
//!
//! The wire formats are not here, but in the folder of each market.

pub mod books;
pub mod listing;
pub mod market;
pub mod names;
mod price_changes;
pub mod purchase;
pub mod query;
pub mod server;

use super::faults::FaultKind;

/// The faults that every such market can inject.
pub const FAULTS: [FaultKind; 43] = [
    FaultKind::CutBeforeCommit,
    FaultKind::CutAfterCommit,
    FaultKind::Hang,
    FaultKind::HangBeforeCommit,
    FaultKind::ServerErrorAfterCommit,
    FaultKind::ServerErrorBeforeCommit,
    FaultKind::TooMany,
    FaultKind::Challenge,
    FaultKind::Unauthenticated,
    FaultKind::UnknownError,
    FaultKind::HalfBody,
    FaultKind::Slow,
    FaultKind::Doubled,
    FaultKind::LateRejection,
    FaultKind::Empty,
    FaultKind::Foreign,
    FaultKind::WrongPrice,
    FaultKind::PriceLow,
    FaultKind::PriceZero,
    FaultKind::PriceHigh,
    FaultKind::AddressNotBound,
    FaultKind::TradeUrl,
    FaultKind::PriceMoves,
    FaultKind::RequestTimeout,
    FaultKind::PageInsteadOfAnswer,
    FaultKind::FeedCut,
    FaultKind::FeedSilence,
    FaultKind::FeedError,
    FaultKind::FeedClose,
    FaultKind::FeedLie,
    FaultKind::FeedRelist,
    FaultKind::FeedUnlist,
    FaultKind::FeedDisconnect,
    FaultKind::ListStale,
    FaultKind::ListShort,
    FaultKind::ListUnknownStatus,
    FaultKind::ListNull,
    FaultKind::ListForeign,
    FaultKind::BalanceStale,
    FaultKind::ReadServerError,
    FaultKind::ReadCut,
    FaultKind::ReadSlow,
    FaultKind::ReadPage,
];
