//! Environment variables: credential, addresses and paths.
//!
//! A variable is set in the environment or in `.env`; the environment takes precedence, and an
//! empty value counts as absent. Problems contain the names of variables and never values.
//!
//! A value in quotes is rejected for every variable: `docker --env-file` keeps the quotes that
//! `.env` files need elsewhere, and they would become part of the cookie or path.

use std::{fmt, path::PathBuf};

use super::{
    Credential, Endpoints, HTTP_URL, ORIGIN, USER_AGENT, WS_URL,
    credential::CredentialError,
    dashboard::TOKEN_BYTES_MIN,
    dotenv::Variable,
    endpoint::{Endpoint, EndpointError, Scheme},
    problem::{Diagnostics, Problem, SourceLocation},
};
use crate::{
    log::{LogError, LogFilter},
    secret::{self, MASKED_BYTES_MIN, Secret},
    text::{is_quoted, nearest},
};

/// Variables that the program reads.
pub const VARIABLES: [&str; 11] = [
    "CSGOROLL_SESSION",
    "CSGOROLL_COOKIE",
    "CSGOROLL_WS_URL",
    "CSGOROLL_HTTP_URL",
    "CSGOROLL_ORIGIN",
    "CSGOROLL_USER_AGENT",
    "SNIPER_CONFIG",
    "SNIPER_DATA",
    "SNIPER_LIVE",
    "SNIPER_DASHBOARD_TOKEN",
    "RUST_LOG",
];

/// Default of `SNIPER_DATA`.
const DATA_DIR: &str = "data";

/// Maximum length of the `User-Agent` header in bytes.
const USER_AGENT_BYTES_MAX: usize = 512;

/// Remedy for a value in quotes.
const REMOVE_QUOTES: &str = "remove the quotes around the value (docker --env-file keeps them)";

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

    /// Returns the value of a variable that the settings file names, without quotes around it.
    pub(super) fn value(&self, name: &str) -> Option<String> {
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
            place: SourceLocation::Line { file: self.file.clone(), line: variable.line },
            substituted: variable.substituted,
        })
    }

    /// Returns the variables that are set, and their locations.
    pub(super) fn set_at(&self) -> Vec<(&'static str, SourceLocation)> {
        let set = VARIABLES.into_iter().filter_map(|name| self.get(name));
        set.map(|setting| (setting.name, setting.place)).collect()
    }

    /// Reports variables whose value is in quotes.
    fn check_quotes(&self, diagnostics: &mut Diagnostics) {
        let set = VARIABLES.into_iter().filter_map(|name| self.find(name));
        for setting in set.filter(|setting| is_quoted(&setting.value)) {
            diagnostics.problem(setting.problem("is in quotes", REMOVE_QUOTES));
        }
    }

    /// Reports variables that are set twice in `.env`, and warns about unknown `CSGOROLL_` and
    /// `SNIPER_` variables.
    pub(super) fn check_names(&self, diagnostics: &mut Diagnostics) {
        for (index, variable) in self.dotenv.iter().enumerate() {
            let place = SourceLocation::Line { file: self.file.clone(), line: variable.line };
            let name = variable.name.as_str();
            if VARIABLES.contains(&name) {
                // An empty value counts as absent.
                let is_set =
                    |other: &&Variable| other.name == name && !other.value.trim().is_empty();
                let earlier = self.dotenv.iter().take(index).find(is_set);
                if let Some(Variable { line, .. }) = earlier {
                    let message = format!("{name} is already set in line {line}");
                    let remedy = format!("delete line {line} to use this value");
                    diagnostics.problem(Problem::new(place, message, remedy));
                }
            } else if name.starts_with("CSGOROLL_") || name.starts_with("SNIPER_") {
                let remedy = match nearest(name, &VARIABLES) {
                    Some(known) => format!("did you mean {known}?"),
                    None => "see .env.example for the supported variables".to_owned(),
                };
                diagnostics.warning(Problem::new(
                    place,
                    format!("unknown variable {name}"),
                    remedy,
                ));
            }
        }
    }
}

/// Values of the variables after validation.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub(super) credential: Option<Credential>,
    /// `true` if a credential is set, valid or not.
    pub(super) has_credential: bool,
    /// Variable that contains the credential, and its location.
    pub(super) credential_source: Option<(&'static str, SourceLocation)>,
    /// `None` if an address is invalid, which has been reported.
    pub(super) endpoints: Option<Endpoints>,
    pub(super) config_file: Option<Setting>,
    pub(super) data_dir: PathBuf,
    /// Location of `SNIPER_LIVE` if it enables live mode.
    pub(super) live: Option<SourceLocation>,
    pub(super) log_filter: Option<String>,
    pub(super) dashboard_token: Option<Secret>,
}

/// Reads and validates all variables.
pub(super) fn read(variables: &Variables<'_>, diagnostics: &mut Diagnostics) -> Environment {
    variables.check_names(diagnostics);
    variables.check_quotes(diagnostics);
    let live = variables.get("SNIPER_LIVE").and_then(|setting| read_live(&setting, diagnostics));
    let (credential, credential_source) = read_credential(variables, diagnostics).unzip();
    let is_set = |name| variables.find(name).is_some();
    Environment {
        credential,
        has_credential: is_set("CSGOROLL_COOKIE") || is_set("CSGOROLL_SESSION"),
        credential_source,
        endpoints: read_endpoints(variables, diagnostics),
        config_file: variables.get("SNIPER_CONFIG"),
        data_dir: read_data_dir(variables, diagnostics),
        live,
        log_filter: read_log_filter(variables, diagnostics),
        dashboard_token: read_dashboard_token(variables, diagnostics),
    }
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

fn read_data_dir(variables: &Variables<'_>, diagnostics: &mut Diagnostics) -> PathBuf {
    let Some(setting) = variables.get("SNIPER_DATA") else { return DATA_DIR.into() };
    if setting.value.chars().any(char::is_control) {
        let remedy = "write the path of a directory, such as data";
        diagnostics.problem(setting.problem("contains a control character", remedy));
    }
    setting.value.into()
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
    variables: &Variables<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<(Credential, (&'static str, SourceLocation))> {
    let (cookie, session) = (variables.get("CSGOROLL_COOKIE"), variables.get("CSGOROLL_SESSION"));
    if let (Some(cookie), Some(session)) = (&cookie, &session) {
        let message = format!("is used instead of {} ({})", session.name, session.place);
        diagnostics.warning(cookie.problem(&message, "remove one of them"));
        // The unused session is not sent, but must be masked as well.
        secret::register(&session.value);
    }
    let is_cookie = cookie.is_some();
    let setting = cookie.or(session)?;
    if setting.substituted {
        let remedy = "put the value in single quotes";
        diagnostics
            .problem(setting.problem("contains a $, which expands another variable", remedy));
        return None;
    }
    let made = if is_cookie {
        Credential::from_cookie(&setting.value)
    } else {
        Credential::from_session(&setting.value)
    };
    match made {
        Ok(credential) => {
            if !credential.has_session() {
                let remedy = "copy the Cookie header again while you are logged in";
                diagnostics.warning(setting.problem("contains no `session` cookie", remedy));
            }
            warn_of_short_values(&credential, &setting, diagnostics);
            Some((credential, (setting.name, setting.place)))
        }
        Err(error) => {
            diagnostics.problem(setting.problem(&error.to_string(), remedy(error)));
            None
        }
    }
}

/// Warns about cookies that are too short to be masked where the market repeats them.
fn warn_of_short_values(credential: &Credential, setting: &Setting, diagnostics: &mut Diagnostics) {
    let (what, remedy) = match (credential.short_values(), setting.name) {
        (0, _) => return,
        (_, "CSGOROLL_SESSION") => {
            ("is".to_owned(), "copy the whole value of the `session` cookie")
        }
        (1, _) => ("contains a cookie whose value is".to_owned(), SHORT_COOKIES_REMEDY),
        (count, _) => {
            (format!("contains {count} cookies whose values are each"), SHORT_COOKIES_REMEDY)
        }
    };
    let message = format!(
        "{what} shorter than {MASKED_BYTES_MIN} bytes, too short to be masked in logs and \
         recordings if the market repeats it"
    );
    diagnostics.warning(setting.problem(&message, remedy));
}

/// Returns the credential of the process environment, which cannot change at runtime.
pub(super) fn fixed_credential(
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Option<(Credential, &'static str)> {
    let variables = Variables { lookup, file: String::new(), dotenv: Vec::new() };
    let (credential, (name, _place)) = read_credential(&variables, &mut Diagnostics::default())?;
    Some((credential, name))
}

/// Returns the credential after `.env` was read again. The process environment takes precedence,
/// except that a cookie in `.env` replaces a session.
pub(super) fn fresh_credential(
    fixed: Option<&(Credential, &'static str)>,
    dotenv: Vec<Variable>,
) -> Option<Credential> {
    let variables = Variables { lookup: &|_name| None, file: String::new(), dotenv };
    let fresh = read_credential(&variables, &mut Diagnostics::default());
    match (fixed, fresh) {
        (Some((_, "CSGOROLL_SESSION")), Some((fresh, ("CSGOROLL_COOKIE", _)))) => Some(fresh),
        (Some((fixed, _)), _) => Some(fixed.clone()),
        (None, fresh) => fresh.map(|(credential, _source)| credential),
    }
}

const fn remedy(error: CredentialError) -> &'static str {
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

fn read_endpoints(variables: &Variables<'_>, diagnostics: &mut Diagnostics) -> Option<Endpoints> {
    let mut address = |name, scheme, default| {
        let setting = variables.get(name);
        let text = setting.as_ref().map_or(default, |setting| setting.value.trim());
        match (Endpoint::parse(text, scheme), setting) {
            (Ok(endpoint), _) => {
                secret::register_query(endpoint.path());
                Some(endpoint)
            }
            (Err(error), setting) => {
                let place = setting.map_or(SourceLocation::Environment, |setting| setting.place);
                let remedy = format!("write an address such as {default}");
                diagnostics.problem(Problem::new(place, format!("{name} {error}"), remedy));
                None
            }
        }
    };
    let ws = address("CSGOROLL_WS_URL", Scheme::WebSocket, WS_URL);
    let http = address("CSGOROLL_HTTP_URL", Scheme::Http, HTTP_URL);
    let origin = read_origin(variables, diagnostics);
    let user_agent = read_user_agent(variables, diagnostics);
    Some(Endpoints { ws: ws?, http: http?, origin: origin?, user_agent: user_agent? })
}

fn read_origin(variables: &Variables<'_>, diagnostics: &mut Diagnostics) -> Option<String> {
    let Some(setting) = variables.get("CSGOROLL_ORIGIN") else { return Some(ORIGIN.to_owned()) };
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

fn read_user_agent(variables: &Variables<'_>, diagnostics: &mut Diagnostics) -> Option<String> {
    let Some(setting) = variables.get("CSGOROLL_USER_AGENT") else {
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
        for name in VARIABLES {
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
