//! Trade URL of the Steam account that receives the bought items.
//!
//! The token lets its holder send trade offers to the account: errors and `Debug` contain no part
//! of the address, and the token is masked in all output.

use std::fmt;

use crate::secret::{self, Secret};

/// Address without its query.
const PAGE: &str = "https://steamcommunity.com/tradeoffer/new/?";

/// Maximum number of digits of a partner, which is a 32-bit account number.
const PARTNER_DIGITS_MAX: usize = 10;

/// Length of a token in bytes.
const TOKEN_BYTES: usize = 8;

/// Parsed trade URL: what each order names as its recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct TradeUrl {
    partner: String,
    token: Secret,
}

/// Cause of a rejected trade URL. Never contains the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TradeUrlError {
    #[error("does not begin with {PAGE}")]
    NotThePage,
    #[error("has no `partner` of 1 to {PARTNER_DIGITS_MAX} digits")]
    Partner,
    #[error("has no `token` of {TOKEN_BYTES} letters, digits, `-` or `_`")]
    Token,
    /// Repeated or unknown parameter.
    #[error("has other parameters than one `partner` and one `token`")]
    Parameter,
}

impl TradeUrlError {
    /// Remedy for each of them.
    pub const REMEDY: &'static str = "copy it from Steam: Inventory, Trade Offers, Who can send me Trade Offers, Trade URL; it \
         looks like https://steamcommunity.com/tradeoffer/new/?partner=123456789&token=AbCdEf12";
}

impl TradeUrl {
    /// Parses the address that Steam shows, and registers its token with [`secret`].
    ///
    /// # Errors
    ///
    /// Returns a [`TradeUrlError`] if it is no such address.
    pub fn parse(url: &str) -> Result<Self, TradeUrlError> {
        let query = url.trim_matches(' ').strip_prefix(PAGE).ok_or(TradeUrlError::NotThePage)?;
        let (mut partner, mut token) = (None, None);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').ok_or(TradeUrlError::Parameter)?;
            let place = match name {
                "partner" => &mut partner,
                "token" => &mut token,
                _ => return Err(TradeUrlError::Parameter),
            };
            if place.replace(value).is_some() {
                return Err(TradeUrlError::Parameter);
            }
        }
        let partner =
            partner.filter(|partner| is_partner(partner)).ok_or(TradeUrlError::Partner)?;
        let token = token.filter(|token| is_token(token)).ok_or(TradeUrlError::Token)?;
        secret::register(token);
        Ok(Self { partner: partner.to_owned(), token: Secret::new(token) })
    }

    /// Returns the whole address, which is a secret.
    pub fn address(&self) -> String {
        format!("{PAGE}partner={}&token={}", self.partner, self.token.reveal())
    }

    /// Returns the account number of the recipient, in decimal digits.
    pub fn partner(&self) -> &str {
        &self.partner
    }

    pub const fn token(&self) -> &Secret {
        &self.token
    }
}

impl fmt::Debug for TradeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TradeUrl(…)")
    }
}

fn is_partner(text: &str) -> bool {
    (1..=PARTNER_DIGITS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u32>().is_ok_and(|number| number > 0)
}

fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() == TOKEN_BYTES && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<(&str, &str), TradeUrlError>) {
        let parsed = TradeUrl::parse(url);
        let read = parsed.as_ref().map(|url| (url.partner(), url.token().reveal()));
        assert_eq!(read.map_err(|error| *error), expected, "{url}");
    }

    #[test]
    fn the_parameters_are_read_in_any_order() {
        check(&format!("{PAGE}partner=123456789&token=AbCdEf12"), Ok(("123456789", "AbCdEf12")));
        check(&format!(" {PAGE}token=a-b_c-d_&partner=7 "), Ok(("7", "a-b_c-d_")));
        check(&format!("{PAGE}partner=4294967295&token=AbCdEf12"), Ok(("4294967295", "AbCdEf12")));
    }

    #[test]
    fn every_other_address_is_rejected() {
        use TradeUrlError::{NotThePage, Parameter, Partner, Token};
        for (url, expected) in [
            ("", NotThePage),
            ("partner=1&token=AbCdEf12", NotThePage),
            ("http://steamcommunity.com/tradeoffer/new/?partner=1&token=AbCdEf12", NotThePage),
            ("https://steamcommunity.com.example/tradeoffer/new/?partner=1", NotThePage),
        ] {
            check(url, Err(expected));
        }
        for (query, expected) in [
            ("", Parameter),
            ("partner=1", Token),
            ("token=AbCdEf12", Partner),
            ("partner=&token=AbCdEf12", Partner),
            ("partner=0&token=AbCdEf12", Partner),
            ("partner=-1&token=AbCdEf12", Partner),
            ("partner=1x&token=AbCdEf12", Partner),
            ("partner=4294967296&token=AbCdEf12", Partner),
            ("partner=00000000001&token=AbCdEf12", Partner),
            ("partner=1&token=AbCdEf1", Token),
            ("partner=1&token=AbCdEf123", Token),
            ("partner=1&token=AbCdEf1\"", Token),
            ("partner=1&token=AbCdEf1\u{e9}", Token),
            ("partner=1&partner=2&token=AbCdEf12", Parameter),
            ("partner=1&token=AbCdEf12&token=AbCdEf12", Parameter),
            ("partner=1&token=AbCdEf12&x=1", Parameter),
            ("partner=1&token=AbCdEf12&", Parameter),
        ] {
            check(&format!("{PAGE}{query}"), Err(expected));
        }
    }

    #[test]
    fn the_token_is_masked_in_all_output() {
        let url = TradeUrl::parse(&format!("{PAGE}partner=123456789&token=Zq-9xW_3")).unwrap();
        assert_eq!(secret::mask("sent to Zq-9xW_3"), "sent to ********");
        assert_eq!(format!("{url:?}"), "TradeUrl(…)");
    }
}
