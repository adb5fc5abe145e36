//! Arguments of `sniper capture`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::source::{
    CaptureSource, PERP_MARKET_URL, PERP_PUBLIC_URL, SPOT_URL, SourceError, SourceUrls,
    deduplicate_names,
};
use crate::shutdown::parse_duration;

/// Arguments of `capture`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct CaptureArgs {
    /// Feed to record: csgoroll, binance-perp:BTCUSDT@bookTicker (or @depth, @markPrice),
    /// binance-spot:BTCUSDT@bookTicker [default: csgoroll]
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Directory for the recordings, each in its own subdirectory
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Stop after this duration, such as 60s, 5m or 1h30m [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Start a new file for each stream after this duration
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub rotate: Option<Duration>,
    /// Compress with zstd
    #[arg(long)]
    pub compress: bool,
    /// Subscribe again if a busy feed delivers nothing for this long [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub idle: Option<Duration>,
    /// Give up after this many consecutive failures [default: never]
    #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
    pub max_retries: Option<u32>,
    /// Record any WebSocket with JSON messages; ws:// only for this machine
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Message to send to --url after connecting; repeatable
    #[arg(long, value_name = "JSON", requires = "url")]
    pub subscribe: Vec<String>,
    /// Address of the book tickers and depth of perpetuals
    #[arg(long, value_name = "URL", default_value = PERP_PUBLIC_URL)]
    pub binance_perp_public: String,
    /// Address of the mark prices of perpetuals
    #[arg(long, value_name = "URL", default_value = PERP_MARKET_URL)]
    pub binance_perp_market: String,
    /// Address of the spot streams
    #[arg(long, value_name = "URL", default_value = SPOT_URL)]
    pub binance_spot: String,
}

fn parse_count(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_not_a_count| "must be a whole number from 0 to 4294967295")
}

impl CaptureArgs {
    /// Parses the sources; without any, returns the market.
    ///
    /// # Errors
    ///
    /// Returns a [`SourceError`] if a source is invalid or duplicated.
    pub fn sources(&self) -> Result<Vec<CaptureSource>, SourceError> {
        let bases = SourceUrls {
            perp_public: self.binance_perp_public.clone(),
            perp_market: self.binance_perp_market.clone(),
            spot: self.binance_spot.clone(),
        };
        let named = self.sources.iter().map(|name| CaptureSource::parse(name, &bases));
        let own = self.url.iter().map(|url| CaptureSource::from_url(url, &self.subscribe));
        let sources: Vec<CaptureSource> = named.chain(own).collect::<Result<_, _>>()?;
        if sources.is_empty() {
            return Ok(vec![CaptureSource::marketplace()]);
        }
        deduplicate_names(sources)
    }
}
