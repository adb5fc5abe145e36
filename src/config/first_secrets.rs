//! Secrets of a new user at one market: their pasted forms, and the content of `.env`. Pure.

use super::{
    Credential, Market, TradeUrl,
    credential::CredentialError,
    dotenv,
    environment::parse_account_id,
    load::DOTENV_FILE,
    market::{CredentialVariables, TRADE_URL},
    pasted_cookie,
};

/// Texts before a copied key.
const PREFIXES: [&str; 2] = ["authorization:", "bearer "];

/// Content of `.env` for one market.
#[derive(Clone, Debug)]
pub struct FirstSecrets {
    pub market: Market,
    pub credential: Option<Credential>,
    /// Steam account that receives the items, where the market's orders name it.
    pub trade_url: Option<TradeUrl>,
    /// Number of the account, on a market where the ledger identifies the account by it.
    pub account_id: Option<String>,
}

impl FirstSecrets {
    pub const fn new(market: Market) -> Self {
        Self { market, credential: None, trade_url: None, account_id: None }
    }

    /// Returns the content of `.env`. A missing secret has a line without a value.
    pub fn environment_file(&self) -> String {
        let settings = self.market.settings();
        let mut text = format!(
            "# Secrets, written by `sniper init`. Keep {DOTENV_FILE} private. .env.example lists every variable.\n"
        );
        text.push_str(&match (settings.credential, &self.credential) {
            (CredentialVariables::Cookie { session, .. }, None) => {
                format!("\n# The session cookie: copy its value from your browser.\n{session}=\n")
            }
            (CredentialVariables::Cookie { .. }, Some(cookie)) => {
                format!("\n# Your session at the market.\n{}\n", cookie.dotenv_line())
            }
            (CredentialVariables::Key(name), key) => {
                let line =
                    key.as_ref().map_or_else(|| format!("{name}="), |key| key.key_line(name));
                let title = settings.title;
                format!("\n# API key: create one in your profile at {title}.\n{line}\n")
            }
        });
        if settings.needs_trade_url {
            let url = self.trade_url.as_ref().map(|url| dotenv::quote(&url.address()));
            text.push_str(&format!(
                "\n# Trade URL of the Steam account that receives the items, for --live.\n\
                 {TRADE_URL}={}\n",
                url.unwrap_or_default()
            ));
        }
        if let Some(name) = settings.account_id {
            text.push_str(&format!(
                "\n# Number of your account, from the profile page, for --live.\n{name}={}\n",
                self.account_id.as_deref().unwrap_or_default()
            ));
        }
        text
    }
}

/// Reads a session cookie or an API key, as the market has it, from a pasted text.
///
/// # Errors
///
/// Returns a [`CredentialError`] if the text contains none.
pub fn pasted_credential(market: Market, text: &str) -> Result<Credential, CredentialError> {
    let CredentialVariables::Key(name) = market.settings().credential else {
        return pasted_cookie::parse(text);
    };
    let mut key = pasted_cookie::unquote(text.trim());
    if let Some(value) = key.strip_prefix(name).and_then(|rest| rest.trim_start().strip_prefix('='))
    {
        key = pasted_cookie::unquote(value.trim());
    }
    for prefix in PREFIXES {
        if let Some((start, rest)) = key.split_at_checked(prefix.len())
            && start.eq_ignore_ascii_case(prefix)
        {
            key = rest.trim();
        }
    }
    Credential::from_key(key)
}

/// Reads the number of an account.
///
/// # Errors
///
/// Returns a description of the problem.
pub fn account_id(text: &str) -> Result<String, &'static str> {
    parse_account_id(text)
        .ok_or("is not the number of an account; copy the digits from your profile page")
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://steamcommunity.com/tradeoffer/new/?partner=123456789&token=AbCdEf12";

    #[test]
    fn every_usual_form_of_a_pasted_key_is_the_same_key() {
        for text in [
            "0123456789abcdef-key",
            " 0123456789abcdef-key\n",
            "\"0123456789abcdef-key\"",
            "WAXPEER_KEY=0123456789abcdef-key",
            "WAXPEER_KEY = '0123456789abcdef-key'",
            "Authorization: Bearer 0123456789abcdef-key",
            "bearer 0123456789abcdef-key",
        ] {
            let key = pasted_credential(Market::Waxpeer, text).unwrap();
            assert_eq!(key.key_line("KEY"), "KEY=0123456789abcdef-key", "{text}");
        }
        for text in ["", "two words", "a;b"] {
            assert!(pasted_credential(Market::Waxpeer, text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_environment_file_has_the_variables_of_its_market_or_their_places() {
        for market in Market::ALL {
            let settings = market.settings();
            let empty = FirstSecrets::new(market).environment_file();
            let credential = format!("\n{}=\n", settings.credential.main());
            assert!(empty.contains(&credential), "{empty}");
            assert_eq!(empty.contains("\nSTEAM_TRADE_URL=\n"), settings.needs_trade_url, "{empty}");
            assert_eq!(empty.contains("USER_ID=\n"), settings.account_id.is_some(), "{empty}");
        }
        let full = FirstSecrets {
            credential: Credential::from_key("0123456789abcdef-file").ok(),
            trade_url: TradeUrl::parse(URL).ok(),
            account_id: account_id(" 4711 ").ok(),
            ..FirstSecrets::new(Market::LisSkins)
        };
        let text = full.environment_file();
        for line in ["LIS_SKINS_KEY=", "STEAM_TRADE_URL=", "LIS_SKINS_USER_ID=4711"] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line}: {text}");
        }
        assert!(
            text.contains("0123456789abcdef-file") && text.contains("token=AbCdEf12"),
            "{text}"
        );
    }
}
