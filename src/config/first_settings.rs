//! Settings of a new user: the questions of `sniper init`, checks of the answers, and the two
//! files. Pure.

use std::collections::BTreeMap;

use super::{
    Budget, Market,
    load::CONFIG_FILE,
    problem::{Diagnostics, Problem},
    settings,
};
use crate::{
    domain::money::Decimals,
    text::{Escaped, is_safe_to_print},
};

/// Name of the source of reference prices, for an entry with a percentage.
const SOURCE_NAME: &str = "buff";
/// Kind of that source.
const SOURCE_KIND: &str = "csgotrader-buff163";

/// Maximum length of a generated entry name, in characters.
const NAME_CHARS_MAX: usize = 60;

/// Setting that a new user decides on, in the order of the questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    Total,
    MaxPrice,
    MinBalance,
    Item,
    MaxPercent,
    CoinUsd,
    EntryMaxPrice,
    MaxQuantity,
    Name,
}

impl Question {
    pub const ALL: [Self; 9] = [
        Self::Total,
        Self::MaxPrice,
        Self::MinBalance,
        Self::Item,
        Self::MaxPercent,
        Self::CoinUsd,
        Self::EntryMaxPrice,
        Self::MaxQuantity,
        Self::Name,
    ];

    /// Returns the option of the command line with its answer.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Total => "--total",
            Self::MaxPrice => "--max-price",
            Self::MinBalance => "--min-balance",
            Self::Item => "--item",
            Self::MaxPercent => "--max-percent",
            Self::CoinUsd => "--coin-usd",
            Self::EntryMaxPrice => "--entry-max-price",
            Self::MaxQuantity => "--max-quantity",
            Self::Name => "--name",
        }
    }

    const fn is_number(self) -> bool {
        !matches!(self, Self::Item | Self::Name)
    }
}

/// Treatment of an unanswered question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The setting has no effect here.
    Irrelevant,
    /// Without an answer, the setting is absent.
    Optional,
    /// This value is used.
    Default(String),
    Required,
}

/// Answers that the settings file accepts.
#[derive(Clone, Debug)]
pub struct FirstSettings {
    market: Market,
    decimals: fn(Market) -> Decimals,
    answers: BTreeMap<Question, String>,
}

impl FirstSettings {
    /// Creates settings without answers. `decimals` returns the number of decimals of a market's
    /// amounts.
    pub const fn new(market: Market, decimals: fn(Market) -> Decimals) -> Self {
        Self { market, decimals, answers: BTreeMap::new() }
    }

    /// Returns the text that asks for a setting.
    pub fn prompt(&self, question: Question) -> String {
        let text = match question {
            Question::Total => {
                let unit = self.market.settings().unit;
                return format!("Budget: {unit} to spend in all, such as 200");
            }
            Question::MaxPrice => "Maximum price of one order, such as 50",
            Question::MinBalance => "Balance that no order may go below",
            Question::Item => {
                "First item to buy, such as AK-47 | Redline (Field-Tested), or * for all"
            }
            Question::MaxPercent => {
                "Maximum percentage of its price on Buff163, such as 88 (Enter: no percentage)"
            }
            Question::CoinUsd => "Dollars that a coin is worth, such as 0.65",
            Question::EntryMaxPrice => "Maximum price of this item",
            Question::MaxQuantity => "Maximum number of this item",
            Question::Name => "Name of the entry",
        };
        text.to_owned()
    }

    /// Returns the treatment of the question, or `None` if it has an answer.
    pub fn unanswered(&self, question: Question) -> Option<Unanswered> {
        if self.answers.contains_key(&question) {
            return None;
        }
        let is_percent = self.answers.contains_key(&Question::MaxPercent);
        Some(match question {
            Question::MinBalance => Unanswered::Default(Budget::default().min_balance.to_string()),
            Question::MaxQuantity => Unanswered::Default("1".to_owned()),
            Question::Name => Unanswered::Default(self.name()),
            Question::CoinUsd if !is_percent || !self.market.is_priced_in_coins() => {
                Unanswered::Irrelevant
            }
            Question::EntryMaxPrice if is_percent => match self.answers.get(&Question::MaxPrice) {
                Some(max_price) => Unanswered::Default(max_price.clone()),
                None => Unanswered::Required,
            },
            Question::MaxPercent => Unanswered::Optional,
            _ => Unanswered::Required,
        })
    }

    /// Checks and stores an answer.
    ///
    /// # Errors
    ///
    /// Returns the problem and its remedy as one text, as `sniper check` does.
    pub fn answer(&mut self, question: Question, text: &str) -> Result<(), String> {
        let text = text.trim();
        if question.is_number() {
            let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            if text.is_empty() || !is_number {
                return Err(format!(
                    "\"{}\" is not a number; write digits, such as 12.50",
                    Escaped(text)
                ));
            }
        }
        let mut answered = self.clone();
        answered.answers.insert(question, text.to_owned());
        let mut diagnostics = Diagnostics::default();
        // The other answers were checked, so every problem is one of this answer.
        settings::read(CONFIG_FILE, &answered.settings_file(), self.decimals, &mut diagnostics);
        if let Err(errors) = diagnostics.into_warnings() {
            let Some(Problem { message, remedy, .. }) = errors.list().first() else {
                return Err("is not valid".to_owned());
            };
            return Err(format!("{message}; {remedy}"));
        }
        *self = answered;
        Ok(())
    }

    /// Returns the content of `sniper.toml`. Questions without an answer have an example.
    pub fn settings_file(&self) -> String {
        let get = |question, example| self.answers.get(&question).map_or(example, String::as_str);
        let is_percent = self.answers.contains_key(&Question::MaxPercent);
        let defaults = Budget::default();
        let (max_price, total) = (defaults.max_price.to_string(), defaults.total.to_string());
        let (min_balance, name) = (defaults.min_balance.to_string(), self.name());
        let mut text = format!(
            "# Limits and whitelist, written by `sniper init`. Amounts are in {unit}. Run\n\
             # `sniper check` after a change. sniper.example.toml lists every setting.\n\n\
             # Market to trade on.\nmarket = \"{market}\"\n\n\
             [budget]\n\
             # Maximum price of one order.\nmax_price = {max_price}\n\
             # Maximum exposure: reserved, spent and unknown orders together.\ntotal = {total}\n\
             # No order may take the balance below it.\nmin_balance = {min_balance}\n\n",
            unit = self.market.settings().unit,
            market = self.market.name(),
            max_price = get(Question::MaxPrice, &max_price),
            total = get(Question::Total, &total),
            min_balance = get(Question::MinBalance, &min_balance),
        );
        // On a market without coins, `coin_usd` is an error, which the check of the answer reports.
        let has_coin =
            self.market.is_priced_in_coins() || self.answers.contains_key(&Question::CoinUsd);
        let coin = if has_coin {
            format!(
                "# What a coin of the market is worth in dollars.\ncoin_usd = {}\n\n",
                get(Question::CoinUsd, "0.65")
            )
        } else {
            "\n".to_owned()
        };
        if is_percent {
            text.push_str(&format!(
                "# Reference prices, for max_percent.\n[prices]\n{coin}\
                 [[prices.source]]\nname = \"{name}\"\nkind = \"{kind}\"\n\n",
                name = SOURCE_NAME,
                kind = SOURCE_KIND,
            ));
        }
        text.push_str(&format!(
            "# Items to buy. Add any number of entries; the first that matches a listing decides.\n\
             [[whitelist]]\n\
             # Label in logs and in the ledger, which identifies the entry by it.\nname = {name}\n\
             # Name without wear and StatTrak, or a complete market name, or \"*\" for every item.\n\
             item = {item}\n\
             # Maximum price.\nmax_price = {max_price}\n",
            name = toml_text(get(Question::Name, &name)),
            item = toml_text(get(Question::Item, "*")),
            max_price = get(Question::EntryMaxPrice, get(Question::MaxPrice, &max_price)),
        ));
        if is_percent {
            text.push_str(&format!(
                "# Maximum share of the reference price, in percent.\nmax_percent = {percent}\n\
                 reference = \"{name}.bid\"\n",
                percent = get(Question::MaxPercent, "88"),
                name = SOURCE_NAME,
            ));
        }
        text.push_str(&format!(
            "# Maximum number bought in all.\nmax_quantity = {}\n",
            get(Question::MaxQuantity, "1")
        ));
        text
    }

    /// Returns a name for the entry that consists of the words of its item.
    fn name(&self) -> String {
        entry_name(self.answers.get(&Question::Item).map_or("", String::as_str))
    }
}

/// Returns a name for an entry that consists of the words of its item.
pub fn entry_name(item: &str) -> String {
    let item = item.to_lowercase();
    let words = item.split(|char: char| !char.is_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let name: String = words.join("-").chars().take(NAME_CHARS_MAX).collect();
    match name.trim_end_matches('-') {
        "" => "every-item".to_owned(),
        name => name.to_owned(),
    }
}

/// Writes a text as a basic string of TOML.
fn toml_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            safe if is_safe_to_print(safe) => quoted.push(safe),
            other => quoted.push_str(&format!("\\U{:08X}", u32::from(other))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answers: &[(Question, &str)]) -> FirstSettings {
        let mut settings = FirstSettings::new(Market::default(), |_market| Decimals::Two);
        for (question, text) in answers {
            settings.answer(*question, text).unwrap();
        }
        settings
    }

    fn read(settings: &FirstSettings) -> settings::TomlSettings {
        let mut diagnostics = Diagnostics::default();
        let read = settings::read(
            "f",
            &settings.settings_file(),
            |_market| Decimals::Two,
            &mut diagnostics,
        );
        assert_eq!(diagnostics.into_warnings().unwrap(), []);
        read
    }

    #[test]
    fn the_settings_file_means_what_was_answered() {
        let settings = answered(&[
            (Question::Total, "30"),
            (Question::MaxPrice, "12.50"),
            (Question::MinBalance, "0"),
            (Question::Item, " AK-47 | Redline "),
            (Question::EntryMaxPrice, "9.99"),
            (Question::MaxQuantity, "3"),
        ]);
        let read = read(&settings);
        let entry = &read.entries.found[0].entry;
        let amounts = [read.budget.total, read.budget.max_price, read.budget.min_balance];
        assert_eq!(amounts.map(|amount| amount.cents()), [3_000, 1_250, 0]);
        assert_eq!((entry.max_price.cents(), entry.max_quantity), (999, 3));
        assert_eq!(entry.name.as_deref(), Some("ak-47-redline"));
        assert!(entry.percent.is_none() && !settings.settings_file().contains("[prices]"));
        assert!(read.missing_for_live.is_empty());
    }

    #[test]
    fn a_percentage_needs_the_value_of_a_coin_and_has_a_source() {
        let mut settings = answered(&[(Question::MaxPrice, "40"), (Question::MaxPercent, "88")]);
        assert_eq!(settings.unanswered(Question::CoinUsd), Some(Unanswered::Required));
        let default = Some(Unanswered::Default("40".to_owned()));
        assert_eq!(settings.unanswered(Question::EntryMaxPrice), default);
        settings.answer(Question::CoinUsd, "0.66").unwrap();
        let mut read = read(&settings);
        let mut diagnostics = Diagnostics::default();
        let market = read.market;
        settings::resolve(&mut read.entries.found, &read.prices, market, &mut diagnostics);
        assert_eq!(diagnostics.into_warnings().unwrap(), []);
        assert!(read.entries.found[0].entry.percent.is_some());
    }

    #[test]
    fn on_a_market_with_dollars_no_coin_is_asked_for_or_accepted() {
        let mut settings = FirstSettings::new(Market::Waxpeer, |_market| Decimals::Three);
        assert_eq!(settings.prompt(Question::Total), "Budget: USD to spend in all, such as 200");
        for (question, text) in [
            (Question::Total, "30"),
            (Question::MaxPrice, "12.505"),
            (Question::Item, "AWP | Asiimov"),
            (Question::MaxPercent, "88"),
        ] {
            settings.answer(question, text).unwrap();
        }
        assert_eq!(settings.unanswered(Question::CoinUsd), Some(Unanswered::Irrelevant));
        let text = settings.settings_file();
        assert!(
            text.contains("market = \"waxpeer\"") && text.contains("Amounts are in USD"),
            "{text}"
        );
        assert!(!text.contains("coin_usd"), "{text}");
        assert!(settings.answer(Question::CoinUsd, "0.65").is_err());
    }

    #[test]
    fn each_answer_is_checked_as_the_settings_are() {
        let mut settings = answered(&[]);
        for (question, text, expected) in [
            (Question::Total, "abc", "\"abc\" is not a number"),
            (Question::Total, "", "\"\" is not a number"),
            (Question::Total, "0", "`total` is zero"),
            (Question::Total, "12.505", "`total` has more than two decimals"),
            (Question::MaxPrice, "12,50", "\"12,50\" is not a number"),
            (Question::MaxPrice, "1\ntotal = 9", "is not a number"),
            (Question::MaxQuantity, "0", "`max_quantity`"),
            (Question::MaxQuantity, "1.5", "`max_quantity`"),
            (Question::MaxPercent, "1001", "`max_percent` is out of range"),
            (Question::Item, "", "`item` is empty"),
            (Question::Item, "AK-47 | Redline (Feld-Tested)", "did you mean `(Field-Tested)`?"),
            (Question::Name, "a\u{202e}b", "`name` is empty, too long or contains invisible"),
        ] {
            let error = settings.answer(question, text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(settings.unanswered(question).is_some(), "{text} was stored");
        }
    }

    #[test]
    fn a_name_cannot_end_its_text() {
        let item = "a\" | \\b\nmax_price = 1";
        let settings = answered(&[(Question::Name, "x\"\\"), (Question::Item, "\"q\" \\ | x")]);
        let read = read(&settings);
        assert_eq!(read.entries.found[0].entry.name.as_deref(), Some("x\"\\"));
        assert!(
            FirstSettings::new(Market::default(), |_market| Decimals::Two)
                .answer(Question::Item, item)
                .is_err()
        );
        assert_eq!(answered(&[(Question::Item, "*")]).name(), "every-item");
        assert_eq!(answered(&[(Question::Item, "★ Karambit")]).name(), "karambit");
    }
}
