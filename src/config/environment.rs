//! The variables: who we are, where the marketplace is, which files to read.
//!
//! A variable stands in the environment or in `.env`; the environment wins, and an empty value
//! counts as absent. Problems name variables and never values.
//!
//! A value in quotes is refused for every variable: `docker --env-file` keeps the quotes that
//! `.env` files need elsewhere, and they would end up in the cookie or in a path.

use std::{fmt, path::PathBuf};

use super::{
    Credential, Endpoints, HTTP_URL, ORIGIN, USER_AGENT, WS_URL,
    credential::CredentialError,
    dotenv::Variable,
    endpoint::{Endpoint, EndpointError, Scheme},
    problem::{Diagnostics, Problem, SourceLocation},
};
use crate::{
    log::{LogError, LogFilter},
    secret::{self, MASKED_BYTES_MIN},
    text::nearest,
};

/// Every variable that is read.
pub const VARIABLES: [&str; 10] = [
    "CSGOROLL_SESSION",
    "CSGOROLL_COOKIE",
    "CSGOROLL_WS_URL",
    "CSGOROLL_HTTP_URL",
    "CSGOROLL_ORIGIN",
    "CSGOROLL_USER_AGENT",
    "SNIPER_CONFIG",
    "SNIPER_DATA",
    "SNIPER_LIVE",
    "RUST_LOG",
];

/// Where the bot writes unless said otherwise.
const DATA_DIR: &str = "data";

/// The longest `User-Agent` that is sent, in bytes.
const USER_AGENT_BYTES_MAX: usize = 512;

/// What to do about a value in quotes.
const REMOVE_QUOTES: &str = "remove the quotes around the value (docker --env-file keeps them)";

/// What to do about cookies that are too short to be replaced.
const SHORT_COOKIES_REMEDY: &str =
    "nothing, if they are settings such as a language; leave out what the site does not need";

/// Whether a value begins and ends with the same quotation mark. A comment may follow it: docker
/// keeps that, too.
pub fn is_quoted(value: &str) -> bool {
    let value = value.trim();
    ['\'', '"'].into_iter().any(|quote| {
        let behind = value.strip_prefix(quote).and_then(|rest| rest.rsplit_once(quote));
        behind.is_some_and(|(_inside, behind)| {
            behind.is_empty() || behind.starts_with([' ', '\t']) && behind.trim().starts_with('#')
        })
    })
}

/// A variable that is set. Its value may be secret, so `Debug` does not show it.
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

/// The environment with `.env` behind it.
pub(super) struct Variables<'a> {
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
    pub(super) file: String,
    pub(super) dotenv: Vec<Variable>,
}

impl Variables<'_> {
    /// A variable that is set, and not one in quotes: that is a problem already.
    pub(super) fn get(&self, name: &'static str) -> Option<Setting> {
        self.find(name).filter(|setting| !is_quoted(&setting.value))
    }

    /// A variable that is set, whatever its value is.
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

    /// Reports the variables whose value is in quotes.
    fn check_quotes(&self, findings: &mut Diagnostics) {
        let set = VARIABLES.into_iter().filter_map(|name| self.find(name));
        for setting in set.filter(|setting| is_quoted(&setting.value)) {
            findings.problem(setting.problem("is in quotes", REMOVE_QUOTES));
        }
    }

    /// Reports what stands in `.env` twice, or under a name that is nearly one of ours.
    pub(super) fn check_names(&self, findings: &mut Diagnostics) {
        for (index, variable) in self.dotenv.iter().enumerate() {
            let place = SourceLocation::Line { file: self.file.clone(), line: variable.line };
            let name = variable.name.as_str();
            if VARIABLES.contains(&name) {
                let earlier = self.dotenv.iter().take(index).find(|earlier| earlier.name == name);
                if let Some(earlier) = earlier {
                    let message = format!("{name} is set in line {} already", earlier.line);
                    findings.problem(Problem::new(place, message, "remove one of the two"));
                }
            } else if name.starts_with("CSGOROLL_") || name.starts_with("SNIPER_") {
                let remedy = match nearest(name, &VARIABLES) {
                    Some(known) => format!("did you mean {known}?"),
                    None => ".env.example lists those that are read".to_owned(),
                };
                findings.warning(Problem::new(place, format!("{name} is not read"), remedy));
            }
        }
    }
}

/// What the variables say.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub(super) credential: Option<Credential>,
    /// Whether there is one, right or wrong.
    pub(super) has_credential: bool,
    /// The variable that the credential came from, and where it is set.
    pub(super) credential_source: Option<(&'static str, SourceLocation)>,
    /// `None` where an address is wrong, which is a problem.
    pub(super) endpoints: Option<Endpoints>,
    pub(super) config_file: Option<Setting>,
    pub(super) data_dir: PathBuf,
    /// Where live mode is asked for, if it is.
    pub(super) live: Option<SourceLocation>,
    pub(super) log_filter: Option<String>,
}

/// Reads and checks all of them.
pub(super) fn read(variables: &Variables<'_>, findings: &mut Diagnostics) -> Environment {
    variables.check_names(findings);
    variables.check_quotes(findings);
    let live = variables.get("SNIPER_LIVE").and_then(|setting| read_live(&setting, findings));
    let (credential, credential_source) = read_credential(variables, findings).unzip();
    let is_set = |name| variables.find(name).is_some();
    Environment {
        credential,
        has_credential: is_set("CSGOROLL_COOKIE") || is_set("CSGOROLL_SESSION"),
        credential_source,
        endpoints: read_endpoints(variables, findings),
        config_file: variables.get("SNIPER_CONFIG"),
        data_dir: read_data_dir(variables, findings),
        live,
        log_filter: read_log_filter(variables, findings),
    }
}

fn read_data_dir(variables: &Variables<'_>, findings: &mut Diagnostics) -> PathBuf {
    let Some(setting) = variables.get("SNIPER_DATA") else { return DATA_DIR.into() };
    if setting.value.chars().any(char::is_control) {
        let remedy = "write the path of a directory, such as data";
        findings.problem(setting.problem("holds a control character", remedy));
    }
    setting.value.into()
}

fn read_log_filter(variables: &Variables<'_>, findings: &mut Diagnostics) -> Option<String> {
    let setting = variables.get("RUST_LOG")?;
    match LogFilter::parse(Some(&setting.value)) {
        Ok(filter) => {
            if let Some(unknown) = filter.unknown_words() {
                findings.warning(setting.problem(&unknown, &LogFilter::known_words()));
            }
        }
        Err(error) => {
            let remedy = match error {
                LogError::Misspelt { level } => format!("did you mean `{level}`?"),
                _ => "write error, warn, info, debug or trace".to_owned(),
            };
            findings.problem(setting.problem("is not a filter", &remedy));
        }
    }
    Some(setting.value)
}

fn read_live(setting: &Setting, findings: &mut Diagnostics) -> Option<SourceLocation> {
    match setting.value.trim() {
        "true" => Some(setting.place.clone()),
        "false" => None,
        _ => {
            let remedy = "write true to buy, or false to watch only";
            findings.problem(setting.problem("is neither true nor false", remedy));
            None
        }
    }
}

fn read_credential(
    variables: &Variables<'_>,
    findings: &mut Diagnostics,
) -> Option<(Credential, (&'static str, SourceLocation))> {
    let (cookie, session) = (variables.get("CSGOROLL_COOKIE"), variables.get("CSGOROLL_SESSION"));
    if let (Some(cookie), Some(session)) = (&cookie, &session) {
        let message = format!("is set beside {} ({}) and wins", session.name, session.place);
        findings.warning(cookie.problem(&message, "keep one of the two"));
        // It is not sent, but it is not to be shown either.
        secret::remember(&session.value);
    }
    let is_cookie = cookie.is_some();
    let setting = cookie.or(session)?;
    if setting.substituted {
        let remedy = "put the value between single quotes";
        findings.problem(setting.problem("holds a $, which names another variable there", remedy));
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
                findings.warning(setting.problem("holds no `session` cookie", remedy));
            }
            warn_of_short_values(&credential, &setting, findings);
            Some((credential, (setting.name, setting.place)))
        }
        Err(error) => {
            findings.problem(setting.problem(&error.to_string(), remedy(error)));
            None
        }
    }
}

/// What is too short to be replaced wherever the site repeats it.
fn warn_of_short_values(credential: &Credential, setting: &Setting, findings: &mut Diagnostics) {
    let (what, remedy) = match (credential.short_values(), setting.name) {
        (0, _) => return,
        (_, "CSGOROLL_SESSION") => {
            ("is".to_owned(), "copy the whole value of the `session` cookie")
        }
        (1, _) => ("holds a cookie whose value is".to_owned(), SHORT_COOKIES_REMEDY),
        (count, _) => {
            (format!("holds {count} cookies whose values are each"), SHORT_COOKIES_REMEDY)
        }
    };
    let message = format!(
        "{what} shorter than {MASKED_BYTES_MIN} bytes, too short to be replaced in logs and \
         recordings where the site repeats it"
    );
    findings.warning(setting.problem(&message, remedy));
}

/// The credential that the environment itself sets. It cannot change while the program runs.
pub(super) fn fixed_credential(
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Option<(Credential, &'static str)> {
    let variables = Variables { lookup, file: String::new(), dotenv: Vec::new() };
    let (credential, (name, _place)) = read_credential(&variables, &mut Diagnostics::default())?;
    Some((credential, name))
}

/// The credential by a `.env` that was read again, beside what the environment sets.
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
        CredentialError::Empty => "give the value of the `session` cookie from your browser",
        CredentialError::Control | CredentialError::NotAscii | CredentialError::TooLong => {
            "copy it from your browser again, as one line"
        }
        CredentialError::NotOneValue => {
            "give the value of the `session` cookie alone, or the whole header as CSGOROLL_COOKIE"
        }
        CredentialError::NotAHeader => {
            "give the whole header, or the value of the `session` cookie as CSGOROLL_SESSION"
        }
    }
}

fn read_endpoints(variables: &Variables<'_>, findings: &mut Diagnostics) -> Option<Endpoints> {
    let mut address = |name, scheme, default| {
        let setting = variables.get(name);
        let text = setting.as_ref().map_or(default, |setting| setting.value.trim());
        match (Endpoint::parse(text, scheme), setting) {
            (Ok(endpoint), _) => {
                secret::remember_query(endpoint.path());
                Some(endpoint)
            }
            (Err(error), setting) => {
                let place = setting.map_or(SourceLocation::Environment, |setting| setting.place);
                let remedy = format!("write an address such as {default}");
                findings.problem(Problem::new(place, format!("{name} {error}"), remedy));
                None
            }
        }
    };
    let ws = address("CSGOROLL_WS_URL", Scheme::WebSocket, WS_URL);
    let http = address("CSGOROLL_HTTP_URL", Scheme::Http, HTTP_URL);
    let origin = read_origin(variables, findings);
    let user_agent = read_user_agent(variables, findings);
    Some(Endpoints { ws: ws?, http: http?, origin: origin?, user_agent: user_agent? })
}

fn read_origin(variables: &Variables<'_>, findings: &mut Diagnostics) -> Option<String> {
    let Some(setting) = variables.get("CSGOROLL_ORIGIN") else { return Some(ORIGIN.to_owned()) };
    let text = setting.value.trim().trim_end_matches('/');
    let remedy = "write scheme and host alone, such as https://www.csgoroll.com";
    match Endpoint::parse(text, Scheme::Http) {
        Ok(endpoint) if endpoint.path() == "/" => Some(text.to_owned()),
        Ok(_) => {
            findings.problem(setting.problem("holds a path", remedy));
            None
        }
        // An origin is a name and nothing is sent to it, so it may well be unencrypted.
        Err(EndpointError::PlainText) => Some(text.to_owned()),
        Err(error) => {
            findings.problem(setting.problem(&error.to_string(), remedy));
            None
        }
    }
}

fn read_user_agent(variables: &Variables<'_>, findings: &mut Diagnostics) -> Option<String> {
    let Some(setting) = variables.get("CSGOROLL_USER_AGENT") else {
        return Some(USER_AGENT.to_owned());
    };
    let text = setting.value.trim();
    let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if text.len() > USER_AGENT_BYTES_MAX || !text.bytes().all(printable) {
        let remedy = "copy it from your browser, as one line";
        findings.problem(setting.problem("is too long or no plain text", remedy));
        return None;
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of an environment in which one variable has this value.
    fn problems(name: &str, value: &str) -> Vec<String> {
        let lookup = |asked: &str| (asked == name).then(|| value.to_owned());
        let variables = Variables { lookup: &lookup, file: String::new(), dotenv: Vec::new() };
        let mut findings = Diagnostics::default();
        read(&variables, &mut findings);
        match findings.into_warnings() {
            Ok(_warnings) => Vec::new(),
            Err(problems) => problems.list().iter().map(ToString::to_string).collect(),
        }
    }

    /// A value that is accepted without quotes.
    fn fine(name: &str) -> &'static str {
        match name {
            "CSGOROLL_SESSION" => "s%3Aabc0123456789",
            "CSGOROLL_COOKIE" => "cf_clearance=a1; session=s%3Aabc0123456789",
            "CSGOROLL_WS_URL" => "wss://example.com/ws",
            "CSGOROLL_HTTP_URL" => "https://example.com/graphql",
            "CSGOROLL_ORIGIN" => "https://example.com",
            "CSGOROLL_USER_AGENT" => "Mozilla/5.0 (X11)",
            "SNIPER_LIVE" => "true",
            "RUST_LOG" => "sniper=debug",
            _ => "data/",
        }
    }

    #[test]
    fn a_value_in_quotes_is_refused_for_every_variable_with_the_remedy() {
        for name in VARIABLES {
            let value = fine(name);
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
    fn quotes_inside_a_value_are_a_part_of_it() {
        for value in ["a'b'", "'a\"", "a=\"x\"; b=\"y\"", "'a'b", "'", "", "'a' b"] {
            assert!(!is_quoted(value), "{value}");
        }
    }
}
