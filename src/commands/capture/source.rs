//! Parses the sources of a capture. Pure.
//!
//! | source | address (public documentation of April 2026) |
//! |---|---|
//! | the name of the market | its configured feed |
//! | `binance-perp:BTCUSDT@bookTicker`, `…@depth` | [`PERP_PUBLIC_URL`] |
//! | `binance-perp:BTCUSDT@markPrice`, with the funding rate | [`PERP_MARKET_URL`] |
//! | `binance-spot:BTCUSDT@bookTicker` | [`SPOT_URL`] |
//! | `--url` | a custom address, with optional subscription messages |

use super::outcome::NoDataReason;
use crate::{
    config::{
        Market,
        endpoint::{Endpoint, EndpointError, Scheme},
    },
    json::{self, RawValue},
    text::{Escaped, nearest},
};

/// Address of the book tickers and depth of perpetuals.
pub const PERP_PUBLIC_URL: &str = "wss://fstream.binance.com/public/ws";
/// Address of the mark prices of perpetuals.
pub const PERP_MARKET_URL: &str = "wss://fstream.binance.com/market/ws";
/// Address of the spot streams.
pub const SPOT_URL: &str = "wss://stream.binance.com:9443/ws";

/// Maximum number of subscription messages for one address.
const SUBSCRIBE_MAX: usize = 256;
/// Maximum length of a symbol or stream name, in characters.
const WORD_CHARS_MAX: usize = 40;

/// Name of the stream with the listings of a market.
pub const LISTINGS: &str = "listings";
const PERP: &str = "binance-perp";
const SPOT: &str = "binance-spot";
/// Option for a custom address.
const URL_OPTION: &str = "--url";

/// Addresses of the public feeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceUrls {
    /// Replaces [`PERP_PUBLIC_URL`].
    pub perp_public: String,
    /// Replaces [`PERP_MARKET_URL`].
    pub perp_market: String,
    /// Replaces [`SPOT_URL`].
    pub spot: String,
}

impl Default for SourceUrls {
    fn default() -> Self {
        Self {
            perp_public: PERP_PUBLIC_URL.to_owned(),
            perp_market: PERP_MARKET_URL.to_owned(),
            spot: SPOT_URL.to_owned(),
        }
    }
}

/// Protocol of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceProtocol {
    /// Protocol of the market, whose address is a setting.
    Marketplace,
    Plain {
        endpoint: Endpoint,
        /// Messages to send after connecting.
        subscribe: Vec<String>,
    },
}

/// Source of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSource {
    /// Name on the command line.
    pub name: String,
    /// Name of its directory.
    pub symbol: String,
    /// Name of its file.
    pub stream: String,
    pub protocol: SourceProtocol,
    /// Setting or option that contains its address.
    pub setting: &'static str,
}

/// Cause of a rejected source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("unknown source {name:?}; write {}, binance-perp:BTCUSDT@bookTicker, binance-spot:BTCUSDT@bookTicker, or --url{}", market_names(), .suggestion.map(|suggestion| format!(" (did you mean {suggestion}?)")).unwrap_or_default())]
    Unknown {
        /// Input, escaped for display.
        name: String,
        /// Most similar known source.
        suggestion: Option<&'static str>,
    },
    /// Missing or invalid `SYMBOL@stream`.
    #[error("source {name:?} has no valid stream; write it as {kind}:BTCUSDT@bookTicker")]
    Form {
        /// Input, escaped for display.
        name: String,
        /// Part before the colon.
        kind: &'static str,
    },
    /// Stream of perpetuals without a known address.
    #[error(
        "unknown stream {stream:?} of perpetuals; write bookTicker, depth or markPrice, or set its address with --url"
    )]
    Stream { stream: String },
    #[error("the address of {name:?} {problem}")]
    Address {
        /// Escaped name of the source.
        name: String,
        problem: EndpointError,
    },
    /// Subscription message that is not JSON.
    #[error("--subscribe message {number} is not JSON; quote it for your shell")]
    Subscribe {
        /// Index of the message, counted from 1. The message may contain keys and is not shown.
        number: usize,
    },
    #[error("too many --subscribe messages; at most {SUBSCRIBE_MAX} are allowed")]
    TooMany,
    #[error("duplicate source {name:?}; remove one")]
    Duplicate { name: String },
}

impl CaptureSource {
    /// Returns the listings of a market as a source.
    pub fn marketplace(market: Market) -> Self {
        Self {
            name: market.name().to_owned(),
            symbol: market.name().to_ascii_uppercase(),
            stream: LISTINGS.to_owned(),
            protocol: SourceProtocol::Marketplace,
            setting: market.feed_variable(),
        }
    }

    /// Returns advice for a source without recorded messages.
    pub(super) fn advice(&self, cause: &NoDataReason) -> String {
        let setting = self.setting;
        let what = match (cause, &self.protocol, setting) {
            (NoDataReason::NeverConnected(_), ..) => {
                return format!("Check {setting}, which sets its address.");
            }
            (NoDataReason::Binary(_) | NoDataReason::TooLong(_), ..) => {
                return format!(
                    "Check {setting}: only feeds of short text messages can be recorded."
                );
            }
            (_, SourceProtocol::Marketplace, _) => self.advised_setting(),
            (_, SourceProtocol::Plain { .. }, URL_OPTION) => "--subscribe and ",
            (_, SourceProtocol::Plain { .. }, _) => {
                "the spelling of the symbol and the stream, and "
            }
        };
        match cause {
            NoDataReason::Error(_) => format!("Check {what}{setting}."),
            _ => format!("The feed may be quiet; otherwise check {what}{setting}."),
        }
    }

    /// Returns what decides, besides the address, whether the feed of a market has listings.
    fn advised_setting(&self) -> &'static str {
        match Market::parse(&self.name).map(Market::settings) {
            Some(market) if market.has_feed_key("generation") => "`generation` in [feed] and ",
            Some(market) if market.feed_needs_credential => "the credential and ",
            _ => "",
        }
    }

    /// Parses a source of the command line.
    ///
    /// # Errors
    ///
    /// Returns a [`SourceError`] if the source is unknown or its address invalid.
    pub fn parse(name: &str, bases: &SourceUrls) -> Result<Self, SourceError> {
        let shown = || Escaped(name).to_string();
        if let Some(market) = Market::parse(name) {
            return Ok(Self::marketplace(market));
        }
        let (kind, rest) = match name.split_once(':') {
            Some((PERP, rest)) => (PERP, rest),
            Some((SPOT, rest)) => (SPOT, rest),
            _ if name == PERP => (PERP, ""),
            _ if name == SPOT => (SPOT, ""),
            _ => {
                let kind = name.split(':').next().unwrap_or_default();
                let known: Vec<_> =
                    Market::ALL.map(Market::name).into_iter().chain([PERP, SPOT]).collect();
                let suggestion = nearest(kind, &known);
                return Err(SourceError::Unknown { name: shown(), suggestion });
            }
        };
        let form = || SourceError::Form { name: shown(), kind };
        let (symbol, stream) = rest.split_once('@').ok_or_else(form)?;
        if !is_word(symbol, "_-") || !is_word(stream, "_-@") {
            return Err(form());
        }
        let (base, setting) = match kind {
            SPOT => (&bases.spot, "--binance-spot"),
            _ => perp_base(stream, bases)?,
        };
        let symbol_lower = symbol.to_ascii_lowercase();
        let url = format!("{}/{symbol_lower}@{stream}", base.trim_end_matches('/'));
        let endpoint = Endpoint::parse(&url, Scheme::WebSocket)
            .map_err(|problem| SourceError::Address { name: shown(), problem })?;
        Ok(Self {
            name: name.to_owned(),
            symbol: symbol.to_ascii_uppercase(),
            stream: stream.to_owned(),
            protocol: SourceProtocol::Plain { endpoint, subscribe: Vec::new() },
            setting,
        })
    }

    /// Creates a source from a custom address. Its directory is named after the host, its file
    /// after the last segment of the path.
    ///
    /// # Errors
    ///
    /// Returns a [`SourceError`] if the address or a subscription message is invalid.
    pub fn from_url(url: &str, subscribe: &[String]) -> Result<Self, SourceError> {
        // The query may contain keys.
        let name = url.split('?').next().unwrap_or_default();
        let endpoint = Endpoint::parse(url, Scheme::WebSocket)
            .map_err(|problem| SourceError::Address { name: Escaped(name).to_string(), problem })?;
        if subscribe.len() > SUBSCRIBE_MAX {
            return Err(SourceError::TooMany);
        }
        for (at, message) in subscribe.iter().enumerate() {
            if json::read::<RawValue<'_>>(message).is_err() {
                return Err(SourceError::Subscribe { number: at.saturating_add(1) });
            }
        }
        let path = endpoint.path().split('?').next().unwrap_or_default();
        let last = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("messages");
        Ok(Self {
            name: name.to_owned(),
            symbol: endpoint.host().to_ascii_uppercase(),
            stream: last.to_owned(),
            protocol: SourceProtocol::Plain { endpoint, subscribe: subscribe.to_vec() },
            setting: URL_OPTION,
        })
    }

    /// Returns the name of the venue, which distinguishes streams with the same name.
    fn venue(&self) -> &str {
        match self.name.split_once(':') {
            Some((PERP, _)) => "perp",
            Some((SPOT, _)) => "spot",
            _ => "other",
        }
    }
}

fn market_names() -> String {
    Market::ALL.map(Market::name).join(", ")
}

/// Gives each source its own file name: adds the venue to a name that another source uses.
///
/// # Errors
///
/// Returns [`SourceError::Duplicate`] if a source occurs twice.
pub fn deduplicate_names(sources: Vec<CaptureSource>) -> Result<Vec<CaptureSource>, SourceError> {
    let mut unique: Vec<CaptureSource> = Vec::with_capacity(sources.len());
    let is_taken = |unique: &[CaptureSource], source: &CaptureSource| {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        unique
            .iter()
            .any(|other| same(&other.symbol, &source.symbol) && same(&other.stream, &source.stream))
    };
    for mut source in sources {
        if is_taken(&unique, &source) {
            source.stream = format!("{}-{}", source.venue(), source.stream);
        }
        if is_taken(&unique, &source) || unique.iter().any(|other| other.name == source.name) {
            return Err(SourceError::Duplicate { name: source.name });
        }
        unique.push(source);
    }
    Ok(unique)
}

/// Returns the base address of a stream of perpetuals, and the option that contains it.
fn perp_base<'b>(
    stream: &str,
    bases: &'b SourceUrls,
) -> Result<(&'b String, &'static str), SourceError> {
    // The name may be followed by a number of levels and an interval: depth20@100ms.
    let kind = stream.split('@').next().unwrap_or_default();
    match kind.trim_end_matches(|char: char| char.is_ascii_digit()) {
        "bookTicker" | "depth" => Ok((&bases.perp_public, "--binance-perp-public")),
        "markPrice" => Ok((&bases.perp_market, "--binance-perp-market")),
        _ => Err(SourceError::Stream { stream: stream.to_owned() }),
    }
}

fn is_word(text: &str, also: &str) -> bool {
    let fits = |char: char| char.is_ascii_alphanumeric() || also.contains(char);
    (1..=WORD_CHARS_MAX).contains(&text.len())
        && text.starts_with(|char: char| char.is_ascii_alphanumeric())
        && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::markets::{MarketApi, csgoroll::Csgoroll};

    #[track_caller]
    fn check(name: &str, url: &str, symbol: &str, stream: &str) {
        let source = CaptureSource::parse(name, &SourceUrls::default()).unwrap();
        assert_eq!((source.symbol.as_str(), source.stream.as_str()), (symbol, stream));
        let SourceProtocol::Plain { endpoint, subscribe } = source.protocol else {
            panic!("{name}")
        };
        assert_eq!(endpoint.to_string(), url);
        assert_eq!(subscribe, Vec::<String>::new());
    }

    #[test]
    fn public_sources_have_the_documented_addresses() {
        check(
            "binance-perp:BTCUSDT@bookTicker",
            "wss://fstream.binance.com/public/ws/btcusdt@bookTicker",
            "BTCUSDT",
            "bookTicker",
        );
        check(
            "binance-perp:ethusdt@depth",
            "wss://fstream.binance.com/public/ws/ethusdt@depth",
            "ETHUSDT",
            "depth",
        );
        check(
            "binance-perp:BTCUSDT@depth20@100ms",
            "wss://fstream.binance.com/public/ws/btcusdt@depth20@100ms",
            "BTCUSDT",
            "depth20@100ms",
        );
        check(
            "binance-perp:BTCUSDT@markPrice",
            "wss://fstream.binance.com/market/ws/btcusdt@markPrice",
            "BTCUSDT",
            "markPrice",
        );
        check(
            "binance-spot:BTCUSDT@bookTicker",
            "wss://stream.binance.com:9443/ws/btcusdt@bookTicker",
            "BTCUSDT",
            "bookTicker",
        );
    }

    #[test]
    fn an_unknown_source_is_rejected_with_a_suggestion() {
        let error = |name| CaptureSource::parse(name, &SourceUrls::default()).unwrap_err();
        let message = error("binance-prep:BTCUSDT@depth").to_string();
        assert!(message.contains("did you mean binance-perp?"), "{message}");
        for name in
            ["binance-perp", "binance-perp:BTCUSDT", "binance-spot:@x", "binance-spot:a/b@c"]
        {
            assert!(matches!(error(name), SourceError::Form { .. }), "{name}");
        }
        assert!(matches!(error("binance-perp:BTCUSDT@trades"), SourceError::Stream { .. }));
        let message = error("x\u{1b}[2J").to_string();
        assert!(!message.contains('\u{1b}'), "{message:?}");
    }

    #[test]
    fn a_market_is_a_source_whose_advice_names_its_own_setting() {
        let source = CaptureSource::parse("csgoroll", &SourceUrls::default()).unwrap();
        assert_eq!(source, CaptureSource::marketplace(Market::Csgoroll));
        let capabilities = <Csgoroll as MarketApi>::CAPABILITIES;
        assert_eq!(
            (&*source.name, source.setting),
            (capabilities.name, capabilities.environment.feed)
        );
        let advice =
            |market| CaptureSource::marketplace(market).advice(&NoDataReason::Silent(None));
        assert!(advice(Market::Csgoroll).contains("`generation` in [feed]"));
        assert!(advice(Market::LisSkins).contains("the credential and LIS_SKINS_WS_URL"));
        assert!(advice(Market::Waxpeer).ends_with("otherwise check WAXPEER_WS_URL."));
        let error = CaptureSource::parse("csgorol", &SourceUrls::default()).unwrap_err();
        assert!(error.to_string().ends_with("(did you mean csgoroll?)"), "{error}");
    }

    #[test]
    fn a_custom_address_is_validated() {
        let source =
            CaptureSource::from_url("wss://example.com:1/a/ticks?key=secret", &[]).unwrap();
        assert_eq!((source.symbol.as_str(), source.stream.as_str()), ("EXAMPLE.COM", "ticks"));
        assert_eq!(source.name, "wss://example.com:1/a/ticks");
        let plain = CaptureSource::from_url("ws://example.com/?key=secret", &[]).unwrap_err();
        assert!(matches!(plain, SourceError::Address { problem: EndpointError::PlainText, .. }));
        assert!(!plain.to_string().contains("secret"), "{plain}");
        let wrong = ["{}".to_owned(), "{op:subscribe}".to_owned()];
        let error = CaptureSource::from_url("ws://127.0.0.1:1/", &wrong).unwrap_err();
        assert_eq!(error, SourceError::Subscribe { number: 2 });
    }

    #[test]
    fn each_source_has_its_own_file() {
        let parse = |name| CaptureSource::parse(name, &SourceUrls::default()).unwrap();
        let both = ["binance-perp:BTCUSDT@bookTicker", "binance-spot:btcusdt@bookTicker"];
        let unique = deduplicate_names(both.map(parse).to_vec()).unwrap();
        let streams: Vec<&str> = unique.iter().map(|source| source.stream.as_str()).collect();
        assert_eq!(streams, ["bookTicker", "spot-bookTicker"]);
        let duplicate = deduplicate_names(vec![parse("csgoroll"), parse("csgoroll")]);
        assert_eq!(duplicate, Err(SourceError::Duplicate { name: "csgoroll".to_owned() }));
    }
}
