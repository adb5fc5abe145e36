//! The words of `sniper capture`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::source::{
    CaptureSource, PERP_MARKET_URL, PERP_PUBLIC_URL, SPOT_URL, SourceError, SourceUrls, told_apart,
};
use crate::shutdown::parse_duration;

/// What `capture` takes.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct CaptureArgs {
    /// What to record: csgoroll, binance-perp:BTCUSDT@bookTicker (or @depth, @markPrice),
    /// binance-spot:BTCUSDT@bookTicker [default: csgoroll]
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Where sessions are kept, each in a directory of its own
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Stop cleanly after this long, like 60s, 5m or 8h [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub lasting: Option<Duration>,
    /// Begin a new file for each stream after this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub rotate: Option<Duration>,
    /// Compress with zstd
    #[arg(long)]
    pub compress: bool,
    /// How long a brisk feed may deliver nothing before it is suspected [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub idle: Option<Duration>,
    /// Give up after so many failed attempts in a row [default: never]
    #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
    pub max_retries: Option<u32>,
    /// Record any WebSocket of JSON messages; ws:// for this machine only
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A message to send first to --url; may be given several times
    #[arg(long, value_name = "JSON", requires = "url")]
    pub subscribe: Vec<String>,
    /// Where perpetuals' book tickers and depth are
    #[arg(long, value_name = "URL", default_value = PERP_PUBLIC_URL)]
    pub binance_perp_public: String,
    /// Where perpetuals' mark prices are
    #[arg(long, value_name = "URL", default_value = PERP_MARKET_URL)]
    pub binance_perp_market: String,
    /// Where spot streams are
    #[arg(long, value_name = "URL", default_value = SPOT_URL)]
    pub binance_spot: String,
}

fn parse_count(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_not_a_count| "is not a whole number from 0 to 4294967295")
}

impl CaptureArgs {
    /// The sources that are asked for.
    ///
    /// # Errors
    ///
    /// A [`SourceError`] that says what to write instead.
    pub fn sources(&self) -> Result<Vec<CaptureSource>, SourceError> {
        let bases = SourceUrls {
            perp_public: self.binance_perp_public.clone(),
            perp_market: self.binance_perp_market.clone(),
            spot: self.binance_spot.clone(),
        };
        let named = self.sources.iter().map(|name| CaptureSource::parse(name, &bases));
        let own = self.url.iter().map(|url| CaptureSource::at(url, &self.subscribe));
        let sources: Vec<CaptureSource> = named.chain(own).collect::<Result<_, _>>()?;
        if sources.is_empty() {
            return Ok(vec![CaptureSource::marketplace()]);
        }
        told_apart(sources)
    }
}
