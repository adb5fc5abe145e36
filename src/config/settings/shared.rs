//! Parses `[shared]` and reads the database URL from the environment.

use std::time::Duration;

use super::super::{
    Market,
    document::{ConfigNode, ParseContext, TableFields},
    environment::{REMOVE_QUOTES, Variables},
    prices::COIN_USD_REMEDY,
    problem::{Diagnostics, Problem, SourceLocation},
    shared::{DatabaseUrl, GroupUnit, SharedConfig, TERM, URL_VARIABLE},
};
use super::alerts::{NamedVariable, variable};
use crate::{
    domain::{money::Amount, percent_rule::CoinUsd},
    secret,
    text::{Escaped, is_quoted},
};

pub(super) const SHARED_KEYS: [&str; 7] =
    ["url_env", "group", "total", "unit", "standby", "member", "term_s"];

/// Bounds of `term_s`. The role is renewed every second, and the active member stops at four fifths
/// of the term.
const TERM_S: (u32, u32) = (3, 300);

/// Maximum length of the names in `[shared]`.
const NAME_BYTES_MAX: usize = 64;

/// Content of the section, without the value of the variable.
#[derive(Clone, Debug)]
pub(in crate::config) struct ParsedShared {
    url: NamedVariable,
    place: SourceLocation,
    unit_place: SourceLocation,
    group: String,
    total: Amount,
    unit: GroupUnit,
    standby: Option<String>,
    member: Option<String>,
    term: Duration,
}

pub(super) fn read_shared(
    node: &ConfigNode<'_>,
    context: &mut ParseContext<'_, '_>,
) -> Option<ParsedShared> {
    let fields = TableFields::new(node, "[shared]", &SHARED_KEYS, context);
    let place = context.document.place(fields.at);
    let url = match fields.get("url_env") {
        Some(_) => variable(&fields, "url_env", URL_VARIABLE, context),
        None => Some((URL_VARIABLE.to_owned(), place.clone())),
    };
    let units = GroupUnit::ALL.map(GroupUnit::name);
    let unit = fields.choice("unit", &units, GroupUnit::parse, context).unwrap_or_default();
    let total = fields.limit("total", context);
    for (key, example) in [("group", "\"main\""), ("total", "500.00")] {
        if fields.get(key).is_none() {
            let message = format!("[shared] has no `{key}`");
            context.problem(
                fields.at,
                message,
                format!("add it below [shared], such as {key} = {example}"),
            );
        }
    }
    let group = name(&fields, "group", context);
    let (standby, member) = (name(&fields, "standby", context), name(&fields, "member", context));
    let term = fields.seconds("term_s", TERM_S, context).unwrap_or(TERM);
    let unit_place = context.document.place(fields.at("unit"));
    let (url, group, total) = (url?, group?, total?);
    Some(ParsedShared { url, place, unit_place, group, total, unit, standby, member, term })
}

/// Reads a name, which appears in tables, logs and metrics.
fn name(
    fields: &TableFields<'_, '_>,
    key: &str,
    context: &mut ParseContext<'_, '_>,
) -> Option<String> {
    let text = fields.text(key, context)?;
    if !is_name(text) {
        let message = format!("`{key}` is not a name: \"{}\"", Escaped(text));
        let remedy = format!(
            "write 1 to {NAME_BYTES_MAX} of the characters a-z, A-Z, 0-9, `.`, `_` and `-`"
        );
        context.problem(fields.at(key), message, remedy);
        return None;
    }
    Some(text.to_owned())
}

fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Returns the default name of a member: the market and the host, without characters that a name
/// cannot have.
fn default_member(market: Market, host: &str) -> String {
    let host: String = host
        .chars()
        .map(|char| if is_name(char.encode_utf8(&mut [0; 4])) { char } else { '-' })
        .collect();
    let mut name = format!("{}-{host}", market.name());
    name.truncate(NAME_BYTES_MAX);
    name
}

impl ParsedShared {
    /// Reads the variable with the address, and completes the settings by those of the market.
    pub(in crate::config) fn resolve(
        self,
        (market, coin): (Market, Option<CoinUsd>),
        (variables, host): (&Variables<'_>, &str),
        diagnostics: &mut Diagnostics,
    ) -> Option<SharedConfig> {
        let rate = self.coin_value(market, coin, diagnostics);
        let url = self.url(variables, diagnostics);
        let member = self.member.unwrap_or_else(|| default_member(market, host));
        Some(SharedConfig {
            url: url?,
            group: self.group,
            total: self.total,
            unit: self.unit,
            rate: rate?,
            standby: self.standby,
            member,
            term: self.term,
        })
    }

    fn coin_value(
        &self,
        market: Market,
        coin: Option<CoinUsd>,
        diagnostics: &mut Diagnostics,
    ) -> Option<CoinUsd> {
        let (problem, remedy) = match (self.unit, market.is_priced_in_coins(), coin) {
            (GroupUnit::Usd, false, _) | (GroupUnit::Coins, true, _) => return Some(CoinUsd::ONE),
            (GroupUnit::Usd, true, Some(coin)) => return Some(coin),
            (GroupUnit::Usd, true, None) => (
                "missing `coin_usd`, which a shared budget in USD needs on this market",
                COIN_USD_REMEDY,
            ),
            (GroupUnit::Coins, false, _) => {
                ("`unit` is \"coins\", but this market is priced in USD", "write unit = \"USD\"")
            }
        };
        diagnostics.problem(Problem::new(self.unit_place.clone(), problem.to_owned(), remedy));
        None
    }

    fn url(&self, variables: &Variables<'_>, diagnostics: &mut Diagnostics) -> Option<DatabaseUrl> {
        let (name, place) = &self.url;
        let value = variables.value(name, diagnostics);
        let mut report = |what: &str, remedy: &str| {
            let message = format!("{name} {what}");
            diagnostics.problem(Problem::new(place.clone(), message, remedy));
        };
        let Some(value) = value else {
            let remedy = format!(
                "write the address of the database into .env: \
                 {name}=postgres://user:password@host/database"
            );
            report("is not set", &remedy);
            return None;
        };
        if is_quoted(&value) {
            secret::register(&value);
            report("is in quotes", REMOVE_QUOTES);
            return None;
        }
        let url = DatabaseUrl::parse(&value);
        if let Err(error) = &url {
            secret::register(&value);
            let remedy = "write postgres://user:password@host/database; escape special characters \
                          of the password as %XX";
            report(&error.to_string(), remedy);
        }
        let password = url.as_ref().ok().and_then(DatabaseUrl::reveal_password);
        diagnostics.register_secrets(place, name, password);
        url.ok()
    }

    /// Returns the place of the section.
    pub(in crate::config) const fn place(&self) -> &SourceLocation {
        &self.place
    }
}
