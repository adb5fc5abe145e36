//! What can be captured, and how a person writes it. Pure.
//!
//! | source | where (public documentation of April 2026) |
//! |---|---|
//! | `csgoroll` | the marketplace's feed, as it is configured |
//! | `binance-perp:BTCUSDT@bookTicker`, `…@depth` | one base |
//! | `binance-perp:BTCUSDT@markPrice`, with the funding rate | another base |
//! | `binance-spot:BTCUSDT@bookTicker` | a third |
//! | an address of one's own | with the messages that subscribe, if any |

use super::no_data::NoDataReason;
use crate::{
    config::endpoint::{Endpoint, EndpointError, Scheme},
    json::{self, RawValue},
    text::{Escaped, nearest},
};

/// Where perpetuals' book tickers and depth are.
pub const PERP_PUBLIC_URL: &str = "wss://fstream.binance.com/public/ws";
/// Where perpetuals' mark prices are.
pub const PERP_MARKET_URL: &str = "wss://fstream.binance.com/market/ws";
/// Where spot streams are.
pub const SPOT_URL: &str = "wss://stream.binance.com:9443/ws";

/// The most messages that subscribe, for one address.
pub const SUBSCRIBE_MAX: usize = 256;
/// The longest symbol or stream, in characters.
const WORD_CHARS_MAX: usize = 40;

/// The marketplace, as a source.
const MARKETPLACE: &str = "csgoroll";
const PERP: &str = "binance-perp";
const SPOT: &str = "binance-spot";
/// The option that holds an address of one's own.
const OWN_SETTING: &str = "--url";

/// Where the public feeds are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceUrls {
    /// Instead of [`PERP_PUBLIC_URL`].
    pub perp_public: String,
    /// Instead of [`PERP_MARKET_URL`].
    pub perp_market: String,
    /// Instead of [`SPOT_URL`].
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

/// How a source is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceProtocol {
    /// As the marketplace does; where it is, is in the settings.
    Marketplace,
    /// Plain JSON at an address, after these messages.
    Plain {
        /// Where.
        endpoint: Endpoint,
        /// What to say first.
        subscribe: Vec<String>,
    },
}

/// Something to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSource {
    /// As a person writes it.
    pub name: String,
    /// Its directory.
    pub symbol: String,
    /// Its file.
    pub stream: String,
    /// How it is spoken to.
    pub speaks: SourceProtocol,
    /// The setting or option that holds its address.
    pub setting: &'static str,
}

/// Why a text is not a source. The message says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Another kind.
    #[error("{name:?} is not a source; write csgoroll, binance-perp:BTCUSDT@bookTicker, binance-spot:BTCUSDT@bookTicker, or --url{}", .meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default())]
    Unknown {
        /// What was written, made harmless.
        name: String,
        /// What may have been meant.
        meant: Option<&'static str>,
    },
    /// No `SYMBOL@stream`.
    #[error("{name:?} names no stream; write it like {kind}:BTCUSDT@bookTicker")]
    Form {
        /// What was written, made harmless.
        name: String,
        /// Which kind.
        kind: &'static str,
    },
    /// A stream of perpetuals whose base is not known.
    #[error(
        "{stream:?} is not a stream that is known of perpetuals; write bookTicker, depth or markPrice, or give its address with --url"
    )]
    Stream {
        /// What was written.
        stream: String,
    },
    /// An address that will not be used.
    #[error("the address of {name:?} {problem}")]
    Address {
        /// The source, made harmless.
        name: String,
        /// What is wrong with it.
        problem: EndpointError,
    },
    /// A subscription that is no JSON.
    #[error("--subscribe number {number} is not JSON; quote it for your shell")]
    Subscribe {
        /// Which, counted from 1. Not shown: keys travel in them.
        number: usize,
    },
    /// Too many subscriptions.
    #[error("more than {SUBSCRIBE_MAX} --subscribe messages")]
    TooMany,
    /// The same source twice.
    #[error("{name:?} is asked for twice")]
    Twice {
        /// Which.
        name: String,
    },
}

impl CaptureSource {
    /// The marketplace's listings.
    pub fn marketplace() -> Self {
        Self {
            name: MARKETPLACE.to_owned(),
            symbol: "CSGOROLL".to_owned(),
            stream: "listings".to_owned(),
            speaks: SourceProtocol::Marketplace,
            setting: "CSGOROLL_WS_URL",
        }
    }

    /// What to check when this is why nothing was recorded.
    pub(super) fn advice(&self, absence: &NoDataReason) -> String {
        let setting = self.setting;
        let what = match (absence, &self.speaks, setting) {
            (NoDataReason::NeverConnected(_), ..) => {
                return format!("Its address comes from {setting}.");
            }
            (NoDataReason::Binary(_) | NoDataReason::TooLong(_), ..) => {
                return format!("Check whether {setting} can name a feed of short text messages.");
            }
            (_, SourceProtocol::Marketplace, _) => "`generation` in [feed]",
            (_, SourceProtocol::Plain { .. }, OWN_SETTING) => "--subscribe",
            (_, SourceProtocol::Plain { .. }, _) => "the spelling of the symbol and the stream",
        };
        match absence {
            NoDataReason::Error(_) => format!("Check {what}, and {setting}."),
            _ => format!("It may just be quiet; otherwise check {what}, and {setting}."),
        }
    }

    /// Reads a source as a person writes it.
    ///
    /// # Errors
    ///
    /// A [`SourceError`] that says what to write.
    pub fn parse(name: &str, bases: &SourceUrls) -> Result<Self, SourceError> {
        let shown = || Escaped(name).to_string();
        let (kind, rest) = match name.split_once(':') {
            None if name == MARKETPLACE => return Ok(Self::marketplace()),
            Some((PERP, rest)) => (PERP, rest),
            Some((SPOT, rest)) => (SPOT, rest),
            _ if name == PERP => (PERP, ""),
            _ if name == SPOT => (SPOT, ""),
            _ => {
                let kind = name.split(':').next().unwrap_or_default();
                let meant = nearest(kind, &[MARKETPLACE, PERP, SPOT]);
                return Err(SourceError::Unknown { name: shown(), meant });
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
            speaks: SourceProtocol::Plain { endpoint, subscribe: Vec::new() },
            setting,
        })
    }

    /// An address of one's own. Its directory is the host, its file the last part of its path.
    ///
    /// # Errors
    ///
    /// A [`SourceError`] that says what to write.
    pub fn at(url: &str, subscribe: &[String]) -> Result<Self, SourceError> {
        // Keys travel in queries.
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
            speaks: SourceProtocol::Plain { endpoint, subscribe: subscribe.to_vec() },
            setting: OWN_SETTING,
        })
    }

    /// What tells two venues' streams of the same name apart.
    fn venue(&self) -> &str {
        match self.name.split_once(':') {
            Some((PERP, _)) => "perp",
            Some((SPOT, _)) => "spot",
            _ => "other",
        }
    }
}

/// Gives each source a file of its own: one that would share another's is called by its venue too.
///
/// # Errors
///
/// [`SourceError::Twice`] when the same source is asked for twice.
pub fn told_apart(sources: Vec<CaptureSource>) -> Result<Vec<CaptureSource>, SourceError> {
    let mut apart: Vec<CaptureSource> = Vec::with_capacity(sources.len());
    let is_taken = |apart: &[CaptureSource], source: &CaptureSource| {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        apart
            .iter()
            .any(|other| same(&other.symbol, &source.symbol) && same(&other.stream, &source.stream))
    };
    for mut source in sources {
        if is_taken(&apart, &source) {
            source.stream = format!("{}-{}", source.venue(), source.stream);
        }
        if is_taken(&apart, &source) || apart.iter().any(|other| other.name == source.name) {
            return Err(SourceError::Twice { name: source.name });
        }
        apart.push(source);
    }
    Ok(apart)
}

/// A base, and the option that holds it.
fn perp_base<'b>(
    stream: &str,
    bases: &'b SourceUrls,
) -> Result<(&'b String, &'static str), SourceError> {
    // Behind the name may stand a number of levels and a speed: depth20@100ms.
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

    #[track_caller]
    fn check(name: &str, url: &str, symbol: &str, stream: &str) {
        let source = CaptureSource::parse(name, &SourceUrls::default()).unwrap();
        assert_eq!((source.symbol.as_str(), source.stream.as_str()), (symbol, stream));
        let SourceProtocol::Plain { endpoint, subscribe } = source.speaks else { panic!("{name}") };
        assert_eq!(endpoint.to_string(), url);
        assert_eq!(subscribe, Vec::<String>::new());
    }

    #[test]
    fn the_public_feeds_are_where_the_facts_say() {
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
    fn what_is_not_a_source_is_answered_with_what_to_write() {
        let refused = |name| CaptureSource::parse(name, &SourceUrls::default()).unwrap_err();
        let said = refused("binance-prep:BTCUSDT@depth").to_string();
        assert!(said.contains("did you mean binance-perp?"), "{said}");
        for name in
            ["binance-perp", "binance-perp:BTCUSDT", "binance-spot:@x", "binance-spot:a/b@c"]
        {
            assert!(matches!(refused(name), SourceError::Form { .. }), "{name}");
        }
        assert!(matches!(refused("binance-perp:BTCUSDT@trades"), SourceError::Stream { .. }));
        let said = refused("x\u{1b}[2J").to_string();
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }

    #[test]
    fn an_address_of_ones_own_is_checked_like_any_other() {
        let source = CaptureSource::at("wss://example.com:1/a/ticks?key=secret", &[]).unwrap();
        assert_eq!((source.symbol.as_str(), source.stream.as_str()), ("EXAMPLE.COM", "ticks"));
        assert_eq!(source.name, "wss://example.com:1/a/ticks");
        let plain = CaptureSource::at("ws://example.com/?key=secret", &[]).unwrap_err();
        assert!(matches!(plain, SourceError::Address { problem: EndpointError::PlainText, .. }));
        assert!(!plain.to_string().contains("secret"), "{plain}");
        let wrong = ["{}".to_owned(), "{op:subscribe}".to_owned()];
        let refused = CaptureSource::at("ws://127.0.0.1:1/", &wrong).unwrap_err();
        assert_eq!(refused, SourceError::Subscribe { number: 2 });
    }

    #[test]
    fn each_source_has_a_file_of_its_own() {
        let parse = |name| CaptureSource::parse(name, &SourceUrls::default()).unwrap();
        let both = ["binance-perp:BTCUSDT@bookTicker", "binance-spot:btcusdt@bookTicker"];
        let apart = told_apart(both.map(parse).to_vec()).unwrap();
        let streams: Vec<&str> = apart.iter().map(|source| source.stream.as_str()).collect();
        assert_eq!(streams, ["bookTicker", "spot-bookTicker"]);
        let twice = told_apart(vec![parse("csgoroll"), parse("csgoroll")]);
        assert_eq!(twice, Err(SourceError::Twice { name: "csgoroll".to_owned() }));
    }
}
