//! Environment variables: credential, addresses and paths. Pure.
//!
//! A variable is set in the environment or in `.env`; the environment takes precedence, and an
//! empty value counts as absent. Problems contain the names of variables and never values.
//!
//! A value in quotes is rejected for every variable: `docker --env-file` keeps the quotes that
//! `.env` files need elsewhere, and they would become part of the cookie or path.

use std::{fmt, path::PathBuf};

use super::{
    Credential, Endpoints, Market, ORIGIN, TradeUrl, USER_AGENT,
    credential::CredentialError,
    dashboard::TOKEN_BYTES_MIN,
    dotenv::Variable,
    endpoint::{Endpoint, EndpointError, Scheme},
    market::{AddressVariable, BrowserHeaders, CredentialVariables, TRADE_URL},
    problem::{Diagnostics, Problem, SourceLocation},
    trade_url::TradeUrlError,
};
use crate::{
    log::{LogError, LogFilter},
    secret::{self, Secret},
    text::{is_quoted, nearest},
};

/// Variables that the program reads.
pub const VARIABLES: [&str; 20] = [
    "CSGOROLL_SESSION",
    "CSGOROLL_COOKIE",
    "CSGOROLL_WS_URL",
    "CSGOROLL_HTTP_URL",
    "CSGOROLL_ORIGIN",
    "CSGOROLL_USER_AGENT",
    "LIS_SKINS_KEY",
    "LIS_SKINS_USER_ID",
    "LIS_SKINS_WS_URL",
    "LIS_SKINS_HTTP_URL",
    "WAXPEER_KEY",
    "WAXPEER_WS_URL",
    "WAXPEER_HTTP_URL",
    "STEAM_TRADE_URL",
    "SNIPER_CONFIG",
    "SNIPER_DATA",
    "SNIPER_LIVE",
    "SNIPER_DASHBOARD_TOKEN",
    "SNIPER_SHARED_URL",
    "RUST_LOG",
];

/// Beginnings of the names of variables that only this program has.
const PREFIXES: [&str; 5] = ["CSGOROLL_", "LIS_SKINS_", "WAXPEER_", "STEAM_TRADE", "SNIPER_"];

/// Default of `SNIPER_DATA`, for the default market. The other markets have directories in it.
const DATA_DIR: &str = "data";

/// Maximum number of digits of an account's number.
const ACCOUNT_ID_DIGITS_MAX: usize = 20;

/// Maximum length of the `User-Agent` header in bytes.
const USER_AGENT_BYTES_MAX: usize = 512;

/// Remedy for a value in quotes.
pub(super) const REMOVE_QUOTES: &str =
    "remove the quotes around the value (docker --env-file keeps them)";

/// Remedy for cookies that are too short to be masked.
const SHORT_COOKIES_REMEDY: &str =
    "ignore this for settings such as a language; remove cookies that the market does not need";

/// A variable that is set. Its value may be secret, so `Debug` omits it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) place: SourceLocation,
    substituted: bool,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setting({} at {})", self.name, self.place)
    }
}

impl Setting {
    fn problem(&self, message: &str, remedy: &str) -> Problem {
        Problem::new(self.place.clone(), format!("{} {message}", self.name), remedy)
    }
}

/// The environment with `.env` as fallback.
pub(super) struct Variables<'a> {
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(super) file: String,
    pub(super) dotenv: Vec<Variable>,
}

impl Variables<'_> {
    /// Returns a variable unless it is in quotes, which [`check_quotes`](Self::check_quotes)
    /// reports.
    pub(super) fn get(&self, name: &'static str) -> Option<Setting> {
        self.find(name).filter(|setting| !is_quoted(&setting.value))
    }

    /// Returns the value of a variable that the settings file names, and reports one that is set
    /// twice in `.env`.
    pub(super) fn value(&self, name: &str, diagnostics: &mut Diagnostics) -> Option<String> {
        self.check_repeated(name, diagnostics);
        let set = |value: &String| !value.trim().is_empty();
        let in_file = || {
            let mut variables = self.dotenv.iter().filter(|variable| variable.name == name);
            variables.find_map(|variable| Some(variable.value.clone()).filter(set))
        };
        (self.lookup)(name).filter(set).or_else(in_file)
    }

    /// Returns a variable that is set, without validation.
    fn find(&self, name: &'static str) -> Option<Setting> {
        if let Some(value) = (self.lookup)(name).filter(|value| !value.trim().is_empty()) {
            return Some(Setting {
                name,
                value,
                place: SourceLocation::Environment,
                substituted: false,
            });
        }
        let set = |variable: &&Variable| variable.name == name && !variable.value.trim().is_empty();
        let variable = self.dotenv.iter().find(set)?;
        Some(Setting {
            name,
            value: variable.value.clone(),
            place: self.place(variable),
            substituted: variable.substituted,
        })
    }

    /// Returns the variables that are set, and their locations.
    pub(super) fn set_at(&self) -> Vec<(&'static str, SourceLocation)> {
        let set = VARIABLES.into_iter().filter_map(|name| self.get(name));
        set.map(|setting| (setting.name, setting.place)).collect()
    }

    /// Reports variables whose value is in quotes, also those that locate the account's mark.
    fn check_quotes(&self, diagnostics: &mut Diagnostics) {
        let names = VARIABLES.into_iter().chain(["XDG_STATE_HOME", "HOME"]);
        let set = names.filter_map(|name| self.find(name));
        for setting in set.filter(|setting| is_quoted(&setting.value)) {
            diagnostics.problem(setting.problem("is in quotes", REMOVE_QUOTES));
        }
    }

    /// Reports variables that are set twice in `.env`, and warns about unknown variables whose
    /// names begin like those of this program.
    pub(super) fn check_names(&self, diagnostics: &mut Diagnostics) {
        for name in VARIABLES {
            self.check_repeated(name, diagnostics);
        }
        for variable in &self.dotenv {
            let name = variable.name.as_str();
            if !VARIABLES.contains(&name) && PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            {
                let remedy = match nearest(name, &VARIABLES) {
                    Some(known) => format!("did you mean {known}?"),
                    None => "see .env.example for the supported variables".to_owned(),
                };
                let place = self.place(variable);
                let message = format!("unknown variable {name}");
                diagnostics.warning(Problem::new(place, message, remedy));
            }
        }
    }

    fn check_repeated(&self, name: &str, diagnostics: &mut Diagnostics) {
        let mut lines = self.dotenv.iter().filter(|variable| variable.name == name);
        // An empty value counts as absent.
        let Some(first) = lines.find(|variable| !variable.value.trim().is_empty()) else { return };
        for repeated in lines {
            let message = format!("{name} is already set in line {}", first.line);
            let remedy = format!("delete line {} to use this value", first.line);
            diagnostics.problem(Problem::new(self.place(repeated), message, remedy));
        }
    }

    fn place(&self, variable: &Variable) -> SourceLocation {
        SourceLocation::Line { file: self.file.clone(), line: variable.line }
    }
}

/// Values of the variables that belong to no market, after validation.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub(super) config_file: Option<Setting>,
    /// `SNIPER_DATA`.
    pub(super) data_dir: Option<PathBuf>,
    /// Location of `SNIPER_LIVE` if it enables live mode.
    pub(super) live: Option<SourceLocation>,
    pub(super) log_filter: Option<String>,
    pub(super) dashboard_token: Option<Secret>,
}

/// Values of the variables of one market, after validation.
#[derive(Clone, Debug)]
pub(super) struct MarketEnvironment {
    pub(super) credential: Option<Credential>,
    /// `true` if a credential is set, valid or not.
    pub(super) has_credential: bool,
    /// Variable that contains the credential, and its location.
    pub(super) credential_source: Option<(&'static str, SourceLocation)>,
    /// `None` if an address is invalid, which has been reported.
    pub(super) endpoints: Option<Endpoints>,
    pub(super) trade_url: Option<TradeUrl>,
    /// `true` if a trade URL is set, valid or not.
    pub(super) has_trade_url: bool,
    pub(super) account_id: Option<String>,
}

impl Environment {
    /// Returns the data directory: each market has one of its own unless `SNIPER_DATA` names it.
    pub(super) fn data_dir(&self, market: Market) -> PathBuf {
        let default = PathBuf::from(DATA_DIR);
        self.data_dir.clone().unwrap_or_else(|| {
            if market == Market::default() { default } else { default.join(market.name()) }
        })
    }
}

/// Reads and validates the variables that belong to no market, and checks the names of all.
pub(super) fn read(variables: &Variables<'_>, diagnostics: &mut Diagnostics) -> Environment {
    variables.check_names(diagnostics);
    variables.check_quotes(diagnostics);
    let live = variables.get("SNIPER_LIVE").and_then(|setting| read_live(&setting, diagnostics));
    Environment {
        config_file: variables.get("SNIPER_CONFIG"),
        data_dir: read_data_dir(variables, diagnostics),
        live,
        log_filter: read_log_filter(variables, diagnostics),
        dashboard_token: read_dashboard_token(variables, diagnostics),
    }
}

/// Reads and validates the variables of a market.
pub(super) fn read_market(
    market: Market,
    variables: &Variables<'_>,
    diagnostics: &mut Diagnostics,
) -> MarketEnvironment {
    let settings = market.settings();
    mask_other_markets(market, variables);
    let credential = read_credential(settings.credential, variables, diagnostics);
    let (credential, credential_source) = credential.unzip();
    let is_set = |name| variables.find(name).is_some();
    let has_credential = match settings.credential {
        CredentialVariables::Cookie { session, header } => is_set(header) || is_set(session),
        CredentialVariables::Key(key) => is_set(key),
    };
    MarketEnvironment {
        credential,
        has_credential,
        credential_source,
        endpoints: read_endpoints(market, variables, diagnostics),
        trade_url: settings
            .needs_trade_url
            .then(|| read_trade_url(variables, diagnostics))
            .flatten(),
        has_trade_url: is_set(TRADE_URL),
        account_id: settings
            .account_id
            .and_then(|name| read_account_id(name, variables, diagnostics)),
    }
}

/// Registers the secrets of the markets that are not used: they are masked as well.
fn mask_other_markets(market: Market, variables: &Variables<'_>) {
    for other in Market::ALL.into_iter().filter(|other| *other != market) {
        let _not_sent =
            read_credential(other.settings().credential, variables, &mut Diagnostics::default());
    }
    if !market.settings().needs_trade_url {
        let _not_sent = read_trade_url(variables, &mut Diagnostics::default());
    }
}

fn read_trade_url(variables: &Variables<'_>, diagnostics: &mut Diagnostics) -> Option<TradeUrl> {
    let setting = variables.get(TRADE_URL)?;
    TradeUrl::parse(&setting.value)
        .map_err(|error| {
            diagnostics.problem(setting.problem(&error.to_string(), TradeUrlError::REMEDY));
        })
        .ok()
}

fn read_account_id(
    name: &'static str,
    variables: &Variables<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<String> {
    let setting = variables.get(name)?;
    let number = parse_account_id(&setting.value);
    if number.is_none() {
        let remedy = "copy the number of your account from the market's profile page";
        diagnostics.problem(setting.problem("is not the number of an account", remedy));
    }
    number
}

/// Reads the number of an account: decimal digits.
pub(super) fn parse_account_id(text: &str) -> Option<String> {
    let digits = text.trim();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && digits.len() <= ACCOUNT_ID_DIGITS_MAX).then(|| digits.to_owned())
}

fn read_dashboard_token(
    variables: &Variables<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Secret> {
    let setting = variables.get("SNIPER_DASHBOARD_TOKEN")?;
    let is_allowed = setting.value.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_allowed || setting.value.len() < TOKEN_BYTES_MIN {
        let message =
            format!("is no token of at least {TOKEN_BYTES_MIN} characters without spaces");
        diagnostics.problem(setting.problem(&message, "remove it, and a token is generated"));
        return None;
    }
    secret::register(&setting.value);
    Some(Secret::new(setting.value))
}

fn read_data_dir(variables: &Variables<'_>, diagnostics: &mut Diagnostics) -> Option<PathBuf> {
    let setting = variables.get("SNIPER_DATA")?;
    if setting.value.chars().any(char::is_control) {
        let remedy = "write the path of a directory, such as data";
        diagnostics.problem(setting.problem("contains a control character", remedy));
    }
    Some(setting.value.into())
}

fn read_log_filter(variables: &Variables<'_>, diagnostics: &mut Diagnostics) -> Option<String> {
    let setting = variables.get("RUST_LOG")?;
    match LogFilter::parse(Some(&setting.value)) {
        Ok(filter) => {
            if let Some(unknown) = filter.unknown_words() {
                diagnostics.warning(setting.problem(&unknown, &LogFilter::known_words()));
            }
        }
        Err(error) => {
            let remedy = match error {
                LogError::Misspelled { level } => format!("did you mean `{level}`?"),
                _ => "write error, warn, info, debug or trace".to_owned(),
            };
            diagnostics.problem(setting.problem("is not a valid filter", &remedy));
        }
    }
    Some(setting.value)
}

fn read_live(setting: &Setting, diagnostics: &mut Diagnostics) -> Option<SourceLocation> {
    match setting.value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Some(setting.place.clone()),
        "false" | "0" | "no" => None,
        _ => {
            let remedy = "write true to buy, or false to watch only";
            diagnostics.problem(setting.problem("is neither true nor false", remedy));
            None
        }
    }
}

fn read_credential(
    names: CredentialVariables,
    variables: &Variables<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<(Credential, (&'static str, SourceLocation))> {
    let (setting, kind) = match names {
        CredentialVariables::Key(key) => (variables.get(key)?, CredentialForm::Key),
        CredentialVariables::Cookie { session, header } => {
            let (cookie, session) = (variables.get(header), variables.get(session));
            if let (Some(cookie), Some(session)) = (&cookie, &session) {
                let message = format!("is used instead of {} ({})", session.name, session.place);
                diagnostics.warning(cookie.problem(&message, "remove one of them"));
                // The unused session is not sent, but must be masked as well.
                secret::register(&session.value);
            }
            match cookie {
                Some(cookie) => (cookie, CredentialForm::Header),
                None => (session?, CredentialForm::Session),
            }
        }
    };
    if setting.substituted {
        let remedy = "put the value in single quotes";
        diagnostics
            .problem(setting.problem("contains a $, which expands another variable", remedy));
        return None;
    }
    let made = match kind {
        CredentialForm::Header => Credential::from_cookie(&setting.value),
        CredentialForm::Session => Credential::from_session(&setting.value),
        CredentialForm::Key => Credential::from_key(&setting.value),
    };
    match made {
        Ok(credential) => {
            if kind != CredentialForm::Key && !credential.has_session() {
                let remedy = "copy the Cookie header again while you are logged in";
                diagnostics.warning(setting.problem("contains no `session` cookie", remedy));
            }
            warn_of_short_values(&credential, &setting, kind, diagnostics);
            Some((credential, (setting.name, setting.place)))
        }
        Err(error) => {
            diagnostics.problem(setting.problem(&error.to_string(), remedy(error, kind)));
            None
        }
    }
}

/// Form of the value of a credential's variable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CredentialForm {
    Session,
    Header,
    Key,
}

/// Warns about cookies that are too short to be masked where the market repeats them.
fn warn_of_short_values(
    credential: &Credential,
    setting: &Setting,
    kind: CredentialForm,
    diagnostics: &mut Diagnostics,
) {
    let (what, remedy) = match (credential.short_values(), kind) {
        (0, _) => return,
        (_, CredentialForm::Session) => {
            ("is".to_owned(), "copy the whole value of the `session` cookie")
        }
        (_, CredentialForm::Key) => ("is".to_owned(), "copy the whole key from the market"),
        (1, _) => ("contains a cookie whose value is".to_owned(), SHORT_COOKIES_REMEDY),
        (count, _) => {
            (format!("contains {count} cookies whose values are each"), SHORT_COOKIES_REMEDY)
        }
    };
    diagnostics.warn_of_short(&setting.place, &format!("{} {what}", setting.name), remedy);
}

/// Returns the market's credential of the process environment, which cannot change at runtime.
pub(super) fn fixed_credential(
    market: Market,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Option<(Credential, &'static str)> {
    let variables = Variables { lookup, file: String::new(), dotenv: Vec::new() };
    let names = market.settings().credential;
    let read = read_credential(names, &variables, &mut Diagnostics::default());
    let (credential, (name, _place)) = read?;
    Some((credential, name))
}

/// Returns the market's credential after `.env` was read again. The process environment takes
/// precedence, except that a cookie in `.env` replaces a session.
pub(super) fn fresh_credential(
    market: Market,
    fixed: Option<&(Credential, &'static str)>,
    dotenv: Vec<Variable>,
) -> Option<Credential> {
    let variables = Variables { lookup: &|_name| None, file: String::new(), dotenv };
    let names = market.settings().credential;
    let fresh = read_credential(names, &variables, &mut Diagnostics::default());
    match (fixed, fresh, names) {
        (
            Some((_, fixed)),
            Some((fresh, (name, _))),
            CredentialVariables::Cookie { session, header },
        ) if *fixed == session && name == header => Some(fresh),
        (Some((fixed, _)), ..) => Some(fixed.clone()),
        (None, fresh, _) => fresh.map(|(credential, _source)| credential),
    }
}

const fn remedy(error: CredentialError, kind: CredentialForm) -> &'static str {
    if matches!(kind, CredentialForm::Key) {
        return "copy the key from the market again, as one line";
    }
    match error {
        CredentialError::Empty | CredentialError::NoSession => {
            "copy the value of the `session` cookie from your browser"
        }
        CredentialError::Control | CredentialError::NotAscii | CredentialError::TooLong => {
            "copy it from your browser again, as one line"
        }
        CredentialError::NotOneValue => {
            "set only the value of the `session` cookie, or the whole header as CSGOROLL_COOKIE"
        }
        CredentialError::NotAKey => "copy the key from the market again",
        CredentialError::NotAHeader => {
            "set the whole header, or the value of the `session` cookie as CSGOROLL_SESSION"
        }
    }
}

fn read_endpoints(
    market: Market,
    variables: &Variables<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Endpoints> {
    let mut address = |variable: &AddressVariable, scheme| {
        let AddressVariable { name, default } = *variable;
        let setting = variables.get(name);
        let text = setting.as_ref().map_or(default, |setting| setting.value.trim());
        let parsed = Endpoint::parse(text, scheme);
        let place = setting.map_or(SourceLocation::Environment, |setting| setting.place);
        match parsed {
            Ok(endpoint) => {
                let keys = secret::query_keys(endpoint.path());
                diagnostics.register_secrets(&place, name, keys);
                Some(endpoint)
            }
            Err(error) => {
                let remedy = format!("write an address such as {default}");
                diagnostics.problem(Problem::new(place, format!("{name} {error}"), remedy));
                None
            }
        }
    };
    let settings = market.settings();
    let ws = address(&settings.feed, Scheme::WebSocket);
    let http = address(&settings.http, Scheme::Http);
    let (origin, user_agent) = match &settings.browser_headers {
        Some(BrowserHeaders { origin, user_agent }) => (
            read_origin(origin, variables, diagnostics),
            read_user_agent(user_agent, variables, diagnostics),
        ),
        None => (Some(String::new()), Some(USER_AGENT.to_owned())),
    };
    Some(Endpoints { ws: ws?, http: http?, origin: origin?, user_agent: user_agent? })
}

fn read_origin(
    name: &'static str,
    variables: &Variables<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<String> {
    let Some(setting) = variables.get(name) else { return Some(ORIGIN.to_owned()) };
    let text = setting.value.trim().trim_end_matches('/');
    let remedy = "write only scheme and host, such as https://www.csgoroll.com";
    match Endpoint::parse(text, Scheme::Http) {
        Ok(endpoint) if endpoint.path() == "/" => Some(text.to_owned()),
        Ok(_) => {
            diagnostics.problem(setting.problem("contains a path", remedy));
            None
        }
        // Nothing is sent to the origin, so it may be unencrypted.
        Err(EndpointError::PlainText) => Some(text.to_owned()),
        Err(error) => {
            diagnostics.problem(setting.problem(&error.to_string(), remedy));
            None
        }
    }
}

fn read_user_agent(
    name: &'static str,
    variables: &Variables<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<String> {
    let Some(setting) = variables.get(name) else {
        return Some(USER_AGENT.to_owned());
    };
    let text = setting.value.trim();
    let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if text.len() > USER_AGENT_BYTES_MAX || !text.bytes().all(printable) {
        let remedy = "copy it from your browser, as one line";
        diagnostics.problem(setting.problem("is too long or not plain ASCII", remedy));
        return None;
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the problems of an environment with one variable.
    fn problems(name: &str, value: &str) -> Vec<String> {
        let lookup = |asked: &str| (asked == name).then(|| value.to_owned());
        let variables = Variables { lookup: &lookup, file: String::new(), dotenv: Vec::new() };
        let mut diagnostics = Diagnostics::default();
        read(&variables, &mut diagnostics);
        let owner = |market: &Market| {
            let prefix = market.name().replace('-', "_").to_uppercase();
            name.starts_with(&prefix) || (market.settings().needs_trade_url && name == TRADE_URL)
        };
        let market = Market::ALL.into_iter().find(owner).unwrap_or_default();
        read_market(market, &variables, &mut diagnostics);
        match diagnostics.into_warnings() {
            Ok(_warnings) => Vec::new(),
            Err(problems) => problems.list().iter().map(ToString::to_string).collect(),
        }
    }

    /// Returns a valid value without quotes.
    fn valid_value(name: &str) -> &'static str {
        match name {
            "CSGOROLL_SESSION" => "s%3Aabc0123456789",
            "CSGOROLL_COOKIE" => "cf_clearance=a1; session=s%3Aabc0123456789",
            "CSGOROLL_WS_URL" => "wss://example.com/ws",
            "CSGOROLL_HTTP_URL" => "https://example.com/graphql",
            "LIS_SKINS_KEY" | "WAXPEER_KEY" => "0123456789abcdef",
            "LIS_SKINS_USER_ID" => "4711",
            "LIS_SKINS_WS_URL" | "WAXPEER_WS_URL" => "wss://example.com/feed",
            "LIS_SKINS_HTTP_URL" | "WAXPEER_HTTP_URL" => "https://example.com/v1",
            "STEAM_TRADE_URL" => {
                "https://steamcommunity.com/tradeoffer/new/?partner=123456789&token=AbCdEf12"
            }
            "CSGOROLL_ORIGIN" => "https://example.com",
            "CSGOROLL_USER_AGENT" => "Mozilla/5.0 (X11)",
            "SNIPER_LIVE" => "true",
            "SNIPER_DASHBOARD_TOKEN" => "0123456789abcdef0123456789abcdef",
            "RUST_LOG" => "sniper=debug",
            _ => "data/",
        }
    }

    #[test]
    fn a_value_in_quotes_is_rejected_for_every_variable() {
        for name in VARIABLES.into_iter().chain(["XDG_STATE_HOME", "HOME"]) {
            let value = valid_value(name);
            assert_eq!(problems(name, value), Vec::<String>::new(), "{name}");
            for quoted in [
                format!("'{value}'"),
                format!("\"{value}\""),
                format!(" '{value}' "),
                format!("'{value}' # a comment"),
                "''".to_owned(),
            ] {
                let [problem] = &problems(name, &quoted)[..] else {
                    panic!("{name}={quoted}: {:?}", problems(name, &quoted));
                };
                let expected = format!("environment: {name} is in quotes; remove the quotes");
                assert!(problem.starts_with(&expected), "{problem}");
                assert!(!problem.contains(value), "{problem}");
            }
        }
    }

    #[test]
    fn quotes_inside_a_value_are_part_of_it() {
        for value in ["a'b'", "'a\"", "a=\"x\"; b=\"y\"", "'a'b", "'", "", "'a' b"] {
            assert!(!is_quoted(value), "{value}");
        }
    }
}
