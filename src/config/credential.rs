//! Credential of the market account: the validated value of one `Cookie` header, or an API key.
//! Pure.
//!
//! Errors never contain the value. Each credential is registered with [`secret`], which masks it in
//! all output of this process.

use std::path::PathBuf;

use super::{dotenv, market::Market};
use crate::secret::{self, Secret};

/// Maximum length of a cookie header in bytes, the limit of common servers for one header.
pub const COOKIE_BYTES_MAX: usize = 8_192;

/// Value of a `Cookie` header, or an API key: one line of printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    value: Secret,
    kind: CredentialKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CredentialKind {
    Cookie,
    Key,
}

/// Characters that end a value in a header.
const DELIMITERS: [char; 4] = [' ', '"', ',', ';'];

/// Where an updated credential is read: `.env`, which the user edits while the bot runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSource {
    pub market: Market,
    /// Directory of `.env`.
    pub directory: PathBuf,
    /// Credential of the process environment, with the name of its variable.
    pub fixed: Option<(Credential, &'static str)>,
}

/// Cause of a rejected credential. Never contains the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("is empty")]
    Empty,
    /// A line break or another control character, which could forge a header.
    #[error("contains a line break or another control character")]
    Control,
    #[error("contains a character that is not ASCII")]
    NotAscii,
    /// Longer than [`COOKIE_BYTES_MAX`].
    #[error("is longer than {COOKIE_BYTES_MAX} bytes")]
    TooLong,
    /// A whole header or a quoted text instead of the value of one cookie.
    #[error(
        "contains a space, a quote, a comma or a semicolon, so it is not the value of one cookie"
    )]
    NotOneValue,
    /// Text with a space, a quote, a comma or a semicolon instead of a key.
    #[error("contains a space, a quote, a comma or a semicolon, so it is not an API key")]
    NotAKey,
    /// Text without `name=value` instead of a whole header.
    #[error("contains no `name=value`, so it is not a Cookie header")]
    NotAHeader,
    /// Other cookies than that of a session.
    #[error("contains no `session` cookie")]
    NoSession,
}

impl Credential {
    /// Accepts the value of the `session` cookie, with or without the prefix `session=` and a
    /// trailing semicolon. URL encoding is preserved.
    ///
    /// # Errors
    ///
    /// Returns a [`CredentialError`] if the text is not the value of one cookie.
    pub fn from_session(value: &str) -> Result<Self, CredentialError> {
        let value = value.trim_matches(' ');
        let value = value.strip_prefix("session=").unwrap_or(value);
        let value = value.strip_suffix(';').unwrap_or(value);
        check(value)?;
        if value.contains(DELIMITERS) {
            return Err(CredentialError::NotOneValue);
        }
        Ok(Self::register(&format!("session={value}")))
    }

    /// Accepts a whole `Cookie` header, with or without the prefix `Cookie:`.
    ///
    /// # Errors
    ///
    /// Returns a [`CredentialError`] if the text is not a valid header value.
    pub fn from_cookie(header: &str) -> Result<Self, CredentialError> {
        let header = header.trim_matches(' ');
        let header = match header.split_at_checked(7) {
            Some((name, rest)) if name.eq_ignore_ascii_case("cookie:") => rest.trim_matches(' '),
            _ => header,
        };
        check(header)?;
        if !header.contains('=') {
            return Err(CredentialError::NotAHeader);
        }
        Ok(Self::register(header))
    }

    /// Accepts an API key, which is sent unchanged in the place that the market expects.
    ///
    /// # Errors
    ///
    /// Returns a [`CredentialError`] if the text is not one word.
    pub fn from_key(key: &str) -> Result<Self, CredentialError> {
        let key = key.trim_matches(' ');
        check(key)?;
        if key.contains(DELIMITERS) {
            return Err(CredentialError::NotAKey);
        }
        secret::register(key);
        Ok(Self { value: Secret::new(key), kind: CredentialKind::Key })
    }

    /// Returns the value of the `Cookie` header, or the key, to be used for requests only.
    pub const fn value(&self) -> &Secret {
        &self.value
    }

    /// Returns the number of cookies or keys whose value is too short to be masked in foreign text.
    pub fn short_values(&self) -> usize {
        let is_short = |value: &&str| !value.is_empty() && !secret::is_masked(value);
        let value = self.value.reveal();
        match self.kind {
            CredentialKind::Cookie => secret::cookie_values(value).filter(is_short).count(),
            CredentialKind::Key => Some(value).filter(is_short).into_iter().count(),
        }
    }

    /// Returns the line of `.env` that sets this cookie.
    pub fn dotenv_line(&self) -> String {
        let value = self.value.reveal();
        match value.strip_prefix("session=").filter(|value| !value.contains(DELIMITERS)) {
            Some(session) => format!("CSGOROLL_SESSION={}", dotenv::quote(session)),
            None => format!("CSGOROLL_COOKIE={}", dotenv::quote(value)),
        }
    }

    /// Returns the line of `.env` that sets this key as the variable.
    pub fn key_line(&self, variable: &str) -> String {
        format!("{variable}={}", dotenv::quote(self.value.reveal()))
    }

    /// Registers the cookies with [`secret`], so that they are masked in all output.
    fn register(header: &str) -> Self {
        secret::register_cookies(header);
        Self { value: Secret::new(header), kind: CredentialKind::Cookie }
    }

    /// Returns `true` if the header contains a `session` cookie.
    pub fn has_session(&self) -> bool {
        let is_session = |pair: &str| pair.trim_matches(' ').starts_with("session=");
        self.kind == CredentialKind::Cookie && self.value.reveal().split(';').any(is_session)
    }
}

fn check(text: &str) -> Result<(), CredentialError> {
    if text.is_empty() {
        return Err(CredentialError::Empty);
    }
    if text.chars().any(char::is_control) {
        return Err(CredentialError::Control);
    }
    if !text.is_ascii() {
        return Err(CredentialError::NotAscii);
    }
    if text.len() > COOKIE_BYTES_MAX {
        return Err(CredentialError::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::problem::Diagnostics, *};

    #[track_caller]
    fn session(value: &str, expected: Result<&str, CredentialError>) {
        let made = Credential::from_session(value);
        assert_eq!(made.as_ref().map(|made| made.value().reveal()).map_err(|e| *e), expected);
    }

    #[track_caller]
    fn cookie(value: &str, expected: Result<&str, CredentialError>) {
        let made = Credential::from_cookie(value);
        assert_eq!(made.as_ref().map(|made| made.value().reveal()).map_err(|e| *e), expected);
    }

    #[test]
    fn a_session_becomes_one_cookie_and_keeps_its_encoding() {
        session("s%3Aabc.def%2B", Ok("session=s%3Aabc.def%2B"));
        session(" session=s%3Aabc ", Ok("session=s%3Aabc"));
        session("s:abc.d/e+f==", Ok("session=s:abc.d/e+f=="));
        session("session=s%3Aabc;", Ok("session=s%3Aabc"));
    }

    #[test]
    fn a_cookie_header_is_used_unchanged() {
        cookie("a=b; session=s%3Ax; cf_clearance=y", Ok("a=b; session=s%3Ax; cf_clearance=y"));
        cookie("Cookie: session=s%3Ax", Ok("session=s%3Ax"));
        assert!(Credential::from_cookie("a=b; session=x").unwrap().has_session());
        assert!(!Credential::from_cookie("a=b; xsession=x").unwrap().has_session());
    }

    #[test]
    fn a_key_is_used_unchanged() {
        let key = |value: &str| Credential::from_key(value).map(|made| made.value().clone());
        assert_eq!(key(" AbC/d+e== ").unwrap().reveal(), "AbC/d+e==");
        assert_eq!(key("session=x").unwrap().reveal(), "session=x");
        assert!(!Credential::from_key("session=x").unwrap().has_session());
        assert_eq!(key(""), Err(CredentialError::Empty));
        assert_eq!(key("a b"), Err(CredentialError::NotAKey));
        assert_eq!(key("a\r\nX: y"), Err(CredentialError::Control));
        let short = |value| Credential::from_key(value).unwrap().short_values();
        assert_eq!((short("a=1234="), short("a=12345=")), (1, 0));
        assert!(secret::appears_in("the key is a=12345="));
    }

    #[test]
    fn a_value_that_could_forge_a_header_is_rejected() {
        for value in ["a=b\r\nX: y", "a=b\nc", "a=b\u{0}", "a=b\u{7f}", "a=b\u{85}"] {
            session(value, Err(CredentialError::Control));
            cookie(value, Err(CredentialError::Control));
        }
        session("é", Err(CredentialError::NotAscii));
        session("", Err(CredentialError::Empty));
        session("session=", Err(CredentialError::Empty));
        session("a; session=b", Err(CredentialError::NotOneValue));
        session(&"x".repeat(COOKIE_BYTES_MAX + 1), Err(CredentialError::TooLong));
        cookie("cookie:", Err(CredentialError::Empty));
        cookie("s%3Aabc", Err(CredentialError::NotAHeader));
    }

    #[test]
    fn a_credential_is_masked_in_text_once_it_is_constructed() {
        let echo = "your cookie was session=s%3Anever-shown-again and is s:never-shown-again";
        assert_eq!(secret::mask(echo), echo);
        Credential::from_session("s%3Anever-shown-again").unwrap();
        assert!(!secret::mask(echo).contains("never"), "{}", secret::mask(echo));
        Credential::from_cookie("a=b; cf_clearance=never-shown-either").unwrap();
        assert!(secret::appears_in("never-shown-either"));
    }

    #[test]
    fn values_that_are_too_short_to_be_masked_are_counted() {
        let short = |header| Credential::from_cookie(header).unwrap().short_values();
        assert_eq!(short("a=1234567; b=12345678; c=; session=s%3Aabc1"), 1);
        assert_eq!(short("a=12; session=abcdefg"), 2);
    }

    #[test]
    fn the_line_of_a_cookie_is_read_from_the_file_unchanged() {
        for (header, name) in [
            ("session=s%3Aabc.def%2B", "CSGOROLL_SESSION"),
            ("session=s%3Aab'c$HOME#\\", "CSGOROLL_SESSION"),
            ("a=b; session=s%3Ax", "CSGOROLL_COOKIE"),
            ("a=\"b c\"; session='$x'; d=#e\\n", "CSGOROLL_COOKIE"),
        ] {
            let line = Credential::from_cookie(header).unwrap().dotenv_line();
            let mut diagnostics = Diagnostics::default();
            let variables = dotenv::read(".env", &line, &mut diagnostics);
            let [variable] = &variables[..] else { panic!("{line}") };
            assert_eq!(variable.name, name);
            let read = match name {
                "CSGOROLL_SESSION" => Credential::from_session(&variable.value),
                _ => Credential::from_cookie(&variable.value),
            };
            assert_eq!(read.unwrap().value().reveal(), header);
            assert!(!variable.substituted && diagnostics.is_ok(), "{line}");
        }
    }

    #[test]
    fn debug_output_hides_the_value() {
        let shown = format!("{:?}", Credential::from_session("hunter2").unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
